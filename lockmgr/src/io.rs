//! How the machines ask for I/O: numbered reads and writes go out, outcomes and fences come back.
//!
//! A write ends in one of three ways. `Done`: it is on the medium, and over. `Unknown`: it may have executed, may execute in
//! part, or may still do so later, because a path was lost under it. Every `Unknown` is followed, as soon as the driver can
//! prove it, by [`Input::Fenced`](crate::Input::Fenced): nothing older on that device can take effect any more. (On iSCSI: session
//! reinstatement; on a local file: the system call has returned.) `Doubled`: it is on the medium, and may come to be there
//! once more; only of a sector that nobody else writes. [`Input::Settled`](crate::Input::Settled) follows, or a fence. Until
//! then the machines write nothing different to that sector.

use std::collections::VecDeque;

use crate::contract::{DiskId, GateOrder, LeaseId, Note};
use crate::time::Instant;

/// Number of an I/O. Later ones to the same device have larger numbers; what is done on one device says nothing of another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IoId(DiskId, u64);

impl IoId {
    /// For who tests a driver without a lockspace: on the lockspace's own device.
    pub const fn new(number: u64) -> IoId {
        IoId::on(DiskId::HOME, number)
    }

    /// The same on any.
    pub const fn on(disk: DiskId, number: u64) -> IoId {
        IoId(disk, number)
    }

    /// The device that it goes to.
    pub const fn disk(self) -> DiskId {
        self.0
    }

    /// Whether a fence through that number covers it.
    pub fn is_fenced_by(self, through: IoId) -> bool {
        self.0 == through.0 && self.1 <= through.1
    }
}

/// The youngest write of each device that ended `Unknown` and is not fenced.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Doubts(Vec<IoId>);

impl Doubts {
    /// This one ended so.
    pub fn add(&mut self, id: IoId) {
        match self.0.iter_mut().find(|known| known.0 == id.0) {
            Some(known) => *known = id.max(*known),
            None => self.0.push(id),
        }
    }

    /// No write of that device up to and including this number can take effect any more.
    pub fn fenced(&mut self, through: IoId) {
        self.0.retain(|id| !id.is_fenced_by(through));
    }

    /// That of a device.
    pub fn of(&self, disk: DiskId) -> Option<IoId> {
        self.0.iter().copied().find(|id| id.0 == disk)
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// How a write ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum WriteOutcome {
    /// It is on the medium.
    Done,
    /// It is, and the same bytes may land once more: a second copy was sent, and is not answered. Only of a write whose
    /// sector has one writer.
    Doubled,
    /// It may be, in part too, or may come to be later, until a fence.
    Unknown,
}

/// Who writes a sector, and so what may be done about a write there that is late.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Writers {
    /// This host alone, as long as the write is not over: the same bytes may be sent again on another path at any time.
    One,
    /// Others too. It is sent once: a copy of it could land on top of what another host wrote in answer to the first.
    Many,
}

/// A read gave no data, whatever the reason. Nothing is lost by that but time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ReadFailed;

/// What the driver shall do.
#[derive(Debug)]
pub enum Output {
    /// Read `len` bytes at `offset` of the device and answer with [`Input::Read`](crate::Input::Read).
    Read {
        /// Its number.
        id: IoId,
        /// Bytes from the start of the device.
        offset: u64,
        /// Bytes wanted; an answer has exactly so many.
        len: usize,
        /// When to answer that it failed.
        deadline: Instant,
    },
    /// Write one sector at `offset` of the device and answer with [`Input::Wrote`](crate::Input::Wrote).
    Write {
        /// Its number.
        id: IoId,
        /// Bytes from the start of the device.
        offset: u64,
        /// The sector.
        bytes: Box<[u8]>,
        /// When to give up on it. **Nothing of it may be sent after that**, by no layer below: the connection is cut.
        deadline: Instant,
        /// Whether it may be sent more than once.
        writers: Writers,
    },
    /// Move the gate.
    Gate(GateOrder),
    /// Something happened.
    Note(Note),
}

/// Which machine an I/O belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Party {
    Delta,
    Lease(LeaseId),
    Caller,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Read { len: usize, deadline: Instant },
    Write(Writers),
}

