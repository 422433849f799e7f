//! Every choice and refusal, from answers made by hand.

use std::io;

use iscsi_client::login::LoginFailure;
use iscsi_client::session::Closed;
use multipath::{Identity, TaskSet};

use super::*;
use crate::probe::Unit;

const T1: &str = "iqn.2020-01.x:t1";
const T2: &str = "iqn.2020-01.x:t2";
const ME: &str = "iqn.2020-01.x:me";

fn place(address: &str, interface: Option<&str>) -> Place {
    Place {
        address: address.parse().unwrap(),
        interface: interface.map(str::to_owned),
        gateway: None,
    }
}

fn record(name: &str, portals: &[&str]) -> TargetRecord {
    TargetRecord {
        name: name.into(),
        portals: portals
            .iter()
            .map(|portal| portal.parse().unwrap())
            .collect(),
    }
}

fn answer(portal: &str, targets: Result<Vec<TargetRecord>, SessionError>) -> Answer {
    let portal: Portal = portal.parse().unwrap();
    let place = portal
        .address()
        .map(|address| place(&address.to_string(), Some("eth1")));
    Answer {
        portal,
        place,
        targets,
    }
}

fn unreachable() -> SessionError {
    SessionError::Connect(io::ErrorKind::ConnectionRefused.into())
}

fn disk(wwid: &str) -> Description {
    Description {
        identity: Identity {
            wwid: wwid.into(),
            serial: "s".into(),
            vendor: "LIO-ORG".into(),
            product: "disk".into(),
            blocks: 2048,
            block_len: 512,
        },
        physical_block_exponent: 0,
        max_transfer_blocks: None,
        optimal_transfer_blocks: None,
        optimal_granularity_blocks: None,
        rotational: false,
        write_cache: false,
        fua: false,
        read_only: false,
        unmap: None,
        max_write_same_blocks: None,
        write_same_unmaps: false,
        task_set: TaskSet::Shared,
        target_port_group: None,
        tpgs: iscsi_client::scsi::Tpgs::None,
    }
}

fn sight(portal: usize, target: &str, units: &[(u16, Result<&str, ProbeFailure>)]) -> Sight {
    let units = units
        .iter()
        .map(|(lun, what)| Unit {
            lun: Lun::from_number(*lun).unwrap(),
            what: what.clone().map(disk),
        })
        .collect();
    let shown = Shown {
        portal_group: Some(Tpgt(7)),
        units,
        skipped: 0,
    };
    Sight {
        portal,
        target: target.into(),
        shown: Ok(shown),
    }
}

fn two_portals() -> Vec<Answer> {
    let records = || {
        vec![record(
            T1,
            &["10.0.5.1:3260,1", "10.0.6.1:3260,1", "10.0.7.1:3260,2"],
        )]
    };
    vec![
        answer("10.0.5.1", Ok(records())),
        answer("10.0.6.1", Ok(records())),
    ]
}

#[test]
fn one_disk_needs_no_flag() {
    let answers = two_portals();
    assert_eq!(
        pairs(&answers, None),
        [(0, T1.to_owned()), (1, T1.to_owned())]
    );
    let controller = (0, Err(ProbeFailure::NotADisk(0x0c)));
    let sights = [
        sight(0, T1, &[controller.clone(), (1, Ok("3a"))]),
        sight(1, T1, &[controller, (1, Ok("3a"))]),
    ];
    let choice = choose(&answers, &sights, None, ME).unwrap();
    assert_eq!((choice.target.as_str(), choice.lun.number()), (T1, Some(1)));
    same_everywhere(&answers, &sights, &choice).unwrap();
    assert_eq!(other_portals(&answers, T1), ["10.0.7.1"]);
}

#[test]
fn several_are_listed_with_the_flag_to_add() {
    let answers = two_portals();
    let luns = [sight(0, T1, &[(0, Ok("3a")), (1, Ok("3b"))])];
    let failure = choose(&answers, &luns, None, ME).unwrap_err();
    assert_eq!(failure.kind, Kind::Ambiguous);
    assert!(
        failure.what.contains("--lun 1  3b") && failure.next.contains("--lun"),
        "{failure}"
    );
    assert!(!failure.next.contains("--target"), "{failure}");
    assert_eq!(
        choose(&answers, &luns, Some(1), ME).unwrap().lun.number(),
        Some(1)
    );

    let targets = [
        sight(0, T1, &[(0, Ok("3a"))]),
        sight(0, T2, &[(0, Ok("3b"))]),
    ];
    let failure = choose(&answers, &targets, None, ME).unwrap_err();
    assert!(
        failure.next.contains("--target") && !failure.next.contains("--lun"),
        "{failure}"
    );
}

