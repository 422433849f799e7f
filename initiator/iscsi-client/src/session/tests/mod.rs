//! Transcripts: the test holds the target's end, in memory, with a clock it moves by hand.

mod control;
mod fuzz;
mod login;
mod reads;
mod segmentation;
mod writes;

use core::time::Duration;

use super::fuzzing::{Arena, config, terms};
use super::*;
use crate::memory::Memory;
use crate::outgoing::{Outgoing, Piece};
use crate::scsi::{Cdb, Status};
use crate::wire::digest::digest;
use crate::wire::*;

/// Both ends of a session in full feature phase.
struct Bench {
    session: Session,
    memory: Arena,
    now: Instant,
    /// The StatSN that the target uses next.
    stat_sn: u32,
    max_cmd_sn: u32,
    digests: (bool, bool),
    /// Limits of one send.
    head: usize,
    pieces: usize,
    bytes_max: usize,
}

/// A PDU and its data.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Pdu {
    bhs: Bhs,
    data: Vec<u8>,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(terms())
    }

    fn with(terms: Negotiated) -> Bench {
        let digests = (terms.header_digest, terms.data_digest);
        let mut memory = Arena::open(64 * 1024);
        for (at, byte) in memory.buffers[0].iter_mut().enumerate() {
            *byte = (at / 7) as u8 ^ at as u8;
        }
        Bench {
            session: Session::established(at(0), &config(), terms, 16),
            memory,
            now: at(0),
            stat_sn: 1,
            max_cmd_sn: 16,
            digests,
            head: 4096,
            pieces: 64,
            bytes_max: 256 * 1024,
        }
    }

    fn submit(&mut self, handle: u32, transfer: Transfer) {
        self.session.submit(self.now, command(handle, transfer));
    }

    fn read(&mut self, handle: u32, offset: u32, len: u32) {
        self.submit(
            handle,
            Transfer::Read {
                buffer: BufferId(0),
                offset,
                len,
            },
        );
    }

    fn write(&mut self, handle: u32, offset: u32, len: u32) {
        self.submit(
            handle,
            Transfer::Write {
                buffer: BufferId(0),
                offset,
                len,
            },
        );
    }

    /// One send, as the target sees its PDUs.
    fn send_once(&mut self) -> Vec<Pdu> {
        let bytes = self.send_bytes();
        parse(&bytes, self.digests)
    }

    /// Everything that can leave now.
    fn sent(&mut self) -> Vec<Pdu> {
        let mut bytes = Vec::new();
        loop {
            let more = self.send_bytes();
            if more.is_empty() {
                return parse(&bytes, self.digests);
            }
            bytes.extend(more);
        }
    }

    fn send_bytes(&mut self) -> Vec<u8> {
        let mut head = vec![0; self.head];
        let mut pieces = Vec::with_capacity(self.pieces);
        let mut out = Outgoing::new(&mut head, &mut pieces, self.bytes_max);
        self.session.poll_transmit(self.now, &self.memory, &mut out);
        let mut bytes = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Head { start, len } => {
                    bytes.extend_from_slice(&head[start as usize..][..len as usize]);
                }
                Piece::Payload {
                    buffer,
                    offset,
                    len,
                } => {
                    bytes.extend_from_slice(self.memory.read(buffer, offset, len));
                }
            }
        }
        bytes
    }

    /// The target sends a PDU.
    fn receive(&mut self, bhs: Bhs, data: &[u8]) {
        let bytes = serialise(bhs, data, self.digests);
        self.session.receive(self.now, &bytes, &mut self.memory);
    }

    /// Counters of a PDU that consumes a StatSN.
    fn numbers(&mut self) -> TargetNumbers {
        let numbers = self.numbers_unconsumed();
        self.stat_sn += 1;
        numbers
    }

    fn numbers_unconsumed(&self) -> TargetNumbers {
        TargetNumbers {
            stat_sn: StatSn(self.stat_sn),
            exp_cmd_sn: CmdSn(1),
            max_cmd_sn: CmdSn(self.max_cmd_sn),
        }
    }

    fn data_in(&self, task: TaskTag, data_sn: u32, offset: u32) -> DataIn {
        DataIn {
            last: false,
            acknowledge: false,
            status: None,
            lun: Lun::default(),
            task,
            transfer: TransferTag::NONE,
            exp_cmd_sn: CmdSn(1),
            max_cmd_sn: CmdSn(self.max_cmd_sn),
            data_sn: DataSn(data_sn),
            offset,
            data_len: 0,
        }
    }

    fn good_with_data(&mut self) -> Option<DataInStatus> {
        let stat_sn = self.numbers().stat_sn;
        Some(DataInStatus {
            status: 0,
            stat_sn,
            residual: Residual::None,
        })
    }

    fn response(&mut self, task: TaskTag) -> ScsiResponse {
        ScsiResponse {
            response: 0,
            status: 0,
            task,
            numbers: self.numbers(),
            exp_data_sn: 0,
            residual: Residual::None,
            data_len: 0,
        }
    }

    fn answer_good(&mut self, task: TaskTag) {
        let response = self.response(task);
        self.receive(response.emit(), &[]);
    }

    fn r2t(&mut self, task: TaskTag, r2t_sn: u32, offset: u32, len: u32) {
        let r2t = R2t {
            lun: LUN,
            task,
            transfer: TransferTag(0x100 + r2t_sn),
            numbers: self.numbers_unconsumed(),
            r2t_sn: DataSn(r2t_sn),
            offset,
            len: len.try_into().unwrap(),
        };
        self.receive(r2t.emit(), &[]);
    }

    fn events(&mut self) -> Vec<Event> {
        core::iter::from_fn(|| self.session.poll_event()).collect()
    }

    /// The one event there must be: the end, with this broken rule.
    #[track_caller]
    fn assert_violation(&mut self, rule: &str) {
        match &self.events()[..] {
            [Event::Closed(Closed::Protocol(named))] => assert_eq!(*named, rule),
            other => panic!("expected the end for {rule:?}, got {other:?}"),
        }
        assert_eq!(self.session.want(), Want::Nothing);
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        self.session.handle_timeout(self.now);
    }

    fn orphans(&mut self) -> Vec<(u32, bool)> {
        let mut orphans: Vec<_> = self
            .session
            .drain_orphans()
            .map(|orphan| (orphan.handle.0, orphan.sent))
            .collect();
        orphans.sort_unstable();
        orphans
    }
}

