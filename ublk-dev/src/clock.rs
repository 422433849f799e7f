//! The clock of the data path: `CLOCK_BOOTTIME`, which goes on while the host sleeps.
//!
//! A deadline that decides about writes must not stand still with a suspended host. It is read once per turn,
//! by the ring; nobody else on the data path asks for the time.

use crate::sys::host;

/// Nanoseconds since boot, time asleep included.
pub fn boottime_ns() -> u64 {
    host::boottime_ns()
}

/// The clock as one thread sees it: refuses to run backwards.
#[derive(Debug)]
pub struct Clock {
    now_ns: u64,
}

impl Clock {
    /// Reads the clock for the first time.
    pub fn new() -> Self {
        Self {
            now_ns: boottime_ns(),
        }
    }

    /// The time of the last [`refresh`](Self::refresh), in nanoseconds since boot.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Reads the clock again.
    ///
    /// # Panics
    ///
    /// If it ran backwards: every deadline in the process would be wrong.
    pub fn refresh(&mut self) -> u64 {
        let now_ns = boottime_ns();
        assert!(
            now_ns >= self.now_ns,
            "CLOCK_BOOTTIME ran backwards: {} after {}",
            now_ns,
            self.now_ns
        );
        self.now_ns = now_ns;
        now_ns
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_moves_only_when_refreshed_and_only_forwards() {
        let mut clock = Clock::new();
        let first = clock.now_ns();
        assert_eq!(clock.now_ns(), first);
        assert!(clock.refresh() >= first);
    }
}
