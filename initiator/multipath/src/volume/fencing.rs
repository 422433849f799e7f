//! The rungs that are a login: with the dead session's ISID through a sibling portal of the same portal group, or the
//! path's own return. The ladder is told in [`crate::ladder`], the rung without a login is in `hold`.
//!
//! ```text
//!   Idle ----> Connecting ----> LoggingIn ----> Draining ----> Leaving ----> Closing ----> Idle
//!    ^             |                |               |        (proven dead,      ^
//!    |             +--- the path's own connection   |         logging out)      |
//!    |             |    is first: it is the fence   |                           |
//!    +-- backoff --+--------------- anything goes wrong ------------------------+
//! ```
//!
//! Two sessions of one ISID in one portal group must not meet, or they end each other: while a fence has logged in,
//! the path's own connection is parked, and no fence starts once the path's own login is under way. A login that
//! ends a session may hang as long as the target's backend does, and every further login to that portal group
//! would queue behind it: so one at a time per group, with a long limit, and after one that hung a pause as long as
//! that. IO on other sessions goes on.

use core::time::Duration;

use iscsi_client::session::{Closed, Event, Session, SessionConfig};
use iscsi_client::time::Instant;

use super::hold::Hold;
use super::{CloseHow, Link, Note, Output, PathId, Volume};
use crate::contract::{FenceKind, FenceTimes};
use crate::drain::{Drain, Drained};
use crate::fence::Nexus;
use crate::ladder::TargetKind;
use crate::path::backoff::Backoff;
use crate::path::{CONNECT_TIMEOUT, FENCE_LOGIN_TIMEOUT, Phase, Sent};
use crate::volume::ending::Life;

/// The ordered command waits for whatever the dead session had in the backend.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
/// The proof is made; a logout that hangs is cut.
const LOGOUT_TIMEOUT: Duration = Duration::from_secs(5);
/// After a fence login that hung: the target's login thread may be busy with it still.
pub(super) const HANG_PAUSE: Duration = Duration::from_secs(60);
/// Tasks of a fence session: one command at a time.
const TASKS: u16 = 2;

/// The fence of one path's dead session.
#[derive(Debug)]
pub(super) struct Fence {
    stage: Stage,
    pub(super) session: Option<Session>,
    /// Through whose portal the present login goes.
    via: PathId,
    backoff: Backoff,
    not_before: Instant,
    pub(super) hold: Hold,
    /// When the session was lost whose writes are unresolved.
    owed_since: Option<Instant>,
    pub(super) times: FenceTimes,
}

/// Why an attempt came to nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Failure {
    /// It was refused, or its connection was lost.
    Refused,
    /// The target took the connection and did not answer: an old command is stuck.
    Hung,
}

#[derive(Debug)]
enum Stage {
    Idle,
    Connecting {
        nexus: Nexus,
        deadline: Instant,
    },
    LoggingIn {
        nexus: Nexus,
    },
    Draining {
        nexus: Nexus,
        drain: Drain,
        out: Option<Sent>,
    },
    Leaving {
        deadline: Instant,
    },
    Closing,
}

impl Fence {
    pub(super) fn new(now: Instant, own: PathId) -> Fence {
        Fence {
            stage: Stage::Idle,
            session: None,
            via: own,
            backoff: Backoff::FENCE,
            not_before: now,
            hold: Hold::new(now),
            owed_since: None,
            times: FenceTimes::default(),
        }
    }

    /// The nexus that a login or drain under way is about.
    fn nexus(&self) -> Option<Nexus> {
        match self.stage {
            Stage::Draining { nexus, .. } => Some(nexus),
            _ => self.logging_in(),
        }
    }

    pub(super) fn retry_now(&mut self, now: Instant) {
        self.backoff.reset();
        self.not_before = now;
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    /// The nexus whose login is under way.
    fn logging_in(&self) -> Option<Nexus> {
        match self.stage {
            Stage::Connecting { nexus, .. } | Stage::LoggingIn { nexus } => Some(nexus),
            _ => None,
        }
    }
}

impl Volume {
    /// Starts what is needed and possible.
    pub(super) fn start_fences(&mut self, now: Instant) {
        if matches!(self.life, Life::LoggingOut { .. } | Life::Over) {
            return;
        }
        for id in self.path_ids() {
            self.start_hold(now, id);
            let fence = &self.fences[usize::from(id.0)];
            if !fence.is_idle() || now < fence.not_before {
                continue;
            }
            if let Some((nexus, via)) = self.fence_needed(id) {
                let to = self.path(via).to;
                self.fences[usize::from(id.0)].via = via;
                self.fences[usize::from(id.0)].stage = Stage::Connecting {
                    nexus,
                    deadline: now + CONNECT_TIMEOUT,
                };
                self.notes.push(Note::FenceStarted { path: id, via });
                self.outputs.push_back(Output::Connect {
                    link: Link::Fence(id).id(),
                    to,
                    path: via,
                });
            }
        }
    }

