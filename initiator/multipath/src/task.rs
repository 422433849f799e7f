//! Commands on sessions: a fixed table of tasks, each the work of one request or the copy of such work.
//!
//! A request may have several at a time: chunks on several paths, and of a read two copies. The table's size is the
//! bound; what is not on a session takes no slot. A task ends exactly once: its answer came, or its session is gone.
//!
//! ```text
//!   Original -------- answered, or lost -------> ended
//!       |  a hedge of it was first
//!       v
//!   Abandoned: its data land where nobody looks, and nobody waits for it
//! ```

use iscsi_client::memory::BufferId;
use iscsi_client::session::Handle;
use iscsi_client::time::Instant;

use crate::contract::{DrainId, PathId, Tag};
use crate::operation::{Span, Step};
use crate::path::meter::Sent;

/// Slot of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskId(u16);

/// Why a task runs, and where its data are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The request's own, in the request's own buffer.
    Original,
    /// A second copy of a read, in a spare buffer.
    Hedge {
        /// The spare.
        spare: BufferId,
    },
    /// Nobody waits for it any more.
    Abandoned {
        /// Where a second copy still lands, free when it ends; an original's data land in its path's bin.
        spare: Option<BufferId>,
    },
}

/// Whether its patience is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// It waits for its answer.
    Running,
    /// ABORT TASK was sent after it.
    Aborting,
    /// Its session is being closed: only the loss ends it.
    Closing,
}

/// One command on a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Task {
    /// Whose. Meaningless once it is abandoned: the tag may be another request's.
    pub tag: Tag,
    /// Which part of the request.
    pub part: u8,
    /// Which path.
    pub path: PathId,
    /// What it covers.
    pub span: Span,
    /// The command.
    pub step: Step,
    /// Why it runs.
    pub role: Role,
    /// When it was given to the session, and what was expected of it.
    pub sent: Sent,
    /// Drains that were ordered before it was given to the session.
    pub epoch: DrainId,
    /// Whether its patience is over.
    pub stage: Stage,
    /// Without an answer until then, the stage changes.
    pub deadline: Instant,
    /// Not answered until then, it is late: others are steered elsewhere, and a read gets a second copy.
    pub late_at: Option<Instant>,
}

#[derive(Debug)]
struct Slot {
    /// 15 bits: the handle's top bit tells the volume's own commands apart.
    generation: u16,
    task: Option<Task>,
}

/// All tasks.
#[derive(Debug)]
pub struct Tasks {
    slots: Vec<Slot>,
    free: Vec<u16>,
}

impl Tasks {
    /// Room for so many.
    pub fn new(tasks_max: u16) -> Tasks {
        Tasks {
            slots: (0..tasks_max)
                .map(|_| Slot {
                    generation: 0,
                    task: None,
                })
                .collect(),
            free: (0..tasks_max).rev().collect(),
        }
    }

    /// Whether one more fits.
    pub fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Whether nothing runs.
    pub fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Enters a task.
    ///
    /// # Panics
    /// If there is no room.
    pub fn start(&mut self, task: Task) -> TaskId {
        let index = self.free.pop().expect("room for a task");
        let slot = &mut self.slots[usize::from(index)];
        slot.generation = (slot.generation + 1) & 0x7fff;
        slot.task = Some(task);
        TaskId(index)
    }

    /// The session's name for it.
    pub fn handle(&self, id: TaskId) -> Handle {
        let generation = self.slots[usize::from(id.0)].generation;
        Handle(u32::from(generation) << 16 | u32::from(id.0))
    }

    /// The live task that a session calls so; `None` for one that ended.
    pub fn find(&self, handle: Handle) -> Option<TaskId> {
        let index = handle.0 as u16;
        let slot = self.slots.get(usize::from(index))?;
        let same = slot.task.is_some() && u32::from(slot.generation) == handle.0 >> 16;
        same.then_some(TaskId(index))
    }

    /// A live task.
    ///
    /// # Panics
    /// If it has ended.
    pub fn task(&self, id: TaskId) -> &Task {
        let task = self.slots[usize::from(id.0)].task.as_ref();
        task.expect("a task that has not ended")
    }

    /// As [`Tasks::task`].
    pub fn task_mut(&mut self, id: TaskId) -> &mut Task {
        let task = self.slots[usize::from(id.0)].task.as_mut();
        task.expect("a task that has not ended")
    }

    /// It ends. Each task gets here once.
    pub fn end(&mut self, id: TaskId) -> Task {
        let task = self.slots[usize::from(id.0)].task.take();
        self.free.push(id.0);
        task.expect("a task that has not ended")
    }

    /// All live tasks.
    pub fn live(&self) -> impl Iterator<Item = (TaskId, &Task)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| Some((TaskId(index as u16), slot.task.as_ref()?)))
    }

    /// All slots, live or not, for a walk that changes the table.
    pub fn ids(&self) -> impl Iterator<Item = TaskId> + use<> {
        (0..self.slots.len() as u16).map(TaskId)
    }

    /// The task in this slot, if it is live.
    pub fn at(&self, id: TaskId) -> Option<&Task> {
        self.slots[usize::from(id.0)].task.as_ref()
    }
}
