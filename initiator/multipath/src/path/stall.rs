//! Stall penalty: how much later than predicted a path's answers came lately, smoothed and quickly forgotten
//! (SCHEDULING section 5). It steers, no more: a path with a penalty is still used where it is the quickest.

use core::time::Duration;

use iscsi_client::time::Instant;

/// One answer is late by up to so much: without the clip, one retransmission timeout of 200 to 600 ms would exclude a
/// good path for seconds.
pub const EXCESS_MAX: Duration = Duration::from_millis(30);
/// The penalty falls to 1/e in so long.
const DECAY_SECONDS: f64 = 0.5;
/// The penalty moves by an eighth towards a larger excess.
const WEIGHT: u32 = 8;

/// How late an answer was: min(30 ms, max(0, observed - 1.1 x predicted)).
pub fn excess(observed: Duration, predicted: Duration) -> Duration {
    let expected = predicted.saturating_add(predicted / 10);
    observed.saturating_sub(expected).min(EXCESS_MAX)
}

/// E(i) of one path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stall {
    /// The penalty as it was then.
    penalty: Duration,
    at: Instant,
}

impl Stall {
    /// An answer was late by so much, as [`excess`] says.
    pub fn note(&mut self, now: Instant, excess: Duration) {
        let penalty = self.penalty(now);
        let excess = excess.min(EXCESS_MAX);
        self.penalty = penalty + excess.saturating_sub(penalty) / WEIGHT;
        self.at = now;
    }

    /// The penalty, from 0 to [`EXCESS_MAX`].
    pub fn penalty(&self, now: Instant) -> Duration {
        let passed = now.since(self.at).as_secs_f64();
        // From 0 to 1 whatever passed; the cast of a float saturates.
        let left = (-passed / DECAY_SECONDS).exp();
        Duration::from_nanos((self.penalty.as_nanos() as f64 * left) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn ten_per_cent_are_forgiven_and_30_ms_are_all() {
        for (observed, predicted, expected) in [
            (1000, 1000, 0),
            (1100, 1000, 0),
            (1500, 1000, 400),
            (500, 1000, 0),
            (31_100, 1000, 30_000),
            (600_000, 1000, 30_000),
        ] {
            assert_eq!(
                excess(micros(observed), micros(predicted)),
                micros(expected)
            );
        }
        assert_eq!(excess(Duration::MAX, Duration::MAX), Duration::ZERO);
    }

    #[test]
    fn rises_by_eighths_and_falls_to_1_over_e_in_half_a_second() {
        let mut stall = Stall::default();
        stall.note(at(0), micros(8000));
        assert_eq!(stall.penalty(at(0)), micros(1000));
        // A smaller excess than the penalty changes nothing.
        stall.note(at(0), micros(500));
        assert_eq!(stall.penalty(at(0)), micros(1000));
        let later = stall.penalty(at(500)).as_nanos();
        assert!((367_800..368_000).contains(&later), "{later}");
        assert_eq!(stall.penalty(at(60_000)), Duration::ZERO);
        // Not even a clock that stands or a long train of stalls goes beyond the clip.
        for _ in 0..10_000 {
            stall.note(at(1), Duration::MAX);
        }
        let penalty = stall.penalty(at(1));
        assert!(
            penalty <= EXCESS_MAX && penalty > micros(29_900),
            "{penalty:?}"
        );
    }
}
