//! A queue: one thread with one ring, one volume and one TCP session per portal.
//!
//! The rest of the program speaks to it by mail: orders go in through a bounded mailbox and a doorbell, notes come out
//! through a bounded channel that never blocks the queue.

pub mod guard;
mod memory;
mod turn;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use iscsi_client::time::Instant;
use iscsi_client::wire::Isid;
use lockmgr::gate::Gate;
use multipath::{
    NoPathRetry, Note, OrderRefused, PathConfig, PathId, PolicyKind, UnresolvedWrite, Volume,
    VolumeConfig, VolumeStatus,
};
use tokio::sync::oneshot;
use ublk_dev::{Ring, Slots, Waker};

use crate::control::PathOrder;
use crate::host;

use guard::{Told, Writes};
pub use memory::TagMemory;
pub use turn::{Device, Found, Front, Turn};

/// Orders that may wait in a mailbox.
const MAIL_MAX: usize = 64;

/// Notes that may wait for the control plane; more are dropped and counted.
const NOTES_MAX: usize = 1024;

/// An order to a queue.
pub enum Mail {
    /// Add a path; answers its number, or `None` if the volume has as many as it can hold.
    AddPath(PathConfig, oneshot::Sender<Option<PathId>>),
    /// Writes that an earlier run left unresolved.
    RestoreUnresolved(Vec<UnresolvedWrite>),
    /// What to do while all paths are down.
    SetNoPathRetry(NoPathRetry),
    /// How to choose a path.
    SetPolicy(PolicyKind),
    /// LOGICAL UNIT RESET may be a part of a fence.
    AllowLunReset,
    /// The carrier of an interface came or went.
    Carrier {
        /// Its name.
        interface: String,
        /// It is there now.
        up: bool,
    },
    /// Try every path that is down now.
    RetryNow,
    /// The operator's order about the path with this ISID.
    Path(PathOrder, Isid, oneshot::Sender<Result<(), OrderRefused>>),
    /// `TCP_USER_TIMEOUT` of the data connections from now on; answered when all have it.
    UserTimeout(Duration, oneshot::Sender<()>),
    /// Told when no write that was sent before can execute any more.
    Drain(Told),
    /// A picture.
    Status(oneshot::Sender<VolumeStatus>),
    /// Fail what waits, log out, end the thread once the block device has stopped.
    ShutDown {
        /// Sessions that have not logged out after this time are aborted.
        patience: Duration,
    },
}

/// What a queue is made of.
pub struct QueueConfig {
    /// Name of the thread, at most 15 bytes.
    pub name: String,
    /// The volume.
    pub volume: VolumeConfig,
    /// Whether its writes may leave; not armed, or not yet, they may.
    pub gate: Arc<Gate>,
    /// Makes the ring and its buffers, on the queue's own thread: the ring belongs to the thread that made it.
    pub open: Box<dyn FnOnce() -> io::Result<(Ring, Slots)> + Send>,
}

