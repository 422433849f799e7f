//! What is shown of lockspaces and leases.

use serde::{Deserialize, Serialize};

/// Answer to `lease status`, and to `lease join`: the lockspaces that this host is a member of.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LockspacesReport {
    /// In the order of their names.
    pub lockspaces: Vec<LockspaceReport>,
}

/// How this host stands in a lockspace.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockspaceWord {
    /// The host id is being taken.
    Joining,
    /// It is ours.
    Joined,
    /// It is not renewed any more. When the disk answers again it is taken anew and the leases are won back.
    Lost,
    /// It is ours again; leases are being won back.
    Reclaiming,
    /// Leases could not be won back.
    Refused,
    /// It is being given back.
    Leaving,
    /// Its thread does not answer.
    Stuck,
}

/// A lockspace that this host is a member of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LockspaceReport {
    /// Its name.
    pub name: String,
    /// The device or file.
    pub path: String,
    /// Where its area begins.
    pub offset_bytes: u64,
    /// Our number.
    pub host_id: u64,
    /// Our unique name.
    pub host_name: String,
    /// How often the number was taken; 0 while it is being taken.
    pub generation: u64,
    /// How long we give one I/O, in seconds: all other times follow from it.
    pub io_timeout_s: u16,
    /// How we stand.
    pub state: LockspaceWord,
    /// For so long.
    pub seconds: u64,
    /// Why, where it is lost.
    pub reason: Option<String>,
    /// Milliseconds since the start of the last renewal that completed.
    pub renewed_ms: Option<u64>,
    /// What the last renewals took; `None` before the first.
    #[serde(default)]
    pub renewals: Option<RenewalsReport>,
    /// Every host that ever joined, we too, as the last renewal showed them.
    pub hosts: Vec<HostReport>,
    /// What we hold.
    pub leases: Vec<LeaseReport>,
    /// Areas of leases that are being acquired.
    pub acquiring_offsets: Vec<u64>,
    /// Those on other devices than the lockspace's: `PATH:OFFSET`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acquiring_elsewhere: Vec<String>,
    /// The volume that it lies on, where sanblk carries it.
    pub volume: Option<String>,
    /// All volumes whose writes depend on it: that one, and those of its volume group.
    pub guards: Vec<String>,
    /// The volume group that it lies in.
    pub volume_group: Option<String>,
    /// Why a part of that is not guarded.
    pub unguarded: Option<String>,
    /// Its sessions of its own there, one per portal.
    pub sessions: Vec<KeeperSessionReport>,
    /// Commands that make this host a member again that can hold leases, without a reboot; none unless they are lost for good.
    #[serde(default)]
    pub way_back: Vec<String>,
}

/// The last renewals of a lockspace, at most 180. A renewal reads the area of the host ids, and then writes our slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RenewalsReport {
    /// How many.
    pub count: usize,
    /// What the last one took, in milliseconds.
    pub last_ms: u64,
    /// What the slowest one took, in milliseconds.
    pub slowest_ms: u64,
    /// Reads and writes that ended since the first of them because they took an `io_timeout`.
    pub timeouts: u64,
    /// Those that failed sooner.
    pub errors: u64,
}

/// What a lockspace's session does, as one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeeperSessionWord {
    /// There is none; the next attempt follows.
    Down,
    /// Making the TCP connection.
    Connecting,
    /// Logging in.
    Login,
    /// Asking the LUN who it is.
    Checking,
    /// Ready, in case the current one fails.
    Ready,
    /// Renewals go through it.
    Current,
    /// Ending its dead session through another portal.
    Fencing,
    /// Logging out.
    Closing,
}

/// A session of a lockspace's own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeeperSessionReport {
    /// As the operator wrote it.
    pub portal: String,
    /// What it does.
    pub state: KeeperSessionWord,
    /// For so long.
    pub seconds: u64,
    /// Why it is not up, or what went wrong last.
    pub reason: Option<String>,
    /// Whether writes of its last session may still land.
    pub in_doubt: bool,
}

/// Whether a host lives, in sanlock's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HostWord {
    /// Nobody has its number.
    Free,
    /// Its record was there when we came, and no change was seen yet.
    Unknown,
    /// It renews.
    Live,
    /// It has not renewed for 8 io_timeouts.
    Fail,
    /// What it holds may be taken.
    Dead,
}

/// A host of a lockspace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HostReport {
    /// Its number.
    pub host_id: u64,
    /// Its unique name.
    pub name: String,
    /// Whether it lives.
    pub state: HostWord,
    /// How often the number was taken.
    pub generation: u64,
    /// Its I/O timeout in seconds.
    pub io_timeout_s: u16,
}

/// How a lease is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModeWord {
    /// By one host alone.
    Exclusive,
    /// By several.
    Shared,
}

/// A lease that this host holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LeaseReport {
    /// Its name.
    pub name: String,
    /// Its lockspace.
    pub lockspace: String,
    /// The device or file, where it is not the lockspace's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Where its area begins.
    pub offset_bytes: u64,
    /// How it is held.
    pub mode: ModeWord,
    /// The version in which it was acquired.
    pub lver: u64,
    /// The clients of sanlock's socket that have it; empty where the operator does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_for: Vec<String>,
    /// The logical volume that it is the lease of, where LVM's metadata tells.
    pub lv: Option<String>,
}
