//! The driver of the fuzz target, also run as a test over a generated corpus: a session in full feature
//! phase is fed arbitrary bytes and calls, and must keep its promises whatever they are.
//!
//! Promises: no panic; no byte written outside the read that is in flight for its buffer; none at all after
//! the end; every command answered or handed back exactly once; what waits stays bounded.

use core::num::NonZeroU32;
use core::time::Duration;

use super::tasks::{DataPhase, Phase, Reserved};
use super::{Command, Event, Handle, Session, SessionConfig, Transfer, Want};
use crate::login::{Authentication, LoginParameters, Negotiated, Offer, SessionType};
use crate::memory::{BufferId, Memory};
use crate::outgoing::{Outgoing, Piece};
use crate::scsi::Cdb;
use crate::time::Instant;
use crate::wire::digest::digest;
use crate::wire::{
    AsyncEvent, AsyncMessage, Bhs, DataIn, DataInStatus, DataSn, Isid, LogoutResponse, Lun, NopIn,
    R2t, Reject, RejectReason, Residual, ScsiResponse, TargetNumbers, TaskAttribute,
    TaskManagementFunction, TaskManagementResponse, TaskTag, TextResponse, Tpgt, TransferTag, Tsih,
    padding,
};

/// Runs one input.
///
/// # Panics
/// If a promise is broken.
pub fn drive_with_bytes(data: &[u8]) {
    let mut input = Input(data);
    let digests = input.byte();
    let terms = Negotiated {
        header_digest: digests & 1 != 0,
        data_digest: digests & 2 != 0,
        initial_r2t: digests & 4 != 0,
        immediate_data: digests & 8 != 0,
        ..terms()
    };
    let mut fuzz = Fuzz {
        session: Session::established(Instant::default(), &config(), terms.clone(), 16),
        memory: Arena::new(BUFFERS),
        now: Instant::default(),
        seal: digests < 0xf0,
        terms,
        commands: 0,
        ended: 0,
        closed: false,
        headers: Vec::new(),
    };
    while !input.0.is_empty() {
        fuzz.turn(&mut input);
    }
    fuzz.finish();
}

/// A command that was sent: its tag, itself, and what it expects next (DataSN or R2TSN, bytes received).
fn pick_command(
    session: &mut super::FullFeature,
    pick: u8,
) -> Option<(TaskTag, Command, (DataSn, u32))> {
    let sent: Vec<_> = session
        .tasks
        .commands_with_tags()
        .filter_map(|(tag, task)| match &task.phase {
            Phase::Queued => None,
            Phase::Sent { data, .. } => Some((
                tag,
                task.command,
                match data {
                    DataPhase::None => (DataSn(0), 0),
                    DataPhase::In { next, received } => (*next, *received),
                    DataPhase::Out { next, .. } => (*next, 0),
                },
            )),
        })
        .collect();
    (!sent.is_empty()).then(|| sent[usize::from(pick) % sent.len()])
}

/// What a target may say next about a command.
fn answer(
    task: TaskTag,
    command: &Command,
    (next, received): (DataSn, u32),
    numbers: TargetNumbers,
    kind: u8,
    input: &mut Input<'_>,
) -> (Bhs, Vec<u8>) {
    let lun = command.lun;
    match command.transfer {
        Transfer::Read { len, .. } if kind % 16 < 7 => {
            let data_len = (len - received).min(u32::from(input.byte()) * 9);
            let last = received + data_len == len;
            let status = (last && kind & 0x80 != 0).then_some(DataInStatus {
                status: 0,
                stat_sn: numbers.stat_sn,
                residual: Residual::None,
            });
            let data_in = DataIn {
                last,
                acknowledge: false,
                status,
                lun,
                task,
                transfer: TransferTag::NONE,
                exp_cmd_sn: numbers.exp_cmd_sn,
                max_cmd_sn: numbers.max_cmd_sn,
                data_sn: next,
                offset: received,
                data_len,
            };
            (data_in.emit(), vec![kind; data_len as usize])
        }
        Transfer::Write { len: len @ 1.., .. } if kind % 16 < 7 => {
            let offset = (u32::from(input.byte()) * 16).min(len - 1);
            let r2t = R2t {
                lun,
                task,
                transfer: TransferTag(u32::from(kind)),
                numbers,
                r2t_sn: next,
                offset,
                len: NonZeroU32::new(len - offset).expect("offset is below len"),
            };
            (r2t.emit(), Vec::new())
        }
        _ => {
            let status = if kind & 0x40 != 0 { 2 } else { 0 };
            let response = ScsiResponse {
                response: 0,
                status,
                task,
                numbers,
                exp_data_sn: 0,
                residual: Residual::None,
                data_len: 0,
            };
            let mut sense = vec![0, 18, 0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29];
            sense.resize(20, 0);
            (
                response.emit(),
                if status == 0 { Vec::new() } else { sense },
            )
        }
    }
}

