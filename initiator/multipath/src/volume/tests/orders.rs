//! The operator's orders: paths failed, restored, removed and added again while IO goes on.

use iscsi_client::wire::Isid;
use kit::disk::{Fault, Injection, LunConfig, Select};
use kit::world::{Incident, LUN_0};

use super::host::*;
use crate::contract::*;
use crate::note::Note;
use crate::volume::OrderRefused;

const A: PathId = PathId(0);
const B: PathId = PathId(1);

fn two_paths() -> Host {
    let mut host = Host::with(21, target(&[1, 1]), LunConfig::default(), |config| {
        config.policy = PolicyKind::Failover;
    });
    host.all_up();
    host
}

/// The target takes the next write on and keeps it.
fn park_next_write(host: &mut Host) {
    let injection = Injection {
        nexus: None,
        select: Select::Writes,
        fault: Fault::Park,
        times: 1,
    };
    host.world.happen(Incident::Inject(LUN_0, injection));
}

fn fail(host: &mut Host, path: PathId) -> Result<(), OrderRefused> {
    host.volume.fail_path(host.world.now(), path)
}

fn restore(host: &mut Host, path: PathId) -> Result<(), OrderRefused> {
    host.volume.restore_path(host.world.now(), path)
}

fn remove(host: &mut Host, path: PathId) -> Result<(), OrderRefused> {
    host.volume.remove_path(host.world.now(), path)
}

fn paths(host: &Host) -> Vec<PathId> {
    let status = host.volume.status();
    status.paths.iter().map(|path| path.id).collect()
}

#[test]
fn a_failed_path_stays_out_whatever_happens_until_it_is_restored() {
    let mut host = two_paths();
    assert_eq!(fail(&mut host, A), Ok(()));
    host.must_write(0, 0, 8, 0x11);
    host.pass(seconds(1));
    assert_eq!(host.state(0), PathState::Offline);
    let logins = host.world.target.counters().logins;
    // Not a backoff, not a carrier that comes back, not an attach that tries everything: nothing but the order.
    let now = host.now();
    host.volume.carrier(now, A, true);
    host.volume.retry_now(now);
    assert_eq!(fail(&mut host, A), Ok(()), "again");
    host.pass(seconds(300));
    assert_eq!(host.state(0), PathState::Offline);
    assert_eq!(host.world.target.counters().logins, logins);
    let status = host.volume.status();
    assert_eq!(status.paths[0].damping.penalty(host.now()), 0.0, "planned");
    assert_eq!(status.paths[0].trouble, None);
    assert_eq!(restore(&mut host, A), Ok(()));
    host.all_up();
    host.must_write(0, 0, 8, 0x12);
    assert_eq!(host.medium(0, 8), vec![0x12; 4096]);
    let told: Vec<&PathState> = host
        .notes
        .iter()
        .filter_map(|note| match note {
            Note::PathState { path: A, state } => Some(state),
            _ => None,
        })
        .collect();
    assert_eq!(told, [&PathState::Up, &PathState::Offline, &PathState::Up]);
    host.assert_good_manners();
}

#[test]
fn what_a_failed_path_carried_moves_and_is_fenced() {
    let mut host = two_paths();
    park_next_write(&mut host);
    host.write(0, 0, 8, 0x11);
    host.pass(millis(10));
    assert_eq!(host.world.unit().parked().count(), 1);
    assert_eq!(fail(&mut host, A), Ok(()));
    host.pass(seconds(1));
    assert_eq!(host.result(0), None, "the old copy is not over");
    assert_eq!(host.volume.status().held, 1);
    host.world.happen(Incident::ReleaseAll);
    assert_eq!(host.wait(0), Some(Ok(())));
    assert_eq!(host.state(0), PathState::Offline);
    let status = host.volume.status();
    assert_eq!(status.paths[0].fences.done, 1);
    assert_eq!(status.unresolved, []);
    host.assert_good_manners();
}

