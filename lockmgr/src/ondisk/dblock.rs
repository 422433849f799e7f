//! A host's own sector in a resource: its dblock (what it says in the ballot) and its mode block (that it shares).
//!
//! ```text
//!   0 mbal     8 bal     16 inp     24 inp2     32 inp3     40 lver
//!  48 checksum of bytes 0 to 47    52 flags
//! 128 mode flags                  136 mode generation
//! ```
//!
//! The two blocks share a sector, so they are always written together; only that host writes it, but for one case:
//! whoever finds a dead host's shared lease in the way zeroes the whole sector.

use super::{BadRecord, Field, Problem, Record, checksum};

mod field {
    use super::Field;

    pub const MBAL: Field = Field::new("mbal", 0);
    pub const BAL: Field = Field::new("bal", 8);
    pub const INP: Field = Field::new("inp", 16);
    pub const INP2: Field = Field::new("inp2", 24);
    pub const INP3: Field = Field::new("inp3", 32);
    pub const LVER: Field = Field::new("lver", 40);
    pub const CHECKSUM: Field = Field::new("checksum", 48);
    pub const FLAGS: Field = Field::new("flags", 52);
    pub const MODE_FLAGS: Field = Field::new("mode_flags", 128);
    pub const MODE_GENERATION: Field = Field::new("mode_generation", 136);
}

/// Bytes of the sector that have a meaning.
const LEN: usize = 144;
const SUMMED: usize = 48;

/// Dblock flag: this host let go of what it proposed, though others may still finish the ballot for it.
pub const DBLOCK_RELEASED: u32 = 1;
/// Mode flag: this host holds the lease shared.
pub const MODE_SHARED: u32 = 1;

/// The summed part of a dblock: one host's voice in Disk Paxos, for the lease version `lver`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct BallotBlock {
    /// The largest ballot that this host started.
    pub mbal: u64,
    /// The largest ballot in which it reached the second phase.
    pub bal: u64,
    /// The proposed owner's host number; 0 if it proposed none yet.
    pub inp: u64,
    /// The proposed owner's generation.
    pub inp2: u64,
    /// The proposed owner's timestamp, in seconds of its own clock.
    pub inp3: u64,
    /// The lease version that the ballot is for.
    pub lver: u64,
}

/// A verified dblock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Dblock {
    /// The host never took part, or its sector was zeroed.
    #[default]
    Empty,
    /// The host took part.
    Voted {
        /// What it said last.
        ballot: BallotBlock,
        /// [`DBLOCK_RELEASED`]; other bits have no known meaning. Outside the checksum.
        flags: u32,
    },
}

impl Dblock {
    /// What the host said, if anything.
    pub const fn ballot(&self) -> Option<&BallotBlock> {
        match self {
            Dblock::Empty => None,
            Dblock::Voted { ballot, .. } => Some(ballot),
        }
    }

    /// Whether the host let go of what it proposed.
    pub const fn is_released(&self) -> bool {
        match self {
            Dblock::Empty => false,
            Dblock::Voted { flags, .. } => *flags & DBLOCK_RELEASED != 0,
        }
    }
}

/// A mode block. Without a checksum, so without anything to verify.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ModeBlock {
    /// [`MODE_SHARED`]; other bits have no known meaning.
    pub flags: u32,
    /// The generation in which the host holds the lease shared.
    pub generation: u64,
}

impl ModeBlock {
    /// Nothing is shared.
    pub const NONE: ModeBlock = ModeBlock {
        flags: 0,
        generation: 0,
    };

    /// Held shared by the host in this generation.
    pub const fn of_shared(generation: u64) -> ModeBlock {
        ModeBlock {
            flags: MODE_SHARED,
            generation,
        }
    }

    /// The generation that holds the lease shared. No host lives in generation 0: that is damage, and ignored.
    pub const fn shared(&self) -> Option<u64> {
        match self.generation {
            1.. if self.flags & MODE_SHARED != 0 => Some(self.generation),
            _ => None,
        }
    }
}

/// All of a host's sector.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct HostSector {
    /// Its voice in the ballot.
    pub dblock: Dblock,
    /// What it holds shared.
    pub mode: ModeBlock,
}

impl HostSector {
    /// Verifies the dblock's checksum. An error leaves the mode block unknown as well: see
    /// [`mode_unverified`](Self::mode_unverified).
    pub fn parse(sector: &[u8]) -> Result<HostSector, BadRecord> {
        let bad = |field, problem| BadRecord::new(Record::Dblock, field, problem);
        let b: &[u8; LEN] = sector.first_chunk().ok_or_else(|| {
            let (have, need) = (sector.len(), LEN);
            bad(field::MBAL, Problem::Short { have, need })
        })?;
        let ballot = BallotBlock {
            mbal: field::MBAL.u64(b),
            bal: field::BAL.u64(b),
            inp: field::INP.u64(b),
            inp2: field::INP2.u64(b),
            inp3: field::INP3.u64(b),
            lver: field::LVER.u64(b),
        };
        let stored = field::CHECKSUM.u32(b);
        let flags = field::FLAGS.u32(b);
        let said_nothing = (stored, ballot.mbal, ballot.bal, ballot.inp, ballot.lver);
        let dblock = if said_nothing == (0, 0, 0, 0, 0) {
            Dblock::Empty
        } else {
            let computed = checksum(&b[..SUMMED]);
            if stored != computed {
                return Err(bad(field::CHECKSUM, Problem::Checksum { stored, computed }));
            }
            Dblock::Voted { ballot, flags }
        };
        let mode = ModeBlock {
            flags: field::MODE_FLAGS.u32(b),
            generation: field::MODE_GENERATION.u64(b),
        };
        Ok(HostSector { dblock, mode })
    }

    /// The mode block of a sector whose dblock may be damaged; `None` if there are too few bytes.
    pub fn mode_unverified(sector: &[u8]) -> Option<ModeBlock> {
        let b: &[u8; LEN] = sector.first_chunk()?;
        Some(ModeBlock {
            flags: field::MODE_FLAGS.u32(b),
            generation: field::MODE_GENERATION.u64(b),
        })
    }

    /// Fills one sector: 512 or 4096 bytes.
    pub fn emit(&self, sector: &mut [u8]) {
        sector.fill(0);
        if let Dblock::Voted { ballot, flags } = self.dblock {
            field::MBAL.put_u64(sector, ballot.mbal);
            field::BAL.put_u64(sector, ballot.bal);
            field::INP.put_u64(sector, ballot.inp);
            field::INP2.put_u64(sector, ballot.inp2);
            field::INP3.put_u64(sector, ballot.inp3);
            field::LVER.put_u64(sector, ballot.lver);
            let sum = checksum(&sector[..SUMMED]);
            field::CHECKSUM.put_u32(sector, sum);
            field::FLAGS.put_u32(sector, flags);
        }
        field::MODE_FLAGS.put_u32(sector, self.mode.flags);
        field::MODE_GENERATION.put_u64(sector, self.mode.generation);
    }
}
