//! The host-id lease: taking, renewing and releasing our slot of a lockspace (the "delta lease" of Chockler and Malkhi's
//! light-weight leases, as sanlock does it).
//!
//! ```text
//!           free, or ours by name      2t later, or at once where we left it ourselves
//!  Looking ----------------------> Taking -----------> CheckingBack --> Held <---> Reading (whole area)
//!     | another machine's            | Unknown             | changed    |  ^           |
//!     v                              v                     v            |  +- Renewing <
//!  WaitingOut(8t+W) --> LookingAgain Doubting --fence--> Looking /Taken |
//!                                                                       +--> Releasing --> Gone
//! ```
//!
//! While it is being *taken*, another machine with the same number may write the slot too: that write is never repeated blindly.
//! Once it is held, nobody else writes it, and a lost renewal is sent again unchanged.
//!
//! A renewal is worth what its start was worth: `started` is when the write was handed out, not when it was done.

mod taking;

use core::time::Duration;

use crate::contract::{JoinError, LostWhy};
use crate::history::{History, Miss};
use crate::identity::Identity;
use crate::io::{IoId, Outbox, Party, WriteOutcome};
use crate::mutant::Mutant;
use crate::ondisk::{BadRecord, DeltaLease, DeltaSlot, Event, HostId, HostSet, LeaderFlags, Name};
use crate::own_sector::{OwnSector, Progress, Window};
use crate::time::Instant;
use crate::timing::RENEWAL_RETRY;

/// What the slot's machine reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DeltaEvent {
    Joined {
        started: Instant,
    },
    Failed(JoinError),
    /// The area was read; sample it.
    Area {
        asked: Instant,
    },
    Renewed {
        started: Instant,
    },
    Lost(LostWhy),
    Gone,
}

/// How to take the slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    /// For the first time.
    Fresh,
    /// After a fence: only if it still is as this record says.
    Again(DeltaLease),
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Out,
    Looking {
        io: Option<IoId>,
        since: Instant,
        retry: Instant,
    },
    WaitingOut {
        seen: DeltaLease,
        until: Instant,
    },
    LookingAgain {
        seen: DeltaLease,
        io: Option<IoId>,
        since: Instant,
        retry: Instant,
    },
    Taking {
        io: IoId,
        lease: DeltaLease,
        started: Instant,
        settle: Duration,
    },
    Doubting {
        io: IoId,
        since: Instant,
    },
    Settling {
        lease: DeltaLease,
        started: Instant,
        until: Instant,
    },
    CheckingBack {
        lease: DeltaLease,
        started: Instant,
        io: Option<IoId>,
        retry: Instant,
    },
    Held {
        lease: DeltaLease,
        started: Instant,
        due: Instant,
    },
    Reading {
        lease: DeltaLease,
        started: Instant,
        io: IoId,
        asked: Instant,
    },
    Renewing {
        lease: DeltaLease,
        was: Instant,
        /// What reading the area took.
        read: Duration,
        started: Instant,
        next: Instant,
    },
    Releasing {
        started: Instant,
    },
}

#[derive(Debug)]
pub(crate) struct Delta {
    us: Identity,
    entry: Entry,
    stage: Stage,
    sector: OwnSector,
    /// The last record that we tried to take the slot with: it may be there though we never saw it.
    tried: Option<DeltaLease>,
    /// Whom to call with the next renewals, with what, and until when.
    notify: HostSet,
    event: Event,
    notify_until: Option<Instant>,
    history: History,
    mutant: Option<Mutant>,
}

impl Delta {
    pub fn new(us: Identity, mutant: Option<Mutant>) -> Delta {
        Delta {
            us,
            entry: Entry::Fresh,
            stage: Stage::Out,
            sector: OwnSector::new(
                &Outbox::default(),
                Party::Delta,
                us.slot_offset(us.host),
                mutant,
            ),
            tried: None,
            notify: HostSet::EMPTY,
            event: Event::default(),
            notify_until: None,
            history: History::default(),
            mutant,
        }
    }

    /// How it fared.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Starts to take the slot. Nothing older of ours may still land anywhere.
    pub fn enter(&mut self, out: &mut Outbox, now: Instant, entry: Entry) {
        self.entry = entry;
        let offset = self.us.slot_offset(self.us.host);
        self.sector = OwnSector::new(out, Party::Delta, offset, self.mutant);
        self.history.acquire_began = Some(now);
        self.look(out, now, now);
    }

    fn look(&mut self, out: &mut Outbox, now: Instant, since: Instant) {
        let io = Some(self.read_slot(out, now));
        self.stage = Stage::Looking {
            io,
            since,
            retry: now + RENEWAL_RETRY,
        };
    }

