//! Transcripts of logins as real targets hold them, and what hostile ones may try.
//!
//! A line of a transcript is a place and its keys. The place says CSG, then `>` and NSG if T is set, or `+` if C
//! is set: `0`, `0>1`, `1>3`, `1+`.

mod properties;

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

#[test]
fn tgt_with_one_way_chap() {
    let mut t = Transcript::new(&with_chap(false));
    t.initiator("0", &[HELLO[0], HELLO[1], HELLO[2], "AuthMethod=CHAP"]);
    t.target("0", &["AuthMethod=CHAP", "TargetPortalGroupTag=1"]);
    t.initiator("0", &["CHAP_A=8,6,5,7"]);
    t.target(
        "0",
        &[
            "CHAP_A=5",
            "CHAP_I=42",
            "CHAP_C=0x101112131415161718191a1b1c1d1e1f",
        ],
    );
    t.initiator(
        "0>1",
        &["CHAP_N=host", "CHAP_R=0xc5eef47955c13d684ae69200373e0955"],
    );
    t.target("0>1", &[]);
    t.initiator("1>3", &PROPOSALS);
    t.target("1>3", &["HeaderDigest=CRC32C"]);
    assert_eq!(t.negotiated().authentication, Authentication::Chap(5));
    assert!(!t.login.retry_with_md5_only());
}

/// Up to the request that carries our proof and our question.
fn mutual_chap() -> Transcript {
    let mut t = Transcript::new(&with_chap(true));
    t.target("0", &["TargetPortalGroupTag=1", "AuthMethod=CHAP"]);
    t.initiator("0", &["CHAP_A=8,6,5,7"]);
    t.target(
        "0",
        &[
            "CHAP_A=8",
            "CHAP_I=0x2a",
            "CHAP_C=0bEBESExQVFhcYGRobHB0eHw==",
        ],
    );
    t.initiator(
        "0>1",
        &[
            "CHAP_N=host",
            "CHAP_R=0xe1a4b136b4379a240811db5225d1d247c5820ff82f23dd70dc6eb1a6dfad8926",
            "CHAP_I=16",
            "CHAP_C=0x000102030405060708090a0b0c0d0e0f",
        ],
    );
    t
}

const PROOF: &str = "CHAP_R=0x3d1805be53d293c7bd50281347c84ee40ad23a3027e5b3119583aee0236de291";
const REFLECTED: &str = "CHAP_R=0x3506bb2f1d28fa0d5323c810b8688ee8384c9ea3d29d2192243a703ed08ba1e0";

#[test]
fn linux_target_with_mutual_chap() {
    let mut t = mutual_chap();
    t.target("0>1", &["CHAP_N=disk", PROOF]);
    t.initiator("1>3", &PROPOSALS);
    t.target("1>3", &[]);
    assert_eq!(t.negotiated().authentication, Authentication::MutualChap(8));
}

#[test]
fn mutual_chap_with_a_target_that_stays_after_its_proof() {
    let mut t = mutual_chap();
    t.target("0", &[]);
    t.initiator("0>1", &[]);
    t.target("0", &["CHAP_N=disk", PROOF]);
    t.initiator("0>1", &[]);
    t.target("0>1", &[]);
    t.initiator("1>3", &PROPOSALS);
}

#[test]
fn a_target_that_does_not_prove_itself_is_left() {
    for pairs in [
        &[][..],
        &["CHAP_N=disk", REFLECTED],
        &["CHAP_N=disk", "CHAP_R=0x00"],
    ] {
        let mut t = mutual_chap();
        t.target("0>1", pairs);
        let failure = t.failure();
        assert!(
            matches!(failure, LoginFailure::TargetNotAuthenticated(_)),
            "{pairs:?}: {failure}"
        );
        assert!(!t.login.retry_with_md5_only());
    }
    let mut t = mutual_chap();
    t.target("0>1", &[PROOF]);
    assert!(matches!(t.failure(), LoginFailure::Protocol(_)));

    // Our own challenge back at us.
    let mut t = Transcript::new(&with_chap(true));
    t.target("0", &["AuthMethod=CHAP"]);
    t.target(
        "0",
        &[
            "CHAP_A=5",
            "CHAP_I=1",
            "CHAP_C=0x000102030405060708090a0b0c0d0e0f",
        ],
    );
    assert!(matches!(
        t.failure(),
        LoginFailure::TargetNotAuthenticated(_)
    ));

    // The name that the operator expects.
    let mut parameters = with_chap(true);
    let credentials = parameters.credentials.as_mut().unwrap();
    credentials.mutual.as_mut().unwrap().name = Some("other".to_owned());
    let mut t = Transcript::new(&parameters);
    t.target("0", &["AuthMethod=CHAP"]);
    t.target(
        "0",
        &[
            "CHAP_A=8",
            "CHAP_I=42",
            "CHAP_C=0x101112131415161718191a1b1c1d1e1f",
        ],
    );
    t.target("0>1", &["CHAP_N=disk", PROOF]);
    assert!(matches!(
        t.failure(),
        LoginFailure::TargetNotAuthenticated(_)
    ));
}

