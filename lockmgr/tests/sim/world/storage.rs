//! The fate of each lease read and lease write: seen, executed, lost, late, sent twice, fenced.

use lockmgr::ondisk::{PaxosLeader, Request};
use lockmgr::time::Instant;
use lockmgr::{IoId, WriteOutcome, Writers};

use super::{Event, MS, SECOND, World};
use crate::host::{Answer, Pending, True};
use crate::plan::Trouble;

impl World {
    pub(super) fn read(
        &mut self,
        host: usize,
        id: IoId,
        offset: u64,
        len: usize,
        deadline: Instant,
    ) {
        let life = self.hosts[host].life;
        let end = self.hosts[host].clock.when(deadline);
        let lost = self.hosts[host].cut_until > self.now
            || (!self.peace && self.prng.percent(self.plan.error_percent));
        if lost {
            let at = self.prng.between(self.now, end.max(self.now));
            let answer = Answer::Read(id, None);
            self.at(at, Event::Answer { host, life, answer });
        } else {
            let slow = if self.plan.trouble == Trouble::Slow {
                0
            } else {
                self.slowness(host) / 2
            };
            let delay = self.prng.between(1, 20) * MS / 4 + slow;
            self.after(
                delay,
                Event::Sample {
                    host,
                    life,
                    id,
                    offset,
                    len,
                },
            );
        }
    }

    /// How much longer an answer takes on slow storage.
    fn slowness(&mut self, host: usize) -> u64 {
        match self.hosts[host].slow_until > self.now {
            true => self.prng.below(2 * self.plan.timing.io().as_nanos() as u64),
            false => 0,
        }
    }

    pub(super) fn sample(&mut self, host: usize, life: u64, id: IoId, offset: u64, len: usize) {
        if self.hosts[host].life != life {
            return;
        }
        let snapshot = self.disk.snapshot(offset, len);
        if self.prng.percent(self.plan.split_percent) {
            let delay = self.prng.between(1, 100) * MS;
            self.after(
                delay,
                Event::LookAgain {
                    host,
                    life,
                    id,
                    snapshot,
                },
            );
        } else {
            let delay = self.prng.between(1, 20) * MS / 4;
            let answer = Answer::Read(id, Some(snapshot));
            self.after(delay, Event::Answer { host, life, answer });
        }
    }

    /// When what a host is at with the resource there was ordered.
    pub(super) fn ordered(&self, host: usize, offset: u64) -> True {
        match offset / self.plan.geometry.area_bytes() {
            0 => 0,
            area => self.hosts[host].ordered[area as usize - 1],
        }
    }

    pub(super) fn write(&mut self, host: usize, mut write: Pending, deadline: Instant) {
        let id = write.id;
        let life = self.hosts[host].life;
        let end = self.hosts[host].clock.when(deadline).max(self.now);
        let lost = self.hosts[host].cut_until > self.now
            || (!self.peace && self.prng.percent(self.plan.error_percent));
        if lost {
            let told = self.prng.between(self.now, end);
            let answer = Answer::Wrote(id, WriteOutcome::Unknown);
            self.at(told, Event::Answer { host, life, answer });
            if self.prng.percent(40) {
                return;
            }
            write.torn = self.plan.trouble == Trouble::Torn && self.prng.percent(10);
            let late = self.prng.percent(self.plan.late_percent);
            let at = match late {
                false => self.now + MS,
                true => {
                    let latest = end + self.plan.margins.drain_max.as_nanos() as u64;
                    match self.prng.percent(40) {
                        true => latest,
                        false => self.prng.between(told, latest),
                    }
                }
            };
            self.at(at, Event::Execute { host, life, id });
        } else {
            let delay = self.prng.between(1, 20) * MS / 4;
            self.after(delay, Event::Execute { host, life, id });
            let delay = delay + self.prng.between(1, 20) * MS / 4;
            let done = self.now + delay + self.slowness(host);
            let one = write.writers == Writers::One;
            let twice = one && self.errands.percent(self.plan.doubled_percent);
            // What takes longer than its deadline is given up, though it was executed.
            let (at, outcome) = match done <= end {
                true if twice => (done, WriteOutcome::Doubled),
                true => (done, WriteOutcome::Done),
                false => (end, WriteOutcome::Unknown),
            };
            if twice {
                self.send_copy(host, &write, done, end);
            }
            let answer = Answer::Wrote(id, outcome);
            self.at(at, Event::Answer { host, life, answer });
        }
        self.hosts[host].pending.push(write);
    }

