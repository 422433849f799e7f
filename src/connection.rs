//! One session on a tokio socket, for the control plane: SendTargets and probing logins. One command at a time, in
//! no hurry. The data plane has its own runtime; both drive the same pure [`Session`].

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use iscsi_client::discovery;
use iscsi_client::login::{DigestPreference, LoginFailure, LoginParameters};
use iscsi_client::memory::{BufferId, Memory};
use iscsi_client::outgoing::{Outgoing, Piece};
use iscsi_client::session::{Closed, Command, Completion, Event, Session, SessionConfig};
use iscsi_client::wire::LoginStatus;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use ublk_dev::interface::{self, Reach};

use crate::host;
use crate::portal::Portal;

/// PROTOCOL: a storage network answers a connect in milliseconds or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// Resolver included.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Never follow more hops than this: two portals could send us back and forth.
const REDIRECTS_MAX: u8 = 3;
/// Bytes of the one buffer for answers.
pub const BUFFER_LEN: u32 = 64 * 1024;
/// The one buffer for answers.
pub const BUFFER: BufferId = BufferId(0);

/// Where a portal is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Its address.
    pub address: SocketAddr,
    /// Interface whose connected route holds the address; sessions are bound to it.
    pub interface: Option<String>,
    /// The router in between, where there is one.
    pub gateway: Option<IpAddr>,
}

impl Place {
    /// Looks the address up in the routing table.
    pub fn of(address: SocketAddr) -> Place {
        let (interface, gateway) = match interface::reach(address.ip()) {
            Ok(Reach::Direct { interface }) => (Some(interface), None),
            Ok(Reach::Gateway { via, .. }) => (None, Some(via)),
            // No route: the connect says so with the kernel's own words.
            Ok(Reach::None) | Err(_) => (None, None),
        };
        Place {
            address,
            interface,
            gateway,
        }
    }
}

