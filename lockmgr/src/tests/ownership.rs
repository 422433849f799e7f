//! Who owns a lease: alone, with others, after the dead, after a fence, by no order that makes no sense.

use super::room::{AREA, LEASE, Room, host_id, name};
use crate::contract::{LeaseId, Note, Order};
use crate::gate::Permission;
use crate::ondisk::{BallotBlock, DBLOCK_RELEASED, Geometry, LeaderFlags, PaxosLeader, Version};
use crate::paxos::{LeaseError, Mode, OnOwner};
use crate::time::Instant;
use crate::{HostState, LostWhy};

#[test]
fn exclusive_is_refused_to_others_and_handed_over() {
    let mut room = Room::new();
    let (one, two) = (room.member(1), room.member(2));
    room.pass(40);
    room.holds(one, Mode::Exclusive);
    assert_eq!((room.leader().owner_id, room.leader().lver), (1, 1));
    room.acquire(two, Mode::Shared, OnOwner::Refuse);
    let held = LeaseError::HeldBy {
        host: 1,
        generation: 1,
    };
    assert_eq!(room.error(two), held);
    room.order(
        one,
        Order::Release {
            id: LEASE,
            lvb: None,
        },
    );
    assert!(matches!(room.note(one), Note::Released { .. }));
    let leader = room.leader();
    assert!(
        leader.is_free() && leader.owner_id == 1,
        "owner and version stay"
    );
    room.holds(two, Mode::Exclusive);
    assert_eq!((room.leader().owner_id, room.leader().lver), (2, 2));
}

/// A value that was accepted in ballot `mbal` for this version.
fn accepted(lver: u64, mbal: u64, host: u64) -> BallotBlock {
    BallotBlock {
        mbal,
        bal: mbal,
        inp: host,
        inp2: 1,
        inp3: 1000,
        lver,
    }
}

/// In an earlier life host 1 accepted that host 2 owns version 1, and stopped before it wrote that.
#[test]
fn what_was_accepted_binds_though_the_first_read_fails() {
    let mut room = Room::new();
    let (one, _two) = (room.member(1), room.member(2));
    room.pass(40);
    room.put_voted(1, accepted(1, 2001, 2), 0);
    room.hosts[one].blind = true;
    room.acquire(one, Mode::Exclusive, OnOwner::Refuse);
    room.pass(2);
    let held = LeaseError::HeldBy {
        host: 2,
        generation: 1,
    };
    assert_eq!(room.error(one), held);
    assert_eq!((room.leader().owner_id, room.leader().lver), (2, 1));
}

/// An earlier attempt of host 1 was given up after it had proposed itself for version 1, and took that back. Others may have seen
/// either.
#[test]
fn what_an_attempt_gave_back_the_next_one_does_not_keep() {
    let mut room = Room::new();
    let one = room.member(1);
    room.put_voted(1, accepted(1, 2001, 1), DBLOCK_RELEASED);
    room.holds(one, Mode::Exclusive);
    assert_eq!((room.leader().owner_id, room.leader().lver), (1, 2));
}

/// Host 3 wrote version 6 for host 2, which had let go of it before that, and has begun a ballot for version 7 since: that took the
/// place of its RELEASED.
#[test]
fn an_owner_that_has_gone_on_has_let_go() {
    let mut room = Room::new();
    let (one, _two) = (room.member(1), room.member(2));
    room.pass(40);
    let leader = PaxosLeader {
        owner_id: 2,
        owner_generation: 1,
        lver: 6,
        timestamp: 1000,
        write_id: 3,
        ..room.leader()
    };
    room.put_leader(&leader);
    room.put_voted(2, accepted(6, 2002, 2), 0);
    room.acquire(one, Mode::Exclusive, OnOwner::Refuse);
    let held = LeaseError::HeldBy {
        host: 2,
        generation: 1,
    };
    assert_eq!(room.error(one), held, "it may not know yet that it owns it");
    room.put_voted(2, accepted(6, 2002, 2), DBLOCK_RELEASED);
    room.holds(one, Mode::Exclusive);
    let mut room = Room::new();
    let (one, _two) = (room.member(1), room.member(2));
    room.pass(40);
    room.put_leader(&leader);
    let begun = BallotBlock {
        mbal: 4002,
        lver: 7,
        ..BallotBlock::default()
    };
    room.put_voted(2, begun, 0);
    room.holds(one, Mode::Exclusive);
    assert_eq!((room.leader().owner_id, room.leader().lver), (1, 7));
}

