//! From the two lists of what waits to a path: small requests first, bulk in chunks, each bound as late as can be.

use core::time::Duration;

use iscsi_client::memory::{BufferId, Memory};
use iscsi_client::scsi::{SET_GROUPS_LEN, set_groups_parameters};
use iscsi_client::session::{Command, Transfer};
use iscsi_client::time::Instant;
use iscsi_client::wire::TaskAttribute;

use super::{IoError, Link, Operation, PathId, PolicyKind, Request, Tag, Volume};
use crate::operation::{Fill, Plan, Span, Step};
use crate::path::{Path, Phase};
use crate::policy::{self, Ask, Choice, Class, Direction, PerDirection};
use crate::request::{Hedge, Part, Work};
use crate::task::{Role, Stage, Task, TaskId};

/// How far a pass over one class's list has come.
#[derive(Clone, Copy, Default)]
struct Pass {
    place: usize,
    /// Requests that no path took.
    full: u32,
    /// No path takes any of it now.
    blocked: PerDirection<bool>,
    blocked_without_data: bool,
}

impl Pass {
    fn blocked(&mut self, direction: Option<Direction>) -> &mut bool {
        match direction {
            Some(direction) => self.blocked.of_mut(direction),
            None => &mut self.blocked_without_data,
        }
    }
}

/// A piece of a request for one command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) tag: Tag,
    pub(super) part: u8,
    pub(super) span: Span,
    pub(super) step: Step,
}

/// What is sent next.
struct Offer {
    piece: Piece,
    /// The plan once it has been handed out.
    plan: Plan,
    path: PathId,
}

impl Volume {
    /// Sends what can be sent. Small requests go first, but bulk gets its share while both wait.
    pub(super) fn dispatch(&mut self, now: Instant) {
        if self.table.waiting() == 0 {
            self.pressed_since = None;
            return;
        }
        let (mut small, mut bulk) = (Pass::default(), Pass::default());
        loop {
            let small_waits = self.table.listed(Class::Small, small.place).is_some();
            let bulk_waits = self.table.listed(Class::Bulk, bulk.place).is_some();
            let bulk_len = bulk_waits.then_some(policy::chunk::CHUNK_MAX);
            let Some(first) = self.turns.next(small_waits, bulk_len) else {
                break;
            };
            let pass = match first {
                Class::Small => &mut small,
                Class::Bulk => &mut bulk,
            };
            // Nothing of it can go: its pass is at the end of the list now, and the other has its turn.
            if let Some(offer) = self.next_offer(now, first, pass) {
                self.turns
                    .sent(first, offer.piece.step.payload_len, bulk_waits);
                self.send(now, &offer);
            }
        }
        if small.full + bulk.full < 2 {
            self.pressed_since = None;
        } else {
            self.pressed_since.get_or_insert(now);
        }
    }

    /// The first piece of this class, in order of arrival, that some path takes.
    fn next_offer(&mut self, now: Instant, class: Class, pass: &mut Pass) -> Option<Offer> {
        while let Some(tag) = self.table.listed(class, pass.place) {
            let slot = self.table.slot(tag);
            let Some(work) = slot.work(now).filter(|_| self.tasks.has_room()) else {
                pass.place += 1;
                continue;
            };
            let mut plan = slot.plan;
            let (part, span, avoid) = match work {
                Work::Again { part, span, avoid } => (part, span, avoid),
                Work::Fresh { part } => {
                    let most = self.chunk_blocks(&slot.request);
                    let span = plan.take(&slot.request, &self.abilities, most);
                    (part, span, None)
                }
            };
            let step = plan.step(span, &slot.request, &self.abilities, BufferId(tag.0));
            let direction = step.direction();
            let forbidden = step
                .changes
                .is_some_and(|extent| self.ledger.forbids(slot.serial, extent));
            if forbidden {
                pass.place += 1;
                continue;
            }
            if self.is_beyond_the_end(step.end) {
                // It leaves the list, or gives its place to the next.
                self.fail_request(tag, IoError::Io);
                continue;
            }
            // What not every path can take says nothing of the rest.
            let usual = avoid.is_none() && step.end <= self.shortest;
            if usual && *pass.blocked(direction) {
                pass.full += 1;
                pass.place += 1;
                continue;
            }
            if let Choice::Send(path) = self.choose(now, &step, class, avoid) {
                let piece = Piece {
                    tag,
                    part,
                    span,
                    step,
                };
                return Some(Offer { piece, plan, path });
            }
            if usual {
                *pass.blocked(direction) = true;
            }
            pass.full += 1;
            pass.place += 1;
        }
        None
    }

