//! What kind of target it is: portals, limits, temperament.

use core::time::Duration;

use iscsi_client::wire::{LoginStatus, Tpgt};

use crate::disk::Code;

/// An address where the target listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Portal {
    /// `host:port`, as SendTargets names it.
    pub address: String,
    /// Portal group.
    pub group: Tpgt,
}

/// When a login with a living or lingering session's identity is answered, and what the old session's running
/// commands have to do with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reinstatement {
    /// The login answer waits until every backend command of the old session has ended; meanwhile other logins
    /// to the portal group wait behind it (Linux LIO).
    #[default]
    AnswerAfterDrain,
    /// The login is answered, but the new connection reads nothing before the old commands have ended (SCST,
    /// FreeBSD CTL).
    ReadAfterDrain,
    /// The login is answered and old commands run on (tgt, SPDK).
    AnswerAtOnce,
}

/// Digests the target agrees to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Digests {
    /// None only.
    Never,
    /// What the initiator likes best.
    #[default]
    Either,
    /// CRC32C only.
    Always,
}

/// Proves who the initiator is.
#[derive(Clone, Debug)]
pub struct Chap {
    /// Algorithm numbers it knows; the initiator's first among them is taken.
    pub algorithms: Vec<u8>,
    /// Refuses a CHAP_A list that holds anything but 5 (LIO before Linux 3.15).
    pub md5_alone: bool,
    /// CHAP_N of the initiator.
    pub name: String,
    /// The initiator's secret.
    pub secret: Vec<u8>,
    /// CHAP_N and secret with which the target proves itself when asked.
    pub mutual: Option<(String, Vec<u8>)>,
}

/// What the target brings into the negotiation.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Declared MaxRecvDataSegmentLength, if any.
    pub max_recv_data_segment_length: Option<u32>,
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
    /// HeaderDigest.
    pub header_digest: Digests,
    /// DataDigest.
    pub data_digest: Digests,
    /// Commands at once per session.
    pub window: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_recv_data_segment_length: Some(262_144),
            max_burst_length: 262_144,
            first_burst_length: 65_536,
            max_outstanding_r2t: 1,
            initial_r2t: true,
            immediate_data: true,
            header_digest: Digests::Either,
            data_digest: Digests::Either,
            window: 64,
        }
    }
}

/// A target's ping of idle connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ping {
    /// Silence before a ping.
    pub idle: Duration,
    /// Silence after it that ends the connection.
    pub patience: Duration,
    /// Uses transfer tag 0, as FreeBSD CTL does.
    pub tag_zero: bool,
}

/// What a login gets instead of its due.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LoginFate {
    /// This status.
    Status(LoginStatus),
    /// Status 0101 or 0102 with TargetAddress.
    Redirect {
        /// `host:port`.
        address: String,
        /// 0102.
        permanent: bool,
    },
    /// No answer.
    Silence,
    /// The connection is closed.
    Close,
}

/// Shape and behaviour of a target.
#[derive(Clone, Debug)]
pub struct TargetConfig {
    /// iSCSI name.
    pub name: String,
    /// TargetAlias.
    pub alias: Option<String>,
    /// Where it listens.
    pub portals: Vec<Portal>,
    /// What it negotiates.
    pub limits: Limits,
    /// How it treats a known identity.
    pub reinstatement: Reinstatement,
    /// A command is executed by the thread that reads the connection: nothing is read, and no ping answered, meanwhile.
    pub works_while_reading: bool,
    /// A command that is refused is answered before its data have come; they are ignored then.
    pub answers_before_data: bool,
    /// CHAP, if it wants any.
    pub chap: Option<Chap>,
    /// Initiators that may log in; all if empty.
    pub allowed: Vec<String>,
    /// Unit attention that a new session finds.
    pub first_attention: Option<Code>,
    /// Pings, if it does.
    pub ping: Option<Ping>,
    /// A login must be done within this time.
    pub login_timeout: Duration,
    /// A write that waits so long for asked data ends the connection.
    pub data_out_timeout: Option<Duration>,
    /// Percentage of good reads whose status rides in the last Data-In.
    pub status_in_data_in: u64,
    /// Text per login or text response in bytes; longer text is continued.
    pub text_max: usize,
    /// Keys the target offers of its own accord in the operational stage.
    pub proposals: Vec<(String, String)>,
    /// Tasks that another session's LUN reset ends get TASK ABORTED (TAS=1) instead of silence.
    pub task_aborted_status: bool,
    /// LOGICAL UNIT RESET is supported.
    pub lun_reset: bool,
}

impl Default for TargetConfig {
    fn default() -> Self {
        let portal = |address: &str| Portal {
            address: address.into(),
            group: Tpgt(1),
        };
        TargetConfig {
            name: "iqn.2026-01.test.kit:disk".into(),
            alias: None,
            portals: vec![portal("10.20.5.254:3260"), portal("10.20.6.254:3260")],
            limits: Limits::default(),
            reinstatement: Reinstatement::default(),
            works_while_reading: false,
            answers_before_data: false,
            chap: None,
            allowed: Vec::new(),
            first_attention: Some(Code::POWER_ON),
            ping: None,
            login_timeout: Duration::from_secs(15),
            data_out_timeout: Some(Duration::from_secs(3)),
            status_in_data_in: 50,
            text_max: 8192,
            proposals: Vec::new(),
            task_aborted_status: true,
            lun_reset: true,
        }
    }
}
