//! The turn: the only loop in the data plane.
//!
//! Ring events go into the volume, the volume's wishes go onto the ring, and one system call serves the block
//! device and every socket. Nothing here decides; nothing here allocates, locks or formats per request.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use iscsi_client::outgoing::{Outgoing, Piece};
use iscsi_client::session::Want;
use iscsi_client::time::Instant;
use lockmgr::gate::Gate;
use multipath::volume::{LINKS_MAX, PATHS_MAX};
use multipath::{
    CloseHow, DrainId, IoError, LinkId, Lost, Note, Operation, Output, PathConfig, PathId, Request,
    Tag, TcpProgress, Volume,
};
use ublk_dev::{
    BlockOp, BlockRequest, Close, Errno, Event, Into, LostReason, Ring, Slots, SocketOptions,
};

use super::guard::{Guard, Told};
use super::memory::TagMemory;

/// Data-In shorter than this is copied out of the staging buffer; longer stretches are received in place. A receive
/// of its own costs a system call's worth of work, a copy of 16 KiB about as much.
const IN_PLACE_MIN: u32 = 16 * 1024;

/// A fence whose connection acknowledges nothing for so long is lost, and tried through another portal.
const FENCE_USER_TIMEOUT: Duration = Duration::from_secs(2);

/// Payload bytes of one gathered send. A small command never waits behind more than this.
const SEND_BYTES_MAX: usize = 1 << 20;

/// Pieces of one gathered send; below the kernel's limit of 1024 I/O vectors.
const SEND_PIECES_MAX: usize = 256;

/// Where answered requests go: to the kernel's block layer, or to a test.
pub trait Front {
    /// A request has ended, and nothing can touch its buffer any more.
    fn answer(&mut self, ring: &mut Ring, slots: &mut Slots, tag: Tag, result: Result<(), Errno>);
}

/// Answers to the ublk driver.
pub struct Device;

impl Front for Device {
    fn answer(&mut self, ring: &mut Ring, slots: &mut Slots, tag: Tag, result: Result<(), Errno>) {
        ring.commit(ublk_dev::Tag(tag.0), result, slots);
    }
}

/// What a turn found that its owner must act on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// Mail may be waiting.
    pub wake: bool,
    /// The block device has stopped: no request will come any more.
    pub device_stopped: bool,
}

/// A queue's ring, buffers and volume, and what the turn carries from one call to the next.
pub struct Turn {
    ring: Ring,
    slots: Slots,
    volume: Volume,
    /// log2 of the logical block length.
    block_shift: u32,
    /// Interface of each path, for the sockets to its portal.
    interfaces: Vec<Option<String>>,
    /// Ended requests whose buffer a send still reads: a target may answer a write before it has all of it.
    early: Vec<(Tag, Result<(), IoError>)>,
    /// Links whose receive is being taken back.
    rearming: [bool; LINKS_MAX],
    /// Whether writes may leave.
    guard: Guard,
    /// `TCP_USER_TIMEOUT` of the data connections.
    user_timeout: Duration,
    /// Who waits for drains.
    drains: Vec<(DrainId, Told)>,
    pieces: Vec<Piece>,
    vectors: Vec<ublk_dev::Piece>,
}

impl Turn {
    /// Joins the three, which were made for the same depth. `block_len` is the LUN's, a power of two.
    pub fn new(ring: Ring, slots: Slots, volume: Volume, block_len: u32) -> Self {
        assert!(
            block_len.is_power_of_two() && block_len >= 512,
            "block length {block_len}"
        );
        let depth = usize::from(slots.depth());
        Self {
            ring,
            slots,
            volume,
            early: Vec::with_capacity(depth),
            block_shift: block_len.trailing_zeros(),
            interfaces: vec![None; multipath::volume::PATHS_MAX],
            rearming: [false; LINKS_MAX],
            guard: Guard::new(Arc::default()),
            user_timeout: SocketOptions::default().user_timeout,
            drains: Vec::new(),
            pieces: Vec::with_capacity(SEND_PIECES_MAX),
            vectors: Vec::with_capacity(SEND_PIECES_MAX),
        }
    }

    /// Writes leave as this gate allows. Without one they always do.
    pub fn guarded_by(self, gate: Arc<Gate>) -> Self {
        Self {
            guard: Guard::new(gate),
            ..self
        }
    }

