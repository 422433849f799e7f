//! The iSCSI initiator's protocol as pure state machines (RFC 7143, ERL 0, one connection per session).
//!
//! Bytes and `now` go in; bytes, events and "wake me at" come out. This crate has no sockets, no clock, no
//! threads and no payload memory of its own.
//!
//! - [`wire`]: PDUs, digests, sequence numbers.
//! - [`scsi`]: commands and what their answers mean.
//! - [`login`]: negotiation and CHAP.
//! - [`discovery`]: what a portal offers, and the names of portals.
//! - [`session`]: one connection from login to its end.
//! - [`memory`], [`outgoing`], [`time`]: the borders to the runtime.
#![forbid(unsafe_code)]

pub mod discovery;
pub mod login;
pub mod memory;
#[cfg(feature = "mutants")]
pub mod mutant;
#[cfg(not(feature = "mutants"))]
mod mutant;
pub mod outgoing;
pub mod scsi;
pub mod session;
pub mod time;
pub mod wire;
