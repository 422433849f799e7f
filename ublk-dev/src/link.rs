//! A link: one TCP connection slot of a ring, what its socket is set to, and how it ends.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;
use std::{fmt, io};

use crate::request::Errno;
use crate::sys::socket;

/// A connection slot of a ring, `0..links_max`. Reused after its `Lost` event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u8);

/// What a link's socket is set to before it connects. `TCP_NODELAY` and a linger of 0 are always set: when the
/// socket goes, what it has not sent goes with it.
#[derive(Clone, Debug)]
pub struct SocketOptions {
    /// Interface that all packets must use (`SO_BINDTODEVICE`).
    pub interface: Option<String>,
    /// Time limit for the TCP handshake.
    pub connect_timeout: Duration,
    /// `TCP_USER_TIMEOUT`: how long sent bytes may stay unacknowledged, in whole milliseconds.
    pub user_timeout: Duration,
    /// `TCP_NOTSENT_LOWAT` in bytes: more than this is not queued beyond what the window allows to be sent.
    pub notsent_lowat: u32,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            interface: None,
            connect_timeout: Duration::from_secs(5),
            // Not a detector: it also ends the connection to a living peer whose window stays closed. So it is
            // longer than any command may take.
            user_timeout: Duration::from_secs(150),
            notsent_lowat: 1 << 20,
        }
    }
}

/// What TCP knows about a connection, from `TCP_INFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// Bytes sent that the peer has acknowledged.
    pub bytes_acked: u64,
    /// Bytes received in order.
    pub bytes_received: u64,
    /// Segments sent and not acknowledged; those that only probe a closed window do not count.
    pub unacked: u32,
    /// Since the last segment with an acknowledgement, in the kernel's ticks of 1 to 10 ms.
    pub since_ack: Duration,
    /// Since bytes were last received, in the same ticks.
    pub since_data: Duration,
    /// Since bytes were last put on the wire, in the same ticks.
    pub since_sent: Duration,
    /// Smoothed round trip, once there was one.
    pub rtt: Option<Duration>,
    /// Smallest round trip of the last minutes, once there was one.
    pub min_rtt: Option<Duration>,
}

/// What TCP knows about a connection that is no link of a ring.
///
/// # Errors
/// Not a TCP socket, or a kernel before Linux 4.9.
pub fn tcp_info(socket: BorrowedFd<'_>) -> io::Result<TcpInfo> {
    socket::tcp_info(socket)
}

/// How [`Ring::close`](crate::Ring::close) ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// RST now; everything the kernel had queued is dropped.
    Abort,
    /// FIN after what is queued, which the kernel goes on sending on its own. For after a logout.
    Orderly,
}

/// Why a link ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostReason {
    /// We closed it.
    Ours,
    /// The peer sent FIN.
    PeerClosed,
    /// The peer sent RST.
    Reset,
    /// Nobody listens there.
    Refused,
    /// The handshake took longer than `connect_timeout`.
    ConnectTimeout,
    /// Sent bytes stayed unacknowledged longer than `user_timeout`.
    TimedOut,
    /// No route, or the network says that it cannot be reached.
    Unreachable,
    /// The interface to bind to does not exist.
    NoInterface,
    /// Anything else the socket reported.
    Socket(Errno),
}

impl LostReason {
    pub(crate) fn of(errno: i32) -> Self {
        match errno {
            libc::ECONNRESET | libc::EPIPE => Self::Reset,
            libc::ECONNREFUSED => Self::Refused,
            libc::ETIMEDOUT => Self::TimedOut,
            libc::EHOSTUNREACH | libc::ENETUNREACH | libc::ENETDOWN | libc::EHOSTDOWN => {
                Self::Unreachable
            }
            libc::ENODEV => Self::NoInterface,
            other => Self::Socket(Errno(other)),
        }
    }
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours => f.write_str("closed by us"),
            Self::PeerClosed => f.write_str("closed by the target"),
            Self::Reset => f.write_str("reset by the target"),
            Self::Refused => f.write_str("connection refused: nothing listens there"),
            Self::ConnectTimeout => f.write_str("no answer to the connection request in time"),
            Self::TimedOut => f.write_str("sent data stayed unacknowledged too long"),
            Self::Unreachable => f.write_str("no route to the target"),
            Self::NoInterface => f.write_str("the interface to bind to does not exist"),
            Self::Socket(errno) => write!(f, "socket error: {errno}"),
        }
    }
}

/// Makes the socket, unconnected, with everything set.
pub(crate) fn open(to: &SocketAddr, options: &SocketOptions) -> io::Result<OwnedFd> {
    let socket = socket::stream_for(to)?;
    let fd = socket.as_fd();
    if let Some(interface) = &options.interface {
        socket::bind_to_device(fd, interface)?;
    }
    let lowat = i32::try_from(options.notsent_lowat).unwrap_or(i32::MAX);
    socket::set_tcp(fd, libc::TCP_NODELAY, 1)?;
    set_user_timeout(fd, options.user_timeout)?;
    socket::set_tcp(fd, libc::TCP_NOTSENT_LOWAT, lowat)?;
    socket::linger(fd, Some(0))?;
    Ok(socket)
}

pub(crate) fn set_user_timeout(socket: BorrowedFd<'_>, timeout: Duration) -> io::Result<()> {
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    socket::set_tcp(socket, libc::TCP_USER_TIMEOUT, millis)
}

/// The life of a link. `Lost` is reported on the way from `Closing` to `Free`, and only there.
///
/// ```text
///        connect        CONNECT ok
///  Free ---------> Connecting ----> Connected
///   ^                  |                |      close, FIN, error, connect timeout
///   |                  +-------+--------+
///   |   nothing in flight      v
///   +----------------------- Closing      cancel, again every few milliseconds
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    Free,
    Connecting { deadline_ns: u64 },
    Connected,
    Closing { why: LostReason, cancel_at_ns: u64 },
}
