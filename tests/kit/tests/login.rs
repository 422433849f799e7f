//! The initiator's login and discovery against the simulated target.

use core::time::Duration;

use iscsi_client::discovery::Discovery;
use iscsi_client::login::{
    Authentication, Credentials, LoginFailure, MutualCredentials, Offer, SessionType,
};
use iscsi_client::session::{Closed, Event};
use iscsi_client::wire::{LoginStatus, Tpgt};
use kit::disk::LunConfig;
use kit::pair::{self, Pair};
use kit::target::{Chap, LoginFate, Portal, TargetConfig};

fn pair(target: TargetConfig, credentials: Option<Credentials>) -> Pair {
    let mut config = pair::login(&target, Offer::default());
    config.login.credentials = credentials;
    Pair::new(1, target, LunConfig::default(), config)
}

/// How the login ends: established, or the reason why not.
fn outcome(pair: &mut Pair) -> Option<Closed> {
    let ended = |events: &[Event]| {
        events
            .iter()
            .any(|event| matches!(event, Event::Established | Event::Closed(_)))
    };
    assert!(pair.run(Duration::from_secs(60), ended), "the login ends");
    match &pair.take_events()[..] {
        [Event::Established] => None,
        [Event::Closed(why)] => Some(why.clone()),
        other => panic!("{other:?}"),
    }
}

fn chap(algorithms: &[u8]) -> Chap {
    Chap {
        algorithms: algorithms.to_vec(),
        md5_alone: false,
        name: "host".into(),
        secret: b"a long secret of ours".to_vec(),
        mutual: Some(("disk".into(), b"another secret, theirs".to_vec())),
    }
}

fn credentials(secret: &[u8], mutual: Option<&[u8]>) -> Credentials {
    Credentials {
        name: "host".into(),
        secret: secret.to_vec(),
        mutual: mutual.map(|secret| MutualCredentials {
            name: Some("disk".into()),
            secret: secret.to_vec(),
        }),
        md5_only: false,
    }
}

fn with_chap(chap: Chap) -> TargetConfig {
    TargetConfig {
        chap: Some(chap),
        ..TargetConfig::default()
    }
}

const OURS: &[u8] = b"a long secret of ours";
const THEIRS: &[u8] = b"another secret, theirs";

#[test]
fn chap_in_every_algorithm_one_way_and_mutual() {
    for algorithm in [5, 6, 7, 8] {
        for (mutual, proof) in [
            (None, Authentication::Chap(algorithm)),
            (Some(THEIRS), Authentication::MutualChap(algorithm)),
        ] {
            let target = with_chap(chap(&[algorithm]));
            let mut pair = pair(target, Some(credentials(OURS, mutual)));
            assert_eq!(outcome(&mut pair), None, "{algorithm}");
            let terms = pair.session.negotiated().expect("established");
            assert_eq!(terms.authentication, proof);
            assert_eq!(pair.world.target.violations(), []);
        }
    }
}

#[test]
fn wrong_secrets_and_silent_downgrades_do_not_pass() {
    let refused = |detail| {
        Some(Closed::Login(LoginFailure::Refused(LoginStatus {
            class: 2,
            detail,
        })))
    };
    let mut wrong = pair(
        with_chap(chap(&[7])),
        Some(credentials(b"not our secret at all", None)),
    );
    assert_eq!(outcome(&mut wrong), refused(1));
    // The target proves itself with another secret than we know.
    let mut impostor = pair(
        with_chap(chap(&[7])),
        Some(credentials(OURS, Some(b"what it should know"))),
    );
    let why = outcome(&mut impostor);
    assert!(
        matches!(
            why,
            Some(Closed::Login(LoginFailure::TargetNotAuthenticated(_)))
        ),
        "{why:?}"
    );
    // The target wants no proof and gives none, although mutual CHAP is configured.
    let mut open = pair(
        TargetConfig::default(),
        Some(credentials(OURS, Some(THEIRS))),
    );
    let why = outcome(&mut open);
    assert!(matches!(why, Some(Closed::Login(_))), "{why:?}");
    let mut naked = pair(with_chap(chap(&[7])), None);
    assert_eq!(
        outcome(&mut naked),
        Some(Closed::Login(LoginFailure::CredentialsNeeded))
    );
}

