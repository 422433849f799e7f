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

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::*;
    use proptest::prelude::*;

    const R2T: R2t = R2t {
        lun: LUN,
        task: TaskTag(0x1111_1111),
        transfer: TransferTag(0),
        numbers: NUMBERS,
        r2t_sn: DataSn(0xdddd_dddd),
        offset: 0x0f0f_0f0f,
        len: NonZeroU32::new(0x0004_0000).unwrap(),
    };

    #[test]
    fn vector() {
        #[rustfmt::skip]
        let bhs = header([
            0x3180_0000, 0, 0x4041_4243, 0x4445_4647, 0x1111_1111, 0, 0x5151_5151, 0xecec_ecec,
            0x3c3c_3c3c, 0xdddd_dddd, 0x0f0f_0f0f, 0x0004_0000,
        ]);
        assert_eq!(R2T.emit(), bhs);
        assert_eq!(R2t::parse(&bhs), Ok(R2T));
    }

    #[test]
    fn illegal() {
        let no_tag = R2t {
            transfer: TransferTag::NONE,
            ..R2T
        };
        assert_eq!(
            R2t::parse(&no_tag.emit()),
            Err(Malformed("R2T without a transfer tag"))
        );
        let mut data = R2T.emit();
        data.set_data_len(1);
        assert_eq!(R2t::parse(&data), Err(Malformed("R2T with data")));
        let mut nothing = R2T.emit();
        nothing.put_u32(44, 0);
        assert_eq!(R2t::parse(&nothing), Err(Malformed("R2T for nothing")));
    }

    proptest! {
        #[test]
        fn round_trip(lun in lun(), words: [u32; 4], transfer in 0..u32::MAX, numbers in numbers()) {
            let r2t = R2t {
                lun,
                task: TaskTag(words[0]),
                transfer: TransferTag(transfer),
                numbers,
                r2t_sn: DataSn(words[1]),
                offset: words[2],
                len: NonZeroU32::new(words[3]).unwrap_or(NonZeroU32::MIN),
            };
            prop_assert_eq!(R2t::parse(&r2t.emit()), Ok(r2t));
        }
    }
}
