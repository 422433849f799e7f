//! The keeper's sockets and its clock: bytes in, bytes out, and `poll(2)`. Decides nothing.
//!
//! Sockets are made with `TCP_USER_TIMEOUT` and a linger of 0; `patience` tells why. Closing one resets the connection
//! and drops what the kernel had queued. Before each send the clock is looked at once more: a thread that was stopped
//! since the turn began must not send what the turn allowed.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use iscsi_client::outgoing::{Outgoing, Piece};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::carrier::{Carrier, Output};
use super::nexus::Trouble;
use super::patience::Patience;
use super::silence::TcpSeen;
use super::{Hint, PortalPicture, SanConfig};
use crate::host;
use crate::keeper::disk::{Answer, Job};

/// Header bytes of one gathered send.
const HEAD: usize = 8 * 1024;
/// Payload bytes of one gathered send.
const PAYLOAD: usize = 128 * 1024;
/// Bytes taken off a socket at a time.
const RECEIVE: usize = 64 * 1024;

/// A nexus's connection.
#[derive(Debug)]
enum Link {
    None,
    Connecting(TcpStream),
    Connected {
        stream: TcpStream,
        /// What the kernel did not take yet: `out[sent..]`.
        out: Vec<u8>,
        sent: usize,
    },
}

/// What comes in from other threads. Its end is the end of `orders`.
#[derive(Debug)]
pub(super) struct Inbox {
    pub orders: Receiver<Job>,
    pub hints: Receiver<Hint>,
    pub woken: UnixStream,
    /// So that `woken` does not come to its end, which would wake for ever.
    pub _waker: Arc<UnixStream>,
}

/// The thread.
#[derive(Debug)]
pub(super) struct Driver {
    carrier: Carrier,
    links: Vec<Link>,
    user_timeout: Duration,
    /// On `CLOCK_BOOTTIME`: the kernel's other waits stand still while the host is suspended.
    timer: OwnedFd,
    inbox: Inbox,
    answers: Sender<Answer>,
    picture: Arc<Mutex<Vec<PortalPicture>>>,
    head: Vec<u8>,
    pieces: Vec<Piece>,
    received: Vec<u8>,
}

/// Makes the thread look at its orders. A full pipe wakes as well as one more byte.
pub(super) fn wake(mut waker: &UnixStream) {
    let _ = waker.write(&[0]);
}

