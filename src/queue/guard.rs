//! The lease's gate between a queue and the wire, and what its timing takes for granted of the sockets.
//!
//! The gate is asked at the start of a turn, before each gathered send is filled, and once more when nothing is left to do
//! but the system call that hands the sends to the kernel. Only the last answer must be right; the others keep commands
//! from being begun that could not end. Sends that wait in the kernel for room in a socket go on without being asked,
//! so the wait ends at the deadline, and the connections that carry writes are reset then.
//!
//! ```text
//!   T       the last renewal's write starts
//!   T+8t    the deadline: asked by then, the gate lets nothing pass; the thread wakes and resets the sockets
//!             | a thread that stands just now                                             drift_max
//!             | a process that is stopped: its kernel gives the queued bytes up            USER_TIMEOUT  \ drain_max
//!             | what the target had by then executes                                       TARGET_TIME   /
//!   T+8t+W  another host may own the leases
//! ```
//!
//! Two things no timeout covers. A process that is stopped between the last question and the system call, less than a
//! microsecond of most turns (ARCHITECTURE.md has the figures), and that goes on after another host took over, hands
//! over what it had filled. And a target that takes a byte now and then keeps a full socket alive; it gives its commands
//! no end either. A host with a watchdog that resets it has the second one as well.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use iscsi_client::time::Instant;
use lockmgr::gate::{self, Gate};
use lockmgr::timing::Margins;
use multipath::Permission;
use tokio::sync::oneshot;
use ublk_dev::{SocketOptions, Waker, clock};

use super::{Mail, NotListening};

/// `TCP_USER_TIMEOUT` of the data connections while a gate may be armed. Without one it is far longer: it also ends the
/// connection to a living target that takes nothing for so long.
pub const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// What a target may take to execute a write that it was given. The kernel's own limit for a disk command.
const TARGET_TIME: Duration = Duration::from_secs(30);

/// What may happen between a passed deadline and the silence of this host, for [`lockmgr::timing::Timing::verify`].
pub const MARGINS: Margins = Margins {
    drain_max: USER_TIMEOUT.saturating_add(TARGET_TIME),
    drift_max: Duration::from_secs(10),
};

/// What the end of a drain is told by, on the queue's thread: short, and never blocking. Dropped without a word if the volume ends
/// before.
pub type Told = Box<dyn FnOnce() + Send>;

/// The writes of a volume, as the keeper of the lease sees them that they depend on. May be cloned and sent to any thread.
///
/// ```text
///   prepare_gate   before the gate is armed; arming it without is unsafe
///   gate           arm, extend, shut, restore, refuse, disarm
///   wake           after shut, restore and refuse: waiting writes go on or fail, those under way are cut
///   drain          after shut, or before a leave: when is all over that was sent?
///   release_gate   after disarm
/// ```
#[derive(Clone)]
pub struct Writes {
    gate: Arc<Gate>,
    mail: Sender<Mail>,
    waker: Waker,
}

impl fmt::Debug for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writes")
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}

impl Writes {
    pub(super) fn new(gate: Arc<Gate>, mail: Sender<Mail>, waker: Waker) -> Writes {
        Writes { gate, mail, waker }
    }

    /// The gate that they pass. It is of this attachment: once refused, it stays so.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Makes the queue look at the gate now.
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// From now on the kernel gives up bytes that stay unacknowledged after [`USER_TIMEOUT`], also while this process is
    /// stopped. [`MARGINS`] counts on it.
    ///
    /// # Errors
    /// The queue does not take orders: then the gate must not be armed.
    pub async fn prepare_gate(&self) -> Result<(), NotListening> {
        self.set_user_timeout(USER_TIMEOUT).await
    }

    /// The connections are as patient again as without a lease.
    ///
    /// # Errors
    /// The queue does not take orders.
    pub async fn release_gate(&self) -> Result<(), NotListening> {
        self.set_user_timeout(SocketOptions::default().user_timeout)
            .await
    }

