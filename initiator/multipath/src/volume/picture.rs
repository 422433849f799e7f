//! The volume as `status` shows it.

use super::{PathId, PathStatus, UnresolvedWrite, Volume, VolumeStatus};
use crate::path::Phase;

/// Most unresolved writes listed.
const UNRESOLVED_LISTED: usize = 4096;

impl Volume {
    pub(super) fn picture(&self) -> VolumeStatus {
        let unresolved: Vec<UnresolvedWrite> =
            self.ledger.unresolved().take(UNRESOLVED_LISTED).collect();
        VolumeStatus {
            identity: self.config.description.identity.clone(),
            paths: self.path_ids().map(|id| self.path_picture(id)).collect(),
            in_flight: self.table.in_flight(),
            waiting: self.table.waiting(),
            held: self.table.held(),
            unresolved,
            all_paths_down_since: self.no_path.down_since(),
            no_path_retry: self.no_path.rule(),
            policy: self.config.policy,
            deferred_errors: self.deferred_errors,
        }
    }

    fn path_picture(&self, id: PathId) -> PathStatus {
        let path = self.path(id);
        PathStatus {
            id,
            config: path.config.clone(),
            state: path.state(),
            since: path.since,
            trouble: path.trouble.clone(),
            portal_group: path.portal_group,
            negotiated: path.negotiated().cloned(),
            in_flight: path.in_flight(),
            completed: path.tallies.completed,
            bytes_read: path.tallies.bytes_read,
            bytes_written: path.tallies.bytes_written,
            losses: path.tallies.losses,
            round_trip_ns: path.tallies.round_trip_ns,
            suspect_since: path.silence.suspect_since(),
            fence: self.fence_sentence(id),
        }
    }

    fn fence_sentence(&self, id: PathId) -> String {
        let path = self.path(id);
        if matches!(path.phase, Phase::Refused { .. }) && !path.verified {
            return "not needed: this path never carried IO".to_owned();
        }
        match self.sibling(id, path.nexus()) {
            Some(sibling) => format!(
                "session reinstatement through {}, which is in the same portal group",
                self.path(sibling).config.portal_name
            ),
            None => {
                "only by its own return: no other path is up in the same portal group".to_owned()
            }
        }
    }
}
