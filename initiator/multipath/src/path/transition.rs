//! A port whose asymmetric access state changes just now: how often it is asked, and how long (SCHEDULING section 3).

use core::time::Duration;

use iscsi_client::time::Instant;

/// The first question comes after so long.
const FIRST: Duration = Duration::from_millis(50);
/// Each pause is twice the last, up to this.
const LONGEST: Duration = Duration::from_secs(1);
/// How long a transition may take where the target does not say.
pub(crate) const UNKNOWN_LIMIT: Duration = Duration::from_secs(60);

/// A transition under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Transition {
    until: Instant,
    pause: Duration,
}

impl Transition {
    /// It was seen to begin. `limit`: the implicit transition time that the target named.
    pub(crate) fn begin(now: Instant, limit: Option<Duration>) -> Transition {
        Transition {
            until: now + limit.unwrap_or(UNKNOWN_LIMIT),
            pause: FIRST,
        }
    }

    /// When the port is asked next; `None` once the transition has taken too long.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Instant> {
        if now >= self.until {
            return None;
        }
        let at = now + self.pause;
        self.pause = (2 * self.pause).min(LONGEST);
        Some(at.min(self.until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_ever_more_seldom_until_the_limit() {
        let start = Instant::from_nanos(0);
        for (limit, expected) in [
            (Some(2), vec![50, 150, 350, 750, 1550, 2000]),
            (Some(4), vec![50, 150, 350, 750, 1550, 2550, 3550, 4000]),
        ] {
            let mut transition = Transition::begin(start, limit.map(Duration::from_secs));
            let (mut now, mut asked) = (start, Vec::new());
            while let Some(at) = transition.next(now) {
                asked.push(at.since(start).as_millis() as u64);
                now = at;
            }
            assert_eq!(asked, expected);
        }
        let mut unknown = Transition::begin(start, None);
        assert!(
            unknown
                .next(start + Duration::from_millis(59_999))
                .is_some()
        );
        assert_eq!(unknown.next(start + UNKNOWN_LIMIT), None);
    }
}
