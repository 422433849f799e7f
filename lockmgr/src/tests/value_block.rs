//! What an owner leaves in the lock value block.

use super::room::{LEASE, Room};
use crate::contract::{Note, Order};
use crate::ondisk::{AlignSize, Geometry, SectorSize};
use crate::paxos::{LeaseError, Mode};

#[test]
fn the_value_block_is_left_for_the_next() {
    let mut room = Room::new();
    let (one, two) = (room.member(1), room.member(2));
    room.holds(one, Mode::Exclusive);
    let lvb = vec![7; 512].into_boxed_slice();
    room.order(
        one,
        Order::Release {
            id: LEASE,
            lvb: Some(lvb.clone()),
        },
    );
    room.notes(one);
    room.holds(two, Mode::Shared);
    room.order(two, Order::ReadLvb { id: LEASE });
    assert!(matches!(room.note(two), Note::Lvb { bytes, .. } if bytes == lvb));
    room.order(
        two,
        Order::Release {
            id: LEASE,
            lvb: Some(lvb),
        },
    );
    assert_eq!(room.error(two), LeaseError::NotExclusive);
}

#[test]
fn the_value_block_is_left_on_the_way_to_shared_as_well() {
    let mut room = Room::new();
    let (one, two) = (room.member(1), room.member(2));
    room.holds(one, Mode::Exclusive);
    let bytes = vec![9; 512].into_boxed_slice();
    let shared = |lvb| Order::Convert {
        id: LEASE,
        mode: Mode::Shared,
        lvb,
    };
    room.order(one, shared(Some(bytes.clone())));
    let note = room.note(one);
    assert!(matches!(note, Note::Converted { .. }), "{note:?}");
    assert!(room.leader().is_free());
    room.holds(two, Mode::Shared);
    room.order(two, Order::ReadLvb { id: LEASE });
    let note = room.note(two);
    assert!(matches!(&note, Note::Lvb { bytes: read, .. } if *read == bytes));
    // Nobody alone: nothing is left.
    let exclusive = Order::Convert {
        id: LEASE,
        mode: Mode::Exclusive,
        lvb: Some(bytes),
    };
    room.order(two, exclusive);
    assert_eq!(room.error(two), LeaseError::NotExclusive);
}

#[test]
fn a_release_whose_block_was_not_written_says_so_when_the_lockspace_is_lost() {
    let mut room = Room::new();
    let host = room.member(1);
    room.holds(host, Mode::Exclusive);
    room.hosts[host].mute = true;
    let lvb = Some(vec![1; 512].into());
    room.order(host, Order::Release { id: LEASE, lvb });
    room.pass(90);
    let notes = room.notes(host);
    let lost = LeaseError::LockspaceLost;
    let failed = |note: &Note| matches!(note, Note::Failed { id: LEASE, error } if *error == lost);
    let failed = notes.iter().position(failed);
    let released = |note: &Note| matches!(note, Note::Released { id: LEASE });
    let released = notes.iter().position(released);
    assert!(failed.is_some() && failed < released, "{notes:?}");
}

#[test]
fn areas_that_have_no_room_for_a_value_block_have_none() {
    let small = Geometry::new(SectorSize::B4096, AlignSize::M1).unwrap();
    assert_eq!(small.lvb_sector(), None);
    assert!(Geometry::B512_M1.lvb_sector().is_some());
}
