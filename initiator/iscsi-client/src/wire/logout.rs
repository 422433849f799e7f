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

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::*;
    use proptest::prelude::*;

    const REQUEST: LogoutRequest = LogoutRequest {
        immediate: true,
        reason: LogoutReason::CloseConnection,
        task: TaskTag(0x1111_1111),
        cid: 0x0c1d,
        cmd_sn: CmdSn(0xcccc_cccc),
        exp_stat_sn: StatSn(0xeeee_eeee),
    };
    const RESPONSE: LogoutResponse = LogoutResponse {
        response: 3,
        task: TaskTag(0x1111_1111),
        numbers: NUMBERS,
        time2wait: 0x0102,
        time2retain: 0x0304,
    };

    #[test]
    fn vectors() {
        #[rustfmt::skip]
        let request = header([
            0x4681_0000, 0, 0, 0, 0x1111_1111, 0x0c1d_0000, 0xcccc_cccc, 0xeeee_eeee, 0, 0, 0, 0,
        ]);
        assert_eq!(REQUEST.emit(), request);
        assert_eq!(LogoutRequest::parse(&request), Ok(REQUEST));
        #[rustfmt::skip]
        let response = header([
            0x2680_0300, 0, 0, 0, 0x1111_1111, 0, 0x5151_5151, 0xecec_ecec, 0x3c3c_3c3c, 0,
            0x0102_0304, 0,
        ]);
        assert_eq!(RESPONSE.emit(), response);
        assert_eq!(LogoutResponse::parse(&response), Ok(RESPONSE));
    }

    #[test]
    fn reasons() {
        let reason = |byte| {
            let mut bhs = REQUEST.emit();
            bhs.put_u8(1, byte);
            LogoutRequest::parse(&bhs).map(|it| it.reason)
        };
        assert_eq!(reason(0x80), Ok(LogoutReason::CloseSession));
        assert_eq!(reason(0x81), Ok(LogoutReason::CloseConnection));
        assert_eq!(reason(0x82), Err(Malformed("logout reason")));
    }

    proptest! {
        #[test]
        fn round_trip(
            immediate: bool, session: bool, words: [u32; 3], cid: u16, response: u8,
            numbers in numbers(), times: [u16; 2],
        ) {
            let request = LogoutRequest {
                immediate,
                reason: if session { LogoutReason::CloseSession } else { LogoutReason::CloseConnection },
                task: TaskTag(words[0]),
                cid,
                cmd_sn: CmdSn(words[1]),
                exp_stat_sn: StatSn(words[2]),
            };
            prop_assert_eq!(LogoutRequest::parse(&request.emit()), Ok(request));
            let response = LogoutResponse {
                response,
                task: TaskTag(words[0]),
                numbers,
                time2wait: times[0],
                time2retain: times[1],
            };
            prop_assert_eq!(LogoutResponse::parse(&response.emit()), Ok(response));
        }
    }
}
