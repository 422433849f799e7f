//! From the target's answer to what follows: done, the next step, once more, elsewhere, or an error.

use core::time::Duration;

use iscsi_client::scsi::{Attention, Moves, Suspicion, Verdict, judge};
use iscsi_client::session::{Completion, Transfer};
use iscsi_client::time::Instant;

use super::{CloseHow, IoError, Note, PathId, Volume};
use crate::attention::Action;
use crate::contract::Operation;
use crate::operation::Step;
use crate::path::After;
use crate::path::check::Extent;
use crate::path::errors::Ended;
use crate::policy::Direction;
use crate::task::{Role, Task};

/// BUSY, TASK SET FULL: once more after 10 to 100 ms.
const BUSY_MIN: Duration = Duration::from_millis(10);
const BUSY_MAX: Duration = Duration::from_millis(100);
/// Becoming ready: once more after so long.
const READY_PAUSE: Duration = Duration::from_millis(500);
/// A target that has been busy or not ready for so long is not getting better: what Linux grants a disk command
/// with all its retries.
const PATIENCE: Duration = Duration::from_secs(180);

impl Volume {
    /// A request's command was answered.
    pub(super) fn answered(&mut self, now: Instant, id: PathId, completion: &Completion) {
        let Some(task) = self.tasks.find(completion.handle) else {
            panic!("an answer to a command that is not running");
        };
        let task = self.tasks.end(task);
        assert_eq!(task.path, id, "an answer from another path");
        let step = task.step;
        let verdict = judge(
            moves(&step),
            completion.status,
            completion.sense,
            completion.residual,
            completion.received,
        );
        self.measured(now, &task, &verdict);
        match task.role {
            Role::Original => self.original_answered(now, &task, verdict),
            Role::Hedge { spare } => {
                self.heard_on_the_side(now, id, &verdict);
                self.hedge_ended(&task, spare, verdict == Verdict::Success);
            }
            Role::Abandoned { spare } => {
                self.heard_on_the_side(now, id, &verdict);
                self.forget(spare);
            }
        }
    }

    /// What the answer says of the path.
    fn measured(&mut self, now: Instant, task: &Task, verdict: &Verdict) {
        let path = self.path_mut(task.path);
        let ended = match verdict {
            Verdict::PathError => Ended::Failed,
            _ => Ended::Through,
        };
        if path.note_ending(now, ended) {
            self.notes.push(Note::TooManyErrors { path: task.path });
        }
        let path = self.path_mut(task.path);
        if *verdict != Verdict::Success {
            // An answer without data says nothing of the path's rate.
            path.load.dropped(task.sent);
            return;
        }
        path.load.completed(now, task.sent);
        path.depth.completed();
        match task.step.direction() {
            Some(Direction::Read) => path.tallies.bytes_read += u64::from(task.step.payload_len),
            Some(Direction::Write) => {
                path.tallies.bytes_written += u64::from(task.step.payload_len);
            }
            None => {}
        }
    }

    /// News that came with an answer nobody waits for: the target tells them once.
    fn heard_on_the_side(&mut self, now: Instant, id: PathId, verdict: &Verdict) {
        match *verdict {
            Verdict::UnitAttention(news) => self.attention(now, id, news),
            Verdict::EarlierWriteLost => self.earlier_write_lost(id),
            _ => {}
        }
    }

    fn earlier_write_lost(&mut self, id: PathId) {
        self.deferred_errors += 1;
        self.flush_fails = true;
        self.notes.push(Note::EarlierWriteLost { path: id });
    }

