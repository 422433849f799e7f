//! Full feature phase (RFC 7143, 4.2 and 11): commands, data, pings, text, logout.

use std::collections::{BTreeMap, BTreeSet};

use core::num::NonZeroU32;
use iscsi_client::time::Instant;
use iscsi_client::wire::{
    AsyncEvent, AsyncMessage, CmdSn, DataIn, DataInStatus, DataOut, DataSn, LogoutRequest,
    LogoutResponse, Lun, NopIn, NopOut, Opcode, R2t, Reject, RejectReason, Residual, ScsiCommand,
    ScsiResponse, StatSn, TaskTag, TextRequest, TextResponse, Tpgt, TransferTag,
};

use super::manage::Management;
use super::negotiate::Terms;
use super::stream::Pdu;
use super::task::{Burst, Collection, Phase, TRANSFER_MAX, Task};
use super::{Close, ConnId, Identity, Target, key, text};
use crate::disk::{self, Answer, Code, Done, Format, Group, Job, Nexus};

/// A session in full feature phase.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) nexus: Nexus,
    pub(super) conn: ConnId,
    pub(super) identity: Identity,
    discovery: bool,
    pub(super) terms: Terms,
    pub(super) exp_cmd_sn: CmdSn,
    window: u32,
    /// Tasks that hold a place in the window.
    outstanding: u32,
    pub(super) tasks: BTreeMap<u32, Task>,
    /// Tags of aborted tasks: their Data-Out may still be on its way.
    pub(super) aborted: BTreeSet<u32>,
    pub(super) managements: Vec<Management>,
    /// Text still to be sent, and the tag by which to ask for it.
    text: Option<(TransferTag, Vec<u8>)>,
    /// Pings of ours without answer.
    pings: Vec<TransferTag>,
    /// The old session's commands, before whose end nothing is read here.
    pub(super) held_by: Vec<Nexus>,
}

/// Why a session ends.
pub(super) enum Ending {
    Violation(&'static str),
    Close(Close),
}

/// Most tags of aborted tasks kept.
const ABORTED_MAX: usize = 1024;

impl Session {
    pub(super) fn new(
        nexus: Nexus,
        conn: ConnId,
        identity: Identity,
        discovery: bool,
        terms: Terms,
        exp_cmd_sn: CmdSn,
        window: u32,
    ) -> Session {
        Session {
            nexus,
            conn,
            identity,
            discovery,
            terms,
            exp_cmd_sn,
            window,
            outstanding: 0,
            tasks: BTreeMap::new(),
            aborted: BTreeSet::new(),
            managements: Vec::new(),
            text: None,
            pings: Vec::new(),
            held_by: Vec::new(),
        }
    }

    /// The window moves on when a command is answered, never back.
    pub(super) fn max_cmd_sn(&self) -> CmdSn {
        self.exp_cmd_sn
            .plus(self.window.wrapping_sub(self.outstanding))
            .plus(u32::MAX)
    }

    /// When the oldest write that waits for asked data last got any.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.tasks
            .values()
            .filter_map(|task| match &task.phase {
                Phase::Collecting(collection) if collection.is_waiting() => Some(collection.since),
                _ => None,
            })
            .min()
    }

    /// Whether a command is in the backend.
    pub(super) fn is_executing(&self) -> bool {
        let mut tasks = self.tasks.values();
        tasks.any(|task| matches!(task.phase, Phase::Executing))
    }

    /// Forgets a task without an answer.
    pub(super) fn drop_task(&mut self, tag: u32) {
        if let Some(task) = self.tasks.remove(&tag) {
            self.outstanding -= u32::from(!task.immediate);
            if self.aborted.len() < ABORTED_MAX {
                self.aborted.insert(tag);
            }
        }
    }

