//! Sense data, fixed and descriptor format (SPC-5, 4.4).

use core::fmt;

use super::page::Page;

/// Sense key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub enum SenseKey {
    NoSense = 0x0,
    RecoveredError = 0x1,
    NotReady = 0x2,
    MediumError = 0x3,
    HardwareError = 0x4,
    IllegalRequest = 0x5,
    UnitAttention = 0x6,
    DataProtect = 0x7,
    BlankCheck = 0x8,
    VendorSpecific = 0x9,
    CopyAborted = 0xa,
    AbortedCommand = 0xb,
    Reserved = 0xc,
    VolumeOverflow = 0xd,
    Miscompare = 0xe,
    Completed = 0xf,
}

impl SenseKey {
    /// The key in the low four bits of `byte`.
    pub fn from_low_nibble(byte: u8) -> SenseKey {
        use SenseKey::*;
        match byte & 0x0f {
            0x0 => NoSense,
            0x1 => RecoveredError,
            0x2 => NotReady,
            0x3 => MediumError,
            0x4 => HardwareError,
            0x5 => IllegalRequest,
            0x6 => UnitAttention,
            0x7 => DataProtect,
            0x8 => BlankCheck,
            0x9 => VendorSpecific,
            0xa => CopyAborted,
            0xb => AbortedCommand,
            0xc => Reserved,
            0xd => VolumeOverflow,
            0xe => Miscompare,
            _ => Completed,
        }
    }

    fn words(self) -> &'static str {
        use SenseKey::*;
        match self {
            NoSense => "no sense",
            RecoveredError => "recovered error",
            NotReady => "not ready",
            MediumError => "medium error",
            HardwareError => "hardware error",
            IllegalRequest => "illegal request",
            UnitAttention => "unit attention",
            DataProtect => "data protect",
            BlankCheck => "blank check",
            VendorSpecific => "vendor specific",
            CopyAborted => "copy aborted",
            AbortedCommand => "aborted command",
            Reserved => "reserved key",
            VolumeOverflow => "volume overflow",
            Miscompare => "miscompare",
            Completed => "completed",
        }
    }
}

impl fmt::Display for SenseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// What the target says about a command, or about an earlier one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sense {
    /// It concerns an earlier command that was already reported complete.
    pub deferred: bool,
    /// Class of the condition.
    pub key: SenseKey,
    /// Additional sense code.
    pub asc: u8,
    /// Additional sense code qualifier.
    pub ascq: u8,
    /// INFORMATION field, where valid.
    pub information: Option<u64>,
}

impl Sense {
    /// Reads sense data, without the two-byte length that iSCSI puts before them. Short data are usual: what
    /// is missing reads as zero. `None` if the bytes are no sense data in either format.
    pub fn parse(data: &[u8]) -> Option<Sense> {
        let page = Page(data);
        let code = page.u8(0) & 0x7f;
        let deferred = matches!(code, 0x71 | 0x73);
        match code {
            0x70 | 0x71 => {
                // Bytes that the length field leaves out are not sense data, whatever the buffer holds there.
                let page = match data.len() {
                    0..8 => page,
                    _ => Page(page.slice(0, 8 + usize::from(page.u8(7)))),
                };
                Some(Sense {
                    deferred,
                    key: SenseKey::from_low_nibble(page.u8(2)),
                    asc: page.u8(12),
                    ascq: page.u8(13),
                    information: page.bit(0, 0x80).then(|| page.u32(3).into()),
                })
            }
            0x72 | 0x73 => Some(Sense {
                deferred,
                key: SenseKey::from_low_nibble(page.u8(1)),
                asc: page.u8(2),
                ascq: page.u8(3),
                information: information(page.slice(8, usize::from(page.u8(7)))),
            }),
            _ => None,
        }
    }

    /// The same in fixed format, for the target's end of a test. An INFORMATION of more than 32 bits has no
    /// place there and is left out.
    pub fn to_fixed(self) -> [u8; 18] {
        let mut data = [0; 18];
        data[0] = if self.deferred { 0x71 } else { 0x70 };
        if let Some(information) = self.information.and_then(|it| u32::try_from(it).ok()) {
            data[0] |= 0x80;
            data[3..7].copy_from_slice(&information.to_be_bytes());
        }
        data[2] = self.key as u8;
        data[7] = 10;
        data[12] = self.asc;
        data[13] = self.ascq;
        data
    }

    /// What the additional sense code means, for those that a block initiator meets; else empty.
    pub fn meaning(&self) -> &'static str {
        match (self.asc, self.ascq) {
            (0x04, 0x01) => "becoming ready",
            (0x04, 0x02) => "initializing command required",
            (0x04, 0x04) => "format in progress",
            (0x04, 0x0a) => "asymmetric access state transition",
            (0x04, 0x0b) => "target port in standby state",
            (0x04, 0x0c) => "target port in unavailable state",
            (0x04, 0x14) => "space allocation in progress",
            (0x04, _) => "logical unit not ready",
            (0x08, _) => "logical unit communication failure",
            (0x0c, 0x0c) => "unexpected unsolicited data",
            (0x0c, 0x0d) => "not enough unsolicited data",
            (0x0c, _) => "write error",
            (0x10, _) => "protection information check failed",
            (0x11, _) => "unrecovered read error",
            (0x1d, _) => "miscompare during verify",
            (0x20, 0x00) => "invalid command operation code",
            (0x20, _) => "access denied",
            (0x21, _) => "logical block address out of range",
            (0x24, _) => "invalid field in CDB",
            (0x25, _) => "logical unit not supported",
            (0x26, _) => "invalid field in parameter list",
            (0x27, 0x07) => "space allocation failed",
            (0x27, _) => "write protected",
            (0x28, _) => "medium may have changed",
            (0x29, 0x07) => "I_T nexus loss",
            (0x29, _) => "power on or reset",
            (0x2a, 0x01) => "mode parameters changed",
            (0x2a, 0x03) => "reservations preempted",
            (0x2a, 0x04) => "reservations released",
            (0x2a, 0x05) => "registrations preempted",
            (0x2a, 0x06) => "asymmetric access state changed",
            (0x2a, 0x07) => "implicit access state transition failed",
            (0x2a, 0x09) => "capacity data changed",
            (0x2f, _) => "commands cleared by another initiator",
            (0x38, 0x07) => "thin provisioning soft threshold reached",
            (0x3a, _) => "medium not present",
            (0x3e, _) => "logical unit failure",
            (0x3f, 0x01) => "microcode changed",
            (0x3f, 0x03) => "inquiry data changed",
            (0x3f, 0x05) => "device identifier changed",
            (0x3f, 0x0e) => "reported LUNs data changed",
            (0x44, _) => "internal target failure",
            (0x47, 0x7f) => "some commands cleared by iSCSI event",
            (0x47, _) => "transport CRC or parity error",
            (0x4b, _) => "data phase error",
            (0x55, _) => "system resource failure",
            _ => "",
        }
    }
}

