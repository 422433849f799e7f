//! Requests by tag: a fixed table, each request answered exactly once, and the two lists of what waits for a path.
//!
//! ```text
//!   Free --> Active --------------> HeldByFence --> answered
//!              |  every part done,    (retry done, an older copy not proven dead yet)
//!              |  no task left              ^
//!              +----------------------------+--> answered
//! ```
//!
//! An active request is a plan and up to [`PARTS_MAX`] *parts*: a part is a span of it that has been handed out and is
//! not done. Late binding: what waits, waits in a list in order of arrival, not on a path. A part that comes back from
//! a lost path makes its request go to its old place in that list. A request is answered only when no task of it can
//! touch its buffer any more.

use std::collections::VecDeque;

use iscsi_client::memory::BufferId;
use iscsi_client::time::Instant;

use crate::contract::{IoError, Operation, PathId, Request, Tag};
use crate::fence::Serial;
use crate::operation::{Plan, Span};
use crate::policy::{Class, Direction, PerDirection};
use crate::task::TaskId;

/// Parts of one request at a time. The longest request (512 KiB) in the shortest chunks (64 KiB) has as many.
pub const PARTS_MAX: usize = 8;

/// What a request may still cost before it fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Errors that may be one path's own: once on another path.
    pub elsewhere: u8,
    /// Unit attentions, aborted tasks, transport errors that the target reports, timeouts.
    pub again: u8,
}

impl Budget {
    const FULL: Budget = Budget {
        elsewhere: 1,
        again: 2 * PARTS_MAX as u8,
    };
}

/// A second copy of a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hedge {
    /// There was none.
    None,
    /// It runs.
    Running(TaskId),
    /// It came to nothing, and is not tried again.
    Spent,
    /// It is complete, in the spare; the original may still touch the place where it belongs.
    Landed(BufferId),
}

/// A span that was handed out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// None here.
    Idle,
    /// In the list, for a path.
    Waiting {
        /// What it covers.
        span: Span,
        /// Not before then: the target asked for patience.
        not_before: Option<Instant>,
        /// Another path is better, if there is one: this one failed it.
        avoid: Option<PathId>,
    },
    /// On one session, or on two.
    Out {
        /// What it covers.
        span: Span,
        /// The request's own task; gone when its session was lost while the hedge goes on.
        original: Option<TaskId>,
        /// The second copy.
        hedge: Hedge,
    },
}

/// Whether the request has its result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It is being worked on.
    Active,
    /// It failed; the answer waits for the tasks that are still out.
    Failing(IoError),
    /// It has its result; the answer waits for a proof.
    HeldByFence(Result<(), IoError>),
}

/// One tag.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// The request.
    pub request: Request,
    /// Unique name and place in the order of arrival.
    pub serial: Serial,
    /// When it came.
    pub arrived: Instant,
    /// What has not been handed out yet.
    pub plan: Plan,
    /// What it may still cost.
    pub budget: Budget,
    /// Which list it waits in.
    pub class: Class,
    /// What has been handed out.
    pub parts: [Part; PARTS_MAX],
    /// Whether it has its result.
    pub state: State,
    listed: bool,
    /// Blocks that wait for a path and cross the wire, as counted in the backlog.
    backlog: u32,
}

/// What a request in the list offers to a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// This part again.
    Again {
        /// Which.
        part: u8,
        /// What it covers.
        span: Span,
        /// Another path is better.
        avoid: Option<PathId>,
    },
    /// Something of the plan, as this part.
    Fresh {
        /// A free place for it.
        part: u8,
    },
}

impl Slot {
    /// Whether a task of it is on a session.
    pub fn is_out(&self) -> bool {
        self.parts
            .iter()
            .any(|part| matches!(part, Part::Out { .. }))
    }

    /// Whether everything of the present plan is done.
    pub fn is_through(&self) -> bool {
        !self.plan.has_more(&self.request)
            && self.parts.iter().all(|part| matches!(part, Part::Idle))
    }