impl Pdu {
    fn task(&self) -> TaskTag {
        TaskTag(self.bhs.u32(16))
    }

    fn opcode(&self) -> Opcode {
        self.bhs.opcode().unwrap()
    }
}

fn good(handle: u32, received: u32) -> Event {
    Event::Completed(Completion {
        handle: Handle(handle),
        status: Status::Good,
        sense: None,
        residual: Residual::None,
        received,
    })
}

fn command(handle: u32, transfer: Transfer) -> Command {
    Command {
        handle: Handle(handle),
        lun: LUN,
        cdb: Cdb([0x12; 16]),
        attribute: TaskAttribute::Simple,
        transfer,
    }
}

fn at(seconds: u64) -> Instant {
    Instant::from_nanos(seconds * 1_000_000_000)
}

/// A PDU as it goes over the wire.
fn serialise(mut bhs: Bhs, data: &[u8], (header, payload): (bool, bool)) -> Vec<u8> {
    bhs.set_data_len(data.len());
    let mut bytes = bhs.0.to_vec();
    if header {
        bytes.extend_from_slice(&digest(&bhs.0, 0));
    }
    bytes.extend_from_slice(data);
    let pad = padding(data.len());
    bytes.extend_from_slice(&[0; 3][..pad]);
    if payload && !data.is_empty() {
        bytes.extend_from_slice(&digest(data, pad));
    }
    bytes
}

/// The PDUs in a stream of ours. Checks digests and padding, and that nothing is left over.
fn parse(mut bytes: &[u8], (header, payload): (bool, bool)) -> Vec<Pdu> {
    let mut pdus = Vec::new();
    let mut take = |len: usize| {
        let (taken, rest) = bytes.split_at(len);
        bytes = rest;
        (taken, rest.is_empty())
    };
    loop {
        let (head, empty) = take(0);
        assert!(head.is_empty());
        if empty {
            return pdus;
        }
        let bhs = Bhs(take(48).0.try_into().unwrap());
        if header {
            assert_eq!(take(4).0, digest(&bhs.0, 0));
        }
        let data = take(bhs.data_len()).0.to_vec();
        assert!(take(padding(data.len())).0.iter().all(|byte| *byte == 0));
        if payload && !data.is_empty() {
            assert_eq!(take(4).0, digest(&data, padding(data.len())));
        }
        pdus.push(Pdu { bhs, data });
    }
}

const LUN: Lun = Lun([0, 3, 0, 0, 0, 0, 0, 0]);
