//! What the answer to a command means for its job.
//!
//! | the target says | a read | a write |
//! |---|---|---|
//! | not executed (unit attention, busy, not ready, wrong port) | again | again, within its time |
//! | TASK ABORTED, target failure | again | in doubt: its session is ended and fenced |
//! | any other failure | once more elsewhere, or failed | unknown, and over: the target has done with it |

use iscsi_client::scsi::{Moves, Status, Suspicion, Verdict};
use iscsi_client::session::Completion;
use iscsi_client::time::Instant;
use lockmgr::{ReadFailed, WriteOutcome};

use super::{Carrier, judge_completion};
use crate::keeper::disk::Answer;
use crate::keeper::san::debt::Debt;
use crate::keeper::san::nexus::Trouble;
use crate::keeper::san::patience::{ASIDE, BUSY_PAUSE};
use crate::keeper::san::tasks::{Stage, Work};

impl Carrier {
    /// A command was answered. Some: its session must end.
    pub(super) fn completed(
        &mut self,
        now: Instant,
        index: usize,
        completion: &Completion,
    ) -> Option<Trouble> {
        let slot_index = completion.handle.0 as usize;
        let slot = self.slots.release(completion.handle)?;
        let at = self.position(slot.task)?;
        let flushes = self.facts.write_cache && !self.facts.fua;
        let task = &mut self.tasks[at];
        let (id, again) = (task.id, Stage::Waiting { not_before: now });
        let later = Stage::Waiting {
            not_before: now + BUSY_PAUSE,
        };
        let moves = match task.work {
            Work::Read { .. } => Moves::Read(slot.len as u32),
            Work::Write { flush: false, .. } => Moves::Written(slot.len as u32),
            Work::Write { flush: true, .. } => Moves::Nothing,
        };
        let verdict = judge_completion(moves, completion);
        // What every command has in common: it was not executed, and may be sent again.
        match verdict {
            Verdict::UnitAttention(attention) => {
                task.stage = again;
                return self.attention(now, index, attention);
            }
            Verdict::Busy
            | Verdict::TaskSetFull
            | Verdict::BecomingReady
            | Verdict::EarlierWriteLost => {
                task.stage = later;
                return None;
            }
            Verdict::NotReady | Verdict::OtherGroup | Verdict::LunGone => {
                task.stage = later;
                self.nexuses[index].aside_until = now + ASIDE;
                self.check_again(now, index);
                return None;
            }
            _ => {}
        }
        match (&mut task.work, verdict) {
            (Work::Read { data, done, .. }, Verdict::Success) => {
                data[slot.at..slot.at + slot.len]
                    .copy_from_slice(&self.slots.bytes(slot_index)[..slot.len]);
                *done = slot.at + slot.len;
                if *done < data.len() {
                    task.stage = again;
                } else {
                    let data = Ok(std::mem::take(data));
                    self.tasks.remove(at);
                    self.answer(Answer::Read { id, data });
                }
                None
            }
            (
                Work::Read { .. },
                Verdict::Aborted { .. }
                | Verdict::PathError
                | Verdict::OtherPathOnce(Suspicion::Hardware | Suspicion::Unexplained),
            ) => {
                task.stage = later;
                self.nexuses[index].aside_until = now + ASIDE;
                None
            }
            (Work::Read { .. }, _) => {
                self.tasks.remove(at);
                self.answer(Answer::Read {
                    id,
                    data: Err(ReadFailed),
                });
                None
            }
            (Work::Write { flush, .. }, Verdict::Success) => {
                if flushes && !*flush {
                    *flush = true;
                    task.stage = again;
                } else {
                    self.tasks.remove(at);
                    self.answer(Answer::Wrote {
                        id,
                        outcome: WriteOutcome::Done,
                    });
                }
                None
            }
            // Somebody reset the LUN, or the target failed: what was aborted may be at the backend still.
            (Work::Write { .. }, _)
                if matches!(
                    completion.status,
                    Status::TaskAborted | Status::TargetFailure(_)
                ) =>
            {
                self.tasks.remove(at);
                let group = self.nexuses[index].group;
                Debt::add(&mut self.nexuses[index].debt, now, group, id);
                self.unknown(id);
                Some(Trouble::CommandLost)
            }
            // The target has done with it; in part, perhaps.
            (Work::Write { .. }, _) => {
                self.tasks.remove(at);
                self.over(id);
                None
            }
        }
    }
}