/// What is waiting to be picked up, and what is under way.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    last: u64,
    queue: VecDeque<Output>,
    under_way: Vec<(IoId, Party, Kind)>,
    doubts: Doubts,
    /// Writes that ended `Doubled` and are neither settled nor fenced.
    doubled: Vec<IoId>,
}

impl Outbox {
    fn number(&mut self, party: Party, offset: u64, kind: Kind) -> IoId {
        self.last += 1;
        let id = IoId(DiskId::of(offset), self.last);
        self.under_way.push((id, party, kind));
        id
    }

    pub fn read(&mut self, party: Party, offset: u64, len: usize, deadline: Instant) -> IoId {
        let id = self.number(party, offset, Kind::Read { len, deadline });
        self.queue.push_back(Output::Read {
            id,
            offset,
            len,
            deadline,
        });
        id
    }

    pub fn write(
        &mut self,
        party: Party,
        offset: u64,
        bytes: Box<[u8]>,
        deadline: Instant,
        writers: Writers,
    ) -> IoId {
        let id = self.number(party, offset, Kind::Write(writers));
        self.queue.push_back(Output::Write {
            id,
            offset,
            bytes,
            deadline,
            writers,
        });
        id
    }

    pub fn note(&mut self, note: Note) {
        self.queue.push_back(Output::Note(note));
    }

    pub fn gate(&mut self, order: GateOrder) {
        self.queue.push_back(Output::Gate(order));
    }

    pub fn poll(&mut self) -> Option<Output> {
        self.queue.pop_front()
    }

    /// Whose read was answered, and the data if it is good: as long as asked for, and not past its deadline. After that it
    /// shows how things were, and nothing may be decided from it. `None` if nothing of that number is under way.
    pub fn read_done<'a>(
        &mut self,
        now: Instant,
        id: IoId,
        data: Option<&'a [u8]>,
    ) -> Option<(Party, Option<&'a [u8]>)> {
        let (party, kind) = self.take(id, |kind| matches!(kind, Kind::Read { .. }))?;
        let Kind::Read { len, deadline } = kind else {
            return None;
        };
        let good = data.filter(|data| data.len() == len && now <= deadline);
        Some((party, good))
    }

    /// Whose write was answered.
    pub fn write_done(&mut self, id: IoId, outcome: WriteOutcome) -> Option<Party> {
        let (party, kind) = self.take(id, |kind| matches!(kind, Kind::Write(_)))?;
        match outcome {
            WriteOutcome::Done => {}
            WriteOutcome::Doubled => {
                let one = kind == Kind::Write(Writers::One);
                assert!(one, "what others write too is sent once");
                self.doubled.push(id);
            }
            WriteOutcome::Unknown => self.doubts.add(id),
        }
        Some(party)
    }

    fn take(&mut self, id: IoId, fits: impl Fn(Kind) -> bool) -> Option<(Party, Kind)> {
        let place = self
            .under_way
            .iter()
            .position(|(i, _, kind)| *i == id && fits(*kind))?;
        let (_, party, kind) = self.under_way.swap_remove(place);
        Some((party, kind))
    }

    /// No write to that device up to and including `through` can take effect any more.
    pub fn fenced(&mut self, through: IoId) {
        self.doubts.fenced(through);
        self.doubled.retain(|id| !id.is_fenced_by(through));
    }

    /// No copy of this write can take effect any more.
    pub fn settled(&mut self, id: IoId) {
        self.doubled.retain(|of| *of != id);
    }

    /// The youngest write to a device of unknown outcome that may still land.
    pub fn doubt(&self, disk: DiskId) -> Option<IoId> {
        self.doubts.of(disk)
    }

    /// Writes to a device that are on the medium and may land once more.
    pub fn doubled(&self, disk: DiskId) -> impl Iterator<Item = IoId> + '_ {
        let doubled = self.doubled.iter().copied();
        doubled.filter(move |id| id.0 == disk)
    }

    /// Whether every write was answered and nothing can land late.
    pub fn is_quiet(&self) -> bool {
        self.doubts.is_empty()
            && self.doubled.is_empty()
            && !self
                .under_way
                .iter()
                .any(|(_, _, kind)| matches!(kind, Kind::Write(_)))
    }
}
