//! Lockspaces joined and leases held by real daemons: two hosts, each with a daemon of its own, on one file.
//!
//! The areas are made with an io_timeout of one second, so that a join takes two.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lockmgr::ondisk::{Geometry, Name, init};
use serde_json::Value;

use crate::{Daemon, Host, Said};

pub const MIB: usize = 1 << 20;
/// Longest wait of any test here: no host is waited for until it is dead.
const LIMIT: Duration = Duration::from_secs(60);

/// A file with lockspace LS, and resources RA and RB behind it, on a file system with direct I/O: that of the build.
pub struct Areas {
    dir: tempfile::TempDir,
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a short name")
}

impl Areas {
    pub fn new() -> Areas {
        let geometry = Geometry::B512_M1;
        let mut bytes = vec![0; 3 * MIB];
        for write in init::lockspace(geometry, &name("LS"), 1).expect("a lockspace") {
            let at = write.offset as usize;
            bytes[at..at + write.bytes.len()].copy_from_slice(&write.bytes);
        }
        for (number, resource) in ["RA", "RB"].into_iter().enumerate() {
            let made = init::resource(geometry, &name("LS"), &name(resource)).expect("a resource");
            let at = (number + 1) * MIB;
            bytes[at..at + made.bytes.len()].copy_from_slice(&made.bytes);
        }
        Areas::of(&bytes)
    }

    pub fn of(bytes: &[u8]) -> Areas {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let areas = Areas { dir };
        fs::write(areas.file(), bytes).expect("a file");
        areas
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join("leases")
    }

    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn at(&self, offset: usize) -> String {
        format!("{}:{offset}", self.file().display())
    }
}

/// A host with its daemon.
pub struct Member {
    pub host: Host,
    daemon: Daemon,
}

impl Member {
    pub fn new() -> Member {
        let host = Host::new();
        let daemon = host.daemon();
        Member { host, daemon }
    }

    /// SIGTERM.
    fn end(self) -> std::process::ExitStatus {
        self.daemon.terminate()
    }

    pub fn lease(&self, words: &[&str]) -> Said {
        self.host.run(&[&["lease"], words].concat())
    }

    pub fn join(&self, areas: &Areas, host_id: &str, name: &str) -> Said {
        let at = areas.at(0);
        let words = ["join", &at, "--host-id", host_id, "--host-name", name];
        self.lease(&[&words[..], &["--io-timeout", "1"]].concat())
    }

    pub fn acquire(&self, areas: &Areas, offset: usize, mode: &str) -> Said {
        self.lease(&["acquire", &areas.at(offset), "--mode", mode])
    }

    pub fn convert(&self, areas: &Areas, offset: usize, mode: &str) -> Said {
        self.lease(&["convert", &areas.at(offset), "--mode", mode])
    }

    pub fn release(&self, areas: &Areas, offset: usize) -> Said {
        self.lease(&["release", &areas.at(offset)])
    }

    pub fn space(&self) -> Value {
        let said = self.lease(&["status", "--json"]);
        let json: Value = serde_json::from_str(&said.out).expect("JSON");
        json["lockspaces"][0].clone()
    }

    /// Looks until the other host is seen so.
    pub fn sees(&self, host_id: u64, state: &str) {
        let end = Instant::now() + LIMIT;
        loop {
            let space = self.space();
            let hosts = space["hosts"].as_array().expect("hosts");
            let other = hosts.iter().find(|host| host["host_id"] == host_id);
            if other.is_some_and(|host| host["state"] == state) {
                return;
            }
            assert!(Instant::now() < end, "host {host_id} not {state}: {space}");
            std::thread::yield_now();
        }
    }
}

pub fn done(said: Said) -> String {
    assert_eq!(said.code, 0, "{said:?}");
    said.out
}

