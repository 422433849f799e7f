//! A sector that only this host writes: its delta slot while it holds the host id, its dblock of a resource.
//!
//! ```text
//!            write                Done, Doubled
//!   Idle ------------> Writing ----------> Idle
//!    |                  ^    | Unknown: the same bytes again, at most twice a second
//!    | other bytes      +----+
//!    v in doubt         | Fenced, Settled
//!  Waiting -------------+
//! ```
//!
//! A write that was lost may be sent again unchanged: whichever copy lands last, the bytes are the same. So may, by the
//! driver, one that is only late. A *different* write waits until no copy of the older one can land after it.

use crate::contract::DiskId;
use crate::io::{IoId, Outbox, Party, WriteOutcome, Writers};
use crate::mutant::Mutant;
use crate::time::Instant;
use crate::timing::RENEWAL_RETRY;

#[derive(Debug)]
pub(crate) struct OwnSector {
    party: Party,
    offset: u64,
    state: State,
    doubt: Doubt,
    mutant: Option<Mutant>,
}

/// What may still land here.
#[derive(Debug)]
struct Doubt {
    /// The youngest write of unknown outcome: a fence of it, and of all before it, is waited for.
    lost: Option<IoId>,
    /// Writes that are there and may land once more: the end of each is waited for.
    doubled: Vec<IoId>,
    /// All of them have these bytes; `None` if they are of an earlier owner of this sector's machine.
    bytes: Option<Box<[u8]>>,
}

impl Doubt {
    fn is_over(&self) -> bool {
        self.lost.is_none() && self.doubled.is_empty()
    }

    /// Whether these bytes may go out beside what may still land.
    fn allows(&self, bytes: &[u8]) -> bool {
        self.is_over() || self.bytes.as_deref() == Some(bytes)
    }
}

#[derive(Debug)]
enum State {
    Idle,
    /// A different write may still land.
    Waiting {
        bytes: Box<[u8]>,
    },
    Writing {
        id: IoId,
        bytes: Box<[u8]>,
        since: Instant,
    },
    /// Lost; sent again then.
    Pausing {
        bytes: Box<[u8]>,
        until: Instant,
    },
}

/// Now, and when an attempt that starts now must be over: whatever is left of it is not sent after that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub now: Instant,
    pub end: Instant,
}

/// Whether the last write is on the medium.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    Pending,
    Done,
}

impl OwnSector {
    /// A sector that an earlier machine may have written: whatever of this host may still land is assumed to land here.
    pub fn new(out: &Outbox, party: Party, offset: u64, mutant: Option<Mutant>) -> OwnSector {
        let disk = DiskId::of(offset);
        let doubt = Doubt {
            lost: out.doubt(disk),
            doubled: out.doubled(disk).collect(),
            bytes: None,
        };
        OwnSector {
            party,
            offset,
            state: State::Idle,
            doubt,
            mutant,
        }
    }

    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Puts these bytes there, however often it takes.
    pub fn write(&mut self, out: &mut Outbox, window: Window, bytes: Box<[u8]>) {
        assert!(self.is_idle(), "one write at a time");
        let careless = self.mutant == Some(Mutant::OverwriteDoubled) && self.doubt.lost.is_none();
        match self.doubt.allows(&bytes) || careless {
            true => self.issue(out, window, bytes),
            false => self.state = State::Waiting { bytes },
        }
    }

    fn issue(&mut self, out: &mut Outbox, window: Window, bytes: Box<[u8]>) {
        let (party, writers) = (self.party, Writers::One);
        let id = out.write(party, self.offset, bytes.clone(), window.end, writers);
        let since = window.now;
        self.state = State::Writing { id, bytes, since };
    }

    pub fn wrote(
        &mut self,
        out: &mut Outbox,
        window: Window,
        id: IoId,
        outcome: WriteOutcome,
    ) -> Progress {
        match core::mem::replace(&mut self.state, State::Idle) {
            State::Writing {
                id: ours,
                bytes,
                since,
            } if ours == id => match outcome {
                WriteOutcome::Done => Progress::Done,
                WriteOutcome::Doubled => {
                    self.doubt.doubled.push(id);
                    self.doubt.bytes = Some(bytes);
                    Progress::Done
                }
                WriteOutcome::Unknown => {
                    self.doubt.lost = Some(id);
                    self.doubt.bytes = Some(bytes.clone());
                    let until = since + RENEWAL_RETRY;
                    if until <= window.now {
                        self.issue(out, window, bytes);
                    } else {
                        self.state = State::Pausing { bytes, until };
                    }
                    Progress::Pending
                }
            },
            other => {
                self.state = other;
                Progress::Pending
            }
        }
    }

    pub fn fenced(&mut self, out: &mut Outbox, window: Window, through: IoId) {
        self.doubt.lost = self.doubt.lost.filter(|id| !id.is_fenced_by(through));
        self.doubt.doubled.retain(|id| !id.is_fenced_by(through));
        self.go_on(out, window);
    }

    /// No copy of this write can land any more.
    pub fn settled(&mut self, out: &mut Outbox, window: Window, id: IoId) {
        self.doubt.doubled.retain(|of| *of != id);
        self.go_on(out, window);
    }

    fn go_on(&mut self, out: &mut Outbox, window: Window) {
        match core::mem::replace(&mut self.state, State::Idle) {
            State::Waiting { bytes } if self.doubt.is_over() => self.issue(out, window, bytes),
            other => self.state = other,
        }
    }

