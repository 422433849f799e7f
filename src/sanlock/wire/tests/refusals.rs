//! Which error of the lease machines is which number.

use std::collections::BTreeSet;

use lockmgr::ondisk::{
    BadRecord, CLEARED_MAGIC, CannotJoin, Geometry, HostId, HostSector, LeaderFlags, Name,
    PAXOS_MAGIC, PaxosLeader, RawLeader, Record, Request, RindexHeader, Version,
};
use lockmgr::{JoinError, LeaseError};

use super::super::result::Refusal;

fn host() -> HostId {
    HostId::new(7).expect("a host")
}

#[test]
fn errors_of_leases_have_the_numbers_that_clients_act_on() {
    let caw = CannotJoin::CompareAndWrite(Record::PaxosLeader);
    let table = [
        (
            LeaseError::HeldBy {
                host: 2,
                generation: 3,
            },
            -243,
        ),
        (
            LeaseError::OwnerSilent {
                host: 2,
                generation: 3,
            },
            -247,
        ),
        (LeaseError::OwnerNeverDies { host: 2 }, -249),
        (
            LeaseError::SharedBy {
                host: host(),
                generation: 1,
            },
            -11,
        ),
        (LeaseError::Contended, -244),
        (LeaseError::Io, -202),
        (LeaseError::LockspaceLost, -28),
        (LeaseError::NotJoined, -28),
        (LeaseError::Cancelled, -116),
        (LeaseError::Taken, -251),
        (LeaseError::NotExclusive, -22),
        (LeaseError::NoRoomForLvb, -7),
        (LeaseError::Busy, -16),
        (LeaseError::AlreadyHeld, -17),
        (LeaseError::NotHeld, -1),
        (LeaseError::Cannot(caw), -224),
    ];
    for (error, number) in table {
        assert_eq!(Refusal::from(error).value(), number, "{error:?}");
    }
    let name = Name::new("other").expect("a name");
    let table = [
        (JoinError::HostIdBusy { name }, -262),
        (JoinError::SlotTaken, -262),
        (JoinError::Io, -202),
        (JoinError::GateShut, -203),
        (JoinError::Cannot(caw), -224),
    ];
    for (error, number) in table {
        assert_eq!(Refusal::from(error).value(), number, "{error:?}");
    }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn leader() -> RawLeader {
    RawLeader {
        magic: PAXOS_MAGIC,
        version: Version::from_disk(0x0006_0004),
        flags: LeaderFlags::ALIGN_1M,
        sector_size: 512,
        num_hosts: 2000,
        max_hosts: 2000,
        owner_id: 0,
        owner_generation: 0,
        lver: 0,
        space_name: name("LS"),
        resource_name: name("RA"),
        timestamp: 0,
        unused1: 0,
        checksum: 0,
        unused2: 0,
        io_timeout: 0,
        write_id: 0,
        write_generation: 0,
        write_timestamp: 0,
    }
}

/// The number of a leader with this change, read as the one of RA in LS by host 7.
fn refused(change: impl FnOnce(&mut RawLeader)) -> i32 {
    let mut raw = leader();
    change(&mut raw);
    number(&raw.summed())
}

fn number(raw: &RawLeader) -> i32 {
    let mut sector = raw.emit().to_vec();
    sector.resize(512, 0);
    let bad = parsed(&sector).expect_err("something is wrong with it");
    assert_eq!(Refusal::from(JoinError::Bad(bad)), Refusal::from(bad));
    Refusal::from(LeaseError::Bad(bad)).value()
}

fn parsed(sector: &[u8]) -> Result<(), BadRecord> {
    let leader = PaxosLeader::parse(sector)?;
    leader.verify_names(&name("LS"), &name("RA"))?;
    leader.verify_host(host())?;
    leader.verify_geometry(Geometry::B512_M1)
}

#[test]
fn what_is_wrong_with_a_leader_has_its_number() {
    let mut sector = leader().summed().emit().to_vec();
    sector.resize(512, 0);
    assert_eq!(parsed(&sector), Ok(()));
    assert_eq!(refused(|raw| raw.magic = 0), -223);
    assert_eq!(refused(|raw| raw.magic = CLEARED_MAGIC), -223);
    assert_eq!(refused(|raw| raw.version.major = 9), -224);
    assert_eq!(refused(|raw| raw.flags = LeaderFlags::CAW), -224);
    assert_eq!(refused(|raw| raw.sector_size = 1024), -225);
    assert_eq!(refused(|raw| raw.space_name = name("LT")), -226);
    assert_eq!(refused(|raw| raw.resource_name = name("RB")), -227);
    assert_eq!(refused(|raw| raw.num_hosts = 6), -228);
    assert_eq!(refused(|raw| raw.num_hosts = 0), -228);
    assert_eq!(number(&leader()), -229, "its sum is missing");
}

#[test]
fn what_is_wrong_elsewhere_has_its_number() {
    let dblock = HostSector::parse(&[1; 512]).expect_err("no sum");
    assert_eq!(Refusal::from(dblock).value(), -214);
    let request = Request::parse(&[0; 512]).expect_err("no magic");
    assert_eq!(Refusal::from(request).value(), -270);
    let index = RindexHeader::parse(&[0; 512]).expect_err("no magic");
    assert_eq!(Refusal::from(index).value(), -274);
}

#[test]
fn no_two_refusals_share_a_number() {
    let numbers: BTreeSet<i32> = Refusal::ALL.iter().map(|r| r.value()).collect();
    assert_eq!(numbers.len(), Refusal::ALL.len());
    assert!(numbers.iter().all(|&number| number < 0));
}
