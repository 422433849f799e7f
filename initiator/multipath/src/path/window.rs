//! Bytes that may be outstanding on a path in one direction: W(i,d) (SCHEDULING section 6.5). Enough to keep the path
//! busy, and 2 ms more: so much a small command waits behind bulk at most, and so little is trapped on a path that
//! dies.
//!
//! Two things differ from the formula B x (R + 2 ms). Its round trip is the path's latency, medium included, not the least
//! one: behind a medium that takes 5 ms, a window for 2 ms would leave the medium idle. And what is in transit is rounded
//! up to whole chunks: a window that allows half a chunk less than the path holds is filled with a chunk too few, the
//! rate then seen makes the next window as small, and the path never gets faster.
//!
//! For the same reason it experiments: a rate that is limited by the window looks like any other. From time to time a
//! quarter more is tried, and kept if the rate follows; or a fifth less, and kept if the rate stays. And as in a queue
//! of controlled delay, it is halved when delay rises and the rate does not.

use core::time::Duration;

use crate::path::meter::Span;
use crate::policy::Class;
use crate::policy::chunk::{CHUNK_MAX, chunk_max};

/// What may wait in front of the path, in time.
const TARGET: Duration = Duration::from_millis(2);
/// Two chunks at least: while the answer to one is on its way, the next must be there, or the path idles for a round trip.
/// And so much for small commands beside them, which would keep the second chunk out otherwise.
const BESIDE: u64 = Class::SMALL_MAX as u64;
/// Experiments lead to no more than so much above the formula.
const EXTRA_MAX: u64 = 64 * CHUNK_MAX as u64;
/// The window is cut in eighths.
const WHOLE: u64 = 8;
/// The comparison starts anew after so many spans: what was good a while ago is no yardstick.
const YARDSTICK_SPANS: u32 = 32;
/// Spans between two experiments.
const QUIET_SPANS: u32 = 64;
/// Spans whose mean rate is compared.
const MEAN_SPANS: u32 = 4;

/// The window of one direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// What experience adds to the formula, whole chunks.
    extra: u64,
    /// How many eighths of that are allowed; less than all after delay rose.
    eighths: u64,
    yardstick: Option<Yardstick>,
    phase: Phase,
}

/// The best combination of rate and delay lately.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Yardstick {
    rate: u64,
    delay: Duration,
    spans: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Between two experiments: how many spans since the last one, and what the latest of them brought.
    Quiet { spans: u32, rates: Mean },
    /// The window was changed; the span under way still has some of the old one.
    Settling(Trial),
    /// The effect is being measured.
    Trying { trial: Trial, rates: Mean },
}

