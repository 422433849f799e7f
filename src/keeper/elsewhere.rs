//! Leases that lie elsewhere than their lockspace: each on a file or device of its own, which somebody else carries.
//!
//! ```text
//!   keeper --Job--> WithElsewhere --home--> the lockspace's own disk --Answer--> keeper
//!                        +--elsewhere--> porter: a clerk per device --Job--> a thread, as long as the job lasts
//!                                           |                                  |
//!                              keeper <--Answer                                +--> file
//! ```
//!
//! libvirt keeps every disk's lease in a file of its own, VDSM those of a storage domain beside its lockspace. Such a device may
//! hang, and the lockspace must not notice: nothing of it runs on the keeper's thread or on those of the lockspace's disk, its
//! writes have an order and fences of their own ([`IoId`](lockmgr::IoId)), and one such device does not wait for another. On a
//! device one job runs at a time, so that nothing overtakes a write that hangs. For the rest the rules are those of
//! [`direct`](super::direct), whose clerks are used here, deadlines among them: they follow from the lockspace's renewals,
//! wherever the lease lies.
//!
//! There may be as many as leases, and a lease that is held asks for no IO. So a device has a descriptor while it is in use, a
//! thread and a buffer only while something is read or written.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use lockmgr::disk::DirectDisk;
use lockmgr::time::Instant;
use lockmgr::{DiskId, LeaseId, ReadFailed, WriteOutcome};

use super::direct::{self, Clerk, Ended};
use super::disk::{Answer, Job, LeaseDisk};
use super::driver::LEASES_MAX;
use super::{now, wait_at_most};
use crate::lease::place::{Device, Place};

/// What serves no lease for so long is closed. Longer than anybody takes from the look at an area to the first job.
const LINGER: Duration = Duration::from_secs(30);
/// All offsets of a device.
const ANYWHERE: std::ops::Range<u64> = 0..u64::MAX;

/// There are as many devices as a lockspace can have leases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// The devices that are open, by number.
#[derive(Debug, Default)]
struct Known {
    entries: BTreeMap<DiskId, Entry>,
    /// The last number that was given. Numbers come round, so that what is late with an old one meets no other device.
    last: u16,
}

#[derive(Debug)]
struct Entry {
    device: Device,
    /// As it was named first.
    place: Place,
    /// When it was last in use.
    used: Instant,
}

/// The other devices of a lockspace: a handle for who looks at areas.
#[derive(Clone, Debug)]
pub struct Elsewhere {
    known: Arc<Mutex<Known>>,
    orders: Sender<Order>,
}

#[derive(Debug)]
enum Order {
    Open(DiskId, DirectDisk),
    Start(DiskId, Job),
}

impl Elsewhere {
    /// With a thread, and no device yet. `answers` is where the lockspace's own disk answers.
    ///
    /// # Errors
    /// No thread.
    pub fn start(answers: Sender<Answer>) -> io::Result<Elsewhere> {
        let (orders, inbox) = unbounded();
        let (tell, ended) = unbounded();
        let known = Arc::default();
        let porter = Porter {
            known: Arc::clone(&known),
            desks: BTreeMap::new(),
            answers,
            tell,
        };
        direct::start("sanblk-porter", move || porter.run(&inbox, &ended))?;
        Ok(Elsewhere { known, orders })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Held for a look into a table.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a device that is open, which stays so for a while.
    pub fn find(&self, device: Device) -> Option<DiskId> {
        let mut known = self.known();
        let mut entries = known.entries.iter_mut();
        let (id, entry) = entries.find(|(_, entry)| entry.device == device)?;
        entry.used = now();
        Some(*id)
    }

    /// Numbers a device that was opened, unless another was faster.
    ///
    /// # Errors
    /// There are too many.
    pub fn admit(&self, device: Device, place: Place, disk: DirectDisk) -> Result<DiskId, Full> {
        if let Some(id) = self.find(device) {
            return Ok(id);
        }
        let mut known = self.known();
        if known.entries.len() >= LEASES_MAX {
            return Err(Full);
        }
        let last = known.last;
        let mut numbers = (1..=u16::MAX).map(|step| DiskId(last.wrapping_add(step)));
        let free = |id: &DiskId| *id != DiskId::HOME && !known.entries.contains_key(id);
        let id = numbers.find(free).ok_or(Full)?;
        known.last = id.0;
        let place = place.at(0);
        tracing::debug!("device {} of a lockspace: {}", id.0, place.path.display());
        let used = now();
        let entry = Entry {
            device,
            place,
            used,
        };
        known.entries.insert(id, entry);
        // Without a porter the keeper is gone as well.
        let _ = self.orders.send(Order::Open(id, disk));
        Ok(id)
    }

    /// Where a lease lies, if its device is open.
    pub fn place(&self, id: LeaseId) -> Option<Place> {
        let known = self.known();
        let entry = known.entries.get(&id.disk())?;
        Some(entry.place.at(id.offset()))
    }

    /// The lockspace's own disk, with these beside it.
    pub fn beside(&self, home: Box<dyn LeaseDisk>) -> WithElsewhere {
        let elsewhere = self.clone();
        WithElsewhere { home, elsewhere }
    }
}

/// A lockspace's own disk, and the others.
pub struct WithElsewhere {
    home: Box<dyn LeaseDisk>,
    elsewhere: Elsewhere,
}

impl LeaseDisk for WithElsewhere {
    fn start(&mut self, mut job: Job) {
        let (Job::Read { offset, .. } | Job::Write { offset, .. }) = &mut job;
        let at = LeaseId(*offset);
        if at.disk() == DiskId::HOME {
            return self.home.start(job);
        }
        *offset = at.offset();
        // Without a porter there is nobody to answer, and silence shuts the gate.
        let _ = self.elsewhere.orders.send(Order::Start(at.disk(), job));
    }

