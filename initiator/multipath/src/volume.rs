//! One LUN as one queue sees it: requests in, commands on sessions out, answers back, each exactly once.
//!
//! The contract with the runtime, in the order of one turn:
//! 1. events: [`Volume::submit`], [`Volume::connected`], [`Volume::receive`], [`Volume::received_in_place`],
//!    [`Volume::lost`], orders ([`Volume::add_path`], …), then [`Volume::tcp_progress`] of each link of which
//!    [`Volume::wants_progress`], then [`Volume::handle_timeout`];
//! 2. drain [`Volume::poll_output`];
//! 3. for each link with no send in flight, [`Volume::poll_transmit`];
//! 4. arm a receive on each link for [`Volume::want`];
//! 5. wake up at [`Volume::poll_timeout`] at the latest.
//!
//! A *link* is a TCP connection slot of the runtime. Path `i` owns link `i` for its data session and link
//! `PATHS_MAX + i` for the login through another portal that fences its dead session.
//!
//! After [`Output::Close`], and whenever a connection fails by itself, the runtime reports [`Volume::lost`]
//! only when no send or receive of that link can touch any buffer any more. Only then are the link's commands
//! moved or answered. Unless the close was ordered as orderly, the runtime has reset the socket by then (linger 0):
//! the kernel sends nothing of it any more, which is where the timed hold begins. A target may answer a write before it has taken all its data: the runtime holds back an
//! [`Output::Complete`] while a send in flight names the tag's buffer.
//!
//! This file is the wiring. The parts: [`crate::request`] (the table), `dispatch` (from the list to a path, from an
//! answer to what follows), `outcome`, `overdue` and `hedging` (what becomes of a command), `detection` (who is silent),
//! `paths` (connect, login, lose), `verify` (whose LUN is it), `capacity` (how large is it), `alua` (which ports serve it),
//! `fencing` and `hold` (what proves a dead session dead), `orders` (what the operator wants of a path), `ending` (shut
//! down), `picture` (status).

mod alua;
mod answers;
mod candidates;
mod capacity;
mod detection;
mod dispatch;
mod ending;
mod fencing;
mod hedging;
mod hold;
mod orders;
mod outcome;
mod overdue;
mod paths;
mod picture;
mod verify;

#[cfg(test)]
mod tests;

use core::time::Duration;
use std::collections::VecDeque;

use iscsi_client::memory::{BufferId, Memory};
use iscsi_client::outgoing::Outgoing;
use iscsi_client::scsi::PortGroups;
use iscsi_client::session::{Handle, Session, Want};
use iscsi_client::time::Instant;

pub use crate::contract::{
    CloseHow, Dead, FenceKind, FenceTimes, IoError, LINKS_MAX, LinkId, Lost, NoPathRetry,
    Operation, Output, PATHS_MAX, PathConfig, PathId, PathPace, PathState, PathStatus, PolicyKind,
    Request, SpareBuffers, Tag, TcpProgress, UnresolvedWrite, VolumeConfig, VolumeStatus,
};
pub use crate::note::Note;
pub use orders::{DRAIN_LIMIT, OrderRefused};

use crate::attention::Attentions;
use crate::capacity::Growth;
use crate::fence::Ledger;
use crate::no_path::{NoPath, Service};
use crate::note::Notes;
use crate::operation::{Abilities, Plan};
use crate::path::activation::Activation;
use crate::path::backoff::Jitter;
use crate::path::check::Format;
use crate::path::{Path, Phase};
use crate::policy::hedge::Hedging;
use crate::policy::turns::Turns;
use crate::policy::{Class, PolicyState};
use crate::request::Table;
use crate::task::Tasks;
use ending::Life;
use fencing::Fence;
use hedging::Spares;

/// Unresolved writes kept for requests that were failed. When so many are open, more are held, not failed.
const OWNERLESS_MAX: usize = 1024;
/// Tasks of the table per tag: room for chunks, second copies and what is left of overtaken ones.
const TASKS_PER_TAG: u16 = 4;
/// Commands of the volume's own that a session has room for beside the requests.
const OWN_TASKS: u16 = 4;

