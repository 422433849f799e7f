//! A sector that only this host writes: its delta slot while it holds the host id, its dblock of a resource.
//!
//! ```text
//!            write                Done
//!   Idle ------------> Writing ----------> Idle
//!    |                  ^    | Unknown: the same bytes again, at most twice a second
//!    | other bytes      +----+
//!    v in doubt         | Fenced
//!  Waiting -------------+
//! ```
//!
//! A write that was lost may be sent again unchanged: whichever copy lands last, the bytes are the same. A *different* write
//! waits until no copy of the older one can land after it.

use crate::io::{IoId, Outbox, Party, WriteOutcome};
use crate::time::Instant;
use crate::timing::RENEWAL_RETRY;

#[derive(Debug)]
pub(crate) struct OwnSector {
    party: Party,
    offset: u64,
    state: State,
    doubt: Option<Doubt>,
}

/// Writes up to this one may still land.
#[derive(Debug)]
struct Doubt {
    through: IoId,
    /// All of them have these bytes; `None` if they are of an earlier owner of this sector's machine.
    bytes: Option<Box<[u8]>>,
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
    pub fn new(out: &Outbox, party: Party, offset: u64) -> OwnSector {
        let doubt = out.doubt().map(|through| Doubt {
            through,
            bytes: None,
        });
        OwnSector {
            party,
            offset,
            state: State::Idle,
            doubt,
        }
    }

    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Puts these bytes there, however often it takes.
    pub fn write(&mut self, out: &mut Outbox, window: Window, bytes: Box<[u8]>) {
        assert!(self.is_idle(), "one write at a time");
        match &self.doubt {
            Some(doubt) if doubt.bytes.as_ref() != Some(&bytes) => {
                self.state = State::Waiting { bytes };
            }
            _ => self.issue(out, window, bytes),
        }
    }

    fn issue(&mut self, out: &mut Outbox, window: Window, bytes: Box<[u8]>) {
        let id = out.write(self.party, self.offset, bytes.clone(), window.end);
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
                WriteOutcome::Unknown => {
                    let through = id;
                    self.doubt = Some(Doubt {
                        through,
                        bytes: Some(bytes.clone()),
                    });
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
        if self
            .doubt
            .as_ref()
            .is_some_and(|doubt| doubt.through <= through)
        {
            self.doubt = None;
        }
        if self.doubt.is_none() && matches!(self.state, State::Waiting { .. }) {
            let State::Waiting { bytes } = core::mem::replace(&mut self.state, State::Idle) else {
                unreachable!("just matched")
            };
            self.issue(out, window, bytes);
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
        let mut sector = OwnSector::new(&out, Party::Delta, 4096);
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
        let id = out.write(Party::Delta, 4096, bytes(1), at(0).end);
        out.poll();
        out.write_done(id, WriteOutcome::Unknown);
        let mut sector = OwnSector::new(&out, Party::Delta, 4096);
        sector.write(&mut out, at(1), bytes(1));
        assert!(out.poll().is_none());
        sector.fenced(&mut out, at(2), id);
        assert_eq!(asked(&mut out).1, 1);
    }
}
