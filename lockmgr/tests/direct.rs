//! Direct I/O on a file of this machine: what is formatted is what is read, and the end stays where it is.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use lockmgr::disk::{DirectDisk, Disk, DiskError};
use lockmgr::ondisk::{Dump, Geometry, Name, SectorSize, init};

const MIB: u64 = 1 << 20;

struct Scratch(PathBuf);

impl Scratch {
    /// A file of `len` bytes on a file system with direct I/O: the one with the build's own files.
    fn new(name: &str, len: u64) -> Scratch {
        let name = format!("{name}-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, vec![0x5a; len as usize]).expect("a file beside the build's own");
        Scratch(path)
    }

    fn open(&self) -> DirectDisk {
        DirectDisk::open(&self.0, MIB as usize).expect("direct I/O where the build's files are")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn what_is_formatted_is_read_back() {
    let scratch = Scratch::new("formatted", 2 * MIB);
    let mut disk = scratch.open();
    assert_eq!(disk.sector(), SectorSize::B512);
    assert_eq!(disk.size(), Ok(2 * MIB));
    let (space, name) = (Name::new("LS").unwrap(), Name::new("RA").unwrap());
    for write in init::lockspace(Geometry::B512_M1, &space, 10).unwrap() {
        disk.write(write.offset, &write.bytes).unwrap();
    }
    let write = init::resource(Geometry::B512_M1, &space, &name).unwrap();
    disk.write(MIB + write.offset, &write.bytes).unwrap();

    // Another handle, and not through our buffers at all.
    let mut area = vec![0; MIB as usize];
    scratch.open().read(MIB, &mut area).unwrap();
    assert_eq!(area, write.bytes);
    let cached = fs::read(&scratch.0).unwrap();
    assert_eq!(cached[MIB as usize..], area);
    assert!(matches!(Dump::of(&cached, 0), Dump::Lockspace(dump) if dump.slots.is_empty()));
}

#[test]
fn the_end_is_an_error_and_stays_where_it_is() {
    let scratch = Scratch::new("end", MIB);
    let mut disk = scratch.open();
    let mut sector = [0; 512];
    for offset in [MIB, 2 * MIB, u64::MAX - 511] {
        let past_end = Err(DiskError::PastEnd { offset, len: 512 });
        assert_eq!(disk.read(offset, &mut sector), past_end);
        assert_eq!(disk.write(offset, &sector), past_end);
    }
    let (offset, len) = (MIB - 512, 1024);
    let mut two = [0; 1024];
    assert_eq!(
        disk.read(offset, &mut two),
        Err(DiskError::PastEnd { offset, len })
    );
    assert_eq!(
        disk.write(offset, &two),
        Err(DiskError::PastEnd { offset, len })
    );
    assert_eq!(disk.size(), Ok(MIB));
    disk.read(offset, &mut sector).unwrap();
    assert_eq!(sector, [0x5a; 512], "a refused write leaves nothing");
}

#[test]
fn a_file_that_ends_within_a_sector_ends_before_it() {
    let scratch = Scratch::new("odd", MIB + 100);
    let mut disk = scratch.open();
    let mut sector = [0; 512];
    let past_end = DiskError::PastEnd {
        offset: MIB,
        len: 512,
    };
    assert_eq!(disk.read(MIB, &mut sector), Err(past_end));
    disk.read(MIB - 512, &mut sector).unwrap();
}

#[test]
fn who_only_reads_cannot_write() {
    let scratch = Scratch::new("read-only", MIB);
    let mut disk = DirectDisk::open_read_only(&scratch.0, 512).unwrap();
    let mut sector = [0; 512];
    disk.read(512, &mut sector).unwrap();
    assert_eq!(sector, [0x5a; 512]);
    let refused = Err(DiskError::Failed { errno: 9 });
    assert_eq!(disk.write(512, &[0; 512]), refused);
    disk.read(512, &mut sector).unwrap();
    assert_eq!(sector, [0x5a; 512]);
}

#[test]
fn what_is_no_disk_is_not_opened() {
    let nowhere = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-such-file");
    let error = DirectDisk::open(&nowhere, 512).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(!nowhere.exists(), "opening never creates");
    assert!(DirectDisk::open(Path::new("/dev/null"), 512).is_err());
}
