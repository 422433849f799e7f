//! One io_uring and what it has in flight: ublk commands of one queue, and the sockets of its links.
//!
//! Every operation is lent its memory here at submission and loses it here at completion; see
//! [`memory`](super::memory). The engine keeps both mappings alive itself, and its drop cancels and waits, so
//! safe code cannot free a byte the kernel may still touch.
//!
//! Sockets are plain descriptors, not registered files: before 6.13 a removed registered file is released
//! only after every older operation of the ring, and an idle FETCH is as old as the device. The character
//! device, in every commit, is registered.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};
use libublk::sys::{
    UBLK_U_IO_COMMIT_AND_FETCH_REQ, UBLK_U_IO_FETCH_REQ, ublksrv_io_cmd, ublksrv_io_desc,
};

use super::descriptors::Descriptors;
use super::host;
use super::line::{Incoming, Line, PIECES_MAX, Source};
use super::memory::{Buffers, LINKS_MAX, Memory, Range};
use super::socket::KernelAddress;

/// How long a drop waits for cancelled operations before it gives the memory up as lost.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// A file table slot; the only registered file.
const CHAR_DEVICE: Fixed = Fixed(0);

/// What an operation was. Carried through the kernel in `user_data`: kind in the high half, index in the low.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Fetch = 1,
    Connect = 2,
    Send = 3,
    Receive = 4,
    Cancel = 5,
    Wake = 6,
}

impl Op {
    fn user_data(self, index: u16) -> u64 {
        (self as u64) << 32 | u64::from(index)
    }

    fn of(user_data: u64) -> (Self, u16) {
        let op = match user_data >> 32 {
            1 => Self::Fetch,
            2 => Self::Connect,
            3 => Self::Send,
            4 => Self::Receive,
            5 => Self::Cancel,
            6 => Self::Wake,
            other => unreachable!("completion of an operation {other} that we never submit"),
        };
        (op, user_data as u16)
    }
}

/// A completion, decoded, its memory already returned.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Completion {
    /// A request of the block device, or the end of this tag (`result` is not 0).
    Fetched {
        tag: u16,
        result: i32,
    },
    Connected {
        link: u8,
        result: i32,
    },
    /// `left` bytes of the send are not with the kernel yet.
    Sent {
        link: u8,
        result: i32,
        left: u32,
    },
    /// `left` bytes of the range are not filled yet.
    Received {
        link: u8,
        result: i32,
        left: u32,
    },
    /// A cancellation was answered; says nothing about the operation it was for.
    Cancelled {
        link: u8,
    },
    Woken,
}

/// The block device's side of the ring.
struct Queue {
    number: u16,
    depth: u16,
    descriptors: Descriptors,
    /// The registered file; the ring's own reference ends with the ring.
    _device: OwnedFd,
}

/// Heap memory behind pointers that the kernel holds. Never moved or resized after construction; forgotten,
/// not freed, if the kernel will not let go.
struct Lent {
    lines: Vec<Line>,
    wake: Arc<File>,
    wake_count: Box<u64>,
    own: Buffers,
    payload: Rc<Memory>,
}

/// The ring, its file descriptors, and the books.
pub(crate) struct Engine {
    // Field order is cleanup order: the ring's descriptor is closed before the queue and the memory go.
    ring: IoUring,
    queue: Option<Queue>,
    lent: ManuallyDrop<Lent>,
    /// `user_data` and result of the last turn's completions. An operation counts as in flight until `next` has
    /// delivered it, so that a slot is never reused while an answer of its past is still in here.
    reaped: Vec<(u64, i32)>,
    reaped_next: usize,
    wake_armed: bool,
    draining: bool,
}

