//! A resource lease: Disk Paxos decides who owns each version of it, mode blocks say who shares it.
//!
//! ```text
//!   acquire                                               release
//!  ---------> Attempt: read, judge, ballot --> Held ------------------> LettingGo --> gone
//!                 |          ^                  |  ^                        ^
//!                 | lost     +---- convert to --+  |  convert to shared     |
//!                 +--> LettingGo     exclusive     +------------------------+
//! ```
//!
//! A lease lives on disk in three places. The *leader* names the owner and the version; many hosts may write it, so a leader
//! that was lost is never sent again before a fence and another look. Our own *host sector* has one writer. The *host sectors of
//! the dead* are zeroed by whoever needs the lease exclusively, while it owns the leader.
//!
//! Held shared, a lease looks free in the leader: taking it shared means to own it for a moment (SHORT_HOLD).
//!
//! None of these machines writes after the moment when others may count us out: the lockspace stops calling them.

mod attempt;
mod ballot;
mod holders;
mod let_go;
mod standing;

use crate::contract::{LeaseId, Note};
use crate::identity::Identity;
use crate::io::{IoId, Outbox, Party, WriteOutcome, Writers};
use crate::liveness::Peers;
use crate::mutant::Mutant;
use crate::ondisk::{BadRecord, CannotJoin, HostId, HostSector, Name, PaxosLeader};
use crate::own_sector::{OwnSector, Window};
use crate::time::Instant;

use let_go::LettingGo;
use standing::Attempt;

/// How a lease is held.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// By this host alone.
    Exclusive,
    /// With others.
    Shared,
}

/// What to do when another host owns the lease and may be dead.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OnOwner {
    /// Fail at once.
    Refuse,
    /// Wait until it moves or is dead. An owner that is known to live is never waited for.
    Wait,
}

/// Why a lease was not acquired, converted or released.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeaseError {
    /// A record is not what it should be. It was not overwritten.
    Bad(BadRecord),
    /// We do not take part in leases of this kind.
    Cannot(CannotJoin),
    /// Another host, alive, owns it.
    HeldBy {
        /// Its number.
        host: u64,
        /// Its generation.
        generation: u64,
    },
    /// Another host owns it that has been silent, but not for long enough; trying again later may help.
    OwnerSilent {
        /// Its number.
        host: u64,
        /// Its generation.
        generation: u64,
    },
    /// The owner is silent, and its lockspace forbids to conclude anything from silence.
    OwnerNeverDies {
        /// Its number.
        host: u64,
    },
    /// Other hosts hold it shared; this is one of them.
    SharedBy {
        /// Its number.
        host: HostId,
        /// The generation in which it does.
        generation: u64,
    },
    /// Others kept passing through; trying again later may help.
    Contended,
    /// Reads failed too often.
    Io,
    /// The lockspace was lost meanwhile.
    LockspaceLost,
    /// The caller gave up.
    Cancelled,
    /// Another host found us dead and took what we held.
    Taken,
    /// It is held shared: only an exclusive holder leaves a lock value block.
    NotExclusive,
    /// The area has no room for a lock value block.
    NoRoomForLvb,
    /// Something is under way with this lease.
    Busy,
    /// It is held already, or held in this mode already.
    AlreadyHeld,
    /// It is not held.
    NotHeld,
    /// The lockspace is not joined.
    NotJoined,
}

/// What a resource machine may use.
pub(crate) struct Cx<'a> {
    pub now: Instant,
    pub out: &'a mut Outbox,
    pub us: &'a Identity,
    pub generation: u64,
    pub peers: &'a Peers,
    /// When others may begin to count us out.
    pub limit: Instant,
    pub chance: &'a mut Chance,
    pub mutant: Option<Mutant>,
}

impl Cx<'_> {
    fn window(&self) -> Window {
        let end = (self.now + self.us.timing.io()).min(self.limit);
        let now = self.now;
        Window { now, end }
    }

    fn read(&mut self, party: LeaseId, offset: u64, len: usize) -> IoId {
        let deadline = self.now + self.us.timing.io();
        self.out.read(Party::Lease(party), offset, len, deadline)
    }

    /// One try. For sectors that others write too.
    fn write_once(&mut self, party: LeaseId, offset: u64, bytes: Box<[u8]>) -> IoId {
        assert!(self.now < self.limit, "nothing is written after the limit");
        let end = self.window().end;
        self.out
            .write(Party::Lease(party), offset, bytes, end, Writers::Many)
    }

    pub(crate) fn mutated(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}

/// The only chance in these machines: how long to back off. SplitMix64, seeded by the driver.
#[derive(Debug)]
pub(crate) struct Chance(pub u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// A lease that is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    pub mode: Mode,
    /// The leader as we left it.
    pub leader: PaxosLeader,
    /// Our generation at the time.
    pub generation: u64,
}

/// A lock value block to be written.
#[derive(Clone, Debug)]
struct Lvb {
    /// Bytes from the start of the resource area.
    place: u64,
    bytes: Box<[u8]>,
}

