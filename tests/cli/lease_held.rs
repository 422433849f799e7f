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
    _daemon: Daemon,
}

impl Member {
    pub fn new() -> Member {
        let host = Host::new();
        let daemon = host.daemon();
        Member {
            host,
            _daemon: daemon,
        }
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
    one.sees(2, "FREE");
    done(one.lease(&["leave", &areas.at(0)]));
}
