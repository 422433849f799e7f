//! The paths as a policy sees them.

use iscsi_client::time::Instant;

use super::{PATHS_MAX, PathId, Volume};
use crate::path::Phase;
use crate::policy::{AccessClass, Candidate};

/// Paths that may carry a request now, without allocation.
pub(super) struct Candidates {
    list: [Candidate; PATHS_MAX],
    len: usize,
}

impl Candidates {
    /// In the order of their ids.
    pub(super) fn as_slice(&self) -> &[Candidate] {
        &self.list[..self.len]
    }
}

impl Volume {
    /// Every path that carries IO now and whose LUN reaches to `end`.
    pub(super) fn candidates(&self, now: Instant, end: u64) -> Candidates {
        let mut candidates = Candidates {
            list: [Candidate::plain(PathId(0), AccessClass::Optimized, false, 0); PATHS_MAX],
            len: 0,
        };
        for id in self.path_ids() {
            let path = self.path(id);
            if let Phase::Up { access, .. } = path.phase
                && self.reaches(id, end)
            {
                let standing = path.standing(now);
                candidates.list[candidates.len] =
                    path.load
                        .candidate(now, id, access, standing, path.is_open());
                candidates.len += 1;
            }
        }
        candidates
    }
}
