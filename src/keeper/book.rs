//! Who asked for what, until a note of the lockspace answers it.
//!
//! One call per lease at a time: the lockspace's notes name the lease, not the call.

use lockmgr::ondisk::{Event, ForceMode, HostId, Name};
use lockmgr::{JoinError, LeaseError, LeaseId, Mode, Note, OnOwner};
use tokio::sync::{mpsc, oneshot};

use super::gates::{GateError, Gates};
use super::news::Reporter;
use super::picture::Picture;

/// Where an answer goes. Who has gone away does not hear it; what was done stays done.
pub type Reply<T, E> = oneshot::Sender<Result<T, E>>;

/// Why a lockspace is not left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeaveError {
    /// Leases are held, or something is under way with one.
    InUse,
}

/// What a keeper can be asked.
#[derive(Debug)]
pub enum Call {
    /// Give the slot back, and end. One that is being joined, or is lost, is given up: its slot expires.
    Leave(Reply<(), LeaveError>),
    /// End, whatever is held: what it protects is not written any more, and the slot expires.
    Abandon,
    /// Acquire a lease; answers its version.
    Acquire {
        /// Its area.
        id: LeaseId,
        /// Its name.
        name: Name,
        /// How.
        mode: Mode,
        /// Whether to wait for the death of its owner.
        on_owner: OnOwner,
        /// Where the answer goes.
        reply: Reply<u64, LeaseError>,
    },
    /// Hold it otherwise.
    Convert {
        /// Its area.
        id: LeaseId,
        /// How.
        mode: Mode,
        /// One sector for the lock value block, on the way to shared.
        lvb: Option<Box<[u8]>>,
        /// Where the answer goes.
        reply: Reply<(), LeaseError>,
    },
    /// Let go, or stop to acquire.
    Release {
        /// Its area.
        id: LeaseId,
        /// One sector for the lock value block.
        lvb: Option<Box<[u8]>>,
        /// Where the answer goes.
        reply: Reply<(), LeaseError>,
    },
    /// Let go, and leave the resource under another name.
    Rename {
        /// Its area.
        id: LeaseId,
        /// The name that is left.
        name: Name,
        /// One sector for the lock value block.
        lvb: Option<Box<[u8]>>,
        /// Where the answer goes.
        reply: Reply<(), LeaseError>,
    },
    /// Ask the owner of a lease to let go.
    Ask {
        /// Its area.
        id: LeaseId,
        /// Its name.
        name: Name,
        /// Force or graceful.
        force_mode: ForceMode,
        /// Where the answer goes.
        reply: Reply<(), LeaseError>,
    },
    /// Tell a host something.
    Tell {
        /// Whom.
        host: HostId,
        /// What.
        event: Event,
    },
    /// What other hosts say from now on goes here; what finds no room is lost.
    Hear(mpsc::Sender<Heard>),
    /// What happens from now on is told here as well.
    Report(Reporter),
    /// Read the lock value block of a lease that is held.
    ReadLvb {
        /// Its area.
        id: LeaseId,
        /// Where the answer goes.
        reply: Reply<Box<[u8]>, LeaseError>,
    },
    /// Protect further volumes from now on, and others no more: these must be drained.
    Guard {
        /// Their gates are armed with the present renewal.
        add: Gates,
        /// Their gates are disarmed.
        remove: Gates,
        /// Where the answer goes: all was done, or all but what was refused.
        reply: Reply<(), GateError>,
    },
    /// How things stand.
    Look(oneshot::Sender<Picture>),
}

/// What another host says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// An event.
    Told {
        /// Whose.
        from: HostId,
        /// Its generation.
        generation: u64,
        /// What it is.
        event: Event,
    },
    /// It wants a lease that we hold.
    AskedToRelease {
        /// Its area.
        id: LeaseId,
        /// How much.
        force_mode: ForceMode,
    },
}

impl Heard {
    /// What a note says of other hosts.
    pub(super) fn of(note: &Note) -> Option<Heard> {
        match *note {
            Note::Told {
                from,
                generation,
                event,
            } => Some(Heard::Told {
                from,
                generation,
                event,
            }),
            Note::AskedToRelease { id, force_mode } => {
                Some(Heard::AskedToRelease { id, force_mode })
            }
            _ => None,
        }
    }
}

/// What is under way with a lease.
#[derive(Debug)]
pub(super) enum Errand {
    Acquire(Reply<u64, LeaseError>),
    /// The second wants what the first acquires let go, as soon as it is acquired or given up.
    GiveUp(Reply<u64, LeaseError>, Reply<(), LeaseError>),
    Convert(Reply<(), LeaseError>),
    Release(Reply<(), LeaseError>),
    Ask(Reply<(), LeaseError>),
    Lvb(Reply<Box<[u8]>, LeaseError>),
}

impl Errand {
    pub fn fail(self, error: LeaseError) {
        match self {
            Errand::Acquire(reply) => drop(reply.send(Err(error))),
            Errand::GiveUp(acquirer, releaser) => {
                let _ = acquirer.send(Err(error));
                let _ = releaser.send(Ok(()));
            }
            Errand::Convert(reply) | Errand::Release(reply) | Errand::Ask(reply) => {
                let _ = reply.send(Err(error));
            }
            Errand::Lvb(reply) => drop(reply.send(Err(error))),
        }
    }
}

