//! One path: its states, what it remembers over reconnects, and what its session is used for.
//!
//! ```text
//!            connect      connected       login done      checks pass
//!   Down ------------> Connecting ----> LoggingIn -----> Verifying -----> Up <---> Standby
//!    ^  backoff            |  |             |                |            |           |
//!    |                     |  +-> Parked ---+ (a fence of the same group is logging in) |
//!    |                     v                v                v            v           v
//!    +----- lost -------- Closing <--------- anything goes wrong --------- Leaving <---+
//!                            |                                            (asked to log out)
//!                            +--> Refused: not tried again until the operator acts
//!                            +--> Offline: taken out by the operator, until he restores it
//!                            +--> Removed: gone, but for the proof that its last session is dead
//! ```
//!
//! The order of events and their effect on requests is the volume's; nothing here waits, sends or decides about
//! a write.

pub(crate) mod activation;
pub(crate) mod backoff;
pub(crate) mod check;
pub(crate) mod contest;
pub mod damping;
pub(crate) mod depth;
pub mod errors;
pub mod load;
pub mod meter;
pub mod ramp;
pub(crate) mod silence;
pub mod stall;
pub(crate) mod transition;
pub mod window;

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

use iscsi_client::login::Negotiated;
use iscsi_client::session::{Handle, Session};
use iscsi_client::time::Instant;
use iscsi_client::wire::Tpgt;

use crate::contract::{PathConfig, PathState};
use crate::fence::Nexus;
use crate::policy::{AccessClass, Standing};
use crate::task::TaskId;
use backoff::Backoff;
use check::Check;
use contest::Contest;
use damping::{Blame, Damping};
use depth::Depth;
use errors::{Ended, Errors};
use load::Load;
use silence::Silence;
use transition::Transition;

/// TCP connect; a portal on a storage network answers in milliseconds or not at all.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// A login that ends no unresolved session.
pub(crate) const LOGIN_TIMEOUT: Duration = Duration::from_secs(15);
/// A login that must wait for the backend commands of the session it ends (LIO waits for them without limit).
pub(crate) const FENCE_LOGIN_TIMEOUT: Duration = Duration::from_secs(60);
/// A command of an examination.
pub(crate) const CHECK_TIMEOUT: Duration = Duration::from_secs(15);
/// SET TARGET PORT GROUPS is answered when the target has moved the LUN.
const ACTIVATION_TIMEOUT: Duration = Duration::from_secs(60);
/// Port groups and capacity are read again after so long.
pub(crate) const BRIEF_INTERVAL: Duration = Duration::from_secs(60);
/// A path in standby is asked again after so long.
pub(crate) const STANDBY_INTERVAL: Duration = Duration::from_secs(1);
/// A session that was up for so long was a good one: the next reconnect starts at the shortest backoff.
pub(crate) const GOOD_LIFE: Duration = Duration::from_secs(5);
/// Redirects followed for one login.
pub(crate) const HOPS_MAX: u8 = 4;

/// An examination on a session, and the command of it that is out.
#[derive(Debug)]
pub(crate) struct Examination {
    pub(crate) check: Check,
    pub(crate) out: Option<Sent>,
    /// Something changed while it was under way: once more, so much.
    pub(crate) again: Option<check::Extent>,
}

/// A command of the volume's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) handle: Handle,
    pub(crate) at: Instant,
}

impl Examination {
    pub(crate) fn new(check: Check) -> Examination {
        Examination {
            check,
            out: None,
            again: None,
        }
    }

    /// Without an answer until then, the session is given up.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let limit = match self.check.activates() {
            Some(_) => ACTIVATION_TIMEOUT,
            None => CHECK_TIMEOUT,
        };
        self.out.map(|sent| sent.at + limit)
    }
}

/// What follows when the connection is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum After {
    /// Another attempt after the backoff, and not before this pause.
    Retry { why: String, pause: Duration },
    /// The LUN is not there: as [`After::Retry`], but a permanent loss while it lasts.
    Gone { why: String },
    /// Another attempt at once, at this address.
    Connect(SocketAddr),
    /// No other attempt.
    Refuse { why: String },
    /// The volume ends, or the operator takes the path out.
    Stop,
}

/// What the operator wants of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Duty {
    /// To carry IO whenever it can.
    #[default]
    Serve,
    /// To stay down until he wants otherwise.
    Rest,
    /// To go.
    Leave,
}