#[test]
fn the_last_path_may_be_failed_and_requests_wait_for_it() {
    let mut host = two_paths();
    assert_eq!(fail(&mut host, A), Ok(()));
    assert_eq!(fail(&mut host, B), Ok(()));
    host.write(0, 0, 8, 0x11);
    host.pass(seconds(60));
    assert_eq!(host.result(0), None);
    assert_eq!(host.volume.status().waiting, 1);
    assert_eq!(restore(&mut host, B), Ok(()));
    assert_eq!(host.wait(0), Some(Ok(())));
    assert_eq!(host.state(0), PathState::Offline);
    host.assert_good_manners();
}

#[test]
fn a_removed_path_finishes_what_it_carries_logs_out_and_its_place_is_free() {
    let mut host = two_paths();
    park_next_write(&mut host);
    host.write(0, 0, 8, 0x11);
    host.pass(millis(10));
    assert_eq!(remove(&mut host, A), Ok(()));
    assert_eq!(remove(&mut host, A), Ok(()), "again");
    host.must_write(1, 8, 8, 0x22);
    host.pass(seconds(1));
    assert_eq!(
        host.state(0),
        PathState::Closing,
        "it still carries a write"
    );
    host.world.happen(Incident::ReleaseAll);
    assert_eq!(host.wait(0), Some(Ok(())));
    host.pass(seconds(1));
    assert_eq!(paths(&host), [B]);
    assert_eq!(host.world.target.counters().logouts, 1);
    assert!(!host.noted(|note| matches!(note, Note::FenceStarted { .. })));
    for order in [fail, restore, remove] {
        assert_eq!(order(&mut host, A), Err(OrderRefused::NoSuchPath));
        assert_eq!(order(&mut host, PathId(5)), Err(OrderRefused::NoSuchPath));
    }
    // The same portal comes back into the same place.
    let again = host.path_config(0);
    let now = host.now();
    assert_eq!(host.volume.add_path(now, again), Some(A));
    host.all_up();
    assert_eq!(paths(&host), [A, B]);
    host.must_write(0, 0, 16, 0x33);
    assert_eq!(host.volume.status().paths[0].completed, 1, "a new path");
    host.assert_good_manners();
}

#[test]
fn a_removed_path_that_does_not_end_is_cut_and_keeps_its_place_until_it_is_fenced() {
    let mut host = two_paths();
    park_next_write(&mut host);
    host.write(0, 0, 8, 0x11);
    host.pass(millis(10));
    assert_eq!(remove(&mut host, A), Ok(()));
    host.pass(seconds(12));
    assert_eq!(host.state(0), PathState::Removed);
    assert_eq!(host.result(0), None, "not proven dead");
    // Another path takes another place, and the old session is not forgotten.
    let mut other = host.path_config(0);
    other.isid = Isid([0x80, 9, 9, 9, 9, 9]);
    let now = host.now();
    assert_eq!(host.volume.add_path(now, other), Some(PathId(2)));
    host.pass(seconds(1));
    assert_eq!(host.result(0), None);
    host.write(1, 4, 8, 0x22);
    host.pass(seconds(1));
    assert_eq!(host.result(1), None, "overlaps the unresolved write");
    host.world.happen(Incident::ReleaseAll);
    assert_eq!(host.wait(0), Some(Ok(())));
    assert_eq!(host.wait(1), Some(Ok(())));
    host.pass(seconds(1));
    assert_eq!(paths(&host), [B, PathId(2)]);
    let mut expected = vec![0x11; 2048];
    expected.extend([0x22; 4096]);
    assert_eq!(host.medium(0, 12), expected);
    host.assert_good_manners();
}

#[test]
fn a_removed_path_can_be_kept_after_all() {
    let mut host = two_paths();
    // While it leaves ...
    park_next_write(&mut host);
    host.write(0, 0, 8, 0x11);
    host.pass(millis(10));
    assert_eq!(remove(&mut host, A), Ok(()));
    assert_eq!(restore(&mut host, A), Ok(()));
    host.world.happen(Incident::ReleaseAll);
    assert_eq!(host.wait(0), Some(Ok(())));
    host.all_up();
    assert_eq!(paths(&host), [A, B]);
    // ... and when it is gone, but for the proof.
    park_next_write(&mut host);
    host.write(0, 0, 8, 0x12);
    host.pass(millis(10));
    assert_eq!(remove(&mut host, A), Ok(()));
    host.pass(seconds(12));
    assert_eq!(host.state(0), PathState::Removed);
    assert_eq!(restore(&mut host, A), Ok(()));
    host.world.happen(Incident::ReleaseAll);
    assert_eq!(host.wait(0), Some(Ok(())));
    host.all_up();
    host.must_write(0, 0, 8, 0x13);
    host.assert_good_manners();
}