/// All that is under way.
#[derive(Debug, Default)]
pub(super) struct Book {
    join: Option<Reply<u64, JoinError>>,
    pub leave: Option<Reply<(), LeaveError>>,
    errands: Vec<(LeaseId, Errand)>,
}

impl Book {
    /// The join is under way.
    pub fn joining(reply: Reply<u64, JoinError>) -> Book {
        Book {
            join: Some(reply),
            ..Book::default()
        }
    }

    /// Writes an errand down; the lease must have none.
    pub fn enter(&mut self, id: LeaseId, errand: Errand) {
        debug_assert!(!self.is_busy(id), "one errand per lease");
        self.errands.push((id, errand));
    }

    pub fn is_busy(&self, id: LeaseId) -> bool {
        self.errands.iter().any(|(of, _)| *of == id)
    }

    pub fn len(&self) -> usize {
        self.errands.len()
    }

    /// Those with which something is under way.
    pub fn leases(&self) -> impl Iterator<Item = LeaseId> + '_ {
        self.errands.iter().map(|(id, _)| *id)
    }

    /// Those that are being acquired.
    pub fn acquiring(&self) -> impl Iterator<Item = LeaseId> + '_ {
        self.errands.iter().filter_map(|(id, errand)| match errand {
            Errand::Acquire(_) | Errand::GiveUp(..) => Some(*id),
            _ => None,
        })
    }

    /// Somebody wants what is being acquired let go. Gives the reply back if nothing is, or somebody does already.
    pub fn give_up(
        &mut self,
        id: LeaseId,
        releaser: Reply<(), LeaseError>,
    ) -> Result<(), Reply<(), LeaseError>> {
        match self.take(id) {
            Some(Errand::Acquire(acquirer)) => {
                self.enter(id, Errand::GiveUp(acquirer, releaser));
                Ok(())
            }
            Some(other) => {
                self.enter(id, other);
                Err(releaser)
            }
            None => Err(releaser),
        }
    }

    fn take(&mut self, id: LeaseId) -> Option<Errand> {
        let place = self.errands.iter().position(|(of, _)| *of == id)?;
        Some(self.errands.swap_remove(place).1)
    }

    /// Answers whoever waits for this. A lease that came too late to be given up is to be released now: its id.
    pub fn note(&mut self, note: &Note) -> Option<LeaseId> {
        match note {
            Note::Joined { generation } => {
                if let Some(reply) = self.join.take() {
                    let _ = reply.send(Ok(*generation));
                }
            }
            Note::JoinFailed(error) => {
                if let Some(reply) = self.join.take() {
                    let _ = reply.send(Err(*error));
                }
            }
            Note::Left => {
                if let Some(reply) = self.leave.take() {
                    let _ = reply.send(Ok(()));
                }
            }
            Note::LeaveRefused => {
                if let Some(reply) = self.leave.take() {
                    let _ = reply.send(Err(LeaveError::InUse));
                }
            }
            Note::Acquired { id, lver, .. } => match self.take(*id) {
                Some(Errand::Acquire(reply)) => drop(reply.send(Ok(*lver))),
                Some(Errand::GiveUp(acquirer, releaser)) => {
                    let _ = acquirer.send(Err(LeaseError::Cancelled));
                    self.enter(*id, Errand::Release(releaser));
                    return Some(*id);
                }
                Some(other) => self.enter(*id, other),
                None => {}
            },
            Note::Converted { id, .. } => {
                if let Some(Errand::Convert(reply)) = self.take(*id) {
                    let _ = reply.send(Ok(()));
                }
            }
            Note::Released { id } => {
                if let Some(Errand::Release(reply)) = self.take(*id) {
                    let _ = reply.send(Ok(()));
                }
            }
            Note::Asked { id } => match self.take(*id) {
                Some(Errand::Ask(reply)) => drop(reply.send(Ok(()))),
                Some(other) => self.enter(*id, other),
                None => {}
            },
            Note::Lvb { id, bytes } => {
                if let Some(Errand::Lvb(reply)) = self.take(*id) {
                    let _ = reply.send(Ok(bytes.clone()));
                }
            }
            Note::Failed { id, error } => match (self.take(*id), error) {
                // Too late to give up: it is about to be acquired.
                (Some(errand @ Errand::GiveUp(..)), LeaseError::Busy) => self.enter(*id, errand),
                (Some(errand), error) => errand.fail(*error),
                (None, _) => {}
            },
            // These end without a word. The others have their own notes, which follow.
            Note::Lost(_) => {
                let silent =
                    |errand: &Errand| matches!(errand, Errand::Lvb(_) | Errand::Convert(_));
                let (silent, others) = std::mem::take(&mut self.errands)
                    .into_iter()
                    .partition::<Vec<_>, _>(|(_, errand)| silent(errand));
                self.errands = others;
                for (_, errand) in silent {
                    errand.fail(LeaseError::LockspaceLost);
                }
            }
            Note::RenewalLate
            | Note::Rejoined { .. }
            | Note::Restored
            | Note::Refused
            | Note::Reclaimed { .. }
            | Note::ReclaimFailed { .. }
            | Note::LeaderLost { .. }
            | Note::Told { .. }
            | Note::AskedToRelease { .. } => {}
        }
        None
    }

    /// The keeper ends: nobody is left waiting.
    pub fn close(&mut self) {
        for (_, errand) in self.errands.drain(..) {
            errand.fail(LeaseError::LockspaceLost);
        }
        if let Some(reply) = self.leave.take() {
            let _ = reply.send(Ok(()));
        }
    }
}