    fn read_slot(&self, out: &mut Outbox, now: Instant) -> IoId {
        let offset = self.us.slot_offset(self.us.host);
        let len = self.us.geometry.sector_bytes();
        out.read(Party::Delta, offset, len, now + self.us.timing.io())
    }

    /// The record that is ours while the slot is held.
    pub fn held(&self) -> Option<DeltaLease> {
        match self.stage {
            Stage::Held { lease, .. }
            | Stage::Reading { lease, .. }
            | Stage::Renewing { lease, .. } => Some(lease),
            _ => None,
        }
    }

    /// When the last renewal that completed was started.
    fn last_success(&self) -> Option<Instant> {
        match self.stage {
            Stage::Held { started, .. }
            | Stage::Reading { started, .. }
            | Stage::Releasing { started } => Some(started),
            Stage::Renewing { was, .. } => Some(was),
            _ => None,
        }
    }

    /// An attempt ends after t, and in any case when others may begin to count us out.
    fn window(&self, now: Instant, last_success: Instant) -> Window {
        let timing = self.us.timing;
        let end = (now + timing.io()).min(last_success + timing.give_up());
        Window { now, end }
    }

    /// Gives the slot back. Only when it is held and nothing is written.
    pub fn release(&mut self, out: &mut Outbox, now: Instant) -> bool {
        let (Stage::Held { lease, started, .. } | Stage::Reading { lease, started, .. }) =
            self.stage
        else {
            return false;
        };
        let lease = DeltaLease {
            timestamp: 0,
            ..lease
        };
        let bytes = self.bytes(&lease, HostSet::EMPTY);
        self.sector.write(out, self.window(now, started), bytes);
        self.stage = Stage::Releasing { started };
        true
    }

    /// Calls `host` with the next renewals, for 6t, with this event or the last one.
    pub fn call(&mut self, now: Instant, host: HostId, event: Option<Event>) {
        self.notify.insert(host);
        self.notify_until = Some(now + self.us.timing.notify());
        self.event = event.unwrap_or(self.event);
    }

    /// The record with which the slot was last taken. Owner, generation and name are those that it is held with.
    pub fn tried(&self) -> Option<DeltaLease> {
        self.tried
    }

    /// Forgets everything: what follows decides what becomes of the slot.
    pub fn stop(&mut self) {
        self.stage = Stage::Out;
    }

    fn bytes(&self, lease: &DeltaLease, notify: HostSet) -> Box<[u8]> {
        let mut bytes = vec![0; self.us.geometry.sector_bytes()].into_boxed_slice();
        DeltaSlot {
            lease: *lease,
            notify,
        }
        .emit(&mut bytes);
        bytes
    }

    fn verified(&self, sector: &[u8]) -> Result<DeltaLease, JoinError> {
        let at = |bad: BadRecord| JoinError::Bad(bad.at(self.us.slot_offset(self.us.host)));
        let lease = DeltaLease::parse(sector).map_err(at)?;
        lease.verify_geometry(self.us.geometry).map_err(at)?;
        lease.verify_space(&self.us.space).map_err(at)?;
        lease.joinable().map_err(JoinError::Cannot)?;
        Ok(lease)
    }

    fn fail(&mut self, error: JoinError) -> Option<DeltaEvent> {
        self.stage = Stage::Out;
        Some(DeltaEvent::Failed(error))
    }

