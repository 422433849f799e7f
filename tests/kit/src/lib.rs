//! A simulated iSCSI target, network and world, for tests only: seeded, without sockets, clock or threads.
//!
//! - [`prng`]: the only source of chance
//! - [`disk`]: logical units with faults on demand
//! - [`target`]: the iSCSI target, judge of the initiator's manners, wrong on demand
#![forbid(unsafe_code)]

pub mod disk;
pub mod prng;
pub mod target;