/// One LUN as one queue sees it.
#[derive(Debug)]
pub struct Volume {
    config: VolumeConfig,
    abilities: Abilities,
    paths: Vec<Path>,
    /// By path: the proof that its dead session is dead, made through another portal.
    fences: Vec<Fence>,
    table: Table,
    tasks: Tasks,
    /// When requests and tasks want to be looked at: never too late, perhaps too early.
    requests_due: Option<Instant>,
    turns: Turns,
    /// Since then more than one request waits for a path, without a pause.
    pressed_since: Option<Instant>,
    hedging: Hedging,
    spares: Spares,
    ledger: Ledger,
    policy: PolicyState,
    no_path: NoPath,
    attentions: Attentions,
    jitter: Jitter,
    outputs: VecDeque<Output>,
    notes: Notes,
    own_commands: u32,
    growth: Growth,
    /// The smallest capacity in blocks that a usable path reports; the greatest number while none does.
    shortest: u64,
    /// As the target was last content with.
    groups_format: Format,
    /// Port groups as last reported, by whichever path.
    groups: Option<PortGroups>,
    activation: Activation,
    deferred_errors: u64,
    fence_times: FenceTimes,
    /// An acknowledged write was lost and no flush has said so yet.
    flush_fails: bool,
    life: Life,
}

/// Whose connection a link is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Link {
    Data(PathId),
    Fence(PathId),
}

impl Link {
    fn of(link: LinkId) -> Link {
        let index = usize::from(link.0);
        assert!(index < LINKS_MAX, "{link:?} does not exist");
        match index.checked_sub(PATHS_MAX) {
            None => Link::Data(PathId(link.0)),
            Some(path) => Link::Fence(PathId(path as u8)),
        }
    }

    fn id(self) -> LinkId {
        match self {
            Link::Data(path) => LinkId(path.0),
            Link::Fence(path) => LinkId(path.0 + PATHS_MAX as u8),
        }
    }
}

impl Volume {
    /// A volume without paths.
    pub fn new(now: Instant, config: VolumeConfig) -> Volume {
        Volume {
            abilities: Abilities::new(&config.description, config.io_len_max),
            paths: Vec::with_capacity(PATHS_MAX),
            fences: Vec::with_capacity(PATHS_MAX),
            table: Table::new(config.depth),
            tasks: Tasks::new(config.depth.saturating_mul(TASKS_PER_TAG)),
            requests_due: None,
            turns: Turns::default(),
            pressed_since: None,
            hedging: Hedging::default(),
            spares: Spares::new(config.spares),
            ledger: Ledger::new(usize::from(config.depth) * 2, OWNERLESS_MAX),
            policy: PolicyState::default(),
            no_path: NoPath::new(now, config.no_path_retry),
            attentions: Attentions::default(),
            jitter: Jitter::new(config.seed),
            outputs: VecDeque::with_capacity(usize::from(config.depth) + LINKS_MAX),
            notes: Notes::default(),
            own_commands: 0,
            growth: Growth::default(),
            shortest: u64::MAX,
            groups_format: Format::default(),
            groups: None,
            activation: Activation::default(),
            deferred_errors: 0,
            fence_times: FenceTimes::default(),
            flush_fails: false,
            life: Life::Running,
            config,
        }
    }

    /// Adds a path and starts to connect it, in the place of a removed one where there is one. `None` if there are
    /// [`PATHS_MAX`] already, or the volume is ending.
    ///
    /// # Panics
    /// If another path has the same ISID: the two would end each other's sessions for ever.
    pub fn add_path(&mut self, now: Instant, path: PathConfig) -> Option<PathId> {
        let vacant = self.path_ids().find(|&id| self.is_vacant(id));
        if (self.paths.len() == PATHS_MAX && vacant.is_none()) || self.life != Life::Running {
            return None;
        }
        assert!(
            self.path_ids()
                .all(|id| self.is_vacant(id) || self.path(id).config.isid != path.isid),
            "two paths with ISID {}",
            path.isid
        );
        let path = Path::new(now, path, self.config.depth);
        let id = match vacant {
            Some(id) => {
                *self.path_mut(id) = path;
                self.fences[usize::from(id.0)] = Fence::new(now, id);
                id
            }
            None => {
                let id = PathId(self.paths.len() as u8);
                self.paths.push(path);
                self.fences.push(Fence::new(now, id));
                id
            }
        };
        self.connect(now, id);
        self.settle(now);
        Some(id)
    }

