//! The rung that needs no login: waiting out where a copy can hide, and the last word of the target through a path that
//! lives. Why and how long is the story of [`crate::ladder`]; this is the clockwork.
//!
//! ```text
//!   Idle --- nothing can arrive any more, LUN reset allowed ---> Resetting --- complete ---> proven dead
//!    | ^                                                            |
//!    | +---------------- refused, unanswered, witness lost ---------+
//!    |
//!    +------ nothing can be left, by the clock --------------------> Asking --- ready -----> proven dead
//!      ^                                                               |
//!      +------- unanswered (from the start), not ready, witness lost --+
//! ```

use core::time::Duration;

use iscsi_client::session::{Completion, Handle};
use iscsi_client::time::Instant;
use iscsi_client::wire::TaskManagementFunction;

use super::{Note, PathId, Volume};
use crate::contract::FenceKind;
use crate::drain::{Drain, Drained};
use crate::fence::Nexus;
use crate::ladder::{Hideout, TargetKind, Terms};
use crate::path::{Phase, Sent};
use crate::volume::ending::Life;

/// LOGICAL UNIT RESET waits for the commands it ends.
const RESET_TIMEOUT: Duration = Duration::from_secs(60);
/// The ordered command waits for whatever is left.
const LAST_WORD_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two attempts at a last word.
const AGAIN: Duration = Duration::from_secs(1);
/// Response of a task management function that is complete (RFC 7143, 11.6.1).
const FUNCTION_COMPLETE: u8 = 0;

/// The hold of one path's dead sessions. One at a time: a path has rarely more than one.
#[derive(Debug)]
pub(super) struct Hold {
    stage: Stage,
    not_before: Instant,
    /// The target did not take the reset of this fence: the clock alone counts.
    reset_failed: bool,
}

#[derive(Debug)]
enum Stage {
    Idle,
    Resetting {
        nexus: Nexus,
        via: PathId,
        handle: Handle,
        deadline: Instant,
    },
    Asking {
        nexus: Nexus,
        via: PathId,
        drain: Drain,
        out: Option<Sent>,
    },
}

/// What is next in a hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Reset,
    Ask,
}

impl Hold {
    pub(super) fn new(now: Instant) -> Hold {
        Hold {
            stage: Stage::Idle,
            not_before: now,
            reset_failed: false,
        }
    }

    fn witness(&self) -> Option<PathId> {
        match self.stage {
            Stage::Idle => None,
            Stage::Resetting { via, .. } | Stage::Asking { via, .. } => Some(via),
        }
    }

    /// A new fence begins: what the last one found out does not bind it, and proves nothing about it.
    pub(super) fn begin(&mut self) {
        self.stage = Stage::Idle;
        self.reset_failed = false;
    }

    pub(super) fn call_off(&mut self) {
        self.stage = Stage::Idle;
    }
}

impl Volume {
    /// What a rung costs on this target.
    pub(super) fn fence_terms(&self) -> Terms {
        let description = &self.config.description;
        Terms::of(&description.identity, description.task_set)
    }

    fn hold(&mut self, id: PathId) -> &mut Hold {
        &mut self.fences[usize::from(id.0)].hold
    }

    /// The first dead session of this path that only time can fence, what is next, and from when on.
    fn hold_due(&self, id: PathId) -> Option<(Nexus, Step, Instant)> {
        let hold = &self.fences[usize::from(id.0)].hold;
        let terms = self.fence_terms();
        let reset = self.config.allow_lun_reset && !hold.reset_failed;
        let due = |nexus: Nexus| {
            let hideout = self.ledger.hideout(nexus)?;
            let login = match hideout {
                Hideout::Backend { .. } => false,
                // A login of this session under way, or one that could be made, is the better proof.
                _ => self.returns(id, nexus) || self.sibling(id, nexus).is_some(),
            };
            let (step, at) = match reset {
                true => (Step::Reset, terms.no_arrival_after(hideout)?),
                false => (Step::Ask, terms.over_after(hideout)?),
            };
            (!login).then_some((nexus, step, at.max(hold.not_before)))
        };
        // Copies of one session lie together: each session is looked at once, not each copy.
        let mut last = None;
        let owed = self.ledger.owed_by(self.path(id).config.isid);
        owed.filter(|nexus| last.replace(*nexus) != Some(*nexus))
            .filter_map(due)
            .min_by_key(|&(_, _, at)| at)
    }

    /// A path that carries IO can give the last word: it was verified as this volume's. Rather another than the one whose
    /// session died, which may not last.
    fn find_witness(&self, id: PathId) -> Option<PathId> {
        let fit = |&other: &PathId| {
            let path = self.path(other);
            let room = path
                .session
                .as_ref()
                .is_some_and(|session| session.room() > 0);
            matches!(path.phase, Phase::Up { .. }) && room
        };
        let others = self.path_ids().filter(|&other| other != id);
        others.chain([id]).find(fit)
    }

