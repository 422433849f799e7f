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
