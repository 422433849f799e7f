//! Silent paths under IO: who is suspected, who is given up and when, who is not.

use core::time::Duration;

use iscsi_client::time::Instant;
use kit::disk::{Fault, Injection, LunConfig, Select};
use kit::net::{Direction, Link as Cable};
use kit::world::{Incident, LUN_0};

use super::host::*;
use crate::contract::*;
use crate::note::Note;

fn two_paths() -> Host {
    let mut host = Host::new(41, target(&[1, 1]), LunConfig::default());
    host.all_up();
    // Past the attach: both paths idle, their pings answered.
    host.pass(millis(300));
    host
}

fn deaths(host: &Host) -> Vec<(PathId, Dead)> {
    let deaths = host.notes.iter().filter_map(|note| match note {
        Note::Dead { path, dead } => Some((*path, *dead)),
        _ => None,
    });
    deaths.collect()
}

/// Requests of one kind on every tag, each repeated as soon as it is answered. The longest time without an answer.
fn longest_gap(host: &mut Host, operation: Operation, time: Duration) -> Duration {
    let end = host.now() + time;
    let mut last = host.now();
    let mut longest = Duration::ZERO;
    let mut started: Vec<Option<Instant>> = vec![None; usize::from(DEPTH)];
    while host.now() < end {
        for tag in 0..8 {
            if started[usize::from(tag)].is_none() {
                started[usize::from(tag)] = Some(host.now());
                host.submit(request(tag, operation, u64::from(tag) * 8, 8));
            }
        }
        let left = end.since(host.now());
        host.run(left, |host| !host.done.is_empty());
        for (tag, result) in core::mem::take(&mut host.done) {
            assert_eq!(result, Ok(()));
            started[usize::from(tag.0)] = None;
            longest = longest.max(host.now().since(last));
            last = host.now();
        }
    }
    let open = started.iter().flatten().count();
    assert!(host.run(seconds(5), |host| host.done.len() == open));
    host.done.clear();
    longest.max(host.now().since(end)).max(end.since(last))
}

/// What is in flight when a path goes silent, in either direction, is answered elsewhere within the goals.
#[test]
fn a_silent_path_costs_a_tenth_of_a_second() {
    let ways = [
        &[Direction::ToTarget][..],
        &[Direction::ToInitiator],
        &[Direction::ToTarget, Direction::ToInitiator],
    ];
    for way in ways {
        for operation in [Operation::Read, Operation::Write] {
            let mut host = two_paths();
            let before = longest_gap(&mut host, operation, millis(50));
            assert!(before < millis(2), "{before:?}");
            for direction in way {
                host.world.happen(Incident::Cut(Cable(0), *direction));
            }
            let gap = longest_gap(&mut host, operation, millis(200));
            assert!(gap < millis(115), "{way:?} {operation:?}: {gap:?}");
            let deaths = deaths(&host);
            let [(PathId(0), Dead::WhileOthersLive { silence })] = deaths[..] else {
                panic!("{deaths:?}");
            };
            let bounds = millis(100)..millis(105);
            assert!(
                bounds.contains(&silence),
                "{way:?} {operation:?}: {silence:?}"
            );
            host.heal(0);
            host.all_up();
            host.assert_good_manners();
        }
    }
}

#[test]
fn suspicion_steers_before_the_verdict() {
    let mut host = two_paths();
    host.cut(0);
    for tag in 0..4 {
        host.write(tag, u64::from(tag) * 8, 8, 1);
    }
    host.pass(millis(40));
    assert_eq!(host.done.len(), 2, "one path answers");
    assert!(host.volume.path(PathId(0)).is_suspect() && host.is_up(0));
    // Whatever is new goes the other way.
    for tag in 4..12 {
        host.write(tag, u64::from(tag) * 8, 8, 1);
    }
    host.pass(millis(5));
    assert_eq!(host.done.len(), 10);
    // Back before the verdict: nothing but the two waited.
    host.heal(0);
    host.pass(millis(5));
    assert_eq!(host.done.len(), 12);
    assert!(!host.volume.path(PathId(0)).is_suspect());
    host.pass(seconds(10));
    assert_eq!(deaths(&host), []);
    assert_eq!(host.volume.status().paths[0].losses, 0);
}

#[test]
fn a_target_that_stops_reading_is_not_dead() {
    let mut host = two_paths();
    host.world.happen(Incident::StopReading(0, seconds(5)));
    for tag in 0..4 {
        host.write(tag, u64::from(tag) * 8, 8, 1);
    }
    host.pass(millis(100));
    assert_eq!(host.done.len(), 2, "the other path goes on");
    assert!(host.volume.path(PathId(0)).is_suspect());
    host.pass(seconds(6));
    assert_eq!(host.done.len(), 4);
    assert!(!host.volume.path(PathId(0)).is_suspect());
    assert_eq!(deaths(&host), []);
    // Both at once: nobody is worse than the other.
    for portal in [0, 1] {
        host.world.happen(Incident::StopReading(portal, seconds(5)));
    }
    host.done.clear();
    for tag in 0..8 {
        host.write(tag, u64::from(tag) * 8, 8, 2);
    }
    host.pass(seconds(6));
    assert_eq!(host.done.len(), 8);
    assert_eq!(deaths(&host), []);
    let status = host.volume.status();
    assert!(status.paths.iter().all(|path| path.losses == 0));
    host.assert_good_manners();
}

