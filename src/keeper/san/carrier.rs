//! The decisions of the keeper's sessions, without sockets and clock: which portal, what is sent again, what is in
//! doubt.
//!
//! - One portal is current, and stays so until it is lost, late or no good for a command. The others have sessions all
//!   the time, idle but for pings, so that there is one to go to.
//! - A read is sent again wherever that helps, until its deadline.
//! - **A write is sent once.** It is sent again only if the target said that it did not execute it, or if it never
//!   left. Whatever else ends its session ends it as unknown, with a [`Debt`] of that nexus.
//! - But for a write whose sector nobody else writes: that is sent again unchanged, as soon as it is late or lost. The
//!   first copy that succeeds is the answer, doubled as long as another may still land.
//! - A job has no order against others: who wants one asks for the second when the first is answered.
//!
//! [`Answer::Fenced`] names the youngest write of which nothing can take effect any more, and so do all before it:
//! it waits for every older one, in doubt or under way.

mod checks;
mod late;
mod outcome;
mod sessions;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use iscsi_client::login::{Credentials, Offer};
use iscsi_client::outgoing::Outgoing;
use iscsi_client::scsi::{Cdb, Moves, Verdict, judge};
use iscsi_client::session::{Closed, Command, Completion, Handle, Transfer};
use iscsi_client::time::Instant;
use iscsi_client::wire::{Lun, TaskAttribute};
use lockmgr::{IoId, ReadFailed, WriteOutcome};
use multipath::Description;
use multipath::ladder::Hideout;

use super::debt::Debt;
use super::nexus::{Nexus, Phase, Stage as SessionStage, Trouble};
use super::patience::{LOGOUT, PING_AFTER, Patience};
use super::silence::Silence;
use super::tasks::{
    Gathering, JOBS, Kind, PIECE, READ_AHEAD, READ_BYTES, Slot, Slots, Stage, Task, Work,
};
use super::{PortalPicture, PortalState, SanConfig};
use crate::keeper::disk::{Answer, Job};

/// The handle of a check's questions; slots have their index.
const QUESTION: Handle = Handle(u32::MAX);
/// The handle of the question about late commands.
const ARE_YOU_THERE: Handle = Handle(u32::MAX - 1);
/// Tasks of a session: all slots, a question, pings.
const SESSION_TASKS: u16 = 64;
/// Attempts of each nexus that writes wait for after the start: what an earlier run left on it may be ended by one of
/// them.
const FIRST_ATTEMPTS: u32 = 2;

/// What the driver shall do.
#[derive(Debug)]
pub(super) enum Output {
    /// Make a connection for this nexus; it has none.
    Connect {
        nexus: usize,
        to: SocketAddr,
        /// Only for the address that was configured with it.
        interface: Option<String>,
    },
    /// Close the connection of this nexus at once and drop what was not sent. Nothing more is heard of it.
    Reset { nexus: usize },
    /// Tell the keeper.
    Answer(Answer),
}

/// The machine.
#[derive(Debug)]
pub(super) struct Carrier {
    initiator_name: String,
    target: String,
    lun: Lun,
    credentials: Option<Credentials>,
    offer: Offer,
    io_timeout: Duration,
    patience: Patience,
    /// Who the LUN must be, and what it said last of what may change.
    facts: Description,
    nexuses: Vec<Nexus>,
    current: usize,
    slots: Slots,
    tasks: Vec<Task>,
    /// The reads that they are pieces of.
    reads: Vec<Gathering>,
    /// The youngest write that was answered as unknown and is over, not told yet.
    proven: Option<IoId>,
    /// Writes that were answered as doubled, and may land once more.
    doubled: Vec<Doubled>,
    outputs: VecDeque<Output>,
    stopping: bool,
}

/// A write that is on the medium and may land there once more.
#[derive(Clone, Copy, Debug)]
struct Doubled {
    id: IoId,
    /// Among the debts.
    lost: bool,
}

