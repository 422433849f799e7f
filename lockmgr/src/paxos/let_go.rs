//! Letting go of a lease: after a release, after a shared lease was taken, and after an attempt that may still be decided.
//!
//! ```text
//!  (LVB) -> (own sector says SHARED) -> read leader -> ours: write it free -> own sector says RELEASED -> done
//!                                          ^   |              | Unknown            ^
//!                                          |   | not ours     v                    |
//!                                          |   |            fence                  |
//!                                          |   +--------------|--------------------+
//!                                          +------------------+
//! ```
//!
//! RELEASED is for the case that another host, late, writes the leader that we had won: that flag is then what frees the lease.
//! sanlock sets it first. Here it comes last: once it is set, somebody may own the next version and write that leader, and our
//! free one would land on top of it. For the same reason a leader that another host wrote for us is left alone.

use super::{Cx, Held, Lease, LeaseError, Lvb, Mode, Next, State, leader_bytes};
use crate::contract::{LeaseId, Note};
use crate::io::{IoId, Outbox, WriteOutcome};
use crate::mutant::Mutant;
use crate::ondisk::{
    DBLOCK_RELEASED, Dblock, HostSector, LeaderFlags, ModeBlock, Name, PaxosLeader,
};
use crate::own_sector::Progress;
use crate::time::Instant;
use crate::timing::{OWNER_POLL, RENEWAL_RETRY};

#[derive(Debug)]
pub(super) struct LettingGo {
    /// The version that is let go.
    lver: u64,
    /// The leader that we know to be decided for us; `None` if it may be.
    known: Option<PaxosLeader>,
    /// What our mode block becomes.
    mode: ModeBlock,
    /// The name that the resource is left under, if another.
    rename: Option<Name>,
    then: Then,
    phase: Phase,
}

/// What comes after.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    /// Nothing; whoever waits has heard of it.
    Gone,
    /// It was released.
    Released,
    /// It is held shared now: just taken, or converted down.
    Shared { held: Held, converted: bool },
    /// It is still held shared.
    StillShared { held: Held },
    /// It was won back after a fence.
    Reclaimed { held: Held },
}

#[derive(Debug)]
enum Phase {
    WritingLvb {
        io: IoId,
        lvb: Lvb,
    },
    LvbDoubt {
        io: IoId,
        lvb: Lvb,
    },
    Sharing,
    Looking {
        io: IoId,
    },
    /// A write was lost and cannot land any more. Not at once: a device that refuses every write is not to be flooded.
    Pausing {
        until: Instant,
        lvb: Option<Lvb>,
    },
    Freeing {
        io: IoId,
        leader: PaxosLeader,
    },
    Doubting {
        io: IoId,
    },
    Releasing,
}

impl Phase {
    /// Whether the lock value block may still be the old one.
    fn owes_lvb(&self) -> bool {
        match self {
            Phase::WritingLvb { .. } | Phase::LvbDoubt { .. } => true,
            Phase::Pausing { lvb, .. } => lvb.is_some(),
            Phase::Sharing
            | Phase::Looking { .. }
            | Phase::Freeing { .. }
            | Phase::Doubting { .. }
            | Phase::Releasing => false,
        }
    }
}

impl LettingGo {
    /// What is held, should the lockspace be lost now.
    pub fn held(&self) -> Option<Held> {
        match self.then {
            Then::StillShared { held } | Then::Reclaimed { held } => Some(held),
            Then::Shared {
                held,
                converted: true,
            } => Some(held),
            Then::Gone
            | Then::Released
            | Then::Shared {
                converted: false, ..
            } => None,
        }
    }

    pub fn is_reclaim(&self) -> bool {
        matches!(self.then, Then::Reclaimed { .. })
    }

    /// What to tell when the lockspace is lost now and nothing is held.
    pub fn lost(&self, id: LeaseId, out: &mut Outbox) {
        let error = LeaseError::LockspaceLost;
        let failed = Note::Failed { id, error };
        match self.then {
            Then::Gone => {}
            // Its holder has let go; that the disk does not say so yet is told by our death. Nothing tells of a block.
            Then::Released => {
                if self.phase.owes_lvb() {
                    out.note(failed);
                }
                out.note(Note::Released { id });
            }
            _ => out.note(failed),
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Pausing { until, .. } => Some(until),
            _ => None,
        }
    }
}

/// The dblock as it stands, with RELEASED.
fn released(block: &HostSector, mode: ModeBlock) -> HostSector {
    let dblock = match block.dblock {
        Dblock::Voted { ballot, flags } => Dblock::Voted {
            ballot,
            flags: flags | DBLOCK_RELEASED,
        },
        Dblock::Empty => Dblock::Empty,
    };
    HostSector { dblock, mode }
}