    fn in_use(&mut self, leases: &mut dyn Iterator<Item = LeaseId>) {
        let mut known = self.elsewhere.known();
        let used = now();
        for lease in leases {
            if let Some(entry) = known.entries.get_mut(&lease.disk()) {
                entry.used = used;
            }
        }
    }
}

/// A device and who has which job there.
#[derive(Debug)]
struct Desk {
    /// Locked by the one thread that has a job, however long that takes.
    disk: Arc<Mutex<DirectDisk>>,
    clerk: Clerk,
    work: Receiver<Job>,
}

/// Hands jobs to threads. Never touches a device itself.
struct Porter {
    known: Arc<Mutex<Known>>,
    desks: BTreeMap<DiskId, Desk>,
    answers: Sender<Answer>,
    tell: Sender<(DiskId, Ended)>,
}

impl Porter {
    fn run(mut self, orders: &Receiver<Order>, ended: &Receiver<(DiskId, Ended)>) {
        loop {
            select! {
                recv(orders) -> order => match order {
                    Ok(Order::Open(id, disk)) => self.open(id, disk),
                    Ok(Order::Start(id, job)) => self.take(id, job),
                    Err(_) => return,
                },
                recv(ended) -> report => if let Ok((id, ended)) = report {
                    self.ended(id, ended);
                },
                default(wait_at_most(self.poll_timeout(), now())) => {}
            }
            for desk in self.desks.values_mut() {
                desk.clerk.expire(now());
            }
            self.close_unused(now());
        }
    }

    fn open(&mut self, id: DiskId, disk: DirectDisk) {
        let (hand, work) = bounded(1);
        let clerk = Clerk::new(ANYWHERE, vec![hand], self.answers.clone());
        let disk = Arc::new(Mutex::new(disk));
        self.desks.insert(id, Desk { disk, clerk, work });
    }

    fn take(&mut self, id: DiskId, job: Job) {
        match self.desks.get_mut(&id) {
            Some(desk) => {
                desk.clerk.take(now(), job);
                // Also what nobody waits for any more is use.
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(entry) = known.entries.get_mut(&id) {
                    entry.used = now();
                }
                drop(known);
                self.hand_out(id);
            }
            None => self.refuse(&job),
        }
    }

    /// Closed long ago. Nothing of the job happens.
    fn refuse(&self, job: &Job) {
        match *job {
            Job::Read { id, .. } => {
                let data = Err(ReadFailed);
                let _ = self.answers.send(Answer::Read { id, data });
            }
            Job::Write { id, .. } => {
                let outcome = WriteOutcome::Unknown;
                let _ = self.answers.send(Answer::Wrote { id, outcome });
                let _ = self.answers.send(Answer::Fenced { through: id });
            }
        }
    }

    /// Starts a thread for what the clerk let go.
    fn hand_out(&mut self, id: DiskId) {
        let Some(desk) = self.desks.get_mut(&id) else {
            return;
        };
        while let Ok(job) = desk.work.try_recv() {
            let (disk, tell) = (Arc::clone(&desk.disk), self.tell.clone());
            let nothing = match &job {
                Job::Read { .. } => Ended::Read(Err(ReadFailed)),
                Job::Write { .. } => Ended::Wrote(WriteOutcome::Unknown),
            };
            let body = move || {
                let mut disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
                let len = match &job {
                    Job::Read { len, .. } => *len,
                    Job::Write { bytes, .. } => bytes.len(),
                };
                disk.set_largest(len);
                let ended = direct::perform(&mut *disk, job);
                disk.set_largest(0);
                drop(disk);
                let _ = tell.send((id, ended));
            };
            if let Err(error) = direct::start("sanblk-apart", body) {
                tracing::warn!("no thread for a lease: {error}");
                desk.clerk.ended(now(), 0, nothing);
            }
        }
    }

    fn ended(&mut self, id: DiskId, ended: Ended) {
        if let Some(desk) = self.desks.get_mut(&id) {
            desk.clerk.ended(now(), 0, ended);
            self.hand_out(id);
        }
    }

    fn close_unused(&mut self, now: Instant) {
        let mut unused = Vec::new();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.desks.retain(|id, desk| {
            let used = known.entries.get(id).map(|entry| entry.used);
            let keep = !desk.clerk.is_idle() || used.is_some_and(|at| now.since(at) < LINGER);
            if !keep {
                known.entries.remove(id);
                unused.push(Arc::clone(&desk.disk));
            }
            keep
        });
        drop(known);
        if !unused.is_empty() {
            // Closing may hang as well.
            let _ = direct::start("sanblk-apart", move || drop(unused));
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let desks = self.desks.values();
        desks.filter_map(|desk| desk.clerk.poll_timeout()).min()
    }
}

#[cfg(test)]
mod tests;
