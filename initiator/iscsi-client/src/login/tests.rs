//! Transcripts of logins as real targets hold them, and what hostile ones may try.
//!
//! A line of a transcript is a place and its keys. The place says CSG, then `>` and NSG if T is set, or `+` if C
//! is set: `0`, `0>1`, `1>3`, `1+`.

use super::*;
use crate::wire::TargetNumbers;

const ISID: Isid = Isid([0x80, 1, 2, 3, 0, 1]);
const INITIATOR: &str = "iqn.2026-01.org.example:host";
const TARGET: &str = "iqn.2026-01.org.example:disk";

fn parameters() -> LoginParameters {
    LoginParameters {
        initiator_name: INITIATOR.to_owned(),
        session_type: SessionType::Normal {
            target_name: TARGET.to_owned(),
        },
        isid: ISID,
        offer: Offer::default(),
        credentials: None,
        entropy: core::array::from_fn(|i| i as u8),
    }
}

fn with_chap(mutual: bool) -> LoginParameters {
    LoginParameters {
        credentials: Some(Credentials {
            name: "host".to_owned(),
            secret: b"our secret 42".to_vec(),
            mutual: mutual.then(|| MutualCredentials {
                name: None,
                secret: b"their secret 43".to_vec(),
            }),
            md5_only: false,
        }),
        ..parameters()
    }
}

fn stage(digit: u8) -> Stage {
    match digit {
        b'0' => Stage::Security,
        b'1' => Stage::Operational,
        b'3' => Stage::FullFeature,
        _ => panic!("no stage {digit}"),
    }
}

/// Reads a place: stage, transit, continued.
fn place(text: &str) -> (Stage, Option<Stage>, bool) {
    match text.as_bytes() {
        [csg] => (stage(*csg), None, false),
        [csg, b'+'] => (stage(*csg), None, true),
        [csg, b'>', nsg] => (stage(*csg), Some(stage(*nsg)), false),
        _ => panic!("no place: {text}"),
    }
}

fn joined(pairs: &[&str]) -> Vec<u8> {
    pairs
        .iter()
        .flat_map(|pair| [pair.as_bytes(), b"\0"].concat())
        .collect()
}

/// A login and the target that the test plays.
struct Transcript {
    login: Login,
    progress: Progress,
    stat_sn: StatSn,
    tsih: Tsih,
}

impl Transcript {
    fn new(parameters: &LoginParameters) -> Self {
        let (login, request, text) = Login::start(parameters);
        assert_eq!(request.exp_stat_sn, StatSn(0));
        Self {
            login,
            progress: Progress::Send(request, text),
            stat_sn: StatSn(0xffff_fffe),
            tsih: Tsih(7),
        }
    }

    /// Checks the request that waits to be sent, and everything that never changes in one.
    #[track_caller]
    fn initiator(&self, at: &str, pairs: &[&str]) {
        let Progress::Send(request, text) = &self.progress else {
            panic!("no request but {:?}", self.progress);
        };
        assert_eq!(
            String::from_utf8_lossy(text),
            String::from_utf8_lossy(&joined(pairs))
        );
        assert_eq!(
            (request.stage, request.transit, request.continued),
            place(at)
        );
        assert_eq!(request.data_len as usize, text.len());
        assert_eq!(
            (request.isid, request.tsih, request.cid),
            (ISID, Tsih(0), 0)
        );
        assert_eq!(
            (request.task, request.cmd_sn),
            (Login::TASK, Login::FIRST_CMD_SN)
        );
        assert_eq!(request.exp_stat_sn, self.login.exp_stat_sn());
    }

    fn response(&mut self, at: &str) -> LoginResponse {
        let (stage, transit, continued) = place(at);
        let stat_sn = self.stat_sn;
        self.stat_sn = stat_sn.next();
        LoginResponse {
            transit,
            continued,
            stage,
            version_max: 0,
            version_active: 0,
            isid: ISID,
            tsih: match transit {
                Some(Stage::FullFeature) => self.tsih,
                _ => Tsih(0),
            },
            task: Login::TASK,
            numbers: TargetNumbers {
                stat_sn,
                exp_cmd_sn: CmdSn(1),
                max_cmd_sn: CmdSn(1),
            },
            status: LoginStatus::SUCCESS,
            data_len: 0,
        }
    }

    fn target_bytes(&mut self, at: &str, text: &[u8]) {
        let response = self.response(at);
        self.progress = self.login.handle_response(&response, text);
        if !matches!(self.progress, Progress::Failed(_)) {
            assert_eq!(self.login.exp_stat_sn(), self.stat_sn);
        }
    }