struct Fuzz {
    session: Session,
    memory: Arena,
    now: Instant,
    terms: Negotiated,
    /// Whether to repair the digests of what is fed, so that mutations get past them.
    seal: bool,
    commands: u32,
    ended: u32,
    closed: bool,
    /// Headers that were seen on the wire, so that a Reject can hold them.
    headers: Vec<[u8; 48]>,
}

impl Fuzz {
    fn turn(&mut self, input: &mut Input<'_>) {
        match input.byte() % 32 {
            0..6 => self.submit(input.byte()),
            6..12 => self.transmit(usize::from(input.byte()) * 64),
            12 => {
                let len = usize::from(input.byte());
                let bytes = input.take(len).to_vec();
                self.session.receive(self.now, &bytes, &mut self.memory);
            }
            13..27 => self.receive_pdu(input),
            27 => {
                self.now = self.now + Duration::from_millis(u64::from(input.byte()) * 20);
                self.session.handle_timeout(self.now);
            }
            28 => self.place(input),
            _ => self.order(input.byte()),
        }
        self.drain();
    }

    fn submit(&mut self, kind: u8) {
        if self.session.room() == 0 {
            return;
        }
        let handle = self.commands;
        self.commands += 1;
        let buffer = BufferId((handle % BUFFERS as u32) as u16);
        let (offset, len) = (128, u32::from(kind) * 16);
        // One command per buffer at a time may be written to, as with a block device's request buffers.
        let transfer = match kind & 3 {
            0 => Transfer::None,
            1 if self.memory.writable[usize::from(buffer.0)].is_none() => {
                self.memory.writable[usize::from(buffer.0)] = Some((handle, offset, len));
                Transfer::Read {
                    buffer,
                    offset,
                    len,
                }
            }
            _ => Transfer::Write {
                buffer,
                offset,
                len,
            },
        };
        self.session.submit(
            self.now,
            Command {
                handle: Handle(handle),
                lun: Lun([0, kind >> 6, 0, 0, 0, 0, 0, 0]),
                cdb: Cdb([kind; 16]),
                attribute: TaskAttribute::Simple,
                transfer,
            },
        );
    }

    fn transmit(&mut self, head: usize) {
        let mut head = vec![0; head];
        let mut pieces = Vec::with_capacity(16);
        let mut out = Outgoing::new(&mut head, &mut pieces, 16 * 1024);
        self.session.poll_transmit(self.now, &self.memory, &mut out);
        for piece in &pieces {
            match *piece {
                Piece::Head { start, len } => {
                    let bytes = &head[start as usize..(start + len) as usize];
                    if let Some(header) = bytes.first_chunk() {
                        self.headers.push(*header);
                    }
                }
                Piece::Payload {
                    buffer,
                    offset,
                    len,
                } => {
                    self.memory.read(buffer, offset, len);
                }
            }
        }
        let old = self.headers.len().saturating_sub(16);
        self.headers.drain(..old);
    }

    /// Feeds a PDU that fits the session's state, but for the bytes that the input changes.
    fn receive_pdu(&mut self, input: &mut Input<'_>) {
        let super::State::FullFeature(session) = &mut self.session.state else {
            return;
        };
        let stat_sn = session.exp_stat_sn;
        let numbers = TargetNumbers {
            stat_sn,
            exp_cmd_sn: session.window.current(),
            max_cmd_sn: session.window.current().plus(u32::from(input.byte() % 32)),
        };
        let kind = input.byte();
        let (bhs, data) = match kind % 16 {
            0..=9 => match pick_command(session, input.byte()) {
                Some((task, command, phase)) => answer(task, &command, phase, numbers, kind, input),
                None => return,
            },
            other => {
                let waiting = session.tasks.any_reserved(input.byte());
                self.control(other, waiting, numbers, input)
            }
        };
        let mut bhs = bhs;
        // Most PDUs stay as they are, so that a run gets somewhere.
        if input.byte() >= 0xe0 {
            bhs.0[usize::from(input.byte()) % 48] ^= 1 << (input.byte() % 8);
        }
        bhs.set_data_len(data.len());
        let mut bytes = bhs.0.to_vec();
        if self.terms.header_digest {
            let sum = if self.seal { digest(&bytes, 0) } else { [0; 4] };
            bytes.extend_from_slice(&sum);
        }
        bytes.extend_from_slice(&data);
        let pad = padding(data.len());
        bytes.extend_from_slice(&[0; 3][..pad]);
        if self.terms.data_digest && !data.is_empty() {
            let sum = if self.seal {
                digest(&data, pad)
            } else {
                [0; 4]
            };
            bytes.extend_from_slice(&sum);
        }
        // Sometimes only the first part, so that timers and calls fall into the middle of a PDU.
        let first = match input.byte() {
            0xc0.. => bytes.len() / 2,
            _ => bytes.len(),
        };
        self.session
            .receive(self.now, &bytes[..first], &mut self.memory);
        if first < bytes.len() {
            self.place(input);
            self.drain();
            let placed = match self.session.want() {
                // What was received in place must not be fed again. A PDU before this one, cut short by what was fed
                // as its end, may want more than this one has.
                Want::Payload { len, .. } => {
                    let received = data.len().saturating_sub(len as usize);
                    bytes.len() - received.min(bytes.len())
                }
                _ => first,
            };
            self.session
                .receive(self.now, &bytes[placed.max(first)..], &mut self.memory);
        }
    }

