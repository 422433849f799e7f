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
