//! `sanblk lease` and the real program on the same file. Its `direct` commands need neither daemon nor root.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::lease::Device;

const MIB: usize = 1 << 20;

/// The unpacked program; asked for once.
fn sanlock() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(kit::program::sanlock)
}

/// Runs a `direct` command and returns what it prints.
fn direct(words: &[&str]) -> String {
    let output = Command::new(sanlock()).arg("direct").args(words).output();
    let output = output.expect("the real program runs");
    String::from_utf8(output.stdout).expect("it prints UTF-8")
}

/// Sector size, area size, and the words for them: ours and theirs.
type Layout = (usize, &'static [&'static str], &'static [&'static str]);
const LAYOUTS: [Layout; 2] = [
    (MIB, &[], &["-Z", "512", "-A", "1M"]),
    (8 * MIB, &["--sector", "4096"], &["-Z", "4096", "-A", "8M"]),
];

fn same_dump(device: &Device) {
    let theirs = direct(&["dump", &device.file().display().to_string(), "-f", "1"]);
    let ours = device.lease(&["dump", &device.at(0)]);
    assert_eq!((ours.code, ours.out), (0, theirs));
}

#[test]
fn it_reads_what_we_make() {
    for (area, ours, _) in LAYOUTS {
        let device = Device::zeros(3 * area / MIB);
        assert_eq!(device.lockspace("LS", 0, ours).code, 0);
        assert_eq!(device.resource("RA", area, ours).code, 0);
        let few = [ours, &["--max-hosts", "7"]].concat();
        assert_eq!(device.resource("RB", 2 * area, &few).code, 0);
        same_dump(&device);
        let path = device.file().display().to_string();
        for (option, what, offset) in [
            ("-s", "1", 0),
            ("-s", "2000", 0),
            ("-r", "RA", area),
            ("-r", "RB", 2 * area),
        ] {
            let place = format!("LS:{what}:{path}:{offset}");
            let printed = direct(&["read_leader", option, &place]);
            assert!(
                printed.starts_with("read_leader done 0\n"),
                "{place}: {printed}"
            );
            if what == "RB" {
                assert!(printed.contains("num_hosts 7\n"), "{printed}");
            }
        }
    }
}

#[test]
fn we_read_what_it_makes_and_replace_a_lockspace_that_nobody_joined() {
    for (area, ours, theirs) in LAYOUTS {
        let device = Device::zeros(2 * area / MIB);
        let path = device.file().display().to_string();
        for (option, what, offset) in [("-s", "0", 0), ("-r", "RA", area)] {
            let place = format!("LS:{what}:{path}:{offset}");
            let printed = direct(&[&["init", option, &place], theirs].concat());
            assert_eq!(printed.trim(), "init done 0");
        }
        same_dump(&device);
        assert_eq!(device.lockspace("LS", 0, ours).code, 0);
        same_dump(&device);
        assert_eq!(device.resource("RB", area, ours).code, 4);
        same_dump(&device);
    }
}
