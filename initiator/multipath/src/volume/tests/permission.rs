//! The permission to write: nothing leaves without it, nothing is lost by it, and a drain says when all is over.

use kit::disk::{Fault, Injection, LunConfig, Select};
use kit::target::TargetConfig;
use kit::world::{Incident, LUN_0};

use super::host::*;
use crate::contract::*;
use crate::note::Note;

const OPERATIONS: [Operation; 4] = [
    Operation::Write,
    Operation::Discard,
    Operation::WriteZeroes { may_unmap: true },
    Operation::WriteZeroes { may_unmap: false },
];

fn thin() -> LunConfig {
    LunConfig {
        thin: true,
        write_cache: true,
        ..LunConfig::default()
    }
}

fn two_paths_to(config: TargetConfig) -> Host {
    let mut host = Host::with(31, config, thin(), |config| {
        config.policy = PolicyKind::Failover;
    });
    host.all_up();
    host
}

fn two_paths() -> Host {
    two_paths_to(target(&[1, 1]))
}

fn permit(host: &mut Host, permission: Permission) {
    let now = host.now();
    host.volume.permit(now, permission);
}

fn drain(host: &mut Host) -> DrainId {
    let now = host.now();
    host.volume.drain(now)
}

fn park_next_write(host: &mut Host) {
    let injection = Injection {
        nexus: None,
        select: Select::Writes,
        fault: Fault::Park,
        times: 1,
    };
    host.world.happen(Incident::Inject(LUN_0, injection));
}

#[test]
fn what_changes_the_medium_waits_and_everything_else_goes_on() {
    let mut host = two_paths();
    host.must_write(0, 0, 8, 0x11);
    permit(&mut host, Permission::Withheld);
    for (tag, operation) in (1..).zip(OPERATIONS) {
        host.memory
            .of(iscsi_client::memory::BufferId(tag))
            .fill(0x22);
        host.submit(request(tag, operation, 0, 8));
    }
    host.pass(seconds(600));
    for (tag, operation) in (1..).zip(OPERATIONS) {
        assert_eq!(host.result(tag), None, "{operation:?}");
    }
    assert_eq!(host.must_read(8, 0, 8), vec![0x11; 4096]);
    host.submit(request(9, Operation::Flush, 0, 0));
    assert_eq!(host.wait(9), Some(Ok(())));
    let status = host.volume.status();
    assert_eq!(status.permission.0, Permission::Withheld);
    assert_eq!(status.waiting_writes, 4);
    assert!(
        host.is_up(0) && host.is_up(1),
        "nothing was begun: no session is cut"
    );
    permit(&mut host, Permission::Granted);
    for (tag, operation) in (1..).zip(OPERATIONS) {
        assert_eq!(host.wait(tag), Some(Ok(())), "{operation:?}");
    }
    assert_eq!(host.volume.status().waiting_writes, 0);
    host.assert_good_manners();
}

#[test]
fn a_write_that_has_begun_dies_with_its_session_and_is_fenced() {
    let mut host = two_paths();
    park_next_write(&mut host);
    host.write(0, 0, 8, 0x11);
    host.pass(millis(10));
    assert_eq!(host.world.unit().parked().count(), 1);
    permit(&mut host, Permission::Withheld);
    host.pass(millis(500));
    // Its path carried a write and was cut; the other was not. It is not to blame, and came back at once.
    let status = host.volume.status();
    assert_eq!(status.unresolved.len(), 1);
    assert_eq!(status.paths[0].damping.penalty(host.now()), 0.0);
    assert_eq!(status.paths[1].losses, 0);
    assert_eq!(
        host.state(0),
        PathState::LoggingIn,
        "the target ends the old session first"
    );
    assert_eq!(host.must_read(1, 100, 8), vec![0; 4096]);
    let drained = drain(&mut host);
    host.pass(seconds(5));
    assert!(host.drained < drained, "the parked write may still execute");
    host.world.happen(Incident::ReleaseAll);
    let over = host.run(seconds(120), |host| host.drained == drained);
    assert!(over, "{:?}", host.volume.status());
    assert_eq!(host.volume.status().unresolved, []);
    assert_eq!(
        host.result(0),
        None,
        "it waits for the permission to be sent again"
    );
    permit(&mut host, Permission::Granted);
    assert_eq!(host.wait(0), Some(Ok(())));
    assert_eq!(host.medium(0, 8), vec![0x11; 4096]);
    host.assert_good_manners();
}

