//! What a verb says when it cannot do its work: the object, the cause and the next thing to try, and the exit code.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The class of a failure. Each is an exit code of the program, and part of its interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Anything not named below.
    Failed,
    /// The command line, the configuration or a secrets file is wrong. Nothing was tried.
    Usage,
    /// No such volume, target, LUN, device or lease area.
    NotFound,
    /// It exists and may not be done now: in use, already attached by somebody else.
    Refused,
    /// The daemon does not answer, or speaks another version.
    Daemon,
    /// Several targets or LUNs fit: the message lists them.
    Ambiguous,
    /// No portal answered.
    Unreachable,
    /// A portal answered and refused us: authentication, access list.
    Denied,
    /// This kernel cannot: no ublk driver, io_uring switched off, a kernel that must not be used.
    Kernel,
    /// A step did not end within its time.
    TimedOut,
    /// Another host holds the lease.
    Held,
}

impl Kind {
    /// The process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::NotFound => 3,
            Kind::Refused => 4,
            Kind::Daemon => 5,
            Kind::Ambiguous => 6,
            Kind::Unreachable => 7,
            Kind::Denied => 8,
            Kind::Kernel => 9,
            Kind::TimedOut => 10,
            Kind::Held => 11,
        }
    }
}

/// A failure as the operator reads it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// The class.
    pub kind: Kind,
    /// Object and cause: `portal 10.0.0.1: connection refused`.
    pub what: String,
    /// The next thing to try, a sentence or a command; may be empty where nothing helps.
    pub next: String,
}

impl Failure {
    /// A failure with its remedy.
    pub fn new(kind: Kind, what: impl Into<String>, next: impl Into<String>) -> Failure {
        Failure {
            kind,
            what: what.into(),
            next: next.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if !self.next.is_empty() {
            write!(f, "\n  next: {}", self.next)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
