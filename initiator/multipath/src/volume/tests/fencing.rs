//! Unresolved writes: the ghost on the lost path must never win, however losses and returns interleave.

use kit::disk::{Fault, Injection, LunConfig, Select};
use kit::net::{Direction, Link as Cable};
use kit::target::{LoginFate, Reinstatement, TargetConfig};
use kit::world::{Incident, LUN_0};

use super::host::*;
use crate::contract::*;
use crate::note::Note;

const KINDS: [Reinstatement; 3] = [
    Reinstatement::AnswerAfterDrain,
    Reinstatement::ReadAfterDrain,
    Reinstatement::AnswerAtOnce,
];

fn failover(config: TargetConfig) -> Host {
    let mut host = Host::with(11, config, LunConfig::default(), |config| {
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

/// A write is sent on path 0, parked in the target's backend, and link 0 goes silent.
fn lose_a_parked_write(host: &mut Host) {
    park_next_write(host);
    host.write(0, 0, 8, 0x11);
    host.pass(millis(10));
    assert_eq!(host.world.unit().parked().count(), 1);
    host.cut(0);
}

#[test]
fn a_parked_ghost_holds_the_answer_until_it_is_dead_on_every_kind_of_target() {
    for kind in KINDS {
        let mut config = target(&[1, 1]);
        config.reinstatement = kind;
        let mut host = failover(config);
        lose_a_parked_write(&mut host);
        // Silence is noticed, the retry on path 1 succeeds, and still there is no answer.
        host.pass(seconds(12));
        assert_eq!(host.result(0), None, "{kind:?}");
        let status = host.volume.status();
        assert_eq!(status.held, 1, "{kind:?}");
        assert_eq!(status.unresolved.len(), 1);
        assert_eq!(
            status.unresolved[0].portal_group,
            status.paths[1].portal_group
        );
        assert_eq!(host.medium(0, 8), vec![0x11; 4096]);
        // Reads and other writes go on; what overlaps waits.
        host.must_write(1, 8, 8, 0x33);
        assert_eq!(host.must_read(2, 0, 8), vec![0x11; 4096]);
        host.write(3, 4, 8, 0x22);
        host.pass(seconds(2));
        assert_eq!(host.result(3), None, "{kind:?}");
        // The ghost executes: before the overwrite, so it harms nobody.
        host.world.happen(Incident::ReleaseAll);
        assert_eq!(host.wait(0), Some(Ok(())), "{kind:?}");
        assert_eq!(host.wait(3), Some(Ok(())), "{kind:?}");
        let mut expected = vec![0x11; 2048];
        expected.extend([0x22; 4096]);
        assert_eq!(host.medium(0, 12), expected, "{kind:?}");
        assert!(host.volume.status().unresolved.is_empty());
        assert!(host.noted(|note| matches!(note, Note::Fenced { resolved: 1, .. })));
        host.assert_good_manners();
    }
}

#[test]
fn an_idle_ghost_is_fenced_in_no_time_and_the_path_comes_back() {
    let mut host = failover(target(&[1, 1]));
    // The command is on the wire when the link dies: the target may or may not have it.
    host.world
        .happen(Incident::Cut(Cable(0), Direction::ToInitiator));
    host.write(0, 0, 8, 0x11);
    assert_eq!(host.wait(0), Some(Ok(())));
    let status = host.volume.status();
    assert_eq!(status.unresolved, []);
    assert!(!matches!(status.paths[0].state, PathState::Up));
    assert!(host.noted(|note| matches!(note, Note::Fenced { resolved: 1, .. })));
    host.pass(seconds(1));
    assert_eq!(
        host.world.target.counters().logouts,
        1,
        "the fence session leaves in order"
    );
    host.heal(0);
    host.all_up();
    host.must_write(0, 0, 8, 0x12);
    host.assert_good_manners();
}

#[test]
fn without_a_sibling_in_the_group_only_the_return_fences() {
    let mut host = failover(target(&[1, 2]));
    lose_a_parked_write(&mut host);
    host.world.happen(Incident::ReleaseAll);
    host.pass(seconds(60));
    assert_eq!(host.result(0), None);
    assert!(
        host.volume.status().paths[0]
            .fence
            .contains("by its own return, or a timed hold of 310 s")
    );
    assert!(!host.noted(|note| matches!(note, Note::FenceStarted { .. })));
    host.heal(0);
    assert_eq!(host.wait(0), Some(Ok(())));
    host.all_up();
    host.assert_good_manners();
}

#[test]
fn a_reset_path_fences_itself_when_it_is_back_first() {
    for kind in KINDS {
        let mut config = target(&[1, 1]);
        config.reinstatement = kind;
        let mut host = failover(config);
        park_next_write(&mut host);
        host.write(0, 0, 8, 0x11);
        host.pass(millis(10));
        host.reset(0);
        host.pass(seconds(5));
        assert_eq!(host.result(0), None, "{kind:?}");
        host.world.happen(Incident::ReleaseAll);
        assert_eq!(host.wait(0), Some(Ok(())), "{kind:?}");
        host.all_up();
        assert_eq!(host.volume.status().unresolved, []);
        host.assert_good_manners();
    }
}

#[test]
fn a_write_that_never_left_needs_no_fence() {
    let mut host = failover(target(&[1, 2]));
    host.cut(0);
    host.pass(seconds(6));
    assert!(!host.is_up(0));
    host.must_write(0, 0, 8, 1);
    assert_eq!(host.volume.status().unresolved, []);
}

#[test]
fn reads_move_at_once_and_need_no_fence() {
    let mut host = failover(target(&[1, 2]));
    host.cut(0);
    let start = host.now();
    host.submit(request(0, Operation::Read, 0, 8));
    assert_eq!(host.wait(0), Some(Ok(())));
    assert!(
        host.now().since(start) < seconds(6),
        "as soon as the silence is noticed"
    );
    assert_eq!(host.volume.status().unresolved, []);
}

#[test]
fn a_fence_whose_link_is_lost_too_is_made_again() {
    let mut host = failover(target(&[1, 1, 1]));
    lose_a_parked_write(&mut host);
    // The fence login hangs behind the parked write; then its own link is reset.
    host.pass(seconds(8));
    assert!(host.noted(|note| matches!(note, Note::FenceStarted { via: PathId(1), .. })));
    host.reset(1);
    host.pass(seconds(3));
    assert!(host.noted(|note| matches!(note, Note::FenceFailed { .. })));
    assert_eq!(host.result(0), None);
    host.world.happen(Incident::ReleaseAll);
    assert_eq!(host.wait(0), Some(Ok(())));
    host.assert_good_manners();
}

#[test]
fn a_fence_login_that_is_refused_is_tried_again_but_not_in_a_tight_loop() {
    let mut host = failover(target(&[1, 1]));
    lose_a_parked_write(&mut host);
    host.world.happen(Incident::ReleaseAll);
    for _ in 0..3 {
        host.world.target.next_login(LoginFate::Close);
    }
    assert_eq!(host.wait(0), Some(Ok(())));
    let failures = host
        .notes
        .iter()
        .filter(|note| matches!(note, Note::FenceFailed { .. }));
    assert_eq!(failures.count(), 3);
    host.assert_good_manners();
}

#[test]
fn both_paths_lost_with_copies_on_both() {
    for kind in KINDS {
        let mut config = target(&[1, 1]);
        config.reinstatement = kind;
        let mut host = failover(config);
        lose_a_parked_write(&mut host);
        // The retry is parked on path 1 as well, and then that path goes.
        park_next_write(&mut host);
        host.pass(seconds(7));
        assert_eq!(host.world.unit().parked().count(), 2, "{kind:?}");
        host.cut(1);
        host.pass(seconds(10));
        assert_eq!(host.volume.status().unresolved.len(), 2);
        assert_eq!(host.result(0), None);
        host.world.happen(Incident::ReleaseAll);
        host.heal(1);
        assert_eq!(host.wait(0), Some(Ok(())), "{kind:?}");
        assert_eq!(host.volume.status().unresolved, []);
        assert_eq!(host.medium(0, 8), vec![0x11; 4096]);
        host.assert_good_manners();
    }
}

#[test]
fn a_write_failed_upward_still_guards_its_blocks() {
    let mut host = Host::with(12, target(&[1]), LunConfig::default(), |config| {
        config.no_path_retry = NoPathRetry::For(seconds(10));
    });
    host.all_up();
    lose_a_parked_write(&mut host);
    assert_eq!(host.wait(0), Some(Err(IoError::Io)));
    assert_eq!(host.volume.status().unresolved.len(), 1);
    // The path is back, but its login waits for the parked write; nothing overlapping may be sent meanwhile.
    host.heal(0);
    host.pass(seconds(10));
    host.volume
        .set_no_path_retry(host.world.now(), NoPathRetry::Queue);
    host.write(0, 0, 8, 0x22);
    host.pass(seconds(10));
    assert_eq!(host.result(0), None);
    host.world.happen(Incident::ReleaseAll);
    assert_eq!(host.wait(0), Some(Ok(())));
    assert_eq!(host.medium(0, 8), vec![0x22; 4096]);
    assert_eq!(host.volume.status().unresolved, []);
    host.assert_good_manners();
}

#[test]
fn writes_of_an_earlier_run_are_guarded_until_the_login_that_fences_them() {
    let mut host = Host::new(13, target(&[1, 2]), LunConfig::default());
    let isid = host.volume.status().paths[0].config.isid;
    let unresolved = |group| UnresolvedWrite {
        lba: 0,
        blocks: 8,
        isid,
        portal_group: Some(iscsi_client::wire::Tpgt(group)),
    };
    host.volume.restore_unresolved(&[unresolved(1)]);
    host.all_up();
    assert_eq!(host.volume.status().unresolved, []);
    // In another portal group no login of ours reinstates that session.
    host.volume.restore_unresolved(&[unresolved(7)]);
    host.write(0, 4, 8, 1);
    host.pass(seconds(5));
    assert_eq!(host.result(0), None);
    host.must_write(1, 8, 8, 2);
    assert_eq!(host.volume.status().unresolved, [unresolved(7)]);
}

#[test]
fn shutting_down_waits_for_the_fence_and_says_what_it_could_not_wait_for() {
    // A fence is possible: the answer comes, then the logout.
    let mut host = failover(target(&[1, 1]));
    lose_a_parked_write(&mut host);
    host.pass(seconds(7));
    host.volume.shut_down(host.world.now(), seconds(30));
    host.pass(seconds(5));
    assert!(!host.volume.is_shut_down());
    host.world.happen(Incident::ReleaseAll);
    assert!(host.run(seconds(30), |host| host.volume.is_shut_down()));
    assert_eq!(host.result(0), Some(Ok(())));
    assert_eq!(host.volume.status().unresolved, []);
    // None is: it fails in bounded time and stays on the list.
    let mut host = failover(target(&[1, 2]));
    lose_a_parked_write(&mut host);
    host.pass(seconds(7));
    host.volume.shut_down(host.world.now(), seconds(10));
    assert!(host.run(seconds(11), |host| host.volume.is_shut_down()));
    assert_eq!(host.result(0), Some(Err(IoError::Io)));
    assert_eq!(host.volume.status().unresolved.len(), 1);
}

#[test]
fn a_path_that_returns_during_the_fence_waits_for_it() {
    let mut host = failover(target(&[1, 1]));
    lose_a_parked_write(&mut host);
    host.pass(seconds(7));
    assert!(host.noted(|note| matches!(note, Note::FenceStarted { .. })));
    // The fence login hangs at the target. The path connects and must not log in with the same ISID.
    host.heal(0);
    host.pass(seconds(10));
    assert_eq!(host.state(0), PathState::LoggingIn);
    let logins = host.world.target.counters().logins;
    host.world.happen(Incident::ReleaseAll);
    assert_eq!(host.wait(0), Some(Ok(())));
    host.all_up();
    assert_eq!(
        host.world.target.counters().logins,
        logins + 2,
        "the fence, then the path"
    );
    host.assert_good_manners();
}
