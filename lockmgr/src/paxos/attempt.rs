//! An attempt to own the next version of a lease.
//!
//! ```text
//!   ReadArea --> judge the leader --> WriteBallot -> ReadBallot --> WriteValue -> ReadValue --> Commit --> won
//!      ^  ^          |                                  |                              |             |
//!      |  |          v owned by another                 v opposed                      v             v Unknown
//!      |  |     ReadOwner --> its slot: over? go on     +---------> Backoff <----------+          Doubting
//!      |  |          |                                                 |                             | fence
//!      |  +-- Wait --+ silent                                          |                             |
//!      +---------------------------------------------------------------+-----------------------------+
//!
//!   won, exclusive: each shared holder: ReadHolderSlot -> ReadHolderSector -> over: ClearHolder, alive: take it all back
//!   won, shared:    own sector says SHARED, the leader is let go (`let_go`)
//! ```
//!
//! Every pass starts from what the disk says. If it says that the version which this attempt proposed is ours, the attempt was
//! won, whoever wrote it.

use super::ballot::{Value, Voices, first_phase, number_above, read_len, second_phase};
use super::standing::{Attempt, Goal, Phase};
use super::{Cx, Lease, LeaseError, Mode, Next, OnOwner, State, leader_bytes};
use crate::contract::Note;
use crate::io::{IoId, WriteOutcome};
use crate::liveness::Judgement;
use crate::mutant::Mutant;
use crate::ondisk::{
    BallotBlock, DBLOCK_RELEASED, Dblock, DeltaLease, HostId, HostSector, LeaderFlags, PaxosLeader,
};
use crate::own_sector::Progress;
use crate::time::Instant;
use crate::timing::{BACKOFF_MAX, OWNER_POLL, PASS_MIN};

/// Passes after which an attempt gives up: others keep winning, or a record stays damaged.
const PASSES_MAX: u32 = 64;
/// Attempts to get past hosts that only pass through on their way to a shared lease.
const SHORT_HOLDS_MAX: u32 = 8;
/// Reads that may fail, and looks at a damaged record, before that is the answer.
const TRIES_MAX: u32 = 4;
/// Passes that wait for a leader to catch up with the ballots in the host sectors.
const BEHIND_MAX: u32 = 3;

impl Lease {
    /// Starts a pass.
    pub(super) fn start(&mut self, cx: &mut Cx, mut attempt: Attempt) -> Next {
        if attempt.cancelled {
            return self.fail(cx, attempt, LeaseError::Cancelled);
        }
        attempt.passes += 1;
        if attempt.passes > PASSES_MAX {
            return self.fail(cx, attempt, LeaseError::Contended);
        }
        let len = cx.us.geometry.area_bytes() as usize;
        let io = cx.read(self.id, self.offset(), len);
        attempt.pass_began = cx.now;
        attempt.phase = Phase::ReadArea { io };
        State::Acquiring(attempt)
    }

    /// Leaves the field to whoever else is in it, for a time at random. It need be no longer than what others take to finish,
    /// which is about what this pass took, and more only if there are many: from twice that on, doubled each time.
    fn back_off(&mut self, cx: &mut Cx, mut attempt: Attempt) -> Next {
        let pass = cx.now.since(attempt.pass_began).max(PASS_MIN);
        let longest = match cx.mutated(Mutant::PauseLong) {
            true => BACKOFF_MAX,
            false => pass.saturating_mul(2u32.saturating_pow(attempt.back_offs + 1)),
        };
        attempt.back_offs += 1;
        let nanos = cx.chance.below(longest.min(BACKOFF_MAX).as_nanos() as u64);
        let until = cx.now + core::time::Duration::from_nanos(nanos);
        attempt.phase = Phase::Pause { until };
        State::Acquiring(attempt)
    }

    /// Tries again what may be a passing fault, a few times.
    fn try_again(&mut self, cx: &mut Cx, mut attempt: Attempt, error: LeaseError) -> Next {
        attempt.tries += 1;
        if attempt.tries > TRIES_MAX {
            return self.fail(cx, attempt, error);
        }
        attempt.phase = Phase::Pause {
            until: cx.now + OWNER_POLL,
        };
        State::Acquiring(attempt)
    }

