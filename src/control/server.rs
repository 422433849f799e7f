//! The daemon's end of the control socket.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::failure::{Failure, Kind};

use super::{
    Envelope, HEARTBEAT, LINE_TIMEOUT, Line, PROTOCOL, REQUEST_MAX, Reply, Request, VERSION,
};

/// Clients served at once; more wait in the kernel's backlog.
const CLIENTS_MAX: usize = 32;
/// Progress lines that wait for a slow client; more are dropped.
const PROGRESS_MAX: usize = 64;

/// Tells the client what is going on. Never waits: a client that does not read misses lines.
#[derive(Clone, Debug)]
pub struct Progress(mpsc::Sender<String>);

impl Progress {
    /// One short sentence.
    pub fn say(&self, text: impl Into<String>) {
        let text = text.into();
        tracing::info!("{text}");
        // Full or gone: the log has it.
        let _ = self.0.try_send(text);
    }

    /// One that nobody listens to.
    pub fn silent() -> Progress {
        Progress(mpsc::channel(1).0)
    }
}

/// Serves requests.
pub trait Handler {
    /// Carries out a request to its end, whether or not the client still listens.
    fn handle(
        self: Rc<Self>,
        request: Request,
        progress: Progress,
    ) -> impl Future<Output = Result<Reply, Failure>>;
}

/// Makes the socket, for root alone.
///
/// # Errors
/// The file system's own. The caller holds the daemon's lock, so a socket that is there is a dead one.
pub fn bind(socket: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Accepts clients for ever. Must run inside a `LocalSet`.
pub async fn serve(listener: UnixListener, handler: Rc<impl Handler + 'static>) {
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let handler = Rc::clone(&handler);
                tokio::task::spawn_local(async move {
                    if let Err(error) = client(stream, handler).await {
                        tracing::debug!("control client: {error}");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors, mostly: wait for a client to go.
                tracing::warn!("control socket: {error}");
                tokio::time::sleep(LINE_TIMEOUT / 10).await;
            }
        }
    }
}

async fn client(stream: UnixStream, handler: Rc<impl Handler + 'static>) -> io::Result<()> {
    let peer = stream.peer_cred()?;
    let (reader, mut writer) = stream.into_split();
    if peer.uid() != 0 && peer.uid() != rustix::process::geteuid().as_raw() {
        let failure = Failure::new(Kind::Daemon, "only root may talk to the daemon", "use sudo");
        return send(&mut writer, &Line::Failed { failure }).await;
    }
    let mut line = Vec::new();
    let mut reader = BufReader::new(reader).take(REQUEST_MAX);
    timeout(LINE_TIMEOUT, reader.read_until(b'\n', &mut line)).await??;
    let request = match parse(&line) {
        Ok(request) => request,
        Err(failure) => return send(&mut writer, &Line::Failed { failure }).await,
    };
    let (progress, mut lines) = mpsc::channel(PROGRESS_MAX);
    let (done, mut result) = oneshot::channel();
    // A task of its own: work that has begun is ended or rolled back, also when the client goes away.
    tokio::task::spawn_local(async move {
        let result = handler.handle(request, Progress(progress)).await;
        let _ = done.send(result);
    });
    loop {
        tokio::select! {
            biased;
            Some(text) = lines.recv() => send(&mut writer, &Line::Progress { text }).await?,
            result = &mut result => {
                let line = match result {
                    Ok(Ok(reply)) => Line::Done { reply },
                    Ok(Err(failure)) => Line::Failed { failure },
                    Err(_) => Line::Failed {
                        failure: Failure::new(
                            Kind::Daemon,
                            "the daemon gave up on the request",
                            "look at its log, then sanblk status",
                        ),
                    },
                };
                return send(&mut writer, &line).await;
            }
            () = tokio::time::sleep(HEARTBEAT) => {
                send(&mut writer, &Line::Progress { text: String::new() }).await?;
            }
        }
    }
}

fn parse(line: &[u8]) -> Result<Request, Failure> {
    let nonsense = |why: String| Failure::new(Kind::Daemon, format!("not a request: {why}"), "");
    if !line.ends_with(b"\n") {
        return Err(nonsense(format!("no line within {REQUEST_MAX} bytes")));
    }
    let envelope: Envelope =
        serde_json::from_slice(line).map_err(|error| nonsense(error.to_string()))?;
    if envelope.protocol != PROTOCOL || envelope.version != VERSION {
        let (newer, older) = (&envelope.version, VERSION);
        return Err(Failure::new(
            Kind::Daemon,
            format!("this sanblk is version {newer}, the running daemon is version {older}"),
            "detach all volumes, restart the daemon (systemctl restart sanblk) and attach again; \
             or use the tool of the daemon's version",
        ));
    }
    serde_json::from_value(envelope.request).map_err(|error| nonsense(error.to_string()))
}

async fn send(writer: &mut OwnedWriteHalf, line: &Line) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    timeout(LINE_TIMEOUT, writer.write_all(&bytes)).await?
}
