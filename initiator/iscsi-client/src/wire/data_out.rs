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

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::*;
    use proptest::prelude::*;

    const DATA: DataOut = DataOut {
        last: true,
        lun: LUN,
        task: TaskTag(0x1111_1111),
        transfer: TransferTag(0x7777_7777),
        exp_stat_sn: StatSn(0xeeee_eeee),
        data_sn: DataSn(0xdddd_dddd),
        offset: 0x0f0f_0f0f,
        data_len: 0xff_fffe,
    };

    #[test]
    fn vector() {
        #[rustfmt::skip]
        let bhs = header([
            0x0580_0000, 0x00ff_fffe, 0x4041_4243, 0x4445_4647, 0x1111_1111, 0x7777_7777, 0,
            0xeeee_eeee, 0, 0xdddd_dddd, 0x0f0f_0f0f, 0,
        ]);
        assert_eq!(DATA.emit(), bhs);
        assert_eq!(DataOut::parse(&bhs), Ok(DATA));
    }

    proptest! {
        #[test]
        fn round_trip(last: bool, lun in lun(), words: [u32; 5], data_len in data_len()) {
            let data = DataOut {
                last,
                lun,
                task: TaskTag(words[0]),
                transfer: TransferTag(words[1]),
                exp_stat_sn: StatSn(words[2]),
                data_sn: DataSn(words[3]),
                offset: words[4],
                data_len,
            };
            prop_assert_eq!(DataOut::parse(&data.emit()), Ok(data));
        }
    }
}