#[derive(Debug)]
enum State {
    Acquiring(Attempt),
    Held(Held),
    LettingGo(LettingGo),
    /// Held when the lockspace was lost; nothing is done with it until the slot is ours again.
    Frozen(Held),
    Gone,
}

/// One resource and what this host does with it.
#[derive(Debug)]
pub(crate) struct Lease {
    id: LeaseId,
    name: Name,
    own: OwnSector,
    /// What our sector holds, or will when its write is done.
    block: HostSector,
    state: State,
}

/// What becomes of a machine after an event.
type Next = State;

impl Lease {
    fn offset(&self) -> u64 {
        self.id.0
    }

    /// Starts to acquire.
    pub fn acquire(cx: &mut Cx, id: LeaseId, name: Name, mode: Mode, on_owner: OnOwner) -> Lease {
        let mut lease = Lease {
            id,
            name,
            own: own_sector(cx, id),
            block: HostSector::default(),
            state: State::Gone,
        };
        let attempt = Attempt::acquire(mode, on_owner);
        lease.state = lease.start(cx, attempt);
        lease
    }

    /// Starts to convert; on the way to shared, after writing this lock value block, if any.
    pub fn convert(
        &mut self,
        cx: &mut Cx,
        mode: Mode,
        lvb: Option<Box<[u8]>>,
    ) -> Result<(), LeaseError> {
        match self.state {
            State::Held(held) if held.mode == mode => Err(LeaseError::AlreadyHeld),
            State::Held(held) => {
                let lvb = lvb_of(cx, held.mode, lvb)?;
                self.state = match mode {
                    Mode::Exclusive => self.start(cx, Attempt::to_exclusive(held)),
                    Mode::Shared => self.share(cx, held.leader, true, lvb, None),
                };
                Ok(())
            }
            State::Frozen(_) => Err(LeaseError::LockspaceLost),
            _ => Err(LeaseError::Busy),
        }
    }

    /// Starts to release, after writing this lock value block, if any.
    pub fn release(&mut self, cx: &mut Cx, lvb: Option<Box<[u8]>>) -> Result<(), LeaseError> {
        match &mut self.state {
            State::Held(held) => {
                let held = *held;
                let lvb = lvb_of(cx, held.mode, lvb)?;
                self.state = self.give_back(cx, held, lvb, None);
                Ok(())
            }
            State::Acquiring(attempt) => attempt.cancel(),
            State::Frozen(_) => Err(LeaseError::LockspaceLost),
            _ => Err(LeaseError::Busy),
        }
    }

    /// Starts to release what is held alone, and to leave it under another name.
    pub fn rename(
        &mut self,
        cx: &mut Cx,
        name: Name,
        lvb: Option<Box<[u8]>>,
    ) -> Result<(), LeaseError> {
        match self.state {
            State::Held(held) if held.mode == Mode::Shared => Err(LeaseError::NotExclusive),
            State::Held(held) => {
                let lvb = lvb_of(cx, held.mode, lvb)?;
                self.state = self.give_back(cx, held, lvb, Some(name));
                Ok(())
            }
            State::Frozen(_) => Err(LeaseError::LockspaceLost),
            State::Acquiring(_) | State::LettingGo(_) | State::Gone => Err(LeaseError::Busy),
        }
    }

    /// After a fence, with the slot ours under a new generation: wins the lease again if it is as we left it.
    pub fn reclaim(&mut self, cx: &mut Cx) {
        if let State::Frozen(held) = self.state {
            self.own = own_sector(cx, self.id);
            self.state = self.start(cx, Attempt::reclaim(held));
        }
    }

    /// The lockspace is lost: nothing is written any more. Reports what ends by that.
    pub fn freeze(&mut self, out: &mut Outbox) {
        let lost = |error| Note::Failed { id: self.id, error };
        self.state = match core::mem::replace(&mut self.state, State::Gone) {
            State::Held(held) | State::Frozen(held) => State::Frozen(held),
            State::Acquiring(attempt) => match attempt.held() {
                Some(held) => State::Frozen(held),
                None => {
                    out.note(lost(LeaseError::LockspaceLost));
                    State::Gone
                }
            },
            State::LettingGo(letting_go) => match letting_go.held() {
                Some(held) => State::Frozen(held),
                None => {
                    letting_go.lost(self.id, out);
                    State::Gone
                }
            },
            State::Gone => State::Gone,
        };
    }