/// Why a port does not serve the LUN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Inactive {
    /// The target says so.
    Settled,
    /// It is about to change.
    Changing(Transition),
    /// It has been about to change for too long.
    Stuck,
}

/// Where a path is.
#[derive(Debug)]
pub(crate) enum Phase {
    /// No connection.
    Down {
        why: String,
        retry_at: Instant,
        /// The last answer was that the LUN is not there.
        gone: bool,
    },
    /// TCP connect under way.
    Connecting { deadline: Instant },
    /// Connected; the login waits until a fence of the same portal group has ended.
    Parked { entropy: [u8; 32] },
    /// Login under way.
    LoggingIn,
    /// No new IO until the examination is over. `returning`: the path carried IO on this session before.
    Verifying {
        examination: Box<Examination>,
        returning: bool,
    },
    /// Carries IO.
    Up {
        examination: Option<Box<Examination>>,
        access: AccessClass,
        since: Instant,
        brief_at: Instant,
    },
    /// Verified or at least answered, but the port does not serve the LUN now.
    Standby {
        examination: Option<Box<Examination>>,
        poll_at: Instant,
        inactive: Inactive,
    },
    /// No new IO; logs out when idle, and is closed at the deadline.
    Leaving { deadline: Instant },
    /// Close was ordered; nothing is over until the runtime reports the link lost.
    Closing { after: After },
    /// Not tried again.
    Refused { why: String },
    /// Taken out by the operator, until he restores it.
    Offline,
    /// Gone; kept while its last session is not proven dead.
    Removed,
}

/// Counters for `status`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tallies {
    pub(crate) completed: u64,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
    pub(crate) losses: u64,
    pub(crate) round_trip_ns: Option<u64>,
}

/// A path of a volume.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) config: PathConfig,
    pub(crate) phase: Phase,
    pub(crate) duty: Duty,
    pub(crate) since: Instant,
    pub(crate) session: Option<Session>,
    /// Where the present or next connection goes: the portal, or where a redirect points.
    pub(crate) to: SocketAddr,
    pub(crate) hops: u8,
    /// Old targets: offer only MD5 from now on.
    pub(crate) md5_only: bool,
    pub(crate) backoff: Backoff,
    pub(crate) contest: Contest,
    pub(crate) depth: Depth,
    /// What it carries, and how well.
    pub(crate) load: Load,
    /// What it did wrong lately.
    pub(crate) damping: Damping,
    pub(crate) errors: Errors,
    pub(crate) silence: Silence,
    /// Its suspicion was acted on, since then.
    pub(crate) suspected: Option<Instant>,
    /// Portal group of the last login.
    pub(crate) portal_group: Option<Tpgt>,
    /// Group of the port within the LUN's target port groups.
    pub(crate) target_port_group: Option<u16>,
    /// The LUN behind it was last seen to have this volume's WWID.
    pub(crate) recognised: bool,
    /// Capacity that it reported last, in blocks; kept over reconnects.
    pub(crate) blocks: Option<u64>,
    /// The operator was told that it reports only so many blocks.
    pub(crate) told_short: Option<u64>,
    /// It was verified as this volume's at least once.
    pub(crate) verified: bool,
    /// Its session was cut because writes must not leave, and nothing has spoken against the path since.
    pub(crate) recalled: bool,
    /// Commands that want something written into their buffer before the next send.
    pub(crate) fills: Vec<TaskId>,
    pub(crate) tallies: Tallies,
    /// What the operator was told last.
    pub(crate) noted: Option<PathState>,
    /// Why it carries no IO, and since when; kept over attempts that have not failed yet.
    pub(crate) trouble: Option<(String, Instant)>,
}

impl Path {
    pub(crate) fn new(now: Instant, config: PathConfig, depth: u16) -> Path {
        Path {
            to: config.portal,
            phase: Phase::Down {
                why: "not tried yet".to_owned(),
                retry_at: now,
                gone: false,
            },
            duty: Duty::Serve,
            since: now,
            session: None,
            hops: 0,
            md5_only: false,
            backoff: Backoff::RECONNECT,
            contest: Contest::default(),
            depth: Depth::default(),
            load: Load::new(meter::START_RATE),
            damping: Damping::default(),
            errors: Errors::default(),
            silence: Silence::new(now),
            suspected: None,
            portal_group: config.portal_group,
            target_port_group: None,
            recognised: false,
            blocks: None,
            told_short: None,
            verified: false,
            recalled: false,
            fills: Vec::with_capacity(usize::from(depth)),
            tallies: Tallies::default(),
            noted: None,
            trouble: None,
            config,
        }
    }

