//! Lease sectors on a volume that sanblk carries: sessions of the keeper's own, one per portal, on a thread of their
//! own.
//!
//! ```text
//!   keeper --Job--> thread: driver (sockets, clock) <-> Carrier (decides) --Answer--> keeper
//!                             |  \__ portal 1 ___ a session each, of which one is current
//!                             +_____ portal 2
//! ```
//!
//! Nothing of the data path is used, so nothing of it can be in the way: no queue that is full, no gate that is shut,
//! no ring. A fence of the data path is a login with an ISID of the data path, which ends that session and no other;
//! the keeper's ISIDs are of another family ([`multipath::keeper_isid`]), and are the same after a restart, so that a
//! new keeper's logins end what a dead one left. Only LOGICAL UNIT RESET (`--allow-fence lun-reset`) is for everybody's
//! commands: the keeper's come back as TASK ABORTED, or as nothing at all and a unit attention; its writes are in doubt
//! then, and their session is ended and fenced.
//!
//! - `carrier` decides; `nexus`, `debt`, `tasks` are its nouns
//! - `driver` has the sockets
//! - `patience` has all times, and the reason why no byte of a write leaves after its deadline; `silence` tells late from dead
//!
//! The thread waits in `poll(2)` on two or three sockets and a waker; that needs neither a ring nor a runtime, and each
//! of its system calls returns at once. Memory is made when it starts, but for the data of reads, which are bounded.

mod carrier;
mod debt;
mod driver;
mod nexus;
mod patience;
mod silence;
mod tasks;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded, unbounded};
use iscsi_client::login::{Credentials, Offer};
use iscsi_client::time::Instant;
use iscsi_client::wire::{Isid, Lun, Tpgt};
use multipath::{Description, IsidKey, keeper_isid};

use super::disk::{Answer, Job, LeaseDisk};
use driver::{Driver, Inbox};
pub use nexus::Trouble;

/// Portals of one lockspace, at most; the volume has no more paths.
pub const PORTALS_MAX: usize = multipath::contract::PATHS_MAX;

/// Hints that may wait.
const HINTS_MAX: usize = 16;

/// All memory is locked, stacks included.
const STACK: usize = 256 * 1024;

/// A way to the LUN.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SanPortal {
    /// As the operator wrote it.
    pub name: String,
    /// Where to connect.
    pub address: SocketAddr,
    /// Interface that the socket is bound to.
    pub interface: Option<String>,
    /// Its portal group, as discovery or an earlier login named it; a guess that a login corrects.
    pub portal_group: Option<Tpgt>,
}

/// Everything that the sessions of a lockspace need to know. A volume's plan has all of it.
#[derive(Clone, Debug)]
pub struct SanConfig {
    /// The LUN's portals, at least one and at most [`PORTALS_MAX`], the preferred one first.
    pub portals: Vec<SanPortal>,
    /// The target's iSCSI name.
    pub target: String,
    /// The LUN, as the volume has it.
    pub lun: Lun,
    /// Our iSCSI name.
    pub initiator_name: String,
    /// CHAP, or nothing.
    pub credentials: Option<Credentials>,
    /// Proposals for the login, digests in particular.
    pub offer: Offer,
    /// Who the LUN is: no other one is ever written to.
    pub description: Description,
    /// The lockspace's name. Two lockspaces on one LUN have sessions of their own.
    pub lockspace: Vec<u8>,
    /// ISIDs of the volume's paths, and of others in use on this host.
    pub taken: Vec<Isid>,
    /// sanlock's `io_timeout` of this host, whole seconds, 1 to 255.
    pub io_timeout: Duration,
}

impl SanConfig {
    /// The ISID of each portal's session, in the order of the portals. Derived, not drawn: the same for the same
    /// configuration.
    pub fn isids(&self) -> Vec<Isid> {
        let mut taken = self.taken.clone();
        let mut isids = Vec::with_capacity(self.portals.len());
        for portal in &self.portals {
            let key = IsidKey {
                initiator_name: &self.initiator_name,
                target_name: &self.target,
                // Not always known; the address tells portals apart as well.
                portal_group: None,
                portal: portal.address,
                lun: self.lun,
                queue: 0,
            };
            let isid = keeper_isid(&key, &self.lockspace, &taken);
            taken.push(isid);
            isids.push(isid);
        }
        isids
    }
}

