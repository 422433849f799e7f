//! A place: a path and an offset.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::super::bytes::At;

mod field {
    use super::At;

    pub const PATH: At = At(0);
    pub const OFFSET: At = At(1024);
    pub const SECTOR_SIZE: At = At(1032);
    pub const FD: At = At(1036);
}

const PATH_LEN: usize = 1024;

/// A place on a device or in a file. Two are the same place only if their paths are the same bytes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Disk {
    /// At most 1023 bytes, without escapes. May be relative: to the daemon's working directory.
    pub path: OsString,
    /// Bytes from the start of the device.
    pub offset: u64,
}

/// What the daemon shows of a disk that it uses, in the two words that clients leave unused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenDisk {
    /// Bytes of a sector; 0 where it does not know yet.
    pub sector_size: u32,
    /// Its descriptor, or -1.
    pub fd: i32,
}

impl OpenDisk {
    /// As in all requests, and in answers that are no states.
    pub const UNUSED: OpenDisk = OpenDisk {
        sector_size: 0,
        fd: 0,
    };
}

impl Disk {
    /// Bytes of the struct.
    pub const LEN: usize = 1040;

    /// Reads the struct.
    pub fn parse(bytes: &[u8; Disk::LEN]) -> Disk {
        Disk {
            path: OsString::from_vec(field::PATH.c_string(bytes, PATH_LEN).to_vec()),
            offset: field::OFFSET.u64(bytes),
        }
    }

    /// The struct, as a client writes it.
    pub fn emit(&self) -> [u8; Disk::LEN] {
        self.emit_open(OpenDisk::UNUSED)
    }

    /// The struct, as states show it.
    pub fn emit_open(&self, open: OpenDisk) -> [u8; Disk::LEN] {
        let mut bytes = [0; Disk::LEN];
        field::PATH.put_c_string(&mut bytes, self.path.as_bytes(), PATH_LEN);
        field::OFFSET.put_u64(&mut bytes, self.offset);
        field::SECTOR_SIZE.put_u32(&mut bytes, open.sector_size);
        field::FD.put_i32(&mut bytes, open.fd);
        bytes
    }
}
