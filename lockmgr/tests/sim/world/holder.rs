//! Who takes, converts and releases the leases of a host, reads and leaves lock value blocks, asks owners.

use lockmgr::ondisk::ForceMode;
use lockmgr::{Input, LeaseError, LeaseId, Lockspace, Mode, Note, OnOwner, Order};

use super::storage::block_value;
use super::{Event, Mood, SECOND, World};
use crate::disk::{resource_name, resource_offset};
use crate::host::{Want, other};
use crate::plan::Trouble;

impl World {
    pub(super) fn note(&mut self, host: usize, note: Note) {
        match &note {
            Note::Lvb { id, .. } => self.tell(|| format!("host {}: Lvb {{ {id:?} }}", host + 1)),
            _ => self.tell(|| format!("host {}: {note:?}", host + 1)),
        }
        let area = self.plan.geometry.area_bytes();
        let resource = |id: LeaseId| (id.0 / area) as usize - 1;
        match note {
            Note::Joined { generation } => {
                self.hosts[host].joined = true;
                self.judge.joined(self.now, host, generation);
            }
            Note::Rejoined { generation } => self.judge.joined(self.now, host, generation),
            Note::JoinFailed(_) => {
                let down = self.prng.between(1, 20) * SECOND;
                self.crash(host, down);
            }
            Note::Lost(_) => {
                let life = self.hosts[host].life;
                let delay = self.prng.between(1, 10) * SECOND;
                self.after(delay, Event::Drain { host, life });
            }
            Note::Left => {
                self.hosts[host].joined = false;
                let down = self.prng.between(1, 20) * SECOND;
                self.crash(host, down);
            }
            Note::Acquired { id, mode, .. } | Note::Converted { id, mode, .. } => {
                let resource = resource(id);
                self.grant(host, resource, mode);
            }
            Note::Released { id } => {
                let resource = resource(id);
                self.hosts[host].wants[resource] = Want::Nothing;
                if let Some(value) = self.hosts[host].leaving[resource].take() {
                    self.judge.left(resource, value);
                }
            }
            Note::Lvb { id, bytes } => self.block_read(host, resource(id), &bytes),
            Note::Asked { id } => self.hosts[host].wants[resource(id)] = Want::Nothing,
            Note::AskedToRelease { id, .. } => {
                let resource = resource(id);
                self.judge.asked(self.now, resource, host);
                if self.hosts[host].wants[resource] == Want::Holding {
                    self.release(host, resource);
                }
            }
            Note::Failed { id, error } => self.failed(host, resource(id), error),
            Note::ReclaimFailed { id, .. } => {
                self.judge.end(resource(id), host);
                self.hosts[host].wants[resource(id)] = Want::Nothing;
            }
            Note::Restored => {
                for resource in 0..self.plan.resources {
                    if self.hosts[host].wants[resource] == Want::Converting {
                        self.hosts[host].wants[resource] = Want::Holding;
                    }
                }
            }
            Note::Refused => {
                // The way back: detach, attach, join.
                let down = self.prng.between(1, 20) * SECOND;
                self.crash(host, down);
            }
            // Something is still taken back in the background, or the lockspace was just lost.
            Note::LeaveRefused => self.hosts[host].joined = true,
            _ => {}
        }
    }

    fn grant(&mut self, host: usize, resource: usize, mode: Mode) {
        let (hosts, now) = (&self.hosts, self.now);
        self.judge
            .grant(now, resource, host, mode, |of| hosts[of].gate_is_open(now));
        self.hosts[host].wants[resource] = Want::Holding;
        if self.mood == Mood::Only(host) && mode == Mode::Exclusive {
            self.taken[resource] = true;
        }
    }

    fn failed(&mut self, host: usize, resource: usize, error: LeaseError) {
        self.hosts[host].leaving[resource] = None;
        let want = &mut self.hosts[host].wants[resource];
        match want {
            // It is not used any more, but still there: to be released later.
            Want::Releasing if matches!(error, LeaseError::Busy | LeaseError::LockspaceLost) => {
                *want = Want::Holding;
            }
            // Too late: it is about to be acquired.
            Want::GivingUp if error == LeaseError::Busy => *want = Want::Acquiring,
            Want::Acquiring | Want::GivingUp | Want::Releasing | Want::Asking => {
                *want = Want::Nothing;
            }
            Want::Converting | Want::Reading => *want = Want::Holding,
            Want::Nothing | Want::Holding => {}
        }
        if error == LeaseError::Taken {
            self.hosts[host].wants[resource] = Want::Nothing;
            self.judge.end(resource, host);
        }
    }

    pub(super) fn think(&mut self, host: usize) {
        let state = &self.hosts[host];
        if !state.joined || state.paused_until > self.now || state.space.is_none() {
            return;
        }
        if self.mood != Mood::Busy {
            return self.think_in_peace(host);
        }
        let idle = state.wants.iter().all(|want| *want == Want::Nothing);
        let slow = self.plan.trouble == Trouble::Slow && host == 0;
        if idle && !slow && self.prng.percent(2) {
            self.hosts[host].joined = false;
            self.input(host, Input::Order(Order::Leave));
            return;
        }
        let resource = self.prng.below(self.plan.resources as u64) as usize;
        match self.hosts[host].wants[resource] {
            Want::Nothing if self.errands.percent(10) => self.ask(host, resource),
            Want::Holding if self.errands.percent(20) => self.read_block(host, resource),
            Want::Nothing => {
                let mode = match self.prng.percent(self.plan.shared_percent) {
                    true => Mode::Shared,
                    false => Mode::Exclusive,
                };
                let on_owner = self.prng.pick(&[OnOwner::Wait, OnOwner::Refuse]);
                self.acquire(host, resource, mode, on_owner);
            }
            // The slow host is to be cut off while it holds something.
            Want::Holding if slow && self.prng.percent(95) => {}
            Want::Holding if self.prng.percent(30) => self.convert(host, resource),
            Want::Holding if self.prng.percent(60) => self.release(host, resource),
            Want::Acquiring if !slow && self.prng.percent(20) => {
                self.hosts[host].wants[resource] = Want::GivingUp;
                let id = LeaseId(resource_offset(self.plan.geometry, resource));
                self.input(host, Input::Order(Order::Release { id, lvb: None }));
            }
            _ => {}
        }
    }