    /// Ends without the lease. What may have been decided for us is taken back, in the background.
    pub(super) fn fail(&mut self, cx: &mut Cx, attempt: Attempt, error: LeaseError) -> Next {
        let id = self.id;
        cx.out.note(match attempt.goal {
            Goal::Reclaim { .. } => Note::ReclaimFailed { id, error },
            _ => Note::Failed { id, error },
        });
        let keep = match attempt.goal {
            Goal::ToExclusive { held } if error != LeaseError::Taken => Some(held),
            _ => None,
        };
        match (attempt.touched, keep) {
            (Some(lver), _) => self.retract(cx, lver, keep),
            (None, Some(held)) => State::Held(held),
            (None, None) => State::Gone,
        }
    }

    pub(super) fn attempt_read(
        &mut self,
        cx: &mut Cx,
        attempt: Attempt,
        id: IoId,
        data: Option<&[u8]>,
    ) -> Next {
        let ours = match &attempt.phase {
            Phase::ReadArea { io }
            | Phase::ReadOwner { io, .. }
            | Phase::ReadBallot { io, .. }
            | Phase::ReadValue { io, .. }
            | Phase::ReadHolderSlot { io, .. }
            | Phase::ReadHolderSector { io, .. } => *io == id,
            _ => false,
        };
        if !ours {
            return State::Acquiring(attempt);
        }
        let Some(data) = data else {
            return self.try_again(cx, attempt, LeaseError::Io);
        };
        let mut attempt = attempt;
        match core::mem::replace(&mut attempt.phase, Phase::Start) {
            Phase::ReadArea { .. } => self.area_read(cx, attempt, data),
            Phase::ReadOwner {
                asked, cur, voices, ..
            } => self.owner_read(cx, attempt, data, asked, cur, voices),
            Phase::ReadBallot { cur, .. } => self.ballot_read(cx, attempt, data, cur),
            Phase::ReadValue { cur, value, .. } => self.value_read(cx, attempt, data, cur, value),
            Phase::ReadHolderSlot {
                asked,
                leader,
                shared,
                ..
            } => self.holder_slot_read(cx, attempt, data, asked, leader, shared),
            Phase::ReadHolderSector {
                over,
                leader,
                shared,
                ..
            } => self.holder_sector_read(cx, attempt, data, over, leader, shared),
            _ => unreachable!("matched above"),
        }
    }

    fn area_read(&mut self, cx: &mut Cx, mut attempt: Attempt, area: &[u8]) -> Next {
        let cur = match self.verified_leader(cx.us, area) {
            Ok(cur) => cur,
            Err(error) => return self.fail(cx, attempt, error),
        };
        let voices = match self.voices(cx, area, cur.num_hosts) {
            Ok(voices) => voices,
            Err(error) => return self.try_again(cx, attempt, error),
        };
        if !attempt.looked {
            // What an earlier attempt or life accepted binds us as well.
            self.block.dblock = voices.own.dblock;
        }
        if let Some(next) = self.refused_before_ballot(cx, &attempt, &cur, &voices) {
            return self.fail(cx, attempt, next);
        }
        attempt.looked = true;
        let me = cx.us.host.number();
        if cur.is_free() {
            return self.enter(cx, attempt, cur, &voices);
        }
        if cur.owner_id == me {
            if attempt.proposed == Some(cur.lver) && cur.owner_generation == cx.generation {
                let shared = voices.shared();
                return self.won(cx, attempt, cur, shared);
            }
            return self.enter(cx, attempt, cur, &voices);
        }
        let Some(owner) = HostId::new(cur.owner_id) else {
            let error = LeaseError::HeldBy {
                host: cur.owner_id,
                generation: cur.owner_generation,
            };
            return self.fail(cx, attempt, error);
        };
        if cx.mutated(Mutant::SkipWait) && attempt.passes > 1 {
            return self.enter(cx, attempt, cur, &voices);
        }
        let io = cx.read(
            self.id,
            cx.us.slot_offset(owner),
            cx.us.geometry.sector_bytes(),
        );
        attempt.phase = Phase::ReadOwner {
            io,
            asked: cx.now,
            cur,
            voices,
        };
        State::Acquiring(attempt)
    }