/// While host 1 decides version 1 for itself another host writes that version, for host 2, which has let go of it since.
#[test]
fn a_leader_that_is_there_is_not_written_again() {
    let mut room = Room::new();
    let one = room.member(1);
    let leader = PaxosLeader {
        owner_id: 2,
        owner_generation: 1,
        lver: 1,
        timestamp: 0,
        write_id: 2,
        ..room.leader()
    };
    let mut bytes = vec![0; 512];
    leader.emit(&mut bytes);
    // After its ballot and its value.
    room.intruder = Some((2, AREA, bytes));
    room.holds(one, Mode::Exclusive);
    assert_eq!((room.leader().owner_id, room.leader().lver), (1, 2));
}

#[test]
fn shared_by_two_and_exclusive_by_neither_until_one_lets_go() {
    let mut room = Room::new();
    let (one, two) = (room.member(1), room.member(2));
    room.pass(40);
    room.holds(one, Mode::Shared);
    room.holds(two, Mode::Shared);
    assert!(room.leader().is_free());
    let exclusive = Order::Convert {
        id: LEASE,
        mode: Mode::Exclusive,
        lvb: None,
    };
    room.order(one, exclusive);
    let shared = LeaseError::SharedBy {
        host: host_id(2),
        generation: 1,
    };
    assert_eq!(room.error(one), shared);
    room.order(
        two,
        Order::Release {
            id: LEASE,
            lvb: None,
        },
    );
    room.notes(two);
    let exclusive = Order::Convert {
        id: LEASE,
        mode: Mode::Exclusive,
        lvb: None,
    };
    room.order(one, exclusive);
    assert!(matches!(
        room.note(one),
        Note::Converted {
            mode: Mode::Exclusive,
            ..
        }
    ));
    let shared = Order::Convert {
        id: LEASE,
        mode: Mode::Shared,
        lvb: None,
    };
    room.order(one, shared);
    assert!(matches!(
        room.note(one),
        Note::Converted {
            mode: Mode::Shared,
            ..
        }
    ));
    room.holds(two, Mode::Shared);
    assert!(room.leader().is_free());
}

#[test]
fn a_dead_owner_is_succeeded_after_the_promised_time_and_not_before() {
    let mut room = Room::new();
    let (one, two) = (room.member(1), room.member(2));
    room.holds(one, Mode::Exclusive);
    room.pass(60);
    room.hosts[one].dead = true;
    // Both renew at the same moments, so this is when its last sign of life was seen.
    room.pass(20);
    room.acquire(two, Mode::Exclusive, OnOwner::Refuse);
    let silent = LeaseError::OwnerSilent {
        host: 1,
        generation: 1,
    };
    assert_eq!(room.error(two), silent);
    room.acquire(two, Mode::Exclusive, OnOwner::Wait);
    room.pass(80);
    assert_eq!(room.state_of(two, 1), HostState::Fail);
    assert!(room.notes(two).is_empty());
    room.pass(70);
    let dead = room.seen(two, 1);
    assert_eq!(dead.state, HostState::Dead);
    // The other host joined after 45 s and looks every 20 s: it saw the last renewal, of second 100, at second 105, and now it
    // is second 280.
    let ago = |at: Instant| room.now.since(at).as_secs();
    assert_eq!((ago(dead.last_check), ago(dead.last_live)), (15, 175));
    assert!(matches!(room.note(two), Note::Acquired { lver: 2, .. }));
}

#[test]
fn a_dead_sharer_is_cleared_by_whoever_needs_it_alone() {
    let mut room = Room::new();
    let (one, two) = (room.member(1), room.member(2));
    room.holds(one, Mode::Shared);
    room.hosts[one].dead = true;
    room.pass(200);
    room.holds(two, Mode::Exclusive);
    let at = (AREA + Geometry::B512_M1.host_sector(host_id(1))) as usize;
    assert_eq!(room.disk[at..at + 512], [0; 512]);
}

#[test]
fn silence_frees_nothing_of_a_host_without_timeout_but_a_declaration_does() {
    let mut room = Room::new();
    let (one, two) = (room.member(1), room.member(2));
    room.holds(one, Mode::Exclusive);
    room.hosts[one].dead = true;
    room.change_slot(1, |lease| {
        lease.version = Version::DELTA_5_0;
        lease.flags = lease.flags.with(LeaderFlags::NO_TIMEOUT);
    });
    room.pass(400);
    assert_eq!(room.state_of(two, 1), HostState::Fail);
    room.acquire(two, Mode::Exclusive, OnOwner::Wait);
    assert_eq!(room.error(two), LeaseError::OwnerNeverDies { host: 1 });
    room.change_slot(1, |lease| {
        lease.flags = lease.flags.with(LeaderFlags::DEAD_EXT)
    });
    room.holds(two, Mode::Exclusive);
}

