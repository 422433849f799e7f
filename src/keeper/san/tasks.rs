//! The jobs under way, and the memory that their commands use: two fixed tables.
//!
//! A write is one task, a read one for each piece of it. Their commands go through *slots*, buffers of one piece each, made
//! once. Of a read of a whole area a few pieces are under way at a time: one after the other would cost a round trip each,
//! all at once would let a renewal wait behind a megabyte. A slot belongs to its session
//! until the command is answered or the session is gone, also when its task has long gone elsewhere: what a late answer
//! brings lands where nobody looks.

use iscsi_client::memory::{BufferId, Memory};
use iscsi_client::session::Handle;
use iscsi_client::time::Instant;
use lockmgr::{IoId, Writers};

/// Bytes of a slot: the longest piece of a read, the longest write.
pub(super) const PIECE: u32 = 64 * 1024;
/// Commands under way, on all sessions.
pub(super) const SLOTS: usize = 32;
/// Of these, slots that reads leave to writes.
const FOR_WRITES: usize = 8;
/// Of these, what one read uses at once: half a megabyte, 4 ms of a 1 Gb/s link.
pub(super) const READ_AHEAD: usize = 8;
/// Jobs under way. A lease has one or two; who wants more is told so. Pieces do not count: however small a target wants them, reads
/// must not crowd out a renewal.
pub(super) const JOBS: usize = 1024;
/// Bytes that all reads under way may collect: locked memory. An area has at most 8 MiB.
pub(super) const READ_BYTES: usize = 64 << 20;

/// A write, or a piece of a read.
#[derive(Debug)]
pub(super) struct Task {
    /// The number of its job.
    pub id: IoId,
    /// Which piece of a read; 0 for a write.
    pub piece: u32,
    pub offset: u64,
    /// For a write its last call, for a read when it is answered as failed.
    pub until: Instant,
    pub work: Work,
    pub stage: Stage,
}

/// What it does.
#[derive(Debug)]
pub(super) enum Work {
    /// So many bytes, to be put `at` this place of the whole. `moved`: it has left a late command behind, which is done once: a
    /// disk that is slow for all portals would collect copies.
    Read { at: usize, len: usize, moved: bool },
    /// A target with a volatile cache and without FUA is told to flush afterwards. `moved` as above: of what may be sent
    /// again, the late command stays a copy. `lost`: a copy is in doubt.
    Write {
        bytes: Box<[u8]>,
        writers: Writers,
        flush: bool,
        moved: bool,
        lost: bool,
    },
}

/// What a command does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Read,
    /// Nothing of it is sent after `until`.
    Write {
        until: Instant,
    },
    Flush,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Nothing of it is under way; not to be sent before this moment.
    Waiting { not_before: Instant },
    /// Its command is in this slot; of a write, older copies may be in others.
    Out { slot: usize },
}

impl Task {
    pub fn is_write(&self) -> bool {
        matches!(self.work, Work::Write { .. })
    }
}

/// What the pieces of a read have brought so far.
#[derive(Debug)]
pub(super) struct Gathering {
    pub id: IoId,
    pub data: Vec<u8>,
    /// Bytes that are missing.
    pub missing: usize,
}

/// A buffer and who uses it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// Index of the nexus whose session has it.
    pub nexus: usize,
    /// The job, unless its task has gone elsewhere; of a write always, also if that has been answered.
    pub task: Option<IoId>,
    /// Which piece of it.
    pub piece: u32,
    pub kind: Kind,
    /// When its command was handed to the session.
    pub since: Instant,
    /// When it counts as late, or counts as late again.
    pub late_at: Instant,
    /// Bytes that it moves.
    pub len: usize,
}

/// The slots and the buffers behind them; one more buffer per nexus for its questions.
#[derive(Debug)]
pub(super) struct Slots {
    slots: [Option<Slot>; SLOTS],
    pub buffers: Buffers,
}

/// The memory of all sessions.
#[derive(Debug)]
pub(super) struct Buffers(Vec<Box<[u8]>>);

impl Memory for Buffers {
    fn read(&self, buffer: BufferId, offset: u32, len: u32) -> &[u8] {
        &self.0[usize::from(buffer.0)][offset as usize..][..len as usize]
    }

    fn write(&mut self, buffer: BufferId, offset: u32, len: u32) -> &mut [u8] {
        &mut self.0[usize::from(buffer.0)][offset as usize..][..len as usize]
    }
}

impl Slots {
    pub fn new(nexuses: usize) -> Slots {
        let buffers = (0..SLOTS + nexuses).map(|_| vec![0; PIECE as usize].into_boxed_slice());
        Slots {
            slots: [None; SLOTS],
            buffers: Buffers(buffers.collect()),
        }
    }

    /// The buffer of a nexus's own questions.
    pub fn questions(nexus: usize) -> BufferId {
        BufferId((SLOTS + nexus) as u16)
    }

    /// A slot for a command, if there is one.
    pub fn free(&self, write: bool) -> Option<usize> {
        let all = 0..SLOTS - if write { 0 } else { FOR_WRITES };
        // From the end, so that writes leave to reads what only reads can use.
        match write {
            true => all.rev().find(|slot| self.slots[*slot].is_none()),
            false => all.into_iter().find(|slot| self.slots[*slot].is_none()),
        }
    }

    pub fn take(&mut self, index: usize, slot: Slot) {
        assert!(self.slots[index].is_none(), "a slot has one command");
        self.slots[index] = Some(slot);
    }

    /// The command of this handle has ended. `None` if the handle is none of a slot.
    pub fn release(&mut self, handle: Handle) -> Option<Slot> {
        self.slots.get_mut(handle.0 as usize)?.take()
    }

    pub fn get_mut(&mut self, index: usize) -> Option<&mut Slot> {
        self.slots[index].as_mut()
    }

    /// The slots of a nexus's session, with their indices.
    pub fn of_nexus(&self, nexus: usize) -> impl Iterator<Item = (usize, &Slot)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| Some((index, slot.as_ref()?)))
            .filter(move |(_, slot)| slot.nexus == nexus)
    }

    /// Copies of a write that are under way.
    pub fn copies(&self, id: IoId) -> impl Iterator<Item = &Slot> {
        self.writes().filter(move |slot| slot.task == Some(id))
    }

    /// Pieces of this read that are under way.
    pub fn pieces(&self, id: IoId) -> usize {
        let of = |slot: &&Slot| slot.kind == Kind::Read && slot.task == Some(id);
        self.slots.iter().flatten().filter(of).count()
    }

    /// All writes that are under way.
    pub fn writes(&self) -> impl Iterator<Item = &Slot> {
        let is = |slot: &&Slot| matches!(slot.kind, Kind::Write { .. });
        self.slots.iter().flatten().filter(is)
    }

    /// A slot of this nexus's session whose command is late.
    pub fn late(&self, now: Instant, nexus: usize) -> Option<usize> {
        let mut slots = self.of_nexus(nexus);
        slots
            .find(|(_, slot)| slot.late_at <= now)
            .map(|(at, _)| at)
    }

    /// The buffer of a slot.
    pub fn bytes(&mut self, index: usize) -> &mut [u8] {
        &mut self.buffers.0[index]
    }
}
