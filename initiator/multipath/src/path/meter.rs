//! How fast a path delivers and how far away its target is, from the commands that it carries (SCHEDULING section
//! 6.1): Q(i,d) bytes asked for, B(i,d) delivery rate, R(i) round trip. Counts only what it is told; asks nothing of
//! the kernel.
//!
//! The rate is what was finished in a *span*, at least 10 ms and 8 completions long; the third best of the last ten counts.
//! A span in which the path was ever short of work says less than the truth, so it only counts where it says more.

mod flow;

use core::time::Duration;

use iscsi_client::time::Instant;

use crate::policy::eta::transfer_time;
use crate::policy::{Class, Direction, PerDirection};
use flow::Flow;

/// Rate of a path of which nothing is known, in bytes per second.
pub const START_RATE: u64 = 50 * 1024 * 1024;

/// The least round trip of so long counts, and of as long before.
const ROUND_TRIP_MEMORY: Duration = Duration::from_secs(5);
/// A delay is unexplained by up to so much; a retransmission timeout of 200 ms must not count as the path's habit.
const LATENCY_MAX: Duration = Duration::from_millis(30);
/// Each command moves the habit by a sixteenth of the difference.
const LATENCY_WEIGHT: u64 = 16;

/// A command on its way: what [`Meter::submitted`] gives, and [`Meter::completed`] or [`Meter::dropped`] takes back,
/// once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// When it left.
    pub at: Instant,
    /// Where its data go.
    pub direction: Option<Direction>,
    /// Its data in bytes.
    pub len: u32,
    /// How long it should take: R + (Q + S) / B as they were then, without the stall penalty.
    pub predicted: Duration,
    /// (Q + S) / B of that.
    moving: Duration,
    /// The path had nothing else to do.
    alone: bool,
}

/// What a completion says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Completion {
    /// From sent to completed.
    pub observed: Duration,
    /// As [`Sent::predicted`].
    pub predicted: Duration,
    /// It ended a span.
    pub span: Option<Span>,
}

/// A time over which a rate was measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Which way the data went.
    pub direction: Direction,
    /// Bytes per second.
    pub rate: u64,
    /// Mean delay of the commands that ended in it.
    pub delay: Duration,
}

/// The measurements of one path.
#[derive(Clone, Debug)]
pub struct Meter {
    flows: PerDirection<Flow>,
    in_flight: u32,
    round_trip: RoundTrip,
    /// Delay that the path's own queue does not explain, smoothed.
    latency: Duration,
    /// When it was seen last.
    latency_at: Instant,
}

impl Meter {
    /// A path that is taken to deliver `start_rate` bytes per second each way until it was measured: the speed of its
    /// link if known, else [`START_RATE`].
    pub fn new(start_rate: u64) -> Meter {
        let flow = Flow::new(start_rate.max(1));
        Meter {
            flows: PerDirection {
                read: flow,
                write: flow,
            },
            in_flight: 0,
            round_trip: RoundTrip::default(),
            latency: Duration::ZERO,
            latency_at: Instant::default(),
        }
    }

    /// A command leaves.
    pub fn submitted(&mut self, now: Instant, direction: Option<Direction>, len: u32) -> Sent {
        let moving = match direction {
            Some(direction) => {
                let flow = self.flows.of_mut(direction);
                flow.submitted(now, len);
                transfer_time(flow.queued(), flow.rate())
            }
            None => self
                .drain_time(Direction::Read)
                .max(self.drain_time(Direction::Write)),
        };
        let alone = self.in_flight == 0;
        self.in_flight += 1;
        Sent {
            at: now,
            direction,
            len,
            predicted: self.round_trip().saturating_add(moving),
            moving,
            alone,
        }
    }

