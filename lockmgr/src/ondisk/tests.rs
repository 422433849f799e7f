//! Every record survives a round trip, no bytes make a parser panic, and no single damaged byte under a checksum is
//! accepted.

use proptest::array::{uniform, uniform32};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn any_geometry() -> impl Strategy<Value = Geometry> {
    proptest::sample::select(&Geometry::ALL[..])
}

fn any_host() -> impl Strategy<Value = HostId> {
    (1..=HostId::MAX.number()).prop_map(|number| HostId::new(number).expect("in range"))
}

fn any_name() -> impl Strategy<Value = Name> {
    uniform::<_, NAME_LEN>(any::<u8>()).prop_map(Name::from_disk)
}

fn real_name() -> impl Strategy<Value = Name> {
    "[a-zA-Z0-9._-]{1,48}".prop_map(|text| Name::new(&text).expect("it fits"))
}

/// The align bit of the geometry, or none where the geometry is what none means.
fn align_flag(geometry: Geometry, stated: bool) -> LeaderFlags {
    match stated || geometry != Geometry::default_for(geometry.sector()) {
        true => LeaderFlags::of_align(geometry.align()),
        false => LeaderFlags::default(),
    }
}

prop_compose! {
    fn any_delta()(
        geometry in any_geometry(),
        stated: bool,
        five: bool,
        flags_5 in 0u32..8,
        minor: u16,
        space_name in any_name(),
        host_name in any_name(),
        numbers in uniform::<_, 7>(any::<u64>()),
        io_timeout: u16,
        called in vec(any_host(), 0..6),
    ) -> DeltaSlot {
        let [owner_id, owner_generation, timestamp, dead_ext_by, generation, number, data] = numbers;
        let (major, more) = if five { (5, LeaderFlags(flags_5 << 1)) } else { (3, LeaderFlags::default()) };
        let mut notify = HostSet::EMPTY;
        for host in called {
            notify.insert(host);
        }
        DeltaSlot {
            lease: DeltaLease {
                version: Version { major, minor },
                flags: align_flag(geometry, stated).with(more),
                geometry,
                owner_id,
                owner_generation,
                space_name,
                host_name,
                timestamp,
                dead_ext_by,
                io_timeout,
                event: Event { generation, number, data },
            },
            notify,
        }
    }
}

prop_compose! {
    fn any_paxos()(
        (geometry, max_hosts, num_hosts) in any_geometry().prop_flat_map(|g| {
            (1..=g.max_hosts()).prop_flat_map(move |max| (Just(g), Just(max), 1..=max))
        }),
        stated: bool,
        seven: bool,
        short_hold: bool,
        caw: bool,
        minor: u16,
        space_name in any_name(),
        resource_name in any_name(),
        numbers in uniform::<_, 8>(any::<u64>()),
    ) -> PaxosLeader {
        let [owner_id, owner_generation, lver, timestamp, unused1, a, b, c] = numbers;
        let mut flags = align_flag(geometry, stated);
        if short_hold {
            flags = flags.with(LeaderFlags::SHORT_HOLD);
        }
        if caw && seven {
            flags = flags.with(LeaderFlags::CAW);
        }
        PaxosLeader {
            version: Version { major: if seven { 7 } else { 6 }, minor },
            flags,
            geometry,
            num_hosts,
            max_hosts,
            owner_id,
            owner_generation,
            lver,
            space_name,
            resource_name,
            timestamp,
            unused1,
            write_id: a,
            write_generation: b,
            write_timestamp: c,
        }
    }
}

fn any_dblock() -> impl Strategy<Value = Dblock> {
    let voted = (uniform::<_, 6>(any::<u64>()), any::<u32>());
    prop_oneof![
        Just(Dblock::Empty),
        voted.prop_map(|([mbal, bal, inp, inp2, inp3, lver], flags)| {
            let ballot = BallotBlock {
                mbal,
                bal,
                inp,
                inp2,
                inp3,
                lver,
            };
            Dblock::Voted { ballot, flags }
        }),
    ]
}

/// Bytes that a sector could have: noise, and noise behind each magic so that parsers get past it.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let magics = [
        DELTA_MAGIC,
        PAXOS_MAGIC,
        CLEARED_MAGIC,
        RINDEX_MAGIC,
        0x0829_2011,
    ];
    let versions = [
        0x0003_0004u32,
        0x0005_0000,
        0x0006_0004,
        0x0007_0000,
        0x0001_0002,
    ];
    let start = (
        proptest::sample::select(magics.to_vec()),
        proptest::sample::select(versions.to_vec()),
        0u32..0x200,
        prop_oneof![Just(512u32), Just(4096), any::<u32>()],
    );
    let noise = vec(any::<u8>(), 0..6000);
    (proptest::option::of(start), noise, any::<bool>()).prop_map(|(start, mut bytes, summed)| {
        let Some((magic, version, flags, size)) = start else {
            return bytes;
        };
        for (field, number) in bytes.chunks_exact_mut(4).zip([magic, version, flags, size]) {
            field.copy_from_slice(&number.to_le_bytes());
        }
        if summed && bytes.len() >= LEADER_LEN {
            let sum = checksum(&bytes[..168]);
            bytes[168..172].copy_from_slice(&sum.to_le_bytes());
        }
        bytes
    })
}