    /// Whether nothing is left to do for it.
    pub fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone)
    }

    /// Which area it is.
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// How it is held, if it is.
    pub fn held(&self) -> Option<&Held> {
        match &self.state {
            State::Held(held) => Some(held),
            _ => None,
        }
    }

    /// Whether it is still to be won back.
    pub fn is_reclaiming(&self) -> bool {
        match &self.state {
            State::Frozen(_) => true,
            State::Acquiring(attempt) => attempt.is_reclaim(),
            State::LettingGo(letting_go) => letting_go.is_reclaim(),
            State::Held(_) | State::Gone => false,
        }
    }

    /// Whether, of those that are to be won back, this one is lost.
    pub fn is_reclaim_lost(&self) -> bool {
        !self.is_reclaiming() && self.held().is_none()
    }

    pub fn read(&mut self, cx: &mut Cx, id: IoId, data: Option<&[u8]>) {
        self.state = match core::mem::replace(&mut self.state, State::Gone) {
            State::Acquiring(attempt) => self.attempt_read(cx, attempt, id, data),
            State::LettingGo(letting_go) => self.let_go_read(cx, letting_go, id, data),
            other => other,
        };
    }

    pub fn wrote(&mut self, cx: &mut Cx, id: IoId, outcome: WriteOutcome) {
        let own = self.own.wrote(cx.out, cx.window(), id, outcome);
        self.state = match core::mem::replace(&mut self.state, State::Gone) {
            State::Acquiring(attempt) => self.attempt_wrote(cx, attempt, own, id, outcome),
            State::LettingGo(letting_go) => self.let_go_wrote(cx, letting_go, own, id, outcome),
            other => other,
        };
    }

    pub fn fenced(&mut self, cx: &mut Cx, through: IoId) {
        self.own.fenced(cx.out, cx.window(), through);
        self.state = match core::mem::replace(&mut self.state, State::Gone) {
            State::Acquiring(attempt) => self.attempt_fenced(cx, attempt, through),
            State::LettingGo(letting_go) => self.let_go_fenced(cx, letting_go, through),
            other => other,
        };
    }

    pub fn settled(&mut self, cx: &mut Cx, id: IoId) {
        self.own.settled(cx.out, cx.window(), id);
    }

    pub fn handle_timeout(&mut self, cx: &mut Cx) {
        self.own.handle_timeout(cx.out, cx.window());
        if self.poll_state_timeout().is_none_or(|at| at > cx.now) {
            return;
        }
        self.state = match core::mem::replace(&mut self.state, State::Gone) {
            State::Acquiring(attempt) => self.start(cx, attempt),
            State::LettingGo(letting_go) => self.let_go_on(cx, letting_go),
            other => other,
        };
    }

    fn poll_state_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Acquiring(attempt) => attempt.poll_timeout(),
            State::LettingGo(letting_go) => letting_go.poll_timeout(),
            _ => None,
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        crate::delta::earliest(self.poll_state_timeout(), self.own.poll_timeout())
    }

    /// Puts `block` into our sector.
    fn write_own(&mut self, cx: &mut Cx, block: HostSector) {
        self.block = block;
        let mut bytes = vec![0; cx.us.geometry.sector_bytes()].into_boxed_slice();
        block.emit(&mut bytes);
        self.own.write(cx.out, cx.window(), bytes);
    }

    /// A leader of ours, verified: it is there, it can be read, it is this resource's, and we may use it.
    fn verified_leader(&self, us: &Identity, sector: &[u8]) -> Result<PaxosLeader, LeaseError> {
        self.verified_as(us, &self.name, sector)
    }

    /// The same under another name.
    fn verified_as(
        &self,
        us: &Identity,
        name: &Name,
        sector: &[u8],
    ) -> Result<PaxosLeader, LeaseError> {
        let at = |bad: BadRecord| LeaseError::Bad(bad.at(self.offset()));
        let leader = PaxosLeader::parse(sector).map_err(at)?;
        leader.verify_geometry(us.geometry).map_err(at)?;
        leader.verify_names(&us.space, name).map_err(at)?;
        leader.verify_host(us.host).map_err(at)?;
        leader.joinable().map_err(LeaseError::Cannot)?;
        Ok(leader)
    }
}

/// A lock value block for the disk, if the holder may leave one and there is room.
fn lvb_of(cx: &Cx, held: Mode, bytes: Option<Box<[u8]>>) -> Result<Option<Lvb>, LeaseError> {
    let Some(bytes) = bytes else {
        return Ok(None);
    };
    if held == Mode::Shared {
        return Err(LeaseError::NotExclusive);
    }
    let geometry = cx.us.geometry;
    assert_eq!(bytes.len(), geometry.sector_bytes(), "one sector");
    let place = geometry.lvb_sector().ok_or(LeaseError::NoRoomForLvb)?;
    Ok(Some(Lvb { place, bytes }))
}

/// The bytes of a leader.
fn leader_bytes(leader: &PaxosLeader) -> Box<[u8]> {
    let mut bytes = vec![0; leader.geometry.sector_bytes()].into_boxed_slice();
    leader.emit(&mut bytes);
    bytes
}

fn own_sector(cx: &Cx, id: LeaseId) -> OwnSector {
    let offset = id.0 + cx.us.geometry.host_sector(cx.us.host);
    OwnSector::new(cx.out, Party::Lease(id), offset, cx.mutant)
}
