//! The real binary: words, JSON, exit codes, errors that teach. Nothing here needs a ublk driver; what does is in the
//! lab.

mod attach;
mod daemon;
mod discover;
mod kill_helper;
mod lease;
mod lease_held;
mod lease_sanlock;
mod target;
mod words;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A host of its own: every file the program reads or writes is below a directory of the test's.
struct Host {
    root: tempfile::TempDir,
}

/// What the program said.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Host {
    fn new() -> Host {
        Host {
            root: tempfile::tempdir().expect("a directory"),
        }
    }

    fn path(&self, absolute: &str) -> PathBuf {
        self.root.path().join(absolute.trim_start_matches('/'))
    }

    fn write(&self, absolute: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.path(absolute);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(&path, text).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
        path
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sanblk"));
        command
            .args(words)
            .env("SANBLK_ROOT", self.root.path())
            .env_remove("NOTIFY_SOCKET");
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Said {
        said(self.command(words).output().expect("the program runs"))
    }

    /// A daemon in the foreground, listening.
    fn daemon(&self) -> Daemon {
        let mut command = self.command(&["daemon"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut daemon = Daemon {
            child: command.spawn().expect("the daemon runs"),
        };
        let end = Instant::now() + Duration::from_secs(20);
        while std::os::unix::net::UnixStream::connect(self.path("/run/sanblk/control.sock"))
            .is_err()
        {
            let ended = daemon.child.try_wait().expect("the daemon's state");
            assert!(ended.is_none(), "the daemon ended at once: {ended:?}");
            assert!(Instant::now() < end, "the daemon does not listen");
            std::thread::yield_now();
        }
        daemon
    }
}

/// Ended with the test.
struct Daemon {
    child: Child,
}

impl Daemon {
    fn terminate(mut self) -> std::process::ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
        self.child.wait().expect("the daemon's end")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn said(output: Output) -> Said {
    Said {
        code: output.status.code().expect("an exit code"),
        out: String::from_utf8(output.stdout).expect("text"),
        err: String::from_utf8(output.stderr).expect("text"),
    }
}

/// A portal on which nobody listens: the port was free a moment ago.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}