pub fn refused(said: &Said, code: i32, words: &[&str]) {
    assert_eq!((said.code, said.out.as_str()), (code, ""), "{said:?}");
    for word in words {
        assert!(said.err.contains(word), "no {word:?}: {said:?}");
    }
}

#[test]
fn a_lease_is_taken_refused_to_a_second_host_and_handed_over() {
    let areas = Areas::new();
    let (one, two) = (Member::new(), Member::new());
    let said = one.join(&areas, "1", "north");
    assert!(said.err.contains("waiting 2 s until host id 1"), "{said:?}");
    assert!(done(said).contains("host 1, generation 1  joined"));
    done(two.join(&areas, "2", "south"));
    let said = done(one.acquire(&areas, MIB, "exclusive"));
    assert!(said.contains("lease RA of LS"), "{said}");
    assert!(said.contains("held exclusive, version 1"), "{said}");
    one.sees(2, "LIVE");
    two.sees(1, "LIVE");
    let said = two.acquire(&areas, MIB, "exclusive");
    refused(&said, 11, &["RA of lockspace LS is held by host 1 (north)"]);
    let said = two.lease(&["acquire", &areas.at(MIB), "--mode", "shared", "--wait"]);
    refused(&said, 11, &["held by host 1 (north), generation 1"]);
    // Another lease is nobody's.
    done(two.acquire(&areas, 2 * MIB, "exclusive"));
    done(one.release(&areas, MIB));
    let said = done(two.acquire(&areas, MIB, "exclusive"));
    assert!(said.contains("version 2"), "{said}");
    refused(
        &one.acquire(&areas, MIB, "exclusive"),
        11,
        &["host 2 (south)"],
    );
    let said = two.lease(&["leave", &areas.at(0)]);
    refused(&said, 4, &["this host holds RA, RB"]);
    done(two.release(&areas, 2 * MIB));
    done(two.release(&areas, MIB));
    done(two.lease(&["leave", &areas.at(0)]));
    assert_eq!(two.space(), Value::Null);
    let told = done(two.host.run(&["events"]));
    for words in ["lockspace LS: joined, generation 1", "lockspace LS: left"] {
        assert!(told.contains(words), "no {words:?}: {told}");
    }
    one.sees(2, "FREE");
    done(one.lease(&["leave", &areas.at(0)]));
}

#[test]
fn a_lease_is_shared_converted_and_its_block_is_handed_on() {
    let areas = Areas::new();
    let (one, two) = (Member::new(), Member::new());
    done(one.join(&areas, "1", "north"));
    done(two.join(&areas, "2", "south"));
    done(one.acquire(&areas, MIB, "shared"));
    done(two.acquire(&areas, MIB, "shared"));
    one.sees(2, "LIVE");
    let said = one.convert(&areas, MIB, "exclusive");
    refused(&said, 11, &["held shared by host 2 (south), generation 1"]);
    assert_eq!(one.space()["leases"][0]["mode"], "shared");
    done(two.release(&areas, MIB));
    let said = done(one.convert(&areas, MIB, "exclusive"));
    assert!(said.contains("held exclusive"), "{said}");
    let said = one.convert(&areas, MIB, "exclusive");
    refused(&said, 4, &["this host holds RA of lockspace LS already"]);
    // Its block.
    let (long, short, got) = (areas.beside("l"), areas.beside("s"), areas.beside("g"));
    fs::write(&long, vec![1; 513]).expect("a file");
    fs::write(&short, b"left by north").expect("a file");
    let file = |path: &PathBuf| path.display().to_string();
    let (at, long, short) = (areas.at(MIB), file(&long), file(&short));
    let said = one.lease(&["release", &at, "--lvb", &long]);
    refused(&said, 2, &["513 bytes: a lock value block has 512"]);
    assert_eq!(one.space()["leases"][0]["mode"], "exclusive");
    done(one.convert(&areas, MIB, "shared"));
    let said = one.lease(&["release", &at, "--lvb", &short]);
    refused(&said, 4, &["only who has it alone"]);
    done(one.convert(&areas, MIB, "exclusive"));
    done(one.lease(&["release", &at, "--lvb", &short, "--json"]));
    let words = ["acquire", &at, "--mode", "shared", "--lvb", &file(&got)];
    done(two.lease(&words));
    let block = fs::read(&got).expect("the block");
    assert!(block.starts_with(b"left by north\0") && block.len() == 512);
    let said = two.lease(&["release", &at, "--json"]);
    let json: Value = serde_json::from_str(&done(said)).expect("JSON");
    assert_eq!(json["lease"]["name"], "RA");
}