    fn free_part(&self) -> Option<u8> {
        let place = self
            .parts
            .iter()
            .position(|part| matches!(part, Part::Idle))?;
        // Commands without data of their own follow one another: they share the start of the buffer.
        let alone = self.parts.iter().all(|part| matches!(part, Part::Idle));
        (alone || self.plan.is_parallel()).then_some(place as u8)
    }

    /// Whether something of it waits for a path.
    pub fn has_work(&self) -> bool {
        let waits = |part: &Part| matches!(part, Part::Waiting { .. });
        matches!(self.state, State::Active)
            && (self.parts.iter().any(waits)
                || (self.plan.has_more(&self.request) && self.free_part().is_some()))
    }

    /// The first piece of it that may go to a path now.
    pub fn work(&self, now: Instant) -> Option<Work> {
        let again = self.parts.iter().zip(0..).find_map(|(part, index)| {
            let Part::Waiting {
                span,
                not_before,
                avoid,
            } = *part
            else {
                return None;
            };
            not_before
                .is_none_or(|at| now >= at)
                .then_some(Work::Again {
                    part: index,
                    span,
                    avoid,
                })
        });
        let fresh = || {
            let part = self
                .plan
                .has_more(&self.request)
                .then(|| self.free_part())??;
            Some(Work::Fresh { part })
        };
        again.or_else(fresh)
    }

    fn blocks_waiting(&self) -> u32 {
        if self.state != State::Active {
            return 0;
        }
        let moves = self.plan.is_parallel();
        let parts = self.parts.iter().map(|part| match part {
            Part::Waiting { span, .. } if moves => span.blocks,
            _ => 0,
        });
        parts.sum::<u32>() + self.plan.blocks_to_move(&self.request)
    }
}

/// All tags.
#[derive(Debug)]
pub struct Table {
    slots: Vec<Option<Slot>>,
    /// By class, in order of arrival: requests with work for a path.
    lists: [VecDeque<Tag>; 2],
    next_serial: u64,
    in_flight: u32,
    held: u32,
    /// Blocks that wait for a path, by class and direction.
    backlog: [PerDirection<u64>; 2],
}

fn index(class: Class) -> usize {
    match class {
        Class::Small => 0,
        Class::Bulk => 1,
    }
}

impl Table {
    /// A table for the tags 0..`depth`.
    pub fn new(depth: u16) -> Table {
        let list = || VecDeque::with_capacity(usize::from(depth));
        Table {
            slots: vec![None; usize::from(depth)],
            lists: [list(), list()],
            next_serial: 0,
            in_flight: 0,
            held: 0,
            backlog: [PerDirection::default(); 2],
        }
    }

    /// Takes a request into the list.
    ///
    /// # Panics
    /// If the tag is beyond the depth or not answered yet: the runtime broke its contract.
    pub fn admit(&mut self, now: Instant, request: Request, plan: Plan, class: Class) {
        let slot = &mut self.slots[usize::from(request.tag.0)];
        assert!(
            slot.is_none(),
            "{:?} was submitted before it was answered",
            request.tag
        );
        *slot = Some(Slot {
            request,
            serial: Serial(self.next_serial),
            arrived: now,
            plan,
            budget: Budget::FULL,
            class,
            parts: [Part::Idle; PARTS_MAX],
            state: State::Active,
            listed: false,
            backlog: 0,
        });
        self.next_serial += 1;
        self.in_flight += 1;
        self.relist(request.tag);
    }

    /// Whether the tag is the block layer's.
    pub fn is_free(&self, tag: Tag) -> bool {
        self.slots[usize::from(tag.0)].is_none()
    }

    /// The slot of a request that is not answered.
    ///
    /// # Panics
    /// If the tag is free.
    pub fn slot(&self, tag: Tag) -> &Slot {
        self.slots[usize::from(tag.0)]
            .as_ref()
            .expect("a request under this tag")
    }

    /// As [`Table::slot`]. Who changes its parts, plan or state calls [`Table::relist`].
    pub fn slot_mut(&mut self, tag: Tag) -> &mut Slot {
        self.slots[usize::from(tag.0)]
            .as_mut()
            .expect("a request under this tag")
    }