    /// A dead session of this path that a login through a sibling can fence now, and the sibling.
    fn fence_needed(&self, id: PathId) -> Option<(Nexus, PathId)> {
        self.ledger
            .login_owed_by(self.path(id).config.isid)
            .filter(|nexus| !self.returns(id, *nexus) && !self.group_is_busy(id, *nexus))
            .find_map(|nexus| Some((nexus, self.sibling(id, nexus)?)))
    }

    /// Whether a session of this ISID lives or is being made by the path itself, or is not reported lost yet.
    pub(super) fn returns(&self, id: PathId, nexus: Nexus) -> bool {
        let path = self.path(id);
        match path.phase {
            Phase::Down { .. }
            | Phase::Connecting { .. }
            | Phase::Refused { .. }
            | Phase::Offline
            | Phase::Removed => false,
            _ => path.portal_group == nexus.portal_group || !path.is_established(),
        }
    }

    /// The socket of this path's session is closed hard, and its orphans are in the ledger.
    pub(super) fn session_silenced(&mut self, now: Instant, id: PathId) {
        self.witness_lost(now, id);
        self.sibling_lost(now, id);
        let nexus = self.path(id).nexus();
        if !self.ledger.silenced(now, nexus) {
            return;
        }
        let fence = &mut self.fences[usize::from(id.0)];
        fence.owed_since.get_or_insert(now);
        // A last word that is on its way is about the sessions before this one.
        fence.hold.begin();
        if self.sibling(id, nexus).is_none() {
            let seconds = self.fence_terms().hold().as_secs();
            self.notes.push(Note::Holding { path: id, seconds });
        }
    }

    /// Whether a login with another path's ISID is under way in the same portal group.
    fn group_is_busy(&self, id: PathId, nexus: Nexus) -> bool {
        self.path_ids().filter(|&other| other != id).any(|other| {
            let login = self.fences[usize::from(other.0)].logging_in();
            login.is_some_and(|login| login.portal_group == nexus.portal_group)
                && self.same_target(id, other)
        })
    }

    fn same_target(&self, a: PathId, b: PathId) -> bool {
        self.path(a).config.target_name == self.path(b).config.target_name
    }

    /// A path whose portal is in the portal group of `nexus`, by the word of its own login, and reachable.
    pub(super) fn sibling(&self, id: PathId, nexus: Nexus) -> Option<PathId> {
        self.path_ids().find(|&other| {
            let path = self.path(other);
            other != id
                && path.is_established()
                && path.portal_group == nexus.portal_group
                && self.same_target(id, other)
        })
    }

    /// A login through the portal of a path that was lost would hang as long as its limit allows.
    fn sibling_lost(&mut self, now: Instant, sibling: PathId) {
        for id in self.path_ids() {
            let fence = &self.fences[usize::from(id.0)];
            if fence.via == sibling && fence.nexus().is_some() {
                let why = "the path through whose portal it went was lost";
                self.fence_failed(now, id, Failure::Refused, why);
            }
        }
    }

    /// The path's own login was not answered within its long limit: an old command is stuck in the target.
    pub(super) fn return_hung(&mut self, now: Instant, id: PathId) {
        let nexus = self.path(id).nexus();
        self.ledger.stuck(now, nexus);
    }

    /// The path's own connection is made. Whether it may log in now; a fence that has not logged in is called off.
    pub(super) fn fence_makes_way(&mut self, _now: Instant, id: PathId) -> bool {
        let fence = &mut self.fences[usize::from(id.0)];
        match fence.stage {
            Stage::Connecting { .. } => {
                fence.stage = Stage::Closing;
                self.close_link(Link::Fence(id), CloseHow::Abort);
                true
            }
            Stage::LoggingIn { .. } | Stage::Draining { .. } | Stage::Leaving { .. } => false,
            Stage::Idle | Stage::Closing => {
                let nexus = self.path(id).nexus();
                !self.group_is_busy(id, nexus)
            }
        }
    }

