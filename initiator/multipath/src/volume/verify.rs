//! Is this still our LUN, and does this port serve it? Asked after every login before any IO, again when the target
//! announces a change, and of the port groups from time to time.

use core::time::Duration;

use iscsi_client::memory::Memory;
use iscsi_client::session::Completion;
use iscsi_client::time::Instant;

use super::{CloseHow, Link, Note, PathId, Volume};
use crate::identity::{Description, ProbeFailure, TaskSet};
use crate::mutant::{Mutant, lives};
use crate::path::check::{self, Access, Check, Extent, Failed, Terms, access_of};
use crate::path::{After, BRIEF_INTERVAL, Examination, Phase, Sent};
use crate::policy::AccessClass;

impl Volume {
    pub(super) fn begin_verification(&mut self, now: Instant, id: PathId, returning: bool) {
        let check = self.check(id, Extent::Full);
        let examination = Box::new(Examination::new(check));
        let phase = Phase::Verifying {
            examination,
            returning,
        };
        self.set_phase(now, id, phase);
    }

    /// An examination on this path's session.
    fn check(&self, id: PathId, extent: Extent) -> Check {
        Check::new(self.check_terms(id), extent)
    }

    pub(super) fn check_terms(&self, id: PathId) -> Terms {
        Terms {
            lun: self.config.lun,
            buffer: self.scratch(Link::Data(id)),
            buffer_len: self.config.scratch_len,
            tpgs: self.config.description.tpgs,
            format: self.groups_format,
            own_group: self.path(id).target_port_group,
        }
    }

    /// What answers here may have become another LUN: no IO until it is verified again.
    pub(super) fn verify_again(&mut self, now: Instant, id: PathId) {
        match &mut self.path_mut(id).phase {
            Phase::Verifying { examination, .. } => examination.again = Some(Extent::Full),
            Phase::Up { examination, .. } => match examination.take() {
                // One command at a time uses the scratch buffer: the present one must come back first.
                Some(mut examination) => {
                    examination.again = Some(Extent::Full);
                    let phase = Phase::Verifying {
                        examination,
                        returning: true,
                    };
                    self.set_phase(now, id, phase);
                }
                None => self.begin_verification(now, id, true),
            },
            // Verified in full before it carries IO.
            _ => {}
        }
    }

    /// Looks again while IO goes on.
    pub(super) fn request_examination(&mut self, now: Instant, id: PathId, extent: Extent) {
        let check = self.check(id, extent);
        let path = self.path_mut(id);
        match &mut path.phase {
            Phase::Up { examination, .. } | Phase::Standby { examination, .. } => match examination
            {
                Some(running) => running.again = running.again.max(Some(extent)),
                None => *examination = Some(Box::new(Examination::new(check))),
            },
            Phase::Verifying { examination, .. } => {
                examination.again = examination.again.max(Some(extent));
            }
            _ => {}
        }
        self.examine(now, id);
    }

    /// Sends the examination's next command, if it is its turn.
    pub(super) fn examine(&mut self, now: Instant, id: PathId) {
        let path = self.path(id);
        if path
            .session
            .as_ref()
            .is_none_or(|session| session.room() == 0)
        {
            return;
        }
        let handle = self.own_handle();
        let path = self.path_mut(id);
        let Some(examination) = path.examination() else {
            return;
        };
        if examination.out.is_none()
            && let Some(command) = examination.check.poll_command(handle)
        {
            examination.out = Some(Sent { handle, at: now });
            let session = path.session.as_mut().expect("seen above");
            session.submit(now, command);
        }
    }

    pub(super) fn examined(
        &mut self,
        now: Instant,
        id: PathId,
        completion: &Completion,
        memory: Option<&dyn Memory>,
    ) {
        let path = self.path_mut(id);
        let Some(examination) = path.examination() else {
            return;
        };
        let (Some(sent), Some(memory)) = (examination.out, memory) else {
            return;
        };
        if sent.handle != completion.handle {
            return;
        }
        examination.out = None;
        examination.check.completed(completion, memory);
        let drained = examination.check.is_drained();
        let result = examination
            .check
            .result()
            .map(|result| result.cloned().map_err(Clone::clone));
        path.note_round_trip(now.since(sent.at));
        if drained {
            let nexus = self.path(id).nexus();
            self.reinstated(now, id, nexus);
        }
        match result {
            None => {}
            Some(Ok(findings)) => self.found(now, id, findings),
            Some(Err(failed)) => self.examination_failed(now, id, failed),
        }
    }

