//! The login inside a session: framing, time, and the step into full feature phase.

use super::*;
use crate::login::{DigestPreference::PreferCrc32c, LoginFailure, Offer};

/// A session that is logging in, on the bench of an established one.
fn logging_in() -> Bench {
    let mut bench = Bench::new();
    let mut config = config();
    config.login.offer = Offer {
        data_digest: PreferCrc32c,
        ..Offer::default()
    };
    bench.session = Session::new(at(0), config);
    bench
}

fn answer(bench: &mut Bench, stage: Stage, next: Stage, text: &str) {
    let response = LoginResponse {
        transit: Some(next),
        continued: false,
        stage,
        version_max: 0,
        version_active: 0,
        isid: config().login.isid,
        tsih: Tsih(if next == Stage::FullFeature { 9 } else { 0 }),
        task: TaskTag(0),
        numbers: TargetNumbers {
            exp_cmd_sn: CmdSn(1),
            ..bench.numbers()
        },
        status: LoginStatus::SUCCESS,
        data_len: 0,
    };
    bench.receive(response.emit(), text.replace(' ', "\0").as_bytes());
}

#[test]
fn from_the_first_byte_to_the_first_command() {
    // The smallest head buffer too: a login request then leaves in many sends.
    for head in [59, 4096] {
        let mut bench = logging_in();
        bench.head = head;
        bench.stat_sn = 0x7fff_ffff;
        assert_eq!(bench.session.room(), 0);
        assert_eq!(bench.session.poll_timeout(), Some(at(15)));
        let sent = bench.sent();
        let request = LoginRequest::parse(&sent[0].bhs).unwrap();
        assert_eq!(
            (request.stage, request.transit),
            (Stage::Security, Some(Stage::Operational))
        );
        assert!(
            sent[0]
                .data
                .starts_with(b"InitiatorName=iqn.2026-01.test:host\0")
        );
        assert_eq!(bench.sent(), [], "one request, one answer");

        answer(
            &mut bench,
            Stage::Security,
            Stage::Operational,
            "TargetPortalGroupTag=3 AuthMethod=None ",
        );
        assert_eq!(bench.session.portal_group(), Some(Tpgt(3)));
        assert_eq!(bench.session.negotiated(), None);
        let sent = bench.sent();
        assert_eq!(
            LoginRequest::parse(&sent[0].bhs).unwrap().exp_stat_sn,
            StatSn(0x8000_0000)
        );
        bench.max_cmd_sn = 3;
        let keys = "HeaderDigest=None DataDigest=CRC32C MaxRecvDataSegmentLength=65536 \
                    MaxBurstLength=262144 FirstBurstLength=65536 InitialR2T=Yes ImmediateData=Yes \
                    MaxOutstandingR2T=1 MaxConnections=1 ErrorRecoveryLevel=0 DefaultTime2Wait=2 \
                    DefaultTime2Retain=0 DataPDUInOrder=Yes DataSequenceInOrder=Yes ";
        answer(&mut bench, Stage::Operational, Stage::FullFeature, keys);
        assert_eq!(bench.events(), [Event::Established]);
        let terms = bench.session.negotiated().unwrap();
        assert_eq!((terms.data_digest, terms.tsih), (true, Tsih(9)));
        assert_eq!(bench.session.room(), 3, "CmdSN 1 to 3");

        bench.digests = (false, true);
        bench.write(1, 0, 40);
        let sent = if head == 59 {
            parse(&bench.send_bytes(), bench.digests)
        } else {
            bench.sent()
        };
        let command = ScsiCommand::parse(&sent[0].bhs).unwrap();
        assert_eq!(
            command.cmd_sn, request.cmd_sn,
            "the first command repeats the login's CmdSN"
        );
        assert_eq!(command.exp_stat_sn, StatSn(0x8000_0001));
        bench.answer_good(command.task);
        assert_eq!(bench.events(), [good(1, 0)]);
    }
}

#[test]
fn a_login_has_limited_time() {
    let mut bench = logging_in();
    bench.sent();
    bench.wait(Duration::from_secs(14));
    assert_eq!(bench.events(), []);
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.events(), [Event::Closed(Closed::LoginTimeout)]);
}

#[test]
fn a_refusal_is_handed_on() {
    let mut bench = logging_in();
    bench.sent();
    let status = LoginStatus {
        class: 2,
        detail: 2,
    };
    let refusal = LoginResponse {
        transit: None,
        continued: false,
        stage: Stage::Security,
        version_max: 0,
        version_active: 0,
        isid: config().login.isid,
        tsih: Tsih(0),
        task: TaskTag(0),
        numbers: bench.numbers(),
        status,
        data_len: 0,
    };
    bench.receive(refusal.emit(), &[]);
    assert_eq!(
        bench.events(),
        [Event::Closed(Closed::Login(LoginFailure::Refused(status)))]
    );
}

#[test]
fn only_login_responses_are_taken() {
    let mut bench = logging_in();
    bench.sent();
    bench.answer_good(TaskTag(0));
    bench.assert_violation("something else than a Login Response during the login");

    let mut bench = logging_in();
    bench.sent();
    answer(
        &mut bench,
        Stage::Security,
        Stage::Operational,
        &"x".repeat(8193),
    );
    bench.assert_violation("Login Response with more than 8192 bytes of data");

    let mut bench = logging_in();
    answer(
        &mut bench,
        Stage::Security,
        Stage::Operational,
        "AuthMethod=None ",
    );
    bench.assert_violation("Login Response before the request had left");
}
