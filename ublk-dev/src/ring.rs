//! The turn's kernel half: typed operations in, a closed set of events out, one system call between.
//!
//! ```text
//! loop {
//!     while let Some(event) = ring.next() { .. }      completions of the last wait
//!     ring.commit(..); ring.send(..); ring.receive(..)   queued, not yet submitted
//!     ring.submit_and_wait(deadline)                  the one io_uring_enter
//! }
//! ```
//!
//! What it promises about buffers: `Sent`, `Received` and `Placed` mean that the kernel is done with the bytes
//! of that operation, and [`Event::Lost`] comes only when **no** operation of the link is in flight any more and
//! its socket is closed. So whoever has seen `Lost` may hand the buffers elsewhere; committing a tag whose buffer
//! is still on a wire panics.
//!
//! At most one send and one receive per link are in flight, so the stream's order never depends on the ring's.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::clock::Clock;
use crate::device::DeviceQueue;
use crate::event::{Event, Into, Piece, Waker};
use crate::link::{self, Close, LinkId, LinkState, LostReason, SocketOptions, TcpInfo};
use crate::request::{BlockRequest, Errno, Tag};
use crate::slots::Slots;
use crate::sys::engine::{Completion, Engine};
use crate::sys::line::{PIECES_MAX, Source};
use crate::sys::memory::Range;
use crate::sys::socket::{self, KernelAddress};

/// Bytes of a link's header space, and so of the headers of one gathered send.
pub const HEAD_BYTES: u32 = 32 << 10;

/// Bytes of a link's staging buffer, and so of one `Received`.
pub const STAGING_BYTES: u32 = 64 << 10;

/// A cancellation may miss an operation that is just changing hands; then it is repeated after this long.
const CANCEL_AGAIN_NS: u64 = 5_000_000;

/// Which requests of the driver we have, and what they were.
struct Tags {
    held: Vec<Option<BlockRequest>>,
    /// Tags that the driver has ended.
    ended: u16,
}

/// One io_uring with what hangs on it. Belongs to the thread that made it.
pub struct Ring {
    engine: Engine,
    clock: Clock,
    tags: Tags,
    links: Vec<LinkState>,
    /// Target of each link's receive, to tell `Received` from `Placed`.
    into: Vec<Into>,
    /// Links whose receive was taken back and has not ended yet.
    taking_back: Vec<bool>,
    /// Bytes of the last `Received`.
    staged: Vec<u32>,
    /// Events that no completion stands for. Bounded: at most one per link, and the end of the device.
    pending: VecDeque<Event>,
    io_bytes_max: u32,
}

const fn head_buffer(link: u8) -> u16 {
    link as u16 * 2
}

const fn staging_buffer(link: u8) -> u16 {
    link as u16 * 2 + 1
}

impl Ring {
    /// Makes the ring of the calling thread, with `links_max` connection slots. With a device queue, that is
    /// served: all its tags are armed and submitted when this returns. `slots` is bound to the ring: its
    /// buffers are the tags' buffers, and it is the one to pass to all other calls.
    ///
    /// # Errors
    ///
    /// io_uring refused (switched off, locked memory exhausted), or the descriptors cannot be mapped.
    ///
    /// # Panics
    ///
    /// If `links_max` exceeds [`LINKS_MAX`](crate::LINKS_MAX), or depth and buffer size of `slots` differ from
    /// the device's.
    pub fn new(device: Option<DeviceQueue>, links_max: u8, slots: &mut Slots) -> io::Result<Self> {
        let queue = device.map(|queue| {
            assert_eq!(
                queue.depth,
                slots.depth(),
                "the queue's depth and the slots'"
            );
            assert!(
                queue.io_bytes_max <= slots.io_bytes_max(),
                "slots too small for the device"
            );
            (queue.file, queue.number, queue.depth)
        });
        let depth = queue
            .as_ref()
            .map_or(0, |(_, _, depth)| usize::from(*depth));
        let own = (0..links_max).flat_map(|_| [HEAD_BYTES, STAGING_BYTES]);
        // A ring without links still needs one buffer to exist.
        let own = own.chain((links_max == 0).then_some(1));
        let engine = Engine::new(queue, slots.buffers_mut(), own, links_max)?;
        let count = usize::from(links_max);
        Ok(Self {
            engine,
            clock: Clock::new(),
            tags: Tags {
                held: vec![None; depth],
                ended: 0,
            },
            links: vec![LinkState::Free; count],
            into: vec![Into::Staging; count],
            taking_back: vec![false; count],
            staged: vec![0; count],
            pending: VecDeque::with_capacity(count + 1),
            io_bytes_max: slots.io_bytes_max(),
        })
    }

