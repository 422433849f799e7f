//! A target that breaks the protocol on demand.

use iscsi_client::wire::{Bhs, Opcode};

/// One way to be wrong. Each strikes once, at the next PDU it applies to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// A Data-In number is skipped.
    DataSnGap,
    /// A Data-In lies about its place.
    DataInOffset,
    /// A Data-In lies beyond the command's end.
    DataInBeyond,
    /// A Data-In is longer than the initiator's MaxRecvDataSegmentLength: its header says so.
    Oversize,
    /// A Data-In or response names a task that does not exist.
    UnknownTask,
    /// A response number is skipped.
    StatSnGap,
    /// A response claims more Data-In than were sent.
    ExpDataSn,
    /// An R2T number is skipped.
    R2tSnGap,
    /// An R2T is not sent: the target waits for data that nobody was asked for.
    R2tLost,
    /// A response to a command that did all claims that data are missing.
    WrongResidual,
    /// An R2T asks for bytes beyond the write.
    R2tBeyond,
    /// An R2T asks for more than MaxBurstLength.
    R2tTooLong,
    /// An R2T for nothing.
    R2tEmpty,
    /// An R2T with the reserved transfer tag.
    R2tWithoutTag,
    /// A bit of the header flips after its digest was made.
    HeaderBitFlip,
    /// A bit of the data flips after its digest was made.
    DataBitFlip,
    /// A SCSI Response with CHECK CONDITION and no sense.
    NoSense,
    /// An opcode that does not exist.
    UnknownOpcode,
    /// A NOP-In whose tags are both valid.
    AmbiguousNop,
    /// Random bytes instead of a PDU.
    Garbage,
}

/// Those that end a session at once, for tests that try each.
pub const BUGS: [Bug; 18] = [
    Bug::DataSnGap,
    Bug::DataInOffset,
    Bug::DataInBeyond,
    Bug::Oversize,
    Bug::UnknownTask,
    Bug::StatSnGap,
    Bug::ExpDataSn,
    Bug::R2tSnGap,
    Bug::R2tBeyond,
    Bug::R2tTooLong,
    Bug::R2tEmpty,
    Bug::R2tWithoutTag,
    Bug::HeaderBitFlip,
    Bug::DataBitFlip,
    Bug::NoSense,
    Bug::UnknownOpcode,
    Bug::AmbiguousNop,
    Bug::Garbage,
];

/// U bit of a SCSI Response.
const RESIDUAL_UNDERFLOW: u8 = 0x02;

/// What becomes of a PDU.
pub(super) enum Twist {
    /// The bug waits for another PDU.
    None,
    /// Send this header instead.
    Header,
    /// Send it, then flip a bit of the header that is on the wire.
    FlipHeader,
    /// Send it, then flip a bit of the data that are on the wire.
    FlipData,
    /// Send this header and no data.
    NoData,
    /// Send garbage instead.
    Garbage,
    /// Send nothing.
    Nothing,
}

impl Bug {
    /// Applies itself to a PDU that is about to leave. `burst` is MaxBurstLength.
    pub(super) fn twist(self, bhs: &mut Bhs, data: &[u8], burst: u32) -> Twist {
        let opcode = bhs.opcode();
        let data_in = opcode == Some(Opcode::DataIn) && !data.is_empty();
        let response = opcode == Some(Opcode::ScsiResponse);
        let r2t = opcode == Some(Opcode::R2t);
        let add = |bhs: &mut Bhs, at: usize, n: u32| {
            let word = u32::from_be_bytes([bhs.0[at], bhs.0[at + 1], bhs.0[at + 2], bhs.0[at + 3]]);
            bhs.0[at..at + 4].copy_from_slice(&word.wrapping_add(n).to_be_bytes());
        };
        match self {
            Bug::DataSnGap if data_in => add(bhs, 36, 1),
            Bug::DataInOffset if data_in => add(bhs, 40, 4),
            Bug::DataInBeyond if data_in => add(bhs, 40, 1 << 30),
            Bug::Oversize if data_in => bhs.set_data_len((1 << 24) - 1),
            Bug::UnknownTask if data_in || response => add(bhs, 16, 0x5555_5555),
            Bug::StatSnGap if response => add(bhs, 24, 1),
            Bug::ExpDataSn if response => add(bhs, 36, 1),
            Bug::R2tSnGap if r2t => add(bhs, 36, 1),
            Bug::R2tLost if r2t => return Twist::Nothing,
            // Responses to reads carry an ExpDataSN and may have a residual already.
            Bug::WrongResidual if response && bhs.0[1..4] == [0x80, 0, 0] => {
                bhs.0[1] |= RESIDUAL_UNDERFLOW;
                add(bhs, 44, 1);
            }
            Bug::R2tBeyond if r2t => add(bhs, 40, 1 << 30),
            Bug::R2tTooLong if r2t => {
                bhs.0[44..48].copy_from_slice(&burst.saturating_add(4).to_be_bytes());
            }
            Bug::R2tEmpty if r2t => bhs.0[44..48].fill(0),
            Bug::R2tWithoutTag if r2t => bhs.0[20..24].fill(0xff),
            Bug::HeaderBitFlip => return Twist::FlipHeader,
            Bug::DataBitFlip if data_in => return Twist::FlipData,
            Bug::NoSense if response && bhs.0[3] == 2 => {
                bhs.set_data_len(0);
                return Twist::NoData;
            }
            Bug::UnknownOpcode => bhs.0[0] = 0x3a,
            Bug::AmbiguousNop if opcode == Some(Opcode::NopIn) => {
                bhs.0[16..24].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
            }
            Bug::Garbage => return Twist::Garbage,
            _ => return Twist::None,
        }
        Twist::Header
    }
}
