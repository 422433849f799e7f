//! libvirt's lock driver, call by call: `driver.c` asks through the real libsanlock what that driver asks, and what VDSM asks besides.
//!
//! `driver.expected` is what it printed for the daemon of sanlock 3.8.5.

use std::process::Command;

use crate::host::{Host, Storage, libsanlock};

#[test]
fn libsanlock_hears_what_it_hears_from_the_real_daemon() {
    let storage = Storage::new("nothing", 1);
    let host = Host::new(&storage, 1);
    let library = libsanlock();
    let program = storage.path().join("driver");
    let compiled = Command::new("cc")
        .arg("-Wl,--allow-shlib-undefined")
        .arg("-o")
        .arg(&program)
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/sanlock/driver.c"
        ))
        .arg(&library)
        .output()
        .expect("a C compiler, which Rust needs to link");
    let errors = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "{errors}");
    let output = Command::new(&program)
        .arg(storage.path())
        .env("SANLOCK_RUN_DIR", host.run_dir())
        .env("LD_LIBRARY_PATH", library.parent().expect("a directory"))
        .output()
        .expect("it runs");
    let ours = String::from_utf8(output.stdout).expect("UTF-8");
    let theirs = include_str!("driver.expected");
    let pairs = ours.lines().zip(theirs.lines());
    let differs = pairs.enumerate().find(|(_, (ours, theirs))| ours != theirs);
    assert_eq!(differs, None, "{ours}");
    assert_eq!(ours.lines().count(), theirs.lines().count(), "{ours}");
    assert!(output.status.success(), "{:?}", output.status);
}