    /// The session as the target names it, once the login has named the portal group.
    pub(crate) fn nexus(&self) -> Nexus {
        Nexus {
            isid: self.config.isid,
            portal_group: self.portal_group,
        }
    }

    /// Whether its session is established and not ending.
    pub(crate) fn is_established(&self) -> bool {
        matches!(
            self.phase,
            Phase::Verifying { .. } | Phase::Up { .. } | Phase::Standby { .. }
        )
    }

    /// Whether the operator should hear of this state: not of each attempt that fails for the same reason.
    pub(crate) fn is_news(&self, state: &PathState) -> bool {
        match (state, &self.noted) {
            (
                PathState::Connecting
                | PathState::LoggingIn
                | PathState::Verifying
                | PathState::Closing,
                _,
            ) => false,
            (PathState::Down { why, .. }, Some(PathState::Down { why: told, .. })) => why != told,
            (state, told) => Some(state) != told.as_ref(),
        }
    }

    /// The phase is about to change: a session that was up for long enough was a good one.
    pub(crate) fn leave_phase(&mut self, now: Instant) {
        if let Phase::Up { since, .. } = self.phase
            && now.since(since) >= GOOD_LIFE
        {
            self.backoff.reset();
        }
    }

    /// The phase has changed: the latest reason counts, and the time since IO was carried.
    pub(crate) fn keep_trouble(&mut self, now: Instant) {
        match &self.phase {
            Phase::Down { why, .. } | Phase::Refused { why } => {
                let since = self.trouble.take().map_or(now, |(_, since)| since);
                self.trouble = Some((why.clone(), since));
            }
            Phase::Up { .. } | Phase::Standby { .. } | Phase::Offline | Phase::Removed => {
                self.trouble = None;
            }
            _ => {}
        }
    }

    /// Whether it carries IO now, or did on this very session and is only being asked again.
    pub(crate) fn is_usable(&self) -> bool {
        matches!(
            self.phase,
            Phase::Up { .. }
                | Phase::Verifying {
                    returning: true,
                    ..
                }
        )
    }

    /// Whether it is on its way back to carrying IO, without a failure so far.
    pub(crate) fn is_returning(&self) -> bool {
        matches!(
            self.phase,
            Phase::Closing {
                after: After::Connect(_)
            } | Phase::Connecting { .. }
                | Phase::Parked { .. }
                | Phase::LoggingIn
                | Phase::Verifying { .. }
        )
    }

    /// Whether its port is about to serve the LUN, as far as one knows. That is no failure.
    pub(crate) fn is_changing(&self) -> bool {
        matches!(
            self.phase,
            Phase::Standby {
                inactive: Inactive::Changing(_),
                ..
            }
        )
    }

    /// The capacity that counts: what a path reports that carries IO.
    pub(crate) fn usable_blocks(&self) -> Option<u64> {
        self.blocks.filter(|_| self.is_usable())
    }

