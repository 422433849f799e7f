//! All paths down under each rule, permanent loss, other LUNs, contested sessions, refusals.

use kit::disk::{Code, Fault, Injection, LunConfig, Select};
use kit::target::LoginFate;
use kit::world::{Incident, LUN_0};

use iscsi_client::wire::LoginStatus;

use super::host::*;
use crate::contract::*;
use crate::note::Note;

fn two_paths(rule: NoPathRetry) -> Host {
    let mut host = Host::with(21, target(&[1, 1]), LunConfig::default(), |config| {
        config.no_path_retry = rule;
    });
    host.all_up();
    host
}

fn cut_both(host: &mut Host) {
    host.cut(0);
    host.cut(1);
}

fn heal_both(host: &mut Host) {
    host.heal(0);
    host.heal(1);
}

#[test]
fn queue_holds_for_ever_and_resends_in_order() {
    let mut host = two_paths(NoPathRetry::Queue);
    cut_both(&mut host);
    host.pass(seconds(6));
    for tag in 0..8 {
        host.write(tag, u64::from(tag) * 8, 8, tag as u8);
    }
    host.pass(seconds(300));
    assert!(host.done.is_empty());
    let told = host
        .notes
        .iter()
        .filter(|note| matches!(note, Note::PathState { .. }))
        .count();
    assert!(told <= 8, "not one line per attempt: {:?}", host.notes);
    let status = host.volume.status();
    assert_eq!(status.waiting, 8);
    assert!(status.all_paths_down_since.is_some());
    heal_both(&mut host);
    assert!(host.run(seconds(20), |host| host.done.len() == 8));
    assert!(host.done.iter().all(|(_, result)| result.is_ok()));
    for tag in 0..8 {
        assert_eq!(host.medium(tag * 8, 8), vec![tag as u8; 4096]);
    }
    assert_eq!(host.volume.status().all_paths_down_since, None);
    host.assert_good_manners();
}

#[test]
fn fail_fails_at_once_and_in_order_of_arrival() {
    let mut host = two_paths(NoPathRetry::Queue);
    cut_both(&mut host);
    host.pass(seconds(7));
    for tag in [5, 3, 9, 1] {
        host.submit(request(tag, Operation::Read, 0, 8));
    }
    let now = host.now();
    host.volume.set_no_path_retry(now, NoPathRetry::Fail);
    host.turn();
    let failed = Err(IoError::Io);
    assert_eq!(host.done, [5, 3, 9, 1].map(|tag| (Tag(tag), failed)));
    assert!(host.noted(|note| *note == Note::NoPath { failed: 4 }));
    host.done.clear();
    host.submit(request(5, Operation::Read, 0, 8));
    host.turn();
    assert_eq!(host.done, [(Tag(5), failed)], "fail fast");
    host.done.clear();
    heal_both(&mut host);
    host.all_up();
    host.must_write(5, 0, 8, 1);
}

#[test]
fn a_limit_holds_then_fails_then_fails_fast_until_a_path_is_back() {
    let mut host = two_paths(NoPathRetry::For(seconds(30)));
    host.pass(seconds(1));
    cut_both(&mut host);
    host.submit(request(0, Operation::Read, 0, 8));
    host.pass(seconds(30));
    assert_eq!(host.result(0), None);
    let since = host
        .volume
        .status()
        .all_paths_down_since
        .expect("an outage");
    assert_eq!(host.wait(0), Some(Err(IoError::Io)));
    assert_eq!(host.now(), since + seconds(30), "to the moment");
    host.submit(request(0, Operation::Read, 0, 8));
    host.turn();
    assert_eq!(host.result(0), Some(Err(IoError::Io)));
    host.done.clear();
    heal_both(&mut host);
    host.all_up();
    // The next outage has its whole time again.
    cut_both(&mut host);
    host.submit(request(0, Operation::Read, 0, 8));
    host.pass(seconds(25));
    assert_eq!(host.result(0), None);
    heal_both(&mut host);
    assert_eq!(host.wait(0), Some(Ok(())));
    host.assert_good_manners();
}

