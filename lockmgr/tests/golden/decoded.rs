//! Every field of every structure, beside what an independent decoder reads.

use lockmgr::ondisk::{
    BadRecord, DELTA_MAGIC, DeltaSlot, Dump, Geometry, HostId, HostSector, LeaderFlags, Name,
    PAXOS_MAGIC, PaxosLeader, Problem, RawLeader, Request, RindexEntry, RindexHeader, Version,
};
use serde_json::Value;

use crate::fixtures::{self, Fixture};

fn number(value: &Value, key: &str) -> u64 {
    value[key]
        .as_u64()
        .unwrap_or_else(|| panic!("{key} is a number in {value}"))
}

fn small<T: TryFrom<u64, Error: std::fmt::Debug>>(value: &Value, key: &str) -> T {
    T::try_from(number(value, key)).unwrap_or_else(|e| panic!("{key} in {value}: {e:?}"))
}

fn name(value: &Value, key: &str) -> Name {
    Name::new(value[key].as_str().expect("a name")).expect("it fits")
}

fn leader(value: &Value) -> RawLeader {
    RawLeader {
        magic: small(value, "magic"),
        version: Version::from_disk(small(value, "version")),
        flags: LeaderFlags(small(value, "flags")),
        sector_size: small(value, "sector_size"),
        num_hosts: number(value, "num_hosts"),
        max_hosts: number(value, "max_hosts"),
        owner_id: number(value, "owner_id"),
        owner_generation: number(value, "owner_generation"),
        lver: number(value, "lver"),
        space_name: name(value, "space_name"),
        resource_name: name(value, "resource_name"),
        timestamp: number(value, "timestamp"),
        unused1: number(value, "unused1"),
        checksum: small(value, "checksum"),
        unused2: small(value, "unused2"),
        io_timeout: small(value, "io_timeout"),
        write_id: number(value, "write_id"),
        write_generation: number(value, "write_generation"),
        write_timestamp: number(value, "write_timestamp"),
    }
}

fn geometry_of(structure: &Value, leader: &RawLeader) -> Geometry {
    let geometry = leader.geometry().expect("a geometry");
    assert_eq!(
        geometry.sector_bytes() as u64,
        number(structure, "sector_size")
    );
    assert_eq!(geometry.area_bytes(), number(structure, "align"));
    geometry
}

/// Slots and their fields; returns how many there were.
fn check_lockspace(area: &[u8], structure: &Value) -> usize {
    let slots = structure["slots"].as_array().expect("slots");
    for slot in slots {
        let host = HostId::new(number(slot, "_slot")).expect("a host");
        let wanted = leader(slot);
        let geometry = geometry_of(structure, &wanted);
        let bytes = &area[geometry.delta_slot(host) as usize..][..geometry.sector_bytes()];
        assert_eq!(RawLeader::read(bytes), Some(wanted));
        let found = DeltaSlot::parse(bytes).expect("a whole slot");
        assert_eq!(found.lease.raw(), wanted);
        let called: Vec<u64> = found.notify.iter().map(HostId::number).collect();
        let wanted: Vec<u64> = slot["bitmap_host_ids"]
            .as_array()
            .expect("host ids")
            .iter()
            .map(|id| id.as_u64().expect("a host id"))
            .collect();
        assert_eq!(called, wanted);
    }
    slots.len()
}

fn check_resource(area: &[u8], structure: &Value) -> Vec<(HostId, BadRecord)> {
    let wanted = leader(&structure["leader"]);
    let geometry = geometry_of(structure, &wanted);
    assert_eq!(RawLeader::read(area), Some(wanted));
    match structure["kind"].as_str() {
        Some("paxos_cleared") => {
            let refused = PaxosLeader::parse(area).expect_err("it was deleted");
            assert_eq!(
                (refused.problem, refused.field.name),
                (Problem::Cleared, "magic")
            );
        }
        _ => assert_eq!(PaxosLeader::parse(area).expect("whole").raw(), wanted),
    }
    let request = Request::parse(&area[geometry.request_sector() as usize..]).expect("whole");
    let wanted = &structure["request"];
    assert_eq!(
        u64::from(request.version.to_disk()),
        number(wanted, "version")
    );
    assert_eq!(request.lver, number(wanted, "lver"));
    assert_eq!(
        u64::from(request.force_mode.to_disk()),
        number(wanted, "force_mode")
    );

    let hosts = structure["hosts"].as_object().expect("hosts");
    let mut damaged = vec![];
    for host in geometry.hosts() {
        let bytes = &area[geometry.host_sector(host) as usize..][..geometry.sector_bytes()];
        let found = match HostSector::parse(bytes) {
            Ok(found) => found,
            Err(bad) => {
                assert_eq!(hosts[&host.to_string()]["crc_ok"], false);
                damaged.push((host, bad));
                continue;
            }
        };
        let Some(wanted) = hosts.get(&host.to_string()) else {
            assert_eq!(found, HostSector::default(), "host {host}");
            continue;
        };
        assert_eq!(wanted["crc_ok"], true);
        let ballot = found.dblock.ballot().copied().unwrap_or_default();
        assert_eq!(
            [
                ballot.mbal,
                ballot.bal,
                ballot.inp,
                ballot.inp2,
                ballot.inp3,
                ballot.lver
            ],
            ["mbal", "bal", "inp", "inp2", "inp3", "lver"].map(|key| number(wanted, key))
        );
        assert_eq!(
            u64::from(found.dblock.is_released()),
            number(wanted, "flags")
        );
        assert_eq!(u64::from(found.mode.flags), number(wanted, "mode_flags"));
        assert_eq!(found.mode.generation, number(wanted, "mode_generation"));
    }
    damaged
}

