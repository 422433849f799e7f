//! Which path carries the next command. Plain data in, a choice out: nothing here sends, waits, measures or
//! remembers more than whose turn it was.
//!
//! Whatever the policy, this is asked first (SCHEDULING sections 2, 3 and 5), each rule only while it leaves a path:
//! no suspect; not the path that failed this very command; no marginal path; only the best access class; no
//! returning path that had its share. Then the policy spreads the load over what is left. One file per policy, one
//! signature.
//!
//! Beside the choice: how a request is cut ([`chunk`]), which class goes next ([`turns`]), when a read is sent twice
//! ([`hedge`]).

pub mod chunk;
pub mod eta;
mod failover;
pub mod hedge;
mod late_binding;
mod left;
mod queue_length;
mod round_robin;
mod service_time;
pub mod turns;

use core::time::Duration;

use crate::contract::{PathId, PolicyKind};
use left::Left;

/// Where data go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Direction {
    /// From the target.
    Read,
    /// To the target.
    Write,
}

/// One value per direction: a link is full duplex.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PerDirection<T> {
    /// From the target.
    pub read: T,
    /// To the target.
    pub write: T,
}

impl<T> PerDirection<T> {
    /// The value of one direction.
    pub fn of(&self, direction: Direction) -> &T {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }

    /// As [`PerDirection::of`].
    pub fn of_mut(&mut self, direction: Direction) -> &mut T {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }
}

/// How well a target port serves the logical unit (SPC-5, 5.18: asymmetric access states), best first.
/// States that carry no IO are not here: such a path is no candidate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AccessClass {
    /// Active/optimized, and the target prefers it.
    Preferred,
    /// Active/optimized, or the target reports no asymmetric access.
    Optimized,
    /// Depends on the block address.
    LbaDependent,
    /// Active, but slower.
    NonOptimized,
}

/// How far a path is trusted, best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Standing {
    /// Nothing against it.
    #[default]
    Full,
    /// It flaps, or fails too many commands: only if there is no better one.
    Marginal,
    /// It has been silent for too long, just now: only if there is no other.
    Suspect,
}

/// What a path that came back may carry, in bytes outstanding, both directions together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Allowance {
    /// It is not on probation.
    #[default]
    Unlimited,
    /// So much.
    Bytes(u64),
    /// So much, if there is no other path: it had its share of the volume's bytes for now.
    Spent(u64),
}

/// Two queues, so that a small request never waits behind megabytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Class {
    /// Up to 32 KiB, and all that moves no data: flush, reservation, lease.
    Small,
    /// The rest.
    Bulk,
}

impl Class {
    /// Longest small request, in bytes.
    pub const SMALL_MAX: u32 = 32 * 1024;

    /// The class of a request (not of a chunk of it) of `len` data bytes, 0 if it moves none.
    pub fn of(len: u32) -> Class {
        if len <= Class::SMALL_MAX {
            Class::Small
        } else {
            Class::Bulk
        }
    }
}

/// The command that wants a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    /// Where its data go; `None` if it has none.
    pub direction: Option<Direction>,
    /// Its data in bytes: of the chunk, where the request was cut.
    pub len: u32,
    /// Of the request.
    pub class: Class,
    /// Bytes of all that waits to go the same way and not after this one, this one included: of both classes for bulk,
    /// of its own for small.
    pub backlog: u64,
    /// For how long more than one request has been waiting for a path, without a pause. Chunks of one request do not
    /// make it two; what waits for a time or for a fence does not count.
    pub pressed: Duration,
    /// There is no small request that a longer queue could delay: not for a second.
    pub bulk_is_alone: bool,
    /// Rather not there: it failed there, or another copy of it is there. Kept to while any other path that is not
    /// suspect is usable, and no longer; who must not have it there compares the choice.
    pub avoid: Option<PathId>,
}