    /// A read of ours was answered.
    pub fn read(
        &mut self,
        out: &mut Outbox,
        now: Instant,
        id: IoId,
        data: Option<&[u8]>,
    ) -> Option<DeltaEvent> {
        match self.stage {
            Stage::Looking { io, since, retry } if io == Some(id) => {
                let Some(data) = data else {
                    self.stage = Stage::Looking {
                        io: None,
                        since,
                        retry: retry.max(now),
                    };
                    return None;
                };
                match self.verified(data) {
                    Ok(found) => self.found(out, now, found),
                    Err(error) => self.fail(error),
                }
            }
            Stage::LookingAgain {
                seen,
                io,
                since,
                retry,
            } if io == Some(id) => {
                let Some(data) = data else {
                    let retry = retry.max(now);
                    self.stage = Stage::LookingAgain {
                        seen,
                        io: None,
                        since,
                        retry,
                    };
                    return None;
                };
                match self.verified(data) {
                    Ok(found) if found == seen || found.is_free() => {
                        self.take(out, now, found);
                        None
                    }
                    Ok(found) => self.fail(JoinError::HostIdBusy {
                        name: found.host_name,
                    }),
                    Err(error) => self.fail(error),
                }
            }
            Stage::CheckingBack {
                lease,
                started,
                io,
                retry,
            } if io == Some(id) => {
                let Some(data) = data else {
                    let retry = retry.max(now);
                    self.stage = Stage::CheckingBack {
                        lease,
                        started,
                        io: None,
                        retry,
                    };
                    return None;
                };
                match self.verified(data) {
                    Ok(found) if found == lease => {
                        self.history.acquired = Some(now);
                        self.stage = Stage::Held {
                            lease,
                            started,
                            due: now,
                        };
                        Some(DeltaEvent::Joined { started })
                    }
                    Ok(found) => self.fail(JoinError::HostIdBusy {
                        name: found.host_name,
                    }),
                    Err(error) => self.fail(error),
                }
            }
            Stage::Reading {
                lease,
                started,
                io,
                asked,
            } if io == id => {
                let Some(data) = data else {
                    self.missed(now, asked);
                    self.stage = Stage::Held {
                        lease,
                        started,
                        due: (asked + RENEWAL_RETRY).max(now),
                    };
                    return None;
                };
                if let Err(why) = self.compare(&lease, data) {
                    self.stage = Stage::Out;
                    return Some(DeltaEvent::Lost(why));
                }
                self.renew(out, now, lease, started, now.since(asked));
                Some(DeltaEvent::Area { asked })
            }
            _ => None,
        }
    }

    fn compare(&self, ours: &DeltaLease, area: &[u8]) -> Result<(), LostWhy> {
        let at = self.us.geometry.delta_slot(self.us.host) as usize;
        let sector = area
            .get(at..at + self.us.geometry.sector_bytes())
            .unwrap_or(&[]);
        let offset = self.us.slot_offset(self.us.host);
        let found = DeltaLease::parse(sector).map_err(|bad| LostWhy::Bad(bad.at(offset)))?;
        found
            .verify_space(&self.us.space)
            .map_err(|bad| LostWhy::Bad(bad.at(offset)))?;
        if found.flags.contains(LeaderFlags::DEAD_EXT) {
            return Err(LostWhy::DeclaredDead);
        }
        if owner(&found) != owner(ours) {
            return Err(LostWhy::Owner);
        }
        match found == *ours {
            true => Ok(()),
            false => Err(LostWhy::Changed),
        }
    }

    /// A read or write of a renewal failed.
    fn missed(&mut self, now: Instant, began: Instant) {
        self.history
            .missed(match now.since(began) >= self.us.timing.io() {
                true => Miss::TimedOut,
                false => Miss::Failed,
            });
    }

    fn renew(
        &mut self,
        out: &mut Outbox,
        now: Instant,
        old: DeltaLease,
        was: Instant,
        read: Duration,
    ) {
        if self.notify_until.is_some_and(|until| until <= now) {
            // The event itself stays readable; only the call ends.
            self.notify = HostSet::EMPTY;
            self.notify_until = None;
        }
        let lease = DeltaLease {
            // Two renewals within one second must still differ, or the others would not see the second.
            timestamp: now.disk_seconds().max(old.timestamp.saturating_add(1)),
            event: self.event,
            ..old
        };
        let bytes = self.bytes(&lease, self.notify);
        self.sector.write(out, self.window(now, was), bytes);
        let next = now + self.us.timing.renewal_interval();
        self.stage = Stage::Renewing {
            lease,
            was,
            read,
            started: now,
            next,
        };
    }

    /// A write of ours was answered.
    pub fn wrote(
        &mut self,
        out: &mut Outbox,
        now: Instant,
        id: IoId,
        outcome: WriteOutcome,
    ) -> Option<DeltaEvent> {
        match self.stage {
            Stage::Taking {
                io,
                lease,
                started,
                settle,
            } if io == id => {
                match outcome {
                    WriteOutcome::Done | WriteOutcome::Doubled => {
                        let until = match self.mutant {
                            Some(Mutant::SkipWait) => now,
                            _ => now + settle,
                        };
                        self.stage = Stage::Settling {
                            lease,
                            started,
                            until,
                        };
                    }
                    WriteOutcome::Unknown => {
                        self.stage = Stage::Doubting {
                            io: id,
                            since: started,
                        };
                    }
                }
                None
            }
            Stage::Renewing {
                lease,
                was,
                read,
                started,
                next,
            } => match self.sector.wrote(out, self.window(now, was), id, outcome) {
                Progress::Pending => {
                    if outcome == WriteOutcome::Unknown {
                        self.missed(now, started);
                    }
                    None
                }
                Progress::Done => {
                    self.history
                        .renewed(lease.timestamp, read, now.since(started));
                    let started = match self.mutant {
                        Some(Mutant::ExtendFromNow) => now,
                        _ => started,
                    };
                    self.stage = Stage::Held {
                        lease,
                        started,
                        due: next.max(now),
                    };
                    Some(DeltaEvent::Renewed { started })
                }
            },
            Stage::Releasing { started } => {
                match self
                    .sector
                    .wrote(out, self.window(now, started), id, outcome)
                {
                    Progress::Pending => None,
                    Progress::Done => {
                        self.stage = Stage::Out;
                        Some(DeltaEvent::Gone)
                    }
                }
            }
            _ => None,
        }
    }