proptest! {
    #[test]
    fn any_two_hundred_bytes_are_a_raw_leader(bytes in vec(any::<u8>(), LEADER_LEN)) {
        let leader = RawLeader::read(&bytes).expect("enough bytes");
        prop_assert_eq!(&leader.emit()[..], &bytes[..]);
        let summed = leader.summed();
        prop_assert_eq!(summed.checksum, checksum(&summed.emit()[..168]));
    }

    #[test]
    fn delta_slots_come_back(slot in any_delta()) {
        let mut sector = vec![0xff; slot.lease.geometry.sector_bytes()];
        slot.emit(&mut sector);
        let found = DeltaSlot::parse(&sector).expect("what we write we read");
        prop_assert_eq!(found, slot);
        // Bytes behind the NUL of a name count for the checksum though not for its meaning.
        prop_assert_eq!(found.lease.raw().emit(), slot.lease.raw().emit());
    }

    #[test]
    fn leaders_come_back(leader in any_paxos()) {
        let mut sector = vec![0xff; leader.geometry.sector_bytes()];
        leader.emit(&mut sector);
        let found = PaxosLeader::parse(&sector).expect("what we write we read");
        prop_assert_eq!(found, leader);
        prop_assert_eq!(found.raw().emit(), leader.raw().emit());
    }

    #[test]
    fn damage_under_the_checksum_is_found(
        leader in any_paxos(),
        at in 0usize..168,
        change in 1u8..=255,
    ) {
        let mut sector = vec![0; leader.geometry.sector_bytes()];
        leader.emit(&mut sector);
        sector[at] ^= change;
        prop_assert!(PaxosLeader::parse(&sector).is_err());
    }

    #[test]
    fn host_sectors_come_back(
        dblock in any_dblock(),
        flags: u32,
        generation: u64,
        damaged in 0usize..52,
        change in 1u8..=255,
    ) {
        let sector = HostSector { dblock, mode: ModeBlock { flags, generation } };
        let mut bytes = [0xff; 512];
        sector.emit(&mut bytes);
        prop_assert_eq!(HostSector::parse(&bytes), Ok(sector));
        bytes[damaged] ^= change;
        let unsummed = dblock == Dblock::Empty && (24..40).contains(&damaged);
        prop_assert_eq!(HostSector::parse(&bytes).is_ok(), unsummed);
        prop_assert_eq!(HostSector::mode_unverified(&bytes), Some(sector.mode));
    }

    #[test]
    fn requests_come_back(lver: u64, mode in 0u32..3, minor: u16) {
        let version = Version { major: 1, minor };
        let force_mode = ForceMode::from_disk(mode).expect("one of three");
        let request = Request { version, lver, force_mode };
        let mut sector = [0xff; 512];
        request.emit(&mut sector);
        prop_assert_eq!(Request::parse(&sector), Ok(request));
    }

    #[test]
    fn indexes_come_back(
        geometry in any_geometry(),
        offset in 0..u64::MAX / 2,
        space_name in any_name(),
        seed: u32,
        place: u32,
        name in real_name(),
        flags: u32,
    ) {
        let max_resources = 1 + seed % max_entries(geometry);
        let version = Version::RINDEX_1_2;
        let header = RindexHeader { version, geometry, max_resources, offset, space_name };
        let mut area = vec![0; geometry.area_bytes() as usize];
        header.emit(&mut area[..geometry.sector_bytes()]);
        prop_assert_eq!(RindexHeader::parse(&area), Ok(header));

        let index = place % max_resources;
        let entry = RindexEntry::Used { name, flags };
        let at = header.entry_sector(index) as usize;
        header.put_entry(&mut area[at..at + geometry.sector_bytes()], index, &entry);
        for other in [0, index.saturating_sub(1), index, (index + 1).min(max_resources - 1)] {
            let wanted = if other == index { entry } else { RindexEntry::Free };
            prop_assert_eq!(header.entry(&area, other), Ok(wanted));
        }
        prop_assert_eq!(RindexHeader::parse(&area), Ok(header));
    }

    #[test]
    fn host_sets_hold_what_was_put_in(mut hosts in vec(any_host(), 0..40), out in any_host()) {
        let mut set = HostSet::EMPTY;
        for &host in &hosts {
            set.insert(host);
        }
        set.remove(out);
        hosts.retain(|&host| host != out);
        hosts.sort_unstable();
        hosts.dedup();
        prop_assert_eq!(set.iter().collect::<Vec<_>>(), hosts.clone());
        prop_assert_eq!(set.is_empty(), hosts.is_empty());
        prop_assert!(hosts.iter().all(|&host| set.contains(host)));
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in any_bytes(), offset: u64, noise in uniform32(any::<u8>())) {
        let refused = [
            DeltaSlot::parse(&bytes).err(),
            DeltaLease::parse(&bytes).err(),
            PaxosLeader::parse(&bytes).err(),
            Request::parse(&bytes).err(),
            HostSector::parse(&bytes).err(),
            RindexHeader::parse(&bytes).err(),
            DeltaSlot::parse(&noise).err(),
        ];
        for bad in refused.into_iter().flatten() {
            prop_assert!(bad.at(offset).to_string().contains("refused"));
        }
        let found = Found::at(&bytes);
        prop_assert_eq!(found.is_none(), bytes.len() < LEADER_LEN);
        let _text = Dump::of(&bytes, offset).to_string();
    }

    #[test]
    fn whatever_is_accepted_comes_back_in_its_meaning(bytes in any_bytes()) {
        if let Ok(slot) = DeltaSlot::parse(&bytes) {
            let mut sector = vec![0; slot.lease.geometry.sector_bytes()];
            slot.emit(&mut sector);
            prop_assert_eq!(DeltaSlot::parse(&sector), Ok(slot));
        }
        if let Ok(leader) = PaxosLeader::parse(&bytes) {
            prop_assert!(leader.max_hosts >= 1 && leader.num_hosts <= leader.geometry.max_hosts());
        }
    }
}
