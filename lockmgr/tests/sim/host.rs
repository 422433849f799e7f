//! One simulated host: its clock, its machine, its gate, its I/O under way, and what its holder of leases wants.

use std::collections::VecDeque;

use lockmgr::gate::{Gate, Permission};
use lockmgr::time::Instant;
use lockmgr::{GateOrder, IoId, Lockspace, Mode, WriteOutcome, Writers};

use crate::disk::Snapshot;
use crate::judge::Claim;

/// True time, in nanoseconds.
pub type True = u64;

/// A clock that runs at its own rate, and stands still while its virtual machine does.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    local: u64,
    since: True,
    /// Parts per million, with sign.
    ppm: i64,
}

impl Clock {
    pub fn new(local: u64, ppm: i64) -> Clock {
        Clock {
            local,
            since: 0,
            ppm,
        }
    }

    pub fn read(&self, at: True) -> Instant {
        let elapsed = i128::from(at.saturating_sub(self.since));
        let local = elapsed * i128::from(1_000_000 + self.ppm) / 1_000_000;
        Instant::from_nanos(self.local + local as u64)
    }

    /// When it shows `local`, if nothing happens to it.
    pub fn when(&self, local: Instant) -> True {
        let ahead = i128::from(local.nanos().saturating_sub(self.local));
        let elapsed = ahead * 1_000_000 / i128::from(1_000_000 + self.ppm) + 2;
        self.since.saturating_add(elapsed as u64)
    }

    /// Stands still from `at` to `until`.
    pub fn stall(&mut self, at: True, until: True) {
        self.local = self.read(at).nanos();
        self.since = until;
    }
}

/// A lease write, or a copy of one, that may still execute.
#[derive(Clone)]
pub struct Pending {
    pub id: IoId,
    pub offset: u64,
    pub bytes: Box<[u8]>,
    pub torn: bool,
    /// When what it answers was decided to be asked for.
    pub ordered: True,
    /// Whether nobody else writes there.
    pub writers: Writers,
}

/// What comes back to a machine.
pub enum Answer {
    Read(IoId, Option<Snapshot>),
    Wrote(IoId, WriteOutcome),
    Fenced(IoId),
    Settled(IoId),
}

/// What the holder does with one resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Want {
    Nothing,
    Acquiring,
    /// What was being acquired is not wanted any more. It may be too late for that.
    GivingUp,
    Holding,
    Converting,
    Releasing,
    /// It is held, and its lock value block is being read.
    Reading,
    /// Its owner is being asked to let go.
    Asking,
}

pub struct Host {
    pub clock: Clock,
    pub gate: Gate,
    pub space: Option<Lockspace>,
    /// Counts restarts: what belongs to an earlier life is not delivered.
    pub life: u64,
    pub joined: bool,
    /// No path to the disk until then.
    pub cut_until: True,
    /// Answers take long until then.
    pub slow_until: True,
    /// Nothing is processed until then.
    pub paused_until: True,
    pub stalled: u64,
    pub timer: Option<True>,
    pub pending: Vec<Pending>,
    pub unfenced: Option<IoId>,
    pub fencing: bool,
    /// What the gate was told, and has not done yet.
    pub gate_orders: VecDeque<GateOrder>,
    /// Data writes under way: resource and claim.
    pub data: Vec<(u64, usize, Claim)>,
    /// What came while it stood still, in its order.
    pub held_up: VecDeque<Answer>,
    pub wants: Vec<Want>,
    /// When each want was last ordered.
    pub ordered: Vec<True>,
    /// What a release under way leaves in each lock value block.
    pub leaving: Vec<Option<u64>>,
    pub renamed: u64,
}

impl Host {
    pub fn gate_is_open(&self, at: True) -> bool {
        let now = self.clock.read(at);
        self.gate.deadline().is_some_and(|deadline| now < deadline)
    }

    /// As a queue asks before each write.
    pub fn may_write(&self, at: True) -> bool {
        self.gate.check(self.clock.read(at)) == Permission::Allowed
            && self.gate.deadline().is_some()
    }

    pub fn is_busy_with(&self, resource: usize) -> bool {
        self.data.iter().any(|(_, of, _)| *of == resource)
    }
}

/// Which conversion or mode follows.
pub fn other(mode: Mode) -> Mode {
    match mode {
        Mode::Exclusive => Mode::Shared,
        Mode::Shared => Mode::Exclusive,
    }
}
