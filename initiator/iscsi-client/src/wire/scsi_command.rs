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