    fn control(
        &self,
        kind: u8,
        waiting: Option<(TaskTag, Reserved)>,
        numbers: TargetNumbers,
        input: &mut Input<'_>,
    ) -> (Bhs, Vec<u8>) {
        let detail = input.byte();
        let lun = Lun::default();
        let nop = NopIn {
            lun,
            task: TaskTag::NONE,
            transfer: TransferTag(u32::from(detail)),
            numbers,
            data_len: 0,
        };
        let bhs = match kind {
            11..=13 => match waiting {
                None => nop.emit(),
                Some((task, Reserved::Ping)) => NopIn {
                    task,
                    transfer: TransferTag::NONE,
                    ..nop
                }
                .emit(),
                Some((task, Reserved::Management)) => TaskManagementResponse {
                    response: detail & 1,
                    task,
                    numbers,
                }
                .emit(),
                Some((task, Reserved::Logout)) => {
                    let (time2wait, time2retain) = (1, 0);
                    LogoutResponse {
                        response: 0,
                        task,
                        numbers,
                        time2wait,
                        time2retain,
                    }
                    .emit()
                }
                Some((task, Reserved::Text)) => {
                    let last = detail & 3 == 0;
                    let transfer = if last {
                        TransferTag::NONE
                    } else {
                        TransferTag(5)
                    };
                    let response = TextResponse {
                        last,
                        continued: false,
                        lun,
                        task,
                        transfer,
                        numbers,
                        data_len: 0,
                    };
                    return (response.emit(), input.take(usize::from(detail)).to_vec());
                }
            },
            14 => {
                let event = match detail % 16 {
                    0 => AsyncEvent::TasksTerminated,
                    1 => AsyncEvent::SessionDrop { time2wait: 1 },
                    _ => AsyncEvent::Vendor {
                        event: 250,
                        code: detail,
                    },
                };
                let lun = Lun([0, detail >> 6, 0, 0, 0, 0, 0, 0]);
                AsyncMessage {
                    lun,
                    numbers,
                    event,
                    data_len: 0,
                }
                .emit()
            }
            _ => {
                let mut bhs = Reject {
                    reason: RejectReason::ProtocolError,
                    numbers,
                    data_len: 0,
                }
                .emit();
                bhs.put_u8(2, if detail < 0xf0 { 6 } else { detail & 0xf });
                let header = match self.headers.len() {
                    0 => vec![0; 48],
                    len => self.headers[usize::from(detail) % len].to_vec(),
                };
                return (bhs, header);
            }
        };
        (bhs, Vec::new())
    }

    /// Receives in place what the session wants.
    fn place(&mut self, input: &mut Input<'_>) {
        if let Want::Payload {
            buffer,
            offset,
            len,
        } = self.session.want()
        {
            let len = len.min(u32::from(input.byte()));
            self.memory.write(buffer, offset, len).fill(0x5a);
            self.session.received_in_place(self.now, len, &self.memory);
        }
    }

    fn order(&mut self, kind: u8) {
        let target = Handle(u32::from(kind >> 4));
        match kind & 7 {
            0 => {
                let reset = TaskManagementFunction::LogicalUnitReset;
                self.session
                    .manage(self.now, Handle(u32::MAX), reset, Lun::default(), None);
            }
            1 | 2 => {
                let abort = TaskManagementFunction::AbortTask;
                let lun = Lun::default();
                self.session
                    .manage(self.now, Handle(u32::MAX), abort, lun, Some(target));
            }
            3 => self.session.text(self.now, b"SendTargets=All\0"),
            4 => drop(self.session.ping(self.now)),
            5 if kind == 0xfd => self.session.logout(self.now),
            6 if kind == 0xfe => self.session.connection_lost(),
            _ => self.transmit(4096),
        }
    }

