//! One host in one lockspace: its slot, its leases, what it knows of the others, and the orders it gives to the gate.
//!
//! ```text
//!         join                 slot is ours                 silence for 8t     drained, quiet, then the slot is ours
//!   Out -------> Joining ------------------> Member Whole -----------------> Lost ------> Rejoining ------> Member Reclaiming
//!    ^                                          |                              ^                              |    |
//!    | slot given back                    leave |                              +---------- silence -----------+    | all won
//!    +---------------- Leaving <----------------+                                                                  v
//!                                               anything not as we left it ------> Refused, or Ended        Member Whole
//! ```
//!
//! The contract with the driver: call [`handle`](Lockspace::handle) with what happened, then take every output until
//! [`poll_output`](Lockspace::poll_output) has none, and call with [`Input::Timeout`] when [`poll_timeout`](Lockspace::poll_timeout)
//! is reached. Nothing here blocks, and `now` never goes back. Before `Join`, the driver must have made sure that no write of an
//! earlier life of this host can still land (on iSCSI: by reinstating its sessions).
//!
//! Safety hangs on one rule, asked at the door: **when the limit has passed, 8t after the last completed renewal started, no machine
//! here is called any more**, whatever the event was, so nothing new is written and no lease is reported as acquired.

use core::time::Duration;

use crate::contract::{GateOrder, Input, JoinError, LeaseId, LostWhy, Note, Order};
use crate::delta::{Delta, DeltaEvent, Entry, earliest};
use crate::gate::Reclaimed;
use crate::history::History;
use crate::identity::Identity;
use crate::io::{IoId, Outbox, Output, Party, WriteOutcome};
use crate::liveness::{Host, Peers};
use crate::mutant::Mutant;
use crate::ondisk::{DeltaLease, Name};
use crate::paxos::{Chance, Cx, Lease, LeaseError, Mode, OnOwner};
use crate::requests::{Asked, Requests};
use crate::time::Instant;

/// How a member stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// The gate is ours to extend.
    Whole,
    /// The gate is shut until every lease is won back.
    Reclaiming,
    /// The gate is shut for good.
    Refused,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Out,
    Joining,
    /// Joining, once nothing older can land.
    Waiting,
    Member {
        started: Instant,
        standing: Standing,
        late: bool,
    },
    Leaving {
        started: Instant,
        standing: Standing,
    },
    /// The slot was given back, but something may still land.
    Left {
        standing: Standing,
    },
    /// Nothing is written until nothing older can land, neither ours nor the data path's.
    Lost {
        left: DeltaLease,
        drained: bool,
    },
    Rejoining {
        left: DeltaLease,
    },
    /// Nothing is held, nothing is won back, the gate stays shut, and no join opens it.
    Ended,
}

/// A lockspace as one host sees it.
#[derive(Debug)]
pub struct Lockspace {
    us: Identity,
    generation: u64,
    phase: Phase,
    delta: Delta,
    peers: Peers,
    leases: Vec<Lease>,
    requests: Requests,
    out: Outbox,
    chance: Chance,
    mutant: Option<Mutant>,
}

impl Lockspace {
    /// A lockspace that is not joined yet. `seed` decides backoffs, nothing else; hosts should differ in it.
    pub fn new(us: Identity, seed: u64) -> Lockspace {
        Lockspace::build(us, seed, None)
    }

    /// One that is broken on purpose.
    #[cfg(feature = "mutants")]
    pub fn broken(us: Identity, seed: u64, mutant: Option<Mutant>) -> Lockspace {
        Lockspace::build(us, seed, mutant)
    }

    fn build(us: Identity, seed: u64, mutant: Option<Mutant>) -> Lockspace {
        assert!(us.geometry.has_room_for(us.host), "the host has a slot");
        Lockspace {
            us,
            generation: 0,
            phase: Phase::Out,
            delta: Delta::new(us, mutant),
            peers: Peers::new(us.geometry, us.space, us.timing),
            leases: Vec::new(),
            requests: Requests::default(),
            out: Outbox::default(),
            chance: Chance(seed),
            mutant,
        }
    }

