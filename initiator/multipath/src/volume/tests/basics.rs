//! One and two healthy paths: every operation, and the way out.

use kit::disk::LunConfig;

use super::host::*;
use crate::contract::*;

fn one_path() -> Host {
    let mut host = Host::new(1, target(&[1]), LunConfig::default());
    host.all_up();
    host
}

#[test]
fn one_path_carries_io() {
    let mut host = one_path();
    host.must_write(0, 100, 8, 0x11);
    assert_eq!(host.must_read(1, 100, 8), vec![0x11; 4096]);
    host.must_write(0, 100, 2048, 0x22);
    assert_eq!(host.must_read(1, 100, 2048), vec![0x22; 1 << 20]);
    assert_eq!(host.medium(100, 2048), vec![0x22; 1 << 20]);
    let status = host.volume.status();
    assert_eq!(status.paths[0].completed, 4);
    assert_eq!(status.paths[0].bytes_written, 4096 + (1 << 20));
    assert_eq!(status.all_paths_down_since, None);
    assert!(status.paths[0].negotiated.is_some());
    assert!(status.paths[0].round_trip_ns.is_some());
    host.assert_good_manners();
}

#[test]
fn a_flush_costs_nothing_without_a_cache_and_reaches_the_medium_with_one() {
    let mut host = one_path();
    let before = host.world.target.counters().commands;
    host.submit(request(0, Operation::Flush, 0, 0));
    assert_eq!(host.wait(0), Some(Ok(())));
    assert_eq!(host.world.target.counters().commands, before);

    let unit = LunConfig {
        write_cache: true,
        ..LunConfig::default()
    };
    let mut host = Host::new(2, target(&[1]), unit);
    host.all_up();
    host.must_write(0, 0, 8, 1);
    assert!(host.world.unit().store().dirty() > 0);
    host.submit(request(1, Operation::Flush, 0, 0));
    assert_eq!(host.wait(1), Some(Ok(())));
    assert_eq!(host.world.unit().store().dirty(), 0);
    host.memory.of(iscsi_client::memory::BufferId(0)).fill(2);
    host.submit(Request {
        fua: true,
        ..request(0, Operation::Write, 0, 8)
    });
    assert_eq!(host.wait(0), Some(Ok(())));
    assert_eq!(host.world.unit().store().dirty(), 0, "FUA rides in the CDB");
}

#[test]
fn fua_without_support_is_a_write_and_a_flush() {
    let unit = LunConfig {
        write_cache: true,
        ..LunConfig::default()
    };
    let mut host = Host::with(3, target(&[1]), unit, |config| {
        config.description.fua = false
    });
    host.all_up();
    host.memory.of(iscsi_client::memory::BufferId(0)).fill(2);
    host.submit(Request {
        fua: true,
        ..request(0, Operation::Write, 0, 8)
    });
    assert_eq!(host.wait(0), Some(Ok(())));
    assert_eq!(host.world.unit().store().dirty(), 0);
    assert_eq!(host.medium(0, 8), vec![2; 4096]);
}

#[test]
fn discards_beyond_the_limit_are_several() {
    let unit = LunConfig {
        max_unmap_blocks: 100,
        ..LunConfig::default()
    };
    let mut host = Host::new(4, target(&[1]), unit);
    host.all_up();
    host.must_write(0, 0, 1024, 7);
    let before = host.world.target.counters().commands;
    host.submit(request(0, Operation::Discard, 10, 950));
    assert_eq!(host.wait(0), Some(Ok(())));
    assert_eq!(host.world.target.counters().commands - before, 10);
    let mut expected = vec![7; 1024 * 512];
    expected[10 * 512..960 * 512].fill(0);
    assert_eq!(host.medium(0, 1024), expected);
}

