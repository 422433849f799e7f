//! The socket and its connections: bytes in, requests one after the other, bytes out.
//!
//! The order of things on a connection is the real daemon's: what it is silent about is not answered, and after some commands
//! it is the daemon that closes. A connection that is closed ends its client, whatever runs for it.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream as Probe;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, fcntl_lock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use super::clients::ClientId;
use super::dispatch::{self, Answer, Then};
use super::service::Service;
use super::wire::flags::RestrictFlags;
use super::wire::structs::Callback;
use super::wire::{Header, Progress, Reply, Request, RequestReader};

/// Connections at a time; more wait in the kernel's backlog. Every process that holds a lease has one.
const CLIENTS_MAX: usize = 1000;
/// Requests of one connection that wait for the one before.
const REQUESTS_MAX: usize = 2;
/// How long a client may take to read an answer.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// Silence after which the rest of a refused request is not waited for any more.
const DRAIN_LIMIT: Duration = Duration::from_millis(20);
/// Before another try to accept.
const ACCEPT_AGAIN: Duration = Duration::from_millis(500);
const SOCKET: &str = "sanlock.sock";
const PID_FILE: &str = "sanlock.pid";

/// Why the socket is not served.
#[derive(Debug)]
pub enum NotServed {
    /// Another lock manager serves it.
    Another(PathBuf),
    /// The file system says so.
    Failed(PathBuf, io::Error),
}

/// The socket, and what keeps another lock manager from it.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Locked as long as it is open.
    _pid_file: File,
}

impl Socket {
    /// Makes the socket for root and a group.
    ///
    /// # Errors
    /// As [`NotServed`] says.
    pub fn bind(directory: &Path, group: Option<u32>) -> Result<Socket, NotServed> {
        let path = directory.join(SOCKET);
        let failed = |error| NotServed::Failed(path.clone(), error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)
            .map_err(failed)?;
        if Probe::connect(&path).is_ok() {
            return Err(NotServed::Another(path));
        }
        let pid_file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(directory.join(PID_FILE))
            .map_err(failed)?;
        if fcntl_lock(&pid_file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(NotServed::Another(path));
        }
        pid_file.set_len(0).map_err(failed)?;
        io::Write::write_all(
            &mut &pid_file,
            format!("{}\n", std::process::id()).as_bytes(),
        )
        .map_err(failed)?;
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(failed)?;
        if group.is_some() {
            chown(&path, None, group).map_err(failed)?;
            chown(directory, None, group).map_err(failed)?;
        }
        std::fs::set_permissions(&path, Permissions::from_mode(0o660)).map_err(failed)?;
        Ok(Socket {
            listener,
            path,
            _pid_file: pid_file,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Accepts clients for ever. Must run inside a `LocalSet`.
    pub async fn serve(self, service: Rc<Service>) {
        tokio::task::spawn_local(Rc::clone(&service).watch());
        let places = Arc::new(Semaphore::new(CLIENTS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let service = Rc::clone(&service);
                    tokio::task::spawn_local(async move {
                        connection(service, stream).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    // Out of descriptors, mostly: wait for a client to go.
                    tracing::warn!("sanlock socket: {error}");
                    sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What a connection brings.
enum Incoming {
    Request(Header, Box<Request>),
    /// An answer that needs no request.
    Refused(Reply),
}

async fn connection(service: Rc<Service>, stream: UnixStream) {
    let Ok(peer) = stream.peer_cred() else {
        return;
    };
    let pid = peer.pid().unwrap_or(-1);
    let client = service.books.borrow_mut().connect(pid);
    let (reader, mut writer) = stream.into_split();
    let (tell, mut requests) = mpsc::channel(REQUESTS_MAX);
    let reading = {
        let service = Rc::clone(&service);
        tokio::task::spawn_local(async move {
            read(reader, &tell).await;
            // Also while a command runs: it may be waiting for what nobody wants any more.
            service.hang_up(client);
        })
    };
    while let Some(incoming) = requests.recv().await {
        let answer = match incoming {
            Incoming::Refused(reply) => Answer::of(reply),
            Incoming::Request(header, request) => {
                if is_silenced(&service, client) {
                    continue;
                }
                dispatch::handle(&service, client, pid, &header, *request).await
            }
        };
        if send(&mut writer, &answer.bytes).await.is_err() {
            break;
        }
        match answer.then {
            Then::Stay => {}
            Then::Close => break,
            Then::Tell(callbacks) => {
                tell_events(&mut writer, callbacks, &mut requests).await;
                break;
            }
        }
    }
    reading.abort();
    service.hang_up(client);
}

/// A client that restricted itself from everything is not answered.
fn is_silenced(service: &Service, client: ClientId) -> bool {
    let books = service.books.borrow();
    let client = books.client(client);
    client.is_none_or(|client| client.restricted.contains(RestrictFlags::ALL))
}

async fn send(writer: &mut OwnedWriteHalf, bytes: &[u8]) -> io::Result<()> {
    timeout(WRITE_LIMIT, writer.write_all(bytes)).await?
}

/// Reads requests until the connection ends.
async fn read(mut reader: OwnedReadHalf, tell: &mpsc::Sender<Incoming>) {
    let mut parser = RequestReader::new();
    let mut buffer = vec![0; 4096];
    loop {
        let length = tokio::select! {
            length = reader.read(&mut buffer) => length,
            () = sleep(DRAIN_LIMIT), if parser.is_draining() => {
                parser.stop_draining();
                continue;
            }
        };
        let mut input = match length {
            Ok(0) | Err(_) => return,
            Ok(length) => &buffer[..length],
        };
        loop {
            let incoming = match parser.read(&mut input) {
                Progress::Need(_) => break,
                Progress::Request { header, request } => {
                    Incoming::Request(header, Box::new(request))
                }
                Progress::Refused { header, refusal } => {
                    Incoming::Refused(Reply::result(&header, Err(refusal)))
                }
                Progress::Silent(silence) => {
                    tracing::debug!("sanlock client: not answered: {silence:?}");
                    continue;
                }
            };
            if tell.send(incoming).await.is_err() {
                return;
            }
        }
    }
}

/// Tells a client of events until it goes, or the lockspace does.
async fn tell_events(
    writer: &mut OwnedWriteHalf,
    mut callbacks: mpsc::Receiver<Callback>,
    requests: &mut mpsc::Receiver<Incoming>,
) {
    loop {
        let callback = tokio::select! {
            callback = callbacks.recv() => callback,
            // Nothing more is asked for on such a connection; that it ends is news.
            more = requests.recv() => match more {
                Some(_) => continue,
                None => return,
            },
        };
        let Some(callback) = callback else {
            return;
        };
        if send(writer, &callback.emit()).await.is_err() {
            return;
        }
    }
}
