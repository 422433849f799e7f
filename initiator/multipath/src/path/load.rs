//! What a path carries, and what that says of it: meter, windows, stall penalty and ramp, moved together by each command
//! that leaves or comes back. From here come the numbers that a policy chooses by.

use core::time::Duration;

use iscsi_client::time::Instant;

use super::meter::{Meter, Sent};
use super::ramp::Ramp;
use super::stall::{self, Stall};
use super::window::Window;
use crate::contract::{PathId, PathPace};
use crate::policy::{AccessClass, Candidate, Direction, PerDirection, Standing};

/// The load of one path.
#[derive(Clone, Debug)]
pub struct Load {
    meter: Meter,
    windows: PerDirection<Window>,
    stall: Stall,
    ramp: Ramp,
}

impl Load {
    /// Nothing under way, and no probation. `start_rate` as for [`Meter::new`].
    pub fn new(start_rate: u64) -> Load {
        Load {
            meter: Meter::new(start_rate),
            windows: PerDirection::default(),
            stall: Stall::default(),
            ramp: Ramp::Done,
        }
    }

    /// The path came back: what was measured before counts on, but it carries little at first.
    pub fn returned(&mut self, now: Instant) {
        self.ramp = Ramp::start(now);
    }

    /// A command leaves on this path. To be given back once, to [`Load::completed`] or [`Load::dropped`].
    pub fn submitted(&mut self, now: Instant, direction: Option<Direction>, len: u32) -> Sent {
        self.ramp.sent_here(len);
        self.meter.submitted(now, direction, len)
    }

    /// A command left on another path of the volume.
    pub fn sent_elsewhere(&mut self, len: u32) {
        self.ramp.sent_elsewhere(len);
    }

    /// The command was carried out, its data moved.
    pub fn completed(&mut self, now: Instant, sent: Sent) {
        let completion = self.meter.completed(now, sent);
        if let Some(span) = completion.span {
            let window = self.window(span.direction);
            self.windows.of_mut(span.direction).measured(&span, window);
        }
        // A flush takes what it takes.
        if sent.direction.is_none() {
            return;
        }
        let excess = stall::excess(completion.observed, completion.predicted);
        self.stall.note(now, excess);
        if excess < stall::EXCESS_MAX {
            let window = self
                .window(Direction::Read)
                .saturating_add(self.window(Direction::Write));
            self.ramp.clean(now, sent.at, window);
        } else {
            self.ramp.stalled(now);
        }
    }

    /// The command is gone without its data: refused, aborted, or its session was lost.
    pub fn dropped(&mut self, sent: Sent) {
        self.meter.dropped(sent);
    }

    /// The command is overdue: what comes next should not wait for its end to know.
    pub fn late(&mut self, now: Instant, sent: &Sent) {
        let excess = stall::excess(now.since(sent.at), sent.predicted);
        self.stall.note(now, excess);
        self.ramp.stalled(now);
    }

    /// The path became suspect.
    pub fn suspected(&mut self, now: Instant) {
        self.stall.note(now, stall::EXCESS_MAX);
        self.ramp.stalled(now);
    }

    /// As [`Meter::round_trip_seen`].
    pub fn round_trip_seen(&mut self, now: Instant, time: Duration) {
        self.meter.round_trip_seen(now, time);
    }

    /// W(i,d) in bytes.
    pub fn window(&self, direction: Direction) -> u64 {
        let (rate, latency) = (self.meter.rate(direction), self.meter.latency());
        self.windows.of(direction).bytes(rate, latency)
    }

    /// When a command that has just left is late, and a read so for [`Hedging::wanted`]: 3 x its ETA, stall penalty included.
    ///
    /// [`Hedging::wanted`]: crate::policy::hedge::Hedging::wanted
    pub fn late_at(&self, sent: &Sent) -> Instant {
        let eta = sent.predicted.saturating_add(self.stall.penalty(sent.at));
        crate::policy::hedge::Hedging::late_at(sent.at, eta)
    }

    /// The measurements.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// The stall penalty.
    pub fn stall(&self, now: Instant) -> Duration {
        self.stall.penalty(now)
    }

    /// The probation.
    pub fn ramp(&self) -> &Ramp {
        &self.ramp
    }

    /// What it can do, for `status`.
    pub fn pace(&self) -> PathPace {
        let both = |value: &dyn Fn(Direction) -> u64| PerDirection {
            read: value(Direction::Read),
            write: value(Direction::Write),
        };
        PathPace {
            rate: both(&|direction| self.meter.rate(direction)),
            window: both(&|direction| self.window(direction)),
            latency: self.meter.latency(),
            stall: self.stall,
            probation: self.ramp.is_probation(),
        }
    }

