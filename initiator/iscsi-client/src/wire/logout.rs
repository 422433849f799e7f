//! Logout Request and Logout Response (RFC 7143, 11.14 and 11.15).

use super::{Bhs, CmdSn, Malformed, Opcode, StatSn, TargetNumbers, TaskTag};

/// Why we log out. Removal for recovery (2) needs ERL 2 and is not used.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LogoutReason {
    /// 0: the session and all its tasks end.
    CloseSession,
    /// 1: the connection ends.
    CloseConnection,
}

/// We want to leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogoutRequest {
    /// Outside the CmdSN order.
    pub immediate: bool,
    /// What ends.
    pub reason: LogoutReason,
    /// Our tag.
    pub task: TaskTag,
    /// The connection that ends, with [`LogoutReason::CloseConnection`].
    pub cid: u16,
    /// Place in the command order.
    pub cmd_sn: CmdSn,
    /// Acknowledges all responses below.
    pub exp_stat_sn: StatSn,
}

impl LogoutRequest {
    /// Reads a header.
    pub fn parse(bhs: &Bhs) -> Result<Self, Malformed> {
        bhs.expect(Opcode::LogoutRequest);
        Ok(Self {
            immediate: bhs.is_immediate(),
            reason: match bhs.u8(1) & 0x7f {
                0 => LogoutReason::CloseSession,
                1 => LogoutReason::CloseConnection,
                _ => return Err(Malformed("logout reason")),
            },
            task: TaskTag(bhs.u32(16)),
            cid: bhs.u16(20),
            cmd_sn: CmdSn(bhs.u32(24)),
            exp_stat_sn: StatSn(bhs.u32(28)),
        })
    }

    /// Writes the header.
    pub fn emit(&self) -> Bhs {
        let mut bhs = Bhs::new(Opcode::LogoutRequest);
        if self.immediate {
            bhs.set_immediate();
        }
        let reason = match self.reason {
            LogoutReason::CloseSession => 0,
            LogoutReason::CloseConnection => 1,
        };
        bhs.put_u8(1, 0x80 | reason);
        bhs.put_u32(16, self.task.0);
        bhs.put_u16(20, self.cid);
        bhs.put_u32(24, self.cmd_sn.0);
        bhs.put_u32(28, self.exp_stat_sn.0);
        bhs
    }
}

/// The target lets us go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogoutResponse {
    /// 0 done, 1 CID unknown, 2 recovery unsupported, 3 cleanup failed.
    pub response: u8,
    /// Our tag.
    pub task: TaskTag,
    /// Counters.
    pub numbers: TargetNumbers,
    /// Seconds to wait before a reconnect, for responses 2 and 3.
    pub time2wait: u16,
    /// Seconds the target keeps state, for responses 2 and 3.
    pub time2retain: u16,
}

impl LogoutResponse {
    /// Reads a header.
    pub fn parse(bhs: &Bhs) -> Result<Self, Malformed> {
        bhs.expect(Opcode::LogoutResponse);
        Ok(Self {
            response: bhs.u8(2),
            task: TaskTag(bhs.u32(16)),
            numbers: TargetNumbers::parse(bhs),
            time2wait: bhs.u16(40),
            time2retain: bhs.u16(42),
        })
    }

    /// Writes the header.
    pub fn emit(&self) -> Bhs {
        let mut bhs = Bhs::new(Opcode::LogoutResponse);
        bhs.put_u8(1, 0x80);
        bhs.put_u8(2, self.response);
        bhs.put_u32(16, self.task.0);
        self.numbers.emit(&mut bhs);
        bhs.put_u16(40, self.time2wait);
        bhs.put_u16(42, self.time2retain);
        bhs
    }
}