/// All places of a portal, in the resolver's order.
///
/// # Errors
/// The name has no address, or the resolver does not answer.
pub async fn places(portal: &Portal) -> io::Result<Vec<Place>> {
    match timeout(RESOLVE_TIMEOUT, portal.resolve()).await {
        Ok(addresses) => Ok(addresses?.into_iter().map(Place::of).collect()),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Why a session of the control plane did not do its work.
#[derive(Debug)]
pub enum SessionError {
    /// The host name.
    Resolve(io::Error),
    /// No connection: the portal is not reachable.
    Connect(io::Error),
    /// The session ended.
    Closed(Closed),
    /// The target closed the connection instead of answering the login. LIO does so where it wants CHAP and none is
    /// offered.
    LoginDropped {
        /// Whether we offered CHAP.
        chap: bool,
        /// Whether we insisted on a digest.
        digest: bool,
    },
    /// The target found fault with a login that insists on digests (status 0200 names no key).
    DigestRefused,
    /// An answer did not come in time.
    Silent(&'static str),
    /// An answer was nonsense.
    Answer(&'static str),
}

impl SessionError {
    /// Whether the portal was never reached.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, SessionError::Resolve(_) | SessionError::Connect(_))
    }

    /// Whether the target refused what we offered, not who we are.
    pub fn is_mismatch(&self) -> bool {
        match self {
            SessionError::DigestRefused => true,
            SessionError::Closed(Closed::Login(failure)) => match failure {
                LoginFailure::Refused(status) => {
                    matches!(code(*status), (2, detail) if detail != 3)
                }
                LoginFailure::BadNegotiation(_) | LoginFailure::Protocol(_) => true,
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether the target refused who we are.
    pub fn is_denied(&self) -> bool {
        let failure = match self {
            SessionError::Closed(Closed::Login(failure)) => failure,
            SessionError::LoginDropped { .. } => return true,
            _ => return false,
        };
        match failure {
            LoginFailure::Refused(status) => matches!(code(*status), (2, 1 | 2)),
            LoginFailure::CredentialsNeeded | LoginFailure::TargetNotAuthenticated(_) => true,
            _ => false,
        }
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionError::Resolve(error) => write!(f, "the name cannot be resolved: {error}"),
            SessionError::Connect(error) if error.kind() == io::ErrorKind::TimedOut => {
                write!(f, "no answer to a TCP connect")
            }
            SessionError::Connect(error) => write!(f, "no TCP connection: {error}"),
            SessionError::Closed(why) => write!(f, "{why}"),
            SessionError::LoginDropped { chap, digest } => {
                f.write_str("the target closed the connection during the login; ")?;
                f.write_str(match chap {
                    true => "it may not want CHAP, or not this secret",
                    false => "some do when they want CHAP",
                })?;
                match digest {
                    true => f.write_str(", or lack the digest that is required here"),
                    false => Ok(()),
                }
            }
            SessionError::DigestRefused => f.write_str(
                "the target found fault with the login, probably because it lacks the digest that is required here \
                 (--header-digest, --data-digest)",
            ),
            SessionError::Silent(what) => write!(f, "no answer to {what} in time"),
            SessionError::Answer(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for SessionError {}

/// How long the target may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    login: Duration,
    /// Of a command or a text request.
    answer: Duration,
    /// Silence before a ping.
    ping_after: Duration,
}

impl Patience {
    /// Where nothing has to end before the target can answer.
    pub const USUAL: Patience = Patience {
        login: Duration::from_secs(15),
        answer: Duration::from_secs(10),
        ping_after: Duration::from_secs(5),
    };
    /// Where the login ends a session whose commands the target may wait for, at the login or after it; until then it
    /// may not even answer a ping.
    pub const FENCE: Patience = Patience {
        login: Duration::from_secs(60),
        answer: Duration::from_secs(60),
        ping_after: Duration::from_secs(60),
    };
}

/// A session in full feature phase.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    session: Session,
    memory: Buffer,
    head: Vec<u8>,
    pieces: Vec<Piece>,
    /// Where the session ended up, which is not where it began if the target redirected it.
    pub place: Place,
    patience: Patience,
}

impl Connection {
    /// Connects and logs in; follows redirects, and tries once more with MD5 alone where an old target choked on a
    /// longer list of CHAP algorithms.
    ///
    /// # Errors
    /// Why there is no session.
    pub async fn open(
        place: &Place,
        login: LoginParameters,
        patience: Patience,
    ) -> Result<Connection, SessionError> {
        let mut place = place.clone();
        let mut login = login;
        let mut redirects = 0;
        loop {
            host::random(&mut login.entropy)
                .map_err(|_| SessionError::Answer("the kernel gives no random bytes"))?;
            match Connection::try_open(&place, login.clone(), patience).await {
                Err(SessionError::Closed(Closed::Login(LoginFailure::Redirected {
                    portal,
                    ..
                }))) if redirects < REDIRECTS_MAX => {
                    redirects += 1;
                    place = redirected(portal).await?;
                }
                Err(SessionError::Closed(why)) if may_choke(&why) && retry_md5(&mut login) => {
                    tracing::info!("{}: {why}; trying again with CHAP MD5 alone", place.address);
                }
                Err(SessionError::Closed(Closed::Login(LoginFailure::Refused(status))))
                    if code(status) == (2, 0) && insists(&login) =>
                {
                    return Err(SessionError::DigestRefused);
                }
                Err(SessionError::Closed(Closed::ConnectionLost)) => {
                    return Err(SessionError::LoginDropped {
                        chap: login.credentials.is_some(),
                        digest: insists(&login),
                    });
                }
                result => return result,
            }
        }
    }

    async fn try_open(
        place: &Place,
        login: LoginParameters,
        patience: Patience,
    ) -> Result<Connection, SessionError> {
        let stream = match timeout(CONNECT_TIMEOUT, connect(place)).await {
            Ok(result) => result.map_err(SessionError::Connect)?,
            Err(_) => return Err(SessionError::Connect(io::ErrorKind::TimedOut.into())),
        };
        let config = SessionConfig {
            login,
            tasks_max: 2,
            login_timeout: patience.login,
            ping_after: patience.ping_after,
            ping_timeout: Duration::from_secs(5),
        };
        let mut connection = Connection {
            stream,
            session: Session::new(host::now(), config),
            memory: Buffer(vec![0; BUFFER_LEN as usize]),
            head: vec![0; 16 * 1024],
            pieces: Vec::with_capacity(32),
            place: place.clone(),
            patience,
        };
        match connection
            .within("a login", patience.login + CONNECT_TIMEOUT)
            .await?
        {
            Event::Established => Ok(connection),
            _ => Err(SessionError::Answer(
                "the session spoke before the login ended",
            )),
        }
    }

    /// Runs a SCSI command.
    ///
    /// # Errors
    /// The session ended, or nothing came back in time.
    pub async fn command(&mut self, command: Command) -> Result<Completion, SessionError> {
        if self.session.room() == 0 {
            return Err(SessionError::Answer(
                "the target's command window is closed",
            ));
        }
        self.session.submit(host::now(), command);
        loop {
            if let Event::Completed(completion) =
                self.within("a command", self.patience.answer).await?
            {
                return Ok(completion);
            }
        }
    }

    /// What the last command read.
    pub fn memory(&self) -> &dyn Memory {
        &self.memory
    }

    /// What the last command read, from the start of the buffer.
    pub fn data(&self, len: u32) -> &[u8] {
        self.memory.read(BUFFER, 0, len.min(BUFFER_LEN))
    }

    /// Runs a text exchange.
    ///
    /// # Errors
    /// The session ended, or nothing came back in time.
    pub async fn text(&mut self, text: &[u8]) -> Result<&[u8], SessionError> {
        self.session.text(host::now(), text);
        loop {
            if let Event::Text = self.within("SendTargets", self.patience.answer).await? {
                return Ok(self.session.text_response());
            }
        }
    }

    /// The session, to look at.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Logs out; a target that does not answer is left alone after a short while.
    pub async fn close(mut self) {
        self.session.logout(host::now());
        let patience = Duration::from_secs(2);
        let wait = async { while self.event().await.is_ok() {} };
        // Nothing is lost either way: no command is in flight.
        let _ = timeout(patience, wait).await;
    }

    async fn within(&mut self, what: &'static str, limit: Duration) -> Result<Event, SessionError> {
        match timeout(limit, self.event()).await {
            Ok(event) => event,
            Err(_) => Err(SessionError::Silent(what)),
        }
    }

    /// The next event; the end of the session is an error.
    async fn event(&mut self) -> Result<Event, SessionError> {
        let mut received = vec![0; 16 * 1024];
        loop {
            match self.session.poll_event() {
                Some(Event::Closed(why)) => return Err(SessionError::Closed(why)),
                Some(event) => return Ok(event),
                None => {}
            }
            if self.transmit().await.is_err() {
                self.session.connection_lost();
                continue;
            }
            let wait = self
                .session
                .poll_timeout()
                .map_or(self.patience.answer, |at| at.since(host::now()));
            tokio::select! {
                read = self.stream.read(&mut received) => match read {
                    Ok(0) | Err(_) => self.session.connection_lost(),
                    Ok(len) => {
                        self.session.receive(host::now(), &received[..len], &mut self.memory);
                    }
                },
                () = tokio::time::sleep(wait) => self.session.handle_timeout(host::now()),
            }
        }
    }

    async fn transmit(&mut self) -> io::Result<()> {
        loop {
            let mut out = Outgoing::new(&mut self.head, &mut self.pieces, BUFFER_LEN as usize);
            self.session
                .poll_transmit(host::now(), &self.memory, &mut out);
            if out.is_empty() {
                return Ok(());
            }
            for piece in &self.pieces {
                let bytes = match *piece {
                    Piece::Head { start, len } => &self.head[start as usize..][..len as usize],
                    Piece::Payload {
                        buffer,
                        offset,
                        len,
                    } => self.memory.read(buffer, offset, len),
                };
                self.stream.write_all(bytes).await?;
            }
        }
    }
}

/// A TCP connection from the interface that the place names.
async fn connect(place: &Place) -> io::Result<TcpStream> {
    let domain = Domain::for_address(place.address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if let Some(interface) = &place.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    let stream = TcpSocket::from_std_stream(std::net::TcpStream::from(socket))
        .connect(place.address)
        .await?;
    // A connect that failed can look like one that is ready, if its error was taken in between.
    stream.peer_addr()?;
    Ok(stream)
}

async fn redirected(portal: discovery::Portal) -> Result<Place, SessionError> {
    let mut places = places(&portal.into())
        .await
        .map_err(SessionError::Resolve)?
        .into_iter();
    places.next().ok_or(SessionError::Answer(
        "the target redirects to a name without an address",
    ))
}

/// Whether this end of a login may mean that the target could not read our list of CHAP algorithms.
fn may_choke(why: &Closed) -> bool {
    match why {
        Closed::Login(LoginFailure::Refused(status)) => matches!(code(*status), (2, 0 | 1)),
        Closed::ConnectionLost => true,
        _ => false,
    }
}

/// Whether the login accepts no session without a digest.
fn insists(login: &LoginParameters) -> bool {
    let digests = [login.offer.header_digest, login.offer.data_digest];
    digests.contains(&DigestPreference::RequireCrc32c)
}

/// Class and detail (RFC 7143, 11.13.5).
fn code(status: LoginStatus) -> (u8, u8) {
    (status.class, status.detail)
}

/// Turns to MD5 alone; false if there is nothing to turn.
fn retry_md5(login: &mut LoginParameters) -> bool {
    match &mut login.credentials {
        Some(credentials) if !credentials.md5_only => {
            credentials.md5_only = true;
            true
        }
        _ => false,
    }
}

/// The one buffer.
#[derive(Debug)]
struct Buffer(Vec<u8>);

impl Memory for Buffer {
    fn read(&self, buffer: BufferId, offset: u32, len: u32) -> &[u8] {
        assert_eq!(buffer, BUFFER, "there is one buffer");
        &self.0[offset as usize..][..len as usize]
    }

    fn write(&mut self, buffer: BufferId, offset: u32, len: u32) -> &mut [u8] {
        assert_eq!(buffer, BUFFER, "there is one buffer");
        &mut self.0[offset as usize..][..len as usize]
    }
}
