//! Time as the lease machines see it: a number that is handed in, never read.
//!
//! Nothing in this crate makes an [`Instant`] from a clock. The driver reads `CLOCK_BOOTTIME`, which goes on counting while
//! a host is suspended, and passes the value down: what we promised other hosts must run out while we sleep.

use core::ops::Add;
use core::time::Duration;

/// A moment on the driver's monotonic clock, in nanoseconds since an arbitrary start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant(u64);

impl Instant {
    /// The moment `nanos` nanoseconds after the clock's start.
    pub const fn from_nanos(nanos: u64) -> Instant {
        Instant(nanos)
    }

    /// Nanoseconds since the clock's start.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Time since `earlier`, zero if `earlier` is later.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Whole seconds as sanlock writes them on disk: never 0, which means "free" there.
    pub fn disk_seconds(self) -> u64 {
        (self.0 / 1_000_000_000).max(1)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    /// Saturates: a deadline beyond the clock's range never comes.
    fn add(self, delay: Duration) -> Instant {
        let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_add(nanos))
    }
}