    /// The same bytes on another path, which is the slower one. What becomes of it is known in the end.
    fn send_copy(&mut self, host: usize, write: &Pending, done: True, end: True) {
        let life = self.hosts[host].life;
        let id = write.id;
        let latest = match self.peace || self.plan.trouble == Trouble::None {
            true => done + 100 * MS,
            false => end + self.plan.margins.drain_max.as_nanos() as u64,
        };
        let at = match self.errands.percent(50) {
            true => done + self.errands.below(100 * MS),
            false => self.errands.between(done, latest.max(done)),
        };
        // It may be lost, too.
        if self.errands.percent(80) {
            self.hosts[host].pending.push(write.clone());
            self.at(at, Event::Execute { host, life, id });
        }
        let told = at + self.errands.between(1, 20) * MS;
        self.at(told, Event::Settle { host, life, id });
    }

    /// The other copy was answered, or its session was ended: it has executed, or never will.
    pub(super) fn settle(&mut self, host: usize, life: u64, id: IoId) {
        if self.hosts[host].life != life {
            return;
        }
        if self.hosts[host].cut_until > self.now || self.hosts[host].paused_until > self.now {
            self.after(SECOND, Event::Settle { host, life, id });
            return;
        }
        let over = |pending: &Pending| pending.id != id;
        self.hosts[host].pending.retain(over);
        let answer = Answer::Settled(id);
        self.after(MS, Event::Answer { host, life, answer });
    }

    pub(super) fn execute(&mut self, host: usize, life: u64, id: IoId) {
        if self.hosts[host].life == life {
            let pending = &mut self.hosts[host].pending;
            if let Some(place) = pending.iter().position(|p| p.id == id) {
                let pending = pending.swap_remove(place);
                self.land(host, life, &pending);
            }
        } else if let Some(place) = self
            .dead_pending
            .iter()
            .position(|(of, lived, p)| (*of, *lived, p.id) == (host, life, id))
        {
            let (_, _, pending) = self.dead_pending.swap_remove(place);
            self.land(host, life, &pending);
        }
    }

    pub(super) fn land(&mut self, host: usize, life: u64, pending: &Pending) {
        let geometry = self.plan.geometry;
        let area = pending.offset / geometry.area_bytes();
        let within = pending.offset % geometry.area_bytes();
        if area > 0 && within == geometry.request_sector() {
            let request = Request::parse(&pending.bytes).expect("it was made here");
            let (now, looked) = (self.now, pending.ordered);
            self.judge
                .requested(now, area as usize - 1, request, looked);
        } else if area > 0 && Some(within) == geometry.lvb_sector() {
            let (resource, value) = (area as usize - 1, block_value(&pending.bytes));
            self.tell(|| format!("host {} writes block {value} of {resource}", host + 1));
            match self.block_claims.get(&value).copied() {
                Some(claim) => self.judge.block_lands(self.now, resource, claim),
                None => panic!("block {value} was never to be left"),
            }
        } else if area > 0 && within == 0 {
            let resource = area as usize - 1;
            let old = self.disk.leader(resource);
            if let Ok(new) = PaxosLeader::parse(&pending.bytes) {
                self.judge.leader(self.now, resource, old, &new);
                self.tell(|| {
                    let state = if new.is_free() { "free" } else { "owned" };
                    format!(
                        "host {} writes leader {resource}: version {} of {} generation {}, {state}",
                        host + 1,
                        new.lver,
                        new.owner_id,
                        new.owner_generation
                    )
                });
            }
        }
        if pending.writers == Writers::One {
            let (id, bytes) = (pending.id, &pending.bytes);
            self.judge
                .own_lands(self.now, (host, life), pending.offset, id, bytes);
        }
        self.disk
            .write(pending.offset, &pending.bytes, pending.torn);
    }

    /// Session reinstatement: what is under way executes now or never.
    pub(super) fn fence(&mut self, host: usize, life: u64) {
        if self.hosts[host].life != life {
            return;
        }
        if self.hosts[host].cut_until > self.now || self.hosts[host].paused_until > self.now {
            self.after(SECOND, Event::Fence { host, life });
            return;
        }
        let state = &mut self.hosts[host];
        state.fencing = false;
        let Some(through) = state.unfenced.take() else {
            return;
        };
        let (old, young) = core::mem::take(&mut state.pending)
            .into_iter()
            .partition::<Vec<_>, _>(|pending| pending.id <= through);
        state.pending = young;
        for pending in old {
            // What was not lost is answered `Done` and must execute.
            self.land(host, life, &pending);
        }
        let answer = Answer::Fenced(through);
        self.after(MS, Event::Answer { host, life, answer });
    }
}

/// The number in a lock value block.
pub(super) fn block_value(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(*bytes.first_chunk().expect("a whole sector"))
}
