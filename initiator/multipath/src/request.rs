//! Requests by tag: a fixed table, each slot in exactly one state, each request answered exactly once.
//!
//! ```text
//!             +--------------- retry, next step ---------------+
//!             v                                                |
//!   Free -> Waiting ---> Running --- ABORT TASK ---> Aborting -+
//!    ^         |            |                            |
//!    |         | no path    | answered                   | session lost
//!    |         v            v                            v
//!    +---- answered <--- HeldByFence (retry done, an older copy not proven dead yet)
//! ```
//!
//! Late binding: requests wait in one list in order of arrival, not on a path. A request that comes back from a
//! lost path goes to its old place in that list.

use std::collections::VecDeque;

use iscsi_client::time::Instant;

use crate::contract::{IoError, PathId, Request, Tag};
use crate::fence::Serial;
use crate::operation::{Plan, Step};

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
        again: 16,
    };
}

/// Where a request is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The tag is the block layer's.
    Free,
    /// In the list, for a path.
    Waiting {
        /// Not before then: the target asked for patience.
        not_before: Option<Instant>,
        /// Another path is better, if there is one: this one failed it.
        avoid: Option<PathId>,
    },
    /// A command of it is on this path's session.
    Running {
        /// Which path.
        path: PathId,
        /// The command.
        step: Step,
        /// No answer until then: ABORT TASK.
        deadline: Instant,
    },
    /// ABORT TASK was sent after its command.
    Aborting {
        /// Which path.
        path: PathId,
        /// The command.
        step: Step,
        /// No answer until then: the session is given up.
        deadline: Instant,
    },
    /// It has its result; the answer waits for a proof.
    HeldByFence {
        /// The answer.
        result: Result<(), IoError>,
    },
}

/// One tag.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// The request; meaningless while free.
    pub request: Request,
    /// Unique name and place in the order of arrival.
    pub serial: Serial,
    /// When it came.
    pub arrived: Instant,
    /// How far it has come.
    pub plan: Plan,
    /// What it may still cost.
    pub budget: Budget,
    /// Told apart from older commands of the same tag by this number.
    pub generation: u16,
    state: State,
}

/// All tags.
#[derive(Debug)]
pub struct Table {
    slots: Vec<Option<Slot>>,
    waiting: VecDeque<Tag>,
    next_serial: u64,
    generation: u16,
    in_flight: u32,
    held: u32,
    /// No request needs attention by itself before.
    deadline: Instant,
}

impl Table {
    /// A table for the tags 0..`depth`.
    pub fn new(depth: u16) -> Table {
        Table {
            slots: vec![None; usize::from(depth)],
            waiting: VecDeque::with_capacity(usize::from(depth)),
            next_serial: 0,
            generation: 0,
            in_flight: 0,
            held: 0,
            deadline: NEVER,
        }
    }

