//! Carries what a [`Lockspace`] asks for to disk, gates and callers, and what they answer back. The thread around it only waits.
//!
//! It ends when it is not wanted any more and nothing it wrote can still land: whoever joins the lockspace again from
//! this host relies on that.

use std::collections::BTreeMap;
use std::time::Duration;

use crossbeam_channel::Sender;
use lockmgr::ondisk::Name;
use lockmgr::time::Instant;
use lockmgr::{
    Doubts, GateOrder, Identity, Input, IoId, JoinError, LeaseError, LeaseId, Lockspace, Note,
    Order, Output, WriteOutcome,
};
use tokio::sync::mpsc;

use super::book::{Book, Call, Errand, Heard, LeaveError, Reply};
use super::disk::{Answer, Job, LeaseDisk};
use super::gates::{GateError, Gates};
use super::news::{News, Reporter};
use super::picture::{Holding, Picture, Standing};

/// Most leases of one lockspace on this host: held, or with something under way.
pub const LEASES_MAX: usize = 1000;

/// How often the disk is told what is in use.
const SWEEP: Duration = Duration::from_secs(1);

/// What runs on the keeper's thread.
pub(super) struct Driver {
    space: Lockspace,
    us: Identity,
    disk: Box<dyn LeaseDisk>,
    gates: Gates,
    book: Book,
    /// Who listens to other hosts.
    ear: Option<mpsc::Sender<Heard>>,
    reporter: Option<Reporter>,
    clock: fn() -> Instant,
    /// Where the data path's word comes from, that it is drained.
    drained: Sender<()>,
    standing: Standing,
    since: Instant,
    /// When the disk was last told what is in use.
    swept: Instant,
    renewed: Option<Instant>,
    holdings: BTreeMap<LeaseId, Holding>,
    /// Names of what is being acquired.
    names: BTreeMap<LeaseId, Name>,
    /// Writes that were not answered.
    writing: usize,
    doubts: Doubts,
    /// Writes that ended `Doubled` and may land once more.
    doubled: Vec<IoId>,
}

impl Driver {
    /// Starts to join.
    pub fn new(
        us: Identity,
        seed: u64,
        disk: Box<dyn LeaseDisk>,
        gates: Gates,
        clock: fn() -> Instant,
        drained: Sender<()>,
        joined: Reply<u64, JoinError>,
    ) -> Driver {
        let mut driver = Driver {
            space: Lockspace::new(us, seed),
            us,
            disk,
            gates,
            book: Book::joining(joined),
            ear: None,
            reporter: None,
            clock,
            drained,
            standing: Standing::Joining,
            since: clock(),
            swept: clock(),
            renewed: None,
            holdings: BTreeMap::new(),
            names: BTreeMap::new(),
            writing: 0,
            doubts: Doubts::default(),
            doubled: Vec::new(),
        };
        driver.tell(Input::Order(Order::Join));
        driver
    }

