//! A resource, by name and by place.

use lockmgr::ondisk::Name;

use super::super::bytes::At;
use super::super::flags::ResourceFlags;
use super::Disk;

mod field {
    use super::At;

    pub const LOCKSPACE: At = At(0);
    pub const NAME: At = At(48);
    pub const LVER: At = At(96);
    pub const DATA64: At = At(104);
    pub const DATA32: At = At(112);
    pub const FLAGS: At = At(120);
    pub const NUM_DISKS: At = At(124);
}

/// Most disks that a resource may have.
pub const MAX_DISKS: usize = 4;

/// A resource by its name. Where its disks matter they follow: [`PlacedResource`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resource {
    /// Name of its lockspace.
    pub lockspace: Name,
    /// Its own.
    pub name: Name,
    /// Version of the lease.
    pub lver: u64,
    /// Without a meaning so far.
    pub data64: u64,
    /// Number of hosts, where flag NUM_HOSTS says so.
    pub data32: u32,
    /// Mode, persistence, geometry.
    pub flags: ResourceFlags,
    /// How many disks it has, whether they follow or not.
    pub num_disks: u32,
}

impl Resource {
    /// Bytes of the struct.
    pub const LEN: usize = 128;

    /// Reads the struct.
    pub fn parse(bytes: &[u8; Resource::LEN]) -> Resource {
        Resource {
            lockspace: field::LOCKSPACE.name(bytes),
            name: field::NAME.name(bytes),
            lver: field::LVER.u64(bytes),
            data64: field::DATA64.u64(bytes),
            data32: field::DATA32.u32(bytes),
            flags: ResourceFlags(field::FLAGS.u32(bytes)),
            num_disks: field::NUM_DISKS.u32(bytes),
        }
    }

    /// The struct.
    pub fn emit(&self) -> [u8; Resource::LEN] {
        let mut bytes = [0; Resource::LEN];
        field::LOCKSPACE.put_name(&mut bytes, self.lockspace);
        field::NAME.put_name(&mut bytes, self.name);
        field::LVER.put_u64(&mut bytes, self.lver);
        field::DATA64.put_u64(&mut bytes, self.data64);
        field::DATA32.put_u32(&mut bytes, self.data32);
        field::FLAGS.put_u32(&mut bytes, self.flags.0);
        field::NUM_DISKS.put_u32(&mut bytes, self.num_disks);
        bytes
    }
}

/// A resource with its disks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlacedResource {
    /// The resource; its `num_disks` is the length of `disks`.
    pub resource: Resource,
    /// One to four places, each with a copy of the lease.
    pub disks: Vec<Disk>,
}