    fn drain(&mut self) {
        while let Some(event) = self.session.poll_event() {
            assert!(!self.closed, "an event after the end");
            match event {
                Event::Completed(completion) => {
                    self.ended += 1;
                    self.memory.release(completion.handle.0);
                }
                Event::Closed(_) => {
                    self.closed = true;
                    self.memory.writable.fill(None);
                    assert_eq!(self.session.want(), Want::Nothing);
                    assert_eq!(self.session.poll_timeout(), None);
                    assert_eq!(self.session.room(), 0);
                }
                _ => {}
            }
        }
        if let super::State::FullFeature(session) = &self.session.state {
            assert!(session.outbox.immediates.len() <= 200, "immediates pile up");
            assert!(session.outbox.bursts.len() <= 64, "bursts pile up");
            assert!(session.text.response.len() <= 1 << 20, "text piles up");
        }
    }

    fn finish(mut self) {
        self.session.connection_lost();
        self.drain();
        assert!(self.closed, "a session ends");
        let orphans = self.session.drain_orphans().count() as u32;
        assert_eq!(
            self.ended + orphans,
            self.commands,
            "every command ends exactly once"
        );
        assert_eq!(self.session.in_flight(), 0);
    }
}

/// Buffers that refuse to be written where no read is in flight.
#[derive(Debug)]
pub(super) struct Arena {
    pub(super) buffers: Vec<Vec<u8>>,
    /// Handle, offset and length of the read in flight for each buffer.
    writable: Vec<Option<(u32, u32, u32)>>,
}

impl Arena {
    fn new(buffers: usize) -> Arena {
        Arena {
            buffers: vec![vec![0; BUFFER_LEN]; buffers],
            writable: vec![None; buffers],
        }
    }

    /// One buffer of `len` bytes, all of which may be written.
    #[cfg(test)]
    pub(super) fn open(len: usize) -> Arena {
        Arena {
            buffers: vec![vec![0; len]],
            writable: vec![Some((0, 0, len as u32))],
        }
    }

    fn release(&mut self, handle: u32) {
        for writable in &mut self.writable {
            if writable.is_some_and(|(owner, ..)| owner == handle) {
                *writable = None;
            }
        }
    }
}

impl Memory for Arena {
    fn read(&self, buffer: BufferId, offset: u32, len: u32) -> &[u8] {
        &self.buffers[usize::from(buffer.0)][offset as usize..][..len as usize]
    }

    fn write(&mut self, buffer: BufferId, offset: u32, len: u32) -> &mut [u8] {
        let (_, start, size) =
            self.writable[usize::from(buffer.0)].expect("a write into a buffer without a read");
        assert!(
            offset >= start && offset + len <= start + size,
            "a write outside the read"
        );
        &mut self.buffers[usize::from(buffer.0)][offset as usize..][..len as usize]
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// A usual configuration.
pub(super) fn config() -> SessionConfig {
    SessionConfig {
        login: LoginParameters {
            initiator_name: "iqn.2026-01.test:host".into(),
            session_type: SessionType::Normal {
                target_name: "iqn.2026-01.test:disk".into(),
            },
            isid: Isid([0x80, 0, 0, 0, 0, 1]),
            offer: Offer::default(),
            credentials: None,
            entropy: [7; 32],
        },
        tasks_max: 8,
        login_timeout: Duration::from_secs(15),
        ping_after: Duration::from_secs(2),
        ping_timeout: Duration::from_secs(3),
    }
}

/// Usual terms, as an LIO target grants them.
pub(super) fn terms() -> Negotiated {
    Negotiated {
        header_digest: false,
        data_digest: false,
        max_send_data_segment_length: 1024,
        max_recv_data_segment_length: 8192,
        max_burst_length: 8192,
        first_burst_length: 2048,
        max_outstanding_r2t: 2,
        initial_r2t: true,
        immediate_data: true,
        time2wait: 2,
        time2retain: 0,
        error_recovery_level: 0,
        tsih: Tsih(1),
        portal_group: Some(Tpgt(1)),
        target_alias: None,
        authentication: Authentication::None,
    }
}

const BUFFERS: usize = 8;
const BUFFER_LEN: usize = 8192;
