//! When the target may be told to serve the LUN through another port group: seldom, and ever more seldom, for every
//! host may say so and two that disagree would pull the LUN to and fro for ever (SCHEDULING section 3).

use core::time::Duration;

use iscsi_client::time::Instant;

/// Without a usable path for so long before anything is asked for: paths that are only being reconnected come first.
pub(crate) const GRACE: Duration = Duration::from_secs(2);
const SHORTEST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(320);
/// An activation so long ago has nothing to do with the next.
const FORGET: Duration = Duration::from_secs(900);

/// When it was asked for last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Activation {
    last: Option<(Instant, Duration)>,
}

impl Activation {
    /// Not before then.
    pub(crate) fn not_before(&self, unserved_since: Instant) -> Instant {
        let earliest = unserved_since + GRACE;
        self.last
            .map_or(earliest, |(at, pause)| earliest.max(at + pause))
    }

    /// It is asked for now.
    pub(crate) fn started(&mut self, now: Instant) {
        let pause = match self.last {
            Some((last, pause)) if now.since(last) < FORGET => (2 * pause).min(LONGEST),
            _ => SHORTEST,
        };
        self.last = Some((now, pause));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pause_is_twice_the_last_and_old_ones_are_forgotten() {
        let mut activation = Activation::default();
        let start = Instant::from_nanos(0);
        let mut now = activation.not_before(start);
        assert_eq!(now.since(start), GRACE);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            activation.started(now);
            let next = activation.not_before(start);
            pauses.push(next.since(now).as_secs());
            now = next;
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 320, 320]);
        let later = now + FORGET;
        assert_eq!(activation.not_before(later), later + GRACE);
        activation.started(later);
        assert_eq!(activation.not_before(start).since(later), SHORTEST);
    }
}