fn check_index(area: &[u8], structure: &Value) {
    let header = RindexHeader::parse(area).expect("a whole header");
    let offset = number(structure, "offset");
    header
        .verify(offset, &name(structure, "lockspace_name"))
        .expect("the index of this place");
    assert_eq!(
        u64::from(header.version.to_disk()),
        number(structure, "version")
    );
    assert_eq!(
        u64::from(header.max_resources),
        number(structure, "max_resources")
    );
    assert_eq!(number(structure, "flags"), 1);
    assert_eq!(header.geometry, Geometry::B512_M1);
    let found: Vec<_> = header
        .entries(area)
        .map(|(index, entry)| (index, entry.expect("a whole entry")))
        .filter_map(|(index, entry)| match entry {
            RindexEntry::Free => None,
            RindexEntry::Used { name, flags } => Some((
                u64::from(index),
                header.resource_offset(index),
                u64::from(flags),
                name,
            )),
        })
        .collect();
    let wanted: Vec<_> = structure["entries"]
        .as_array()
        .expect("entries")
        .iter()
        .map(|entry| {
            (
                number(entry, "index"),
                entry["res_offset"].as_u64(),
                number(entry, "flags"),
                name(entry, "name"),
            )
        })
        .collect();
    assert_eq!(found, wanted);
}

#[test]
fn every_structure_reads_as_the_other_decoder_says() {
    let mut slots = 0;
    let mut structures = 0;
    let mut damaged = vec![];
    for fixture in Fixture::all() {
        for structure in fixture.expected() {
            let offset = number(&structure, "offset");
            let area = &fixture.bytes[offset as usize..];
            match structure["kind"].as_str().expect("a kind") {
                "delta_lockspace" => slots += check_lockspace(area, &structure),
                "paxos_resource" | "paxos_cleared" => {
                    for (host, bad) in check_resource(area, &structure) {
                        damaged.push((fixture.name.clone(), offset, host.number(), bad));
                    }
                }
                "rindex" => check_index(area, &structure),
                other => panic!("{}: what is {other}?", fixture.name),
            }
            structures += 1;
        }
    }
    assert!(structures > 200 && slots > 80, "{structures} {slots}");
    // The one record in all images that is damaged: a value block of RA lies on it.
    let places: Vec<_> = damaged
        .iter()
        .map(|(image, offset, host, bad)| (&image[..8], *offset, *host, bad.field.name))
        .collect();
    assert_eq!(
        places,
        [
            ("s4k1m-04", 8 << 20, 209, "checksum"),
            ("s4k1m-05", 8 << 20, 209, "checksum")
        ]
    );
}

#[test]
fn the_value_block_that_hit_another_resource_is_known_by_its_victim() {
    let fixture = Fixture::load("s4k1m-04-RA-released-lvb");
    let start = 1 << 20;
    let Dump::Resource(resource) = Dump::of(&fixture.bytes[start..], start as u64) else {
        panic!("RA is a resource");
    };
    let victim = resource.geometry.lvb_victim().expect("no room for it");
    let hit = resource.offset
        + victim.areas_on * resource.geometry.area_bytes()
        + resource.geometry.host_sector(victim.host);
    let bytes = &fixture.bytes[hit as usize..][..4096];
    assert!(bytes.starts_with(b"LVB-4k-content-0123456789"));
    assert!(HostSector::parse(bytes).is_err());
}

/// Of this device only the decoding was kept: its records must sum to the sums that were on it.
#[test]
fn records_of_a_device_that_was_not_kept_have_their_sums() {
    let mut sums = 0;
    for structure in fixtures::expected("lvm-4096-after-lvcreate-lvremove") {
        let leaders: Vec<&Value> = match structure["slots"].as_array() {
            Some(slots) => slots.iter().collect(),
            None => vec![&structure["leader"]],
        };
        for value in leaders {
            let wanted = leader(value);
            assert_eq!(wanted.computed_checksum(), wanted.checksum);
            assert_eq!(geometry_of(&structure, &wanted), Geometry::B4096_M8);
            let mut sector = [0; 4096];
            sector[..200].copy_from_slice(&wanted.emit());
            match wanted.magic {
                DELTA_MAGIC => {
                    DeltaSlot::parse(&sector).expect("whole");
                }
                PAXOS_MAGIC => {
                    PaxosLeader::parse(&sector).expect("whole");
                }
                other => panic!("magic {other:#x}"),
            }
            sums += 1;
        }
    }
    assert!(sums >= 3, "{sums}");
}
