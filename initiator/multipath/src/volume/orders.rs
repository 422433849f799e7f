//! The operator's orders about one path: fail, restore, remove.
//!
//! *Fail* takes a path out at once: its connection is closed, what it carried moves as after a loss, and it stays out
//! until *restore*. *Remove* takes it out for good: no new IO, a logout when it is idle. Neither is the path's fault, so
//! neither counts against it later; *restore* also forgives what did.
//!
//! No order weakens the fence. Writes of a closed session are unresolved as after any loss. A removed path keeps its
//! place, and its ISID, until its last session is proven dead; then [`Volume::add_path`] may give the place away.

use core::fmt;
use core::time::Duration;

use iscsi_client::time::Instant;
use iscsi_client::wire::Isid;

use super::ending::Life;
use super::{CloseHow, PathId, Volume};
use crate::path::{After, Duty, Path, Phase};

/// A path that is removed may finish for so long what it carries; what is left then moves as after a loss.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// Why an order about a path was not carried out. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OrderRefused {
    /// The volume has no such path, or is removing it.
    NoSuchPath,
    /// It would be left without any path.
    LastPath,
    /// It would be left without a path that carries IO.
    OnlyWorkingPath,
    /// It is being detached.
    Ending,
}

impl fmt::Display for OrderRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OrderRefused::NoSuchPath => "the volume has no such path, or is removing it",
            OrderRefused::LastPath => "it is the volume's last path",
            OrderRefused::OnlyWorkingPath => "it is the only path that carries IO",
            OrderRefused::Ending => "the volume is being detached",
        })
    }
}

impl Volume {
    /// The path with this ISID: the name that no other path of the host ever has.
    pub fn path_of(&self, isid: Isid) -> Option<PathId> {
        self.path_ids()
            .find(|&id| !self.is_vacant(id) && self.path(id).config.isid == isid)
    }

    /// Closes the path at once. It stays [`PathState::Offline`] until [`Volume::restore_path`], also where it is the only
    /// one that works: then requests wait or fail as the volume's rule says. Again: changes nothing.
    ///
    /// # Errors
    /// There is no such path, or the volume is ending.
    ///
    /// [`PathState::Offline`]: super::PathState::Offline
    pub fn fail_path(&mut self, now: Instant, id: PathId) -> Result<(), OrderRefused> {
        self.ordered(id)?;
        let path = self.path_mut(id);
        if path.duty == Duty::Leave {
            return Err(OrderRefused::NoSuchPath);
        }
        path.duty = Duty::Rest;
        match path.phase {
            Phase::Down { .. } | Phase::Refused { .. } => self.set_phase(now, id, Phase::Offline),
            _ => self.close_path(now, id, CloseHow::Abort, After::Stop),
        }
        self.settle(now);
        Ok(())
    }

    /// The path serves again: an offline one, or one that is being removed. Refusal, backoff, suspicion of a second host
    /// and all blame are forgotten, and a path that is down is tried at once.
    ///
    /// # Errors
    /// There is no such path, or the volume is ending.
    pub fn restore_path(&mut self, now: Instant, id: PathId) -> Result<(), OrderRefused> {
        self.ordered(id)?;
        let path = self.path_mut(id);
        path.duty = Duty::Serve;
        path.forgive();
        match path.phase {
            Phase::Down { .. } | Phase::Refused { .. } | Phase::Offline | Phase::Removed => {
                self.connect(now, id);
            }
            // A connection that is ending is followed by another, as the path serves again.
            _ => {}
        }
        self.fences[usize::from(id.0)].retry_now(now);
        self.settle(now);
        Ok(())
    }

    /// Takes the path out for good: no new IO, a logout when what it carries is done, or an end after [`DRAIN_LIMIT`].
    /// Gone from [`Volume::status`] when its last session is proven dead. Again: changes nothing.
    ///
    /// # Errors
    /// Without it, the volume would have no path, or none that carries IO while this one does; such a path can be failed
    /// first. There is no such path, or the volume is ending.
    pub fn remove_path(&mut self, now: Instant, id: PathId) -> Result<(), OrderRefused> {
        self.ordered(id)?;
        let others = || {
            let stays = |path: &&Path| path.duty != Duty::Leave;
            let others = self.path_ids().filter(move |&other| other != id);
            others.map(|other| self.path(other)).filter(stays)
        };
        if self.path(id).duty == Duty::Leave {
            return Ok(());
        } else if others().next().is_none() {
            return Err(OrderRefused::LastPath);
        } else if self.path(id).is_usable() && !others().any(Path::is_usable) {
            return Err(OrderRefused::OnlyWorkingPath);
        }
        self.path_mut(id).duty = Duty::Leave;
        match self.path(id).phase {
            Phase::Down { .. } | Phase::Refused { .. } | Phase::Offline => {
                self.set_phase(now, id, Phase::Removed);
            }
            _ if self.path(id).is_established() => self.leave(now, id, DRAIN_LIMIT),
            // It is leaving already; what follows is decided when it is gone.
            Phase::Leaving { .. } => {}
            _ => self.close_path(now, id, CloseHow::Abort, After::Stop),
        }
        self.settle(now);
        Ok(())
    }

    /// Whether orders about this path can be carried out at all.
    fn ordered(&self, id: PathId) -> Result<(), OrderRefused> {
        if usize::from(id.0) >= self.paths.len() || self.is_vacant(id) {
            return Err(OrderRefused::NoSuchPath);
        }
        match self.life {
            Life::Running => Ok(()),
            _ => Err(OrderRefused::Ending),
        }
    }

    /// Whether the path was removed and nothing is left of it: its place may be given to another.
    pub(super) fn is_vacant(&self, id: PathId) -> bool {
        let path = self.path(id);
        matches!(path.phase, Phase::Removed)
            && self.ledger.owed_by(path.config.isid).next().is_none()
            && self.fences[usize::from(id.0)].is_idle()
    }
}
