//! Starting a daemon when none runs: through systemd where it runs and has our unit, so that the daemon never dies
//! with a login session; else as a process of its own.

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio::time::sleep;

use crate::control::client::{self, NoDaemon};
use crate::failure::{Failure, Kind};
use crate::layout::Layout;

const UNIT: &str = "sanblk.service";
/// The daemon frees left-over devices before it listens.
const START_LIMIT: Duration = Duration::from_secs(30);
/// More of its log is not looked at for the reason of its end.
const WORDS_MAX: u64 = 64 << 10;

/// Connects to the daemon, which is started if none runs.
///
/// # Errors
/// It cannot be started, or does not listen in time.
pub async fn connect(layout: &Layout, mut say: impl FnMut(&str)) -> Result<UnixStream, Failure> {
    let socket = layout.socket();
    match client::connect(&socket).await {
        Ok(stream) => return Ok(stream),
        Err(NoDaemon::Absent) => {}
        Err(other) => return Err(other.failure(&socket)),
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new(
            Kind::Daemon,
            "no daemon runs, and only root can start one",
            "run as root (sudo sanblk …)",
        ));
    }
    let mut child = None;
    let said_before = log_len(&layout.log());
    if systemd_has_unit(layout) {
        say(&format!("starting the daemon: systemctl start {UNIT}"));
        by_systemd().await?;
    } else {
        say("starting the daemon");
        child = Some(detached(layout)?);
    }
    let end = Instant::now() + START_LIMIT;
    loop {
        match client::connect(&socket).await {
            Ok(stream) => return Ok(stream),
            Err(NoDaemon::Absent) if child.as_mut().is_some_and(has_ended) => {
                return Err(ended_at_once(
                    &last_words(&layout.log(), said_before),
                    layout,
                ));
            }
            Err(NoDaemon::Absent) if Instant::now() < end => sleep(Duration::from_millis(20)).await,
            Err(NoDaemon::Absent) => {
                return Err(Failure::new(
                    Kind::Daemon,
                    format!("the daemon did not listen on {} in time", socket.display()),
                    format!(
                        "look at its log: {} or journalctl -u {UNIT}",
                        layout.log().display()
                    ),
                ));
            }
            Err(other) => return Err(other.failure(&socket)),
        }
    }
}

fn systemd_has_unit(layout: &Layout) -> bool {
    let places = ["/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"];
    let has = |place: &&str| {
        layout
            .path(&format!("{place}/systemd/system/{UNIT}"))
            .exists()
    };
    layout.path("/run/systemd/system").exists() && places.iter().any(has)
}

async fn by_systemd() -> Result<(), Failure> {
    let command = || {
        Command::new("systemctl")
            .args(["start", UNIT])
            .stdin(Stdio::null())
            .output()
    };
    let failed = |why: String| {
        Failure::new(
            Kind::Daemon,
            format!("systemctl start {UNIT}: {why}"),
            format!("journalctl -u {UNIT} says why"),
        )
    };
    let run = tokio::task::spawn_blocking(command);
    match tokio::time::timeout(START_LIMIT, run).await {
        Ok(Ok(Ok(output))) if output.status.success() => Ok(()),
        Ok(Ok(Ok(output))) => Err(failed(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        )),
        Ok(Ok(Err(error))) => Err(failed(error.to_string())),
        Ok(Err(_)) | Err(_) => Err(failed("no answer".to_owned())),
    }
}

/// A process with a session of its own (it calls setsid itself), no terminal, and its log in `/run`.
fn detached(layout: &Layout) -> Result<Child, Failure> {
    let failed = |error: io::Error| {
        Failure::new(
            Kind::Daemon,
            format!("cannot start the daemon: {error}"),
            "run `sanblk daemon` yourself to see why",
        )
    };
    let run = layout.run();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&run)
        .map_err(failed)?;
    // What the daemon says before its log runs, and a panic's last words.
    let log = layout.log();
    let stderr = open(&log).map_err(failed)?;
    Command::new(std::env::current_exe().map_err(failed)?)
        .args(["daemon", "--background", "--log"])
        .arg(&log)
        // Not ours to keep busy: the directory may be on a file system that somebody unmounts.
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .map_err(failed)
}

fn has_ended(child: &mut Child) -> bool {
    matches!(child.try_wait(), Ok(Some(_)))
}

fn log_len(log: &Path) -> u64 {
    std::fs::metadata(log).map_or(0, |metadata| metadata.len())
}

/// What a daemon wrote to its log after the first `from` bytes; nothing if that cannot be read.
fn last_words(log: &Path, from: u64) -> String {
    let mut words = Vec::new();
    if let Ok(mut file) = std::fs::File::open(log)
        && file.seek(SeekFrom::Start(from)).is_ok()
    {
        let _ = file.take(WORDS_MAX).read_to_end(&mut words);
    }
    String::from_utf8_lossy(&words).into_owned()
}

/// A daemon says why it ends in the words of every verb: `sanblk: ...` and what to try next.
fn ended_at_once(words: &str, layout: &Layout) -> Failure {
    let said = |prefix: &str| {
        words
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix(prefix))
    };
    let what = said("sanblk: ").map(|why| format!("the daemon ended at once: {why}"));
    let next = said("  next: ").map(str::to_owned);
    Failure::new(
        Kind::Daemon,
        what.unwrap_or_else(|| "the daemon ended at once".to_owned()),
        next.unwrap_or_else(|| {
            let log = layout.log();
            format!(
                "look at its log, {}, or run `sanblk daemon` to see why",
                log.display()
            )
        }),
    )
}

fn open(path: &Path) -> io::Result<std::fs::File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_an_end_is_taken_from_the_words_of_this_start() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::below(root.path().to_owned());
        let log = root.path().join("log");
        std::fs::write(&log, "sanblk: of an earlier start\n  next: old advice\n").unwrap();
        let before = log_len(&log);
        let none = ended_at_once(&last_words(&log, before), &layout);
        assert_eq!(none.what, "the daemon ended at once");
        assert!(none.next.contains("look at its log"), "{}", none.next);
        let mut more = open(&log).unwrap();
        io::Write::write_all(
            &mut more,
            b"2026 INFO starts\nsanblk: line 1: unknown field\n  next: correct it\n",
        )
        .unwrap();
        let told = ended_at_once(&last_words(&log, before), &layout);
        assert_eq!(told.what, "the daemon ended at once: line 1: unknown field");
        assert_eq!(told.next, "correct it");
    }
}
