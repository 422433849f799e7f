//! NOP-Out and NOP-In (RFC 7143, 11.18 and 11.19).

use super::{Bhs, CmdSn, Lun, Malformed, Opcode, StatSn, TargetNumbers, TaskTag, TransferTag};

/// Our ping, our answer to a ping, or a bare acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NopOut {
    /// Outside the CmdSN order.
    pub immediate: bool,
    /// Copied from the NOP-In that is answered.
    pub lun: Lun,
    /// A ping's tag; [`TaskTag::NONE`] in answers and acknowledgements.
    pub task: TaskTag,
    /// Copied from the NOP-In that is answered; [`TransferTag::NONE`] in pings.
    pub transfer: TransferTag,
    /// Place in the command order.
    pub cmd_sn: CmdSn,
    /// Acknowledges all responses below.
    pub exp_stat_sn: StatSn,
    /// Length of the ping data, in bytes.
    pub data_len: u32,
}

impl NopOut {
    /// Reads a header.
    pub fn parse(bhs: &Bhs) -> Result<Self, Malformed> {
        bhs.expect(Opcode::NopOut);
        Ok(Self {
            immediate: bhs.is_immediate(),
            lun: Lun(bhs.array(8)),
            task: TaskTag(bhs.u32(16)),
            transfer: TransferTag(bhs.u32(20)),
            cmd_sn: CmdSn(bhs.u32(24)),
            exp_stat_sn: StatSn(bhs.u32(28)),
            data_len: bhs.data_len() as u32,
        })
    }

    /// Writes the header.
    pub fn emit(&self) -> Bhs {
        let mut bhs = Bhs::new(Opcode::NopOut);
        if self.immediate {
            bhs.set_immediate();
        }
        bhs.put_u8(1, 0x80);
        bhs.set_data_len(self.data_len as usize);
        bhs.put(8, &self.lun.0);
        bhs.put_u32(16, self.task.0);
        bhs.put_u32(20, self.transfer.0);
        bhs.put_u32(24, self.cmd_sn.0);
        bhs.put_u32(28, self.exp_stat_sn.0);
        bhs
    }
}

/// The target's ping, its answer to ours, or a bare window update.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NopIn {
    /// To be copied into the answer.
    pub lun: Lun,
    /// Tag of our ping, or [`TaskTag::NONE`].
    pub task: TaskTag,
    /// Asks for an answer unless [`TransferTag::NONE`]; 0 is a legal tag and does occur.
    pub transfer: TransferTag,
    /// Counters. The StatSN is consumed only by an answer to our ping.
    pub numbers: TargetNumbers,
    /// Length of the echoed data, in bytes.
    pub data_len: u32,
}

impl NopIn {
    /// Reads a header.
    pub fn parse(bhs: &Bhs) -> Result<Self, Malformed> {
        bhs.expect(Opcode::NopIn);
        let nop = Self {
            lun: Lun(bhs.array(8)),
            task: TaskTag(bhs.u32(16)),
            transfer: TransferTag(bhs.u32(20)),
            numbers: TargetNumbers::parse(bhs),
            data_len: bhs.data_len() as u32,
        };
        if nop.task != TaskTag::NONE && nop.transfer != TransferTag::NONE {
            return Err(Malformed("NOP-In that both answers and asks"));
        }
        Ok(nop)
    }

    /// Writes the header.
    pub fn emit(&self) -> Bhs {
        let mut bhs = Bhs::new(Opcode::NopIn);
        bhs.put_u8(1, 0x80);
        bhs.set_data_len(self.data_len as usize);
        bhs.put(8, &self.lun.0);
        bhs.put_u32(16, self.task.0);
        bhs.put_u32(20, self.transfer.0);
        self.numbers.emit(&mut bhs);
        bhs
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::*;
    use proptest::prelude::*;

    const OUT: NopOut = NopOut {
        immediate: true,
        lun: LUN,
        task: TaskTag::NONE,
        transfer: TransferTag(0x7777_7777),
        cmd_sn: CmdSn(0xcccc_cccc),
        exp_stat_sn: StatSn(0xeeee_eeee),
        data_len: 0x01_0203,
    };
    const IN: NopIn = NopIn {
        lun: LUN,
        task: TaskTag::NONE,
        transfer: TransferTag(0),
        numbers: NUMBERS,
        data_len: 5,
    };

    #[test]
    fn vectors() {
        #[rustfmt::skip]
        let out = header([
            0x4080_0000, 0x0001_0203, 0x4041_4243, 0x4445_4647, 0xffff_ffff, 0x7777_7777,
            0xcccc_cccc, 0xeeee_eeee, 0, 0, 0, 0,
        ]);
        assert_eq!(OUT.emit(), out);
        assert_eq!(NopOut::parse(&out), Ok(OUT));
        #[rustfmt::skip]
        let in_ = header([
            0x2080_0000, 5, 0x4041_4243, 0x4445_4647, 0xffff_ffff, 0,
            0x5151_5151, 0xecec_ecec, 0x3c3c_3c3c, 0, 0, 0,
        ]);
        assert_eq!(IN.emit(), in_);
        assert_eq!(NopIn::parse(&in_), Ok(IN));
    }

    #[test]
    fn an_answer_that_asks() {
        let both = NopIn {
            task: TaskTag(1),
            ..IN
        };
        assert_eq!(
            NopIn::parse(&both.emit()),
            Err(Malformed("NOP-In that both answers and asks"))
        );
    }

    proptest! {
        #[test]
        fn round_trip(
            immediate: bool, lun in lun(), task: u32, transfer: u32, counters: [u32; 2],
            numbers in numbers(), data_len in data_len(), answers: bool,
        ) {
            let out = NopOut {
                immediate,
                lun,
                task: TaskTag(task),
                transfer: TransferTag(transfer),
                cmd_sn: CmdSn(counters[0]),
                exp_stat_sn: StatSn(counters[1]),
                data_len,
            };
            prop_assert_eq!(NopOut::parse(&out.emit()), Ok(out));
            let (task, transfer) = if answers {
                (TaskTag(task), TransferTag::NONE)
            } else {
                (TaskTag::NONE, TransferTag(transfer))
            };
            let in_ = NopIn { lun, task, transfer, numbers, data_len };
            prop_assert_eq!(NopIn::parse(&in_.emit()), Ok(in_));
        }
    }
}