    fn numbered(&mut self, immediate: bool, cmd_sn: CmdSn) -> Result<(), Ending> {
        if cmd_sn != self.exp_cmd_sn {
            return Err(Ending::Violation("CmdSN is not the expected one"));
        }
        if !immediate {
            if self.max_cmd_sn().is_before(cmd_sn) {
                return Err(Ending::Violation("CmdSN beyond the window"));
            }
            self.exp_cmd_sn = cmd_sn.next();
        }
        Ok(())
    }
}

impl Target {
    pub(super) fn full_feature(&mut self, now: Instant, nexus: Nexus, pdu: Pdu) {
        let Some(mut session) = self.sessions.remove(&nexus) else {
            return;
        };
        let conn = session.conn;
        let result = self.dispatch(now, &mut session, pdu);
        self.sessions.insert(nexus, session);
        match result {
            Ok(()) => {}
            Err(Ending::Violation(rule)) => self.violation(now, conn, rule),
            Err(Ending::Close(close)) => self.close(now, conn, close),
        }
    }

    fn dispatch(&mut self, now: Instant, session: &mut Session, pdu: Pdu) -> Result<(), Ending> {
        let bhs = &pdu.bhs;
        let stat_sn = StatSn(u32::from_be_bytes([
            bhs.0[28], bhs.0[29], bhs.0[30], bhs.0[31],
        ]));
        let sent = self
            .conns
            .get(&session.conn)
            .map_or(stat_sn, |conn| conn.stat_sn);
        if sent.is_before(stat_sn) {
            return Err(Ending::Violation("ExpStatSN beyond what was sent"));
        }
        let malformed = |_| Ending::Violation("malformed PDU");
        match bhs.opcode() {
            Some(Opcode::TextRequest | Opcode::LogoutRequest | Opcode::NopOut) => {}
            _ if session.discovery => {
                return Err(Ending::Violation(
                    "PDU that a discovery session does not know",
                ));
            }
            _ => {}
        }
        match bhs.opcode() {
            Some(Opcode::ScsiCommand) => {
                let command = ScsiCommand::parse(bhs).map_err(malformed)?;
                self.scsi_command(now, session, command, &pdu)
            }
            Some(Opcode::DataOut) => {
                let out = DataOut::parse(bhs).map_err(malformed)?;
                self.data_out(now, session, out, &pdu.data)
            }
            Some(Opcode::NopOut) => {
                let nop = NopOut::parse(bhs).map_err(malformed)?;
                self.nop_out(session, nop, &pdu.data)
            }
            Some(Opcode::TextRequest) => {
                let request = TextRequest::parse(bhs).map_err(malformed)?;
                self.text_request(session, request, &pdu.data)
            }
            Some(Opcode::LogoutRequest) => {
                let request = LogoutRequest::parse(bhs).map_err(malformed)?;
                session.numbered(request.immediate, request.cmd_sn)?;
                self.counters.logouts += 1;
                let response = LogoutResponse {
                    response: 0,
                    task: request.task,
                    numbers: self.numbers(session, true),
                    time2wait: 0,
                    time2retain: 0,
                };
                self.send(session.conn, response.emit(), &[], 0);
                Err(Ending::Close(Close::Fin))
            }
            Some(Opcode::TaskManagementRequest) => {
                // Parsed by hand: a target must know functions that our initiator never asks for.
                let word = |at: usize| {
                    u32::from_be_bytes([bhs.0[at], bhs.0[at + 1], bhs.0[at + 2], bhs.0[at + 3]])
                };
                session.numbered(bhs.is_immediate(), CmdSn(word(24)))?;
                let mut lun = [0; 8];
                lun.copy_from_slice(&bhs.0[8..16]);
                let (function, tag, referenced) = (bhs.0[1] & 0x7f, word(16), word(20));
                self.manage(now, session, function, Lun(lun), tag, referenced);
                Ok(())
            }
            _ => Err(Ending::Violation(
                "opcode that an initiator does not send at ERL 0",
            )),
        }
    }

