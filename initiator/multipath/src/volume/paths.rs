//! A path's way: connect, log in, verify, carry IO, be lost, come back.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use iscsi_client::login::{LoginFailure, LoginParameters, Retry, SessionType};
use iscsi_client::memory::Memory;
use iscsi_client::scsi::{Attention, PortGroups};
use iscsi_client::session::{Closed, Completion, Event, Session, SessionConfig};
use iscsi_client::time::Instant;
use iscsi_client::wire::AsyncEvent;

use super::dispatch::request_of;
use super::ending::Life;
use super::{CloseHow, Link, Note, OWN_TASKS, Output, PathId, Volume};
use crate::identity::{Description, ProbeFailure};
use crate::path::check::{self, Check, Extent, Failed, access_of};
use crate::path::{
    After, CONNECT_TIMEOUT, Examination, FENCE_LOGIN_TIMEOUT, GROUPS_INTERVAL, HOPS_MAX,
    LOGIN_TIMEOUT, Phase, STANDBY_INTERVAL, Sent,
};
use crate::policy::AccessClass;

/// After so long without a received byte, a ping is sent.
const PING_AFTER: Duration = Duration::from_secs(1);
/// Without a received byte for so long after the ping, the session is closed.
const PING_TIMEOUT: Duration = Duration::from_secs(4);
/// Longest pause that a target may ask for before a reconnect.
const PAUSE_MAX: Duration = Duration::from_secs(60);

impl Volume {
    pub(super) fn connect(&mut self, now: Instant, id: PathId) {
        let to = self.path(id).to;
        let deadline = now + CONNECT_TIMEOUT;
        self.set_phase(now, id, Phase::Connecting { deadline });
        self.outputs.push_back(Output::Connect {
            link: Link::Data(id).id(),
            to,
            path: id,
        });
    }

    pub(super) fn path_connected(&mut self, now: Instant, id: PathId, entropy: [u8; 32]) {
        // A close may have crossed the connect: its loss is still to come.
        if !matches!(self.path(id).phase, Phase::Connecting { .. }) {
            return;
        }
        if self.fence_makes_way(now, id) {
            self.log_in(now, id, entropy);
        } else {
            self.set_phase(now, id, Phase::Parked { entropy });
        }
    }

    pub(super) fn log_in(&mut self, now: Instant, id: PathId, entropy: [u8; 32]) {
        let owes = self
            .ledger
            .owed_by(self.path(id).config.isid)
            .next()
            .is_some();
        let limit = if owes {
            FENCE_LOGIN_TIMEOUT
        } else {
            LOGIN_TIMEOUT
        };
        let session = self.session_config(id, entropy, limit, self.config.depth + OWN_TASKS);
        self.path_mut(id).session = Some(Session::new(now, session));
        self.set_phase(now, id, Phase::LoggingIn);
    }

    /// A login with the identity of this path's session.
    pub(super) fn session_config(
        &self,
        id: PathId,
        entropy: [u8; 32],
        login_timeout: Duration,
        tasks_max: u16,
    ) -> SessionConfig {
        let path = self.path(id);
        let mut credentials = self.config.credentials.clone();
        if let Some(credentials) = &mut credentials {
            credentials.md5_only |= path.md5_only;
        }
        SessionConfig {
            login: LoginParameters {
                initiator_name: self.config.initiator_name.clone(),
                session_type: SessionType::Normal {
                    target_name: path.config.target_name.clone(),
                },
                isid: path.config.isid,
                offer: self.config.offer.clone(),
                credentials,
                entropy,
            },
            tasks_max,
            login_timeout,
            ping_after: PING_AFTER,
            ping_timeout: PING_TIMEOUT,
        }
    }

    pub(super) fn path_event(
        &mut self,
        now: Instant,
        id: PathId,
        event: Event,
        memory: Option<&dyn Memory>,
    ) {
        match event {
            Event::Established => self.established(now, id),
            Event::Completed(completion) if request_of(completion.handle).is_some() => {
                self.answered(now, id, &completion);
            }
            Event::Completed(completion) => self.examined(now, id, &completion, memory),
            Event::Async(message, sense) => match message.event {
                AsyncEvent::Scsi if message.lun == self.config.lun => {
                    if let Some(news) = sense.as_ref().and_then(Attention::from_sense) {
                        self.attention(now, id, news);
                    }
                }
                AsyncEvent::LogoutRequested { seconds } | AsyncEvent::Renegotiate { seconds } => {
                    self.leave(now, id, Duration::from_secs(u64::from(seconds)));
                }
                _ => {}
            },
            // An aborted command comes as completed before this; one that does not come runs into its deadline.
            Event::Managed { .. } | Event::Text | Event::Pong => {}
            Event::Closed(why) => self.path_closed(now, id, &why),
        }
    }

