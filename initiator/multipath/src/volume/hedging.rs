//! Second copies of reads: where they land, who is first, and what becomes of the other.
//!
//! A copy lands in a *spare* buffer, never in the request's own while the original may still write there. If the copy
//! is first, what still comes of the original lands in its path's *bin* from then on, and only then are the copy's
//! bytes moved to where they belong. Where a receive into the request's buffer may be armed at that moment, the
//! runtime is asked to take it back first ([`Output::Rearm`]). A copy that is second lands in its spare unread.

use iscsi_client::memory::BufferId;
use iscsi_client::session::Want;
use iscsi_client::time::Instant;

use super::dispatch::Piece;
use super::{Link, Output, PATHS_MAX, PathId, SpareBuffers, Tag, Volume};
use crate::mutant::{Mutant, lives};
use crate::path::meter::Sent;
use crate::policy::hedge::Reason;
use crate::policy::{Choice, Class, Direction};
use crate::request::{Hedge, Part};
use crate::task::{Role, Task, TaskId};

/// Spare buffers that are free.
#[derive(Debug)]
pub(super) struct Spares {
    config: SpareBuffers,
    free: Vec<BufferId>,
}

impl Spares {
    pub(super) fn new(config: SpareBuffers) -> Spares {
        let all = config.first.0..config.first.0 + config.count;
        Spares {
            config,
            free: all.skip(PATHS_MAX).map(BufferId).collect(),
        }
    }

    /// Whether a read of so many bytes can have a second copy.
    fn fits(&self, len: u32) -> bool {
        len <= self.config.len && usize::from(self.config.count) > PATHS_MAX
    }

    fn take(&mut self, len: u32) -> Option<BufferId> {
        self.fits(len).then(|| self.free.pop())?
    }

    pub(super) fn give_back(&mut self, spare: BufferId) {
        debug_assert!(!self.free.contains(&spare), "a spare is given back once");
        self.free.push(spare);
    }

    /// Where the path's data land that nobody wants.
    fn bin(&self, path: PathId) -> BufferId {
        BufferId(self.config.first.0 + u16::from(path.0))
    }
}

impl Volume {
    /// When a command is late, if there is another path to learn from that, or to help it.
    pub(super) fn late_at(&mut self, path: PathId, sent: &Sent, role: Role) -> Option<Instant> {
        if role != Role::Original || sent.direction.is_none() {
            return None;
        }
        if sent.direction == Some(Direction::Read) {
            self.hedging.read_sent();
        }
        (self.paths.len() > 1).then(|| self.path(path).load.late_at(sent))
    }

    /// This command is late: what comes next is steered elsewhere, long before the path is suspect. A read is sent
    /// again.
    pub(super) fn late(&mut self, now: Instant, id: TaskId) {
        let task = *self.tasks.task(id);
        let late_at = task.late_at.expect("it is late");
        // Once: whether it gets a copy or not, it is not asked about again.
        self.tasks.task_mut(id).late_at = None;
        let path = self.path_mut(task.path);
        path.load.late(now, &task.sent);
        let standing = path.standing(now);
        if task.sent.direction == Some(Direction::Read)
            && let Some(reason) = self.hedging.wanted(now, late_at, standing)
        {
            self.hedge(now, &task, reason);
        }
    }

    /// Sends a second copy of a read on another path, if one takes it.
    fn hedge(&mut self, now: Instant, task: &Task, reason: Reason) {
        let part = self.table.slot(task.tag).parts[usize::from(task.part)];
        let Part::Out {
            span,
            original: Some(original),
            hedge: Hedge::None,
        } = part
        else {
            return;
        };
        if !self.tasks.has_room() {
            return;
        }
        let class = Class::of(task.step.payload_len);
        let Choice::Send(path) = self.choose(now, &task.step, class, Some(task.path)) else {
            return;
        };
        if path == task.path {
            return;
        }
        let Some(spare) = self.spares.take(task.step.payload_len) else {
            return;
        };
        let piece = Piece {
            tag: task.tag,
            part: task.part,
            span,
            step: task.step,
        };
        let copy = self.start(now, &piece, path, Role::Hedge { spare });
        self.hedging.hedged(reason);
        self.table.slot_mut(task.tag).parts[usize::from(task.part)] = Part::Out {
            span,
            original: Some(original),
            hedge: Hedge::Running(copy),
        };
    }

