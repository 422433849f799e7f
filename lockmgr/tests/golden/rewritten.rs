//! Each image, record by record through our types onto an empty device: it must become the same image.

use lockmgr::ondisk::{
    CLEARED_MAGIC, DeltaSlot, Found, Geometry, HostSector, LEADER_LEN, PaxosLeader, RawLeader,
    Request, RindexHeader,
};

use crate::fixtures::Fixture;

/// Copies an area record by record; returns the offsets of sectors that no record is.
fn rewrite(found: Found, old: &[u8], new: &mut [u8]) -> Vec<u64> {
    let geometry = found.geometry().expect("a geometry");
    let size = geometry.sector_bytes();
    let range = |at: u64| at as usize..at as usize + size;
    let mut refused = vec![];
    match found {
        Found::Nothing | Found::Foreign { .. } => {}
        Found::Lockspace(_) => {
            for at in geometry.hosts().map(|host| geometry.delta_slot(host)) {
                let slot = DeltaSlot::parse(&old[range(at)]).expect("a whole slot");
                slot.lease.verify_geometry(geometry).expect("same layout");
                slot.emit(&mut new[range(at)]);
            }
        }
        Found::Resource(_) | Found::Cleared(_) => {
            match found {
                Found::Cleared(raw) => {
                    assert_eq!(
                        (raw.magic, raw.checksum),
                        (CLEARED_MAGIC, raw.computed_checksum())
                    );
                    new[..LEADER_LEN].copy_from_slice(&raw.emit());
                }
                _ => PaxosLeader::parse(old)
                    .expect("a whole leader")
                    .emit(&mut new[range(0)]),
            }
            let at = geometry.request_sector();
            let request = Request::parse(&old[range(at)]).expect("a whole request");
            request.emit(&mut new[range(at)]);
            for at in geometry.hosts().map(|host| geometry.host_sector(host)) {
                match HostSector::parse(&old[range(at)]) {
                    Ok(sector) => sector.emit(&mut new[range(at)]),
                    Err(_) => refused.push(at),
                }
            }
            if let Some(at) = geometry.lvb_sector() {
                new[range(at)].copy_from_slice(&old[range(at)]);
            }
        }
        Found::Index(_) => {
            let header = RindexHeader::parse(old).expect("a whole header");
            header.emit(&mut new[range(0)]);
            for (index, entry) in header.entries(old) {
                let sector = &mut new[range(header.entry_sector(index))];
                header.put_entry(sector, index, &entry.expect("a whole entry"));
            }
        }
    }
    refused
}

/// Whether a byte of a host's sector or of a request record belongs to no field. The real program does not clear its
/// buffers, so pieces of other records show there.
fn is_unclaimed(geometry: Geometry, at: u64) -> bool {
    let (sector, byte) = (
        at / geometry.sector_bytes() as u64,
        at % geometry.sector_bytes() as u64,
    );
    match sector {
        0 => false,
        1 => byte >= 20,
        _ if sector <= geometry.max_hosts() + 1 => !matches!(byte, 0..56 | 128..132 | 136..144),
        _ => false,
    }
}

#[test]
fn images_are_rewritten_byte_for_byte() {
    let mut areas = 0;
    let mut leftovers = vec![];
    for fixture in Fixture::all() {
        let old = &fixture.bytes;
        let mut at = 0;
        while at < old.len() {
            let found = Found::at(&old[at..]).expect("a whole sector");
            let Some(geometry) = found.geometry() else {
                let end = old.len().min(at + (1 << 20));
                assert!(
                    old[at..end].iter().all(|&b| b == 0),
                    "{} at {at}",
                    fixture.name
                );
                at = end;
                continue;
            };
            let old = &old[at..at + geometry.area_bytes() as usize];
            let mut new = vec![0; old.len()];
            for sector in rewrite(found, old, &mut new) {
                // Only where the value block of another resource lies may a record be refused.
                let victim = geometry.lvb_victim().expect("no room for value blocks");
                assert_eq!(
                    sector,
                    geometry.host_sector(victim.host),
                    "{}",
                    fixture.name
                );
                let range = sector as usize..sector as usize + geometry.sector_bytes();
                new[range.clone()].copy_from_slice(&old[range]);
            }
            // Whole sectors first: comparing megabytes byte by byte is for those few that differ.
            for sector in (0..old.len()).step_by(512) {
                let range = sector..sector + 512;
                if old[range.clone()] == new[range.clone()] {
                    continue;
                }
                let is_resource = matches!(found, Found::Resource(_) | Found::Cleared(_));
                assert!(is_resource, "{} at {}", fixture.name, at + sector);
                let differing: Vec<_> = range.filter(|&i| old[i] != new[i]).collect();
                for &i in &differing {
                    assert!(
                        is_unclaimed(geometry, i as u64),
                        "{} at {}",
                        fixture.name,
                        at + i
                    );
                    assert_eq!(new[i], 0);
                }
                leftovers.push((fixture.name[..8].to_owned(), at + differing[0]));
            }
            areas += 1;
            at += old.len();
        }
    }
    assert!(areas > 200, "{areas}");
    let leftovers: Vec<_> = leftovers
        .iter()
        .map(|(name, at)| (&name[..], *at))
        .collect();
    let wanted = [
        ("s512-08-", (2 << 20) + 1024 + 56),
        ("s512-09-", (2 << 20) + 1024 + 56),
        ("s512-20-", (5 << 20) + 512 + 20),
        ("s512-21-", (5 << 20) + 512 + 20),
        ("s512-22-", (5 << 20) + 512 + 20),
        ("s512-23-", (5 << 20) + 512 + 20),
        ("sid512-0", (2 << 20) + 1536 + 132),
    ];
    assert_eq!(leftovers, wanted);
}

#[test]
fn every_leader_in_the_images_sums_to_its_checksum() {
    for fixture in Fixture::all() {
        let Some(Found::Lockspace(first)) = Found::at(&fixture.bytes) else {
            panic!("{} begins with a lockspace", fixture.name);
        };
        assert_eq!(first.summed(), first, "{}", fixture.name);
        let geometry = first.geometry().expect("a geometry");
        assert!(
            [Geometry::B512_M1, Geometry::B4096_M8].contains(&geometry)
                || fixture.name.starts_with("s4k1m")
        );
        let last = geometry.hosts().last().expect("a host");
        let last = RawLeader::read(&fixture.bytes[geometry.delta_slot(last) as usize..]);
        assert!(last.is_some_and(|leader| leader.summed() == leader));
    }
}
