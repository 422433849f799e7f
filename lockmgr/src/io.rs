//! How the machines ask for I/O: numbered reads and writes go out, outcomes and fences come back.
//!
//! A write ends in one of three ways. `Done`: it is on the medium, and over. `Unknown`: it may have executed, may execute in
//! part, or may still do so later, because a path was lost under it. Every `Unknown` is followed, as soon as the driver can
//! prove it, by [`Input::Fenced`](crate::Input::Fenced): nothing older can take effect any more. (On iSCSI: session
//! reinstatement; on a local file: the system call has returned.) `Doubled`: it is on the medium, and may come to be there
//! once more; only of a sector that nobody else writes. [`Input::Settled`](crate::Input::Settled) follows, or a fence. Until
//! then the machines write nothing different to that sector.

use std::collections::VecDeque;

use crate::contract::{GateOrder, LeaseId, Note};
use crate::time::Instant;

/// Number of an I/O. Later ones have larger numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IoId(u64);

impl IoId {
    /// For who tests a driver without a lockspace.
    pub const fn new(number: u64) -> IoId {
        IoId(number)
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
    /// The youngest write that ended `Unknown` and is not fenced.
    doubt: Option<IoId>,
    /// Writes that ended `Doubled` and are neither settled nor fenced.
    doubled: Vec<IoId>,
}

impl Outbox {
    fn number(&mut self, party: Party, kind: Kind) -> IoId {
        self.last += 1;
        let id = IoId(self.last);
        self.under_way.push((id, party, kind));
        id
    }

    pub fn read(&mut self, party: Party, offset: u64, len: usize, deadline: Instant) -> IoId {
        let id = self.number(party, Kind::Read { len, deadline });
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
        let id = self.number(party, Kind::Write(writers));
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
            WriteOutcome::Unknown => self.doubt = self.doubt.max(Some(id)),
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

    /// No write up to and including `through` can take effect any more.
    pub fn fenced(&mut self, through: IoId) {
        if self.doubt <= Some(through) {
            self.doubt = None;
        }
        self.doubled.retain(|id| *id > through);
    }

    /// No copy of this write can take effect any more.
    pub fn settled(&mut self, id: IoId) {
        self.doubled.retain(|of| *of != id);
    }

    /// The youngest write of unknown outcome that may still land.
    pub fn doubt(&self) -> Option<IoId> {
        self.doubt
    }

    /// Writes that are on the medium and may land once more.
    pub fn doubled(&self) -> &[IoId] {
        &self.doubled
    }

    /// Whether every write was answered and nothing can land late.
    pub fn is_quiet(&self) -> bool {
        self.doubt.is_none()
            && self.doubled.is_empty()
            && !self
                .under_way
                .iter()
                .any(|(_, _, kind)| matches!(kind, Kind::Write(_)))
    }
}
