//! A volume and the runtime around it, in the simulated world.
//!
//! It does what the real runtime may do, at its worst: a send reads its payload long after it was filled, a
//! receive that was under way when its link was closed scribbles over the place it was armed for, and a buffer
//! is reused the moment its request is answered. A volume that answers too early convicts itself.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use iscsi_client::memory::{BufferId, Memory};
use iscsi_client::outgoing::{Outgoing, Piece};
use iscsi_client::session::Want;
use iscsi_client::time::Instant;
use kit::check::{Judge, Outcome, RequestId};
use kit::memory::Buffers;
use kit::net::{Direction, Link};
use kit::prng::Prng;
use kit::target::ConnId;
use kit::world::{HostEvent, World};
use multipath::{
    CloseHow, FenceKind, IoError, LinkId, Lost, NoPathRetry, Note, Operation, Output, PathState,
    PathStatus, Permission, Tag, TcpProgress, Volume,
};

use crate::gate::Gate;
use crate::orders::attach;
use crate::plan::{Order, Plan, SPARE_LEN, SPARES};

/// Bytes of a tag's buffer.
pub const IO_LEN_MAX: u32 = 128 << 10;
/// Bytes of a scratch buffer.
pub const SCRATCH_LEN: u32 = 64 << 10;
/// What a buffer holds while nobody may touch it.
pub(crate) const CANARY: u8 = 0xdb;
/// Bytes of headers in one send.
const HEAD_MAX: usize = 4096;
/// Pieces of one send.
const PIECES_MAX: usize = 48;

/// Timers of one moment, each of which may set off one more.
const TIMER_ROUNDS_MAX: u32 = 4;
/// Turns at one moment, before it is a loop without end.
const STANDSTILL_MAX: u32 = 20_000;

/// A connection of the runtime.
pub(crate) struct Slot {
    pub(crate) conn: ConnId,
    connected: bool,
    /// A send under way: its bytes are read when it is done.
    pub(crate) sending: Option<Sending>,
    /// Where a receive is armed.
    armed: Want,
    /// It has just ended: the next turn arms another.
    idle: bool,
    /// It is being taken back, until then.
    rearm: Option<Instant>,
    /// The connection is over; the volume hears of it then.
    pub(crate) over: Option<Instant>,
}

pub(crate) struct Sending {
    head: Vec<u8>,
    pieces: Vec<Piece>,
    done: Instant,
}

impl Sending {
    /// The kernel reads buffers only now: they must still belong to the requests that they were filled for.
    fn judge(&self, open: &BTreeMap<Tag, Open>, depth: u16) {
        for piece in &self.pieces {
            if let Piece::Payload { buffer, .. } = piece
                && buffer.0 < depth
            {
                let tag = Tag(buffer.0);
                assert!(
                    open.contains_key(&tag),
                    "{tag:?} is sent from after its answer"
                );
            }
        }
    }
}

/// A request in flight.
pub(crate) struct Open {
    pub(crate) id: RequestId,
    pub(crate) operation: Operation,
    pub(crate) len: usize,
}

/// A rule of the runtime's half of the contract, broken on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slip {
    /// A request is answered while a send still names its buffer.
    AnswersDuringSend,
}

/// When a run ends before its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    /// When the first path is up; no requests are made.
    Up,
    /// Never; requests are made.
    TheEnd,
    /// When all requests are answered, all paths up and all sessions fenced; no new requests are made.
    Quiet,
}

/// The host.
pub struct Host {
    pub world: World,
    pub volume: Volume,
    pub judge: Judge,
    pub(crate) plan: Plan,
    pub(crate) memory: Buffers,
    pub(crate) slots: BTreeMap<LinkId, Slot>,
    /// Portal of the path that was last given each place of the volume.
    pub(crate) places: [usize; multipath::PATHS_MAX],
    pub(crate) open: BTreeMap<Tag, Open>,
    pub(crate) free: Vec<Tag>,
    /// Answers that wait for the end of a send.
    pub(crate) held_back: Vec<(Tag, Result<(), IoError>)>,
    /// Links whose loss was reported and whose consequences are not carried out yet.
    ended: Vec<LinkId>,
    /// What this runtime does wrong.
    pub(crate) slip: Option<Slip>,
    pub(crate) next_request: Instant,
    /// A buffer full of canary.
    pub(crate) untouched: Vec<u8>,
    /// Room for the heads of one send.
    head: Vec<u8>,
    pub(crate) prng: Prng,
    pub(crate) orders: VecDeque<(Instant, Order)>,
    /// Whether writes may leave.
    pub gate: Gate,
    /// As the volume was told last.
    pub(crate) permission: Permission,
    /// A shutdown is under way and must be over by then.
    pub(crate) ends_by: Option<Instant>,
    /// EIO is a legal answer: by a rule that is or was in force, or by a shutdown.
    pub(crate) may_fail: bool,
    /// Requests answered with success and with an error.
    pub succeeded: u64,
    pub failed: u64,
    pub fence_logins: u64,
    /// Dead sessions that time alone, and that a reset of the unit fenced.
    pub holds: u64,
    pub resets: u64,
}

