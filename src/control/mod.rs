//! The control protocol: JSON lines over a Unix socket that root alone can use.
//!
//! One connection is one request: the client sends an [`Envelope`] as one line; the daemon answers any number of
//! [`Line::Progress`] and one [`Line::Done`] or [`Line::Failed`], and closes. Lines are bounded, every wait has a
//! limit, and a client that sends nonsense loses its own connection only.

pub mod client;
pub mod server;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{NoPath, Settings};
use crate::failure::Failure;
use crate::portal::Portal;
use crate::report::{
    AttachReport, EventsReport, LeaseReport, LockspacesReport, ModeWord, StatusReport,
};

/// Raised whenever a message changes its meaning.
pub const PROTOCOL: u32 = 1;
/// This program's version; tool and daemon must be the same build of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Longest request line in bytes.
pub const REQUEST_MAX: u64 = 64 * 1024;
/// Longest answer line in bytes: 64 volumes of 8 paths fit many times.
pub const ANSWER_MAX: u64 = 16 * 1024 * 1024;
/// A client sends its line within this time; a reader takes each of ours within it.
pub const LINE_TIMEOUT: Duration = Duration::from_secs(10);
/// The daemon says something at least this often, so that silence means that it hangs.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// A request with the versions it is meant for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// [`PROTOCOL`] of the client.
    pub protocol: u32,
    /// [`VERSION`] of the client.
    pub version: String,
    /// What it wants. Parsed after the versions were compared, as it may be of a kind that this daemon lacks.
    pub request: serde_json::Value,
}

/// What a client wants.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Whether the daemon answers.
    Ping,
    /// A LUN as a block device.
    Attach(AttachRequest),
    /// Its end.
    Detach {
        /// `/dev/ublkbN`, `ublkbN`, a WWID or a by-id link.
        volume: String,
        /// Although it is open, or has unresolved writes.
        force: bool,
    },
    /// Live settings.
    Set {
        /// As in `Detach`.
        volume: String,
        /// New policy.
        policy: Option<crate::config::Policy>,
        /// New rule.
        no_path_retry: Option<NoPath>,
    },
    /// An order about a path.
    Path {
        /// What to do.
        order: PathOrder,
        /// As in `Detach`.
        volume: String,
        /// The path's portal, as in `status`.
        portal: Portal,
    },
    /// What happened lately.
    Events {
        /// One volume, or all.
        volume: Option<String>,
    },
    /// A picture.
    Status {
        /// One volume, or all.
        volume: Option<String>,
    },
    /// Become a host of a lockspace.
    LeaseJoin(LeaseJoin),
    /// Give the host id back.
    LeaseLeave(LeasePlace),
    /// Take a lease.
    LeaseAcquire {
        /// Its area.
        place: LeasePlace,
        /// How.
        mode: ModeWord,
        /// Wait for an owner that is silent.
        wait: bool,
        /// Read its lock value block.
        lvb: bool,
    },
    /// Let it go.
    LeaseRelease {
        /// Its area.
        place: LeasePlace,
        /// What to leave in its lock value block: at most a sector.
        lvb: Option<Vec<u8>>,
    },
    /// Hold it otherwise.
    LeaseConvert {
        /// Its area.
        place: LeasePlace,
        /// How.
        mode: ModeWord,
    },
    /// Lockspaces and leases of this host.
    LeaseStatus,
}

/// Where a lease area begins.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeasePlace {
    /// Device or file, absolute.
    pub path: PathBuf,
    /// Bytes from its start.
    pub offset: u64,
}

/// The words of `lease join`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseJoin {
    /// The lockspace.
    pub place: LeasePlace,
    /// Our number.
    pub host_id: u64,
    /// Our name; `None` for this host's usual one.
    pub host_name: Option<String>,
    /// I/O timeout in seconds.
    pub io_timeout_s: u64,
}

/// What to do with a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathOrder {
    /// Close it; it stays out until it is restored.
    Fail,
    /// Let it serve again, and forget what speaks against it.
    Restore,
    /// Let it finish, and forget it.
    Remove,
}

/// The words of `attach`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachRequest {
    /// Portals, in the order given; each becomes a path.
    pub portals: Vec<Portal>,
    /// Target's iSCSI name.
    pub target: Option<String>,
    /// Logical unit number.
    pub lun: Option<u16>,
    /// Our iSCSI name.
    pub initiator_name: Option<String>,
    /// Settings given as flags.
    pub settings: Settings,
    /// Configuration file.
    pub config: PathBuf,
}

/// One line of an answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub enum Line {
    /// What is going on; empty while nothing new is.
    Progress {
        /// A short sentence.
        text: String,
    },
    /// The end, well.
    Done {
        /// The answer.
        reply: Reply,
    },
    /// The end, not well.
    Failed {
        /// Why.
        failure: Failure,
    },
}

/// The answer to a request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "reply", content = "with", rename_all = "kebab-case")]
pub enum Reply {
    /// To `Ping`.
    Pong,
    /// To `Attach`.
    Attached(Box<AttachReport>),
    /// To `Detach`, with what the operator should know.
    Detached {
        /// The device that is gone.
        device: String,
        /// What was lost or left, one sentence each.
        notes: Vec<String>,
    },
    /// To `Events`.
    Events(EventsReport),
    /// To `Set`, `Path` and `Status`.
    Status(StatusReport),
    /// To `LeaseJoin` with that one, to `LeaseStatus` with all.
    Lockspaces(LockspacesReport),
    /// To `LeaseLeave`.
    LeaseLeft {
        /// The lockspace.
        lockspace: String,
    },
    /// To `LeaseAcquire` and `LeaseConvert`.
    Leased {
        /// As it is held now.
        lease: LeaseReport,
        /// Its lock value block, if it was asked for.
        lvb: Option<Vec<u8>>,
    },
    /// To `LeaseRelease`.
    LeaseReleased {
        /// As it was held; `None` if it was still being acquired.
        lease: Option<LeaseReport>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_round_trip_as_one_line() {
        let request = Request::Attach(AttachRequest {
            portals: vec![
                "10.20.5.254".parse().unwrap(),
                "[fd00::5]:860".parse().unwrap(),
            ],
            target: Some("iqn.2020-01.x:t\n".into()),
            lun: Some(3),
            initiator_name: None,
            settings: Settings {
                no_path_retry: Some(NoPath::Seconds(30)),
                ..Settings::default()
            },
            config: "/etc/sanblk/sanblk.toml".into(),
        });
        let text = serde_json::to_string(&request).unwrap();
        assert!(!text.contains('\n'));
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
    }

    #[test]
    fn a_request_with_an_unknown_word_is_refused() {
        let text = r#"{"verb":"detach","volume":"ublkb0","force":false,"really":true}"#;
        assert!(serde_json::from_str::<Request>(text).is_err());
        assert!(serde_json::from_str::<Request>(r#"{"verb":"format"}"#).is_err());
    }
}