    fn scsi_command(
        &mut self,
        now: Instant,
        session: &mut Session,
        command: ScsiCommand,
        pdu: &Pdu,
    ) -> Result<(), Ending> {
        session.numbered(command.immediate, command.cmd_sn)?;
        let tag = key(command.task);
        if command.task == TaskTag::NONE || session.tasks.contains_key(&tag) {
            return Err(Ending::Violation("task tag is in use or reserved"));
        }
        let (sent, terms) = (pdu.data.len() as u32, &session.terms);
        if sent > 0 {
            if !command.write {
                return Err(Ending::Violation("immediate data without the W bit"));
            }
            if !terms.immediate_data {
                return Err(Ending::Violation("immediate data that was not agreed"));
            }
            if sent > terms.first_burst_length.min(command.expected_len) {
                return Err(Ending::Violation(
                    "more immediate data than FirstBurstLength or the command",
                ));
            }
        }
        if !command.last && !command.write {
            return Err(Ending::Violation("neither F nor W"));
        }
        if !command.last && terms.initial_r2t {
            return Err(Ending::Violation("unsolicited data that were not agreed"));
        }
        if !command.last && sent >= terms.first_burst_length.min(command.expected_len) {
            return Err(Ending::Violation(
                "unsolicited data are announced and none are left",
            ));
        }
        if !command.read && !command.write && command.expected_len != 0 {
            return Err(Ending::Violation("a length without a direction"));
        }
        if let Some(reason) = self.rejects.pop_front() {
            self.reject(session, reason, pdu);
            return Ok(());
        }
        self.counters.commands += 1;
        self.counters.immediate_bytes += u64::from(sent);
        session.aborted.remove(&tag);
        session.outstanding += u32::from(!command.immediate);
        let mut task = Task {
            lun: command.lun.0,
            cdb: command.cdb,
            attribute: command.attribute,
            expected: command.expected_len,
            read: command.read,
            immediate: command.immediate,
            phase: Phase::Executing,
        };
        let burst =
            (!command.last).then(|| Burst::unsolicited(sent, command.expected_len, &session.terms));
        let refusal = self.refuse_early(session, &task);
        match (refusal, burst) {
            (Some(answer), None) => {
                session.tasks.insert(tag, task);
                self.respond(session, tag, answer);
            }
            (Some(answer), Some(_)) if self.config.answers_before_data => {
                session.tasks.insert(tag, task);
                self.respond(session, tag, answer);
                session.aborted.insert(tag);
            }
            (Some(answer), Some(burst)) => {
                task.phase = Phase::Draining(burst, answer);
                session.tasks.insert(tag, task);
            }
            (None, burst) => {
                let unit = self.units.get(&command.lun);
                let wanted = unit.map_or(0, |unit| unit.data_out_len(&task.cdb));
                let wanted = wanted.min(if command.write {
                    u64::from(task.expected)
                } else {
                    0
                });
                task.phase =
                    Phase::Collecting(Collection::new(now, &pdu.data, wanted as u32, burst));
                session.tasks.insert(tag, task);
                self.advance(now, session, tag);
            }
        }
        Ok(())
    }

    /// What can be answered before the data phase.
    fn refuse_early(&mut self, session: &Session, task: &Task) -> Option<Answer> {
        let luns: Vec<[u8; 8]> = self.units.keys().map(|lun| lun.0).collect();
        if let Some(answer) = disk::answer_report_luns(&task.cdb, &luns) {
            return Some(answer);
        }
        let Some(unit) = self.units.get_mut(&Lun(task.lun)) else {
            return Some(disk::answer_of_nothing(&task.cdb, &luns));
        };
        if unit.data_out_len(&task.cdb) > TRANSFER_MAX {
            return Some(Answer::check(Code::INVALID_FIELD.encode(
                Format::Fixed,
                false,
                None,
            )));
        }
        let Tpgt(group) = session.identity.group;
        unit.refuse_early(session.nexus, Group(group), &task.cdb)
    }

