//! Ports that serve the LUN, that do not, and that are about to (SCHEDULING section 3).

use iscsi_client::scsi::Tpgs;
use iscsi_client::time::Instant;
use kit::disk::{AluaState, Fault, Group, Injection, LunConfig, Select};
use kit::world::{Incident, LUN_0};

use super::host::*;
use crate::contract::*;
use crate::note::Note;

#[test]
fn alua_states_decide_who_carries_io() {
    let unit = LunConfig {
        alua: true,
        ..LunConfig::default()
    };
    let mut host = Host::new(33, target(&[1, 2]), unit);
    host.world
        .unit()
        .set_group(Group(1), AluaState::Optimized, false);
    host.world
        .unit()
        .set_group(Group(2), AluaState::NonOptimized, false);
    host.all_up();
    let completed = |host: &Host| {
        let paths = host.volume.status().paths;
        [paths[0].completed, paths[1].completed]
    };
    for tag in 0..4 {
        host.must_write(tag, 0, 8, 1);
    }
    assert_eq!(completed(&host), [4, 0]);
    // The target turns round.
    host.world
        .unit()
        .set_group(Group(1), AluaState::Standby, false);
    host.world
        .unit()
        .set_group(Group(2), AluaState::Optimized, false);
    for tag in 0..4 {
        host.must_write(tag, 0, 8, 2);
    }
    host.pass(seconds(2));
    assert_eq!(host.state(0), PathState::Standby);
    assert_eq!(completed(&host), [4, 4]);
    assert_eq!(host.volume.status().paths[0].losses, 0);
    // And back.
    host.world
        .unit()
        .set_group(Group(1), AluaState::Optimized, true);
    host.all_up();
    for tag in 0..4 {
        host.must_write(tag, 0, 8, 3);
    }
    assert_eq!(completed(&host), [8, 4]);
    // Both in transition: held, not failed.
    host.world
        .unit()
        .set_group(Group(1), AluaState::Transitioning, false);
    host.world
        .unit()
        .set_group(Group(2), AluaState::Transitioning, false);
    host.write(0, 0, 8, 4);
    host.pass(seconds(5));
    assert_eq!(host.result(0), None);
    host.world
        .unit()
        .set_group(Group(2), AluaState::NonOptimized, false);
    assert_eq!(host.wait(0), Some(Ok(())));
    host.assert_good_manners();
}

fn unit() -> LunConfig {
    LunConfig {
        alua: true,
        ..LunConfig::default()
    }
}

/// Two paths in groups 1 and 2, in these states.
fn two(unit: LunConfig, rule: NoPathRetry, states: [AluaState; 2]) -> Host {
    let explicit = unit.alua_explicit;
    let mut host = Host::with(34, target(&[1, 2]), unit, |config| {
        config.no_path_retry = rule;
        if explicit {
            config.description.tpgs = Tpgs::Both;
        }
    });
    set(&mut host, states);
    host
}

fn set(host: &mut Host, states: [AluaState; 2]) {
    for (group, state) in [1, 2].into_iter().zip(states) {
        host.world.unit().set_group(Group(group), state, false);
    }
}

#[test]
fn a_transition_holds_requests_even_where_none_may_wait_and_blames_nobody() {
    for transition_seconds in [Some(5), None] {
        let unit = LunConfig {
            transition_seconds,
            ..unit()
        };
        let mut host = two(unit, NoPathRetry::Fail, [AluaState::Optimized; 2]);
        host.all_up();
        set(&mut host, [AluaState::Transitioning; 2]);
        host.write(0, 0, 8, 1);
        host.pass(seconds(4));
        assert_eq!(host.result(0), None, "held");
        assert_eq!(host.volume.status().all_paths_down_since, None);
        set(
            &mut host,
            [AluaState::Transitioning, AluaState::NonOptimized],
        );
        let seen = host.now();
        assert_eq!(host.wait(0), Some(Ok(())));
        // It is asked every second at least.
        assert!(host.now().since(seen) < millis(1500));
        for path in host.volume.status().paths {
            assert_eq!(path.losses, 0);
        }
        for id in [PathId(0), PathId(1)] {
            assert!(!host.volume.path(id).damping.is_marginal(host.now()));
        }
        host.assert_good_manners();
    }
}

