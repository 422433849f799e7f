//! Why a record is refused: which one, where, which field, and what is wrong with it.

use std::fmt;

use super::{Field, Name, Version};

/// The kinds of record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Record {
    /// A host's slot in a lockspace area.
    DeltaLease,
    /// The leader of a resource area.
    PaxosLeader,
    /// The request record of a resource area.
    Request,
    /// A host's sector in a resource area.
    Dblock,
    /// The header of a resource index.
    RindexHeader,
    /// An entry of a resource index.
    RindexEntry,
}

/// What is wrong with a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Problem {
    /// Fewer bytes than the record has.
    Short {
        /// Bytes given.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
    /// Another magic: something else is here, or nothing.
    Magic {
        /// The number found.
        found: u32,
    },
    /// The resource was deleted: its magic is the one of cleared areas.
    Cleared,
    /// A version that this program does not know.
    Version {
        /// The version found.
        found: Version,
    },
    /// The bytes are not those that were summed.
    Checksum {
        /// The sum in the record.
        stored: u32,
        /// The sum of the bytes.
        computed: u32,
    },
    /// A number that the field cannot have.
    Value {
        /// The number found.
        found: u64,
    },
    /// A flag without a meaning in a record of this kind and version.
    Flags {
        /// All flags found.
        found: u32,
        /// Those that cannot be there.
        unknown: u32,
    },
    /// The record belongs to something of another name.
    Name {
        /// The name found.
        found: Name,
    },
    /// The resource is for fewer hosts.
    NotForHost {
        /// The last one it is for.
        last: u64,
    },
    /// The area is made of other sectors or has another size than the one it was read with.
    OtherGeometry {
        /// The number found.
        found: u64,
    },
}

/// A record that is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadRecord {
    /// What it should have been.
    pub record: Record,
    /// The field at fault.
    pub field: Field,
    /// Bytes from the start of what was parsed to the field; [`at`](Self::at) makes it an offset on the device.
    pub offset: u64,
    /// What is wrong.
    pub problem: Problem,
}

impl BadRecord {
    pub(super) fn new(record: Record, field: Field, problem: Problem) -> BadRecord {
        BadRecord {
            record,
            field,
            offset: field.offset as u64,
            problem,
        }
    }

    /// The same, for bytes that were read at `base`.
    #[must_use]
    pub fn at(mut self, base: u64) -> BadRecord {
        self.offset = self.offset.saturating_add(base);
        self
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Record::DeltaLease => "delta lease",
            Record::PaxosLeader => "resource leader",
            Record::Request => "request record",
            Record::Dblock => "dblock",
            Record::RindexHeader => "resource index",
            Record::RindexEntry => "resource index entry",
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Short { have, need } => write!(f, "only {have} of {need} bytes"),
            Problem::Magic { found: 0 } => write!(f, "no magic: nothing was formatted here"),
            Problem::Magic { found } => write!(f, "unknown magic {found:#010x}"),
            Problem::Cleared => write!(f, "the resource was deleted"),
            Problem::Version { found } => write!(f, "unknown version {found}"),
            Problem::Checksum { stored, computed } => {
                write!(f, "{stored:#010x}, but the bytes sum to {computed:#010x}")
            }
            Problem::Value { found } => write!(f, "impossible value {found}"),
            Problem::Flags { found, unknown } => {
                write!(f, "{found:#x} has unknown bits {unknown:#x}")
            }
            Problem::Name { found } => write!(f, "it is another's: {found:?}"),
            Problem::NotForHost { last } => write!(f, "it is for hosts 1 to {last}"),
            Problem::OtherGeometry { found } => {
                write!(f, "the area is laid out otherwise: {found}")
            }
        }
    }
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} refused: {} at byte {}: {}",
            self.record, self.field.name, self.offset, self.problem
        )
    }
}

impl std::error::Error for BadRecord {}
