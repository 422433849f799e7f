//! The world: true time, the medium, what happens to hosts, and the fate of each I/O.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use kit::prng::Prng;
use lockmgr::gate::Gate;
use lockmgr::ondisk::{ForceMode, HostId, Name, PaxosLeader, Request};
use lockmgr::time::Instant;
use lockmgr::{
    GateOrder, Identity, Input, IoId, LeaseError, LeaseId, Lockspace, Mode, Note, OnOwner, Order,
    Output, ReadFailed, WriteOutcome, Writers,
};

use crate::disk::{Disk, Snapshot, resource_name, resource_offset, space};
use crate::host::{Answer, Clock, Host, Pending, True, Want, other};
use crate::judge::{Claim, Judge};
use crate::plan::{Plan, Trouble};

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1_000 * MS;
/// Longest sum of times that a host's clock stands still: with the rates below, inside the margin for drift.
const STALL_MAX: u64 = 2 * SECOND;
/// Clocks run up to one percent wrong.
const PPM_MAX: u64 = 10_000;
/// Where nothing goes wrong: the longest from when a read sees its first sector until what was decided by it is written. A
/// second look 100 ms later, 3 ms to answer, 5 ms to write.
pub const LATE_MAX: u64 = 108 * MS;
/// Lines of the story that are kept for a failure.
const TRACE_MAX: usize = 2000;

enum Event {
    Timer(usize),
    Think(usize),
    Data(usize),
    Incident(usize),
    Restart {
        host: usize,
        life: u64,
    },
    Fence {
        host: usize,
        life: u64,
    },
    Settle {
        host: usize,
        life: u64,
        id: IoId,
    },
    Execute {
        host: usize,
        life: u64,
        id: IoId,
    },
    Sample {
        host: usize,
        life: u64,
        id: IoId,
        offset: u64,
        len: usize,
    },
    LookAgain {
        host: usize,
        life: u64,
        id: IoId,
        snapshot: Snapshot,
    },
    Answer {
        host: usize,
        life: u64,
        answer: Answer,
    },
    GoOn(usize),
    DataLands {
        host: usize,
        number: u64,
    },
    Drain {
        host: usize,
        life: u64,
    },
    Cut {
        host: usize,
        length: u64,
    },
    Gate {
        host: usize,
        life: u64,
    },
}

/// What holders do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Acquire, convert, release, leave.
    Busy,
    /// Let everything go.
    Quiet,
    /// One host takes everything, in turn.
    Only(usize),
}

pub struct World {
    pub plan: Plan,
    pub now: True,
    pub hosts: Vec<Host>,
    pub judge: Judge,
    pub mood: Mood,
    pub peace: bool,
    pub trace: VecDeque<String>,
    disk: Disk,
    prng: Prng,
    /// Of what does not change who holds what.
    errands: Prng,
    events: BinaryHeap<Reverse<(True, u64)>>,
    bodies: Vec<Option<Event>>,
    free: Vec<usize>,
    order: u64,
    data_numbers: u64,
    dead_pending: Vec<(usize, u64, Pending)>,
    pub steps: u64,
    pub taken: Vec<bool>,
    /// What was to be left in a lock value block, by whom: each value is left once.
    block_claims: HashMap<u64, Claim>,
}

