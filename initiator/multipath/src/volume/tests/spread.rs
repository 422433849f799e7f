//! One request on several paths: chunks, and second copies of reads.

use super::host::*;
use crate::contract::*;
use kit::disk::LunConfig;

fn late_binding(seed: u64) -> Host {
    let mut host = Host::with(seed, target(&[1, 1]), LunConfig::default(), |config| {
        config.policy = PolicyKind::LateBinding;
    });
    host.all_up();
    host
}

/// Reads enough for a few hedges to be in the budget.
fn save_up(host: &mut Host) {
    for round in 0..200 {
        host.must_read(0, round % 8, 1);
    }
}

#[test]
fn a_large_request_travels_on_both_paths_at_once() {
    let mut host = late_binding(20);
    let before: Vec<_> = host.volume.status().paths;
    host.must_write(0, 0, 1024, 7);
    assert_eq!(host.must_read(1, 0, 1024), vec![7; 1024 * 512]);
    for (path, before) in host.volume.status().paths.iter().zip(before) {
        let written = path.bytes_written - before.bytes_written;
        let read = path.bytes_read - before.bytes_read;
        assert!(
            written >= 128 << 10 && read >= 128 << 10,
            "{}: {written} {read}",
            path.config.portal_name
        );
    }
    assert_eq!(host.medium(0, 1024), vec![7; 1024 * 512]);
    host.assert_good_manners();
}

#[test]
fn other_policies_leave_requests_whole() {
    let mut host = Host::new(21, target(&[1, 1]), LunConfig::default());
    host.all_up();
    host.must_write(0, 0, 1024, 7);
    let paths = host.volume.status().paths;
    let carried: Vec<_> = paths.iter().filter(|path| path.bytes_written > 0).collect();
    assert_eq!(carried.len(), 1);
}

#[test]
fn a_late_read_is_read_again_elsewhere() {
    let mut host = late_binding(22);
    host.must_write(0, 0, 64, 3);
    save_up(&mut host);
    host.cut(0);
    // Some of these were sent on the path that is silent now, and none waits for its end.
    let start = host.now();
    for tag in 0..8 {
        host.memory
            .of(iscsi_client::memory::BufferId(tag))
            .fill(0xee);
        host.submit(request(tag, Operation::Read, u64::from(tag) * 8, 8));
    }
    for tag in 0..8 {
        assert_eq!(host.wait(tag), Some(Ok(())));
        let buffer = host.memory.of(iscsi_client::memory::BufferId(tag));
        assert_eq!(buffer[..8 * 512], [3; 8 * 512]);
    }
    assert!(host.now().since(start) < millis(100));
    host.assert_good_manners();
}

#[test]
fn what_an_overtaken_read_brings_later_touches_no_buffer() {
    let mut host = late_binding(23);
    host.must_write(0, 0, 256, 3);
    save_up(&mut host);
    // Answers of path 0 are under way and stop in the middle of a PDU's data.
    let mut tags = 0..8;
    for tag in tags.clone() {
        host.submit(request(tag, Operation::Read, u64::from(tag) * 32, 32));
    }
    host.pass(core::time::Duration::from_micros(150));
    host.cut(0);
    assert!(tags.all(|tag| host.wait(tag) == Some(Ok(()))));
    for tag in 0..8 {
        let buffer = host.memory.of(iscsi_client::memory::BufferId(tag));
        assert_eq!(buffer[..32 * 512], [3; 32 * 512]);
        buffer.fill(0xdb);
    }
    host.heal(0);
    host.pass(seconds(3));
    for tag in 0..8 {
        let buffer = host.memory.of(iscsi_client::memory::BufferId(tag));
        assert!(buffer.iter().all(|&byte| byte == 0xdb), "tag {tag}");
    }
    host.assert_good_manners();
}

#[test]
fn a_chunk_that_fails_is_retried_alone() {
    let mut host = late_binding(24);
    for round in 0..8u16 {
        host.write(round, u64::from(round) * 1024, 1024, round as u8 + 1);
    }
    host.pass(millis(1));
    host.reset(1);
    for round in 0..8u16 {
        assert_eq!(host.wait(round), Some(Ok(())));
        let medium = host.medium(u64::from(round) * 1024, 1024);
        assert_eq!(medium, vec![round as u8 + 1; 1024 * 512]);
    }
    host.assert_good_manners();
}
