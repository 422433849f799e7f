//! Leases in files of their own, as libvirt's lock driver keeps them: the lockspace in one file, each resource in another. The
//! real tool asks, holds and reads the files.
//!
//! The order of commands is the driver's: it aligns, writes and joins its lockspace, writes a resource where a disk has none yet,
//! and then acquires, inquires and releases by the number of the process that becomes the guest.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::host::{Host, Storage};

/// A thing that has to come about and does not for so long never will.
const PATIENCE: Duration = Duration::from_secs(120);

/// The driver's name for its lockspace, and of the file that it lies in.
const SPACE: &str = "__LIBVIRT__DISKS__";

/// Held by another client of this host (EEXIST).
const HELD_HERE: i32 = -17;

/// What the tool prints, and its exit code.
fn run(host: &Host, words: &str) -> (String, i32) {
    let words: Vec<&str> = words.split(' ').collect();
    let output = host.tool(&words).output().expect("the tool runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    (text, output.status.code().expect("an exit code"))
}

fn done(host: &Host, words: &str) -> String {
    let (text, code) = run(host, words);
    assert_eq!(code, 0, "{words}\n{text}");
    text
}

/// A disk's lease, as the tool has it.
fn lease(disk: &str) -> String {
    format!("{SPACE}:{disk}:{disk}:0")
}

/// A process that holds a lease as long as its input is open.
struct Guest {
    child: Child,
}

impl Guest {
    /// Comes to hold it: what the tool becomes then answers.
    fn start(host: &Host, disk: &str) -> Guest {
        let lease = lease(disk);
        let words = ["client", "command", "-r", &lease, "-c", "/bin/cat"];
        let mut command = host.tool(&words);
        let child = command.stdin(Stdio::piped()).spawn().expect("it runs");
        let mut guest = Guest { child };
        let input = guest.child.stdin.as_mut().expect("its input");
        input.write_all(b"held\n").expect("it listens");
        let output = guest.child.stdout.as_mut().expect("its output");
        let mut said = Vec::new();
        for line in BufReader::new(output).lines() {
            let line = line.expect("UTF-8");
            if line == "held" {
                return guest;
            }
            said.push(line);
        }
        panic!("{disk} was not acquired: {said:?}");
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its process goes.
    fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().expect("its end").success());
    }
}

/// Number, generation and version of the owner, as the real tool reads them past every daemon: those of a free one are 0.
fn owner(host: &Host, disk: &str) -> Option<(u64, u64, u64)> {
    let text = done(host, &format!("direct dump {disk}:0:1048576"));
    let line = text.lines().find(|line| line.contains(disk));
    let line = line.unwrap_or_else(|| panic!("{disk} has no leader: {text}"));
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |word: &str| word.parse::<u64>().unwrap_or_else(|_| panic!("{line}"));
    // offset lockspace resource timestamp own gen lver
    let [_, space, name, timestamp, own, generation, lver, ..] = words[..] else {
        panic!("{line}");
    };
    assert_eq!((space, name), (SPACE, disk), "{line}");
    let owner = (number(own), number(generation), number(lver));
    (number(timestamp) > 0).then_some(owner)
}

/// What becomes true.
fn comes_to(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "{what}");
    }
}

/// Both hosts, and the lockspace in its file.
fn joined() -> (Rc<Storage>, Host, Host) {
    let storage = Storage::new(SPACE, 1);
    let (one, two) = (Host::new(&storage, 1), Host::new(&storage, 2));
    // It says so, and ends with 1 nevertheless.
    let (said, _) = run(&one, &format!("client align -s {SPACE}:0:{SPACE}:0"));
    assert!(said.contains("align done 1048576"), "{said}");
    done(&one, &format!("client init -s {SPACE}:0:{SPACE}:0 -o 2"));
    let join = |host: &Host, number: u8| {
        let space = format!("{SPACE}:{number}:{SPACE}:0");
        let words = ["client", "add_lockspace", "-s", &space, "-o", "5"];
        host.tool(&words).spawn().expect("the tool runs")
    };
    for child in [join(&one, 1), join(&two, 2)] {
        let output = child.wait_with_output().expect("its output");
        assert!(output.status.success(), "{output:?}");
    }
    (storage, one, two)
}

