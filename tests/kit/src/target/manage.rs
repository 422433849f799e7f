//! Task management (RFC 7143, 11.5): functions end tasks and are answered when the backend has let go of them.

use iscsi_client::time::Instant;
use iscsi_client::wire::{Lun, TaskManagementResponse, TaskTag};

use super::Target;
use super::session::Session;
use super::task::Phase;
use crate::disk::{Answer, Code, Job, JobId, Nexus};

/// A function whose answer waits.
#[derive(Clone, Debug)]
pub(super) struct Management {
    tag: u32,
    lun: Lun,
    waits_for: Vec<JobId>,
}

const COMPLETE: u8 = 0;
const NO_SUCH_TASK: u8 = 1;
const NO_SUCH_LUN: u8 = 2;
const UNSUPPORTED: u8 = 5;

impl Target {
    pub(super) fn manage(
        &mut self,
        now: Instant,
        session: &mut Session,
        function: u8,
        lun: Lun,
        tag: u32,
        referenced: u32,
    ) {
        self.counters.managements += 1;
        let nexus = session.nexus;
        if !self.units.contains_key(&lun) {
            return self.answer_management(session, tag, NO_SUCH_LUN);
        }
        let waits_for = match function {
            1 => match session.tasks.get(&referenced) {
                None => return self.answer_management(session, tag, NO_SUCH_TASK),
                Some(_) => {
                    session.drop_task(referenced);
                    self.abort(now, lun, |job| job.nexus == nexus && job.task == referenced)
                }
            },
            2 => {
                drop_tasks(session, lun);
                self.abort(now, lun, |job| job.nexus == nexus)
            }
            5 if !self.config.lun_reset => {
                return self.answer_management(session, tag, UNSUPPORTED);
            }
            4 | 5 => {
                drop_tasks(session, lun);
                self.end_tasks_of_others(nexus, lun, function == 5);
                self.abort(now, lun, |_| true)
            }
            _ => return self.answer_management(session, tag, UNSUPPORTED),
        };
        session.managements.push(Management {
            tag,
            lun,
            waits_for,
        });
        // `settle` answers it, at once if nothing has to be awaited.
    }

    fn abort(&mut self, now: Instant, lun: Lun, select: impl Fn(&Job) -> bool) -> Vec<JobId> {
        self.units
            .get_mut(&lun)
            .map(|unit| unit.abort(now, select))
            .unwrap_or_default()
    }

    fn end_tasks_of_others(&mut self, me: Nexus, lun: Lun, reset: bool) {
        let code = if reset {
            Code::RESET
        } else {
            Code(0x6, 0x2f, 0x00)
        };
        if let Some(unit) = self.units.get_mut(&lun) {
            unit.attention(code, Some(me));
        }
        let tell = self.config.task_aborted_status;
        let others: Vec<Nexus> = self
            .sessions
            .keys()
            .copied()
            .filter(|nexus| *nexus != me)
            .collect();
        for nexus in others {
            let Some(mut session) = self.sessions.remove(&nexus) else {
                continue;
            };
            for tag in tags(&session, lun) {
                // A write in its data phase is answered like the others: the rest of its data is ignored.
                session.aborted.insert(tag);
                // Nobody says "aborted" of what may still change the medium.
                let over = !self
                    .units
                    .get(&lun)
                    .is_some_and(|unit| unit.is_executing(nexus, tag));
                if tell && over {
                    self.respond(&mut session, tag, Answer::status(0x40));
                } else {
                    session.drop_task(tag);
                }
            }
            self.sessions.insert(nexus, session);
        }
    }

    /// Answers functions whose tasks have all ended.
    pub(super) fn settle_managements(&mut self, _now: Instant) {
        let nexuses: Vec<Nexus> = self.sessions.keys().copied().collect();
        for nexus in nexuses {
            let Some(mut session) = self.sessions.remove(&nexus) else {
                continue;
            };
            let units = &self.units;
            let (ready, waiting) = std::mem::take(&mut session.managements)
                .into_iter()
                .partition(|management: &Management| {
                    let unit = units.get(&management.lun);
                    !management
                        .waits_for
                        .iter()
                        .any(|id| unit.is_some_and(|unit| unit.is_running(*id)))
                });
            session.managements = waiting;
            let ready: Vec<Management> = ready;
            for management in ready {
                self.answer_management(&session, management.tag, COMPLETE);
            }
            self.sessions.insert(nexus, session);
        }
    }

    fn answer_management(&mut self, session: &Session, tag: u32, response: u8) {
        let response = TaskManagementResponse {
            response,
            task: TaskTag(tag),
            numbers: self.numbers(session, true),
        };
        self.send(session.conn, response.emit(), &[], 0);
    }
}

fn drop_tasks(session: &mut Session, lun: Lun) {
    for tag in tags(session, lun) {
        session.drop_task(tag);
    }
}

fn tags(session: &Session, lun: Lun) -> Vec<u32> {
    let here = session.tasks.iter().filter(|(_, task)| {
        task.lun == lun.0
            && matches!(
                task.phase,
                Phase::Collecting(_) | Phase::Executing | Phase::Draining(..)
            )
    });
    here.map(|(tag, _)| *tag).collect()
}
