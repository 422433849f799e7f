//! The tool's end of the control socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::failure::{Failure, Kind};

use super::{
    ANSWER_MAX, Envelope, HEARTBEAT, LINE_TIMEOUT, Line, PROTOCOL, Reply, Request, VERSION,
};

/// Why no connection to a daemon came about.
#[derive(Debug)]
pub enum NoDaemon {
    /// None runs.
    Absent,
    /// This user may not.
    Denied,
    /// Anything else.
    Failed(io::Error),
}

impl NoDaemon {
    /// As the operator reads it.
    pub fn failure(self, socket: &Path) -> Failure {
        let socket = socket.display();
        match self {
            NoDaemon::Absent => Failure::new(
                Kind::Daemon,
                format!("no daemon answers on {socket}"),
                "`sanblk attach` starts one; or systemctl start sanblk",
            ),
            NoDaemon::Denied => Failure::new(
                Kind::Daemon,
                format!("{socket} is for root alone"),
                "run as root (sudo sanblk …)",
            ),
            NoDaemon::Failed(error) => Failure::new(
                Kind::Daemon,
                format!("cannot reach the daemon on {socket}: {error}"),
                "look at the daemon: systemctl status sanblk",
            ),
        }
    }
}

/// Connects to the daemon.
///
/// # Errors
/// Why there is none.
pub async fn connect(socket: &Path) -> Result<UnixStream, NoDaemon> {
    match UnixStream::connect(socket).await {
        Ok(stream) => Ok(stream),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => NoDaemon::Absent,
            io::ErrorKind::PermissionDenied => NoDaemon::Denied,
            _ => NoDaemon::Failed(error),
        }),
    }
}

/// Sends a request and waits for its answer; `progress` sees each line before it.
///
/// # Errors
/// The daemon's own failure, or that it stopped answering.
pub async fn call(
    stream: UnixStream,
    request: &Request,
    mut progress: impl FnMut(&str),
) -> Result<Reply, Failure> {
    let broken = |error: io::Error| {
        Failure::new(
            Kind::Daemon,
            format!("the daemon broke off: {error}"),
            "look at its log (journalctl -u sanblk, or /run/sanblk/daemon.log), then sanblk status",
        )
    };
    let envelope = Envelope {
        protocol: PROTOCOL,
        version: VERSION.to_owned(),
        request: serde_json::to_value(request).map_err(|error| broken(error.into()))?,
    };
    let mut line = serde_json::to_vec(&envelope).map_err(|error| broken(error.into()))?;
    line.push(b'\n');
    let (reader, mut writer) = stream.into_split();
    within(LINE_TIMEOUT, writer.write_all(&line))
        .await?
        .map_err(broken)?;
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut reader).take(ANSWER_MAX);
        let read = bounded.read_until(b'\n', &mut line);
        // Twice the heartbeat and what the daemon may need to schedule it under load.
        within(2 * HEARTBEAT + LINE_TIMEOUT, read)
            .await?
            .map_err(broken)?;
        if !line.ends_with(b"\n") {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_slice(&line).map_err(|error| broken(error.into()))? {
            Line::Progress { text } if text.is_empty() => {}
            Line::Progress { text } => progress(&text),
            Line::Done { reply } => return Ok(reply),
            Line::Failed { failure } => return Err(failure),
        }
    }
}

async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Result<T, Failure> {
    timeout(limit, future).await.map_err(|_| {
        Failure::new(
            Kind::Daemon,
            format!("the daemon has not answered for {} s", limit.as_secs()),
            "look at its log (journalctl -u sanblk, or /run/sanblk/daemon.log)",
        )
    })
}
