//! Format versions: a major that must be known, a minor that may grow.

use std::fmt;

/// Version of a record on disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Version {
    /// Records with an unknown major are refused.
    pub major: u16,
    /// Says nothing about the layout.
    pub minor: u16,
}

impl Version {
    /// Delta leases that every sanlock reads. What we format.
    pub const DELTA_3_4: Version = Version { major: 3, minor: 4 };
    /// Delta leases formatted by sanlock 5.
    pub const DELTA_5_0: Version = Version { major: 5, minor: 0 };
    /// Resource leases that every sanlock reads. What we format.
    pub const PAXOS_6_4: Version = Version { major: 6, minor: 4 };
    /// Resource leases formatted by sanlock 5.
    pub const PAXOS_7_0: Version = Version { major: 7, minor: 0 };
    /// The request record.
    pub const REQUEST_1_1: Version = Version { major: 1, minor: 1 };
    /// The resource index.
    pub const RINDEX_1_2: Version = Version { major: 1, minor: 2 };

    /// From the number on disk: major in the high half.
    pub const fn from_disk(number: u32) -> Version {
        Version {
            major: (number >> 16) as u16,
            minor: number as u16,
        }
    }

    /// The number on disk.
    pub const fn to_disk(self) -> u32 {
        (self.major as u32) << 16 | self.minor as u32
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}