impl Driver {
    pub fn new(
        config: SanConfig,
        inbox: Inbox,
        answers: Sender<Answer>,
        picture: Arc<Mutex<Vec<PortalPicture>>>,
    ) -> io::Result<Driver> {
        let links = config.portals.iter().map(|_| Link::None).collect();
        let user_timeout = Patience::of(config.io_timeout).user_timeout;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Driver {
            timer: timerfd_create(TimerfdClockId::Boottime, flags)?,
            carrier: Carrier::new(host::now(), config),
            links,
            user_timeout,
            inbox,
            answers,
            picture,
            head: vec![0; HEAD],
            pieces: Vec::with_capacity(64),
            received: vec![0; RECEIVE],
        })
    }

    /// Until the other end is gone and the sessions are logged out.
    pub fn run(mut self) {
        loop {
            self.take_orders();
            self.look();
            // A send can end a session, and its reset must not wait for the next event.
            loop {
                self.carrier.turn(host::now());
                self.perform();
                if !self.transmit() {
                    break;
                }
            }
            self.show();
            if self.carrier.is_over() {
                return;
            }
            if let Err(error) = self.wait() {
                // Out of kernel memory: jobs run out of time, and silence shuts the gate.
                tracing::error!("the keeper's sessions cannot wait for events: {error}");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    fn take_orders(&mut self) {
        while let Ok(Hint { interface, up }) = self.inbox.hints.try_recv() {
            self.carrier.carrier(host::now(), &interface, up);
        }
        loop {
            match self.inbox.orders.try_recv() {
                Ok(job) => self.carrier.start(host::now(), job),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => return self.carrier.stop(host::now()),
            }
        }
    }

    /// What TCP knows of the connections whose silence is in question.
    fn look(&mut self) {
        let now = host::now();
        for (index, link) in self.links.iter().enumerate() {
            if self.carrier.wants_look(now, index) {
                let seen = match link {
                    Link::Connected { stream, .. } => ublk_dev::tcp_info(stream.as_fd()).ok(),
                    Link::None | Link::Connecting(_) => None,
                };
                let seen = seen.map(|info| TcpSeen {
                    unacked: info.unacked,
                    since_ack: info.since_ack,
                    round_trip: info.rtt.unwrap_or_default(),
                });
                self.carrier.look(now, index, seen);
            }
        }
    }

    fn perform(&mut self) {
        while let Some(output) = self.carrier.poll_output() {
            match output {
                Output::Connect {
                    nexus,
                    to,
                    interface,
                } => match connect(to, interface.as_deref(), self.user_timeout) {
                    Ok(stream) => self.links[nexus] = Link::Connecting(stream),
                    Err(error) => self.fail(nexus, &error),
                },
                Output::Reset { nexus } => self.links[nexus] = Link::None,
                // Who asked may be gone.
                Output::Answer(answer) => drop(self.answers.send(answer)),
            }
        }
    }

    fn fail(&mut self, index: usize, error: &io::Error) {
        self.links[index] = Link::None;
        let trouble = Trouble::Connection(error.kind());
        self.carrier.lost(host::now(), index, trouble);
    }

    /// Sends what there is to send. True: a connection was lost by it, or a write's time is over.
    fn transmit(&mut self) -> bool {
        let mut again = false;
        for index in 0..self.links.len() {
            match self.transmit_on(index) {
                Ok(true) => {}
                Ok(false) => again = true,
                Err(error) => {
                    self.fail(index, &error);
                    again = true;
                }
            }
        }
        again
    }

    /// False: a write's time is over, so nothing may be sent before the turn has seen to it.
    fn transmit_on(&mut self, index: usize) -> io::Result<bool> {
        let Link::Connected { stream, out, sent } = &mut self.links[index] else {
            return Ok(true);
        };
        loop {
            if *sent == out.len() {
                out.clear();
                *sent = 0;
                let mut outgoing = Outgoing::new(&mut self.head, &mut self.pieces, PAYLOAD);
                self.carrier.transmit(host::now(), index, &mut outgoing);
                let memory = self.carrier.memory();
                for piece in &self.pieces {
                    out.extend_from_slice(match *piece {
                        Piece::Head { start, len } => &self.head[start as usize..][..len as usize],
                        Piece::Payload {
                            buffer,
                            offset,
                            len,
                        } => memory.read(buffer, offset, len),
                    });
                }
                if out.is_empty() {
                    return Ok(true);
                }
            }
            let until = self.carrier.send_until(index);
            if until.is_some_and(|until| until <= host::now()) {
                return Ok(false);
            }
            match stream.write(&out[*sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => *sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn show(&self) {
        if let Ok(mut picture) = self.picture.try_lock() {
            *picture = self.carrier.picture();
        }
    }

    /// Waits for bytes, room, an order, or the next timer; then takes what came.
    fn wait(&mut self) -> io::Result<()> {
        // Zero disarms it; a moment that is past fires at once.
        let at = self.carrier.poll_timeout(host::now());
        let at = at.map_or(0, |at| at.nanos().max(1));
        let zero = Timespec::default();
        let value = Timespec {
            tv_sec: i64::try_from(at / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: (at % 1_000_000_000) as _,
        };
        let timer = Itimerspec {
            it_interval: zero,
            it_value: value,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &timer)?;
        let mut fds = vec![
            PollFd::new(&self.inbox.woken, PollFlags::IN),
            PollFd::new(&self.timer, PollFlags::IN),
        ];
        let mut whose = vec![];
        for (index, link) in self.links.iter().enumerate() {
            let (stream, flags) = match link {
                Link::None => continue,
                Link::Connecting(stream) => (stream, PollFlags::OUT),
                Link::Connected { stream, out, sent } if *sent < out.len() => {
                    (stream, PollFlags::IN | PollFlags::OUT)
                }
                Link::Connected { stream, .. } => (stream, PollFlags::IN),
            };
            fds.push(PollFd::from_borrowed_fd(stream.as_fd(), flags));
            whose.push(index);
        }
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if ready[0] {
            let mut bytes = [0; 64];
            while matches!(self.inbox.woken.read(&mut bytes), Ok(count) if count == bytes.len()) {}
        }
        for (index, ready) in whose.into_iter().zip(&ready[2..]) {
            if *ready {
                self.ready(index);
            }
        }
        Ok(())
    }

    /// Something happened to a socket.
    fn ready(&mut self, index: usize) {
        if let Link::Connecting(_) = self.links[index] {
            return self.connected(index);
        }
        let Link::Connected { stream, .. } = &mut self.links[index] else {
            return;
        };
        match stream.read(&mut self.received) {
            Ok(0) => {
                self.links[index] = Link::None;
                self.carrier.lost(host::now(), index, Trouble::PeerClosed);
            }
            Ok(count) => {
                let bytes = &self.received[..count];
                self.carrier.receive(host::now(), index, bytes);
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => self.fail(index, &error),
        }
    }

    /// A connect has ended.
    fn connected(&mut self, index: usize) {
        let Link::Connecting(stream) = std::mem::replace(&mut self.links[index], Link::None) else {
            return;
        };
        let failed = match SockRef::from(&stream).take_error() {
            Ok(None) => stream.peer_addr().err(),
            Ok(Some(error)) | Err(error) => Some(error),
        };
        if let Some(error) = failed {
            return self.fail(index, &error);
        }
        let mut entropy = [0; 32];
        if host::random(&mut entropy).is_err() {
            // A challenge that can be foreseen is none.
            return self.fail(index, &ErrorKind::Unsupported.into());
        }
        self.links[index] = Link::Connected {
            stream,
            out: Vec::with_capacity(HEAD + PAYLOAD),
            sent: 0,
        };
        self.carrier.connected(host::now(), index, entropy);
    }
}

/// Starts a connection; every guarantee about what the kernel sends is set before its first packet.
fn connect(
    to: SocketAddr,
    interface: Option<&str>,
    user_timeout: Duration,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if let Some(interface) = interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(user_timeout))?;
    socket.set_linger(Some(Duration::ZERO))?;
    match socket.connect(&to.into()) {
        Ok(()) => {}
        Err(error)
            if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_the_kernel_may_send_is_limited_before_the_first_packet() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
        let to = listener.local_addr().expect("bound");
        let limit = Duration::from_millis(500);
        let stream = connect(to, None, limit).expect("a socket");
        let socket = SockRef::from(&stream);
        assert_eq!(socket.tcp_user_timeout().expect("an option"), Some(limit));
        assert_eq!(socket.linger().expect("an option"), Some(Duration::ZERO));
        assert!(socket.tcp_nodelay().expect("an option"));
    }

    #[test]
    fn a_connection_that_is_dropped_is_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
        let to = listener.local_addr().expect("bound");
        let stream = connect(to, None, Duration::from_millis(500)).expect("a socket");
        let (mut peer, _) = listener.accept().expect("a connection");
        drop(stream);
        let end = peer.read(&mut [0; 1]).map_err(|error| error.kind());
        assert_eq!(end, Err(ErrorKind::ConnectionReset));
    }
}
