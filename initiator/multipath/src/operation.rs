//! From a block request to the SCSI commands that do it, one after another (SBC-4).
//!
//! Most requests are one command. A discard or zeroing beyond the target's limits is several in sequence, a
//! forced write on a target without FUA is followed by SYNCHRONIZE CACHE, and zeroing falls back to plain
//! WRITEs where WRITE SAME is refused. A [`Plan`] is the place in that sequence; a [`Step`] is one command.

use core::time::Duration;

use iscsi_client::memory::{BufferId, Memory};
use iscsi_client::scsi::{Cdb, UNMAP_PARAMETERS_LEN, WriteSame, unmap_parameters};
use iscsi_client::session::Transfer;

use crate::contract::{IoError, Operation, Request};
use crate::fence::Extent;
use crate::identity::{Description, UnmapLimits};
use crate::mutant::{Mutant, lives};

/// A READ, WRITE or SYNCHRONIZE CACHE without answer for so long is aborted. Linux gives a SCSI disk 30 s; arrays
/// that fail over and targets that flush a large cache need more, and nothing hangs meanwhile but the command.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// The same for UNMAP and WRITE SAME, which may touch gigabytes.
pub const LONG_COMMAND_TIMEOUT: Duration = Duration::from_secs(120);
/// Most bytes zeroed by one WRITE SAME: a slow disk (100 MB/s) must manage them well inside the timeout.
const WRITE_SAME_BYTES_MAX: u32 = 256 * 1024 * 1024;
const UNMAP_LIST_LEN: u32 = UNMAP_PARAMETERS_LEN as u32;

/// What the LUN can do, as the probe found it and as refusals have taught since.
#[derive(Clone, Debug)]
pub struct Abilities {
    block_len: u32,
    transfer_blocks_max: u32,
    /// WRITE carries FUA.
    fua: bool,
    write_cache: bool,
    /// Set once a write cache was switched on behind our back: every write must reach the medium.
    force_writes: bool,
    unmap: Option<UnmapLimits>,
    zeroing: Zeroing,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Zeroing {
    WriteSame { blocks_max: u32, unmaps: bool },
    PlainWrites,
}

impl Abilities {
    /// Those of a described LUN, with buffers of `io_len_max` bytes.
    pub fn new(description: &Description, io_len_max: u32) -> Abilities {
        let block_len = description.identity.block_len;
        let own = (io_len_max / block_len).max(1);
        let stated = |limit: Option<u32>| limit.filter(|&limit| limit > 0).unwrap_or(u32::MAX);
        Abilities {
            block_len,
            transfer_blocks_max: own.min(stated(description.max_transfer_blocks)),
            fua: description.fua,
            write_cache: description.write_cache,
            force_writes: false,
            unmap: description.unmap.filter(|limits| limits.max_blocks > 0),
            zeroing: Zeroing::WriteSame {
                blocks_max: stated(description.max_write_same_blocks)
                    .min(WRITE_SAME_BYTES_MAX / block_len),
                unmaps: description.write_same_unmaps,
            },
        }
    }

    /// A write cache is on although the block layer was told that there is none.
    pub fn force_writes(&mut self) {
        self.force_writes = !lives(Mutant::CacheOverlooked);
    }

    /// Whether every write is forced to the medium.
    pub fn writes_forced(&self) -> bool {
        self.force_writes
    }

    /// Whether the block layer knows of a volatile cache.
    pub fn cache_announced(&self) -> bool {
        self.write_cache
    }

