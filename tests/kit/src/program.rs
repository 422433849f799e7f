//! Real programs that tests are held against.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// The path of a program that the lab unpacks: what the variable names, or what the lab says now.
///
/// # Panics
/// There is none: a test without it would be skipped silently.
fn unpacked(program: &str, variable: &str, verb: &str) -> PathBuf {
    if let Some(path) = env::var_os(variable) {
        return PathBuf::from(path);
    }
    let words = ["run", "--quiet", "--locked", "--package=lab", "--", verb];
    let output = Command::new(env!("CARGO"))
        .args(words)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "this test needs a real {program}, and `cargo lab {verb}` could not bring one:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// sanlock, of which no daemon and no configuration is needed for its `direct` commands.
pub fn sanlock() -> PathBuf {
    unpacked("sanlock", "SANBLK_SANLOCK", "sanlock-path")
}

/// tgtd.
pub fn tgtd() -> PathBuf {
    unpacked("tgtd", "SANBLK_TGTD", "tgt-path")
}
