//! Notices a session that somebody else takes away again and again: two hosts with one InitiatorName derive the same
//! ISIDs, and each login of one ends the session of the other, for ever (RFC 7143, 6.3.5). Fighting helps nobody
//! and each round costs both their IO, so the path says why and tries only once in [`PAUSE`].
//!
//! The mark of a stranger is a target that is well: it closes a young session, takes the very next login, and
//! closes that one soon as well. A target that restarts or a network that breaks keeps logins out in between; one
//! attempt that fails clears the suspicion. A suspicion that is wrong all the same costs a path one pause.

use core::time::Duration;

use iscsi_client::time::Instant;

/// A session that the peer ends within this time after its login may have been taken away.
const SHORT_LIFE: Duration = Duration::from_secs(10);
/// So many in a row, with no failed attempt in between, are no coincidence.
const ROUNDS: u8 = 5;
/// Between two attempts of a contested path.
pub(crate) const PAUSE: Duration = Duration::from_secs(60);
/// A contested session that lives so long is not contested any more: the other host is gone. Longer than the pause,
/// for two of these would take turns at it.
const PEACE: Duration = Duration::from_secs(180);

/// How a connection of the path ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The peer closed an established session without a reason of ours, or the network broke it.
    ByPeer,
    /// We closed it, or it told us why it would.
    Explained,
}

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

    /// A connection ended, with a session or before it had one. Returns whether the session is contested.
    pub fn ended(&mut self, now: Instant, ending: Ending) -> bool {
        let Some(since) = self.established.take() else {
            self.rounds = 0;
            return false;
        };
        let young = if self.rounds < ROUNDS {
            SHORT_LIFE
        } else {
            PEACE
        };
        if ending == Ending::ByPeer && now.since(since) < young {
            self.rounds = self.rounds.saturating_add(1);
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

    /// Lives of sessions in seconds, `None` for an attempt that failed, and how they ended; contested after each.
    fn lives(table: &[(Option<u64>, Ending, bool)]) {
        let mut contest = Contest::default();
        let mut now = 0;
        for (i, &(life, ending, contested)) in table.iter().enumerate() {
            if life.is_some() {
                contest.established(at(now));
            }
            now += life.unwrap_or(1);
            assert_eq!(contest.ended(at(now), ending), contested, "round {i}");
        }
    }

    use Ending::{ByPeer, Explained};

    #[test]
    fn five_short_lives_in_a_row() {
        lives(&[
            (Some(1), ByPeer, false),
            (Some(1), ByPeer, false),
            (Some(1), ByPeer, false),
            (Some(1), ByPeer, false),
            (Some(10), ByPeer, false),
            (Some(1), ByPeer, false),
            (Some(1), ByPeer, false),
            (Some(1), Explained, false),
            (Some(1), ByPeer, false),
            (Some(1), ByPeer, false),
            (Some(1), ByPeer, false),
            (Some(9), ByPeer, false),
            (Some(1), ByPeer, true),
        ]);
    }

    #[test]
    fn a_target_that_is_down_in_between_is_no_stranger() {
        let round = [(Some(1), ByPeer, false), (None, ByPeer, false)];
        lives(&[round; 20].concat());
    }

    #[test]
    fn once_contested_only_a_long_life_is_peace() {
        let mut table = vec![(Some(1), ByPeer, false); 4];
        table.extend([
            (Some(1), ByPeer, true),
            (Some(60), ByPeer, true),
            (Some(179), ByPeer, true),
            (Some(180), ByPeer, false),
            (Some(1), ByPeer, false),
        ]);
        lives(&table);
    }
}
