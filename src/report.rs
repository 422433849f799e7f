//! What is shown of a volume: one structure, rendered as text by [`crate::cli`] and as JSON as it is.
//!
//! The JSON is an interface: fields are added, never renamed. No secret can get in: nothing here has one.

mod lease;

use serde::{Deserialize, Serialize};

use crate::config::{NoPath, Policy};

pub use lease::{
    HostReport, HostWord, KeeperSessionReport, KeeperSessionWord, LeaseReport, LockspaceReport,
    LockspaceWord, LockspacesReport, ModeWord, RenewalsReport,
};

/// Answer to `status`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct StatusReport {
    /// The daemon; `null` where none runs.
    pub daemon: Option<DaemonReport>,
    /// All volumes, or the one asked for.
    pub volumes: Vec<VolumeReport>,
}

/// The daemon.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DaemonReport {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Log lines and notes that were dropped because nobody could take them.
    pub dropped_log_lines: u64,
    /// The lock manager for sanlock's clients; nothing where none was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_manager: Option<LockManagerReport>,
}

/// The lock manager for sanlock's clients.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LockManagerReport {
    /// The socket that it serves, or would.
    pub socket: String,
    /// Why it does not.
    pub off: Option<String>,
}

/// Health of a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Every path carries IO, or could.
    Up,
    /// Some paths do not.
    Degraded,
    /// None does.
    NoPath,
    /// The queue thread does not answer.
    Stuck,
}

/// A volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VolumeReport {
    /// `/dev/ublkb0`.
    pub device: String,
    /// As multipath-tools derives it.
    pub wwid: String,
    /// Links that survive a reboot, made by the udev rule.
    pub links: Vec<String>,
    /// Unit serial number.
    pub serial: String,
    /// T10 vendor.
    pub vendor: String,
    /// Product.
    pub product: String,
    /// Capacity in bytes.
    pub size_bytes: u64,
    /// Logical block length in bytes.
    pub block_bytes: u32,
    /// Write protected.
    pub read_only: bool,
    /// Target's iSCSI name.
    pub target: String,
    /// Logical unit number.
    pub lun: String,
    /// Our iSCSI name.
    pub initiator_name: String,
    /// Overall state.
    pub health: Health,
    /// How a path is chosen.
    pub policy: Policy,
    /// What requests do while no path works.
    pub no_path_retry: NoPath,
    /// Requests accepted and not answered.
    pub in_flight: u32,
    /// Of these, how many wait for a path.
    pub waiting: u32,
    /// Writes whose answer waits for the proof that an earlier copy is dead.
    pub held: u32,
    /// Fences that were made.
    pub fences: FencesReport,
    /// Unresolved writes.
    pub unresolved: u64,
    /// Acknowledged writes that the target lost later; how often it said so.
    pub deferred_errors: u64,
    /// Whether writes leave; `null` where no lease guards them.
    #[serde(default)]
    pub gate: Option<GateReport>,
    /// Since when no path works, in seconds.
    pub no_path_seconds: Option<u64>,
    /// All paths, in the order given.
    pub paths: Vec<PathReport>,
    /// What the operator should know, one sentence each.
    pub notes: Vec<String>,
}

/// Whether writes leave.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GateReport {
    /// The lockspace that keeps it; `null` where one had, and was left.
    pub lockspace: Option<String>,
    /// State.
    pub state: GateWord,
    /// Since when it is shut or refused, in UTC; `null` while it is open.
    pub since: Option<String>,
    /// Milliseconds until it shuts if no renewal comes; `null` unless it is open.
    pub open_ms: Option<u64>,
    /// Requests that would change the medium and wait for it.
    pub waiting_writes: u32,
    /// Commands that make writes possible again without a reboot, once nothing uses the volume any more; none unless they
    /// fail.
    #[serde(default)]
    pub way_back: Vec<String>,
}

/// State of a gate, as one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateWord {
    /// Writes leave.
    Open,
    /// They wait: the lease was not renewed in time.
    Shut,
    /// They fail: a lease is lost.
    Refused,
}

/// State of a path, as one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathWord {
    /// Carries IO.
    Up,
    /// Works, but the target wants IO elsewhere.
    Standby,
    /// Waits for its next attempt.
    Failed,
    /// TCP connect.
    Connecting,
    /// Login.
    Login,
    /// Identity check.
    Checking,
    /// Closing.
    Closing,
    /// Not tried again until the operator acts.
    Refused,
    /// Failed by the operator, until it is restored.
    Offline,
    /// Removed by the operator; its last session is not proven dead yet.
    Removed,
}

