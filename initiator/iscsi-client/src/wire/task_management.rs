//! Task Management Function Request and Response (RFC 7143, 11.5 and 11.6; RFC 7144, section 6).

use super::{Bhs, CmdSn, Lun, Malformed, Opcode, StatSn, TargetNumbers, TaskTag};

/// Functions that this initiator may ask for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TaskManagementFunction {
    /// 1: one task of this nexus.
    AbortTask,
    /// 2: all tasks of this nexus on the logical unit.
    AbortTaskSet,
    /// 5: all tasks of all nexuses that the target already holds for the logical unit.
    LogicalUnitReset,
}

/// We ask the target to end tasks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskManagementRequest {
    /// Outside the CmdSN order.
    pub immediate: bool,
    /// What to do.
    pub function: TaskManagementFunction,
    /// Addressed logical unit.
    pub lun: Lun,
    /// Our tag for this request.
    pub task: TaskTag,
    /// The task to abort, else [`TaskTag::NONE`].
    pub referenced: TaskTag,
    /// Place in the command order.
    pub cmd_sn: CmdSn,
    /// Acknowledges all responses below.
    pub exp_stat_sn: StatSn,
    /// CmdSN of the task to abort.
    pub ref_cmd_sn: CmdSn,
}

impl TaskManagementRequest {
    /// Reads a header.
    pub fn parse(bhs: &Bhs) -> Result<Self, Malformed> {
        bhs.expect(Opcode::TaskManagementRequest);
        Ok(Self {
            immediate: bhs.is_immediate(),
            function: match bhs.u8(1) & 0x7f {
                1 => TaskManagementFunction::AbortTask,
                2 => TaskManagementFunction::AbortTaskSet,
                5 => TaskManagementFunction::LogicalUnitReset,
                _ => return Err(Malformed("task management function")),
            },
            lun: Lun(bhs.array(8)),
            task: TaskTag(bhs.u32(16)),
            referenced: TaskTag(bhs.u32(20)),
            cmd_sn: CmdSn(bhs.u32(24)),
            exp_stat_sn: StatSn(bhs.u32(28)),
            ref_cmd_sn: CmdSn(bhs.u32(32)),
        })
    }

    /// Writes the header.
    pub fn emit(&self) -> Bhs {
        let mut bhs = Bhs::new(Opcode::TaskManagementRequest);
        if self.immediate {
            bhs.set_immediate();
        }
        let function = match self.function {
            TaskManagementFunction::AbortTask => 1,
            TaskManagementFunction::AbortTaskSet => 2,
            TaskManagementFunction::LogicalUnitReset => 5,
        };
        bhs.put_u8(1, 0x80 | function);
        bhs.put(8, &self.lun.0);
        bhs.put_u32(16, self.task.0);
        bhs.put_u32(20, self.referenced.0);
        bhs.put_u32(24, self.cmd_sn.0);
        bhs.put_u32(28, self.exp_stat_sn.0);
        bhs.put_u32(32, self.ref_cmd_sn.0);
        bhs
    }
}

/// The target's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskManagementResponse {
    /// 0 complete, 1 no such task, 2 no such LUN, 5 unsupported, 6 not authorised, 255 rejected.
    pub response: u8,
    /// Our tag.
    pub task: TaskTag,
    /// Counters.
    pub numbers: TargetNumbers,
}

impl TaskManagementResponse {
    /// Reads a header.
    pub fn parse(bhs: &Bhs) -> Result<Self, Malformed> {
        bhs.expect(Opcode::TaskManagementResponse);
        Ok(Self {
            response: bhs.u8(2),
            task: TaskTag(bhs.u32(16)),
            numbers: TargetNumbers::parse(bhs),
        })
    }

    /// Writes the header.
    pub fn emit(&self) -> Bhs {
        let mut bhs = Bhs::new(Opcode::TaskManagementResponse);
        bhs.put_u8(1, 0x80);
        bhs.put_u8(2, self.response);
        bhs.put_u32(16, self.task.0);
        self.numbers.emit(&mut bhs);
        bhs
    }
}