    async fn set_user_timeout(&self, limit: Duration) -> Result<(), NotListening> {
        let (reply, answer) = oneshot::channel();
        if self.send(Mail::UserTimeout(limit, reply)).is_some() {
            return Err(NotListening);
        }
        answer.await.map_err(|_| NotListening)
    }

    /// Tells when no write that was sent before now can execute any more: each is answered, or its session is proven dead.
    /// While a path stays lost that takes as long as its fence, minutes perhaps.
    ///
    /// Ordered when the gate is shut, it covers all that ever left; with an open one, what had left by then.
    ///
    /// # Errors
    /// The queue does not take orders now, or has ended; `told` comes back.
    pub fn drain(&self, told: Told) -> Result<(), Told> {
        match self.send(Mail::Drain(told)) {
            Some(Mail::Drain(told)) => Err(told),
            Some(_) | None => Ok(()),
        }
    }

    /// As [`Writes::drain`], for who can wait.
    ///
    /// # Errors
    /// The queue does not take orders, or ended before.
    pub async fn drained(&self) -> Result<(), NotListening> {
        let (reply, answer) = oneshot::channel();
        let told = move || {
            // Whoever waits may be gone by then.
            let _ = reply.send(());
        };
        self.drain(Box::new(told)).map_err(|_| NotListening)?;
        answer.await.map_err(|_| NotListening)
    }

    /// What could not be delivered comes back.
    fn send(&self, order: Mail) -> Option<Mail> {
        match self.mail.try_send(order) {
            Ok(()) => {
                self.waker.wake();
                None
            }
            Err(error) => Some(error.into_inner()),
        }
    }
}

/// A queue's view of its volume's gate.
#[derive(Debug)]
pub(super) struct Guard(Arc<Gate>);

impl Guard {
    pub(super) fn new(gate: Arc<Gate>) -> Guard {
        Guard(gate)
    }

    /// Whether writes may leave. Of an armed gate as the clock is now, not as it was when the turn began; one that is
    /// not armed costs a load or two and no look at the clock.
    pub(super) fn permission(&self, turn: Instant) -> Permission {
        let now = match self.0.deadline() {
            Some(_) => clock::boottime_ns(),
            // Not armed, shut or refused: no time makes a difference.
            None => turn.nanos(),
        };
        match self.0.check(lockmgr::time::Instant::from_nanos(now)) {
            gate::Permission::Allowed => Permission::Granted,
            gate::Permission::Fenced => Permission::Withheld,
            gate::Permission::Refused => Permission::Revoked,
        }
    }

    /// When the thread must look again at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let deadline = self.0.deadline()?;
        Some(Instant::from_nanos(deadline.nanos()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockmgr::timing::Timing;

    #[test]
    fn the_margins_fit_every_timeout() {
        for io_timeout_s in 1..=255 {
            let timing = Timing::new(io_timeout_s).expect("one byte");
            assert_eq!(timing.verify(MARGINS), Ok(()));
        }
    }

    #[test]
    fn an_armed_gate_is_asked_with_the_time_that_it_is() {
        let gate = Arc::new(Gate::new());
        let guard = Guard::new(Arc::clone(&gate));
        let long_ago = Instant::from_nanos(0);
        assert_eq!(guard.permission(long_ago), Permission::Granted);
        assert_eq!(guard.deadline(), None);
        // The turn began before the deadline, and the deadline is over.
        let now = lockmgr::time::Instant::from_nanos(clock::boottime_ns());
        gate.arm(long_ago_of(now), long_ago_of(now), Duration::from_nanos(2))
            .expect("it is open for two nanoseconds");
        assert!(guard.deadline().is_some());
        assert_eq!(guard.permission(long_ago), Permission::Withheld);
        assert_eq!(guard.deadline(), None);
        gate.refuse();
        assert_eq!(guard.permission(long_ago), Permission::Revoked);
    }

    fn long_ago_of(now: lockmgr::time::Instant) -> lockmgr::time::Instant {
        lockmgr::time::Instant::from_nanos(now.nanos() / 2)
    }
}
