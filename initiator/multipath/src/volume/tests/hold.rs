//! The rungs below a sibling's login: the timed hold, its last word, LOGICAL UNIT RESET, and what TST=001b costs.

use kit::disk::{Fault, Injection, LunConfig, Select};
use kit::target::{Ping, Reinstatement, TargetConfig};
use kit::world::{Incident, LUN_0};

use super::host::*;
use crate::contract::*;
use crate::identity::TaskSet;
use crate::note::Note;

/// Silence is noticed within so long.
const NOTICED: u64 = 6;
/// [`crate::ladder`], for a target that nobody knows.
const HOLD: u64 = 310;
const NO_ARRIVAL: u64 = 130;
const BACKEND: u64 = 180;

fn lose(config: TargetConfig, adjust: impl FnOnce(&mut VolumeConfig)) -> Host {
    let mut host = Host::with(21, config, LunConfig::default(), |config| {
        config.policy = PolicyKind::Failover;
        adjust(config);
    });
    host.patience = seconds(1000);
    host.all_up();
    park_next_write(&mut host);
    host.write(0, 0, 8, 0x11);
    host.pass(millis(10));
    assert_eq!(host.world.unit().parked().count(), 1);
    host.cut(0);
    host.pass(seconds(NOTICED));
    assert!(!host.is_up(0));
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

fn fenced_by(host: &Host, kind: FenceKind) -> bool {
    host.noted(|note| matches!(note, Note::Fenced { by, .. } if *by == kind))
}

fn kind_of(host: &Host, path: usize) -> FenceKind {
    host.volume.status().paths[path].fence_kind
}

#[test]
fn without_a_sibling_the_hold_ends_what_the_path_does_not() {
    let mut host = lose(target(&[1, 2]), |_| {});
    assert!(host.noted(|note| matches!(note, Note::Holding { seconds: HOLD, .. })));
    assert_eq!(kind_of(&host, 0), FenceKind::TimedHold);
    host.write(1, 0, 8, 0x22);
    host.pass(seconds(HOLD - NOTICED));
    // The latest moment that the assumption about the backend allows.
    host.world.happen(Incident::ReleaseAll);
    host.pass(millis(100));
    assert_eq!((host.result(0), host.result(1)), (None, None));
    assert_eq!(host.wait(0), Some(Ok(())));
    assert_eq!(host.wait(1), Some(Ok(())));
    assert_eq!(host.medium(0, 8), vec![0x22; 4096]);
    assert!(fenced_by(&host, FenceKind::TimedHold));
    let status = host.volume.status();
    assert_eq!(status.unresolved, []);
    let times = status.paths[0].fences;
    assert_eq!(status.fences, times);
    assert_eq!((times.done, times.last), (1, times.longest));
    let took = times.last.expect("its loss was seen");
    assert!(
        took >= seconds(HOLD) && took < seconds(HOLD + 1),
        "{took:?}"
    );
    host.assert_good_manners();
}

#[test]
fn the_path_s_return_ends_the_hold() {
    let mut host = lose(target(&[1, 2]), |_| {});
    host.world.happen(Incident::ReleaseAll);
    host.pass(seconds(100));
    host.heal(0);
    assert_eq!(host.wait(0), Some(Ok(())));
    assert!(fenced_by(&host, FenceKind::Reinstatement));
    host.pass(seconds(2 * HOLD));
    assert!(!fenced_by(&host, FenceKind::TimedHold));
    assert_eq!(host.volume.status().paths[0].fences.done, 1);
    host.assert_good_manners();
}

#[test]
fn a_sibling_that_comes_back_is_better_than_the_hold() {
    let mut host = Host::with(22, target(&[1, 1, 2]), LunConfig::default(), |config| {
        config.policy = PolicyKind::Failover;
    });
    host.all_up();
    host.cut(1);
    host.pass(seconds(NOTICED));
    park_next_write(&mut host);
    host.write(0, 0, 8, 0x11);
    host.pass(millis(10));
    host.cut(0);
    host.pass(seconds(100));
    assert_eq!(host.result(0), None);
    assert_eq!(kind_of(&host, 0), FenceKind::TimedHold);
    host.world.happen(Incident::ReleaseAll);
    host.heal(1);
    assert_eq!(host.wait(0), Some(Ok(())));
    assert!(fenced_by(&host, FenceKind::Reinstatement));
    assert_eq!(kind_of(&host, 0), FenceKind::Reinstatement);
}

#[test]
fn the_last_word_waits_for_what_should_have_been_over() {
    // The backend breaks what the hold assumes of it: the ORDERED command waits all the same.
    let mut host = lose(target(&[1, 2]), |_| {});
    host.pass(seconds(HOLD + 30));
    assert_eq!(host.result(0), None);
    assert_eq!(host.world.unit().parked().count(), 1);
    host.world.happen(Incident::ReleaseAll);
    assert_eq!(host.wait(0), Some(Ok(())));
    assert!(fenced_by(&host, FenceKind::TimedHold));
    // One that is not answered either starts the hold anew.
    let mut host = lose(target(&[1, 2]), |_| {});
    host.pass(seconds(HOLD + 70));
    assert!(host.noted(|note| matches!(note, Note::FenceFailed { .. })));
    host.world.happen(Incident::ReleaseAll);
    host.pass(seconds(HOLD - 20));
    assert_eq!(host.result(0), None);
    assert_eq!(host.wait(0), Some(Ok(())));
    assert_eq!(host.volume.status().paths[0].fences.done, 1);
}

#[test]
fn a_hold_without_a_living_path_has_no_last_word() {
    let mut host = lose(target(&[1, 2]), |_| {});
    host.world.happen(Incident::ReleaseAll);
    host.pass(seconds(100));
    host.cut(1);
    host.pass(seconds(HOLD));
    assert_eq!(host.volume.status().unresolved.len(), 1);
    host.heal(1);
    assert_eq!(host.wait(0), Some(Ok(())));
    assert!(fenced_by(&host, FenceKind::TimedHold));
}

#[test]
fn a_write_in_the_target_s_receive_buffer_is_over_before_the_hold_is() {
    for allow_lun_reset in [false, true] {
        let mut config = target(&[1, 2]);
        // The target that the hold is made for: it gives a silent peer up.
        config.ping = Some(Ping {
            idle: seconds(60),
            patience: seconds(60),
            tag_zero: false,
        });
        let mut host = Host::with(23, config, LunConfig::default(), |config| {
            config.policy = PolicyKind::Failover;
            config.allow_lun_reset = allow_lun_reset;
        });
        host.patience = seconds(1000);
        host.all_up();
        host.world.happen(Incident::StopReading(0, seconds(119)));
        host.write(0, 0, 8, 0x11);
        host.pass(millis(10));
        host.cut(0);
        host.pass(seconds(NOTICED));
        host.write(1, 0, 8, 0x22);
        host.pass(seconds(20));
        // It is on the medium by path 1, and the target has not even read the first copy.
        assert_eq!(host.medium(0, 8), vec![0x11; 4096]);
        assert_eq!((host.result(0), host.result(1)), (None, None));
        assert_eq!(host.wait(1), Some(Ok(())));
        assert_eq!(host.medium(0, 8), vec![0x22; 4096]);
        host.pass(seconds(HOLD));
        assert_eq!(host.medium(0, 8), vec![0x22; 4096]);
        assert_eq!(fenced_by(&host, FenceKind::LunReset), allow_lun_reset);
    }
}

#[test]
fn a_reset_of_the_unit_spares_the_wait_for_the_backend_and_nothing_else() {
    let mut host = lose(target(&[1, 2]), |config| config.allow_lun_reset = true);
    host.pass(seconds(NO_ARRIVAL - NOTICED));
    assert!(!host.noted(|note| matches!(note, Note::LunReset { .. })));
    host.pass(seconds(NOTICED));
    assert!(host.noted(|note| matches!(note, Note::LunReset { via: PathId(1), .. })));
    // It waits for the command that it ends.
    assert_eq!(host.result(0), None);
    host.world.happen(Incident::ReleaseAll);
    assert_eq!(host.wait(0), Some(Ok(())));
    assert!(fenced_by(&host, FenceKind::LunReset));
    host.must_write(0, 0, 8, 0x22);
    assert_eq!(host.medium(0, 8), vec![0x22; 4096]);
    host.assert_good_manners();
}

#[test]
fn a_reset_that_is_refused_leaves_the_whole_hold() {
    let mut config = target(&[1, 2]);
    config.lun_reset = false;
    let mut host = lose(config, |config| config.allow_lun_reset = true);
    host.world.happen(Incident::ReleaseAll);
    host.pass(seconds(HOLD - NOTICED));
    let resets = host.notes.iter();
    let resets = resets.filter(|note| matches!(note, Note::LunReset { .. }));
    assert_eq!(resets.count(), 1);
    assert_eq!(host.result(0), None);
    assert_eq!(host.wait(0), Some(Ok(())));
    assert!(fenced_by(&host, FenceKind::TimedHold));
    host.assert_good_manners();
}

#[test]
fn a_reset_that_hangs_leaves_the_whole_hold() {
    let mut host = lose(target(&[1, 2]), |config| config.allow_lun_reset = true);
    host.pass(seconds(HOLD - 10));
    host.world.happen(Incident::ReleaseAll);
    host.pass(seconds(1));
    assert_eq!(host.result(0), None);
    assert_eq!(host.wait(0), Some(Ok(())));
    assert!(fenced_by(&host, FenceKind::TimedHold));
    host.assert_good_manners();
}

/// A unit with a task set per nexus on a target that answers a login at once: nothing there waits for old commands.
fn per_nexus(vendor: &str, config: TargetConfig, reset: bool) -> Host {
    let mut unit = LunConfig {
        task_set_per_nexus: true,
        ..LunConfig::default()
    };
    unit.identity.vendor = vendor.into();
    let mut host = Host::with(24, config, unit, |config| {
        config.policy = PolicyKind::Failover;
        config.allow_lun_reset = reset;
        // Not known at attach: the first login finds it.
        config.description.task_set = TaskSet::Shared;
    });
    host.patience = seconds(1000);
    host.all_up();
    park_next_write(&mut host);
    host.write(0, 0, 8, 0x11);
    host.pass(millis(10));
    host.cut(0);
    host.pass(seconds(NOTICED));
    host
}

#[test]
fn where_ordered_waits_for_nothing_the_backend_is_waited_out_after_the_login() {
    let mut config = target(&[1, 1]);
    config.reinstatement = Reinstatement::AnswerAtOnce;
    let mut host = per_nexus("KIT", config.clone(), false);
    host.write(1, 0, 8, 0x22);
    host.pass(seconds(BACKEND - 10));
    assert_eq!((host.result(0), host.result(1)), (None, None));
    host.world.happen(Incident::ReleaseAll);
    host.pass(seconds(1));
    assert_eq!(host.result(0), None, "it cannot know");
    assert_eq!(host.wait(0), Some(Ok(())));
    assert_eq!(host.wait(1), Some(Ok(())));
    assert_eq!(host.medium(0, 8), vec![0x22; 4096]);
    assert!(fenced_by(&host, FenceKind::TimedHold));
    assert_eq!(
        host.world.target.counters().reinstatements,
        1,
        "not in a loop"
    );
    host.assert_good_manners();
    // With a reset it can know, and does not wait.
    let mut host = per_nexus("KIT", config, true);
    host.pass(seconds(1));
    assert!(host.noted(|note| matches!(note, Note::LunReset { .. })));
    assert_eq!(host.result(0), None);
    host.world.happen(Incident::ReleaseAll);
    host.pass(seconds(1));
    assert_eq!(host.result(0), Some(Ok(())));
    assert!(fenced_by(&host, FenceKind::LunReset));
}

#[test]
fn a_last_word_says_nothing_of_a_session_that_dies_meanwhile() {
    let mut config = target(&[1, 1]);
    config.reinstatement = Reinstatement::AnswerAtOnce;
    let mut host = per_nexus("KIT", config, false);
    // The path is back while the backend is waited out, and its nexus is the same.
    host.heal(0);
    host.pass(seconds(BACKEND - 10));
    assert!(host.is_up(0));
    assert_eq!(host.volume.status().unresolved.len(), 1);
    host.world.happen(Incident::ReleaseAll);
    let slow = Injection {
        nexus: None,
        select: Select::Opcode(0),
        fault: Fault::Delay(seconds(40)),
        times: 1,
    };
    host.world.happen(Incident::Inject(LUN_0, slow));
    host.pass(seconds(12));
    assert_eq!(
        host.result(0),
        None,
        "the last word is asked and not answered"
    );
    park_next_write(&mut host);
    host.write(1, 64, 8, 0x33);
    host.pass(millis(10));
    host.cut(0);
    host.pass(seconds(60));
    let unresolved = host.volume.status().unresolved;
    assert!(
        unresolved.iter().any(|write| write.lba == 64),
        "{unresolved:?}"
    );
    assert_eq!((host.result(0), host.result(1)), (None, None));
    host.world.happen(Incident::ReleaseAll);
    assert_eq!(host.wait(0), Some(Ok(())));
    assert_eq!(host.wait(1), Some(Ok(())));
    assert_eq!(host.volume.status().unresolved, []);
}

#[test]
fn a_target_that_waits_at_the_login_owes_nothing_more() {
    for (vendor, reinstatement) in [
        ("LIO-ORG", Reinstatement::AnswerAfterDrain),
        ("SCST_FIO", Reinstatement::ReadAfterDrain),
    ] {
        let mut config = target(&[1, 1]);
        config.reinstatement = reinstatement;
        let mut host = per_nexus(vendor, config, false);
        host.pass(seconds(10));
        assert_eq!(host.result(0), None, "{vendor}");
        host.world.happen(Incident::ReleaseAll);
        host.pass(seconds(1));
        assert_eq!(host.result(0), Some(Ok(())), "{vendor}");
        assert!(fenced_by(&host, FenceKind::Reinstatement), "{vendor}");
        host.assert_good_manners();
    }
}

#[test]
fn a_login_that_hangs_is_bounded_and_never_in_a_loop() {
    let mut config = target(&[1, 1, 2]);
    config.reinstatement = Reinstatement::AnswerAfterDrain;
    let mut host = lose(config, |_| {});
    host.pass(seconds(600));
    assert_eq!(host.result(0), None);
    let failures = host.notes.iter();
    let failures = failures.filter(|note| matches!(note, Note::FenceFailed { .. }));
    let failures = failures.count();
    assert!((4..=5).contains(&failures), "{failures} in ten minutes");
    // Meanwhile the volume works.
    host.must_write(1, 8, 8, 0x33);
    // The sibling is lost too: the hold begins where the backend was last seen stuck.
    host.cut(1);
    host.pass(seconds(NOTICED));
    host.world.happen(Incident::ReleaseAll);
    host.pass(seconds(HOLD - 130));
    assert_eq!(host.result(0), None);
    assert_eq!(host.wait(0), Some(Ok(())));
    host.assert_good_manners();
}

#[test]
fn what_an_earlier_run_left_is_never_waited_out() {
    // Nobody saw how its sockets ended.
    let mut host = Host::new(25, target(&[1, 2]), LunConfig::default());
    host.cut(0);
    let unresolved = UnresolvedWrite {
        lba: 0,
        blocks: 8,
        isid: host.volume.status().paths[0].config.isid,
        portal_group: Some(iscsi_client::wire::Tpgt(1)),
    };
    host.volume.restore_unresolved(&[unresolved]);
    host.pass(seconds(10 * HOLD));
    assert_eq!(host.volume.status().unresolved, [unresolved]);
    host.heal(0);
    host.all_up();
    assert_eq!(host.volume.status().unresolved, []);
    let times = host.volume.status().paths[0].fences;
    assert_eq!((times.done, times.last), (1, None));
}
