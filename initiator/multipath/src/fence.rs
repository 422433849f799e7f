//! The rule about unresolved writes. Everything else in this crate may be clever; this must be right.
//!
//! A write whose bytes were handed to the wire, and whose session died before the answer, is *unresolved*: a
//! copy may sit in the dead connection, in the target's receive buffer or in its backend queue, and may reach
//! the medium at any later time. Repeating it on another path is harmless, for it carries the same bytes. What
//! must never happen is that the copy lands on top of something newer:
//!
//! ```text
//!   path A   write "1" ----->|  silence, session lost         ...copy executes: "1" again, and "2" is gone
//!   path B                       write "1" -> GOOD   write "2" -> GOOD
//! ```
//!
//! Hence four sentences (SCHEDULING section 9, invariants 1, 2, 4 and 5):
//! 1. An unresolved write is reported complete only when its retry succeeded **and** every session that may
//!    hold a copy is proven dead. Retry and proof run side by side; the answer waits for both.
//! 2. While an unresolved write is not proven dead, no *other* write, discard or zeroing that overlaps it is
//!    sent, also when the submitter of the old one got an error long ago.
//! 3. Reads and flushes wait for nothing: a flush covers writes that were answered, and those are settled.
//! 4. How a session is proven dead is [`crate::ladder`]'s: by a later session with the same ISID in the same portal
//!    group of the same target, or, where none can be had, by waiting out every place where a copy can hide.
//!
//! There is no switch that weakens a sentence. The ledger below knows the sentences 1 to 3, and of each copy where it
//! may be; the volume makes the proof.

use iscsi_client::time::Instant;
use iscsi_client::wire::{Isid, Tpgt};

use crate::contract::{DrainId, UnresolvedWrite};
use crate::ladder::Hideout;
use crate::mutant::{Mutant, lives};

/// Blocks that a command changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// First logical block.
    pub lba: u64,
    /// Number of logical blocks.
    pub blocks: u32,
}

impl Extent {
    fn overlaps(self, other: Extent) -> bool {
        let end = |extent: Extent| extent.lba.saturating_add(u64::from(extent.blocks));
        self.lba < end(other) && other.lba < end(self)
    }
}

/// A session as the target tells sessions apart, within one target and one InitiatorName.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nexus {
    /// Our half.
    pub isid: Isid,
    /// The target's half, as its login answer named it.
    pub portal_group: Option<Tpgt>,
}

/// Serial number of a request, unique for the life of the volume (a tag is reused, this is not).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Serial(pub u64);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    /// Its request is not answered yet.
    Request(Serial),
    /// Its request was failed, or belonged to an earlier run of the daemon.
    Nobody,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Copy {
    owner: Owner,
    extent: Extent,
    nexus: Nexus,
    hideout: Hideout,
    /// Drains that were ordered before it was sent.
    epoch: DrainId,
}

/// The ledger of unresolved writes: each entry is a copy that may still execute.
#[derive(Debug)]
pub struct Ledger {
    copies: Vec<Copy>,
    ownerless: usize,
    ownerless_max: usize,
}

impl Ledger {
    /// Room for `live` copies of requests not yet answered and `ownerless_max` of failed ones.
    pub fn new(live: usize, ownerless_max: usize) -> Ledger {
        Ledger {
            copies: Vec::with_capacity(live + ownerless_max),
            ownerless: 0,
            ownerless_max,
        }
    }

    /// The session of `nexus` died with a sent and unanswered write of this request, which was sent after that many drains.
    pub fn record(&mut self, request: Serial, extent: Extent, nexus: Nexus, epoch: DrainId) {
        if lives(Mutant::RetryWithoutFence) {
            return;
        }
        let copy = Copy {
            owner: Owner::Request(request),
            extent,
            nexus,
            hideout: Hideout::Kernel,
            epoch,
        };
        // The parts of a request do not overlap, and each has one task at a time. Yet where a login alone is no proof, the
        // path carries IO again while its older session is waited out, and may leave the same copy a second time: what
        // is known least about counts for both.
        let same = |old: &&mut Copy| {
            (old.owner, old.nexus, old.extent) == (copy.owner, copy.nexus, copy.extent)
        };
        match self.copies.iter_mut().find(same) {
            Some(old) => old.hideout = copy.hideout,
            None => self.copies.push(copy),
        }
    }

