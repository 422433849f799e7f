//! The login phase (RFC 7143, 6 and 11.12): from the first request to full feature phase.
//!
//! [`Login`] is fed login responses with their text and yields login requests with theirs. It never sees a
//! byte stream, a socket or a clock; the session frames its PDUs and limits its time.

mod chap;
mod credentials;
pub(crate) mod keys;
mod name;
mod negotiate;
mod stages;
mod status;
#[cfg(test)]
mod tests;
pub(crate) mod text;

pub use credentials::{InvalidCredentials, SECRET_LEN_MAX, SECRET_LEN_MIN, Whose};
pub use name::{
    InvalidName, NAME_LEN_MAX, check_initiator_name, check_target_name, generate_initiator_name,
};
pub use status::Retry;

use chap::Algorithm;
use negotiate::Negotiation;
use stages::{ChapProgress, Context, Reply, State, Step};
use text::{Collector, Pieces};

use crate::discovery::Portal;
use crate::wire::{
    CmdSn, Isid, LoginRequest, LoginResponse, LoginStatus, Stage, StatSn, TaskTag, Tpgt, Tsih,
};

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
        /// Where to: for this login only, unless `permanent`.
        portal: Portal,
        /// 0102: the operator should change the configuration.
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

/// Responses that one login may take. A plain login needs 2, mutual CHAP 5; the rest is for texts in pieces and
/// for targets that keep us in a stage.
const RESPONSES_MAX: u32 = 64;

/// A login in progress.
#[derive(Debug)]
pub struct Login {
    context: Context,
    phase: Phase,
    /// What is left to send of our current text.
    outgoing: Pieces,
    /// What came so far of the target's current text.
    incoming: Collector,
    /// Where our current text asks to go.
    transit: Option<Stage>,
    exp_stat_sn: StatSn,
    responses: u32,
}

#[derive(Debug)]
enum Phase {
    Talking(State),
    Done,
    Failed(LoginFailure),
}

impl Login {
    /// CmdSN of all login requests, **and of the first command after the login**: login requests are immediate
    /// and use up no number (RFC 7143, 11.12.8).
    pub const FIRST_CMD_SN: CmdSn = CmdSn(1);

    /// Initiator task tag of all login requests. Free again after the login.
    pub const TASK: TaskTag = TaskTag(0);

    /// CID of the session's only connection.
    pub const CID: u16 = 0;

    /// Starts a login: the login, its first request and the request's text.
    pub fn start(parameters: &LoginParameters) -> (Login, LoginRequest, Vec<u8>) {
        let normal_session = parameters.session_type != SessionType::Discovery;
        let (transit, text, state) = State::begin(parameters);
        let stage = state.stage();
        let mut login = Login {
            context: Context {
                parameters: parameters.clone(),
                negotiation: Negotiation::new(normal_session),
                chap: ChapProgress::NotBegun,
            },
            phase: Phase::Talking(state),
            outgoing: Pieces::new(text),
            incoming: Collector::default(),
            transit,
            exp_stat_sn: StatSn(0),
            responses: 0,
        };
        let (request, text) = login.next_piece(stage);
        (login, request, text)
    }

    /// Takes a response with its data segment. After a failure every call returns the same failure.
    pub fn handle_response(&mut self, response: &LoginResponse, text: &[u8]) -> Progress {
        let phase = core::mem::replace(&mut self.phase, Phase::Done);
        let result = match phase {
            Phase::Talking(state) => self.advance(state, response, text),
            Phase::Done => Err(LoginFailure::Protocol("a login response after the login")),
            Phase::Failed(failure) => Err(failure),
        };
        match result {
            Ok(progress) => progress,
            Err(failure) => {
                self.phase = Phase::Failed(failure.clone());
                Progress::Failed(failure)
            }
        }
    }

    /// The portal group, as soon as the target named it.
    pub fn portal_group(&self) -> Option<Tpgt> {
        self.context.negotiation.portal_group()
    }

    /// ExpStatSN for the next request, in full feature phase too.
    pub fn exp_stat_sn(&self) -> StatSn {
        self.exp_stat_sn
    }

    /// Whether one more attempt with [`Credentials::md5_only`] set makes sense. Ask when the login has failed or
    /// its connection was lost.
    ///
    /// Some targets fail on an offer of CHAP algorithms that holds more than MD5, either by closing the connection
    /// or with status 0200 or 0201. A target that chose MD5 by itself and then refused knows another secret.
    pub fn retry_with_md5_only(&self) -> bool {
        let credentials = &self.context.parameters.credentials;
        let offered_more = credentials.as_ref().is_some_and(|ours| !ours.md5_only);
        let misunderstood = match self.context.chap {
            ChapProgress::NotBegun | ChapProgress::Chosen(Algorithm::Md5) => false,
            ChapProgress::Offered | ChapProgress::Chosen(_) => true,
        };
        let refused = match &self.phase {
            Phase::Talking(State::AlgorithmsOffered(_) | State::ProofSent(_)) => true,
            Phase::Talking(_) | Phase::Done => false,
            Phase::Failed(LoginFailure::Refused(status)) => {
                matches!((status.class, status.detail), (2, 0 | 1))
            }
            Phase::Failed(LoginFailure::BadNegotiation(key)) => *key == "CHAP_A",
            Phase::Failed(_) => false,
        };
        offered_more && misunderstood && refused
    }