    /// Tag at this place of a class's list, in order of arrival.
    pub fn listed(&self, class: Class, place: usize) -> Option<Tag> {
        self.lists[index(class)].get(place).copied()
    }

    /// Requests with something that waits for a path.
    pub fn waiting(&self) -> u32 {
        self.lists.iter().map(|list| list.len() as u32).sum()
    }

    /// Blocks that wait to go this way and not after a request of this class: those of both for bulk.
    pub fn backlog(&self, class: Class, direction: Direction) -> u64 {
        let of = |class| *self.backlog[index(class)].of(direction);
        match class {
            Class::Small => of(Class::Small),
            Class::Bulk => of(Class::Small) + of(Class::Bulk),
        }
    }

    /// Requests accepted and not answered.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Requests whose answer waits for a fence.
    pub fn held(&self) -> u32 {
        self.held
    }

    /// Tags that are not free.
    pub fn tags(&self) -> impl Iterator<Item = Tag> + '_ {
        (0..self.slots.len() as u16)
            .map(Tag)
            .filter(|&tag| !self.is_free(tag))
    }

    /// Its parts, plan or state have changed: it is in its list if, and only if, it has work for a path.
    pub fn relist(&mut self, tag: Tag) {
        let slot = self.slot_mut(tag);
        let (listed, serial, class) = (slot.listed, slot.serial, slot.class);
        let (counted, backlog) = (slot.backlog, slot.blocks_waiting());
        let has_work = slot.has_work();
        slot.listed = has_work;
        slot.backlog = backlog;
        let direction = match slot.request.operation {
            Operation::Write => Direction::Write,
            _ => Direction::Read,
        };
        let total = self.backlog[index(class)].of_mut(direction);
        *total = *total + u64::from(backlog) - u64::from(counted);
        let list = &self.lists[index(class)];
        match (listed, has_work) {
            (false, true) => {
                let place = list.partition_point(|&other| self.slot(other).serial < serial);
                self.lists[index(class)].insert(place, tag);
            }
            (true, false) => {
                let place = list.partition_point(|&other| self.slot(other).serial < serial);
                let removed = self.lists[index(class)].remove(place);
                assert_eq!(removed, Some(tag), "the list is in order of arrival");
            }
            (true, true) | (false, false) => {}
        }
    }

    /// It has its result; the answer waits for a fence.
    pub fn hold(&mut self, tag: Tag, result: Result<(), IoError>) {
        let slot = self.slot_mut(tag);
        assert!(
            !matches!(slot.state, State::HeldByFence(_)),
            "a result came twice"
        );
        assert!(!slot.is_out(), "a result while a task is out");
        slot.state = State::HeldByFence(result);
        slot.parts = [Part::Idle; PARTS_MAX];
        self.held += 1;
        self.relist(tag);
    }

    /// It is answered now: the tag is free. Each request gets here once.
    ///
    /// # Panics
    /// If a task of it is still on a session.
    pub fn answer(&mut self, tag: Tag) {
        let slot = self.slot_mut(tag);
        assert!(!slot.is_out(), "an answer while a task is out");
        if matches!(slot.state, State::HeldByFence(_)) {
            self.held -= 1;
        } else {
            // Whatever of it waits is not sent any more.
            slot.state = State::HeldByFence(Ok(()));
            self.relist(tag);
        }
        self.slots[usize::from(tag.0)] = None;
        self.in_flight -= 1;
    }

    /// When something that waits may go, that may not go now.
    pub fn next_patience(&self, now: Instant) -> Option<Instant> {
        let parts = self.slots.iter().flatten().flat_map(|slot| &slot.parts);
        parts
            .filter_map(|part| match part {
                // Patience that is over needs a path now, not a timer.
                Part::Waiting { not_before, .. } => not_before.filter(|&at| at > now),
                Part::Out { .. } | Part::Idle => None,
            })
            .min()
    }
}