#[test]
fn what_cannot_be_joined_says_so_and_changes_nothing() {
    let areas = Areas::new();
    let before = fs::read(areas.file()).expect("the file");
    let one = Member::new();
    let at = |offset: usize| areas.at(offset);
    let join = |place: &str, words: &[&str]| {
        let common = ["join", place, "--host-name", "north", "--io-timeout", "1"];
        one.lease(&[&common, words].concat())
    };
    let beyond = at(8 * MIB);
    for (place, words, code, says) in [
        (&at(0), &["--host-id", "0"][..], 2, "0 is no host id"),
        (&at(0), &["--host-id", "2001"], 2, "from 1 to 2000"),
        (&at(MIB), &["--host-id", "1"], 3, "there is resource \"RA\""),
        (&at(512), &["--host-id", "1"], 2, "not the start of an area"),
        (&beyond, &["--host-id", "1"], 3, "has 3145728 bytes"),
        (
            &"/nowhere".to_owned(),
            &["--host-id", "1"],
            3,
            "there is no /nowhere",
        ),
        (&at(7), &["--host-id", "1"], 2, "no multiple of 512"),
    ] {
        let said = join(place, words);
        refused(&said, code, &[says]);
    }
    let long = "x".repeat(49);
    let words = ["join", &at(0), "--host-id", "1", "--host-name", &long];
    refused(&one.lease(&words), 2, &["1 to 48 bytes"]);
    let words = ["join", &at(0), "--host-id", "1", "--io-timeout", "256"];
    refused(&one.lease(&words), 2, &["1 to 255 seconds"]);
    let words = ["join", &at(0), "--host-id", "1"];
    refused(&one.lease(&words), 2, &["no machine id", "--host-name"]);
    for words in [
        &["acquire", &at(MIB), "--mode", "exclusive"][..],
        &["acquire", &at(0), "--mode", "exclusive"],
        &["release", &at(MIB)],
        &["convert", &at(MIB), "--mode", "shared"],
        &["leave", &at(0)],
    ] {
        let said = one.lease(words);
        assert!([3, 4].contains(&said.code), "{words:?}: {said:?}");
        assert_eq!(said.out, "", "{said:?}");
    }
    refused(
        &one.acquire(&areas, MIB, "exclusive"),
        4,
        &["has not joined"],
    );
    assert!(fs::read(areas.file()).expect("the file") == before);
}

#[test]
fn a_number_in_use_is_refused_at_the_first_sign_of_life() {
    let areas = Areas::new();
    let (one, two) = (Member::new(), Member::new());
    done(one.join(&areas, "1", "north"));
    let said = two.join(&areas, "1", "south");
    refused(
        &said,
        4,
        &[
            "host id 1 of lockspace LS is in use by north",
            "another --host-id",
        ],
    );
    assert!(
        said.err.contains("waiting 68 s for a sign of life"),
        "{said:?}"
    );
    // It is not waited for any more, and another number is free.
    done(two.join(&areas, "2", "south"));
    // Joined already: said again, or refused under another number.
    done(two.join(&areas, "2", "south"));
    let said = two.join(&areas, "3", "south");
    refused(&said, 4, &["this host is host 2 of lockspace LS already"]);
    done(one.acquire(&areas, MIB, "exclusive"));
}

