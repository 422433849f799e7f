//! A LUN that grows or shrinks while it is attached (SCHEDULING section 8).

use kit::disk::{Group, LunConfig};

use super::host::*;
use crate::contract::*;
use crate::note::Note;

const SIZE: u64 = 1 << 21;

/// A path to each of so many portals, each in a group of its own.
fn host(paths: u16) -> Host {
    let groups: Vec<u16> = (1..=paths).collect();
    let mut host = Host::new(35, target(&groups), LunConfig::default());
    host.all_up();
    host
}

fn blocks(host: &Host) -> u64 {
    host.volume.status().identity.blocks
}

fn read(host: &mut Host, lba: u64) -> Option<Result<(), IoError>> {
    host.submit(request(1, Operation::Read, lba, 8));
    host.wait(1)
}

#[test]
fn a_growth_is_followed_once_it_is_heard_of_or_found() {
    for (tell, limit) in [(true, 1), (false, 70)] {
        let mut host = host(2);
        assert_eq!(read(&mut host, SIZE), Some(Err(IoError::Io)));
        host.world.unit().resize(2 * SIZE, tell);
        host.must_write(0, 0, 8, 1);
        assert!(
            host.run(seconds(limit), |host| blocks(host) == 2 * SIZE),
            "told: {tell}"
        );
        assert_eq!(read(&mut host, SIZE), Some(Ok(())));
        assert_eq!(read(&mut host, 2 * SIZE), Some(Err(IoError::Io)));
        let grown = Note::Grown {
            from: SIZE,
            to: 2 * SIZE,
        };
        let notes = host.notes.iter().filter(|note| **note == grown).count();
        assert_eq!(notes, 1, "once per volume");
        // A path that comes back must agree with the new size.
        host.reset(0);
        host.all_up();
        host.assert_good_manners();
    }
}

#[test]
fn a_path_that_has_not_heard_of_it_holds_a_growth_up() {
    let mut host = host(2);
    host.world.unit().report_blocks(Group(2), Some(SIZE));
    host.world.unit().resize(2 * SIZE, true);
    host.must_write(0, 0, 8, 1);
    host.pass(seconds(30));
    assert_eq!(blocks(&host), SIZE, "one of two is no majority");
    host.world.unit().report_blocks(Group(2), None);
    assert!(host.run(seconds(60), |host| blocks(host) == 2 * SIZE));
}

#[test]
fn after_ten_seconds_the_majority_decides_and_the_rest_carries_what_it_can() {
    let mut host = host(3);
    host.world.unit().report_blocks(Group(3), Some(SIZE));
    host.world.unit().resize(2 * SIZE, true);
    host.must_write(0, 0, 8, 1);
    host.pass(seconds(9));
    assert_eq!(blocks(&host), SIZE);
    assert!(host.run(seconds(2), |host| blocks(host) == 2 * SIZE));
    let dissent = Note::Shrunk {
        path: PathId(2),
        device: 2 * SIZE,
        reported: SIZE,
    };
    assert!(host.run(seconds(1), |host| host.noted(|note| *note == dissent)));
    assert_eq!(host.volume.status().shrunk_to, Some(SIZE));
    let completed = |host: &Host| host.volume.status().paths[2].completed;
    let before = completed(&host);
    for _ in 0..6 {
        assert_eq!(read(&mut host, SIZE), Some(Ok(())));
    }
    assert_eq!(completed(&host), before, "nothing beyond its end");
    for _ in 0..6 {
        assert_eq!(read(&mut host, 0), Some(Ok(())));
    }
    assert_eq!(completed(&host), before + 2);
    host.assert_good_manners();
}

#[test]
fn a_shrinking_is_never_followed_and_what_lies_beyond_is_not_sent() {
    for paths in [1, 2] {
        let mut host = host(paths);
        host.world.unit().resize(SIZE / 2, true);
        host.must_write(0, 0, 8, 1);
        assert!(host.run(seconds(1), |host| {
            host.volume.status().shrunk_to == Some(SIZE / 2)
        }));
        assert_eq!(blocks(&host), SIZE);
        assert!(host.noted(|note| matches!(note, Note::Shrunk { .. })));
        host.pass(seconds(1));
        let sent = host.world.target.counters().commands;
        for lba in [SIZE / 2, SIZE / 2 - 4, SIZE - 8] {
            assert_eq!(read(&mut host, lba), Some(Err(IoError::Io)), "at {lba}");
        }
        assert_eq!(host.world.target.counters().commands, sent);
        assert_eq!(read(&mut host, SIZE / 2 - 8), Some(Ok(())));
        for path in host.volume.status().paths {
            assert_eq!((path.state, path.losses), (PathState::Up, 0));
        }
        // Grown back, it serves again.
        host.pass(seconds(2));
        host.world.unit().resize(SIZE, true);
        host.must_write(0, 0, 8, 1);
        assert!(host.run(seconds(1), |host| host.volume.status().shrunk_to.is_none()));
        assert_eq!(read(&mut host, SIZE - 8), Some(Ok(())));
    }
}

#[test]
fn a_read_refused_beyond_the_end_leads_to_the_question() {
    let mut host = host(2);
    host.world.unit().resize(SIZE / 2, false);
    assert_eq!(read(&mut host, SIZE - 8), Some(Err(IoError::Io)));
    assert!(host.run(seconds(1), |host| {
        host.volume.status().shrunk_to == Some(SIZE / 2)
    }));
}

#[test]
fn a_path_that_returns_must_agree_with_a_size_that_is_known() {
    let mut host = host(2);
    host.world.unit().resize(SIZE / 2, false);
    host.reset(0);
    host.pass(seconds(1));
    let PathState::Refused { why } = host.state(0) else {
        panic!("{:?}", host.state(0));
    };
    assert!(why.contains("capacity"), "{why}");
    assert!(host.is_up(1));
}