    /// The command was carried out, its data moved. One that was refused is [`Meter::dropped`]: it says nothing of rates.
    pub fn completed(&mut self, now: Instant, sent: Sent) -> Completion {
        let observed = now.since(sent.at);
        // How long a flush or an UNMAP takes is no property of the path.
        if sent.direction.is_some() {
            self.delayed(now, &sent, observed.saturating_sub(sent.moving));
        }
        let round_trip = self.round_trip();
        self.in_flight = self.in_flight.saturating_sub(1);
        let span = sent.direction.and_then(|direction| {
            let flow = self.flows.of_mut(direction);
            let (rate, delay) = flow.completed(now, sent.len, observed, round_trip)?;
            Some(Span {
                direction,
                rate,
                delay,
            })
        });
        Completion {
            observed,
            predicted: sent.predicted,
            span,
        }
    }

    fn delayed(&mut self, now: Instant, sent: &Sent, unexplained: Duration) {
        if sent.alone && Class::of(sent.len) == Class::Small {
            self.round_trip.note(now, unexplained);
        }
        self.latency_at = now;
        let habit = self.latency.as_nanos() as u64;
        let sample = unexplained.min(LATENCY_MAX).as_nanos() as u64;
        self.latency =
            Duration::from_nanos((habit * (LATENCY_WEIGHT - 1) + sample) / LATENCY_WEIGHT);
    }

    /// The command is gone without its data: refused, aborted, or its session was lost.
    pub fn dropped(&mut self, sent: Sent) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(direction) = sent.direction {
            self.flows.of_mut(direction).dropped(sent.len);
        }
    }

    /// A ping, or a small command of the path's own, that was sent while nothing else was outstanding came back after
    /// so long.
    pub fn round_trip_seen(&mut self, now: Instant, time: Duration) {
        self.round_trip.note(now, time);
    }

    /// Q(i,d): bytes asked for and not finished.
    pub fn queued(&self, direction: Direction) -> u64 {
        self.flows.of(direction).queued()
    }

    /// B(i,d): bytes per second, never 0.
    pub fn rate(&self, direction: Direction) -> u64 {
        self.flows.of(direction).rate()
    }

    /// R(i); zero until it was seen.
    pub fn round_trip(&self) -> Duration {
        self.round_trip.least()
    }

    /// Delay that the path's own queue does not explain, smoothed: the round trip, and the time that the target's
    /// medium takes. At least [`Meter::round_trip`], and at most that or 30 ms.
    pub fn latency(&self) -> Duration {
        self.latency.max(self.round_trip())
    }

    /// What to expect of the next command beside its bytes: [`Meter::latency`], but what exceeds the round trip halves with
    /// every second in which the path was not tried. So a path of bad habits is left alone, and not for ever.
    pub fn expected_latency(&self, now: Instant) -> Duration {
        let round_trip = self.round_trip();
        let idle = now.since(self.latency_at).as_secs_f64();
        let more = self.latency().saturating_sub(round_trip);
        // From 0 to 1 whatever passed; the cast of a float saturates.
        let more = Duration::from_nanos((more.as_nanos() as f64 * (-idle).exp2()) as u64);
        round_trip.saturating_add(more)
    }

    /// Commands outstanding.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    fn drain_time(&self, direction: Direction) -> Duration {
        transfer_time(self.queued(direction), self.rate(direction))
    }
}

/// The least round trip of the last 5 to 10 s in which there were any. However long ago the last ones were, one more does
/// not replace them: if it was late by chance, the path would get no small command any more that could show it.
#[derive(Clone, Copy, Debug, Default)]
struct RoundTrip {
    /// Since when, and the least since then.
    current: Option<(Instant, Duration)>,
    /// The least of the half before.
    before: Option<Duration>,
}

impl RoundTrip {
    fn note(&mut self, now: Instant, time: Duration) {
        self.current = Some(match self.current {
            Some((since, least)) if now.since(since) < ROUND_TRIP_MEMORY => {
                (since, least.min(time))
            }
            Some((_, least)) => {
                self.before = Some(least);
                (now, time)
            }
            None => (now, time),
        });
    }

    fn least(&self) -> Duration {
        let current = self.current.map(|(_, least)| least);
        current
            .into_iter()
            .chain(self.before)
            .min()
            .unwrap_or(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests;
