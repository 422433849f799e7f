//! The small process that runs kill commands: what a client of sanlock's socket asked for with KILLPATH, to be told when
//! its leases are lost.
//!
//! A daemon that serves disks does not fork: its memory is locked, its sockets and rings must not live on in somebody
//! else's command, and what it is to the memory manager (an IO flusher, never killed) is not for others. So this process is
//! started before any of that, waits for orders on its standard input, one line each, and ends when that is closed: with
//! the daemon. It and what it runs have no other descriptor of the daemon's.

use std::ffi::OsStr;
use std::io::{self, BufRead, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use serde::{Deserialize, Serialize};

/// The verb that makes a process this one.
pub const VERB: &str = "kill-helper";
/// Most commands at a time. Each is run once per lost lockspace and client.
const RUNNING_MAX: usize = 256;
/// A write to a pipe that is no longer arrives whole or not at all (pipe(7), `PIPE_BUF`).
const LINE_MAX: usize = 4096;
/// It only waits.
const STACK: usize = 64 * 1024;

/// A command: its path, and its arguments.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Kill {
    path: Vec<u8>,
    arguments: Vec<Vec<u8>>,
}

impl Kill {
    /// The command of a KILLPATH: `arguments` are split at blanks, where a backslash takes the next byte as it is; the
    /// process that lost its leases comes last, if it asked for that.
    pub fn new(path: &[u8], arguments: &[u8], process: Option<u32>) -> Kill {
        let mut arguments = split(arguments);
        arguments.extend(process.map(|pid| pid.to_string().into_bytes()));
        Kill {
            path: path.to_vec(),
            arguments,
        }
    }
}

fn split(text: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' => words.extend(word.take()),
            b'\\' => word
                .get_or_insert_default()
                .push(bytes.next().unwrap_or(b'\\')),
            byte => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    words
}

/// The process, seen from the daemon.
#[derive(Debug)]
pub struct KillHelper {
    orders: ChildStdin,
    // Never waited for: it ends after us.
    _child: Child,
}

impl KillHelper {
    /// Starts it: before memory is locked, and before anything is opened that it must not have.
    ///
    /// # Errors
    /// No process.
    pub fn start() -> io::Result<KillHelper> {
        // Not by name: the file may have been replaced by a newer one.
        let mut child = Command::new("/proc/self/exe")
            .arg(VERB)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // A key at the daemon's terminal is not for it.
            .process_group(0)
            .spawn()?;
        let orders = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let flags = fcntl_getfl(orders.as_fd())?;
        fcntl_setfl(orders.as_fd(), flags | OFlags::NONBLOCK)?;
        Ok(KillHelper {
            orders,
            _child: child,
        })
    }

    /// Has a command run. Does not wait, neither for its start nor for its end.
    ///
    /// # Errors
    /// The process is gone, or does not read.
    pub fn run(&self, kill: &Kill) -> io::Result<()> {
        let mut line = serde_json::to_vec(kill)?;
        line.push(b'\n');
        if line.len() > LINE_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match (&self.orders).write(&line)? {
            written if written == line.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }
}

/// What the process does. Comes back when its standard input is closed.
pub fn serve() {
    if let Err(error) = ublk_dev::process::pass_on_no_descriptors() {
        eprintln!(
            "sanblk: kill commands may have descriptors of whoever started the daemon: {error}"
        );
    }
    let running = Arc::new(AtomicUsize::new(0));
    for line in io::stdin().lock().split(b'\n') {
        let Ok(line) = line else { return };
        match serde_json::from_slice::<Kill>(&line) {
            Ok(kill) if running.load(Ordering::Acquire) < RUNNING_MAX => start(&kill, &running),
            Ok(kill) => eprintln!(
                "sanblk: {} is not run: {RUNNING_MAX} kill commands do not end",
                kill.path.escape_ascii()
            ),
            Err(error) => eprintln!("sanblk: no kill command: {error}"),
        }
    }
}

fn start(kill: &Kill, running: &Arc<AtomicUsize>) {
    let path = kill.path.escape_ascii();
    let child = Command::new(OsStr::from_bytes(&kill.path))
        .args(kill.arguments.iter().map(|word| OsStr::from_bytes(word)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return eprintln!("sanblk: kill command {path}: {error}"),
    };
    eprintln!("sanblk: kill command {path}: process {}", child.id());
    running.fetch_add(1, Ordering::AcqRel);
    let (name, count) = (path.to_string(), Arc::clone(running));
    let reaper = thread::Builder::new().stack_size(STACK).spawn(move || {
        if let Ok(status) = child.wait() {
            eprintln!("sanblk: kill command {name}: {status}");
        }
        count.fetch_sub(1, Ordering::AcqRel);
    });
    if let Err(error) = reaper {
        eprintln!("sanblk: kill command {path}: nobody waits for its end: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let words = split(text.as_bytes()).into_iter();
        words.map(|word| String::from_utf8(word).unwrap()).collect()
    }

    #[test]
    fn arguments_are_split_at_blanks_that_no_backslash_takes() {
        assert_eq!(words("--kill vg0"), ["--kill", "vg0"]);
        assert_eq!(words("  a   b "), ["a", "b"]);
        assert_eq!(words(r"one\ word back\\slash"), ["one word", r"back\slash"]);
        assert_eq!(words(r"end\"), [r"end\"]);
        assert_eq!(words(""), [""; 0]);
        let kill = Kill::new(b"/sbin/lvmlockctl", b"--kill vg0", Some(7));
        assert_eq!(kill.arguments.last().unwrap(), b"7");
    }
}
