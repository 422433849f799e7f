//! What leaves, and in which order (RFC 7143, 4.2.2, 4.2.5 and 11.7).
//!
//! 1. immediate requests: answers to pings, pings, task management, logout;
//! 2. Data-Out that R2Ts asked for, in the order the R2Ts arrived;
//! 3. the rest of the newest command's unsolicited data, before any other command;
//! 4. text requests and commands, each taking the next CmdSN as it is put into the send.
//!
//! A send is filled until nothing is owed or [`Outgoing`] is full; a burst goes on in the next send. Every
//! PDU carries the current ExpStatSN.

use std::collections::VecDeque;

use crate::memory::{BufferId, Memory};
use crate::outgoing::Outgoing;
use crate::time::Instant;
use crate::wire::digest::{DIGEST_LEN, Digest, digest};
use crate::wire::{
    BHS_LEN, Bhs, CmdSn, DataOut, DataSn, LogoutReason, LogoutRequest, Lun, NopOut, ScsiCommand,
    TaskManagementRequest, TaskTag, TextRequest, TransferTag, padding,
};

use super::tasks::{DataPhase, Phase, Task, expected_data};
use super::text::TextTurn;
use super::{FullFeature, Leaving, State, Transfer};

/// An immediate request that waits to leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Immediate {
    /// Answers a target's ping.
    PingAnswer { lun: Lun, transfer: TransferTag },
    /// Only acknowledges.
    Acknowledgement { lun: Lun },
    /// A ping.
    Ping(TaskTag),
    /// A task management function.
    Management(TaskTag),
    /// The logout.
    Logout(TaskTag),
}

/// A request to repeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Repeat {
    /// An immediate request.
    Immediate(Immediate),
    /// A text request.
    Text(TaskTag, TextTurn),
}

/// A run of Data-Out that is owed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Burst {
    pub(super) task: TaskTag,
    pub(super) lun: Lun,
    /// [`TransferTag::NONE`] for unsolicited data.
    pub(super) transfer: TransferTag,
    pub(super) data_sn: DataSn,
    /// Next byte of the write.
    pub(super) offset: u32,
    /// First byte of the write that is not owed.
    pub(super) end: u32,
}

/// Everything that waits to leave.
#[derive(Debug)]
pub(super) struct Outbox {
    /// A PDU that leaves by copy, over several sends if it must: a login or text request.
    pub(super) copied: CopiedPdu,
    pub(super) immediates: VecDeque<Immediate>,
    /// What the target told us to repeat later, oldest first.
    pub(super) deferred: VecDeque<(Instant, Repeat)>,
    pub(super) text: Option<(TaskTag, TextTurn)>,
    pub(super) bursts: VecDeque<Burst>,
    pub(super) unsolicited: Option<Burst>,
    pub(super) commands: VecDeque<TaskTag>,
}

/// A serialised PDU and how much of it has left.
#[derive(Debug, Default)]
pub(super) struct CopiedPdu {
    bytes: Vec<u8>,
    left: usize,
}

impl CopiedPdu {
    /// Takes a PDU, data and digests included.
    pub(super) fn set(&mut self, mut bhs: Bhs, data: &[u8], digests: Digests) {
        debug_assert!(self.is_empty(), "one PDU at a time");
        bhs.set_data_len(data.len());
        self.bytes.clear();
        self.left = 0;
        self.bytes.extend_from_slice(&bhs.0);
        if digests.header {
            self.bytes.extend_from_slice(&digest(&bhs.0, 0));
        }
        let pad = padding(data.len());
        self.bytes.extend_from_slice(data);
        self.bytes.extend_from_slice(&[0; 3][..pad]);
        if digests.data && !data.is_empty() {
            self.bytes.extend_from_slice(&digest(data, pad));
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.left == self.bytes.len()
    }

    /// Hands out what fits; true if all of it has left.
    pub(super) fn flush(&mut self, out: &mut Outgoing<'_>) -> bool {
        let rest = &self.bytes[self.left..];
        let now = rest.len().min(out.head_room());
        if now > 0 {
            out.push_head(&rest[..now]);
            self.left += now;
        }
        self.is_empty()
    }
}

/// Which digests are on.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Digests {
    pub(super) header: bool,
    pub(super) data: bool,
}

