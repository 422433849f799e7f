//! From the waiting list to a path, and from a path without future back to the list or to the answer.

use core::time::Duration;

use iscsi_client::memory::{BufferId, Memory};
use iscsi_client::session::{Command, Handle, Orphan};
use iscsi_client::time::Instant;
use iscsi_client::wire::{TaskAttribute, TaskManagementFunction};

use super::{CloseHow, IoError, Note, OWN_BIT, PATHS_MAX, PathId, Tag, Volume};
use crate::no_path::Fate;
use crate::operation::Fill;
use crate::path::{After, Phase};
use crate::policy::{self, AccessClass, Candidate};
use crate::request::State;
use crate::volume::ending::Life;

/// ABORT TASK without answer for so long: the session is given up.
pub(super) const ABORT_TIMEOUT: Duration = Duration::from_secs(10);

/// The session's name for a request's command.
pub(super) fn handle(tag: Tag, generation: u16) -> Handle {
    Handle(u32::from(generation) << 16 | u32::from(tag.0))
}

/// Tag and generation, unless it is a command of the volume's own.
pub(super) fn request_of(handle: Handle) -> Option<(Tag, u16)> {
    (handle.0 & OWN_BIT == 0).then_some((Tag(handle.0 as u16), (handle.0 >> 16) as u16))
}

/// Paths that may carry a request now, without allocation.
struct Candidates {
    list: [Candidate; PATHS_MAX],
    len: usize,
}

impl Volume {
    /// Sends what can be sent, in order of arrival.
    pub(super) fn dispatch(&mut self, now: Instant) {
        let mut place = 0;
        while let Some(tag) = self.table.waiting_at(place) {
            let State::Waiting { not_before, avoid } = self.table.state(tag) else {
                unreachable!("what is in the list waits");
            };
            if not_before.is_some_and(|at| now < at) {
                place += 1;
                continue;
            }
            let slot = self.table.slot(tag);
            let step = slot
                .plan
                .step(&slot.request, &self.abilities, BufferId(tag.0));
            if step
                .changes
                .is_some_and(|extent| self.ledger.forbids(slot.serial, extent))
            {
                place += 1;
                continue;
            }
            let Some(path) = self.choose(avoid) else {
                if avoid.is_some() {
                    place += 1;
                    continue;
                }
                break;
            };
            let generation = self.table.run(place, path, step, now);
            let command = Command {
                handle: handle(tag, generation),
                lun: self.config.lun,
                cdb: step.cdb,
                attribute: TaskAttribute::Simple,
                transfer: step.transfer,
            };
            let path = self.path_mut(path);
            if step.fill != Fill::None {
                path.fills.push((tag, generation, step.fill));
            }
            let session = path
                .session
                .as_mut()
                .expect("a path that is up has a session");
            session.submit(now, command);
        }
    }

    fn choose(&mut self, avoid: Option<PathId>) -> Option<PathId> {
        let all = self.candidates(None);
        let others = match avoid {
            Some(_) => self.candidates(avoid),
            None => Candidates { ..all },
        };
        let candidates = if others.len > 0 { others } else { all };
        policy::choose(
            self.config.policy,
            &mut self.policy,
            &candidates.list[..candidates.len],
        )
    }

    fn candidates(&self, without: Option<PathId>) -> Candidates {
        let mut candidates = Candidates {
            list: [Candidate {
                path: PathId(0),
                access: AccessClass::Optimized,
                open: false,
            }; PATHS_MAX],
            len: 0,
        };
        let usable =
            |id: PathId| matches!(self.path(id).phase, Phase::Up { .. }) && without != Some(id);
        // A suspect gets nothing new, unless nobody else is there.
        let steer = self
            .path_ids()
            .any(|id| usable(id) && !self.path(id).is_suspect());
        for id in self.path_ids().filter(|&id| usable(id)) {
            let path = self.path(id);
            if let Phase::Up { access, .. } = path.phase
                && !(steer && path.is_suspect())
            {
                candidates.list[candidates.len] = Candidate {
                    path: id,
                    access,
                    open: path.is_open(),
                };
                candidates.len += 1;
            }
        }
        candidates
    }

    /// Writes parameter lists and zeros where the commands that leave now expect them.
    pub(super) fn fill_buffers(&mut self, id: PathId, memory: &mut dyn Memory) {
        let Some(path) = self.paths.get_mut(usize::from(id.0)) else {
            return;
        };
        for (tag, generation, fill) in path.fills.drain(..) {
            // Only for the command that asked for it: the tag may be another request's by now.
            let same = !self.table.is_free(tag) && self.table.slot(tag).generation == generation;
            if same && matches!(self.table.state(tag), State::Running { path, .. } if path == id) {
                fill.write(BufferId(tag.0), memory);
            }
        }
    }