    fn original_answered(&mut self, now: Instant, task: &Task, verdict: Verdict) {
        let id = task.path;
        match verdict {
            Verdict::Success => {
                self.path_mut(id).tallies.completed += 1;
                self.part_done(task);
            }
            Verdict::EarlierWriteLost => {
                self.earlier_write_lost(id);
                self.again(task, None, None);
            }
            Verdict::UnitAttention(news) => {
                self.again(task, None, None);
                self.attention(now, id, news);
            }
            Verdict::Busy => {
                let pause = self.jitter.between(BUSY_MIN, BUSY_MAX);
                self.later(now, task, pause);
            }
            Verdict::TaskSetFull => {
                // The refused one is not among those in flight any more.
                let path = self.path_mut(id);
                let in_flight = path.in_flight() + 1;
                path.depth.full(in_flight);
                let pause = self.jitter.between(BUSY_MIN, BUSY_MAX);
                self.later(now, task, pause);
            }
            Verdict::BecomingReady => {
                self.later(now, task, READY_PAUSE);
            }
            Verdict::NotReady => {
                self.later_elsewhere(now, task, READY_PAUSE);
            }
            Verdict::OtherGroup => {
                self.part_waits(task, None, Some(id));
                self.port_inactive(now, id);
            }
            Verdict::OtherPathOnce(suspicion) => {
                let error = match suspicion {
                    Suspicion::Medium => IoError::Medium,
                    Suspicion::Hardware | Suspicion::WrongLength | Suspicion::Unexplained => {
                        IoError::Io
                    }
                };
                let budget = &mut self.table.slot_mut(task.tag).budget;
                match budget.elsewhere.checked_sub(1) {
                    Some(left) => {
                        budget.elsewhere = left;
                        self.part_waits(task, None, Some(id));
                    }
                    None => self.part_failed(task, error),
                }
            }
            Verdict::PathError => self.again(task, None, Some(id)),
            Verdict::Aborted { .. } => self.again(task, None, None),
            Verdict::NotSupported => self.not_supported(task),
            Verdict::OutOfRange => {
                self.part_failed(task, IoError::Io);
                self.ask_for_capacity(now);
            }
            Verdict::LunGone => {
                self.part_waits(task, None, Some(id));
                let why = "the target has no such LUN any more".to_owned();
                self.close_path(now, id, CloseHow::Abort, After::Gone { why });
            }
            Verdict::NoSpace => self.part_failed(task, IoError::NoSpace),
            Verdict::WriteProtected => self.part_failed(task, IoError::ReadOnly),
            Verdict::ReservationConflict => self.part_failed(task, IoError::Reserved),
            Verdict::Miscompare | Verdict::Refused => self.part_failed(task, IoError::Io),
        }
    }

    /// Once more, as long as the request's budget lasts.
    fn again(&mut self, task: &Task, not_before: Option<Instant>, avoid: Option<PathId>) {
        let budget = &mut self.table.slot_mut(task.tag).budget;
        match budget.again.checked_sub(1) {
            Some(left) => {
                budget.again = left;
                self.part_waits(task, not_before, avoid);
            }
            None => self.part_failed(task, IoError::Io),
        }
    }

    /// Once more after a pause, as long as patience lasts.
    fn later(&mut self, now: Instant, task: &Task, pause: Duration) {
        self.with_patience(now, task, pause, None);
    }

    /// As [`Volume::later`], and rather on another path.
    fn later_elsewhere(&mut self, now: Instant, task: &Task, pause: Duration) {
        self.with_patience(now, task, pause, Some(task.path));
    }

    fn with_patience(&mut self, now: Instant, task: &Task, pause: Duration, avoid: Option<PathId>) {
        if now.since(self.table.slot(task.tag).arrived) < PATIENCE {
            self.part_waits(task, Some(now + pause), avoid);
        } else {
            self.part_failed(task, IoError::Io);
        }
    }

    fn not_supported(&mut self, task: &Task) {
        let slot = self.table.slot(task.tag);
        let (plan, operation) = (slot.plan, slot.request.operation);
        match self.abilities.refused(plan, task.span, &task.step) {
            Some(plan) => {
                if plan.is_plain_write() {
                    self.notes.push(Note::WriteSameRefused);
                }
                self.other_plan(task, plan);
            }
            None => {
                if operation == Operation::Discard {
                    self.notes.push(Note::UnmapRefused);
                }
                self.part_failed(task, IoError::NotSupported);
            }
        }
    }

    /// The target announced something, with a command or on its own.
    pub(super) fn attention(&mut self, now: Instant, id: PathId, news: Attention) {
        match self.attentions.hear(now, news) {
            Action::Nothing => {}
            Action::Verify => self.verify_again(now, id),
            Action::Examine => self.request_examination(now, id, Extent::Full),
            Action::Groups => self.request_examination(now, id, Extent::Brief),
            Action::Capacity => self.ask_for_capacity(now),
            Action::TellThin => self.notes.push(Note::ThinThreshold),
            Action::TellReservation => self.notes.push(Note::ReservationLost),
        }
    }
}

fn moves(step: &Step) -> Moves {
    match step.transfer {
        Transfer::None => Moves::Nothing,
        Transfer::Read { len, .. } => Moves::Read(len),
        Transfer::Write { len, .. } => Moves::Written(len),
    }
}
