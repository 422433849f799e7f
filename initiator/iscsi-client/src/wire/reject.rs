//! Reject (RFC 7143, 11.17).

use super::{Bhs, Malformed, Opcode, TargetNumbers};

/// Why the target refused a PDU.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "the names are the RFC's")]
pub enum RejectReason {
    DataDigestError,
    SnackReject,
    ProtocolError,
    CommandNotSupported,
    TooManyImmediateCommands,
    TaskInProgress,
    InvalidDataAck,
    InvalidPduField,
    OutOfTransferTags,
    NegotiationReset,
    WaitingForLogout,
    Unknown(u8),
}

impl RejectReason {
    fn from_byte(byte: u8) -> Self {
        use RejectReason::*;
        match byte {
            0x02 => DataDigestError,
            0x03 => SnackReject,
            0x04 => ProtocolError,
            0x05 => CommandNotSupported,
            0x06 => TooManyImmediateCommands,
            0x07 => TaskInProgress,
            0x08 => InvalidDataAck,
            0x09 => InvalidPduField,
            0x0a => OutOfTransferTags,
            0x0b => NegotiationReset,
            0x0c => WaitingForLogout,
            other => Unknown(other),
        }
    }

    fn byte(self) -> u8 {
        use RejectReason::*;
        match self {
            DataDigestError => 0x02,
            SnackReject => 0x03,
            ProtocolError => 0x04,
            CommandNotSupported => 0x05,
            TooManyImmediateCommands => 0x06,
            TaskInProgress => 0x07,
            InvalidDataAck => 0x08,
            InvalidPduField => 0x09,
            OutOfTransferTags => 0x0a,
            NegotiationReset => 0x0b,
            WaitingForLogout => 0x0c,
            Unknown(other) => other,
        }
    }
}

/// The target refuses a PDU; the data segment holds the header that it refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reject {
    /// Why.
    pub reason: RejectReason,
    /// Counters; the StatSN is consumed.
    pub numbers: TargetNumbers,
    /// Length of the data segment: the refused header.
    pub data_len: u32,
}

impl Reject {
    /// Reads a header.
    pub fn parse(bhs: &Bhs) -> Result<Self, Malformed> {
        bhs.expect(Opcode::Reject);
        Ok(Self {
            reason: RejectReason::from_byte(bhs.u8(2)),
            numbers: TargetNumbers::parse(bhs),
            data_len: bhs.data_len() as u32,
        })
    }

    /// Writes the header.
    pub fn emit(&self) -> Bhs {
        let mut bhs = Bhs::new(Opcode::Reject);
        bhs.put_u8(1, 0x80);
        bhs.put_u8(2, self.reason.byte());
        bhs.set_data_len(self.data_len as usize);
        bhs.put_u32(16, 0xffff_ffff);
        self.numbers.emit(&mut bhs);
        bhs
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn vectors() {
        let table = [
            (0x02, RejectReason::DataDigestError),
            (0x03, RejectReason::SnackReject),
            (0x04, RejectReason::ProtocolError),
            (0x05, RejectReason::CommandNotSupported),
            (0x06, RejectReason::TooManyImmediateCommands),
            (0x07, RejectReason::TaskInProgress),
            (0x08, RejectReason::InvalidDataAck),
            (0x09, RejectReason::InvalidPduField),
            (0x0a, RejectReason::OutOfTransferTags),
            (0x0b, RejectReason::NegotiationReset),
            (0x0c, RejectReason::WaitingForLogout),
            (0x0d, RejectReason::Unknown(0x0d)),
        ];
        for (code, reason) in table {
            let reject = Reject {
                reason,
                numbers: NUMBERS,
                data_len: 48,
            };
            #[rustfmt::skip]
            let bhs = header([
                0x3f80_0000 | code << 8, 48, 0, 0, 0xffff_ffff, 0, 0x5151_5151, 0xecec_ecec,
                0x3c3c_3c3c, 0, 0, 0,
            ]);
            assert_eq!(reject.emit(), bhs, "{reason:?}");
            assert_eq!(Reject::parse(&bhs), Ok(reject));
        }
    }

    proptest! {
        #[test]
        fn round_trip(code: u8, numbers in numbers(), data_len in data_len()) {
            let reject = Reject { reason: RejectReason::from_byte(code), numbers, data_len };
            let bhs = reject.emit();
            prop_assert_eq!(bhs.u8(2), code);
            prop_assert_eq!(Reject::parse(&bhs), Ok(reject));
        }
    }
}