    /// What to do next; `None` when there is nothing.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.poll()
    }

    /// When to call with [`Input::Timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let mut at = self.delta.poll_timeout();
        if let Some((started, _)) = self.membership() {
            at = earliest(at, Some(started + self.us.timing.give_up()));
            if matches!(self.phase, Phase::Member { late: false, .. }) {
                at = earliest(at, Some(started + self.us.timing.warn()));
            }
            for lease in &self.leases {
                at = earliest(at, lease.poll_timeout());
            }
        }
        at
    }

    /// Our generation; 0 before the first join.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// When others may begin to count us out, unless a renewal completes; `None` if we are not a member.
    pub fn limit(&self) -> Option<Instant> {
        self.membership()
            .map(|(started, _)| started + self.us.timing.give_up())
    }

    /// How our slot fared.
    pub fn history(&self) -> &History {
        self.delta.history()
    }

    /// What we hold, and how.
    pub fn held(&self) -> impl Iterator<Item = (LeaseId, Mode)> + '_ {
        self.leases
            .iter()
            .filter_map(|lease| Some((lease.id(), lease.held()?.mode)))
    }

    /// The other hosts, and we, as the last renewal showed them. Empty before the first.
    pub fn hosts(&self, now: Instant) -> impl Iterator<Item = Host> + '_ {
        let us = self.us;
        us.geometry
            .hosts()
            .filter_map(move |id| self.peers.host(id, us.host, now))
    }

    fn membership(&self) -> Option<(Instant, Standing)> {
        match self.phase {
            Phase::Member {
                started, standing, ..
            }
            | Phase::Leaving { started, standing } => Some((started, standing)),
            _ => None,
        }
    }

    /// Something happened.
    pub fn handle(&mut self, now: Instant, input: Input) {
        if self.limit().is_some_and(|limit| limit <= now) {
            self.lose(LostWhy::Silence);
        }
        match input {
            Input::Timeout => self.time_out(now),
            Input::Read { id, data } => self.read(now, id, data.ok()),
            Input::Wrote { id, outcome } => self.wrote(now, id, outcome),
            Input::Fenced { through } => self.fenced(now, through),
            Input::Settled { id } => self.settled(now, id),
            Input::Drained => {
                if let Phase::Lost { drained, .. } = &mut self.phase {
                    *drained = true;
                }
            }
            Input::GateShut => self.lose(LostWhy::Silence),
            Input::Order(order) => self.order(now, order),
        }
        self.settle(now);
    }

    /// The lease machines with all they may use; `None` when none may be called.
    fn leases(&mut self, now: Instant) -> Option<(Cx<'_>, &mut Vec<Lease>, &mut Requests)> {
        let limit = self.limit()?;
        let cx = Cx {
            now,
            out: &mut self.out,
            us: &self.us,
            generation: self.generation,
            peers: &self.peers,
            limit,
            chance: &mut self.chance,
            mutant: self.mutant,
        };
        Some((cx, &mut self.leases, &mut self.requests))
    }

    fn time_out(&mut self, now: Instant) {
        let event = self.delta.handle_timeout(&mut self.out, now);
        self.slot_event(now, event, None);
        if let Some((mut cx, leases, _)) = self.leases(now) {
            for lease in leases {
                lease.handle_timeout(&mut cx);
            }
        }
        if let Phase::Member { started, late, .. } = &mut self.phase
            && !*late
            && now >= *started + self.us.timing.warn()
        {
            *late = true;
            self.out.note(Note::RenewalLate);
        }
    }

    fn read(&mut self, now: Instant, id: IoId, data: Option<&[u8]>) {
        let Some((party, data)) = self.out.read_done(now, id, data) else {
            return;
        };
        match party {
            Party::Delta => {
                let event = self.delta.read(&mut self.out, now, id, data);
                self.slot_event(now, event, data);
            }
            Party::Lease(of) => {
                if let Some((mut cx, leases, _)) = self.leases(now)
                    && let Some(lease) = leases.iter_mut().find(|lease| lease.id() == of)
                {
                    lease.read(&mut cx, id, data);
                }
            }
            Party::Caller => {
                let call = self.leases(now).and_then(|(mut cx, leases, requests)| {
                    requests.read(&mut cx, leases, id, data)
                });
                self.call_owner(now, call);
            }
        }
    }

    fn wrote(&mut self, now: Instant, id: IoId, outcome: WriteOutcome) {
        match self.out.write_done(id, outcome) {
            Some(Party::Delta) => {
                let event = self.delta.wrote(&mut self.out, now, id, outcome);
                self.slot_event(now, event, None);
            }
            Some(Party::Lease(of)) => {
                if let Some((mut cx, leases, _)) = self.leases(now)
                    && let Some(lease) = leases.iter_mut().find(|lease| lease.id() == of)
                {
                    lease.wrote(&mut cx, id, outcome);
                }
            }
            Some(Party::Caller) => {
                let call = self
                    .leases(now)
                    .and_then(|(mut cx, _, requests)| requests.wrote(&mut cx, id, outcome));
                self.call_owner(now, call);
            }
            None => {}
        }
    }

    fn fenced(&mut self, now: Instant, through: IoId) {
        self.out.fenced(through);
        self.delta.fenced(&mut self.out, now, through);
        if let Some((mut cx, leases, requests)) = self.leases(now) {
            for lease in leases.iter_mut() {
                lease.fenced(&mut cx, through);
            }
            requests.fenced(&mut cx, through);
        }
    }

    fn settled(&mut self, now: Instant, id: IoId) {
        self.out.settled(id);
        self.delta.settled(&mut self.out, now, id);
        if let Some((mut cx, leases, _)) = self.leases(now) {
            for lease in leases.iter_mut() {
                lease.settled(&mut cx, id);
            }
        }
    }

    fn slot_event(&mut self, now: Instant, event: Option<DeltaEvent>, data: Option<&[u8]>) {
        match event {
            None => {}
            Some(DeltaEvent::Joined { started }) => self.joined(now, started),
            Some(DeltaEvent::Failed(error)) => self.not_joined(error),
            Some(DeltaEvent::Area { asked }) => {
                self.sample(now, asked, data.expect("an area was read"));
            }
            Some(DeltaEvent::Renewed { started: renewed }) => {
                let (Phase::Member { started, .. } | Phase::Leaving { started, .. }) =
                    &mut self.phase
                else {
                    return;
                };
                *started = renewed;
                if let Phase::Member {
                    late,
                    standing: Standing::Whole,
                    ..
                } = &mut self.phase
                {
                    *late = false;
                    self.out.gate(GateOrder::Extend { started: renewed });
                }
            }
            Some(DeltaEvent::Lost(why)) => self.lose(why),
            Some(DeltaEvent::Gone) => {
                if let Phase::Leaving { standing, .. } = self.phase {
                    self.phase = Phase::Left { standing };
                }
            }
        }
    }

    fn joined(&mut self, now: Instant, started: Instant) {
        let generation = self.delta.held().map_or(0, |lease| lease.owner_generation);
        let again = matches!(self.phase, Phase::Rejoining { .. });
        self.generation = generation;
        let standing = match again {
            true => Standing::Reclaiming,
            false => Standing::Whole,
        };
        let late = false;
        self.phase = Phase::Member {
            started,
            standing,
            late,
        };
        match again {
            true => self.out.note(Note::Rejoined { generation }),
            false => {
                self.out.note(Note::Joined { generation });
                self.out.gate(GateOrder::Arm { started });
            }
        }
        if self.mutant == Some(Mutant::OpenWithoutProof) && again {
            return;
        }
        if let Some((mut cx, leases, _)) = self.leases(now) {
            for lease in leases {
                lease.reclaim(&mut cx);
            }
        }
    }

    fn not_joined(&mut self, error: JoinError) {
        match (self.phase, error) {
            // The storage is not back yet: once nothing older can land, again.
            (Phase::Rejoining { left }, JoinError::Io) => {
                self.phase = Phase::Lost {
                    left,
                    drained: true,
                };
            }
            (Phase::Rejoining { .. }, _) => self.end(),
            _ => {
                self.phase = Phase::Out;
                self.out.note(Note::JoinFailed(error));
            }
        }
    }

    /// Others may count us out, or somebody wrote our slot.
    fn lose(&mut self, why: LostWhy) {
        let Some((_, standing)) = self.membership() else {
            return;
        };
        let leaving = matches!(self.phase, Phase::Leaving { .. });
        let left = self.delta.tried();
        self.delta.stop();
        self.out.note(Note::Lost(why));
        self.requests.freeze(&mut self.out);
        for lease in &mut self.leases {
            lease.freeze(&mut self.out);
        }
        self.leases.retain(|lease| !lease.is_gone());
        match (why, standing, left) {
            _ if leaving => {
                self.phase = match standing {
                    Standing::Refused => Phase::Ended,
                    Standing::Whole | Standing::Reclaiming => Phase::Out,
                };
                self.out.note(Note::Left);
            }
            (LostWhy::Silence, Standing::Whole | Standing::Reclaiming, Some(left)) => {
                self.phase = Phase::Lost {
                    left,
                    drained: false,
                };
            }
            _ => self.end(),
        }
    }

    /// What we held is lost, for good.
    fn end(&mut self) {
        for lease in self.leases.drain(..) {
            let (id, error) = (lease.id(), LeaseError::Taken);
            self.out.note(Note::ReclaimFailed { id, error });
        }
        self.phase = Phase::Ended;
        self.out.gate(GateOrder::Refuse);
        self.out.note(Note::Refused);
    }

    fn sample(&mut self, now: Instant, asked: Instant, area: &[u8]) {
        let mut called = Vec::new();
        self.peers
            .sample(area, asked, now, self.us.host, |from, lease, news| {
                called.push((from, lease.owner_generation, lease.event, news));
            });
        for &(from, generation, event, news) in &called {
            if news && event.number != 0 {
                self.out.note(Note::Told {
                    from,
                    generation,
                    event,
                });
            }
        }
        if !called.is_empty()
            && let Some((mut cx, leases, requests)) = self.leases(now)
        {
            requests.examine(&mut cx, leases);
        }
    }

    fn call_owner(&mut self, now: Instant, asked: Option<Asked>) {
        if let Some(Asked { owner, id }) = asked {
            self.delta.call(now, owner, None);
            self.out.note(Note::Asked { id });
        }
    }

    /// After each event: what follows by itself.
    fn settle(&mut self, now: Instant) {
        match self.phase {
            Phase::Lost {
                left,
                drained: true,
            } if self.out.is_quiet() => {
                self.phase = Phase::Rejoining { left };
                self.delta.enter(&mut self.out, now, Entry::Again(left));
            }
            Phase::Waiting if self.out.is_quiet() => {
                self.phase = Phase::Joining;
                self.delta.enter(&mut self.out, now, Entry::Fresh);
            }
            Phase::Leaving { .. } => {
                self.delta.release(&mut self.out, now);
            }
            Phase::Left { standing } if self.out.is_quiet() => {
                self.phase = match standing {
                    Standing::Refused => Phase::Ended,
                    Standing::Whole | Standing::Reclaiming => {
                        self.out.gate(GateOrder::Disarm);
                        Phase::Out
                    }
                };
                self.out.note(Note::Left);
            }
            Phase::Member {
                started,
                standing: Standing::Reclaiming,
                late,
            } => {
                let pending = self.leases.iter().any(Lease::is_reclaiming);
                let lost = self.leases.iter().any(|lease| lease.is_reclaim_lost());
                let cheat = self.mutant == Some(Mutant::OpenWithoutProof);
                if lost && !cheat {
                    let standing = Standing::Refused;
                    self.phase = Phase::Member {
                        started,
                        standing,
                        late,
                    };
                    self.out.gate(GateOrder::Refuse);
                    self.out.note(Note::Refused);
                } else if !pending || cheat {
                    let standing = Standing::Whole;
                    self.phase = Phase::Member {
                        started,
                        standing,
                        late,
                    };
                    let proof = Reclaimed::proven();
                    self.out.gate(GateOrder::Restore { started, proof });
                    self.out.note(Note::Restored);
                }
            }
            _ => {}
        }
        self.leases.retain(|lease| !lease.is_gone());
    }

    fn order(&mut self, now: Instant, order: Order) {
        match order {
            Order::Join => match self.phase {
                Phase::Out => {
                    self.phase = Phase::Waiting;
                    self.peers = Peers::new(self.us.geometry, self.us.space, self.us.timing);
                }
                Phase::Ended => self.out.note(Note::JoinFailed(JoinError::GateShut)),
                _ => {}
            },
            Order::Leave => self.leave(),
            Order::Tell { host, event } => {
                if self.membership().is_some() {
                    self.delta.call(now, host, Some(event));
                }
            }
            Order::Acquire {
                id,
                name,
                mode,
                on_owner,
            } => {
                let result = self.acquire(now, id, name, mode, on_owner);
                self.answer(id, result);
            }
            Order::Convert { id, mode, lvb } => {
                let act = |cx: &mut Cx, lease: &mut Lease| lease.convert(cx, mode, lvb);
                let result = self.with_lease(now, id, true, act);
                self.answer(id, result);
            }
            Order::Release { id, lvb } => {
                let result = self.with_lease(now, id, false, |cx, lease| lease.release(cx, lvb));
                self.answer(id, result);
            }
            Order::Rename { id, name, lvb } => {
                let act = |cx: &mut Cx, lease: &mut Lease| lease.rename(cx, name, lvb);
                let result = self.with_lease(now, id, false, act);
                self.answer(id, result);
            }
            Order::ReadLvb { id } => {
                let held = self
                    .leases
                    .iter()
                    .any(|l| l.id() == id && l.held().is_some());
                let result = match self.leases(now) {
                    None => Err(LeaseError::NotJoined),
                    Some(_) if !held => Err(LeaseError::NotHeld),
                    Some((mut cx, _, requests)) => requests.read_lvb(&mut cx, id),
                };
                self.answer(id, result);
            }
            Order::Ask {
                id,
                name,
                force_mode,
            } => {
                let result = match self.leases(now) {
                    None => Err(LeaseError::NotJoined),
                    Some((mut cx, _, requests)) => requests.ask(&mut cx, id, name, force_mode),
                };
                self.answer(id, result);
            }
        }
    }

    fn answer(&mut self, id: LeaseId, result: Result<(), LeaseError>) {
        if let Err(error) = result {
            self.out.note(Note::Failed { id, error });
        }
    }

    fn leave(&mut self) {
        match self.phase {
            Phase::Member {
                started, standing, ..
            } if self.leases.is_empty() && self.requests.is_idle() => {
                self.phase = Phase::Leaving { started, standing };
            }
            Phase::Ended => self.out.note(Note::Left),
            _ => self.out.note(Note::LeaveRefused),
        }
    }

    fn acquire(
        &mut self,
        now: Instant,
        id: LeaseId,
        name: Name,
        mode: Mode,
        on_owner: OnOwner,
    ) -> Result<(), LeaseError> {
        match self.phase {
            Phase::Member {
                standing: Standing::Whole,
                ..
            } => {}
            Phase::Member { .. } | Phase::Lost { .. } | Phase::Rejoining { .. } | Phase::Ended => {
                return Err(LeaseError::LockspaceLost);
            }
            Phase::Out
            | Phase::Waiting
            | Phase::Joining
            | Phase::Leaving { .. }
            | Phase::Left { .. } => {
                return Err(LeaseError::NotJoined);
            }
        }
        if let Some(lease) = self.leases.iter().find(|lease| lease.id() == id) {
            return Err(match lease.held() {
                Some(_) => LeaseError::AlreadyHeld,
                None => LeaseError::Busy,
            });
        }
        let (mut cx, leases, _) = self.leases(now).ok_or(LeaseError::NotJoined)?;
        let lease = Lease::acquire(&mut cx, id, name, mode, on_owner);
        leases.push(lease);
        Ok(())
    }

    fn with_lease(
        &mut self,
        now: Instant,
        id: LeaseId,
        whole: bool,
        act: impl FnOnce(&mut Cx, &mut Lease) -> Result<(), LeaseError>,
    ) -> Result<(), LeaseError> {
        let standing = self.membership().map(|(_, standing)| standing);
        match standing {
            None => return Err(LeaseError::NotJoined),
            Some(Standing::Whole) => {}
            Some(Standing::Refused) if !whole => {}
            Some(_) => return Err(LeaseError::LockspaceLost),
        }
        let (mut cx, leases, _) = self.leases(now).ok_or(LeaseError::NotJoined)?;
        let lease = leases
            .iter_mut()
            .find(|lease| lease.id() == id)
            .ok_or(LeaseError::NotHeld)?;
        act(&mut cx, lease)
    }

    /// How long a [`GateOrder`]'s start is good for.
    pub fn give_up(&self) -> Duration {
        self.us.timing.give_up()
    }
}
