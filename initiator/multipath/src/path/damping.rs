//! Flap damping: a path that fails again and again is marginal for a while, as a flapping route is (SCHEDULING section
//! 5). Each blame adds to a penalty that halves every 15 s; at 2000 the path becomes marginal, below 750 it is good
//! again. Marginal is gentle: the path serves where it is the only one.

use core::time::Duration;

use iscsi_client::time::Instant;

const HALF_LIFE_SECONDS: f64 = 15.0;
/// At this penalty a path becomes marginal.
pub const MARGINAL_AT: f64 = 2000.0;
/// Below this one it is good again.
pub const REUSE_BELOW: f64 = 750.0;
/// No more is added up: a path is marginal for four half-lives, 60 s, at most after the last blame.
pub const PENALTY_MAX: f64 = 12_000.0;
/// A shorter silence is forgiven.
const SILENCE_FORGIVEN: Duration = Duration::from_millis(200);

/// What a path did.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Blame {
    /// It failed while it carried IO.
    Failed,
    /// It was suspect for so long, and recovered.
    Suspect(Duration),
    /// Digest or protocol error: half as bad as a failure.
    Protocol,
    /// Nothing of its own: logout on the target's request, change of ALUA state, removal by the operator, an outage of
    /// all paths at once.
    Planned,
}

impl Blame {
    fn points(self) -> f64 {
        match self {
            Blame::Failed => 1000.0,
            Blame::Suspect(lasted) if lasted > SILENCE_FORGIVEN => 300.0,
            Blame::Protocol => 500.0,
            Blame::Suspect(_) | Blame::Planned => 0.0,
        }
    }
}

/// The penalty of one path; kept over its sessions.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Damping {
    /// As it was then.
    penalty: f64,
    at: Instant,
    /// Marginal until then.
    marginal_until: Option<Instant>,
}

impl Damping {
    /// Adds what the path did. Whether that has just made it marginal.
    pub fn blame(&mut self, now: Instant, blame: Blame) -> bool {
        let was_marginal = self.is_marginal(now);
        self.raise(now, self.penalty(now) + blame.points());
        !was_marginal && self.is_marginal(now)
    }

    /// Makes it marginal whatever the penalty was: too many of its commands failed.
    pub fn condemn(&mut self, now: Instant) {
        self.raise(now, self.penalty(now).max(MARGINAL_AT));
    }

    fn raise(&mut self, now: Instant, penalty: f64) {
        let marginal = self.is_marginal(now);
        self.penalty = penalty.min(PENALTY_MAX);
        self.at = now;
        if marginal || self.penalty >= MARGINAL_AT {
            let half_lives = (self.penalty / REUSE_BELOW).log2().max(0.0);
            self.marginal_until =
                Some(now + Duration::from_secs_f64(half_lives * HALF_LIFE_SECONDS));
        }
    }

    /// P at this moment, from 0 to [`PENALTY_MAX`].
    pub fn penalty(&self, now: Instant) -> f64 {
        let passed = now.since(self.at).as_secs_f64();
        self.penalty * (-passed / HALF_LIFE_SECONDS).exp2()
    }

    /// Whether other paths go first.
    pub fn is_marginal(&self, now: Instant) -> bool {
        self.marginal_until.is_some_and(|until| now < until)
    }

    /// When it stops to be marginal by itself, if it is: a timer for the event.
    pub fn marginal_until(&self, now: Instant) -> Option<Instant> {
        self.marginal_until.filter(|&until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Instant {
        Instant::from_nanos((seconds * 1e9) as u64)
    }

    /// Seconds until it is good again.
    fn marginal_for(damping: &Damping, now: f64) -> Option<f64> {
        let until = damping.marginal_until(at(now))?;
        Some(until.since(at(now)).as_secs_f64())
    }

    #[test]
    fn quick_flaps_are_marginal_for_so_long() {
        // SCHEDULING section 5: two flaps 21 s, three 30 s, four 36 s; never more than 60 s.
        for (flaps, expected) in [
            (1, None),
            (2, Some(21)),
            (3, Some(30)),
            (4, Some(36)),
            (50, Some(60)),
        ] {
            let mut damping = Damping::default();
            for _ in 0..flaps {
                damping.blame(at(0.0), Blame::Failed);
            }
            let seconds = marginal_for(&damping, 0.0).map(|seconds| seconds.round() as u32);
            assert_eq!(seconds, expected, "{flaps}");
            assert!(damping.penalty(at(0.0)) <= PENALTY_MAX);
        }
    }

    #[test]
    fn each_blame_has_its_weight() {
        let silent = |millis| Blame::Suspect(Duration::from_millis(millis));
        for (blame, points) in [
            (Blame::Failed, 1000.0),
            (Blame::Protocol, 500.0),
            (silent(201), 300.0),
            (silent(200), 0.0),
            (Blame::Planned, 0.0),
        ] {
            let mut damping = Damping::default();
            damping.blame(at(1.0), blame);
            assert_eq!(damping.penalty(at(1.0)), points, "{blame:?}");
            assert!((damping.penalty(at(16.0)) - points / 2.0).abs() < 1e-6);
        }
    }

    #[test]
    fn between_the_levels_it_stays_what_it_is() {
        let mut damping = Damping::default();
        damping.blame(at(0.0), Blame::Failed);
        damping.blame(at(0.0), Blame::Protocol);
        assert!(!damping.is_marginal(at(0.0)), "1500 from below");
        assert!(damping.blame(at(0.0), Blame::Protocol), "2000");
        assert!(damping.is_marginal(at(0.0)));
        assert!(damping.is_marginal(at(15.0)), "1000 from above");
        // More blame while it is marginal lasts from there, though it is less than 2000.
        assert!(!damping.blame(at(15.0), Blame::Protocol), "no news");
        assert!(damping.is_marginal(at(29.0)), "1500 after 15 s are 786");
        assert!(!damping.is_marginal(at(31.0)), "and below 750 soon");
        assert_eq!(damping.marginal_until(at(31.0)), None);
        // Planned events move nothing.
        damping.blame(at(31.0), Blame::Planned);
        assert!(!damping.is_marginal(at(31.0)));
    }

    #[test]
    fn a_condemned_path_is_marginal_as_after_two_flaps() {
        let mut damping = Damping::default();
        damping.condemn(at(3.0));
        assert_eq!(
            marginal_for(&damping, 3.0).map(|s| s.round() as u32),
            Some(21)
        );
        for _ in 0..9 {
            damping.blame(at(3.0), Blame::Failed);
        }
        let before = damping;
        damping.condemn(at(3.0));
        assert_eq!(damping, before, "already worse");
    }
}
