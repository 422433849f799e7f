//! Lease areas on a device or file of this machine: past the page cache, on the medium before it returns.
//!
//! The one place of this crate that touches the outside world. It decides nothing.

use std::fs::OpenOptions;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use super::{AlignedBuf, Disk, DiskError};
use crate::ondisk::SectorSize;

/// Only the end of a file can cut a transfer elsewhere than at a multiple of this.
const SMALLEST_SECTOR: usize = 512;

/// A device or file, opened for direct I/O.
#[derive(Debug)]
pub struct DirectDisk {
    #[expect(
        clippy::disallowed_types,
        reason = "this is where the crate meets files"
    )]
    file: std::fs::File,
    sector: SectorSize,
    /// Made beforehand: a renewal must not wait for memory.
    buffer: AlignedBuf,
}

impl DirectDisk {
    /// Opens a device or regular file for reading and writing with O_DIRECT and O_SYNC, following links. Never creates.
    /// `largest` is the length, in bytes, of the largest single read or write to come: an area, for who keeps leases.
    pub fn open(path: &Path, largest: usize) -> io::Result<DirectDisk> {
        DirectDisk::open_as(path, largest, OpenOptions::new().read(true).write(true))
    }

    /// The same for reading alone: needs no right to write, and nobody is told of a device that may have changed.
    /// Writes fail with EBADF (9).
    pub fn open_read_only(path: &Path, largest: usize) -> io::Result<DirectDisk> {
        DirectDisk::open_as(path, largest, OpenOptions::new().read(true))
    }

    fn open_as(path: &Path, largest: usize, how: &mut OpenOptions) -> io::Result<DirectDisk> {
        let flags = OFlags::DIRECT | OFlags::SYNC;
        let file = how.custom_flags(flags.bits() as i32).open(path)?;
        let kind = file.metadata()?.file_type();
        let sector = match (kind.is_block_device(), kind.is_file()) {
            (true, _) => {
                let bytes = rustix::fs::ioctl_blksszget(&file)?;
                SectorSize::from_bytes(bytes).ok_or(io::ErrorKind::Unsupported)?
            }
            (_, true) => SectorSize::B512,
            (_, false) => return Err(io::ErrorKind::InvalidInput.into()),
        };
        Ok(DirectDisk {
            file,
            sector,
            buffer: AlignedBuf::zeroed(largest),
        })
    }

    /// From now on the largest single read or write is so long, in bytes. For disks that are many and seldom used: between two
    /// uses they need no buffer.
    pub fn set_largest(&mut self, largest: usize) {
        self.buffer = AlignedBuf::zeroed(largest);
    }

    /// The sector size for areas to be made here: the device's, and 512 bytes in files. An area that is already here
    /// may have another.
    pub fn sector(&self) -> SectorSize {
        self.sector
    }

    /// Moves `len` bytes in as many steps as the kernel likes.
    fn transfer(
        offset: u64,
        len: usize,
        mut step: impl FnMut(usize, u64) -> io::Result<usize>,
    ) -> Result<(), DiskError> {
        let past_end = DiskError::PastEnd { offset, len };
        if offset.checked_add(len as u64).is_none() {
            return Err(past_end);
        }
        let mut done = 0;
        while done < len {
            match step(done, offset + done as u64) {
                Ok(0) => return Err(past_end),
                Ok(moved) => done += moved,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(DiskError::of(&e)),
            }
            if !done.is_multiple_of(SMALLEST_SECTOR) {
                return Err(past_end);
            }
        }
        Ok(())
    }
}

impl Disk for DirectDisk {
    /// Panics if `into` is longer than what was said when opening.
    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), DiskError> {
        let buffer = &mut self.buffer[..into.len()];
        DirectDisk::transfer(offset, into.len(), |done, at| {
            self.file.read_at(&mut buffer[done..], at)
        })?;
        into.copy_from_slice(buffer);
        Ok(())
    }

    /// Panics if `from` is longer than what was said when opening.
    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), DiskError> {
        let len = from.len();
        // A file would grow without a word; others looking for its end would then find none.
        let size = self.size()?;
        if offset.checked_add(len as u64).is_none_or(|end| end > size) {
            return Err(DiskError::PastEnd { offset, len });
        }
        let buffer = &mut self.buffer[..len];
        buffer.copy_from_slice(from);
        DirectDisk::transfer(offset, len, |done, at| {
            self.file.write_at(&buffer[done..], at)
        })
    }

    fn size(&mut self) -> Result<u64, DiskError> {
        self.file
            .seek(SeekFrom::End(0))
            .map_err(|e| DiskError::of(&e))
    }
}