    /// The path for this command, if it shall go now.
    pub(super) fn choose(
        &mut self,
        now: Instant,
        step: &Step,
        class: Class,
        avoid: Option<PathId>,
    ) -> Choice {
        let direction = step.direction();
        let waiting = direction.map_or(0, |direction| self.table.backlog(class, direction));
        let ask = Ask {
            direction,
            len: step.payload_len,
            class,
            backlog: waiting * u64::from(self.block_len()),
            pressed: self
                .pressed_since
                .map_or(Duration::ZERO, |since| now.since(since)),
            bulk_is_alone: self.turns.bulk_is_alone(now),
            avoid,
        };
        let candidates = self.candidates(now, step.end);
        policy::choose(
            self.config.policy,
            &mut self.policy,
            &ask,
            candidates.as_slice(),
        )
    }

    fn send(&mut self, now: Instant, offer: &Offer) {
        let piece = &offer.piece;
        let id = self.start(now, piece, offer.path, Role::Original);
        let slot = self.table.slot_mut(piece.tag);
        slot.plan = offer.plan;
        slot.parts[usize::from(piece.part)] = Part::Out {
            span: piece.span,
            original: Some(id),
            hedge: Hedge::None,
        };
        self.table.relist(piece.tag);
    }

    /// Gives a command to its path's session.
    pub(super) fn start(
        &mut self,
        now: Instant,
        piece: &Piece,
        path: PathId,
        role: Role,
    ) -> TaskId {
        let step = &piece.step;
        let deadline = now + step.timeout;
        for other in self.path_ids().filter(|&other| other != path) {
            self.path_mut(other).load.sent_elsewhere(step.payload_len);
        }
        let load = &mut self.path_mut(path).load;
        let sent = load.submitted(now, step.direction(), step.payload_len);
        let late_at = self.late_at(path, &sent, role);
        let id = self.tasks.start(Task {
            tag: piece.tag,
            part: piece.part,
            path,
            span: piece.span,
            step: *step,
            role,
            sent,
            stage: Stage::Running,
            deadline,
            late_at,
        });
        self.due(late_at.map_or(deadline, |at| at.min(deadline)));
        let transfer = match (step.transfer, role) {
            (Transfer::Read { len, .. }, Role::Hedge { spare }) => Transfer::Read {
                buffer: spare,
                offset: 0,
                len,
            },
            (transfer, _) => transfer,
        };
        let command = Command {
            handle: self.tasks.handle(id),
            lun: self.config.lun,
            cdb: step.cdb,
            attribute: TaskAttribute::Simple,
            transfer,
        };
        let path = self.path_mut(path);
        if step.fill != Fill::None {
            path.fills.push(id);
        }
        let session = path.session.as_mut();
        let session = session.expect("a path that is up has a session");
        session.submit(now, command);
        id
    }

    /// How many blocks of a request one command carries at most.
    fn chunk_blocks(&self, request: &Request) -> u32 {
        if self.config.policy != PolicyKind::LateBinding {
            return u32::MAX;
        }
        let usable = |path: &&Path| matches!(path.phase, Phase::Up { .. });
        let usable = self.paths.iter().filter(usable);
        let direction = match request.operation {
            Operation::Read => Direction::Read,
            _ => Direction::Write,
        };
        let rates = usable.clone().map(|path| path.load.meter().rate(direction));
        let longest = policy::chunk::chunk_max(rates.min().unwrap_or(0));
        let usable = usable.count() as u32;
        let block_len = self.block_len();
        let granularity = self
            .config
            .description
            .optimal_granularity_blocks
            .map_or(block_len, |blocks| blocks.saturating_mul(block_len));
        let len = request.blocks.saturating_mul(block_len);
        (policy::chunk::chunk_len(len, usable, longest, granularity, u32::MAX) / block_len).max(1)
    }

    /// Writes parameter lists and zeros where the commands that leave now expect them.
    pub(super) fn fill_buffers(&mut self, id: PathId, memory: &mut dyn Memory) {
        let scratch = self.scratch(Link::Data(id));
        let Some(path) = self.paths.get_mut(usize::from(id.0)) else {
            return;
        };
        if let Some(examination) = path.examination()
            && let Some(group) = examination.check.activates()
            && examination.out.is_some()
        {
            set_groups_parameters(memory.write(scratch, 0, SET_GROUPS_LEN), group);
        }
        for task in path.fills.drain(..) {
            // Only for the command that asked for it: the slot may be another task's by now.
            if let Some(task) = self.tasks.at(task)
                && task.path == id
            {
                task.step.fill.write(BufferId(task.tag.0), memory);
            }
        }
    }
}
