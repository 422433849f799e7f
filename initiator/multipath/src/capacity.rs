//! How large is the LUN? Each path reports a size of its own, and a LUN that grows on the target does so through one
//! port before the other (SCHEDULING section 8).
//!
//! The device follows a growth as soon as all usable paths agree on it; after [`PATIENCE`] the majority is enough. It
//! never follows a shrinking: what was written beyond the new end is lost on the target, and only an operator can say
//! whether that was meant.

use core::time::Duration;

use iscsi_client::time::Instant;

/// Paths that disagree have so long to agree; then the majority decides.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// While they disagree, all are asked again after so long.
pub const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A growth that not every path has seen.
#[derive(Clone, Copy, Debug)]
struct Question {
    since: Instant,
    ask_at: Option<Instant>,
}

/// Watches for growth.
#[derive(Clone, Copy, Debug, Default)]
pub struct Growth {
    question: Option<Question>,
}

impl Growth {
    /// What the usable paths report now, for a device of `device` blocks: the size to grow to, if it is to grow.
    pub fn observe(
        &mut self,
        now: Instant,
        device: u64,
        reports: impl Iterator<Item = u64> + Clone,
    ) -> Option<u64> {
        let largest = reports.clone().max().filter(|&largest| largest > device);
        let Some(largest) = largest else {
            self.question = None;
            return None;
        };
        let count = reports.clone().count();
        let votes = |size| reports.clone().filter(|&report| report == size).count();
        if votes(largest) == count {
            self.question = None;
            return Some(largest);
        }
        let question = self.question.get_or_insert(Question {
            since: now,
            ask_at: Some(now + ASK_AGAIN),
        });
        if now.since(question.since) < PATIENCE {
            return None;
        }
        reports
            .clone()
            .find(|&size| size > device && 2 * votes(size) > count)
    }

    /// Whether all usable paths shall be asked now.
    pub fn asks(&mut self, now: Instant) -> bool {
        match &mut self.question {
            Some(question) if question.ask_at.is_some_and(|at| now >= at) => {
                // Beyond the patience, the usual interval is often enough.
                let end = question.since + PATIENCE;
                question.ask_at = (now < end).then(|| (now + ASK_AGAIN).min(end));
                true
            }
            _ => false,
        }
    }

    /// When it wants to be asked.
    pub fn deadline(&self) -> Option<Instant> {
        self.question.and_then(|question| question.ask_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn agreement_counts_at_once_and_the_majority_after_ten_seconds() {
        // (reports, grows at once to, after the patience to), for a device of 100 blocks
        let table: [(&[u64], Option<u64>, Option<u64>); 12] = [
            (&[], None, None),
            (&[100], None, None),
            (&[200], Some(200), Some(200)),
            (&[200, 200], Some(200), Some(200)),
            (&[200, 100], None, None),
            (&[200, 200, 100], None, Some(200)),
            (&[200, 100, 100], None, None),
            (&[200, 300], None, None),
            (&[200, 200, 300], None, Some(200)),
            (&[50, 50, 50], None, None),
            (&[50, 200, 200], None, Some(200)),
            (&[50, 200], None, None),
        ];
        for (reports, at_once, later) in table {
            let mut growth = Growth::default();
            let observe = |growth: &mut Growth, millis| {
                growth.observe(at(millis), 100, reports.iter().copied())
            };
            assert_eq!(observe(&mut growth, 0), at_once, "{reports:?}");
            assert_eq!(observe(&mut growth, 9_999), at_once, "{reports:?}");
            assert_eq!(observe(&mut growth, 10_000), later, "{reports:?}");
        }
    }

    #[test]
    fn they_are_asked_every_second_until_the_patience_is_over() {
        let mut growth = Growth::default();
        let mut asked = Vec::new();
        growth.observe(at(500), 100, [100, 200].into_iter());
        while let Some(due) = growth.deadline() {
            assert!(growth.asks(due));
            assert!(!growth.asks(due), "once");
            asked.push(due);
            growth.observe(due, 100, [100, 200].into_iter());
        }
        let expected: Vec<Instant> = (1..=10).map(|second| at(500 + second * 1000)).collect();
        assert_eq!(asked, expected);
    }

    #[test]
    fn a_question_that_was_settled_begins_anew() {
        let mut growth = Growth::default();
        let three = |size| [size, 200, 200].into_iter();
        assert_eq!(growth.observe(at(0), 100, three(100)), None);
        assert_eq!(growth.observe(at(1), 200, three(200)), None);
        assert_eq!(growth.deadline(), None);
        assert_eq!(growth.observe(at(20_000), 100, three(100)), None);
        assert_eq!(growth.observe(at(30_000), 100, three(100)), Some(200));
    }
}