#[test]
fn no_authentication_is_not_an_answer_to_chap() {
    for (mutual, failure) in [
        (false, LoginFailure::BadNegotiation("AuthMethod")),
        (
            true,
            LoginFailure::TargetNotAuthenticated("it does not accept CHAP"),
        ),
    ] {
        for answer in ["AuthMethod=None", "AuthMethod=Reject", "AuthMethod=KRB5"] {
            let mut t = Transcript::new(&with_chap(mutual));
            t.target("0", &[answer]);
            assert_eq!(t.failure(), failure, "{answer}");
        }
        // Nor may the target walk past it.
        let mut t = Transcript::new(&with_chap(mutual));
        t.target("0>1", &[]);
        assert!(matches!(t.failure(), LoginFailure::Protocol(_)));
        let mut t = Transcript::new(&with_chap(mutual));
        t.target("1>3", &[]);
        assert!(matches!(t.failure(), LoginFailure::Protocol(_)));
    }
}

#[test]
fn credentials_are_asked_for() {
    let mut t = Transcript::new(&parameters());
    t.target("0", &["AuthMethod=CHAP"]);
    assert_eq!(t.failure(), LoginFailure::CredentialsNeeded);
    let mut t = Transcript::new(&parameters());
    t.target_refuses(2, 1, &[]);
    assert_eq!(t.failure(), LoginFailure::CredentialsNeeded);
    // tgt without accounts: nothing is wrong with our secret.
    let mut t = Transcript::new(&with_chap(false));
    t.target_refuses(2, 1, &["TargetPortalGroupTag=1", "AuthMethod=Reject"]);
    assert_eq!(t.failure(), LoginFailure::BadNegotiation("AuthMethod"));
    assert!(!t.login.retry_with_md5_only(), "CHAP_A was not sent");
}

#[test]
fn values_of_chap_outside_the_offer() {
    const CHALLENGE: &str = "CHAP_C=0x00ff";
    for (key, pairs) in [
        ("CHAP_A", &["CHAP_A=9", "CHAP_I=1", CHALLENGE][..]),
        ("CHAP_A", &["CHAP_A=5,7", "CHAP_I=1", CHALLENGE]),
        ("CHAP_A", &["CHAP_A=Reject"]),
        ("CHAP_I", &["CHAP_A=5", "CHAP_I=256", CHALLENGE]),
        ("CHAP_C", &["CHAP_A=5", "CHAP_I=1", "CHAP_C=00ff"]),
    ] {
        let mut t = Transcript::new(&with_chap(false));
        t.target("0", &["AuthMethod=CHAP"]);
        t.target("0", pairs);
        assert_eq!(t.failure(), LoginFailure::BadNegotiation(key), "{pairs:?}");
    }
    for pairs in [&["CHAP_A=5"][..], &["CHAP_R=0x00"], &["AuthMethod=CHAP"]] {
        let mut t = Transcript::new(&with_chap(false));
        t.target("0", &["AuthMethod=CHAP"]);
        t.target("0", pairs);
        assert!(
            matches!(t.failure(), LoginFailure::Protocol(_)),
            "{pairs:?}"
        );
    }
}

