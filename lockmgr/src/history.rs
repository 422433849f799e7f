//! How our slot fared: when it was taken, what its renewals took, what failed. It decides nothing; it is for who asks why a
//! lockspace was lost, or nearly.

use core::time::Duration;
use std::collections::VecDeque;

use crate::time::Instant;

/// Renewals that are kept: an hour of them at an `io_timeout` of 10 s, as many as sanlock keeps.
pub const RENEWALS_KEPT: usize = 180;

/// A renewal that completed, and what failed after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Renewal {
    /// Its timestamp on disk: seconds of our clock.
    pub timestamp: u64,
    /// From when the area was asked for until it was there.
    pub read: Duration,
    /// From when the slot was written until that was done, whatever had to be sent again meanwhile.
    pub write: Duration,
    /// Reads and writes after it, before the next renewal, that ended when their time was over.
    pub next_timeouts: u32,
    /// Those that failed sooner.
    pub next_errors: u32,
}

/// How an attempt to renew failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Miss {
    /// It was under way for an `io_timeout`.
    TimedOut,
    /// It failed sooner.
    Failed,
}

/// What is known of our slot since the lockspace was made. Moments are those of the driver's clock.
#[derive(Clone, Default, Debug)]
pub struct History {
    /// When it was last begun to be taken.
    pub acquire_began: Option<Instant>,
    /// When it was last taken.
    pub acquired: Option<Instant>,
    /// When a renewal was last begun.
    pub renewal_began: Option<Instant>,
    /// What the last read or write of a renewal failed by; `None` if it did not.
    pub miss: Option<Miss>,
    renewals: VecDeque<Renewal>,
}

impl History {
    /// The last renewals that completed, the oldest first.
    pub fn renewals(&self) -> impl Iterator<Item = &Renewal> {
        self.renewals.iter()
    }

    pub(crate) fn renewed(&mut self, timestamp: u64, read: Duration, write: Duration) {
        if self.renewals.len() == RENEWALS_KEPT {
            self.renewals.pop_front();
        }
        self.renewals.push_back(Renewal {
            timestamp,
            read,
            write,
            next_timeouts: 0,
            next_errors: 0,
        });
        self.miss = None;
    }

    pub(crate) fn missed(&mut self, miss: Miss) {
        self.miss = Some(miss);
        if let Some(last) = self.renewals.back_mut() {
            let count = match miss {
                Miss::TimedOut => &mut last.next_timeouts,
                Miss::Failed => &mut last.next_errors,
            };
            *count = count.saturating_add(1);
        }
    }
}
