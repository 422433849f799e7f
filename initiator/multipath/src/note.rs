//! What the operator may want to know. A bounded list: the oldest are dropped and counted, so that a storm of
//! events costs neither memory nor the event that explains it.

use core::fmt;
use std::collections::VecDeque;

use iscsi_client::wire::Tpgt;

use crate::contract::{Dead, FenceKind, PathId, PathState};

/// Most notes kept until the runtime takes them.
const NOTES_MAX: usize = 128;

/// Something the operator may want to know; `Display` is a sentence without the volume's name, and with numbers for
/// paths: see [`Note::told`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Note {
    /// A path came up, went down, stands by or is refused. Steps on the way, and attempts that fail for the same
    /// reason as the last, are in `status` only.
    PathState {
        /// Which path.
        path: PathId,
        /// Its new state.
        state: PathState,
    },
    /// A silent path was given up.
    Dead {
        /// Which path.
        path: PathId,
        /// By what evidence, with the measured silence.
        dead: Dead,
    },
    /// The target moved a path for good; the configuration should follow.
    MovedPermanently {
        /// Which path.
        path: PathId,
        /// `host:port` as the target sent it.
        address: String,
    },
    /// A dead session is about to be fenced.
    FenceStarted {
        /// The path whose session died.
        path: PathId,
        /// The path through whose portal the login goes.
        via: PathId,
    },
    /// A dead session is proven dead.
    Fenced {
        /// The path whose session died.
        path: PathId,
        /// Unresolved writes that are resolved by it.
        resolved: u32,
        /// What proved it.
        by: FenceKind,
    },
    /// A session died with unresolved writes, and no other portal of its group can fence it.
    Holding {
        /// The path whose session died.
        path: PathId,
        /// Seconds until it is taken for dead, unless it returns before.
        seconds: u64,
    },
    /// A LOGICAL UNIT RESET was sent, as the operator allowed: every host's commands are aborted.
    LunReset {
        /// The path whose session died.
        path: PathId,
        /// The path it was sent on.
        via: PathId,
    },
    /// A fence login did not come to its end; it is tried again.
    FenceFailed {
        /// The path whose session died.
        path: PathId,
        /// Why, in one sentence.
        why: String,
    },
    /// The login landed in another portal group than the dead session: it proves nothing about that.
    OtherPortalGroup {
        /// Which path.
        path: PathId,
        /// Where the dead session was.
        expected: Option<Tpgt>,
        /// Where the login landed.
        found: Option<Tpgt>,
    },
    /// A write that was acknowledged is lost on the target; the next flush fails.
    EarlierWriteLost {
        /// Path on which the target said so.
        path: PathId,
    },
    /// A write cache was switched on behind the announced write-through; from now on every write is forced.
    WriteCacheOn,
    /// The LUN has grown: requests beyond its old end are taken from now on.
    Grown {
        /// Blocks before.
        from: u64,
        /// Blocks now.
        to: u64,
    },
    /// A path reports fewer blocks than the device has, or no more than before. Nothing beyond goes there.
    Shrunk {
        /// Which path.
        path: PathId,
        /// Blocks of the device.
        device: u64,
        /// Blocks that it reports.
        reported: u64,
    },
    /// No path serves the LUN: the target was told to serve it through this one's port group.
    Activating {
        /// Which path.
        path: PathId,
        /// Its port group.
        group: u16,
    },
    /// A port has been about to change its access state for too long; it counts as standby.
    TransitionTooLong {
        /// Which path.
        path: PathId,
    },
    /// The thin pool behind the LUN fills up.
    ThinThreshold,
    /// A reservation or registration of ours was taken away.
    ReservationLost,
    /// A command did not come back in time and is being aborted.
    CommandTimeout {
        /// Path it was sent on.
        path: PathId,
    },
    /// Too many of a path's last commands failed by its own fault: other paths go before it for a while.
    TooManyErrors {
        /// Which path.
        path: PathId,
    },
    /// A path was lost or silent again and again: other paths go before it for a while.
    Flapping {
        /// Which path.
        path: PathId,
        /// Seconds until it is trusted again, if nothing more happens.
        seconds: u64,
    },
    /// Requests were failed because no path works.
    NoPath {
        /// How many.
        failed: u32,
    },
    /// WRITE SAME is refused by the target; zeroing goes by plain writes.
    WriteSameRefused,
    /// UNMAP is refused by the target.
    UnmapRefused,
    /// Older notes were dropped.
    Dropped {
        /// How many.
        count: u64,
    },
}

impl Note {
    /// The path that it is about.
    pub fn path(&self) -> Option<PathId> {
        match *self {
            Note::PathState { path, .. }
            | Note::Dead { path, .. }
            | Note::MovedPermanently { path, .. }
            | Note::FenceStarted { path, .. }
            | Note::Fenced { path, .. }
            | Note::Holding { path, .. }
            | Note::LunReset { path, .. }
            | Note::FenceFailed { path, .. }
            | Note::OtherPortalGroup { path, .. }
            | Note::EarlierWriteLost { path }
            | Note::CommandTimeout { path }
            | Note::Shrunk { path, .. }
            | Note::Activating { path, .. }
            | Note::TransitionTooLong { path, .. }
            | Note::Flapping { path, .. }
            | Note::TooManyErrors { path } => Some(path),
            Note::WriteCacheOn
            | Note::Grown { .. }
            | Note::ThinThreshold
            | Note::ReservationLost
            | Note::NoPath { .. }
            | Note::WriteSameRefused
            | Note::UnmapRefused
            | Note::Dropped { .. } => None,
        }
    }

    /// The sentence, with paths by the names that `name` knows.
    pub fn told<'a>(&'a self, name: &'a dyn Fn(PathId) -> String) -> Told<'a> {
        Told { note: self, name }
    }
}

