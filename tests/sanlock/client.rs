//! What the real tool prints for our daemon is what it printed for its own: the recorded story of two hosts on one file,
//! told again by two of ours.
//!
//! What is asked for is the command line of the recording. The only additions are I/O timeouts, so that joining takes seconds.

use std::process::{Child, Output};
use std::time::{Duration, Instant};

use crate::host::{Host, Storage};
use crate::replay::Replay;
use crate::trace::Trace;

/// A thing that has to come about and does not for so long never will.
const PATIENCE: Duration = Duration::from_secs(120);

/// The I/O timeout of both hosts, in seconds: so long may the disk below the tests take.
const PATIENT: &str = "5";

/// What the recording has of a command: its words, and what it printed and ended with.
fn recorded(name: &str) -> (Vec<String>, Vec<String>) {
    let printed = Trace::load(&format!("sanlock-3.8.5/{name}")).printed;
    let (command, lines) = printed.split_first().expect("a command");
    let words = command.strip_prefix("$ sanlock ").expect("of the tool");
    let words = words.split(' ').map(str::to_owned).collect();
    (words, lines.to_vec())
}

/// Words whose next one differs from run to run: clocks, processes, connections.
const NUMBERS: &[&str] = &["timestamp", "p"];

/// `key=value` lines whose value differs.
const VALUES: &[&str] = &[
    "ci",
    "fd",
    "pid",
    "last_check",
    "last_live",
    "timestamp",
    "owner_name",
    "acquire_last_attempt",
    "acquire_last_success",
    "renewal_last_attempt",
    "renewal_last_success",
    "io_timeout",
    "renewal_read_extend_sec",
    "space_id",
    "res_id",
    "token_id",
];

/// Before a pair that belongs to the line above.
const PAIR: &str = "    ";

/// A printed line without what differs, or nothing where all of it does.
fn masked(line: &str) -> Option<String> {
    // Versions of the programs.
    if let Some((what, _)) = line.split_once(" version ") {
        return Some(format!("{what} version"));
    }
    // The name of this host.
    if line.starts_with("daemon ") {
        return Some("daemon".to_owned());
    }
    // Those of another I/O timeout say so.
    let line = match line.strip_prefix("add_lockspace_timeout") {
        Some(rest) if rest.contains("done") => format!("add_lockspace{rest}"),
        Some(_) => "add_lockspace".to_owned(),
        None => line.to_owned(),
    };
    // Renewals: as many as there was time for.
    if line.contains(" read_ms=") {
        return Some("timestamp=* read_ms=*".to_owned());
    }
    if let Some(pair) = line.strip_prefix("    ") {
        let key = pair.split('=').next().unwrap_or(pair);
        return match VALUES.contains(&key) {
            // What 3.9 says of resources, too.
            true if key == "ci" => None,
            true => Some(format!("{PAIR}{key}=*")),
            false => Some(format!("{PAIR}{pair}")),
        };
    }
    let mut words = vec![];
    let mut number = false;
    for word in line.split(' ') {
        let hidden = number && word != "-1" && word.parse::<u64>().is_ok();
        words.push(match (hidden, word) {
            (true, _) => "*",
            // That it changes may not have been seen yet.
            (_, "UNKNOWN") => "LIVE",
            _ => word,
        });
        number = NUMBERS.contains(&word);
    }
    Some(words.join(" "))
}

fn lines(output: &Output) -> Vec<String> {
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let code = output.status.code().expect("an exit code");
    lines.push(format!("exit {code}"));
    lines
}

/// Without what differs; connections in the order of their names, renewals once.
fn comparable(lines: &[String]) -> Vec<String> {
    let mut blocks: Vec<Vec<String>> = vec![];
    for line in lines.iter().filter_map(|line| masked(line)) {
        match blocks.last_mut() {
            Some(block) if line.starts_with(PAIR) => block.push(line),
            _ => blocks.push(vec![line]),
        }
    }
    for block in &mut blocks {
        // What the daemon says of itself is held against another recording where it is made.
        if block[0] == "daemon" {
            block.truncate(1);
        }
    }
    blocks.dedup();
    let clients = blocks.iter().position(|block| block[0].starts_with("p "));
    if let Some(first) = clients {
        let count = blocks[first..]
            .iter()
            .take_while(|block| block[0].starts_with("p "))
            .count();
        blocks[first..first + count].sort();
    }
    blocks.concat()
}

/// The command of a recording, begun with some more words.
fn begin(host: &Host, name: &str, more: &[&str]) -> Child {
    let (words, _) = recorded(name);
    let words: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .chain(more.iter().copied())
        .collect();
    host.tool(&words).spawn().expect("the tool runs")
}

/// It ended as the recording has it.
fn ended(name: &str, child: Child) {
    let output = child.wait_with_output().expect("its output");
    let (ours, theirs) = (lines(&output), recorded(name).1);
    assert!(
        comparable(&ours) == comparable(&theirs),
        "{name}\nrecorded {theirs:#?}\nprinted {ours:#?}"
    );
}

fn prints(host: &Host, name: &str) {
    ended(name, begin(host, name, &[]));
}

fn prints_with(host: &Host, name: &str, more: &[&str]) {
    ended(name, begin(host, name, more));
}

