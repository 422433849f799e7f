//! The leader record, as numbers: the one layout that delta leases and resource leaders share.
//!
//! ```text
//!   0 magic      4 version    8 flags      12 sector_size
//!  16 num_hosts              24 max_hosts
//!  32 owner_id               40 owner_generation
//!  48 lver                   56 space_name (48)
//! 104 resource_name (48)    152 timestamp
//! 160 unused1               168 checksum of bytes 0 to 167
//! 172 unused2   174 io_timeout                      <- from here on outside the checksum
//! 176 write_id              184 write_generation   192 write_timestamp
//! ```
//!
//! Nothing is judged here. [`DeltaLease`](super::DeltaLease) and [`PaxosLeader`](super::PaxosLeader) judge.

use super::{
    BadRecord, Field, Geometry, LeaderFlags, Name, Problem, Record, SectorSize, Version, checksum,
};

/// Magic of a delta lease.
pub const DELTA_MAGIC: u32 = 0x1221_2010;
/// Magic of a resource leader.
pub const PAXOS_MAGIC: u32 = 0x0615_2010;
/// Magic of the leader of a deleted resource.
pub const CLEARED_MAGIC: u32 = 0x1128_2016;

/// Bytes of the record.
pub const LEADER_LEN: usize = 200;

/// Bytes under the checksum.
pub(super) const SUMMED: usize = 168;

/// Where the fields are.
pub(super) mod field {
    use super::Field;

    pub const MAGIC: Field = Field::new("magic", 0);
    pub const VERSION: Field = Field::new("version", 4);
    pub const FLAGS: Field = Field::new("flags", 8);
    pub const SECTOR_SIZE: Field = Field::new("sector_size", 12);
    pub const NUM_HOSTS: Field = Field::new("num_hosts", 16);
    pub const MAX_HOSTS: Field = Field::new("max_hosts", 24);
    pub const OWNER_ID: Field = Field::new("owner_id", 32);
    pub const OWNER_GENERATION: Field = Field::new("owner_generation", 40);
    pub const LVER: Field = Field::new("lver", 48);
    pub const SPACE_NAME: Field = Field::new("space_name", 56);
    pub const RESOURCE_NAME: Field = Field::new("resource_name", 104);
    pub const TIMESTAMP: Field = Field::new("timestamp", 152);
    pub const UNUSED1: Field = Field::new("unused1", 160);
    pub const CHECKSUM: Field = Field::new("checksum", 168);
    pub const UNUSED2: Field = Field::new("unused2", 172);
    pub const IO_TIMEOUT: Field = Field::new("io_timeout", 174);
    pub const WRITE_ID: Field = Field::new("write_id", 176);
    pub const WRITE_GENERATION: Field = Field::new("write_generation", 184);
    pub const WRITE_TIMESTAMP: Field = Field::new("write_timestamp", 192);
}

/// A leader record, unjudged: any 200 bytes are one, and it emits those bytes again.
#[allow(missing_docs, reason = "the fields are those of the layout above")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawLeader {
    pub magic: u32,
    pub version: Version,
    pub flags: LeaderFlags,
    pub sector_size: u32,
    pub num_hosts: u64,
    pub max_hosts: u64,
    pub owner_id: u64,
    pub owner_generation: u64,
    pub lver: u64,
    pub space_name: Name,
    pub resource_name: Name,
    pub timestamp: u64,
    pub unused1: u64,
    pub checksum: u32,
    pub unused2: u16,
    pub io_timeout: u16,
    pub write_id: u64,
    pub write_generation: u64,
    pub write_timestamp: u64,
}

impl RawLeader {
    /// Takes the first 200 bytes of a sector; `None` if there are fewer.
    pub fn read(sector: &[u8]) -> Option<RawLeader> {
        let b: &[u8; LEADER_LEN] = sector.first_chunk()?;
        Some(RawLeader {
            magic: field::MAGIC.u32(b),
            version: Version::from_disk(field::VERSION.u32(b)),
            flags: LeaderFlags(field::FLAGS.u32(b)),
            sector_size: field::SECTOR_SIZE.u32(b),
            num_hosts: field::NUM_HOSTS.u64(b),
            max_hosts: field::MAX_HOSTS.u64(b),
            owner_id: field::OWNER_ID.u64(b),
            owner_generation: field::OWNER_GENERATION.u64(b),
            lver: field::LVER.u64(b),
            space_name: Name::from_disk(field::SPACE_NAME.bytes(b)),
            resource_name: Name::from_disk(field::RESOURCE_NAME.bytes(b)),
            timestamp: field::TIMESTAMP.u64(b),
            unused1: field::UNUSED1.u64(b),
            checksum: field::CHECKSUM.u32(b),
            unused2: field::UNUSED2.u16(b),
            io_timeout: field::IO_TIMEOUT.u16(b),
            write_id: field::WRITE_ID.u64(b),
            write_generation: field::WRITE_GENERATION.u64(b),
            write_timestamp: field::WRITE_TIMESTAMP.u64(b),
        })
    }

