//! What we format is what the real program formatted.

use lockmgr::ondisk::init::{self, CannotInit, Write};
use lockmgr::ondisk::{
    AlignSize, DeltaLease, Found, Geometry, Name, PaxosLeader, Problem, RINDEX_DEFAULT_ENTRIES,
    SectorSize,
};

use crate::fixtures::Fixture;

fn name(text: &str) -> Name {
    Name::new(text).expect("a short name")
}

fn put(device: &mut [u8], base: u64, write: &Write) {
    let at = (base + write.offset) as usize;
    device[at..at + write.bytes.len()].copy_from_slice(&write.bytes);
}

/// Tells where they differ, instead of printing megabytes.
fn same(device: &[u8], wanted: &[u8]) {
    assert_eq!(device.len(), wanted.len());
    let differs = device.iter().zip(wanted).position(|(a, b)| a != b);
    assert_eq!(differs, None);
}

/// The device is full of other bytes before: nothing may shine through.
fn dirty(len: usize) -> Vec<u8> {
    vec![0xa5; len]
}

#[test]
fn lockspace_and_resources_512() {
    let g = Geometry::B512_M1;
    let fixture = Fixture::load("s512-02-resources-free");
    let mut device = dirty(4 << 20);
    for write in &init::lockspace(g, &name("LS"), 10).unwrap() {
        put(&mut device, 0, write);
    }
    for (i, resource) in ["RA", "RB", "RC"].into_iter().enumerate() {
        let write = init::resource(g, &name("LS"), &name(resource)).unwrap();
        put(&mut device, (1 + i as u64) << 20, &write);
    }
    same(&device, &fixture.bytes[..4 << 20]);
}

#[test]
fn lockspace_and_resource_4096() {
    let g = Geometry::B4096_M8;
    let fixture = Fixture::load("s4k8m-01-init");
    let Some(Found::Lockspace(first)) = Found::at(&fixture.bytes) else {
        panic!("a lockspace");
    };
    let mut device = dirty(16 << 20);
    for write in &init::lockspace(g, &name("L8"), first.io_timeout).unwrap() {
        put(&mut device, 0, write);
    }
    let write = init::resource(g, &name("L8"), &name("RA")).unwrap();
    put(&mut device, 8 << 20, &write);
    same(&device, &fixture.bytes[..16 << 20]);
}

#[test]
fn index_and_deleted_resource() {
    let g = Geometry::B512_M1;
    let fixture = Fixture::load("s512-20-rindex-formatted");
    let mut device = dirty(3 << 20);
    let cleared = init::clear_resource(g, &name("LS"), &name("RC"), 1215);
    put(&mut device, 0, &cleared);
    let base = 4 << 20;
    for write in &init::rindex(g, &name("LS"), base, RINDEX_DEFAULT_ENTRIES).unwrap() {
        put(&mut device, 1 << 20, write);
    }
    // Two bytes behind the guard's request record are what the real program's buffer held before.
    let mut wanted = fixture.bytes[3 << 20..6 << 20].to_vec();
    let leftover = (2 << 20) + 512 + 20;
    assert_eq!(wanted[leftover..leftover + 2], [0x8e, 0x55]);
    wanted[leftover..leftover + 2].fill(0);
    same(&device, &wanted);
}

#[test]
fn a_lockspace_is_none_until_its_last_write() {
    let [area, commit] = init::lockspace(Geometry::B512_M1, &name("LS"), 10).unwrap();
    assert_eq!(area.bytes.len(), 1 << 20);
    assert_eq!(Found::at(&area.bytes), Some(Found::Foreign { magic: 0 }));
    let refused = DeltaLease::parse(&area.bytes).unwrap_err();
    assert_eq!(refused.problem, Problem::Magic { found: 0 });
    assert_eq!((commit.offset, commit.bytes.len()), (0, 512));
    let lease = DeltaLease::parse(&commit.bytes).unwrap();
    assert!(lease.is_free());
    // The vector that the format's description gives for this very slot.
    assert_eq!(lease.raw().checksum, 0xb0f1_74c0);
}

#[test]
fn geometries_in_which_value_blocks_hit_others_are_refused() {
    for align in [AlignSize::M1, AlignSize::M2, AlignSize::M4] {
        let g = Geometry::new(SectorSize::B4096, align).unwrap();
        let refused = CannotInit::LvbHitsOthers(g);
        assert_eq!(init::lockspace(g, &name("LS"), 10), Err(refused));
        assert_eq!(init::resource(g, &name("LS"), &name("R")), Err(refused));
        assert_eq!(init::rindex(g, &name("LS"), 0, 1), Err(refused));
        assert!(
            refused.to_string().contains("over the next resources"),
            "{refused}"
        );
    }
}

#[test]
fn senseless_orders_are_refused() {
    let g = Geometry::B512_M1;
    let ls = name("LS");
    assert_eq!(
        init::lockspace(g, &Name::EMPTY, 10),
        Err(CannotInit::NoName)
    );
    assert_eq!(
        init::resource(g, &ls, &Name::EMPTY),
        Err(CannotInit::NoName)
    );
    assert_eq!(init::lockspace(g, &ls, 0), Err(CannotInit::IoTimeout(0)));
    // 256 would be 0 on disk.
    assert_eq!(
        init::lockspace(g, &ls, 256),
        Err(CannotInit::IoTimeout(256))
    );
    for wanted in [0, 16_001] {
        let most = 16_000;
        let refused = Err(CannotInit::Entries { wanted, most });
        assert_eq!(init::rindex(g, &ls, 0, wanted), refused);
    }
    let offset = u64::MAX - (1 << 20);
    assert_eq!(
        init::rindex(g, &ls, offset, 1),
        Err(CannotInit::Offset(offset))
    );
}

#[test]
fn a_resource_for_few_hosts_differs_in_nothing_else() {
    let (g, ls, ra) = (Geometry::B512_M1, name("LS"), name("RA"));
    let few = init::resource_for(g, &ls, &ra, 3).unwrap();
    let mut leader = PaxosLeader::parse(&few.bytes).unwrap();
    assert_eq!((leader.num_hosts, leader.max_hosts), (3, 2000));
    leader.num_hosts = 2000;
    let mut bytes = few.bytes;
    leader.emit(&mut bytes[..512]);
    same(&bytes, &init::resource(g, &ls, &ra).unwrap().bytes);
    for wanted in [0, 2001, u64::MAX] {
        let refused = Err(CannotInit::Hosts { wanted, most: 2000 });
        assert_eq!(init::resource_for(g, &ls, &ra, wanted), refused);
    }
}