impl Outbox {
    /// An empty outbox that holds `commands` commands, each asked for `r2ts` bursts, without allocating
    /// (up to a bound that only unusual settings pass).
    pub(super) fn new(commands: usize, r2ts: u16) -> Outbox {
        Outbox {
            copied: CopiedPdu::default(),
            immediates: VecDeque::with_capacity(IMMEDIATES_MAX),
            deferred: VecDeque::new(),
            text: None,
            bursts: VecDeque::with_capacity((commands * usize::from(r2ts)).min(BURSTS_CAPACITY)),
            unsolicited: None,
            commands: VecDeque::with_capacity(commands),
        }
    }

    /// Requests that wait for a CmdSN.
    pub(super) fn numbered(&self) -> u32 {
        self.commands.len() as u32 + u32::from(self.text.is_some())
    }

    /// Queues what the target wanted repeated later and whose time has come.
    pub(super) fn repeat(&mut self, now: Instant) {
        while let Some((at, repeat)) = self.deferred.front().copied()
            && at <= now
        {
            self.deferred.pop_front();
            match repeat {
                Repeat::Immediate(immediate) => self.immediates.push_back(immediate),
                Repeat::Text(task, turn) => self.text = Some((task, turn)),
            }
        }
    }

    /// Forgets the data of a task that ended before all of it left.
    pub(super) fn forget_data(&mut self, task: TaskTag) {
        self.bursts.retain(|burst| burst.task != task);
        if self.unsolicited.is_some_and(|burst| burst.task == task) {
            self.unsolicited = None;
        }
    }
}

impl State {
    /// Fills a send.
    pub(super) fn transmit(&mut self, memory: &dyn Memory, out: &mut Outgoing<'_>) {
        match self {
            State::LoggingIn(login) => {
                login.request.flush(out);
            }
            State::FullFeature(session) => session.transmit(memory, out),
            State::Closed(_) => {}
        }
    }
}

impl FullFeature {
    fn transmit(&mut self, memory: &dyn Memory, out: &mut Outgoing<'_>) {
        // A PDU that was begun must end before another begins.
        if !self.outbox.copied.flush(out) {
            return;
        }
        let all = self.transmit_immediates(out)
            && self.transmit_bursts(memory, out)
            && self.transmit_unsolicited(memory, out)
            && self.transmit_text(out)
            && self.transmit_commands(memory, out);
        if all {
            self.transmit_logout_when_idle(out);
        }
        if !out.is_empty() {
            self.keepalive.acknowledged();
        }
    }

    fn transmit_immediates(&mut self, out: &mut Outgoing<'_>) -> bool {
        while let Some(immediate) = self.outbox.immediates.front().copied() {
            if !out.fits(PDU_HEAD_MAX, 0) {
                return false;
            }
            self.outbox.immediates.pop_front();
            if let Some(bhs) = self.immediate_header(immediate) {
                push_header(out, bhs, self.digests);
            }
        }
        true
    }