    /// A fence login is over, one way or the other: connections that waited for it go on.
    fn unpark(&mut self, now: Instant) {
        for id in self.path_ids() {
            if let Phase::Parked { entropy } = self.path(id).phase
                && self.fence_makes_way(now, id)
            {
                self.log_in(now, id, entropy);
            }
        }
    }

    pub(super) fn fence_connected(&mut self, now: Instant, id: PathId, entropy: [u8; 32]) {
        let Stage::Connecting { nexus, .. } = self.fences[usize::from(id.0)].stage else {
            return;
        };
        let config = SessionConfig {
            // A target that reads nothing before the old commands are over (SCST) answers no ping either: the limit of the
            // drain decides.
            ping_after: DRAIN_TIMEOUT,
            ..self.session_config(id, entropy, FENCE_LOGIN_TIMEOUT, TASKS)
        };
        let fence = &mut self.fences[usize::from(id.0)];
        fence.session = Some(Session::new(now, config));
        fence.stage = Stage::LoggingIn { nexus };
    }

    pub(super) fn fence_event(&mut self, now: Instant, id: PathId, event: Event) {
        let lun = self.config.lun;
        let kind = TargetKind::of(&self.config.description.identity);
        let fence = &mut self.fences[usize::from(id.0)];
        match (event, &mut fence.stage) {
            (Event::Established, &mut Stage::LoggingIn { nexus }) => {
                let found = fence.session.as_ref().and_then(Session::portal_group);
                if found == nexus.portal_group && kind.login_is_proof() {
                    self.leave_proven(now, id, nexus);
                } else if found == nexus.portal_group {
                    fence.stage = Stage::Draining {
                        nexus,
                        drain: Drain::new(lun, kind.last_word()),
                        out: None,
                    };
                    self.drain_dead_session(now, id);
                } else {
                    self.notes.push(Note::OtherPortalGroup {
                        path: id,
                        expected: nexus.portal_group,
                        found,
                    });
                    let why = "the login landed in another portal group";
                    self.fence_failed(now, id, Failure::Refused, why);
                }
                self.unpark(now);
            }
            (Event::Completed(completion), Stage::Draining { nexus, drain, out }) => {
                if out.is_none_or(|sent| sent.handle != completion.handle) {
                    return;
                }
                *out = None;
                drain.completed(&completion);
                let (nexus, result) = (*nexus, drain.result());
                match result {
                    None => self.drain_dead_session(now, id),
                    Some(Drained::Ready) => self.leave_proven(now, id, nexus),
                    Some(Drained::PortInactive | Drained::LunGone | Drained::NotReady) => {
                        let why = "the LUN did not answer as ready";
                        self.fence_failed(now, id, Failure::Refused, why);
                    }
                }
            }
            (Event::Closed(why), Stage::Leaving { .. }) => {
                let how = match why {
                    Closed::LoggedOut => CloseHow::Orderly,
                    _ => CloseHow::Abort,
                };
                fence.stage = Stage::Closing;
                self.close_link(Link::Fence(id), how);
            }
            (Event::Closed(_), Stage::Closing | Stage::Idle) => {}
            (Event::Closed(why), _) => {
                let failure = match why {
                    Closed::LoginTimeout | Closed::Silent => Failure::Hung,
                    _ => Failure::Refused,
                };
                self.fence_failed(now, id, failure, &why.to_string());
            }
            _ => {}
        }
    }

    /// What was to be proven is.
    fn leave_proven(&mut self, now: Instant, id: PathId, nexus: Nexus) {
        let fence = &mut self.fences[usize::from(id.0)];
        fence.backoff.reset();
        fence.stage = Stage::Leaving {
            deadline: now + LOGOUT_TIMEOUT,
        };
        if let Some(session) = &mut fence.session {
            session.logout(now);
        }
        self.reinstated(now, id, nexus);
    }

    /// Sends the next command of the proof.
    pub(super) fn drain_dead_session(&mut self, now: Instant, id: PathId) {
        let handle = self.own_handle();
        let fence = &mut self.fences[usize::from(id.0)];
        if let (Stage::Draining { drain, out, .. }, Some(session)) =
            (&mut fence.stage, &mut fence.session)
            && out.is_none()
            && session.room() > 0
            && let Some(command) = drain.poll_command(handle)
        {
            *out = Some(Sent { handle, at: now });
            session.submit(now, command);
        }
    }

    /// Gives up this attempt; another follows after the backoff.
    fn fence_failed(&mut self, now: Instant, id: PathId, failure: Failure, why: &str) {
        self.note_failure(now, id, failure, why);
        let fence = &mut self.fences[usize::from(id.0)];
        if let Some(session) = &mut fence.session {
            session.connection_lost();
        }
        fence.stage = Stage::Closing;
        self.close_link(Link::Fence(id), CloseHow::Abort);
    }

