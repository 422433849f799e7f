//! The driver on a disk in memory that answers, hangs and fails as the test says, with a clock of the test's.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use lockmgr::gate::{Gate, Permission};
use lockmgr::ondisk::{DeltaLease, Geometry, HostId, Name, init};
use lockmgr::time::Instant;
use lockmgr::timing::Timing;
use lockmgr::{
    Identity, IoId, JoinError, LeaseError, LeaseId, LostWhy, Mode, OnOwner, ReadFailed,
    WriteOutcome,
};
use tokio::sync::oneshot;

use super::book::{Call, LeaveError};
use super::disk::{Answer, Job, LeaseDisk};
use super::driver::Driver;
use super::gates::{GateError, Gates, Protected, Told};
use super::picture::{Picture, Standing};

const GEOMETRY: Geometry = Geometry::B512_M1;
const RA: LeaseId = LeaseId(1 << 20);
const T: u64 = 10;

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(1_000_000_000_000) };
}

fn clock() -> Instant {
    Instant::from_nanos(NOW.get())
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// Hands every job to the test.
struct Script(Sender<Job>);

impl LeaseDisk for Script {
    fn start(&mut self, job: Job) {
        self.0.send(job).unwrap();
    }
}

/// A volume that hands its drains to the test, but for the first, which it does not take.
struct Volume {
    gate: Arc<Gate>,
    asked: Cell<u32>,
    drains: Sender<Told>,
    woken: Arc<AtomicUsize>,
}

impl Protected for Volume {
    fn gate(&self) -> &Gate {
        &self.gate
    }

    fn wake(&self) {
        self.woken.fetch_add(1, Ordering::Relaxed);
    }

    fn drain(&self, told: Told) -> Result<(), Told> {
        self.asked.set(self.asked.get() + 1);
        match self.asked.get() {
            1 => Err(told),
            _ => {
                self.drains.send(told).unwrap();
                Ok(())
            }
        }
    }
}

struct World {
    driver: Driver,
    jobs: Receiver<Job>,
    medium: Vec<u8>,
    joined: oneshot::Receiver<Result<u64, JoinError>>,
    gates: [Arc<Gate>; 2],
    /// Drains that are under way, and where they come from.
    drains: Receiver<Told>,
    ask: Sender<Told>,
    woken: Arc<AtomicUsize>,
    drained: Receiver<()>,
}

impl World {
    fn new() -> World {
        let mut medium = vec![0; 2 << 20];
        let writes = init::lockspace(GEOMETRY, &name("LS"), T as u16).unwrap();
        let resource = init::resource(GEOMETRY, &name("LS"), &name("RA")).unwrap();
        for write in writes {
            let at = write.offset as usize;
            medium[at..at + write.bytes.len()].copy_from_slice(&write.bytes);
        }
        medium[1 << 20..].copy_from_slice(&resource.bytes);
        let us = Identity {
            offset: 0,
            geometry: GEOMETRY,
            space: name("LS"),
            host: HostId::new(1).unwrap(),
            name: name("north"),
            timing: Timing::new(T).unwrap(),
        };
        let gates = [Arc::new(Gate::new()), Arc::new(Gate::new())];
        let (ask, drains) = unbounded();
        let woken = Arc::new(AtomicUsize::new(0));
        let volume = |gate: &Arc<Gate>| {
            Box::new(Volume {
                gate: Arc::clone(gate),
                asked: Cell::new(0),
                drains: ask.clone(),
                woken: Arc::clone(&woken),
            }) as Box<dyn Protected>
        };
        let protects = Gates::of(gates.iter().map(volume).collect());
        let (start, jobs) = unbounded();
        let (tell, joined) = oneshot::channel();
        let (word, drained) = bounded(1);
        let disk = Box::new(Script(start));
        World {
            driver: Driver::new(us, 1, disk, protects, clock, word, tell),
            jobs,
            medium,
            joined,
            gates,
            drains,
            ask,
            woken,
            drained,
        }
    }

    fn perform(&mut self, job: Job) -> Answer {
        match job {
            Job::Read {
                id, offset, len, ..
            } => {
                let at = offset as usize;
                let data = Ok(self.medium[at..at + len].to_vec());
                Answer::Read { id, data }
            }
            Job::Write {
                id, offset, bytes, ..
            } => {
                let at = offset as usize;
                self.medium[at..at + bytes.len()].copy_from_slice(&bytes);
                let outcome = WriteOutcome::Done;
                Answer::Wrote { id, outcome }
            }
        }
    }

    /// The disk answers all that is asked.
    fn answer_all(&mut self) {
        while let Ok(job) = self.jobs.try_recv() {
            let answer = self.perform(job);
            self.driver.answer(answer);
        }
    }

    /// The disk answers, and timers fire, for so long.
    fn run(&mut self, seconds: u64) {
        let end = NOW.get() + seconds * 1_000_000_000;
        loop {
            self.answer_all();
            let next = self.driver.poll_timeout().map_or(end, Instant::nanos);
            if next > end {
                break;
            }
            NOW.set(next.max(NOW.get()));
            self.driver.time_out();
            if next == end {
                break;
            }
        }
        NOW.set(end);
        self.answer_all();
    }

    /// Nothing is answered but at its deadline, as failed. The numbers of the writes that were lost.
    fn hang(&mut self, seconds: u64) -> Vec<IoId> {
        let end = NOW.get() + seconds * 1_000_000_000;
        let mut waiting: Vec<(u64, Job)> = Vec::new();
        let mut lost = Vec::new();
        loop {
            waiting.extend(self.jobs.try_iter().map(|job| match &job {
                Job::Read { deadline, .. } | Job::Write { deadline, .. } => (deadline.nanos(), job),
            }));
            waiting.sort_by_key(|(at, _)| *at);
            let deadline = waiting.first().map_or(u64::MAX, |(at, _)| *at);
            let timer = self.driver.poll_timeout().map_or(u64::MAX, Instant::nanos);
            let next = deadline.min(timer);
            if next > end {
                break;
            }
            NOW.set(next.max(NOW.get()));
            self.driver.time_out();
            if deadline <= NOW.get() {
                let data = Err(ReadFailed);
                let outcome = WriteOutcome::Unknown;
                self.driver.answer(match waiting.remove(0).1 {
                    Job::Read { id, .. } => Answer::Read { id, data },
                    Job::Write { id, .. } => {
                        lost.push(id);
                        Answer::Wrote { id, outcome }
                    }
                });
            }
        }
        assert!(waiting.is_empty(), "every job's time was over");
        NOW.set(end);
        self.driver.time_out();
        lost
    }

    fn join(&mut self) {
        self.run(2 * T + 1);
        assert_eq!(self.joined.try_recv().unwrap(), Ok(1));
    }

    fn acquire(&mut self) -> oneshot::Receiver<Result<u64, LeaseError>> {
        self.acquire_as(Mode::Exclusive)
    }

    fn acquire_as(&mut self, mode: Mode) -> oneshot::Receiver<Result<u64, LeaseError>> {
        let (reply, told) = oneshot::channel();
        self.driver.call(Call::Acquire {
            id: RA,
            name: name("RA"),
            mode,
            on_owner: OnOwner::Refuse,
            reply,
        });
        told
    }

    fn release(&mut self) -> oneshot::Receiver<Result<(), LeaseError>> {
        let (reply, told) = oneshot::channel();
        let (id, lvb) = (RA, None);
        self.driver.call(Call::Release { id, lvb, reply });
        told
    }

    fn leave(&mut self) -> oneshot::Receiver<Result<(), LeaveError>> {
        let (reply, told) = oneshot::channel();
        self.driver.call(Call::Leave(reply));
        told
    }

    fn picture(&mut self) -> Picture {
        let (reply, mut told) = oneshot::channel();
        self.driver.call(Call::Look(reply));
        told.try_recv().unwrap()
    }

    fn permissions(&self) -> [Permission; 2] {
        [0, 1].map(|gate| self.gates[gate].check(clock()))
    }

    /// The data path says that nothing old can land: of one volume, and then of the other.
    fn drain(&mut self) {
        self.driver.time_out();
        assert_eq!(self.drains.len(), 2, "one per volume");
        assert_eq!(self.woken.swap(0, Ordering::Relaxed), 2, "both were shut");
        self.drains.recv().unwrap()();
        assert!(
            self.drained.try_recv().is_err(),
            "the other may still write"
        );
        self.drains.recv().unwrap()();
        self.drained.try_recv().expect("the thread hears it");
        self.driver.drained();
    }

    /// Both volumes were told that their gates are open again.
    fn opened(&self) {
        assert_eq!(self.permissions(), [Allowed; 2]);
        assert_eq!(self.woken.load(Ordering::Relaxed), 2);
    }

    fn slot(&self) -> DeltaLease {
        DeltaLease::parse(&self.medium).unwrap()
    }
}

use Permission::{Allowed, Fenced, Refused};

#[test]
fn joined_held_released_and_left() {
    let mut world = World::new();
    assert_eq!(world.picture().standing, Standing::Joining);
    assert_eq!(world.gates[0].deadline(), None);
    world.join();
    assert!(world.gates.iter().all(|gate| gate.deadline().is_some()));
    let mut held = world.acquire();
    world.run(1);
    assert_eq!(held.try_recv().unwrap(), Ok(1));
    // Renewed for an hour.
    world.run(3600);
    let picture = world.picture();
    assert_eq!(picture.standing, Standing::Joined);
    assert!(picture.renewed.unwrap() <= Duration::from_secs(2 * T));
    assert_eq!(picture.held[0].name, name("RA"));
    assert_eq!(world.permissions(), [Allowed; 2]);
    assert_eq!(world.leave().try_recv().unwrap(), Err(LeaveError::InUse));
    let mut released = world.release();
    world.run(1);
    assert_eq!(released.try_recv().unwrap(), Ok(()));
    let mut left = world.leave();
    world.run(1);
    assert_eq!(left.try_recv().unwrap(), Ok(()));
    assert!(world.driver.is_over());
    assert!(world.slot().is_free());
    assert_eq!(world.gates[0].deadline(), None, "disarmed");
}

#[test]
fn abandoned_while_leases_are_held() {
    let mut world = World::new();
    world.join();
    let _held = world.acquire();
    world.run(1);
    world.driver.call(Call::Abandon);
    assert_eq!(world.permissions(), [Refused; 2]);
    assert_eq!(world.woken.load(Ordering::Relaxed), 2);
    assert!(world.driver.is_over());
    assert!(!world.slot().is_free(), "it expires");
}

#[test]
fn one_errand_per_lease() {
    let mut world = World::new();
    world.join();
    let mut first = world.acquire();
    let mut second = world.acquire();
    assert_eq!(second.try_recv().unwrap(), Err(LeaseError::Busy));
    world.run(1);
    assert_eq!(first.try_recv().unwrap(), Ok(1));
    let mut again = world.acquire();
    world.run(1);
    assert_eq!(again.try_recv().unwrap(), Err(LeaseError::AlreadyHeld));
    assert_eq!(world.picture().held.len(), 1);
}

/// The write of a leader at which nothing is left to give up: that of the ballot, or the one that ends SHORT_HOLD.
#[test]
fn what_is_given_up_too_late_is_released() {
    for (mode, leaders) in [(Mode::Exclusive, 1), (Mode::Shared, 2)] {
        let mut world = World::new();
        world.join();
        let mut acquired = world.acquire_as(mode);
        let mut last = None;
        let mut written = 0;
        while let Ok(job) = world.jobs.try_recv() {
            written += usize::from(matches!(job, Job::Write { offset, .. } if offset == RA.0));
            if written == leaders {
                last = Some(job);
                break;
            }
            let answer = world.perform(job);
            world.driver.answer(answer);
        }
        let mut released = world.release();
        assert!(released.try_recv().is_err(), "{mode:?}: not yet");
        let answer = world.perform(last.expect("a leader is written"));
        world.driver.answer(answer);
        world.run(1);
        assert_eq!(acquired.try_recv().unwrap(), Err(LeaseError::Cancelled));
        assert_eq!(released.try_recv().unwrap(), Ok(()));
        assert!(world.picture().held.is_empty());
        let mut left = world.leave();
        world.run(1);
        assert_eq!(left.try_recv().unwrap(), Ok(()));
    }
}

#[test]
fn a_disk_that_hangs_shuts_the_gates_and_everything_is_won_back() {
    let mut world = World::new();
    world.join();
    let mut held = world.acquire();
    world.run(1);
    assert_eq!(held.try_recv().unwrap(), Ok(1));
    let before = world.slot();
    // A renewal is read, and its write is lost.
    world.run(2 * T - 5);
    while world.slot() == before {
        NOW.set(NOW.get() + 100_000_000);
        world.driver.time_out();
        let Ok(job) = world.jobs.try_recv() else {
            continue;
        };
        if let Job::Write { id, deadline, .. } = job {
            NOW.set(deadline.nanos());
            let outcome = WriteOutcome::Unknown;
            world.driver.answer(Answer::Wrote { id, outcome });
            break;
        }
        let answer = world.perform(job);
        world.driver.answer(answer);
    }
    let lost = world.hang(8 * T);
    assert!(!lost.is_empty(), "the renewal was tried again");
    let picture = world.picture();
    assert_eq!(picture.standing, Standing::Lost(LostWhy::Silence));
    assert_eq!(picture.held.len(), 1, "until somebody takes it");
    assert_eq!(world.permissions(), [Fenced; 2]);
    let mut refused = world.acquire();
    assert_eq!(refused.try_recv().unwrap(), Err(LeaseError::LockspaceLost));
    // The data path is drained, but a slot write may still land.
    world.drain();
    world.run(60);
    assert!(world.jobs.is_empty());
    assert_eq!(world.slot(), before);
    let through = *lost.iter().max().unwrap();
    world.driver.answer(Answer::Fenced { through });
    world.run(2 * T + 5);
    assert_eq!(world.picture().standing, Standing::Joined);
    assert_eq!(world.picture().held.len(), 1);
    assert_eq!(world.slot().owner_generation, 2);
    world.opened();
}

#[test]
fn an_answer_that_comes_after_the_limit_renews_nothing() {
    let mut world = World::new();
    world.join();
    // The next renewal is written, and nobody hears of it.
    let mut renewal = None;
    while renewal.is_none() {
        if let Some(at) = world.driver.poll_timeout() {
            NOW.set(at.nanos().max(NOW.get()));
            world.driver.time_out();
        }
        while let Ok(job) = world.jobs.try_recv() {
            let is_write = matches!(job, Job::Write { .. });
            let answer = world.perform(job);
            match is_write {
                true => renewal = Some(answer),
                false => world.driver.answer(answer),
            }
        }
    }
    // This process stood still.
    NOW.set(NOW.get() + 8 * T * 1_000_000_000);
    world.driver.answer(renewal.unwrap());
    assert_eq!(world.picture().standing, Standing::Lost(LostWhy::Silence));
    assert_eq!(world.permissions(), [Fenced; 2]);
    world.drain();
    world.run(2 * T + 1);
    assert_eq!(world.picture().standing, Standing::Joined);
    assert_eq!(world.permissions(), [Allowed; 2]);
}

#[test]
fn one_gate_that_refuses_shuts_all_of_them() {
    let mut world = World::new();
    world.join();
    // A queue with a clock ahead found the deadline of its gate passed.
    let later = clock() + Duration::from_secs(8 * T);
    assert_eq!(world.gates[1].check(later), Fenced);
    world.run(2 * T);
    assert_eq!(world.permissions(), [Fenced; 2]);
    assert_eq!(world.picture().standing, Standing::Lost(LostWhy::Silence));
    let generation = world.slot().owner_generation;
    world.run(100);
    assert_eq!(
        world.slot().owner_generation,
        generation,
        "what was sent through the other may still land"
    );
    world.drain();
    world.run(2 * T + 1);
    assert_eq!(world.slot().owner_generation, generation + 1);
    world.opened();
}

#[test]
fn a_lockspace_that_is_lost_can_be_given_up() {
    let mut world = World::new();
    world.join();
    let lost = world.hang(10 * T);
    assert_eq!(world.permissions(), [Fenced; 2]);
    let mut left = world.leave();
    assert_eq!(left.try_recv().unwrap(), Ok(()));
    assert_eq!(world.permissions(), [Refused; 2]);
    // The hang began before any write.
    assert!(lost.is_empty());
    assert!(world.driver.is_over());
    assert!(!world.slot().is_free(), "it expires");
}

#[test]
fn a_keeper_does_not_end_while_a_write_may_land() {
    let mut world = World::new();
    // The slot is being taken, and the write hangs.
    let job = world.jobs.try_recv().unwrap();
    let answer = world.perform(job);
    world.driver.answer(answer);
    let Ok(Job::Write { id, .. }) = world.jobs.try_recv() else {
        panic!("the slot is written");
    };
    let mut left = world.leave();
    assert_eq!(left.try_recv().unwrap(), Ok(()));
    assert!(!world.driver.is_over());
    let outcome = WriteOutcome::Unknown;
    world.driver.answer(Answer::Wrote { id, outcome });
    assert!(!world.driver.is_over());
    world.driver.answer(Answer::Fenced { through: id });
    assert!(world.driver.is_over());
    assert!(
        world.joined.try_recv().is_err(),
        "nobody says that it joined"
    );
}

impl World {
    /// A further volume, as often as it is needed.
    fn volume(&self, gate: &Arc<Gate>) -> Gates {
        Gates::of(vec![Box::new(Volume {
            gate: Arc::clone(gate),
            asked: Cell::new(0),
            drains: self.ask.clone(),
            woken: Arc::default(),
        })])
    }

    fn guard_too(&mut self, gate: &Arc<Gate>) -> Result<(), GateError> {
        let add = self.volume(gate);
        self.guard(add, Gates::none())
    }

    fn guard_no_more(&mut self, gate: &Arc<Gate>) -> Result<(), GateError> {
        let remove = self.volume(gate);
        self.guard(Gates::none(), remove)
    }

    fn guard(&mut self, add: Gates, remove: Gates) -> Result<(), GateError> {
        let (reply, mut told) = oneshot::channel();
        self.driver.call(Call::Guard { add, remove, reply });
        told.try_recv().expect("it answers at once")
    }
}

#[test]
fn a_volume_that_comes_later_is_guarded_like_the_others() {
    let mut world = World::new();
    let [early, late] = [Arc::new(Gate::new()), Arc::new(Gate::new())];
    // Before the others are: armed with them.
    world.guard_too(&early).unwrap();
    assert_eq!(early.deadline(), None);
    world.join();
    assert_eq!(early.deadline(), world.gates[0].deadline());
    world.run(5);
    world.guard_too(&late).unwrap();
    assert_eq!(late.deadline(), world.gates[0].deadline());
    // Twice is once.
    world.guard_too(&late).unwrap();
    world.run(100);
    assert!(late.deadline().is_some());
    assert_eq!(late.deadline(), world.gates[0].deadline());
    // One that leaves is free, the others are not; one that was never guarded is nothing.
    world.guard_no_more(&late).unwrap();
    let never = Arc::new(Gate::new());
    world.guard_no_more(&never).unwrap();
    assert_eq!(late.deadline(), None);
    world.hang(8 * T);
    assert_eq!(late.check(clock()), Allowed);
    assert_eq!(early.check(clock()), Fenced);
}

#[test]
fn what_had_shut_or_is_somebody_elses_is_not_guarded_and_not_let_go() {
    let mut world = World::new();
    world.join();
    let theirs = Arc::new(Gate::new());
    let give_up = Duration::from_secs(8 * T);
    theirs.arm(clock(), clock(), give_up).unwrap();
    let deadline = theirs.deadline();
    let shut = Err(GateError::Shut);
    assert_eq!(world.guard_too(&theirs), shut);
    world.run(100);
    assert_eq!(theirs.deadline(), deadline, "not touched");
    let ours = Arc::new(Gate::new());
    world.guard_too(&ours).unwrap();
    ours.shut();
    assert_eq!(world.guard_no_more(&ours), shut);
    assert_eq!(ours.check(clock()), Fenced);
}

#[test]
fn a_lockspace_that_is_lost_or_left_takes_no_volume() {
    let not_joined = Err(GateError::NotJoined);
    let gate = Arc::new(Gate::new());
    let mut world = World::new();
    world.join();
    world.hang(9 * T);
    assert_eq!(world.guard_too(&gate), not_joined);
    let mut world = World::new();
    world.join();
    let _left = world.leave();
    assert_eq!(world.guard_too(&gate), not_joined);
    assert_eq!(gate.check(clock()), Allowed);
    assert_eq!(gate.deadline(), None);
}
