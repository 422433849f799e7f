//! Two links as a fluid: the policies on the model of SCHEDULING section 6.8, with the real meters, windows, chunks and
//! hedges, so that a policy that makes a mistake shows without a network.
//!
//! A link delivers the commands of a direction in order, at its rate, not before a round trip has passed since they were
//! sent. The target takes no time, or always the same. Nothing is random but losses, which come from one seed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use iscsi_client::time::Instant;

use super::super::chunk::{chunk_len, chunk_max};
use super::super::hedge::Hedging;
use super::super::turns::Turns;
use super::*;
use crate::path::backoff::Jitter;
use crate::path::load::Load;
use crate::path::meter::{START_RATE, Sent};

/// Payload of a link of 1 Gbit/s at an MTU of 1500, bytes per second.
pub const GIGABIT: u64 = 117_700_000;
/// Commands that a session takes.
const DEPTH: u32 = 128;
/// Least retransmission time of TCP.
const RETRANSMISSION: u64 = 200_000_000;

/// One link.
#[derive(Clone, Copy)]
pub struct Link {
    pub rate: u64,
    pub round_trip_us: u64,
    /// Time that the target's medium takes, as many commands at once as there are; pings do not see it.
    pub medium_us: u64,
    /// One command of so many is lost on the way; 0: none.
    pub loss: u64,
}

impl Link {
    pub const GIGABIT: Link = Link {
        rate: GIGABIT,
        round_trip_us: 200,
        medium_us: 0,
        loss: 0,
    };
}

/// A job that keeps so many requests of one size outstanding.
#[derive(Clone, Copy)]
pub struct Job {
    pub direction: Direction,
    pub len: u32,
    pub depth: usize,
}

/// What a job got.
#[derive(Debug)]
pub struct Outcome {
    pub bytes_per_second: f64,
    /// Sorted.
    latencies: Vec<Duration>,
}

impl Outcome {
    pub fn mean(&self) -> Duration {
        self.latencies.iter().sum::<Duration>() / self.latencies.len() as u32
    }

    pub fn quantile(&self, part: f64) -> Duration {
        self.latencies[((self.latencies.len() - 1) as f64 * part) as usize]
    }

    pub fn mib(&self) -> f64 {
        self.bytes_per_second / 1_048_576.0
    }
}

struct Request {
    job: usize,
    arrived: u64,
    unsent: u32,
    out: u32,
    chunk: u32,
}

/// A part of a request: answered by the first of its copies.
struct Piece {
    request: usize,
    len: u32,
    answered: bool,
}

/// A copy of a piece on a path.
struct Flight {
    piece: usize,
    path: usize,
    sent: Sent,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Done(usize),
    Late(usize),
}

struct Model<'a> {
    now: u64,
    kind: PolicyKind,
    state: PolicyState,
    turns: Turns,
    hedging: Hedging,
    /// More than one request waits since then.
    pressed_since: Option<u64>,
    links: &'a [Link],
    jobs: &'a [Job],
    loads: Vec<Load>,
    /// When each link has delivered all that was sent so far, per direction, in nanoseconds.
    busy_until: Vec<PerDirection<u64>>,
    requests: Vec<Request>,
    waiting: [VecDeque<usize>; 2],
    backlog: [u64; 2],
    pieces: Vec<Piece>,
    flights: Vec<Option<Flight>>,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    dice: Jitter,
}

