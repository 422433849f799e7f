//! The words that the runtime and the volume speak: requests, outputs, configuration and status.
//! Plain data; no behaviour lives here.

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

use iscsi_client::login::{Credentials, Negotiated, Offer};
use iscsi_client::memory::BufferId;
use iscsi_client::time::Instant;
use iscsi_client::wire::{Isid, Lun, Tpgt};

use crate::identity::{Description, Identity};
use crate::note::Note;
use crate::path::damping::Damping;
use crate::path::stall::Stall;
use crate::policy::PerDirection;

/// Most paths of a volume.
pub const PATHS_MAX: usize = 8;
/// Most links: a data link and a fence link per path.
pub const LINKS_MAX: usize = 2 * PATHS_MAX;

/// A block request's tag, 0..depth. Its buffer is [`BufferId`] of the same number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tag(pub u16);

/// A TCP connection slot of the runtime, 0..[`LINKS_MAX`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u8);

/// A path of a volume, 0..[`PATHS_MAX`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PathId(pub u8);

/// What the block layer wants.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "the block layer's own names")]
pub enum Operation {
    Read,
    Write,
    Flush,
    Discard,
    WriteZeroes {
        /// Blocks may be deallocated.
        may_unmap: bool,
    },
}

/// A block request. Data are at the start of the tag's buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// Its name until it is answered.
    pub tag: Tag,
    /// What to do.
    pub operation: Operation,
    /// First logical block; 0 for a flush.
    pub lba: u64,
    /// Number of logical blocks; 0 for a flush.
    pub blocks: u32,
    /// The write must be on the medium when it is answered.
    pub fua: bool,
}

/// How a request failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum IoError {
    /// EIO: no path within the limit, or the target failed for good.
    Io,
    /// ENOSPC: the thin pool is full.
    NoSpace,
    /// EBADE: reservation conflict.
    Reserved,
    /// EROFS: write protected.
    ReadOnly,
    /// EOPNOTSUPP: the target lacks the command and there is no fallback.
    NotSupported,
    /// ENODATA: medium error.
    Medium,
    /// EBADE: the permission to write was revoked for good.
    Forbidden,
}

/// Whether what changes the medium may leave now. Whoever owns the volume decides that, for reasons that it does not know: a
/// lease on the data, say.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Permission {
    /// It may.
    #[default]
    Granted,
    /// Not now: it waits until the permission is granted again or revoked.
    Withheld,
    /// Never again: it fails with [`IoError::Forbidden`].
    Revoked,
}

/// An order of [`Volume::drain`](crate::Volume::drain), in order of their times.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct DrainId(pub u32);

/// What happens to requests while no path works (multipath's `no_path_retry`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NoPathRetry {
    /// Hold for ever.
    Queue,
    /// Fail at once.
    Fail,
    /// Hold so long, then fail in order of arrival and fail fast until a path is back.
    For(Duration),
}

/// How a path is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum PolicyKind {
    /// In turn over all usable paths of the best access class.
    RoundRobin,
    /// The first usable path in the order given; another only while it is down.
    Failover,
    /// The path with the fewest commands outstanding.
    QueueLength,
    /// The path that has the least to carry for its rate.
    ServiceTime,
    /// The path that would finish first, and no path while a better one is about to have room.
    #[default]
    LateBinding,
}

/// A path to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathConfig {
    /// What the operator calls it.
    pub portal_name: String,
    /// Where to connect.
    pub portal: SocketAddr,
    /// Interface to bind to; `None` where the portal is behind a gateway.
    pub interface: Option<String>,
    /// Target behind this portal.
    pub target_name: String,
    /// Portal group as discovery named it; the login decides.
    pub portal_group: Option<Tpgt>,
    /// This path's part of the session identity, stable over restarts and distinct from every other path's.
    pub isid: Isid,
}

/// Buffers for second copies of reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpareBuffers {
    /// The first; the others follow. The first [`PATHS_MAX`] of them are bins, one per path, for data that nobody
    /// waits for any more.
    pub first: BufferId,
    /// How many in all; up to [`PATHS_MAX`]: no read ever gets a second copy.
    pub count: u16,
    /// Length of each in bytes. Longer reads get no second copy.
    pub len: u32,
}

