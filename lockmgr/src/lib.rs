//! Disk leases in sanlock's on-disk format, so that sanblk and sanlock hosts can share one lockspace.
//!
//! [`ondisk`] knows the bytes and nothing of time. What it never does: I/O, reading a clock, waiting.
#![forbid(unsafe_code)]

pub mod ondisk;