    /// Takes a request into the list.
    ///
    /// # Panics
    /// If the tag is beyond the depth or not answered yet: the runtime broke its contract.
    pub fn admit(&mut self, now: Instant, request: Request, plan: Plan) {
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
            generation: 0,
            state: State::Waiting {
                not_before: None,
                avoid: None,
            },
        });
        self.next_serial += 1;
        self.in_flight += 1;
        self.waiting.push_back(request.tag);
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

    /// As [`Table::slot`].
    pub fn slot_mut(&mut self, tag: Tag) -> &mut Slot {
        self.slots[usize::from(tag.0)]
            .as_mut()
            .expect("a request under this tag")
    }

    /// Where the request is.
    pub fn state(&self, tag: Tag) -> State {
        match &self.slots[usize::from(tag.0)] {
            Some(slot) => slot.state,
            None => State::Free,
        }
    }

    /// Tag at this place of the list, in order of arrival.
    pub fn waiting_at(&self, place: usize) -> Option<Tag> {
        self.waiting.get(place).copied()
    }

    /// Number of requests in the list.
    pub fn waiting(&self) -> u32 {
        self.waiting.len() as u32
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

    /// The request at this place of the list leaves on a path. Returns the generation of its command.
    pub fn run(&mut self, place: usize, path: PathId, step: Step, now: Instant) -> u16 {
        let tag = self.waiting.remove(place).expect("a place in the list");
        // 15 bits: the handle's top bit tells the volume's own commands apart.
        self.generation = (self.generation + 1) & 0x7fff;
        let generation = self.generation;
        let slot = self.slot_mut(tag);
        assert!(matches!(slot.state, State::Waiting { .. }));
        slot.generation = generation;
        slot.state = State::Running {
            path,
            step,
            deadline: now + step.timeout,
        };
        self.due(now + step.timeout);
        generation
    }

    /// ABORT TASK was sent for its command.
    pub fn abort(&mut self, tag: Tag, deadline: Instant) {
        let slot = self.slot_mut(tag);
        let State::Running { path, step, .. } = slot.state else {
            panic!("only a running command is aborted");
        };
        slot.state = State::Aborting {
            path,
            step,
            deadline,
        };
        self.due(deadline);
    }

    /// Its command ended; it goes to its place in the list.
    pub fn wait(&mut self, tag: Tag, not_before: Option<Instant>, avoid: Option<PathId>) {
        let slot = self.slot_mut(tag);
        assert!(matches!(
            slot.state,
            State::Running { .. } | State::Aborting { .. }
        ));
        slot.state = State::Waiting { not_before, avoid };
        let serial = slot.serial;
        let place = self
            .waiting
            .partition_point(|&other| self.slot(other).serial < serial);
        self.waiting.insert(place, tag);
        if let Some(at) = not_before {
            self.due(at);
        }
    }

    /// It has its result; the answer waits.
    pub fn hold(&mut self, tag: Tag, result: Result<(), IoError>) {
        self.unlist(tag);
        let slot = self.slot_mut(tag);
        assert!(
            !matches!(slot.state, State::HeldByFence { .. }),
            "a result came twice"
        );
        slot.state = State::HeldByFence { result };
        self.held += 1;
    }

    /// It is answered now: the tag is free. Each request gets here once.
    pub fn answer(&mut self, tag: Tag) {
        self.unlist(tag);
        let slot = self.slots[usize::from(tag.0)].take();
        let slot = slot.expect("an answer for a request that has none yet");
        if matches!(slot.state, State::HeldByFence { .. }) {
            self.held -= 1;
        }
        self.in_flight -= 1;
    }

    fn unlist(&mut self, tag: Tag) {
        if matches!(self.state(tag), State::Waiting { .. }) {
            let place = self.waiting.iter().position(|&other| other == tag);
            self.waiting
                .remove(place.expect("what waits is in the list"));
        }
    }

    /// It waits already, and rather for another path than this.
    pub fn avoid(&mut self, tag: Tag, path: PathId) {
        if let State::Waiting { avoid, .. } = &mut self.slot_mut(tag).state {
            *avoid = Some(path);
        }
    }

    /// Its session is being closed: only the loss ends this.
    pub fn await_loss(&mut self, tag: Tag) {
        if let State::Aborting { deadline, .. } = &mut self.slot_mut(tag).state {
            *deadline = NEVER;
        }
    }

    /// When a request may need attention by itself: end of patience, or no answer. Never too late, perhaps too
    /// early: [`Table::refresh_deadline`] looks again.
    pub fn deadline(&self) -> Option<Instant> {
        (self.deadline < NEVER).then_some(self.deadline)
    }

    /// Finds the deadline anew among all requests.
    pub fn refresh_deadline(&mut self) {
        self.deadline = self
            .slots
            .iter()
            .flatten()
            .filter_map(|slot| match slot.state {
                State::Waiting { not_before, .. } => not_before,
                State::Running { deadline, .. } | State::Aborting { deadline, .. } => {
                    Some(deadline)
                }
                State::Free | State::HeldByFence { .. } => None,
            })
            .min()
            .unwrap_or(NEVER);
    }

    fn due(&mut self, at: Instant) {
        self.deadline = self.deadline.min(at);
    }
}

const NEVER: Instant = Instant::from_nanos(u64::MAX);
