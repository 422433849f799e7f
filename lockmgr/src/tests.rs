//! Whole lockspaces on a disk in memory that answers at once: what happens when, by each host's clock.

use core::time::Duration;

use crate::contract::{GateOrder, Input, LeaseId, Note, Order};
use crate::gate::{Gate, Permission};
use crate::io::{Output, WriteOutcome};
use crate::lockspace::Lockspace;
use crate::ondisk::{
    AlignSize, DeltaLease, DeltaSlot, Event, ForceMode, Geometry, HostId, HostSet, LeaderFlags,
    Name, PaxosLeader, SectorSize, Version, init,
};
use crate::paxos::{LeaseError, Mode, OnOwner};
use crate::time::Instant;
use crate::timing::Timing;
use crate::{HostState, Identity, JoinError, LostWhy};

const AREA: u64 = 1 << 20;
const LEASE: LeaseId = LeaseId(AREA);

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn host_id(number: u64) -> HostId {
    HostId::new(number).unwrap()
}

struct Host {
    space: Lockspace,
    gate: Gate,
    notes: Vec<Note>,
    /// Its writes are lost: answered `Unknown`, never executed.
    mute: bool,
    /// Its reads hang: never answered.
    deaf: bool,
    dead: bool,
}

/// Hosts, one disk, one clock.
struct Room {
    disk: Vec<u8>,
    now: Instant,
    hosts: Vec<Host>,
    writes: Vec<u64>,
}

impl Room {
    fn new() -> Room {
        let mut disk = vec![0; 3 * AREA as usize];
        let geometry = Geometry::B512_M1;
        let mut put = |area: u64, write: &init::Write| {
            let at = (area + write.offset) as usize;
            disk[at..at + write.bytes.len()].copy_from_slice(&write.bytes);
        };
        for write in init::lockspace(geometry, &name("LS"), 10).unwrap() {
            put(0, &write);
        }
        put(
            AREA,
            &init::resource(geometry, &name("LS"), &name("R")).unwrap(),
        );
        Room {
            disk,
            now: Instant::from_nanos(1_000_000_000_000),
            hosts: Vec::new(),
            writes: Vec::new(),
        }
    }

    fn identity(number: u64, called: &str) -> Identity {
        Identity {
            offset: 0,
            geometry: Geometry::B512_M1,
            space: name("LS"),
            host: host_id(number),
            name: name(called),
            timing: Timing::DEFAULT,
        }
    }

    fn add(&mut self, number: u64, called: &str) -> usize {
        self.hosts.push(Host {
            space: Lockspace::new(Room::identity(number, called), number),
            gate: Gate::new(),
            notes: Vec::new(),
            mute: false,
            deaf: false,
            dead: false,
        });
        let host = self.hosts.len() - 1;
        self.order(host, Order::Join);
        host
    }

    /// Joined and settled.
    fn member(&mut self, number: u64) -> usize {
        let host = self.add(number, &format!("host-{number}"));
        self.pass(25);
        assert!(matches!(self.notes(host)[..], [Note::Joined { .. }]));
        host
    }

    fn order(&mut self, host: usize, order: Order) {
        self.input(host, Input::Order(order));
    }

    fn input(&mut self, host: usize, input: Input) {
        self.hosts[host].space.handle(self.now, input);
        self.work(host);
    }

