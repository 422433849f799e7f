//! Damage, field by field: each is refused with a sentence that says where and what.

use lockmgr::ondisk::init::{self, Write};
use lockmgr::ondisk::{
    BallotBlock, Dblock, DeltaSlot, Dump, Geometry, HostId, HostSector, LEADER_LEN, ModeBlock,
    Name, PaxosLeader, RawLeader, Request, RindexEntry, RindexHeader,
};

/// Where the areas of these tests are said to lie.
const BASE: u64 = 1 << 20;

fn name(text: &str) -> Name {
    Name::new(text).expect("a short name")
}

fn lockspace() -> Vec<u8> {
    let [Write { mut bytes, .. }, commit] =
        init::lockspace(Geometry::B512_M1, &name("LS"), 10).expect("a sane order");
    bytes[..512].copy_from_slice(&commit.bytes);
    bytes
}

fn resource() -> Vec<u8> {
    let write = init::resource(Geometry::B512_M1, &name("LS"), &name("RA"));
    write.expect("a sane order").bytes
}

fn index() -> Vec<u8> {
    let writes = init::rindex(Geometry::B512_M1, &name("LS"), BASE, 8);
    let [_, Write { bytes, .. }] = writes.expect("a sane order");
    bytes
}

/// Puts `bytes` at `at` and the sum that belongs to it, as a program would that means what it writes.
fn summed(mut area: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    area[at..at + bytes.len()].copy_from_slice(bytes);
    let leader = RawLeader::read(&area).expect("a sector").summed();
    area[..LEADER_LEN].copy_from_slice(&leader.emit());
    area
}

fn damaged(mut area: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    area[at..at + bytes.len()].copy_from_slice(bytes);
    area
}

#[test]
fn delta_leases() {
    let refuse = |area: Vec<u8>| DeltaSlot::parse(&area).unwrap_err().at(BASE).to_string();
    let table = [
        (
            0,
            &[0; 4][..],
            "magic at byte 1048576: no magic: nothing was formatted here",
        ),
        (
            0,
            b"LVM2",
            "magic at byte 1048576: unknown magic 0x324d564c",
        ),
        (6, &[4, 0], "version at byte 1048580: unknown version 4.4"),
        (
            8,
            &[0x18],
            "flags at byte 1048584: 0x18 has unknown bits 0x8",
        ),
        (8, &[0x30], "flags at byte 1048584: impossible value 48"),
        (8, &[0x80], "flags at byte 1048584: impossible value 128"),
        (
            12,
            &[0, 4],
            "sector_size at byte 1048588: impossible value 1024",
        ),
        (16, &[1], "num_hosts at byte 1048592: impossible value 1"),
        (24, &[0], "max_hosts at byte 1048600: impossible value 0"),
        (48, &[9], "lver at byte 1048624: impossible value 9"),
    ];
    for (at, bytes, sentence) in table {
        let refused = refuse(summed(lockspace(), at, bytes));
        assert_eq!(refused, format!("delta lease refused: {sentence}"));
    }
    assert_eq!(
        refuse(damaged(lockspace(), 152, &[1])),
        "delta lease refused: checksum at byte 1048744: 0xb0f174c0, but the bytes sum to 0x42fd793e"
    );
    assert_eq!(
        refuse(lockspace()[..199].to_vec()),
        "delta lease refused: magic at byte 1048576: only 199 of 200 bytes"
    );
    let slot = DeltaSlot::parse(&lockspace()).unwrap();
    let other = slot.lease.verify_space(&name("other")).unwrap_err();
    assert_eq!(
        other.at(BASE).to_string(),
        "delta lease refused: space_name at byte 1048632: it is another's: \"LS\""
    );
    let other = slot.lease.verify_geometry(Geometry::B4096_M8).unwrap_err();
    assert_eq!(
        other.to_string(),
        "delta lease refused: sector_size at byte 12: the area is laid out otherwise: 512"
    );
}

#[test]
fn resource_leaders() {
    let refuse = |area: Vec<u8>| PaxosLeader::parse(&area).unwrap_err().at(BASE).to_string();
    let table = [
        (
            6,
            &[8, 0][..],
            "version at byte 1048580: unknown version 8.4",
        ),
        // A host of sanlock 5 may pass through, but only in a record of its own version.
        (
            8,
            &[0x18],
            "flags at byte 1048584: 0x18 has unknown bits 0x8",
        ),
        (
            8,
            &[0x12],
            "flags at byte 1048584: 0x12 has unknown bits 0x2",
        ),
        (16, &[0, 0], "num_hosts at byte 1048592: impossible value 0"),
        (
            16,
            &[0xd1],
            "num_hosts at byte 1048592: impossible value 2001",
        ),
        (24, &[0, 0], "max_hosts at byte 1048600: impossible value 0"),
        (
            24,
            &[0xd1],
            "max_hosts at byte 1048600: impossible value 2001",
        ),
    ];
    for (at, bytes, sentence) in table {
        let refused = refuse(summed(resource(), at, bytes));
        assert_eq!(refused, format!("resource leader refused: {sentence}"));
    }
    assert_eq!(
        refuse(lockspace()),
        "resource leader refused: magic at byte 1048576: unknown magic 0x12212010"
    );
    let fewer = PaxosLeader::parse(&summed(resource(), 16, &[7, 0])).unwrap();
    fewer.verify_host(HostId::new(7).unwrap()).unwrap();
    let refused = fewer.verify_host(HostId::new(8).unwrap()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "resource leader refused: num_hosts at byte 16: it is for hosts 1 to 7"
    );
}