    /// The dead session's socket is closed hard: our kernel sends nothing of it any more. Returns whether a copy was
    /// left on it.
    pub fn silenced(&mut self, now: Instant, nexus: Nexus) -> bool {
        let mut any = false;
        for copy in self.of(nexus) {
            if copy.hideout == Hideout::Kernel {
                copy.hideout = Hideout::Target { since: now };
                any = true;
            }
        }
        any
    }

    /// A later session of this nexus is established: the target has closed the connection of every earlier one.
    pub fn reinstated(&mut self, now: Instant, nexus: Nexus) {
        for copy in self.of(nexus) {
            if !matches!(copy.hideout, Hideout::Backend { .. }) {
                copy.hideout = Hideout::Backend { since: now };
            }
        }
    }

    /// The target showed that its backend is stuck: whatever was waited so far counts for nothing.
    pub fn stuck(&mut self, now: Instant, nexus: Nexus) {
        for copy in self.of(nexus) {
            if let Hideout::Backend { since } | Hideout::Target { since } = &mut copy.hideout {
                *since = now;
            }
        }
    }

    fn of(&mut self, nexus: Nexus) -> impl Iterator<Item = &mut Copy> {
        self.copies
            .iter_mut()
            .filter(move |copy| copy.nexus == nexus)
    }

    /// Where the copy of this nexus is that will be over last.
    pub fn hideout(&self, nexus: Nexus) -> Option<Hideout> {
        let copies = self.copies.iter().filter(|copy| copy.nexus == nexus);
        copies.map(|copy| copy.hideout).max()
    }

    /// Takes over a copy that an earlier run of the daemon left behind.
    pub fn restore(&mut self, write: &UnresolvedWrite) {
        self.copies.push(Copy {
            owner: Owner::Nobody,
            extent: Extent {
                lba: write.lba,
                blocks: write.blocks,
            },
            nexus: Nexus {
                isid: write.isid,
                portal_group: write.portal_group,
            },
            hideout: Hideout::Unknown,
            epoch: DrainId::default(),
        });
        self.ownerless += 1;
    }

    /// Whether a copy of this request may still execute.
    pub fn is_unresolved(&self, request: Serial) -> bool {
        !self.copies.is_empty()
            && !lives(Mutant::AnswerBeforeFence)
            && self
                .copies
                .iter()
                .any(|copy| copy.owner == Owner::Request(request))
    }

    /// Whether this request must not change `extent` now: a copy of another write may still land there.
    pub fn forbids(&self, request: Serial, extent: Extent) -> bool {
        !self.copies.is_empty()
            && !lives(Mutant::OverlapLetThrough)
            && self
                .copies
                .iter()
                .any(|copy| copy.owner != Owner::Request(request) && copy.extent.overlaps(extent))
    }

    /// The request is about to be failed: its copies stay, without an owner. `false` if there is no room to
    /// remember one more; then the request must be held until the fence instead.
    pub fn disown(&mut self, request: Serial) -> bool {
        let owned = |copy: &&mut Copy| copy.owner == Owner::Request(request);
        let count = self.copies.iter_mut().filter(owned).count();
        if count > 0 && self.ownerless + count > self.ownerless_max {
            return false;
        }
        for copy in self.copies.iter_mut().filter(owned) {
            copy.owner = Owner::Nobody;
        }
        self.ownerless += count;
        true
    }

    /// Every session of this nexus before the present one is proven dead. Returns how many copies died.
    pub fn proven_dead(&mut self, nexus: Nexus) -> usize {
        let before = self.copies.len();
        self.copies.retain(|copy| copy.nexus != nexus);
        self.ownerless = self
            .copies
            .iter()
            .filter(|copy| copy.owner == Owner::Nobody)
            .count();
        before - self.copies.len()
    }

    /// As [`Ledger::disown`] at the end of the volume, when nothing is sent any more: without the bound.
    pub fn disown_beyond_bound(&mut self, request: Serial) {
        for copy in &mut self.copies {
            if copy.owner == Owner::Request(request) {
                copy.owner = Owner::Nobody;
                self.ownerless += 1;
            }
        }
    }

