//! A host takes its slot, renews it, loses it, leaves.

use core::time::Duration;

use super::room::{LEASE, Room, name};
use crate::contract::{Note, Order};
use crate::gate::Permission;
use crate::ondisk::{DeltaLease, LeaderFlags, Version};
use crate::paxos::Mode;
use crate::{JoinError, LostWhy, Miss, RENEWALS_KEPT};

#[test]
fn a_free_slot_takes_twice_the_timeout() {
    let mut room = Room::new();
    let host = room.add(1, "one");
    room.pass(19);
    assert!(room.notes(host).is_empty());
    assert_eq!(room.hosts[host].gate.deadline(), None);
    room.pass(1);
    assert!(matches!(room.note(host), Note::Joined { generation: 1 }));
    let joined = room.now;
    // The first renewal, which brings the first look at the others, follows at once.
    assert_eq!(
        room.hosts[host].gate.deadline(),
        Some(joined + Duration::from_secs(80))
    );
    let slot = room.slot(1);
    assert_eq!(
        (slot.owner_id, slot.owner_generation, slot.io_timeout),
        (1, 1, 10)
    );
}

#[test]
fn a_slot_of_another_machine_takes_until_it_is_dead() {
    let mut room = Room::new();
    let first = room.member(1);
    room.hosts[first].dead = true;
    let second = room.add(1, "another machine");
    room.pass(140 + 19);
    assert!(room.notes(second).is_empty());
    room.pass(1);
    assert!(matches!(room.note(second), Note::Joined { generation: 2 }));
}

#[test]
fn a_slot_in_use_is_refused_by_name() {
    let mut room = Room::new();
    room.member(1);
    let second = room.add(1, "another machine");
    room.pass(140);
    let busy = JoinError::HostIdBusy {
        name: name("host-1"),
    };
    assert!(matches!(room.note(second), Note::JoinFailed(error) if error == busy));
}

#[test]
fn renewals_come_every_twenty_seconds_and_hold_the_gate_open() {
    let mut room = Room::new();
    let host = room.member(1);
    room.writes.clear();
    room.pass(400);
    assert_eq!(room.writes, [0; 20]);
    assert_eq!(room.hosts[host].gate.check(room.now), Permission::Allowed);
    room.hosts[host].mute = true;
    room.pass(80);
    assert_eq!(room.hosts[host].gate.check(room.now), Permission::Fenced);
    let notes = room.notes(host);
    assert!(
        matches!(notes[..], [Note::RenewalLate, Note::Lost(LostWhy::Silence)]),
        "{notes:?}"
    );
    room.hosts[host].mute = false;
    room.pass(60);
    let notes = room.notes(host);
    assert!(
        matches!(
            notes[..],
            [Note::Rejoined { generation: 2 }, Note::Restored]
        ),
        "{notes:?}"
    );
    assert_eq!(room.hosts[host].gate.check(room.now), Permission::Allowed);
}

#[test]
fn renewals_are_remembered_and_what_failed_after_them() {
    let mut room = Room::new();
    let host = room.member(1);
    room.pass(400);
    let history = room.hosts[host].space.history();
    let timestamps: Vec<u64> = history.renewals().map(|of| of.timestamp).collect();
    assert_eq!(timestamps.len(), 21);
    assert!(timestamps.is_sorted());
    assert_eq!(history.miss, None);
    assert!(history.acquire_began < history.acquired && history.acquired < history.renewal_began);
    room.hosts[host].mute = true;
    room.pass(40);
    let history = room.hosts[host].space.history();
    let last = *history.renewals().last().unwrap();
    assert_eq!(history.renewals().count(), 21);
    assert_eq!(Some(&last.timestamp), timestamps.last());
    assert!(last.next_errors > 0 && last.next_timeouts > 0, "{last:?}");
    assert_eq!(history.miss, Some(Miss::TimedOut));
    room.hosts[host].mute = false;
    room.pass(40);
    let history = room.hosts[host].space.history();
    assert_eq!(history.miss, None);
    let kept: Vec<_> = history.renewals().collect();
    assert_eq!((*kept[20], kept.len() > 21), (last, true));
    room.pass(6000);
    let history = room.hosts[host].space.history();
    assert_eq!(history.renewals().count(), RENEWALS_KEPT);
}

