//! All unsafe code of the project: kernel memory, the ring, sockets, process calls.
//!
//! Each file gives a small safe API. The rule that makes them safe together: **the kernel borrows memory
//! from submission to the last completion, and this module keeps the books.** [`memory`] knows which range of
//! which buffer is lent, refuses (panics) to make a slice of it, and stays mapped as long as the ring lives;
//! [`engine`] lends at submission and takes back at completion, and nobody else does.
//!
//! It never decides anything: no policy, no retry, no link state. That is `ring.rs`, which is safe code.
#![allow(unsafe_code)]

pub(crate) mod command;
pub(crate) mod descriptors;
pub(crate) mod dm;
pub(crate) mod engine;
pub(crate) mod host;
pub(crate) mod line;
pub(crate) mod memory;
pub(crate) mod socket;