impl Carrier {
    pub fn new(now: Instant, config: SanConfig) -> Carrier {
        let isids = config.isids();
        let nexuses: Vec<Nexus> = config
            .portals
            .into_iter()
            .zip(isids)
            .map(|(portal, isid)| Nexus {
                isid,
                phase: Phase::Idle { until: now },
                since: now,
                trouble: None,
                failures: 0,
                group: None,
                debt: Some(Debt::of_earlier_run(portal.portal_group)),
                silence: Silence::default(),
                aside_until: now,
                redirect: None,
                md5_only: false,
                portal,
            })
            .collect();
        Carrier {
            initiator_name: config.initiator_name,
            target: config.target,
            lun: config.lun,
            credentials: config.credentials,
            offer: config.offer,
            io_timeout: config.io_timeout,
            patience: Patience::of(config.io_timeout),
            facts: config.description,
            slots: Slots::new(nexuses.len()),
            nexuses,
            current: 0,
            tasks: Vec::new(),
            reads: Vec::new(),
            proven: None,
            doubled: Vec::new(),
            outputs: VecDeque::new(),
            stopping: false,
        }
    }

    /// Takes a job.
    pub fn start(&mut self, now: Instant, job: Job) {
        let deadline_of = |at: lockmgr::time::Instant| Instant::from_nanos(at.nanos());
        let (id, offset, len) = match &job {
            Job::Read {
                id, offset, len, ..
            } => (*id, *offset, *len),
            Job::Write {
                id, offset, bytes, ..
            } => (*id, *offset, bytes.len()),
        };
        let fits = self.fits(offset, len) && self.jobs() < JOBS && !self.stopping;
        let waiting = Stage::Waiting { not_before: now };
        match job {
            Job::Read { deadline, .. } if fits && self.collecting() + len <= READ_BYTES => {
                self.reads.push(Gathering {
                    id,
                    data: vec![0; len],
                    missing: len,
                });
                let longest = self.piece();
                for (piece, at) in (0..len).step_by(longest).enumerate() {
                    self.tasks.push(Task {
                        id,
                        piece: piece as u32,
                        offset: offset + at as u64,
                        until: deadline_of(deadline),
                        work: Work::Read {
                            at,
                            len: longest.min(len - at),
                            moved: false,
                        },
                        stage: waiting,
                    });
                }
            }
            Job::Read { .. } => self.answer(Answer::Read {
                id,
                data: Err(ReadFailed),
            }),
            Job::Write {
                bytes,
                deadline,
                writers,
                ..
            } if fits && len <= PIECE as usize => {
                self.tasks.push(Task {
                    id,
                    piece: 0,
                    offset,
                    until: self.patience.last_call(deadline_of(deadline)),
                    work: Work::Write {
                        bytes,
                        writers,
                        flush: false,
                        moved: false,
                        lost: false,
                    },
                    stage: waiting,
                });
            }
            Job::Write { .. } => self.over(id),
        }
    }

    /// Whole blocks within the LUN.
    fn fits(&self, offset: u64, len: usize) -> bool {
        let identity = &self.facts.identity;
        let block = u64::from(identity.block_len);
        let size = identity.blocks.saturating_mul(block);
        let end = offset.checked_add(len as u64);
        let whole = offset.is_multiple_of(block) && (len as u64).is_multiple_of(block);
        len > 0 && whole && end.is_some_and(|end| end <= size)
    }

    fn jobs(&self) -> usize {
        let writes = self.tasks.iter().filter(|task| task.is_write());
        self.reads.len() + writes.count()
    }

    fn collecting(&self) -> usize {
        self.reads.iter().map(|read| read.data.len()).sum()
    }

    /// Bytes of the longest piece of a read: whole blocks.
    fn piece(&self) -> usize {
        let block = self.facts.identity.block_len;
        let most = self.facts.max_transfer_blocks;
        most.map_or(PIECE, |blocks| {
            blocks.max(1).saturating_mul(block).min(PIECE)
        }) as usize
    }

    /// Commands of this read that are under way.
    #[cfg(test)]
    pub fn pieces_out(&self, id: IoId) -> usize {
        self.slots.pieces(id)
    }

    /// A read has failed, whatever its other pieces bring.
    fn fail_read(&mut self, id: IoId) {
        while let Some(at) = self.tasks.iter().position(|task| task.id == id) {
            self.leave_slot(at);
            self.tasks.remove(at);
        }
        self.reads.retain(|read| read.id != id);
        let data = Err(ReadFailed);
        self.answer(Answer::Read { id, data });
    }