#[test]
fn zeroing_by_write_same_or_plain_writes() {
    for write_same in [true, false] {
        for may_unmap in [true, false] {
            let unit = LunConfig {
                write_same,
                max_write_same_blocks: 100,
                ..LunConfig::default()
            };
            let mut host = Host::new(5, target(&[1]), unit);
            host.all_up();
            host.must_write(0, 0, 1024, 7);
            for (lba, blocks) in [(10, 500), (600, 150)] {
                host.memory.of(iscsi_client::memory::BufferId(3)).fill(0x99);
                let zeroes = Operation::WriteZeroes { may_unmap };
                host.submit(request(3, zeroes, lba, blocks));
                assert_eq!(host.wait(3), Some(Ok(())), "{write_same} {may_unmap}");
            }
            let mut expected = vec![7; 1024 * 512];
            expected[10 * 512..510 * 512].fill(0);
            expected[600 * 512..750 * 512].fill(0);
            assert_eq!(host.medium(0, 1024), expected);
            assert_eq!(
                host.noted(|note| *note == crate::Note::WriteSameRefused),
                !write_same
            );
            host.assert_good_manners();
        }
    }
}

#[test]
fn a_discard_without_support_says_so() {
    let unit = LunConfig {
        thin: false,
        ..LunConfig::default()
    };
    let mut host = Host::new(6, target(&[1]), unit);
    host.all_up();
    host.submit(request(0, Operation::Discard, 0, 8));
    assert_eq!(host.wait(0), Some(Err(IoError::NotSupported)));
}

#[test]
fn requests_beyond_the_end_fail_without_a_command() {
    let mut host = one_path();
    for (lba, blocks) in [(1 << 21, 1), ((1 << 21) - 1, 2), (u64::MAX, 8)] {
        host.submit(request(0, Operation::Read, lba, blocks));
        assert_eq!(host.wait(0), Some(Err(IoError::Io)));
    }
}

#[test]
#[should_panic(expected = "was submitted before it was answered")]
fn a_busy_tag_is_the_runtimes_bug() {
    let mut host = one_path();
    host.write(0, 0, 8, 1);
    host.write(0, 0, 8, 1);
}

#[test]
fn two_paths_share_the_load_or_one_stands_by() {
    for (policy, expected) in [
        (PolicyKind::RoundRobin, [20, 20]),
        (PolicyKind::Failover, [40, 0]),
    ] {
        let mut host = Host::with(7, target(&[1, 1]), LunConfig::default(), |config| {
            config.policy = policy;
        });
        host.all_up();
        for round in 0..40 {
            host.must_write(0, round * 8, 8, round as u8);
        }
        let paths = host.volume.status().paths;
        assert_eq!(
            [paths[0].completed, paths[1].completed],
            expected,
            "{policy:?}"
        );
        host.assert_good_manners();
    }
}

#[test]
fn more_requests_than_the_window_holds() {
    let mut config = target(&[1, 1]);
    config.limits.window = 2;
    let mut host = Host::new(8, config, LunConfig::default());
    host.all_up();
    for tag in 0..DEPTH {
        host.write(tag, u64::from(tag) * 8, 8, tag as u8);
    }
    let all = host.run(seconds(5), |host| host.done.len() == usize::from(DEPTH));
    assert!(all);
    assert!(host.done.iter().all(|(_, result)| result.is_ok()));
    host.assert_good_manners();
}

#[test]
fn the_way_out_is_a_logout_on_every_path() {
    let mut host = Host::new(9, target(&[1, 1]), LunConfig::default());
    host.all_up();
    host.write(0, 0, 8, 1);
    let now = host.now();
    host.turn();
    host.volume.shut_down(now, seconds(5));
    assert!(host.run(seconds(10), |host| host.volume.is_shut_down()));
    assert_eq!(
        host.result(0),
        Some(Ok(())),
        "what was sent came to its end"
    );
    assert_eq!(host.world.target.counters().logouts, 2);
    host.submit(request(1, Operation::Read, 0, 8));
    assert_eq!(host.wait(1), Some(Err(IoError::Io)));
    assert_eq!(host.volume.poll_timeout(), None);
    host.assert_good_manners();
}