#[test]
fn one_retry_with_md5_where_it_can_help() {
    /// A login up to the request after CHAP_A, if the target chose an algorithm.
    fn up_to(chosen: Option<u8>, md5_only: bool) -> Transcript {
        let mut parameters = with_chap(false);
        parameters.credentials.as_mut().unwrap().md5_only = md5_only;
        let mut t = Transcript::new(&parameters);
        assert!(!t.login.retry_with_md5_only());
        t.target("0", &["AuthMethod=CHAP"]);
        t.initiator(
            "0",
            &[if md5_only {
                "CHAP_A=5"
            } else {
                "CHAP_A=8,6,5,7"
            }],
        );
        if let Some(chosen) = chosen {
            t.target(
                "0",
                &[&format!("CHAP_A={chosen}"), "CHAP_I=1", "CHAP_C=0x00"],
            );
        }
        t
    }
    for (chosen, md5_only, helps) in [
        (None, false, true),
        (Some(7), false, true),
        (Some(5), false, false),
        (None, true, false),
        (Some(5), true, false),
    ] {
        // The connection was lost.
        assert_eq!(up_to(chosen, md5_only).login.retry_with_md5_only(), helps);
        for (class, detail, helps) in [(2, 0, helps), (2, 1, helps), (2, 2, false), (3, 1, false)] {
            let mut t = up_to(chosen, md5_only);
            t.target_refuses(class, detail, &[]);
            t.failure();
            assert_eq!(
                t.login.retry_with_md5_only(),
                helps,
                "{chosen:?} {md5_only} {class} {detail}"
            );
        }
    }
    let mut t = up_to(None, false);
    t.target("0", &["CHAP_A=Reject"]);
    assert!(t.login.retry_with_md5_only());
}

#[test]
fn redirects() {
    for (detail, address, shown) in [
        (1, "TargetAddress=10.20.6.254:3261", "10.20.6.254:3261"),
        (2, "TargetAddress=[fd00::1],3", "[fd00::1]:3260"),
    ] {
        let mut t = Transcript::new(&parameters());
        t.target_refuses(1, detail, &[address]);
        let LoginFailure::Redirected { portal, permanent } = t.failure() else {
            panic!("not redirected");
        };
        assert_eq!(
            (portal.to_string().as_str(), permanent),
            (shown, detail == 2)
        );
    }
    for pairs in [
        &[][..],
        &["TargetAddress="],
        &["TargetAddress=[fd00::1"],
        &["TargetAlias=x"],
    ] {
        let mut t = Transcript::new(&parameters());
        t.target_refuses(1, 1, pairs);
        assert!(matches!(t.failure(), LoginFailure::Protocol(_)));
    }
    let mut t = Transcript::new(&LoginParameters {
        session_type: SessionType::Discovery,
        ..parameters()
    });
    t.target_refuses(1, 1, &["TargetAddress=10.20.6.254"]);
    assert!(matches!(t.failure(), LoginFailure::Refused(_)));
}

#[test]
fn a_refusal_names_both_sides() {
    let mut t = Transcript::new(&parameters());
    t.target_refuses(2, 2, &[]);
    let explanation = t.failure().explain(&parameters()).to_string();
    assert!(explanation.contains(INITIATOR) && explanation.contains(TARGET));
    assert!(explanation.contains("ACL"), "{explanation}");
}

#[test]
fn discovery_session() {
    let mut t = Transcript::new(&LoginParameters {
        session_type: SessionType::Discovery,
        ..parameters()
    });
    t.initiator("0>1", &[HELLO[0], "SessionType=Discovery", HELLO[3]]);
    t.target("0>1", &["AuthMethod=None"]);
    t.initiator("1>3", &PROPOSALS[..6]);
    // Some targets have no handle for sessions that cannot be reinstated.
    t.tsih = Tsih(0);
    t.target("1>3", &["HeaderDigest=None"]);
    assert_eq!(t.negotiated().portal_group, None);
    assert_eq!(t.negotiated().tsih, Tsih(0));
}

#[test]
fn a_text_in_pieces_from_the_target() {
    let mut t = Transcript::new(&parameters());
    t.target("0>1", &[]);
    t.target_bytes("1+", b"MaxBurst");
    t.initiator("1", &[]);
    t.target_bytes("1+", b"Length=65536\0Initial");
    t.initiator("1", &[]);
    t.target_bytes("1>3", b"R2T=No\0");
    assert_eq!(t.negotiated().max_burst_length, 65_536);
    assert!(!t.negotiated().initial_r2t);
}

#[test]
fn a_text_in_pieces_from_us() {
    // Answers to many long keys need more than one PDU.
    let keys: Vec<String> = (0..200).map(|i| format!("X-{i:0>60}")).collect();
    let proposals: Vec<u8> = keys
        .iter()
        .flat_map(|key| format!("{key}=1\0").into_bytes())
        .collect();
    let answers: Vec<u8> = keys
        .iter()
        .flat_map(|key| format!("{key}=NotUnderstood\0").into_bytes())
        .collect();
    let mut t = Transcript::new(&parameters());
    t.target("0>1", &[]);
    let mut rest = &proposals[..];
    while let Some((piece, after)) = rest.split_at_checked(8192) {
        t.target_bytes("1+", piece);
        rest = after;
    }
    t.target_bytes("1", rest);
    let mut said = Vec::new();
    loop {
        let Progress::Send(request, text) = &t.progress else {
            panic!("no request but {:?}", t.progress);
        };
        assert!(text.len() <= 8192);
        assert_eq!(request.transit.is_none(), request.continued);
        said.extend_from_slice(text);
        if !request.continued {
            break;
        }
        t.target("1", &[]);
    }
    assert_eq!(said, answers);
    t.target("1>3", &[]);
    t.negotiated();
}