#[test]
fn a_host_that_comes_back_under_its_name_has_its_number_at_once() {
    let areas = Areas::new();
    let (one, two) = (Member::new(), Member::new());
    done(two.join(&areas, "2", "south"));
    done(one.join(&areas, "1", "north"));
    done(one.acquire(&areas, MIB, "exclusive"));
    // Killed: its slot stays taken, and what it held is over with the next generation.
    drop(one);
    let one = Member::new();
    let said = one.join(&areas, "1", "north");
    assert!(said.err.contains("waiting 2 s"), "{said:?}");
    assert!(done(said).contains("generation 2"));
    two.sees(1, "LIVE");
    done(two.acquire(&areas, MIB, "exclusive"));
    refused(
        &one.acquire(&areas, MIB, "exclusive"),
        11,
        &["host 2 (south)"],
    );
}

#[test]
fn an_order_to_end_leaves_what_is_not_held_and_lets_the_rest_expire() {
    let areas = Areas::new();
    let slot = |areas: &Areas| {
        let bytes = fs::read(areas.file()).expect("the file");
        lockmgr::ondisk::DeltaLease::parse(&bytes).expect("a slot")
    };
    let one = Member::new();
    done(one.join(&areas, "1", "north"));
    assert!(!slot(&areas).is_free());
    assert!(one.end().success());
    assert!(slot(&areas).is_free());
    let one = Member::new();
    done(one.join(&areas, "1", "north"));
    done(one.acquire(&areas, MIB, "exclusive"));
    assert!(one.end().success());
    assert!(!slot(&areas).is_free(), "others wait until it is dead");
}

#[test]
fn status_shows_the_disk_and_what_this_host_knows() {
    let areas = Areas::new();
    let one = Member::new();
    let said = one.lease(&["status"]);
    assert_eq!(done(said), "this host has joined no lockspace\n");
    done(one.join(&areas, "1", "north"));
    done(one.acquire(&areas, MIB, "exclusive"));
    one.sees(1, "LIVE");
    let text = done(one.lease(&["status"]));
    for words in [
        "lockspace LS  at ",
        "host 1, generation 1  joined  renewed ",
        "host 1  LIVE     north  generation 1  this host",
        "lease RA of LS  at 1048576  held exclusive, version 1",
    ] {
        assert!(text.contains(words), "no {words:?}: {text}");
    }
    let both = done(one.lease(&["status", &areas.at(0)]));
    assert!(
        both.contains("resource RA of LS") && both.contains("this host"),
        "{both}"
    );
    let json = done(one.lease(&["status", "--json", &areas.at(0)]));
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["areas"][0]["name"], "LS");
    assert_eq!(json["lockspaces"][0]["state"], "joined");
    assert_eq!(json["lockspaces"][0]["leases"][0]["lver"], 1);
    // Without a daemon there is nothing to know, and the disk says the same.
    let alone = Host::new();
    let said = alone.run(&["lease", "status", "--json", &areas.at(0)]);
    let json: Value = serde_json::from_str(&done(said)).expect("JSON");
    assert_eq!(json["lockspaces"], Value::Array(Vec::new()));
    assert_eq!(json["areas"][1]["holders"][0]["host_name"], "north");
    let said = alone.run(&["lease", "release", &areas.at(MIB)]);
    refused(&said, 3, &["the daemon does not run"]);
}

#[test]
fn a_patience_that_ends_before_the_join_does_is_refused() {
    let areas = Areas::of(&vec![0; MIB]);
    let one = Member::new();
    let at = areas.at(0);
    done(one.lease(&["init", "lockspace", "--name", "LS", &at]));
    let before = fs::read(areas.file()).expect("the file");
    let said = one.join(&areas, "1", "north");
    refused(
        &said,
        2,
        &["--io-timeout 1", "a wait of 20 s", "at least 3"],
    );
    assert!(fs::read(areas.file()).expect("the file") == before);
}
