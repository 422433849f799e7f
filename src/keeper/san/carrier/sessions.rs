//! The life of each nexus's session: connects, logins, losses.

use std::net::SocketAddr;
use std::time::Duration;

use iscsi_client::login::{LoginFailure, LoginParameters, SessionType};
use iscsi_client::scsi::{Attention, Moves, Verdict};
use iscsi_client::session::{Closed, Event, Session, SessionConfig};
use iscsi_client::time::Instant;
use iscsi_client::wire::AsyncEvent;
use multipath::Probe;

use super::{ARE_YOU_THERE, Carrier, Output, QUESTION, SESSION_TASKS, judge_completion};
use crate::keeper::san::nexus::{Check, Nexus, Phase, Stage as SessionStage, Trouble};
use crate::keeper::san::patience::{HANG_PAUSE, LOGIN, REFUSED_PAUSE};
use crate::keeper::san::tasks::Slots;

/// Between attempts, doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// A portal that is back should be found well within an `io_timeout`.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(1);

impl Carrier {
    pub(super) fn serve(&mut self, now: Instant, index: usize) {
        match &self.nexuses[index].phase {
            Phase::Idle { until } if *until <= now && !self.stopping => self.connect(now, index),
            Phase::Connecting { deadline, .. } if *deadline <= now => {
                self.lose(now, index, Trouble::ConnectTimeout, None);
            }
            Phase::Idle { .. } | Phase::Connecting { .. } => {}
            Phase::Open { .. } => {
                if let Some(session) = self.nexuses[index].session_mut() {
                    session.handle_timeout(now);
                }
                while let Some(event) = self.nexuses[index]
                    .session_mut()
                    .and_then(Session::poll_event)
                {
                    self.event(now, index, event);
                }
                self.pump(now, index);
            }
        }
    }

    fn connect(&mut self, now: Instant, index: usize) {
        let via = self.way(index);
        let portal = &self.nexuses[via].portal;
        let (mut to, mut interface) = (portal.address, portal.interface.clone());
        if let Some(redirect) = self.nexuses[index].redirect.take() {
            (to, interface) = (redirect, None);
        }
        let nexus = &mut self.nexuses[index];
        nexus.since = now;
        nexus.phase = Phase::Connecting {
            via,
            deadline: now + self.patience.connect,
        };
        self.outputs.push_back(Output::Connect {
            nexus: index,
            to,
            interface,
        });
    }

    /// Through whose portal the next login goes. What was just lost is fenced through another portal first; a portal
    /// that was never reached is tried first. After a failure it is the other's turn.
    fn way(&self, index: usize) -> usize {
        let nexus = &self.nexuses[index];
        let Some(debt) = &nexus.debt else {
            return index;
        };
        let sibling = (0..self.nexuses.len()).find(|&other| {
            let sibling = &self.nexuses[other];
            other != index && sibling.serves() && debt.wants_login(sibling.group)
        });
        let sibling_first = debt.writes.is_some();
        match sibling {
            Some(sibling) if nexus.failures.is_multiple_of(2) == sibling_first => sibling,
            _ => index,
        }
    }

    /// The connection of a nexus is made.
    pub fn connected(&mut self, now: Instant, index: usize, entropy: [u8; 32]) {
        let nexus = &mut self.nexuses[index];
        let Phase::Connecting { via, .. } = nexus.phase else {
            return;
        };
        let mut credentials = self.credentials.clone();
        if let Some(credentials) = &mut credentials {
            credentials.md5_only |= nexus.md5_only;
        }
        let config = SessionConfig {
            login: LoginParameters {
                initiator_name: self.initiator_name.clone(),
                session_type: SessionType::Normal {
                    target_name: self.target.clone(),
                },
                isid: nexus.isid,
                offer: self.offer.clone(),
                credentials,
                entropy,
            },
            tasks_max: SESSION_TASKS,
            login_timeout: LOGIN,
            // A target that reads nothing before the old commands are over answers no ping: pings are sent by hand,
            // later.
            ping_after: LOGIN,
            ping_timeout: self.patience.silent,
        };
        nexus.since = now;
        nexus.silence.connected();
        nexus.phase = Phase::Open {
            via,
            session: Box::new(Session::new(now, config)),
            stage: SessionStage::LoggingIn,
        };
    }

    /// The connection of a nexus is gone.
    pub fn lost(&mut self, now: Instant, index: usize, why: Trouble) {
        if !matches!(self.nexuses[index].phase, Phase::Idle { .. }) {
            self.lose(now, index, why, None);
        }
    }

    /// Stream bytes arrived.
    pub fn receive(&mut self, now: Instant, index: usize, bytes: &[u8]) {
        if let Phase::Open { session, .. } = &mut self.nexuses[index].phase {
            session.receive(now, bytes, &mut self.slots.buffers);
            let heard = session.last_received();
            self.nexuses[index].silence.heard(heard);
        }
    }

