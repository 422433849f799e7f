//! Bytes that may be outstanding on a path in one direction: W(i,d) (SCHEDULING section 6.5). Enough to keep the path
//! busy, and 2 ms more: so much a small command waits behind bulk at most, and so little is trapped on a path that
//! dies.
//!
//! Two things differ from the formula B x (R + 2 ms). Its round trip is the path's latency, medium included, not the least
//! one: behind a medium that takes 5 ms, a window for 2 ms would leave the medium idle. And what is in transit is rounded
//! up to whole chunks: a window that allows half a chunk less than the path holds is filled with a chunk too few, the
//! rate then seen makes the next window as small, and the path never gets faster.

use core::time::Duration;

use crate::path::meter::Span;
use crate::policy::Class;
use crate::policy::chunk::CHUNK_MAX;

/// What may wait in front of the path, in time.
const TARGET: Duration = Duration::from_millis(2);
/// Two chunks: while the answer to one is on its way, the next must be there, or the path idles for a round trip. And
/// some small commands beside them, which would keep the second chunk out otherwise.
const WINDOW_MIN: u64 = 2 * CHUNK + 2 * Class::SMALL_MAX as u64;
const CHUNK: u64 = CHUNK_MAX as u64;
/// The window is cut in eighths, down to one.
const WHOLE: u64 = 8;
/// The comparison starts anew after so many spans: what was good a while ago is no yardstick.
const SPANS_MAX: u32 = 32;

/// The window of one direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// How many eighths of the formula's bytes are allowed.
    eighths: u64,
    yardstick: Option<Yardstick>,
}

/// The best combination of rate and delay lately.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Yardstick {
    rate: u64,
    delay: Duration,
    spans: u32,
}

impl Default for Window {
    fn default() -> Window {
        Window {
            eighths: WHOLE,
            yardstick: None,
        }
    }
}

impl Window {
    /// B x R in whole chunks, and what moves in 2 ms or a chunk; two chunks and a little at least. Less after delay rose,
    /// but one chunk at least.
    pub fn bytes(&self, rate: u64, latency: Duration) -> u64 {
        let in_transit = moved(rate, latency).div_ceil(CHUNK).saturating_mul(CHUNK);
        let queued = moved(rate, TARGET).max(CHUNK);
        let bytes = in_transit.saturating_add(queued).max(WINDOW_MIN);
        (bytes / WHOLE).saturating_mul(self.eighths).max(CHUNK)
    }

    /// A span of this direction was measured: halves the window if delay has risen by half and 1 ms while the rate has
    /// not, else gives an eighth back.
    pub fn measured(&mut self, span: &Span) {
        let fresh = Yardstick {
            rate: span.rate,
            delay: span.delay,
            spans: 0,
        };
        let Some(yardstick) = &mut self.yardstick else {
            self.yardstick = Some(fresh);
            return;
        };
        yardstick.spans += 1;
        let faster = span.rate > yardstick.rate.saturating_add(yardstick.rate / 20);
        let bearable = yardstick
            .delay
            .saturating_add(yardstick.delay / 2)
            .saturating_add(Duration::from_millis(1));
        if !faster && span.delay > bearable {
            self.eighths = (self.eighths / 2).max(1);
            self.yardstick = Some(fresh);
            return;
        }
        self.eighths = (self.eighths + 1).min(WHOLE);
        if faster || span.delay < yardstick.delay || yardstick.spans >= SPANS_MAX {
            self.yardstick = Some(fresh);
        }
    }
}

/// Bytes that move in this time.
fn moved(rate: u64, time: Duration) -> u64 {
    let bytes = u128::from(rate).saturating_mul(time.as_nanos()) / 1_000_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
