//! An area as a look reads and writes it: on its own device, or, where it lies on a logical volume on a volume of this
//! daemon, on that volume at the byte where it really is.
//!
//! The daemon never opens what is mapped onto a volume that it carries: it would wait for itself.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use lockmgr::disk::{DirectDisk, Disk, DiskError};
use lockmgr::ondisk::SectorSize;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::failure::Failure;
use crate::keeper::mapped::{Extents, Unmapped};
use crate::lease::place::Place;

/// EXDEV: a range that is in two places.
const IN_TWO_PLACES: i32 = 18;

/// Where an area is, and how to get there. For any thread.
#[derive(Clone, Debug)]
pub struct Site {
    /// As it is named.
    pub place: Place,
    /// The volume that its bytes are on, and where, if that is not what it is named by.
    pub below: Option<(PathBuf, Arc<Extents>)>,
}

impl Site {
    /// What is named is what is opened.
    pub fn plain(place: Place) -> Site {
        let below = None;
        Site { place, below }
    }

    /// The same device at another offset.
    pub fn at(&self, offset: u64) -> Site {
        Site {
            place: self.place.at(offset),
            below: self.below.clone(),
        }
    }

    /// What is opened for it.
    pub fn path(&self) -> &Path {
        match &self.below {
            Some((path, _)) => path,
            None => &self.place.path,
        }
    }

    /// For looking.
    ///
    /// # Errors
    /// As [`Place::open_read_only`].
    pub fn open_read_only(&self) -> Result<Window, Failure> {
        let place = Place {
            path: self.path().to_owned(),
            offset: 0,
        };
        place.open_read_only().map(|disk| self.window(disk))
    }

    /// For reading up to `largest` bytes at once, by a caller who has asked what it is.
    ///
    /// # Errors
    /// The disk's own.
    pub fn for_reading(&self, largest: usize) -> io::Result<Window> {
        DirectDisk::open_read_only(self.path(), largest).map(|disk| self.window(disk))
    }

    /// The same for writing as well.
    ///
    /// # Errors
    /// The disk's own.
    pub fn for_writing(&self, largest: usize) -> io::Result<Window> {
        let open = |path: &Path| DirectDisk::open(path, largest);
        let disk = match &self.below {
            Some((volume, _)) => unwatched(volume, open)?,
            None => open(&self.place.path)?,
        };
        Ok(self.window(disk))
    }

    fn window(&self, disk: DirectDisk) -> Window {
        let extents = self.below.as_ref().map(|(_, extents)| Arc::clone(extents));
        Window { disk, extents }
    }
}

/// Opens a volume by a node of its own. The one in `/dev` is watched: whenever a writer closes it, udev has the disk read
/// again and its rules run, a few hundred times while a volume group's areas are made. They are none of its business.
/// Where no node can be made, the usual one must do.
fn unwatched<T>(volume: &Path, open: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let found = std::fs::metadata(volume)?;
    if !found.file_type().is_block_device() {
        return open(volume);
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let node = PathBuf::from(format!("/dev/.sanblk-{}-{number}", std::process::id()));
    let mode = Mode::RUSR | Mode::WUSR;
    if mknodat(CWD, &node, FileType::BlockDevice, mode, found.rdev()).is_err() {
        return open(volume);
    }
    let opened = open(&node);
    let _ = std::fs::remove_file(&node);
    opened.or_else(|_| open(volume))
}

/// A device, or the part of one that a logical volume is. Offsets are those of the logical volume.
#[derive(Debug)]
pub struct Window {
    disk: DirectDisk,
    extents: Option<Arc<Extents>>,
}

impl Window {
    /// The sector size for areas to be made here.
    pub fn sector(&self) -> SectorSize {
        self.disk.sector()
    }

    /// The disk below.
    pub fn disk(&self) -> &DirectDisk {
        &self.disk
    }

    /// Whether these bytes are there, but not in one piece.
    pub fn is_apart(&self, offset: u64, len: u64) -> bool {
        let found = self.extents.as_ref().map(|map| map.locate(offset, len));
        found == Some(Err(Unmapped::Apart))
    }

    fn locate(&self, offset: u64, len: usize) -> Result<u64, DiskError> {
        let Some(extents) = self.extents.as_ref().filter(|_| len > 0) else {
            return Ok(offset);
        };
        extents.locate(offset, len as u64).map_err(|why| match why {
            Unmapped::PastEnd => DiskError::PastEnd { offset, len },
            Unmapped::Apart => DiskError::Failed {
                errno: IN_TWO_PLACES,
            },
        })
    }
}

impl Disk for Window {
    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), DiskError> {
        let at = self.locate(offset, into.len())?;
        self.disk.read(at, into)
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), DiskError> {
        let at = self.locate(offset, from.len())?;
        self.disk.write(at, from)
    }

    fn size(&mut self) -> Result<u64, DiskError> {
        match &self.extents {
            Some(extents) => Ok(extents.size()),
            None => self.disk.size(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::mapped::Extent;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_window_ends_where_the_logical_volume_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("volume");
        let bytes: Vec<u8> = (0..8 * MIB).map(|at| (at / MIB) as u8).collect();
        std::fs::write(&path, bytes).unwrap();
        let extents = [(5, 2), (1, 1)].map(|(start, len)| Extent {
            start: start * MIB,
            len: len * MIB,
        });
        let site = Site {
            place: "/dev/mapper/vg-lvmlock:0".parse().unwrap(),
            below: Some((path, Arc::new(Extents::new(extents).unwrap()))),
        };
        let mut window = site.for_writing(1 << 20).unwrap();
        assert_eq!(window.size(), Ok(3 * MIB));
        let mut sector = [0; 512];
        for (offset, content) in [(0, 5), (2 * MIB - 512, 6), (2 * MIB, 1)] {
            window.read(offset, &mut sector).unwrap();
            assert_eq!(sector, [content; 512], "{offset}");
        }
        window.write(2 * MIB + 512, &[9; 512]).unwrap();
        window.read(2 * MIB + 512, &mut sector).unwrap();
        assert_eq!(sector, [9; 512]);
        let (offset, len) = (3 * MIB, 512);
        let end = Err(DiskError::PastEnd { offset, len });
        assert_eq!(window.read(offset, &mut sector), end);
        assert_eq!(window.write(offset, &sector), end);
        assert_eq!(window.read(9 * MIB, &mut []), Ok(()), "as of a device");
        let mut two = vec![0; 1024];
        let apart = Err(DiskError::Failed { errno: 18 });
        assert_eq!(window.read(2 * MIB - 512, &mut two), apart);
        assert!(window.is_apart(2 * MIB - 512, 1024));
        assert!(!window.is_apart(0, 1024));
    }
}
