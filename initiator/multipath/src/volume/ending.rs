//! The volume's end: what waits is failed, fences get their time, every session is logged out, and what is left
//! when patience runs out is cut.

use core::time::Duration;

use iscsi_client::time::Instant;

use super::{CloseHow, IoError, PathId, Volume};
use crate::path::{After, Phase};

/// Where the volume is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Life {
    Running,
    /// No new requests; commands in flight and fences come to their end, until the deadline.
    Draining {
        deadline: Instant,
    },
    /// Sessions log out. `None`: the deadline is over, everything is being cut.
    LoggingOut {
        deadline: Option<Instant>,
    },
    /// No link, no request.
    Over,
}

impl Life {
    pub(super) fn deadline(&self) -> Option<Instant> {
        match *self {
            Life::Running | Life::Over => None,
            Life::Draining { deadline } => Some(deadline),
            Life::LoggingOut { deadline } => deadline,
        }
    }
}

impl Volume {
    pub(super) fn begin_to_end(&mut self, now: Instant, patience: Duration) {
        if self.life != Life::Running {
            return;
        }
        self.life = Life::Draining {
            deadline: now + patience,
        };
        self.fail_waiting();
    }

    pub(super) fn go_on_ending(&mut self, now: Instant) {
        if let Life::Draining { deadline } = self.life {
            let late = now >= deadline;
            if late || (self.table.in_flight() == 0 && self.ledger.is_empty()) {
                self.life = Life::LoggingOut {
                    deadline: Some(deadline),
                };
                for id in self.path_ids() {
                    self.call_off_fence(id);
                    self.end_path(now, id, deadline);
                }
            }
        }
        if let Life::LoggingOut {
            deadline: Some(deadline),
        } = self.life
            && now >= deadline
        {
            self.life = Life::LoggingOut { deadline: None };
            for id in self.path_ids() {
                self.close_path(now, id, CloseHow::Abort, After::Stop);
            }
        }
        if let Life::LoggingOut { .. } = self.life {
            // What a cut session leaves behind is remembered as unresolved, not held for ever.
            self.fail_idle();
            let unlinked = self
                .paths
                .iter()
                .all(|path| matches!(path.phase, Phase::Refused { .. } | Phase::Removed))
                && self.fences.iter().all(super::Fence::is_idle);
            if unlinked {
                self.fail_for_good();
                self.life = Life::Over;
            }
        }
    }

    fn end_path(&mut self, now: Instant, id: PathId, deadline: Instant) {
        if self.path(id).is_established() {
            self.set_phase(now, id, Phase::Leaving { deadline });
            if let Some(session) = &mut self.path_mut(id).session {
                session.logout(now);
            }
            return;
        }
        match self.path(id).phase {
            Phase::Down { .. } | Phase::Offline => {
                let why = "the volume was detached".to_owned();
                self.set_phase(now, id, Phase::Refused { why });
            }
            Phase::Leaving { .. }
            | Phase::Closing { .. }
            | Phase::Refused { .. }
            | Phase::Removed => {}
            _ => self.close_path(now, id, CloseHow::Abort, After::Stop),
        }
    }

    /// Even requests whose copies the ledger had no room for are answered now: the list in `status` stays what it
    /// is, and nothing more is sent.
    fn fail_for_good(&mut self) {
        let left: Vec<_> = self.table.tags().collect();
        for tag in left {
            self.ledger.disown_beyond_bound(self.table.slot(tag).serial);
            self.table.answer(tag);
            self.complete(tag, Err(IoError::Io));
        }
    }
}
