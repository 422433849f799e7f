//! One ISID of the keeper: the session that it has now, and what its dead sessions may still do.
//!
//! ```text
//!            connect                 login               check passed
//!   Idle ------------> Connecting ----------> Open: LoggingIn --> Checking --> Serving
//!    ^                     |                           |             |   ^        |  doubt about the LUN
//!    +----- pause ---------+------- lost, given up ----+-------------+   +--------+
//!                                                                    +--> Leaving: a fence through another portal is made
//! ```
//!
//! A nexus has one connection at a time, which goes through its own portal, or through another portal of the same
//! portal group when that is the way to end a dead session. So two sessions of one ISID never meet.

use std::fmt;
use std::net::SocketAddr;

use iscsi_client::session::{Closed, Session};
use iscsi_client::time::Instant;
use iscsi_client::wire::{Isid, Tpgt};
use multipath::identity::Difference;
use multipath::{Probe, ProbeFailure};

use super::SanPortal;
use super::debt::Debt;
use super::silence::Silence;

/// An ISID and its life.
#[derive(Debug)]
pub(super) struct Nexus {
    /// Its own portal.
    pub portal: SanPortal,
    pub isid: Isid,
    pub phase: Phase,
    /// Of the phase.
    pub since: Instant,
    /// Why it does not serve, or did not before.
    pub trouble: Option<Trouble>,
    /// Attempts in a row that came to nothing.
    pub failures: u32,
    /// Where its last session through its own portal was logged in.
    pub group: Option<Tpgt>,
    pub debt: Option<Debt>,
    pub silence: Silence,
    /// Others are better until then.
    pub aside_until: Instant,
    /// Where the target sent the last login, for the next attempt only.
    pub redirect: Option<SocketAddr>,
    /// An old target choked on the longer list.
    pub md5_only: bool,
}

/// What its connection does.
#[derive(Debug)]
pub(super) enum Phase {
    /// Nothing until then.
    Idle { until: Instant },
    /// `via` is the index of the nexus whose portal it goes through.
    Connecting { via: usize, deadline: Instant },
    /// There is a connection.
    Open {
        via: usize,
        session: Box<Session>,
        stage: Stage,
    },
}

/// How far a session is.
#[derive(Debug)]
pub(super) enum Stage {
    LoggingIn,
    /// The LUN is asked who it is, after it has ended what a dead session left.
    Checking {
        probe: Box<Probe>,
        why: Check,
        began: Instant,
        until: Instant,
    },
    /// `asked`: a command was late, and the target has not said yet whether it is there.
    Serving {
        asked: bool,
    },
    Leaving {
        until: Instant,
    },
}

/// What a check is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Check {
    /// A login is followed by it, and both together prove the session before dead.
    Login,
    /// Something was said about the LUN; or a timed hold wants its last word.
    Doubt,
}

impl Nexus {
    /// Whether jobs may be sent on it now.
    pub fn serves(&self) -> bool {
        matches!(
            self.phase,
            Phase::Open {
                stage: Stage::Serving { .. },
                ..
            }
        )
    }

    /// The session, if there is one.
    pub fn session_mut(&mut self) -> Option<&mut Session> {
        match &mut self.phase {
            Phase::Open { session, .. } => Some(session),
            Phase::Idle { .. } | Phase::Connecting { .. } => None,
        }
    }
}

/// Why a session is not there, or was given up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// No TCP connection came about, or it ended.
    Connection(std::io::ErrorKind),
    /// The target ended the connection.
    PeerClosed,
    /// No answer to a TCP connect.
    ConnectTimeout,
    /// The interface has no carrier.
    NoCarrier,
    /// The session ended.
    Closed(Closed),
    /// Another LUN answers.
    OtherLun(Difference),
    /// The LUN cannot be used through this portal.
    Unusable(ProbeFailure),
    /// The questions about the LUN came to no end.
    CheckTimeout,
    /// A fence's login landed in another portal group.
    OtherPortalGroup,
    /// A command of ours was aborted, or lost, in the target.
    CommandLost,
    /// A command was not answered within `io_timeout`.
    Unanswered,
    /// A write came to its deadline.
    Deadline,
    /// TCP had no acknowledgement, while another portal lived.
    Silent,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Connection(kind) => write!(f, "no TCP connection: {kind}"),
            Trouble::PeerClosed => f.write_str("the target closed the connection"),
            Trouble::ConnectTimeout => f.write_str("no answer to a TCP connect"),
            Trouble::NoCarrier => f.write_str("the interface has no carrier"),
            Trouble::Closed(why) => write!(f, "{why}"),
            Trouble::OtherLun(difference) => write!(f, "{difference}"),
            Trouble::Unusable(failure) => write!(f, "{failure}"),
            Trouble::CheckTimeout => f.write_str("the LUN did not answer who it is in time"),
            Trouble::OtherPortalGroup => f.write_str("the login landed in another portal group"),
            Trouble::CommandLost => f.write_str("the target aborted or lost a command"),
            Trouble::Unanswered => f.write_str("a command was not answered"),
            Trouble::Deadline => f.write_str("a write was not answered in time"),
            Trouble::Silent => f.write_str("nothing was acknowledged, while another portal lived"),
        }
    }
}
