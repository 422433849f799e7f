//! Which class goes next when both wait: the small one, but bulk gets at least 10 % of the bytes (SCHEDULING section
//! 6.4, point 1). Lease IO goes before both and is not asked about here.
//!
//! And whether there is any small one to protect: while bulk is alone, more of it may be under way.

use core::time::Duration;

use iscsi_client::time::Instant;

use super::Class;

/// Bulk's claim is remembered up to so many bytes, so that a burst of small requests is not followed by a burst of
/// bulk ones.
const CLAIM_MAX: u64 = 128 * 1024;

/// The small class is taken to have gone after so long without a request.
const GONE_AFTER: Duration = Duration::from_secs(1);

/// Whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Turns {
    /// Tenths of a byte that bulk may claim: one per small byte that went before it while it waited.
    claim: u64,
    /// The last small request came then.
    small_at: Option<Instant>,
}

impl Turns {
    /// A request came.
    pub fn arrived(&mut self, now: Instant, class: Class) {
        if class == Class::Small {
            self.small_at = Some(now);
        }
    }

    /// Whether no small request came for a second.
    pub fn bulk_is_alone(&self, now: Instant) -> bool {
        self.small_at.is_none_or(|at| now.since(at) >= GONE_AFTER)
    }

    /// The class whose oldest request is asked for a path first; the other may follow if that one must wait.
    /// `bulk_len` is what bulk would send next, in bytes; `None` if nothing of it waits.
    pub fn next(&self, small_waits: bool, bulk_len: Option<u32>) -> Option<Class> {
        match (small_waits, bulk_len) {
            (false, None) => None,
            (true, None) => Some(Class::Small),
            (false, Some(_)) => Some(Class::Bulk),
            (true, Some(len)) => {
                // 10 % of all is one byte for nine small ones.
                let due = u64::from(len).saturating_mul(9).min(CLAIM_MAX * 9);
                Some(if self.claim >= due {
                    Class::Bulk
                } else {
                    Class::Small
                })
            }
        }
    }

    /// A command of `len` bytes was sent. `bulk_waits`: bulk had something to send as well, or was it.
    pub fn sent(&mut self, class: Class, len: u32, bulk_waits: bool) {
        self.claim = match (class, bulk_waits) {
            (Class::Small, true) => self.claim.saturating_add(u64::from(len)).min(CLAIM_MAX * 9),
            (Class::Bulk, true) => self.claim.saturating_sub(u64::from(len).saturating_mul(9)),
            (_, false) => 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bulk_is_alone_a_second_after_the_last_small_request() {
        let at = |millis: u64| Instant::from_nanos(millis * 1_000_000);
        let mut turns = Turns::default();
        assert!(turns.bulk_is_alone(at(0)));
        turns.arrived(at(500), Class::Small);
        turns.arrived(at(1499), Class::Bulk);
        assert!(!turns.bulk_is_alone(at(1499)));
        assert!(turns.bulk_is_alone(at(1500)));
    }

    #[test]
    fn who_waits_alone_goes() {
        let turns = Turns::default();
        assert_eq!(turns.next(false, None), None);
        assert_eq!(turns.next(true, None), Some(Class::Small));
        assert_eq!(turns.next(false, Some(4096)), Some(Class::Bulk));
        assert_eq!(turns.next(true, Some(4096)), Some(Class::Small));
    }

    #[test]
    fn bulk_gets_a_tenth_of_the_bytes_and_no_more() {
        const CHUNK: u32 = 128 * 1024;
        let mut turns = Turns::default();
        let (mut small, mut bulk) = (0u64, 0u64);
        for _ in 0..100_000 {
            match turns.next(true, Some(CHUNK)).expect("both wait") {
                Class::Small => {
                    turns.sent(Class::Small, 4096, true);
                    small += 4096;
                }
                Class::Bulk => {
                    turns.sent(Class::Bulk, CHUNK, true);
                    bulk += u64::from(CHUNK);
                }
            }
        }
        let share = bulk as f64 / (small + bulk) as f64;
        assert!((0.099..0.101).contains(&share), "{share}");
    }

    #[test]
    fn small_before_bulk_came_is_no_claim() {
        let mut turns = Turns::default();
        for _ in 0..100_000 {
            turns.sent(Class::Small, 4096, false);
        }
        assert_eq!(turns.next(true, Some(65_536)), Some(Class::Small));
        // Nor is a long past: what is claimed is one chunk.
        for _ in 0..100_000 {
            turns.sent(Class::Small, 4096, true);
        }
        assert_eq!(turns.next(true, Some(131_072)), Some(Class::Bulk));
        turns.sent(Class::Bulk, 131_072, true);
        assert_eq!(turns.next(true, Some(131_072)), Some(Class::Small));
    }
}
