//! What becomes of a request when a command of it has ended: its next part, the answer, or the wait for a proof.
//!
//! Every way out leads through [`Volume::settle_request`]: a request is answered when no task of it is on a session,
//! and then exactly once.

use iscsi_client::memory::BufferId;
use iscsi_client::session::Orphan;
use iscsi_client::time::Instant;

use super::{IoError, Note, PathId, Tag, Volume};
use crate::no_path::Fate;
use crate::operation::Plan;
use crate::request::{Hedge, Part, State};
use crate::task::{Role, Task};
use crate::volume::ending::Life;

impl Volume {
    /// The request's own command did what it should.
    pub(super) fn part_done(&mut self, task: &Task) {
        match self.hedge_of(task) {
            Hedge::Running(hedge) => self.let_land(hedge),
            Hedge::Landed(spare) => self.spares.give_back(spare),
            Hedge::None | Hedge::Spent => {}
        }
        self.close_part(task.tag, task.part);
    }

    /// The part is complete, whichever copy completed it.
    pub(super) fn close_part(&mut self, tag: Tag, part: u8) {
        self.table.slot_mut(tag).parts[usize::from(part)] = Part::Idle;
        self.settle_request(tag);
    }

    /// The request's own command ended without doing it, and may be repeated. A second copy goes before.
    pub(super) fn part_waits(
        &mut self,
        task: &Task,
        not_before: Option<Instant>,
        avoid: Option<PathId>,
    ) {
        let span = task.span;
        let part = match self.hedge_of(task) {
            Hedge::Running(hedge) => Part::Out {
                span,
                original: None,
                hedge: Hedge::Running(hedge),
            },
            Hedge::Landed(spare) => {
                self.publish(task, spare);
                return self.close_part(task.tag, task.part);
            }
            Hedge::None | Hedge::Spent => Part::Waiting {
                span,
                not_before,
                avoid,
            },
        };
        if let (Part::Waiting { .. }, Some(at)) = (part, not_before) {
            self.due(at);
        }
        self.put_part(task, part);
    }

    /// The part as it is now; a request that fails waits for no path any more.
    pub(super) fn put_part(&mut self, task: &Task, part: Part) {
        let slot = self.table.slot_mut(task.tag);
        let given_up = matches!(slot.state, State::Failing(_));
        slot.parts[usize::from(task.part)] = match part {
            Part::Waiting { .. } if given_up => Part::Idle,
            part => part,
        };
        self.settle_request(task.tag);
    }

    /// The request fails, for this part has failed for good.
    pub(super) fn part_failed(&mut self, task: &Task, error: IoError) {
        match self.hedge_of(task) {
            Hedge::Running(hedge) => self.let_land(hedge),
            Hedge::Landed(spare) => self.spares.give_back(spare),
            Hedge::None | Hedge::Spent => {}
        }
        self.table.slot_mut(task.tag).parts[usize::from(task.part)] = Part::Idle;
        self.fail_request(task.tag, error);
    }

    /// The rest of the request is done another way, from this part on.
    pub(super) fn other_plan(&mut self, task: &Task, plan: Plan) {
        let slot = self.table.slot_mut(task.tag);
        assert!(
            !plan.is_parallel(),
            "only commands that follow one another change their form"
        );
        slot.plan = plan;
        slot.parts[usize::from(task.part)] = Part::Idle;
        self.settle_request(task.tag);
    }

    /// Goes on with the request, or ends it.
    fn settle_request(&mut self, tag: Tag) {
        let slot = self.table.slot(tag);
        match slot.state {
            State::Failing(error) if !slot.is_out() => return self.finish(tag, Err(error)),
            State::Active if slot.is_through() => {
                match slot.plan.then(&slot.request, &self.abilities) {
                    Some(plan) => self.table.slot_mut(tag).plan = plan,
                    None => return self.finish(tag, Ok(())),
                }
            }
            State::Active | State::Failing(_) => {}
            State::HeldByFence(_) => unreachable!("a task of a request that has its result"),
        }
        self.table.relist(tag);
    }

