//! Starting a daemon when none runs: through systemd where it runs and has our unit, so that the daemon never dies
//! with a login session; else as a process of its own.

use std::fs::OpenOptions;
use std::io;
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
                return Err(Failure::new(
                    Kind::Daemon,
                    "the daemon ended at once",
                    format!(
                        "look at its log, {}, or run `sanblk daemon` to see why",
                        layout.log().display()
                    ),
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

fn open(path: &Path) -> io::Result<std::fs::File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}