#[test]
fn another_lun_behind_the_portal_is_refused_before_any_write() {
    let mut host = two_paths(NoPathRetry::Queue);
    cut_both(&mut host);
    host.pass(seconds(6));
    host.write(0, 0, 8, 0x11);
    let mut other = LunConfig::default();
    other.identity.serial = "0ther".into();
    host.world.unit().swap(other, false);
    heal_both(&mut host);
    assert_eq!(
        host.wait(0),
        Some(Err(IoError::Io)),
        "a permanent loss is not queued"
    );
    for path in 0..2 {
        let PathState::Refused { why } = host.state(path) else {
            panic!("{:?}", host.state(path));
        };
        assert!(why.contains("its serial number is \"0ther\""), "{why}");
    }
    assert_eq!(host.medium(0, 8), vec![0; 4096]);
    // The right one is back, and the operator says so.
    host.world.unit().swap(LunConfig::default(), false);
    let now = host.now();
    host.volume.retry_now(now);
    host.all_up();
    host.must_write(0, 0, 8, 0x11);
    host.assert_good_manners();
}

#[test]
fn a_lun_swapped_under_a_living_session_gets_no_write() {
    let mut host = two_paths(NoPathRetry::Queue);
    let mut other = LunConfig::default();
    other.identity.naa[15] = 2;
    host.world.unit().swap(other, true);
    host.write(0, 0, 8, 0x11);
    assert_eq!(host.wait(0), Some(Err(IoError::Io)));
    assert_eq!(host.medium(0, 8), vec![0; 4096]);
    assert!(matches!(host.state(0), PathState::Refused { .. }));
    assert!(matches!(host.state(1), PathState::Refused { .. }));
}

#[test]
fn a_lun_that_is_gone_fails_at_once_and_may_come_back() {
    let mut host = two_paths(NoPathRetry::Queue);
    let unit = host.world.target.remove_unit(LUN_0).expect("the unit");
    host.write(0, 0, 8, 0x11);
    assert_eq!(host.wait(0), Some(Err(IoError::Io)));
    host.world.target.add_unit(LUN_0, unit);
    host.all_up();
    host.must_write(0, 0, 8, 0x11);
}

#[test]
fn a_session_that_is_taken_away_again_and_again_is_tried_once_a_minute() {
    let mut host = two_paths(NoPathRetry::Queue);
    for _ in 0..5 {
        assert!(host.run(seconds(10), |host| host.is_up(0)));
        host.pass(seconds(1));
        host.reset(0);
    }
    for _ in 0..3 {
        host.pass(seconds(1));
        let PathState::Down { why, retry_at } = host.state(0) else {
            panic!("{:?}", host.state(0));
        };
        assert!(
            why.contains("another host uses this InitiatorName"),
            "{why}"
        );
        let pause = retry_at.since(host.world.now());
        assert!(seconds(55) < pause && pause <= seconds(60), "{pause:?}");
        assert!(host.is_up(1));
        assert!(host.run(seconds(62), |host| host.is_up(0)));
        // Longer than a short life: the other host took its minute, too.
        host.pass(seconds(30));
        host.reset(0);
    }
    host.pass(seconds(1));
    host.volume.retry_now(host.world.now());
    host.all_up();
}

#[test]
fn a_target_that_restarts_again_and_again_is_no_stranger() {
    let mut host = two_paths(NoPathRetry::Queue);
    for _ in 0..8 {
        host.world.happen(Incident::Restart(seconds(1)));
        assert!(host.run(seconds(12), |host| host.is_up(0) && host.is_up(1)));
    }
}

