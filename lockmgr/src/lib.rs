//! Disk leases in sanlock's on-disk format, so that sanblk and sanlock hosts can share one lockspace.
//!
//! - [`ondisk`] knows the bytes and nothing of time.
//! - [`disk`] reads and writes sectors for whoever drives the machines.
//!
//! What this crate never does: read a clock, wait, start threads. Only `disk/direct.rs` does I/O.
#![forbid(unsafe_code)]

pub mod disk;
pub mod ondisk;
