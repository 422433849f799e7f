//! From a block request to the SCSI commands that do it (SBC-4).
//!
//! Most requests are one command. A large read or write may be cut into chunks that run side by side on several
//! paths. A discard or zeroing beyond the target's limits is several in sequence, a forced write on a target without
//! FUA is followed by SYNCHRONIZE CACHE, and zeroing falls back to plain WRITEs where WRITE SAME is refused. A
//! [`Plan`] is the place in that sequence, a [`Span`] what one command covers, a [`Step`] the command.

use core::time::Duration;

use iscsi_client::memory::{BufferId, Memory};
use iscsi_client::scsi::{Cdb, UNMAP_PARAMETERS_LEN, WriteSame, unmap_parameters};
use iscsi_client::session::Transfer;

use crate::contract::{IoError, Operation, Request};
use crate::fence::Extent;
use crate::identity::{Description, UnmapLimits};
use crate::mutant::{Mutant, lives};
use crate::policy::Direction;

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
    pub fn refused(&mut self, plan: Plan, span: Span, step: &Step) -> Option<Plan> {
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
                Some(Plan {
                    phase,
                    next: span.start,
                })
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
    /// First block that was not handed out yet; for SYNCHRONIZE CACHE, 1 when it was.
    next: u32,
}

/// The blocks of a request that one command covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// First block, counted from the request's own first.
    pub start: u32,
    /// Number of blocks.
    pub blocks: u32,
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
    /// First block behind all that it touches; 0 if it touches none.
    pub end: u64,
    /// What to write into the buffer first.
    pub fill: Fill,
    /// Bytes of payload, for the counters.
    pub payload_len: u32,
    /// Without an answer for so long, it is aborted.
    pub timeout: Duration,
    /// WRITE SAME with UNMAP.
    unmaps: bool,
}

impl Step {
    /// Which way its payload goes.
    pub fn direction(&self) -> Option<Direction> {
        match self.transfer {
            Transfer::None => None,
            Transfer::Read { .. } => Some(Direction::Read),
            Transfer::Write { .. } => Some(Direction::Write),
        }
    }
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
        Ok(Some(Plan { phase, next: 0 }))
    }

    /// Whether its commands may run side by side: each has a part of the request's data to itself.
    pub fn is_parallel(&self) -> bool {
        matches!(self.phase, Phase::Read | Phase::Write)
    }

    /// Whether some of it has not been handed out yet.
    pub fn has_more(&self, request: &Request) -> bool {
        match self.phase {
            // It covers no blocks of its own, but is one command.
            Phase::Synchronize => self.next == 0,
            _ => self.next < request.blocks,
        }
    }

    /// Whether its commands change the medium. SYNCHRONIZE CACHE does not: it makes durable what was written and answered
    /// before.
    pub fn changes_medium(&self) -> bool {
        match self.phase {
            Phase::Write | Phase::Unmap | Phase::WriteSame | Phase::WriteZeros => true,
            Phase::Read | Phase::Synchronize => false,
        }
    }

    /// Blocks not handed out yet whose data cross the wire.
    pub fn blocks_to_move(&self, request: &Request) -> u32 {
        match self.phase {
            Phase::Read | Phase::Write => request.blocks - self.next,
            Phase::Unmap | Phase::WriteSame | Phase::WriteZeros | Phase::Synchronize => 0,
        }
    }

    /// Hands out what the next command covers: not more than `blocks_max` and what the target allows.
    ///
    /// # Panics
    /// If nothing is left.
    pub fn take(&mut self, request: &Request, abilities: &Abilities, blocks_max: u32) -> Span {
        assert!(self.has_more(request), "nothing is left to hand out");
        let limit = match self.phase {
            Phase::Synchronize => {
                self.next = 1;
                return Span {
                    start: 0,
                    blocks: 0,
                };
            }
            Phase::Read | Phase::Write => abilities.transfer_blocks_max.min(blocks_max),
            Phase::WriteZeros => abilities.transfer_blocks_max,
            Phase::WriteSame => match abilities.zeroing {
                Zeroing::WriteSame { blocks_max, .. } => blocks_max,
                // Refused to another request meanwhile: this one finds out by itself.
                Zeroing::PlainWrites => 1,
            },
            Phase::Unmap => abilities.unmap.map_or(u32::MAX, |limits| limits.max_blocks),
        };
        let span = Span {
            start: self.next,
            blocks: (request.blocks - self.next).min(limit.max(1)),
        };
        self.next += span.blocks;
        span
    }

    /// The command for a span. `buffer` is the tag's own.
    pub fn step(
        &self,
        span: Span,
        request: &Request,
        abilities: &Abilities,
        buffer: BufferId,
    ) -> Step {
        let lba = request.lba + u64::from(span.start);
        let blocks = span.blocks;
        let force = request.fua || abilities.force_writes;
        let fua = force && abilities.fua;
        let bytes = |blocks: u32| blocks * abilities.block_len;
        let to_target = |offset, len| Transfer::Write {
            buffer,
            offset,
            len,
        };
        let step = Step {
            cdb: Cdb::synchronize_cache_16(0, 0),
            transfer: Transfer::None,
            changes: Some(Extent { lba, blocks }),
            end: lba + u64::from(blocks),
            fill: Fill::None,
            payload_len: 0,
            timeout: COMMAND_TIMEOUT,
            unmaps: false,
        };
        match self.phase {
            Phase::Read => Step {
                cdb: Cdb::read_16(lba, blocks),
                transfer: Transfer::Read {
                    buffer,
                    offset: bytes(span.start),
                    len: bytes(blocks),
                },
                changes: None,
                payload_len: bytes(blocks),
                ..step
            },
            Phase::Write => Step {
                cdb: Cdb::write_16(lba, blocks, fua),
                transfer: to_target(bytes(span.start), bytes(blocks)),
                payload_len: bytes(blocks),
                ..step
            },
            Phase::WriteZeros => Step {
                cdb: Cdb::write_16(lba, blocks, fua),
                transfer: to_target(0, bytes(blocks)),
                fill: Fill::Zeros(bytes(blocks)),
                payload_len: bytes(blocks),
                ..step
            },
            Phase::WriteSame => {
                let may_unmap = request.operation == Operation::WriteZeroes { may_unmap: true };
                let able = matches!(abilities.zeroing, Zeroing::WriteSame { unmaps: true, .. });
                let unmap = may_unmap && able;
                Step {
                    cdb: Cdb::write_same_16(lba, blocks, WriteSame { unmap, ndob: false }),
                    transfer: to_target(0, abilities.block_len),
                    fill: Fill::Zeros(abilities.block_len),
                    payload_len: abilities.block_len,
                    timeout: LONG_COMMAND_TIMEOUT,
                    unmaps: unmap,
                    ..step
                }
            }
            Phase::Unmap => Step {
                cdb: Cdb::unmap(UNMAP_LIST_LEN as u16),
                transfer: to_target(0, UNMAP_LIST_LEN),
                fill: Fill::UnmapList(Extent { lba, blocks }),
                timeout: LONG_COMMAND_TIMEOUT,
                ..step
            },
            Phase::Synchronize => Step {
                changes: None,
                end: 0,
                ..step
            },
        }
    }

    /// Whether it zeroes by plain writes because nothing better is left.
    pub fn is_plain_write(&self) -> bool {
        self.phase == Phase::WriteZeros
    }

    /// The plan of what follows when everything of this one is done; `None` when the request is done.
    pub fn then(self, request: &Request, abilities: &Abilities) -> Option<Plan> {
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
            next: 0,
        })
    }
}