impl Host {
    pub fn new(plan: Plan) -> Host {
        let world = plan.world();
        let mut prng = Prng::new(plan.seed.rotate_left(17));
        let now = world.now();
        let volume = attach(now, &plan, plan.volume(), &[]);
        // Tags first, then one scratch buffer per link, then the spares, all of the larger length.
        let buffers = usize::from(plan.depth) + multipath_links() + usize::from(SPARES);
        let len = plan.io_len_max().max(SCRATCH_LEN).max(SPARE_LEN) as usize;
        let mut memory = Buffers::new(buffers, len);
        for tag in 0..plan.depth {
            memory.of(BufferId(tag)).fill(CANARY);
        }
        Host {
            judge: Judge::new(plan.block_len, prng.next()),
            volume,
            memory,
            slots: BTreeMap::new(),
            places: core::array::from_fn(|place| place),
            open: BTreeMap::new(),
            free: (0..plan.depth).map(Tag).collect(),
            held_back: Vec::new(),
            ended: Vec::new(),
            slip: None,
            next_request: now,
            orders: VecDeque::new(),
            gate: Gate::new(plan.gate.clone()),
            permission: Permission::Granted,
            ends_by: None,
            may_fail: plan.no_path_retry != NoPathRetry::Queue,
            untouched: vec![CANARY; len],
            head: vec![0; HEAD_MAX],
            world,
            prng,
            plan,
            succeeded: 0,
            failed: 0,
            fence_logins: 0,
            holds: 0,
            resets: 0,
        }
    }

    /// Lets time pass, at most until `end`.
    pub fn run(&mut self, end: Instant, until: Until) {
        let busy = until == Until::TheEnd;
        let mut standing = (self.world.now(), 0);
        while self.world.now() < end && !self.is_reached(until) {
            if busy {
                self.make_requests();
            }
            self.turn();
            self.obey();
            self.keep();
            self.fire_timers();
            // A volume that is over has no timer of its own to be attached again by.
            let is_over = self.ends_by.is_some() && self.volume.is_shut_down();
            let mut wake = if is_over { self.world.now() } else { end };
            if let Some((at, _)) = self.orders.front()
                && self.ends_by.is_none()
            {
                wake = wake.min(*at);
            }
            wake = wake.min(self.ends_by.unwrap_or(wake));
            wake = wake.min(self.gate.poll_timeout().unwrap_or(wake));
            // A send that its connection did not outlive is never done.
            let dues = self.slots.values().filter_map(|slot| {
                let sent = slot.sending.as_ref().map(|sending| sending.done);
                slot.over
                    .or_else(|| sent.into_iter().chain(slot.rearm).min())
            });
            for due in dues.chain(self.volume.poll_timeout()) {
                wake = wake.min(due);
            }
            if busy && !self.free.is_empty() {
                wake = wake.min(self.next_request);
            }
            let event = self.world.advance(wake);
            self.judge_effects();
            let now = self.world.now();
            standing = if standing.0 == now {
                (now, standing.1 + 1)
            } else {
                (now, 0)
            };
            assert!(
                standing.1 < STANDSTILL_MAX,
                "time stands still at {now:?}, woken for {wake:?}: {:#?}",
                self.volume.status()
            );
            match event {
                None => {}
                Some(HostEvent::Connected(conn)) => {
                    if let Some(link) = self.link_of(conn) {
                        let entropy: [u8; 32] =
                            self.prng.bytes(32).try_into().expect("thirty-two bytes");
                        self.slots.get_mut(&link).expect("it has a slot").connected = true;
                        self.volume.connected(now, link, entropy);
                    }
                }
                Some(HostEvent::Received(conn, bytes)) => {
                    if let Some(link) = self.link_of(conn) {
                        self.receive(now, link, &bytes);
                    }
                }
                Some(HostEvent::Lost(conn)) => {
                    if let Some(link) = self.link_of(conn) {
                        self.end_link(link, now);
                    }
                }
            }
        }
    }

