//! Notices a session that somebody else takes away again and again: two hosts with one InitiatorName derive the same
//! ISIDs, and each login of one ends the session of the other, for ever (RFC 7143, 6.3.5). Fighting helps nobody
//! and each round costs both their IO, so the path gives up and says why.

use core::time::Duration;

use iscsi_client::time::Instant;

/// A session that the peer ends within this time after its login may have been taken away.
const SHORT_LIFE: Duration = Duration::from_secs(10);
/// So many in a row are no coincidence.
const ROUNDS: u8 = 5;

/// The count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Contest {
    established: Option<Instant>,
    rounds: u8,
}

impl Contest {
    /// A login succeeded.
    pub fn established(&mut self, now: Instant) {
        self.established = Some(now);
    }

    /// A session ended. `by_peer`: the peer closed it without a reason of ours. Returns whether it is contested.
    pub fn ended(&mut self, now: Instant, by_peer: bool) -> bool {
        let Some(since) = self.established.take() else {
            // The login did not succeed: says nothing either way.
            return false;
        };
        if by_peer && now.since(since) < SHORT_LIFE {
            self.rounds += 1;
        } else {
            self.rounds = 0;
        }
        self.rounds >= ROUNDS
    }

    /// The operator wants another try.
    pub fn forget(&mut self) {
        self.rounds = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn five_short_lives_in_a_row() {
        // (life in seconds, ended by peer, contested)
        let table = [
            (1, true, false),
            (1, true, false),
            (1, true, false),
            (1, true, false),
            (10, true, false),
            (1, true, false),
            (1, true, false),
            (1, false, false),
            (1, true, false),
            (1, true, false),
            (1, true, false),
            (9, true, false),
            (1, true, true),
        ];
        let mut contest = Contest::default();
        let mut now = 0;
        for (i, (life, by_peer, contested)) in table.into_iter().enumerate() {
            contest.established(at(now));
            now += life;
            assert_eq!(contest.ended(at(now), by_peer), contested, "round {i}");
            assert!(
                !contest.ended(at(now), true),
                "a failed login does not count"
            );
        }
    }
}