#[test]
fn a_slot_that_somebody_else_wrote_is_lost_at_once() {
    let mut room = Room::new();
    let host = room.member(1);
    room.holds(host, Mode::Exclusive);
    room.change_slot(1, |lease| lease.host_name = name("another machine"));
    room.pass(20);
    let notes = room.notes(host);
    assert!(
        matches!(
            notes[..],
            [
                Note::Lost(LostWhy::Owner),
                Note::ReclaimFailed { .. },
                Note::Refused
            ]
        ),
        "{notes:?}"
    );
    assert_eq!(room.hosts[host].gate.check(room.now), Permission::Refused);
    assert_eq!(
        room.slot(1).host_name,
        name("another machine"),
        "nothing is written over it"
    );
    room.order(host, Order::Leave);
    room.order(host, Order::Join);
    assert!(matches!(
        room.notes(host)[..],
        [Note::Left, Note::JoinFailed(JoinError::GateShut)]
    ));
}

#[test]
fn leaving_needs_empty_hands_and_disarms() {
    let mut room = Room::new();
    let host = room.member(1);
    room.holds(host, Mode::Shared);
    room.order(host, Order::Leave);
    assert!(matches!(room.note(host), Note::LeaveRefused));
    room.order(
        host,
        Order::Release {
            id: LEASE,
            lvb: None,
        },
    );
    room.order(host, Order::Leave);
    let notes = room.notes(host);
    assert!(
        matches!(notes[..], [Note::Released { .. }, Note::Left]),
        "{notes:?}"
    );
    assert!(room.slot(1).is_free());
    room.pass(1000);
    assert_eq!(room.hosts[host].gate.check(room.now), Permission::Allowed);
    // The slot is as we left it: nobody needs to be waited for.
    room.order(host, Order::Join);
    room.pass(0);
    assert!(matches!(room.note(host), Note::Joined { generation: 2 }));
    assert!(room.hosts[host].gate.deadline().is_some());
}

/// What a host that comes to slot 1 has to wait for once it was left, in seconds.
fn wait_after(leave: impl FnOnce(&mut DeltaLease), comes_as: &str) -> Option<u64> {
    let mut room = Room::new();
    let first = room.member(1);
    room.order(first, Order::Leave);
    room.notes(first);
    room.change_slot(1, leave);
    let next = room.add(1, comes_as);
    (0..=200).find(|&wait| {
        room.pass(u64::from(wait > 0));
        let notes = room.notes(next);
        matches!(notes[..], [Note::Joined { generation: 2 }])
    })
}

#[test]
fn only_a_slot_that_we_left_ourselves_needs_no_pause() {
    assert_eq!(wait_after(|_| {}, "host-1"), Some(0));
    assert_eq!(wait_after(|_| {}, "another machine"), Some(20));
    // It was not released.
    assert_eq!(wait_after(|slot| slot.timestamp = 5, "host-1"), Some(20));
    // Of another number: nothing that a host of this one wrote.
    assert_eq!(wait_after(|slot| slot.owner_id = 2, "host-1"), Some(20));
    // Whoever came at the same time would be done before our second renewal looks.
    assert_eq!(wait_after(|slot| slot.io_timeout = 9, "host-1"), Some(18));
    assert_eq!(wait_after(|slot| slot.io_timeout = 11, "host-1"), Some(0));
}

#[test]
fn another_machine_that_came_at_the_same_moment_is_found_by_one_of_us() {
    // It read the slot before we wrote it, and its record lands this long after our own.
    for after in [0, 1, 5, 15] {
        let mut room = Room::new();
        let host = room.member(1);
        room.order(host, Order::Leave);
        room.notes(host);
        room.order(host, Order::Join);
        room.pass(after);
        assert!(matches!(room.note(host), Note::Joined { generation: 2 }));
        room.holds(host, Mode::Exclusive);
        room.change_slot(1, |lease| lease.host_name = name("another machine"));
        // It reads back 20 s later.
        room.pass(20);
        let notes = room.notes(host);
        assert!(
            matches!(notes[..], [Note::Lost(LostWhy::Owner), ..]),
            "{notes:?}"
        );
        assert_eq!(room.hosts[host].gate.check(room.now), Permission::Refused);
    }
}

#[test]
fn compare_and_write_areas_are_refused_untouched() {
    let mut room = Room::new();
    room.change_slot(1, |lease| {
        lease.version = Version::DELTA_5_0;
        lease.flags = lease.flags.with(LeaderFlags::CAW);
    });
    let before = room.disk.clone();
    let host = room.add(1, "one");
    assert!(matches!(
        room.note(host),
        Note::JoinFailed(JoinError::Cannot(_))
    ));
    assert!(room.disk == before);
}
