//! One volume over many paths: which path carries a command, what a lost path leaves behind, and when a retried
//! write may be reported complete. No sockets, no clock, no threads, no payload.
//!
//! - [`volume`]: one LUN as one queue sees it; the contract with the runtime. [`contract`] has its words.
//! - [`fence`]: the rule about unresolved writes, and the ledger of them. [`ladder`]: what proves a dead session dead.
//! - [`identity`]: which LUN is this, asked at every login before any write; [`isid`]: who are we.
//! - [`policy`]: which path is next. [`no_path`]: what if there is none.
//! - [`path`]: what is known of a path: how fast, how far, how trustworthy.
//!
//! Inside: a request's commands (`operation`), the table of requests (`request`), a path and its examination
//! (`path`), what unit attentions lead to (`attention`).
#![forbid(unsafe_code)]

mod attention;
mod capacity;
pub mod contract;
mod drain;
pub mod fence;
pub mod identity;
pub mod isid;
pub mod ladder;
#[cfg(feature = "mutants")]
pub mod mutant;
#[cfg(not(feature = "mutants"))]
mod mutant;
pub mod no_path;
mod note;
mod operation;
pub mod path;
pub mod policy;
mod probe;
mod request;
mod task;
pub mod volume;

pub use contract::{
    CloseHow, Dead, DrainId, FenceKind, FenceTimes, IoError, LINKS_MAX, LinkId, Lost, NoPathRetry,
    Operation, Output, PATHS_MAX, PathConfig, PathId, PathPace, PathState, PathStatus, Permission,
    PolicyKind, Request, SpareBuffers, Tag, TcpProgress, UnresolvedWrite, VolumeConfig,
    VolumeStatus,
};
pub use identity::{Description, Identity, Probe, ProbeFailure, TaskSet, UnmapLimits};
pub use isid::{IsidKey, isid, keeper_isid, probe_isid};
pub use note::{Note, Told};
pub use volume::{OrderRefused, Volume};
