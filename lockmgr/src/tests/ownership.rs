//! Who owns a lease: alone, with others, after the dead, after a fence, by no order that makes no sense.

use super::room::{AREA, LEASE, Room, host_id, name};
use crate::contract::{LeaseId, Note, Order};
use crate::gate::Permission;
use crate::ondisk::{Geometry, LeaderFlags, Version};
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
