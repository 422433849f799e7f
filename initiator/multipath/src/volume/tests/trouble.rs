//! What a target may answer to a command, on one path and on two (SCHEDULING section 4).

use kit::disk::{Code, Fault, Injection, LunConfig, Select};
use kit::world::{Incident, LUN_0};

use super::host::*;
use crate::contract::*;
use crate::note::Note;

fn hosts() -> [Host; 2] {
    [&[1][..], &[1, 1]].map(|groups| {
        let mut host = Host::new(31, target(groups), LunConfig::default());
        host.all_up();
        host
    })
}

fn inject(host: &mut Host, select: Select, fault: Fault, times: u32) {
    let injection = Injection {
        nexus: None,
        select,
        fault,
        times,
    };
    host.world.happen(Incident::Inject(LUN_0, injection));
}

#[test]
fn each_answer_to_a_write_has_its_consequence() {
    use IoError::{Io, Medium, NoSpace, ReadOnly, Reserved};
    let check = |key, asc, ascq| Fault::Check(Code(key, asc, ascq));
    // (fault, how often, result on one path, on two)
    let table = [
        (Fault::Status(0x08), 20, Ok(()), Ok(())),
        (Fault::Status(0x28), 20, Ok(()), Ok(())),
        (Fault::Status(0x40), 3, Ok(()), Ok(())),
        (Fault::Status(0x18), 1, Err(Reserved), Err(Reserved)),
        (Fault::Response(1), 3, Ok(()), Ok(())),
        (check(0x6, 0x29, 0x07), 3, Ok(()), Ok(())),
        (check(0x6, 0x2f, 0x00), 3, Ok(()), Ok(())),
        (check(0x6, 0x38, 0x07), 3, Ok(()), Ok(())),
        (check(0x2, 0x04, 0x01), 3, Ok(()), Ok(())),
        (check(0x2, 0x3a, 0x00), 3, Ok(()), Ok(())),
        (check(0x3, 0x0c, 0x00), 1, Ok(()), Ok(())),
        (check(0x3, 0x0c, 0x00), 2, Err(Medium), Err(Medium)),
        (check(0x4, 0x44, 0x00), 1, Ok(()), Ok(())),
        (check(0x4, 0x44, 0x00), 2, Err(Io), Err(Io)),
        (check(0x7, 0x27, 0x07), 1, Err(NoSpace), Err(NoSpace)),
        (check(0x7, 0x27, 0x00), 1, Err(ReadOnly), Err(ReadOnly)),
        (check(0xb, 0x47, 0x05), 3, Ok(()), Ok(())),
        (check(0xb, 0x4b, 0x00), 20, Err(Io), Err(Io)),
        (Fault::Recovered(Code(0x1, 0x17, 0x00)), 1, Ok(()), Ok(())),
    ];
    for (fault, times, one, two) in table {
        for (mut host, expected) in hosts().into_iter().zip([one, two]) {
            inject(&mut host, Select::Writes, fault, times);
            host.write(0, 0, 8, 0x11);
            assert_eq!(host.wait(0), Some(expected), "{fault:?} x {times}");
            if expected.is_ok() {
                assert_eq!(host.medium(0, 8), vec![0x11; 4096], "{fault:?}");
            }
            assert_eq!(host.volume.status().unresolved, []);
            host.world.happen(Incident::Disarm);
            host.must_write(1, 0, 8, 0x22);
            let losses: u64 = host
                .volume
                .status()
                .paths
                .iter()
                .map(|path| path.losses)
                .sum();
            assert_eq!(losses, 0, "{fault:?}: no answer costs a path");
            host.assert_good_manners();
        }
    }
}

