//! Hosts, one disk in memory that answers at once, one clock: what happens when.

use core::time::Duration;

use crate::contract::{GateOrder, Input, LeaseId, Note, Order};
use crate::gate::Gate;
use crate::io::{Output, ReadFailed, WriteOutcome};
use crate::lockspace::Lockspace;
use crate::ondisk::{
    BallotBlock, Dblock, DeltaLease, DeltaSlot, Geometry, HostId, HostSector, Name, PaxosLeader,
    init,
};
use crate::paxos::{LeaseError, Mode, OnOwner};
use crate::time::Instant;
use crate::timing::Timing;
use crate::{HostState, Identity};

pub const AREA: u64 = 1 << 20;
pub const LEASE: LeaseId = LeaseId(AREA);

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub fn host_id(number: u64) -> HostId {
    HostId::new(number).unwrap()
}

pub struct Host {
    pub space: Lockspace,
    pub gate: Gate,
    pub notes: Vec<Note>,
    /// Its writes are lost: answered `Unknown`, never executed.
    pub mute: bool,
    /// Its reads hang: never answered.
    pub deaf: bool,
    /// Its next read fails.
    pub blind: bool,
    pub dead: bool,
}

/// Hosts, one disk, one clock.
pub struct Room {
    pub disk: Vec<u8>,
    pub now: Instant,
    pub hosts: Vec<Host>,
    pub writes: Vec<u64>,
    /// After so many more writes somebody else writes these bytes there.
    pub intruder: Option<(usize, u64, Vec<u8>)>,
}

impl Room {
    pub fn new() -> Room {
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
            intruder: None,
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

    pub fn add(&mut self, number: u64, called: &str) -> usize {
        self.hosts.push(Host {
            space: Lockspace::new(Room::identity(number, called), number),
            gate: Gate::new(),
            notes: Vec::new(),
            mute: false,
            deaf: false,
            blind: false,
            dead: false,
        });
        let host = self.hosts.len() - 1;
        self.order(host, Order::Join);
        host
    }

    /// Joined and settled.
    pub fn member(&mut self, number: u64) -> usize {
        let host = self.add(number, &format!("host-{number}"));
        self.pass(25);
        assert!(matches!(self.notes(host)[..], [Note::Joined { .. }]));
        host
    }

    pub fn order(&mut self, host: usize, order: Order) {
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
                blind,
                ..
            } = &mut self.hosts[host];
            let give_up = Timing::DEFAULT.give_up();
            match output {
                Output::Read { .. } if *deaf => {}
                Output::Read { id, .. } if core::mem::take(blind) => {
                    let data = Err(ReadFailed);
                    space.handle(now, Input::Read { id, data });
                }
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
                    if let Some((after, _, _)) = &mut self.intruder {
                        *after -= 1;
                    }
                    if let Some((_, at, bytes)) = self.intruder.take_if(|(after, _, _)| *after == 0)
                    {
                        let at = at as usize;
                        self.disk[at..at + bytes.len()].copy_from_slice(&bytes);
                    }
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
    pub fn pass(&mut self, seconds: u64) {
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

    pub fn notes(&mut self, host: usize) -> Vec<Note> {
        core::mem::take(&mut self.hosts[host].notes)
    }

    /// The one note since the last look.
    pub fn note(&mut self, host: usize) -> Note {
        let mut notes = self.notes(host);
        assert_eq!(notes.len(), 1, "{notes:?}");
        notes.remove(0)
    }

    pub fn acquire(&mut self, host: usize, mode: Mode, on_owner: OnOwner) {
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
    pub fn holds(&mut self, host: usize, mode: Mode) {
        self.acquire(host, mode, OnOwner::Refuse);
        let note = self.note(host);
        assert!(
            matches!(note, Note::Acquired { mode: m, .. } if m == mode),
            "{note:?}"
        );
    }

    pub fn error(&mut self, host: usize) -> LeaseError {
        match self.note(host) {
            Note::Failed { error, .. } => error,
            other => panic!("{other:?}"),
        }
    }

    pub fn slot(&self, number: u64) -> DeltaLease {
        let at = Geometry::B512_M1.delta_slot(host_id(number)) as usize;
        DeltaLease::parse(&self.disk[at..at + 512]).unwrap()
    }

    pub fn change_slot(&mut self, number: u64, change: impl FnOnce(&mut DeltaLease)) {
        let at = Geometry::B512_M1.delta_slot(host_id(number)) as usize;
        let sector = &mut self.disk[at..at + 512];
        let mut slot = DeltaSlot::parse(sector).unwrap();
        change(&mut slot.lease);
        slot.emit(sector);
    }

    pub fn leader(&self) -> PaxosLeader {
        PaxosLeader::parse(&self.disk[AREA as usize..]).unwrap()
    }

    pub fn put_leader(&mut self, leader: &PaxosLeader) {
        leader.emit(&mut self.disk[AREA as usize..AREA as usize + 512]);
    }

    /// What this host says in its sector of the lease.
    pub fn put_voted(&mut self, number: u64, ballot: BallotBlock, flags: u32) {
        let at = (AREA + Geometry::B512_M1.host_sector(host_id(number))) as usize;
        let said = HostSector {
            dblock: Dblock::Voted { ballot, flags },
            ..HostSector::default()
        };
        said.emit(&mut self.disk[at..at + 512]);
    }

    pub fn seen(&self, host: usize, number: u64) -> crate::Host {
        let mut hosts = self.hosts[host].space.hosts(self.now);
        hosts.find(|other| other.id == host_id(number)).unwrap()
    }

    pub fn state_of(&self, host: usize, number: u64) -> HostState {
        self.seen(host, number).state
    }
}