#[test]
fn every_lease_lies_in_a_file_of_its_own() {
    let (storage, one, two) = joined();
    for disk in ["disk-b", "disk-c"] {
        storage.file(disk, 1);
        done(&one, &format!("client init -r {}", lease(disk)));
        assert_eq!(owner(&one, disk), None);
    }
    let (b, c) = (Guest::start(&one, "disk-b"), Guest::start(&one, "disk-c"));
    assert_eq!(owner(&two, "disk-b"), Some((1, 1, 1)));
    assert_eq!(owner(&two, "disk-c"), Some((1, 1, 1)));
    // By number of the process, each its own.
    for (guest, disk) in [(&b, "disk-b"), (&c, "disk-c")] {
        let (state, _) = run(&one, &format!("client inquire -p {}", guest.pid()));
        let lines: Vec<&str> = state.lines().filter(|line| line.contains(SPACE)).collect();
        assert_eq!(lines, [format!("\"{}:1\"", lease(disk))], "{state}");
    }
    // What a client of this host has is refused to another, whatever host has it.
    let (acquire, b_lease) = (format!("client acquire -p {} -r", c.pid()), lease("disk-b"));
    let (said, _) = run(&one, &format!("{acquire} {b_lease}"));
    assert!(said.contains(&HELD_HERE.to_string()), "{said}");
    let (said, code) = run(&two, &format!("client command -r {b_lease} -c /bin/cat"));
    assert_ne!(code, 0, "host 1 has it: {said}");
    assert_eq!(owner(&two, "disk-b"), Some((1, 1, 1)));

    // Released by the driver while its process lives, it is the other host's to have.
    let release = format!("client release -p {} -r {b_lease}", b.pid());
    done(&one, &release);
    comes_to("host 1 has let go", || owner(&one, "disk-b").is_none());
    let there = Guest::start(&two, "disk-b");
    assert_eq!(owner(&one, "disk-b"), Some((2, 1, 2)));
    assert_eq!(owner(&one, "disk-c"), Some((1, 1, 1)));
    b.end();
    // That the process of the other ends is all that is needed.
    there.end();
    comes_to("host 2 has let go", || owner(&one, "disk-b").is_none());

    // A file that is removed by who holds its lease, as virt-sanlock-cleanup does, keeps nothing from ending.
    storage.remove("disk-c");
    c.end();
    for (host, number) in [(&one, 1), (&two, 2)] {
        comes_to("nothing is held", || {
            let space = format!("{SPACE}:{number}:{SPACE}:0");
            run(host, &format!("client rem_lockspace -s {space}")).1 == 0
        });
    }
}

#[test]
fn a_path_that_leads_nowhere_is_refused() {
    let (storage, one, _two) = joined();
    let refused = |disk: &str| {
        let lease = lease(disk);
        let (said, code) = run(&one, &format!("client command -r {lease} -c /bin/cat"));
        assert_ne!(code, 0, "{said}");
    };
    refused("disk-b");
    // Zeros are no resource; what was opened for them is no lease.
    storage.file("disk-b", 1);
    refused("disk-b");
    done(&one, &format!("client init -r {}", lease("disk-b")));
    // Another file of that name has other leases.
    let guest = Guest::start(&one, "disk-b");
    guest.end();
    comes_to("let go", || owner(&one, "disk-b").is_none());
    storage.remove("disk-b");
    storage.file("disk-b", 1);
    done(&one, &format!("client init -r {}", lease("disk-b")));
    let guest = Guest::start(&one, "disk-b");
    assert_eq!(owner(&one, "disk-b"), Some((1, 1, 1)));
    guest.end();
}
