//! Where an attempt to get a lease stands: what it wants, what it did already, and the step it is at.

use super::ballot::{Value, Voices};
use super::{Held, LeaseError, Mode, OnOwner};
use crate::io::IoId;
use crate::ondisk::{HostId, ModeBlock, PaxosLeader};
use crate::time::Instant;

#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    Acquire { mode: Mode, on_owner: OnOwner },
    ToExclusive { held: Held },
    Reclaim { held: Held },
}

#[derive(Debug)]
pub(super) struct Attempt {
    pub goal: Goal,
    pub phase: Phase,
    pub cancelled: bool,
    pub passes: u32,
    /// A pass has read the area: from then on our own sector says what this attempt wrote there. Not the same as a second
    /// pass: the read of the first may have failed.
    pub looked: bool,
    /// When the current pass began.
    pub pass_began: Instant,
    pub back_offs: u32,
    pub short_holds: u32,
    pub tries: u32,
    pub behind: u32,
    /// The version that this attempt proposed for itself: if the disk says it is ours, it is.
    pub proposed: Option<u64>,
    /// The version in which we may be named as owner, by this attempt or by what an earlier one left behind.
    pub touched: Option<u64>,
}

#[derive(Debug)]
pub(super) enum Phase {
    Start,
    ReadArea {
        io: IoId,
    },
    ReadOwner {
        io: IoId,
        asked: Instant,
        cur: PaxosLeader,
        voices: Voices,
    },
    Pause {
        until: Instant,
    },
    WriteBallot {
        cur: PaxosLeader,
    },
    ReadBallot {
        io: IoId,
        cur: PaxosLeader,
    },
    WriteValue {
        cur: PaxosLeader,
        value: Value,
    },
    ReadValue {
        io: IoId,
        cur: PaxosLeader,
        value: Value,
    },
    Commit {
        io: IoId,
        leader: PaxosLeader,
        shared: Vec<(HostId, u64)>,
    },
    Doubting {
        io: IoId,
    },
    ReadHolderSlot {
        io: IoId,
        asked: Instant,
        leader: PaxosLeader,
        shared: Vec<(HostId, u64)>,
    },
    ReadHolderSector {
        io: IoId,
        over: bool,
        leader: PaxosLeader,
        shared: Vec<(HostId, u64)>,
    },
    ClearHolder {
        io: IoId,
        leader: PaxosLeader,
        shared: Vec<(HostId, u64)>,
    },
    ClearDoubt {
        io: IoId,
        leader: PaxosLeader,
        shared: Vec<(HostId, u64)>,
    },
    /// The exclusive lease is ours; our sector stops saying SHARED.
    Unshare {
        leader: PaxosLeader,
    },
}

impl Attempt {
    fn new(goal: Goal) -> Attempt {
        Attempt {
            goal,
            phase: Phase::Start,
            cancelled: false,
            passes: 0,
            looked: false,
            pass_began: Instant::default(),
            back_offs: 0,
            short_holds: 0,
            tries: 0,
            behind: 0,
            proposed: None,
            touched: None,
        }
    }

    pub fn acquire(mode: Mode, on_owner: OnOwner) -> Attempt {
        Attempt::new(Goal::Acquire { mode, on_owner })
    }

    pub fn to_exclusive(held: Held) -> Attempt {
        Attempt::new(Goal::ToExclusive { held })
    }

    pub fn reclaim(held: Held) -> Attempt {
        Attempt::new(Goal::Reclaim { held })
    }

    /// The caller does not want it any more. Takes effect before the next pass.
    pub fn cancel(&mut self) -> Result<(), LeaseError> {
        match self.goal {
            Goal::Acquire { .. } => {
                self.cancelled = true;
                Ok(())
            }
            Goal::ToExclusive { .. } | Goal::Reclaim { .. } => Err(LeaseError::Busy),
        }
    }

    /// What is held, should the lockspace be lost now.
    pub fn held(&self) -> Option<Held> {
        match self.goal {
            Goal::Acquire { .. } => None,
            Goal::ToExclusive { held } | Goal::Reclaim { held } => Some(held),
        }
    }

    pub fn is_reclaim(&self) -> bool {
        matches!(self.goal, Goal::Reclaim { .. })
    }

    pub fn mode(&self) -> Mode {
        match self.goal {
            Goal::Acquire { mode, .. } => mode,
            Goal::ToExclusive { .. } => Mode::Exclusive,
            Goal::Reclaim { held } => held.mode,
        }
    }

    /// What our mode block says while the ballot runs: what we hold is never lost to it.
    pub fn mode_block(&self) -> ModeBlock {
        match self.goal {
            Goal::ToExclusive { held } => ModeBlock::of_shared(held.generation),
            Goal::Acquire { .. } | Goal::Reclaim { .. } => ModeBlock::NONE,
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Pause { until } => Some(until),
            _ => None,
        }
    }
}
