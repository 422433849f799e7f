//! One direction of a path: what is queued, and how fast it goes.

use core::time::Duration;

use iscsi_client::time::Instant;

/// A span is at least so long ...
const SPAN_MIN: Duration = Duration::from_millis(10);
/// ... and has at least so many completions.
const COMPLETIONS_MIN: u32 = 8;
/// Spans that are remembered.
const SPANS: usize = 10;

#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    queued: u64,
    start_rate: u64,
    /// Rates of the last spans, 0 where there was none yet.
    rates: [u64; SPANS],
    next: usize,
    span: Option<Running>,
}

/// The span that is being measured. It starts with a completion, so that the wait for the first bytes is no part of it.
#[derive(Clone, Copy, Debug)]
struct Running {
    since: Instant,
    bytes: u64,
    completions: u32,
    delays: Duration,
    supply: Supply,
}

/// Whether the path had work enough.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Supply {
    Full,
    /// There was a moment when less was queued than fits into the round trip.
    Short,
}

impl Flow {
    pub(super) fn new(start_rate: u64) -> Flow {
        Flow {
            queued: 0,
            start_rate,
            rates: [0; SPANS],
            next: 0,
            span: None,
        }
    }

    pub(super) fn queued(&self) -> u64 {
        self.queued
    }

    pub(super) fn rate(&self) -> u64 {
        let best = self.rates.iter().copied().max().unwrap_or(0);
        if best == 0 { self.start_rate } else { best }
    }

    pub(super) fn submitted(&mut self, len: u32) {
        self.queued = self.queued.saturating_add(len.into());
    }

    pub(super) fn dropped(&mut self, len: u32) {
        self.queued = self.queued.saturating_sub(len.into());
        // What was finished no longer follows from what was asked for.
        self.span = None;
    }

    /// Returns rate and mean delay of the span that this completion ended.
    pub(super) fn completed(
        &mut self,
        now: Instant,
        len: u32,
        observed: Duration,
        round_trip: Duration,
    ) -> Option<(u64, Duration)> {
        self.queued = self.queued.saturating_sub(len.into());
        let supply = if self.queued == 0 || self.queued < self.in_transit(round_trip) {
            Supply::Short
        } else {
            Supply::Full
        };
        let fresh = Running {
            since: now,
            bytes: 0,
            completions: 0,
            delays: Duration::ZERO,
            supply,
        };
        let Some(span) = &mut self.span else {
            self.span = Some(fresh);
            return None;
        };
        span.bytes = span.bytes.saturating_add(len.into());
        span.completions += 1;
        span.delays = span.delays.saturating_add(observed);
        let elapsed = now.since(span.since);
        if elapsed < SPAN_MIN || span.completions < COMPLETIONS_MIN {
            if supply == Supply::Short {
                span.supply = Supply::Short;
            }
            return None;
        }
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let rate = (span.bytes.saturating_mul(1_000_000_000) / nanos).max(1);
        let delay = span.delays / span.completions;
        let supplied = span.supply == Supply::Full;
        if supplied || rate > self.rate() {
            self.rates[self.next] = rate;
            self.next = (self.next + 1) % SPANS;
        }
        self.span = Some(fresh);
        Some((rate, delay))
    }

    /// Bytes that fit into a round trip: with less queued, the rate says how much was asked for, not how fast the
    /// path is.
    fn in_transit(&self, round_trip: Duration) -> u64 {
        let bytes = u128::from(self.rate()) * round_trip.as_nanos() / 1_000_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}