    /// No older write can land any more.
    pub fn fenced(&mut self, out: &mut Outbox, now: Instant, through: IoId) {
        let window = self.window(now, self.last_success().unwrap_or(now));
        self.sector.fenced(out, window, through);
        if let Stage::Doubting { io, since } = self.stage
            && io.is_fenced_by(through)
        {
            // Not at once: a device that refuses every write must not be asked a thousand times a second.
            let retry = now + RENEWAL_RETRY;
            self.stage = Stage::Looking {
                io: None,
                since,
                retry,
            };
        }
    }

    /// No copy of this write can land any more.
    pub fn settled(&mut self, out: &mut Outbox, now: Instant, id: IoId) {
        let window = self.window(now, self.last_success().unwrap_or(now));
        self.sector.settled(out, window, id);
    }

    pub fn handle_timeout(&mut self, out: &mut Outbox, now: Instant) -> Option<DeltaEvent> {
        let window = self.window(now, self.last_success().unwrap_or(now));
        self.sector.handle_timeout(out, window);
        if self.poll_stage_timeout().is_none_or(|at| at > now) {
            return None;
        }
        match self.stage {
            Stage::Looking { since, .. } | Stage::LookingAgain { since, .. }
                if now >= since + self.us.timing.give_up() =>
            {
                return self.fail(JoinError::Io);
            }
            Stage::Looking {
                io: None, since, ..
            } => self.look(out, now, since),
            Stage::WaitingOut { seen, .. } => {
                let io = Some(self.read_slot(out, now));
                let retry = now + RENEWAL_RETRY;
                self.stage = Stage::LookingAgain {
                    seen,
                    io,
                    since: now,
                    retry,
                };
            }
            Stage::LookingAgain {
                seen,
                io: None,
                since,
                ..
            } => {
                let io = Some(self.read_slot(out, now));
                let retry = now + RENEWAL_RETRY;
                self.stage = Stage::LookingAgain {
                    seen,
                    io,
                    since,
                    retry,
                };
            }
            Stage::Settling { started, .. }
            | Stage::CheckingBack {
                started, io: None, ..
            } if now >= started + self.us.timing.give_up() => {
                return self.fail(JoinError::Io);
            }
            Stage::Settling { lease, started, .. }
            | Stage::CheckingBack {
                lease,
                started,
                io: None,
                ..
            } => {
                let io = Some(self.read_slot(out, now));
                let retry = now + RENEWAL_RETRY;
                self.stage = Stage::CheckingBack {
                    lease,
                    started,
                    io,
                    retry,
                };
            }
            Stage::Held { lease, started, .. } => {
                let len = self.us.geometry.area_bytes() as usize;
                let deadline = now + self.us.timing.io();
                let io = out.read(Party::Delta, self.us.offset, len, deadline);
                self.history.renewal_began = Some(now);
                self.stage = Stage::Reading {
                    lease,
                    started,
                    io,
                    asked: now,
                };
            }
            _ => {}
        }
        None
    }

    fn poll_stage_timeout(&self) -> Option<Instant> {
        match self.stage {
            Stage::Looking {
                io: None, retry, ..
            }
            | Stage::LookingAgain {
                io: None, retry, ..
            }
            | Stage::CheckingBack {
                io: None, retry, ..
            } => Some(retry),
            Stage::WaitingOut { until, .. } | Stage::Settling { until, .. } => Some(until),
            Stage::Held { due, .. } => Some(due),
            _ => None,
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        earliest(self.poll_stage_timeout(), self.sector.poll_timeout())
    }
}

fn owner(lease: &DeltaLease) -> (u64, u64, Name) {
    (lease.owner_id, lease.owner_generation, lease.host_name)
}

/// The earlier of two timers, if any runs.
pub(crate) fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
