//! Lease areas on a file, or on a device that somebody else carries: O_DIRECT, by system calls that may hang.
//!
//! ```text
//!   keeper --Job--> clerk (a table) --one job at a time--> worker "slot": the lockspace's own area
//!      ^             |  ^   ^                          +-> worker "rest": the resources
//!      +---Answer----+  |   +--------- how it ended -----------+
//!                     alarm: what is over
//! ```
//!
//! The *clerk* has the deadlines: it never touches the disk, so a worker that hangs in the kernel costs nobody's time but
//! that of the jobs behind it, which are answered as failed when theirs is over. A job that has not been started by
//! then never is. A write that has been is answered [`WriteOutcome::Unknown`], and the fence follows when its system
//! call, and those of all older writes, have returned: until then it may still land.
//!
//! The clerk is a table that each thread locks for a look, never while it waits: a job passes from the keeper to a worker and
//! its answer back, and no third thread need wake for it.
//!
//! Renewals have a worker of their own, because resources on the same device may be slow, or many. More than one would be no
//! gain: a renewal reads the area and then writes its slot, never both at once, and a device that does not give the one
//! back will not take the other.
//!
//! What a daemon that died has left in the kernel is over before another can start: a process is not gone, and its lock not
//! free, before its system calls have returned.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use lockmgr::disk::{DirectDisk, Disk};
use lockmgr::time::Instant;
use lockmgr::{IoId, ReadFailed, WriteOutcome};

use super::disk::{Answer, Job, LeaseDisk};
use super::{WAIT_MAX, now, wait_at_most};

/// All memory is locked, stacks included.
const STACK: usize = 128 * 1024;
/// The lockspace's own area, and everything else.
const LANES: usize = 2;

/// The keeper's end. Dropped, the threads end.
#[derive(Debug)]
pub struct DirectLeases {
    desk: Arc<Desk>,
    /// Wakes the alarm before its next round.
    early: Sender<()>,
}

/// The clerk, for every thread that has to do with it. The threads hold it weakly, so that they end with the keeper.
#[derive(Debug)]
struct Desk(Mutex<Clerk>);

impl Desk {
    fn clerk(&self) -> MutexGuard<'_, Clerk> {
        // Held for a look into a table.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DirectLeases {
    /// Opens a device or file. `slots` is where its lockspace lies, in bytes; resources have areas of the same size. May
    /// hang as long as the device does.
    ///
    /// # Errors
    /// What opening says; no threads.
    pub fn open(
        path: &Path,
        slots: Range<u64>,
        answers: Sender<Answer>,
    ) -> io::Result<DirectLeases> {
        let largest = usize::try_from(slots.end - slots.start)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let disks = [
            DirectDisk::open(path, largest)?,
            DirectDisk::open(path, largest)?,
        ];
        let (hands, work): (Vec<_>, Vec<_>) = (0..LANES).map(|_| bounded(1)).unzip();
        let desk = Arc::new(Desk(Mutex::new(Clerk::new(slots, hands, answers))));
        for (lane, ((name, disk), work)) in ["sanblk-slot", "sanblk-rest"]
            .into_iter()
            .zip(disks)
            .zip(work)
            .enumerate()
        {
            let desk = Arc::downgrade(&desk);
            start(name, move || serve(lane, disk, &work, &desk))?;
        }
        let (early, rings) = bounded(1);
        let of = Arc::downgrade(&desk);
        start("sanblk-alarm", move || alarm(&of, &rings))?;
        Ok(DirectLeases { desk, early })
    }
}

impl LeaseDisk for DirectLeases {
    fn start(&mut self, job: Job) {
        let at = now();
        let soon = parts(&job).3 < at + WAIT_MAX;
        self.desk.clerk().take(at, job);
        if soon {
            // Full: it will wake already. Without an alarm there is nobody to answer, and silence shuts the gate.
            let _ = self.early.try_send(());
        }
    }
}

pub(super) fn start(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK)
        .spawn(body)
        .map(drop)
}

/// What a worker did with its job.
#[derive(Debug)]
pub(super) enum Ended {
    Read(Result<Vec<u8>, ReadFailed>),
    Wrote(WriteOutcome),
}

/// Does a job, however long it takes.
pub(super) fn perform(disk: &mut impl Disk, job: Job) -> Ended {
    match job {
        Job::Read { offset, len, .. } => {
            let mut data = vec![0; len];
            let read = disk.read(offset, &mut data);
            if let Err(error) = read {
                tracing::warn!("lease read of {len} bytes at {offset}: {error}");
            }
            Ended::Read(read.map(|()| data).map_err(|_| ReadFailed))
        }
        // This thread may have stood still since it was told to.
        Job::Write { deadline, .. } if deadline <= now() => Ended::Wrote(WriteOutcome::Unknown),
        Job::Write { offset, bytes, .. } => match disk.write(offset, &bytes) {
            Ok(()) => Ended::Wrote(WriteOutcome::Done),
            Err(error) => {
                tracing::warn!("lease write at {offset}: {error}");
                Ended::Wrote(WriteOutcome::Unknown)
            }
        },
    }
}

/// One job after the other, until the clerk is gone.
fn serve(lane: usize, mut disk: impl Disk, work: &Receiver<Job>, desk: &Weak<Desk>) {
    for job in work {
        let ended = perform(&mut disk, job);
        let Some(desk) = desk.upgrade() else {
            return;
        };
        desk.clerk().ended(now(), lane, ended);
    }
}

