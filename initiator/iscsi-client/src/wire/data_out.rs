//! SCSI Data-Out (RFC 7143, 11.7).

use super::{Bhs, DataSn, Lun, Malformed, Opcode, StatSn, TaskTag, TransferTag};

/// A stretch of a write's data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataOut {
    /// Ends a burst.
    pub last: bool,
    /// Copied from the R2T; the command's LUN where unsolicited.
    pub lun: Lun,
    /// Our name for the task.
    pub task: TaskTag,
    /// Copied from the R2T; [`TransferTag::NONE`] where unsolicited.
    pub transfer: TransferTag,
    /// Acknowledges all responses below.
    pub exp_stat_sn: StatSn,
    /// Counts from 0 in the unsolicited burst and in the answer to each R2T.
    pub data_sn: DataSn,
    /// Where the data belong in the write, in bytes.
    pub offset: u32,
    /// Length of the data, in bytes.
    pub data_len: u32,
}

impl DataOut {
    /// Reads a header.
    pub fn parse(bhs: &Bhs) -> Result<Self, Malformed> {
        bhs.expect(Opcode::DataOut);
        Ok(Self {
            last: bhs.u8(1) & 0x80 != 0,
            lun: Lun(bhs.array(8)),
            task: TaskTag(bhs.u32(16)),
            transfer: TransferTag(bhs.u32(20)),
            exp_stat_sn: StatSn(bhs.u32(28)),
            data_sn: DataSn(bhs.u32(36)),
            offset: bhs.u32(40),
            data_len: bhs.data_len() as u32,
        })
    }

    /// Writes the header.
    pub fn emit(&self) -> Bhs {
        let mut bhs = Bhs::new(Opcode::DataOut);
        bhs.put_u8(1, if self.last { 0x80 } else { 0 });
        bhs.set_data_len(self.data_len as usize);
        bhs.put(8, &self.lun.0);
        bhs.put_u32(16, self.task.0);
        bhs.put_u32(20, self.transfer.0);
        bhs.put_u32(28, self.exp_stat_sn.0);
        bhs.put_u32(36, self.data_sn.0);
        bhs.put_u32(40, self.offset);
        bhs
    }
}
