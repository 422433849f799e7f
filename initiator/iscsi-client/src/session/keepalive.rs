//! Is the target still there? (RFC 7143, 11.18 and 11.19)
//!
//! ```text
//!   Listening ──ping_after without a byte──> Pinged ──ping_timeout without a byte──> Silent
//!       ^──────────────any byte──────────────────┘
//! ```
//!
//! Any received byte proves life, so a busy session never pings by itself. Who suspects silence earlier may send further
//! pings (`Session::ping`); they do not prolong the wait. Responses that nothing of ours acknowledges
//! for long get a bare NOP-Out, or the target would have to keep them.

use core::time::Duration;

use crate::time::Instant;

/// What the clock asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    /// Nothing yet.
    Nothing,
    /// A ping.
    Ping,
    /// A NOP-Out that only carries ExpStatSN.
    Acknowledgement,
    /// The end: the target is gone.
    Silence,
}

/// The timers of a session in full feature phase.
#[derive(Debug)]
pub(super) struct Keepalive {
    ping_after: Duration,
    ping_timeout: Duration,
    last_received: Instant,
    watch: Watch,
    unacknowledged_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
enum Watch {
    Listening,
    Pinged { at: Instant },
}

impl Keepalive {
    pub(super) fn new(now: Instant, ping_after: Duration, ping_timeout: Duration) -> Keepalive {
        Keepalive {
            ping_after,
            ping_timeout,
            last_received: now,
            watch: Watch::Listening,
            unacknowledged_since: None,
        }
    }

    /// At least one byte arrived.
    pub(super) fn heard(&mut self, now: Instant) {
        self.last_received = now;
        self.watch = Watch::Listening;
    }

    /// A ping was queued, or an older one is still unanswered.
    pub(super) fn pinged(&mut self, now: Instant) {
        if let Watch::Listening = self.watch {
            self.watch = Watch::Pinged { at: now };
        }
    }

    /// A numbered response arrived that our next PDU will acknowledge.
    pub(super) fn owes_acknowledgement(&mut self, now: Instant) {
        self.unacknowledged_since.get_or_insert(now);
    }

    /// A PDU with the current ExpStatSN left, or is about to.
    pub(super) fn acknowledged(&mut self) {
        self.unacknowledged_since = None;
    }

    pub(super) fn last_received(&self) -> Instant {
        self.last_received
    }

    /// The most urgent thing that is due.
    pub(super) fn due(&self, now: Instant) -> Due {
        match self.watch {
            Watch::Pinged { .. } if now >= self.watch_ends() => Due::Silence,
            Watch::Listening if now >= self.watch_ends() => Due::Ping,
            _ if self.acknowledge_at().is_some_and(|at| now >= at) => Due::Acknowledgement,
            _ => Due::Nothing,
        }
    }

    /// When [`Keepalive::due`] changes next.
    pub(super) fn next(&self) -> Instant {
        let watch = self.watch_ends();
        self.acknowledge_at().map_or(watch, |at| at.min(watch))
    }

    fn watch_ends(&self) -> Instant {
        match self.watch {
            Watch::Listening => self.last_received + self.ping_after,
            Watch::Pinged { at } => at + self.ping_timeout,
        }
    }

    fn acknowledge_at(&self) -> Option<Instant> {
        self.unacknowledged_since
            .map(|since| since + ACKNOWLEDGE_AFTER)
    }
}

/// Longer than usual ping intervals: an idle session's ping acknowledges by itself.
const ACKNOWLEDGE_AFTER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn keepalive() -> Keepalive {
        Keepalive::new(at(0), Duration::from_secs(2), Duration::from_secs(3))
    }

    #[test]
    fn ping_then_silence() {
        let mut alive = keepalive();
        assert_eq!((alive.next(), alive.due(at(1))), (at(2), Due::Nothing));
        assert_eq!(alive.due(at(2)), Due::Ping);
        alive.pinged(at(2));
        assert_eq!((alive.next(), alive.due(at(4))), (at(5), Due::Nothing));
        assert_eq!(alive.due(at(5)), Due::Silence);
    }

    #[test]
    fn any_byte_proves_life() {
        let mut alive = keepalive();
        alive.pinged(at(2));
        alive.heard(at(4));
        assert_eq!((alive.next(), alive.due(at(5))), (at(6), Due::Nothing));
    }

    #[test]
    fn a_second_ping_does_not_prolong_the_wait() {
        let mut alive = keepalive();
        alive.pinged(at(2));
        alive.pinged(at(4));
        assert_eq!(alive.due(at(5)), Due::Silence);
    }

    #[test]
    fn acknowledges_when_only_listening() {
        let mut alive = keepalive();
        alive.owes_acknowledgement(at(1));
        for second in 2..6 {
            alive.heard(at(second));
            assert_eq!(alive.due(at(second)), Due::Nothing);
            alive.owes_acknowledgement(at(second));
        }
        alive.heard(at(6));
        assert_eq!(
            (alive.next(), alive.due(at(6))),
            (at(6), Due::Acknowledgement)
        );
        alive.acknowledged();
        assert_eq!((alive.next(), alive.due(at(6))), (at(8), Due::Nothing));
    }
}
