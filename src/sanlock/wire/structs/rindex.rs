//! A resource index and its entries.

use lockmgr::ondisk::Name;

use super::super::bytes::At;
use super::super::flags::RindexFlags;
use super::Disk;

mod field {
    use super::At;

    pub const FLAGS: At = At(0);
    pub const MAX_RESOURCES: At = At(4);
    pub const LOCKSPACE: At = At(16);
    pub const DISK: At = At(64);

    pub const ENTRY_NAME: At = At(0);
    pub const ENTRY_OFFSET: At = At(48);
    pub const ENTRY_FLAGS: At = At(56);
}

/// An index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rindex {
    /// Geometry.
    pub flags: RindexFlags,
    /// Most entries; 0 for the usual number.
    pub max_resources: u32,
    /// Name of its lockspace.
    pub lockspace: Name,
    /// Where it is.
    pub disk: Disk,
}

impl Rindex {
    /// Bytes of the struct.
    pub const LEN: usize = 1104;

    /// Reads the struct.
    pub fn parse(bytes: &[u8; Rindex::LEN]) -> Rindex {
        Rindex {
            flags: RindexFlags(field::FLAGS.u32(bytes)),
            max_resources: field::MAX_RESOURCES.u32(bytes),
            lockspace: field::LOCKSPACE.name(bytes),
            disk: Disk::parse(&field::DISK.array(bytes)),
        }
    }

    /// The struct.
    pub fn emit(&self) -> [u8; Rindex::LEN] {
        let mut bytes = [0; Rindex::LEN];
        field::FLAGS.put_u32(&mut bytes, self.flags.0);
        field::MAX_RESOURCES.put_u32(&mut bytes, self.max_resources);
        field::LOCKSPACE.put_name(&mut bytes, self.lockspace);
        field::DISK.put(&mut bytes, &self.disk.emit());
        bytes
    }
}

/// An entry of an index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rentry {
    /// Name of the resource; none for a free entry.
    pub name: Name,
    /// Bytes from the start of the device to its area.
    pub offset: u64,
    /// Without a meaning so far.
    pub flags: u32,
}

impl Rentry {
    /// Bytes of the struct.
    pub const LEN: usize = 64;

    /// No entry: what UPDATE and DELETE answer.
    pub const NONE: Rentry = Rentry {
        name: Name::EMPTY,
        offset: 0,
        flags: 0,
    };

    /// Reads the struct.
    pub fn parse(bytes: &[u8; Rentry::LEN]) -> Rentry {
        Rentry {
            name: field::ENTRY_NAME.name(bytes),
            offset: field::ENTRY_OFFSET.u64(bytes),
            flags: field::ENTRY_FLAGS.u32(bytes),
        }
    }

    /// The struct.
    pub fn emit(&self) -> [u8; Rentry::LEN] {
        let mut bytes = [0; Rentry::LEN];
        field::ENTRY_NAME.put_name(&mut bytes, self.name);
        field::ENTRY_OFFSET.put_u64(&mut bytes, self.offset);
        field::ENTRY_FLAGS.put_u32(&mut bytes, self.flags);
        bytes
    }
}
