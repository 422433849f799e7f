//! Probation: a path that came back carries little at first (SCHEDULING section 2). One chunk; twice as much after each
//! clean round trip; no more than a tenth of all bytes during the first second; one chunk again after any stall.

use core::time::Duration;

use iscsi_client::time::Instant;

use crate::policy::Allowance;
use crate::policy::chunk::CHUNK_MAX;

/// The share is limited for so long.
const SHARE_TIME: Duration = Duration::from_secs(1);
/// One byte of so many.
const SHARE: u64 = 10;
/// A ramp that has reached this is over, whatever the window.
const LIMIT_MAX: u64 = 64 * 1024 * 1024;

/// How much a path may carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ramp {
    /// As much as its window allows.
    #[default]
    Done,
    /// On probation.
    Probation {
        /// Since when.
        since: Instant,
        /// Bytes that may be outstanding.
        limit: u64,
        /// When that was last changed: a command sent later that comes back is a round trip with it.
        changed: Instant,
        /// Bytes given to this path since the start.
        own: u64,
        /// Bytes given to all paths since the start, this one included.
        all: u64,
    },
}

impl Ramp {
    /// The path has passed its examination at `now`.
    pub fn start(now: Instant) -> Ramp {
        Ramp::Probation {
            since: now,
            limit: CHUNK_MAX.into(),
            changed: now,
            own: 0,
            all: 0,
        }
    }

    /// A command of `len` bytes was given to this path ...
    pub fn sent_here(&mut self, len: u32) {
        if let Ramp::Probation { own, all, .. } = self {
            *own = own.saturating_add(len.into());
            *all = all.saturating_add(len.into());
        }
    }

    /// ... or to another one.
    pub fn sent_elsewhere(&mut self, len: u32) {
        if let Ramp::Probation { all, .. } = self {
            *all = all.saturating_add(len.into());
        }
    }

    /// A command that left at `sent` came back in time. `window`: what the path could have outstanding, both directions
    /// together, were it not for the ramp, in bytes.
    pub fn clean(&mut self, now: Instant, sent: Instant, window: u64) {
        if let Ramp::Probation {
            since,
            limit,
            changed,
            ..
        } = self
            && sent >= *changed
        {
            *limit = limit.saturating_mul(2).min(LIMIT_MAX);
            *changed = now;
            if *limit >= window.min(LIMIT_MAX) && now.since(*since) >= SHARE_TIME {
                *self = Ramp::Done;
            }
        }
    }

    /// A command came back late, or the path became suspect.
    pub fn stalled(&mut self, now: Instant) {
        if let Ramp::Probation { limit, changed, .. } = self {
            *limit = CHUNK_MAX.into();
            *changed = now;
        }
    }

    /// What it may carry now.
    pub fn allowance(&self, now: Instant) -> Allowance {
        match *self {
            Ramp::Done => Allowance::Unlimited,
            Ramp::Probation {
                since,
                limit,
                own,
                all,
                ..
            } => {
                let spent = own > 0 && own.saturating_mul(SHARE) >= all;
                if spent && now.since(since) < SHARE_TIME {
                    Allowance::Spent(limit)
                } else {
                    Allowance::Bytes(limit)
                }
            }
        }
    }

    /// Whether the path is on probation.
    pub fn is_probation(&self) -> bool {
        matches!(self, Ramp::Probation { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: u64 = CHUNK_MAX as u64;
    const WINDOW: u64 = 8 * CHUNK;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn doubles_per_clean_round_trip_to_the_window() {
        let mut ramp = Ramp::start(at(0));
        assert_eq!(ramp.allowance(at(0)), Allowance::Bytes(CHUNK));
        // One that left before the last change says nothing about it.
        ramp.clean(at(1), at(0), WINDOW);
        assert_eq!(ramp.allowance(at(1)), Allowance::Bytes(2 * CHUNK));
        ramp.clean(at(2), at(0), WINDOW);
        assert_eq!(ramp.allowance(at(2)), Allowance::Bytes(2 * CHUNK));
        ramp.clean(at(2), at(1), WINDOW);
        assert_eq!(ramp.allowance(at(2)), Allowance::Bytes(4 * CHUNK));
        ramp.clean(at(3), at(2), WINDOW);
        assert_eq!(ramp.allowance(at(3)), Allowance::Bytes(8 * CHUNK));
        assert!(ramp.is_probation(), "the first second is not over");
        ramp.clean(at(1000), at(999), WINDOW);
        assert_eq!(ramp.allowance(at(1000)), Allowance::Unlimited);
        assert!(!ramp.is_probation());
    }

    #[test]
    fn a_stall_starts_it_again() {
        let mut ramp = Ramp::start(at(0));
        for round in 0..5 {
            ramp.clean(at(round + 1), at(round), u64::MAX);
        }
        assert_eq!(ramp.allowance(at(2000)), Allowance::Bytes(32 * CHUNK));
        ramp.stalled(at(2000));
        assert_eq!(ramp.allowance(at(2000)), Allowance::Bytes(CHUNK));
        ramp.clean(at(2001), at(1999), WINDOW);
        assert_eq!(
            ramp.allowance(at(2001)),
            Allowance::Bytes(CHUNK),
            "that one left before the stall"
        );
        ramp.stalled(at(2002));
        let mut done = Ramp::Done;
        done.stalled(at(0));
        assert_eq!(done, Ramp::Done);
    }

    #[test]
    fn a_tenth_of_the_bytes_in_the_first_second() {
        let mut ramp = Ramp::start(at(0));
        let (mut own, mut all) = (0u64, 0u64);
        for _ in 0..10_000 {
            all += 4096;
            if let Allowance::Bytes(_) = ramp.allowance(at(500)) {
                ramp.sent_here(4096);
                own += 4096;
            } else {
                ramp.sent_elsewhere(4096);
            }
        }
        let share = own as f64 / all as f64;
        assert!((0.09..=0.101).contains(&share), "{share}");
        ramp.sent_here(u32::MAX);
        assert_eq!(ramp.allowance(at(999)), Allowance::Spent(CHUNK));
        assert_eq!(ramp.allowance(at(1000)), Allowance::Bytes(CHUNK));
    }

    #[test]
    fn a_ramp_ends_whatever_the_window() {
        let mut ramp = Ramp::start(at(0));
        for round in 1000..1100 {
            ramp.clean(at(round + 1), at(round), u64::MAX);
        }
        assert_eq!(ramp, Ramp::Done);
    }
}
