//! A SCSI command as a session takes it, and the three ways it comes back: completed, or as an orphan.

use crate::memory::BufferId;
use crate::scsi::{Cdb, Sense, Status};
use crate::wire::{Lun, Residual, TaskAttribute};

/// The caller's name for a command. The session only hands it back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Handle(pub u32);

/// Where a command's data are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transfer {
    /// No data.
    None,
    /// From the target into `len` bytes at `offset` of `buffer`.
    Read {
        /// Whose memory.
        buffer: BufferId,
        /// First byte.
        offset: u32,
        /// Expected length in bytes.
        len: u32,
    },
    /// To the target from `len` bytes at `offset` of `buffer`.
    Write {
        /// Whose memory.
        buffer: BufferId,
        /// First byte.
        offset: u32,
        /// Length in bytes.
        len: u32,
    },
}

/// A SCSI command to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Command {
    /// Handed back with the completion.
    pub handle: Handle,
    /// Addressed logical unit.
    pub lun: Lun,
    /// What to do.
    pub cdb: Cdb,
    /// Ordering against other commands of the logical unit.
    pub attribute: TaskAttribute,
    /// Data.
    pub transfer: Transfer,
}

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Completion {
    /// The caller's name.
    pub handle: Handle,
    /// What the target said.
    pub status: Status,
    /// Sense, with CHECK CONDITION.
    pub sense: Option<Sense>,
    /// Difference between expected and moved bytes, as the target states it.
    pub residual: Residual,
    /// Bytes of Data-In that arrived (contiguous from 0).
    pub received: u32,
}

/// A command that was not answered when the session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Orphan {
    /// The caller's name.
    pub handle: Handle,
    /// Whether any of its bytes were handed to the runtime for sending. If so, the target may have it.
    pub sent: bool,
}
