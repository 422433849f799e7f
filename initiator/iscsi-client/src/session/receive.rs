//! What arrives in full feature phase: one handler per PDU, and every check the RFC asks of an initiator
//! (RFC 7143, 4.2.2, 4.2.5, 7 and 11).
//!
//! At ERL 0 there is one remedy for a peer that breaks a rule: the session ends, and the reason names the
//! rule. The checks for Data-In run when its header is complete, before a byte of it is placed.

use core::time::Duration;
use std::collections::VecDeque;

use crate::mutant::{Mutant, lives};
use crate::scsi::{Sense, Status};
use crate::time::Instant;
use crate::wire::{
    AsyncEvent, AsyncMessage, BHS_LEN, Bhs, CmdSn, DataIn, LogoutResponse, Lun, NopIn, NopOut,
    Opcode, R2t, Reject, RejectReason, Residual, ScsiResponse, StatSn, TargetNumbers,
    TaskManagementFunction, TaskManagementResponse, TaskTag, TextRequest, TextResponse,
    TransferTag,
};

use super::framer::Place;
use super::tasks::{DataPhase, Management, Phase, Task};
use super::text::TextTurn;
use super::transmit::{Burst, IMMEDIATES_MAX, Immediate, Repeat};
use super::{Closed, Completion, Event, FullFeature, Transfer};

impl FullFeature {
    /// Says where the data of a PDU belong, or why they belong nowhere.
    pub(super) fn place(&mut self, bhs: &Bhs) -> Result<Place, Closed> {
        let len = bhs.data_len();
        if len > self.receive_max as usize {
            return Err(Closed::Protocol(
                "data longer than our MaxRecvDataSegmentLength",
            ));
        }
        match bhs.opcode() {
            Some(Opcode::DataIn) => self.place_data_in(&DataIn::parse(bhs)?),
            Some(Opcode::TextResponse) if len <= TEXT_MAX => Ok(Place::Control),
            _ if len <= CONTROL_MAX => Ok(Place::Control),
            _ => Err(Closed::Protocol("control data longer than 64 KiB")),
        }
    }

    fn place_data_in(&mut self, data_in: &DataIn) -> Result<Place, Closed> {
        let Some((command, phase)) = self.tasks.sent(data_in.task) else {
            return Err(Closed::Protocol("Data-In for an unknown task"));
        };
        let (
            Transfer::Read {
                buffer,
                offset,
                len,
            },
            DataPhase::In { next, received },
        ) = (command.transfer, phase)
        else {
            return Err(Closed::Protocol("Data-In for a task that reads nothing"));
        };
        if data_in.data_sn != *next {
            return Err(Closed::Protocol("DataSN out of sequence"));
        }
        if data_in.offset != *received {
            return Err(Closed::Protocol("Data-In offset out of order"));
        }
        if data_in.data_len > len - *received {
            return Err(Closed::Protocol("Data-In beyond the expected length"));
        }
        Ok(Place::Payload {
            buffer,
            offset: offset + *received,
        })
    }