/// Each row of SCHEDULING section 4, once on one path's session and so long that all paths meet it. None costs a path
/// its connection, and only what the transport did is blamed on one.
#[test]
fn each_row_on_one_path_and_on_all() {
    use IoError::{Io, Medium, NoSpace, NotSupported, ReadOnly, Reserved};
    let check = |key, asc, ascq| Fault::Check(Code(key, asc, ascq));
    // (fault, result if one path says it once, if all say it twice)
    let table = [
        (Fault::Status(0x08), Ok(()), Ok(())),
        (Fault::Status(0x28), Ok(()), Ok(())),
        (Fault::Status(0x18), Err(Reserved), Err(Reserved)),
        (Fault::Status(0x40), Ok(()), Ok(())),
        (check(0x2, 0x04, 0x01), Ok(()), Ok(())),
        (check(0x2, 0x04, 0x14), Ok(()), Ok(())),
        (check(0x2, 0x04, 0x0a), Ok(()), Ok(())),
        (check(0x2, 0x04, 0x0b), Ok(()), Ok(())),
        (check(0x2, 0x04, 0x0c), Ok(()), Ok(())),
        (check(0x3, 0x0c, 0x00), Ok(()), Err(Medium)),
        (check(0x4, 0x44, 0x00), Ok(()), Err(Io)),
        (check(0x5, 0x20, 0x00), Err(NotSupported), Err(NotSupported)),
        (check(0x5, 0x24, 0x00), Err(NotSupported), Err(NotSupported)),
        (check(0x5, 0x26, 0x00), Err(NotSupported), Err(NotSupported)),
        (check(0x6, 0x28, 0x00), Ok(()), Ok(())),
        (check(0x6, 0x29, 0x00), Ok(()), Ok(())),
        (check(0x6, 0x29, 0x02), Ok(()), Ok(())),
        (check(0x6, 0x29, 0x03), Ok(()), Ok(())),
        (check(0x6, 0x29, 0x07), Ok(()), Ok(())),
        (check(0x6, 0x2a, 0x01), Ok(()), Ok(())),
        (check(0x6, 0x2a, 0x03), Ok(()), Ok(())),
        (check(0x6, 0x2a, 0x04), Ok(()), Ok(())),
        (check(0x6, 0x2a, 0x05), Ok(()), Ok(())),
        (check(0x6, 0x2a, 0x06), Ok(()), Ok(())),
        (check(0x6, 0x2a, 0x07), Ok(()), Ok(())),
        (check(0x6, 0x2a, 0x09), Ok(()), Ok(())),
        (check(0x6, 0x2f, 0x00), Ok(()), Ok(())),
        (check(0x6, 0x38, 0x07), Ok(()), Ok(())),
        (check(0x6, 0x3f, 0x03), Ok(()), Ok(())),
        (check(0x6, 0x3f, 0x05), Ok(()), Ok(())),
        (check(0x6, 0x3f, 0x0e), Ok(()), Ok(())),
        (check(0x7, 0x27, 0x00), Err(ReadOnly), Err(ReadOnly)),
        (check(0x7, 0x27, 0x07), Err(NoSpace), Err(NoSpace)),
        (check(0xb, 0x47, 0x01), Ok(()), Ok(())),
        (check(0xb, 0x00, 0x00), Ok(()), Ok(())),
        (Fault::Recovered(Code(0x1, 0x17, 0x00)), Ok(()), Ok(())),
        (Fault::Deferred(Code(0x3, 0x0c, 0x00)), Ok(()), Ok(())),
    ];
    for (fault, once, everywhere) in table {
        for (times, expected) in [(1, once), (2, everywhere)] {
            let mut host = Host::new(36, target(&[1, 1]), LunConfig::default());
            host.all_up();
            inject(&mut host, Select::Writes, fault, times);
            host.write(0, 0, 8, 0x11);
            assert_eq!(host.wait(0), Some(expected), "{fault:?} x {times}");
            host.world.happen(Incident::Disarm);
            host.all_up();
            host.must_write(1, 0, 8, 0x22);
            assert_nothing_lost(&host, &format!("{fault:?} x {times}"));
        }
    }
}

/// No path was lost or is marginal, and nothing is unresolved.
fn assert_nothing_lost(host: &Host, why: &str) {
    let status = host.volume.status();
    assert_eq!(status.unresolved, [], "{why}");
    for path in status.paths {
        assert_eq!((path.losses, path.state), (0, PathState::Up), "{why}");
        let damping = &host.volume.path(path.id).damping;
        assert!(!damping.is_marginal(host.now()), "{why}");
    }
    host.assert_good_manners();
}

#[test]
fn a_lun_not_supported_leaves_one_path_and_is_final_on_all() {
    let gone = Fault::Check(Code::LUN_NOT_SUPPORTED);
    let mut host = Host::new(37, target(&[1, 1]), LunConfig::default());
    host.all_up();
    inject(&mut host, Select::Writes, gone, 1);
    host.must_write(0, 0, 8, 0x11);
    host.all_up();
    inject(&mut host, Select::Any, gone, u32::MAX);
    host.write(0, 0, 8, 0x22);
    assert_eq!(host.wait(0), Some(Err(IoError::Io)));
    host.world.happen(Incident::Disarm);
    host.all_up();
    host.must_write(0, 0, 8, 0x33);
}

