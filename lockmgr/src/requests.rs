//! Small errands beside the leases: lock value blocks, requests to owners, and requests to us.
//!
//! A request is a record in a sector that every host may write, so it is written like a leader: read what is there, write once,
//! after a loss fence and look again. Its owner learns of it by its bit in our slot.

use crate::contract::{LeaseId, Note};
use crate::io::{IoId, Outbox, Party, WriteOutcome, Writers};
use crate::mutant::Mutant;
use crate::ondisk::{ForceMode, HostId, Name, PaxosLeader, Request};
use crate::paxos::{Cx, Lease, LeaseError};
use crate::time::Instant;

/// Errands under way at a time. A caller that wants more is told to come back.
const ERRANDS_MAX: usize = 64;
/// Writes of one request that may be lost before that is the answer.
const TRIES_MAX: u32 = 4;

#[derive(Debug, Default)]
pub(crate) struct Requests {
    errands: Vec<Errand>,
    /// Requests of others are looked for once in 6t at most.
    examined: Option<Instant>,
}

/// A request is on the medium; this owner is to be called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub owner: HostId,
    pub id: LeaseId,
}

#[derive(Debug)]
struct Errand {
    lease: LeaseId,
    io: IoId,
    what: What,
    /// Writes of it that were lost.
    tries: u32,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Lvb,
    Examine,
    /// Reading leader and request record.
    Judge {
        name: Name,
        force_mode: ForceMode,
    },
    Write {
        name: Name,
        force_mode: ForceMode,
        owner: HostId,
    },
    Doubt {
        name: Name,
        force_mode: ForceMode,
    },
}

impl What {
    fn is_request(self) -> bool {
        match self {
            What::Judge { .. } | What::Write { .. } | What::Doubt { .. } => true,
            What::Lvb | What::Examine => false,
        }
    }
}

impl Requests {
    fn room(&self) -> Result<(), LeaseError> {
        match self.errands.len() < ERRANDS_MAX {
            true => Ok(()),
            false => Err(LeaseError::Busy),
        }
    }

    /// Whether nobody waits for an answer.
    pub fn is_idle(&self) -> bool {
        self.errands.iter().all(|e| matches!(e.what, What::Examine))
    }

    /// The lockspace is lost: whoever waits is told.
    pub fn freeze(&mut self, out: &mut Outbox) {
        for errand in self.errands.drain(..) {
            if !matches!(errand.what, What::Examine) {
                let (id, error) = (errand.lease, LeaseError::LockspaceLost);
                out.note(Note::Failed { id, error });
            }
        }
        self.examined = None;
    }

    /// Reads the lock value block of a lease that is held.
    pub fn read_lvb(&mut self, cx: &mut Cx, lease: LeaseId) -> Result<(), LeaseError> {
        self.room()?;
        let sector = cx.us.geometry.sector_bytes();
        let at = cx
            .us
            .geometry
            .lvb_sector()
            .ok_or(LeaseError::NoRoomForLvb)?;
        let deadline = cx.now + cx.us.timing.io();
        let io = cx.out.read(Party::Caller, lease.0 + at, sector, deadline);
        self.errands.push(Errand {
            lease,
            io,
            what: What::Lvb,
            tries: 0,
        });
        Ok(())
    }

    /// Asks the owner of a lease to let go.
    pub fn ask(
        &mut self,
        cx: &mut Cx,
        lease: LeaseId,
        name: Name,
        force_mode: ForceMode,
    ) -> Result<(), LeaseError> {
        self.room()?;
        if self
            .errands
            .iter()
            .any(|e| e.lease == lease && e.what.is_request())
        {
            return Err(LeaseError::Busy);
        }
        self.judge(cx, lease, name, force_mode, 0);
        Ok(())
    }

    fn judge(
        &mut self,
        cx: &mut Cx,
        lease: LeaseId,
        name: Name,
        force_mode: ForceMode,
        tries: u32,
    ) {
        let len = 2 * cx.us.geometry.sector_bytes();
        let deadline = cx.now + cx.us.timing.io();
        let io = cx.out.read(Party::Caller, lease.0, len, deadline);
        let what = What::Judge { name, force_mode };
        self.errands.push(Errand {
            lease,
            io,
            what,
            tries,
        });
    }

    /// Somebody called us: looks at the requests of everything that is held.
    pub fn examine(&mut self, cx: &mut Cx, leases: &[Lease]) {
        let lately = |at: Instant| cx.now < at + cx.us.timing.notify();
        if self.examined.is_some_and(lately) {
            return;
        }
        self.examined = Some(cx.now);
        let sector = cx.us.geometry.sector_bytes();
        let deadline = cx.now + cx.us.timing.io();
        for lease in leases.iter().filter(|lease| lease.held().is_some()) {
            let at = lease.id().0 + cx.us.geometry.request_sector();
            let io = cx.out.read(Party::Caller, at, sector, deadline);
            let lease = lease.id();
            self.errands.push(Errand {
                lease,
                io,
                what: What::Examine,
                tries: 0,
            });
        }
    }