    /// Asks for data that are missing, or starts the command.
    fn advance(&mut self, now: Instant, session: &mut Session, tag: u32) {
        loop {
            let Some(task) = session.tasks.get_mut(&tag) else {
                return;
            };
            let Phase::Collecting(collection) = &mut task.phase else {
                return;
            };
            let (lun, transfer) = (Lun(task.lun), TransferTag(self.next_transfer));
            if let Some(ask) = collection.ask(&session.terms, transfer) {
                // 0 is a legal tag and is used first; the reserved one is skipped.
                self.next_transfer = self.next_transfer.wrapping_add(1);
                if TransferTag(self.next_transfer) == TransferTag::NONE {
                    self.next_transfer = 0;
                }
                self.counters.r2ts += 1;
                let r2t = R2t {
                    lun,
                    task: TaskTag(tag),
                    transfer: ask.transfer,
                    numbers: self.numbers(session, false),
                    r2t_sn: DataSn(ask.r2t_sn),
                    offset: ask.offset,
                    len: NonZeroU32::new(ask.len).expect("asks for something"),
                };
                let burst = session.terms.max_burst_length;
                self.send(session.conn, r2t.emit(), &[], burst);
                continue;
            }
            if !collection.is_complete() {
                return;
            }
            let Phase::Collecting(collection) =
                std::mem::replace(&mut task.phase, Phase::Executing)
            else {
                unreachable!("it was collecting");
            };
            let Tpgt(group) = session.identity.group;
            let job = Job {
                nexus: session.nexus,
                task: tag,
                group: Group(group),
                port: group,
                cdb: task.cdb,
                attribute: task.attribute,
                data: collection.finish(),
            };
            match self.units.get_mut(&lun) {
                Some(unit) => {
                    unit.submit(now, job);
                }
                // Taken away during the data phase.
                None => {
                    let sense = Code::LUN_NOT_SUPPORTED.encode(Format::Fixed, false, None);
                    self.respond(session, tag, Answer::check(sense));
                }
            }
            return;
        }
    }

    fn data_out(
        &mut self,
        now: Instant,
        session: &mut Session,
        out: DataOut,
        data: &[u8],
    ) -> Result<(), Ending> {
        let tag = key(out.task);
        if out.transfer == TransferTag::NONE {
            self.counters.unsolicited_bytes += data.len() as u64;
        }
        let Some(task) = session.tasks.get_mut(&tag) else {
            if session.aborted.contains(&tag) {
                return Ok(());
            }
            return Err(Ending::Violation("Data-Out for an unknown task"));
        };
        if out.lun.0 != task.lun {
            return Err(Ending::Violation("LUN of a Data-Out"));
        }
        match &mut task.phase {
            Phase::Collecting(collection) => {
                collection
                    .take(now, &out, data)
                    .map_err(Ending::Violation)?;
                self.advance(now, session, tag);
            }
            Phase::Draining(burst, answer) => {
                if out.transfer != burst.transfer {
                    return Err(Ending::Violation("Data-Out that nobody asked for"));
                }
                if burst.take(&out).map_err(Ending::Violation)? {
                    let answer = answer.clone();
                    self.respond(session, tag, answer);
                }
            }
            Phase::Executing => return Err(Ending::Violation("Data-Out after all data had come")),
        }
        Ok(())
    }

    /// A command ended in the backend.
    pub(super) fn answer_executed(&mut self, now: Instant, done: Done) {
        let Some(mut session) = self.sessions.remove(&done.nexus) else {
            return;
        };
        let executing = session
            .tasks
            .get(&done.task)
            .is_some_and(|task| matches!(task.phase, Phase::Executing));
        if executing {
            self.respond(&mut session, done.task, done.answer);
        }
        let conn = session.conn;
        self.sessions.insert(done.nexus, session);
        // The window may have opened; nothing else can have changed for the input.
        self.read(now, conn);
    }

