//! The driver of the fuzz target, also run as a test over a generated corpus: a session in full feature
//! phase is fed arbitrary bytes and calls, and must keep its promises whatever they are.
//!
//! Promises: no panic; no byte written outside the read that is in flight for its buffer; none at all after
//! the end; every command answered or handed back exactly once; what waits stays bounded.

use core::time::Duration;

use super::{Command, Event, Handle, Session, SessionConfig, Transfer, Want};
use crate::login::{Authentication, LoginParameters, Negotiated, Offer, SessionType};
use crate::memory::{BufferId, Memory};
use crate::outgoing::{Outgoing, Piece};
use crate::scsi::Cdb;
use crate::time::Instant;
use crate::wire::digest::digest;
use crate::wire::{
    Bhs, Isid, Lun, TaskAttribute, TaskManagementFunction, TaskTag, Tpgt, Tsih, padding,
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
        seal: digests & 0x80 == 0,
        terms,
        commands: 0,
        ended: 0,
        closed: false,
        tags: Vec::new(),
    };
    while !input.0.is_empty() {
        fuzz.turn(&mut input);
    }
    fuzz.finish();
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
    /// Tags that were seen on the wire, so that answers can name them.
    tags: Vec<TaskTag>,
}

impl Fuzz {
    fn turn(&mut self, input: &mut Input<'_>) {
        match input.byte() % 12 {
            0 | 1 => self.submit(input.byte()),
            2 => self.transmit(usize::from(input.byte()) * 64),
            3 => {
                let len = usize::from(input.byte());
                let bytes = input.take(len).to_vec();
                self.session.receive(self.now, &bytes, &mut self.memory);
            }
            4..=8 => self.receive_pdu(input),
            9 => {
                self.now = self.now + Duration::from_millis(u64::from(input.byte()) * 20);
                self.session.handle_timeout(self.now);
            }
            10 => self.place(input),
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
                    if let Some(tag) = bytes.get(16..20) {
                        self.tags.push(TaskTag(u32::from_be_bytes([
                            tag[0], tag[1], tag[2], tag[3],
                        ])));
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
        if self.tags.len() > 64 {
            self.tags.drain(..32);
        }
    }

    /// Feeds a PDU that is plausible but for the bytes the input changes.
    fn receive_pdu(&mut self, input: &mut Input<'_>) {
        let opcode = OPCODES[usize::from(input.byte()) % OPCODES.len()];
        let mut bhs = [0; 48];
        bhs[0] = opcode;
        bhs[1] = 0x80 | input.byte();
        let tag = match input.byte() {
            0xff => TaskTag::NONE,
            pick => match self.tags.len() {
                0 => TaskTag::NONE,
                len => self.tags[usize::from(pick) % len],
            },
        };
        bhs[16..20].copy_from_slice(&tag.0.to_be_bytes());
        bhs[20..24].copy_from_slice(&[0xff; 4]);
        if let super::State::FullFeature(session) = &self.session.state {
            bhs[24..28].copy_from_slice(&session.exp_stat_sn.0.to_be_bytes());
        }
        bhs[35] = input.byte();
        let data = {
            let len = usize::from(input.byte()) * 4;
            input.take(len)
        };
        for _ in 0..input.byte() % 8 {
            bhs[usize::from(input.byte()) % 48] = input.byte();
        }
        let mut bhs = Bhs(bhs);
        bhs.set_data_len(data.len());
        let mut bytes = bhs.0.to_vec();
        if self.terms.header_digest {
            let sum = if self.seal { digest(&bytes, 0) } else { [0; 4] };
            bytes.extend_from_slice(&sum);
        }
        bytes.extend_from_slice(data);
        let pad = padding(data.len());
        bytes.extend_from_slice(&[0; 3][..pad]);
        if self.terms.data_digest && !data.is_empty() {
            let sum = if self.seal { digest(data, pad) } else { [0; 4] };
            bytes.extend_from_slice(&sum);
        }
        self.session.receive(self.now, &bytes, &mut self.memory);
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
            4 => self.session.ping(self.now),
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

const OPCODES: [u8; 12] = [
    0x20, 0x21, 0x21, 0x22, 0x24, 0x25, 0x25, 0x26, 0x31, 0x31, 0x32, 0x3f,
];
const BUFFERS: usize = 8;
const BUFFER_LEN: usize = 8192;
