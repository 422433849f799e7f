//! Commands without answer: first a second copy of a read, then ABORT TASK, then the session's end.

use core::time::Duration;

use iscsi_client::time::Instant;
use iscsi_client::wire::TaskManagementFunction;

use super::{CloseHow, Link, Note, Volume};
use crate::path::After;
use crate::task::{Stage, TaskId};

/// ABORT TASK without answer for so long: the session is given up.
pub(super) const ABORT_TIMEOUT: Duration = Duration::from_secs(10);

impl Volume {
    /// Something about a request is to be looked at then, at the latest.
    pub(super) fn due(&mut self, at: Instant) {
        self.requests_due = Some(self.requests_due.map_or(at, |due| due.min(at)));
    }

    pub(super) fn request_timeouts(&mut self, now: Instant) {
        if self.requests_due.is_none_or(|at| now < at) {
            return;
        }
        for id in self.tasks.ids() {
            let Some(task) = self.tasks.at(id) else {
                continue;
            };
            if now >= task.deadline {
                match task.stage {
                    Stage::Running => self.abort(now, id),
                    Stage::Aborting => self.give_up_session(now, id),
                    Stage::Closing => {}
                }
            } else if task.late_at.is_some_and(|at| now >= at) {
                self.late(now, id);
            }
        }
        let tasks = self.tasks.live().filter_map(|(_, task)| {
            let deadline = (task.stage != Stage::Closing).then_some(task.deadline);
            deadline.into_iter().chain(task.late_at).min()
        });
        self.requests_due = tasks.chain(self.table.next_patience(now)).min();
    }

    fn abort(&mut self, now: Instant, id: TaskId) {
        let name = self.tasks.handle(id);
        let task = self.tasks.task_mut(id);
        task.stage = Stage::Aborting;
        task.deadline = now + ABORT_TIMEOUT;
        task.late_at = None;
        let path = task.path;
        let lun = self.config.lun;
        self.notes.push(Note::CommandTimeout { path });
        if let Some(session) = &mut self.path_mut(path).session {
            // Refused if too many are under way: then the deadline of this one decides.
            let function = TaskManagementFunction::AbortTask;
            session.manage(now, name, function, lun, Some(name));
        }
        // A command that had not even left is aborted on the spot.
        self.take_events(now, Link::Data(path).id(), None);
    }

    fn give_up_session(&mut self, now: Instant, id: TaskId) {
        let task = self.tasks.task_mut(id);
        // Answered by the loss; until then nothing is due.
        task.stage = Stage::Closing;
        let path = task.path;
        let why = "a command was not answered, nor was its abort".to_owned();
        let after = After::Retry {
            why,
            pause: Duration::ZERO,
        };
        self.close_path(now, path, CloseHow::Abort, after);
    }
}