/// Runs the jobs for so many milliseconds, and counts all but the first fifth.
pub fn run(kind: PolicyKind, links: &[Link], jobs: &[Job], millis: u64) -> Vec<Outcome> {
    let end = millis * 1_000_000;
    let start = end / 5;
    let mut model = Model {
        now: 0,
        kind,
        state: PolicyState::default(),
        turns: Turns::default(),
        hedging: Hedging::default(),
        pressed_since: None,
        links,
        jobs,
        loads: links.iter().map(|_| Load::new(START_RATE)).collect(),
        busy_until: vec![PerDirection::default(); links.len()],
        requests: vec![],
        waiting: [VecDeque::new(), VecDeque::new()],
        backlog: [0; 2],
        pieces: vec![],
        flights: vec![],
        events: BinaryHeap::new(),
        dice: Jitter::new(1),
    };
    // A ping on the idle path, as at every login.
    for (load, link) in model.loads.iter_mut().zip(links) {
        let time = Duration::from_micros(link.round_trip_us);
        load.round_trip_seen(Instant::from_nanos(0), time);
    }
    for (job, of) in jobs.iter().enumerate() {
        for _ in 0..of.depth {
            model.arrive(job);
        }
    }
    model.dispatch();
    let mut bytes = vec![0u64; jobs.len()];
    let mut latencies = vec![vec![]; jobs.len()];
    while model.now < end {
        let Reverse((at, event)) = model.events.pop().expect("a closed loop never runs dry");
        model.now = at;
        let answered = match event {
            Event::Done(flight) => model.complete(flight),
            Event::Late(flight) => {
                model.hedge(flight);
                None
            }
        };
        if let Some(request) = answered {
            let (job, arrived) = (model.requests[request].job, model.requests[request].arrived);
            if at >= start {
                bytes[job] += u64::from(jobs[job].len);
                latencies[job].push(Duration::from_nanos(at - arrived));
            }
            model.arrive(job);
        }
        model.dispatch();
    }
    std::iter::zip(bytes, latencies)
        .map(|(bytes, mut latencies)| {
            latencies.sort();
            Outcome {
                bytes_per_second: bytes as f64 * 1e9 / (end - start) as f64,
                latencies,
            }
        })
        .collect()
}