impl Lease {
    /// Releases what is held.
    pub(super) fn give_back(
        &mut self,
        cx: &mut Cx,
        held: Held,
        lvb: Option<Lvb>,
        rename: Option<Name>,
    ) -> Next {
        let mode = ModeBlock::NONE;
        let then = Then::Released;
        let lver = held.leader.lver;
        let lvb = lvb.filter(|_| !cx.mutated(Mutant::ForgetBlock));
        match (held.mode, lvb) {
            // A shared holder owns no leader.
            (Mode::Shared, _) => {
                let phase = Phase::Releasing;
                self.flag_released(
                    cx,
                    LettingGo {
                        lver,
                        known: None,
                        mode,
                        rename,
                        then,
                        phase,
                    },
                )
            }
            (Mode::Exclusive, lvb) => {
                let known = Some(held.leader);
                let phase = Phase::Sharing;
                let mut state = LettingGo {
                    lver,
                    known,
                    mode,
                    rename,
                    then,
                    phase,
                };
                match lvb {
                    Some(lvb) if cx.mutated(Mutant::BlockNotAwaited) => {
                        self.write_lvb(cx, lvb);
                        self.let_go_look(cx, state)
                    }
                    Some(lvb) => {
                        state.phase = self.write_lvb(cx, lvb);
                        State::LettingGo(state)
                    }
                    None => self.let_go_look(cx, state),
                }
            }
        }
    }

    /// From owning the leader to holding it shared.
    pub(super) fn share(
        &mut self,
        cx: &mut Cx,
        leader: PaxosLeader,
        converted: bool,
        lvb: Option<Lvb>,
        then: Option<fn(Held) -> Then>,
    ) -> Next {
        let mode = ModeBlock::of_shared(cx.generation);
        let held = Held {
            mode: Mode::Shared,
            leader: free(&leader, cx),
            generation: cx.generation,
        };
        let then = match then {
            Some(then) => then(held),
            None => Then::Shared { held, converted },
        };
        let lver = leader.lver;
        let known = Some(leader);
        let phase = match lvb {
            Some(lvb) => self.write_lvb(cx, lvb),
            None => self.say_shared(cx, mode),
        };
        State::LettingGo(LettingGo {
            lver,
            known,
            mode,
            rename: None,
            then,
            phase,
        })
    }

    /// Takes back what was, or may be, decided for us in version `lver`.
    pub(super) fn retract(&mut self, cx: &mut Cx, lver: u64, keep: Option<Held>) -> Next {
        let (mode, then) = match keep {
            Some(held) => (
                ModeBlock::of_shared(held.generation),
                Then::StillShared { held },
            ),
            None => (ModeBlock::NONE, Then::Gone),
        };
        let phase = Phase::Sharing;
        self.let_go_look(
            cx,
            LettingGo {
                lver,
                known: None,
                mode,
                rename: None,
                then,
                phase,
            },
        )
    }

    /// Before the leader is free: whoever wins it next must see that we share it.
    fn say_shared(&mut self, cx: &mut Cx, mode: ModeBlock) -> Phase {
        self.write_own(cx, HostSector { mode, ..self.block });
        Phase::Sharing
    }

    fn flag_released(&mut self, cx: &mut Cx, mut state: LettingGo) -> Next {
        self.write_own(cx, released(&self.block, state.mode));
        state.phase = Phase::Releasing;
        State::LettingGo(state)
    }

    fn write_lvb(&mut self, cx: &mut Cx, lvb: Lvb) -> Phase {
        let io = cx.write_once(self.id, self.offset() + lvb.place, lvb.bytes.clone());
        Phase::WritingLvb { io, lvb }
    }

    /// Reads the leader.
    pub(super) fn let_go_look(&mut self, cx: &mut Cx, mut state: LettingGo) -> Next {
        let io = cx.read(self.id, self.offset(), cx.us.geometry.sector_bytes());
        state.phase = Phase::Looking { io };
        State::LettingGo(state)
    }

    pub(super) fn let_go_read(
        &mut self,
        cx: &mut Cx,
        mut state: LettingGo,
        id: IoId,
        data: Option<&[u8]>,
    ) -> Next {
        match state.phase {
            Phase::Looking { io } if io == id => {}
            _ => return State::LettingGo(state),
        }
        let Some(data) = data else {
            state.phase = Phase::Pausing {
                until: cx.now + OWNER_POLL,
                lvb: None,
            };
            return State::LettingGo(state);
        };
        let found = self.verified_leader(cx.us, data);
        // Written by us already, it may be, and the answer lost.
        let found = match state.rename {
            Some(name) => found.or_else(|error| {
                let renamed = self.verified_as(cx.us, &name, data);
                renamed.map_err(|_| error)
            }),
            None => found,
        };
        let found = match found {
            Ok(found) => found,
            // Not a leader any more, or another's: nothing of ours is left in it.
            Err(error) => {
                cx.out.note(Note::LeaderLost { id: self.id, error });
                return self.flag_released(cx, state);
            }
        };
        // What is taken back may have been decided in a version before, too, and written by us: our RELEASED of that one was
        // overwritten by the ballot for this one, so nobody else could tell.
        let version = match state.known {
            Some(_) => found.lver == state.lver,
            None => found.lver <= state.lver,
        };
        let ours = found.owner_id == cx.us.host.number()
            && found.owner_generation == cx.generation
            && version;
        let leader = if ours && !found.is_free() && found.write_id == cx.us.host.number() {
            found
        } else if let Some(known) = state.known
            && found.lver < known.lver
        {
            // Somebody wrote a version that was decided long before, late. Nobody can win the versions between, so this
            // one must come back, or the lease is stuck.
            known
        } else {
            return self.flag_released(cx, state);
        };
        let mut leader = free(&leader, cx);
        if let Some(name) = state.rename {
            leader.resource_name = name;
        }
        let io = cx.write_once(self.id, self.offset(), leader_bytes(&leader));
        state.phase = Phase::Freeing { io, leader };
        State::LettingGo(state)
    }

