//! Hosts call one another: events, and requests to let go.

use super::room::{LEASE, Room, host_id, name};
use crate::contract::{Note, Order};
use crate::ondisk::{DeltaSlot, Event, ForceMode, HostSet};
use crate::paxos::{LeaseError, Mode};

#[test]
fn an_event_is_told_once_and_the_bit_goes_after_a_minute() {
    let mut room = Room::new();
    let (one, two) = (room.member(1), room.member(2));
    room.pass(40);
    let event = Event {
        generation: 1,
        number: 5,
        data: 9,
    };
    room.order(
        one,
        Order::Tell {
            host: host_id(2),
            event,
        },
    );
    room.pass(45);
    let note = room.note(two);
    assert!(
        matches!(note, Note::Told { from, generation: 1, event: e } if from == host_id(1) && e == event)
    );
    let called = |room: &Room| DeltaSlot::parse(&room.disk[..512]).unwrap().notify;
    assert!(called(&room).contains(host_id(2)));
    room.pass(60);
    assert_eq!(called(&room), HostSet::EMPTY);
    assert_eq!(room.slot(1).event, event, "the event itself stays");
    assert!(room.notes(two).is_empty());
}

#[test]
fn an_owner_is_asked_to_let_go() {
    let mut room = Room::new();
    let (one, two) = (room.member(1), room.member(2));
    room.holds(one, Mode::Exclusive);
    let ask = || Order::Ask {
        id: LEASE,
        name: name("R"),
        force_mode: ForceMode::Graceful,
    };
    room.order(two, ask());
    assert!(matches!(room.note(two), Note::Asked { .. }));
    room.pass(45);
    let note = room.note(one);
    assert!(
        matches!(
            note,
            Note::AskedToRelease {
                force_mode: ForceMode::Graceful,
                ..
            }
        ),
        "{note:?}"
    );
    room.order(
        one,
        Order::Release {
            id: LEASE,
            lvb: None,
        },
    );
    room.notes(one);
    room.order(two, ask());
    assert_eq!(room.error(two), LeaseError::NotHeld);
}

#[test]
fn who_waits_for_an_answer_is_told_when_the_lockspace_is_lost() {
    let mut room = Room::new();
    let (one, two) = (room.member(1), room.member(2));
    room.holds(one, Mode::Exclusive);
    room.hosts[one].deaf = true;
    room.hosts[two].deaf = true;
    room.order(one, Order::ReadLvb { id: LEASE });
    let ask = Order::Ask {
        id: LEASE,
        name: name("R"),
        force_mode: ForceMode::Graceful,
    };
    room.order(two, ask);
    room.order(two, Order::Leave);
    assert!(matches!(room.note(two), Note::LeaveRefused));
    room.pass(90);
    for host in [one, two] {
        let notes = room.notes(host);
        let told = notes.iter().any(|note| {
            let lost = LeaseError::LockspaceLost;
            matches!(note, Note::Failed { id: LEASE, error } if *error == lost)
        });
        assert!(told, "{notes:?}");
    }
}
