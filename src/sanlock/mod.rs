//! sanlock's place on a host: the socket that its clients know, lvmlockd and libvirt among them, answered by sanblk.
//!
//! - [`wire`] is the protocol as pure code: bytes to requests, answers to bytes.

pub mod wire;
