//! What a session owes beside its jobs, and what becomes of a job whose command is late: `silence` tells when that is.
//!
//! | | at once | until it is heard again |
//! |---|---|---|
//! | late | another portal comes first; the target is pinged, and asked for unit attentions | |
//! | a late read, a late flush | goes elsewhere, once | |
//! | a late write with one writer | is sent elsewhere as well, once | |
//! | late, and nothing was heard since | the others are pinged | TCP is looked at: dead? |

use iscsi_client::scsi::Cdb;
use iscsi_client::session::{Command, Transfer};
use iscsi_client::time::Instant;
use iscsi_client::wire::TaskAttribute;
use lockmgr::Writers;

use super::{ARE_YOU_THERE, Carrier, QUESTION};
use crate::keeper::san::nexus::{Phase, Stage as SessionStage, Trouble};
use crate::keeper::san::patience::{ASIDE, PING_AFTER};
use crate::keeper::san::silence::{TcpSeen, WITNESS_EVERY};
use crate::keeper::san::tasks::{Stage, Work};

impl Carrier {
    /// Sends what a session owes but jobs: the check's questions, pings, and questions about late commands.
    pub(super) fn pump(&mut self, now: Instant, index: usize) {
        let witness = self.is_witness(index);
        let Phase::Open { session, stage, .. } = &mut self.nexuses[index].phase else {
            return;
        };
        match stage {
            SessionStage::Checking { until, .. } | SessionStage::Leaving { until }
                if *until <= now =>
            {
                return self.lose(now, index, Trouble::CheckTimeout, None);
            }
            SessionStage::Checking { probe, .. } => {
                if session.room() > 0
                    && let Some(command) = probe.poll_command(QUESTION)
                {
                    session.submit(now, command);
                }
            }
            SessionStage::Serving { .. } => {
                let after = if witness { WITNESS_EVERY } else { PING_AFTER };
                if session.last_received() + after <= now && session.pings() == 0 {
                    session.ping(now);
                }
            }
            SessionStage::LoggingIn | SessionStage::Leaving { .. } => {}
        }
        self.see_late(now, index);
    }

    /// Whether another portal is suspect, so that this one is to show that the target lives.
    fn is_witness(&self, index: usize) -> bool {
        let suspect = |other: usize| other != index && self.is_suspect(other);
        (0..self.nexuses.len()).any(suspect)
    }

    fn is_suspect(&self, index: usize) -> bool {
        let nexus = &self.nexuses[index];
        nexus.serves() && nexus.silence.is_suspect()
    }

    /// Commands that wait for long.
    fn see_late(&mut self, now: Instant, index: usize) {
        let mut late = false;
        let mut unheard = false;
        let elsewhere = (0..self.nexuses.len()).any(|n| n != index && self.nexuses[n].serves());
        let heard = self.nexuses[index]
            .session_mut()
            .map(|session| session.last_received());
        while let Some(at) = self.slots.late(now, index) {
            let Some(slot) = self.slots.get_mut(at) else {
                break;
            };
            if slot.since + self.io_timeout <= now {
                return self.lose(now, index, Trouble::Unanswered, None);
            }
            slot.late_at = now + self.patience.late;
            late = true;
            unheard |= heard.is_some_and(|heard| heard <= slot.since);
            let slot = *slot;
            if elsewhere && let Some(task) = self.position(&slot) {
                self.send_elsewhere(now, task, at);
            }
        }
        if !late {
            return;
        }
        let lun = self.lun;
        let nexus = &mut self.nexuses[index];
        nexus.aside_until = now + ASIDE;
        let Phase::Open {
            session,
            stage: SessionStage::Serving { asked },
            ..
        } = &mut nexus.phase
        else {
            return;
        };
        if unheard {
            nexus.silence.suspect(now);
        }
        if session.pings() == 0 {
            session.ping(now);
        }
        // A target that lost our commands without a word (a reset by another host) has a unit attention to tell.
        if !*asked && session.room() > 0 {
            *asked = true;
            session.submit(
                now,
                Command {
                    handle: ARE_YOU_THERE,
                    lun,
                    cdb: Cdb::test_unit_ready(),
                    attribute: TaskAttribute::Simple,
                    transfer: Transfer::None,
                },
            );
        }
    }

    /// A task whose newest command is late goes elsewhere, if it may and has not yet.
    fn send_elsewhere(&mut self, now: Instant, at: usize, slot: usize) {
        let task = &mut self.tasks[at];
        if task.stage != (Stage::Out { slot }) {
            return;
        }
        let moved = match &mut task.work {
            Work::Write {
                writers: Writers::Many,
                flush: false,
                ..
            } => return,
            Work::Read { moved, .. } | Work::Write { moved, .. } => moved,
        };
        if !std::mem::replace(moved, true) {
            self.leave_slot(at);
            self.tasks[at].stage = Stage::Waiting { not_before: now };
        }
    }

    /// When the statistics of this nexus's connection are wanted, or a ping as a witness.
    pub(super) fn next_look(&self, index: usize) -> Option<Instant> {
        let nexus = &self.nexuses[index];
        let Phase::Open {
            session,
            stage: SessionStage::Serving { .. },
            ..
        } = &nexus.phase
        else {
            return None;
        };
        let look = nexus.silence.next_look();
        let ping = (self.is_witness(index) && session.pings() == 0)
            .then(|| session.last_received() + WITNESS_EVERY);
        look.into_iter().chain(ping).min()
    }

    /// Whether the driver shall tell what TCP knows of this nexus's connection.
    pub fn wants_look(&self, now: Instant, index: usize) -> bool {
        let due = self.nexuses[index].silence.next_look();
        self.is_suspect(index) && due.is_some_and(|at| at <= now)
    }

    /// What TCP knows of it; `None` if that cannot be told.
    pub fn look(&mut self, now: Instant, index: usize, seen: Option<TcpSeen>) {
        let others = (0..self.nexuses.len()).filter(|other| *other != index);
        let heard = others.filter_map(|other| match &self.nexuses[other].phase {
            Phase::Open {
                session,
                stage: SessionStage::Serving { .. },
                ..
            } => Some(session.last_received()),
            _ => None,
        });
        let witness = heard.max().unwrap_or_default();
        if self.nexuses[index].silence.look(now, seen, witness) {
            self.lose(now, index, Trouble::Silent, None);
        }
    }
}