    fn established(&mut self, now: Instant, id: PathId) {
        let path = self.path_mut(id);
        path.contest.established(now);
        path.hops = 0;
        path.portal_group = path.session.as_ref().and_then(Session::portal_group);
        let found = path.portal_group;
        let isid = path.config.isid;
        let elsewhere = self
            .ledger
            .owed_by(isid)
            .find(|nexus| nexus.portal_group != found);
        if let Some(nexus) = elsewhere {
            self.notes.push(Note::OtherPortalGroup {
                path: id,
                expected: nexus.portal_group,
                found,
            });
        }
        self.begin_verification(now, id, false);
    }

    fn begin_verification(&mut self, now: Instant, id: PathId, returning: bool) {
        let check = self.full_check(id);
        let examination = Box::new(Examination::new(check));
        let phase = Phase::Verifying {
            examination,
            returning,
        };
        self.set_phase(now, id, phase);
    }

    fn full_check(&self, id: PathId) -> Check {
        let buffer = self.scratch(Link::Data(id));
        Check::full(self.config.lun, buffer, self.config.scratch_len)
    }

    /// What answers here may have become another LUN: no IO until it is verified again.
    pub(super) fn verify_again(&mut self, now: Instant, id: PathId) {
        match &mut self.path_mut(id).phase {
            Phase::Verifying { examination, .. } => examination.again = Some(Extent::Full),
            Phase::Up { examination, .. } => match examination.take() {
                // One command at a time uses the scratch buffer: the present one must come back first.
                Some(mut examination) => {
                    examination.again = Some(Extent::Full);
                    let phase = Phase::Verifying {
                        examination,
                        returning: true,
                    };
                    self.set_phase(now, id, phase);
                }
                None => self.begin_verification(now, id, true),
            },
            // Verified in full before it carries IO.
            _ => {}
        }
    }

    /// Looks again while IO goes on.
    pub(super) fn request_examination(&mut self, now: Instant, id: PathId, extent: Extent) {
        let full = self.full_check(id);
        let groups = Check::groups(self.config.lun, self.scratch(Link::Data(id)));
        let path = self.path_mut(id);
        match &mut path.phase {
            Phase::Up { examination, .. } | Phase::Standby { examination, .. } => match examination
            {
                Some(running) => running.again = running.again.max(Some(extent)),
                None => {
                    let check = match extent {
                        Extent::Full => full,
                        Extent::Groups => groups,
                    };
                    *examination = Some(Box::new(Examination::new(check)));
                }
            },
            Phase::Verifying { examination, .. } => {
                examination.again = examination.again.max(Some(extent));
            }
            _ => {}
        }
        self.examine(now, id);
    }

    /// Sends the examination's next command, if it is its turn.
    pub(super) fn examine(&mut self, now: Instant, id: PathId) {
        let path = self.path(id);
        if path
            .session
            .as_ref()
            .is_none_or(|session| session.room() == 0)
        {
            return;
        }
        let handle = self.own_handle();
        let path = self.path_mut(id);
        let Some(examination) = path.examination() else {
            return;
        };
        if examination.out.is_none()
            && let Some(command) = examination.check.poll_command(handle)
        {
            examination.out = Some(Sent { handle, at: now });
            let session = path.session.as_mut().expect("seen above");
            session.submit(now, command);
        }
    }

    fn examined(
        &mut self,
        now: Instant,
        id: PathId,
        completion: &Completion,
        memory: Option<&dyn Memory>,
    ) {
        let path = self.path_mut(id);
        let Some(examination) = path.examination() else {
            return;
        };
        let (Some(sent), Some(memory)) = (examination.out, memory) else {
            return;
        };
        if sent.handle != completion.handle {
            return;
        }
        examination.out = None;
        examination.check.completed(completion, memory);
        let drained = examination.check.is_drained();
        let result = examination
            .check
            .result()
            .map(|result| result.cloned().map_err(Clone::clone));
        path.note_round_trip(now.since(sent.at));
        if drained {
            let nexus = self.path(id).nexus();
            self.proven_dead(id, nexus);
        }
        match result {
            None => {}
            Some(Ok(findings)) => self.found(now, id, findings),
            Some(Err(failed)) => self.examination_failed(now, id, failed),
        }
    }

