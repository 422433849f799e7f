//! Text Request and Text Response (RFC 7143, 11.10 and 11.11).

use super::{Bhs, CmdSn, Lun, Malformed, Opcode, StatSn, TargetNumbers, TaskTag, TransferTag};

/// Keys from us, outside the login.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TextRequest {
    /// Outside the CmdSN order.
    pub immediate: bool,
    /// F bit: our text is complete.
    pub last: bool,
    /// C bit: the text goes on in the next PDU.
    pub continued: bool,
    /// Copied from the response that is continued.
    pub lun: Lun,
    /// One tag for the whole exchange.
    pub task: TaskTag,
    /// Copied from the response that is continued, else [`TransferTag::NONE`].
    pub transfer: TransferTag,
    /// Place in the command order.
    pub cmd_sn: CmdSn,
    /// Acknowledges all responses below.
    pub exp_stat_sn: StatSn,
    /// Length of the text, in bytes.
    pub data_len: u32,
}

impl TextRequest {
    /// Reads a header.
    pub fn parse(bhs: &Bhs) -> Result<Self, Malformed> {
        bhs.expect(Opcode::TextRequest);
        let request = Self {
            immediate: bhs.is_immediate(),
            last: bhs.u8(1) & 0x80 != 0,
            continued: bhs.u8(1) & 0x40 != 0,
            lun: Lun(bhs.array(8)),
            task: TaskTag(bhs.u32(16)),
            transfer: TransferTag(bhs.u32(20)),
            cmd_sn: CmdSn(bhs.u32(24)),
            exp_stat_sn: StatSn(bhs.u32(28)),
            data_len: bhs.data_len() as u32,
        };
        if request.last && request.continued {
            return Err(Malformed("Text Request both final and continued"));
        }
        Ok(request)
    }

    /// Writes the header.
    pub fn emit(&self) -> Bhs {
        let mut bhs = Bhs::new(Opcode::TextRequest);
        if self.immediate {
            bhs.set_immediate();
        }
        bhs.put_u8(1, flags(self.last, self.continued));
        bhs.set_data_len(self.data_len as usize);
        bhs.put(8, &self.lun.0);
        bhs.put_u32(16, self.task.0);
        bhs.put_u32(20, self.transfer.0);
        bhs.put_u32(24, self.cmd_sn.0);
        bhs.put_u32(28, self.exp_stat_sn.0);
        bhs
    }
}

/// Keys from the target, outside the login.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TextResponse {
    /// F bit: the exchange is over.
    pub last: bool,
    /// C bit: the text goes on in the next PDU.
    pub continued: bool,
    /// To be copied into the next request.
    pub lun: Lun,
    /// Our tag.
    pub task: TaskTag,
    /// To be copied into the next request; [`TransferTag::NONE`] only with `last`.
    pub transfer: TransferTag,
    /// Counters.
    pub numbers: TargetNumbers,
    /// Length of the text, in bytes.
    pub data_len: u32,
}

impl TextResponse {
    /// Reads a header.
    pub fn parse(bhs: &Bhs) -> Result<Self, Malformed> {
        bhs.expect(Opcode::TextResponse);
        let response = Self {
            last: bhs.u8(1) & 0x80 != 0,
            continued: bhs.u8(1) & 0x40 != 0,
            lun: Lun(bhs.array(8)),
            task: TaskTag(bhs.u32(16)),
            transfer: TransferTag(bhs.u32(20)),
            numbers: TargetNumbers::parse(bhs),
            data_len: bhs.data_len() as u32,
        };
        if response.last && response.continued {
            return Err(Malformed("Text Response both final and continued"));
        }
        if !response.last && response.transfer == TransferTag::NONE {
            return Err(Malformed(
                "Text Response that goes on without a transfer tag",
            ));
        }
        Ok(response)
    }

    /// Writes the header.
    pub fn emit(&self) -> Bhs {
        let mut bhs = Bhs::new(Opcode::TextResponse);
        bhs.put_u8(1, flags(self.last, self.continued));
        bhs.set_data_len(self.data_len as usize);
        bhs.put(8, &self.lun.0);
        bhs.put_u32(16, self.task.0);
        bhs.put_u32(20, self.transfer.0);
        self.numbers.emit(&mut bhs);
        bhs
    }
}

fn flags(last: bool, continued: bool) -> u8 {
    (if last { 0x80 } else { 0 }) | (if continued { 0x40 } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::*;
    use proptest::prelude::*;

    const REQUEST: TextRequest = TextRequest {
        immediate: true,
        last: true,
        continued: false,
        lun: LUN,
        task: TaskTag(0x1111_1111),
        transfer: TransferTag::NONE,
        cmd_sn: CmdSn(0xcccc_cccc),
        exp_stat_sn: StatSn(0xeeee_eeee),
        data_len: 16,
    };
    const RESPONSE: TextResponse = TextResponse {
        last: false,
        continued: true,
        lun: LUN,
        task: TaskTag(0x1111_1111),
        transfer: TransferTag(0x7777_7777),
        numbers: NUMBERS,
        data_len: 8192,
    };

    #[test]
    fn vectors() {
        #[rustfmt::skip]
        let request = header([
            0x4480_0000, 16, 0x4041_4243, 0x4445_4647, 0x1111_1111, 0xffff_ffff, 0xcccc_cccc,
            0xeeee_eeee, 0, 0, 0, 0,
        ]);
        assert_eq!(REQUEST.emit(), request);
        assert_eq!(TextRequest::parse(&request), Ok(REQUEST));
        #[rustfmt::skip]
        let response = header([
            0x2440_0000, 8192, 0x4041_4243, 0x4445_4647, 0x1111_1111, 0x7777_7777, 0x5151_5151,
            0xecec_ecec, 0x3c3c_3c3c, 0, 0, 0,
        ]);
        assert_eq!(RESPONSE.emit(), response);
        assert_eq!(TextResponse::parse(&response), Ok(RESPONSE));
    }

    #[test]
    fn illegal() {
        let request = TextRequest {
            continued: true,
            ..REQUEST
        };
        assert_eq!(
            TextRequest::parse(&request.emit()),
            Err(Malformed("Text Request both final and continued"))
        );
        let response = TextResponse {
            last: true,
            ..RESPONSE
        };
        assert_eq!(
            TextResponse::parse(&response.emit()),
            Err(Malformed("Text Response both final and continued"))
        );
        let response = TextResponse {
            transfer: TransferTag::NONE,
            ..RESPONSE
        };
        assert_eq!(
            TextResponse::parse(&response.emit()),
            Err(Malformed(
                "Text Response that goes on without a transfer tag"
            ))
        );
    }

    proptest! {
        #[test]
        fn round_trip(
            immediate: bool, flags in prop_oneof![Just((true, false)), Just((false, true)), Just((false, false))],
            lun in lun(), task: u32, transfer in 0..u32::MAX, counters: [u32; 2], numbers in numbers(),
            data_len in data_len(),
        ) {
            let (last, continued) = flags;
            let request = TextRequest {
                immediate,
                last,
                continued,
                lun,
                task: TaskTag(task),
                transfer: TransferTag(transfer),
                cmd_sn: CmdSn(counters[0]),
                exp_stat_sn: StatSn(counters[1]),
                data_len,
            };
            prop_assert_eq!(TextRequest::parse(&request.emit()), Ok(request));
            let response = TextResponse {
                last,
                continued,
                lun,
                task: TaskTag(task),
                transfer: if last { TransferTag::NONE } else { TransferTag(transfer) },
                numbers,
                data_len,
            };
            prop_assert_eq!(TextResponse::parse(&response.emit()), Ok(response));
        }
    }
}
