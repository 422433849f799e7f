//! Ready To Transfer (RFC 7143, 11.8).

use core::num::NonZeroU32;

use super::{Bhs, DataSn, Lun, Malformed, Opcode, TargetNumbers, TaskTag, TransferTag};

/// The target asks for a range of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct R2t {
    /// To be copied into the Data-Out PDUs.
    pub lun: Lun,
    /// Our name for the task.
    pub task: TaskTag,
    /// To be copied into the Data-Out PDUs; never [`TransferTag::NONE`].
    pub transfer: TransferTag,
    /// Counters. The StatSN is the next one, not consumed.
    pub numbers: TargetNumbers,
    /// Counts the R2Ts of the command from 0.
    pub r2t_sn: DataSn,
    /// First byte wanted.
    pub offset: u32,
    /// Number of bytes wanted, at most MaxBurstLength.
    pub len: NonZeroU32,
}

impl R2t {
    /// Reads a header.
    pub fn parse(bhs: &Bhs) -> Result<Self, Malformed> {
        bhs.expect(Opcode::R2t);
        let transfer = TransferTag(bhs.u32(20));
        if transfer == TransferTag::NONE {
            return Err(Malformed("R2T without a transfer tag"));
        }
        if bhs.data_len() != 0 {
            return Err(Malformed("R2T with data"));
        }
        Ok(Self {
            lun: Lun(bhs.array(8)),
            task: TaskTag(bhs.u32(16)),
            transfer,
            numbers: TargetNumbers::parse(bhs),
            r2t_sn: DataSn(bhs.u32(36)),
            offset: bhs.u32(40),
            // Zero is illegal here, so that nothing downstream has to ask again.
            len: NonZeroU32::new(bhs.u32(44)).ok_or(Malformed("R2T for nothing"))?,
        })
    }

    /// Writes the header.
    pub fn emit(&self) -> Bhs {
        let mut bhs = Bhs::new(Opcode::R2t);
        bhs.put_u8(1, 0x80);
        bhs.put(8, &self.lun.0);
        bhs.put_u32(16, self.task.0);
        bhs.put_u32(20, self.transfer.0);
        self.numbers.emit(&mut bhs);
        bhs.put_u32(36, self.r2t_sn.0);
        bhs.put_u32(40, self.offset);
        bhs.put_u32(44, self.len.get());
        bhs
    }
}
