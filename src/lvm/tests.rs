//! Images that the real lvm2 made, and images made here from a text, whole and damaged.

use lockmgr::disk::{Disk, DiskError};
use proptest::prelude::*;

use super::*;

/// A disk in memory.
struct Memory(Vec<u8>);

impl Disk for Memory {
    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), DiskError> {
        let len = into.len();
        let there = usize::try_from(offset)
            .ok()
            .and_then(|at| self.0.get(at..at + len));
        into.copy_from_slice(there.ok_or(DiskError::PastEnd { offset, len })?);
        Ok(())
    }

    fn write(&mut self, _: u64, _: &[u8]) -> Result<(), DiskError> {
        panic!("nothing here writes")
    }

    fn size(&mut self) -> Result<u64, DiskError> {
        Ok(self.0.len() as u64)
    }
}

const PV: &str = "aaaaaa-bbbb-cccc-dddd-eeee-ffff-gggggg";
const AREA: usize = 4096;
const RING: usize = 32 * 1024;
const TEXT: &str = r#"vg0 {
id = "vgvgvg-0000-1111-2222-3333-4444-555555"
seqno = 7
format = "lvm2"			# informational
status = ["RESIZEABLE", "READ", "WRITE"]
flags = []
extent_size = 8192
lock_type = "sanlock"
lock_args = "1.0.0:lvmlock"
physical_volumes {

pv0 {
id = "aaaaaa-bbbb-cccc-dddd-eeee-ffff-gggggg"
device = "/dev/ublkb0"
flags = []
dev_size = 1048576
pe_start = 2048
pe_count = 127
}
pv1 {
id = "hhhhhh-bbbb-cccc-dddd-eeee-ffff-gggggg"
device = "/dev/mapper/a \"b\" \\c"
flags = ["MISSING"]
pe_start = 2048
pe_count = 127
}
}
logical_volumes {
home {
id = "llllll-bbbb-cccc-dddd-eeee-ffff-gggggg"
lock_args = "1.0.0:70254592"
creation_time = 1700000000
segment_count = 2
segment1 {
start_extent = 0
extent_count = 2
type = "striped"
stripe_count = 1
stripes = [
"pv0", 5
]
}
segment2 {
start_extent = 2
extent_count = 4
type = "striped"
stripe_count = 2
stripes = ["pv0", 7, "pv1", 0]
}
}
}
}
contents = "Text Format Volume Group"
version = 1
description = "{ } = # \" [ ]"
creation_time = 1700000000.25
"#;

/// A physical volume whose text begins at `at` of the ring, on a disk where it begins at `start`.
fn image(start: usize, text: &[u8], at: usize) -> Vec<u8> {
    let mut disk = vec![0; start + AREA + RING + 4096];
    let pv = &mut disk[start..];
    let label = &mut pv[512..1024];
    label[..8].copy_from_slice(b"LABELONE");
    label[8] = 1;
    label[20] = 32;
    label[24..32].copy_from_slice(b"LVM2 001");
    label[32..64].copy_from_slice(PV.replace('-', "").as_bytes());
    // One data area, the end of the list, one metadata area, the end of the list.
    label[72..80].copy_from_slice(&(1_u64 << 20).to_le_bytes());
    label[104..112].copy_from_slice(&(AREA as u64).to_le_bytes());
    label[112..120].copy_from_slice(&(RING as u64).to_le_bytes());
    let sum = crc::checksum(&label[20..]);
    label[16..20].copy_from_slice(&sum.to_le_bytes());
    let area = &mut pv[AREA..];
    for (number, byte) in text.iter().enumerate() {
        let place = at + number;
        area[if place < RING {
            place
        } else {
            place - RING + 512
        }] = *byte;
    }
    let header = &mut area[..512];
    header[4..20].copy_from_slice(b" LVM2 x[5A%r0N*>");
    header[20] = 1;
    header[24..32].copy_from_slice(&(AREA as u64).to_le_bytes());
    header[32..40].copy_from_slice(&(RING as u64).to_le_bytes());
    header[40..48].copy_from_slice(&(at as u64).to_le_bytes());
    header[48..56].copy_from_slice(&(text.len() as u64).to_le_bytes());
    header[56..60].copy_from_slice(&crc::checksum(text).to_le_bytes());
    seal(header);
    disk
}

