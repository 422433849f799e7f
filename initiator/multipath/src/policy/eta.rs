//! When a command would be finished on a path: ETA(i,S) = R(i) + E(i) + (Q(i,d) + S) / B(i,d) (SCHEDULING section
//! 6.3). Saturating: a time beyond the type's range is a very long one.

use core::time::Duration;

use super::{Candidate, Direction};

/// Time to move `bytes` at `rate` bytes per second. A rate of 0 counts as 1.
pub fn transfer_time(bytes: u64, rate: u64) -> Duration {
    // Exact up to 18 GB; no queue is longer.
    Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / rate.max(1))
}

/// (Q(i,d) + S) / B(i,d): what is queued and `len` more bytes, at the path's rate. A command without data waits for
/// both directions: it leaves behind the data written and is answered behind the data read.
pub fn moving_time(candidate: &Candidate, direction: Option<Direction>, len: u64) -> Duration {
    let time = |direction, len: u64| {
        transfer_time(
            candidate.queued.of(direction).saturating_add(len),
            *candidate.rate.of(direction),
        )
    };
    match direction {
        Some(direction) => time(direction, len),
        None => time(Direction::Read, 0).max(time(Direction::Write, 0)),
    }
}

/// Predicted time from now to the end of a command of `len` bytes.
pub fn eta(candidate: &Candidate, direction: Option<Direction>, len: u64) -> Duration {
    candidate
        .round_trip
        .saturating_add(candidate.stall)
        .saturating_add(moving_time(candidate, direction, len))
}