#[test]
fn the_last_path_is_not_removed() {
    let mut host = two_paths();
    assert_eq!(fail(&mut host, A), Ok(()));
    host.pass(seconds(1));
    assert_eq!(remove(&mut host, B), Err(OrderRefused::OnlyWorkingPath));
    assert_eq!(remove(&mut host, A), Ok(()), "it carries nothing");
    host.pass(seconds(1));
    assert_eq!(paths(&host), [B]);
    assert_eq!(remove(&mut host, B), Err(OrderRefused::LastPath));
    assert_eq!(fail(&mut host, B), Ok(()));
    host.pass(seconds(1));
    assert_eq!(remove(&mut host, B), Err(OrderRefused::LastPath));
    assert_eq!(host.state(0), PathState::Offline);
}

#[test]
fn restore_forgets_what_spoke_against_a_path() {
    let mut host = two_paths();
    for _ in 0..3 {
        host.reset(0);
        host.all_up();
        host.pass(seconds(1));
    }
    let marginal = |host: &Host| {
        let status = host.volume.status();
        status.paths[0].damping.is_marginal(host.now())
    };
    assert!(marginal(&host));
    let told = |note: &Note| {
        matches!(
            note,
            Note::Flapping {
                path: A,
                seconds: 1..
            }
        )
    };
    assert_eq!(
        host.notes.iter().filter(|note| told(note)).count(),
        1,
        "once, when it began"
    );
    assert_eq!(restore(&mut host, A), Ok(()));
    assert!(!marginal(&host));
    // A wait between two attempts ends.
    host.cut(0);
    host.write(0, 0, 8, 0x11);
    host.pass(seconds(30));
    assert!(matches!(
        host.state(0),
        PathState::Down { .. } | PathState::Connecting
    ));
    host.heal(0);
    assert_eq!(restore(&mut host, A), Ok(()));
    host.pass(millis(4200));
    assert!(host.is_up(0), "{:?}", host.state(0));
    assert_eq!(host.wait(0), Some(Ok(())));
}

#[test]
fn orders_end_with_the_volume() {
    for order in [fail, remove] {
        let mut host = two_paths();
        assert_eq!(order(&mut host, A), Ok(()));
        let now = host.now();
        host.volume.shut_down(now, seconds(5));
        for order in [fail, restore, remove] {
            assert_eq!(order(&mut host, A), Err(OrderRefused::Ending));
        }
        assert!(host.run(seconds(10), |host| host.volume.is_shut_down()));
        assert!(
            !host.noted(|note| matches!(
                note,
                Note::PathState {
                    state: PathState::Refused { .. },
                    ..
                }
            )),
            "nobody refused anything"
        );
    }
}

#[test]
fn without_a_sibling_only_time_or_its_return_frees_the_place() {
    let mut host = Host::with(22, target(&[1, 2]), LunConfig::default(), |config| {
        config.policy = PolicyKind::Failover;
    });
    host.all_up();
    park_next_write(&mut host);
    host.write(0, 0, 8, 0x11);
    host.pass(millis(10));
    assert_eq!(fail(&mut host, A), Ok(()));
    assert_eq!(remove(&mut host, A), Ok(()));
    host.world.happen(Incident::ReleaseAll);
    host.pass(seconds(300));
    assert_eq!(host.state(0), PathState::Removed);
    assert_eq!(host.result(0), None);
    host.pass(seconds(20));
    assert_eq!(host.wait(0), Some(Ok(())));
    assert_eq!(paths(&host), [B]);
}