    pub(super) fn let_go_wrote(
        &mut self,
        cx: &mut Cx,
        mut state: LettingGo,
        own: Progress,
        id: IoId,
        outcome: WriteOutcome,
    ) -> Next {
        match (&mut state.phase, outcome) {
            (Phase::Sharing, _) if own == Progress::Done => self.let_go_look(cx, state),
            (Phase::Releasing, _) if own == Progress::Done => self.finish(cx, state),
            (Phase::WritingLvb { io, .. }, WriteOutcome::Done) if *io == id => {
                if state.mode == ModeBlock::NONE {
                    return self.let_go_look(cx, state);
                }
                state.phase = self.say_shared(cx, state.mode);
                State::LettingGo(state)
            }
            (Phase::WritingLvb { io, lvb }, WriteOutcome::Unknown) if *io == id => {
                let lvb = lvb.clone();
                state.phase = Phase::LvbDoubt { io: id, lvb };
                State::LettingGo(state)
            }
            (Phase::Freeing { io, .. }, WriteOutcome::Done) if *io == id => {
                self.flag_released(cx, state)
            }
            (Phase::Freeing { io, leader }, WriteOutcome::Unknown) if *io == id => {
                if cx.mutated(Mutant::ResendLeaderBlindly) {
                    let leader = *leader;
                    let io = cx.write_once(self.id, self.offset(), leader_bytes(&leader));
                    state.phase = Phase::Freeing { io, leader };
                    return State::LettingGo(state);
                }
                state.phase = Phase::Doubting { io: id };
                State::LettingGo(state)
            }
            _ => State::LettingGo(state),
        }
    }

    pub(super) fn let_go_fenced(
        &mut self,
        cx: &mut Cx,
        mut state: LettingGo,
        through: IoId,
    ) -> Next {
        let lvb = match &mut state.phase {
            Phase::Doubting { io } if io.is_fenced_by(through) => None,
            // We own the lease, so nobody else writes its value block: it is written again without a look.
            Phase::LvbDoubt { io, lvb } if io.is_fenced_by(through) => Some(lvb.clone()),
            _ => return State::LettingGo(state),
        };
        let until = cx.now + RENEWAL_RETRY;
        state.phase = Phase::Pausing { until, lvb };
        State::LettingGo(state)
    }

    /// The pause is over.
    pub(super) fn let_go_on(&mut self, cx: &mut Cx, mut state: LettingGo) -> Next {
        match &mut state.phase {
            Phase::Pausing { lvb: Some(lvb), .. } => {
                let lvb = lvb.clone();
                state.phase = self.write_lvb(cx, lvb);
                State::LettingGo(state)
            }
            _ => self.let_go_look(cx, state),
        }
    }

    fn finish(&mut self, cx: &mut Cx, state: LettingGo) -> Next {
        let id = self.id;
        match state.then {
            Then::Gone => State::Gone,
            Then::Released => {
                cx.out.note(Note::Released { id });
                State::Gone
            }
            Then::Shared { held, converted } => {
                cx.out.note(match converted {
                    true => Note::Converted {
                        id,
                        mode: held.mode,
                        lver: state.lver,
                    },
                    false => Note::Acquired {
                        id,
                        mode: held.mode,
                        lver: state.lver,
                    },
                });
                State::Held(held)
            }
            Then::StillShared { held } => State::Held(held),
            Then::Reclaimed { held } => {
                cx.out.note(Note::Reclaimed { id });
                State::Held(held)
            }
        }
    }
}

/// The same version, free: owner, generation and version stay, so that whoever comes next counts on.
fn free(leader: &PaxosLeader, cx: &Cx) -> PaxosLeader {
    PaxosLeader {
        flags: leader.flags.without(LeaderFlags::SHORT_HOLD),
        timestamp: 0,
        write_id: cx.us.host.number(),
        write_generation: cx.generation,
        write_timestamp: cx.now.disk_seconds(),
        ..*leader
    }
}
