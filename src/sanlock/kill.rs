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
//! other way round. Programs are run by a process of their own ([`Killer`]): this one has its memory locked, and holds
//! descriptors that nobody else may have.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use super::wire::flags::RestrictFlags;

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

/// A program to be run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kill {
    /// The program.
    pub path: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// The client for which it is run.
    pub pid: i32,
}

impl KillPath {
    /// The program for a client.
    pub fn of(&self, pid: i32) -> Kill {
        let mut args = split(&self.args);
        if self.with_pid {
            args.push(pid.to_string().into());
        }
        Kill {
            path: self.path.clone(),
            args,
            pid,
        }
    }
}

/// Arguments are parted by blanks; a backslash makes a blank, or a backslash, part of one.
fn split(args: &OsStr) -> Vec<OsString> {
    let mut parts = vec![Vec::new()];
    let mut bytes = args.as_bytes().iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => parts
                .last_mut()
                .into_iter()
                .for_each(|part| part.extend(bytes.next())),
            b' ' => parts.push(Vec::new()),
            byte => parts
                .last_mut()
                .into_iter()
                .for_each(|part| part.push(byte)),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts.into_iter().map(OsString::from_vec).collect()
}

/// The two signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
}

/// Carries out what a [`Recovery`] wants. Neither may block.
pub trait Killer {
    /// Runs a program. That it could not be run is for the log.
    fn run(&self, kill: Kill);

    /// Sends a signal.
    fn signal(&self, pid: i32, signal: Signal);
}

/// Signals of our own; for programs there is no helper.
#[derive(Debug)]
pub struct OwnKiller;

impl Killer for OwnKiller {
    fn run(&self, kill: Kill) {
        tracing::error!(
            "no helper: {} is not run for process {}",
            kill.path.display(),
            kill.pid
        );
    }

    fn signal(&self, pid: i32, signal: Signal) {
        use rustix::process::{Pid, Signal as S, kill_process};
        let signal = match signal {
            Signal::Terminate => S::TERM,
            Signal::Kill => S::KILL,
        };
        // Process 1 and our own are nobody's client.
        let own = rustix::process::getpid();
        let Some(pid) = Pid::from_raw(pid).filter(|pid| !pid.is_init() && *pid != own) else {
            return;
        };
        if let Err(error) = kill_process(pid, signal) {
            tracing::warn!("no signal to process {}: {error}", pid.as_raw_nonzero());
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

    #[test]
    fn arguments_are_parted_by_blanks_that_are_not_escaped() {
        let path = |args: &str, with_pid| KillPath {
            path: "/sbin/lvmlockctl".into(),
            args: args.into(),
            with_pid,
        };
        for (args, with_pid, parts) in [
            ("--kill vg0", false, vec!["--kill", "vg0"]),
            ("--kill vg0", true, vec!["--kill", "vg0", "77"]),
            (r"a\ b  c\\d\", false, vec!["a b", r"c\d"]),
            ("", true, vec!["77"]),
            ("", false, vec![]),
        ] {
            assert_eq!(path(args, with_pid).of(77).args, parts, "{args:?}");
        }
    }
}
