//! Where lease areas lie: a device or file, and a byte offset on it.

use std::convert::Infallible;
use std::fmt;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use lockmgr::disk::{DirectDisk, DiskError};
use lockmgr::ondisk::{AlignSize, Geometry};

use crate::failure::{Failure, Kind};

/// The largest single read or write: an area of the largest size.
const LARGEST: usize = AlignSize::M8.bytes() as usize;

/// Which device or file this is, by whatever path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Device {
    /// By its number.
    Block(u64),
    /// By file system and inode.
    File(u64, u64),
}

impl Device {
    fn of(metadata: &Metadata) -> Device {
        match metadata.file_type().is_block_device() {
            true => Device::Block(metadata.rdev()),
            false => Device::File(metadata.dev(), metadata.ino()),
        }
    }

    /// The one behind this path; `None` where there is none any more.
    pub fn at(path: &Path) -> Option<Device> {
        std::fs::metadata(path).ok().map(|found| Device::of(&found))
    }
}

/// `PATH[:OFFSET]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The device or file.
    pub path: PathBuf,
    /// Bytes from its start.
    pub offset: u64,
}

impl FromStr for Place {
    type Err = Infallible;

    /// What follows the last colon is the offset if it is a decimal number. A path that ends so itself, as links below
    /// `/dev/disk/by-path` may, is written with `:0` behind it.
    fn from_str(text: &str) -> Result<Place, Infallible> {
        let digits = |tail: &str| tail.bytes().all(|byte| byte.is_ascii_digit());
        let split = text
            .rsplit_once(':')
            .filter(|(path, tail)| !path.is_empty() && digits(tail))
            .and_then(|(path, tail)| Some((path, tail.parse().ok()?)));
        let (path, offset) = split.unwrap_or((text, 0));
        let path = PathBuf::from(path);
        Ok(Place { path, offset })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.offset)
    }
}

impl Place {
    /// The same device or file at another offset.
    pub fn at(&self, offset: u64) -> Place {
        let path = self.path.clone();
        Place { path, offset }
    }

    /// The disk, for looking.
    ///
    /// # Errors
    /// No such file, no right, neither device nor file, no direct I/O there.
    pub fn open_read_only(&self) -> Result<DirectDisk, Failure> {
        self.open_with(DirectDisk::open_read_only)
    }

    /// The disk, for changing it.
    ///
    /// # Errors
    /// As [`open_read_only`](Self::open_read_only).
    pub fn open(&self) -> Result<DirectDisk, Failure> {
        self.open_with(DirectDisk::open)
    }

    /// The same without a buffer for anything yet.
    ///
    /// # Errors
    /// As [`open_read_only`](Self::open_read_only).
    pub fn open_unbuffered(&self) -> Result<DirectDisk, Failure> {
        self.open_with(|path, _| DirectDisk::open(path, 0))
    }

    fn open_with(
        &self,
        open: fn(&Path, usize) -> io::Result<DirectDisk>,
    ) -> Result<DirectDisk, Failure> {
        let failed = |error: io::Error| self.not_opened(&error);
        // Asked first: opening a pipe would wait for its other end.
        let kind = std::fs::metadata(&self.path).map_err(failed)?.file_type();
        if !kind.is_block_device() && !kind.is_file() {
            return Err(Failure::new(
                Kind::Usage,
                format!(
                    "{} is neither a block device nor a regular file",
                    self.path.display()
                ),
                "name a device, a logical volume or a file",
            ));
        }
        open(&self.path, LARGEST).map_err(failed)
    }

    /// Why it was not opened.
    pub(crate) fn not_opened(&self, error: &io::Error) -> Failure {
        let path = self.path.display();
        match (error.kind(), error.raw_os_error()) {
            (io::ErrorKind::NotFound, _) => Failure::new(
                Kind::NotFound,
                format!("there is no {path}"),
                "check the path; nothing is created; an offset is a decimal number of bytes: PATH:1048576",
            ),
            (io::ErrorKind::PermissionDenied, _) => Failure::new(
                Kind::Failed,
                format!("{path}: {error}"),
                "run it as root, or as a user who may use the device",
            ),
            (io::ErrorKind::Unsupported, None) => Failure::new(
                Kind::Usage,
                format!("{path} has logical blocks of neither 512 nor 4096 bytes"),
                "leases need one of these",
            ),
            (io::ErrorKind::InvalidInput, Some(_)) => Failure::new(
                Kind::Usage,
                format!("{path} lies on a file system without direct I/O"),
                "leases are read and written past the page cache: use a device, or a file elsewhere",
            ),
            _ => Failure::new(
                Kind::Failed,
                format!("{path}: {error}"),
                "look at the kernel's log: dmesg",
            ),
        }
    }

    /// A read or write that failed here.
    pub fn io_failed(&self, what: &str, error: DiskError) -> Failure {
        Failure::new(
            Kind::Failed,
            format!("cannot {what} {self}: {error}"),
            "look at the kernel's log: dmesg",
        )
    }

    /// Refuses an offset that the disk cannot address.
    ///
    /// # Errors
    /// [`Kind::Usage`].
    pub fn verify_block(&self, disk: &DirectDisk) -> Result<(), Failure> {
        let block = disk.sector().bytes() as u64;
        if self.offset.is_multiple_of(block) {
            return Ok(());
        }
        Err(Failure::new(
            Kind::Usage,
            format!(
                "byte {} is no multiple of {block}, the block size of {}",
                self.offset,
                self.path.display()
            ),
            "lease areas begin at multiples of their size, 1 to 8 MiB",
        ))
    }
}

/// How many bytes of a disk of `size` bytes there are from `at` on, up to `most`, in whole pieces that any lease disk
/// can read.
pub(crate) fn readable(size: u64, at: u64, most: u64) -> usize {
    let piece = Geometry::PROBE_LEN as u64;
    let there = size.saturating_sub(at).min(most);
    usize::try_from(there - there % piece).expect("an area fits the memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_is_what_follows_the_last_colon_if_it_is_a_number() {
        for (text, path, offset) in [
            ("/dev/vg/leases", "/dev/vg/leases", 0),
            ("/dev/vg/leases:0", "/dev/vg/leases", 0),
            ("leases:1048576", "leases", 1 << 20),
            ("/dev/x:18446744073709551615", "/dev/x", u64::MAX),
            (
                "/dev/disk/by-path/pci-0000:00:1f.2-ata-1",
                "/dev/disk/by-path/pci-0000:00:1f.2-ata-1",
                0,
            ),
            ("/dev/disk/by-path/x:7:0", "/dev/disk/by-path/x:7", 0),
            ("leases:1M", "leases:1M", 0),
            ("leases:-1", "leases:-1", 0),
            ("leases:+1", "leases:+1", 0),
            (":5", ":5", 0),
            ("x:18446744073709551616", "x:18446744073709551616", 0),
        ] {
            let Ok(place) = text.parse::<Place>();
            assert_eq!(
                (place.path.to_str(), place.offset),
                (Some(path), offset),
                "{text}"
            );
        }
    }

    #[test]
    fn reads_end_with_the_disk() {
        assert_eq!(readable(3 << 20, 1 << 20, 1 << 20), 1 << 20);
        assert_eq!(readable((1 << 20) + 5000, 1 << 20, 1 << 20), 4096);
        assert_eq!(readable(100, 0, 1 << 20), 0);
        assert_eq!(readable(1 << 20, u64::MAX, 1 << 20), 0);
    }
}