#[test]
fn no_data_out_follows_a_command_that_had_left() {
    let mut config = target(&[1, 1]);
    config.limits.immediate_data = false;
    config.limits.initial_r2t = true;
    let mut host = two_paths_to(config);
    host.write(0, 0, 8, 0x11);
    // The command leaves; its R2T is on the way when the permission ends.
    host.turn();
    permit(&mut host, Permission::Withheld);
    host.pass(seconds(60));
    assert_eq!(host.medium(0, 8), vec![0; 4096]);
    assert_eq!(host.volume.status().unresolved, [], "fenced long since");
    permit(&mut host, Permission::Granted);
    assert_eq!(host.wait(0), Some(Ok(())));
    assert_eq!(host.medium(0, 8), vec![0x11; 4096]);
    host.assert_good_manners();
}

#[test]
fn a_revoked_permission_fails_every_write_once_and_for_good() {
    for waited in [false, true] {
        let mut host = two_paths();
        host.must_write(0, 0, 8, 0x11);
        park_next_write(&mut host);
        host.write(1, 0, 8, 0x22);
        host.pass(millis(10));
        if waited {
            permit(&mut host, Permission::Withheld);
        }
        host.write(2, 8, 8, 0x33);
        host.pass(seconds(1));
        permit(&mut host, Permission::Revoked);
        host.write(3, 16, 8, 0x44);
        let forbidden = Some(Err(IoError::Forbidden));
        assert_eq!(host.wait(1), forbidden);
        assert_eq!(host.wait(3), forbidden);
        match waited {
            true => assert_eq!(host.wait(2), forbidden),
            false => assert_eq!(host.wait(2), Some(Ok(()))),
        }
        permit(&mut host, Permission::Granted);
        host.write(4, 16, 8, 0x44);
        assert_eq!(host.wait(4), forbidden, "for good");
        assert_eq!(host.must_read(5, 0, 8), vec![0x11; 4096]);
        let drained = drain(&mut host);
        host.world.happen(Incident::ReleaseAll);
        assert!(host.run(seconds(120), |host| host.drained == drained));
        host.assert_good_manners();
    }
}

#[test]
fn a_session_cut_for_the_permission_is_no_outage() {
    let mut host = Host::with(32, target(&[1]), thin(), |config| {
        config.no_path_retry = NoPathRetry::Fail;
    });
    host.all_up();
    park_next_write(&mut host);
    host.write(0, 0, 8, 0x11);
    host.pass(millis(10));
    permit(&mut host, Permission::Withheld);
    host.world.happen(Incident::ReleaseAll);
    // The only path is on its way back: nothing fails although nothing works at this moment.
    assert_eq!(host.must_read(1, 100, 8), vec![0; 4096]);
    host.pass(seconds(1));
    assert_eq!(host.result(0), None);
    permit(&mut host, Permission::Granted);
    assert_eq!(host.wait(0), Some(Ok(())));
    assert!(!host.noted(|note| matches!(note, Note::NoPath { .. })));
}

#[test]
fn a_drain_waits_for_what_was_sent_before_it_and_for_nothing_else() {
    let mut host = two_paths();
    let nothing = drain(&mut host);
    host.turn();
    assert_eq!(host.drained, nothing, "nothing was ever sent");
    park_next_write(&mut host);
    host.write(0, 0, 8, 0x11);
    host.pass(millis(10));
    let first = drain(&mut host);
    // Later writes come and go, and one more hangs.
    host.must_write(1, 8, 8, 0x22);
    host.pass(seconds(1));
    assert!(host.drained < first);
    host.world.happen(Incident::ReleaseAll);
    assert_eq!(host.wait(0), Some(Ok(())));
    park_next_write(&mut host);
    host.write(2, 16, 8, 0x33);
    host.pass(millis(10));
    assert_eq!(host.drained, first);
    // Reads do not count.
    let second = drain(&mut host);
    assert_eq!(host.must_read(3, 8, 8), vec![0x22; 4096]);
    assert_eq!(host.drained, first);
    host.world.happen(Incident::ReleaseAll);
    assert_eq!(host.wait(2), Some(Ok(())));
    host.turn();
    assert_eq!(host.drained, second);
    host.assert_good_manners();
}

#[test]
fn the_operator_is_told_how_many_wait() {
    let mut host = two_paths();
    park_next_write(&mut host);
    host.write(0, 0, 8, 0x11);
    host.pass(millis(10));
    permit(&mut host, Permission::Withheld);
    permit(&mut host, Permission::Withheld);
    host.world.happen(Incident::ReleaseAll);
    host.pass(seconds(30));
    permit(&mut host, Permission::Revoked);
    host.turn();
    let told: Vec<String> = host
        .notes
        .iter()
        .filter(|note| matches!(note, Note::Writes { .. }))
        .map(Note::to_string)
        .collect();
    assert_eq!(
        told,
        [
            "no write leaves any more: 1 wait; reads go on",
            "no write leaves ever again: 1 fail; reads go on"
        ]
    );
}
