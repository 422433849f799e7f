//! Is a session late, and is its portal dead?
//!
//! Two questions with two clocks. A command is *late* when it takes longer than those before it: mean and deviation of the
//! answers (RFC 6298), 20 ms at least. What may be sent twice is then sent through another portal, so that a portal that
//! was cut costs a renewal no more than that; a target that is only slow gets a sector too many. That much is cheap,
//! so it may be wrong.
//!
//! To give the session up costs a login, and is decided by TCP alone: nothing of what is on the wire was acknowledged for
//! 100 ms (and 20 round trips) although the target was pinged, while another portal was heard in the second half of
//! that time. A target that is stuck acknowledges; one whose window is closed leaves nothing on the wire. Time in which
//! this thread did not run counts against nobody, for a verdict needs a fresh look.

use std::time::Duration;

use iscsi_client::time::Instant;

/// Shortest time after which a command is late.
const LATE_MIN: Duration = Duration::from_millis(20);
/// The same while nothing was measured.
const LATE_FIRST: Duration = Duration::from_millis(40);
/// Nothing acknowledged for so long: dead, if another portal lives.
const DEAD_AFTER: Duration = Duration::from_millis(100);
/// The statistics of a suspect session are read so often.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// While a session is suspect, the others show so often that the target lives.
pub(super) const WITNESS_EVERY: Duration = Duration::from_millis(30);

/// What TCP knows of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TcpSeen {
    /// Segments on the wire that were not acknowledged; none while the peer's window is closed.
    pub unacked: u32,
    /// Since the last acknowledgement of any kind.
    pub since_ack: Duration,
    /// Smoothed round trip; zero if there was none.
    pub round_trip: Duration,
}

/// The clocks of one nexus.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Silence {
    /// How long answers take, and how much that varies.
    answers: Option<(Duration, Duration)>,
    suspect: Option<Suspect>,
}

/// A session that owes an answer and says nothing.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    since: Instant,
    next_look: Instant,
    /// Every look since then saw segments on the wire.
    waiting_since: Option<Instant>,
}

impl Silence {
    /// A new connection. What was learned about the target stays.
    pub fn connected(&mut self) {
        self.suspect = None;
    }

    /// A command was answered after so long.
    pub fn answered(&mut self, took: Duration) {
        self.answers = Some(match self.answers {
            None => (took, took / 2),
            Some((mean, deviation)) => {
                let off = mean.abs_diff(took);
                (mean * 7 / 8 + took / 8, deviation * 3 / 4 + off / 4)
            }
        });
    }

    /// How long a command takes until it is late; `most` at most.
    pub fn late_after(&self, most: Duration) -> Duration {
        let usual = self.answers.map(|(mean, deviation)| mean + 4 * deviation);
        usual.unwrap_or(LATE_FIRST).max(LATE_MIN).min(most)
    }

    /// A command is late, and nothing was received since it was sent.
    pub fn suspect(&mut self, now: Instant) {
        self.suspect.get_or_insert(Suspect {
            since: now,
            next_look: now,
            waiting_since: None,
        });
    }

    /// When bytes were last received.
    pub fn heard(&mut self, at: Instant) {
        if self.suspect.is_some_and(|suspect| suspect.since < at) {
            self.suspect = None;
        }
    }

    pub fn is_suspect(&self) -> bool {
        self.suspect.is_some()
    }

    /// When the statistics of its connection are wanted.
    pub fn next_look(&self) -> Option<Instant> {
        self.suspect.map(|suspect| suspect.next_look)
    }

    /// The statistics; `None` if they cannot be read. True: the portal is dead, if it is so that another one of the same
    /// target was heard at `witness`.
    pub fn look(&mut self, now: Instant, seen: Option<TcpSeen>, witness: Instant) -> bool {
        let Some(suspect) = &mut self.suspect else {
            return false;
        };
        suspect.next_look = now + LOOK_EVERY;
        let Some(seen) = seen.filter(|seen| seen.unacked > 0) else {
            suspect.waiting_since = None;
            return false;
        };
        let waiting = *suspect.waiting_since.get_or_insert(now);
        let acknowledged = now.nanos().saturating_sub(nanos(seen.since_ack));
        let since = waiting.max(Instant::from_nanos(acknowledged));
        let limit = DEAD_AFTER.max(20 * seen.round_trip);
        now.since(since) >= limit && witness >= since + limit / 2
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(1_000_000_000 + millis * 1_000_000)
    }

    fn on_the_wire(since_ack: u64) -> Option<TcpSeen> {
        Some(TcpSeen {
            unacked: 2,
            since_ack: ms(since_ack),
            round_trip: ms(1),
        })
    }

    #[test]
    fn late_is_what_takes_longer_than_the_others() {
        let mut silence = Silence::default();
        assert_eq!(silence.late_after(ms(500)), LATE_FIRST);
        for _ in 0..50 {
            silence.answered(ms(1));
        }
        assert_eq!(silence.late_after(ms(500)), LATE_MIN);
        for _ in 0..50 {
            silence.answered(ms(100));
        }
        let late = silence.late_after(ms(500));
        assert!(late > ms(100) && late < ms(130), "{late:?}");
        silence.answered(ms(9_000));
        assert_eq!(silence.late_after(ms(500)), ms(500));
    }

    #[test]
    fn dead_is_what_acknowledges_nothing_while_another_lives() {
        let mut silence = Silence::default();
        assert!(
            !silence.look(at(0), on_the_wire(900), at(0)),
            "nobody asked"
        );
        silence.suspect(at(0));
        assert!(!silence.look(at(0), on_the_wire(900), at(0)));
        assert_eq!(silence.next_look(), Some(at(10)));
        assert!(!silence.look(at(99), on_the_wire(999), at(98)));
        // Both may have gone at once.
        assert!(!silence.look(at(110), on_the_wire(1010), at(49)));
        assert!(silence.look(at(110), on_the_wire(1010), at(50)));
    }

    #[test]
    fn a_kernel_that_acknowledges_lives() {
        let mut silence = Silence::default();
        silence.suspect(at(0));
        assert!(!silence.look(at(0), on_the_wire(0), at(0)));
        assert!(!silence.look(at(150), on_the_wire(60), at(150)));
        // A closed window, or all acknowledged: the time begins anew.
        let nothing = on_the_wire(60).map(|seen| TcpSeen { unacked: 0, ..seen });
        assert!(!silence.look(at(300), nothing, at(300)));
        assert!(!silence.look(at(310), on_the_wire(500), at(310)));
        assert!(silence.look(at(410), on_the_wire(600), at(410)));
        silence.heard(at(411));
        assert!(!silence.is_suspect());
    }

    #[test]
    fn a_long_line_has_more_time() {
        let mut silence = Silence::default();
        silence.suspect(at(0));
        let far = |now: u64| TcpSeen {
            unacked: 2,
            since_ack: ms(now),
            round_trip: ms(20),
        };
        assert!(!silence.look(at(0), Some(far(0)), at(0)));
        assert!(!silence.look(at(399), Some(far(399)), at(399)));
        assert!(silence.look(at(400), Some(far(400)), at(400)));
    }
}
