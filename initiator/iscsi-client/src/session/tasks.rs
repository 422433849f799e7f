//! The task table: everything that waits for an answer, found by Initiator Task Tag (RFC 7143, 4.2.2 and 11.2.1.8).
//!
//! The table has a fixed size. A tag is slot number + generation, so that a late or invented answer finds
//! nothing. Commands have their own slots; pings, text, logout and task management have reserved ones, so
//! that a full table never keeps us from asking about its tasks.

use core::ops::Range;

use crate::scsi::Status;
use crate::wire::{CmdSn, DataSn, Lun, Residual, TaskManagementFunction, TaskTag};

use super::{Command, Completion, Handle, Transfer};

/// One entry of the table.
#[derive(Debug)]
pub(super) enum Task {
    /// Nobody waits.
    Free,
    /// A SCSI command.
    Command(CommandTask),
    /// A task management function.
    Management(Management),
    /// A ping of ours.
    Ping,
    /// A text exchange.
    Text,
    /// The logout.
    Logout,
}

/// A SCSI command and how far it is.
#[derive(Debug)]
pub(super) struct CommandTask {
    pub(super) command: Command,
    pub(super) phase: Phase,
}

/// How far a command is.
#[derive(Debug)]
pub(super) enum Phase {
    /// No byte of it has left.
    Queued,
    /// At least its header was handed out for sending.
    Sent { cmd_sn: CmdSn, data: DataPhase },
}

/// What a sent command still expects.
#[derive(Debug)]
pub(super) enum DataPhase {
    /// No data, only status.
    None,
    /// Data-In.
    In {
        /// DataSN of the next Data-In.
        next: DataSn,
        /// Bytes that arrived, contiguous from 0.
        received: u32,
    },
    /// R2Ts.
    Out {
        /// R2TSN of the next R2T.
        next: DataSn,
        /// R2Ts whose data has not left completely.
        live: u16,
    },
}

/// A task management function and what it ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Management {
    pub(super) handle: Handle,
    pub(super) function: TaskManagementFunction,
    pub(super) lun: Lun,
    /// The command to abort and its CmdSN, for ABORT TASK.
    pub(super) abort: Option<(TaskTag, CmdSn)>,
    /// CmdSN it was sent with: it concerns commands before that. `None` until it has left.
    pub(super) cmd_sn: Option<CmdSn>,
}

impl CommandTask {
    /// Bytes of Data-In that arrived in complete PDUs.
    pub(super) fn received(&self) -> u32 {
        match self.phase {
            Phase::Sent {
                data: DataPhase::In { received, .. },
                ..
            } => received,
            _ => 0,
        }
    }

    /// This command's end.
    pub(super) fn completion(&self, status: Status) -> Completion {
        Completion {
            handle: self.command.handle,
            status,
            sense: None,
            residual: Residual::None,
            received: self.received(),
        }
    }
}

/// What a reserved slot holds.
#[cfg(any(test, feature = "fuzzing"))]
#[derive(Clone, Copy, Debug)]
pub(super) enum Reserved {
    Ping,
    Text,
    Logout,
    Management,
}

/// The table.
#[derive(Debug)]
pub(super) struct Tasks {
    /// Commands first, then [`RESERVED`] slots.
    slots: Vec<Slot>,
    /// Free command slots.
    free: Vec<u16>,
    commands_max: u16,
}

#[derive(Debug)]
struct Slot {
    generation: u16,
    task: Task,
}

impl Tasks {
    /// A table for `commands_max` commands.
    ///
    /// # Panics
    /// Unless `commands_max` is within 1..=[`COMMANDS_MAX`].
    pub(super) fn new(commands_max: u16) -> Tasks {
        assert!(
            (1..=COMMANDS_MAX).contains(&commands_max),
            "a table of {commands_max} tasks"
        );
        let slots = (0..commands_max + RESERVED)
            .map(|_| Slot {
                generation: 0,
                task: Task::Free,
            })
            .collect();
        Tasks {
            slots,
            free: (0..commands_max).rev().collect(),
            commands_max,
        }
    }

    /// Free command slots.
    pub(super) fn room(&self) -> u32 {
        self.free.len() as u32
    }

    /// Commands in the table.
    pub(super) fn commands(&self) -> u32 {
        u32::from(self.commands_max) - self.room()
    }

    /// Enters a command.
    ///
    /// # Panics
    /// If no slot is free.
    pub(super) fn insert(&mut self, command: Command) -> TaskTag {
        let slot = self
            .free
            .pop()
            .expect("a command was submitted without room for it");
        self.occupy(
            slot,
            Task::Command(CommandTask {
                command,
                phase: Phase::Queued,
            }),
        )
    }

