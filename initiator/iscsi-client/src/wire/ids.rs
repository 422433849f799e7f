//! Names that PDUs carry: tags, LUNs, session and portal group identifiers.

use core::fmt;

/// Initiator Task Tag: ours to structure, unique among live requests (RFC 7143, 11.2.1.8).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TaskTag(pub u32);

impl TaskTag {
    /// The reserved value "no task". 0 is a legal tag.
    pub const NONE: TaskTag = TaskTag(0xffff_ffff);
}

/// Target Transfer Tag: the target's, echoed by us. 0 is a legal tag.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TransferTag(pub u32);

impl TransferTag {
    /// The reserved value "no transfer".
    pub const NONE: TransferTag = TransferTag(0xffff_ffff);
}

/// A logical unit number: the eight bytes exactly as REPORT LUNS gave them (SAM-5, 4.7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Lun(pub [u8; 8]);

impl Lun {
    /// A single-level LUN below 16384: peripheral addressing below 256, flat space above.
    pub fn from_number(number: u16) -> Option<Lun> {
        let [hi, lo] = number.to_be_bytes();
        match number {
            0..256 => Some(Lun([0, lo, 0, 0, 0, 0, 0, 0])),
            256..16384 => Some(Lun([0x40 | hi, lo, 0, 0, 0, 0, 0, 0])),
            _ => None,
        }
    }

    /// The number that operators know, for single-level LUNs with peripheral or flat addressing.
    pub fn number(self) -> Option<u16> {
        let [a, b, rest @ ..] = self.0;
        match (a >> 6, rest) {
            (0, [0, 0, 0, 0, 0, 0]) if a == 0 => Some(u16::from(b)),
            (1, [0, 0, 0, 0, 0, 0]) => Some(u16::from_be_bytes([a & 0x3f, b])),
            _ => None,
        }
    }
}

impl fmt::Display for Lun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number() {
            Some(number) => write!(f, "{number}"),
            None => write!(f, "0x{:016x}", u64::from_be_bytes(self.0)),
        }
    }
}

/// Initiator part of a session's identity (RFC 7143, 11.12.5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Isid(pub [u8; 6]);

impl fmt::Display for Isid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "0x{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}{g:02x}")
    }
}

/// Target Session Identifying Handle: 0 asks for a new session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Tsih(pub u16);

/// Target Portal Group Tag. 0 is legal. It decides which portal can fence which path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Tpgt(pub u16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lun_numbers() {
        assert_eq!(Lun::from_number(5), Some(Lun([0, 5, 0, 0, 0, 0, 0, 0])));
        assert_eq!(
            Lun::from_number(300),
            Some(Lun([0x41, 0x2c, 0, 0, 0, 0, 0, 0]))
        );
        assert_eq!(Lun::from_number(16384), None);
        for number in [0, 1, 255, 256, 16383] {
            assert_eq!(Lun::from_number(number).and_then(Lun::number), Some(number));
        }
        assert_eq!(Lun([0, 1, 0, 1, 0, 0, 0, 0]).number(), None);
    }
}