    /// What the goal forbids, whoever owns the lease.
    fn refused_before_ballot(
        &self,
        cx: &Cx,
        attempt: &Attempt,
        cur: &PaxosLeader,
        voices: &Voices,
    ) -> Option<LeaseError> {
        let me = cx.us.host.number();
        if cur.owner_id == me && cur.owner_generation > cx.generation {
            // A later life of ours: this one is over and does not know it yet.
            return Some(LeaseError::Taken);
        }
        match attempt.goal {
            Goal::Acquire { .. } => None,
            // Whoever found us dead zeroed our sector.
            Goal::ToExclusive { held } => {
                (voices.own.mode.shared() != Some(held.generation)).then_some(LeaseError::Taken)
            }
            Goal::Reclaim { held } => {
                if attempt.proposed == Some(cur.lver) && cur.owner_id == me {
                    return None;
                }
                let left = &held.leader;
                let owner = |l: &PaxosLeader| (l.owner_id, l.owner_generation, l.lver, l.timestamp);
                let shared_intact = held.mode == Mode::Exclusive
                    || attempt.looked
                    || voices.own.mode.shared() == Some(held.generation);
                (owner(cur) != owner(left) || !shared_intact).then_some(LeaseError::Taken)
            }
        }
    }

    fn voices(&self, cx: &Cx, area: &[u8], num_hosts: u64) -> Result<Voices, LeaseError> {
        let us = cx.us;
        Voices::read(
            area,
            self.offset(),
            us.geometry,
            num_hosts,
            us.host,
            cx.peers,
        )
        .map_err(LeaseError::Bad)
    }

    fn owner_read(
        &mut self,
        cx: &mut Cx,
        mut attempt: Attempt,
        slot: &[u8],
        asked: Instant,
        cur: PaxosLeader,
        voices: Voices,
    ) -> Next {
        let host = cur.owner_id;
        let generation = cur.owner_generation;
        let owner = HostId::new(host).expect("verified before its slot was read");
        let slot = match DeltaLease::parse(slot) {
            Ok(slot) => slot,
            Err(bad) => {
                let bad = bad.at(cx.us.slot_offset(owner));
                return self.try_again(cx, attempt, LeaseError::Bad(bad));
            }
        };
        match cx.peers.judge(owner, generation, &slot, asked) {
            Judgement::Over => return self.enter(cx, attempt, cur, &voices),
            Judgement::NeverByTime => {
                return self.fail(cx, attempt, LeaseError::OwnerNeverDies { host });
            }
            Judgement::Alive | Judgement::Silent
                if cur.write_id != host && let_go_by_owner(&cur, &voices) =>
            {
                return self.enter(cx, attempt, cur, &voices);
            }
            Judgement::Alive => {
                if attempt.mode() == Mode::Shared && cur.is_short_hold() {
                    attempt.short_holds += 1;
                    return match attempt.short_holds > SHORT_HOLDS_MAX {
                        true => self.fail(cx, attempt, LeaseError::Contended),
                        false => self.back_off(cx, attempt),
                    };
                }
                let error = LeaseError::HeldBy { host, generation };
                return self.fail(cx, attempt, error);
            }
            Judgement::Silent => {}
        }
        match attempt.goal {
            Goal::Acquire {
                on_owner: OnOwner::Wait,
                ..
            } => {
                // Waiting is no contest: it does not use up passes.
                attempt.passes = attempt.passes.saturating_sub(1).max(1);
                let pause = match cx.mutated(Mutant::SkipWait) {
                    true => core::time::Duration::ZERO,
                    false => OWNER_POLL,
                };
                if cx.mutated(Mutant::SkipWait) {
                    attempt.passes += 1;
                }
                attempt.phase = Phase::Pause {
                    until: cx.now + pause,
                };
                State::Acquiring(attempt)
            }
            _ => self.fail(cx, attempt, LeaseError::OwnerSilent { host, generation }),
        }
    }

