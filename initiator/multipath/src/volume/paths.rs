//! A path's way: connect, log in, carry IO, be lost, come back. What is asked in between is in `verify`.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use iscsi_client::login::{LoginFailure, LoginParameters, Retry, SessionType};
use iscsi_client::memory::Memory;
use iscsi_client::scsi::Attention;
use iscsi_client::session::{Closed, Event, Session, SessionConfig};
use iscsi_client::time::Instant;
use iscsi_client::wire::AsyncEvent;

use super::ending::Life;
use super::fencing::HANG_PAUSE;
use super::overdue::ABORT_TIMEOUT;
use super::{CloseHow, Link, Lost, Note, OWN_BIT, OWN_TASKS, Output, PathId, Volume};
use crate::mutant::{Mutant, lives};
use crate::operation::LONG_COMMAND_TIMEOUT;
use crate::path::check::Extent;
use crate::path::contest::{self, Ending};
use crate::path::{
    After, BRIEF_INTERVAL, CONNECT_TIMEOUT, Duty, FENCE_LOGIN_TIMEOUT, HOPS_MAX, LOGIN_TIMEOUT,
    Phase,
};

/// An idle path is pinged so often. A path that died meanwhile is found by that, or by the first command.
const PING_AFTER: Duration = Duration::from_millis(500);
/// Without a received byte for so long after a ping, the session is closed although TCP acknowledges: no command would
/// have been granted more, its abort included. A path whose TCP is silent, too, does not get here.
const PING_TIMEOUT: Duration = LONG_COMMAND_TIMEOUT.saturating_add(ABORT_TIMEOUT);
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
            .login_owed_by(self.path(id).config.isid)
            .next()
            .is_some();
        let limit = if owes {
            FENCE_LOGIN_TIMEOUT
        } else {
            LOGIN_TIMEOUT
        };
        let session = self.session_config(id, entropy, limit, self.config.depth + OWN_TASKS);
        let path = self.path_mut(id);
        path.session = Some(Session::new(now, session));
        path.silence.connected(now);
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
                isid: match lives(Mutant::SameIsid) {
                    true => self.paths[0].config.isid,
                    false => path.config.isid,
                },
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
        if let Event::Completed(_) = event {
            self.path_mut(id).silence.completed(now);
        }
        match event {
            Event::Established => self.established(now, id),
            Event::Completed(completion) if completion.handle.0 & OWN_BIT == 0 => {
                self.answered(now, id, &completion);
            }
            Event::Completed(completion) if self.last_word_answered(now, &completion) => {}
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
            Event::Managed { handle, response } => self.function_answered(now, handle, response),
            Event::Text | Event::Pong => {}
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
            .login_owed_by(isid)
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

    /// No new IO here; the path logs out when idle, and connects anew if it is to serve.
    pub(super) fn leave(&mut self, now: Instant, id: PathId, limit: Duration) {
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
            Phase::Closing { .. }
                | Phase::Down { .. }
                | Phase::Refused { .. }
                | Phase::Offline
                | Phase::Removed
        ) {
            return;
        }
        if let Some(session) = &mut path.session {
            session.connection_lost();
        }
        self.set_phase(now, id, Phase::Closing { after });
        self.close_link(Link::Data(id), how);
    }

    fn move_orphans(&mut self, id: PathId) {
        if let Some(mut session) = self.path_mut(id).session.take() {
            for orphan in session.drain_orphans() {
                self.orphaned(id, orphan);
            }
        }
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
        let mut after = self.after(id, why);
        let isid = self.path(id).config.isid;
        if *why == Closed::LoginTimeout && self.ledger.login_owed_by(isid).next().is_some() {
            self.return_hung(now, id);
            if let After::Retry { pause, .. } = &mut after {
                *pause = HANG_PAUSE;
            }
        }
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

    pub(super) fn path_lost(&mut self, now: Instant, id: PathId, why: Lost) {
        let mut ending = Ending::Explained;
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
                Event::Closed(closed) => {
                    // Nobody here closed this connection.
                    if !matches!(self.path(id).phase, Phase::Closing { .. }) {
                        ending = Ending::ByPeer;
                        self.lost_by_itself(now, id, &closed, why);
                    }
                }
                event => self.path_event(now, id, event, None),
            }
        }
        let contested = self.path_mut(id).contest.ended(now, ending);
        self.path_mut(id).fills.clear();
        self.move_orphans(id);
        self.session_silenced(now, id);
        let after = match &mut self.path_mut(id).phase {
            Phase::Closing { after } => core::mem::replace(after, After::Stop),
            Phase::Down { .. } | Phase::Refused { .. } | Phase::Offline | Phase::Removed => return,
            _ => After::Retry {
                why: why.to_string(),
                pause: Duration::ZERO,
            },
        };
        let after = if contested { self.contested() } else { after };
        let path = self.path_mut(id);
        path.depth = Default::default();
        path.silence.disconnected(now);
        self.follow(now, id, after);
    }

    fn lost_by_itself(&mut self, now: Instant, id: PathId, closed: &Closed, why: Lost) {
        let mut after = self.after(id, closed);
        if let After::Retry { why: sentence, .. } = &mut after {
            *sentence = format!("the connection was lost: {why}");
        }
        self.set_phase(now, id, Phase::Closing { after });
    }

    fn contested(&self) -> After {
        After::Retry {
            why: format!(
                "the target ends this session again and again soon after the login: probably \
                 another host uses this InitiatorName ({}); give each host its own; tried once a minute",
                self.config.initiator_name
            ),
            pause: contest::PAUSE,
        }
    }

    fn follow(&mut self, now: Instant, id: PathId, after: After) {
        let path = &mut self.paths[usize::from(id.0)];
        path.to = path.config.portal;
        let ordered = match path.duty {
            Duty::Serve => None,
            Duty::Rest => Some(Phase::Offline),
            Duty::Leave => Some(Phase::Removed),
        };
        if let (Some(phase), Life::Running | Life::Draining { .. }) = (ordered, self.life) {
            path.hops = 0;
            self.set_phase(now, id, phase);
            return;
        }
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
                let after = retry("the logout did not come to its end");
                self.close_path(now, id, CloseHow::Abort, after);
            }
            _ if examination_due => {
                let after = retry("a verification command was not answered");
                self.close_path(now, id, CloseHow::Abort, after);
            }
            Phase::Up { brief_at, .. } => {
                *brief_at = now + BRIEF_INTERVAL;
                self.request_examination(now, id, Extent::Brief);
            }
            Phase::Standby { .. } => self.poll_inactive(now, id),
            _ => {}
        }
    }
}