    fn take(&mut self, io: IoId) -> Option<Errand> {
        let place = self.errands.iter().position(|errand| errand.io == io)?;
        Some(self.errands.swap_remove(place))
    }

    pub fn read(
        &mut self,
        cx: &mut Cx,
        leases: &[Lease],
        io: IoId,
        data: Option<&[u8]>,
    ) -> Option<Asked> {
        let Errand {
            lease: id,
            what,
            tries,
            ..
        } = self.take(io)?;
        let Some(data) = data else {
            if !matches!(what, What::Examine) {
                cx.out.note(Note::Failed {
                    id,
                    error: LeaseError::Io,
                });
            }
            return None;
        };
        match what {
            What::Lvb => cx.out.note(Note::Lvb {
                id,
                bytes: data.into(),
            }),
            What::Examine => {
                let held = leases.iter().find(|l| l.id() == id).and_then(Lease::held);
                if let (Ok(request), Some(held)) = (Request::parse(data), held)
                    && ((request.force_mode != ForceMode::None && request.lver > held.leader.lver)
                        || cx.mutated(Mutant::HearEveryCall))
                {
                    let force_mode = request.force_mode;
                    cx.out.note(Note::AskedToRelease { id, force_mode });
                }
            }
            What::Judge { name, force_mode } => {
                match self.write_request(cx, id, name, force_mode, data, tries) {
                    Ok(asked) => return asked,
                    Err(error) => cx.out.note(Note::Failed { id, error }),
                }
            }
            What::Write { .. } | What::Doubt { .. } => {}
        }
        None
    }

    fn write_request(
        &mut self,
        cx: &mut Cx,
        lease: LeaseId,
        name: Name,
        force_mode: ForceMode,
        data: &[u8],
        tries: u32,
    ) -> Result<Option<Asked>, LeaseError> {
        let sector = cx.us.geometry.sector_bytes();
        let (leader, request) = data.split_at(sector);
        let at = |bad: crate::ondisk::BadRecord| LeaseError::Bad(bad.at(lease.0));
        let leader = PaxosLeader::parse(leader).map_err(at)?;
        leader.verify_geometry(cx.us.geometry).map_err(at)?;
        leader.verify_names(&cx.us.space, &name).map_err(at)?;
        let found = Request::parse(request)
            .map_err(|bad| LeaseError::Bad(bad.at(lease.0 + cx.us.geometry.request_sector())))?;
        let owner = HostId::new(leader.owner_id).filter(|_| !leader.is_free());
        let (Some(owner), Some(lver)) = (owner, leader.lver.checked_add(1)) else {
            return Err(LeaseError::NotHeld);
        };
        let asked = found.force_mode != ForceMode::None;
        let force_mode = match asked && cx.mutated(Mutant::ClearRequest) {
            true => ForceMode::None,
            false => force_mode,
        };
        let wanted = Request {
            lver,
            force_mode,
            ..found
        };
        if found == wanted {
            return Ok(Some(Asked { owner, id: lease }));
        }
        if found.lver > lver {
            return Err(LeaseError::Busy);
        }
        let mut bytes = vec![0; sector].into_boxed_slice();
        wanted.emit(&mut bytes);
        let end = (cx.now + cx.us.timing.io()).min(cx.limit);
        let offset = lease.0 + cx.us.geometry.request_sector();
        let io = cx
            .out
            .write(Party::Caller, offset, bytes, end, Writers::Many);
        let what = What::Write {
            name,
            force_mode,
            owner,
        };
        self.errands.push(Errand {
            lease,
            io,
            what,
            tries,
        });
        Ok(None)
    }

    pub fn wrote(&mut self, cx: &mut Cx, io: IoId, outcome: WriteOutcome) -> Option<Asked> {
        let errand = self.take(io)?;
        let What::Write {
            name,
            force_mode,
            owner,
        } = errand.what
        else {
            return None;
        };
        match outcome {
            WriteOutcome::Done | WriteOutcome::Doubled => Some(Asked {
                owner,
                id: errand.lease,
            }),
            WriteOutcome::Unknown if errand.tries >= TRIES_MAX => {
                let (id, error) = (errand.lease, LeaseError::Io);
                cx.out.note(Note::Failed { id, error });
                None
            }
            WriteOutcome::Unknown => {
                let tries = errand.tries + 1;
                let what = What::Doubt { name, force_mode };
                self.errands.push(Errand {
                    what,
                    tries,
                    ..errand
                });
                None
            }
        }
    }

    pub fn fenced(&mut self, cx: &mut Cx, through: IoId) {
        while let Some(place) = self
            .errands
            .iter()
            .position(|e| matches!(e.what, What::Doubt { .. }) && e.io.is_fenced_by(through))
        {
            let Errand {
                lease, what, tries, ..
            } = self.errands.swap_remove(place);
            if let What::Doubt { name, force_mode } = what {
                self.judge(cx, lease, name, force_mode, tries);
            }
        }
    }
}