    /// A command of a dead session, not answered and never to be.
    pub(super) fn orphaned(&mut self, id: PathId, orphan: Orphan) {
        let Some(task) = self.tasks.find(orphan.handle) else {
            return;
        };
        let task = self.tasks.end(task);
        assert_eq!(task.path, id, "an orphan of another path");
        self.path_mut(id).load.dropped(task.sent);
        if orphan.sent
            && let Some(extent) = task.step.changes
        {
            let serial = self.table.slot(task.tag).serial;
            self.ledger
                .record(serial, extent, self.path(id).nexus(), task.epoch);
        }
        match task.role {
            Role::Original if self.life == Life::Running => {
                self.part_waits(&task, None, Some(id));
            }
            Role::Original => self.part_failed(&task, IoError::Io),
            Role::Hedge { spare } => self.hedge_ended(&task, spare, false),
            Role::Abandoned { spare } => self.forget(spare),
        }
    }

    /// The request has its result, and no task. It is answered now, or when the fence allows it.
    pub(super) fn finish(&mut self, tag: Tag, result: Result<(), IoError>) {
        let serial = self.table.slot(tag).serial;
        let may_answer = match result {
            Ok(()) => !self.ledger.is_unresolved(serial),
            Err(_) => self.ledger.disown(serial),
        };
        if may_answer {
            self.table.answer(tag);
            self.complete(tag, result);
        } else {
            self.table.hold(tag, result);
        }
    }

    /// Sessions were proven dead: answers that waited for it may go.
    pub(super) fn release_held(&mut self) {
        if self.table.held() == 0 {
            return;
        }
        let held: Vec<Tag> = self.table.tags().collect();
        for tag in held {
            let slot = self.table.slot(tag);
            if let State::HeldByFence(result) = slot.state
                && !self.ledger.is_unresolved(slot.serial)
            {
                self.table.answer(tag);
                self.complete(tag, result);
            }
        }
    }

    /// Fails what has no path, once the rule says so.
    pub(super) fn enforce_no_path(&mut self, now: Instant) {
        if self.no_path.fate(now) == Fate::Fail {
            let failed = self.fail_idle();
            if failed > 0 {
                self.notes.push(Note::NoPath { failed });
            }
        }
    }

    /// Fails every request that would have to send something more, in order of arrival; at once, or when what is on a
    /// session has ended.
    pub(super) fn fail_waiting(&mut self) {
        let mut waiting: Vec<Tag> = self
            .table
            .tags()
            .filter(|&tag| self.table.slot(tag).has_work())
            .collect();
        waiting.sort_by_key(|&tag| self.table.slot(tag).serial);
        for tag in waiting {
            self.fail_request(tag, IoError::Io);
        }
    }

    /// Nothing more of the request is sent; it is answered when nothing of it is out.
    pub(super) fn fail_request(&mut self, tag: Tag, error: IoError) {
        let slot = self.table.slot_mut(tag);
        if slot.state == State::Active {
            slot.state = State::Failing(error);
        }
        for part in &mut slot.parts {
            if let Part::Waiting { .. } = part {
                *part = Part::Idle;
            }
        }
        self.settle_request(tag);
    }

    /// Fails every request that is on no session, in order of arrival. Returns how many were answered.
    pub(super) fn fail_idle(&mut self) -> u32 {
        if self.table.waiting() == 0 && self.table.held() == 0 {
            return 0;
        }
        let mut idle: Vec<Tag> = self
            .table
            .tags()
            .filter(|&tag| !self.table.slot(tag).is_out())
            .collect();
        idle.sort_by_key(|&tag| self.table.slot(tag).serial);
        let mut failed = 0;
        for tag in idle {
            let slot = self.table.slot(tag);
            let held = matches!(slot.state, State::HeldByFence(_));
            if self.ledger.disown(slot.serial) {
                self.table.answer(tag);
                self.complete(tag, Err(IoError::Io));
                failed += 1;
            } else if !held {
                self.table.hold(tag, Err(IoError::Io));
            }
        }
        failed
    }

    /// What nobody waited for has ended.
    pub(super) fn forget(&mut self, spare: Option<BufferId>) {
        if let Some(spare) = spare {
            self.spares.give_back(spare);
        }
    }

    fn hedge_of(&self, task: &Task) -> Hedge {
        match self.table.slot(task.tag).parts[usize::from(task.part)] {
            Part::Out { hedge, .. } => hedge,
            Part::Idle | Part::Waiting { .. } => {
                unreachable!("a task of a part that is not out")
            }
        }
    }
}
