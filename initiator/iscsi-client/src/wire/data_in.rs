//! SCSI Data-In (RFC 7143, 11.7).

use super::{
    Bhs, CmdSn, DataSn, Lun, Malformed, Opcode, Residual, StatSn, TargetNumbers, TaskTag,
    TransferTag,
};

/// Its sense data have no place in a Data-In.
const CHECK_CONDITION: u8 = 0x02;

/// Status that rides in the last Data-In of a command, in place of a SCSI Response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataInStatus {
    /// SCSI status byte; never CHECK CONDITION, which needs a SCSI Response for its sense.
    pub status: u8,
    /// Number of this response.
    pub stat_sn: StatSn,
    /// Residual of the read.
    pub residual: Residual,
}

/// A stretch of a read's data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataIn {
    /// Ends a sequence (not the command).
    pub last: bool,
    /// The target asks for a data acknowledgement; ignored at ERL 0.
    pub acknowledge: bool,
    /// Present if the S bit is set.
    pub status: Option<DataInStatus>,
    /// Valid with `acknowledge`.
    pub lun: Lun,
    /// Our name for the task.
    pub task: TaskTag,
    /// Valid with `acknowledge`.
    pub transfer: TransferTag,
    /// The next CmdSN the target expects.
    pub exp_cmd_sn: CmdSn,
    /// The last CmdSN the target accepts now.
    pub max_cmd_sn: CmdSn,
    /// Counts the Data-In PDUs of the command from 0.
    pub data_sn: DataSn,
    /// Where the data belong in the read, in bytes.
    pub offset: u32,
    /// Length of the data, in bytes.
    pub data_len: u32,
}

impl DataIn {
    /// Reads a header.
    pub fn parse(bhs: &Bhs) -> Result<Self, Malformed> {
        bhs.expect(Opcode::DataIn);
        let flags = bhs.u8(1);
        let last = flags & 0x80 != 0;
        let status = if flags & 0x01 != 0 {
            if !last {
                return Err(Malformed("Data-In with status but without the F bit"));
            }
            if bhs.u8(3) == CHECK_CONDITION {
                return Err(Malformed("Data-In with CHECK CONDITION"));
            }
            Some(DataInStatus {
                status: bhs.u8(3),
                stat_sn: StatSn(bhs.u32(24)),
                residual: Residual::parse(flags, bhs.u32(44))?,
            })
        } else {
            None
        };
        Ok(Self {
            last,
            acknowledge: flags & 0x40 != 0,
            status,
            lun: Lun(bhs.array(8)),
            task: TaskTag(bhs.u32(16)),
            transfer: TransferTag(bhs.u32(20)),
            exp_cmd_sn: CmdSn(bhs.u32(28)),
            max_cmd_sn: CmdSn(bhs.u32(32)),
            data_sn: DataSn(bhs.u32(36)),
            offset: bhs.u32(40),
            data_len: bhs.data_len() as u32,
        })
    }

    /// Writes the header.
    pub fn emit(&self) -> Bhs {
        let mut bhs = Bhs::new(Opcode::DataIn);
        let mut flags = if self.last { 0x80 } else { 0 };
        flags |= if self.acknowledge { 0x40 } else { 0 };
        let mut stat_sn = StatSn(0);
        if let Some(status) = self.status {
            let (residual, count) = status.residual.emit();
            flags |= 0x01 | residual;
            stat_sn = status.stat_sn;
            bhs.put_u8(3, status.status);
            bhs.put_u32(44, count);
        }
        bhs.put_u8(1, flags);
        bhs.set_data_len(self.data_len as usize);
        bhs.put(8, &self.lun.0);
        bhs.put_u32(16, self.task.0);
        bhs.put_u32(20, self.transfer.0);
        let numbers = TargetNumbers {
            stat_sn,
            exp_cmd_sn: self.exp_cmd_sn,
            max_cmd_sn: self.max_cmd_sn,
        };
        numbers.emit(&mut bhs);
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

    const DATA: DataIn = DataIn {
        last: true,
        acknowledge: true,
        status: Some(DataInStatus {
            status: 0x00,
            stat_sn: StatSn(0x5151_5151),
            residual: Residual::Overflow(0x1234),
        }),
        lun: LUN,
        task: TaskTag(0x1111_1111),
        transfer: TransferTag(0x7777_7777),
        exp_cmd_sn: CmdSn(0xecec_ecec),
        max_cmd_sn: CmdSn(0x3c3c_3c3c),
        data_sn: DataSn(0xdddd_dddd),
        offset: 0x0f0f_0f0f,
        data_len: 512,
    };

    #[test]
    fn vectors() {
        #[rustfmt::skip]
        let bhs = header([
            0x25c5_0000, 512, 0x4041_4243, 0x4445_4647, 0x1111_1111, 0x7777_7777, 0x5151_5151,
            0xecec_ecec, 0x3c3c_3c3c, 0xdddd_dddd, 0x0f0f_0f0f, 0x1234,
        ]);
        assert_eq!(DATA.emit(), bhs);
        assert_eq!(DataIn::parse(&bhs), Ok(DATA));
        // Without the S bit, status, StatSN and residual count are reserved: whatever stands there says nothing.
        let mut plain = bhs;
        plain.put_u8(1, 0x80);
        plain.put_u8(3, 0x08);
        let expected = DataIn {
            acknowledge: false,
            status: None,
            ..DATA
        };
        assert_eq!(DataIn::parse(&plain), Ok(expected));
    }

    #[test]
    fn illegal_status() {
        let parsed = |flags, status| {
            let mut bhs = DATA.emit();
            bhs.put_u8(1, flags);
            bhs.put_u8(3, status);
            DataIn::parse(&bhs).map(|it| it.status.map(|it| it.residual))
        };
        assert_eq!(parsed(0x81, 0), Ok(Some(Residual::None)));
        assert_eq!(parsed(0x83, 0), Ok(Some(Residual::Underflow(0x1234))));
        assert_eq!(
            parsed(0x01, 0),
            Err(Malformed("Data-In with status but without the F bit"))
        );
        assert_eq!(
            parsed(0x87, 0),
            Err(Malformed("residual both over and under"))
        );
        assert_eq!(
            parsed(0x81, 2),
            Err(Malformed("Data-In with CHECK CONDITION"))
        );
    }

    proptest! {
        #[test]
        fn round_trip(
            last: bool, acknowledge: bool, status: Option<(u8, u32)>, kind in 0_u8..3, count: u32,
            lun in lun(), words: [u32; 6], data_len in data_len(),
        ) {
            let status = status.filter(|_| last).map(|(status, stat_sn)| DataInStatus {
                status: if status == CHECK_CONDITION { 0 } else { status },
                stat_sn: StatSn(stat_sn),
                residual: match kind {
                    0 => Residual::None,
                    1 => Residual::Underflow(count),
                    _ => Residual::Overflow(count),
                },
            });
            let data = DataIn {
                last,
                acknowledge,
                status,
                lun,
                task: TaskTag(words[0]),
                transfer: TransferTag(words[1]),
                exp_cmd_sn: CmdSn(words[2]),
                max_cmd_sn: CmdSn(words[3]),
                data_sn: DataSn(words[4]),
                offset: words[5],
                data_len,
            };
            prop_assert_eq!(DataIn::parse(&data.emit()), Ok(data));
        }
    }
}