    fn found(&mut self, now: Instant, id: PathId, findings: check::Findings) {
        if let Some(description) = &findings.description
            && !self.accept(now, id, description)
        {
            return;
        }
        let full = findings.description.is_some();
        let again = {
            let path = self.path_mut(id);
            path.examination()
                .and_then(|examination| examination.again.take())
        };
        if let Some(groups) = &findings.groups {
            self.apply_groups(now, id, groups);
        }
        if let Some(extent) = again {
            self.examine_again(now, id, extent);
            return;
        }
        let own_group = self.path(id).target_port_group;
        let reported = match (&findings.groups, own_group) {
            (Some(groups), Some(group)) => access_of(groups, group),
            _ => None,
        };
        match (&mut self.path_mut(id).phase, full) {
            (Phase::Verifying { .. } | Phase::Standby { .. }, true) => match reported {
                Some(None) => self.stand_by(now, id),
                Some(Some(access)) => self.up(now, id, access),
                None => self.up(now, id, AccessClass::Optimized),
            },
            (Phase::Verifying { .. }, false) => self.begin_verification(now, id, true),
            (Phase::Standby { examination, .. }, false) => match reported {
                // What the groups allow must be verified in full.
                Some(Some(_)) => self.begin_verification(now, id, false),
                _ => *examination = None,
            },
            (
                Phase::Up {
                    examination,
                    access,
                    ..
                },
                _,
            ) => match reported {
                Some(None) => self.stand_by(now, id),
                Some(Some(now_is)) => {
                    *access = now_is;
                    *examination = None;
                }
                None => *examination = None,
            },
            _ => {}
        }
    }

    /// Something changed during the examination: from the start, in the same phase.
    fn examine_again(&mut self, now: Instant, id: PathId, extent: Extent) {
        let full = self.full_check(id);
        let groups = Check::groups(self.config.lun, self.scratch(Link::Data(id)));
        let path = self.path_mut(id);
        let must_verify = matches!(path.phase, Phase::Verifying { .. });
        if let Some(examination) = path.examination() {
            *examination = Examination::new(match extent {
                Extent::Groups if !must_verify => groups,
                Extent::Groups | Extent::Full => full,
            });
        }
        self.examine(now, id);
    }

    fn up(&mut self, now: Instant, id: PathId, access: AccessClass) {
        let phase = Phase::Up {
            examination: None,
            access,
            since: now,
            groups_at: now + self.jitter.around(GROUPS_INTERVAL),
        };
        self.path_mut(id).verified = true;
        self.set_phase(now, id, phase);
    }

    pub(super) fn stand_by(&mut self, now: Instant, id: PathId) {
        let phase = Phase::Standby {
            examination: None,
            poll_at: now + STANDBY_INTERVAL,
        };
        self.set_phase(now, id, phase);
    }

    /// Whether this is the volume's LUN. If not, the path is closed and refused.
    fn accept(&mut self, now: Instant, id: PathId, found: &Description) -> bool {
        let attached = &self.config.description.identity;
        let size = found.identity.blocks;
        // A LUN may grow while it is attached; a path that joins must agree with what is known.
        let known_size =
            size == self.reported_blocks || (self.path(id).verified && size >= attached.blocks);
        let difference = if known_size {
            attached.difference(&found.identity)
        } else {
            attached.difference_or_size(&found.identity)
        };
        if let Some(difference) = difference {
            let why = difference.to_string();
            self.close_path(now, id, CloseHow::Abort, After::Refuse { why });
            return false;
        }
        if size != self.reported_blocks {
            self.reported_blocks = size;
            self.notes.push(Note::CapacityChanged {
                attached: self.config.description.identity.blocks,
                reported: size,
            });
        }
        if found.write_cache && !self.abilities.cache_announced() && !self.abilities.writes_forced()
        {
            self.abilities.force_writes();
            self.notes.push(Note::WriteCacheOn);
        }
        self.path_mut(id).target_port_group = found.target_port_group;
        true
    }