/// Every ping that may be unanswered is, and acknowledged: of the cut TCP would know nothing, and the command timeout had to find it.
#[test]
fn a_target_that_stopped_reading_is_dead_when_its_link_is_cut() {
    let mut host = two_paths();
    host.world.happen(Incident::StopReading(0, seconds(60)));
    for tag in 0..4 {
        host.write(tag, u64::from(tag) * 8, 8, 1);
    }
    host.pass(seconds(2));
    assert_eq!((host.done.len(), &deaths(&host)[..]), (2, &[][..]));
    host.cut(0);
    host.pass(seconds(2));
    assert!(
        matches!(
            deaths(&host)[..],
            [(PathId(0), Dead::WhileOthersLive { .. })]
        ),
        "{:?}",
        deaths(&host)
    );
    host.heal(0);
    host.pass(seconds(70));
    assert_eq!(host.done.len(), 4);
    host.assert_good_manners();
}

#[test]
fn commands_that_hang_on_one_path_only_are_steered_around() {
    let mut host = two_paths();
    let nexus = host
        .world
        .target
        .sessions()
        .map(|(_, _, nexus)| nexus)
        .next();
    let injection = Injection {
        nexus,
        select: Select::Reads,
        fault: Fault::Park,
        times: 1000,
    };
    host.world.happen(Incident::Inject(LUN_0, injection));
    let mut tag = 0;
    let end = host.now() + millis(1_500);
    // Both paths get reads; those of one never end.
    while host.now() < end {
        if tag < DEPTH {
            host.submit(request(tag, Operation::Read, 0, 8));
            tag += 1;
        }
        host.pass(millis(100));
    }
    let suspects = (0..2).filter(|&path| host.volume.path(PathId(path)).is_suspect());
    assert_eq!(suspects.count(), 1);
    assert_eq!(deaths(&host), []);
    host.world.happen(Incident::Disarm);
    host.world.happen(Incident::ReleaseAll);
    host.pass(millis(10));
    assert!((0..2).all(|path| !host.volume.path(PathId(path)).is_suspect()));
}

#[test]
fn all_paths_silent_keep_their_sessions_for_a_while() {
    let mut host = two_paths();
    host.cut(0);
    host.cut(1);
    for tag in 0..4 {
        host.write(tag, u64::from(tag) * 8, 8, 1);
    }
    host.pass(millis(4_500));
    assert!(host.is_up(0) && host.is_up(1));
    host.heal(0);
    host.heal(1);
    host.pass(millis(10));
    assert_eq!(host.done.len(), 4);
    assert_eq!(deaths(&host), []);
    host.cut(0);
    host.cut(1);
    host.pass(millis(6_000));
    let deaths = deaths(&host);
    assert!(
        matches!(
            deaths[..],
            [(_, Dead::Together { .. }), (_, Dead::Alone { .. })]
        ),
        "{deaths:?}"
    );
}

#[test]
fn our_own_pause_fails_nobody() {
    for pause in [millis(100), seconds(1), seconds(10)] {
        let mut host = two_paths();
        for tag in 0..DEPTH {
            host.write(tag, u64::from(tag) * 8, 8, 1);
        }
        host.turn();
        // The world goes on without us: answers lie in the socket buffers until we run again.
        let mut waiting = Vec::new();
        let end = host.now() + pause;
        while let Some(event) = host.world.advance(end) {
            waiting.push(event);
        }
        // The worst order: our timers run before the bytes are taken.
        host.turn();
        assert_eq!(deaths(&host), [], "{pause:?}");
        for event in waiting {
            host.happened(event);
        }
        assert!(host.run(seconds(1), |host| host.done.len() == usize::from(DEPTH)));
        host.pass(seconds(1));
        assert_eq!(deaths(&host), [], "{pause:?}");
        let status = host.volume.status();
        assert!(status.paths.iter().all(|path| path.losses == 0));
    }
}

#[test]
fn an_idle_path_that_died_is_found_without_io() {
    let mut host = two_paths();
    host.cut(0);
    host.pass(millis(700));
    assert!(matches!(
        deaths(&host)[..],
        [(PathId(0), Dead::WhileOthersLive { .. })]
    ));
    // And a lone path, by itself.
    host.cut(1);
    host.pass(millis(2_000));
    assert!(matches!(
        deaths(&host)[..],
        [_, (PathId(1), Dead::Alone { .. })]
    ));
}

#[test]
fn a_reset_needs_no_clock() {
    let mut host = two_paths();
    longest_gap(&mut host, Operation::Write, millis(100));
    host.reset(0);
    let gap = longest_gap(&mut host, Operation::Write, millis(100));
    assert!(gap < millis(10), "{gap:?}");
    assert_eq!(deaths(&host), []);
}

#[test]
fn a_carrier_needs_no_clock_either() {
    let mut host = two_paths();
    host.cut(0);
    let now = host.now();
    host.volume.carrier(now, PathId(0), false);
    host.pass(millis(10));
    let PathState::Down { why, .. } = host.state(0) else {
        panic!("{:?}", host.state(0));
    };
    assert!(why.contains("no carrier"), "{why}");
    // Long enough for a backoff of seconds; the carrier's return ends it.
    host.pass(seconds(30));
    host.heal(0);
    let now = host.now();
    host.volume.carrier(now, PathId(0), true);
    host.pass(millis(50));
    assert!(host.is_up(0));
    // On a path that is up it says nothing new, and for a path that is not there it is ignored.
    let now = host.now();
    host.volume.carrier(now, PathId(0), true);
    host.volume.carrier(now, PathId(7), false);
    host.pass(millis(50));
    assert!(host.is_up(0) && host.is_up(1));
}