    /// The volume, for orders and for `status`.
    pub fn volume(&mut self) -> &mut Volume {
        &mut self.volume
    }

    /// The queue's buffers.
    pub fn slots(&mut self) -> &mut Slots {
        &mut self.slots
    }

    /// The present time, as of the last wait.
    pub fn now(&self) -> Instant {
        Instant::from_nanos(self.ring.now())
    }

    /// Adds a path, whose sockets will be bound to its interface.
    pub fn add_path(&mut self, path: PathConfig) -> Option<PathId> {
        let interface = path.interface.clone();
        let id = self.volume.add_path(self.now(), path)?;
        self.interfaces[usize::from(id.0)] = interface;
        Some(id)
    }

    /// The carrier of an interface came or went: that concerns the paths whose sockets are bound to it.
    pub fn carrier(&mut self, interface: &str, up: bool) {
        let now = self.now();
        for (index, bound) in self.interfaces.iter().enumerate() {
            if bound.as_deref() == Some(interface) {
                self.volume.carrier(now, PathId(index as u8), up);
            }
        }
    }

    /// How long bytes that our kernel holds may stay unacknowledged on the data connections: on those there are, and on
    /// those to come.
    pub fn set_user_timeout(&mut self, limit: Duration) {
        self.user_timeout = limit;
        for index in 0..PATHS_MAX {
            let link = theirs(LinkId(index as u8));
            self.ring.set_user_timeout(link, limit);
        }
    }

    /// Tells when no write that was sent before now can execute any more; never, if the volume ends before.
    pub fn drain(&mut self, told: Told) {
        let id = self.volume.drain(self.now());
        self.drains.push((id, told));
    }

    /// Hands in a request that does not come from the ring.
    pub fn submit(&mut self, front: &mut impl Front, request: BlockRequest) {
        let now = self.now();
        self.request(now, front, request);
    }

    /// Everything that can be done without waiting.
    pub fn work(&mut self, front: &mut impl Front, note: &mut impl FnMut(Note)) -> Found {
        let now = self.now();
        let mut found = Found::default();
        self.ask_permission();
        while let Some(event) = self.ring.next() {
            self.event(now, front, event, &mut found);
        }
        self.answer_early(front);
        self.report_progress(now);
        self.volume.handle_timeout(now);
        self.perform(front, note);
        self.rearm(now);
        self.perform(front, note);
        self.transmit(now);
        // Filling a send can end a session: its close must not wait for the next event.
        self.perform(front, note);
        self.receive();
        // The last moment before the sends are the kernel's: what must not leave any more is reset here.
        self.ask_permission();
        self.perform(front, note);
        found
    }

    /// Whether writes may leave at this moment.
    fn ask_permission(&mut self) {
        let now = self.now();
        self.volume.permit(now, self.guard.permission(now));
    }

    /// Submits what was prepared and waits for the next event, the volume's next timer, the gate's deadline or `until`.
    pub fn wait(&mut self, until: Option<Instant>) -> io::Result<()> {
        let timer = self.volume.poll_timeout();
        let times = [timer, self.guard.deadline(), until];
        let until = times.into_iter().flatten().min();
        self.ring.submit_and_wait(until.map(Instant::nanos))
    }

    /// TCP statistics of the connections whose silence is in question.
    fn report_progress(&mut self, now: Instant) {
        for index in 0..LINKS_MAX {
            let link = LinkId(index as u8);
            if self.volume.wants_progress(now, link)
                && let Some(info) = self.ring.tcp_info(theirs(link))
            {
                let progress = TcpProgress {
                    acked: info.bytes_acked,
                    received: info.bytes_received,
                    unacked: info.unacked,
                    since_ack: info.since_ack,
                    since_data: info.since_data,
                    since_sent: info.since_sent,
                    rtt: info.rtt,
                    min_rtt: info.min_rtt,
                };
                self.volume.tcp_progress(now, link, progress);
            }
        }
    }

