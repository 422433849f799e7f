//! Probation: a path that came back carries little at first (SCHEDULING section 2). One chunk; twice as much after each
//! clean round trip; no more than a tenth of all bytes during the first second; one chunk again after any stall.

use core::time::Duration;

use iscsi_client::time::Instant;

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

    /// Bytes that may be outstanding: `u64::MAX` without probation, 0 while the path has had its share.
    pub fn limit(&self, now: Instant) -> u64 {
        match *self {
            Ramp::Done => u64::MAX,
            Ramp::Probation {
                since, own, all, ..
            } if now.since(since) < SHARE_TIME && own > 0 && own.saturating_mul(SHARE) >= all => 0,
            Ramp::Probation { limit, .. } => limit,
        }
    }

    /// Whether the path is on probation.
    pub fn is_probation(&self) -> bool {
        matches!(self, Ramp::Probation { .. })
    }
}