    fn think_in_peace(&mut self, host: usize) {
        for resource in 0..self.plan.resources {
            match (self.hosts[host].wants[resource], self.mood) {
                (Want::Holding, _) => self.release(host, resource),
                (Want::Nothing, Mood::Crowd) => {
                    self.acquire(host, resource, Mode::Exclusive, OnOwner::Refuse);
                }
                (Want::Nothing, Mood::Only(only)) if only == host && !self.taken[resource] => {
                    self.acquire(host, resource, Mode::Exclusive, OnOwner::Wait);
                }
                _ => {}
            }
        }
    }

    fn acquire(&mut self, host: usize, resource: usize, mode: Mode, on_owner: OnOwner) {
        self.hosts[host].wants[resource] = Want::Acquiring;
        self.hosts[host].ordered[resource] = self.now;
        let id = LeaseId(resource_offset(self.plan.geometry, resource));
        let name = resource_name(resource);
        let order = Order::Acquire {
            id,
            name,
            mode,
            on_owner,
        };
        self.input(host, Input::Order(order));
    }

    fn convert(&mut self, host: usize, resource: usize) {
        let Some(claim) = self.judge.claim(resource, host) else {
            return;
        };
        let mode = other(claim.mode);
        if self.hosts[host].is_busy_with(resource) {
            return;
        }
        let limit = self.hosts[host].space.as_ref().and_then(Lockspace::limit);
        if limit.is_none_or(|limit| limit <= self.hosts[host].clock.read(self.now)) {
            return;
        }
        self.hosts[host].wants[resource] = Want::Converting;
        self.hosts[host].ordered[resource] = self.now;
        if mode == Mode::Shared {
            self.judge.share(resource, host);
        }
        let id = LeaseId(resource_offset(self.plan.geometry, resource));
        self.input(
            host,
            Input::Order(Order::Convert {
                id,
                mode,
                lvb: None,
            }),
        );
    }

    fn release(&mut self, host: usize, resource: usize) {
        if self.hosts[host].is_busy_with(resource) || !self.hosts[host].may_write(self.now) {
            return;
        }
        self.hosts[host].wants[resource] = Want::Releasing;
        self.hosts[host].ordered[resource] = self.now;
        let lvb = self.leave_block(host, resource);
        self.judge.end(resource, host);
        let id = LeaseId(resource_offset(self.plan.geometry, resource));
        self.input(host, Input::Order(Order::Release { id, lvb }));
    }

    /// What a release leaves in the lock value block, now and then.
    fn leave_block(&mut self, host: usize, resource: usize) -> Option<Box<[u8]>> {
        let claim = self.judge.claim(resource, host)?;
        let exclusive = claim.mode == Mode::Exclusive;
        let room = self.plan.geometry.lvb_sector().is_some();
        if !exclusive || !room || !self.errands.percent(60) {
            return None;
        }
        let value = self.block_claims.len() as u64 + 1;
        self.block_claims.insert(value, claim);
        self.hosts[host].leaving[resource] = Some(value);
        self.judge.leaves(resource, value);
        let mut block = vec![0; self.plan.geometry.sector_bytes()];
        block[..8].copy_from_slice(&value.to_le_bytes());
        Some(block.into())
    }

    fn read_block(&mut self, host: usize, resource: usize) {
        let claimed = self.judge.claim(resource, host).is_some();
        if !claimed || self.plan.geometry.lvb_sector().is_none() {
            return;
        }
        self.hosts[host].wants[resource] = Want::Reading;
        self.hosts[host].ordered[resource] = self.now;
        let id = LeaseId(resource_offset(self.plan.geometry, resource));
        self.input(host, Input::Order(Order::ReadLvb { id }));
    }

    fn block_read(&mut self, host: usize, resource: usize, bytes: &[u8]) {
        if self.hosts[host].wants[resource] == Want::Reading {
            self.hosts[host].wants[resource] = Want::Holding;
            // Whoever may write owned it all the while, for nothing else was ordered.
            if self.judge.claim(resource, host).is_some() && self.hosts[host].gate_is_open(self.now)
            {
                let value = block_value(bytes);
                self.judge.block_read(self.now, resource, host, value);
            }
        }
    }

    fn ask(&mut self, host: usize, resource: usize) {
        self.hosts[host].wants[resource] = Want::Asking;
        self.hosts[host].ordered[resource] = self.now;
        let id = LeaseId(resource_offset(self.plan.geometry, resource));
        let order = Order::Ask {
            id,
            name: resource_name(resource),
            force_mode: ForceMode::Graceful,
        };
        self.input(host, Input::Order(order));
    }
}
