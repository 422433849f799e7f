//! Which class goes next when both wait: the small one, but bulk gets at least 10 % of the bytes (SCHEDULING section
//! 6.4, point 1). Lease IO goes before both and is not asked about here.

use super::Class;

/// Bulk's claim is remembered up to so many bytes, so that a burst of small requests is not followed by a burst of
/// bulk ones.
const CLAIM_MAX: u64 = 128 * 1024;

/// Whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Turns {
    /// Tenths of a byte that bulk may claim: one per small byte that went before it while it waited.
    claim: u64,
}

impl Turns {
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