    /// The time of this turn: nanoseconds of `CLOCK_BOOTTIME`, read when [`submit_and_wait`] returned.
    ///
    /// [`submit_and_wait`]: Self::submit_and_wait
    pub fn now(&self) -> u64 {
        self.clock.now_ns()
    }

    /// A handle that interrupts [`submit_and_wait`](Self::submit_and_wait) from any thread.
    pub fn waker(&self) -> Waker {
        Waker(self.engine.wake_file())
    }

    /// The next thing that happened. Call until `None`, then submit.
    #[expect(
        clippy::should_implement_trait,
        reason = "the ring is no iterator: it is mutated between"
    )]
    pub fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            let event = match self.engine.next()? {
                Completion::Fetched { tag, result } => self.on_fetched(Tag(tag), result),
                Completion::Connected { link, result } => self.on_connected(link, result),
                Completion::Sent { link, result, left } => self.on_sent(link, result, left),
                Completion::Received { link, result, left } => self.on_received(link, result, left),
                Completion::Cancelled { link } => {
                    self.settle(link);
                    None
                }
                Completion::Woken => Some(Event::Wake),
            };
            if event.is_some() {
                return event;
            }
        }
    }

    /// Submits everything queued and waits until something happens, a waker is used, or `until` (nanoseconds of
    /// `CLOCK_BOOTTIME`) is reached; then reads the clock. Returns at once while events are pending.
    ///
    /// # Errors
    ///
    /// io_uring itself failed; the queue cannot go on.
    ///
    /// # Panics
    ///
    /// If [`next`](Self::next) has not been called until `None`.
    pub fn submit_and_wait(&mut self, until: Option<u64>) -> io::Result<()> {
        let until = self.timers().chain(until).min();
        let timeout = match until {
            _ if !self.pending.is_empty() => Some(Duration::ZERO),
            // Against the time now, not the turn's: the turn itself took some of it.
            Some(until) => Some(Duration::from_nanos(
                until.saturating_sub(crate::clock::boottime_ns()),
            )),
            None => None,
        };
        self.engine.enter(timeout)?;
        let now = self.clock.refresh();
        self.fire_timers(now);
        Ok(())
    }

    // --- block device ----------------------------------------------------------------------------------

    /// Answers the request of a tag and asks for the tag's next one. `Ok` means all of it was done: the
    /// count the driver wants is filled in here, since a short one would hand stale memory to the reader.
    ///
    /// # Panics
    ///
    /// If the tag holds no request, or its buffer is still on a wire.
    pub fn commit(&mut self, tag: Tag, result: Result<(), Errno>, slots: &mut Slots) {
        let request = self.tags.held[usize::from(tag.0)].take();
        let request = request.unwrap_or_else(|| panic!("{tag:?} committed without a request"));
        let result = match result {
            // FLUSH, DISCARD and WRITE_ZEROES answer 0: their byte count overflows at 2 GiB.
            Ok(()) => {
                i32::try_from(request.payload_bytes()).expect("payload is bounded by the buffer")
            }
            Err(errno) => {
                assert!(errno.0 > 0, "{errno:?} is no error");
                -errno.0
            }
        };
        self.engine
            .commit_and_fetch(tag.0, result, slots.buffers_mut());
    }

    fn on_fetched(&mut self, tag: Tag, result: i32) -> Option<Event> {
        if result != 0 {
            // The driver gave the tag up: the device is being stopped, or refused the command.
            self.tags.ended += 1;
            let all = usize::from(self.tags.ended) == self.tags.held.len();
            return all.then_some(Event::DeviceStopped);
        }
        match BlockRequest::parse(tag, &self.engine.descriptor(tag.0), self.io_bytes_max) {
            Ok(request) => {
                self.tags.held[usize::from(tag.0)] = Some(request);
                Some(Event::Request(request))
            }
            Err(errno) => {
                self.engine.commit_unseen(tag.0, -errno.0);
                None
            }
        }
    }

    // --- links -----------------------------------------------------------------------------------------

    /// Starts connecting a free link. Ends in `Connected` or in `Lost`, also when the socket cannot be made.
    ///
    /// # Panics
    ///
    /// If the link is not free: connect again after `Lost`, not before.
    pub fn connect(&mut self, link: LinkId, to: SocketAddr, options: &SocketOptions) {
        let state = &mut self.links[usize::from(link.0)];
        assert_eq!(*state, LinkState::Free, "{link:?} is in use");
        match link::open(&to, options) {
            Ok(socket) => {
                let limit_ns =
                    u64::try_from(options.connect_timeout.as_nanos()).unwrap_or(u64::MAX);
                let deadline_ns = self.clock.now_ns().saturating_add(limit_ns);
                *state = LinkState::Connecting { deadline_ns };
                self.engine.connect(link.0, socket, KernelAddress::new(&to));
            }
            Err(error) => {
                let why = LostReason::of(error.raw_os_error().unwrap_or(libc::EIO));
                self.pending.push_back(Event::Lost { link, why });
            }
        }
    }

    /// Ends the connection. `Lost` follows once nothing is in flight; its reason is `Ours` unless the link was
    /// already ending. Closing a free link does nothing.
    pub fn close(&mut self, link: LinkId, how: Close) {
        if matches!(
            self.links[usize::from(link.0)],
            LinkState::Connecting { .. } | LinkState::Connected
        ) {
            self.begin_close(link.0, how, LostReason::Ours);
        }
    }

    /// Whether the connection stands and is not ending.
    pub fn connected(&self, link: LinkId) -> bool {
        self.links[usize::from(link.0)] == LinkState::Connected
    }

    /// What TCP knows about the link's connection; `None` unless it is connected.
    pub fn tcp_info(&self, link: LinkId) -> Option<TcpInfo> {
        if !self.connected(link) {
            return None;
        }
        socket::tcp_info(self.engine.socket(link.0)?).ok()
    }

    /// Sets `TCP_USER_TIMEOUT` of the link's socket, in whole milliseconds. On bytes that wait already it counts from when the
    /// kernel looks at them next: at their next repetition, or the next probe of a closed window. Does nothing on a free
    /// link.
    pub fn set_user_timeout(&self, link: LinkId, timeout: Duration) {
        if let Some(socket) = self.engine.socket(link.0) {
            // A plain store into the socket. It cannot fail on one that took the option when it was made.
            let result = link::set_user_timeout(socket, timeout);
            debug_assert!(result.is_ok(), "{link:?}: {result:?}");
        }
    }

    /// Header space for the link's next send; `None` while one is in flight or the link is not connected.
    pub fn head(&mut self, link: LinkId) -> Option<&mut [u8]> {
        if !self.connected(link) || self.engine.sending(link.0) {
            return None;
        }
        let range = Range {
            buffer: head_buffer(link.0),
            offset: 0,
            len: HEAD_BYTES,
        };
        Some(self.engine.own_mut().write(range))
    }

    /// Most pieces of one [`send`](Self::send).
    pub const PIECES_MAX: usize = PIECES_MAX;

    /// Sends the pieces, in order, with one SENDMSG; what the kernel does not take at once is continued until
    /// `Sent`.
    ///
    /// # Panics
    ///
    /// While a send is in flight or the link is not connected ([`head`](Self::head) is `None` then); if there
    /// are more than [`PIECES_MAX`](Self::PIECES_MAX) pieces or not a byte; if a piece ends outside its buffer.
    pub fn send(&mut self, link: LinkId, pieces: &[Piece], slots: &Slots) {
        assert!(
            self.connected(link),
            "send on {link:?}, which is not connected"
        );
        let sources = pieces.iter().map(|piece| match *piece {
            Piece::Head { start, len } => Source::Own(Range {
                buffer: head_buffer(link.0),
                offset: start,
                len,
            }),
            Piece::Payload {
                buffer,
                offset,
                len,
            } => Source::Payload(Range {
                buffer: buffer.0,
                offset,
                len,
            }),
        });
        self.engine.send(link.0, sources, slots.buffers());
    }

    /// Arms the link's receive.
    ///
    /// # Panics
    ///
    /// If one is armed or the link is not connected; if the range ends outside its buffer, is empty, is being
    /// sent, or overlaps another link's receive.
    pub fn receive(&mut self, link: LinkId, into: Into, slots: &mut Slots) {
        assert!(
            self.connected(link),
            "receive on {link:?}, which is not connected"
        );
        self.into[usize::from(link.0)] = into;
        match into {
            Into::Staging => {
                let range = Range {
                    buffer: staging_buffer(link.0),
                    offset: 0,
                    len: STAGING_BYTES,
                };
                self.engine.receive_own(link.0, range);
            }
            Into::Buffer {
                buffer,
                offset,
                len,
            } => {
                let range = Range {
                    buffer: buffer.0,
                    offset,
                    len,
                };
                self.engine.receive(link.0, range, slots.buffers_mut());
            }
        }
    }

    /// Takes back the link's receive. What it has got so far is reported as ever, with a `Placed` that may be short;
    /// [`receive_armed`](Self::receive_armed) says when it is over. A cancellation can miss an operation that is just
    /// changing hands: call again, each turn, until it is. Does nothing if no receive is armed.
    pub fn take_back_receive(&mut self, link: LinkId) {
        if self.connected(link) && self.engine.receiving(link.0) {
            self.taking_back[usize::from(link.0)] = true;
            if !self.engine.cancelling(link.0) {
                self.engine.cancel_receive(link.0);
            }
        }
    }

    /// Whether a receive of the link is in flight.
    pub fn receive_armed(&self, link: LinkId) -> bool {
        self.engine.receiving(link.0)
    }

    /// Whether a send of the link is in flight.
    pub fn sending(&self, link: LinkId) -> bool {
        self.engine.sending(link.0)
    }

    /// The bytes of the link's last `Received`.
    ///
    /// # Panics
    ///
    /// While a receive into staging is armed: its bytes are the kernel's.
    pub fn staged(&self, link: LinkId) -> &[u8] {
        let len = self.staged[usize::from(link.0)];
        self.engine.own().read(Range {
            buffer: staging_buffer(link.0),
            offset: 0,
            len,
        })
    }

    fn on_connected(&mut self, link: u8, result: i32) -> Option<Event> {
        match self.links[usize::from(link)] {
            LinkState::Connecting { .. } if result == 0 => {
                self.links[usize::from(link)] = LinkState::Connected;
                Some(Event::Connected { link: LinkId(link) })
            }
            LinkState::Connecting { .. } => {
                self.begin_close(link, Close::Abort, LostReason::of(-result));
                None
            }
            _ => {
                self.settle(link);
                None
            }
        }
    }

    fn on_sent(&mut self, link: u8, result: i32, left: u32) -> Option<Event> {
        match self.links[usize::from(link)] {
            LinkState::Connected if result > 0 && left == 0 => {
                Some(Event::Sent { link: LinkId(link) })
            }
            LinkState::Connected if result > 0 => {
                self.engine.resume_send(link);
                None
            }
            LinkState::Connected => {
                // A stream socket never takes 0 of something.
                let errno = if result == 0 { libc::EPIPE } else { -result };
                self.begin_close(link, Close::Abort, LostReason::of(errno));
                None
            }
            _ => {
                self.settle(link);
                None
            }
        }
    }

    fn on_received(&mut self, link: u8, result: i32, left: u32) -> Option<Event> {
        // Also of a link that is closing: the next connection of this slot starts afresh.
        let taken_back = std::mem::take(&mut self.taking_back[usize::from(link)]);
        if self.links[usize::from(link)] != LinkState::Connected {
            self.settle(link);
            return None;
        }
        let cancelled = taken_back && result == -libc::ECANCELED;
        if result <= 0 && !cancelled {
            let why = if result == 0 {
                LostReason::PeerClosed
            } else {
                LostReason::of(-result)
            };
            self.begin_close(link, Close::Abort, why);
            return None;
        }
        match self.into[usize::from(link)] {
            Into::Staging if cancelled => None,
            Into::Staging => {
                let len = result as u32;
                self.staged[usize::from(link)] = len;
                Some(Event::Received {
                    link: LinkId(link),
                    len,
                })
            }
            Into::Buffer { len, .. } if left == 0 => Some(Event::Placed {
                link: LinkId(link),
                len,
            }),
            Into::Buffer { len, .. } if taken_back => {
                let len = len - left;
                (len > 0).then_some(Event::Placed {
                    link: LinkId(link),
                    len,
                })
            }
            Into::Buffer { .. } => {
                // Short in spite of MSG_WAITALL: the stream ended. The rest tells how (0 or an error).
                self.engine.resume_receive(link);
                None
            }
        }
    }

    fn begin_close(&mut self, link: u8, how: Close, why: LostReason) {
        if let Some(fd) = self.engine.socket(link) {
            // Failures are of no consequence: a socket that is already dead has nothing to reset or flush.
            let _ = match how {
                Close::Abort => socket::reset(fd),
                Close::Orderly => socket::linger(fd, None).and_then(|()| socket::shut_down(fd)),
            };
        }
        self.engine.cancel(link);
        let cancel_at_ns = self.clock.now_ns() + CANCEL_AGAIN_NS;
        self.links[usize::from(link)] = LinkState::Closing { why, cancel_at_ns };
        self.settle(link);
    }

    /// Frees a closing link once nothing of it is in flight.
    fn settle(&mut self, link: u8) {
        if let LinkState::Closing { why, .. } = self.links[usize::from(link)]
            && !self.engine.busy(link)
        {
            self.engine.close(link);
            self.links[usize::from(link)] = LinkState::Free;
            self.pending.push_back(Event::Lost {
                link: LinkId(link),
                why,
            });
        }
    }

    fn timers(&self) -> impl Iterator<Item = u64> {
        self.links.iter().filter_map(|state| match *state {
            LinkState::Connecting { deadline_ns } => Some(deadline_ns),
            LinkState::Closing { cancel_at_ns, .. } => Some(cancel_at_ns),
            LinkState::Free | LinkState::Connected => None,
        })
    }

    fn fire_timers(&mut self, now: u64) {
        for link in 0..self.links.len() as u8 {
            match self.links[usize::from(link)] {
                LinkState::Connecting { deadline_ns } if deadline_ns <= now => {
                    self.begin_close(link, Close::Abort, LostReason::ConnectTimeout);
                }
                LinkState::Closing { why, cancel_at_ns } if cancel_at_ns <= now => {
                    if !self.engine.cancelling(link) {
                        self.engine.cancel(link);
                    }
                    let cancel_at_ns = now + CANCEL_AGAIN_NS;
                    self.links[usize::from(link)] = LinkState::Closing { why, cancel_at_ns };
                }
                _ => {}
            }
        }
    }
}