    fn event(&mut self, now: Instant, front: &mut impl Front, event: Event, found: &mut Found) {
        match event {
            Event::Request(request) => self.request(now, front, request),
            Event::Received { link, .. } => {
                let bytes = self.ring.staged(link);
                self.volume
                    .receive(now, ours(link), bytes, &mut TagMemory(&mut self.slots));
            }
            Event::Placed { link, len } => {
                let memory = &mut TagMemory(&mut self.slots);
                self.volume.received_in_place(now, ours(link), len, memory);
            }
            // The link's sender is idle again; `transmit` asks every idle sender.
            Event::Sent { .. } => {}
            Event::Connected { link } => {
                let mut entropy = [0; 32];
                // Without randomness a mutual CHAP challenge could be foreseen. The kernel's generator fails only
                // before it is seeded, long before a network is up.
                getrandom::fill(&mut entropy).expect("the kernel's random generator works");
                self.volume.connected(now, ours(link), entropy);
            }
            Event::Lost { link, why } => {
                self.volume.lost(now, ours(link), lost(why));
            }
            Event::Wake => found.wake = true,
            Event::DeviceStopped => found.device_stopped = true,
        }
    }

    fn request(&mut self, now: Instant, front: &mut impl Front, request: BlockRequest) {
        let tag = Tag(request.tag.0);
        let operation = match request.op {
            BlockOp::Read => Operation::Read,
            BlockOp::Write => Operation::Write,
            BlockOp::Flush => Operation::Flush,
            BlockOp::Discard => Operation::Discard,
            BlockOp::WriteZeroes { unmap } => Operation::WriteZeroes { may_unmap: unmap },
        };
        let shift = self.block_shift - 9;
        let aligned = |sectors: u64| sectors & ((1 << shift) - 1) == 0;
        let (lba, blocks) = match operation {
            // A flush has no range: the driver hands out all ones as its start.
            Operation::Flush => (0, 0),
            _ if !aligned(request.start_sector) || !aligned(request.sectors.into()) => {
                // The limits that the device was made with exclude this.
                let (ring, slots) = (&mut self.ring, &mut self.slots);
                return front.answer(ring, slots, tag, Err(Errno::NOT_SUPPORTED));
            }
            _ => (request.start_sector >> shift, request.sectors >> shift),
        };
        self.volume.submit(
            now,
            Request {
                tag,
                operation,
                lba,
                blocks,
                fua: request.fua,
            },
        );
    }

    fn perform(&mut self, front: &mut impl Front, note: &mut impl FnMut(Note)) {
        while let Some(output) = self.volume.poll_output() {
            match output {
                Output::Complete { tag, result } => {
                    if self.slots.on_wire(ublk_dev::BufferId(tag.0)) {
                        self.early.push((tag, result));
                    } else {
                        self.answer(front, tag, result);
                    }
                }
                Output::Publish {
                    spare,
                    tag,
                    offset,
                    len,
                } => {
                    let (from, to) = (ublk_dev::BufferId(spare.0), ublk_dev::BufferId(tag.0));
                    self.slots.copy(from, to, offset, len);
                }
                Output::Rearm { link } => self.rearming[usize::from(link.0)] = true,
                Output::Connect { link, to, path } => self.connect(link, to, path),
                Output::Close { link, how } => {
                    let how = match how {
                        CloseHow::Abort => Close::Abort,
                        CloseHow::Orderly => Close::Orderly,
                    };
                    self.ring.close(theirs(link), how);
                }
                Output::Drained(through) => self.drained(through),
                Output::Note(text) => note(text),
            }
        }
    }

    fn answer(&mut self, front: &mut impl Front, tag: Tag, result: Result<(), IoError>) {
        front.answer(&mut self.ring, &mut self.slots, tag, result.map_err(errno));
    }

    fn drained(&mut self, through: DrainId) {
        let over = |(id, _): &mut (DrainId, _)| *id <= through;
        for (_, told) in self.drains.extract_if(.., over) {
            told();
        }
    }

    /// Answers what was held back until its send was over.
    fn answer_early(&mut self, front: &mut impl Front) {
        let mut index = 0;
        while index < self.early.len() {
            let (Tag(buffer), _) = self.early[index];
            if self.slots.on_wire(ublk_dev::BufferId(buffer)) {
                index += 1;
            } else {
                let (tag, result) = self.early.swap_remove(index);
                self.answer(front, tag, result);
            }
        }
    }

