//! The daemon on sanlock's socket, held against the real one: recorded sessions of lvmlockd and of libsanlock are replayed
//! against it, and the real `sanlock client` prints what it printed for its own daemon.
//!
//! Leases lie on files here. What needs a kernel, the real daemon beside ours among it, is in the lab.

mod client;
mod driver;
mod elsewhere;
mod facts;
mod host;
mod replay;
#[allow(dead_code, reason = "the unit tests of the protocol read all of it")]
mod trace;
