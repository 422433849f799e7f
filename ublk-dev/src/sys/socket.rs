//! The socket calls that the standard library lacks: made before or after the data path, never on it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use crate::link::TcpInfo;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// A TCP socket of the address's family. Blocking: io_uring answers EAGAIN on a non-blocking one instead of
/// waiting for us.
pub(crate) fn stream_for(address: &SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    // SAFETY: no pointer is passed.
    let fd = check(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: a descriptor just made and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set<T>(socket: BorrowedFd<'_>, level: i32, name: i32, value: &[T]) -> io::Result<()> {
    let len = size_of_val(value) as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes from `value`, which is borrowed for the call.
    check(unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), len)
    })?;
    Ok(())
}

pub(crate) fn set_tcp(socket: BorrowedFd<'_>, name: i32, value: i32) -> io::Result<()> {
    set(socket, libc::IPPROTO_TCP, name, &[value])
}

pub(crate) fn bind_to_device(socket: BorrowedFd<'_>, interface: &str) -> io::Result<()> {
    set(
        socket,
        libc::SOL_SOCKET,
        libc::SO_BINDTODEVICE,
        interface.as_bytes(),
    )
}

/// Reads `TCP_INFO`. The structure grows with the kernel; what is read here is there since Linux 4.9.
pub(crate) fn tcp_info(socket: BorrowedFd<'_>) -> io::Result<TcpInfo> {
    let mut info = [0u8; TCP_INFO_BYTES];
    let mut len = TCP_INFO_BYTES as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `info` and the count to `len`; both live across the call.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    })?;
    if (len as usize) < TCP_INFO_BYTES {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let word = |at: usize| u32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
    let long = |at: usize| u64::from(word(at + LOW)) | u64::from(word(at + 4 - LOW)) << 32;
    let micros = |at: usize| Some(word(at)).filter(|&time| time != 0 && time != u32::MAX);
    Ok(TcpInfo {
        unacked: word(24),
        since_sent: Duration::from_millis(u64::from(word(44))),
        since_data: Duration::from_millis(u64::from(word(52))),
        since_ack: Duration::from_millis(u64::from(word(56))),
        rtt: micros(68).map(|time| Duration::from_micros(time.into())),
        bytes_acked: long(120),
        bytes_received: long(128),
        min_rtt: micros(148).map(|time| Duration::from_micros(time.into())),
    })
}

/// `struct tcp_info` of linux/tcp.h up to and with `tcpi_min_rtt`.
const TCP_INFO_BYTES: usize = 152;
/// Where the low half of a long field is.
const LOW: usize = if cfg!(target_endian = "little") { 0 } else { 4 };

/// `Some(0)`: closing resets and drops what was not sent. `None`: closing goes on sending in the background.
pub(crate) fn linger(socket: BorrowedFd<'_>, seconds: Option<u16>) -> io::Result<()> {
    let value = libc::linger {
        l_onoff: i32::from(seconds.is_some()),
        l_linger: i32::from(seconds.unwrap_or(0)),
    };
    set(socket, libc::SOL_SOCKET, libc::SO_LINGER, &[value])
}

/// Resets the connection at once: RST to the peer, everything unsent dropped, although operations in flight
/// still hold references to the socket (closing it would wait for them).
pub(crate) fn reset(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: all-zero is a valid sockaddr; zero is AF_UNSPEC.
    let nowhere: libc::sockaddr = unsafe { std::mem::zeroed() };
    let len = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes from `nowhere`, which lives across the call.
    check(unsafe { libc::connect(socket.as_raw_fd(), &nowhere, len) })?;
    Ok(())
}

/// Sends FIN after what is queued, and ends receiving.
pub(crate) fn shut_down(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointer is passed.
    check(unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) })?;
    Ok(())
}

/// A socket address as the kernel wants it.
#[derive(Clone, Copy)]
pub(crate) struct KernelAddress {
    pub(crate) storage: libc::sockaddr_storage,
    pub(crate) len: libc::socklen_t,
}

impl KernelAddress {
    pub(crate) fn empty() -> Self {
        // SAFETY: all-zero is a valid sockaddr_storage (AF_UNSPEC).
        let storage = unsafe { std::mem::zeroed() };
        Self { storage, len: 0 }
    }

    pub(crate) fn new(address: &SocketAddr) -> Self {
        let mut this = Self::empty();
        match address {
            SocketAddr::V4(v4) => {
                let wanted = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr {
                        s_addr: u32::from_ne_bytes(v4.ip().octets()),
                    },
                    sin_zero: [0; 8],
                };
                this.len = size_of_val(&wanted) as libc::socklen_t;
                // SAFETY: sockaddr_storage is large and aligned enough for every address family.
                unsafe {
                    (&raw mut this.storage)
                        .cast::<libc::sockaddr_in>()
                        .write(wanted)
                };
            }
            SocketAddr::V6(v6) => {
                let wanted = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: libc::in6_addr {
                        s6_addr: v6.ip().octets(),
                    },
                    sin6_scope_id: v6.scope_id(),
                };
                this.len = size_of_val(&wanted) as libc::socklen_t;
                // SAFETY: as above.
                unsafe {
                    (&raw mut this.storage)
                        .cast::<libc::sockaddr_in6>()
                        .write(wanted)
                };
            }
        }
        this
    }
}
