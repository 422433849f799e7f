//! One direction of a path: what is queued, and how fast it goes.
//!
//! Time counts while something is queued. A stretch of work that starts on an idle path has the round trip taken off,
//! in which nothing could arrive; one that ends soon is left out, since it says nothing about bytes.
//!
//! A span in which the path was short of work says less than the truth. That a stretch ends is no shortage, if it was long:
//! one large request after the other leaves the path idle in between, and its rate must be known all the same. And a path
//! of which nothing is known believes what it sees, if that was some bytes: any guess may be wrong by more.

use core::time::Duration;

use iscsi_client::time::Instant;

/// A span is at least so long ...
const SPAN_MIN: Duration = Duration::from_millis(10);
/// ... and has at least so many completions.
const COMPLETIONS_MIN: u32 = 8;
/// Spans that are remembered.
const SPANS: usize = 10;
/// One of so many spans may be better than what counts: what piles up while this process or the path pauses, and then comes
/// at once, makes one look several times as fast as the path is. Of ten, the third best counts.
const SPANS_PER_RANK: usize = 4;
/// A stretch of fewer bytes between two idle moments is mostly round trip.
const STRETCH_MIN: u64 = 64 * 1024;
/// A stretch of so many completions was busy to its end, though nothing is left then.
const LONG_STRETCH: u32 = 4;
/// A span of fewer bytes is no better than a guess.
const FIRST_MIN: u64 = 4 * STRETCH_MIN;

#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    queued: u64,
    /// What counts: of the last spans, or what it was taken for before there was any.
    rate: u64,
    /// Rates of the last spans, 0 where there was none yet.
    rates: [u64; SPANS],
    next: usize,
    /// What earlier stretches of the span brought.
    span: Work,
    /// Least that was left in the queue by a completion of the span, the ends of long stretches apart.
    least: u64,
    /// The stretch under way; `None` while nothing is queued.
    stretch: Option<Stretch>,
}

/// What was done in which time.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    time: Duration,
    bytes: u64,
    completions: u32,
    delays: Duration,
}

impl Work {
    fn and(self, other: Work) -> Work {
        Work {
            time: self.time.saturating_add(other.time),
            bytes: self.bytes.saturating_add(other.bytes),
            completions: self.completions.saturating_add(other.completions),
            delays: self.delays.saturating_add(other.delays),
        }
    }
}

/// From a moment when nothing was queued, or from the end of a span, to the last completion.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    since: Instant,
    origin: Origin,
    work: Work,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Origin {
    Idle,
    Span,
}

impl Flow {
    pub(super) fn new(start_rate: u64) -> Flow {
        Flow {
            queued: 0,
            rate: start_rate,
            rates: [0; SPANS],
            next: 0,
            span: Work::default(),
            least: u64::MAX,
            stretch: None,
        }
    }

    pub(super) fn queued(&self) -> u64 {
        self.queued
    }

    pub(super) fn rate(&self) -> u64 {
        self.rate
    }

    /// Kept, for it is asked for several times a command and changes once a span.
    fn best_of(rates: &[u64; SPANS]) -> u64 {
        let known = rates.iter().filter(|&&rate| rate > 0).count();
        let mut rates = *rates;
        rates.sort_unstable_by(|a, b| b.cmp(a));
        rates[known / SPANS_PER_RANK]
    }

    pub(super) fn submitted(&mut self, now: Instant, len: u32) {
        if self.queued == 0 {
            self.stretch = Some(Stretch {
                since: now,
                origin: Origin::Idle,
                work: Work::default(),
            });
        }
        self.queued = self.queued.saturating_add(len.into());
    }

    pub(super) fn dropped(&mut self, len: u32) {
        self.queued = self.queued.saturating_sub(len.into());
        // What comes back no longer follows from what was asked for: this much is not measured.
        self.stretch = None;
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
        let Some(stretch) = &mut self.stretch else {
            // After something was dropped: the next measurement starts here.
            self.stretch = self.continued(now);
            return None;
        };
        stretch.work.bytes = stretch.work.bytes.saturating_add(len.into());
        stretch.work.completions += 1;
        stretch.work.delays = stretch.work.delays.saturating_add(observed);
        let passed = now.since(stretch.since);
        stretch.work.time = match stretch.origin {
            // By half at most: a round trip that was never measured well must not make a path infinitely fast.
            Origin::Idle => passed - round_trip.min(passed / 2),
            Origin::Span => passed,
        };
        let stretch = *stretch;
        if self.queued > 0 || stretch.work.completions < LONG_STRETCH {
            self.least = self.least.min(self.queued);
        }
        let span = self.span.and(stretch.work);
        if span.time >= SPAN_MIN && span.completions >= COMPLETIONS_MIN {
            let measured = self.end_span(&span, round_trip);
            self.stretch = self.continued(now);
            return Some(measured);
        }
        if self.queued == 0 {
            if stretch.work.bytes >= STRETCH_MIN {
                self.span = span;
            }
            self.stretch = None;
        }
        None
    }

    fn end_span(&mut self, span: &Work, round_trip: Duration) -> (u64, Duration) {
        let nanos = u64::try_from(span.time.as_nanos()).unwrap_or(u64::MAX);
        let rate = (span.bytes.saturating_mul(1_000_000_000) / nanos).max(1);
        // With less queued than fits into a round trip, the rate says how much was asked for, not how fast the path is.
        let in_transit = u128::from(rate).saturating_mul(round_trip.as_nanos()) / 1_000_000_000;
        let supplied = self.least > 0 && u128::from(self.least) >= in_transit;
        let first = self.rates == [0; SPANS] && self.least > 0 && span.bytes >= FIRST_MIN;
        if supplied || first || rate > self.rate() {
            self.rates[self.next] = rate;
            self.next = (self.next + 1) % SPANS;
            self.rate = Flow::best_of(&self.rates);
        }
        self.span = Work::default();
        self.least = u64::MAX;
        (rate, span.delays / span.completions)
    }

    /// A stretch that goes on from a completion, if there is something left to do.
    fn continued(&self, now: Instant) -> Option<Stretch> {
        (self.queued > 0).then_some(Stretch {
            since: now,
            origin: Origin::Span,
            work: Work::default(),
        })
    }
}