    /// The path as a policy sees it. `open`: its session has room, and its depth limit allows one more.
    pub fn candidate(
        &self,
        now: Instant,
        path: PathId,
        access: AccessClass,
        standing: Standing,
        open: bool,
    ) -> Candidate {
        let both = |value: &dyn Fn(Direction) -> u64| PerDirection {
            read: value(Direction::Read),
            write: value(Direction::Write),
        };
        Candidate {
            path,
            access,
            standing,
            open,
            in_flight: self.meter.in_flight(),
            queued: both(&|direction| self.meter.queued(direction)),
            rate: both(&|direction| self.meter.rate(direction)),
            latency: self.meter.expected_latency(now),
            stall: self.stall.penalty(now),
            window: both(&|direction| self.window(direction)),
            allowance: self.ramp.allowance(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::meter::START_RATE;
    use crate::policy::Allowance;

    const READ: Option<Direction> = Some(Direction::Read);

    fn at(micros: u64) -> Instant {
        Instant::from_nanos(micros * 1000)
    }

    fn candidate(load: &Load, now: Instant) -> Candidate {
        let (access, standing) = (AccessClass::Optimized, Standing::Full);
        load.candidate(now, PathId(3), access, standing, true)
    }

    #[test]
    fn a_candidate_is_what_was_measured() {
        let mut load = Load::new(100_000_000);
        load.round_trip_seen(at(0), Duration::from_micros(200));
        let sent = load.submitted(at(0), READ, 100_000);
        load.submitted(at(0), Some(Direction::Write), 5000);
        let seen = candidate(&load, at(0));
        assert_eq!(seen.path, PathId(3));
        assert_eq!(seen.in_flight, 2);
        assert_eq!((seen.queued.read, seen.queued.write), (100_000, 5000));
        assert_eq!(
            (seen.rate.read, seen.rate.write),
            (100_000_000, 100_000_000)
        );
        assert_eq!(seen.latency, Duration::from_micros(200));
        assert_eq!(seen.stall, Duration::ZERO);
        assert_eq!(seen.window.read, load.window(Direction::Read));
        assert_eq!(seen.allowance, Allowance::Unlimited);
        load.completed(at(1200), sent);
        assert_eq!(candidate(&load, at(1200)).in_flight, 1);
    }

    #[test]
    fn a_late_answer_costs_for_a_while() {
        let mut load = Load::new(START_RATE);
        let sent = load.submitted(at(0), READ, 4096);
        load.completed(at(300_000), sent);
        let penalty = load.stall(at(300_000));
        assert_eq!(penalty, stall::EXCESS_MAX / 8);
        // And later ones are given more time before they count as late.
        let next = load.submitted(at(300_000), READ, 4096);
        assert_eq!(
            load.late_at(&next),
            next.at + (next.predicted + penalty) * 3
        );
        assert!(load.stall(at(3_000_000)) < Duration::from_micros(50));
    }

    #[test]
    fn a_slow_flush_is_not_blamed_on_the_path() {
        let mut load = Load::new(START_RATE);
        load.returned(at(0));
        let before = *load.ramp();
        let sent = load.submitted(at(0), None, 0);
        load.completed(at(900_000), sent);
        assert_eq!(load.stall(at(900_000)), Duration::ZERO);
        assert_eq!(load.meter().latency(), Duration::ZERO);
        assert_eq!(*load.ramp(), before);
        assert_eq!(load.meter().in_flight(), 0);
    }

    #[test]
    fn an_overdue_command_costs_before_its_end() {
        let mut load = Load::new(START_RATE);
        let sent = load.submitted(at(0), READ, 4096);
        load.late(at(5000), &sent);
        assert!(load.stall(at(5000)) > Duration::from_micros(500));
    }

    #[test]
    fn a_path_that_returned_starts_with_a_chunk_and_ends_without_limit() {
        let mut load = Load::new(START_RATE);
        load.round_trip_seen(at(0), Duration::from_micros(200));
        load.returned(at(0));
        let chunk = Allowance::Bytes(128 * 1024);
        assert_eq!(candidate(&load, at(0)).allowance, chunk);
        let mut now = 0;
        let mut limits = vec![];
        while load.ramp().is_probation() {
            let Allowance::Bytes(limit) = load.ramp().allowance(at(now)) else {
                panic!("on probation, and far from its share");
            };
            limits.push(limit / 1024);
            load.sent_elsewhere(100 * 4096);
            let sent = load.submitted(at(now), READ, 4096);
            now += 250_000;
            // In time, but the third.
            let late = if limits.len() == 3 { 200_000 } else { 300 };
            load.completed(at(now - 250_000 + late), sent);
        }
        assert_eq!(limits, [128, 256, 512, 128, 256, 512]);
        load.suspected(at(now));
        assert!(!load.ramp().is_probation());
        assert_eq!(
            load.stall(at(now)),
            load.stall(at(now)).max(stall::EXCESS_MAX / 9)
        );
    }
}