    /// Starts what is due.
    pub(super) fn start_hold(&mut self, now: Instant, id: PathId) {
        if !matches!(self.fences[usize::from(id.0)].hold.stage, Stage::Idle)
            || matches!(self.life, Life::LoggingOut { .. } | Life::Over)
        {
            return;
        }
        let Some((nexus, step, at)) = self.hold_due(id) else {
            return;
        };
        let Some(via) = self.find_witness(id).filter(|_| now >= at) else {
            return;
        };
        match step {
            Step::Ask => {
                let last = TargetKind::of(&self.config.description.identity).last_word();
                let drain = Drain::new(self.config.lun, last);
                self.hold(id).stage = Stage::Asking {
                    nexus,
                    via,
                    drain,
                    out: None,
                };
                self.ask_last_word(now, id);
            }
            Step::Reset => {
                let handle = self.own_handle();
                let lun = self.config.lun;
                let function = TaskManagementFunction::LogicalUnitReset;
                let session = self.path_mut(via).session.as_mut();
                let sent =
                    session.is_some_and(|session| session.manage(now, handle, function, lun, None));
                if !sent {
                    self.hold(id).not_before = now + AGAIN;
                    return;
                }
                self.hold(id).stage = Stage::Resetting {
                    nexus,
                    via,
                    handle,
                    deadline: now + RESET_TIMEOUT,
                };
                self.notes.push(Note::LunReset { path: id, via });
            }
        }
    }

    /// Sends the next command of the last word.
    pub(super) fn ask_last_word(&mut self, now: Instant, id: PathId) {
        let handle = self.own_handle();
        let Stage::Asking {
            via,
            drain,
            out: out @ None,
            ..
        } = &mut self.fences[usize::from(id.0)].hold.stage
        else {
            return;
        };
        if let Some(session) = &mut self.paths[usize::from(via.0)].session
            && session.room() > 0
            && let Some(command) = drain.poll_command(handle)
        {
            *out = Some(Sent { handle, at: now });
            session.submit(now, command);
        }
    }

    /// An answer to a command of the volume's own. Whether it was a last word's.
    pub(super) fn last_word_answered(&mut self, now: Instant, completion: &Completion) -> bool {
        for id in self.path_ids() {
            let Stage::Asking {
                nexus,
                via,
                drain,
                out,
            } = &mut self.fences[usize::from(id.0)].hold.stage
            else {
                continue;
            };
            if out.is_none_or(|sent| sent.handle != completion.handle) {
                continue;
            }
            *out = None;
            drain.completed(completion);
            let (nexus, via, result) = (*nexus, *via, drain.result());
            // It is asked on a path that carries IO, which must not miss the news.
            self.hear_of(now, via, completion);
            match result {
                None => self.ask_last_word(now, id),
                Some(Drained::Ready) => {
                    self.hold(id).stage = Stage::Idle;
                    self.proven_dead(now, id, nexus, FenceKind::TimedHold);
                }
                Some(Drained::PortInactive | Drained::LunGone | Drained::NotReady) => {
                    self.hold(id).stage = Stage::Idle;
                    self.hold(id).not_before = now + AGAIN;
                }
            }
            return true;
        }
        false
    }

    /// A task management function was answered.
    pub(super) fn function_answered(&mut self, now: Instant, handle: Handle, response: u8) {
        for id in self.path_ids() {
            let Stage::Resetting {
                nexus, handle: own, ..
            } = self.hold(id).stage
            else {
                continue;
            };
            if own != handle {
                continue;
            }
            self.hold(id).stage = Stage::Idle;
            if response == FUNCTION_COMPLETE {
                self.proven_dead(now, id, nexus, FenceKind::LunReset);
            } else {
                self.hold(id).reset_failed = true;
                let why = format!("the target refuses LOGICAL UNIT RESET (response {response})");
                self.notes.push(Note::FenceFailed { path: id, why });
            }
            return;
        }
    }

    /// This path carries no IO any more: what it was to witness is asked elsewhere.
    pub(super) fn witness_lost(&mut self, now: Instant, witness: PathId) {
        for id in self.path_ids() {
            let hold = self.hold(id);
            if hold.witness() == Some(witness) {
                hold.stage = Stage::Idle;
                hold.not_before = now + AGAIN;
            }
        }
    }

    pub(super) fn hold_deadline(&self, id: PathId) -> Option<Instant> {
        match &self.fences[usize::from(id.0)].hold.stage {
            // Without a witness nothing is due: its coming is an event.
            Stage::Idle if self.ledger.is_empty() => None,
            Stage::Idle => {
                let (_, _, at) = self.hold_due(id)?;
                self.find_witness(id).map(|_| at)
            }
            Stage::Resetting { deadline, .. } => Some(*deadline),
            Stage::Asking { out, .. } => out.map(|sent| sent.at + LAST_WORD_TIMEOUT),
        }
    }

    pub(super) fn hold_timeout(&mut self, now: Instant, id: PathId) {
        if self.hold_deadline(id).is_none_or(|at| now < at) {
            return;
        }
        match self.hold(id).stage {
            // `settle` starts it.
            Stage::Idle => {}
            Stage::Resetting { .. } => {
                self.hold(id).stage = Stage::Idle;
                self.hold(id).reset_failed = true;
                let why = "no answer to LOGICAL UNIT RESET".to_owned();
                self.notes.push(Note::FenceFailed { path: id, why });
            }
            Stage::Asking { nexus, .. } => {
                self.hold(id).stage = Stage::Idle;
                // Something older is still there: what was assumed of the backend does not hold.
                self.ledger.stuck(now, nexus);
                let why = "no answer to the ORDERED command that ends the hold".to_owned();
                self.notes.push(Note::FenceFailed { path: id, why });
            }
        }
    }
}
