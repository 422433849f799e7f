//! SCSI Command (RFC 7143, 11.3).

use super::{Bhs, CmdSn, Lun, Malformed, Opcode, StatSn, TaskTag};

/// Task attribute (SAM-5, 8.9). ACA is not used.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TaskAttribute {
    /// The transport's default.
    Untagged,
    /// May be reordered freely.
    Simple,
    /// Runs after everything older and before everything newer in the task set.
    Ordered,
    /// Runs next.
    HeadOfQueue,
}

/// A CDB with up to sixteen bytes and how its data moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScsiCommand {
    /// Outside the CmdSN order.
    pub immediate: bool,
    /// No unsolicited Data-Out follows. Must be set unless `write` is.
    pub last: bool,
    /// Data flows to us.
    pub read: bool,
    /// Data flows to the target.
    pub write: bool,
    /// Task attribute.
    pub attribute: TaskAttribute,
    /// Addressed logical unit.
    pub lun: Lun,
    /// Our name for the task.
    pub task: TaskTag,
    /// Bytes to move in the command's direction.
    pub expected_len: u32,
    /// Place in the command order.
    pub cmd_sn: CmdSn,
    /// Acknowledges all responses below.
    pub exp_stat_sn: StatSn,
    /// The command descriptor block, zero-filled.
    pub cdb: [u8; 16],
    /// Length of immediate data, in bytes.
    pub data_len: u32,
}

impl ScsiCommand {
    /// Reads a header.
    pub fn parse(bhs: &Bhs) -> Result<Self, Malformed> {
        bhs.expect(Opcode::ScsiCommand);
        let flags = bhs.u8(1);
        if flags & 0xa0 == 0 {
            return Err(Malformed("SCSI Command with neither the F nor the W bit"));
        }
        Ok(Self {
            immediate: bhs.is_immediate(),
            last: flags & 0x80 != 0,
            read: flags & 0x40 != 0,
            write: flags & 0x20 != 0,
            attribute: match flags & 0x07 {
                0 => TaskAttribute::Untagged,
                1 => TaskAttribute::Simple,
                2 => TaskAttribute::Ordered,
                3 => TaskAttribute::HeadOfQueue,
                _ => return Err(Malformed("task attribute")),
            },
            lun: Lun(bhs.array(8)),
            task: TaskTag(bhs.u32(16)),
            expected_len: bhs.u32(20),
            cmd_sn: CmdSn(bhs.u32(24)),
            exp_stat_sn: StatSn(bhs.u32(28)),
            cdb: bhs.array(32),
            data_len: bhs.data_len() as u32,
        })
    }

    /// Writes the header.
    pub fn emit(&self) -> Bhs {
        let mut bhs = Bhs::new(Opcode::ScsiCommand);
        if self.immediate {
            bhs.set_immediate();
        }
        let attribute = match self.attribute {
            TaskAttribute::Untagged => 0,
            TaskAttribute::Simple => 1,
            TaskAttribute::Ordered => 2,
            TaskAttribute::HeadOfQueue => 3,
        };
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        bhs.put_u8(
            1,
            flag(self.last, 0x80) | flag(self.read, 0x40) | flag(self.write, 0x20) | attribute,
        );
        bhs.set_data_len(self.data_len as usize);
        bhs.put(8, &self.lun.0);
        bhs.put_u32(16, self.task.0);
        bhs.put_u32(20, self.expected_len);
        bhs.put_u32(24, self.cmd_sn.0);
        bhs.put_u32(28, self.exp_stat_sn.0);
        bhs.put(32, &self.cdb);
        bhs
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::*;
    use proptest::prelude::*;

    const CDB: [u8; 16] = [
        0x8a, 0x08, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x11, 0x22, 0x33, 0x44, 0x55,
        0x66,
    ];
    const COMMAND: ScsiCommand = ScsiCommand {
        immediate: false,
        last: false,
        read: false,
        write: true,
        attribute: TaskAttribute::Simple,
        lun: LUN,
        task: TaskTag(0x1111_1111),
        expected_len: 0x0002_0000,
        cmd_sn: CmdSn(0xcccc_cccc),
        exp_stat_sn: StatSn(0xeeee_eeee),
        cdb: CDB,
        data_len: 0x2000,
    };

    #[test]
    fn vectors() {
        #[rustfmt::skip]
        let write = header([
            0x0121_0000, 0x0000_2000, 0x4041_4243, 0x4445_4647, 0x1111_1111, 0x0002_0000,
            0xcccc_cccc, 0xeeee_eeee, 0x8a08_0102, 0x0304_0506, 0x0708_1122, 0x3344_5566,
        ]);
        assert_eq!(COMMAND.emit(), write);
        assert_eq!(ScsiCommand::parse(&write), Ok(COMMAND));
        // The READ(10) of the digest vectors.
        #[rustfmt::skip]
        let read = header([
            0x01c0_0000, 0, 0, 0, 0x1400_0000, 0x0000_0400, 0x14, 0x18, 0x2800_0000, 0, 0x0200_0000, 0,
        ]);
        let parsed = ScsiCommand::parse(&read).unwrap();
        assert!(parsed.last && parsed.read && !parsed.write && !parsed.immediate);
        assert_eq!(
            (parsed.attribute, parsed.expected_len),
            (TaskAttribute::Untagged, 1024)
        );
        assert_eq!(parsed.emit(), read);
    }

    #[test]
    fn flags() {
        let table = [
            (0x80, Ok((true, false, false, TaskAttribute::Untagged))),
            (0xc1, Ok((true, true, false, TaskAttribute::Simple))),
            (0xa2, Ok((true, false, true, TaskAttribute::Ordered))),
            (0x23, Ok((false, false, true, TaskAttribute::HeadOfQueue))),
            (0x84, Err(Malformed("task attribute"))),
            (
                0x41,
                Err(Malformed("SCSI Command with neither the F nor the W bit")),
            ),
        ];
        for (byte, meaning) in table {
            let mut bhs = Bhs::new(Opcode::ScsiCommand);
            bhs.put_u8(1, byte);
            let parsed =
                ScsiCommand::parse(&bhs).map(|it| (it.last, it.read, it.write, it.attribute));
            assert_eq!(parsed, meaning, "{byte:02x}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(
            bits: [bool; 4], attribute in 0_usize..4, lun in lun(), words: [u32; 4], cdb: [u8; 16],
            data_len in data_len(),
        ) {
            let [immediate, last, read, write] = bits;
            let command = ScsiCommand {
                immediate,
                last: last || !write,
                read,
                write,
                attribute: [
                    TaskAttribute::Untagged,
                    TaskAttribute::Simple,
                    TaskAttribute::Ordered,
                    TaskAttribute::HeadOfQueue,
                ][attribute],
                lun,
                task: TaskTag(words[0]),
                expected_len: words[1],
                cmd_sn: CmdSn(words[2]),
                exp_stat_sn: StatSn(words[3]),
                cdb,
                data_len,
            };
            prop_assert_eq!(ScsiCommand::parse(&command.emit()), Ok(command));
        }
    }
}
