//! A lockspace, and who we are in it.

use lockmgr::ondisk::Name;

use super::super::bytes::At;
use super::super::flags::LockspaceFlags;
use super::{Disk, OpenDisk};

mod field {
    use super::At;

    pub const NAME: At = At(0);
    pub const HOST_ID: At = At(48);
    pub const FLAGS: At = At(56);
    pub const DISK: At = At(64);
}

/// A lockspace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lockspace {
    /// Its name; none where any will do, or only the place counts.
    pub name: Name,
    /// Our number in it; 0 where it does not count.
    pub host_id: u64,
    /// Geometry, and its state where lockspaces are listed.
    pub flags: LockspaceFlags,
    /// Where it is.
    pub disk: Disk,
}

impl Lockspace {
    /// Bytes of the struct.
    pub const LEN: usize = 1104;

    /// Reads the struct.
    pub fn parse(bytes: &[u8; Lockspace::LEN]) -> Lockspace {
        Lockspace {
            name: field::NAME.name(bytes),
            host_id: field::HOST_ID.u64(bytes),
            flags: LockspaceFlags(field::FLAGS.u32(bytes)),
            disk: Disk::parse(&field::DISK.array(bytes)),
        }
    }

    /// The struct.
    pub fn emit(&self) -> [u8; Lockspace::LEN] {
        self.emit_open(OpenDisk::UNUSED)
    }

    /// The struct, as states show it.
    pub fn emit_open(&self, open: OpenDisk) -> [u8; Lockspace::LEN] {
        let mut bytes = [0; Lockspace::LEN];
        field::NAME.put_name(&mut bytes, self.name);
        field::HOST_ID.put_u64(&mut bytes, self.host_id);
        field::FLAGS.put_u32(&mut bytes, self.flags.0);
        field::DISK.put(&mut bytes, &self.disk.emit_open(open));
        bytes
    }
}
