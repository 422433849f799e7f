//! The data path of a host: writes to what its leases protect.

use lockmgr::{Input, Mode};

use super::{Event, MS, SECOND, World};
use crate::host::Want;
use crate::judge::Claim;

impl World {
    /// The data path: writes to everything that is held exclusively, if the gate allows.
    pub(super) fn write_data(&mut self, host: usize) {
        let state = &self.hosts[host];
        if state.paused_until > self.now || state.space.is_none() || state.data.len() > 8 {
            return;
        }
        let claims: Vec<(usize, Claim)> = self.judge.claims_of(host).collect();
        for (resource, claim) in claims {
            let holding = self.hosts[host].wants[resource] == Want::Holding;
            if claim.mode != Mode::Exclusive || !holding || !self.hosts[host].may_write(self.now) {
                continue;
            }
            let deadline = self.hosts[host].gate.deadline().expect("it is open");
            let shut = self.hosts[host].clock.when(deadline);
            let late = self.hosts[host].cut_until > self.now || self.prng.percent(3);
            let at = match late && !self.peace {
                false => self.now + self.prng.between(1, 50) * MS,
                true => {
                    let latest = shut + self.plan.margins.drain_max.as_nanos() as u64;
                    match self.prng.percent(50) {
                        true => latest,
                        false => self.prng.between(self.now, latest),
                    }
                }
            };
            self.data_numbers += 1;
            let number = self.data_numbers;
            self.hosts[host].data.push((number, resource, claim));
            self.at(at, Event::DataLands { host, number });
        }
    }

    /// The data path's sessions are reinstated.
    pub(super) fn drain_data(&mut self, host: usize, life: u64) {
        let state = &self.hosts[host];
        if state.life != life {
            return;
        }
        let blocked = state.cut_until.max(state.paused_until);
        if blocked > self.now {
            self.at(blocked + SECOND, Event::Drain { host, life });
            return;
        }
        self.land_data(host);
        self.input(host, Input::Drained);
    }

    /// What is under way executes now or never.
    pub(super) fn land_data(&mut self, host: usize) {
        for (_, resource, claim) in core::mem::take(&mut self.hosts[host].data) {
            if self.prng.percent(50) {
                self.judge.data(self.now, resource, claim);
            }
        }
    }
}