    /// When to call [`time_out`](Self::time_out).
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.is_ending() {
            true => None,
            false => self.space.poll_timeout(),
        }
    }

    fn is_ending(&self) -> bool {
        self.standing == Standing::Ending
    }

    /// Whether it is not wanted any more, and nothing it wrote can still land.
    pub fn is_over(&self) -> bool {
        self.is_ending() && self.writing == 0 && self.doubts.is_empty() && self.doubled.is_empty()
    }

    /// Whatever is due happens. Called about once a second at least.
    pub fn time_out(&mut self) {
        self.gates.ask_again();
        let now = (self.clock)();
        if now.since(self.swept) >= SWEEP {
            self.swept = now;
            let held = self.holdings.keys().copied();
            self.disk.in_use(&mut held.chain(self.book.leases()));
        }
        if self.poll_timeout().is_some_and(|at| at <= (self.clock)()) {
            self.tell(Input::Timeout);
        }
    }

    /// No write that left before the gates shut can still execute.
    pub fn drained(&mut self) {
        self.tell(Input::Drained);
    }

    /// The disk answers.
    pub fn answer(&mut self, answer: Answer) {
        match answer {
            Answer::Read { id, data } => {
                let data = match &data {
                    Ok(data) => Ok(&data[..]),
                    Err(failed) => Err(*failed),
                };
                self.tell(Input::Read { id, data });
            }
            Answer::Wrote { id, outcome } => {
                self.writing = self.writing.saturating_sub(1);
                match outcome {
                    WriteOutcome::Done => {}
                    WriteOutcome::Doubled => self.doubled.push(id),
                    WriteOutcome::Unknown => self.doubts.add(id),
                }
                self.tell(Input::Wrote { id, outcome });
            }
            Answer::Fenced { through } => {
                self.doubts.fenced(through);
                self.doubled.retain(|id| !id.is_fenced_by(through));
                self.tell(Input::Fenced { through });
            }
            Answer::Settled { id } => {
                self.doubled.retain(|of| *of != id);
                self.tell(Input::Settled { id });
            }
        }
    }

    /// Somebody asks.
    pub fn call(&mut self, call: Call) {
        match call {
            Call::Look(reply) => drop(reply.send(self.picture())),
            Call::Leave(reply) => self.leave(reply),
            Call::Abandon => self.abandon(),
            Call::Guard { add, remove, reply } => {
                let _ = reply.send(self.guard(add, &remove));
            }
            Call::Acquire {
                id,
                name,
                mode,
                on_owner,
                reply,
            } => {
                let order = Order::Acquire {
                    id,
                    name,
                    mode,
                    on_owner,
                };
                if self.enter(id, Errand::Acquire(reply)) {
                    self.names.insert(id, name);
                    self.tell(Input::Order(order));
                }
            }
            Call::Convert {
                id,
                mode,
                lvb,
                reply,
            } => {
                if self.is_no_sector(lvb.as_deref()) {
                    let _ = reply.send(Err(LeaseError::NoRoomForLvb));
                } else if self.enter(id, Errand::Convert(reply)) {
                    self.tell(Input::Order(Order::Convert { id, mode, lvb }));
                }
            }
            Call::Rename {
                id,
                name,
                lvb,
                reply,
            } => {
                if self.is_no_sector(lvb.as_deref()) {
                    let _ = reply.send(Err(LeaseError::NoRoomForLvb));
                } else if self.enter(id, Errand::Release(reply)) {
                    self.tell(Input::Order(Order::Rename { id, name, lvb }));
                }
            }
            Call::Ask {
                id,
                name,
                force_mode,
                reply,
            } => {
                let order = Order::Ask {
                    id,
                    name,
                    force_mode,
                };
                if self.enter(id, Errand::Ask(reply)) {
                    self.tell(Input::Order(order));
                }
            }
            Call::Tell { host, event } => self.tell(Input::Order(Order::Tell { host, event })),
            Call::Hear(ear) => self.ear = Some(ear),
            Call::Report(reporter) => self.reporter = Some(reporter),
            Call::Release { id, lvb, reply } => self.release(id, lvb, reply),
            Call::ReadLvb { id, reply } => {
                if self.enter(id, Errand::Lvb(reply)) {
                    self.tell(Input::Order(Order::ReadLvb { id }));
                }
            }
        }
    }

    /// Writes an errand down, or answers it at once.
    fn enter(&mut self, id: LeaseId, errand: Errand) -> bool {
        let new = matches!(errand, Errand::Acquire(_) | Errand::Ask(_));
        if self.is_ending() {
            errand.fail(LeaseError::NotJoined);
        } else if self.book.is_busy(id)
            || (new && self.holdings.len() + self.book.len() >= LEASES_MAX)
        {
            errand.fail(LeaseError::Busy);
        } else {
            self.book.enter(id, errand);
            return true;
        }
        false
    }

    fn is_no_sector(&self, lvb: Option<&[u8]>) -> bool {
        lvb.is_some_and(|bytes| bytes.len() != self.us.geometry.sector_bytes())
    }

    fn release(&mut self, id: LeaseId, lvb: Option<Box<[u8]>>, reply: Reply<(), LeaseError>) {
        if self.is_no_sector(lvb.as_deref()) {
            let _ = reply.send(Err(LeaseError::NoRoomForLvb));
            return;
        }
        // While it is being acquired: the acquisition ends, one way or the other, and says so.
        match self.book.give_up(id, reply) {
            Ok(()) => self.tell(Input::Order(Order::Release { id, lvb: None })),
            Err(reply) => {
                if self.enter(id, Errand::Release(reply)) {
                    self.tell(Input::Order(Order::Release { id, lvb }));
                }
            }
        }
    }

    fn leave(&mut self, reply: Reply<(), LeaveError>) {
        let in_use = !self.holdings.is_empty() || self.book.len() > 0;
        match self.standing {
            Standing::Ending => drop(reply.send(Ok(()))),
            _ if in_use || self.book.leave.is_some() => {
                let _ = reply.send(Err(LeaveError::InUse));
            }
            Standing::Joined | Standing::Refused => {
                self.book.leave = Some(reply);
                self.tell(Input::Order(Order::Leave));
            }
            Standing::Joining => self.give_up(reply),
            Standing::Lost(_) | Standing::Reclaiming => {
                self.gates.refuse();
                self.give_up(reply);
            }
        }
    }

    fn abandon(&mut self) {
        // One that ends has left its gates as they shall be.
        if !self.is_ending() {
            self.gates.refuse();
            self.stand(Standing::Ending);
            self.book.close();
        }
    }

    fn guard(&mut self, add: Gates, remove: &Gates) -> Result<(), GateError> {
        let now = (self.clock)();
        let renewed = match self.standing {
            _ if self.book.leave.is_some() => return Err(GateError::NotJoined),
            // Armed when the others are.
            Standing::Joining => None,
            Standing::Joined => Some(self.renewed.ok_or(GateError::NotJoined)?),
            // Nothing is known of who was in between; a lockspace that comes back is asked again.
            Standing::Lost(_) | Standing::Reclaiming | Standing::Refused | Standing::Ending => {
                return Err(GateError::NotJoined);
            }
        };
        let added = self.gates.add(now, add, renewed, self.space.give_up());
        self.gates.remove(now, remove).and(added)
    }

    /// Nothing more is read or written, whatever our slot says: it expires.
    fn give_up(&mut self, reply: Reply<(), LeaveError>) {
        self.book.leave = Some(reply);
        self.stand(Standing::Ending);
        self.book.close();
    }

    fn stand(&mut self, standing: Standing) {
        self.standing = standing;
        self.since = (self.clock)();
    }

    fn tell(&mut self, input: Input) {
        // Given up: what comes back is for the count above alone.
        if self.is_ending() {
            return;
        }
        self.space.handle((self.clock)(), input);
        if let Some(limit) = self.space.limit() {
            let give_up = u64::try_from(self.space.give_up().as_nanos()).unwrap_or(u64::MAX);
            self.renewed = Some(Instant::from_nanos(limit.nanos().saturating_sub(give_up)));
        }
        while let Some(output) = self.space.poll_output() {
            self.perform(output);
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Read {
                id,
                offset,
                len,
                deadline,
            } => self.disk.start(Job::Read {
                id,
                offset,
                len,
                deadline,
            }),
            Output::Write {
                id,
                offset,
                bytes,
                deadline,
                writers,
            } => {
                self.writing += 1;
                self.disk.start(Job::Write {
                    id,
                    offset,
                    bytes,
                    deadline,
                    writers,
                });
            }
            Output::Gate(order) => self.move_gates(&order),
            Output::Note(note) => self.note(note),
        }
    }

    fn move_gates(&mut self, order: &GateOrder) {
        let give_up = self.space.give_up();
        if self.gates.apply((self.clock)(), order, give_up).is_err() {
            tracing::warn!("lockspace {}: the gate had shut", self.us.space);
            self.space.handle((self.clock)(), Input::GateShut);
        }
    }

    fn note(&mut self, note: Note) {
        if let Some(news) = News::of(&note, (self.clock)(), self.us.space) {
            news.log();
            if let Some(reporter) = &self.reporter {
                reporter.tell(news);
            }
        }
        match &note {
            Note::Joined { .. } => self.stand(Standing::Joined),
            Note::Restored => self.stand(Standing::Joined),
            Note::Rejoined { .. } => self.stand(Standing::Reclaiming),
            Note::Refused => self.stand(Standing::Refused),
            Note::JoinFailed(_) | Note::Left => self.stand(Standing::Ending),
            Note::Lost(why) => {
                self.stand(Standing::Lost(*why));
                self.gates.lost(&self.drained);
            }
            Note::Acquired { id, mode, lver } => {
                let name = self.names.remove(id).unwrap_or(Name::EMPTY);
                let holding = Holding {
                    id: *id,
                    name,
                    mode: *mode,
                    lver: *lver,
                };
                self.holdings.insert(*id, holding);
            }
            Note::Converted { id, mode, lver } => {
                if let Some(holding) = self.holdings.get_mut(id) {
                    holding.mode = *mode;
                    holding.lver = *lver;
                }
            }
            Note::Reclaimed { id } => {
                // A conversion may have been under way when the lockspace was lost.
                let mode = self.space.held().find(|(of, _)| of == id);
                if let (Some((_, mode)), Some(holding)) = (mode, self.holdings.get_mut(id)) {
                    holding.mode = mode;
                }
            }
            Note::Released { id } | Note::ReclaimFailed { id, .. } => {
                self.holdings.remove(id);
            }
            Note::Failed { id, .. } => {
                self.names.remove(id);
            }
            _ => {}
        }
        if let (Some(heard), Some(ear)) = (Heard::of(&note), &self.ear) {
            // Full, or gone: other hosts do not wait for an answer.
            let _ = ear.try_send(heard);
        }
        if let Some(id) = self.book.note(&note) {
            let order = Order::Release { id, lvb: None };
            self.space.handle((self.clock)(), Input::Order(order));
        }
        if self.is_ending() {
            self.book.close();
        }
    }

    fn picture(&self) -> Picture {
        let now = (self.clock)();
        let ever = |host: &lockmgr::Host| host.generation > 0;
        Picture {
            standing: self.standing,
            lasts: now.since(self.since),
            generation: self.space.generation(),
            renewed: self.renewed.map(|at| now.since(at)),
            history: self.space.history().clone(),
            hosts: self.space.hosts(now).filter(ever).collect(),
            held: self.holdings.values().copied().collect(),
            acquiring: self.book.acquiring().collect(),
        }
    }
}