    /// The target does not know the command of `step`, or not in this form: remembered for all requests to come.
    /// Returns the plan that does the rest of this one without it, if there is one.
    pub fn refused(&mut self, plan: Plan, step: &Step) -> Option<Plan> {
        match plan.phase {
            Phase::Unmap => {
                self.unmap = None;
                None
            }
            Phase::WriteSame => {
                // First without UNMAP, then not at all.
                if step.unmaps {
                    if let Zeroing::WriteSame { unmaps, .. } = &mut self.zeroing {
                        *unmaps = false;
                    }
                } else {
                    self.zeroing = Zeroing::PlainWrites;
                }
                let phase = match self.zeroing {
                    Zeroing::WriteSame { .. } => Phase::WriteSame,
                    Zeroing::PlainWrites => Phase::WriteZeros,
                };
                Some(Plan { phase, ..plan })
            }
            Phase::Read | Phase::Write | Phase::WriteZeros | Phase::Synchronize => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Read,
    Write,
    Unmap,
    WriteSame,
    WriteZeros,
    Synchronize,
}

/// How far a request has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    phase: Phase,
    /// Blocks done.
    done: u32,
}

/// What must be in the tag's buffer before the step leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fill {
    /// Nothing of ours: no data, or the block layer's.
    None,
    /// An UNMAP parameter list with one descriptor (SBC-4, 5.32).
    UnmapList(Extent),
    /// So many zero bytes.
    Zeros(u32),
}

impl Fill {
    /// Writes it to the start of `buffer`.
    pub fn write(self, buffer: BufferId, memory: &mut dyn Memory) {
        match self {
            Fill::None => {}
            Fill::UnmapList(extent) => {
                unmap_parameters(
                    memory.write(buffer, 0, UNMAP_LIST_LEN),
                    extent.lba,
                    extent.blocks,
                );
            }
            Fill::Zeros(len) => memory.write(buffer, 0, len).fill(0),
        }
    }
}

/// One command of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// The command.
    pub cdb: Cdb,
    /// Its data.
    pub transfer: Transfer,
    /// Blocks that it changes, if it changes any: such a step may leave an unresolved copy.
    pub changes: Option<Extent>,
    /// What to write into the buffer first.
    pub fill: Fill,
    /// Bytes of payload, for the counters.
    pub payload_len: u32,
    /// Without an answer for so long, it is aborted.
    pub timeout: Duration,
    /// Blocks that are done when it is.
    blocks: u32,
    /// WRITE SAME with UNMAP.
    unmaps: bool,
}

impl Plan {
    /// The plan of a request; `None` if there is nothing to do, so that it is done already.
    pub fn start(request: &Request, abilities: &Abilities) -> Result<Option<Plan>, IoError> {
        let phase = match request.operation {
            Operation::Flush if !abilities.write_cache && !abilities.force_writes => {
                return Ok(None);
            }
            Operation::Flush => Phase::Synchronize,
            _ if request.blocks == 0 => return Ok(None),
            Operation::Read => Phase::Read,
            Operation::Write => Phase::Write,
            Operation::Discard if abilities.unmap.is_none() => return Err(IoError::NotSupported),
            Operation::Discard => Phase::Unmap,
            Operation::WriteZeroes { .. } => match abilities.zeroing {
                Zeroing::WriteSame { .. } => Phase::WriteSame,
                Zeroing::PlainWrites => Phase::WriteZeros,
            },
        };
        Ok(Some(Plan { phase, done: 0 }))
    }