    /// The leader may be succeeded: starts a ballot for the next version.
    fn enter(
        &mut self,
        cx: &mut Cx,
        mut attempt: Attempt,
        cur: PaxosLeader,
        voices: &Voices,
    ) -> Next {
        let Some(mut lver) = cur.lver.checked_add(1) else {
            return self.fail(cx, attempt, LeaseError::Contended);
        };
        let newest = voices.newest_instance();
        if newest > lver {
            // The leader that we read is older than the ballots. Usually it catches up. If it does not, a leader decided long ago
            // was written late over a newer one; that somebody started instance `newest` proves that the one before had
            // ended, so we may join it.
            attempt.behind += 1;
            if attempt.behind <= BEHIND_MAX || matches!(attempt.goal, Goal::Reclaim { .. }) {
                return self.back_off(cx, attempt);
            }
            lver = newest;
        }
        let stride = cur.max_hosts;
        let Some(mbal) = number_above(voices.max_mbal(), stride, cx.us.host) else {
            return self.fail(cx, attempt, LeaseError::Contended);
        };
        let (ballot, flags) = first_phase(&self.block.dblock, lver, mbal);
        let block = HostSector {
            dblock: Dblock::Voted { ballot, flags },
            mode: attempt.mode_block(),
        };
        self.write_own(cx, block);
        attempt.phase = Phase::WriteBallot { cur };
        State::Acquiring(attempt)
    }

    fn said(&self) -> (BallotBlock, u32) {
        match self.block.dblock {
            Dblock::Voted { ballot, flags } => (ballot, flags),
            Dblock::Empty => unreachable!("a ballot is under way"),
        }
    }

    /// The host sectors after a phase was written; an error if it cannot go on.
    fn heard(&self, cx: &Cx, data: &[u8], cur: &PaxosLeader) -> Result<Voices, Option<LeaseError>> {
        let voices = self.voices(cx, data, cur.num_hosts).map_err(Some)?;
        match voices.unopposed(&self.said().0) {
            true => Ok(voices),
            false => Err(None),
        }
    }

    fn opposed(&mut self, cx: &mut Cx, attempt: Attempt, why: Option<LeaseError>) -> Next {
        match why {
            Some(error) => self.try_again(cx, attempt, error),
            None => self.back_off(cx, attempt),
        }
    }

    fn ballot_read(
        &mut self,
        cx: &mut Cx,
        mut attempt: Attempt,
        data: &[u8],
        cur: PaxosLeader,
    ) -> Next {
        let voices = match self.heard(cx, data, &cur) {
            Ok(voices) => voices,
            Err(why) => return self.opposed(cx, attempt, why),
        };
        let (ballot, flags) = self.said();
        let me = cx.us.host.number();
        let value = voices.accepted(&ballot).unwrap_or(Value {
            host: me,
            generation: cx.generation,
            timestamp: cx.now.disk_seconds(),
        });
        if (value.host, value.generation) == (me, cx.generation) {
            attempt.touched = Some(ballot.lver);
            if flags & DBLOCK_RELEASED == 0 {
                attempt.proposed = Some(ballot.lver);
            }
        }
        let block = HostSector {
            dblock: Dblock::Voted {
                ballot: second_phase(ballot, value),
                flags,
            },
            mode: attempt.mode_block(),
        };
        self.write_own(cx, block);
        attempt.phase = Phase::WriteValue { cur, value };
        State::Acquiring(attempt)
    }

    fn value_read(
        &mut self,
        cx: &mut Cx,
        mut attempt: Attempt,
        data: &[u8],
        cur: PaxosLeader,
        value: Value,
    ) -> Next {
        let voices = match self.heard(cx, data, &cur) {
            Ok(voices) => voices,
            Err(why) => return self.opposed(cx, attempt, why),
        };
        let (ballot, _) = self.said();
        // Whoever knew it sooner has written it already, and its owner may have let go since: ours would undo that.
        if let Ok(there) = self.verified_leader(cx.us, data)
            && there.lver >= ballot.lver
        {
            return self.start(cx, attempt);
        }
        let passing = value.host == cx.us.host.number() && attempt.mode() == Mode::Shared;
        let flags = match passing {
            true => cur.flags.with(LeaderFlags::SHORT_HOLD),
            false => cur.flags.without(LeaderFlags::SHORT_HOLD),
        };
        let leader = PaxosLeader {
            flags,
            owner_id: value.host,
            owner_generation: value.generation,
            lver: ballot.lver,
            timestamp: value.timestamp.max(1),
            write_id: cx.us.host.number(),
            write_generation: cx.generation,
            write_timestamp: cx.now.disk_seconds(),
            ..cur
        };
        let io = cx.write_once(self.id, self.offset(), leader_bytes(&leader));
        let shared = voices.shared();
        attempt.phase = Phase::Commit { io, leader, shared };
        State::Acquiring(attempt)
    }

