//! The world: true time, the medium, and what happens when.

mod data;
mod driver;
mod holder;
mod life;
mod storage;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use kit::prng::Prng;
use lockmgr::IoId;
use lockmgr::gate::Gate;

use crate::disk::{Disk, Snapshot};
use crate::host::{Answer, Clock, Host, Pending, True, Want};
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
    /// Everybody takes and releases, and does nothing else.
    Crowd,
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
}
