//! What the answer to a command, or its session's end, means for its job.
//!
//! | | a read, a flush | a write |
//! |---|---|---|
//! | not executed (unit attention, busy, not ready, wrong port; never left) | again | again, within its time |
//! | TASK ABORTED, target failure, the session was lost | again | in doubt: the session is ended and fenced |
//! | any other failure | once more elsewhere, or failed | unknown, and over: the target has done with it |
//!
//! What is in doubt ends a write as unknown; one whose sector has no other writer is sent again. If a copy succeeds while
//! another is in doubt or under way, the write is doubled, and settled when that one is over.

use iscsi_client::scsi::{Moves, Status, Suspicion, Verdict};
use iscsi_client::session::Completion;
use iscsi_client::time::Instant;
use iscsi_client::wire::Tpgt;
use lockmgr::{IoId, WriteOutcome, Writers};

use super::{Carrier, Doubled, judge_completion};
use crate::keeper::disk::Answer;
use crate::keeper::san::debt::Debt;
use crate::keeper::san::nexus::Trouble;
use crate::keeper::san::patience::{ASIDE, BUSY_PAUSE};
use crate::keeper::san::tasks::{Kind, Slot, Stage, Work};

impl Carrier {
    /// A command was answered. Some: its session must end.
    pub(super) fn completed(
        &mut self,
        now: Instant,
        index: usize,
        completion: &Completion,
    ) -> Option<Trouble> {
        let place = completion.handle.0 as usize;
        let slot = self.slots.release(completion.handle)?;
        self.nexuses[index].silence.answered(now.since(slot.since));
        let moves = match slot.kind {
            Kind::Read => Moves::Read(slot.len as u32),
            Kind::Write { .. } => Moves::Written(slot.len as u32),
            Kind::Flush => Moves::Nothing,
        };
        let verdict = judge_completion(moves, completion);
        // What every command has in common: it was not executed, and may be sent again.
        let later = now + BUSY_PAUSE;
        match verdict {
            Verdict::UnitAttention(attention) => {
                self.again(place, &slot, now);
                return self.attention(now, index, attention);
            }
            Verdict::Busy
            | Verdict::TaskSetFull
            | Verdict::BecomingReady
            | Verdict::EarlierWriteLost => {
                self.again(place, &slot, later);
                return None;
            }
            Verdict::NotReady | Verdict::OtherGroup | Verdict::LunGone => {
                self.again(place, &slot, later);
                self.nexuses[index].aside_until = now + ASIDE;
                self.check_again(now, index);
                return None;
            }
            _ => {}
        }
        match slot.kind {
            Kind::Read => self.read_ended(now, index, place, &slot, verdict),
            Kind::Flush => self.flush_ended(now, index, place, &slot, verdict),
            Kind::Write { .. } => {
                let aborted = matches!(
                    completion.status,
                    Status::TaskAborted | Status::TargetFailure(_)
                );
                return self.write_ended(now, index, place, &slot, verdict, aborted);
            }
        }
        None
    }

    /// A command is to be sent again, unless its job has gone on without it.
    fn again(&mut self, place: usize, slot: &Slot, not_before: Instant) {
        if let Some(at) = self.position(slot)
            && self.tasks[at].stage == (Stage::Out { slot: place })
        {
            self.tasks[at].stage = Stage::Waiting { not_before };
        }
    }

    fn read_ended(
        &mut self,
        now: Instant,
        index: usize,
        place: usize,
        slot: &Slot,
        verdict: Verdict,
    ) {
        let Some(at) = self.position(slot) else {
            return;
        };
        let task = &mut self.tasks[at];
        let id = task.id;
        let Work::Read { at: start, len, .. } = task.work else {
            return;
        };
        match verdict {
            Verdict::Success => {
                self.tasks.remove(at);
                let Some(whole) = self.reads.iter().position(|read| read.id == id) else {
                    return;
                };
                let read = &mut self.reads[whole];
                read.data[start..start + len].copy_from_slice(&self.slots.bytes(place)[..len]);
                read.missing -= len;
                if read.missing == 0 {
                    let data = Ok(self.reads.swap_remove(whole).data);
                    self.answer(Answer::Read { id, data });
                }
            }
            Verdict::Aborted { .. }
            | Verdict::PathError
            | Verdict::OtherPathOnce(Suspicion::Hardware | Suspicion::Unexplained) => {
                let not_before = now + BUSY_PAUSE;
                task.stage = Stage::Waiting { not_before };
                self.nexuses[index].aside_until = now + ASIDE;
            }
            _ => self.fail_read(id),
        }
    }