    /// Fills a send.
    pub fn transmit(&mut self, now: Instant, index: usize, out: &mut Outgoing<'_>) {
        if let Phase::Open { session, .. } = &mut self.nexuses[index].phase {
            session.poll_transmit(now, &self.slots.buffers, out);
        }
    }

    /// The memory that sends speak of.
    pub fn memory(&self) -> &dyn iscsi_client::memory::Memory {
        &self.slots.buffers
    }

    /// When the first write of this nexus's session is over: from then on nothing is sent on it, but the turn resets
    /// it.
    pub fn send_until(&self, index: usize) -> Option<Instant> {
        let until = |slot: &Slot| match slot.kind {
            Kind::Write { until } if slot.nexus == index => Some(until),
            _ => None,
        };
        self.slots.writes().filter_map(until).min()
    }

    /// What the driver shall do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Everything that can be done now. To be called after anything that happened, and when [`Carrier::poll_timeout`]
    /// says.
    pub fn turn(&mut self, now: Instant) {
        self.expire(now);
        for index in 0..self.nexuses.len() {
            self.serve(now, index);
        }
        self.last_words(now);
        self.dispatch(now);
        self.settle();
        self.announce();
    }

    /// When [`Carrier::turn`] must be called at the latest.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let tasks = self.tasks.iter().flat_map(|task| match task.stage {
            Stage::Waiting { not_before } if not_before > now => {
                [Some(task.until), Some(not_before)]
            }
            _ => [Some(task.until), None],
        });
        let late = (0..self.nexuses.len())
            .flat_map(|index| self.slots.of_nexus(index))
            .map(|(_, slot)| Some(slot.late_at));
        let nexuses = self.nexuses.iter().flat_map(|nexus| match &nexus.phase {
            Phase::Idle { .. } if self.stopping => [None, None],
            Phase::Idle { until } => [Some(*until), None],
            Phase::Connecting { deadline, .. } => [Some(*deadline), None],
            Phase::Open { session, stage, .. } => {
                let own = match stage {
                    SessionStage::LoggingIn => None,
                    SessionStage::Checking { until, .. } | SessionStage::Leaving { until } => {
                        Some(*until)
                    }
                    SessionStage::Serving { .. } if session.pings() > 0 => None,
                    SessionStage::Serving { .. } => Some(session.last_received() + PING_AFTER),
                };
                [session.poll_timeout(), own]
            }
        });
        let suspicion = (0..self.nexuses.len()).map(|index| self.next_look(index));
        let writes = (0..self.nexuses.len()).map(|index| self.send_until(index));
        let terms = self.terms();
        let holds = self
            .nexuses
            .iter()
            .map(|nexus| nexus.debt.as_ref()?.over_after(&terms))
            .map(|at| at.filter(|at| *at > now));
        tasks
            .chain(late)
            .chain(nexuses)
            .chain(suspicion)
            .chain(writes)
            .chain(holds)
            .flatten()
            .min()
    }

    /// Logs out. Jobs that are under way are answered as if their session had been lost.
    pub fn stop(&mut self, now: Instant) {
        if std::mem::replace(&mut self.stopping, true) {
            return;
        }
        while let Some(id) = self.reads.first().map(|read| read.id) {
            self.fail_read(id);
        }
        for task in std::mem::take(&mut self.tasks) {
            match task.stage {
                Stage::Out { .. } => self.tasks.push(task),
                Stage::Waiting { .. } => self.over(task.id),
            }
        }
        for index in 0..self.nexuses.len() {
            let busy = self.slots.of_nexus(index).next().is_some();
            match &mut self.nexuses[index].phase {
                Phase::Open {
                    session,
                    stage: stage @ SessionStage::Serving { .. },
                    ..
                } if !busy => {
                    session.logout(now);
                    *stage = SessionStage::Leaving {
                        until: now + LOGOUT,
                    };
                }
                Phase::Idle { .. } => {}
                _ => self.lose(now, index, Trouble::Closed(Closed::ConnectionLost), None),
            }
        }
    }

    /// Whether it has stopped.
    pub fn is_over(&self) -> bool {
        self.stopping
            && self
                .nexuses
                .iter()
                .all(|nexus| matches!(nexus.phase, Phase::Idle { .. }))
    }

    /// How things are.
    pub fn picture(&self) -> Vec<PortalPicture> {
        let picture = |(index, nexus): (usize, &Nexus)| PortalPicture {
            portal: nexus.portal.name.clone(),
            state: match &nexus.phase {
                Phase::Idle { .. } => PortalState::Down,
                Phase::Connecting { .. } => PortalState::Connecting,
                Phase::Open { via, stage, .. } => match stage {
                    _ if *via != index => PortalState::Fencing,
                    SessionStage::LoggingIn => PortalState::LoggingIn,
                    SessionStage::Checking { .. } => PortalState::Checking,
                    SessionStage::Serving { .. } => PortalState::Up {
                        current: index == self.current,
                    },
                    SessionStage::Leaving { .. } => PortalState::LoggingOut,
                },
            },
            since: nexus.since,
            why: nexus.trouble.clone(),
            in_doubt: nexus.debt.is_some_and(|debt| debt.writes.is_some()),
        };
        self.nexuses.iter().enumerate().map(picture).collect()
    }

    /// Jobs whose time is over.
    fn expire(&mut self, now: Instant) {
        for index in 0..self.nexuses.len() {
            if self.send_until(index).is_some_and(|until| until <= now) {
                // Its bytes may be in our kernel still. It comes back unsent, or is in doubt.
                self.lose(now, index, Trouble::Deadline, None);
            }
        }
        while let Some(at) = self.tasks.iter().position(|task| task.until <= now) {
            let id = self.tasks[at].id;
            match self.tasks[at].is_write() {
                true => {
                    self.leave_slot(at);
                    self.tasks.remove(at);
                    self.over(id);
                }
                false => self.fail_read(id),
            }
        }
    }

    /// The command of a task goes on without it. A write's stays a copy of it.
    fn leave_slot(&mut self, at: usize) {
        if let Stage::Out { slot } = self.tasks[at].stage
            && let Some(slot) = self.slots.get_mut(slot)
            && !matches!(slot.kind, Kind::Write { .. })
        {
            slot.task = None;
        }
    }

    /// The task whose command this slot has, or had.
    fn position(&self, slot: &Slot) -> Option<usize> {
        let is = |task: &Task| Some(task.id) == slot.task && task.piece == slot.piece;
        self.tasks.iter().position(is)
    }

    /// The session for the next command.
    fn choose(&self, now: Instant) -> Option<usize> {
        self.choose_among(now, |_| true)
    }

    /// The session for a task: none that has a copy of it.
    fn choose_for(&self, now: Instant, task: &Task) -> Option<usize> {
        self.choose_among(now, |index| {
            self.slots.copies(task.id).all(|slot| slot.nexus != index)
        })
    }

    fn choose_among(&self, now: Instant, may: impl Fn(usize) -> bool) -> Option<usize> {
        let count = self.nexuses.len();
        let serving = (0..count)
            .map(|step| (self.current + step) % count)
            .filter(|index| self.nexuses[*index].serves() && may(*index));
        let aside = |index: &usize| self.nexuses[*index].aside_until > now;
        serving
            .clone()
            .find(|index| !aside(index))
            .or_else(|| serving.clone().next())
    }

    /// Whether a login may yet end what an earlier run of the keeper left.
    fn past_may_land(&self) -> bool {
        self.nexuses.iter().any(|nexus| {
            nexus.failures < FIRST_ATTEMPTS
                && nexus
                    .debt
                    .is_some_and(|debt| debt.hideout == Hideout::Unknown)
        })
    }

    /// Hands jobs to the current session: writes first, each kind in the order it came.
    fn dispatch(&mut self, now: Instant) {
        if self.stopping {
            return;
        }
        let Some(index) = self.choose(now) else {
            return;
        };
        self.current = index;
        let past = self.past_may_land();
        for write in [true, false] {
            if write && past {
                continue;
            }
            for at in 0..self.tasks.len() {
                let task = &self.tasks[at];
                let due = matches!(task.stage, Stage::Waiting { not_before } if not_before <= now);
                if !due || task.is_write() != write {
                    continue;
                }
                if !write && self.slots.pieces(task.id) >= READ_AHEAD {
                    continue;
                }
                let Some(index) = self.choose_for(now, task) else {
                    continue;
                };
                let room = self.nexuses[index]
                    .session_mut()
                    .map_or(0, |session| session.room());
                let Some(slot) = self.slots.free(write).filter(|_| room > 0) else {
                    break;
                };
                self.submit(now, index, at, slot);
            }
        }
    }

    fn submit(&mut self, now: Instant, index: usize, at: usize, slot: usize) {
        let facts = &self.facts;
        let block = facts.identity.block_len;
        let task = &mut self.tasks[at];
        let buffer = iscsi_client::memory::BufferId(slot as u16);
        let offset = 0;
        let (kind, len, cdb, transfer) = match &task.work {
            Work::Read { len, .. } => {
                let len = *len as u32;
                let lba = task.offset / u64::from(block);
                let cdb = Cdb::read_16(lba, len / block);
                let transfer = Transfer::Read {
                    buffer,
                    offset,
                    len,
                };
                (Kind::Read, len, cdb, transfer)
            }
            Work::Write { bytes, flush, .. } => {
                let len = bytes.len() as u32;
                let (lba, blocks) = (task.offset / u64::from(block), len / block);
                if *flush {
                    let cdb = Cdb::synchronize_cache_16(lba, blocks);
                    (Kind::Flush, 0, cdb, Transfer::None)
                } else {
                    self.slots.bytes(slot)[..bytes.len()].copy_from_slice(bytes);
                    let fua = facts.write_cache && facts.fua;
                    let transfer = Transfer::Write {
                        buffer,
                        offset,
                        len,
                    };
                    let until = task.until;
                    let cdb = Cdb::write_16(lba, blocks, fua);
                    (Kind::Write { until }, len, cdb, transfer)
                }
            }
        };
        let taken = Slot {
            nexus: index,
            task: Some(task.id),
            piece: task.piece,
            kind,
            since: now,
            late_at: now + self.nexuses[index].silence.late_after(self.patience.late),
            len: len as usize,
        };
        task.stage = Stage::Out { slot };
        self.slots.take(slot, taken);
        let command = Command {
            handle: Handle(slot as u32),
            lun: self.lun,
            cdb,
            attribute: TaskAttribute::Simple,
            transfer,
        };
        if let Some(session) = self.nexuses[index].session_mut() {
            session.submit(now, command);
        }
    }

    fn answer(&mut self, answer: Answer) {
        self.outputs.push_back(Output::Answer(answer));
    }

    fn unknown(&mut self, id: IoId) {
        self.answer(Answer::Wrote {
            id,
            outcome: WriteOutcome::Unknown,
        });
    }

    /// A write that did not succeed, and of which nothing is left to wait for: it never left, or the target has ended
    /// it.
    fn over(&mut self, id: IoId) {
        self.unknown(id);
        self.proven = self.proven.max(Some(id));
    }

    /// The debt of a nexus is over.
    fn prove(&mut self, index: usize) {
        if let Some(debt) = self.nexuses[index].debt.take() {
            self.proven = self.proven.max(debt.writes.map(|(_, last)| last));
        }
    }

    /// Tells what is proven, as soon as no older write is under way or in doubt.
    fn announce(&mut self) {
        let Some(through) = self.proven else {
            return;
        };
        let waits = |task: &Task| task.is_write() && task.id <= through;
        let copy = |slot: &Slot| slot.task <= Some(through);
        let under_way = self.tasks.iter().any(waits) || self.slots.writes().any(copy);
        let in_doubt = self.nexuses.iter().any(|nexus| {
            let writes = nexus.debt.and_then(|debt| debt.writes);
            writes.is_some_and(|(first, _)| first <= through)
        });
        if !under_way && !in_doubt {
            self.proven = None;
            self.doubled.retain(|doubled| doubled.id > through);
            self.answer(Answer::Fenced { through });
        }
    }
}

fn judge_completion(moves: Moves, completion: &Completion) -> Verdict {
    judge(
        moves,
        completion.status,
        completion.sense,
        completion.residual,
        completion.received,
    )
}
