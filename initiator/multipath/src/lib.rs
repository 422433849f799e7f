//! One volume over many paths: which path carries a command, what a lost path leaves behind, and when a retried
//! write may be reported complete. No sockets, no clock, no threads, no payload.
//!
//! - [`volume`]: one LUN as one queue sees it; the contract with the runtime.
//! - [`identity`]: which LUN is this, asked at every login before any write.
#![forbid(unsafe_code)]

pub mod identity;
pub mod volume;

pub use identity::{Description, Identity};
pub use volume::{
    CloseHow, IoError, LinkId, NoPathRetry, Note, Operation, Output, PathConfig, PathId, PathState,
    PathStatus, PolicyKind, Request, Tag, UnresolvedWrite, Volume, VolumeConfig, VolumeStatus,
};