#[test]
fn requests_and_host_sectors() {
    let table = [
        (512, 1, "magic at byte 0: unknown magic 0x08292001"),
        (518, 2, "version at byte 4: unknown version 2.1"),
        (528, 3, "force_mode at byte 16: impossible value 3"),
    ];
    for (at, byte, sentence) in table {
        let area = damaged(resource(), at, &[byte]);
        let refused = Request::parse(&area[512..]).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("request record refused: {sentence}")
        );
    }
    let ballot = BallotBlock {
        mbal: 1,
        lver: 1,
        ..BallotBlock::default()
    };
    let dblock = Dblock::Voted { ballot, flags: 0 };
    let mode = ModeBlock::of_shared(3);
    let mut sector = [0; 512];
    HostSector { dblock, mode }.emit(&mut sector);
    sector[40] = 2;
    let refused = HostSector::parse(&sector).unwrap_err().to_string();
    assert!(
        refused.starts_with("dblock refused: checksum at byte 48: "),
        "{refused}"
    );
    // Generation 0 is never a holder.
    sector[136] = 0;
    let mode = HostSector::mode_unverified(&sector).unwrap();
    assert_eq!((mode.flags, mode.shared()), (1, None));
}

#[test]
fn indexes() {
    let table = [
        (6, &[2][..], "version at byte 1048580: unknown version 2.2"),
        (8, &[3], "flags at byte 1048584: impossible value 3"),
        (8, &[8], "flags at byte 1048584: impossible value 8"),
        (
            12,
            &[1],
            "sector_size at byte 1048588: impossible value 513",
        ),
        (
            16,
            &[0],
            "max_resources at byte 1048592: impossible value 0",
        ),
        (
            16,
            &[0x81, 0x3e],
            "max_resources at byte 1048592: impossible value 16001",
        ),
    ];
    for (at, bytes, sentence) in table {
        let area = damaged(index(), at, bytes);
        let refused = RindexHeader::parse(&area).unwrap_err().at(BASE);
        assert_eq!(
            refused.to_string(),
            format!("resource index refused: {sentence}")
        );
    }
    let header = RindexHeader::parse(&index()).unwrap();
    header.verify(BASE, &name("LS")).unwrap();
    assert_eq!(
        header
            .verify(2 * BASE, &name("LS"))
            .unwrap_err()
            .to_string(),
        "resource index refused: rx_offset at byte 24: impossible value 1048576"
    );
    assert_eq!(
        header.verify(BASE, &name("other")).unwrap_err().to_string(),
        "resource index refused: lockspace_name at byte 32: it is another's: \"LS\""
    );

    // Entry 2 claims the place of entry 3; entry 3 has a place and no name.
    let mut area = index();
    let entry = RindexEntry::Used {
        name: name("R"),
        flags: 0,
    };
    header.put_entry(&mut area[512..1024], 3, &entry);
    area.copy_within(512 + 192..512 + 256, 512 + 128);
    area[512 + 192 + 16] = 0;
    let Dump::Index(dump) = Dump::of(&area, BASE) else {
        panic!("an index");
    };
    let sentences: Vec<_> = dump
        .entries
        .iter()
        .map(|(index, entry)| (*index, entry.unwrap_err().to_string()))
        .collect();
    let refused = "resource index entry refused:";
    assert_eq!(
        sentences,
        [
            (
                2,
                format!("{refused} res_offset at byte 1049216: impossible value 6291456")
            ),
            (
                3,
                format!("{refused} res_offset at byte 1049280: impossible value 6291456")
            ),
        ]
    );
}

#[test]
fn a_dump_shows_damage_and_goes_on() {
    let mut area = lockspace();
    // Slot 3 is damaged, slot 5 is of another layout.
    area[1024 + 40] = 1;
    let mut leader = RawLeader::read(&area[2048..]).unwrap();
    leader.sector_size = 4096;
    leader.flags.0 = 0x80;
    area[2048..2048 + LEADER_LEN].copy_from_slice(&leader.summed().emit());
    let text = Dump::of(&area, BASE).to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[0].starts_with("01049600 ") && lines[2].starts_with("01050624 "));
    assert!(lines[1].starts_with("! delta lease refused: checksum at byte 1049768: "));
    assert_eq!(
        lines[3],
        "! delta lease refused: sector_size at byte 1050636: the area is laid out otherwise: 4096"
    );

    // A request that nobody can read is not a request.
    let area = damaged(resource(), 512, &[0]);
    let text = Dump::of(&area, BASE).to_string();
    assert!(
        text.contains(" 0/?/?\n! request record refused: magic at byte 1049088: "),
        "{text}"
    );

    // Without a layout there is nothing to go on with.
    let area = summed(resource(), 8, &[0x30]);
    assert_eq!(
        Dump::of(&area, BASE).to_string(),
        "! resource leader refused: flags at byte 1048584: impossible value 48\n"
    );
    let text = Dump::of(&[0x11; 4096], BASE).to_string();
    assert_eq!(text, "! no lease area: it begins with 0x11111111\n");
    assert_eq!(Dump::of(&[0; 4096], BASE), Dump::Nothing);
}