/// Everything a volume needs at birth.
#[derive(Clone, Debug)]
pub struct VolumeConfig {
    /// Requests at most: tags are 0..depth.
    pub depth: u16,
    /// Buffer of link `l` for the volume's own small commands is `first_scratch + l`.
    pub first_scratch: BufferId,
    /// Length of a scratch buffer in bytes, at least 64 KiB.
    pub scratch_len: u32,
    /// Length of a tag's buffer in bytes.
    pub io_len_max: u32,
    /// For second copies of reads.
    pub spares: SpareBuffers,
    /// Our iSCSI name.
    pub initiator_name: String,
    /// CHAP, or nothing.
    pub credentials: Option<Credentials>,
    /// Operational proposals.
    pub offer: Offer,
    /// The LUN.
    pub lun: Lun,
    /// What the probing login found; every path must match its identity.
    pub description: Description,
    /// All paths down.
    pub no_path_retry: NoPathRetry,
    /// Path choice.
    pub policy: PolicyKind,
    /// LOGICAL UNIT RESET may be a part of a fence. It aborts the commands of every host on this LUN.
    pub allow_lun_reset: bool,
    /// Seed of the jitter of backoffs.
    pub seed: u64,
}

/// How to close a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CloseHow {
    /// RST: bytes in the kernel's queue die with it.
    Abort,
    /// FIN, after a logout.
    Orderly,
}

/// How a connection was lost: evidence that needs no waiting.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lost {
    /// We closed it.
    Ours,
    /// The target sent FIN.
    Fin,
    /// The target sent RST.
    Reset,
    /// Nobody listens there.
    Refused,
    /// No answer to the connection request.
    ConnectTimeout,
    /// The kernel's own limit for unacknowledged data.
    TimedOut,
    /// No route, or the network says that it cannot be reached.
    Unreachable,
    /// The interface to bind to does not exist.
    NoInterface,
    /// Anything else that the socket reported, by its errno.
    Io(i32),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lost::Ours => f.write_str("closed by us"),
            Lost::Fin => f.write_str("closed by the target"),
            Lost::Reset => f.write_str("reset by the target"),
            Lost::Refused => f.write_str("connection refused: nothing listens there"),
            Lost::ConnectTimeout => f.write_str("no answer to the connection request in time"),
            Lost::TimedOut => f.write_str("sent data stayed unacknowledged too long"),
            Lost::Unreachable => f.write_str("no route to the target"),
            Lost::NoInterface => f.write_str("the interface to bind to does not exist"),
            Lost::Io(errno) => write!(f, "socket error {errno}"),
        }
    }
}

/// What TCP knows about a connection (`TCP_INFO`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TcpProgress {
    /// Bytes of ours that the peer has acknowledged, since some fixed moment.
    pub acked: u64,
    /// Bytes received in order, since some fixed moment.
    pub received: u64,
    /// Segments that were sent and are not acknowledged. 0 while the peer's window is closed.
    pub unacked: u32,
    /// Since the last acknowledgement of any kind, also one that acknowledged nothing new.
    pub since_ack: Duration,
    /// Since bytes were last received.
    pub since_data: Duration,
    /// Since bytes were last put on the wire.
    pub since_sent: Duration,
    /// Smoothed round trip.
    pub rtt: Option<Duration>,
    /// Smallest round trip lately.
    pub min_rtt: Option<Duration>,
}

/// Why a silent path was given up. The times are those without any acknowledgement of what was on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Dead {
    /// Another path to the same target showed life in that time.
    WhileOthersLive {
        /// How long.
        silence: Duration,
    },
    /// There is no other path to compare.
    Alone {
        /// How long.
        silence: Duration,
    },
    /// All paths are silent.
    Together {
        /// How long.
        silence: Duration,
    },
}

