//! sanlock's structures on disk, byte for byte.
//!
//! ```text
//! lockspace area (one align size)              resource area (one align size)
//!   sector N-1   delta lease of host N           sector 0      leader
//!                + the hosts it notifies         sector 1      request
//!                                                sector 1+N    dblock and mode block of host N
//!                                                sector 2002   LVB (see `lvb`)
//! index: one area of header and entries, a resource area that guards it, then the managed resources
//! ```
//!
//! Two layers. [`RawLeader`] is bytes as numbers, for looking at anything, broken records too. The other records are
//! *verified*: parsing checks magic, version, checksum, flags and geometry, and refuses with a [`BadRecord`] that
//! names the offset and the field. Everything is little endian. Bytes that no field claims are ignored when reading:
//! sanlock leaves there whatever its buffer held before. We write zeros.
//!
//! Times are whole seconds of the writing host's own monotonic clock: comparable only with earlier values of the
//! same field, never with a clock of ours.

mod bad_record;
mod bytes;
mod checksum;
mod dblock;
mod delta;
mod dump;
mod flags;
mod found;
mod geometry;
pub mod init;
mod join;
mod leader;
mod lvb;
mod name;
mod paxos;
mod request;
mod rindex;
mod version;

pub use bad_record::{BadRecord, Problem, Record};
pub use bytes::Field;
pub use checksum::checksum;
pub use dblock::{BallotBlock, DBLOCK_RELEASED, Dblock, HostSector, MODE_SHARED, ModeBlock};
pub use delta::{DeadExt, DeltaLease, DeltaSlot, Event, HostSet};
pub use dump::{Dump, HostDump, IndexDump, LockspaceDump, ResourceDump, SlotDump};
pub use flags::LeaderFlags;
pub use found::Found;
pub use geometry::{AlignSize, Geometry, HostId, NoSuchGeometry, SectorSize};
pub use join::{CannotJoin, Death};
pub use leader::{CLEARED_MAGIC, DELTA_MAGIC, LEADER_LEN, PAXOS_MAGIC, RawLeader};
pub use lvb::{LVB_SECTOR, LvbVictim};
pub use name::{NAME_LEN, Name, NameTooLong};
pub use paxos::PaxosLeader;
pub use request::{ForceMode, Request};
pub use rindex::{
    RINDEX_DEFAULT_ENTRIES, RINDEX_LEASE, RINDEX_MAGIC, RindexEntry, RindexHeader, max_entries,
};
pub use version::Version;

#[cfg(test)]
mod tests;