/// Looks for what is over: at every deadline, and about once a second.
fn alarm(desk: &Weak<Desk>, early: &Receiver<()>) {
    let mut wait = WAIT_MAX;
    while early.recv_timeout(wait) != Err(RecvTimeoutError::Disconnected) {
        let Some(desk) = desk.upgrade() else {
            return;
        };
        let mut clerk = desk.clerk();
        clerk.expire(now());
        wait = wait_at_most(clerk.poll_timeout(), now());
    }
}

/// A job that a worker has.
#[derive(Debug)]
struct Running {
    id: IoId,
    is_write: bool,
    deadline: Instant,
    /// Its time was over, and the keeper has been told so.
    given_up: bool,
}

#[derive(Debug)]
struct Lane {
    hand: Sender<Job>,
    waiting: VecDeque<Job>,
    running: Option<Running>,
}

/// Who has which job, until when. Knows neither clock nor disk.
#[derive(Debug)]
pub(super) struct Clerk {
    slots: Range<u64>,
    lanes: Vec<Lane>,
    /// Writes that ended `Unknown` and wait for their fence.
    unfenced: Vec<IoId>,
    answers: Sender<Answer>,
}

fn parts(job: &Job) -> (IoId, bool, u64, Instant) {
    match *job {
        Job::Read {
            id,
            offset,
            deadline,
            ..
        } => (id, false, offset, deadline),
        Job::Write {
            id,
            offset,
            deadline,
            ..
        } => (id, true, offset, deadline),
    }
}

impl Clerk {
    /// A lane for each hand: jobs within `slots` go to the first, all others to the second.
    pub(super) fn new(
        slots: Range<u64>,
        hands: Vec<Sender<Job>>,
        answers: Sender<Answer>,
    ) -> Clerk {
        let lane = |hand| Lane {
            hand,
            waiting: VecDeque::new(),
            running: None,
        };
        Clerk {
            slots,
            lanes: hands.into_iter().map(lane).collect(),
            unfenced: Vec::new(),
            answers,
        }
    }

    fn answer(&self, answer: Answer) {
        // A keeper that is gone needs none.
        let _ = self.answers.send(answer);
    }

    pub(super) fn take(&mut self, now: Instant, job: Job) {
        let lane = match self.slots.contains(&parts(&job).2) {
            true => 0,
            false => 1,
        };
        self.lanes[lane].waiting.push_back(job);
        self.hand_out(now, lane);
    }

    /// Gives the worker of this lane its next job, if it is free.
    fn hand_out(&mut self, now: Instant, lane: usize) {
        while self.lanes[lane].running.is_none()
            && let Some(job) = self.lanes[lane].waiting.pop_front()
        {
            let (id, is_write, _, deadline) = parts(&job);
            if deadline <= now || self.lanes[lane].hand.try_send(job).is_err() {
                self.fail(id, is_write);
                continue;
            }
            self.lanes[lane].running = Some(Running {
                id,
                is_write,
                deadline,
                given_up: false,
            });
        }
        self.fence();
    }

    fn fail(&mut self, id: IoId, is_write: bool) {
        if is_write {
            self.unfenced.push(id);
            let outcome = WriteOutcome::Unknown;
            self.answer(Answer::Wrote { id, outcome });
        } else {
            let data = Err(ReadFailed);
            self.answer(Answer::Read { id, data });
        }
    }

    pub(super) fn ended(&mut self, now: Instant, lane: usize, ended: Ended) {
        let Some(Running { id, given_up, .. }) = self.lanes[lane].running.take() else {
            return;
        };
        match ended {
            // What comes late was answered in time.
            _ if given_up => {}
            Ended::Read(data) => self.answer(Answer::Read { id, data }),
            Ended::Wrote(WriteOutcome::Unknown) => self.fail(id, true),
            Ended::Wrote(outcome) => self.answer(Answer::Wrote { id, outcome }),
        }
        self.hand_out(now, lane);
    }

    /// Answers for those whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        let mut over = Vec::new();
        for lane in &mut self.lanes {
            if let Some(running) = &mut lane.running
                && !running.given_up
                && running.deadline <= now
            {
                running.given_up = true;
                over.push((running.id, running.is_write));
            }
            lane.waiting.retain(|job| {
                let (id, is_write, _, deadline) = parts(job);
                if deadline <= now {
                    over.push((id, is_write));
                }
                deadline > now
            });
        }
        for (id, is_write) in over {
            self.fail(id, is_write);
        }
        self.fence();
    }

    /// Tells the youngest of the lost writes that is older than every write which may still execute.
    fn fence(&mut self) {
        let running = self.lanes.iter().filter_map(|lane| lane.running.as_ref());
        let running = running
            .filter(|running| running.is_write)
            .map(|running| running.id);
        let waiting = self.lanes.iter().flat_map(|lane| &lane.waiting);
        let waiting = waiting.filter_map(|job| match parts(job) {
            (id, true, ..) => Some(id),
            _ => None,
        });
        let oldest = running.chain(waiting).min();
        let over = |id: &IoId| oldest.is_none_or(|oldest| *id < oldest);
        if let Some(through) = self.unfenced.iter().copied().filter(over).max() {
            self.unfenced.retain(|id| *id > through);
            self.answer(Answer::Fenced { through });
        }
    }

    /// Whether nothing waits or runs.
    pub(super) fn is_idle(&self) -> bool {
        let idle = |lane: &Lane| lane.waiting.is_empty() && lane.running.is_none();
        self.lanes.iter().all(idle)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let running = self.lanes.iter().filter_map(|lane| lane.running.as_ref());
        let running = running
            .filter(|running| !running.given_up)
            .map(|running| running.deadline);
        let waiting = self.lanes.iter().flat_map(|lane| &lane.waiting);
        running.chain(waiting.map(|job| parts(job).3)).min()
    }
}

#[cfg(test)]
mod tests;