    /// Takes note of writes that an earlier run of the daemon left unresolved: no overlapping write leaves until
    /// their sessions are fenced. Called before the first [`Volume::add_path`]: a login that is already made
    /// proves nothing about writes named later.
    ///
    /// [`VolumeStatus::unresolved`] names only writes whose session died before the run ended. A run that ended
    /// otherwise than by [`Volume::shut_down`] had more under way: [`UnresolvedWrite::anything`], for each session that
    /// it may have had.
    pub fn restore_unresolved(&mut self, writes: &[UnresolvedWrite]) {
        for write in writes {
            self.ledger.restore(write);
        }
    }

    /// Changes the all-paths-down rule, at once also for requests that wait.
    pub fn set_no_path_retry(&mut self, now: Instant, rule: NoPathRetry) {
        self.no_path.set_rule(rule);
        self.settle(now);
    }

    /// Changes the policy for commands from now on.
    pub fn set_policy(&mut self, policy: PolicyKind) {
        self.config.policy = policy;
    }

    /// Whether LOGICAL UNIT RESET may be a part of a fence from now on. It aborts the commands of every host.
    pub fn set_lun_reset(&mut self, now: Instant, allowed: bool) {
        self.config.allow_lun_reset = allowed;
        self.settle(now);
    }

    /// Forgets backoffs and refusals: every path that is down is tried now.
    pub fn retry_now(&mut self, now: Instant) {
        for id in self.path_ids() {
            let path = self.path_mut(id);
            if matches!(path.phase, Phase::Down { .. } | Phase::Refused { .. })
                && self.life == Life::Running
            {
                let path = self.path_mut(id);
                path.contest.forget();
                path.backoff.reset();
                path.md5_only = false;
                self.connect(now, id);
            }
        }
        for fence in &mut self.fences {
            fence.retry_now(now);
        }
        self.settle(now);
    }

    /// A block request. It is answered by exactly one [`Output::Complete`].
    ///
    /// # Panics
    /// If the tag is beyond the depth or not answered yet, or the data do not fit the tag's buffer.
    pub fn submit(&mut self, now: Instant, request: Request) {
        assert!(
            self.table.is_free(request.tag),
            "{:?} was submitted before it was answered",
            request.tag
        );
        let end = request.lba.checked_add(u64::from(request.blocks));
        let inside = end.is_some_and(|end| end <= self.blocks());
        if let Operation::Read | Operation::Write = request.operation {
            let len = u64::from(request.blocks) * u64::from(self.block_len());
            assert!(
                len <= u64::from(self.config.io_len_max),
                "{:?} is longer than its buffer",
                request.tag
            );
        }
        let flush_fails = request.operation == Operation::Flush && self.flush_fails;
        let plan = match Plan::start(&request, &self.abilities) {
            _ if !inside || flush_fails || self.life != Life::Running => Err(IoError::Io),
            plan => plan,
        };
        if flush_fails {
            self.flush_fails = false;
        }
        match plan {
            Ok(Some(plan)) => {
                let len = u64::from(request.blocks) * u64::from(self.block_len());
                let class = Class::of(u32::try_from(len).unwrap_or(u32::MAX));
                self.turns.arrived(now, class);
                self.table.admit(now, request, plan, class);
                self.settle(now);
            }
            Ok(None) => self.complete(request.tag, Ok(())),
            Err(error) => self.complete(request.tag, Err(error)),
        }
    }

    /// The connection is made. `entropy` is fresh randomness for this login.
    pub fn connected(&mut self, now: Instant, link: LinkId, entropy: [u8; 32]) {
        match Link::of(link) {
            Link::Data(path) => self.path_connected(now, path, entropy),
            Link::Fence(path) => self.fence_connected(now, path, entropy),
        }
        self.settle(now);
    }

    /// Bytes of the stream.
    pub fn receive(&mut self, now: Instant, link: LinkId, bytes: &[u8], memory: &mut dyn Memory) {
        self.heard(now, link);
        if let Some(session) = self.session_mut(link) {
            session.receive(now, bytes, memory);
            self.take_events(now, link, Some(memory));
            self.settle(now);
        }
    }

