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

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::*;
    use proptest::prelude::*;

    const REQUEST: TaskManagementRequest = TaskManagementRequest {
        immediate: true,
        function: TaskManagementFunction::AbortTask,
        lun: LUN,
        task: TaskTag(0x1111_1111),
        referenced: TaskTag(0x2222_2222),
        cmd_sn: CmdSn(0xcccc_cccc),
        exp_stat_sn: StatSn(0xeeee_eeee),
        ref_cmd_sn: CmdSn(0x4444_4444),
    };
    const RESPONSE: TaskManagementResponse = TaskManagementResponse {
        response: 5,
        task: TaskTag(0x1111_1111),
        numbers: NUMBERS,
    };

    #[test]
    fn vectors() {
        #[rustfmt::skip]
        let request = header([
            0x4281_0000, 0, 0x4041_4243, 0x4445_4647, 0x1111_1111, 0x2222_2222, 0xcccc_cccc,
            0xeeee_eeee, 0x4444_4444, 0, 0, 0,
        ]);
        assert_eq!(REQUEST.emit(), request);
        assert_eq!(TaskManagementRequest::parse(&request), Ok(REQUEST));
        #[rustfmt::skip]
        let response = header([
            0x2280_0500, 0, 0, 0, 0x1111_1111, 0, 0x5151_5151, 0xecec_ecec, 0x3c3c_3c3c, 0, 0, 0,
        ]);
        assert_eq!(RESPONSE.emit(), response);
        assert_eq!(TaskManagementResponse::parse(&response), Ok(RESPONSE));
    }

    #[test]
    fn functions() {
        let function = |byte| {
            let mut bhs = REQUEST.emit();
            bhs.put_u8(1, byte);
            TaskManagementRequest::parse(&bhs).map(|it| it.function)
        };
        assert_eq!(function(0x81), Ok(TaskManagementFunction::AbortTask));
        assert_eq!(function(0x82), Ok(TaskManagementFunction::AbortTaskSet));
        assert_eq!(function(0x85), Ok(TaskManagementFunction::LogicalUnitReset));
        assert_eq!(function(0x88), Err(Malformed("task management function")));
    }

    proptest! {
        #[test]
        fn round_trip(
            immediate: bool, function in 0_usize..3, lun in lun(), words: [u32; 5], response: u8,
            numbers in numbers(),
        ) {
            let request = TaskManagementRequest {
                immediate,
                function: [
                    TaskManagementFunction::AbortTask,
                    TaskManagementFunction::AbortTaskSet,
                    TaskManagementFunction::LogicalUnitReset,
                ][function],
                lun,
                task: TaskTag(words[0]),
                referenced: TaskTag(words[1]),
                cmd_sn: CmdSn(words[2]),
                exp_stat_sn: StatSn(words[3]),
                ref_cmd_sn: CmdSn(words[4]),
            };
            prop_assert_eq!(TaskManagementRequest::parse(&request.emit()), Ok(request));
            let response = TaskManagementResponse { response, task: TaskTag(words[0]), numbers };
            prop_assert_eq!(TaskManagementResponse::parse(&response.emit()), Ok(response));
        }
    }
}