/// An experiment with the window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Trial {
    change: Change,
    /// What to go back to.
    extra: u64,
    /// The rate with that.
    rate: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Change {
    More,
    Less,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Mean {
    sum: u64,
    count: u32,
}

impl Mean {
    fn and(self, rate: u64) -> Mean {
        Mean {
            sum: self.sum.saturating_add(rate),
            count: self.count + 1,
        }
    }

    fn value(self) -> u64 {
        self.sum / u64::from(self.count.max(1))
    }
}

impl Phase {
    const START: Phase = Phase::Quiet {
        spans: QUIET_SPANS - MEAN_SPANS,
        rates: Mean { sum: 0, count: 0 },
    };
    const REST: Phase = Phase::Quiet {
        spans: 0,
        rates: Mean { sum: 0, count: 0 },
    };
}

impl Default for Window {
    fn default() -> Window {
        Window {
            extra: 0,
            eighths: WHOLE,
            yardstick: None,
            phase: Phase::START,
        }
    }
}

impl Window {
    /// B x R in whole chunks, and what moves in 2 ms or a chunk; two chunks and a little at least. More or less than
    /// that as experience says.
    pub fn bytes(&self, rate: u64, latency: Duration) -> u64 {
        let chunk = chunk_at(rate);
        let in_transit = moved(rate, latency).div_ceil(chunk).saturating_mul(chunk);
        let queued = moved(rate, TARGET).max(chunk);
        // Not even rising delay makes it less: the path would idle, and that looks like a slower path.
        let least = 2 * chunk + BESIDE;
        let bytes = in_transit.saturating_add(queued).max(least);
        let bytes = bytes.saturating_add(self.extra);
        (bytes / WHOLE).saturating_mul(self.eighths).max(least)
    }

    /// A span of this direction was measured, while the window had so many bytes.
    pub fn measured(&mut self, span: &Span, window: u64) {
        if self.delay_rose(span) {
            self.eighths = (self.eighths / 2).max(1);
            self.phase = Phase::REST;
        } else if self.eighths < WHOLE {
            self.eighths += 1;
        } else {
            self.experiment(span.rate, window);
        }
    }

    /// Whether delay has risen by half and 1 ms, and the rate has not.
    fn delay_rose(&mut self, span: &Span) -> bool {
        let fresh = Yardstick {
            rate: span.rate,
            delay: span.delay,
            spans: 0,
        };
        let Some(yardstick) = &mut self.yardstick else {
            self.yardstick = Some(fresh);
            return false;
        };
        yardstick.spans += 1;
        let faster = span.rate > yardstick.rate.saturating_add(yardstick.rate / 20);
        let bearable = yardstick
            .delay
            .saturating_add(yardstick.delay / 2)
            .saturating_add(Duration::from_millis(1));
        let rose = !faster && span.delay > bearable;
        let old = yardstick.spans >= YARDSTICK_SPANS;
        if rose || faster || old || span.delay < yardstick.delay {
            self.yardstick = Some(fresh);
        }
        rose
    }

    fn experiment(&mut self, rate: u64, window: u64) {
        self.phase = match self.phase {
            Phase::Quiet { spans, rates } => {
                let spans = spans + 1;
                let recent = spans > QUIET_SPANS - MEAN_SPANS;
                let rates = if recent { rates.and(rate) } else { rates };
                if spans < QUIET_SPANS {
                    Phase::Quiet { spans, rates }
                } else if self.extra > 0 {
                    // More than the formula says must prove itself again and again.
                    self.attempt(Change::Less, rates.value(), window)
                } else {
                    self.attempt(Change::More, rates.value(), window)
                }
            }
            Phase::Settling(trial) => Phase::Trying {
                trial,
                rates: Mean::default(),
            },
            Phase::Trying { trial, rates } => {
                let rates = rates.and(rate);
                if rates.count < MEAN_SPANS {
                    Phase::Trying { trial, rates }
                } else {
                    self.conclude(trial, rates.value(), window)
                }
            }
        };
    }

    /// Changes the window by a quarter or a fifth, a chunk at least: by less than that nothing would change.
    fn attempt(&mut self, change: Change, rate: u64, window: u64) -> Phase {
        let extra = self.extra;
        let chunk = chunk_at(rate);
        let step = |part: u64| (window / part).div_ceil(chunk).saturating_mul(chunk);
        self.extra = match change {
            Change::More => extra.saturating_add(step(4)).min(EXTRA_MAX),
            Change::Less => extra.saturating_sub(step(5)),
        };
        if self.extra == extra {
            return Phase::REST;
        }
        Phase::Settling(Trial {
            change,
            extra,
            rate,
        })
    }

    fn conclude(&mut self, trial: Trial, rate: u64, window: u64) -> Phase {
        let worth_it = match trial.change {
            // Half of what a path that is limited by its window would gain or lose. Less is what rates differ by anyway, and
            // would lead upwards by chance, for more is kept as long as less is seen to cost something.
            Change::More => rate >= trial.rate.saturating_add(trial.rate / 12),
            Change::Less => rate >= trial.rate - trial.rate / 10,
        };
        if worth_it {
            // A step in the right direction is followed by the next at once.
            return self.attempt(trial.change, rate, window);
        }
        self.extra = trial.extra;
        match trial.change {
            Change::More => Phase::REST,
            // It is needed: is more needed?
            Change::Less => self.attempt(Change::More, trial.rate, window),
        }
    }
}

/// The chunk by which the window of a path of this rate is measured.
fn chunk_at(rate: u64) -> u64 {
    chunk_max(rate).into()
}

/// Bytes that move in this time.
fn moved(rate: u64, time: Duration) -> u64 {
    let bytes = u128::from(rate).saturating_mul(time.as_nanos()) / 1_000_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Direction;

    const GIGABIT: u64 = 117_700_000;
    const TEN_GIGABIT: u64 = 10 * GIGABIT;
    const CHUNK: u64 = CHUNK_MAX as u64;

    fn span(rate: u64, delay_us: u64) -> Span {
        Span {
            direction: Direction::Read,
            rate,
            delay: Duration::from_micros(delay_us),
        }
    }

    #[test]
    fn the_formula_in_whole_chunks() {
        // (bytes per second, latency in us, KiB)
        for (rate, latency, kib) in [
            (0, 0, 160),
            (1, 1_000_000, 160),
            (11_770_000, 200, 160),
            (30_000_000, 200, 288),
            (GIGABIT, 200, 357),
            (GIGABIT, 5200, 869),
            (294_000_000, 200, 702),
        ] {
            let bytes = Window::default().bytes(rate, Duration::from_micros(latency));
            assert_eq!(bytes / 1024, kib, "{rate} {latency}");
        }
        assert!(Window::default().bytes(u64::MAX, Duration::MAX) > 1 << 60);
    }

    #[test]
    fn delay_that_rises_alone_halves_it() {
        let bytes = |window: &Window| window.bytes(TEN_GIGABIT, Duration::from_micros(200));
        let mut window = Window::default();
        let whole = bytes(&window);
        window.measured(&span(TEN_GIGABIT, 2000), whole);
        window.measured(&span(TEN_GIGABIT, 3900), whole);
        assert_eq!(bytes(&window), whole, "not by half and 1 ms");
        window.measured(&span(TEN_GIGABIT, 4100), whole);
        assert_eq!(bytes(&window), whole / 8 * 4);
        // From the new delay on: no news, and it comes back by eighths.
        for eighths in 5..=8 {
            window.measured(&span(TEN_GIGABIT, 4100), whole);
            assert_eq!(bytes(&window), whole / 8 * eighths);
        }
        // Again and again: what keeps the path busy is left.
        for delay in 1..20 {
            window.measured(&span(TEN_GIGABIT, 4100 << delay), whole);
        }
        assert_eq!(bytes(&window), whole / WHOLE);
        // But for what keeps the path busy.
        let gigabit = window.bytes(GIGABIT, Duration::from_micros(200));
        assert_eq!(gigabit, 2 * CHUNK + BESIDE);
    }

    #[test]
    fn delay_that_rises_with_the_rate_is_a_larger_load() {
        let mut window = Window::default();
        for (rate, delay) in [(10, 300), (20, 900), (60, 2500), (117, 9000)] {
            window.measured(&span(rate * 1_000_000, delay), 1 << 20);
        }
        assert_eq!(window.eighths, WHOLE);
    }

    /// Spans of a path whose rate follows from its window, and the extra after them.
    fn experience(window: &mut Window, spans: u32, rate: fn(u64) -> u64) -> u64 {
        for _ in 0..spans {
            // The formula's part stays the same: what is left is the experiment.
            let bytes = window.bytes(GIGABIT, Duration::ZERO);
            window.measured(&span(rate(bytes), 5000), bytes);
        }
        window.extra
    }

    #[test]
    fn a_rate_that_follows_the_window_makes_it_larger() {
        let mut window = Window::default();
        // A medium of 5 ms behind a link that could do four times as much.
        let latency_bound = |bytes: u64| bytes * 200;
        let extra = experience(&mut window, 2000, latency_bound);
        assert!(extra >= 32 * CHUNK, "{extra}");
        // The load changes: the link is the limit, whatever the window.
        let link_bound = |_| GIGABIT;
        let extra = experience(&mut window, 2000, link_bound);
        assert!(extra <= CHUNK, "{extra}");
    }
}