    fn event(&mut self, now: Instant, index: usize, event: Event) {
        let lun = self.lun;
        let nexus = &mut self.nexuses[index];
        let Phase::Open {
            via,
            session,
            stage,
        } = &mut nexus.phase
        else {
            return;
        };
        match event {
            Event::Established => {
                let group = session.portal_group();
                if *via == index {
                    nexus.group = group;
                } else if !nexus.debt.is_some_and(|debt| debt.wants_login(group)) {
                    return self.lose(now, index, Trouble::OtherPortalGroup, None);
                }
                *stage = SessionStage::Checking {
                    probe: Box::new(Probe::new(lun, Slots::questions(index))),
                    why: Check::Login,
                    began: now,
                    until: now + LOGIN,
                };
                nexus.since = now;
            }
            Event::Completed(completion) if completion.handle == QUESTION => {
                if let SessionStage::Checking { probe, .. } = stage {
                    probe.completed(&completion, &self.slots.buffers);
                    self.checked(now, index);
                }
            }
            Event::Completed(completion) if completion.handle == ARE_YOU_THERE => {
                if let SessionStage::Serving { asked } = stage {
                    *asked = false;
                }
                let verdict = judge_completion(Moves::Nothing, &completion);
                if let Verdict::UnitAttention(attention) = verdict
                    && let Some(trouble) = self.attention(now, index, attention)
                {
                    self.lose(now, index, trouble, None);
                }
            }
            Event::Completed(completion) => {
                if let Some(trouble) = self.completed(now, index, &completion) {
                    self.lose(now, index, trouble, None);
                }
            }
            Event::Async(message, sense) => match message.event {
                AsyncEvent::Scsi => {
                    if let Some(attention) = sense.as_ref().and_then(Attention::from_sense)
                        && let Some(trouble) = self.attention(now, index, attention)
                    {
                        self.lose(now, index, trouble, None);
                    }
                }
                // The target wants us elsewhere: the session ends when what it has is answered, and is made anew.
                AsyncEvent::LogoutRequested { .. } => {
                    session.logout(now);
                    *stage = SessionStage::Leaving {
                        until: now + self.patience.silent,
                    };
                }
                _ => {}
            },
            Event::Closed(why) => self.closed(now, index, why),
            Event::Managed { .. } | Event::Text | Event::Pong => {}
        }
    }

    /// A session has ended by itself.
    fn closed(&mut self, now: Instant, index: usize, why: Closed) {
        let nexus = &mut self.nexuses[index];
        let Phase::Open { session, stage, .. } = &nexus.phase else {
            return;
        };
        let fresh = !matches!(stage, SessionStage::Serving { .. });
        let mut pause = None;
        match &why {
            Closed::LoggedOut => pause = Some(PAUSE_MIN),
            // The target took the connection and does not answer: an old command is stuck.
            Closed::LoginTimeout | Closed::Silent if fresh => {
                if let Some(debt) = &mut nexus.debt {
                    debt.stuck(now);
                }
                pause = Some(HANG_PAUSE);
            }
            Closed::Login(LoginFailure::Redirected { portal, .. }) => {
                // Only where no name has to be resolved: nothing here may wait for that.
                if let Ok(address) = portal.host.parse() {
                    nexus.redirect = Some(SocketAddr::new(address, portal.port));
                }
            }
            // We are not wanted; asking every second would only fill the target's log, or lock the account.
            Closed::Login(LoginFailure::Refused(status))
                if status.class == 2 && !session.retry_with_md5_only() =>
            {
                pause = Some(REFUSED_PAUSE);
            }
            _ => {}
        }
        self.lose(now, index, Trouble::Closed(why), pause);
    }

    /// The carrier of an interface is gone, which needs no waiting, or is back.
    pub fn carrier(&mut self, now: Instant, interface: &str, up: bool) {
        let bound = |nexus: &Nexus| nexus.portal.interface.as_deref() == Some(interface);
        for index in 0..self.nexuses.len() {
            let through = match &self.nexuses[index].phase {
                Phase::Connecting { via, .. } | Phase::Open { via, .. } => *via,
                Phase::Idle { .. } => index,
            };
            if !bound(&self.nexuses[through]) {
                continue;
            }
            match &mut self.nexuses[index].phase {
                Phase::Idle { until } if up => *until = now,
                Phase::Connecting { .. } | Phase::Open { .. } if !up => {
                    self.lose(now, index, Trouble::NoCarrier, None);
                }
                _ => {}
            }
        }
    }

    /// Ends the connection of a nexus; what it had under way goes on elsewhere or is in doubt.
    pub(super) fn lose(
        &mut self,
        now: Instant,
        index: usize,
        why: Trouble,
        pause: Option<Duration>,
    ) {
        let nexus = &mut self.nexuses[index];
        let done = matches!(why, Trouble::Closed(Closed::LoggedOut));
        // One that was lost as soon as it was made is no success: nothing here may spin.
        let served = nexus.serves() && now.since(nexus.since) >= PAUSE_MAX;
        nexus.failures = match done || served {
            true => 0,
            false => nexus.failures.saturating_add(1),
        };
        let pause = pause.unwrap_or_else(|| match served {
            true => Duration::ZERO,
            false => (PAUSE_MIN * (1 << nexus.failures.min(6))).min(PAUSE_MAX),
        });
        let until = now + pause;
        let phase = std::mem::replace(&mut nexus.phase, Phase::Idle { until });
        if !done {
            nexus.trouble = Some(why);
        }
        nexus.since = now;
        self.outputs.push_back(Output::Reset { nexus: index });
        let Phase::Open { mut session, .. } = phase else {
            return;
        };
        // What was answered before counts; of the end nobody need be told again.
        session.connection_lost();
        nexus.md5_only |= session.retry_with_md5_only();
        while let Some(event) = session.poll_event() {
            if let Event::Completed(completion) = event {
                let _ = self.completed(now, index, &completion);
            }
        }
        let group = session.portal_group();
        while let Some(orphan) = session.drain_orphans().next() {
            if let Some(slot) = self.slots.release(orphan.handle) {
                let place = orphan.handle.0 as usize;
                self.orphaned(now, index, group, place, &slot, orphan.sent);
            }
        }
    }
}
