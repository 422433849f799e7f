//! Can any schedule of faults break a promise of the volume?
//!
//! Each seed runs a random workload over one to three paths while links are cut, commands hang, the target restarts,
//! disks are swapped, and the volume is shut down or dies and is attached again. Then the trouble ends and
//! everything must complete. The judges: every block is a register, no write lands after its acknowledgement, every
//! request is answered once, no buffer is touched after its answer, no timer stays due, no other disk is written
//! to, and the target finds no fault with our protocol. `SANBLK_SEED=.. cargo test -p sanblk --test sim` (or `SEED=..`) replays
//! one seed, `SANBLK_SEEDS=2000` runs so many of each kind, `cargo lab soak` far more.

mod gate;
mod host;
#[cfg(feature = "mutants")]
mod mutants;
mod orders;
mod plan;
mod workload;

use core::time::Duration;

use host::{Host, Until};
use kit::prng::{Replay, seeds};
use multipath::PathState;
use plan::{Plan, Trouble};

fn run(seed: u64, trouble: Trouble) -> Host {
    run_plan(Plan::draw(seed, trouble), |_| ())
}

/// `begin` may add trouble of its own.
fn run_plan(plan: Plan, begin: impl FnOnce(&mut Host)) -> Host {
    let _replay = Replay::of(plan.seed, &format!("{plan:?}"));
    let (duration, recovery) = (plan.duration, plan.recovery);
    let mut host = Host::new(plan);
    // As the daemon does: the device starts when its first path is up.
    let end = host.world.now() + recovery;
    host.run(end, Until::Up);
    host.begin_trouble();
    begin(&mut host);
    let end = host.world.now() + duration;
    host.run(end, Until::TheEnd);
    host.world.make_peace();
    host.gate.make_peace(host.world.now());
    let end = host.world.now() + Duration::from_secs(2);
    host.run(end, Until::TheEnd);
    host.give_back_paths();
    if host.world.was_swapped() {
        // A path that met another disk waits for the operator.
        host.volume.retry_now(host.world.now());
    }
    let end = host.world.now() + recovery;
    host.run(end, Until::Quiet);
    if host.world.unit().config().write_cache {
        host.prove_writes_are_forced(Duration::from_secs(1));
    }
    let status = host.volume.status();
    let trace = host.world.trace();
    assert_eq!(
        host.unanswered(),
        0,
        "everything completes in peace: {status:?} {trace:?}"
    );
    assert_eq!((status.in_flight, status.held, status.waiting), (0, 0, 0));
    assert_eq!(status.unresolved, [], "{status:?} {trace:?}");
    assert!(
        status.paths.iter().all(|path| path.state == PathState::Up),
        "{status:?} {trace:?}"
    );
    assert_eq!(host.world.target.violations(), [], "{trace:?}");
    host
}

#[test]
fn a_quiet_world() {
    for seed in seeds(20) {
        let host = run(seed, Trouble::None);
        assert!(host.succeeded > 20 && host.failed == 0);
    }
}

#[test]
fn links_come_and_go() {
    for seed in seeds(100) {
        run(seed, Trouble::Network);
    }
}

#[test]
fn commands_hang_and_come_back_late() {
    let seeds = seeds(100);
    let fences = seeds
        .iter()
        .map(|seed| run(*seed, Trouble::Backend).fence_logins);
    let fences: u64 = fences.sum();
    assert!(fences > 0 || seeds.len() < 100, "some session was fenced");
}

#[test]
fn everything_goes_wrong() {
    for seed in seeds(100) {
        run(seed, Trouble::Everything);
    }
}

#[test]
fn the_permission_to_write_comes_and_goes() {
    let (mut restored, mut drained, mut refused) = (0, 0, 0);
    let seeds = seeds(100);
    for seed in &seeds {
        let host = run(*seed, Trouble::Lease);
        restored += host.gate.restored;
        drained += host.gate.drained;
        refused += u64::from(host.gate.is_refused());
    }
    assert!(
        (restored > 0 && drained > 0 && refused > 0) || seeds.len() < 100,
        "{restored} restored, {drained} drained, {refused} refused"
    );
}

#[test]
fn links_stay_away_longer_than_any_hold() {
    let (mut holds, mut resets) = (0, 0);
    let seeds = seeds(40);
    for seed in &seeds {
        let host = run(*seed, Trouble::Outages);
        holds += host.holds;
        resets += host.resets;
    }
    assert!(
        (holds > 0 && resets > 0) || seeds.len() < 40,
        "{holds} holds and {resets} resets ended a session"
    );
}
