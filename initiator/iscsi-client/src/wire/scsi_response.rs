//! SCSI Response (RFC 7143, 11.4).

use super::{Bhs, Malformed, Opcode, TargetNumbers, TaskTag};

/// Difference between the bytes expected and the bytes moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Residual {
    /// Exactly what was expected.
    #[default]
    None,
    /// That many bytes fewer were moved.
    Underflow(u32),
    /// The command wanted that many bytes more than we offered.
    Overflow(u32),
}

impl Residual {
    /// `flags` holds O (04h) and U (02h); both at once is a protocol error.
    pub(crate) fn parse(flags: u8, count: u32) -> Result<Self, Malformed> {
        match (flags & 0x04 != 0, flags & 0x02 != 0) {
            (false, false) => Ok(Residual::None),
            (false, true) => Ok(Residual::Underflow(count)),
            (true, false) => Ok(Residual::Overflow(count)),
            (true, true) => Err(Malformed("residual both over and under")),
        }
    }

    pub(crate) fn emit(self) -> (u8, u32) {
        match self {
            Residual::None => (0, 0),
            Residual::Underflow(count) => (0x02, count),
            Residual::Overflow(count) => (0x04, count),
        }
    }
}

/// A command has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScsiResponse {
    /// 0: the command completed and `status` is valid; 1: target failure; 80h and up: vendor.
    pub response: u8,
    /// SCSI status byte, to be ignored unless `response` is 0.
    pub status: u8,
    /// Our name for the task.
    pub task: TaskTag,
    /// Counters.
    pub numbers: TargetNumbers,
    /// Data-In PDUs that the target sent for this command.
    pub exp_data_sn: u32,
    /// Residual of the command's one direction.
    pub residual: Residual,
    /// Length of the data segment: sense length (2), sense, response data.
    pub data_len: u32,
}

impl ScsiResponse {
    /// Reads a header.
    pub fn parse(bhs: &Bhs) -> Result<Self, Malformed> {
        bhs.expect(Opcode::ScsiResponse);
        Ok(Self {
            response: bhs.u8(2),
            status: bhs.u8(3),
            task: TaskTag(bhs.u32(16)),
            numbers: TargetNumbers::parse(bhs),
            exp_data_sn: bhs.u32(36),
            residual: Residual::parse(bhs.u8(1), bhs.u32(44))?,
            data_len: bhs.data_len() as u32,
        })
    }

    /// Writes the header.
    pub fn emit(&self) -> Bhs {
        let mut bhs = Bhs::new(Opcode::ScsiResponse);
        let (flags, count) = self.residual.emit();
        bhs.put_u8(1, 0x80 | flags);
        bhs.put_u8(2, self.response);
        bhs.put_u8(3, self.status);
        bhs.set_data_len(self.data_len as usize);
        bhs.put_u32(16, self.task.0);
        self.numbers.emit(&mut bhs);
        bhs.put_u32(36, self.exp_data_sn);
        bhs.put_u32(44, count);
        bhs
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::*;
    use proptest::prelude::*;

    const RESPONSE: ScsiResponse = ScsiResponse {
        response: 0x00,
        status: 0x02,
        task: TaskTag(0x1111_1111),
        numbers: NUMBERS,
        exp_data_sn: 0xdddd_dddd,
        residual: Residual::Underflow(0x0000_1234),
        data_len: 20,
    };

    #[test]
    fn vector() {
        #[rustfmt::skip]
        let bhs = header([
            0x2182_0002, 20, 0, 0, 0x1111_1111, 0, 0x5151_5151, 0xecec_ecec, 0x3c3c_3c3c,
            0xdddd_dddd, 0, 0x0000_1234,
        ]);
        assert_eq!(RESPONSE.emit(), bhs);
        assert_eq!(ScsiResponse::parse(&bhs), Ok(RESPONSE));
    }

    #[test]
    fn residuals() {
        let residual = |flags| {
            let mut bhs = RESPONSE.emit();
            bhs.put_u8(1, flags);
            ScsiResponse::parse(&bhs).map(|it| it.residual)
        };
        assert_eq!(residual(0x80), Ok(Residual::None));
        assert_eq!(residual(0x82), Ok(Residual::Underflow(0x1234)));
        assert_eq!(residual(0x84), Ok(Residual::Overflow(0x1234)));
        assert_eq!(
            residual(0x86),
            Err(Malformed("residual both over and under"))
        );
        // The bidirectional read residual is none of ours.
        assert_eq!(residual(0x98), Ok(Residual::None));
    }

    proptest! {
        #[test]
        fn round_trip(
            response: u8, status: u8, task: u32, numbers in numbers(), exp_data_sn: u32,
            kind in 0_u8..3, count: u32, data_len in data_len(),
        ) {
            let response = ScsiResponse {
                response,
                status,
                task: TaskTag(task),
                numbers,
                exp_data_sn,
                residual: match kind {
                    0 => Residual::None,
                    1 => Residual::Underflow(count),
                    _ => Residual::Overflow(count),
                },
                data_len,
            };
            prop_assert_eq!(ScsiResponse::parse(&response.emit()), Ok(response));
        }
    }
}