    fn found(&mut self, now: Instant, id: PathId, findings: check::Findings) {
        if let Some(description) = &findings.description
            && !self.accept(now, id, description)
        {
            return;
        }
        let full = findings.description.is_some();
        self.groups_format = findings.format;
        if let Some(glimpse) = &findings.glimpse {
            let recognised = glimpse.wwid == self.config.description.identity.wwid;
            let path = self.path_mut(id);
            path.recognised = recognised;
            path.target_port_group = Some(glimpse.target_port_group);
        }
        if let Some(blocks) = findings.blocks {
            self.path_mut(id).blocks = Some(blocks);
            self.weigh_sizes(now);
        }
        let again = {
            let path = self.path_mut(id);
            path.examination()
                .and_then(|examination| examination.again.take())
        };
        if let Some(groups) = findings.groups.clone() {
            self.apply_groups(now, id, &groups);
            self.groups = Some(groups);
        }
        if let Some(extent) = again {
            self.examine_again(now, id, extent);
            return;
        }
        let own_group = self.path(id).target_port_group;
        let reported = match (&findings.groups, own_group) {
            (Some(groups), Some(group)) => access_of(groups, group),
            _ => None,
        };
        let path = self.path_mut(id);
        if let Phase::Up { examination, .. } | Phase::Standby { examination, .. } = &mut path.phase
        {
            *examination = None;
        }
        match (&mut path.phase, full, reported) {
            (Phase::Verifying { .. } | Phase::Standby { .. }, true, None) => {
                self.up(now, id, AccessClass::Optimized);
            }
            (
                Phase::Verifying { .. } | Phase::Standby { .. },
                true,
                Some(Access::Serves(access)),
            ) => self.up(now, id, access),
            (Phase::Verifying { returning, .. }, false, None | Some(Access::Serves(_))) => {
                let returning = *returning;
                self.begin_verification(now, id, returning);
            }
            // What the groups allow must be verified in full.
            (Phase::Standby { .. }, false, Some(Access::Serves(_))) => {
                self.begin_verification(now, id, false);
            }
            (Phase::Up { access, .. }, _, Some(Access::Serves(now_is))) => *access = now_is,
            (
                Phase::Verifying { .. } | Phase::Standby { .. } | Phase::Up { .. },
                _,
                Some(inactive),
            ) => self.stand_by(now, id, inactive),
            _ => {}
        }
    }

    /// Something changed during the examination: from the start, in the same phase.
    fn examine_again(&mut self, now: Instant, id: PathId, extent: Extent) {
        let must_verify = matches!(self.path(id).phase, Phase::Verifying { .. });
        let extent = if must_verify { Extent::Full } else { extent };
        let check = self.check(id, extent);
        if let Some(examination) = self.path_mut(id).examination() {
            *examination = Examination::new(check);
        }
        self.examine(now, id);
    }

    fn up(&mut self, now: Instant, id: PathId, access: AccessClass) {
        let phase = Phase::Up {
            examination: None,
            access,
            since: now,
            brief_at: now + self.jitter.around(BRIEF_INTERVAL),
        };
        let path = self.path_mut(id);
        path.verified = true;
        path.recognised = true;
        self.set_phase(now, id, phase);
    }

    /// Whether this is the volume's LUN. If not, the path is closed and refused.
    fn accept(&mut self, now: Instant, id: PathId, found: &Description) -> bool {
        let attached = &self.config.description.identity;
        let size = found.identity.blocks;
        // A LUN may grow while it is attached, and not every port may know it yet; a path that joins must agree with
        // something that is known.
        let reported = self.paths.iter().any(|path| path.blocks == Some(size));
        let known_size = reported || (self.path(id).verified && size >= attached.blocks);
        let difference = if known_size {
            attached.difference(&found.identity)
        } else {
            attached.difference_or_size(&found.identity)
        };
        if let Some(difference) = difference
            && !lives(Mutant::AnyIdentity)
        {
            let why = difference.to_string();
            self.close_path(now, id, CloseHow::Abort, After::Refuse { why });
            return false;
        }
        if found.write_cache && !self.abilities.cache_announced() && !self.abilities.writes_forced()
        {
            self.abilities.force_writes();
            self.notes.push(Note::WriteCacheOn);
        }
        if found.task_set == TaskSet::PerNexus {
            // One port that says so is enough for the longer proof, and no later word takes it back.
            self.config.description.task_set = TaskSet::PerNexus;
        }
        self.path_mut(id).target_port_group = found.target_port_group;
        true
    }

    fn examination_failed(&mut self, now: Instant, id: PathId, failed: Failed) {
        let retry = |why: String| After::Retry {
            why,
            pause: Duration::ZERO,
        };
        let after = match failed {
            Failed::Probe(ProbeFailure::PortInactive) => {
                if let Phase::Up { examination, .. } | Phase::Standby { examination, .. } =
                    &mut self.path_mut(id).phase
                {
                    *examination = None;
                }
                self.stand_by(now, id, Access::Inactive);
                return;
            }
            Failed::Probe(failure @ ProbeFailure::NoSuchLun) => After::Gone {
                why: failure.to_string(),
            },
            Failed::Probe(failure @ (ProbeFailure::NotReady | ProbeFailure::Failed(_))) => {
                retry(failure.to_string())
            }
            Failed::Probe(
                failure @ (ProbeFailure::NotADisk(_)
                | ProbeFailure::BlockLength(_)
                | ProbeFailure::Protection
                | ProbeFailure::NoIdentifier),
            ) => After::Refuse {
                why: failure.to_string(),
            },
            Failed::Data(why) => retry(why.to_owned()),
        };
        self.close_path(now, id, CloseHow::Abort, after);
    }
}
