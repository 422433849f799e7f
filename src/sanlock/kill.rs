//! Making clients let go of a lockspace that is lost: their kill paths, then signals.
//!
//! ```text
//!   lost ----> kill path, once; without one SIGTERM, once a second
//!              | 40 s later
//!              v
//!              SIGKILL once a second, at most 100 times; then the client is stuck
//!   removed -> SIGKILL at once, the same
//! ```
//!
//! A client that lets go of everything meanwhile is forgiven. Who may not be sent SIGKILL gets SIGTERM in its place, and the
//! other way round. Programs are run by a process of their own, [`KillHelper`].

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use super::wire::flags::RestrictFlags;
use crate::kill_helper::{Kill, KillHelper};

/// From the kill path to the first SIGKILL.
const GRACE: Duration = Duration::from_secs(40);
/// Most SIGKILLs to one client.
const ATTEMPTS_MAX: u32 = 100;

/// What a client wants run when it has to let go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KillPath {
    /// The program.
    pub path: OsString,
    /// Its arguments in one string, as the client gave them.
    pub args: OsString,
    /// Whether the client's process id follows them.
    pub with_pid: bool,
}

impl KillPath {
    /// The program for a client.
    pub fn of(&self, pid: i32) -> Kill {
        let process = u32::try_from(pid).ok().filter(|_| self.with_pid);
        Kill::new(self.path.as_bytes(), self.args.as_bytes(), process)
    }
}

/// The two signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
}

/// Carries out what a [`Recovery`] wants. Nothing here blocks.
#[derive(Debug)]
pub struct Killer {
    /// Runs the programs; without one they are not run, and the signals come all the same.
    helper: Option<KillHelper>,
}

impl Killer {
    /// With the process that runs programs.
    pub fn new(helper: Option<KillHelper>) -> Killer {
        Killer { helper }
    }

    /// Runs a client's program.
    pub fn run(&self, path: &KillPath, pid: i32) {
        let result = match &self.helper {
            Some(helper) => helper.run(&path.of(pid)),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        let path = path.path.display();
        match result {
            Ok(()) => tracing::warn!("running {path} for process {pid}"),
            Err(error) => tracing::error!("{path} is not run for process {pid}: {error}"),
        }
    }

    /// Sends a signal.
    pub fn signal(&self, pid: i32, signal: Signal) {
        use rustix::process::{Pid, Signal as S, getpid, kill_process};
        let number = match signal {
            Signal::Terminate => S::TERM,
            Signal::Kill => S::KILL,
        };
        // Process 1 and our own are nobody's client.
        let own = getpid();
        let Some(process) = Pid::from_raw(pid).filter(|pid| !pid.is_init() && *pid != own) else {
            return;
        };
        if let Err(error) = kill_process(process, number) {
            tracing::warn!("no signal to process {pid}: {error}");
        }
    }
}

/// Why a client has to let go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// Its leases are lost.
    Lost,
    /// The lockspace is being removed.
    Removed,
}

/// How far a client has been urged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recovery {
    cause: Cause,
    /// How long it has lasted.
    lasted: Duration,
    /// Whether the kill path was run.
    asked: bool,
    /// SIGKILLs, or what stood in their place.
    attempts: u32,
    /// Signals of either kind.
    pub signals: u32,
}

/// What to do now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// Run its kill path.
    RunPath,
    /// Send it this.
    Send(Signal),
    /// Nothing; wait.
    Wait,
    /// It was sent everything: say so once, then wait.
    Stuck,
}

impl Recovery {
    /// It begins.
    pub fn new(cause: Cause) -> Recovery {
        Recovery {
            cause,
            lasted: Duration::ZERO,
            asked: false,
            attempts: 0,
            signals: 0,
        }
    }

    /// What to do, `passed` after the last time this was asked (about a second).
    pub fn next(&mut self, passed: Duration, has_path: bool, restricted: RestrictFlags) -> Act {
        self.lasted += passed;
        if self.cause == Cause::Lost && self.lasted < GRACE {
            if has_path && self.asked {
                return Act::Wait;
            }
            if has_path {
                self.asked = true;
                return Act::RunPath;
            }
            self.signals += 1;
            return Act::Send(allowed(Signal::Terminate, restricted));
        }
        self.attempts = self.attempts.saturating_add(1);
        match self.attempts {
            n if n <= ATTEMPTS_MAX => {
                self.signals += 1;
                Act::Send(allowed(Signal::Kill, restricted))
            }
            n if n == ATTEMPTS_MAX + 1 => Act::Stuck,
            _ => Act::Wait,
        }
    }
}

/// What is sent in place of a signal that is restricted.
pub fn allowed(signal: Signal, restricted: RestrictFlags) -> Signal {
    match signal {
        Signal::Kill if restricted.contains(RestrictFlags::SIGKILL) => Signal::Terminate,
        Signal::Terminate if restricted.contains(RestrictFlags::SIGTERM) => Signal::Kill,
        signal => signal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn acts(cause: Cause, has_path: bool, restricted: RestrictFlags, seconds: usize) -> Vec<Act> {
        let mut recovery = Recovery::new(cause);
        let mut passed = Duration::ZERO;
        let mut next =
            || recovery.next(std::mem::replace(&mut passed, SECOND), has_path, restricted);
        (0..seconds).map(|_| next()).collect()
    }

    #[test]
    fn a_kill_path_has_its_time_before_the_signals() {
        let acts = acts(Cause::Lost, true, RestrictFlags(0), 145);
        assert_eq!(acts[0], Act::RunPath);
        assert!(acts[1..40].iter().all(|act| *act == Act::Wait));
        assert!(
            acts[40..140]
                .iter()
                .all(|act| *act == Act::Send(Signal::Kill))
        );
        assert_eq!(acts[140..143], [Act::Stuck, Act::Wait, Act::Wait]);
    }

    #[test]
    fn who_has_none_is_asked_by_a_signal() {
        let acts = acts(Cause::Lost, false, RestrictFlags(0), 41);
        assert!(
            acts[..40]
                .iter()
                .all(|act| *act == Act::Send(Signal::Terminate))
        );
        assert_eq!(acts[40], Act::Send(Signal::Kill));
    }

    #[test]
    fn a_removed_lockspace_has_no_patience_but_respects_restrictions() {
        for (restricted, signal) in [
            (RestrictFlags(0), Signal::Kill),
            (RestrictFlags::SIGKILL, Signal::Terminate),
            (RestrictFlags::SIGTERM, Signal::Kill),
        ] {
            let acts = acts(Cause::Removed, true, restricted, 101);
            assert!(acts[..100].iter().all(|act| *act == Act::Send(signal)));
            assert_eq!(acts[100], Act::Stuck);
        }
        let acts = acts(Cause::Lost, false, RestrictFlags::SIGTERM, 1);
        assert_eq!(acts, [Act::Send(Signal::Kill)]);
    }
}