#[test]
fn a_target_elsewhere_is_not_behind_this_portal() {
    let records = vec![
        record(T1, &["10.0.5.1:3260,1"]),
        record(T2, &["10.0.9.1:3260,1"]),
    ];
    assert_eq!(
        pairs(&[answer("10.0.5.1", Ok(records))], None),
        [(0, T1.to_owned())]
    );
    // Behind address translation nobody names our portal.
    let records = vec![record(T1, &["192.168.0.1:3260,1"])];
    assert_eq!(
        pairs(&[answer("10.0.5.1", Ok(records))], None),
        [(0, T1.to_owned())]
    );
}

#[test]
fn a_named_target_is_asked_where_discovery_fails_but_not_where_nobody_is() {
    let answers = [
        answer("10.0.5.1", Err(SessionError::Silent("SendTargets"))),
        answer("10.0.6.1", Err(unreachable())),
    ];
    assert_eq!(pairs(&answers, Some(T1)), [(0, T1.to_owned())]);
    assert_eq!(pairs(&answers, None), []);
}

#[test]
fn another_disk_behind_the_second_portal_is_refused() {
    let answers = two_portals();
    let sights = [
        sight(0, T1, &[(0, Ok("3a"))]),
        sight(1, T1, &[(0, Ok("3b"))]),
    ];
    let choice = choose(&answers, &sights, None, ME).unwrap();
    let failure = same_everywhere(&answers, &sights, &choice).unwrap_err();
    assert_eq!(failure.kind, Kind::Refused);
    assert!(failure.what.contains("10.0.6.1"), "{failure}");
}

#[test]
fn nobody_answers() {
    let answers = [answer("10.0.5.1", Err(unreachable()))];
    let failure = choose(&answers, &[], None, ME).unwrap_err();
    assert_eq!(failure.kind, Kind::Unreachable);
    assert!(
        failure.what.contains("portal 10.0.5.1: no TCP connection"),
        "{failure}"
    );
}

#[test]
fn a_refusal_outweighs_silence_and_names_us() {
    let denied = SessionError::Closed(Closed::Login(LoginFailure::CredentialsNeeded));
    let answers = [
        answer("10.0.5.1", Ok(vec![record(T1, &[])])),
        answer("10.0.6.1", Err(unreachable())),
    ];
    let sights = [Sight {
        portal: 0,
        target: T1.into(),
        shown: Err(denied),
    }];
    let failure = choose(&answers, &sights, None, ME).unwrap_err();
    assert_eq!(failure.kind, Kind::Denied);
    assert!(
        failure.next.contains(ME) && failure.next.contains("--chap-file"),
        "{failure}"
    );
}

#[test]
fn an_unusable_lun_says_why() {
    let answers = two_portals();
    let sights = [sight(0, T1, &[(0, Err(ProbeFailure::BlockLength(520)))])];
    let failure = choose(&answers, &sights, None, ME).unwrap_err();
    assert_eq!(failure.kind, Kind::NotFound);
    assert!(failure.what.contains("520"), "{failure}");
    let failure = choose(&answers, &[sight(0, T1, &[(0, Ok("3a"))])], Some(5), ME).unwrap_err();
    assert_eq!(failure.kind, Kind::NotFound);
}

#[test]
fn the_portal_group_of_a_silent_portal_is_known_from_another() {
    let mut answers = two_portals();
    answers[1].targets = Err(unreachable());
    assert_eq!(portal_group(&answers, &[], T1, 1), Some(Tpgt(1)));
    // Discovery says nothing: the login's word counts.
    let answers = [answer("10.0.5.1", Ok(vec![record(T1, &[])]))];
    assert_eq!(
        portal_group(&answers, &[sight(0, T1, &[])], T1, 0),
        Some(Tpgt(7))
    );
}

#[test]
fn gateways_and_lost_names_are_said() {
    let mut answers = two_portals();
    assert_eq!(remarks(&answers), [""; 0]);
    answers[1].place = Some(Place {
        gateway: Some("10.0.5.99".parse().unwrap()),
        ..place("10.9.9.9:3260", None)
    });
    assert!(remarks(&answers)[0].contains("gateway 10.0.5.99"));
    answers[1].place = None;
    assert!(remarks(&answers)[0].contains("no address"));
}