#[test]
fn another_hosts_lun_reset_drops_commands_and_blames_nobody() {
    for told in [Code(0x6, 0x29, 0x02), Code::RESET, Code(0x6, 0x2f, 0x00)] {
        for mut host in hosts() {
            // What was under way ends in TASK ABORTED (TAS=1), what comes after in a unit attention on each nexus.
            inject(
                &mut host,
                Select::Any,
                Fault::Status(0x40),
                u32::from(DEPTH) / 2,
            );
            for tag in 0..DEPTH {
                host.write(tag, u64::from(tag) * 8, 8, tag as u8 + 1);
            }
            host.world.unit().attention(told, None);
            assert!(host.run(seconds(10), |host| host.done.len() == usize::from(DEPTH)));
            assert!(host.done.iter().all(|(_, result)| result.is_ok()));
            for tag in 0..DEPTH {
                let expected = vec![tag as u8 + 1; 4096];
                assert_eq!(host.medium(u64::from(tag) * 8, 8), expected);
            }
            host.all_up();
            assert_nothing_lost(&host, &format!("{told:?}"));
        }
    }
}

#[test]
fn a_short_read_is_a_failure_and_is_repeated() {
    for mut host in hosts() {
        host.must_write(0, 0, 64, 0x11);
        inject(&mut host, Select::Reads, Fault::ShortRead, 1);
        assert_eq!(host.must_read(1, 0, 64), vec![0x11; 64 * 512]);
        inject(&mut host, Select::Reads, Fault::ShortRead, 2);
        host.submit(request(1, Operation::Read, 0, 64));
        assert_eq!(host.wait(1), Some(Err(IoError::Io)));
    }
}

#[test]
fn a_lost_earlier_write_fails_the_next_flush_and_only_that() {
    for mut host in hosts() {
        inject(
            &mut host,
            Select::Writes,
            Fault::Deferred(Code(0x3, 0x0c, 0x00)),
            1,
        );
        host.must_write(0, 0, 8, 0x11);
        assert_eq!(host.volume.status().deferred_errors, 1);
        assert!(host.noted(|note| matches!(note, Note::EarlierWriteLost { .. })));
        host.submit(request(1, Operation::Flush, 0, 0));
        assert_eq!(host.wait(1), Some(Err(IoError::Io)));
        host.submit(request(1, Operation::Flush, 0, 0));
        assert_eq!(host.wait(1), Some(Ok(())));
    }
}

#[test]
fn task_set_full_shrinks_the_depth_and_everything_arrives() {
    for mut host in hosts() {
        inject(&mut host, Select::Writes, Fault::Status(0x28), 5);
        for tag in 0..DEPTH {
            host.write(tag, u64::from(tag) * 8, 8, tag as u8);
        }
        assert!(host.run(seconds(10), |host| host.done.len() == usize::from(DEPTH)));
        assert!(host.done.iter().all(|(_, result)| result.is_ok()));
        host.assert_good_manners();
    }
}

#[test]
fn a_write_cache_switched_on_behind_our_back_forces_every_write() {
    for mut host in hosts() {
        host.world.unit().config_mut().write_cache = true;
        host.world.unit().attention(Code::MODE_CHANGED, None);
        host.must_write(0, 0, 8, 0x11);
        host.pass(seconds(1));
        assert!(host.noted(|note| *note == Note::WriteCacheOn));
        host.world.unit().store().flush();
        host.must_write(0, 0, 8, 0x22);
        assert_eq!(host.world.unit().store().dirty(), 0);
        host.submit(request(
            1,
            Operation::WriteZeroes { may_unmap: false },
            0,
            8,
        ));
        assert_eq!(host.wait(1), Some(Ok(())));
        assert_eq!(host.world.unit().store().dirty(), 0);
    }
}

#[test]
fn a_command_that_hangs_is_aborted_and_repeated() {
    // Without spare buffers: a second copy would answer it before.
    let mut host = Host::with(32, target(&[1, 1]), LunConfig::default(), |config| {
        config.spares.count = PATHS_MAX as u16;
    });
    host.all_up();
    inject(&mut host, Select::Reads, Fault::Park, 1);
    host.submit(request(0, Operation::Read, 0, 8));
    host.pass(seconds(59));
    assert_eq!(host.result(0), None);
    assert_eq!(host.wait(0), Some(Ok(())));
    assert!(host.noted(|note| matches!(note, Note::CommandTimeout { .. })));
    assert_eq!(host.world.target.counters().managements, 1);
    host.assert_good_manners();
}

#[test]
fn a_reset_unit_is_verified_on_every_path_before_the_next_write() {
    for mut host in hosts() {
        host.world.unit().attention(Code::RESET, None);
        for tag in 0..8 {
            host.write(tag, u64::from(tag) * 8, 8, 7);
        }
        assert!(host.run(seconds(5), |host| host.done.len() == 8));
        assert!(host.done.iter().all(|(_, result)| result.is_ok()));
        host.all_up();
        host.assert_good_manners();
    }
}
