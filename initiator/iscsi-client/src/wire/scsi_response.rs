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