    /// Sends data and status of a task and forgets it.
    pub(super) fn respond(&mut self, session: &mut Session, tag: u32, answer: Answer) {
        let Some(task) = session.tasks.remove(&tag) else {
            return;
        };
        session.outstanding -= u32::from(!task.immediate);
        let expected = u64::from(task.expected);
        let residual = match answer.wanted.cmp(&expected) {
            _ if answer.status != 0 && answer.data.is_empty() && task.read => {
                Residual::Underflow(task.expected)
            }
            _ if answer.status != 0 => Residual::None,
            std::cmp::Ordering::Equal => Residual::None,
            std::cmp::Ordering::Less => Residual::Underflow((expected - answer.wanted) as u32),
            std::cmp::Ordering::Greater => {
                Residual::Overflow(u32::try_from(answer.wanted - expected).unwrap_or(u32::MAX))
            }
        };
        let residual = match residual {
            Residual::Underflow(0) => Residual::None,
            other => other,
        };
        let visible = if task.read {
            answer.data.len().min(task.expected as usize)
        } else {
            0
        };
        let data = &answer.data[..visible];
        let in_data = answer.status == 0
            && answer.response == 0
            && !data.is_empty()
            && self.prng.percent(self.config.status_in_data_in);
        let sent = self.send_data_in(session, tag, data, in_data.then_some(residual));
        if in_data {
            return;
        }
        let mut segment = Vec::new();
        if !answer.sense.is_empty() {
            segment.extend((answer.sense.len() as u16).to_be_bytes());
            segment.extend(&answer.sense);
        }
        let response = ScsiResponse {
            response: answer.response,
            status: answer.status,
            task: TaskTag(tag),
            numbers: self.numbers(session, true),
            exp_data_sn: sent,
            residual,
            data_len: segment.len() as u32,
        };
        self.send(session.conn, response.emit(), &segment, 0);
    }

    /// Cuts data into PDUs and bursts; returns how many PDUs. `status`: GOOD rides in the last.
    fn send_data_in(
        &mut self,
        session: &Session,
        tag: u32,
        data: &[u8],
        status: Option<Residual>,
    ) -> u32 {
        let segment_max = session.terms.max_send_data_segment_length as usize;
        let burst_max = session.terms.max_burst_length as usize;
        let (mut offset, mut burst_left, mut count) = (0, burst_max, 0);
        while offset < data.len() {
            let len = segment_max.min(burst_left).min(data.len() - offset);
            let end = offset + len == data.len();
            burst_left -= len;
            let status = match status {
                Some(residual) if end => Some(DataInStatus {
                    status: 0,
                    stat_sn: self.numbers(session, true).stat_sn,
                    residual,
                }),
                _ => None,
            };
            let pdu = DataIn {
                last: end || burst_left == 0,
                acknowledge: false,
                status,
                lun: Lun::default(),
                task: TaskTag(tag),
                transfer: TransferTag::NONE,
                exp_cmd_sn: session.exp_cmd_sn,
                max_cmd_sn: session.max_cmd_sn(),
                data_sn: DataSn(count),
                offset: offset as u32,
                data_len: len as u32,
            };
            self.send(session.conn, pdu.emit(), &data[offset..offset + len], 0);
            if burst_left == 0 {
                burst_left = burst_max;
            }
            offset += len;
            count += 1;
        }
        count
    }

    fn nop_out(&mut self, session: &mut Session, nop: NopOut, data: &[u8]) -> Result<(), Ending> {
        match (nop.task, nop.transfer) {
            (TaskTag::NONE, TransferTag::NONE) if nop.immediate => Ok(()),
            (TaskTag::NONE, transfer) => {
                let Some(at) = session.pings.iter().position(|ping| *ping == transfer) else {
                    return Err(Ending::Violation("answer to a ping that nobody sent"));
                };
                if !nop.immediate {
                    return Err(Ending::Violation("answer to a ping without the I bit"));
                }
                session.pings.remove(at);
                self.counters.pongs += 1;
                Ok(())
            }
            (_, TransferTag::NONE) => {
                session.numbered(nop.immediate, nop.cmd_sn)?;
                let limit = session.terms.max_send_data_segment_length as usize;
                let echo = &data[..data.len().min(limit)];
                let answer = NopIn {
                    lun: Lun::default(),
                    task: nop.task,
                    transfer: TransferTag::NONE,
                    numbers: self.numbers(session, true),
                    data_len: echo.len() as u32,
                };
                self.send(session.conn, answer.emit(), echo, 0);
                Ok(())
            }
            _ => Err(Ending::Violation("NOP-Out that both answers and asks")),
        }
    }

