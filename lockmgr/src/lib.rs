//! Disk leases in sanlock's on-disk format, so that sanblk and sanlock hosts can share one lockspace.
//!
//! - [`ondisk`] knows the bytes and nothing of time.
//! - [`Lockspace`] is everything one host does in one lockspace, as a state machine: events in, reads, writes, gate orders and
//!   notes out. [`gate::Gate`] is the write permission that its renewals keep open.
//! - [`disk`] reads and writes sectors for whoever drives the machines.
//!
//! What this crate never does: read a clock, wait, start threads, or know what a SCSI command is. Only `disk/direct.rs` does I/O.
//!
//! ```text
//!   Lockspace --- delta      our slot: the host id, its renewal
//!       |     --- liveness   the slots of the others
//!       |     --- paxos      one machine per resource: attempt, ballot, let_go
//!       |     --- requests   lock value blocks, requests to and from owners
//!       |     --- own_sector what may be sent again, and what waits for a fence
//!       +-> gate             a deadline, counted from when a renewal started (timing)
//! ```
#![forbid(unsafe_code)]

mod contract;
mod delta;
pub mod disk;
pub mod gate;
mod history;
mod identity;
mod io;
mod liveness;
mod lockspace;
#[cfg_attr(not(feature = "mutants"), allow(dead_code))]
mod mutant;
pub mod ondisk;
mod own_sector;
mod paxos;
mod requests;
#[cfg(test)]
mod tests;
pub mod time;
pub mod timing;

pub use contract::{DiskId, GateOrder, Input, JoinError, LeaseId, LostWhy, Note, Order};
pub use history::{History, Miss, RENEWALS_KEPT, Renewal};
pub use identity::Identity;
pub use io::{Doubts, IoId, Output, ReadFailed, WriteOutcome, Writers};
pub use liveness::{Host, HostState};
pub use lockspace::Lockspace;
#[cfg(feature = "mutants")]
pub use mutant::Mutant;
pub use paxos::{LeaseError, Mode, OnOwner};
