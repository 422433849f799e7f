//! When a command would be finished on a path: ETA(i,S) = R(i) + E(i) + (Q(i,d) + S) / B(i,d) (SCHEDULING section
//! 6.3). For R(i) stands what the path takes beside the bytes by habit: a path that is slower than its rate says must not be
//! taken again and again for the quicker one. Saturating: a time beyond the type's range is a very long one.

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
        .latency
        .saturating_add(candidate.stall)
        .saturating_add(moving_time(candidate, direction, len))
}

#[cfg(test)]
mod tests {
    use super::super::PerDirection;
    use super::super::tests::plain;
    use super::*;

    #[test]
    fn round_trip_and_penalty_and_what_is_to_be_moved() {
        let path = Candidate {
            queued: PerDirection {
                read: 100_000,
                write: 300_000,
            },
            rate: PerDirection {
                read: 100_000_000,
                write: 200_000_000,
            },
            latency: Duration::from_micros(200),
            stall: Duration::from_micros(30),
            ..plain(0)
        };
        // (direction, length, microseconds)
        for (direction, len, micros) in [
            (Some(Direction::Read), 0, 1230),
            (Some(Direction::Read), 100_000, 2230),
            (Some(Direction::Write), 100_000, 2230),
            (None, 0, 1730),
        ] {
            let expected = Duration::from_micros(micros);
            assert_eq!(eta(&path, direction, len), expected, "{direction:?} {len}");
        }
    }

    #[test]
    fn no_number_is_too_large() {
        assert_eq!(transfer_time(0, 0), Duration::ZERO);
        assert!(transfer_time(u64::MAX, 0) > Duration::from_secs(3600));
        let path = Candidate {
            queued: PerDirection {
                read: u64::MAX,
                write: u64::MAX,
            },
            rate: PerDirection { read: 0, write: 0 },
            latency: Duration::MAX,
            stall: Duration::MAX,
            ..plain(0)
        };
        for direction in [None, Some(Direction::Read), Some(Direction::Write)] {
            assert_eq!(eta(&path, direction, u64::MAX), Duration::MAX);
        }
    }
}