fn seal(header: &mut [u8]) {
    let sum = crc::checksum(&header[4..512]);
    header[..4].copy_from_slice(&sum.to_le_bytes());
}

fn find(disk: Vec<u8>, start: usize) -> Result<Option<Found>, BadPv> {
    physical_volume(&mut Memory(disk), start as u64)
}

#[test]
fn what_a_text_says() {
    let found = find(image(0, TEXT.as_bytes(), 512), 0).unwrap().unwrap();
    assert_eq!(found.pv.to_string(), PV);
    let group = found.group.unwrap();
    assert_eq!((group.name.as_str(), group.seqno), ("vg0", 7));
    assert_eq!(group.extent_bytes, 4 << 20);
    assert_eq!(group.lock_type.as_deref(), Some("sanlock"));
    let pvs: Vec<_> = group
        .pvs
        .iter()
        .map(|pv| (pv.name.as_str(), pv.missing))
        .collect();
    assert_eq!(pvs, [("pv0", false), ("pv1", true)]);
    assert_eq!(group.pvs[0].id.to_string(), PV);
    assert_eq!(group.pvs[0].start, 1 << 20);
    assert_eq!(group.pvs[1].device, r#"/dev/mapper/a "b" \c"#);
    let id = Uuid::parse("llllll-bbbb-cccc-dddd-eeee-ffff-gggggg").unwrap();
    let lv = group.lv(id).unwrap();
    assert_eq!(lv.name, "home");
    assert_eq!(lv.lock_args.as_deref(), Some("1.0.0:70254592"));
    assert!(lv.layered, "it has stripes");
    let segment = Segment {
        start: 0,
        extents: 2,
        pv: "pv0".to_owned(),
        pv_start: 5,
    };
    assert_eq!(lv.segments, [segment]);
}

#[test]
fn a_text_around_the_end_of_its_ring_on_a_partition() {
    let text = format!("{TEXT}\0");
    for start in [0, 8192, 1 << 20] {
        for at in [512, 5000, RING - 1000, RING - 1] {
            let found = find(image(start, text.as_bytes(), at), start);
            let group = found.unwrap().unwrap().group.unwrap();
            assert_eq!(group.seqno, 7, "{start} {at}");
        }
    }
}

#[test]
fn nothing_of_lvm_is_nothing() {
    assert_eq!(find(vec![0; 1 << 20], 0), Ok(None));
    assert_eq!(find(vec![0; 100], 0), Ok(None));
    assert_eq!(find(vec![0; 8192], 8192), Ok(None));
    // Another program's label.
    let mut other = image(0, TEXT.as_bytes(), 512);
    other[512 + 24] = b'X';
    assert_eq!(find(other, 0), Ok(None));
}

#[test]
fn a_physical_volume_without_a_group() {
    let mut disk = image(0, TEXT.as_bytes(), 512);
    disk[AREA + 40..AREA + 64].fill(0);
    seal(&mut disk[AREA..]);
    assert_eq!(find(disk, 0).unwrap().unwrap().group, None);
    // Its metadata area is not in use.
    let mut disk = image(0, TEXT.as_bytes(), 512);
    disk[AREA + 60] = 1;
    seal(&mut disk[AREA..]);
    assert_eq!(find(disk, 0).unwrap().unwrap().group, None);
}

#[test]
fn what_is_being_written_is_damaged() {
    for (byte, what) in [
        (512 + 40, "label"),
        (AREA + 50, "metadata header"),
        (AREA + 512 + 3, "metadata text"),
    ] {
        let mut disk = image(0, TEXT.as_bytes(), 512);
        disk[byte] ^= 1;
        assert_eq!(find(disk, 0), Err(BadPv::Damaged(what)));
    }
    // The checksum is right, the text is not.
    for text in [
        "",
        "vg0 {",
        "vg0 }",
        "vg0 = {",
        "vg0 { id = \"short\" }",
        "contents = \"Text Format Volume Group\"\nversion = 1",
        &TEXT.replace("version = 1", "version = 2"),
        &TEXT.replace("seqno = 7", "seqno = -7"),
        &TEXT.replace("seqno = 7", "seqno = seven"),
        &TEXT.replace("seqno = 7", "seqno = [7, 8"),
        &TEXT.replace("extent_size = 8192", "extent_size = 9223372036854775807"),
        &"a { ".repeat(5000),
    ] {
        let found = find(image(0, text.as_bytes(), 512), 0);
        match text.is_empty() {
            true => assert_eq!(found.unwrap().unwrap().group, None),
            false => assert_eq!(found, Err(BadPv::Damaged("metadata text")), "{text:.40}"),
        }
    }
}

#[test]
fn numbers_that_no_disk_has_are_refused() {
    let bad = Err(BadPv::Damaged("metadata header"));
    for (field, value) in [
        (32, 0),
        (32, 512),
        (32, u64::MAX),
        (40, 511),
        (40, RING as u64),
        (40, u64::MAX),
        (48, RING as u64),
        (48, u64::MAX),
        (24, 0),
    ] {
        let mut disk = image(0, TEXT.as_bytes(), 512);
        disk[AREA + field..AREA + field + 8].copy_from_slice(&value.to_le_bytes());
        seal(&mut disk[AREA..]);
        assert_eq!(find(disk, 0), bad, "{field} {value}");
    }
    // A ring beyond the disk: nothing is made for it before it is read.
    let mut disk = image(0, TEXT.as_bytes(), 512);
    disk[AREA + 32..AREA + 40].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    disk[AREA + 48..AREA + 56].copy_from_slice(&(TEXT_MAX).to_le_bytes());
    seal(&mut disk[AREA..]);
    assert!(matches!(
        find(disk, 0),
        Err(BadPv::Io(DiskError::PastEnd { .. }))
    ));
}

#[test]
fn uuids_are_written_with_hyphens_and_read_either_way() {
    let uuid = Uuid::parse(PV).unwrap();
    assert_eq!(Uuid::parse(&PV.replace('-', "")), Some(uuid));
    assert_eq!(uuid.to_string(), PV);
    for text in [
        "",
        "GLLK",
        &PV[1..],
        &format!("{PV}x"),
        &PV.replace('a', "/"),
    ] {
        assert_eq!(Uuid::parse(text), None, "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_text_is_read_or_refused(text in "[a-z0-9={}\\[\\]\", #\\\\\n.-]{0,200}") {
        let _ = text::Section::parse(text.as_bytes());
    }

    #[test]
    fn a_text_with_anything_in_it_is_read_or_refused(
        place in 0..TEXT.len(),
        with in any::<u8>(),
        cut in 0..TEXT.len(),
    ) {
        let mut text = TEXT.as_bytes().to_vec();
        text[place] = with;
        text.truncate(TEXT.len() - cut / 8);
        let _ = Group::parse(&text);
    }

    #[test]
    fn a_disk_with_anything_on_it_is_read_or_refused(
        place in 0..2 * 512_usize,
        with in any::<u64>(),
        sealed in any::<bool>(),
    ) {
        let mut disk = image(0, TEXT.as_bytes(), RING - 100);
        let at = if place < 512 { 512 + place } else { AREA + place - 512 };
        disk[at..at + 8].copy_from_slice(&with.to_le_bytes());
        if sealed {
            let sum = crc::checksum(&disk[532..1024]);
            disk[528..532].copy_from_slice(&sum.to_le_bytes());
            seal(&mut disk[AREA..]);
        }
        let _ = find(disk, 0);
    }
}
