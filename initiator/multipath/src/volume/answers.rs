//! From the target's answer to what follows: done, the next step, once more, elsewhere, or an error.

use core::time::Duration;

use iscsi_client::scsi::{Attention, Moves, Suspicion, Verdict, judge};
use iscsi_client::session::{Completion, Transfer};
use iscsi_client::time::Instant;

use super::dispatch::request_of;
use super::{CloseHow, IoError, Note, PathId, Tag, Volume};
use crate::attention::Action;
use crate::contract::Operation;
use crate::operation::Step;
use crate::path::check::Extent;
use crate::path::{After, Phase};
use crate::request::State;

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
        let Some((tag, generation)) = request_of(completion.handle) else {
            return;
        };
        let (State::Running { path, step, .. } | State::Aborting { path, step, .. }) =
            self.table.state(tag)
        else {
            panic!("an answer to a command of a request that is not running");
        };
        assert!(path == id && self.table.slot(tag).generation == generation);
        let verdict = judge(
            moves(&step),
            completion.status,
            completion.sense,
            completion.residual,
            completion.received,
        );
        match verdict {
            Verdict::Success => self.succeeded(id, tag, &step),
            Verdict::EarlierWriteLost => {
                self.deferred_errors += 1;
                self.flush_fails = true;
                self.notes.push(Note::EarlierWriteLost { path: id });
                self.again(tag, None, None);
            }
            Verdict::UnitAttention(news) => {
                self.again(tag, None, None);
                self.attention(now, id, news);
            }
            Verdict::Busy => {
                let pause = self.jitter.between(BUSY_MIN, BUSY_MAX);
                self.later(now, tag, pause);
            }
            Verdict::TaskSetFull => {
                // The refused one is not among those in flight any more.
                let path = self.path_mut(id);
                let in_flight = path.in_flight() + 1;
                path.depth.full(in_flight);
                let pause = self.jitter.between(BUSY_MIN, BUSY_MAX);
                self.later(now, tag, pause);
            }
            Verdict::BecomingReady => {
                self.later(now, tag, READY_PAUSE);
            }
            Verdict::NotReady => {
                if self.later(now, tag, READY_PAUSE) {
                    self.table.avoid(tag, id);
                }
            }
            Verdict::OtherGroup => {
                self.table.wait(tag, None, Some(id));
                self.port_inactive(now, id);
            }
            Verdict::OtherPathOnce(suspicion) => {
                let error = match suspicion {
                    Suspicion::Medium => IoError::Medium,
                    Suspicion::Hardware | Suspicion::WrongLength | Suspicion::Unexplained => {
                        IoError::Io
                    }
                };
                let budget = &mut self.table.slot_mut(tag).budget;
                match budget.elsewhere.checked_sub(1) {
                    Some(left) => {
                        budget.elsewhere = left;
                        self.table.wait(tag, None, Some(id));
                    }
                    None => self.finish(tag, Err(error)),
                }
            }
            Verdict::PathError => self.again(tag, None, Some(id)),
            Verdict::Aborted { .. } => self.again(tag, None, None),
            Verdict::NotSupported => self.not_supported(tag, &step),
            Verdict::OutOfRange => {
                self.finish(tag, Err(IoError::Io));
                self.request_examination(now, id, Extent::Full);
            }
            Verdict::LunGone => {
                self.table.wait(tag, None, Some(id));
                let why = "the target has no such LUN any more".to_owned();
                self.close_path(now, id, CloseHow::Abort, After::Gone { why });
            }
            Verdict::NoSpace => self.finish(tag, Err(IoError::NoSpace)),
            Verdict::WriteProtected => self.finish(tag, Err(IoError::ReadOnly)),
            Verdict::ReservationConflict => self.finish(tag, Err(IoError::Reserved)),
            Verdict::Miscompare | Verdict::Refused => self.finish(tag, Err(IoError::Io)),
        }
    }

    fn succeeded(&mut self, id: PathId, tag: Tag, step: &Step) {
        let tallies = {
            let path = self.path_mut(id);
            path.depth.completed();
            &mut path.tallies
        };
        match step.transfer {
            Transfer::Read { .. } => tallies.bytes_read += u64::from(step.payload_len),
            Transfer::Write { .. } => tallies.bytes_written += u64::from(step.payload_len),
            Transfer::None => {}
        }
        let slot = self.table.slot(tag);
        match slot.plan.advance(step, &slot.request, &self.abilities) {
            Some(plan) => {
                self.table.slot_mut(tag).plan = plan;
                self.table.wait(tag, None, None);
            }
            None => {
                self.path_mut(id).tallies.completed += 1;
                self.finish(tag, Ok(()));
            }
        }
    }

    /// Once more, as long as the request's budget lasts.
    fn again(&mut self, tag: Tag, not_before: Option<Instant>, avoid: Option<PathId>) {
        let budget = &mut self.table.slot_mut(tag).budget;
        match budget.again.checked_sub(1) {
            Some(left) => {
                budget.again = left;
                self.table.wait(tag, not_before, avoid);
            }
            None => self.finish(tag, Err(IoError::Io)),
        }
    }

    /// Once more after a pause, as long as patience lasts. Returns whether the request waits.
    fn later(&mut self, now: Instant, tag: Tag, pause: Duration) -> bool {
        let waits = now.since(self.table.slot(tag).arrived) < PATIENCE;
        if waits {
            self.table.wait(tag, Some(now + pause), None);
        } else {
            self.finish(tag, Err(IoError::Io));
        }
        waits
    }

    fn not_supported(&mut self, tag: Tag, step: &Step) {
        let plan = self.table.slot(tag).plan;
        match self.abilities.refused(plan, step) {
            Some(plan) => {
                if plan.is_plain_write() {
                    self.notes.push(Note::WriteSameRefused);
                }
                self.table.slot_mut(tag).plan = plan;
                self.table.wait(tag, None, None);
            }
            None => {
                let discard = self.table.slot(tag).request.operation == Operation::Discard;
                if discard {
                    self.notes.push(Note::UnmapRefused);
                }
                self.finish(tag, Err(IoError::NotSupported));
            }
        }
    }

    /// The target announced something, with a command or on its own.
    pub(super) fn attention(&mut self, now: Instant, id: PathId, news: Attention) {
        match self.attentions.hear(now, news) {
            Action::Nothing => {}
            Action::Verify => self.verify_again(now, id),
            Action::Examine => self.request_examination(now, id, Extent::Full),
            Action::Groups => self.request_examination(now, id, Extent::Groups),
            Action::TellThin => self.notes.push(Note::ThinThreshold),
            Action::TellReservation => self.notes.push(Note::ReservationLost),
        }
    }

    /// The port does not serve the LUN now; the groups say when it does again.
    fn port_inactive(&mut self, now: Instant, id: PathId) {
        if let Phase::Up { .. } = self.path(id).phase {
            self.stand_by(now, id);
            if self.config.description.alua {
                self.request_examination(now, id, Extent::Groups);
            }
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
