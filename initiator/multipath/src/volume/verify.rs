//! Is this still our LUN, and does this port serve it? Asked after every login before any IO, again when the target
//! announces a change, and of the port groups from time to time.

use core::time::Duration;

use iscsi_client::memory::Memory;
use iscsi_client::scsi::PortGroups;
use iscsi_client::session::Completion;
use iscsi_client::time::Instant;

use super::{CloseHow, Link, Note, PathId, Volume};
use crate::identity::{Description, ProbeFailure, TaskSet};
use crate::mutant::{Mutant, lives};
use crate::path::check::{self, Check, Extent, Failed, access_of};
use crate::path::{After, Examination, GROUPS_INTERVAL, Phase, STANDBY_INTERVAL, Sent};
use crate::policy::AccessClass;

impl Volume {
    pub(super) fn begin_verification(&mut self, now: Instant, id: PathId, returning: bool) {
        let check = self.full_check(id);
        let examination = Box::new(Examination::new(check));
        let phase = Phase::Verifying {
            examination,
            returning,
        };
        self.set_phase(now, id, phase);
    }

    fn full_check(&self, id: PathId) -> Check {
        let buffer = self.scratch(Link::Data(id));
        Check::full(self.config.lun, buffer, self.config.scratch_len)
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
        let full = self.full_check(id);
        let groups = Check::groups(self.config.lun, self.scratch(Link::Data(id)));
        let path = self.path_mut(id);
        match &mut path.phase {
            Phase::Up { examination, .. } | Phase::Standby { examination, .. } => match examination
            {
                Some(running) => running.again = running.again.max(Some(extent)),
                None => {
                    let check = match extent {
                        Extent::Full => full,
                        Extent::Groups => groups,
                    };
                    *examination = Some(Box::new(Examination::new(check)));
                }
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
        let again = {
            let path = self.path_mut(id);
            path.examination()
                .and_then(|examination| examination.again.take())
        };
        if let Some(groups) = &findings.groups {
            self.apply_groups(now, id, groups);
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
        match (&mut self.path_mut(id).phase, full) {
            (Phase::Verifying { .. } | Phase::Standby { .. }, true) => match reported {
                Some(None) => self.stand_by(now, id),
                Some(Some(access)) => self.up(now, id, access),
                None => self.up(now, id, AccessClass::Optimized),
            },
            (Phase::Verifying { .. }, false) => self.begin_verification(now, id, true),
            (Phase::Standby { examination, .. }, false) => match reported {
                // What the groups allow must be verified in full.
                Some(Some(_)) => self.begin_verification(now, id, false),
                _ => *examination = None,
            },
            (
                Phase::Up {
                    examination,
                    access,
                    ..
                },
                _,
            ) => match reported {
                Some(None) => self.stand_by(now, id),
                Some(Some(now_is)) => {
                    *access = now_is;
                    *examination = None;
                }
                None => *examination = None,
            },
            _ => {}
        }
    }

    /// Something changed during the examination: from the start, in the same phase.
    fn examine_again(&mut self, now: Instant, id: PathId, extent: Extent) {
        let full = self.full_check(id);
        let groups = Check::groups(self.config.lun, self.scratch(Link::Data(id)));
        let path = self.path_mut(id);
        let must_verify = matches!(path.phase, Phase::Verifying { .. });
        if let Some(examination) = path.examination() {
            *examination = Examination::new(match extent {
                Extent::Groups if !must_verify => groups,
                Extent::Groups | Extent::Full => full,
            });
        }
        self.examine(now, id);
    }

    fn up(&mut self, now: Instant, id: PathId, access: AccessClass) {
        let phase = Phase::Up {
            examination: None,
            access,
            since: now,
            groups_at: now + self.jitter.around(GROUPS_INTERVAL),
        };
        self.path_mut(id).verified = true;
        self.set_phase(now, id, phase);
    }

    pub(super) fn stand_by(&mut self, now: Instant, id: PathId) {
        let phase = Phase::Standby {
            examination: None,
            poll_at: now + STANDBY_INTERVAL,
        };
        self.set_phase(now, id, phase);
    }

    /// Whether this is the volume's LUN. If not, the path is closed and refused.
    fn accept(&mut self, now: Instant, id: PathId, found: &Description) -> bool {
        let attached = &self.config.description.identity;
        let size = found.identity.blocks;
        // A LUN may grow while it is attached; a path that joins must agree with what is known.
        let known_size =
            size == self.reported_blocks || (self.path(id).verified && size >= attached.blocks);
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
        if size != self.reported_blocks {
            self.reported_blocks = size;
            self.notes.push(Note::CapacityChanged {
                attached: self.config.description.identity.blocks,
                reported: size,
            });
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

    /// One reply tells of all groups: the other paths' too.
    fn apply_groups(&mut self, now: Instant, from: PathId, groups: &PortGroups) {
        for id in self.path_ids().filter(|&id| id != from) {
            let path = self.path_mut(id);
            let own = path.target_port_group;
            let Some(reported) = own.and_then(|group| access_of(groups, group)) else {
                continue;
            };
            match (&mut path.phase, reported) {
                (Phase::Up { access, .. }, Some(now_is)) => *access = now_is,
                (Phase::Up { .. }, None) => self.stand_by(now, id),
                (Phase::Standby { .. }, Some(_)) => self.request_examination(now, id, Extent::Full),
                _ => {}
            }
        }
    }

    fn examination_failed(&mut self, now: Instant, id: PathId, failed: Failed) {
        let retry = |why: String| After::Retry {
            why,
            pause: Duration::ZERO,
        };
        let after = match failed {
            Failed::Probe(ProbeFailure::PortInactive) => {
                self.stand_by(now, id);
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