impl Engine {
    /// Makes a ring for the calling thread, alone. With a device, every tag's FETCH is armed and submitted, and
    /// buffer `t` of `payload` belongs to tag `t`.
    ///
    /// `own` lists the sizes of the engine's own buffers.
    pub(crate) fn new(
        device: Option<(OwnedFd, u16, u16)>,
        payload: &mut Buffers,
        own: impl Iterator<Item = u32>,
        links: u8,
    ) -> io::Result<Self> {
        assert!(
            usize::from(links) <= LINKS_MAX,
            "{links} links of at most {LINKS_MAX}"
        );
        let depth = device.as_ref().map_or(0, |(_, _, depth)| *depth);
        // Between two enters: one commit per tag; per link connect or send and receive, a continuation of each,
        // and three cancellations; the wake. A full queue is flushed early, so this is speed, not safety.
        let entries = u32::from(depth) + 8 * u32::from(links) + 8;
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(entries.next_power_of_two() * 2)
            .build(entries.next_power_of_two())?;
        let own = Buffers::new(own)?;
        let queue = match device {
            Some((device, number, depth)) => {
                ring.submitter().register_files(&[device.as_raw_fd()])?;
                let descriptors = Descriptors::map(device.as_fd(), number, depth)?;
                Some(Queue {
                    number,
                    depth,
                    descriptors,
                    _device: device,
                })
            }
            None => None,
        };
        let lent = Lent {
            lines: (0..links).map(|_| Line::new()).collect(),
            wake: Arc::new(host::eventfd()?),
            wake_count: Box::new(0),
            own,
            payload: Rc::clone(payload.memory()),
        };
        let reaped = Vec::with_capacity(ring.params().cq_entries() as usize);
        let mut engine = Self {
            ring,
            queue,
            lent: ManuallyDrop::new(lent),
            reaped,
            reaped_next: 0,
            wake_armed: false,
            draining: false,
        };
        engine.arm_wake();
        for tag in 0..depth {
            engine.queue_command(UBLK_U_IO_FETCH_REQ, tag, 0);
        }
        engine.ring.submit()?;
        Ok(engine)
    }

    /// The engine's own buffers: heads and staging.
    pub(crate) fn own(&self) -> &Buffers {
        &self.lent.own
    }

    pub(crate) fn own_mut(&mut self) -> &mut Buffers {
        &mut self.lent.own
    }

    pub(crate) fn wake_file(&self) -> Arc<File> {
        Arc::clone(&self.lent.wake)
    }

    /// Panics unless these are the payload buffers this engine was made with.
    fn assert_ours(&self, payload: &Buffers) {
        assert!(
            Rc::ptr_eq(payload.memory(), &self.lent.payload),
            "buffers of another ring"
        );
    }

    // --- the block device ------------------------------------------------------------------------------

    fn queue_command(&mut self, command: u32, tag: u16, result: i32) {
        let queue = self
            .queue
            .as_ref()
            .expect("a ublk command on a ring without a device");
        assert!(tag < queue.depth, "tag {tag} of a queue of {}", queue.depth);
        // Books first: it panics if anything may still touch the buffer.
        self.lent.payload.lend_to_driver(tag);
        let buffer = self.lent.payload.address(Range {
            buffer: tag,
            offset: 0,
            len: 0,
        });
        let body = ublksrv_io_cmd {
            q_id: queue.number,
            tag,
            result,
            addr: buffer as u64,
        };
        let mut bytes = [0; 16];
        bytes[0..2].copy_from_slice(&body.q_id.to_ne_bytes());
        bytes[2..4].copy_from_slice(&body.tag.to_ne_bytes());
        bytes[4..8].copy_from_slice(&body.result.to_ne_bytes());
        bytes[8..16].copy_from_slice(&body.addr.to_ne_bytes());
        let entry = opcode::UringCmd16::new(CHAR_DEVICE, command)
            .cmd(bytes)
            .build();
        self.push(entry.user_data(Op::Fetch.user_data(tag)));
    }

    /// Answers the tag's request and asks for its next one. The driver owns the tag's buffer from here on.
    pub(crate) fn commit_and_fetch(&mut self, tag: u16, result: i32, payload: &mut Buffers) {
        self.assert_ours(payload);
        self.queue_command(UBLK_U_IO_COMMIT_AND_FETCH_REQ, tag, result);
    }

    /// The same for a request that the caller never saw, so that no slice of its buffer can exist.
    pub(crate) fn commit_unseen(&mut self, tag: u16, result: i32) {
        self.queue_command(UBLK_U_IO_COMMIT_AND_FETCH_REQ, tag, result);
    }

    pub(crate) fn descriptor(&self, tag: u16) -> ublksrv_io_desc {
        self.queue
            .as_ref()
            .expect("a descriptor on a ring without a device")
            .descriptors
            .read(tag)
    }

    // --- links -----------------------------------------------------------------------------------------

