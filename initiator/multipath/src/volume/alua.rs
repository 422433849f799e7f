//! Which ports serve the LUN now (SCHEDULING section 3): standby, transitions, and the last resort of telling the target.
//!
//! None of it is a path's fault, and none of it costs a path anything.

use iscsi_client::scsi::{PortGroups, Tpgs};
use iscsi_client::time::Instant;

use super::{Note, PathId, Volume};
use crate::path::check::{Access, Check, Extent, access_of};
use crate::path::transition::Transition;
use crate::path::{Examination, Inactive, Phase, STANDBY_INTERVAL};

/// A group's supported states: active/optimized.
const SUPPORTS_OPTIMIZED: u8 = 0x01;

impl Volume {
    /// The port does not serve the LUN now. An examination whose command is out goes on: it has the scratch buffer.
    pub(super) fn stand_by(&mut self, now: Instant, id: PathId, access: Access) {
        let limit = self
            .groups
            .as_ref()
            .and_then(|groups| groups.transition_time);
        let path = self.path_mut(id);
        let (before, known) = match path.phase {
            Phase::Standby { inactive, .. } => (inactive, true),
            _ => (Inactive::Settled, false),
        };
        let inactive = match (access, before) {
            (Access::Transition, Inactive::Settled) => {
                Inactive::Changing(Transition::begin(now, limit))
            }
            (Access::Transition, going_on) => going_on,
            (Access::Inactive | Access::Serves(_), _) => Inactive::Settled,
        };
        if known && inactive == before {
            return;
        }
        let (inactive, poll_at) = match inactive {
            Inactive::Changing(mut transition) => {
                let at = transition.next(now).unwrap_or(now);
                (Inactive::Changing(transition), at)
            }
            other => (other, now + STANDBY_INTERVAL),
        };
        match &mut path.phase {
            Phase::Standby {
                inactive: state,
                poll_at: at,
                ..
            } => {
                *state = inactive;
                *at = poll_at;
                self.observe_service(now);
            }
            phase => {
                let examination = match phase {
                    Phase::Up { examination, .. } => examination.take(),
                    _ => None,
                };
                let phase = Phase::Standby {
                    examination,
                    poll_at,
                    inactive,
                };
                self.set_phase(now, id, phase);
            }
        }
    }

    /// A command was refused because of the port's state: the groups say when it serves again.
    pub(super) fn port_inactive(&mut self, now: Instant, id: PathId) {
        if let Phase::Up { .. } = self.path(id).phase {
            self.stand_by(now, id, Access::Inactive);
            if self.config.description.tpgs != Tpgs::None {
                self.request_examination(now, id, Extent::Brief);
            }
        }
    }

    /// It is time to ask a port again that does not serve the LUN.
    pub(super) fn poll_inactive(&mut self, now: Instant, id: PathId) {
        let Phase::Standby {
            poll_at, inactive, ..
        } = &mut self.path_mut(id).phase
        else {
            return;
        };
        *poll_at = now + STANDBY_INTERVAL;
        if let Inactive::Changing(transition) = inactive {
            if let Some(at) = transition.next(now) {
                *poll_at = at;
                self.request_examination(now, id, Extent::Brief);
                return;
            }
            *inactive = Inactive::Stuck;
            self.notes.push(Note::TransitionTooLong { path: id });
            self.observe_service(now);
        }
        // Full, for a target without readable groups says by TEST UNIT READY alone that it serves again.
        self.request_examination(now, id, Extent::Full);
    }

    /// One reply tells of all groups: the other paths' too.
    pub(super) fn apply_groups(&mut self, now: Instant, from: PathId, groups: &PortGroups) {
        for id in self.path_ids().filter(|&id| id != from) {
            let path = self.path_mut(id);
            let own = path.target_port_group;
            let Some(reported) = own.and_then(|group| access_of(groups, group)) else {
                continue;
            };
            match (&mut path.phase, reported) {
                (Phase::Up { access, .. }, Access::Serves(now_is)) => *access = now_is,
                (Phase::Standby { .. }, Access::Serves(_)) => {
                    self.request_examination(now, id, Extent::Full);
                }
                (Phase::Up { .. } | Phase::Standby { .. }, inactive) => {
                    self.stand_by(now, id, inactive);
                }
                _ => {}
            }
        }
    }

    /// Where the target can be told to serve the LUN: the preferred group first. `None` while a path serves it or may
    /// be about to, or where only the target decides.
    fn activation_target(&self) -> Option<(PathId, u16)> {
        if !matches!(self.config.description.tpgs, Tpgs::Explicit | Tpgs::Both) {
            return None;
        }
        let groups = self.groups.as_ref()?;
        let mut best: Option<(PathId, u16, bool)> = None;
        for id in self.path_ids() {
            let path = self.path(id);
            match &path.phase {
                Phase::Parked { .. } | Phase::LoggingIn | Phase::Verifying { .. } => return None,
                Phase::Standby {
                    examination: Some(_),
                    ..
                } => return None,
                Phase::Standby { .. } if path.recognised => {}
                _ => continue,
            }
            let group = path.target_port_group.and_then(|own| groups.group(own));
            if let Some(group) = group
                && group.supported & SUPPORTS_OPTIMIZED != 0
                && best.is_none_or(|(_, _, preferred)| group.preferred && !preferred)
            {
                best = Some((id, group.id, group.preferred));
            }
        }
        best.map(|(id, group, _)| (id, group))
    }

    /// When the target may be told next.
    pub(super) fn activation_deadline(&self) -> Option<Instant> {
        let since = self.no_path.down_since()?;
        self.activation_target()?;
        Some(self.activation.not_before(since))
    }

    /// Tells the target to serve the LUN through another port group, if nothing else is left.
    pub(super) fn activate(&mut self, now: Instant) {
        let due = self.no_path.down_since();
        if due.is_none_or(|since| now < self.activation.not_before(since)) {
            return;
        }
        let Some((id, group)) = self.activation_target() else {
            return;
        };
        let check = Check::activation(self.check_terms(id), group);
        if let Phase::Standby { examination, .. } = &mut self.path_mut(id).phase {
            *examination = Some(Box::new(Examination::new(check)));
            self.activation.started(now);
            self.notes.push(Note::Activating { path: id, group });
        }
    }
}