    /// One reply tells of all groups: the other paths' too.
    fn apply_groups(&mut self, now: Instant, from: PathId, groups: &PortGroups) {
        for id in self.path_ids().filter(|&id| id != from) {
            let path = self.path_mut(id);
            let own = path.target_port_group;
            let Some(reported) = own.and_then(|group| access_of(groups, group)) else {
                continue;
            };
            match (&mut path.phase, reported) {
                (Phase::Up { access, .. }, Some(now_is)) => *access = now_is,
                (Phase::Up { .. }, None) => self.stand_by(now, id),
                (Phase::Standby { .. }, Some(_)) => self.request_examination(now, id, Extent::Full),
                _ => {}
            }
        }
    }

    fn examination_failed(&mut self, now: Instant, id: PathId, failed: Failed) {
        let retry = |why: String| After::Retry {
            why,
            pause: Duration::ZERO,
        };
        let after = match failed {
            Failed::Probe(ProbeFailure::PortInactive) => {
                self.stand_by(now, id);
                return;
            }
            Failed::Probe(failure @ ProbeFailure::NoSuchLun) => After::Gone {
                why: failure.to_string(),
            },
            Failed::Probe(failure @ (ProbeFailure::NotReady | ProbeFailure::Failed(_))) => {
                retry(failure.to_string())
            }
            Failed::Probe(
                failure @ (ProbeFailure::NotADisk(_)
                | ProbeFailure::BlockLength(_)
                | ProbeFailure::Protection
                | ProbeFailure::NoIdentifier),
            ) => After::Refuse {
                why: failure.to_string(),
            },
            Failed::Data(why) => retry(why.to_owned()),
        };
        self.close_path(now, id, CloseHow::Abort, after);
    }

    /// No new IO here; the path logs out when idle and connects anew.
    fn leave(&mut self, now: Instant, id: PathId, limit: Duration) {
        if self.path(id).is_established() {
            let deadline = now + limit.min(PAUSE_MAX);
            self.set_phase(now, id, Phase::Leaving { deadline });
            if let Some(session) = &mut self.path_mut(id).session {
                session.logout(now);
            }
        }
    }

    /// Orders the connection closed. What it carried is moved when the runtime reports it lost.
    pub(super) fn close_path(&mut self, now: Instant, id: PathId, how: CloseHow, after: After) {
        let path = self.path_mut(id);
        if matches!(
            path.phase,
            Phase::Closing { .. } | Phase::Down { .. } | Phase::Refused { .. }
        ) {
            return;
        }
        if let Some(session) = &mut path.session {
            session.connection_lost();
        }
        self.set_phase(now, id, Phase::Closing { after });
        self.close_link(Link::Data(id), how);
    }

    /// The session ended by itself.
    fn path_closed(&mut self, now: Instant, id: PathId, why: &Closed) {
        if matches!(self.path(id).phase, Phase::Closing { .. }) {
            return;
        }
        let how = match why {
            Closed::LoggedOut => CloseHow::Orderly,
            _ => CloseHow::Abort,
        };
        let after = self.after(id, why);
        self.close_path(now, id, how, after);
    }

    fn after(&mut self, id: PathId, why: &Closed) -> After {
        let retry = |pause| After::Retry {
            why: why.to_string(),
            pause,
        };
        let path = self.path_mut(id);
        let try_md5 = path
            .session
            .as_ref()
            .is_some_and(Session::retry_with_md5_only);
        match why {
            Closed::Login(LoginFailure::Redirected { portal, permanent }) => {
                let Ok(ip) = portal.host.parse::<IpAddr>() else {
                    let why = format!(
                        "the target sends us to {}, a host name: attach by that portal",
                        portal.host
                    );
                    return After::Refuse { why };
                };
                if path.hops == HOPS_MAX {
                    return retry(Duration::ZERO);
                }
                path.hops += 1;
                if *permanent {
                    let address = format!("{}:{}", portal.host, portal.port);
                    self.notes
                        .push(Note::MovedPermanently { path: id, address });
                }
                After::Connect(SocketAddr::new(ip, portal.port))
            }
            Closed::Login(_) | Closed::ConnectionLost if try_md5 && !path.md5_only => {
                path.md5_only = true;
                After::Connect(path.to)
            }
            Closed::Login(failure) => match failure.retry() {
                Retry::Backoff | Retry::Slowly => After::Retry {
                    why: failure.to_string(),
                    pause: Duration::ZERO,
                },
                Retry::Never => After::Refuse {
                    why: failure.to_string(),
                },
            },
            Closed::DroppedByTarget { time2wait } => {
                retry(Duration::from_secs(u64::from(*time2wait)).min(PAUSE_MAX))
            }
            _ => retry(Duration::ZERO),
        }
    }