#[test]
fn a_target_that_interrupts_us() {
    let keys: Vec<String> = (0..200).map(|i| format!("X-{i:0>60}=1")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    for interruption in [("1", &["TargetAlias=a"][..]), ("1+", &[]), ("1>3", &[])] {
        let mut t = Transcript::new(&parameters());
        t.target("0>1", &[]);
        t.target("1+", &keys[..100]);
        t.target("1", &keys[100..]);
        assert!(matches!(&t.progress, Progress::Send(request, _) if request.continued));
        t.target(interruption.0, interruption.1);
        assert!(matches!(t.failure(), LoginFailure::Protocol(_)));
    }
}

#[test]
fn headers_that_break_the_protocol() {
    let breaks: [fn(&mut LoginResponse); 8] = [
        |response| response.task = TaskTag(1),
        |response| response.isid = Isid([0; 6]),
        |response| response.version_active = 1,
        |response| response.stage = Stage::Operational,
        |response| response.stage = Stage::FullFeature,
        |response| response.transit = Some(Stage::FullFeature),
        |response| response.transit = Some(Stage::Security),
        |response| response.continued = true,
    ];
    for (i, breaking) in breaks.iter().enumerate() {
        let mut t = Transcript::new(&parameters());
        let mut response = t.response("0>1");
        breaking(&mut response);
        t.progress = t.login.handle_response(&response, b"");
        assert!(matches!(t.failure(), LoginFailure::Protocol(_)), "{i}");
    }
}

#[test]
fn texts_that_break_the_protocol() {
    for (security, operational) in [
        (&["TargetAlias=a", "TargetAlias=b"][..], &[][..]),
        (&["AuthMethod=None", "AuthMethod=None"], &[]),
        (&["MaxBurstLength=512"], &[]),
        (&["CHAP_A=5"], &[]),
        (&["InitiatorName=iqn.2026-01.org.example:x"], &[]),
        (&["TargetAlias=a"], &["TargetAlias=b"]),
        (&["AuthMethod=None"], &["AuthMethod=None"]),
    ] {
        let mut t = Transcript::new(&parameters());
        t.target("0>1", security);
        if !matches!(t.progress, Progress::Failed(_)) {
            t.target("1", operational);
        }
        assert!(
            matches!(t.failure(), LoginFailure::Protocol(_)),
            "{security:?} {operational:?}"
        );
    }
    let mut t = Transcript::new(&parameters());
    t.target("0", &["AuthMethod=None"]);
    t.target("0", &["AuthMethod=None"]);
    assert!(matches!(t.failure(), LoginFailure::Protocol(_)));
    let mut t = Transcript::new(&parameters());
    t.target_bytes("0", &[b'a'; 8193]);
    assert!(matches!(t.failure(), LoginFailure::Protocol(_)));
}

#[test]
fn a_session_without_a_handle_is_none() {
    let mut t = Transcript::new(&parameters());
    t.tsih = Tsih(0);
    t.target("0>1", &[]);
    t.target("1>3", &[]);
    assert!(matches!(t.failure(), LoginFailure::Protocol(_)));
}

#[test]
fn nothing_goes_on_for_ever() {
    for at in ["0", "0+"] {
        let mut t = Transcript::new(&parameters());
        let mut responses = 0;
        while matches!(t.progress, Progress::Send(..)) {
            t.target(at, &[]);
            responses += 1;
            assert!(responses <= RESPONSES_MAX + 1);
        }
        assert_eq!(
            t.failure(),
            LoginFailure::Protocol("the login does not come to an end")
        );
    }
}

#[test]
fn a_response_after_the_login_is_a_failure() {
    let mut t = Transcript::new(&parameters());
    t.target("0>1", &[]);
    t.target("1>3", &[]);
    t.negotiated();
    t.target("1", &[]);
    assert!(matches!(t.failure(), LoginFailure::Protocol(_)));
}