    fn note_failure(&mut self, now: Instant, id: PathId, failure: Failure, why: &str) {
        let fence = &mut self.fences[usize::from(id.0)];
        fence.not_before = fence.backoff.after_failure(now, &mut self.jitter);
        if failure == Failure::Hung {
            fence.not_before = fence.not_before.max(now + HANG_PAUSE);
            if let Some(nexus) = fence.nexus() {
                self.ledger.stuck(now, nexus);
            }
        }
        self.notes.push(Note::FenceFailed {
            path: id,
            why: why.to_owned(),
        });
    }

    pub(super) fn fence_lost(&mut self, now: Instant, id: PathId, why: &str) {
        // A proof that arrived before the loss counts.
        self.take_events(now, Link::Fence(id).id(), None);
        match self.fences[usize::from(id.0)].stage {
            Stage::Connecting { .. } | Stage::LoggingIn { .. } | Stage::Draining { .. } => {
                self.note_failure(now, id, Failure::Refused, why);
            }
            Stage::Idle | Stage::Leaving { .. } | Stage::Closing => {}
        }
        let fence = &mut self.fences[usize::from(id.0)];
        fence.stage = Stage::Idle;
        // Its session carried nothing that changes the medium: no orphan matters.
        fence.session = None;
        self.unpark(now);
    }

    /// A login and the commands after it ended every earlier session of this nexus; on some targets this is not all.
    pub(super) fn reinstated(&mut self, now: Instant, id: PathId, nexus: Nexus) {
        if self.ledger.is_empty() {
            return;
        }
        if self.fence_terms().after_login.is_zero() {
            self.proven_dead(now, id, nexus, FenceKind::Reinstatement);
        } else {
            self.ledger.reinstated(now, nexus);
        }
    }

    /// Sessions of this nexus before the present one are proven dead.
    pub(super) fn proven_dead(&mut self, now: Instant, id: PathId, nexus: Nexus, by: FenceKind) {
        let resolved = self.ledger.proven_dead(nexus) as u32;
        if resolved == 0 {
            return;
        }
        let isid = self.path(id).config.isid;
        if self.ledger.owed_by(isid).next().is_none() {
            let fence = &mut self.fences[usize::from(id.0)];
            let took = fence.owed_since.take().map(|since| now.since(since));
            fence.times.count(took);
            self.fence_times.count(took);
        }
        self.notes.push(Note::Fenced {
            path: id,
            resolved,
            by,
        });
        self.release_held();
    }

    pub(super) fn fence_deadline(&self, id: PathId) -> Option<Instant> {
        let fence = &self.fences[usize::from(id.0)];
        match &fence.stage {
            Stage::Idle => {
                let needed = !self.ledger.is_empty() && self.fence_needed(id).is_some();
                needed.then_some(fence.not_before)
            }
            Stage::Connecting { deadline, .. } | Stage::Leaving { deadline } => Some(*deadline),
            Stage::Draining { out, .. } => out.map(|sent| sent.at + DRAIN_TIMEOUT),
            // The session has its own limit.
            Stage::LoggingIn { .. } | Stage::Closing => None,
        }
    }

    pub(super) fn fence_timeout(&mut self, now: Instant, id: PathId) {
        if self.fence_deadline(id).is_none_or(|at| now < at) {
            return;
        }
        match self.fences[usize::from(id.0)].stage {
            Stage::Connecting { .. } => {
                self.fence_failed(now, id, Failure::Refused, "no answer to the TCP connect");
            }
            Stage::Draining { .. } => {
                self.fence_failed(now, id, Failure::Hung, "no answer to TEST UNIT READY");
            }
            Stage::Leaving { .. } => self.call_off_fence(id),
            Stage::Idle | Stage::LoggingIn { .. } | Stage::Closing => {}
        }
    }

    /// Cuts the fence's connection, if there is one.
    pub(super) fn call_off_fence(&mut self, id: PathId) {
        let fence = &mut self.fences[usize::from(id.0)];
        fence.hold.call_off();
        if matches!(fence.stage, Stage::Idle | Stage::Closing) {
            return;
        }
        if let Some(session) = &mut fence.session {
            session.connection_lost();
        }
        fence.stage = Stage::Closing;
        self.close_link(Link::Fence(id), CloseHow::Abort);
    }
}