    /// The header of an immediate; `None` if the task has ended meanwhile.
    fn immediate_header(&mut self, immediate: Immediate) -> Option<Bhs> {
        let cmd_sn = self.window.current();
        let exp_stat_sn = self.exp_stat_sn;
        let nop = |task, transfer, lun| NopOut {
            immediate: true,
            lun,
            task,
            transfer,
            cmd_sn,
            exp_stat_sn,
            data_len: 0,
        };
        Some(match immediate {
            Immediate::PingAnswer { lun, transfer } => nop(TaskTag::NONE, transfer, lun).emit(),
            Immediate::Acknowledgement { lun } => nop(TaskTag::NONE, TransferTag::NONE, lun).emit(),
            Immediate::Ping(task) => {
                self.tasks.find(task)?;
                nop(task, TransferTag::NONE, Lun::default()).emit()
            }
            Immediate::Management(task) => {
                let Task::Management(management) = self.tasks.find(task)? else {
                    unreachable!("a management tag names a management task");
                };
                management.cmd_sn.get_or_insert(cmd_sn);
                let (referenced, ref_cmd_sn) =
                    management.abort.unwrap_or((TaskTag::NONE, CmdSn(0)));
                TaskManagementRequest {
                    immediate: true,
                    function: management.function,
                    lun: management.lun,
                    task,
                    referenced,
                    cmd_sn,
                    exp_stat_sn,
                    ref_cmd_sn,
                }
                .emit()
            }
            Immediate::Logout(task) => LogoutRequest {
                immediate: true,
                reason: LogoutReason::CloseSession,
                task,
                cid: 0,
                cmd_sn,
                exp_stat_sn,
            }
            .emit(),
        })
    }

    fn transmit_bursts(&mut self, memory: &dyn Memory, out: &mut Outgoing<'_>) -> bool {
        while let Some(mut burst) = self.outbox.bursts.front().copied() {
            if !self.transmit_burst(&mut burst, memory, out) {
                self.outbox.bursts[0] = burst;
                return false;
            }
            self.outbox.bursts.pop_front();
            let (_, data) = self
                .tasks
                .sent(burst.task)
                .expect("bursts end with their task");
            let DataPhase::Out { live, .. } = data else {
                unreachable!("only writes are asked for data");
            };
            *live -= 1;
        }
        true
    }

    fn transmit_unsolicited(&mut self, memory: &dyn Memory, out: &mut Outgoing<'_>) -> bool {
        if let Some(mut burst) = self.outbox.unsolicited {
            if !self.transmit_burst(&mut burst, memory, out) {
                self.outbox.unsolicited = Some(burst);
                return false;
            }
            self.outbox.unsolicited = None;
        }
        true
    }

    /// Sends as much of a burst as fits; true if it is complete.
    fn transmit_burst(
        &mut self,
        burst: &mut Burst,
        memory: &dyn Memory,
        out: &mut Outgoing<'_>,
    ) -> bool {
        let (command, _) = self
            .tasks
            .sent(burst.task)
            .expect("bursts end with their task");
        let Transfer::Write {
            buffer,
            offset: base,
            ..
        } = command.transfer
        else {
            unreachable!("only writes owe data");
        };
        while burst.offset < burst.end {
            let len = (burst.end - burst.offset).min(self.segment_max);
            if !out.fits(PDU_HEAD_MAX, len as usize) {
                return false;
            }
            let bhs = DataOut {
                last: burst.offset + len == burst.end,
                lun: burst.lun,
                task: burst.task,
                transfer: burst.transfer,
                exp_stat_sn: self.exp_stat_sn,
                data_sn: burst.data_sn,
                offset: burst.offset,
                data_len: len,
            }
            .emit();
            push_header(out, bhs, self.digests);
            push_payload(out, buffer, base + burst.offset, len, self.digests, memory);
            burst.data_sn = burst.data_sn.next();
            burst.offset += len;
        }
        true
    }

    fn transmit_text(&mut self, out: &mut Outgoing<'_>) -> bool {
        let Some((task, turn)) = self.outbox.text else {
            return true;
        };
        if self.window.room() == 0 {
            return true;
        }
        self.outbox.text = None;
        if self.tasks.find(task).is_none() {
            return true;
        }
        let (lun, transfer) = match turn {
            TextTurn::Opening => (Lun::default(), TransferTag::NONE),
            TextTurn::Continuation { lun, transfer } => (lun, transfer),
        };
        let bhs = TextRequest {
            immediate: false,
            last: true,
            continued: false,
            lun,
            task,
            transfer,
            cmd_sn: self.window.take(),
            exp_stat_sn: self.exp_stat_sn,
            data_len: 0,
        }
        .emit();
        let text = if turn == TextTurn::Opening {
            &self.text.request[..]
        } else {
            &[]
        };
        self.outbox.copied.set(bhs, text, self.digests);
        self.outbox.copied.flush(out)
    }

