//! The keeper: the thread that keeps one lockspace, and the disks it writes to.
//!
//! ```text
//!   Keeper --Call--> driver (one thread per lockspace) --Job--> disk: lease sectors, as the lockspace asks for them
//!                      |  ^ lockmgr::Lockspace <----Answer---- direct: files, and devices that somebody else carries
//!                      |  |                                    san: volumes that sanblk carries, by sessions of its own
//!                      |  |                                    mapped: in front of it, a logical volume on such a one
//!                      |  |                                    elsewhere: in front of all, leases on other devices
//!                      |  +--- book: who waits for which note
//!                      +--> gates: the write permissions of the volumes that the leases protect
//! ```
//!
//! It depends on nothing but its disk: a thread of its own, all memory locked, that never waits for anything but the
//! next event. Every wait is on `CLOCK_BOOTTIME`.
//!
//! What it leaves to others: to make sure that no write of an earlier life of this host can still land before it is
//! started, and that whoever used a lease has stopped, and drained, before it is released.

mod book;
pub mod direct;
pub mod disk;
mod driver;
pub mod elsewhere;
mod gates;
pub mod mapped;
mod news;
mod picture;
pub mod san;
#[cfg(test)]
mod tests;

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};
use lockmgr::time::Instant;
use lockmgr::{Identity, JoinError};

pub use book::{Call, Heard, LeaveError, Reply};
pub use driver::LEASES_MAX;
pub use gates::{GateError, Gates, Protected, Told};
pub use news::{News, Reporter, Weight};
pub use picture::{Holding, Picture, Standing, why_lost};

use disk::{Answer, LeaseDisk};
use driver::Driver;

/// All memory is locked, stacks included.
const STACK: usize = 256 * 1024;
/// Calls that may wait; a caller that finds them full is told.
const CALLS_MAX: usize = 64;
/// Timed waits of the kernel stand still while the host is suspended; `CLOCK_BOOTTIME` does not.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// The clock of all leases: `CLOCK_BOOTTIME`, which counts a suspended host's time.
pub fn now() -> Instant {
    Instant::from_nanos(crate::host::now().nanos())
}

/// How long to wait for `at`.
fn wait_at_most(at: Option<Instant>, now: Instant) -> Duration {
    at.map_or(WAIT_MAX, |at| at.since(now).min(WAIT_MAX))
}

/// The keeper does not take calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoKeeper {
    /// It has ended.
    Ended,
    /// Too many wait.
    Busy,
}

/// A keeper's thread, seen from outside. Dropped, the thread ends and the slot expires.
#[derive(Debug)]
pub struct Keeper {
    calls: Sender<Call>,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Starts to join a lockspace. `answers` is the other end of the channel that the disk was opened with; `seed`
    /// decides how long lost ballots wait, and should differ among hosts.
    ///
    /// # Errors
    /// No thread.
    pub fn start(
        us: Identity,
        seed: u64,
        disk: Box<dyn LeaseDisk>,
        answers: Receiver<Answer>,
        gates: Gates,
        joined: Reply<u64, JoinError>,
    ) -> io::Result<Keeper> {
        let (calls, inbox) = bounded(CALLS_MAX);
        let body = move || {
            let (drained, drains) = bounded(1);
            let driver = Driver::new(us, seed, disk, gates, now, drained, joined);
            run(driver, &inbox, &answers, &drains);
        };
        let thread = thread::Builder::new()
            .name("sanblk-keeper".to_owned())
            .stack_size(STACK)
            .spawn(body)?;
        Ok(Keeper { calls, thread })
    }

    /// Asks. The answer comes where the call says; a call without an answer met a keeper that had ended.
    ///
    /// # Errors
    /// It was not taken.
    pub fn call(&self, call: Call) -> Result<(), NoKeeper> {
        if self.has_ended() {
            return Err(NoKeeper::Ended);
        }
        self.calls.try_send(call).map_err(|error| match error {
            TrySendError::Full(_) => NoKeeper::Busy,
            TrySendError::Disconnected(_) => NoKeeper::Ended,
        })
    }

    /// Whether its thread is gone, and with it everything that could still land.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }
}

fn run(
    mut driver: Driver,
    inbox: &Receiver<Call>,
    answers: &Receiver<Answer>,
    drains: &Receiver<()>,
) {
    while !driver.is_over() {
        select! {
            recv(inbox) -> call => match call {
                Ok(call) => driver.call(call),
                Err(_) => return,
            },
            recv(drains) -> _ => driver.drained(),
            recv(answers) -> answer => match answer {
                Ok(answer) => driver.answer(answer),
                // Without a disk nothing is renewed: the gates shut by themselves.
                Err(_) => return,
            },
            default(wait_at_most(driver.poll_timeout(), now())) => {}
        }
        driver.time_out();
    }
}
