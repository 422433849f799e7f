//! The program: command line, daemon and the data-plane turn.
//!
//! ```text
//!   cli ──JSON lines over /run/sanblk/control.sock──> daemon ──mail──> queue (one thread per ublk queue)
//!    │                                                  │
//!    └── discover, lease (need no daemon)               ├── discover, probe: short-lived sessions on tokio
//!                                                       └── device: the ublk device around the queue
//! ```
//!
//! This is the only place where the protocol, the kernel and the clock meet. tokio lives in [`cli`] and [`daemon`]
//! and never sees a block request.
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod connection;
pub mod control;
pub mod daemon;
pub mod device;
pub mod discover;
pub mod failure;
pub mod host;
pub mod keeper;
pub mod kill_helper;
pub mod layout;
pub mod lease;
pub mod logging;
pub mod names;
pub mod portal;
pub mod probe;
pub mod queue;
pub mod report;
pub mod sanlock;
pub mod secrets;
mod together;