#[test]
fn a_record_that_is_none_is_refused_and_left_alone() {
    let mut room = Room::new();
    let host = room.member(1);
    room.disk[AREA as usize + 60] ^= 1;
    let before = room.disk[AREA as usize..].to_vec();
    room.acquire(host, Mode::Exclusive, OnOwner::Refuse);
    let error = room.error(host);
    assert!(
        matches!(error, LeaseError::Bad(bad) if bad.offset == AREA + 168 && bad.field.name == "checksum"),
        "{error:?}"
    );
    assert!(room.disk[AREA as usize..] == before[..]);
}

#[test]
fn a_lease_that_was_taken_meanwhile_keeps_the_gate_shut() {
    let mut room = Room::new();
    let (one, two) = (room.member(1), room.member(2));
    room.holds(one, Mode::Exclusive);
    room.pass(60);
    room.hosts[one].mute = true;
    room.acquire(two, Mode::Exclusive, OnOwner::Refuse);
    room.pass(220);
    room.notes(two);
    room.holds(two, Mode::Exclusive);
    room.hosts[one].mute = false;
    room.pass(60);
    let notes = room.notes(one);
    let lost = notes.iter().any(|note| {
        matches!(
            note,
            Note::ReclaimFailed {
                error: LeaseError::Taken,
                ..
            }
        )
    });
    assert!(
        lost && matches!(notes.last(), Some(Note::Refused)),
        "{notes:?}"
    );
    assert_eq!(room.hosts[one].gate.check(room.now), Permission::Refused);
    assert_eq!(room.leader().owner_id, 2);
}

#[test]
fn a_lease_that_nobody_touched_is_won_again() {
    let mut room = Room::new();
    let one = room.member(1);
    room.holds(one, Mode::Exclusive);
    room.pass(60);
    room.hosts[one].mute = true;
    room.pass(100);
    assert_eq!(room.hosts[one].gate.check(room.now), Permission::Fenced);
    room.hosts[one].mute = false;
    room.pass(60);
    let notes = room.notes(one);
    assert!(
        matches!(
            notes[..],
            [
                Note::RenewalLate,
                Note::Lost(LostWhy::Silence),
                Note::Rejoined { generation: 2 },
                Note::Reclaimed { .. },
                Note::Restored
            ]
        ),
        "{notes:?}"
    );
    assert_eq!(room.hosts[one].gate.check(room.now), Permission::Allowed);
    assert_eq!((room.leader().owner_generation, room.leader().lver), (2, 2));
}

#[test]
fn a_resource_is_left_under_another_name() {
    let mut room = Room::new();
    let (one, two) = (room.member(1), room.member(2));
    let rename = || Order::Rename {
        id: LEASE,
        name: name("gone"),
        lvb: None,
    };
    room.holds(two, Mode::Shared);
    room.order(two, rename());
    assert_eq!(room.error(two), LeaseError::NotExclusive);
    let release = Order::Release {
        id: LEASE,
        lvb: None,
    };
    room.order(two, release);
    room.notes(two);
    room.holds(one, Mode::Exclusive);
    let lver = room.leader().lver;
    room.order(one, rename());
    assert!(matches!(room.note(one), Note::Released { .. }));
    let leader = room.leader();
    assert_eq!((leader.resource_name, leader.lver), (name("gone"), lver));
    assert!(leader.is_free());
    room.acquire(two, Mode::Exclusive, OnOwner::Refuse);
    assert!(matches!(room.error(two), LeaseError::Bad(_)));
}

#[test]
fn orders_that_make_no_sense_are_answered() {
    let mut room = Room::new();
    let host = room.add(1, "one");
    room.acquire(host, Mode::Shared, OnOwner::Refuse);
    assert_eq!(room.error(host), LeaseError::NotJoined);
    room.pass(25);
    room.notes(host);
    room.order(
        host,
        Order::Release {
            id: LEASE,
            lvb: None,
        },
    );
    assert_eq!(room.error(host), LeaseError::NotHeld);
    room.holds(host, Mode::Shared);
    room.acquire(host, Mode::Shared, OnOwner::Refuse);
    assert_eq!(room.error(host), LeaseError::AlreadyHeld);
    room.order(
        host,
        Order::Convert {
            id: LEASE,
            mode: Mode::Shared,
            lvb: None,
        },
    );
    assert_eq!(room.error(host), LeaseError::AlreadyHeld);
    let other = Order::Acquire {
        id: LeaseId(2 * AREA),
        name: name("nothing is there"),
        mode: Mode::Shared,
        on_owner: OnOwner::Refuse,
    };
    room.order(host, other);
    assert!(matches!(room.error(host), LeaseError::Bad(_)));
}