    fn transmit_commands(&mut self, memory: &dyn Memory, out: &mut Outgoing<'_>) -> bool {
        if self.leaving != Leaving::No {
            return true;
        }
        while let Some(task) = self.outbox.commands.front().copied() {
            if self.window.room() == 0 {
                return true;
            }
            if !self.transmit_command(task, memory, out) {
                return false;
            }
            self.outbox.commands.pop_front();
            if !self.transmit_unsolicited(memory, out) {
                return false;
            }
        }
        true
    }

    /// The logout ends every task of the session, so it waits for the commands that were sent.
    fn transmit_logout_when_idle(&mut self, out: &mut Outgoing<'_>) {
        let sent = self.tasks.commands() - self.outbox.commands.len() as u32;
        if self.leaving == Leaving::WhenIdle && sent == 0 {
            self.request_logout();
            self.transmit_immediates(out);
        }
    }

    /// Queues the logout itself.
    pub(super) fn request_logout(&mut self) {
        self.leaving = Leaving::Requested;
        if let Some(task) = self.tasks.insert_single(Task::Logout) {
            self.outbox.immediates.push_back(Immediate::Logout(task));
        }
    }

    fn transmit_command(
        &mut self,
        task: TaskTag,
        memory: &dyn Memory,
        out: &mut Outgoing<'_>,
    ) -> bool {
        let entry = self
            .tasks
            .command(task)
            .expect("queued commands are in the table");
        let command = entry.command;
        let (read, write, expected_len) = match command.transfer {
            Transfer::None => (false, false, 0),
            Transfer::Read { len, .. } => (len > 0, false, len),
            Transfer::Write { len, .. } => (false, len > 0, len),
        };
        let unasked = if write {
            self.unasked.split(expected_len)
        } else {
            Unasked::NOTHING
        };
        if !out.fits(PDU_HEAD_MAX, unasked.immediate as usize) {
            return false;
        }
        let cmd_sn = self.window.take();
        entry.phase = Phase::Sent {
            cmd_sn,
            data: expected_data(command.transfer),
        };
        let bhs = ScsiCommand {
            immediate: false,
            last: unasked.burst_end == unasked.immediate,
            read,
            write,
            attribute: command.attribute,
            lun: command.lun,
            task,
            expected_len,
            cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
            cdb: command.cdb.0,
            data_len: unasked.immediate,
        }
        .emit();
        push_header(out, bhs, self.digests);
        if let (Transfer::Write { buffer, offset, .. }, 1..) = (command.transfer, unasked.immediate)
        {
            push_payload(out, buffer, offset, unasked.immediate, self.digests, memory);
        }
        if unasked.burst_end > unasked.immediate {
            self.outbox.unsolicited = Some(Burst {
                task,
                lun: command.lun,
                transfer: TransferTag::NONE,
                data_sn: DataSn(0),
                offset: unasked.immediate,
                end: unasked.burst_end,
            });
        }
        true
    }
}

/// How much of a write may leave without being asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct UnaskedLimits {
    /// Most immediate data; 0 if not agreed on.
    immediate_max: u32,
    /// FirstBurstLength, if unsolicited Data-Out was agreed on.
    burst_max: Option<u32>,
}

/// A write's unasked part: immediate data, then Data-Out up to `burst_end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Unasked {
    immediate: u32,
    burst_end: u32,
}

impl Unasked {
    const NOTHING: Unasked = Unasked {
        immediate: 0,
        burst_end: 0,
    };
}

impl UnaskedLimits {
    pub(super) fn new(
        immediate_data: bool,
        initial_r2t: bool,
        first_burst: u32,
        segment_max: u32,
    ) -> UnaskedLimits {
        UnaskedLimits {
            immediate_max: if immediate_data {
                first_burst.min(segment_max)
            } else {
                0
            },
            burst_max: (!initial_r2t).then_some(first_burst),
        }
    }

