//! Whether what changes the medium may leave: a permission that the volume's owner gives, withholds and revokes.
//!
//! ```text
//!   Granted <----------> Withheld
//!      |                     |
//!      +------> Revoked <----+
//! ```
//!
//! While it is not granted, no WRITE, WRITE SAME or UNMAP and no Data-Out leaves. Reads go on. So does SYNCHRONIZE CACHE: it
//! adds nothing to the medium that was not answered before, and whoever owns the data next can only want that.
//!
//! When it ends, what has not left is taken back from the sessions. A session that has sent any part of a write which
//! is not answered is cut, hard: the rest of that write waits in the session, in a send under way or in the kernel, and
//! dies with the socket. What it carried is then treated as after any loss: reads move, writes are unresolved and fenced.
//! The path is not to blame, and connects again at once.
//!
//! A *drain* asks when all that was sent before it is over: answered, or its session proven dead. It is what another
//! owner, or a new life of this one, has to wait for.

use iscsi_client::time::Instant;

use super::{CloseHow, DrainId, IoError, Note, Output, PATHS_MAX, Permission, Tag, Volume};
use crate::mutant::{Mutant, lives};
use crate::path::After;
use crate::request::State;

/// What is allowed, and what was asked.
#[derive(Debug, Default)]
pub(super) struct Writes {
    permission: Permission,
    since: Option<Instant>,
    /// The last drain that was ordered.
    pub(super) epoch: DrainId,
    /// The last drain that is over.
    drained: DrainId,
}

impl Writes {
    pub(super) fn picture(&self) -> (Permission, Option<Instant>) {
        (self.permission, self.since)
    }
}

impl Volume {
    /// Whether what changes the medium may leave from now on. To be called before each turn's events, and again, found out
    /// just then, as late as the runtime can before bytes leave: once [`Volume::poll_output`] is drained and what it wants
    /// closed is closed, nothing is left that could send a write. Costs a comparison while nothing changes.
    ///
    /// A revoked permission is never given again.
    pub fn permit(&mut self, now: Instant, permission: Permission) {
        let before = self.writes.permission;
        if permission == before || before == Permission::Revoked {
            return;
        }
        self.writes.permission = permission;
        self.writes.since = Some(now);
        self.notes.push(Note::Writes {
            permission,
            waiting: self.unanswered_writes(),
        });
        if before == Permission::Granted {
            self.recall_writes(now);
        }
        self.settle(now);
    }

    /// Asks when no write that was sent before now can execute any more: [`Output::Drained`] with this number or a later
    /// one says so. What is given to a session later does not count. With a path that stays lost this takes as long as its
    /// fence.
    pub fn drain(&mut self, now: Instant) -> DrainId {
        let DrainId(last) = self.writes.epoch;
        self.writes.epoch = DrainId(last.checked_add(1).expect("fewer drains than numbers"));
        self.settle(now);
        self.writes.epoch
    }

    pub(super) fn may_write(&self) -> bool {
        self.writes.permission == Permission::Granted || lives(Mutant::WriteWithoutPermission)
    }

    /// Takes back what has not left, and cuts the sessions on which a write has left and is not answered.
    fn recall_writes(&mut self, now: Instant) {
        let mut begun = [false; PATHS_MAX];
        for id in self.tasks.ids() {
            let Some(task) = self.tasks.at(id) else {
                continue;
            };
            if task.step.changes.is_none() {
                continue;
            }
            let path = task.path;
            let handle = self.tasks.handle(id);
            let session = self.path_mut(path).session.as_mut();
            if session.is_some_and(|session| session.withdraw(handle)) {
                let task = self.tasks.end(id);
                self.path_mut(path).load.dropped(task.sent);
                self.part_waits(&task, None, None);
            } else {
                begun[usize::from(path.0)] = true;
            }
        }
        if lives(Mutant::DataOutWithoutPermission) {
            return;
        }
        for id in self.path_ids() {
            if begun[usize::from(id.0)] {
                let path = self.path_mut(id);
                path.recalled = path.is_usable();
                let after = After::Connect(self.path(id).config.portal);
                self.close_path(now, id, CloseHow::Abort, after);
            }
        }
    }

    /// Fails what may never leave, in order of arrival. What of it is still on a dying session comes here when that is gone.
    pub(super) fn enforce_permission(&mut self) {
        if self.writes.permission != Permission::Revoked || self.table.waiting() == 0 {
            return;
        }
        let mut refused: Vec<Tag> = self.writes_waiting().collect();
        refused.sort_by_key(|&tag| self.table.slot(tag).serial);
        for tag in refused {
            self.fail_request(tag, IoError::Forbidden);
        }
    }

    /// Says which drains are over.
    pub(super) fn report_drained(&mut self) {
        if self.writes.drained == self.writes.epoch {
            return;
        }
        let tasks = self.tasks.live();
        let sent = tasks.filter_map(|(_, task)| task.step.changes.map(|_| task.epoch));
        let copies = match lives(Mutant::DrainedTooEarly) {
            true => None,
            false => self.ledger.epochs().min(),
        };
        let oldest = sent.chain(copies).min().unwrap_or(self.writes.epoch);
        if oldest > self.writes.drained {
            self.writes.drained = oldest;
            self.outputs.push_back(Output::Drained(oldest));
        }
    }

    fn writes_waiting(&self) -> impl Iterator<Item = Tag> + '_ {
        self.table.tags().filter(|&tag| {
            let slot = self.table.slot(tag);
            slot.has_work() && slot.plan.changes_medium()
        })
    }

    /// Requests with a write to send.
    pub(super) fn waiting_writes(&self) -> u32 {
        self.writes_waiting().count() as u32
    }

    /// Requests with a write to send or to be answered.
    fn unanswered_writes(&self) -> u32 {
        let writes = self.table.tags().filter(|&tag| {
            let slot = self.table.slot(tag);
            slot.state == State::Active && slot.plan.changes_medium()
        });
        writes.count() as u32
    }
}