    fn is_reached(&self, until: Until) -> bool {
        let up = |path: &PathStatus| path.state == PathState::Up;
        match until {
            Until::TheEnd => false,
            Until::Up => self.volume.status().paths.iter().any(up),
            Until::Quiet => {
                let status = self.volume.status();
                self.open.is_empty()
                    && self.ends_by.is_none()
                    && self.gate.is_settled()
                    && status.paths.iter().all(up)
                    && status.unresolved.is_empty()
            }
        }
    }

    /// The living link of a connection.
    fn link_of(&self, conn: ConnId) -> Option<LinkId> {
        let mut slots = self.slots.iter();
        slots
            .find(|(_, slot)| slot.conn == conn && slot.over.is_none())
            .map(|(link, _)| *link)
    }

    fn end_link(&mut self, link: LinkId, now: Instant) {
        let most = self.plan.close_delay.as_micros() as u64;
        let delay = Duration::from_micros(self.prng.below(most));
        if let Some(slot) = self.slots.get_mut(&link) {
            slot.over.get_or_insert(now + delay);
        }
    }

    /// Fires what is due. A timer that stays due after that would keep the runtime's thread spinning.
    fn fire_timers(&mut self) {
        let now = self.world.now();
        for _ in 0..TIMER_ROUNDS_MAX {
            self.report_progress(now);
            self.volume.handle_timeout(now);
            self.turn();
            if self.volume.poll_timeout().is_none_or(|at| at > now) {
                return;
            }
        }
        panic!(
            "a timer stays due at {now:?}: {:?} {:#?}",
            self.volume.poll_timeout(),
            self.volume.status()
        );
    }

    /// TCP statistics of the connections whose are wanted.
    fn report_progress(&mut self, now: Instant) {
        for (link, slot) in &self.slots {
            if self.volume.wants_progress(now, *link)
                && slot.connected
                && slot.over.is_none()
                && let Some(progress) = self.world.net.progress(now, slot.conn)
            {
                let progress = TcpProgress {
                    acked: progress.acked,
                    received: progress.received,
                    unacked: progress.unacked,
                    since_ack: progress.since_ack,
                    since_data: progress.since_data,
                    since_sent: progress.since_sent,
                    rtt: None,
                    min_rtt: None,
                };
                self.volume.tcp_progress(now, *link, progress);
            }
        }
    }

    /// One turn of the runtime.
    fn turn(&mut self) {
        let now = self.world.now();
        let mut again = true;
        while again {
            self.ask_gate(now);
            again = self.report_ends(now);
            again |= self.finish_sends(now);
            again |= self.take_back(now);
            again |= self.release_held_back();
            while let Some(output) = self.volume.poll_output() {
                again = true;
                self.perform(now, output);
            }
            self.ended.clear();
            again |= self.start_sends(now);
        }
        for (link, slot) in &mut self.slots {
            if slot.over.is_none() && slot.idle {
                slot.armed = self.volume.want(*link);
                slot.idle = false;
            }
        }
    }

