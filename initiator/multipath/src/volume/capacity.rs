//! The size of the LUN as its paths report it: growth is followed, a shrunken end is kept out of reach.

use iscsi_client::time::Instant;

use super::{Note, PathId, Volume};
use crate::path::Path;
use crate::path::check::Extent;

impl Volume {
    /// News of the capacity: every path that carries IO is asked.
    pub(super) fn ask_for_capacity(&mut self, now: Instant) {
        for id in self.path_ids() {
            if self.path(id).is_usable() {
                self.request_examination(now, id, Extent::Brief);
            }
        }
    }

    /// A path has reported its size, or counts no more, or again.
    pub(super) fn weigh_sizes(&mut self, now: Instant) {
        let reports = self.paths.iter().filter_map(Path::usable_blocks);
        self.shortest = reports.clone().min().unwrap_or(u64::MAX);
        let device = self.blocks();
        if let Some(grown) = self.growth.observe(now, device, reports) {
            self.config.description.identity.blocks = grown;
            self.notes.push(Note::Grown {
                from: device,
                to: grown,
            });
        }
        let device = self.blocks();
        for id in self.path_ids() {
            let path = self.path_mut(id);
            let short = path.usable_blocks().filter(|&blocks| blocks < device);
            if let Some(reported) = short
                && path.told_short != Some(reported)
            {
                self.notes.push(Note::Shrunk {
                    path: id,
                    device,
                    reported,
                });
                self.path_mut(id).told_short = Some(reported);
            } else if short.is_none() && path.is_usable() {
                path.told_short = None;
            }
        }
    }

    pub(super) fn capacity_timeout(&mut self, now: Instant) {
        if self.growth.asks(now) {
            self.ask_for_capacity(now);
            self.weigh_sizes(now);
        }
    }

    /// Whether this path's LUN reaches so far.
    pub(super) fn reaches(&self, id: PathId, end: u64) -> bool {
        end <= self.shortest || self.path(id).blocks.is_none_or(|blocks| end <= blocks)
    }

    /// Whether paths carry IO and the LUN of none of them reaches so far.
    pub(super) fn is_beyond_the_end(&self, end: u64) -> bool {
        if end <= self.shortest {
            return false;
        }
        let mut usable = self.path_ids().filter(|&id| self.path(id).is_usable());
        let first = usable.next();
        first.is_some_and(|first| {
            !self.reaches(first, end) && usable.all(|id| !self.reaches(id, end))
        })
    }
}
