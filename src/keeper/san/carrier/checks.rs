//! Checks: a session carries nothing before the LUN behind it has said who it is, and again when there is doubt. A
//! check after a login is the proof that the sessions before it are dead; one after a timed hold is its last word.

use iscsi_client::scsi::Attention;
use iscsi_client::time::Instant;
use multipath::Probe;
use multipath::ladder::Terms;

use super::Carrier;
use super::sessions::PAUSE_MAX;
use crate::keeper::san::nexus::{Check, Phase, Stage as SessionStage, Trouble};
use crate::keeper::san::patience::{LOGIN, LOGOUT, REFUSED_PAUSE};
use crate::keeper::san::tasks::Slots;

impl Carrier {
    /// A question of a check was answered.
    pub(super) fn checked(&mut self, now: Instant, index: usize) {
        let terms = self.terms();
        let nexus = &mut self.nexuses[index];
        let Phase::Open {
            via,
            session,
            stage: stage @ SessionStage::Checking { .. },
        } = &mut nexus.phase
        else {
            return;
        };
        let SessionStage::Checking {
            probe, why, began, ..
        } = &*stage
        else {
            return;
        };
        let (why, began) = (*why, *began);
        let found = match probe.result() {
            None => return,
            Some(Ok(found)) => found.clone(),
            Some(Err(failure)) => {
                let trouble = Trouble::Unusable(failure.clone());
                return self.lose(now, index, trouble, Some(PAUSE_MAX));
            }
        };
        if let Some(difference) = self.facts.identity.difference(&found.identity) {
            let trouble = Trouble::OtherLun(difference);
            return self.lose(now, index, trouble, Some(REFUSED_PAUSE));
        }
        nexus.failures = 0;
        nexus.trouble = None;
        nexus.since = now;
        let group = session.portal_group();
        let own = *via == index;
        if own {
            *stage = SessionStage::Serving { asked: false };
        } else {
            session.logout(now);
            *stage = SessionStage::Leaving {
                until: now + LOGOUT,
            };
        }
        self.facts = found;
        if why == Check::Login
            && let Some(debt) = &mut self.nexuses[index].debt
            && debt.reinstated(now, group, &terms)
        {
            self.prove(index);
        }
        for index in 0..self.nexuses.len() {
            let debt = self.nexuses[index].debt;
            let over = debt.and_then(|debt| debt.over_after(&terms));
            if over.is_some_and(|over| over <= began) {
                self.prove(index);
            }
        }
    }

    pub(super) fn terms(&self) -> Terms {
        Terms::of(&self.facts.identity, self.facts.task_set)
    }

    /// Holds that are over want a last word.
    pub(super) fn last_words(&mut self, now: Instant) {
        let terms = self.terms();
        let due = self.nexuses.iter().any(|nexus| {
            let over = nexus.debt.and_then(|debt| debt.over_after(&terms));
            over.is_some_and(|over| over <= now)
        });
        let asking = self.nexuses.iter().any(|nexus| {
            matches!(
                nexus.phase,
                Phase::Open {
                    stage: SessionStage::Checking { .. },
                    ..
                }
            )
        });
        if due
            && !asking
            && let Some(index) = self.choose(now)
        {
            self.check_again(now, index);
        }
    }

    /// Before anything more is sent on this session, the LUN is asked who it is.
    pub(super) fn check_again(&mut self, now: Instant, index: usize) {
        let lun = self.lun;
        if let Phase::Open {
            stage: stage @ SessionStage::Serving { .. },
            ..
        } = &mut self.nexuses[index].phase
        {
            *stage = SessionStage::Checking {
                probe: Box::new(Probe::new(lun, Slots::questions(index))),
                why: Check::Doubt,
                began: now,
                until: now + LOGIN,
            };
            self.pump(now, index);
        }
    }

    /// News about the LUN. Some: this session's commands may have been dropped, so it must end.
    pub(super) fn attention(
        &mut self,
        now: Instant,
        index: usize,
        news: Attention,
    ) -> Option<Trouble> {
        let busy = self.slots.of_nexus(index).next().is_some();
        match news {
            Attention::Reset | Attention::NexusLoss | Attention::CommandsCleared if busy => {
                return Some(Trouble::CommandLost);
            }
            Attention::Reset
            | Attention::IdentityChanged
            | Attention::LunsChanged
            | Attention::CapacityChanged
            | Attention::ModeParametersChanged => self.check_again(now, index),
            _ => {}
        }
        None
    }
}