/// Prints it at last.
fn comes_to_print(host: &Host, name: &str) {
    let end = Instant::now() + PATIENCE;
    let (_, theirs) = recorded(name);
    loop {
        let output = begin(host, name, &[])
            .wait_with_output()
            .expect("its output");
        let ours = lines(&output);
        if comparable(&ours) == comparable(&theirs) {
            return;
        }
        assert!(
            Instant::now() < end,
            "{name}\nrecorded {theirs:#?}\nprinted {ours:#?}"
        );
    }
}

/// Sees that the other one renews, not only that it has its slot.
fn comes_to_see(host: &Host, other: u8) {
    let end = Instant::now() + PATIENCE;
    let other = format!("h {other} ");
    let lives = |line: &String| line.starts_with(&other) && line.ends_with(" LIVE");
    loop {
        let output = begin(host, "gets_h", &[])
            .wait_with_output()
            .expect("its output");
        let lines = lines(&output);
        if lines.iter().any(lives) {
            return;
        }
        assert!(Instant::now() < end, "{lines:?}");
    }
}

/// Tool words of our own, which end well.
fn done(host: &Host, words: &str) {
    let words: Vec<&str> = words.split(' ').collect();
    let output = host.tool(&words).output().expect("the tool runs");
    let lines = lines(&output);
    assert_eq!(
        lines.last().map(String::as_str),
        Some("exit 0"),
        "{words:?} {lines:?}"
    );
}

/// The area and three resources, formatted through the first host.
fn format(one: &Host) {
    prints(one, "version");
    prints_with(one, "init_lockspace", &["-o", "2"]);
    prints(one, "init_resource");
    done(
        one,
        "client init -r LS:RB:leases512.img:2097152 -Z 512 -A 1M",
    );
    done(
        one,
        "client init -r LS:RC:leases512.img:3145728 -Z 512 -A 1M",
    );
    prints(one, "align");
    prints(one, "read_lockspace");
    prints(one, "read_resource");
    prints(one, "read_nomagic");
}

/// Both hosts at once; the lockspace is listed as being joined meanwhile.
fn join(one: &Host, two: &Host) {
    let mut first = begin(one, "add_lockspace", &["-o", PATIENT]);
    let second = begin(two, "add_lockspace_h2", &["-o", PATIENT]);
    let theirs = comparable(&recorded("gets_adding").1);
    loop {
        let output = begin(one, "gets_adding", &[])
            .wait_with_output()
            .expect("its output");
        if comparable(&lines(&output)) == theirs {
            break;
        }
        let over = first.try_wait().expect("its state");
        assert!(over.is_none(), "it was never listed: {:?}", lines(&output));
    }
    prints(one, "inq_lockspace_inprogress");
    ended("add_lockspace", first);
    ended("add_lockspace_h2", second);
    prints(one, "add_lockspace_again");
    prints(one, "inq_lockspace");
    prints(one, "inq_lockspace_none");
    prints(one, "gets");
    comes_to_print(one, "gets_h");
    comes_to_see(one, 2);
    comes_to_see(two, 1);
}

#[test]
fn two_hosts_print_what_was_printed() {
    let storage = Storage::new("leases512.img", 10);
    let (one, two) = (Host::new(&storage, 1), Host::new(&storage, 2));
    format(&one);
    join(&one, &two);
    let hold = |name: &str, host: &Host| Replay::new(Trace::load(name), &host.socket());
    let mut h1 = hold("sanlock-3.8.5/hold_h1", &one);
    let mut h2 = hold("sanlock-3.8.5/hold_h2", &two);

    // Alone and shared, refused and converted, as far as the lock value block.
    h1.answers(9);
    h2.answers(2);
    h1.answers(2);
    h2.answers(1);
    h1.answers(7);
    h2.answers(3);
    h1.answers(1);
    prints(&one, "status");
    prints(&one, "status_D");
    prints(&one, "host_status");
    prints(&one, "host_status_D");
    prints(&one, "renewal");

    // An event from the other host, and a request that is taken back.
    h1.answers(2);
    prints(&two, "set_event");
    h1.answers(1);
    h1.answers(1);
    prints(&two, "request_force_graceful");
    prints(&two, "request_clear");
    prints(&one, "set_config_used_by_orphans");
    prints(&one, "set_config_used_by_orphans0");
    prints(&one, "examine");

    // An orphan, and its adoption.
    h2.answers(1);
    h1.finish();
    h2.finish();
    drop(h2);
    comes_to_print(&two, "status_orphan");
    hold("sanlock-3.8.5/hold_h2_orphan", &two).finish();
    drop(h1);

    // Index and deletion.
    prints(&one, "init_resource_clear");
    prints(&one, "read_cleared");
    prints(&one, "format_rindex");
    prints(&one, "create_resource");
    prints(&one, "create_resource2");
    prints(&one, "lookup_rindex");
    prints(&one, "lookup_rindex_free");
    prints(&one, "delete_resource");
    prints(&one, "update_rindex");
    prints(&one, "rebuild_rindex");
    prints(&one, "command_cmd");

    prints(&one, "shutdown_refused");
    prints(&two, "rem_lockspace_h2");
    prints(&one, "rem_lockspace");
    prints(&one, "shutdown");
}