impl World {
    pub fn new(plan: Plan) -> World {
        let mut prng = Prng::new(plan.seed ^ 0x1ea5e);
        let disk = Disk::format(
            plan.geometry,
            plan.resources,
            plan.hosts as u64,
            plan.timing.io_timeout_s(),
        );
        let hosts: Vec<_> = (0..plan.hosts)
            .map(|_| {
                let ppm = prng.below(2 * PPM_MAX) as i64 - PPM_MAX as i64;
                let clock = Clock::new(prng.below(1 << 50), ppm);
                Host {
                    clock,
                    gate: Gate::new(),
                    space: None,
                    life: 0,
                    joined: false,
                    cut_until: 0,
                    slow_until: 0,
                    paused_until: 0,
                    stalled: 0,
                    timer: None,
                    pending: Vec::new(),
                    unfenced: None,
                    fencing: false,
                    data: Vec::new(),
                    held_up: VecDeque::new(),
                    gate_orders: VecDeque::new(),
                    wants: vec![Want::Nothing; plan.resources],
                    ordered: vec![0; plan.resources],
                    leaving: vec![None; plan.resources],
                    renamed: 0,
                }
            })
            .collect();
        let mut world = World {
            judge: Judge::new(plan.resources, plan.hosts),
            now: 0,
            hosts,
            mood: Mood::Busy,
            peace: false,
            trace: VecDeque::new(),
            disk,
            errands: Prng::new(plan.seed ^ 0xe44a),
            prng,
            events: BinaryHeap::new(),
            bodies: Vec::new(),
            free: Vec::new(),
            order: 0,
            data_numbers: 0,
            dead_pending: Vec::new(),
            steps: 0,
            taken: vec![false; plan.resources],
            block_claims: HashMap::new(),
            plan,
        };
        for host in 0..world.hosts.len() {
            world.start(host);
            let at = world.prng.below(world.plan.think.as_nanos() as u64);
            world.after(at, Event::Think(host));
            world.after(at, Event::Data(host));
            let slow = world.plan.trouble == Trouble::Slow;
            for number in 0..world.plan.incidents {
                let whole = world.plan.duration.as_nanos() as u64;
                let at = match slow {
                    // One host, and each time it has come back before.
                    true if host > 0 => break,
                    true => {
                        (number + 1) * whole / (world.plan.incidents + 1)
                            + world.prng.below(60 * SECOND)
                    }
                    false => world.prng.below(whole),
                };
                world.after(at, Event::Incident(host));
            }
            if slow && host == 0 {
                world.hosts[host].slow_until = True::MAX;
            }
        }
        world
    }

    fn tell(&mut self, line: impl FnOnce() -> String) {
        if self.trace.len() == TRACE_MAX {
            self.trace.pop_front();
        }
        let (s, ms) = (self.now / SECOND, self.now / MS % 1000);
        self.trace.push_back(format!("{s}.{ms:03} {}", line()));
    }