#[test]
fn a_transition_that_takes_too_long_is_standby() {
    // (transition time that the target names, when the requests fail)
    for (named, limit) in [(Some(5), 5), (Some(0), 60), (None, 60)] {
        let unit = LunConfig {
            transition_seconds: named,
            ..unit()
        };
        let mut host = two(unit, NoPathRetry::Fail, [AluaState::Optimized; 2]);
        host.patience = seconds(120);
        host.all_up();
        set(&mut host, [AluaState::Transitioning; 2]);
        let start = host.now();
        host.write(0, 0, 8, 1);
        assert_eq!(host.wait(0), Some(Err(IoError::Io)), "{named:?}");
        let took = host.now().since(start);
        assert!(
            seconds(limit) <= took && took < seconds(limit + 2),
            "{named:?}: {took:?}"
        );
        assert!(host.noted(|note| matches!(note, Note::TransitionTooLong { .. })));
        set(&mut host, [AluaState::Optimized; 2]);
        host.all_up();
        host.must_write(0, 0, 8, 1);
    }
}

fn explicit() -> LunConfig {
    LunConfig {
        alua_explicit: true,
        ..unit()
    }
}

fn activations(host: &mut Host) -> Vec<(Instant, Group)> {
    host.world.unit().activations().to_vec()
}

#[test]
fn the_target_is_told_to_serve_only_when_nothing_else_is_left() {
    let mut host = two(
        explicit(),
        NoPathRetry::Queue,
        [AluaState::Optimized, AluaState::Standby],
    );
    assert!(host.run(seconds(5), |host| host.is_up(0)
        && host.state(1) == PathState::Standby));
    host.must_write(0, 0, 8, 1);
    host.pass(seconds(120));
    assert_eq!(activations(&mut host), [], "a port serves");
    // The port that serves dies.
    host.cut(0);
    host.must_read(0, 0, 8);
    let told = activations(&mut host);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1, Group(2));
    assert!(host.is_up(1));
    host.assert_good_manners();
}

#[test]
fn a_target_that_only_decides_by_itself_is_told_nothing() {
    let mut host = two(unit(), NoPathRetry::Queue, [AluaState::Standby; 2]);
    host.pass(seconds(60));
    assert_eq!(host.state(0), PathState::Standby);
    let commands = |note: &Note| matches!(note, Note::Activating { .. });
    assert!(!host.noted(commands));
    assert_eq!(activations(&mut host), []);
}

#[test]
fn the_preferred_group_is_asked_for_and_another_hosts_will_is_respected() {
    let mut host = two(explicit(), NoPathRetry::Queue, [AluaState::Standby; 2]);
    host.world
        .unit()
        .set_group(Group(2), AluaState::Standby, true);
    assert!(host.run(seconds(5), |host| host.is_up(1)));
    // Another host takes the LUN away whenever it is ours.
    for _ in 0..3 {
        set(&mut host, [AluaState::Standby; 2]);
        host.must_read(0, 0, 8);
    }
    let told = activations(&mut host);
    assert_eq!(told[0].1, Group(2));
    let pauses: Vec<u64> = told
        .windows(2)
        .map(|pair| pair[1].0.since(pair[0].0).as_secs_f64().round() as u64)
        .collect();
    assert_eq!(pauses, [10, 20, 40]);
}

#[test]
fn a_refusal_is_no_reason_to_insist() {
    let mut host = two(explicit(), NoPathRetry::Queue, [AluaState::Standby; 2]);
    let injection = Injection {
        nexus: None,
        select: Select::Opcode(0xa4),
        fault: Fault::Check(kit::disk::Code::INVALID_PARAMETER),
        times: u32::MAX,
    };
    host.world.happen(Incident::Inject(LUN_0, injection));
    host.pass(seconds(75));
    let told = host
        .notes
        .iter()
        .filter(|note| matches!(note, Note::Activating { .. }));
    // After 2, 12, 32 and 72 seconds.
    assert_eq!(told.count(), 4);
    assert_eq!(host.state(0), PathState::Standby);
    assert_eq!(host.volume.status().paths[0].losses, 0);
    host.assert_good_manners();
}
