//! A slot that can be read: may it be taken, and how.

use core::time::Duration;

use super::{Delta, DeltaEvent, Entry, Stage, owner};
use crate::contract::JoinError;
use crate::io::{Outbox, Party, Writers};
use crate::mutant::Mutant;
use crate::ondisk::{DeltaLease, Event, HostSet, LeaderFlags};
use crate::time::Instant;
use crate::timing::Timing;

impl Delta {
    /// The slot is readable: may it be taken?
    pub(super) fn found(
        &mut self,
        out: &mut Outbox,
        now: Instant,
        found: DeltaLease,
    ) -> Option<DeltaEvent> {
        if let Entry::Again(left) = self.entry {
            let is = |known: DeltaLease| owner(&found) == owner(&known);
            let ours = is(left) || self.tried.is_some_and(is);
            if !ours || found.flags.contains(LeaderFlags::DEAD_EXT) {
                return self.fail(JoinError::SlotTaken);
            }
        }
        if found.is_free() || found.host_name == self.us.name {
            self.take(out, now, found);
            return None;
        }
        let theirs = Timing::of_other(found.io_timeout, self.us.timing);
        let until = match self.mutant {
            Some(Mutant::SkipWait) => now,
            _ => now + theirs.slot_takeover(),
        };
        self.stage = Stage::WaitingOut { seen: found, until };
        None
    }

    pub(super) fn take(&mut self, out: &mut Outbox, now: Instant, found: DeltaLease) {
        let generation = match self.mutant {
            Some(Mutant::ForgetGeneration) => found.owner_generation.max(1),
            _ => found.owner_generation.saturating_add(1),
        };
        let lease = DeltaLease {
            flags: found.flags.without(LeaderFlags::DEAD_EXT),
            owner_id: self.us.host.number(),
            owner_generation: generation,
            host_name: self.us.name,
            timestamp: now.disk_seconds(),
            io_timeout: self.us.timing.io_timeout_s(),
            event: Event::default(),
            ..found
        };
        let settle = self.settle(&found);
        let bytes = self.bytes(&lease, HostSet::EMPTY);
        let deadline = now + self.us.timing.io();
        let io = out.write(
            Party::Delta,
            self.us.slot_offset(self.us.host),
            bytes,
            deadline,
            Writers::Many,
        );
        self.tried = Some(lease);
        self.stage = Stage::Taking {
            io,
            lease,
            started: now,
            settle,
        };
    }

    /// How long the slot settles once it is written. Not at all where we left it ourselves, as with sanlock from 3.9 on.
    ///
    /// The pause is for another machine with our number that found the slot free at the same time as we. If it writes
    /// before our first renewal, which follows at once, it finds that one when it reads back. If it writes later, it also
    /// reads back later than our second renewal reads, unless the slot's owner was less patient than we are, and there we
    /// find the loss. What is given up: two machines of one number *and* one name that come at the same moment both leave
    /// out the pause, and both have the number until their second renewal.
    fn settle(&self, found: &DeltaLease) -> Duration {
        let theirs = Timing::of_other(found.io_timeout, self.us.timing);
        let left_by_us = found.left_by(self.us.host, &self.us.name);
        let in_time = theirs.settle() >= self.us.timing.renewal_interval();
        match self.entry == Entry::Fresh && left_by_us && in_time {
            true => Duration::ZERO,
            false => theirs.settle(),
        }
    }
}