    /// The command that comes next. `buffer` is the tag's own.
    pub fn step(&self, request: &Request, abilities: &Abilities, buffer: BufferId) -> Step {
        let lba = request.lba + u64::from(self.done);
        let left = request.blocks - self.done;
        let force = request.fua || abilities.force_writes;
        let fua = force && abilities.fua;
        let span = |limit: u32| left.min(limit);
        let bytes = |blocks: u32| blocks * abilities.block_len;
        let to_target = |offset, len| Transfer::Write {
            buffer,
            offset,
            len,
        };
        let changes = |blocks| Some(Extent { lba, blocks });
        match self.phase {
            Phase::Read => {
                let blocks = span(abilities.transfer_blocks_max);
                Step {
                    cdb: Cdb::read_16(lba, blocks),
                    transfer: Transfer::Read {
                        buffer,
                        offset: bytes(self.done),
                        len: bytes(blocks),
                    },
                    changes: None,
                    fill: Fill::None,
                    payload_len: bytes(blocks),
                    timeout: COMMAND_TIMEOUT,
                    blocks,
                    unmaps: false,
                }
            }
            Phase::Write => {
                let blocks = span(abilities.transfer_blocks_max);
                Step {
                    cdb: Cdb::write_16(lba, blocks, fua),
                    transfer: to_target(bytes(self.done), bytes(blocks)),
                    changes: changes(blocks),
                    fill: Fill::None,
                    payload_len: bytes(blocks),
                    timeout: COMMAND_TIMEOUT,
                    blocks,
                    unmaps: false,
                }
            }
            Phase::WriteZeros => {
                let blocks = span(abilities.transfer_blocks_max);
                Step {
                    cdb: Cdb::write_16(lba, blocks, fua),
                    transfer: to_target(0, bytes(blocks)),
                    changes: changes(blocks),
                    fill: Fill::Zeros(bytes(blocks)),
                    payload_len: bytes(blocks),
                    timeout: COMMAND_TIMEOUT,
                    blocks,
                    unmaps: false,
                }
            }
            Phase::WriteSame => {
                let (limit, unmaps) = match abilities.zeroing {
                    Zeroing::WriteSame { blocks_max, unmaps } => (blocks_max, unmaps),
                    // Refused to another request meanwhile: this one finds out by itself.
                    Zeroing::PlainWrites => (1, false),
                };
                let may_unmap = request.operation == Operation::WriteZeroes { may_unmap: true };
                let unmap = may_unmap && unmaps;
                let blocks = span(limit);
                Step {
                    cdb: Cdb::write_same_16(lba, blocks, WriteSame { unmap, ndob: false }),
                    transfer: to_target(0, abilities.block_len),
                    changes: changes(blocks),
                    fill: Fill::Zeros(abilities.block_len),
                    payload_len: abilities.block_len,
                    timeout: LONG_COMMAND_TIMEOUT,
                    blocks,
                    unmaps: unmap,
                }
            }
            Phase::Unmap => {
                let limit = abilities.unmap.map_or(left, |limits| limits.max_blocks);
                let blocks = span(limit);
                Step {
                    cdb: Cdb::unmap(UNMAP_LIST_LEN as u16),
                    transfer: to_target(0, UNMAP_LIST_LEN),
                    changes: changes(blocks),
                    fill: Fill::UnmapList(Extent { lba, blocks }),
                    payload_len: 0,
                    timeout: LONG_COMMAND_TIMEOUT,
                    blocks,
                    unmaps: false,
                }
            }
            Phase::Synchronize => Step {
                cdb: Cdb::synchronize_cache_16(0, 0),
                transfer: Transfer::None,
                changes: None,
                fill: Fill::None,
                payload_len: 0,
                timeout: COMMAND_TIMEOUT,
                blocks: 0,
                unmaps: false,
            },
        }
    }

    /// Whether it zeroes by plain writes because nothing better is left.
    pub fn is_plain_write(&self) -> bool {
        self.phase == Phase::WriteZeros
    }

    /// The plan after `step` succeeded; `None` when the request is done.
    pub fn advance(self, step: &Step, request: &Request, abilities: &Abilities) -> Option<Plan> {
        if self.phase == Phase::Synchronize {
            return None;
        }
        let done = self.done + step.blocks;
        if done < request.blocks {
            return Some(Plan { done, ..self });
        }
        let force = request.fua || abilities.force_writes;
        let cached = abilities.write_cache || abilities.force_writes;
        let must_synchronize = match self.phase {
            Phase::Write | Phase::WriteZeros => force && cached && !abilities.fua,
            // WRITE SAME has no FUA bit.
            Phase::WriteSame => force && cached,
            Phase::Read | Phase::Unmap | Phase::Synchronize => false,
        };
        must_synchronize.then_some(Plan {
            phase: Phase::Synchronize,
            done,
        })
    }
}