    /// The path is suspected: what has not left goes elsewhere, reads that have left get a second copy. Writes that
    /// have left wait for the verdict.
    pub(super) fn rescue(&mut self, now: Instant, id: PathId) {
        for task in self.tasks.ids() {
            let Some(&Task {
                path, role, sent, ..
            }) = self.tasks.at(task)
            else {
                continue;
            };
            if path != id || role != Role::Original {
                continue;
            }
            let handle = self.tasks.handle(task);
            let session = self.path_mut(id).session.as_mut();
            if session.is_some_and(|session| session.withdraw(handle)) {
                let task = self.tasks.end(task);
                self.path_mut(id).load.dropped(task.sent);
                self.part_waits(&task, None, Some(id));
            } else if sent.direction == Some(Direction::Read) {
                let task = *self.tasks.task(task);
                self.hedge(now, &task, Reason::Rescue);
            }
        }
    }

    /// The second copy ended, well or not.
    pub(super) fn hedge_ended(&mut self, task: &Task, spare: BufferId, good: bool) {
        let Part::Out { span, original, .. } =
            self.table.slot(task.tag).parts[usize::from(task.part)]
        else {
            unreachable!("a copy of a part that is not out");
        };
        match (good, original) {
            (true, Some(original)) => self.overtake(task, original, spare),
            (true, None) => {
                self.publish(task, spare);
                self.close_part(task.tag, task.part);
            }
            (false, Some(original)) => {
                self.spares.give_back(spare);
                let part = Part::Out {
                    span,
                    original: Some(original),
                    hedge: Hedge::Spent,
                };
                self.put_part(task, part);
            }
            (false, None) => {
                self.spares.give_back(spare);
                let part = Part::Waiting {
                    span,
                    not_before: None,
                    avoid: Some(task.path),
                };
                self.put_part(task, part);
            }
        }
    }

    /// The copy was first: the original must not touch the request's buffer any more.
    fn overtake(&mut self, task: &Task, original: TaskId, spare: BufferId) {
        let path = self.tasks.task(original).path;
        let handle = self.tasks.handle(original);
        let withdrawn = self
            .path_mut(path)
            .session
            .as_mut()
            .is_some_and(|session| session.withdraw(handle));
        if withdrawn {
            let original = self.tasks.end(original);
            self.path_mut(path).load.dropped(original.sent);
            self.publish(task, spare);
            self.close_part(task.tag, task.part);
        } else if self.may_be_receiving(path, task.tag) && !lives(Mutant::AnsweredWhileReceiving) {
            let part = Part::Out {
                span: task.span,
                original: Some(original),
                hedge: Hedge::Landed(spare),
            };
            self.put_part(task, part);
            let link = Link::Data(path).id();
            self.outputs.push_back(Output::Rearm { link });
        } else {
            self.redirect(task, original, spare);
        }
    }

    /// Whether a receive of this path may be under way into the buffer of this request. Of a session that is over nothing
    /// is known before the runtime reports the loss.
    fn may_be_receiving(&self, path: PathId, tag: Tag) -> bool {
        match self.want(Link::Data(path).id()) {
            Want::Payload { buffer, .. } => buffer == BufferId(tag.0),
            Want::Stream => false,
            Want::Nothing => true,
        }
    }

    /// No receive is armed on the path: copies that landed can be published.
    pub(super) fn publish_landed(&mut self, id: PathId) {
        for task in self.tasks.ids() {
            let Some(&original) = self.tasks.at(task) else {
                continue;
            };
            if original.path != id || original.role != Role::Original {
                continue;
            }
            let slot = self.table.slot(original.tag);
            if let Part::Out {
                hedge: Hedge::Landed(spare),
                ..
            } = slot.parts[usize::from(original.part)]
            {
                self.redirect(&original, task, spare);
            }
        }
    }

    /// What still comes of the original lands in the bin, and the copy where it belongs.
    fn redirect(&mut self, part: &Task, original: TaskId, spare: BufferId) {
        let handle = self.tasks.handle(original);
        let task = self.tasks.task_mut(original);
        task.role = Role::Abandoned { spare: None };
        task.late_at = None;
        let path = task.path;
        let bin = self.spares.bin(path);
        if let Some(session) = &mut self.path_mut(path).session {
            session.redirect(handle, bin, 0);
        }
        self.publish(part, spare);
        self.close_part(part.tag, part.part);
    }

    /// Nobody waits for the copy any more: it may land in its spare.
    pub(super) fn let_land(&mut self, hedge: TaskId) {
        let task = self.tasks.task_mut(hedge);
        let Role::Hedge { spare } = task.role else {
            unreachable!("a hedge is a hedge until it ends");
        };
        task.role = Role::Abandoned { spare: Some(spare) };
    }

    /// The bytes of the copy go to where the request wants them, before anything else can land in the spare: the
    /// runtime performs this before it sends or receives.
    pub(super) fn publish(&mut self, task: &Task, spare: BufferId) {
        let block_len = self.block_len();
        self.outputs.push_back(Output::Publish {
            spare,
            tag: task.tag,
            offset: task.span.start * block_len,
            len: task.span.blocks * block_len,
        });
        self.spares.give_back(spare);
    }
}