#[test]
fn logins_that_cannot_succeed_are_not_repeated_and_others_are() {
    let table = [
        (0x02, 0x01, true),
        (0x02, 0x02, true),
        (0x02, 0x03, false),
        (0x02, 0x04, true),
        (0x03, 0x00, false),
        (0x03, 0x01, false),
        (0x03, 0x02, false),
    ];
    for (class, detail, refused) in table {
        let mut host = two_paths(NoPathRetry::Queue);
        host.world
            .target
            .next_login(LoginFate::Status(LoginStatus { class, detail }));
        host.reset(0);
        host.pass(seconds(10));
        assert_eq!(
            matches!(host.state(0), PathState::Refused { .. }),
            refused,
            "{class:02x}{detail:02x}: {:?}",
            host.state(0)
        );
        assert_eq!(host.is_up(0), !refused);
    }
}

#[test]
fn redirects_are_followed_for_this_login_only_and_not_for_ever() {
    let mut host = two_paths(NoPathRetry::Queue);
    let redirect = |address: &str, permanent| LoginFate::Redirect {
        address: address.into(),
        permanent,
    };
    host.world
        .target
        .next_login(redirect("10.20.6.254:3260", false));
    host.reset(0);
    host.pass(seconds(2));
    assert!(host.is_up(0));
    // Path 0 now lives on link 1.
    host.cut(0);
    host.pass(seconds(10));
    assert!(host.is_up(0));
    host.heal(0);
    // Next time it starts at its own portal again.
    host.world
        .target
        .next_login(redirect("10.20.6.254:3260", true));
    host.cut(1);
    host.pass(seconds(10));
    assert!(host.noted(|note| matches!(
        note,
        Note::MovedPermanently {
            path: PathId(0),
            ..
        }
    )));
    host.heal(1);
    host.all_up();
    // A ring of redirects ends after a few hops, and a name cannot be followed.
    for _ in 0..5 {
        host.world
            .target
            .next_login(redirect("10.20.5.254:3260", false));
    }
    host.reset(0);
    host.pass(seconds(20));
    host.all_up();
    host.world
        .target
        .next_login(redirect("san.example:3260", false));
    host.reset(0);
    host.pass(seconds(20));
    let PathState::Refused { why } = host.state(0) else {
        panic!("{:?}", host.state(0));
    };
    assert!(why.contains("san.example"), "{why}");
}

#[test]
fn a_target_that_restarts_is_found_again() {
    let mut host = two_paths(NoPathRetry::Queue);
    host.world.happen(Incident::Restart(seconds(20)));
    host.write(0, 0, 8, 0x11);
    host.pass(seconds(15));
    assert_eq!(host.result(0), None);
    assert_eq!(host.wait(0), Some(Ok(())));
    host.all_up();
    host.assert_good_manners();
}

#[test]
fn wrong_disks_are_refused_with_a_sentence() {
    let table: [(LunConfig, &str); 2] = [
        (
            LunConfig {
                protected: true,
                ..LunConfig::default()
            },
            "protection information",
        ),
        (
            LunConfig {
                block_size: 1024,
                blocks: 1 << 20,
                ..LunConfig::default()
            },
            "blocks of 1024 bytes",
        ),
    ];
    for (unit, sentence) in table {
        let mut host = Host::with(22, target(&[1]), unit, |config| {
            config.description = describe(&LunConfig::default());
        });
        host.pass(seconds(2));
        let PathState::Refused { why } = host.state(0) else {
            panic!("{:?}", host.state(0));
        };
        assert!(why.contains(sentence), "{why}");
    }
}

#[test]
fn a_path_without_data_does_not_come_up() {
    let mut host = two_paths(NoPathRetry::Queue);
    let injection = Injection {
        nexus: None,
        select: Select::Reads,
        fault: Fault::Check(Code(0xb, 0x47, 0x05)),
        times: 3,
    };
    host.reset(0);
    host.world.happen(Incident::Inject(LUN_0, injection));
    host.pass(millis(300));
    assert!(!host.is_up(0));
    host.all_up();
}
