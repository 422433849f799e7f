//! What becomes of requests while no path works (multipath's `no_path_retry`, SCHEDULING section 8).
//!
//! Two losses are told apart. *All paths down*: nobody answers, and the rule decides. *Permanent loss*: paths
//! answer and say that the unit is gone or is another one; then waiting helps nobody and requests fail at once.

use iscsi_client::time::Instant;

use crate::contract::NoPathRetry;

/// Whether requests without a path wait or fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// They wait for a path.
    Hold,
    /// They fail now, in order of arrival; so do new ones, until a path is back.
    Fail,
}

/// The volume's view of its paths as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Service {
    /// At least one path carries IO, or will in a moment on the session it has.
    Usable,
    /// Nobody answers, or nobody is ready.
    Down,
    /// Every path was answered, and the answer was that the unit is gone or is not ours.
    Gone,
}

/// The rule and the time it has been in force.
#[derive(Clone, Copy, Debug)]
pub struct NoPath {
    rule: NoPathRetry,
    service: Service,
    down_since: Option<Instant>,
    /// The limit of this outage was seen to be over.
    enforced: bool,
}

impl NoPath {
    /// A volume without a path yet.
    pub fn new(now: Instant, rule: NoPathRetry) -> NoPath {
        NoPath {
            rule,
            service: Service::Down,
            down_since: Some(now),
            enforced: false,
        }
    }

    /// The present rule.
    pub fn rule(&self) -> NoPathRetry {
        self.rule
    }

    /// Changes the rule, also for the outage under way: its time counts from the start of the outage.
    pub fn set_rule(&mut self, rule: NoPathRetry) {
        self.rule = rule;
        self.enforced = false;
    }

    /// Takes note of the paths as a whole.
    pub fn observe(&mut self, now: Instant, service: Service) {
        self.service = service;
        self.down_since = match service {
            Service::Usable => {
                self.enforced = false;
                None
            }
            Service::Down | Service::Gone => self.down_since.or(Some(now)),
        };
    }

    /// No path works since then.
    pub fn down_since(&self) -> Option<Instant> {
        self.down_since
    }

    /// What becomes of requests that have no path.
    pub fn fate(&mut self, now: Instant) -> Fate {
        let Some(since) = self.down_since else {
            return Fate::Hold;
        };
        match (self.service, self.rule) {
            (Service::Gone, _) | (_, NoPathRetry::Fail) => Fate::Fail,
            (_, NoPathRetry::Queue) => Fate::Hold,
            (_, NoPathRetry::For(limit)) if now >= since + limit => {
                self.enforced = true;
                Fate::Fail
            }
            (_, NoPathRetry::For(_)) => Fate::Hold,
        }
    }

    /// When [`NoPath::fate`] changes by itself.
    pub fn deadline(&self) -> Option<Instant> {
        match (self.down_since, self.service, self.rule) {
            // A unit that is gone fails requests before any limit is over.
            (Some(since), Service::Down, NoPathRetry::For(limit)) if !self.enforced => {
                Some(since + limit)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn the_rule_decides_and_changes_live() {
        let limit = NoPathRetry::For(Duration::from_secs(30));
        let mut no_path = NoPath::new(at(0), NoPathRetry::Queue);
        assert_eq!(no_path.fate(at(1_000_000)), Fate::Hold);
        no_path.set_rule(NoPathRetry::Fail);
        assert_eq!(no_path.fate(at(0)), Fate::Fail);
        no_path.set_rule(limit);
        assert_eq!(no_path.fate(at(29)), Fate::Hold);
        assert_eq!(no_path.deadline(), Some(at(30)));
        assert_eq!(no_path.fate(at(30)), Fate::Fail);
        assert_eq!(no_path.deadline(), None);
        // Time in the outage counts, not time under the rule.
        no_path.set_rule(NoPathRetry::For(Duration::from_secs(60)));
        assert_eq!(no_path.deadline(), Some(at(60)));
    }

    #[test]
    fn a_path_ends_the_outage_and_the_next_one_starts_anew() {
        let mut no_path = NoPath::new(at(0), NoPathRetry::For(Duration::from_secs(5)));
        assert_eq!(no_path.fate(at(5)), Fate::Fail);
        no_path.observe(at(6), Service::Usable);
        assert_eq!(no_path.fate(at(100)), Fate::Hold);
        assert_eq!(no_path.down_since(), None);
        no_path.observe(at(100), Service::Down);
        no_path.observe(at(103), Service::Down);
        assert_eq!(no_path.down_since(), Some(at(100)));
        assert_eq!(no_path.fate(at(104)), Fate::Hold);
        assert_eq!(no_path.fate(at(105)), Fate::Fail);
    }

    #[test]
    fn a_permanent_loss_is_never_queued() {
        let mut no_path = NoPath::new(at(0), NoPathRetry::Queue);
        no_path.observe(at(1), Service::Gone);
        assert_eq!(no_path.fate(at(1)), Fate::Fail);
        no_path.observe(at(2), Service::Down);
        assert_eq!(no_path.fate(at(2)), Fate::Hold);
        // No timer runs for it, least of all one that nothing could ever take back.
        no_path.set_rule(NoPathRetry::For(Duration::from_secs(5)));
        assert_eq!(no_path.deadline(), Some(at(5)));
        no_path.observe(at(3), Service::Gone);
        assert_eq!(no_path.deadline(), None);
    }
}