    pub(super) fn path_lost(&mut self, now: Instant, id: PathId, why: &str) {
        // Answers that arrived before the loss count.
        if let Some(session) = &mut self.path_mut(id).session {
            session.connection_lost();
        }
        while let Some(event) = self
            .path_mut(id)
            .session
            .as_mut()
            .and_then(Session::poll_event)
        {
            match event {
                Event::Closed(closed) => self.lost_by_itself(now, id, &closed, why),
                event => self.path_event(now, id, event, None),
            }
        }
        self.path_mut(id).contest.ended(now, false);
        self.path_mut(id).fills.clear();
        if let Some(mut session) = self.path_mut(id).session.take() {
            for orphan in session.drain_orphans() {
                self.orphaned(id, orphan);
            }
        }
        let after = match &mut self.path_mut(id).phase {
            Phase::Closing { after } => core::mem::replace(after, After::Stop),
            Phase::Down { .. } | Phase::Refused { .. } => return,
            _ => After::Retry {
                why: why.to_owned(),
                pause: Duration::ZERO,
            },
        };
        self.path_mut(id).depth = Default::default();
        self.follow(now, id, after);
    }

    /// Nobody here closed this connection.
    fn lost_by_itself(&mut self, now: Instant, id: PathId, closed: &Closed, why: &str) {
        if matches!(self.path(id).phase, Phase::Closing { .. }) {
            return;
        }
        let mut after = self.after(id, closed);
        if let After::Retry { why: sentence, .. } = &mut after {
            *sentence = format!("the connection was lost: {why}");
        }
        if self.path_mut(id).contest.ended(now, true) {
            after = After::Refuse {
                why: format!(
                    "the target ends this session again and again right after the login: \
                     another host uses this InitiatorName ({}); give each host its own",
                    self.config.initiator_name
                ),
            };
        }
        self.set_phase(now, id, Phase::Closing { after });
    }

    fn follow(&mut self, now: Instant, id: PathId, after: After) {
        let path = &mut self.paths[usize::from(id.0)];
        path.to = path.config.portal;
        let (why, pause, gone) = match after {
            _ if matches!(self.life, Life::LoggingOut { .. } | Life::Over) => {
                let why = "the volume was detached".to_owned();
                self.set_phase(now, id, Phase::Refused { why });
                return;
            }
            After::Connect(to) => {
                path.to = to;
                self.connect(now, id);
                return;
            }
            After::Refuse { why } => {
                path.hops = 0;
                self.set_phase(now, id, Phase::Refused { why });
                return;
            }
            After::Stop => ("closed".to_owned(), Duration::ZERO, false),
            After::Retry { why, pause } => (why, pause, false),
            After::Gone { why } => (why, Duration::ZERO, true),
        };
        path.hops = 0;
        let backoff = path.backoff.after_failure(now, &mut self.jitter);
        let retry_at = backoff.max(now + pause);
        let phase = Phase::Down {
            why,
            retry_at,
            gone,
        };
        self.set_phase(now, id, phase);
    }

    pub(super) fn path_timeout(&mut self, now: Instant, id: PathId) {
        let path = self.path_mut(id);
        if path.deadline().is_none_or(|at| now < at) {
            return;
        }
        let retry = |why: &str| After::Retry {
            why: why.to_owned(),
            pause: Duration::ZERO,
        };
        let examination_due = path
            .examination()
            .and_then(|examination| examination.deadline())
            .is_some_and(|at| now >= at);
        match &mut path.phase {
            Phase::Down { .. } => self.connect(now, id),
            Phase::Connecting { .. } => {
                let after = retry("no answer to the TCP connect");
                self.close_path(now, id, CloseHow::Abort, after);
            }
            Phase::Leaving { .. } => {
                let after = retry("the target asked for a logout and did not complete it");
                self.close_path(now, id, CloseHow::Abort, after);
            }
            _ if examination_due => {
                let after = retry("a verification command was not answered");
                self.close_path(now, id, CloseHow::Abort, after);
            }
            Phase::Up { groups_at, .. } => {
                *groups_at = now + GROUPS_INTERVAL;
                if self.config.description.alua {
                    self.request_examination(now, id, Extent::Groups);
                }
            }
            Phase::Standby { poll_at, .. } => {
                *poll_at = now + STANDBY_INTERVAL;
                // Full, for a target without readable groups says by TEST UNIT READY alone that it serves again.
                self.request_examination(now, id, Extent::Full);
            }
            _ => {}
        }
    }
}