    fn flush_ended(
        &mut self,
        now: Instant,
        index: usize,
        place: usize,
        slot: &Slot,
        verdict: Verdict,
    ) {
        let Some(at) = self.position(slot) else {
            return;
        };
        match verdict {
            Verdict::Success => self.written(at),
            Verdict::Aborted { .. } | Verdict::PathError => {
                self.again(place, slot, now + BUSY_PAUSE);
                self.nexuses[index].aside_until = now + ASIDE;
            }
            _ => {
                let id = self.tasks.remove(at).id;
                self.over(id);
            }
        }
    }

    fn write_ended(
        &mut self,
        now: Instant,
        index: usize,
        place: usize,
        slot: &Slot,
        verdict: Verdict,
        aborted: bool,
    ) -> Option<Trouble> {
        if aborted {
            // Somebody reset the LUN, or the target failed: what was aborted may be at the backend still.
            let group = self.nexuses[index].group;
            self.in_doubt(now, index, group, slot);
            self.again(place, slot, now + BUSY_PAUSE);
            return Some(Trouble::CommandLost);
        }
        let at = self.position(slot)?;
        let flushes = self.facts.write_cache && !self.facts.fua;
        let Work::Write { flush, .. } = &mut self.tasks[at].work else {
            return None;
        };
        match verdict {
            // Of a write that is being flushed another copy has succeeded before.
            _ if *flush => {}
            Verdict::Success if flushes => {
                *flush = true;
                self.tasks[at].stage = Stage::Waiting { not_before: now };
            }
            Verdict::Success => self.written(at),
            // The target has done with it; in part, perhaps.
            _ => {
                let id = self.tasks.remove(at).id;
                self.over(id);
            }
        }
        None
    }

    /// Nobody knows what becomes of a command of a write. The session that it was sent on has ended, or will at once.
    fn in_doubt(&mut self, now: Instant, index: usize, group: Option<Tpgt>, slot: &Slot) {
        let Some(id) = slot.task else {
            return;
        };
        Debt::add(&mut self.nexuses[index].debt, now, group, id);
        let Some(at) = self.position(slot) else {
            for doubled in self.doubled.iter_mut().filter(|doubled| doubled.id == id) {
                doubled.lost = true;
            }
            return;
        };
        let once = self.stopping;
        match &mut self.tasks[at].work {
            Work::Write {
                writers: Writers::One,
                lost,
                ..
            } if !once => *lost = true,
            _ => {
                self.tasks.remove(at);
                self.unknown(id);
            }
        }
    }

    /// The session of a command is lost. `sent`: some of its bytes may have left.
    pub(super) fn orphaned(
        &mut self,
        now: Instant,
        index: usize,
        group: Option<Tpgt>,
        place: usize,
        slot: &Slot,
        sent: bool,
    ) {
        if matches!(slot.kind, Kind::Write { .. }) && sent {
            self.in_doubt(now, index, group, slot);
        }
        self.again(place, slot, now);
    }

    /// A write is on the medium, to stay there.
    fn written(&mut self, at: usize) {
        let task = self.tasks.remove(at);
        let id = task.id;
        let lost = matches!(task.work, Work::Write { lost: true, .. });
        let outcome = match lost || self.slots.copies(id).next().is_some() {
            true => {
                self.doubled.push(Doubled { id, lost });
                WriteOutcome::Doubled
            }
            false => WriteOutcome::Done,
        };
        self.answer(Answer::Wrote { id, outcome });
    }

    /// Tells of which doubled writes no copy is left. Those with a copy in doubt wait for a fence.
    pub(super) fn settle(&mut self) {
        let over = |carrier: &Carrier, id: IoId, lost: bool| {
            !lost && carrier.slots.copies(id).next().is_none()
        };
        while let Some(at) = self
            .doubled
            .iter()
            .position(|doubled| over(self, doubled.id, doubled.lost))
        {
            let id = self.doubled.swap_remove(at).id;
            self.answer(Answer::Settled { id });
        }
    }
}