    fn work(&mut self, host: usize) {
        while let Some(output) = self.hosts[host].space.poll_output() {
            let now = self.now;
            let Host {
                space,
                gate,
                notes,
                mute,
                deaf,
                ..
            } = &mut self.hosts[host];
            let give_up = Timing::DEFAULT.give_up();
            match output {
                Output::Read { .. } if *deaf => {}
                Output::Read {
                    id, offset, len, ..
                } => {
                    let data = Ok(&self.disk[offset as usize..offset as usize + len]);
                    space.handle(now, Input::Read { id, data });
                }
                Output::Write { id, .. } if *mute => {
                    let outcome = WriteOutcome::Unknown;
                    space.handle(now, Input::Wrote { id, outcome });
                    space.handle(now, Input::Fenced { through: id });
                }
                Output::Write {
                    id,
                    offset,
                    bytes,
                    deadline,
                    ..
                } => {
                    assert!(deadline > now);
                    self.writes.push(offset);
                    self.disk[offset as usize..offset as usize + bytes.len()]
                        .copy_from_slice(&bytes);
                    let outcome = WriteOutcome::Done;
                    space.handle(now, Input::Wrote { id, outcome });
                }
                Output::Gate(order) => match order {
                    GateOrder::Arm { started } => gate.arm(now, started, give_up).unwrap(),
                    GateOrder::Extend { started } => gate.extend(now, started, give_up).unwrap(),
                    GateOrder::Restore { started, proof } => {
                        gate.restore(now, started, give_up, &proof).unwrap();
                    }
                    GateOrder::Disarm => gate.disarm(now).unwrap(),
                    GateOrder::Refuse => gate.refuse(),
                },
                Output::Note(note) => {
                    let lost = matches!(note, Note::Lost(_));
                    notes.push(note);
                    if lost {
                        space.handle(now, Input::Drained);
                    }
                }
            }
        }
    }

    /// Lets so many seconds pass.
    fn pass(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        for _ in 0..100_000 {
            let due = |(index, host): (usize, &Host)| {
                let at = host.space.poll_timeout().filter(|_| !host.dead)?;
                Some((at, index))
            };
            let next = self.hosts.iter().enumerate().filter_map(due).min();
            let Some((at, host)) = next.filter(|(at, _)| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            self.input(host, Input::Timeout);
        }
        panic!("a timer stays due");
    }

    fn notes(&mut self, host: usize) -> Vec<Note> {
        core::mem::take(&mut self.hosts[host].notes)
    }

    /// The one note since the last look.
    fn note(&mut self, host: usize) -> Note {
        let mut notes = self.notes(host);
        assert_eq!(notes.len(), 1, "{notes:?}");
        notes.remove(0)
    }

    fn acquire(&mut self, host: usize, mode: Mode, on_owner: OnOwner) {
        let (id, name) = (LEASE, name("R"));
        self.order(
            host,
            Order::Acquire {
                id,
                name,
                mode,
                on_owner,
            },
        );
    }

    /// Acquires and is told so at once.
    fn holds(&mut self, host: usize, mode: Mode) {
        self.acquire(host, mode, OnOwner::Refuse);
        let note = self.note(host);
        assert!(
            matches!(note, Note::Acquired { mode: m, .. } if m == mode),
            "{note:?}"
        );
    }

    fn error(&mut self, host: usize) -> LeaseError {
        match self.note(host) {
            Note::Failed { error, .. } => error,
            other => panic!("{other:?}"),
        }
    }

    fn slot(&self, number: u64) -> DeltaLease {
        let at = Geometry::B512_M1.delta_slot(host_id(number)) as usize;
        DeltaLease::parse(&self.disk[at..at + 512]).unwrap()
    }

    fn change_slot(&mut self, number: u64, change: impl FnOnce(&mut DeltaLease)) {
        let at = Geometry::B512_M1.delta_slot(host_id(number)) as usize;
        let sector = &mut self.disk[at..at + 512];
        let mut slot = DeltaSlot::parse(sector).unwrap();
        change(&mut slot.lease);
        slot.emit(sector);
    }

    fn leader(&self) -> PaxosLeader {
        PaxosLeader::parse(&self.disk[AREA as usize..]).unwrap()
    }

    fn seen(&self, host: usize, number: u64) -> crate::Host {
        let mut hosts = self.hosts[host].space.hosts(self.now);
        hosts.find(|other| other.id == host_id(number)).unwrap()
    }

    fn state_of(&self, host: usize, number: u64) -> HostState {
        self.seen(host, number).state
    }
}

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
    // It is looked at with every renewal, and was last seen to change with the last one that it made.
    let ago = |at: Instant| room.now.since(at).as_secs();
    assert_eq!((ago(dead.last_check), ago(dead.last_live)), (10, 150));
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

#[test]
fn areas_that_have_no_room_for_a_value_block_have_none() {
    let small = Geometry::new(SectorSize::B4096, AlignSize::M1).unwrap();
    assert_eq!(small.lvb_sector(), None);
    assert!(Geometry::B512_M1.lvb_sector().is_some());
}
