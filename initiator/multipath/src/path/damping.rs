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
    /// Adds what the path did.
    pub fn blame(&mut self, now: Instant, blame: Blame) {
        self.raise(now, self.penalty(now) + blame.points());
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
