//! Reads that are sent a second time, on another path (SCHEDULING section 6.6): when the first copy is much later
//! than predicted, for at most 2 % of the reads; at once and free of that budget when its path became suspect.
//! Writes are never hedged.
//!
//! Only when, not how: that the copies land in different buffers, and that a late one touches nothing, is the
//! caller's.

use core::time::Duration;

use iscsi_client::time::Instant;

use super::Standing;

/// No read is late before it is that old.
const AGE_MIN: Duration = Duration::from_millis(5);
/// A read is late when it took so many times what was predicted.
const TIMES_PREDICTED: u32 = 3;
/// One hedge per so many reads: 2 %.
const READS_PER_HEDGE: u32 = 50;
/// Hedges that may be saved up, so that a quiet hour is not followed by a storm.
const SAVED_MAX: u32 = 16;

/// Why a read is sent again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// It is late: paid for from the budget.
    Late,
    /// Its path is suspect: free.
    Rescue,
}

/// The budget of a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hedging {
    /// Reads not yet used up by hedges.
    saved: u32,
}

impl Hedging {
    /// When a read is late that left at `sent` and was predicted to take so long: the timer to set.
    pub fn late_at(sent: Instant, predicted: Duration) -> Instant {
        sent + AGE_MIN.max(predicted.saturating_mul(TIMES_PREDICTED))
    }

    /// A read was sent for the first time.
    pub fn read_sent(&mut self) {
        self.saved = (self.saved + 1).min(SAVED_MAX * READS_PER_HEDGE);
    }

    /// Whether a read that was late at `late_at`, on a path of this standing, is to be sent again now.
    pub fn wanted(&self, now: Instant, late_at: Instant, standing: Standing) -> Option<Reason> {
        if standing == Standing::Suspect {
            Some(Reason::Rescue)
        } else if now >= late_at && self.saved >= READS_PER_HEDGE {
            Some(Reason::Late)
        } else {
            None
        }
    }

    /// It was sent again.
    pub fn hedged(&mut self, reason: Reason) {
        if reason == Reason::Late {
            self.saved = self.saved.saturating_sub(READS_PER_HEDGE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn late_is_three_times_the_prediction_and_5_ms_at_least() {
        let sent = Instant::from_nanos(1_000_000);
        for (predicted, late_after) in [(0, 5), (1, 5), (2, 6), (40, 120)] {
            let late_at = Hedging::late_at(sent, millis(predicted));
            assert_eq!(late_at, sent + millis(late_after), "{predicted}");
        }
        assert!(Hedging::late_at(sent, Duration::MAX) > sent);
    }

    #[test]
    fn one_in_fifty_and_sixteen_saved() {
        let late_at = Instant::from_nanos(0) + millis(5);
        let wanted = |hedging: &Hedging, now| hedging.wanted(now, late_at, Standing::Full);
        let mut hedging = Hedging::default();
        for _ in 0..49 {
            hedging.read_sent();
            assert_eq!(wanted(&hedging, late_at), None);
        }
        hedging.read_sent();
        assert_eq!(wanted(&hedging, Instant::from_nanos(0)), None);
        assert_eq!(wanted(&hedging, late_at), Some(Reason::Late));
        hedging.hedged(Reason::Late);
        assert_eq!(wanted(&hedging, late_at), None);
        for _ in 0..100_000 {
            hedging.read_sent();
        }
        let mut hedges = 0;
        while wanted(&hedging, late_at).is_some() {
            hedging.hedged(Reason::Late);
            hedges += 1;
        }
        assert_eq!(hedges, 16);
    }

    #[test]
    fn a_rescue_is_free_and_at_once() {
        let (now, late_at) = (Instant::from_nanos(0), Instant::from_nanos(u64::MAX));
        let mut hedging = Hedging::default();
        for _ in 0..50 {
            hedging.read_sent();
        }
        let before = hedging;
        let wanted = hedging.wanted(now, late_at, Standing::Suspect);
        assert_eq!(wanted, Some(Reason::Rescue));
        hedging.hedged(Reason::Rescue);
        assert_eq!(hedging, before);
        assert_eq!(hedging.wanted(now, late_at, Standing::Marginal), None);
    }
}
