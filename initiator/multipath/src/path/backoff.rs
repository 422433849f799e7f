//! When a path that failed is tried again: 0.1 s, doubling to 5 s, each with up to 20 % jitter, so that many hosts
//! do not come back to a target in step (SCHEDULING section 2).

use core::time::Duration;

use iscsi_client::time::Instant;

/// A small generator of jitter (splitmix64): the same seed gives the same run.
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// Starts from `seed`.
    pub fn new(seed: u64) -> Jitter {
        Jitter(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A duration from `low` to `high`, both included.
    pub fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let span = (high - low).as_nanos() as u64;
        low + Duration::from_nanos(self.next() % (span + 1))
    }

    /// `delay`, 20 % more or less.
    pub fn around(&mut self, delay: Duration) -> Duration {
        self.between(delay * 4 / 5, delay * 6 / 5)
    }
}

/// Delays that double up to a limit.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// For reconnects.
    pub const RECONNECT: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    /// For fence logins, each of which costs the target the end of a session.
    pub const FENCE: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));

    const fn new(first: Duration, max: Duration) -> Backoff {
        Backoff {
            first,
            max,
            next: first,
        }
    }

    /// When to try after a failure at `now`.
    pub fn after_failure(&mut self, now: Instant, jitter: &mut Jitter) -> Instant {
        let delay = self.next;
        self.next = (delay * 2).min(self.max);
        now + jitter.around(delay)
    }

    /// It worked long enough: the next failure is a first one.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_the_limit_with_bounded_jitter() {
        let now = Instant::from_nanos(0);
        for seed in 0..100 {
            let mut jitter = Jitter::new(seed);
            let mut backoff = Backoff::RECONNECT;
            for nominal in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
                let delay = backoff
                    .after_failure(now, &mut jitter)
                    .since(now)
                    .as_millis();
                assert!(
                    (nominal * 4 / 5..=nominal * 6 / 5).contains(&delay),
                    "{delay} for {nominal}"
                );
            }
            backoff.reset();
            assert!(
                backoff.after_failure(now, &mut jitter).since(now) <= Duration::from_millis(120)
            );
        }
    }
}