    /// Enters a text exchange or logout. `None` if one is already there.
    pub(super) fn insert_single(&mut self, task: Task) -> Option<TaskTag> {
        let index = match task {
            Task::Text => 0,
            Task::Logout => 1,
            Task::Free | Task::Command(_) | Task::Management(_) | Task::Ping => {
                unreachable!("has other slots")
            }
        };
        let slot = self.commands_max + index;
        match self.slots[usize::from(slot)].task {
            Task::Free => Some(self.occupy(slot, task)),
            _ => None,
        }
    }

    /// Enters a task management function. `None` if too many are under way.
    pub(super) fn insert_management(&mut self, management: Management) -> Option<TaskTag> {
        let first = self.commands_max + SINGLES + PINGS_MAX;
        let end = self.commands_max + RESERVED;
        self.insert_within(first..end, Task::Management(management))
    }

    /// Enters a ping. `None` if [`PINGS_MAX`] are unanswered.
    pub(super) fn insert_ping(&mut self) -> Option<TaskTag> {
        self.insert_within(self.ping_slots(), Task::Ping)
    }

    /// Unanswered pings.
    pub(super) fn pings(&self) -> u32 {
        self.ping_slots()
            .filter(|slot| matches!(self.slots[usize::from(*slot)].task, Task::Ping))
            .count() as u32
    }

    fn ping_slots(&self) -> Range<u16> {
        let first = self.commands_max + SINGLES;
        first..first + PINGS_MAX
    }

    fn insert_within(&mut self, mut slots: Range<u16>, task: Task) -> Option<TaskTag> {
        let slot = slots.find(|slot| matches!(self.slots[usize::from(*slot)].task, Task::Free))?;
        Some(self.occupy(slot, task))
    }

    /// The live task with this tag.
    pub(super) fn find(&mut self, tag: TaskTag) -> Option<&mut Task> {
        let slot = self.slots.get_mut(slot_of(tag))?;
        match slot.task {
            Task::Free => None,
            _ if slot.generation != generation_of(tag) => None,
            _ => Some(&mut slot.task),
        }
    }

    /// The live command with this tag.
    pub(super) fn command(&mut self, tag: TaskTag) -> Option<&mut CommandTask> {
        match self.find(tag)? {
            Task::Command(command) => Some(command),
            _ => None,
        }
    }

    /// The command with this tag, if it was sent: nothing else can be answered.
    pub(super) fn sent(&mut self, tag: TaskTag) -> Option<(&Command, &mut DataPhase)> {
        match self.command(tag)? {
            CommandTask {
                command,
                phase: Phase::Sent { data, .. },
            } => Some((command, data)),
            _ => None,
        }
    }

    /// The tag of the live command that its owner calls `handle`.
    pub(super) fn tag_of(&self, handle: Handle) -> Option<TaskTag> {
        self.commands_with_tags()
            .find(|(_, task)| task.command.handle == handle)
            .map(|(tag, _)| tag)
    }

    /// All commands.
    pub(super) fn commands_with_tags(&self) -> impl Iterator<Item = (TaskTag, &CommandTask)> {
        let commands = &self.slots[..usize::from(self.commands_max)];
        commands
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| match &slot.task {
                Task::Command(task) => Some((tag(index as u16, slot.generation), task)),
                _ => None,
            })
    }

    /// Some live task other than a command.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn any_reserved(&self, pick: u8) -> Option<(TaskTag, Reserved)> {
        let first = usize::from(self.commands_max);
        let live: Vec<_> = (first..self.slots.len())
            .filter_map(|index| {
                let slot = &self.slots[index];
                let kind = match slot.task {
                    Task::Free | Task::Command(_) => return None,
                    Task::Ping => Reserved::Ping,
                    Task::Text => Reserved::Text,
                    Task::Logout => Reserved::Logout,
                    Task::Management(_) => Reserved::Management,
                };
                Some((tag(index as u16, slot.generation), kind))
            })
            .collect();
        (!live.is_empty()).then(|| live[usize::from(pick) % live.len()])
    }

    /// Removes a live task.
    ///
    /// # Panics
    /// If there is none with this tag.
    pub(super) fn remove(&mut self, tag: TaskTag) -> Task {
        assert!(self.find(tag).is_some(), "a task ends once");
        self.vacate(slot_of(tag))
    }

    /// Removes any one command.
    pub(super) fn remove_any_command(&mut self) -> Option<CommandTask> {
        if self.commands() == 0 {
            return None;
        }
        let slot = (0..usize::from(self.commands_max))
            .find(|slot| matches!(self.slots[*slot].task, Task::Command(_)))?;
        match self.vacate(slot) {
            Task::Command(task) => Some(task),
            _ => unreachable!("command slots hold commands"),
        }
    }

    fn occupy(&mut self, slot: u16, task: Task) -> TaskTag {
        let entry = &mut self.slots[usize::from(slot)];
        entry.generation = entry.generation.wrapping_add(1);
        entry.task = task;
        tag(slot, entry.generation)
    }

    fn vacate(&mut self, slot: usize) -> Task {
        if slot < usize::from(self.commands_max) {
            self.free.push(slot as u16);
        }
        core::mem::replace(&mut self.slots[slot].task, Task::Free)
    }
}