/// The keeper's end of the thread. When it is dropped, the thread logs out and ends.
#[derive(Debug)]
pub struct SanDisk {
    /// Unbounded, so that it never blocks; what waits is bounded by the leases of the lockspace.
    jobs: Sender<Job>,
    view: SanView,
}

/// What the rest of the daemon has of the sessions, after the keeper has taken the disk: a picture, and a hint to give.
/// It does not keep the thread alive.
#[derive(Clone, Debug)]
pub struct SanView {
    hints: Sender<Hint>,
    waker: Arc<UnixStream>,
    picture: Arc<Mutex<Vec<PortalPicture>>>,
}

/// The carrier of an interface came or went.
#[derive(Debug)]
struct Hint {
    interface: String,
    up: bool,
}

impl SanDisk {
    /// Starts the thread, which connects through all portals at once. Answers go to `answers`, which must not be
    /// bounded.
    ///
    /// # Errors
    /// No portal, or too many; no descriptors or thread.
    pub fn open(config: SanConfig, answers: Sender<Answer>) -> io::Result<SanDisk> {
        if config.portals.is_empty() || config.portals.len() > PORTALS_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let (jobs, orders) = unbounded();
        let (hints, hinted) = bounded(HINTS_MAX);
        let (waker, woken) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let picture = Arc::new(Mutex::new(Vec::new()));
        let waker = Arc::new(waker);
        let inbox = Inbox {
            orders,
            hints: hinted,
            woken,
            _waker: Arc::clone(&waker),
        };
        let driver = Driver::new(config, inbox, answers, Arc::clone(&picture))?;
        thread::Builder::new()
            .name("sanblk-lease".to_owned())
            .stack_size(STACK)
            .spawn(move || driver.run())?;
        Ok(SanDisk {
            jobs,
            view: SanView {
                hints,
                waker,
                picture,
            },
        })
    }

    /// For the rest of the daemon.
    pub fn view(&self) -> SanView {
        self.view.clone()
    }
}

impl SanView {
    /// How the portals are, in the order given; as of a moment ago.
    pub fn status(&self) -> Vec<PortalPicture> {
        // The thread only ever tries this lock, so a reader that is stopped holds up nobody.
        self.picture
            .lock()
            .map(|picture| picture.clone())
            .unwrap_or_default()
    }

    /// The carrier of an interface came or went. Not needed: silence and time find out the same.
    pub fn carrier(&self, interface: &str, up: bool) {
        let interface = interface.to_owned();
        // A hint that finds no room is only a missed hint.
        if self.hints.try_send(Hint { interface, up }).is_ok() {
            driver::wake(&self.waker);
        }
    }
}

impl LeaseDisk for SanDisk {
    fn start(&mut self, job: Job) {
        // Without a thread there is nobody to answer, and silence shuts the gate.
        if self.jobs.send(job).is_ok() {
            driver::wake(&self.view.waker);
        }
    }
}

impl Drop for SanDisk {
    fn drop(&mut self) {
        // The last sender goes before the thread looks.
        self.jobs = unbounded().0;
        driver::wake(&self.view.waker);
    }
}

/// A portal, for `status`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortalPicture {
    /// As the operator wrote it.
    pub portal: String,
    /// What its session does.
    pub state: PortalState,
    /// Since when; `CLOCK_BOOTTIME`.
    pub since: Instant,
    /// Why it is not up, or what went wrong last.
    pub why: Option<Trouble>,
    /// Writes of a dead session may still land.
    pub in_doubt: bool,
}

/// What a portal's session does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortalState {
    /// There is none; the next attempt follows.
    Down,
    /// Making the TCP connection.
    Connecting,
    /// Logging in.
    LoggingIn,
    /// Asking the LUN who it is.
    Checking,
    /// Ready; `current`: jobs go through it.
    Up {
        /// Whether jobs go through it.
        current: bool,
    },
    /// Ending its dead session through another portal.
    Fencing,
    /// Logging out.
    LoggingOut,
}

impl fmt::Display for PortalState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PortalState::Down => "down",
            PortalState::Connecting => "connecting",
            PortalState::LoggingIn => "logging in",
            PortalState::Checking => "checking",
            PortalState::Up { current: true } => "up, current",
            PortalState::Up { current: false } => "up",
            PortalState::Fencing => "fencing",
            PortalState::LoggingOut => "logging out",
        })
    }
}