    fn report_ends(&mut self, now: Instant) -> bool {
        let ended: Vec<LinkId> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.over.is_some_and(|over| over <= now))
            .map(|(link, _)| *link)
            .collect();
        for link in &ended {
            let slot = self.slots.remove(link).expect("it was there");
            // The last moment at which the kernel may write: the place it was armed for gets garbage.
            if let Want::Payload {
                buffer,
                offset,
                len,
            } = slot.armed
                && self.prng.percent(50)
            {
                self.memory.write(buffer, offset, len).fill(0x66);
            }
            self.volume.lost(now, *link, Lost::Reset);
        }
        self.ended.extend_from_slice(&ended);
        !ended.is_empty()
    }

    /// Ends the receives that were to be taken back by now.
    fn take_back(&mut self, now: Instant) -> bool {
        let due: Vec<LinkId> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.over.is_none() && slot.rearm.is_some_and(|at| at <= now))
            .map(|(link, _)| *link)
            .collect();
        for link in &due {
            let slot = self.slots.get_mut(link).expect("it was there");
            (slot.rearm, slot.idle) = (None, true);
            self.volume.rearmed(now, *link);
        }
        !due.is_empty()
    }

    fn finish_sends(&mut self, now: Instant) -> bool {
        let mut any = false;
        let links: Vec<LinkId> = self.slots.keys().copied().collect();
        for link in links {
            let slot = self.slots.get_mut(&link).expect("it was there");
            if slot.over.is_some() {
                continue;
            }
            let conn = slot.conn;
            let due = |sending: &mut Sending| sending.done <= now;
            if let Some(sending) = slot.sending.take_if(due) {
                sending.judge(&self.open, self.plan.depth);
                self.judge_send(now, link, &sending);
                self.world.send(conn, &gather(&sending, &self.memory));
                any = true;
            }
        }
        any
    }

    fn start_sends(&mut self, now: Instant) -> bool {
        let mut any = false;
        let links: Vec<LinkId> = self.slots.keys().copied().collect();
        for link in links {
            let slot = &self.slots[&link];
            if !slot.connected || slot.sending.is_some() || slot.over.is_some() {
                continue;
            }
            let mut pieces = Vec::with_capacity(PIECES_MAX);
            let mut out = Outgoing::new(&mut self.head, &mut pieces, self.plan.send_max);
            self.volume
                .poll_transmit(now, link, &mut self.memory, &mut out);
            if !pieces.is_empty() {
                any = true;
                // Most sends fit the socket's buffer at once; some wait for room.
                let most = if self.prng.below(16) == 0 { 2_000 } else { 40 };
                let done = now + Duration::from_micros(self.prng.below(most));
                let sending = Sending {
                    head: self.head.clone(),
                    pieces,
                    done,
                };
                self.judge_send(now, link, &sending);
                self.slots.get_mut(&link).expect("it was there").sending = Some(sending);
            }
        }
        any
    }

    fn receive(&mut self, now: Instant, link: LinkId, mut bytes: &[u8]) {
        // What was armed is used up; the turn arms anew.
        if let Some(slot) = self.slots.get_mut(&link) {
            (slot.armed, slot.idle) = (Want::Nothing, true);
        }
        while !bytes.is_empty() {
            match self.volume.want(link) {
                Want::Payload {
                    buffer,
                    offset,
                    len,
                } if self.prng.percent(60) => {
                    let (piece, rest) = bytes.split_at(bytes.len().min(len as usize));
                    let len = piece.len() as u32;
                    self.memory
                        .write(buffer, offset, len)
                        .copy_from_slice(piece);
                    self.volume
                        .received_in_place(now, link, len, &mut self.memory);
                    bytes = rest;
                }
                Want::Nothing => return,
                _ => {
                    self.volume.receive(now, link, bytes, &mut self.memory);
                    return;
                }
            }
        }
    }

    pub(crate) fn perform(&mut self, now: Instant, output: Output) {
        match output {
            Output::Connect { link, to, path } => {
                assert!(!self.slots.contains_key(&link), "{link:?} is not free");
                let portal = self.plan.portal_of(to);
                assert_eq!(
                    self.places[usize::from(path.0)],
                    portal,
                    "bound to the interface of the portal"
                );
                if usize::from(link.0) >= multipath::PATHS_MAX {
                    self.fence_logins += 1;
                }
                let slot = Slot {
                    conn: self.world.connect(Link(portal), portal),
                    connected: false,
                    sending: None,
                    armed: Want::Nothing,
                    idle: true,
                    rearm: None,
                    over: None,
                };
                self.slots.insert(link, slot);
            }
            Output::Close { link, how } => {
                let Some(slot) = self.slots.get_mut(&link) else {
                    // The order has crossed the loss: there is nothing left to close.
                    assert!(
                        self.ended.contains(&link),
                        "{link:?} is closed and was never opened"
                    );
                    return;
                };
                if slot.over.is_none() {
                    // What was being sent may still get out.
                    if let Some(sending) = slot.sending.take()
                        && self.prng.percent(50)
                    {
                        sending.judge(&self.open, self.plan.depth);
                        self.world.send(slot.conn, &gather(&sending, &self.memory));
                    }
                    match how {
                        CloseHow::Abort => self.world.close(slot.conn),
                        CloseHow::Orderly => {
                            self.world.net.finish(now, slot.conn, Direction::ToTarget);
                        }
                    }
                }
                self.end_link(link, now);
            }
            Output::Complete { tag, result } if self.is_being_sent(tag) => {
                self.held_back.push((tag, result));
            }
            Output::Complete { tag, result } => self.complete(tag, result),
            Output::Publish {
                spare,
                tag,
                offset,
                len,
            } => {
                let bytes = self.memory.read(spare, 0, len).to_vec();
                let place = self.memory.write(BufferId(tag.0), offset, len);
                place.copy_from_slice(&bytes);
            }
            Output::Rearm { link } => {
                let delay = Duration::from_micros(self.prng.below(2000));
                if let Some(slot) = self.slots.get_mut(&link) {
                    slot.rearm.get_or_insert(now + delay);
                }
            }
            Output::Drained(through) => self.hear_drained(through),
            Output::Note(Note::Fenced { by, .. }) => match by {
                FenceKind::TimedHold => self.holds += 1,
                FenceKind::LunReset => self.resets += 1,
                _ => {}
            },
            Output::Note(_) => {}
        }
    }

    /// Whether a send that is under way names the tag's buffer. The target may have answered without waiting for it.
    fn is_being_sent(&self, tag: Tag) -> bool {
        let names =
            |piece: &Piece| matches!(piece, Piece::Payload { buffer, .. } if buffer.0 == tag.0);
        self.slip != Some(Slip::AnswersDuringSend)
            && self
                .slots
                .values()
                .filter_map(|slot| slot.sending.as_ref())
                .any(|sending| sending.pieces.iter().any(names))
    }

    /// Answers whose buffers no send names any more.
    fn release_held_back(&mut self) -> bool {
        let (still, free): (Vec<_>, Vec<_>) = core::mem::take(&mut self.held_back)
            .into_iter()
            .partition(|(tag, _)| self.is_being_sent(*tag));
        self.held_back = still;
        let any = !free.is_empty();
        for (tag, result) in free {
            self.complete(tag, result);
        }
        any
    }

    fn complete(&mut self, tag: Tag, result: Result<(), IoError>) {
        let Some(open) = self.open.remove(&tag) else {
            panic!("{tag:?} is answered and was not asked, or twice");
        };
        for (link, slot) in &self.slots {
            let into_it = matches!(slot.armed, Want::Payload { buffer, .. } if buffer.0 == tag.0);
            assert!(
                slot.idle || !into_it,
                "{tag:?} is answered while a receive of {link:?} may write into it"
            );
        }
        let outcome = match result {
            Ok(()) => {
                self.succeeded += 1;
                Outcome::Done
            }
            Err(error) => {
                let allowed = match error {
                    // A unit that is another one now is gone, whatever the rule.
                    IoError::Io => self.may_fail || self.world.was_swapped(),
                    IoError::ReadOnly => self.world.was_write_protected(),
                    IoError::Forbidden => self.may_be_forbidden(open.operation),
                    _ => false,
                };
                assert!(allowed, "{:?} failed with {error:?}", open.operation);
                self.failed += 1;
                Outcome::Failed
            }
        };
        let buffer = self.memory.of(BufferId(tag.0));
        let data = match open.operation {
            Operation::Read => &buffer[..open.len],
            _ => &[],
        };
        if let Err(breach) = self.judge.end(open.id, outcome, data) {
            panic!("{breach:?} at the end of {:?}", open.operation);
        }
        // From now on the buffer is somebody else's. Beyond the request it was canary all the time, or the next request
        // tells.
        buffer[..open.len].fill(CANARY);
        self.free.push(tag);
    }

    fn judge_effects(&mut self) {
        let (ours, impostor) = self.world.take_effects();
        assert_eq!(impostor, [], "another disk was changed");
        self.judge_silence(&ours);
        for effect in ours {
            if let Err(breach) = self.judge.effect(&effect) {
                panic!("{breach:?} by {:?}", effect.nexus);
            }
        }
    }

    /// Requests that have no answer yet.
    pub fn unanswered(&self) -> usize {
        self.open.len()
    }
}

pub(crate) fn gather(sending: &Sending, memory: &Buffers) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in &sending.pieces {
        match *piece {
            Piece::Head { start, len } => {
                bytes.extend(&sending.head[start as usize..][..len as usize]);
            }
            Piece::Payload {
                buffer,
                offset,
                len,
            } => bytes.extend(memory.read(buffer, offset, len)),
        }
    }
    bytes
}

fn multipath_links() -> usize {
    2 * multipath::PATHS_MAX
}
