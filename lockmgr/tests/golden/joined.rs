//! Areas of sanlock 5: which we take part in, and by which rules.

use lockmgr::ondisk::{
    CannotJoin, DeadExt, Death, DeltaLease, Geometry, HostId, LeaderFlags, PaxosLeader, Problem,
    Record, Version,
};

use crate::fixtures::Fixture;

fn slot(fixture: &Fixture, host: u64) -> DeltaLease {
    let host = HostId::new(host).expect("a host");
    let at = Geometry::B512_M1.delta_slot(host) as usize;
    DeltaLease::parse(&fixture.bytes[at..]).expect("a whole lease")
}

/// The record with other flags, as a sanlock 5 would sum it.
fn with_flags(lease: &DeltaLease, flags: LeaderFlags) -> Vec<u8> {
    let mut raw = lease.raw();
    raw.flags = raw.flags.with(flags);
    raw.summed().emit().to_vec()
}

#[test]
fn areas_of_version_5_are_joined() {
    let fixture = Fixture::load("sid512-01-init");
    let free = slot(&fixture, 1);
    assert_eq!(free.version, Version::DELTA_5_0);
    assert_eq!((free.joinable(), free.death()), (Ok(()), Death::OnTimeout));
    let leader = PaxosLeader::parse(&fixture.bytes[1 << 20..]).unwrap();
    assert_eq!(leader.version, Version::PAXOS_7_0);
    assert_eq!(leader.joinable(), Ok(()));
}

#[test]
fn dead_ext_is_the_word_of_one_host_about_one_generation() {
    let fixture = Fixture::load("sid512-06-dead-ext-gens");
    let dead = slot(&fixture, 1);
    let by = DeadExt {
        host: 2,
        generation_low: 3,
    };
    assert_eq!((dead.dead_ext(), dead.owner_generation), (Some(by), 9));
    assert_eq!(dead.joinable(), Ok(()));
    // The next acquisition clears the flag and keeps who set it.
    let fixture = Fixture::load("sid512-07-rejoined-after-dead-ext");
    let rejoined = slot(&fixture, 1);
    assert_eq!((rejoined.dead_ext(), rejoined.owner_generation), (None, 10));
    assert_eq!(DeadExt::from_disk(rejoined.dead_ext_by), by);
    assert_eq!(by.to_disk(), rejoined.dead_ext_by);
}

#[test]
fn no_timeout_hosts_die_by_declaration_only() {
    let lease = slot(&Fixture::load("sid512-08-no-timeout-and-caw"), 3);
    assert!(lease.flags.contains(LeaderFlags::NO_TIMEOUT) && !lease.is_free());
    assert_eq!(
        (lease.death(), lease.joinable()),
        (Death::OnDeclaration, Ok(()))
    );
}

#[test]
fn compare_and_write_is_refused_with_a_sentence() {
    // Slots that the real program made with the flag: alone, and beside NO_TIMEOUT.
    for (fixture, host) in [
        ("sid512-05-after", 9),
        ("sid512-08-no-timeout-and-caw", 4),
        ("sid512-08-no-timeout-and-caw", 5),
    ] {
        let lease = slot(&Fixture::load(fixture), host);
        let refused = lease.joinable().unwrap_err();
        assert_eq!(refused, CannotJoin::CompareAndWrite(Record::DeltaLease));
        let sentence = refused.to_string();
        assert!(
            sentence.starts_with("this delta lease may be changed by SCSI"),
            "{sentence}"
        );
    }
    // The flag is the host's own: the slots beside it are as any other.
    let beside = slot(&Fixture::load("sid512-08-no-timeout-and-caw"), 1);
    assert_eq!(
        (beside.death(), beside.joinable()),
        (Death::OnTimeout, Ok(()))
    );

    let fixture = Fixture::load("sid512-01-init");
    let mut raw = PaxosLeader::parse(&fixture.bytes[1 << 20..]).unwrap().raw();
    raw.flags = raw.flags.with(LeaderFlags::CAW);
    let leader = PaxosLeader::parse(&raw.summed().emit()).unwrap();
    let refused = Err(CannotJoin::CompareAndWrite(Record::PaxosLeader));
    assert_eq!(leader.joinable(), refused);
}

#[test]
fn flags_that_a_version_does_not_have_are_damage() {
    let lease = slot(&Fixture::load("s512-03-host1-joined"), 1);
    assert_eq!(lease.version, Version::DELTA_3_4);
    for flag in [
        LeaderFlags::SHORT_HOLD,
        LeaderFlags::NO_TIMEOUT,
        LeaderFlags::DEAD_EXT,
        LeaderFlags::CAW,
        LeaderFlags(0x100),
    ] {
        let refused = DeltaLease::parse(&with_flags(&lease, flag)).unwrap_err();
        let (found, unknown) = (0x10 | flag.0, flag.0);
        assert_eq!(refused.problem, Problem::Flags { found, unknown });
        assert_eq!((refused.field.name, refused.offset), ("flags", 8));
    }
}

#[test]
fn versions_that_nobody_described_are_refused() {
    let lease = slot(&Fixture::load("s512-03-host1-joined"), 1);
    for major in [0, 2, 4, 6, 0xffff] {
        let mut raw = lease.raw();
        raw.version.major = major;
        let refused = DeltaLease::parse(&raw.summed().emit())
            .unwrap_err()
            .at(4096);
        let found = Version { major, minor: 4 };
        assert_eq!(refused.problem, Problem::Version { found });
        assert_eq!(
            refused.to_string(),
            format!("delta lease refused: version at byte 4100: unknown version {major}.4")
        );
    }
    // A minor says nothing about the layout.
    let mut raw = lease.raw();
    raw.version.minor = 9;
    assert!(DeltaLease::parse(&raw.summed().emit()).is_ok());
}