    /// The nexuses with this ISID that need a proof, with repetitions.
    pub fn owed_by(&self, isid: Isid) -> impl Iterator<Item = Nexus> + '_ {
        self.copies
            .iter()
            .map(|copy| copy.nexus)
            .filter(move |nexus| nexus.isid == isid)
    }

    /// Of these, the ones that a login can help: it closes the target's side of the dead connection.
    pub fn login_owed_by(&self, isid: Isid) -> impl Iterator<Item = Nexus> + '_ {
        self.copies
            .iter()
            .filter(move |copy| {
                copy.nexus.isid == isid && !matches!(copy.hideout, Hideout::Backend { .. })
            })
            .map(|copy| copy.nexus)
    }

    /// When each copy was sent, in drains. A retry that died like the write before it counts from that.
    pub fn epochs(&self) -> impl Iterator<Item = DrainId> + '_ {
        self.copies.iter().map(|copy| copy.epoch)
    }

    /// Whether nothing is unresolved.
    pub fn is_empty(&self) -> bool {
        self.copies.is_empty()
    }

    /// For `status`, and for keeping over a restart.
    pub fn unresolved(&self) -> impl Iterator<Item = UnresolvedWrite> + '_ {
        self.copies.iter().map(|copy| UnresolvedWrite {
            lba: copy.extent.lba,
            blocks: copy.extent.blocks,
            isid: copy.nexus.isid,
            portal_group: copy.nexus.portal_group,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Nexus = Nexus {
        isid: Isid([0x80, 0, 0, 0, 0, 1]),
        portal_group: Some(Tpgt(1)),
    };
    const B: Nexus = Nexus {
        isid: Isid([0x80, 0, 0, 0, 0, 2]),
        portal_group: Some(Tpgt(1)),
    };

    const NONE: DrainId = DrainId(0);

    fn extent(lba: u64, blocks: u32) -> Extent {
        Extent { lba, blocks }
    }

    #[test]
    fn overlap_is_half_open() {
        let table = [
            ((8, 8), (0, 8), false),
            ((8, 8), (0, 9), true),
            ((8, 8), (15, 1), true),
            ((8, 8), (16, 1), false),
            ((8, 8), (10, 2), true),
            ((0, 100), (10, 2), true),
            ((u64::MAX - 1, 8), (u64::MAX - 3, 3), true),
        ];
        for ((a, n), (b, m), overlaps) in table {
            assert_eq!(
                extent(a, n).overlaps(extent(b, m)),
                overlaps,
                "{a}+{n} {b}+{m}"
            );
            assert_eq!(extent(b, m).overlaps(extent(a, n)), overlaps);
        }
    }

    #[test]
    fn only_its_own_retry_may_touch_an_unresolved_extent() {
        let mut ledger = Ledger::new(8, 8);
        ledger.record(Serial(1), extent(8, 8), A, NONE);
        assert!(ledger.is_unresolved(Serial(1)));
        assert!(!ledger.forbids(Serial(1), extent(8, 8)));
        assert!(ledger.forbids(Serial(2), extent(15, 1)));
        assert!(!ledger.forbids(Serial(2), extent(16, 1)));
    }

    #[test]
    fn every_session_that_may_hold_a_copy_must_be_dead() {
        let mut ledger = Ledger::new(8, 8);
        ledger.record(Serial(1), extent(8, 4), A, NONE);
        ledger.record(Serial(1), extent(12, 4), A, NONE);
        ledger.record(Serial(1), extent(8, 8), B, NONE);
        assert_eq!(ledger.proven_dead(A), 2);
        assert!(ledger.is_unresolved(Serial(1)));
        assert!(ledger.forbids(Serial(2), extent(8, 1)));
        assert_eq!(ledger.proven_dead(B), 1);
        assert!(!ledger.is_unresolved(Serial(1)));
        assert!(ledger.is_empty());
    }

    #[test]
    fn the_same_isid_in_another_portal_group_proves_nothing() {
        let mut ledger = Ledger::new(8, 8);
        ledger.record(Serial(1), extent(8, 8), A, NONE);
        let elsewhere = Nexus {
            portal_group: Some(Tpgt(2)),
            ..A
        };
        assert_eq!(ledger.proven_dead(elsewhere), 0);
        assert_eq!(ledger.owed_by(A.isid).next(), Some(A));
        assert_eq!(ledger.owed_by(B.isid).next(), None);
    }

    #[test]
    fn a_copy_moves_only_towards_its_end_and_back_when_the_target_is_stuck() {
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        let mut ledger = Ledger::new(8, 8);
        ledger.restore(&UnresolvedWrite {
            lba: 0,
            blocks: 1,
            isid: A.isid,
            portal_group: A.portal_group,
        });
        ledger.record(Serial(1), extent(8, 8), A, NONE);
        ledger.record(Serial(2), extent(8, 8), B, NONE);
        assert_eq!(ledger.hideout(B), Some(Hideout::Kernel));
        assert!(ledger.silenced(at(5), B));
        assert!(!ledger.silenced(at(6), B), "only once");
        assert_eq!(ledger.hideout(B), Some(Hideout::Target { since: at(5) }));
        ledger.stuck(at(7), B);
        assert_eq!(ledger.hideout(B), Some(Hideout::Target { since: at(7) }));
        // Nothing that this run's socket did says anything about an earlier run's.
        assert!(ledger.silenced(at(8), A));
        ledger.stuck(at(9), A);
        assert_eq!(ledger.hideout(A), Some(Hideout::Unknown));
        assert_eq!(ledger.login_owed_by(A.isid).count(), 2);
        ledger.reinstated(at(10), A);
        ledger.reinstated(at(11), A);
        assert_eq!(ledger.hideout(A), Some(Hideout::Backend { since: at(10) }));
        assert_eq!(ledger.login_owed_by(A.isid).count(), 0);
        assert_eq!(ledger.owed_by(A.isid).count(), 2);
        ledger.stuck(at(12), A);
        assert_eq!(ledger.hideout(A), Some(Hideout::Backend { since: at(12) }));
        // The retry went over the same path and died with it: one copy, at its worst.
        ledger.record(Serial(1), extent(8, 8), A, NONE);
        assert_eq!(ledger.hideout(A), Some(Hideout::Kernel));
        assert_eq!(ledger.proven_dead(A), 2);
        assert_eq!(ledger.hideout(A), None);
    }

    #[test]
    fn a_failed_write_still_blocks_its_extent_even_for_its_tag_s_next_request() {
        let mut ledger = Ledger::new(8, 1);
        ledger.record(Serial(1), extent(8, 8), A, NONE);
        ledger.record(Serial(2), extent(32, 8), A, NONE);
        assert!(ledger.disown(Serial(1)));
        assert!(
            ledger.forbids(Serial(1), extent(8, 1)),
            "the serial has no claim any more"
        );
        assert!(ledger.forbids(Serial(3), extent(8, 1)));
        assert!(
            !ledger.disown(Serial(2)),
            "no room to remember: it must be held"
        );
        assert!(ledger.disown(Serial(4)), "nothing of it is unresolved");
        assert_eq!(ledger.proven_dead(A), 2);
        ledger.record(Serial(5), extent(0, 1), B, NONE);
        assert!(ledger.disown(Serial(5)), "the proof made room");
    }

    #[test]
    fn a_copy_is_as_old_as_the_first_write_that_it_stands_for() {
        let mut ledger = Ledger::new(8, 8);
        ledger.record(Serial(1), extent(8, 8), A, DrainId(3));
        ledger.record(Serial(1), extent(8, 8), A, DrainId(5));
        ledger.record(Serial(2), extent(32, 8), B, DrainId(4));
        assert_eq!(
            ledger.epochs().collect::<Vec<_>>(),
            [DrainId(3), DrainId(4)]
        );
        ledger.proven_dead(A);
        assert_eq!(ledger.epochs().min(), Some(DrainId(4)));
    }

    #[test]
    fn copies_of_an_earlier_run_block_too() {
        let mut ledger = Ledger::new(8, 8);
        let write = UnresolvedWrite {
            lba: 100,
            blocks: 4,
            isid: A.isid,
            portal_group: A.portal_group,
        };
        ledger.restore(&write);
        assert!(ledger.forbids(Serial(1), extent(103, 1)));
        assert_eq!(ledger.unresolved().collect::<Vec<_>>(), [write]);
        assert_eq!(ledger.proven_dead(A), 1);
        assert!(!ledger.forbids(Serial(1), extent(103, 1)));
    }

    #[test]
    fn anything_is_every_block_once() {
        for blocks in [0, 1, (1 << 32) - 1, 1 << 32, (1 << 34) + 5] {
            let mut next = 0;
            for write in UnresolvedWrite::anything(blocks, A.isid, A.portal_group) {
                assert_eq!(write.lba, next);
                assert!(write.blocks > 0);
                next += u64::from(write.blocks);
            }
            assert_eq!(next, blocks);
        }
    }
}