    pub fn handle_timeout(&mut self, out: &mut Outbox, window: Window) {
        if self.poll_timeout().is_some_and(|at| at <= window.now)
            && let State::Pausing { bytes, .. } = core::mem::replace(&mut self.state, State::Idle)
        {
            self.issue(out, window, bytes);
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Pausing { until, .. } => Some(*until),
            State::Idle | State::Waiting { .. } | State::Writing { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::LeaseId;
    use crate::io::Output;
    use core::time::Duration;

    fn at(millis: u64) -> Window {
        let now = Instant::from_nanos(millis * 1_000_000);
        let end = now + Duration::from_secs(10);
        Window { now, end }
    }

    fn bytes(of: u8) -> Box<[u8]> {
        vec![of; 512].into()
    }

    /// The one write that is asked for.
    fn asked(out: &mut Outbox) -> (IoId, u8) {
        let Some(Output::Write {
            id,
            offset: 4096,
            bytes,
            ..
        }) = out.poll()
        else {
            panic!("a write is due");
        };
        assert!(out.poll().is_none());
        (id, bytes[0])
    }

    #[test]
    fn the_same_bytes_go_again_and_different_ones_wait_for_the_fence() {
        let mut out = Outbox::default();
        let mut sector = OwnSector::new(&out, Party::Delta, 4096, None);
        sector.write(&mut out, at(0), bytes(1));
        let (first, content) = asked(&mut out);
        assert_eq!(content, 1);
        // Lost at once: half a second later the same goes again.
        let lost = sector.wrote(&mut out, at(10), first, WriteOutcome::Unknown);
        assert_eq!((lost, out.poll().is_none()), (Progress::Pending, true));
        assert_eq!(sector.poll_timeout(), Some(at(500).now));
        sector.handle_timeout(&mut out, at(500));
        let (second, content) = asked(&mut out);
        assert_eq!(content, 1);
        let done = sector.wrote(&mut out, at(520), second, WriteOutcome::Done);
        assert_eq!(done, Progress::Done);
        // Unchanged once more is no danger; anything else is.
        sector.write(&mut out, at(530), bytes(1));
        let (third, _) = asked(&mut out);
        sector.wrote(&mut out, at(540), third, WriteOutcome::Done);
        sector.write(&mut out, at(550), bytes(2));
        assert!(out.poll().is_none(), "the first write may still land");
        sector.fenced(&mut out, at(600), first);
        assert_eq!(asked(&mut out).1, 2);
    }

    #[test]
    fn what_an_earlier_machine_lost_is_waited_for() {
        let mut out = Outbox::default();
        let id = out.write(Party::Delta, 4096, bytes(1), at(0).end, Writers::One);
        out.poll();
        out.write_done(id, WriteOutcome::Unknown);
        let mut sector = OwnSector::new(&out, Party::Delta, 4096, None);
        sector.write(&mut out, at(1), bytes(1));
        assert!(out.poll().is_none());
        sector.fenced(&mut out, at(2), id);
        assert_eq!(asked(&mut out).1, 1);
    }

    #[test]
    fn a_fence_of_one_device_says_nothing_of_another() {
        let mut out = Outbox::default();
        let there = LeaseId::on(DiskId(7), 4096).expect("an offset").0;
        let mut lose = |offset| {
            let id = out.write(Party::Delta, offset, bytes(1), at(0).end, Writers::One);
            out.poll();
            out.write_done(id, WriteOutcome::Unknown);
            id
        };
        let (far, home) = (lose(there), lose(4096));
        let mut sector = OwnSector::new(&out, Party::Delta, 4096, None);
        sector.write(&mut out, at(1), bytes(2));
        let mut other = OwnSector::new(&out, Party::Delta, there, None);
        other.write(&mut out, at(1), bytes(2));
        // The other device hangs: ours goes on without it.
        out.fenced(home);
        other.fenced(&mut out, at(2), home);
        assert!(out.poll().is_none() && !out.is_quiet());
        sector.fenced(&mut out, at(2), home);
        assert_eq!(asked(&mut out).1, 2);
        out.fenced(far);
        other.fenced(&mut out, at(3), far);
        let Some(Output::Write { id, offset, .. }) = out.poll() else {
            panic!("a write is due");
        };
        assert_eq!((id.disk(), offset), (DiskId(7), there));
    }

    #[test]
    fn a_copy_that_may_still_land_is_waited_for_by_what_differs() {
        let mut out = Outbox::default();
        let mut sector = OwnSector::new(&out, Party::Delta, 4096, None);
        sector.write(&mut out, at(0), bytes(1));
        let (first, _) = asked(&mut out);
        out.write_done(first, WriteOutcome::Doubled);
        let done = sector.wrote(&mut out, at(40), first, WriteOutcome::Doubled);
        assert_eq!(done, Progress::Done);
        assert!(!out.is_quiet());
        sector.write(&mut out, at(50), bytes(1));
        let (second, _) = asked(&mut out);
        out.write_done(second, WriteOutcome::Doubled);
        sector.wrote(&mut out, at(60), second, WriteOutcome::Doubled);
        sector.write(&mut out, at(70), bytes(2));
        // The end of one tells nothing of the other, in whatever order they come.
        out.settled(second);
        sector.settled(&mut out, at(80), second);
        assert!(out.poll().is_none(), "the first may still land");
        out.fenced(first);
        sector.fenced(&mut out, at(90), first);
        assert_eq!(asked(&mut out).1, 2);
        // A machine that is made anew waits for what the one before it left.
        let id = out.write(Party::Delta, 4096, bytes(3), at(0).end, Writers::One);
        out.poll();
        out.write_done(id, WriteOutcome::Doubled);
        let mut sector = OwnSector::new(&out, Party::Delta, 4096, None);
        sector.write(&mut out, at(100), bytes(3));
        assert!(out.poll().is_none());
        out.settled(id);
        sector.settled(&mut out, at(110), id);
        assert_eq!(asked(&mut out).1, 3);
    }
}