    /// Whether its last answer was that the LUN is not there, or is another one; nothing is to be hoped for from a path
    /// that was removed either.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(
            self.phase,
            Phase::Refused { .. } | Phase::Down { gone: true, .. } | Phase::Removed
        )
    }

    /// Forgets whatever speaks against another attempt, and against the path.
    pub(crate) fn forgive(&mut self) {
        self.contest.forget();
        self.backoff.reset();
        self.md5_only = false;
        self.damping = Damping::default();
        self.errors = Errors::default();
    }

    pub(crate) fn examination(&mut self) -> Option<&mut Examination> {
        match &mut self.phase {
            Phase::Verifying { examination, .. } => Some(examination),
            Phase::Up { examination, .. } | Phase::Standby { examination, .. } => {
                examination.as_deref_mut()
            }
            _ => None,
        }
    }

    pub(crate) fn negotiated(&self) -> Option<&Negotiated> {
        self.session.as_ref().and_then(Session::negotiated)
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.session.as_ref().map_or(0, Session::in_flight)
    }

    /// How far it is trusted.
    pub(crate) fn standing(&self, now: Instant) -> Standing {
        if self.is_suspect() {
            Standing::Suspect
        } else if self.damping.is_marginal(now) {
            Standing::Marginal
        } else {
            Standing::Full
        }
    }

    /// It has just stopped to carry IO. Its own fault, unless the target or the operator wanted it so, or no other path
    /// works either. Whether that has just made it marginal.
    pub(crate) fn blame_loss(&mut self, now: Instant, others_work: bool) -> bool {
        let unplanned = matches!(
            self.phase,
            Phase::Down { gone: false, .. }
                | Phase::Closing {
                    after: After::Retry { .. }
                }
        );
        let blame = if unplanned && others_work {
            Blame::Failed
        } else {
            Blame::Planned
        };
        self.damping.blame(now, blame)
    }

    /// A command ended. Too many that failed by the path's own fault make it marginal; true if it has just become so.
    pub(crate) fn note_ending(&mut self, now: Instant, ended: Ended) -> bool {
        let too_many = self.errors.note(ended);
        if too_many {
            self.damping.condemn(now);
        }
        too_many
    }

    /// Whether new IO should go elsewhere if it can: the path has been silent for too long, or completes nothing.
    pub(crate) fn is_suspect(&self) -> bool {
        self.silence.suspect_since().is_some()
    }

    /// Sends a ping: of itself because of its silence, or as a witness for another path's.
    pub(crate) fn probe(&mut self, now: Instant) {
        let nudges = self.silence.wants_nudge(now);
        let queued = self
            .session
            .as_mut()
            .is_some_and(|session| session.ping(now) || (nudges && session.nudge()));
        self.silence.probed(now, queued);
    }

    /// Whether a request may be sent on it now.
    pub(crate) fn is_open(&self) -> bool {
        self.session
            .as_ref()
            .is_some_and(|session| session.room() > 0 && self.depth.allows(session.in_flight()))
    }

    /// A small command came back after so long.
    pub(crate) fn note_round_trip(&mut self, now: Instant, time: Duration) {
        if self.load.meter().in_flight() == 0 {
            self.load.round_trip_seen(now, time);
        }
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let best = self
            .tallies
            .round_trip_ns
            .map_or(nanos, |best| best.min(nanos));
        self.tallies.round_trip_ns = Some(best);
    }

    /// When it needs attention by itself, beside its session's own timers.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let examination = |examination: &Option<Box<Examination>>| {
            examination
                .as_ref()
                .and_then(|examination| examination.deadline())
        };
        let earlier = |a: Option<Instant>, b: Instant| Some(a.map_or(b, |a| a.min(b)));
        match &self.phase {
            Phase::Down { retry_at, .. } => Some(*retry_at),
            Phase::Connecting { deadline } | Phase::Leaving { deadline } => Some(*deadline),
            Phase::Verifying { examination, .. } => examination.deadline(),
            Phase::Up {
                examination: out,
                brief_at,
                ..
            } => earlier(examination(out), *brief_at),
            Phase::Standby {
                examination: out,
                poll_at,
                ..
            } => earlier(examination(out), *poll_at),
            Phase::Parked { .. }
            | Phase::LoggingIn
            | Phase::Closing { .. }
            | Phase::Refused { .. }
            | Phase::Offline
            | Phase::Removed => None,
        }
    }

    /// The phase as `status` shows it.
    pub(crate) fn state(&self) -> PathState {
        match &self.phase {
            Phase::Down { why, retry_at, .. } => PathState::Down {
                why: why.clone(),
                retry_at: *retry_at,
            },
            Phase::Connecting { .. } => PathState::Connecting,
            Phase::Parked { .. } | Phase::LoggingIn => PathState::LoggingIn,
            Phase::Verifying { .. } => PathState::Verifying,
            Phase::Up { .. } => PathState::Up,
            Phase::Standby { .. } => PathState::Standby,
            Phase::Leaving { .. } | Phase::Closing { .. } => PathState::Closing,
            Phase::Refused { why } => PathState::Refused { why: why.clone() },
            Phase::Offline => PathState::Offline,
            Phase::Removed => PathState::Removed,
        }
    }
}

impl fmt::Display for PathState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathState::Down { why, .. } => write!(f, "down: {why}"),
            PathState::Connecting => f.write_str("connecting"),
            PathState::LoggingIn => f.write_str("logging in"),
            PathState::Verifying => f.write_str("verifying"),
            PathState::Up => f.write_str("up"),
            PathState::Standby => {
                f.write_str("standby: the target port does not serve the LUN now")
            }
            PathState::Closing => f.write_str("closing"),
            PathState::Refused { why } => write!(f, "refused: {why}"),
            PathState::Offline => f.write_str("offline: failed by the operator"),
            PathState::Removed => f.write_str("removed by the operator"),
        }
    }
}