    pub(super) fn attempt_wrote(
        &mut self,
        cx: &mut Cx,
        mut attempt: Attempt,
        own: Progress,
        id: IoId,
        outcome: WriteOutcome,
    ) -> Next {
        match core::mem::replace(&mut attempt.phase, Phase::Start) {
            Phase::WriteBallot { cur } if own == Progress::Done => {
                let io = self.read_ballot(cx, &cur);
                attempt.phase = Phase::ReadBallot { io, cur };
            }
            Phase::WriteValue { cur, value } if own == Progress::Done => {
                let io = self.read_ballot(cx, &cur);
                attempt.phase = Phase::ReadValue { io, cur, value };
            }
            Phase::Unshare { leader } if own == Progress::Done => {
                return self.owned(cx, &attempt, leader);
            }
            Phase::Commit { io, leader, shared } if io == id => {
                let resend = cx.mutated(Mutant::ResendLeaderBlindly);
                match outcome {
                    // It is decided for another, or for an attempt that was taken back: look again.
                    WriteOutcome::Done if attempt.proposed != Some(leader.lver) => {
                        return self.start(cx, attempt);
                    }
                    WriteOutcome::Done if leader.owner_id != cx.us.host.number() => {
                        return self.start(cx, attempt);
                    }
                    WriteOutcome::Done | WriteOutcome::Doubled => {
                        return self.won(cx, attempt, leader, shared);
                    }
                    WriteOutcome::Unknown if resend => {
                        let io = cx.write_once(self.id, self.offset(), leader_bytes(&leader));
                        attempt.phase = Phase::Commit { io, leader, shared };
                    }
                    WriteOutcome::Unknown => attempt.phase = Phase::Doubting { io },
                }
            }
            Phase::ClearHolder {
                io,
                leader,
                mut shared,
            } if io == id => match outcome {
                WriteOutcome::Done | WriteOutcome::Doubled => {
                    shared.pop();
                    return self.next_holder(cx, attempt, leader, shared);
                }
                WriteOutcome::Unknown => {
                    attempt.phase = Phase::ClearDoubt { io, leader, shared };
                }
            },
            other => attempt.phase = other,
        }
        State::Acquiring(attempt)
    }

    fn read_ballot(&self, cx: &mut Cx, cur: &PaxosLeader) -> IoId {
        let len = read_len(cur.num_hosts, cx.us.geometry);
        cx.read(self.id, self.offset(), len)
    }

    pub(super) fn attempt_fenced(
        &mut self,
        cx: &mut Cx,
        mut attempt: Attempt,
        through: IoId,
    ) -> Next {
        match core::mem::replace(&mut attempt.phase, Phase::Start) {
            Phase::Doubting { io } if io.is_fenced_by(through) => {
                return self.back_off(cx, attempt);
            }
            // Look at the holder again: this is another host's sector.
            Phase::ClearDoubt { io, leader, shared } if io.is_fenced_by(through) => {
                attempt.tries += 1;
                return match attempt.tries > TRIES_MAX {
                    true => self.fail(cx, attempt, LeaseError::Io),
                    false => self.next_holder(cx, attempt, leader, shared),
                };
            }
            other => attempt.phase = other,
        }
        State::Acquiring(attempt)
    }
}

/// Whether the owner let go though the leader, written by another host for it, does not say so. It says RELEASED; or, having
/// said so, has begun a ballot for a later version, which in the same life nobody does who holds this one.
fn let_go_by_owner(cur: &PaxosLeader, voices: &Voices) -> bool {
    voices.of(cur.owner_id).is_some_and(|said| {
        let lver = said.dblock.ballot().map_or(0, |b| b.lver);
        lver > cur.lver || (lver == cur.lver && said.dblock.is_released())
    })
}
