//! Sense data as a target writes it (SPC-5, 4.4), and the answers a command can get.

/// Key, ASC, ASCQ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Code(pub u8, pub u8, pub u8);

#[allow(missing_docs, reason = "the names are the standard's")]
impl Code {
    pub const NOT_READY_BECOMING: Code = Code(0x2, 0x04, 0x01);
    pub const TRANSITION: Code = Code(0x2, 0x04, 0x0a);
    pub const STANDBY: Code = Code(0x2, 0x04, 0x0b);
    pub const UNAVAILABLE: Code = Code(0x2, 0x04, 0x0c);
    pub const MEDIUM_ERROR: Code = Code(0x3, 0x11, 0x00);
    pub const INVALID_OPCODE: Code = Code(0x5, 0x20, 0x00);
    pub const LBA_OUT_OF_RANGE: Code = Code(0x5, 0x21, 0x00);
    pub const INVALID_FIELD: Code = Code(0x5, 0x24, 0x00);
    pub const LUN_NOT_SUPPORTED: Code = Code(0x5, 0x25, 0x00);
    pub const INVALID_PARAMETER: Code = Code(0x5, 0x26, 0x00);
    pub const POWER_ON: Code = Code(0x6, 0x29, 0x00);
    pub const RESET: Code = Code(0x6, 0x29, 0x03);
    pub const NEXUS_LOSS: Code = Code(0x6, 0x29, 0x07);
    pub const MODE_CHANGED: Code = Code(0x6, 0x2a, 0x01);
    pub const ALUA_CHANGED: Code = Code(0x6, 0x2a, 0x06);
    pub const CAPACITY_CHANGED: Code = Code(0x6, 0x2a, 0x09);
    pub const INQUIRY_CHANGED: Code = Code(0x6, 0x3f, 0x03);
    pub const LUNS_CHANGED: Code = Code(0x6, 0x3f, 0x0e);
    pub const WRITE_PROTECTED: Code = Code(0x7, 0x27, 0x00);
    pub const SPACE: Code = Code(0x7, 0x27, 0x07);
    pub const UNEXPECTED_DATA: Code = Code(0xb, 0x0c, 0x0c);
    pub const WRONG_AMOUNT: Code = Code(0xb, 0x0c, 0x0d);
    pub const MISCOMPARE: Code = Code(0xe, 0x1d, 0x00);
}

/// How sense is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// 70h and 71h, 18 bytes.
    #[default]
    Fixed,
    /// 72h and 73h, 8 bytes.
    Descriptor,
}

impl Code {
    /// The bytes of this condition.
    pub fn encode(self, format: Format, deferred: bool, information: Option<u32>) -> Vec<u8> {
        let Code(key, asc, ascq) = self;
        let deferred = u8::from(deferred);
        match format {
            Format::Fixed => {
                let mut sense = vec![0; 18];
                sense[0] = 0x70 | deferred;
                sense[2] = key;
                sense[7] = 10;
                sense[12] = asc;
                sense[13] = ascq;
                if let Some(information) = information {
                    sense[0] |= 0x80;
                    sense[3..7].copy_from_slice(&information.to_be_bytes());
                }
                sense
            }
            Format::Descriptor => {
                let mut sense = vec![0x72 | deferred, key, asc, ascq, 0, 0, 0, 0];
                if let Some(information) = information {
                    sense[7] = 12;
                    sense.extend([0, 10, 0x80, 0, 0, 0, 0, 0]);
                    sense.extend(information.to_be_bytes());
                }
                sense
            }
        }
    }
}

/// How a command ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// iSCSI response code: 0 unless the target itself failed.
    pub response: u8,
    /// SCSI status byte.
    pub status: u8,
    /// Sense data, with CHECK CONDITION.
    pub sense: Vec<u8>,
    /// Data for the initiator.
    pub data: Vec<u8>,
    /// Bytes the command wanted to move, in its one direction.
    pub wanted: u64,
}

impl Answer {
    /// GOOD, having taken `wanted` bytes from the initiator.
    pub fn good(wanted: u64) -> Answer {
        Answer::status(0x00).wanting(wanted)
    }

    /// GOOD, with data.
    pub fn data(data: Vec<u8>) -> Answer {
        let wanted = data.len() as u64;
        Answer {
            data,
            ..Answer::good(wanted)
        }
    }

    /// A bare status.
    pub fn status(status: u8) -> Answer {
        Answer {
            response: 0,
            status,
            sense: Vec::new(),
            data: Vec::new(),
            wanted: 0,
        }
    }

    /// CHECK CONDITION.
    pub fn check(sense: Vec<u8>) -> Answer {
        Answer {
            sense,
            ..Answer::status(0x02)
        }
    }

    fn wanting(self, wanted: u64) -> Answer {
        Answer { wanted, ..self }
    }
}