    /// Gives the link a socket and starts connecting it.
    pub(crate) fn connect(&mut self, link: u8, socket: OwnedFd, address: KernelAddress) {
        let line = &mut self.lent.lines[usize::from(link)];
        assert!(
            line.socket.is_none() && !line.busy(),
            "link {link} connected twice"
        );
        line.socket = Some(socket);
        line.address = address;
        line.connecting = true;
        let entry = opcode::Connect::new(
            line.fd(),
            (&raw const line.address.storage).cast(),
            address.len,
        );
        self.push(
            entry
                .build()
                .user_data(Op::Connect.user_data(u16::from(link))),
        );
    }

    pub(crate) fn socket(&self, link: u8) -> Option<BorrowedFd<'_>> {
        self.lent.lines[usize::from(link)]
            .socket
            .as_ref()
            .map(AsFd::as_fd)
    }

    /// Closes the link's socket, which nothing may be using any more.
    pub(crate) fn close(&mut self, link: u8) {
        let line = &mut self.lent.lines[usize::from(link)];
        assert!(!line.busy(), "link {link} closed with operations in flight");
        line.socket = None;
    }

    /// Whether any operation of the link is with the kernel.
    pub(crate) fn busy(&self, link: u8) -> bool {
        self.lent.lines[usize::from(link)].busy()
    }

    pub(crate) fn sending(&self, link: u8) -> bool {
        self.lent.lines[usize::from(link)].sending
    }

    pub(crate) fn receiving(&self, link: u8) -> bool {
        self.lent.lines[usize::from(link)].receiving
    }

    /// Sends all pieces, in order, as one message. `payload` proves that no mutable slice of it is alive.
    pub(crate) fn send(
        &mut self,
        link: u8,
        pieces: impl Iterator<Item = Source>,
        payload: &Buffers,
    ) {
        self.assert_ours(payload);
        let line = &mut self.lent.lines[usize::from(link)];
        assert!(!line.sending, "second send on link {link}");
        line.sources.clear();
        line.send_done = 0;
        let mut total = 0_u32;
        for piece in pieces {
            assert!(
                line.sources.len() < PIECES_MAX,
                "more than {PIECES_MAX} pieces in one send"
            );
            total = total
                .checked_add(piece.range().len)
                .expect("a send of 4 GiB");
            line.sources.push(piece);
        }
        assert!(total > 0, "a send of nothing");
        line.send_total = total;
        self.submit_send(link);
    }

    /// Sends what a short completion left. Nobody got a mutable slice meanwhile: it was lent until just now.
    pub(crate) fn resume_send(&mut self, link: u8) {
        let line = &self.lent.lines[usize::from(link)];
        assert!(
            !line.sending && line.send_done < line.send_total,
            "nothing to resume on link {link}"
        );
        self.submit_send(link);
    }

    fn submit_send(&mut self, link: u8) {
        let Lent {
            lines,
            own,
            payload,
            ..
        } = &mut *self.lent;
        let line = &mut lines[usize::from(link)];
        line.vector.clear();
        let mut skip = line.send_done;
        for source in &line.sources {
            let (memory, range) = match source {
                Source::Own(range) => (own.memory(), *range),
                Source::Payload(range) => (&*payload, *range),
            };
            memory.lend_to_send(range);
            let gone = skip.min(range.len);
            skip -= gone;
            if gone < range.len {
                let rest = Range {
                    offset: range.offset + gone,
                    len: range.len - gone,
                    ..range
                };
                let iov_base = memory.address(rest).cast();
                line.vector.push(libc::iovec {
                    iov_base,
                    iov_len: rest.len as usize,
                });
            }
        }
        line.message.msg_iov = line.vector.as_mut_ptr();
        line.message.msg_iovlen = line.vector.len();
        line.sending = true;
        let flags = (libc::MSG_NOSIGNAL | libc::MSG_WAITALL) as u32;
        let entry = opcode::SendMsg::new(line.fd(), &raw const line.message)
            .flags(flags)
            .build();
        self.push(entry.user_data(Op::Send.user_data(u16::from(link))));
    }

    /// Receives into the range of the caller's payload: all of it, unless the connection ends.
    /// `payload` proves that no slice of it is alive.
    pub(crate) fn receive(&mut self, link: u8, range: Range, payload: &mut Buffers) {
        self.assert_ours(payload);
        self.submit_receive(
            link,
            Incoming {
                own: false,
                range,
                done: 0,
                flags: libc::MSG_WAITALL,
            },
        );
    }

    /// Receives what there is, at least a byte, into one of the engine's own buffers.
    pub(crate) fn receive_own(&mut self, link: u8, range: Range) {
        self.submit_receive(
            link,
            Incoming {
                own: true,
                range,
                done: 0,
                flags: 0,
            },
        );
    }

    /// Receives what a short completion left. Nobody got a slice meanwhile: it was lent until just now.
    pub(crate) fn resume_receive(&mut self, link: u8) {
        let incoming = self.lent.lines[usize::from(link)].incoming;
        self.submit_receive(link, incoming);
    }

    fn submit_receive(&mut self, link: u8, incoming: Incoming) {
        assert!(
            incoming.done < incoming.range.len,
            "a receive of nothing on link {link}"
        );
        let Lent {
            lines,
            own,
            payload,
            ..
        } = &mut *self.lent;
        let line = &mut lines[usize::from(link)];
        assert!(!line.receiving, "second receive on link {link}");
        let memory = if incoming.own {
            own.memory()
        } else {
            &*payload
        };
        let rest = Range {
            offset: incoming.range.offset + incoming.done,
            len: incoming.range.len - incoming.done,
            ..incoming.range
        };
        let address = memory.address(rest);
        // The whole range stays lent, so that its first part cannot be handed out before the last is in.
        memory.lend_to_receive(link, incoming.range);
        line.incoming = incoming;
        line.receiving = true;
        let entry = opcode::Recv::new(line.fd(), address, rest.len)
            .flags(incoming.flags)
            .build();
        self.push(entry.user_data(Op::Receive.user_data(u16::from(link))));
    }

    /// Asks the kernel to cancel what the link has in flight. May have to be repeated until nothing is.
    pub(crate) fn cancel(&mut self, link: u8) {
        let line = &self.lent.lines[usize::from(link)];
        let in_flight = [
            (line.connecting, Op::Connect),
            (line.sending, Op::Send),
            (line.receiving, Op::Receive),
        ];
        for (_, op) in in_flight.into_iter().filter(|(in_flight, _)| *in_flight) {
            self.cancel_one(link, op);
        }
    }

    /// As [`cancel`](Self::cancel), the receive alone.
    pub(crate) fn cancel_receive(&mut self, link: u8) {
        if self.lent.lines[usize::from(link)].receiving {
            self.cancel_one(link, Op::Receive);
        }
    }

    fn cancel_one(&mut self, link: u8, op: Op) {
        let index = u16::from(link);
        self.lent.lines[usize::from(link)].cancelling += 1;
        let entry = opcode::AsyncCancel::new(op.user_data(index)).build();
        self.push(entry.user_data(Op::Cancel.user_data(index)));
    }

    /// Whether an earlier cancellation is still unanswered.
    pub(crate) fn cancelling(&self, link: u8) -> bool {
        self.lent.lines[usize::from(link)].cancelling > 0
    }

    // --- the ring --------------------------------------------------------------------------------------

    fn arm_wake(&mut self) {
        assert!(!self.wake_armed);
        self.wake_armed = true;
        let fd = Fd(self.lent.wake.as_raw_fd());
        let entry =
            opcode::Read::new(fd, ptr::from_mut(&mut *self.lent.wake_count).cast(), 8).build();
        self.push(entry.user_data(Op::Wake.user_data(0)));
    }

    fn push(&mut self, entry: squeue::Entry) {
        loop {
            // SAFETY: every caller in this file points only into memory that `self.lent` keeps (payload and own
            // buffers, lines, wake counter) and has entered it in the books before.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            // No chains are ever built, so submitting in the middle of a turn reorders nothing.
            self.ring
                .submit()
                .expect("io_uring_enter with a full submission queue");
        }
    }

    /// Submits, and waits at most `timeout` for one completion (for ever if `None`).
    pub(crate) fn enter(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        // Room for a whole completion queue was reserved, so a drained turn never allocates.
        assert!(
            self.reaped_next == self.reaped.len(),
            "completions of the last turn not drained"
        );
        let result = match timeout {
            Some(timeout) => {
                let timespec = Timespec::from(timeout);
                self.ring
                    .submitter()
                    .submit_with_args(1, &SubmitArgs::new().timespec(&timespec))
            }
            None => self.ring.submitter().submit_and_wait(1),
        };
        self.reap();
        match result {
            Ok(_) => Ok(()),
            // Timeout, signal, or completions to be drained first: the caller's next turn goes on.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Takes all completions out of the shared queue at once: one pair of atomics per turn, not per IO.
    fn reap(&mut self) {
        self.reaped.clear();
        self.reaped_next = 0;
        self.reaped.extend(
            self.ring
                .completion()
                .map(|entry| (entry.user_data(), entry.result())),
        );
    }

    /// The next completion of the last [`enter`](Self::enter), its memory returned.
    pub(crate) fn next(&mut self) -> Option<Completion> {
        let (user_data, result) = *self.reaped.get(self.reaped_next)?;
        self.reaped_next += 1;
        let (op, index) = Op::of(user_data);
        Some(match op {
            Op::Fetch => {
                self.lent.payload.return_from_driver(index);
                Completion::Fetched { tag: index, result }
            }
            Op::Wake => {
                self.wake_armed = false;
                if !self.draining {
                    self.arm_wake();
                }
                Completion::Woken
            }
            Op::Connect | Op::Send | Op::Receive | Op::Cancel => {
                finish_line(&mut self.lent, op, index as u8, result)
            }
        })
    }

    /// Cancels everything that uses our memory and waits for it. False if the kernel would not let go in time.
    fn drain(&mut self) -> bool {
        self.draining = true;
        let give_up = host::boottime_ns() + DRAIN_LIMIT.as_nanos() as u64;
        for line in &self.lent.lines {
            if let Some(socket) = &line.socket {
                // An unconnected socket may refuse; then there is nothing to reset.
                let _ = super::socket::reset(socket.as_fd());
            }
        }
        loop {
            while self.next().is_some() {}
            if !self.wake_armed && !self.lent.lines.iter().any(Line::busy) {
                return true;
            }
            if host::boottime_ns() > give_up {
                return false;
            }
            for link in 0..self.lent.lines.len() as u8 {
                if !self.cancelling(link) {
                    self.cancel(link);
                }
            }
            if self.wake_armed {
                let wake = CancelBuilder::user_data(Op::Wake.user_data(0));
                let entry = opcode::AsyncCancel2::new(wake).build();
                // Its own completion is told apart by an index no link has.
                self.push(entry.user_data(Op::Cancel.user_data(u16::from(u8::MAX))));
            }
            if self.enter(Some(Duration::from_millis(10))).is_err() {
                return false;
            }
        }
    }
}

/// Ends a link's operation in the books.
fn finish_line(lent: &mut Lent, op: Op, link: u8, result: i32) -> Completion {
    let Lent {
        lines,
        own,
        payload,
        ..
    } = lent;
    let Some(line) = lines.get_mut(usize::from(link)) else {
        // Only the drain's cancellation of the wake has such an index.
        return Completion::Cancelled { link };
    };
    let moved = result.max(0) as u32;
    match op {
        Op::Connect => {
            line.connecting = false;
            Completion::Connected { link, result }
        }
        Op::Send => {
            line.sending = false;
            for source in &line.sources {
                match source {
                    Source::Own(range) => own.memory().return_from_send(range.buffer),
                    Source::Payload(range) => payload.return_from_send(range.buffer),
                }
            }
            line.send_done += moved;
            Completion::Sent {
                link,
                result,
                left: line.send_total - line.send_done,
            }
        }
        Op::Receive => {
            line.receiving = false;
            let memory = if line.incoming.own {
                own.memory()
            } else {
                &*payload
            };
            memory.return_from_receive(link);
            line.incoming.done += moved;
            Completion::Received {
                link,
                result,
                left: line.incoming.range.len - line.incoming.done,
            }
        }
        Op::Cancel => {
            line.cancelling -= 1;
            Completion::Cancelled { link }
        }
        Op::Fetch | Op::Wake => unreachable!("not a link's operation"),
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.drain() {
            // The FETCH commands still armed end with the ring's descriptor, closed next: the driver copies only
            // in this thread's enter, and there is none any more.
            // SAFETY: dropped once, here, and not used afterwards: every other field is independent of it.
            unsafe { ManuallyDrop::drop(&mut self.lent) };
        }
        // Otherwise the kernel still holds pointers into `lent`: leaked on purpose.
    }
}
