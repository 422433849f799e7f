//! The volume as `status` shows it.

use core::fmt;

use super::{PathId, PathStatus, UnresolvedWrite, Volume, VolumeStatus};
use crate::contract::FenceKind;
use crate::path::Phase;

/// Most unresolved writes listed.
const UNRESOLVED_LISTED: usize = 4096;

impl Volume {
    pub(super) fn picture(&self) -> VolumeStatus {
        let unresolved: Vec<UnresolvedWrite> =
            self.ledger.unresolved().take(UNRESOLVED_LISTED).collect();
        VolumeStatus {
            identity: self.config.description.identity.clone(),
            paths: self
                .path_ids()
                .filter(|&id| !self.is_vacant(id))
                .map(|id| self.path_picture(id))
                .collect(),
            in_flight: self.table.in_flight(),
            waiting: self.table.waiting(),
            held: self.table.held(),
            fences: self.fence_times,
            unresolved,
            all_paths_down_since: self.no_path.down_since(),
            no_path_retry: self.no_path.rule(),
            policy: self.config.policy,
            permission: self.writes.picture(),
            waiting_writes: self.waiting_writes(),
            deferred_errors: self.deferred_errors,
            shrunk_to: Some(self.shortest).filter(|&shortest| shortest < self.blocks()),
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
            damping: path.damping,
            pace: path.load.pace(),
            fence: self.fence_sentence(id),
            fence_kind: self.fence_kind(id),
            hold: self.fence_terms().hold(),
            fences: self.fences[usize::from(id.0)].times,
        }
    }

    fn fence_kind(&self, id: PathId) -> FenceKind {
        let path = self.path(id);
        if matches!(path.phase, Phase::Refused { .. }) && !path.verified {
            FenceKind::NotNeeded
        } else if self.sibling(id, path.nexus()).is_some() {
            FenceKind::Reinstatement
        } else if self.path_ids().filter(|&id| !self.is_vacant(id)).count() == 1 {
            FenceKind::OwnReturn
        } else {
            FenceKind::TimedHold
        }
    }

    fn fence_sentence(&self, id: PathId) -> String {
        let terms = self.fence_terms();
        match self.fence_kind(id) {
            FenceKind::NotNeeded => "not needed: this path never carried IO".to_owned(),
            FenceKind::OwnReturn => "by its own return: the volume has no other path".to_owned(),
            FenceKind::TimedHold | FenceKind::LunReset => {
                let (hold, reset) = match self.config.allow_lun_reset {
                    true => (terms.hold() - terms.backend, " and LOGICAL UNIT RESET"),
                    false => (terms.hold(), ""),
                };
                let seconds = hold.as_secs();
                format!(
                    "by its own return, or a timed hold of {seconds} s{reset}: no other path is up in the same \
                     portal group"
                )
            }
            FenceKind::Reinstatement => {
                let nexus = self.path(id).nexus();
                let sibling = self.sibling(id, nexus).unwrap_or(id);
                let then = match (terms.after_login.as_secs(), self.config.allow_lun_reset) {
                    (0, _) => String::new(),
                    (_, true) => "; then LOGICAL UNIT RESET".to_owned(),
                    (seconds, false) => format!(
                        "; then {seconds} s more, for ORDERED commands wait for nothing on this target"
                    ),
                };
                format!(
                    "session reinstatement through {}, which is in the same portal group{then}",
                    self.path(sibling).config.portal_name
                )
            }
        }
    }
}

impl fmt::Display for FenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FenceKind::NotNeeded => "nothing",
            FenceKind::Reinstatement => "session reinstatement",
            FenceKind::LunReset => "LOGICAL UNIT RESET",
            FenceKind::TimedHold => "a timed hold",
            FenceKind::OwnReturn => "its own return",
        })
    }
}