    fn connect(&mut self, link: LinkId, to: SocketAddr, path: PathId) {
        let mut options = SocketOptions {
            interface: self.interfaces[usize::from(path.0)].clone(),
            user_timeout: self.user_timeout,
            ..SocketOptions::default()
        };
        // The volume does not watch a fence's connection, which carries a login and a few small commands: a target
        // that hangs acknowledges them, a portal that died does not.
        if usize::from(link.0) >= PATHS_MAX {
            options.user_timeout = FENCE_USER_TIMEOUT;
        }
        self.ring.connect(theirs(link), to, &options);
    }

    /// One gathered send for each link whose sender is idle.
    fn transmit(&mut self, now: Instant) {
        for index in 0..LINKS_MAX {
            let link = LinkId(index as u8);
            if !self.ring.connected(theirs(link)) || self.ring.sending(theirs(link)) {
                continue;
            }
            self.ask_permission();
            let Some(head) = self.ring.head(theirs(link)) else {
                continue;
            };
            let mut out = Outgoing::new(head, &mut self.pieces, SEND_BYTES_MAX);
            self.volume
                .poll_transmit(now, link, &mut TagMemory(&mut self.slots), &mut out);
            if self.pieces.is_empty() {
                continue;
            }
            self.vectors.clear();
            self.vectors
                .extend(self.pieces.iter().map(|piece| match *piece {
                    Piece::Head { start, len } => ublk_dev::Piece::Head { start, len },
                    Piece::Payload {
                        buffer,
                        offset,
                        len,
                    } => ublk_dev::Piece::Payload {
                        buffer: ublk_dev::BufferId(buffer.0),
                        offset,
                        len,
                    },
                }));
            self.ring.send(theirs(link), &self.vectors, &self.slots);
        }
    }

    /// Takes back the receives that the volume wants back, and says so when they are over.
    fn rearm(&mut self, now: Instant) {
        for index in 0..LINKS_MAX {
            let link = LinkId(index as u8);
            if !self.rearming[index] {
                continue;
            }
            if self.ring.receive_armed(theirs(link)) {
                self.ring.take_back_receive(theirs(link));
            } else {
                self.rearming[index] = false;
                self.volume.rearmed(now, link);
            }
        }
    }

    /// One receive for each link that has none.
    fn receive(&mut self) {
        for index in 0..LINKS_MAX {
            let link = LinkId(index as u8);
            if !self.ring.connected(theirs(link))
                || self.ring.receive_armed(theirs(link))
                || self.rearming[index]
            {
                continue;
            }
            let into = match self.volume.want(link) {
                Want::Payload {
                    buffer,
                    offset,
                    len,
                } if len >= IN_PLACE_MIN => Into::Buffer {
                    buffer: ublk_dev::BufferId(buffer.0),
                    offset,
                    len,
                },
                Want::Payload { .. } | Want::Stream => Into::Staging,
                Want::Nothing => continue,
            };
            self.ring.receive(theirs(link), into, &mut self.slots);
        }
    }
}

fn ours(link: ublk_dev::LinkId) -> LinkId {
    LinkId(link.0)
}

fn theirs(link: LinkId) -> ublk_dev::LinkId {
    ublk_dev::LinkId(link.0)
}

fn lost(why: LostReason) -> Lost {
    match why {
        LostReason::Ours => Lost::Ours,
        LostReason::PeerClosed => Lost::Fin,
        LostReason::Reset => Lost::Reset,
        LostReason::Refused => Lost::Refused,
        LostReason::ConnectTimeout => Lost::ConnectTimeout,
        LostReason::TimedOut => Lost::TimedOut,
        LostReason::Unreachable => Lost::Unreachable,
        LostReason::NoInterface => Lost::NoInterface,
        LostReason::Socket(errno) => Lost::Io(errno.0),
    }
}

/// What the block layer understands. The numbers are those that the kernel maps to block status codes.
fn errno(error: IoError) -> Errno {
    match error {
        IoError::Io => Errno::IO,
        IoError::NoSpace => Errno::NO_SPACE,
        IoError::Reserved => Errno::RESERVATION,
        IoError::ReadOnly => Errno::IO,
        IoError::NotSupported => Errno::NOT_SUPPORTED,
        IoError::Medium => Errno::NO_DATA,
        // What a host hears whose reservation another one took: final, retried by nobody, and not the disk's fault.
        IoError::Forbidden => Errno::RESERVATION,
    }
}