impl fmt::Display for Sense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.deferred {
            f.write_str("deferred ")?;
        }
        write!(
            f,
            "{} {:x}/{:02x}/{:02x}",
            self.key, self.key as u8, self.asc, self.ascq
        )?;
        match self.meaning() {
            "" => {}
            words => write!(f, " ({words})")?,
        }
        if let Some(information) = self.information {
            write!(f, ", information {information}")?;
        }
        Ok(())
    }
}

/// The INFORMATION descriptor (type 00h) among sense data descriptors.
fn information(mut descriptors: &[u8]) -> Option<u64> {
    while let [kind, len, rest @ ..] = descriptors {
        let len = usize::from(*len);
        let body = Page(rest);
        // Cut short, a number would read as another number.
        if *kind == 0 && len >= 10 && rest.len() >= 10 && body.bit(0, 0x80) {
            return Some(body.u64(2));
        }
        descriptors = rest.get(len..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(key: SenseKey, asc: u8, ascq: u8) -> Sense {
        Sense {
            deferred: false,
            key,
            asc,
            ascq,
            information: None,
        }
    }

    #[test]
    fn fixed_format() {
        let data = [0xf0, 0, 3, 0, 1, 0, 2, 10, 0, 0, 0, 0, 0x11, 4, 0, 0, 0, 0];
        let sense = Sense::parse(&data).unwrap();
        assert_eq!(
            sense,
            Sense {
                information: Some(0x1_0002),
                ..plain(SenseKey::MediumError, 0x11, 4)
            }
        );
        assert_eq!(
            sense.to_string(),
            "medium error 3/11/04 (unrecovered read error), information 65538"
        );
        assert_eq!(sense.to_fixed(), data);
    }

    #[test]
    fn descriptor_format() {
        let mut data = vec![0x72, 0x06, 0x2a, 0x09, 0, 0, 0, 0];
        assert_eq!(
            Sense::parse(&data),
            Some(plain(SenseKey::UnitAttention, 0x2a, 0x09))
        );
        // A descriptor of another kind before the INFORMATION.
        data[7] = 16;
        data.extend([2, 2, 0, 0, 0, 10, 0x80, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        let sense = Sense::parse(&data).unwrap();
        assert_eq!(sense.information, Some(0x0102_0304_0506_0708));
        // Cut, not valid, or beyond the stated length: no number.
        assert_eq!(Sense::parse(&data[..23]).unwrap().information, None);
        data[14] = 0;
        assert_eq!(Sense::parse(&data).unwrap().information, None);
        data[14] = 0x80;
        data[7] = 4;
        assert_eq!(Sense::parse(&data).unwrap().information, None);
    }

    #[test]
    fn deferred() {
        let fixed = Sense::parse(&[0x71, 0, 3, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x0c, 2]).unwrap();
        let descriptor = Sense::parse(&[0x73, 3, 0x0c, 2]).unwrap();
        assert!(fixed.deferred);
        assert_eq!(fixed, descriptor);
        assert_eq!(
            fixed.to_string(),
            "deferred medium error 3/0c/02 (write error)"
        );
    }

    #[test]
    fn short_and_strange() {
        assert_eq!(Sense::parse(&[]), None);
        assert_eq!(Sense::parse(&[0x00; 18]), None);
        assert_eq!(Sense::parse(&[0x7f; 18]), None);
        assert_eq!(Sense::parse(&[0x70]), Some(plain(SenseKey::NoSense, 0, 0)));
        assert_eq!(
            Sense::parse(&[0x70, 0, 2]),
            Some(plain(SenseKey::NotReady, 0, 0))
        );
        // The length field says that nothing follows: stale bytes in the buffer do not count.
        let mut stale = plain(SenseKey::NotReady, 0x04, 0x01).to_fixed();
        stale[7] = 0;
        assert_eq!(Sense::parse(&stale), Some(plain(SenseKey::NotReady, 0, 0)));
        assert_eq!(
            plain(SenseKey::VendorSpecific, 0x80, 1).to_string(),
            "vendor specific 9/80/01"
        );
    }

    proptest! {
        #[test]
        fn any_bytes(data in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Sense::parse(&data);
        }

        #[test]
        fn any_sense_survives(deferred: bool, key in 0_u8..16, asc: u8, ascq: u8, information: Option<u32>) {
            let sense = Sense {
                deferred,
                key: SenseKey::from_low_nibble(key),
                asc,
                ascq,
                information: information.map(u64::from),
            };
            prop_assert_eq!(Sense::parse(&sense.to_fixed()), Some(sense));
        }
    }
}