impl fmt::Display for Dead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (silence, what) = match self {
            Dead::WhileOthersLive { silence } => (silence, " while another path was answered"),
            Dead::Alone { silence } => (silence, ""),
            Dead::Together { silence } => (silence, ", nor was anything on any other path"),
        };
        let millis = silence.as_millis();
        write!(f, "nothing was acknowledged for {millis} ms{what}")
    }
}

/// What the runtime must do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Answer the block layer; nothing can touch the tag's buffer any more.
    Complete {
        /// Which request.
        tag: Tag,
        /// How it ended.
        result: Result<(), IoError>,
    },
    /// Copy `len` bytes from the start of `spare` to `offset` of the tag's buffer, before anything else is sent or
    /// received.
    Publish {
        /// Where they are.
        spare: BufferId,
        /// Whose buffer.
        tag: Tag,
        /// Where they belong in it.
        offset: u32,
        /// How many.
        len: u32,
    },
    /// Take back the receive that is armed on this link, if there is one, report what it had received, and then
    /// report [`Volume::rearmed`]; only then arm another.
    Rearm {
        /// Which connection.
        link: LinkId,
    },
    /// Connect and report [`Volume::connected`] or [`Volume::lost`].
    Connect {
        /// Slot to use; free now.
        link: LinkId,
        /// Portal.
        to: SocketAddr,
        /// Interface to bind to: that of the path whose portal it is.
        path: PathId,
    },
    /// Close and report [`Volume::lost`] when nothing can touch a buffer any more.
    Close {
        /// Which connection.
        link: LinkId,
        /// How.
        how: CloseHow,
    },
    /// No write that was sent before this drain, or an earlier one, was ordered can execute any more.
    Drained(DrainId),
    /// Something the operator may want to know. Bounded: the oldest are dropped and counted.
    Note(Note),
}

/// State of a path, for display and JSON.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PathState {
    /// Waiting for the next attempt.
    Down {
        /// Why, in one sentence.
        why: String,
        /// When the next attempt is made.
        retry_at: Instant,
    },
    /// TCP connect under way.
    Connecting,
    /// Login under way.
    LoggingIn,
    /// Identity is being checked.
    Verifying,
    /// Carries IO.
    Up,
    /// Logged in and verified, but the target says this port does not serve the LUN now (ALUA).
    Standby,
    /// The connection is being closed.
    Closing,
    /// Not tried again until the operator acts; the sentence says why and what to do.
    Refused {
        /// The sentence.
        why: String,
    },
    /// Failed by the operator: not tried again until he restores it.
    Offline,
    /// Removed by the operator; shown while its last session is not proven dead.
    Removed,
}

/// A write that was sent and not answered before its session was lost, and is not fenced yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnresolvedWrite {
    /// First logical block.
    pub lba: u64,
    /// Number of logical blocks.
    pub blocks: u32,
    /// Identity of the session it was sent on.
    pub isid: Isid,
    /// Portal group of that session. A login in another group fences nothing, however equal the ISID.
    pub portal_group: Option<Tpgt>,
}

impl UnresolvedWrite {
    /// Whatever an earlier run may have had under way on this session: every block of a LUN of `blocks` blocks. For a run
    /// that ended without saying what it leaves behind.
    pub fn anything(
        blocks: u64,
        isid: Isid,
        portal_group: Option<Tpgt>,
    ) -> impl Iterator<Item = UnresolvedWrite> {
        let most = u64::from(u32::MAX);
        (0..blocks.div_ceil(most)).map(move |part| {
            let lba = part * most;
            UnresolvedWrite {
                lba,
                blocks: u32::try_from((blocks - lba).min(most)).unwrap_or(u32::MAX),
                isid,
                portal_group,
            }
        })
    }
}

/// What proves, or would prove, that a dead session of a path is dead. [`crate::ladder`] tells of each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FenceKind {
    /// The path never carried IO.
    NotNeeded,
    /// A login with its ISID: through another portal of its portal group, or by its own return.
    Reinstatement,
    /// LOGICAL UNIT RESET, where the operator allows it.
    LunReset,
    /// Waiting, and a last command through a living path.
    TimedHold,
    /// The path's own return alone: the volume has no other path.
    OwnReturn,
}

