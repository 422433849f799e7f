//! CDBs as the target reads them (SPC-5, SBC-4): a closed set of operations, anything else is refused.

use super::sense::Code;

/// What a CDB asks for. Lengths in blocks unless said otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    TestUnitReady,
    RequestSense {
        descriptor: bool,
    },
    Inquiry {
        page: Option<u8>,
        len: u32,
    },
    ModeSense10 {
        page: u8,
        len: u32,
    },
    ReadCapacity16 {
        len: u32,
    },
    GetLbaStatus {
        lba: u64,
        len: u32,
    },
    Read {
        lba: u64,
        blocks: u32,
    },
    Write {
        lba: u64,
        blocks: u32,
        fua: bool,
    },
    Synchronize {
        lba: u64,
        blocks: u32,
    },
    Unmap {
        len: u32,
    },
    WriteSame {
        lba: u64,
        blocks: u32,
        unmap: bool,
        no_data: bool,
    },
    CompareAndWrite {
        lba: u64,
        blocks: u32,
        fua: bool,
    },
    ReportLuns {
        len: u32,
    },
    ReportTargetPortGroups {
        extended: bool,
        len: u32,
    },
    SetTargetPortGroups {
        len: u32,
    },
}

impl Operation {
    pub(super) fn decode(cdb: &[u8; 16]) -> Result<Operation, Code> {
        let u16 = |at: usize| u32::from(u16::from_be_bytes([cdb[at], cdb[at + 1]]));
        let u32 = |at: usize| u32::from_be_bytes([cdb[at], cdb[at + 1], cdb[at + 2], cdb[at + 3]]);
        let u64 = |at: usize| (u64::from(u32(at)) << 32) | u64::from(u32(at + 4));
        let fua = cdb[1] & 0x08 != 0;
        Ok(match cdb[0] {
            0x00 => Operation::TestUnitReady,
            0x03 => Operation::RequestSense {
                descriptor: cdb[1] & 1 != 0,
            },
            0x12 => Operation::Inquiry {
                page: (cdb[1] & 1 != 0).then_some(cdb[2]),
                len: u16(3),
            },
            0x5a => Operation::ModeSense10 {
                page: cdb[2] & 0x3f,
                len: u16(7),
            },
            0x9e => match cdb[1] & 0x1f {
                0x10 => Operation::ReadCapacity16 { len: u32(10) },
                0x12 => Operation::GetLbaStatus {
                    lba: u64(2),
                    len: u32(10),
                },
                _ => return Err(Code::INVALID_FIELD),
            },
            // Protection information is not supported: RDPROTECT and WRPROTECT must be 0.
            0x28 | 0x2a | 0x88 | 0x8a if cdb[1] & 0xe0 != 0 => return Err(Code::INVALID_FIELD),
            0x28 => Operation::Read {
                lba: u64::from(u32(2)),
                blocks: u16(7),
            },
            0x88 => Operation::Read {
                lba: u64(2),
                blocks: u32(10),
            },
            0x2a => Operation::Write {
                lba: u64::from(u32(2)),
                blocks: u16(7),
                fua,
            },
            0x8a => Operation::Write {
                lba: u64(2),
                blocks: u32(10),
                fua,
            },
            0x35 => Operation::Synchronize {
                lba: u64::from(u32(2)),
                blocks: u16(7),
            },
            0x91 => Operation::Synchronize {
                lba: u64(2),
                blocks: u32(10),
            },
            0x42 => Operation::Unmap { len: u16(7) },
            0x41 => Operation::WriteSame {
                lba: u64::from(u32(2)),
                blocks: u16(7),
                unmap: cdb[1] & 0x08 != 0,
                no_data: false,
            },
            0x93 => Operation::WriteSame {
                lba: u64(2),
                blocks: u32(10),
                unmap: cdb[1] & 0x08 != 0,
                no_data: cdb[1] & 0x01 != 0,
            },
            0x89 => Operation::CompareAndWrite {
                lba: u64(2),
                blocks: u32::from(cdb[13]),
                fua,
            },
            0xa0 => Operation::ReportLuns { len: u32(6) },
            0xa3 if cdb[1] & 0x1f == 0x0a => Operation::ReportTargetPortGroups {
                extended: cdb[1] >> 5 == 1,
                len: u32(6),
            },
            0xa4 if cdb[1] & 0x1f == 0x0a => Operation::SetTargetPortGroups { len: u32(6) },
            _ => return Err(Code::INVALID_OPCODE),
        })
    }

    /// Bytes the command wants from the initiator.
    pub(super) fn data_out_len(self, block_size: u32) -> u64 {
        let block_size = u64::from(block_size);
        match self {
            Operation::Write { blocks, .. } => u64::from(blocks) * block_size,
            Operation::CompareAndWrite { blocks, .. } => 2 * u64::from(blocks) * block_size,
            Operation::WriteSame { no_data: false, .. } => block_size,
            Operation::Unmap { len } => u64::from(len),
            Operation::SetTargetPortGroups { len } => u64::from(len),
            _ => 0,
        }
    }

    /// Whether it is answered while a unit attention is pending (SAM-5, 5.14).
    pub(super) fn passes_unit_attention(self) -> bool {
        matches!(
            self,
            Operation::Inquiry { .. }
                | Operation::ReportLuns { .. }
                | Operation::RequestSense { .. }
        )
    }

    /// Whether it works in a target port group that gives no access to the medium.
    pub(super) fn works_without_access(self) -> bool {
        self.passes_unit_attention()
            || matches!(
                self,
                Operation::ReportTargetPortGroups { .. } | Operation::SetTargetPortGroups { .. }
            )
    }

    /// Whether it changes the medium.
    pub(super) fn changes_medium(self) -> bool {
        matches!(
            self,
            Operation::Write { .. }
                | Operation::WriteSame { .. }
                | Operation::Unmap { .. }
                | Operation::CompareAndWrite { .. }
        )
    }
}