    /// Splits a write of `len` bytes. If any unsolicited Data-Out follows, the unasked total must be exactly
    /// min(FirstBurstLength, len); immediate data alone may be less.
    fn split(self, len: u32) -> Unasked {
        let immediate = len.min(self.immediate_max);
        let burst_end = self.burst_max.map_or(immediate, |max| len.min(max));
        Unasked {
            immediate,
            burst_end,
        }
    }
}

/// The longest Data-Out or immediate data that we send: what the target takes, bounded so that a ping or a
/// small command never waits for a huge PDU, and cut to whole pages or sectors so that no PDU but a burst's
/// last needs padding.
pub(super) fn segment_max(target_max: u32) -> u32 {
    match target_max.clamp(SEGMENT_MIN, SEGMENT_MAX) {
        max @ 4096.. => max & !4095,
        max => max & !511,
    }
}

fn push_header(out: &mut Outgoing<'_>, bhs: Bhs, digests: Digests) {
    out.push_head(&bhs.0);
    if digests.header {
        out.push_head(&digest(&bhs.0, 0));
    }
}

fn push_payload(
    out: &mut Outgoing<'_>,
    buffer: BufferId,
    offset: u32,
    len: u32,
    digests: Digests,
    memory: &dyn Memory,
) {
    out.push_payload(buffer, offset, len);
    let pad = padding(len as usize);
    let mut tail = [0; 3 + DIGEST_LEN];
    let mut tail_len = pad;
    if digests.data {
        let sum = Digest::default()
            .update(memory.read(buffer, offset, len))
            .finish(pad);
        tail[pad..pad + DIGEST_LEN].copy_from_slice(&sum);
        tail_len += DIGEST_LEN;
    }
    if tail_len > 0 {
        out.push_head(&tail[..tail_len]);
    }
}

/// Header, its digest, padding, data digest.
const PDU_HEAD_MAX: usize = BHS_LEN + DIGEST_LEN + 3 + DIGEST_LEN;
/// The smallest MaxRecvDataSegmentLength that a login can agree on.
const SEGMENT_MIN: u32 = 512;
const SEGMENT_MAX: u32 = 256 * 1024;
const BURSTS_CAPACITY: usize = 4096;
/// A target that pings so often without letting us answer does not mean it.
pub(super) const IMMEDIATES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unasked_data_follows_the_table() {
        let split = |immediate, initial_r2t, first_burst, segment, len| {
            let unasked =
                UnaskedLimits::new(immediate, initial_r2t, first_burst, segment).split(len);
            (unasked.immediate, unasked.burst_end)
        };
        // InitialR2T=Yes: immediate data or nothing.
        assert_eq!(split(true, true, 65536, 8192, 100_000), (8192, 8192));
        assert_eq!(split(true, true, 4096, 8192, 100_000), (4096, 4096));
        assert_eq!(split(true, true, 65536, 8192, 512), (512, 512));
        assert_eq!(split(false, true, 65536, 8192, 512), (0, 0));
        // InitialR2T=No: together exactly min(FirstBurst, length).
        assert_eq!(split(true, false, 65536, 8192, 100_000), (8192, 65536));
        assert_eq!(split(true, false, 65536, 8192, 10_000), (8192, 10_000));
        assert_eq!(split(true, false, 65536, 8192, 4096), (4096, 4096));
        assert_eq!(split(false, false, 65536, 8192, 100_000), (0, 65536));
    }

    #[test]
    fn segments_are_whole_pages_or_sectors() {
        assert_eq!(segment_max(8192), 8192);
        assert_eq!(segment_max(10_000), 8192);
        assert_eq!(segment_max(1025), 1024);
        assert_eq!(segment_max(512), 512);
        assert_eq!(segment_max(0xff_ffff), 256 * 1024);
    }
}