    fn at(&mut self, at: True, event: Event) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.bodies.push(None);
            self.bodies.len() - 1
        });
        self.bodies[slot] = Some(event);
        self.order += 1;
        // Order first, so that what was put first happens first; the place of the body fits below it.
        let key = self.order << 20 | slot as u64;
        assert!(slot < 1 << 20);
        self.events.push(Reverse((at.max(self.now), key)));
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    /// Runs until `end`.
    pub fn run(&mut self, end: True) {
        while let Some(Reverse((at, key))) = self.events.peek().copied() {
            if at > end {
                break;
            }
            self.events.pop();
            let slot = (key & 0xf_ffff) as usize;
            let event = self.bodies[slot].take().expect("each event happens once");
            self.free.push(slot);
            self.now = at;
            self.steps += 1;
            self.happen(event);
            if !self.judge.violations.is_empty() {
                return;
            }
        }
        self.now = self.now.max(end);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Timer(host) => {
                self.hosts[host].timer = None;
                self.wake(host);
            }
            Event::Think(host) => {
                self.think(host);
                let nanos = self.plan.think.as_nanos() as u64;
                let delay = self.prng.between(nanos / 10, nanos);
                self.after(delay, Event::Think(host));
            }
            Event::Data(host) => {
                self.write_data(host);
                let delay = self.prng.between(SECOND / 2, 10 * SECOND);
                self.after(delay, Event::Data(host));
            }
            Event::Incident(host) => {
                if !self.peace {
                    self.incident(host);
                }
            }
            Event::Restart { host, life } => self.restart(host, life),
            Event::Fence { host, life } => self.fence(host, life),
            Event::Settle { host, life, id } => self.settle(host, life, id),
            Event::Execute { host, life, id } => self.execute(host, life, id),
            Event::Sample {
                host,
                life,
                id,
                offset,
                len,
            } => {
                self.sample(host, life, id, offset, len);
            }
            Event::LookAgain {
                host,
                life,
                id,
                mut snapshot,
            } => {
                let middle = self.prng.between(1, 33) as usize;
                let tail = self.prng.percent(50);
                self.disk.look_again(&mut snapshot, middle, tail);
                let delay = self.prng.between(1, 3) * MS;
                let answer = Answer::Read(id, Some(snapshot));
                self.after(delay, Event::Answer { host, life, answer });
            }
            Event::Answer { host, life, answer } => self.answer(host, life, answer),
            Event::GoOn(host) => self.go_on(host),
            Event::Cut { host, length } => {
                if !self.peace {
                    self.tell(|| format!("host {} is cut off for {} s", host + 1, length / SECOND));
                    self.hosts[host].cut_until = self.now + length;
                }
            }
            Event::Gate { host, life } => {
                if self.hosts[host].life == life {
                    let until = self.hosts[host].paused_until;
                    match until > self.now {
                        true => self.at(until, Event::Gate { host, life }),
                        false => self.move_gate(host),
                    }
                }
            }
            Event::Drain { host, life } => self.drain_data(host, life),
            Event::DataLands { host, number } => {
                let data = &mut self.hosts[host].data;
                if let Some(place) = data.iter().position(|(n, _, _)| *n == number) {
                    let (_, resource, claim) = data.swap_remove(place);
                    self.judge.data(self.now, resource, claim);
                }
            }
        }
    }

    // Hosts live and die.

    fn start(&mut self, host: usize) {
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

    fn crash(&mut self, host: usize, down: u64) {
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
    fn restart(&mut self, host: usize, life: u64) {
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

    fn incident(&mut self, host: usize) {
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

    // The machine and its driver.

    fn wake(&mut self, host: usize) {
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

    fn input(&mut self, host: usize, input: Input) {
        let now = self.hosts[host].clock.read(self.now);
        let Some(space) = &mut self.hosts[host].space else {
            return;
        };
        space.handle(now, input);
        self.drain(host);
    }

    fn answer(&mut self, host: usize, life: u64, answer: Answer) {
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
    fn go_on(&mut self, host: usize) {
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
    fn move_gate(&mut self, host: usize) {
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

    fn read(&mut self, host: usize, id: IoId, offset: u64, len: usize, deadline: Instant) {
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

    fn sample(&mut self, host: usize, life: u64, id: IoId, offset: u64, len: usize) {
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
    fn ordered(&self, host: usize, offset: u64) -> True {
        match offset / self.plan.geometry.area_bytes() {
            0 => 0,
            area => self.hosts[host].ordered[area as usize - 1],
        }
    }

    fn write(&mut self, host: usize, mut write: Pending, deadline: Instant) {
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
    fn settle(&mut self, host: usize, life: u64, id: IoId) {
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

    fn execute(&mut self, host: usize, life: u64, id: IoId) {
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

    fn land(&mut self, host: usize, life: u64, pending: &Pending) {
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
    fn fence(&mut self, host: usize, life: u64) {
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

    /// The data path's sessions are reinstated.
    fn drain_data(&mut self, host: usize, life: u64) {
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
    fn land_data(&mut self, host: usize) {
        for (_, resource, claim) in core::mem::take(&mut self.hosts[host].data) {
            if self.prng.percent(50) {
                self.judge.data(self.now, resource, claim);
            }
        }
    }

    // Holders of leases.

    fn note(&mut self, host: usize, note: Note) {
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

    fn think(&mut self, host: usize) {
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

    /// The data path: writes to everything that is held exclusively, if the gate allows.
    fn write_data(&mut self, host: usize) {
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
}

/// The number in a lock value block.
fn block_value(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(*bytes.first_chunk().expect("a whole sector"))
}
