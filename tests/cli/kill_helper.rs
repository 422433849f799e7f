//! The process that runs kill commands: what they get, and what they do not.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use sanblk::kill_helper::{Kill, VERB};

use crate::Host;

#[test]
fn a_kill_command_has_its_words_and_no_descriptor_of_the_daemons() {
    let host = Host::new();
    let said = host.path("/said");
    let script = "#!/bin/sh\n\
        echo \"$@\" >\"$0.words\"\n\
        for fd in /proc/$$/fd/*; do readlink $fd; done >\"$0.descriptors\"\n\
        mv \"$0.words\" \"${0%/*}/said\"\n";
    let command = host.write("/command", script, 0o755);
    // One that it could pass on, were it careless.
    let _open = std::fs::File::open(&command).expect("a file");
    let mut helper = host
        .command(&[VERB])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a helper");
    let mut orders = helper.stdin.take().expect("piped");
    let kill = Kill::new(
        command.as_os_str().as_bytes(),
        br"--kill my\ vg",
        Some(4711),
    );
    let mut line = b"{\"no\":\"order\"}\n".to_vec();
    line.extend(serde_json::to_vec(&kill).expect("JSON"));
    line.push(b'\n');
    orders.write_all(&line).expect("it reads");
    let end = Instant::now() + Duration::from_secs(30);
    while !said.exists() {
        assert!(Instant::now() < end, "the command was not run");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let words = std::fs::read_to_string(said).expect("words");
    assert_eq!(words, "--kill my vg 4711\n");
    let list = host.path("/command.descriptors");
    let descriptors = std::fs::read_to_string(&list).expect("a list");
    // The shell's own: the script, and the list that it writes.
    let ours = [command.as_path(), &list, "/dev/null".as_ref()];
    let strange = |line: &&str| !ours.contains(&line.as_ref());
    let strange: Vec<&str> = descriptors.lines().filter(strange).collect();
    assert_eq!(strange, [""; 0]);
    // It ends with the daemon.
    drop(orders);
    assert!(helper.wait().expect("it ends").success());
}