/// What a freshly sent command expects.
pub(super) fn expected_data(transfer: Transfer) -> DataPhase {
    match transfer {
        Transfer::Read { len: 1.., .. } => DataPhase::In {
            next: DataSn(0),
            received: 0,
        },
        Transfer::Write { len: 1.., .. } => DataPhase::Out {
            next: DataSn(0),
            live: 0,
        },
        Transfer::None | Transfer::Read { .. } | Transfer::Write { .. } => DataPhase::None,
    }
}

fn tag(slot: u16, generation: u16) -> TaskTag {
    TaskTag(u32::from(generation) << 16 | u32::from(slot))
}

fn slot_of(tag: TaskTag) -> usize {
    usize::from(tag.0 as u16)
}

fn generation_of(tag: TaskTag) -> u16 {
    (tag.0 >> 16) as u16
}

/// Text, logout.
const SINGLES: u16 = 2;
/// Pings that may be unanswered at once: enough for TCP to have something to acknowledge after the loss of one or two
/// segments, too few to be a burden for a target that answers late.
pub(super) const PINGS_MAX: u16 = 4;
/// Slots that commands cannot take: the singles, the pings and five task management functions.
const RESERVED: u16 = SINGLES + PINGS_MAX + 5;
/// Largest table: slot 0xffff stays unused, so that no tag is [`TaskTag::NONE`].
pub(super) const COMMANDS_MAX: u16 = 0xff00;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scsi::Cdb;
    use crate::wire::TaskAttribute;

    fn command(handle: u32) -> Command {
        Command {
            handle: Handle(handle),
            lun: Lun::default(),
            cdb: Cdb([0; 16]),
            attribute: TaskAttribute::Simple,
            transfer: Transfer::None,
        }
    }

    #[test]
    fn a_reused_slot_has_another_tag() {
        let mut tasks = Tasks::new(1);
        let first = tasks.insert(command(1));
        tasks.remove(first);
        let second = tasks.insert(command(2));
        assert_ne!(first, second);
        assert!(tasks.find(first).is_none());
        assert_eq!(tasks.tag_of(Handle(2)), Some(second));
        assert_eq!(tasks.tag_of(Handle(1)), None);
    }

    #[test]
    fn no_tag_is_the_reserved_one() {
        let mut tasks = Tasks::new(COMMANDS_MAX);
        for slot in &mut tasks.slots {
            slot.generation = 0xfffe;
        }
        while tasks.room() > 0 {
            assert_ne!(tasks.insert(command(0)), TaskTag::NONE);
        }
        assert!(tasks.find(TaskTag::NONE).is_none());
    }

    #[test]
    fn reserved_slots_outlive_a_full_table() {
        let mut tasks = Tasks::new(2);
        tasks.insert(command(1));
        tasks.insert(command(2));
        assert_eq!((tasks.room(), tasks.commands()), (0, 2));
        let pings = (0..9).filter(|_| tasks.insert_ping().is_some()).count();
        assert_eq!((pings, tasks.pings()), (4, 4));
        assert!(tasks.insert_single(Task::Logout).is_some());
        let management = Management {
            handle: Handle(9),
            function: TaskManagementFunction::LogicalUnitReset,
            lun: Lun::default(),
            abort: None,
            cmd_sn: None,
        };
        let entered = (0..9)
            .filter(|_| tasks.insert_management(management).is_some())
            .count();
        assert_eq!(entered, 5);
    }

    #[test]
    fn an_unsent_command_cannot_be_answered() {
        let mut tasks = Tasks::new(1);
        let tag = tasks.insert(command(1));
        assert!(tasks.sent(tag).is_none());
        tasks.command(tag).unwrap().phase = Phase::Sent {
            cmd_sn: CmdSn(1),
            data: expected_data(Transfer::None),
        };
        assert!(tasks.sent(tag).is_some());
    }
}