    /// Pings the initiator of a session; `tag_zero` with the tag that FreeBSD CTL uses.
    pub fn ping(&mut self, now: Instant, nexus: Nexus, tag_zero: bool) {
        let Some(mut session) = self.sessions.remove(&nexus) else {
            return;
        };
        let transfer = if tag_zero {
            TransferTag(0)
        } else {
            TransferTag(0x7069_6e67)
        };
        let nop = NopIn {
            lun: Lun::default(),
            task: TaskTag::NONE,
            transfer,
            numbers: self.numbers(&session, false),
            data_len: 0,
        };
        session.pings.push(transfer);
        self.send(session.conn, nop.emit(), &[], 0);
        if let Some(conn) = self.conns.get_mut(&session.conn) {
            conn.pinged = Some(now);
        }
        self.sessions.insert(nexus, session);
    }

    /// Sends an Async Message to every session. `sense` belongs to [`AsyncEvent::Scsi`].
    pub fn announce(&mut self, event: AsyncEvent, lun: Lun, sense: Option<Code>) {
        let nexuses: Vec<Nexus> = self.sessions.keys().copied().collect();
        for nexus in nexuses {
            let Some(session) = self.sessions.remove(&nexus) else {
                continue;
            };
            let mut segment = Vec::new();
            if let Some(code) = sense {
                let sense = code.encode(Format::Fixed, false, None);
                segment.extend((sense.len() as u16).to_be_bytes());
                segment.extend(sense);
            }
            let message = AsyncMessage {
                lun,
                numbers: self.numbers(&session, true),
                event,
                data_len: segment.len() as u32,
            };
            self.send(session.conn, message.emit(), &segment, 0);
            self.sessions.insert(nexus, session);
        }
    }

    fn reject(&mut self, session: &Session, reason: RejectReason, pdu: &Pdu) {
        let reject = Reject {
            reason,
            numbers: self.numbers(session, true),
            data_len: 48,
        };
        self.send(session.conn, reject.emit(), &pdu.bhs.0, 0);
    }

    fn text_request(
        &mut self,
        session: &mut Session,
        request: TextRequest,
        data: &[u8],
    ) -> Result<(), Ending> {
        session.numbered(request.immediate, request.cmd_sn)?;
        let mut rest = match (session.text.take(), request.transfer) {
            (_, TransferTag::NONE) => {
                if request.continued || !request.last {
                    return Err(Ending::Violation("continued text request"));
                }
                text::answer(&self.config, data, session.discovery)
                    .ok_or(Ending::Violation("malformed text"))?
            }
            (Some((transfer, rest)), asked) if transfer == asked && data.is_empty() => rest,
            _ => {
                return Err(Ending::Violation(
                    "text request with an unknown transfer tag",
                ));
            }
        };
        let limit = self
            .config
            .text_max
            .min(session.terms.max_send_data_segment_length as usize);
        let tail = rest.split_off(rest.len().min(limit));
        let last = tail.is_empty();
        let transfer = if last {
            TransferTag::NONE
        } else {
            TransferTag(0x7465_7874)
        };
        if !last {
            session.text = Some((transfer, tail));
        }
        let response = TextResponse {
            last,
            continued: !last,
            lun: Lun::default(),
            task: request.task,
            transfer,
            numbers: self.numbers(session, true),
            data_len: rest.len() as u32,
        };
        self.send(session.conn, response.emit(), &rest, 0);
        Ok(())
    }
}