/// A note as a sentence.
pub struct Told<'a> {
    note: &'a Note,
    name: &'a dyn Fn(PathId) -> String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.told(&|path| format!("path {}", path.0)).fmt(f)
    }
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name;
        match self.note {
            Note::PathState { path, state } => write!(f, "{}: {state}", name(*path)),
            Note::Dead { path, dead } => write!(f, "{}: given up: {dead}", name(*path)),
            Note::MovedPermanently { path, address } => write!(
                f,
                "{}: the target moved to {address} for good; attach by that portal next time",
                name(*path)
            ),
            Note::FenceStarted { path, via } => write!(
                f,
                "{}: writes are unresolved; fencing its dead session through the portal of {}",
                name(*path),
                name(*via)
            ),
            Note::Fenced { path, resolved, by } => write!(
                f,
                "{}: its dead session is fenced by {by}, {resolved} unresolved writes are resolved",
                name(*path)
            ),
            Note::Holding { path, seconds } => write!(
                f,
                "{}: writes are unresolved and no other portal of its group can fence them; \
                 held until it is back, or for {seconds} s",
                name(*path)
            ),
            Note::LunReset { path, via } => write!(
                f,
                "{}: to fence its dead session, LOGICAL UNIT RESET was sent on {}; \
                 it aborts the commands of every host",
                name(*path),
                name(*via)
            ),
            Note::FenceFailed { path, why } => {
                write!(f, "{}: fencing its dead session failed: {why}", name(*path))
            }
            Note::OtherPortalGroup {
                path,
                expected,
                found,
            } => {
                let tag = |tag: &Option<Tpgt>| match tag {
                    Some(tag) => format!("portal group {}", tag.0),
                    None => "no portal group".to_owned(),
                };
                write!(
                    f,
                    "{}: the login landed in {}, its dead session was in {}: its writes stay unresolved",
                    name(*path),
                    tag(found),
                    tag(expected)
                )
            }
            Note::EarlierWriteLost { path } => write!(
                f,
                "{}: the target lost a write that it had acknowledged; the next flush fails",
                name(*path)
            ),
            Note::WriteCacheOn => f.write_str(
                "the target's write cache was switched on although the device was announced without one; \
                 every write is forced to the medium until the next attach",
            ),
            Note::Grown { from, to } => {
                write!(f, "the LUN has grown from {from} to {to} blocks")
            }
            Note::Shrunk {
                path,
                device,
                reported,
            } => write!(
                f,
                "{}: the target reports {reported} blocks, the device has {device}; \
                 requests beyond them do not go there. If the LUN was made smaller, what lay there is lost: \
                 grow it back or attach again",
                name(*path)
            ),
            Note::Activating { path, group } => write!(
                f,
                "{}: no port serves the LUN; the target was told to serve it through port group {group}",
                name(*path)
            ),
            Note::TransitionTooLong { path } => write!(
                f,
                "{}: its port has been changing its access state for too long; taken for standby",
                name(*path)
            ),
            Note::ThinThreshold => {
                f.write_str("the target's thin pool reached its threshold; add space before it is full")
            }
            Note::ReservationLost => {
                f.write_str("the target released or preempted a reservation or registration of ours")
            }
            Note::CommandTimeout { path } => write!(
                f,
                "{}: a command was not answered in time and is being aborted",
                name(*path)
            ),
            Note::TooManyErrors { path } => write!(
                f,
                "{}: too many of its last commands failed; other paths go before it for a while",
                name(*path)
            ),
            Note::Flapping { path, seconds } => write!(
                f,
                "{}: it failed or was silent several times; other paths go before it for the next {seconds} s",
                name(*path)
            ),
            Note::NoPath { failed } => write!(f, "no path works: {failed} requests failed"),
            Note::WriteSameRefused => {
                f.write_str("the target refuses WRITE SAME(16); zeroing goes by plain writes")
            }
            Note::UnmapRefused => f.write_str("the target refuses UNMAP; discards fail from now on"),
            Note::Dropped { count } => write!(f, "{count} older messages were dropped"),
        }
    }
}

/// The list.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    list: VecDeque<Note>,
    dropped: u64,
}

impl Notes {
    pub(crate) fn push(&mut self, note: Note) {
        if self.list.len() == NOTES_MAX {
            self.list.pop_front();
            self.dropped += 1;
        }
        self.list.push_back(note);
    }

    pub(crate) fn pop(&mut self) -> Option<Note> {
        if self.dropped > 0 {
            let count = core::mem::take(&mut self.dropped);
            return Some(Note::Dropped { count });
        }
        self.list.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_the_names_that_their_teller_knows() {
        let note = Note::FenceStarted {
            path: PathId(0),
            via: PathId(1),
        };
        assert_eq!(note.path(), Some(PathId(0)));
        let told = note
            .told(&|path| format!("10.20.{}.254", path.0 + 5))
            .to_string();
        assert!(told.starts_with("10.20.5.254: "), "{told}");
        assert!(told.ends_with("the portal of 10.20.6.254"), "{told}");
        assert!(note.to_string().starts_with("path 0: "));
    }

    #[test]
    fn a_storm_is_bounded_and_counted() {
        let mut notes = Notes::default();
        for failed in 0..NOTES_MAX as u32 + 3 {
            notes.push(Note::NoPath { failed });
        }
        assert_eq!(notes.pop(), Some(Note::Dropped { count: 3 }));
        assert_eq!(notes.pop(), Some(Note::NoPath { failed: 3 }));
        let mut left = 0;
        while notes.pop().is_some() {
            left += 1;
        }
        assert_eq!(left, NOTES_MAX - 1);
    }
}
