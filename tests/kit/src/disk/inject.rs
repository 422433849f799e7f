//! Faults on demand: what the next commands of some kind get instead of their due.

use core::time::Duration;

use super::Nexus;
use super::sense::Code;

/// Which commands an injection concerns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Select {
    /// All.
    Any,
    /// Those with this operation code.
    Opcode(u8),
    /// Those that read the medium.
    Reads,
    /// Those that change the medium.
    Writes,
}

/// What happens to a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Not executed; CHECK CONDITION.
    Check(Code),
    /// Not executed; CHECK CONDITION with deferred sense: an earlier write was lost.
    Deferred(Code),
    /// Executed; CHECK CONDITION all the same (recovered error).
    Recovered(Code),
    /// Not executed; this status without sense.
    Status(u8),
    /// Not executed; this iSCSI response code.
    Response(u8),
    /// Taken on and kept until `LogicalUnit::release`: executed then.
    Park,
    /// Executed that much later.
    Delay(Duration),
    /// A read that ends GOOD with half its data.
    ShortRead,
}

/// A fault and how often it strikes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Injection {
    /// Only commands of this nexus, or of all.
    pub nexus: Option<Nexus>,
    /// Which commands.
    pub select: Select,
    /// What happens.
    pub fault: Fault,
    /// So many commands, then no more.
    pub times: u32,
}

impl Select {
    /// Whether it selects a command with this CDB.
    pub fn matches(self, cdb: &[u8; 16]) -> bool {
        match self {
            Select::Any => true,
            Select::Opcode(opcode) => cdb[0] == opcode,
            Select::Reads => matches!(cdb[0], 0x08 | 0x28 | 0x88 | 0xa8),
            Select::Writes => matches!(cdb[0], 0x0a | 0x2a | 0x8a | 0x41 | 0x93 | 0x42 | 0x89),
        }
    }
}