#[test]
fn an_old_target_wants_md5_alone() {
    let old = Chap {
        md5_alone: true,
        ..chap(&[5])
    };
    let mut pair = pair(with_chap(old.clone()), Some(credentials(OURS, None)));
    assert!(outcome(&mut pair).is_some());
    assert!(pair.session.retry_with_md5_only());
    let target = with_chap(old);
    let mut config = pair::login(&target, Offer::default());
    config.login.credentials = Some(Credentials {
        md5_only: true,
        ..credentials(OURS, None)
    });
    pair.restart(config);
    assert_eq!(outcome(&mut pair), None);
    assert_eq!(
        pair.session.negotiated().map(|terms| terms.authentication),
        Some(Authentication::Chap(5))
    );
}

#[test]
fn every_status_is_reported_as_it_is() {
    let statuses = (0..=0x0b)
        .map(|detail| (2, detail))
        .chain((0..=2).map(|detail| (3, detail)));
    for (class, detail) in statuses.filter(|status| *status != (2, 1)) {
        let status = LoginStatus { class, detail };
        let mut pair = pair(TargetConfig::default(), None);
        pair.world.target.next_login(LoginFate::Status(status));
        assert_eq!(
            outcome(&mut pair),
            Some(Closed::Login(LoginFailure::Refused(status)))
        );
    }
    for permanent in [false, true] {
        let mut pair = pair(TargetConfig::default(), None);
        let address = "[fd00::5]:3261".into();
        pair.world
            .target
            .next_login(LoginFate::Redirect { address, permanent });
        match outcome(&mut pair) {
            Some(Closed::Login(LoginFailure::Redirected {
                portal,
                permanent: said,
            })) => {
                assert_eq!(
                    (portal.host.as_str(), portal.port, said),
                    ("fd00::5", 3261, permanent)
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_login_that_is_not_answered_or_cut_off_ends_in_time() {
    let mut silent = pair(TargetConfig::default(), None);
    silent.world.target.next_login(LoginFate::Silence);
    let start = silent.now();
    assert_eq!(outcome(&mut silent), Some(Closed::LoginTimeout));
    assert!(silent.now().since(start) < Duration::from_secs(16));
    let mut closed = pair(TargetConfig::default(), None);
    closed.world.target.next_login(LoginFate::Close);
    assert_eq!(outcome(&mut closed), Some(Closed::ConnectionLost));
}

#[test]
fn a_login_in_small_pieces_with_proposals_of_the_target() {
    for text_max in [16, 64] {
        let target = TargetConfig {
            text_max,
            alias: Some("the good disk".into()),
            proposals: vec![
                ("X-kit.test".into(), "1".into()),
                ("TaskReporting".into(), "RFC3720".into()),
            ],
            ..TargetConfig::default()
        };
        let mut pair = pair(target, None);
        assert_eq!(outcome(&mut pair), None);
        let terms = pair.session.negotiated().expect("established");
        assert_eq!(terms.target_alias.as_deref(), Some("the good disk"));
        assert_eq!(terms.portal_group, Some(Tpgt(1)));
        assert_eq!(pair.world.target.violations(), []);
    }
}

#[test]
fn discovery_collects_the_answer_over_its_continuations() {
    for text_max in [20, 8192] {
        let target = TargetConfig {
            text_max,
            portals: (0..100)
                .map(|index| Portal {
                    address: format!("[fd00::{index}]:3260"),
                    group: Tpgt(index),
                })
                .collect(),
            ..TargetConfig::default()
        };
        let mut config = pair::login(&target, Offer::default());
        config.login.session_type = SessionType::Discovery;
        let name = target.name.clone();
        let mut pair = Pair::new(1, target, LunConfig::default(), config);
        assert_eq!(outcome(&mut pair), None);
        let now = pair.now();
        pair.session.text(now, b"SendTargets=All\0");
        assert!(pair.run(Duration::from_secs(10), |events| {
            events.contains(&Event::Text)
        }));
        let found = Discovery::parse(pair.session.text_response()).expect("well formed");
        assert_eq!(found.targets.len(), 1);
        assert_eq!(found.targets[0].name, name);
        assert_eq!(found.targets[0].portals.len(), 100);
        assert_eq!(found.targets[0].portals[42].portal_group, Some(Tpgt(42)));
        pair.take_events();
        let now = pair.now();
        pair.session.logout(now);
        assert_eq!(
            pair.until_closed(Duration::from_secs(5)),
            Some(Closed::LoggedOut)
        );
        assert_eq!(pair.world.target.violations(), []);
    }
}