    /// `len` bytes were received where [`Volume::want`] said.
    pub fn received_in_place(
        &mut self,
        now: Instant,
        link: LinkId,
        len: u32,
        memory: &mut dyn Memory,
    ) {
        self.heard(now, link);
        if let Some(session) = self.session_mut(link) {
            session.received_in_place(now, len, memory);
            self.take_events(now, link, Some(memory));
            self.settle(now);
        }
    }

    /// No receive of this link is armed: [`Output::Rearm`] was carried out.
    pub fn rearmed(&mut self, now: Instant, link: LinkId) {
        if let Link::Data(path) = Link::of(link) {
            self.publish_landed(path);
        }
        self.settle(now);
    }

    /// The connection is gone and nothing of it can touch a buffer. Hard evidence: nothing waits for more.
    pub fn lost(&mut self, now: Instant, link: LinkId, why: Lost) {
        match Link::of(link) {
            Link::Data(path) => self.path_lost(now, path, why),
            Link::Fence(path) => self.fence_lost(now, path, &why.to_string()),
        }
        self.settle(now);
    }

    /// Fires timers that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.detect(now);
        for id in self.path_ids() {
            for link in [Link::Data(id).id(), Link::Fence(id).id()] {
                if let Some(session) = self.session_mut(link)
                    && session.poll_timeout().is_some_and(|at| now >= at)
                {
                    session.handle_timeout(now);
                    self.take_events(now, link, None);
                }
            }
            self.path_timeout(now, id);
            self.fence_timeout(now, id);
            self.hold_timeout(now, id);
        }
        self.capacity_timeout(now);
        self.request_timeouts(now);
        self.settle(now);
    }

    /// When [`Volume::handle_timeout`] must be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sessions = self
            .paths
            .iter()
            .map(|path| &path.session)
            .chain(self.fences.iter().map(|fence| &fence.session))
            .filter_map(|session| session.as_ref().and_then(Session::poll_timeout));
        let paths = self.paths.iter().filter_map(Path::deadline);
        let fences = self.path_ids().filter_map(|id| self.fence_deadline(id));
        let holds = self.path_ids().filter_map(|id| self.hold_deadline(id));
        sessions
            .chain(paths)
            .chain(fences)
            .chain(self.requests_due)
            .chain(self.detection_deadline())
            .chain(holds)
            .chain(self.no_path.deadline())
            .chain(self.life.deadline())
            .chain(self.growth.deadline())
            .chain(self.activation_deadline())
            .min()
    }

    /// What the runtime must do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        output.or_else(|| self.notes.pop().map(Output::Note))
    }

    /// Fills a send for this link. Called only while no send of the link is in flight.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        link: LinkId,
        memory: &mut dyn Memory,
        out: &mut Outgoing<'_>,
    ) {
        if let Link::Data(path) = Link::of(link) {
            self.fill_buffers(path, memory);
        }
        if let Some(session) = self.session_mut(link) {
            session.poll_transmit(now, memory, out);
        }
    }

    /// Where the next bytes of this link belong.
    pub fn want(&self, link: LinkId) -> Want {
        self.session(link).map_or(Want::Nothing, Session::want)
    }

    /// Ends the volume: fails what waits, gives fences until the end of `patience`, logs out every path, and aborts
    /// what is left after `patience`.
    pub fn shut_down(&mut self, now: Instant, patience: Duration) {
        self.begin_to_end(now, patience);
        self.settle(now);
    }

    /// Whether every link is closed and every request answered, after [`Volume::shut_down`].
    pub fn is_shut_down(&self) -> bool {
        self.life == Life::Over
    }

    /// A picture for `status`.
    pub fn status(&self) -> VolumeStatus {
        self.picture()
    }

    /// After each event: what has become possible is done.
    fn settle(&mut self, now: Instant) {
        self.activate(now);
        for id in self.path_ids() {
            self.examine(now, id);
            self.drain_dead_session(now, id);
            self.ask_last_word(now, id);
        }
        if !self.ledger.is_empty() {
            self.start_fences(now);
        }
        self.enforce_no_path(now);
        self.dispatch(now);
        if self.table.in_flight() == 0 && self.tasks.is_empty() {
            self.requests_due = None;
        }
        self.go_on_ending(now);
        self.observe_outstanding(now);
    }

    fn path_ids(&self) -> impl Iterator<Item = PathId> + use<> {
        (0..self.paths.len() as u8).map(PathId)
    }

    fn path(&self, id: PathId) -> &Path {
        &self.paths[usize::from(id.0)]
    }

    fn path_mut(&mut self, id: PathId) -> &mut Path {
        &mut self.paths[usize::from(id.0)]
    }

    fn session(&self, link: LinkId) -> Option<&Session> {
        match Link::of(link) {
            Link::Data(path) => self.paths.get(usize::from(path.0))?.session.as_ref(),
            Link::Fence(path) => self.fences.get(usize::from(path.0))?.session.as_ref(),
        }
    }

    fn session_mut(&mut self, link: LinkId) -> Option<&mut Session> {
        match Link::of(link) {
            Link::Data(path) => self.paths.get_mut(usize::from(path.0))?.session.as_mut(),
            Link::Fence(path) => self.fences.get_mut(usize::from(path.0))?.session.as_mut(),
        }
    }

    /// What a session has to say. Answers come with `memory`; timers and losses bring none that need it.
    fn take_events(&mut self, now: Instant, link: LinkId, memory: Option<&dyn Memory>) {
        while let Some(event) = self.session_mut(link).and_then(Session::poll_event) {
            match Link::of(link) {
                Link::Data(path) => self.path_event(now, path, event, memory),
                Link::Fence(path) => self.fence_event(now, path, event),
            }
        }
    }

    /// Blocks of the device: it has followed a LUN that grew, and has not followed one that shrank.
    fn blocks(&self) -> u64 {
        self.config.description.identity.blocks
    }

    fn block_len(&self) -> u32 {
        self.config.description.identity.block_len
    }

    /// Buffer for the volume's own commands on this link.
    fn scratch(&self, link: Link) -> BufferId {
        BufferId(self.config.first_scratch.0 + u16::from(link.id().0))
    }

    /// A name for a command of the volume's own: the top bit tells it from a request's.
    fn own_handle(&mut self) -> Handle {
        self.own_commands = self.own_commands.wrapping_add(1);
        Handle(OWN_BIT | self.own_commands)
    }

    fn set_phase(&mut self, now: Instant, id: PathId, phase: Phase) {
        let path = self.path_mut(id);
        let before = path.state();
        let was_usable = path.is_usable();
        path.leave_phase(now);
        path.phase = phase;
        path.keep_trouble(now);
        let after = path.state();
        if was_usable && matches!(after, PathState::Down { .. } | PathState::Closing) {
            path.tallies.losses += 1;
            let others = self.paths.iter().any(Path::is_usable);
            if self.path_mut(id).blame_loss(now, others) {
                self.flapping(now, id);
            }
        } else if !was_usable && after == PathState::Up && path.tallies.losses > 0 {
            path.load.returned(now);
        }
        // That the paths of a detached volume go is no news.
        let detached = matches!(self.life, Life::LoggingOut { .. } | Life::Over);
        let path = self.path_mut(id);
        if before != after {
            path.since = now;
            if path.is_news(&after) && !detached {
                path.noted = Some(after.clone());
                self.notes.push(Note::PathState {
                    path: id,
                    state: after,
                });
            }
        }
        self.observe_service(now);
        if was_usable != self.path(id).is_usable() {
            self.weigh_sizes(now);
        }
    }

    fn observe_service(&mut self, now: Instant) {
        let serves = |path: &Path| path.is_usable() || path.is_changing();
        let service = if self.paths.iter().any(serves) {
            Service::Usable
        } else if self.paths.iter().all(Path::is_gone) {
            Service::Gone
        } else {
            Service::Down
        };
        self.no_path.observe(now, service);
    }

    fn complete(&mut self, tag: Tag, result: Result<(), IoError>) {
        self.outputs.push_back(Output::Complete { tag, result });
    }

    fn close_link(&mut self, link: Link, how: CloseHow) {
        self.outputs.push_back(Output::Close {
            link: link.id(),
            how,
        });
    }
}

/// Top bit of a handle: a command of the volume's own, not of a request.
const OWN_BIT: u32 = 0x8000_0000;