/// Fences that were made, from the loss of the session to the proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FenceTimes {
    /// How many.
    pub done: u64,
    /// How long the last took; `None` also after sessions of an earlier run, whose loss nobody saw.
    pub last: Option<Duration>,
    /// How long the longest took.
    pub longest: Option<Duration>,
}

impl FenceTimes {
    /// One more.
    pub(crate) fn count(&mut self, took: Option<Duration>) {
        self.done += 1;
        self.last = took;
        self.longest = self.longest.max(took);
    }
}

/// What a path can do, as its own answers show it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PathPace {
    /// B: bytes per second that it would carry, never 0. A guess until it carried some in that direction.
    pub rate: PerDirection<u64>,
    /// W: bytes that may be outstanding.
    pub window: PerDirection<u64>,
    /// What an answer takes beside the queue's own time: round trip and medium, smoothed.
    pub latency: Duration,
    /// E: how much later than predicted its answers came lately; falls by itself.
    pub stall: Stall,
    /// It came back lately and carries little until it has proven itself.
    pub probation: bool,
}

/// One path for `status`.
#[derive(Clone, PartialEq, Debug)]
pub struct PathStatus {
    /// Which.
    pub id: PathId,
    /// As configured.
    pub config: PathConfig,
    /// Its state.
    pub state: PathState,
    /// Since when.
    pub since: Instant,
    /// Why it carries no IO, and since when: the last attempt's reason, also while the next one is under way.
    pub trouble: Option<(String, Instant)>,
    /// Portal group named by the login.
    pub portal_group: Option<Tpgt>,
    /// Terms of the present session.
    pub negotiated: Option<Negotiated>,
    /// Commands in flight.
    pub in_flight: u32,
    /// Requests completed through this path.
    pub completed: u64,
    /// Payload bytes read through this path.
    pub bytes_read: u64,
    /// Payload bytes written through this path.
    pub bytes_written: u64,
    /// Times the path was lost after it was up.
    pub losses: u64,
    /// Smallest round trip of a ping or small command seen lately, in nanoseconds.
    pub round_trip_ns: Option<u64>,
    /// It is suspect since then: new requests take other paths, if there are any.
    pub suspect_since: Option<Instant>,
    /// What it did wrong lately: the penalty falls by itself.
    pub damping: Damping,
    /// Rates, windows, delays.
    pub pace: PathPace,
    /// How the dead session of this path would be fenced now: a sentence for `status`.
    pub fence: String,
    /// The same as a word.
    pub fence_kind: FenceKind,
    /// How long the timed hold of this path takes, from the loss of its session on.
    pub hold: Duration,
    /// Fences of its dead sessions.
    pub fences: FenceTimes,
}

/// A volume for `status`.
#[derive(Clone, PartialEq, Debug)]
pub struct VolumeStatus {
    /// Who it is.
    pub identity: Identity,
    /// All paths.
    pub paths: Vec<PathStatus>,
    /// Requests accepted and not yet answered.
    pub in_flight: u32,
    /// Of these, how many wait for a path.
    pub waiting: u32,
    /// Writes whose answer waits for a fence.
    pub held: u32,
    /// Fences of all paths.
    pub fences: FenceTimes,
    /// Unresolved writes, bounded list.
    pub unresolved: Vec<UnresolvedWrite>,
    /// No path works since then.
    pub all_paths_down_since: Option<Instant>,
    /// Present setting.
    pub no_path_retry: NoPathRetry,
    /// Present setting.
    pub policy: PolicyKind,
    /// Whether writes may leave, and since when that is so; `None` if it was never otherwise.
    pub permission: (Permission, Option<Instant>),
    /// Requests that would change the medium and have something to send.
    pub waiting_writes: u32,
    /// An earlier acknowledged write was lost by the target (deferred error); how often.
    pub deferred_errors: u64,
    /// The smallest capacity in blocks that a usable path reports, if that is less than the identity's, which follows a
    /// LUN that grows and never one that shrinks.
    pub shrunk_to: Option<u64>,
}