    fn advance(
        &mut self,
        state: State,
        response: &LoginResponse,
        text: &[u8],
    ) -> Result<Progress, LoginFailure> {
        self.responses += 1;
        if self.responses > RESPONSES_MAX {
            return protocol("the login does not come to an end");
        }
        if response.task != Self::TASK {
            return protocol("login response for another task");
        }
        if response.status.class != 0 {
            return Err(self.refusal(response.status, text));
        }
        if response.isid != self.context.parameters.isid {
            return protocol("login response for another ISID");
        }
        if response.version_active != 0 {
            return protocol("the target chose a protocol version other than 0");
        }
        if response.stage != state.stage() {
            return protocol("the target is in another login stage");
        }
        if response.transit.is_some() && response.transit != self.transit {
            return protocol("the target leaves for a stage that we did not ask for");
        }
        if response.transit.is_some() && (response.continued || self.outgoing.has_more()) {
            return protocol("the target leaves the stage in the middle of a text");
        }
        // Not compared with the expected number: nothing was lost on a stream that is still in order, and the
        // next request acknowledges what came.
        self.exp_stat_sn = response.numbers.stat_sn.next();

        if self.outgoing.has_more() {
            if response.continued || !text.is_empty() {
                return protocol("the target speaks before our text is complete");
            }
            let (request, text) = self.next_piece(state.stage());
            self.phase = Phase::Talking(state);
            return Ok(Progress::Send(request, text));
        }

        self.incoming.push(text).map_err(LoginFailure::Protocol)?;
        if response.continued {
            let request = self.request(state.stage(), None, false, 0);
            self.phase = Phase::Talking(state);
            return Ok(Progress::Send(request, Vec::new()));
        }

        let text = self.incoming.take();
        let reply = Reply {
            pairs: text::decode(&text).map_err(LoginFailure::Protocol)?,
            moves_on: response.transit.is_some(),
            tsih: response.tsih,
        };
        Ok(match state.handle(&mut self.context, &reply)? {
            Step::Say {
                transit,
                text,
                next,
            } => {
                self.transit = transit;
                self.outgoing = Pieces::new(text);
                let (request, text) = self.next_piece(next.stage());
                self.phase = Phase::Talking(next);
                Progress::Send(request, text)
            }
            Step::Done(negotiated) => Progress::Done(negotiated),
        })
    }

    /// What a status other than success means.
    fn refusal(&self, status: LoginStatus, text: &[u8]) -> LoginFailure {
        let parameters = &self.context.parameters;
        match (status.class, status.detail) {
            // A discovery session asks this portal what it knows; another portal's answer is no substitute.
            (1, 1 | 2) if parameters.session_type != SessionType::Discovery => {
                let address = text::decode(text).ok().and_then(|pairs| {
                    let (_, address) = pairs.iter().find(|(key, _)| *key == "TargetAddress")?;
                    address.parse().ok()
                });
                match address {
                    Some(portal) => LoginFailure::Redirected {
                        portal,
                        permanent: status.detail == 2,
                    },
                    None => LoginFailure::Protocol("a redirect without a valid TargetAddress"),
                }
            }
            (2, 1) if parameters.credentials.is_none() => LoginFailure::CredentialsNeeded,
            // Before CHAP_A no name and no secret was tried: what the target dislikes is CHAP itself.
            (2, 1) if self.context.chap == ChapProgress::NotBegun => {
                LoginFailure::BadNegotiation("AuthMethod")
            }
            _ => LoginFailure::Refused(status),
        }
    }

    fn next_piece(&mut self, stage: Stage) -> (LoginRequest, Vec<u8>) {
        let (piece, more) = self.outgoing.next();
        let transit = if more { None } else { self.transit };
        (self.request(stage, transit, more, piece.len()), piece)
    }

    fn request(
        &self,
        stage: Stage,
        transit: Option<Stage>,
        continued: bool,
        data_len: usize,
    ) -> LoginRequest {
        LoginRequest {
            transit,
            continued,
            stage,
            isid: self.context.parameters.isid,
            // We never join a session, we only make or reinstate one.
            tsih: Tsih(0),
            task: Self::TASK,
            cid: Self::CID,
            cmd_sn: Self::FIRST_CMD_SN,
            exp_stat_sn: self.exp_stat_sn,
            data_len: data_len as u32,
        }
    }
}

fn protocol<T>(rule: &'static str) -> Result<T, LoginFailure> {
    Err(LoginFailure::Protocol(rule))
}

impl core::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Credentials")
            .field("name", &self.name)
            .field("mutual", &self.mutual.as_ref().map(|mutual| &mutual.name))
            .finish_non_exhaustive()
    }
}
