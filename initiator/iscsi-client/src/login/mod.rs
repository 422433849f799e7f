//! The login phase (RFC 7143, 6 and 11.12): from the first request to full feature phase.
//!
//! [`Login`] is fed login responses with their text and yields login requests with theirs. It never sees a
//! byte stream, a socket or a clock; the session frames its PDUs and limits its time.

use crate::wire::{Isid, LoginRequest, LoginResponse, LoginStatus, Tpgt, Tsih};

/// What the session is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionType {
    /// SCSI commands to one target.
    Normal {
        /// iSCSI name of the target.
        target_name: String,
    },
    /// SendTargets only.
    Discovery,
}

/// Which digest to ask for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum DigestPreference {
    /// Offer `None,CRC32C`: used only if the target insists.
    #[default]
    PreferNone,
    /// Offer `CRC32C,None`: used if the target can.
    PreferCrc32c,
    /// Offer `CRC32C` alone.
    RequireCrc32c,
}

/// What we propose; the result is in [`Negotiated`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// HeaderDigest.
    pub header_digest: DigestPreference,
    /// DataDigest.
    pub data_digest: DigestPreference,
    /// Our MaxRecvDataSegmentLength in bytes, 512..2^24-1.
    pub max_recv_data_segment_length: u32,
    /// MaxBurstLength in bytes, 512..2^24-1.
    pub max_burst_length: u32,
    /// FirstBurstLength in bytes, 512..MaxBurstLength.
    pub first_burst_length: u32,
    /// MaxOutstandingR2T, 1..65535.
    pub max_outstanding_r2t: u16,
    /// Whether to offer InitialR2T=No.
    pub initial_r2t: bool,
    /// Whether to offer ImmediateData=Yes.
    pub immediate_data: bool,
}

impl Default for Offer {
    fn default() -> Self {
        Offer {
            header_digest: DigestPreference::default(),
            data_digest: DigestPreference::default(),
            max_recv_data_segment_length: 262_144,
            max_burst_length: 16_776_192,
            first_burst_length: 262_144,
            max_outstanding_r2t: 8,
            initial_r2t: false,
            immediate_data: true,
        }
    }
}

/// Everything a login needs.
#[derive(Clone, Debug)]
pub struct LoginParameters {
    /// Our iSCSI name, 1..223 bytes.
    pub initiator_name: String,
    /// Target, or discovery.
    pub session_type: SessionType,
    /// Our half of the session's identity. The same as a living or dead session's: it is reinstated.
    pub isid: Isid,
    /// Operational proposals.
    pub offer: Offer,
    /// CHAP, or nothing.
    pub credentials: Option<Credentials>,
    /// Fresh random bytes for our CHAP challenge.
    pub entropy: [u8; 32],
}

/// CHAP names and secrets (RFC 7143, 12.1.3). Never printed: `Debug` shows names only.
#[derive(Clone)]
pub struct Credentials {
    /// CHAP_N that we send.
    pub name: String,
    /// Secret with which we answer, at least 12 bytes.
    pub secret: Vec<u8>,
    /// What the target must prove, for mutual CHAP.
    pub mutual: Option<MutualCredentials>,
    /// Offer only MD5 (5): the single retry that old targets need.
    pub md5_only: bool,
}

/// The target's side of mutual CHAP.
#[derive(Clone)]
pub struct MutualCredentials {
    /// CHAP_N that the target must send; any if `None`.
    pub name: Option<String>,
    /// Secret that the target must know; differs from ours.
    pub secret: Vec<u8>,
}

/// What both sides agreed on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Negotiated {
    /// CRC32C over headers.
    pub header_digest: bool,
    /// CRC32C over data.
    pub data_digest: bool,
    /// What we may send in one PDU, in bytes (the target's MaxRecvDataSegmentLength).
    pub max_send_data_segment_length: u32,
    /// What the target may send in one PDU, in bytes (ours).
    pub max_recv_data_segment_length: u32,
    /// Bounds one R2T and one Data-In sequence, in bytes.
    pub max_burst_length: u32,
    /// Bounds all unsolicited bytes of one command.
    pub first_burst_length: u32,
    /// R2Ts live at once per command.
    pub max_outstanding_r2t: u16,
    /// True: no unsolicited Data-Out.
    pub initial_r2t: bool,
    /// Data may ride in the command PDU.
    pub immediate_data: bool,
    /// Seconds to wait before a reconnect.
    pub time2wait: u16,
    /// Seconds the target keeps tasks after a loss.
    pub time2retain: u16,
    /// ErrorRecoveryLevel; 0.
    pub error_recovery_level: u8,
    /// Handle of the session.
    pub tsih: Tsih,
    /// Portal group the session is in. `None` if the target never said (discovery).
    pub portal_group: Option<Tpgt>,
    /// TargetAlias, for display.
    pub target_alias: Option<String>,
    /// How we proved who we are.
    pub authentication: Authentication,
}

/// The authentication that took place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Authentication {
    /// None was asked.
    None,
    /// We proved who we are, with this CHAP algorithm number (5 MD5, 6 SHA-1, 7 SHA-256, 8 SHA3-256).
    Chap(u8),
    /// Both sides proved who they are.
    MutualChap(u8),
}

/// Why a login did not succeed. Each has a sentence that says what to do (`Display`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LoginFailure {
    /// Status 0101 or 0102: the target is somewhere else.
    Redirected {
        /// `host:port` from TargetAddress, as sent, without the portal group.
        address: String,
        /// 0102.
        permanent: bool,
    },
    /// Any other status but success.
    Refused(LoginStatus),
    /// The target asked for CHAP and no credentials are configured.
    CredentialsNeeded,
    /// Mutual CHAP was configured and the target did not prove who it is, or proved it wrongly.
    TargetNotAuthenticated(&'static str),
    /// The target answered a key outside what was offered.
    BadNegotiation(&'static str),
    /// A response that breaks the protocol.
    Protocol(&'static str),
}

/// The login's next move.
#[derive(Debug)]
pub enum Progress {
    /// Send this request with this text, then feed the response.
    Send(LoginRequest, Vec<u8>),
    /// Full feature phase.
    Done(Box<Negotiated>),
    /// Close the connection.
    Failed(LoginFailure),
}

/// A login in progress.
#[derive(Debug)]
pub struct Login {}

impl Login {
    /// Starts a login; the first [`Progress`] is always a request.
    pub fn start(_parameters: &LoginParameters) -> (Login, LoginRequest, Vec<u8>) {
        todo!()
    }

    /// Takes a response with its data segment.
    pub fn handle_response(&mut self, _response: &LoginResponse, _text: &[u8]) -> Progress {
        todo!()
    }
}

impl core::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Credentials")
            .field("name", &self.name)
            .field("mutual", &self.mutual.as_ref().map(|mutual| &mutual.name))
            .finish_non_exhaustive()
    }
}