impl Model<'_> {
    fn time(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    fn arrive(&mut self, job: usize) {
        let len = self.jobs[job].len;
        // dm-multipath cuts nothing; neither do its policies here.
        let chunk = match self.kind {
            PolicyKind::LateBinding => {
                let rates = self
                    .loads
                    .iter()
                    .map(|load| load.meter().rate(Direction::Read));
                let longest = chunk_max(rates.min().unwrap_or(0));
                chunk_len(len, self.links.len() as u32, longest, 4096, 1 << 20)
            }
            _ => len,
        };
        self.requests.push(Request {
            job,
            arrived: self.now,
            unsent: len,
            out: 0,
            chunk,
        });
        self.turns.arrived(self.time(), Class::of(len));
        let class = Class::of(len) as usize;
        self.waiting[class].push_back(self.requests.len() - 1);
        self.backlog[class] += u64::from(len);
    }

    fn head(&self, class: Class) -> Option<&Request> {
        let first = self.waiting[class as usize].front()?;
        Some(&self.requests[*first])
    }

    fn dispatch(&mut self) {
        loop {
            let small = self.head(Class::Small).is_some();
            let bulk = self.head(Class::Bulk);
            let bulk = bulk.map(|request| request.chunk.min(request.unsent));
            let Some(first) = self.turns.next(small, bulk) else {
                break;
            };
            let other = match first {
                Class::Small => Class::Bulk,
                Class::Bulk => Class::Small,
            };
            if !self.send_head(first) && !self.send_head(other) {
                break;
            }
        }
        let waiting = self.waiting[0].len() + self.waiting[1].len();
        if waiting < 2 {
            self.pressed_since = None;
        } else {
            self.pressed_since.get_or_insert(self.now);
        }
    }

    /// Sends the next piece of this class, if a path wants it.
    fn send_head(&mut self, class: Class) -> bool {
        let Some(request) = self.head(class) else {
            return false;
        };
        let len = request.chunk.min(request.unsent);
        let direction = self.jobs[request.job].direction;
        let Some(path) = self.choose(direction, len, class, None) else {
            return false;
        };
        let bulk_waits = !self.waiting[Class::Bulk as usize].is_empty();
        self.turns.sent(class, len, bulk_waits);
        self.backlog[class as usize] -= u64::from(len);
        let id = self.waiting[class as usize][0];
        let request = &mut self.requests[id];
        request.unsent -= len;
        request.out += 1;
        if request.unsent == 0 {
            self.waiting[class as usize].pop_front();
        }
        self.pieces.push(Piece {
            request: id,
            len,
            answered: false,
        });
        let flight = self.fly(self.pieces.len() - 1, path, direction);
        if self.kind == PolicyKind::LateBinding && direction == Direction::Read {
            self.hedging.read_sent();
            let sent = self.flights[flight].as_ref().expect("just sent").sent;
            let late = self.loads[path].late_at(&sent).nanos();
            self.events.push(Reverse((late, Event::Late(flight))));
        }
        true
    }

    fn choose(
        &mut self,
        direction: Direction,
        len: u32,
        class: Class,
        avoid: Option<usize>,
    ) -> Option<usize> {
        let ask = Ask {
            direction: Some(direction),
            len,
            class,
            backlog: match class {
                Class::Small => self.backlog[Class::Small as usize],
                Class::Bulk => self.backlog.iter().sum(),
            },
            pressed: self.pressed_since.map_or(Duration::ZERO, |since| {
                Duration::from_nanos(self.now - since)
            }),
            bulk_is_alone: self.turns.bulk_is_alone(self.time()),
            avoid: avoid.map(|path| PathId(path as u8)),
        };
        let mut candidates = [plain(0), plain(1)];
        for (path, load) in self.loads.iter().enumerate() {
            let open = load.meter().in_flight() < DEPTH;
            let (access, standing) = (AccessClass::Optimized, Standing::Full);
            let id = PathId(path as u8);
            candidates[path] = load.candidate(self.time(), id, access, standing, open);
        }
        let candidates = &candidates[..self.links.len()];
        match choose(self.kind, &mut self.state, &ask, candidates) {
            Choice::Send(PathId(path)) => Some(path.into()),
            Choice::Wait => None,
        }
    }

    fn fly(&mut self, piece: usize, path: usize, direction: Direction) -> usize {
        let len = self.pieces[piece].len;
        let now = self.time();
        let alone = self.loads[path].meter().in_flight() == 0;
        let sent = self.loads[path].submitted(now, Some(direction), len);
        let link = self.links[path];
        let busy_until = self.busy_until[path].of_mut(direction);
        let start = (*busy_until).max(self.now + (link.round_trip_us + link.medium_us) * 1000);
        let mut done = start + u64::from(len) * 1_000_000_000 / link.rate;
        let lost = link.loss > 0
            && self
                .dice
                .between(Duration::ZERO, Duration::from_nanos(link.loss - 1))
                .is_zero();
        if lost {
            // Nothing behind a lone command tells that it is missing: TCP's timer must. All behind it waits as well.
            done += if alone {
                RETRANSMISSION
            } else {
                link.round_trip_us * 1000
            };
        }
        *busy_until = done;
        let flight = self.flights.len();
        self.flights.push(Some(Flight { piece, path, sent }));
        self.events.push(Reverse((done, Event::Done(flight))));
        flight
    }

    /// The timer of a read: sent once more, elsewhere, if it is not back and the budget allows it.
    fn hedge(&mut self, late: usize) {
        let Some(Flight { piece, path, sent }) = &self.flights[late] else {
            return;
        };
        let (piece, path, sent) = (*piece, *path, *sent);
        let standing = Standing::Full;
        let Some(reason) = self.hedging.wanted(self.time(), self.time(), standing) else {
            return;
        };
        let len = self.pieces[piece].len;
        let chosen = self.choose(Direction::Read, len, Class::Small, Some(path));
        if let Some(other) = chosen
            && other != path
        {
            self.hedging.hedged(reason);
            let now = self.time();
            self.loads[path].late(now, &sent);
            self.fly(piece, other, Direction::Read);
        }
    }

    /// A copy came back. Returns its request if that is answered by it.
    fn complete(&mut self, flight: usize) -> Option<usize> {
        let flight = self.flights[flight].take().expect("once");
        let now = self.time();
        self.loads[flight.path].completed(now, flight.sent);
        let piece = &mut self.pieces[flight.piece];
        if std::mem::replace(&mut piece.answered, true) {
            return None;
        }
        let request = &mut self.requests[piece.request];
        request.out -= 1;
        (request.out == 0 && request.unsent == 0).then_some(piece.request)
    }
}
