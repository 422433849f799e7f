//! What stands between a host's machine and the world: its inputs, its outputs, its timer, its gate.

use lockmgr::{GateOrder, Input, Lockspace, Output, ReadFailed, WriteOutcome};

use super::{Event, MS, World};
use crate::disk::Disk;
use crate::host::{Answer, Pending, True};

impl World {
    pub(super) fn wake(&mut self, host: usize) {
        let state = &self.hosts[host];
        let Some(at) = state.space.as_ref().and_then(Lockspace::poll_timeout) else {
            return;
        };
        let due = state.clock.when(at).max(state.paused_until);
        if due <= self.now {
            self.input(host, Input::Timeout);
        } else {
            self.arm(host, due);
        }
    }

    fn arm(&mut self, host: usize, due: True) {
        let timer = &mut self.hosts[host].timer;
        if timer.is_none_or(|at| at > due) {
            *timer = Some(due);
            self.at(due, Event::Timer(host));
        }
    }

    pub(super) fn input(&mut self, host: usize, input: Input) {
        let now = self.hosts[host].clock.read(self.now);
        let Some(space) = &mut self.hosts[host].space else {
            return;
        };
        space.handle(now, input);
        self.drain(host);
    }

    pub(super) fn answer(&mut self, host: usize, life: u64, answer: Answer) {
        let state = &mut self.hosts[host];
        if state.life != life {
            return;
        }
        let until = state.paused_until;
        let first = state.held_up.is_empty();
        if until <= self.now && first {
            return self.hear(host, answer);
        }
        state.held_up.push_back(answer);
        if first {
            self.at(until, Event::GoOn(host));
        }
    }

    /// A host that stood still hears what came meanwhile. Nothing overtakes it: the end of a copy that comes before the word
    /// that there is one would be waited for without end.
    pub(super) fn go_on(&mut self, host: usize) {
        let until = self.hosts[host].paused_until;
        if until > self.now {
            return self.at(until, Event::GoOn(host));
        }
        while let Some(answer) = self.hosts[host].held_up.pop_front() {
            self.hear(host, answer);
        }
    }

    fn hear(&mut self, host: usize, answer: Answer) {
        match answer {
            Answer::Read(id, None) => self.input(
                host,
                Input::Read {
                    id,
                    data: Err(ReadFailed),
                },
            ),
            Answer::Read(id, Some(snapshot)) => {
                // The bytes live in the disk: lent for the call, like a driver's buffer.
                let mut disk = core::mem::replace(&mut self.disk, Disk::empty());
                let data = Ok(disk.bytes(&snapshot));
                let now = self.hosts[host].clock.read(self.now);
                if let Some(space) = &mut self.hosts[host].space {
                    space.handle(now, Input::Read { id, data });
                }
                self.disk = disk;
                self.drain(host);
            }
            Answer::Wrote(id, outcome) => {
                if outcome == WriteOutcome::Unknown {
                    let state = &mut self.hosts[host];
                    state.unfenced = state.unfenced.max(Some(id));
                    if !state.fencing {
                        state.fencing = true;
                        let life = state.life;
                        let delay = self.prng.between(50, 3000) * MS;
                        self.after(delay, Event::Fence { host, life });
                    }
                }
                self.input(host, Input::Wrote { id, outcome });
            }
            Answer::Fenced(through) => self.input(host, Input::Fenced { through }),
            Answer::Settled(id) => self.input(host, Input::Settled { id }),
        }
    }

    fn drain(&mut self, host: usize) {
        while let Some(output) = self.hosts[host]
            .space
            .as_mut()
            .and_then(Lockspace::poll_output)
        {
            self.perform(host, output);
        }
        if self.hosts[host].space.is_some() {
            self.wake_later(host);
        }
    }

    fn wake_later(&mut self, host: usize) {
        let state = &self.hosts[host];
        if let Some(at) = state.space.as_ref().and_then(Lockspace::poll_timeout) {
            let due = state
                .clock
                .when(at)
                .max(state.paused_until)
                .max(self.now + 1);
            self.arm(host, due);
        }
    }

    fn perform(&mut self, host: usize, output: Output) {
        match output {
            Output::Read {
                id,
                offset,
                len,
                deadline,
            } => {
                self.read(host, id, offset, len, deadline);
            }
            Output::Write {
                id,
                offset,
                bytes,
                deadline,
                writers,
            } => {
                let write = Pending {
                    id,
                    offset,
                    bytes,
                    torn: false,
                    ordered: self.ordered(host, offset),
                    writers,
                };
                self.write(host, write, deadline);
            }
            Output::Gate(order) => {
                self.hosts[host].gate_orders.push_back(order);
                if self.hosts[host].gate_orders.len() == 1 {
                    // The keeper may be held up between deciding and doing.
                    let life = self.hosts[host].life;
                    let delay = if self.prng.percent(20) {
                        self.prng.below(100) * MS
                    } else {
                        0
                    };
                    self.after(delay, Event::Gate { host, life });
                }
            }
            Output::Note(note) => self.note(host, note),
        }
    }

    /// All orders that wait, in their order.
    pub(super) fn move_gate(&mut self, host: usize) {
        let give_up = self.plan.timing.give_up();
        let now = self.hosts[host].clock.read(self.now);
        while let Some(order) = self.hosts[host].gate_orders.pop_front() {
            let gate = &self.hosts[host].gate;
            let restores = matches!(order, GateOrder::Restore { .. });
            let disarms = matches!(order, GateOrder::Disarm);
            let moved = match order {
                GateOrder::Arm { started } => gate.arm(now, started, give_up),
                GateOrder::Extend { started } => gate.extend(now, started, give_up),
                GateOrder::Restore { started, proof } => {
                    gate.restore(now, started, give_up, &proof)
                }
                GateOrder::Disarm => gate.disarm(now),
                GateOrder::Refuse => {
                    gate.refuse();
                    Ok(())
                }
            };
            match moved {
                Ok(()) if restores => {
                    let (hosts, at) = (&self.hosts, self.now);
                    self.judge
                        .restored(at, host, |of| hosts[of].gate_is_open(at));
                }
                Err(_) if !disarms => {
                    self.tell(|| format!("host {}: the gate had shut", host + 1));
                    self.input(host, Input::GateShut);
                }
                _ => {}
            }
        }
    }
}