    /// Acts on a complete PDU.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        bhs: &Bhs,
        data: &[u8],
        events: &mut VecDeque<Event>,
    ) -> Result<(), Closed> {
        match bhs.opcode() {
            Some(Opcode::DataIn) => self.data_in(now, &DataIn::parse(bhs)?, events),
            Some(Opcode::ScsiResponse) => {
                self.scsi_response(now, &ScsiResponse::parse(bhs)?, data, events)
            }
            Some(Opcode::R2t) => self.r2t(&R2t::parse(bhs)?),
            Some(Opcode::NopIn) => self.nop_in(now, &NopIn::parse(bhs)?, events),
            Some(Opcode::TaskManagementResponse) => {
                self.management_response(now, &TaskManagementResponse::parse(bhs)?, events)
            }
            Some(Opcode::TextResponse) => {
                self.text_response(now, &TextResponse::parse(bhs)?, data, events)
            }
            Some(Opcode::LogoutResponse) => self.logout_response(now, &LogoutResponse::parse(bhs)?),
            Some(Opcode::AsyncMessage) => {
                self.async_message(now, &AsyncMessage::parse(bhs)?, data, events)
            }
            Some(Opcode::Reject) => self.reject(now, &Reject::parse(bhs)?, data, events),
            Some(Opcode::LoginResponse) => {
                Err(Closed::Protocol("Login Response in full feature phase"))
            }
            _ => Err(Closed::Protocol("opcode that no target sends")),
        }
    }

    fn data_in(
        &mut self,
        now: Instant,
        data_in: &DataIn,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Closed> {
        self.window.update(data_in.exp_cmd_sn, data_in.max_cmd_sn);
        let Some((_, DataPhase::In { next, received })) = self.tasks.sent(data_in.task) else {
            unreachable!("checked when the header came, and no other PDU came since");
        };
        *next = next.next();
        *received += data_in.data_len;
        let Some(ending) = data_in.status else {
            return Ok(());
        };
        self.consume(now, ending.stat_sn)?;
        let status = Status::from_byte(ending.status);
        self.finish(data_in.task, status, None, ending.residual, events)
    }

    fn scsi_response(
        &mut self,
        now: Instant,
        response: &ScsiResponse,
        data: &[u8],
        events: &mut VecDeque<Event>,
    ) -> Result<(), Closed> {
        self.accept(now, response.numbers)?;
        let Some((_, phase)) = self.tasks.sent(response.task) else {
            return Err(Closed::Protocol("SCSI Response for an unknown task"));
        };
        if response.response != 0 {
            let status = Status::TargetFailure(response.response);
            return self.finish(response.task, status, None, Residual::None, events);
        }
        // LIO leaves ExpDataSN at 0 in every response. Data that is missing still shows in
        // `Completion::received`.
        if let DataPhase::In { next, .. } = phase
            && response.exp_data_sn != 0
            && response.exp_data_sn != next.0
        {
            return Err(Closed::Protocol(
                "ExpDataSN differs from the Data-In PDUs received",
            ));
        }
        let status = Status::from_byte(response.status);
        let sense = sense(data)?;
        if status == Status::CheckCondition && sense.is_none() {
            return Err(Closed::Protocol("CHECK CONDITION without sense"));
        }
        self.finish(response.task, status, sense, response.residual, events)
    }

    fn r2t(&mut self, r2t: &R2t) -> Result<(), Closed> {
        self.window
            .update(r2t.numbers.exp_cmd_sn, r2t.numbers.max_cmd_sn);
        let Some((command, phase)) = self.tasks.sent(r2t.task) else {
            return Err(Closed::Protocol("R2T for an unknown task"));
        };
        let (Transfer::Write { len, .. }, DataPhase::Out { next, live }) =
            (command.transfer, phase)
        else {
            return Err(Closed::Protocol("R2T for a task that writes nothing"));
        };
        if r2t.r2t_sn != *next {
            return Err(Closed::Protocol("R2TSN out of sequence"));
        }
        if r2t.len.get() > self.burst_max {
            return Err(Closed::Protocol("R2T longer than MaxBurstLength"));
        }
        if r2t.offset > len || r2t.len.get() > len - r2t.offset {
            return Err(Closed::Protocol("R2T outside the write"));
        }
        if *live >= self.r2ts_max {
            return Err(Closed::Protocol("more R2Ts at once than MaxOutstandingR2T"));
        }
        *next = next.next();
        if lives(Mutant::LostR2t) && r2t.r2t_sn.0 > 0 {
            return Ok(());
        }
        *live += 1;
        self.outbox.bursts.push_back(Burst {
            task: r2t.task,
            lun: r2t.lun,
            transfer: r2t.transfer,
            data_sn: Default::default(),
            offset: r2t.offset,
            end: r2t.offset + r2t.len.get(),
        });
        Ok(())
    }

    fn nop_in(
        &mut self,
        now: Instant,
        nop: &NopIn,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Closed> {
        if nop.task == TaskTag::NONE {
            self.window
                .update(nop.numbers.exp_cmd_sn, nop.numbers.max_cmd_sn);
            if nop.data_len > 0 {
                return Err(Closed::Protocol("ping from the target with data"));
            }
            if nop.transfer == TransferTag::NONE {
                return Ok(());
            }
            return self.queue(Immediate::PingAnswer {
                lun: nop.lun,
                transfer: nop.transfer,
            });
        }
        self.accept(now, nop.numbers)?;
        let Some(Task::Ping) = self.tasks.find(nop.task) else {
            return Err(Closed::Protocol("answer to a ping that was not sent"));
        };
        self.tasks.remove(nop.task);
        events.push_back(Event::Pong);
        Ok(())
    }

    fn management_response(
        &mut self,
        now: Instant,
        response: &TaskManagementResponse,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Closed> {
        self.accept(now, response.numbers)?;
        let Some(Task::Management(management)) = self.tasks.find(response.task) else {
            return Err(Closed::Protocol(
                "response to a task management function not asked for",
            ));
        };
        let management = *management;
        let Some(sent_with) = management.cmd_sn else {
            return Err(Closed::Protocol(
                "response to a task management function not yet sent",
            ));
        };
        self.tasks.remove(response.task);
        if response.response == FUNCTION_COMPLETE {
            self.conclude(&management, sent_with, events);
        }
        events.push_back(Event::Managed {
            handle: management.handle,
            response: response.response,
        });
        Ok(())
    }

    /// Ends the commands that a completed function ended: no response of theirs follows.
    fn conclude(
        &mut self,
        management: &Management,
        sent_with: CmdSn,
        events: &mut VecDeque<Event>,
    ) {
        let by_tag = match management.function {
            TaskManagementFunction::AbortTask => management.abort.map(|(tag, _)| tag),
            TaskManagementFunction::AbortTaskSet | TaskManagementFunction::LogicalUnitReset => None,
        };
        let ended: Vec<TaskTag> = self
            .tasks
            .commands_with_tags()
            .filter(|(tag, task)| match (by_tag, &task.phase) {
                (_, Phase::Queued) => false,
                (Some(aborted), Phase::Sent { .. }) => *tag == aborted,
                (None, Phase::Sent { cmd_sn, .. }) => {
                    task.command.lun == management.lun && cmd_sn.is_before(sent_with)
                }
            })
            .map(|(tag, _)| tag)
            .collect();
        self.abort_locally(&ended, events);
    }

    /// Completes commands that ended without a response of their own.
    pub(super) fn abort_locally(&mut self, tags: &[TaskTag], events: &mut VecDeque<Event>) {
        for tag in tags {
            self.outbox.forget_data(*tag);
            let Task::Command(task) = self.tasks.remove(*tag) else {
                unreachable!("only commands are aborted");
            };
            events.push_back(Event::Completed(task.completion(Status::TaskAborted)));
        }
    }

    fn text_response(
        &mut self,
        now: Instant,
        response: &TextResponse,
        data: &[u8],
        events: &mut VecDeque<Event>,
    ) -> Result<(), Closed> {
        self.accept(now, response.numbers)?;
        let (Some(Task::Text), None) = (self.tasks.find(response.task), self.outbox.text) else {
            return Err(Closed::Protocol("Text Response that was not asked for"));
        };
        match self.text.answer(response, data)? {
            Some(turn) => self.outbox.text = Some((response.task, turn)),
            None => {
                self.tasks.remove(response.task);
                events.push_back(Event::Text);
            }
        }
        Ok(())
    }

    fn logout_response(&mut self, now: Instant, response: &LogoutResponse) -> Result<(), Closed> {
        self.accept(now, response.numbers)?;
        let Some(Task::Logout) = self.tasks.find(response.task) else {
            return Err(Closed::Protocol("Logout Response that was not asked for"));
        };
        Err(match response.response {
            0 => Closed::LoggedOut,
            _ => Closed::DroppedByTarget {
                time2wait: response.time2wait,
            },
        })
    }

    fn async_message(
        &mut self,
        now: Instant,
        message: &AsyncMessage,
        data: &[u8],
        events: &mut VecDeque<Event>,
    ) -> Result<(), Closed> {
        self.accept(now, message.numbers)?;
        let sense = match message.event {
            AsyncEvent::Scsi => sense(data)?,
            _ => None,
        };
        if events.len() >= EVENTS_MAX {
            return Err(Closed::Protocol(
                "more Async Messages at once than anybody reads",
            ));
        }
        events.push_back(Event::Async(*message, sense));
        match message.event {
            AsyncEvent::ConnectionDrop { time2wait, .. }
            | AsyncEvent::SessionDrop { time2wait } => Err(Closed::DroppedByTarget { time2wait }),
            AsyncEvent::TasksTerminated => {
                self.end_tasks_of(message.lun, events);
                self.queue(Immediate::Acknowledgement { lun: message.lun })
            }
            AsyncEvent::Scsi
            | AsyncEvent::LogoutRequested { .. }
            | AsyncEvent::Renegotiate { .. }
            | AsyncEvent::Vendor { .. }
            | AsyncEvent::Unknown(_) => Ok(()),
        }
    }

    fn end_tasks_of(&mut self, lun: Lun, events: &mut VecDeque<Event>) {
        let ended: Vec<TaskTag> = self
            .tasks
            .commands_with_tags()
            .filter(|(_, task)| task.command.lun == lun && matches!(task.phase, Phase::Sent { .. }))
            .map(|(tag, _)| tag)
            .collect();
        self.abort_locally(&ended, events);
    }

    fn reject(
        &mut self,
        now: Instant,
        reject: &Reject,
        data: &[u8],
        events: &mut VecDeque<Event>,
    ) -> Result<(), Closed> {
        self.accept(now, reject.numbers)?;
        let Some(header) = data.first_chunk::<BHS_LEN>() else {
            return Err(Closed::Protocol("Reject without the rejected header"));
        };
        if reject.reason == RejectReason::WaitingForLogout {
            // Commands in flight may never be answered now, so the logout does not wait for them.
            self.request_logout();
            return Ok(());
        }
        let rejected = Bhs(*header);
        let tag = rejected_task(&rejected);
        if let Some(Task::Ping) = self.tasks.find(tag) {
            // Whoever rejects a ping is alive.
            self.tasks.remove(tag);
            events.push_back(Event::Pong);
            return Ok(());
        }
        let later = matches!(
            reject.reason,
            RejectReason::TooManyImmediateCommands | RejectReason::OutOfTransferTags
        );
        match self.repeat_of(&rejected, tag) {
            Some(repeat) if later && self.outbox.deferred.len() < IMMEDIATES_MAX => {
                self.outbox.deferred.push_back((now + REPEAT_AFTER, repeat));
                Ok(())
            }
            // A rejected SCSI Command is not repeated: the target may have taken it on nevertheless.
            _ => Err(Closed::Rejected(reject.reason)),
        }
    }

    /// What has to leave again to repeat a rejected PDU.
    fn repeat_of(&mut self, rejected: &Bhs, tag: TaskTag) -> Option<Repeat> {
        if rejected.opcode() == Some(Opcode::NopOut) {
            let nop = NopOut::parse(rejected).ok()?;
            return Some(Repeat::Immediate(match nop.transfer {
                TransferTag::NONE => Immediate::Acknowledgement { lun: nop.lun },
                transfer => Immediate::PingAnswer {
                    lun: nop.lun,
                    transfer,
                },
            }));
        }
        match self.tasks.find(tag)? {
            Task::Management(_) => Some(Repeat::Immediate(Immediate::Management(tag))),
            Task::Logout => Some(Repeat::Immediate(Immediate::Logout(tag))),
            Task::Text => {
                let request = TextRequest::parse(rejected).ok()?;
                let turn = match request.transfer {
                    TransferTag::NONE => TextTurn::Opening,
                    transfer => TextTurn::Continuation {
                        lun: request.lun,
                        transfer,
                    },
                };
                Some(Repeat::Text(tag, turn))
            }
            Task::Command(_) | Task::Ping | Task::Free => None,
        }
    }

    pub(super) fn queue(&mut self, immediate: Immediate) -> Result<(), Closed> {
        if self.outbox.immediates.len() >= IMMEDIATES_MAX {
            return Err(Closed::Protocol(
                "more pings from the target than we can answer",
            ));
        }
        self.outbox.immediates.push_back(immediate);
        Ok(())
    }

    /// Takes the counters of a PDU that consumes a StatSN.
    fn accept(&mut self, now: Instant, numbers: TargetNumbers) -> Result<(), Closed> {
        self.window.update(numbers.exp_cmd_sn, numbers.max_cmd_sn);
        self.consume(now, numbers.stat_sn)
    }

    fn consume(&mut self, now: Instant, stat_sn: StatSn) -> Result<(), Closed> {
        if stat_sn != self.exp_stat_sn {
            return Err(Closed::Protocol("StatSN out of sequence"));
        }
        self.exp_stat_sn = stat_sn.next();
        if lives(Mutant::ExpStatSnAhead) {
            self.exp_stat_sn = self.exp_stat_sn.next();
        }
        self.keepalive.owes_acknowledgement(now);
        Ok(())
    }

    /// Ends a command.
    fn finish(
        &mut self,
        tag: TaskTag,
        status: Status,
        sense: Option<Sense>,
        residual: Residual,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Closed> {
        let (command, _) = self.tasks.sent(tag).expect("the caller found it");
        let (expected, writes) = match command.transfer {
            Transfer::None => (0, false),
            Transfer::Read { len, .. } => (len, false),
            Transfer::Write { len, .. } => (len, true),
        };
        if let Residual::Underflow(missing) = residual
            && missing > expected
        {
            return Err(Closed::Protocol(
                "residual underflow longer than the command's data",
            ));
        }
        if writes {
            self.outbox.forget_data(tag);
        }
        let Task::Command(task) = self.tasks.remove(tag) else {
            unreachable!("only commands end with a status");
        };
        events.push_back(Event::Completed(Completion {
            sense,
            residual,
            ..task.completion(status)
        }));
        Ok(())
    }
}

/// The sense in a data segment that starts with its length.
fn sense(data: &[u8]) -> Result<Option<Sense>, Closed> {
    let Some((len, rest)) = data.split_first_chunk::<2>() else {
        return match data {
            [] => Ok(None),
            _ => Err(Closed::Protocol("sense length cut off")),
        };
    };
    let len = usize::from(u16::from_be_bytes(*len));
    match rest.get(..len) {
        Some(sense) => Ok(Sense::parse(sense)),
        None => Err(Closed::Protocol("sense longer than its data segment")),
    }
}

/// The Initiator Task Tag of a header of ours.
fn rejected_task(bhs: &Bhs) -> TaskTag {
    TaskTag(bhs.u32(16))
}

/// Response code of a task management function that did what was asked.
const FUNCTION_COMPLETE: u8 = 0;
const REPEAT_AFTER: Duration = Duration::from_millis(100);
/// Sense, rejected headers, login and ping data are far smaller.
const CONTROL_MAX: usize = 64 * 1024;
const TEXT_MAX: usize = 1 << 20;
/// Events are drained after each receive; only Async Messages can come without a request of ours.
const EVENTS_MAX: usize = 65_536;