    fn target(&mut self, at: &str, pairs: &[&str]) {
        self.target_bytes(at, &joined(pairs));
    }

    fn target_refuses(&mut self, class: u8, detail: u8, pairs: &[&str]) {
        let mut response = self.response("0");
        response.status = LoginStatus { class, detail };
        self.progress = self.login.handle_response(&response, &joined(pairs));
    }

    #[track_caller]
    fn failure(&mut self) -> LoginFailure {
        let Progress::Failed(failure) = &self.progress else {
            panic!("no failure but {:?}", self.progress);
        };
        let failure = failure.clone();
        // A failed login stays failed.
        let response = self.response("0");
        assert!(matches!(
            self.login.handle_response(&response, b""),
            Progress::Failed(again) if again == failure
        ));
        failure
    }

    #[track_caller]
    fn negotiated(&self) -> &Negotiated {
        match &self.progress {
            Progress::Done(negotiated) => negotiated,
            other => panic!("not done but {other:?}"),
        }
    }
}

const HELLO: [&str; 4] = [
    "InitiatorName=iqn.2026-01.org.example:host",
    "TargetName=iqn.2026-01.org.example:disk",
    "SessionType=Normal",
    "AuthMethod=None",
];

const PROPOSALS: [&str; 14] = [
    "MaxRecvDataSegmentLength=262144",
    "HeaderDigest=None,CRC32C",
    "DataDigest=None,CRC32C",
    "DefaultTime2Wait=0",
    "DefaultTime2Retain=0",
    "ErrorRecoveryLevel=0",
    "MaxConnections=1",
    "InitialR2T=No",
    "ImmediateData=Yes",
    "MaxBurstLength=16776192",
    "FirstBurstLength=262144",
    "MaxOutstandingR2T=8",
    "DataPDUInOrder=Yes",
    "DataSequenceInOrder=Yes",
];

#[test]
fn linux_target_without_authentication() {
    let mut t = Transcript::new(&parameters());
    t.initiator("0>1", &HELLO);
    t.target("0>1", &["TargetPortalGroupTag=1", "AuthMethod=None"]);
    assert_eq!(t.login.portal_group(), Some(Tpgt(1)));
    t.initiator("1>3", &PROPOSALS);
    t.target(
        "1>3",
        &[
            "TargetAlias=LIO Target",
            "HeaderDigest=None",
            "DataDigest=None",
            "DefaultTime2Wait=2",
            "DefaultTime2Retain=0",
            "ErrorRecoveryLevel=0",
            "MaxConnections=1",
            "InitialR2T=Yes",
            "ImmediateData=Yes",
            "MaxBurstLength=262144",
            "FirstBurstLength=65536",
            "MaxOutstandingR2T=1",
            "DataPDUInOrder=Yes",
            "DataSequenceInOrder=Yes",
            "MaxRecvDataSegmentLength=262144",
        ],
    );
    assert_eq!(
        *t.negotiated(),
        Negotiated {
            header_digest: false,
            data_digest: false,
            max_send_data_segment_length: 262_144,
            max_recv_data_segment_length: 262_144,
            max_burst_length: 262_144,
            first_burst_length: 65_536,
            max_outstanding_r2t: 1,
            initial_r2t: true,
            immediate_data: true,
            time2wait: 2,
            time2retain: 0,
            error_recovery_level: 0,
            tsih: Tsih(7),
            portal_group: Some(Tpgt(1)),
            target_alias: Some("LIO Target".to_owned()),
            authentication: Authentication::None,
        }
    );
}

#[test]
fn target_that_keeps_us_and_proposes() {
    let mut t = Transcript::new(&parameters());
    t.target("0", &["TargetPortalGroupTag=0"]);
    t.initiator("0>1", &[]);
    t.target("0>1", &["AuthMethod=None"]);
    t.initiator("1>3", &PROPOSALS);
    t.target(
        "1",
        &[
            "IFMarker=No",
            "OFMarker=No",
            "X-com.example.z=1",
            "InitialR2T=No",
        ],
    );
    t.initiator(
        "1>3",
        &[
            "IFMarker=Reject",
            "OFMarker=Reject",
            "X-com.example.z=NotUnderstood",
        ],
    );
    t.target("1>3", &["MaxRecvDataSegmentLength=65536"]);
    assert!(!t.negotiated().initial_r2t);
    assert_eq!(t.negotiated().max_send_data_segment_length, 65_536);
    assert_eq!(t.negotiated().portal_group, Some(Tpgt(0)));
}
