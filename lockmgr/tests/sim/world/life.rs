//! Hosts start, die and come back; what befalls them; and the peace in the end.

use lockmgr::gate::Gate;
use lockmgr::ondisk::{HostId, Name};
use lockmgr::{Identity, Input, Lockspace, Order};

use super::{Event, MS, SECOND, STALL_MAX, World};
use crate::disk::space;
use crate::host::Want;
use crate::plan::Trouble;

impl World {
    pub(super) fn start(&mut self, host: usize) {
        let rename = self.prng.percent(10) && self.plan.trouble != Trouble::None;
        let seed = self.prng.next();
        let number = host as u64 + 1;
        let state = &mut self.hosts[host];
        if rename {
            state.renamed += 1;
        }
        let name = Name::new(&format!("host-{number}-{}", state.renamed)).expect("short");
        let us = Identity {
            offset: 0,
            geometry: self.plan.geometry,
            space: space(),
            host: HostId::new(number).expect("within the geometry"),
            name,
            timing: self.plan.timing,
        };
        state.space = Some(Lockspace::broken(us, seed, self.plan.mutant));
        state.gate = Gate::new();
        state.gate_orders.clear();
        state.joined = false;
        state.timer = None;
        state.wants.fill(Want::Nothing);
        state.leaving.fill(None);
        self.tell(|| format!("host {number} starts"));
        self.input(host, Input::Order(Order::Join));
    }

    pub(super) fn crash(&mut self, host: usize, down: u64) {
        self.tell(|| format!("host {} dies", host + 1));
        let state = &mut self.hosts[host];
        let life = state.life;
        for pending in state.pending.drain(..) {
            self.dead_pending.push((host, life, pending));
        }
        state.space = None;
        state.held_up.clear();
        state.joined = false;
        state.life += 1;
        state.unfenced = None;
        state.fencing = false;
        state.timer = None;
        let life = state.life;
        self.judge.died(host);
        self.after(down, Event::Restart { host, life });
    }

    /// Comes back, after its sessions were reinstated: nothing of its old life can land later.
    pub(super) fn restart(&mut self, host: usize, life: u64) {
        let state = &self.hosts[host];
        if state.life != life || state.space.is_some() {
            return;
        }
        if state.cut_until > self.now {
            let at = state.cut_until + SECOND;
            self.at(at, Event::Restart { host, life });
            return;
        }
        let (mine, others) = core::mem::take(&mut self.dead_pending)
            .into_iter()
            .partition::<Vec<_>, _>(|(of, _, _)| *of == host);
        self.dead_pending = others;
        for (_, lived, pending) in mine {
            if self.prng.percent(50) {
                self.land(host, lived, &pending);
            }
        }
        self.land_data(host);
        self.start(host);
    }

    pub(super) fn incident(&mut self, host: usize) {
        let dead = self.plan.timing.host_dead().as_nanos() as u64;
        let t = self.plan.timing.io().as_nanos() as u64;
        let lengths = [t, 8 * t, dead / 2, dead + 10 * t];
        let at_most = self.prng.pick(&lengths);
        let length = self.prng.between(at_most / 4, at_most);
        let all = self.plan.trouble != Trouble::Storage;
        let until = self.now + length;
        if self.plan.trouble == Trouble::Slow {
            let length = self.prng.between(dead + 2 * t, dead + 5 * t);
            return self.after(0, Event::Cut { host, length });
        }
        match self.prng.below(if all { 10 } else { 6 }) {
            0..=1 => {
                self.tell(|| format!("host {} is cut off for {} s", host + 1, length / SECOND));
                self.hosts[host].cut_until = until;
            }
            2..=3 => {
                let slow = self.prng.between(2 * t, 8 * t);
                self.tell(|| format!("host {} is slow, then cut off", host + 1));
                self.hosts[host].slow_until = self.now + slow;
                let length = self.prng.between(dead / 2, dead + 10 * t);
                self.after(slow, Event::Cut { host, length });
            }
            4 => {
                self.tell(|| format!("storage is gone for {} s", length / SECOND));
                for state in &mut self.hosts {
                    state.cut_until = until;
                }
            }
            5..=7 if all => {
                if self.hosts[host].space.is_some() {
                    self.crash(host, length);
                }
            }
            5 | 8 => {
                self.tell(|| format!("host {} stands still for {} s", host + 1, length / SECOND));
                self.hosts[host].paused_until = until;
            }
            _ => {
                let left = STALL_MAX - self.hosts[host].stalled;
                let length = self.prng.below(left + 1);
                self.tell(|| {
                    format!(
                        "host {} and its clock stop for {} ms",
                        host + 1,
                        length / MS
                    )
                });
                let (now, state) = (self.now, &mut self.hosts[host]);
                state.stalled += length;
                state.paused_until = state.paused_until.max(now + length);
                state.clock.stall(now, now + length);
            }
        }
    }

    /// Faults stop.
    pub fn make_peace(&mut self) {
        self.tell(|| "peace".into());
        self.peace = true;
        for state in &mut self.hosts {
            state.cut_until = 0;
            state.slow_until = 0;
            state.paused_until = state.paused_until.min(self.now);
        }
        for host in 0..self.hosts.len() {
            self.go_on(host);
            self.move_gate(host);
            if self.hosts[host].space.is_none() {
                let life = self.hosts[host].life;
                self.after(SECOND, Event::Restart { host, life });
            } else {
                self.wake(host);
            }
        }
    }
}
