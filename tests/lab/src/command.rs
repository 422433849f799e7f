//! Child processes of the lab, with errors that show the whole command and what it said.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// A command from a program and its arguments.
pub fn command<I, S>(program: &str, args: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut c = Command::new(program);
    c.args(args);
    c
}

/// Runs a command that should be silent; its output is shown only when it fails.
pub fn run(c: &mut Command) -> Result<()> {
    output(c).map(drop)
}

/// Runs a command and returns what it wrote to standard output.
pub fn output(c: &mut Command) -> Result<String> {
    let out = c
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {c:?}"))?;
    if !out.status.success() {
        bail!(
            "{c:?} ended with {}\n{}{}",
            out.status,
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Whether a program of this name is in `PATH` (or in the sbin directories a plain user lacks there).
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|d| d.join(program).is_file())
}

/// One line about what the lab itself is doing, kept apart from what guests print.
pub fn say(line: impl std::fmt::Display) {
    eprintln!("lab: {line}");
}
