//! For tests only: a simulated iSCSI target, network and world, seeded, without sockets, clock or threads; and real programs.
//!
//! - [`prng`]: the only source of chance
//! - [`disk`]: logical units with faults on demand
//! - [`target`]: the iSCSI target, judge of the initiator's manners, wrong on demand
//! - [`net`]: ordered byte streams over links that can be cut
//! - [`world`]: time, network, target and incidents, as a host sees them
//! - [`check`]: the judge of a block device
//! - [`memory`]: payload buffers and the turn of a send
//! - [`pair`]: one session against the target
//! - [`conformance`]: bodies of tests for the simulated target and for real ones
//! - [`program`]: real programs, as the lab unpacks them
#![forbid(unsafe_code)]

pub mod check;
pub mod conformance;
pub mod disk;
pub mod memory;
pub mod net;
pub mod pair;
pub mod prng;
pub mod program;
pub mod target;
pub mod world;