/// A running queue, as the control plane holds it.
#[derive(Debug)]
pub struct Queue {
    mail: Sender<Mail>,
    waker: Waker,
    gate: Arc<Gate>,
    notes: Receiver<(Instant, Note)>,
    notes_lost: Arc<AtomicU64>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// The queue does not take orders: its thread has ended, or it has not looked at its mailbox for long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotListening;

impl Queue {
    /// Starts the thread and waits until its ring is there and every tag is offered to the driver.
    pub fn start(config: QueueConfig) -> io::Result<Queue> {
        let (mail, orders) = bounded(MAIL_MAX);
        let (tell, notes) = bounded(NOTES_MAX);
        let (ready, started) = bounded::<io::Result<Waker>>(1);
        let notes_lost = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&notes_lost);
        let gate = Arc::clone(&config.gate);
        let thread = std::thread::Builder::new()
            .name(config.name.clone())
            .spawn(move || {
                let (ring, slots) = match (config.open)() {
                    Ok(opened) => opened,
                    Err(error) => {
                        let _ = ready.send(Err(error));
                        return Ok(());
                    }
                };
                let _ = ready.send(Ok(ring.waker()));
                let block_len = config.volume.description.identity.block_len;
                let now = Instant::from_nanos(ring.now());
                let volume = Volume::new(now, config.volume);
                let turn = Turn::new(ring, slots, volume, block_len).guarded_by(config.gate);
                run(turn, &orders, &tell, &lost)
            })?;
        // The thread answers or ends; an ended thread shows as a closed channel.
        let waker = match started.recv() {
            Ok(Ok(waker)) => waker,
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                return Err(io::Error::other(
                    "the queue thread ended before it was ready",
                ));
            }
        };
        Ok(Queue {
            mail,
            waker,
            gate,
            notes,
            notes_lost,
            thread: Some(thread),
        })
    }

    /// Puts an order into the mailbox and rings.
    pub fn send(&self, order: Mail) -> Result<(), NotListening> {
        match self.mail.try_send(order) {
            Ok(()) => {
                self.waker.wake();
                Ok(())
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(NotListening),
        }
    }

    /// A picture of the volume.
    pub async fn status(&self) -> Result<VolumeStatus, NotListening> {
        let (reply, answer) = oneshot::channel();
        self.send(Mail::Status(reply))?;
        answer.await.map_err(|_| NotListening)
    }

    /// The writes of its volume, for whoever keeps the lease that they depend on.
    pub fn writes(&self) -> Writes {
        Writes::new(
            Arc::clone(&self.gate),
            self.mail.clone(),
            self.waker.clone(),
        )
    }

    /// The next note, if there is one, and when it was made.
    pub fn note(&self) -> Option<(Instant, Note)> {
        self.notes.try_recv().ok()
    }

    /// Notes that nobody fetched in time.
    pub fn notes_lost(&self) -> u64 {
        self.notes_lost.load(Ordering::Relaxed)
    }

    /// Whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the thread and says how it ended.
    pub fn join(mut self) -> io::Result<()> {
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("the queue thread panicked")),
        }
    }
}

fn run(
    mut turn: Turn,
    orders: &Receiver<Mail>,
    tell: &Sender<(Instant, Note)>,
    lost: &AtomicU64,
) -> io::Result<()> {
    let mut front = Device;
    let mut stopped = false;
    let mut note = |note| {
        if tell.try_send((host::now(), note)).is_err() {
            lost.fetch_add(1, Ordering::Relaxed);
        }
    };
    loop {
        let found = turn.work(&mut front, &mut note);
        stopped |= found.device_stopped;
        if found.wake {
            while let Ok(order) = orders.try_recv() {
                obey(&mut turn, order);
            }
            // Orders may have produced work; do it before the wait.
            stopped |= turn.work(&mut front, &mut note).device_stopped;
        }
        if stopped && turn.volume().is_shut_down() {
            return Ok(());
        }
        turn.wait(None)?;
    }
}

fn obey_about_path(turn: &mut Turn, order: PathOrder, isid: Isid) -> Result<(), OrderRefused> {
    let now = turn.now();
    let volume = turn.volume();
    let path = volume.path_of(isid).ok_or(OrderRefused::NoSuchPath)?;
    match order {
        PathOrder::Fail => volume.fail_path(now, path),
        PathOrder::Restore => volume.restore_path(now, path),
        PathOrder::Remove => volume.remove_path(now, path),
    }
}

fn obey(turn: &mut Turn, order: Mail) {
    let now = turn.now();
    match order {
        // Whoever asked may be gone by now; that is no concern of the queue.
        Mail::AddPath(path, reply) => drop(reply.send(turn.add_path(path))),
        Mail::Status(reply) => drop(reply.send(turn.volume().status())),
        Mail::UserTimeout(limit, reply) => {
            turn.set_user_timeout(limit);
            let _ = reply.send(());
        }
        Mail::Drain(told) => turn.drain(told),
        Mail::RestoreUnresolved(writes) => turn.volume().restore_unresolved(&writes),
        Mail::SetNoPathRetry(rule) => turn.volume().set_no_path_retry(now, rule),
        Mail::SetPolicy(policy) => turn.volume().set_policy(policy),
        Mail::AllowLunReset => turn.volume().set_lun_reset(now, true),
        Mail::Carrier { interface, up } => turn.carrier(&interface, up),
        Mail::RetryNow => turn.volume().retry_now(now),
        Mail::Path(order, isid, reply) => drop(reply.send(obey_about_path(turn, order, isid))),
        Mail::ShutDown { patience } => turn.volume().shut_down(now, patience),
    }
}