    /// The 200 bytes, with the checksum as it stands in the record.
    pub fn emit(&self) -> [u8; LEADER_LEN] {
        let mut b = [0; LEADER_LEN];
        field::MAGIC.put_u32(&mut b, self.magic);
        field::VERSION.put_u32(&mut b, self.version.to_disk());
        field::FLAGS.put_u32(&mut b, self.flags.0);
        field::SECTOR_SIZE.put_u32(&mut b, self.sector_size);
        field::NUM_HOSTS.put_u64(&mut b, self.num_hosts);
        field::MAX_HOSTS.put_u64(&mut b, self.max_hosts);
        field::OWNER_ID.put_u64(&mut b, self.owner_id);
        field::OWNER_GENERATION.put_u64(&mut b, self.owner_generation);
        field::LVER.put_u64(&mut b, self.lver);
        field::SPACE_NAME.put(&mut b, &self.space_name.to_disk());
        field::RESOURCE_NAME.put(&mut b, &self.resource_name.to_disk());
        field::TIMESTAMP.put_u64(&mut b, self.timestamp);
        field::UNUSED1.put_u64(&mut b, self.unused1);
        field::CHECKSUM.put_u32(&mut b, self.checksum);
        field::UNUSED2.put_u16(&mut b, self.unused2);
        field::IO_TIMEOUT.put_u16(&mut b, self.io_timeout);
        field::WRITE_ID.put_u64(&mut b, self.write_id);
        field::WRITE_GENERATION.put_u64(&mut b, self.write_generation);
        field::WRITE_TIMESTAMP.put_u64(&mut b, self.write_timestamp);
        b
    }

    /// The checksum that these fields should have.
    pub fn computed_checksum(&self) -> u32 {
        checksum(&self.emit()[..SUMMED])
    }

    /// The same record with the checksum that belongs to it.
    #[must_use]
    pub fn summed(mut self) -> RawLeader {
        self.checksum = self.computed_checksum();
        self
    }

    /// The geometry that sector size and flags mean, if they mean one. For finding out how to read an unknown area.
    pub fn geometry(&self) -> Option<Geometry> {
        self.flags
            .geometry(SectorSize::from_bytes(self.sector_size)?)
    }
}

/// What makes a leader acceptable, by kind.
pub(super) struct Accepts {
    pub record: Record,
    pub magic: u32,
    /// Known major versions and the flags, align bits aside, that each may carry.
    pub versions: &'static [(u16, LeaderFlags)],
}

impl Accepts {
    /// Everything both kinds check, in the order in which a reader wants to hear of it: is it there, can we read it,
    /// is it whole, does it make sense.
    pub fn judge(&self, sector: &[u8]) -> Result<(RawLeader, Geometry), BadRecord> {
        let bad = |field, problem| BadRecord::new(self.record, field, problem);
        let raw = RawLeader::read(sector).ok_or_else(|| {
            let have = sector.len();
            let need = LEADER_LEN;
            bad(field::MAGIC, Problem::Short { have, need })
        })?;
        if raw.magic != self.magic {
            let problem = match raw.magic {
                CLEARED_MAGIC if self.magic == PAXOS_MAGIC => Problem::Cleared,
                found => Problem::Magic { found },
            };
            return Err(bad(field::MAGIC, problem));
        }
        let found = raw.version;
        let (_, allowed) = self
            .versions
            .iter()
            .find(|(major, _)| *major == found.major)
            .ok_or_else(|| bad(field::VERSION, Problem::Version { found }))?;
        // Over the bytes, not over the fields: only the disk knows what it holds.
        let (stored, computed) = (raw.checksum, checksum(&sector[..SUMMED]));
        if stored != computed {
            return Err(bad(field::CHECKSUM, Problem::Checksum { stored, computed }));
        }
        let size = raw.sector_size;
        let sector_size = SectorSize::from_bytes(size)
            .ok_or_else(|| bad(field::SECTOR_SIZE, Problem::Value { found: size.into() }))?;
        let found = raw.flags.0;
        let unknown = raw.flags.without_align().without(*allowed).0;
        if unknown != 0 {
            return Err(bad(field::FLAGS, Problem::Flags { found, unknown }));
        }
        let geometry = raw.flags.geometry(sector_size).ok_or_else(|| {
            bad(
                field::FLAGS,
                Problem::Value {
                    found: found.into(),
                },
            )
        })?;
        Ok((raw, geometry))
    }
}

/// Refuses a leader that is laid out otherwise than the area it was found in.
pub(super) fn verify_geometry(
    record: Record,
    found: Geometry,
    flags: LeaderFlags,
    area: Geometry,
) -> Result<(), BadRecord> {
    let (field, number) = match (found == area, found.sector() == area.sector()) {
        (true, _) => return Ok(()),
        (_, false) => (field::SECTOR_SIZE, found.sector_bytes() as u64),
        (_, true) => (field::FLAGS, flags.0.into()),
    };
    let problem = Problem::OtherGeometry { found: number };
    Err(BadRecord::new(record, field, problem))
}