/// A path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PathReport {
    /// As the operator gave it.
    pub portal: String,
    /// Address in use.
    pub address: String,
    /// Interface it is bound to; `null` where the portal is behind a gateway.
    pub interface: Option<String>,
    /// Target behind it.
    pub target: String,
    /// Portal group.
    pub portal_group: Option<u16>,
    /// Our session identity.
    pub isid: String,
    /// State.
    pub state: PathWord,
    /// Seconds in this state; for a path that carries no IO, since it carried none.
    pub seconds: u64,
    /// Why, where it does not carry IO.
    pub reason: Option<String>,
    /// Milliseconds to the next attempt.
    pub retry_ms: Option<u64>,
    /// Smallest round trip seen lately, in nanoseconds.
    pub round_trip_ns: Option<u64>,
    /// Terms of the session.
    pub session: Option<SessionReport>,
    /// How far it is trusted.
    pub standing: StandingWord,
    /// What is left of the blame for failures and the like: marginal from 2000 until it is below 750; halves in 15 s.
    pub penalty: u64,
    /// Seconds until it is good again, where it is marginal.
    pub marginal_seconds: Option<u64>,
    /// It came back lately and carries little at first.
    pub probation: bool,
    /// What it would carry from the target; a guess until it has carried some.
    pub read_bytes_per_second: u64,
    /// The same to the target.
    pub write_bytes_per_second: u64,
    /// Bytes of reads that may be outstanding.
    pub read_window_bytes: u64,
    /// Bytes of writes that may be outstanding.
    pub write_window_bytes: u64,
    /// What an answer takes beside its own queue: round trip and medium, in nanoseconds.
    pub latency_ns: u64,
    /// How much later than predicted its answers came lately, in nanoseconds.
    pub stall_penalty_ns: u64,
    /// Commands in flight.
    pub in_flight: u32,
    /// Requests completed.
    pub completed: u64,
    /// Payload bytes read.
    pub bytes_read: u64,
    /// Payload bytes written.
    pub bytes_written: u64,
    /// Times it was lost after it was up.
    pub losses: u64,
    /// How its dead session would be fenced: a sentence.
    pub fence: String,
    /// The same as a word.
    pub fence_kind: FenceWord,
    /// Seconds of the timed hold, from the loss of its session on.
    pub fence_hold_seconds: u64,
    /// Fences of its dead sessions.
    pub fences: FencesReport,
}

/// How far a path is trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StandingWord {
    /// Nothing against it.
    #[default]
    Full,
    /// It flaps, or fails too many commands: other paths go first for a while.
    Marginal,
    /// It is silent just now: new IO takes another path, if there is one.
    Suspect,
}

/// What would prove that a path's dead session is dead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FenceWord {
    /// It never carried IO.
    NotNeeded,
    /// A login with its ISID through another portal of its portal group.
    Reinstatement,
    /// Its own return, or waiting.
    TimedHold,
    /// Its own return: there is no other path.
    OwnReturn,
}

/// Fences, from the loss of the session to the proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FencesReport {
    /// How many.
    pub done: u64,
    /// Milliseconds that the last took.
    pub last_ms: Option<u64>,
    /// Milliseconds that the longest took.
    pub longest_ms: Option<u64>,
}

/// Terms of a session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionReport {
    /// CRC32C over headers.
    pub header_digest: bool,
    /// CRC32C over data.
    pub data_digest: bool,
    /// `none`, `chap` or `mutual-chap`, with the algorithm.
    pub authentication: String,
    /// What we may send in one PDU, in bytes.
    pub max_send_data_segment_length: u32,
    /// What we take in one PDU, in bytes.
    pub max_recv_data_segment_length: u32,
    /// MaxBurstLength.
    pub max_burst_length: u32,
    /// FirstBurstLength.
    pub first_burst_length: u32,
    /// MaxOutstandingR2T.
    pub max_outstanding_r2t: u16,
    /// InitialR2T.
    pub initial_r2t: bool,
    /// ImmediateData.
    pub immediate_data: bool,
}

/// Answer to `attach`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AttachReport {
    /// The volume.
    pub volume: VolumeReport,
    /// False where it was attached before.
    pub new: bool,
    /// Portals that discovery offers beside those given.
    pub other_portals: Vec<String>,
}

/// Answer to `events`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct EventsReport {
    /// Older events that are forgotten, of all volumes.
    pub forgotten: u64,
    /// The latest, oldest first.
    pub events: Vec<EventReport>,
}

/// Something that happened to a volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EventReport {
    /// When, in UTC: `2026-01-31T12:00:00.123Z`.
    pub time: String,
    /// The volume's device then; of a lockspace on no volume of ours its file or device.
    pub device: String,
    /// The volume; empty if it is none of ours.
    pub wwid: String,
    /// Portal of the path that it happened to; `null` for the volume as a whole.
    pub portal: Option<String>,
    /// The path's new state, where it changed.
    pub state: Option<PathWord>,
    /// What happened and why: one sentence.
    pub text: String,
}

/// Answer to `discover`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DiscoverReport {
    /// What each portal said.
    pub portals: Vec<PortalReport>,
}

/// What one portal said.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PortalReport {
    /// As given.
    pub portal: String,
    /// Interface it is reached through, where it is on a connected network.
    pub interface: Option<String>,
    /// Why it said nothing.
    pub error: Option<String>,
    /// Targets it knows.
    pub targets: Vec<TargetReport>,
}

/// A target.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TargetReport {
    /// Its iSCSI name.
    pub name: String,
    /// Where it says it is: `host:port,group`.
    pub addresses: Vec<String>,
    /// Its logical units, as far as it lets us see them.
    pub luns: Vec<LunReport>,
    /// Why the logical units are not known.
    pub error: Option<String>,
}

/// A logical unit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LunReport {
    /// Its number.
    pub lun: String,
    /// As multipath-tools derives it; `null` where it cannot be used.
    pub wwid: Option<String>,
    /// T10 vendor and product.
    pub product: String,
    /// Capacity in bytes.
    pub size_bytes: u64,
    /// Logical block length in bytes.
    pub block_bytes: u32,
    /// Why it cannot be used.
    pub error: Option<String>,
}