    /// A command of a dead session, not answered and never to be.
    pub(super) fn orphaned(&mut self, id: PathId, orphan: Orphan) {
        let Some((tag, generation)) = request_of(orphan.handle) else {
            return;
        };
        let (State::Running { path, step, .. } | State::Aborting { path, step, .. }) =
            self.table.state(tag)
        else {
            panic!("a session held a command of a request that is not running");
        };
        assert!(path == id && self.table.slot(tag).generation == generation);
        if orphan.sent
            && let Some(extent) = step.changes
        {
            let serial = self.table.slot(tag).serial;
            self.ledger.record(serial, extent, self.path(id).nexus());
        }
        if self.life == Life::Running {
            self.table.wait(tag, None, Some(id));
        } else {
            self.finish(tag, Err(IoError::Io));
        }
    }

    /// The request has its result. It is answered now, or when the fence allows it.
    pub(super) fn finish(&mut self, tag: Tag, result: Result<(), IoError>) {
        let serial = self.table.slot(tag).serial;
        let may_answer = match result {
            Ok(()) => !self.ledger.is_unresolved(serial),
            Err(_) => self.ledger.disown(serial),
        };
        if may_answer {
            self.table.answer(tag);
            self.complete(tag, result);
        } else {
            self.table.hold(tag, result);
        }
    }

    /// Sessions were proven dead: answers that waited for it may go.
    pub(super) fn release_held(&mut self) {
        if self.table.held() == 0 {
            return;
        }
        let held: Vec<Tag> = self.table.tags().collect();
        for tag in held {
            if let State::HeldByFence { result } = self.table.state(tag)
                && !self.ledger.is_unresolved(self.table.slot(tag).serial)
            {
                self.table.answer(tag);
                self.complete(tag, result);
            }
        }
    }

    /// Fails what has no path, once the rule says so.
    pub(super) fn enforce_no_path(&mut self, now: Instant) {
        if self.no_path.fate(now) == Fate::Fail {
            let failed = self.fail_idle();
            if failed > 0 {
                self.notes.push(Note::NoPath { failed });
            }
        }
    }

    /// Fails every request that is on no session, in order of arrival. Returns how many were answered.
    pub(super) fn fail_idle(&mut self) -> u32 {
        if self.table.waiting() == 0 && self.table.held() == 0 {
            return 0;
        }
        let mut idle: Vec<Tag> = self
            .table
            .tags()
            .filter(|&tag| {
                matches!(
                    self.table.state(tag),
                    State::Waiting { .. } | State::HeldByFence { .. }
                )
            })
            .collect();
        idle.sort_by_key(|&tag| self.table.slot(tag).serial);
        let mut failed = 0;
        for tag in idle {
            if self.ledger.disown(self.table.slot(tag).serial) {
                self.table.answer(tag);
                self.complete(tag, Err(IoError::Io));
                failed += 1;
            } else if let State::Waiting { .. } = self.table.state(tag) {
                self.table.hold(tag, Err(IoError::Io));
            }
        }
        failed
    }

    /// Commands without answer: first ABORT TASK, then the session's end.
    pub(super) fn request_timeouts(&mut self, now: Instant) {
        if self.table.deadline().is_none_or(|at| now < at) {
            return;
        }
        for tag in (0..self.config.depth).map(Tag) {
            match self.table.state(tag) {
                State::Running { path, deadline, .. } if now >= deadline => {
                    self.notes.push(Note::CommandTimeout { path });
                    let name = handle(tag, self.table.slot(tag).generation);
                    let lun = self.config.lun;
                    self.table.abort(tag, now + ABORT_TIMEOUT);
                    if let Some(session) = &mut self.path_mut(path).session {
                        // Refused if too many are under way: then the deadline of this one decides.
                        let function = TaskManagementFunction::AbortTask;
                        session.manage(now, name, function, lun, Some(name));
                    }
                    // A command that had not even left is aborted on the spot.
                    self.take_events(now, super::Link::Data(path).id(), None);
                }
                State::Aborting { path, deadline, .. } if now >= deadline => {
                    let why = "a command was not answered, nor was its abort".to_owned();
                    let after = After::Retry {
                        why,
                        pause: Duration::ZERO,
                    };
                    self.close_path(now, path, CloseHow::Abort, after);
                    // Answered by the loss; until then nothing is due.
                    self.table.await_loss(tag);
                }
                _ => {}
            }
        }
        self.table.refresh_deadline(now);
    }
}
