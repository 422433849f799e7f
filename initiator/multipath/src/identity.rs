//! Which LUN is this, and what can it do? The questions are asked by a probing login before the device exists, and
//! again on every path after every login, before any write.

use iscsi_client::memory::{BufferId, Memory};
use iscsi_client::session::{Command, Completion, Handle};
use iscsi_client::wire::Lun;

/// What must be equal on every path of a volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// World wide identifier, derived as multipath-tools derives it.
    pub wwid: String,
    /// Unit serial number (VPD 80h), empty where the target has none.
    pub serial: String,
    /// T10 vendor identification, trimmed.
    pub vendor: String,
    /// Product identification, trimmed.
    pub product: String,
    /// Capacity in logical blocks.
    pub blocks: u64,
    /// Logical block length in bytes: 512 or 4096.
    pub block_len: u32,
}

/// Everything the block device and the data path need to know of a LUN.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Description {
    /// Who it is.
    pub identity: Identity,
    /// log2 of logical blocks per physical block.
    pub physical_block_exponent: u8,
    /// Longest READ or WRITE in blocks, if stated.
    pub max_transfer_blocks: Option<u32>,
    /// Optimal transfer length in blocks, if stated.
    pub optimal_transfer_blocks: Option<u32>,
    /// Optimal transfer length granularity in blocks, if stated.
    pub optimal_granularity_blocks: Option<u32>,
    /// Rotating medium, as far as stated (VPD B1h).
    pub rotational: bool,
    /// A volatile write cache is on (mode page 08h, WCE).
    pub write_cache: bool,
    /// FUA is honoured (DPOFUA).
    pub fua: bool,
    /// Write protected (mode header WP).
    pub read_only: bool,
    /// UNMAP, where offered.
    pub unmap: Option<UnmapLimits>,
    /// Longest WRITE SAME(16) in blocks; `None` until the target refused it or states 0 as its limit.
    pub max_write_same_blocks: Option<u32>,
    /// WRITE SAME(16) with UNMAP deallocates and reads back zeros.
    pub write_same_unmaps: bool,
    /// Target port group of the port that answered, and the relative port.
    pub target_port_group: Option<u16>,
    /// Whether the target reports asymmetric access (TPGS).
    pub alua: bool,
}

/// Limits of UNMAP (VPD B0h, B2h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnmapLimits {
    /// Blocks per command.
    pub max_blocks: u32,
    /// Granularity in blocks, at least 1.
    pub granularity_blocks: u32,
    /// First aligned block.
    pub alignment_blocks: u32,
}

/// Why a LUN cannot be used. Each has a sentence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProbeFailure {
    /// No logical unit behind this number.
    NoSuchLun,
    /// Not a direct access block device; the peripheral device type.
    NotADisk(u8),
    /// Block length that is neither 512 nor 4096 bytes.
    BlockLength(u32),
    /// Formatted with protection information.
    Protection,
    /// Not ready within the probe's patience.
    NotReady,
    /// No usable identifier: neither VPD 83h nor a serial number.
    NoIdentifier,
    /// A command failed or answered nonsense; the name of the command.
    Failed(&'static str),
}

/// The questions, one command at a time. The same machine runs in the probing login and in path verification.
#[derive(Debug)]
pub struct Probe {}

#[allow(unused_variables)]
impl Probe {
    /// Asks about `lun`, with answers in `buffer` (at least 4096 bytes).
    pub fn new(lun: Lun, buffer: BufferId) -> Probe {
        todo!()
    }

    /// The next command to submit, under `handle`; `None` while one is out or when done.
    pub fn poll_command(&mut self, handle: Handle) -> Option<Command> {
        todo!()
    }

    /// Takes the answer.
    pub fn completed(&mut self, completion: &Completion, memory: &dyn Memory) {
        todo!()
    }

    /// The result, once everything was asked.
    pub fn result(&self) -> Option<Result<&Description, &ProbeFailure>> {
        todo!()
    }
}