/// A path that may carry IO, as it is now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Which.
    pub path: PathId,
    /// How well it serves the LUN.
    pub access: AccessClass,
    /// How far it is trusted.
    pub standing: Standing,
    /// It can take a command now: there is room in its command window and its depth limit.
    pub open: bool,
    /// Commands outstanding.
    pub in_flight: u32,
    /// Bytes asked for and not finished: Q(i,d).
    pub queued: PerDirection<u64>,
    /// Delivery rate in bytes per second, not 0: B(i,d).
    pub rate: PerDirection<u64>,
    /// What is to be expected beside the bytes, target and medium included: R(i), by habit.
    pub latency: Duration,
    /// Stall penalty: E(i).
    pub stall: Duration,
    /// Bytes that may be outstanding: W(i,d). Read by [`PolicyKind::LateBinding`] only.
    pub window: PerDirection<u64>,
    /// What its probation allows.
    pub allowance: Allowance,
}

impl Candidate {
    /// A path of which nothing is known but that it may carry IO: no limit, the rate everything starts with.
    pub fn plain(path: PathId, access: AccessClass, open: bool, in_flight: u32) -> Candidate {
        let both = |value| PerDirection {
            read: value,
            write: value,
        };
        Candidate {
            path,
            access,
            standing: Standing::Full,
            open,
            in_flight,
            queued: both(0),
            rate: both(crate::path::meter::START_RATE),
            latency: Duration::ZERO,
            stall: Duration::ZERO,
            window: both(u64::MAX),
            allowance: Allowance::Unlimited,
        }
    }

    /// Whether it can take the command at all: room for one more, and the ramp allows its bytes. A path on probation
    /// that is idle takes one command whatever its length, or a long one would never leave.
    fn takes(&self, ask: &Ask) -> bool {
        let queued = self.queued.read.saturating_add(self.queued.write);
        let allowed = match self.allowance {
            Allowance::Unlimited => u64::MAX,
            Allowance::Bytes(bytes) | Allowance::Spent(bytes) => bytes,
        };
        self.open && (self.in_flight == 0 || queued.saturating_add(u64::from(ask.len)) <= allowed)
    }
}

/// What a policy decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// On this path, now.
    Send(PathId),
    /// Not now: ask again when something completes, or a path changes.
    Wait,
}

/// What a policy remembers between two choices.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PolicyState {
    last: Option<PathId>,
}

/// Whose turn it is among equals: those behind the last one chosen, then those before it, each in order.
fn in_turn(state: &PolicyState, path: PathId) -> (bool, PathId) {
    (state.last.is_some_and(|last| path <= last), path)
}

/// The path for the next command. `candidates` are in the order of their ids.
pub fn choose(
    kind: PolicyKind,
    state: &mut PolicyState,
    ask: &Ask,
    candidates: &[Candidate],
) -> Choice {
    debug_assert!(candidates.is_sorted_by_key(|candidate| candidate.path));
    let left = Left::all(candidates)
        .prefer(|candidate| candidate.standing != Standing::Suspect)
        .prefer(|candidate| Some(candidate.path) != ask.avoid)
        .prefer(|candidate| candidate.standing == Standing::Full);
    let Some(best) = left.iter().map(|candidate| candidate.access).min() else {
        return Choice::Wait;
    };
    let left = left
        .prefer(|candidate| candidate.access == best)
        .prefer(|candidate| !matches!(candidate.allowance, Allowance::Spent(_)))
        .iter();
    let chosen = match kind {
        PolicyKind::RoundRobin => round_robin::choose(state, ask, left),
        PolicyKind::Failover => failover::choose(ask, left),
        PolicyKind::QueueLength => queue_length::choose(state, ask, left),
        PolicyKind::ServiceTime => service_time::choose(state, ask, left),
        PolicyKind::LateBinding => late_binding::choose(ask, left),
    };
    match chosen {
        Some(path) => {
            state.last = Some(path);
            Choice::Send(path)
        }
        None => Choice::Wait,
    }
}

#[cfg(test)]
mod tests;
