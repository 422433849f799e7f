//! After a ballot was won: what an exclusive owner does about hosts that share the lease.
//!
//! Mode blocks say who shares it, and their owners may have died without taking them back. Before one is cleared both the
//! holder's slot and its sector are read again: whoever is wrongly judged dead would silently lose what it holds. The dead
//! one's whole sector is zeroed, as sanlock does. While this goes on the leader is ours, so nobody new can share it.

use super::let_go::Then;
use super::standing::{Attempt, Goal, Phase};
use super::{Cx, Held, Lease, LeaseError, Mode, Next, State};
use crate::contract::Note;
use crate::liveness::Judgement;
use crate::mutant::Mutant;
use crate::ondisk::{DeltaLease, HostId, HostSector, ModeBlock, PaxosLeader};
use crate::time::Instant;

impl Lease {
    /// The leader is ours.
    pub(super) fn won(
        &mut self,
        cx: &mut Cx,
        mut attempt: Attempt,
        leader: PaxosLeader,
        shared: Vec<(HostId, u64)>,
    ) -> Next {
        attempt.tries = 0;
        match attempt.mode() {
            Mode::Exclusive if cx.mutated(Mutant::IgnoreModeBlocks) => {
                self.next_holder(cx, attempt, leader, Vec::new())
            }
            Mode::Exclusive => self.next_holder(cx, attempt, leader, shared),
            Mode::Shared => {
                let then: Option<fn(Held) -> Then> = match attempt.goal {
                    Goal::Reclaim { .. } => Some(|held| Then::Reclaimed { held }),
                    _ => None,
                };
                self.share(cx, leader, false, None, then)
            }
        }
    }

    /// Looks at the last of the hosts that seem to share it.
    pub(super) fn next_holder(
        &mut self,
        cx: &mut Cx,
        mut attempt: Attempt,
        leader: PaxosLeader,
        shared: Vec<(HostId, u64)>,
    ) -> Next {
        let Some((host, _)) = shared.last() else {
            return match attempt.goal {
                Goal::ToExclusive { .. } => {
                    let block = HostSector {
                        mode: ModeBlock::NONE,
                        ..self.block
                    };
                    self.write_own(cx, block);
                    attempt.phase = Phase::Unshare { leader };
                    State::Acquiring(attempt)
                }
                _ => self.owned(cx, &attempt, leader),
            };
        };
        let io = cx.read(
            self.id,
            cx.us.slot_offset(*host),
            cx.us.geometry.sector_bytes(),
        );
        attempt.phase = Phase::ReadHolderSlot {
            io,
            asked: cx.now,
            leader,
            shared,
        };
        State::Acquiring(attempt)
    }

    pub(super) fn holder_slot_read(
        &mut self,
        cx: &mut Cx,
        mut attempt: Attempt,
        slot: &[u8],
        asked: Instant,
        leader: PaxosLeader,
        shared: Vec<(HostId, u64)>,
    ) -> Next {
        let &(host, generation) = shared.last().expect("there is one to look at");
        // A slot that cannot be read says nothing, so its host lives.
        let over = DeltaLease::parse(slot)
            .is_ok_and(|slot| cx.peers.judge(host, generation, &slot, asked) == Judgement::Over);
        let offset = self.offset() + cx.us.geometry.host_sector(host);
        let io = cx.read(self.id, offset, cx.us.geometry.sector_bytes());
        attempt.phase = Phase::ReadHolderSector {
            io,
            over,
            leader,
            shared,
        };
        State::Acquiring(attempt)
    }

    pub(super) fn holder_sector_read(
        &mut self,
        cx: &mut Cx,
        mut attempt: Attempt,
        sector: &[u8],
        over: bool,
        leader: PaxosLeader,
        mut shared: Vec<(HostId, u64)>,
    ) -> Next {
        let &(host, generation) = shared.last().expect("there is one to look at");
        let mode = HostSector::mode_unverified(sector).unwrap_or_default();
        match mode.shared() {
            None => {
                shared.pop();
                self.next_holder(cx, attempt, leader, shared)
            }
            Some(now) if now == generation && over => {
                let zeroes = vec![0; cx.us.geometry.sector_bytes()].into_boxed_slice();
                let offset = self.offset() + cx.us.geometry.host_sector(host);
                let io = cx.write_once(self.id, offset, zeroes);
                attempt.phase = Phase::ClearHolder { io, leader, shared };
                State::Acquiring(attempt)
            }
            Some(generation) => self.fail(cx, attempt, LeaseError::SharedBy { host, generation }),
        }
    }

    /// The exclusive lease is ours, and nobody shares it.
    pub(super) fn owned(&mut self, cx: &mut Cx, attempt: &Attempt, leader: PaxosLeader) -> Next {
        let id = self.id;
        let mode = Mode::Exclusive;
        cx.out.note(match attempt.goal {
            Goal::Acquire { .. } => Note::Acquired {
                id,
                mode,
                lver: leader.lver,
            },
            Goal::ToExclusive { .. } => Note::Converted {
                id,
                mode,
                lver: leader.lver,
            },
            Goal::Reclaim { .. } => Note::Reclaimed { id },
        });
        let generation = cx.generation;
        State::Held(Held {
            mode,
            leader,
            generation,
        })
    }
}
