//! The request record, sector 1 of a resource: another host asks the owner to let go.
//!
//! It has no checksum: magic and version are all there is to verify.

use super::{BadRecord, Field, Problem, Record, Version};

const MAGIC: u32 = 0x0829_2011;
const LEN: usize = 20;

mod field {
    use super::Field;

    pub const MAGIC: Field = Field::new("magic", 0);
    pub const VERSION: Field = Field::new("version", 4);
    pub const LVER: Field = Field::new("lver", 8);
    pub const FORCE_MODE: Field = Field::new("force_mode", 16);
}

/// What the owner is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ForceMode {
    /// Nothing: no request.
    #[default]
    None,
    /// Kill the holder.
    Force,
    /// Let the holder end by itself.
    Graceful,
}

impl ForceMode {
    /// The number on disk.
    pub const fn to_disk(self) -> u32 {
        match self {
            ForceMode::None => 0,
            ForceMode::Force => 1,
            ForceMode::Graceful => 2,
        }
    }

    /// From the number on disk; `None` above 2.
    pub const fn from_disk(number: u32) -> Option<ForceMode> {
        match number {
            0 => Some(ForceMode::None),
            1 => Some(ForceMode::Force),
            2 => Some(ForceMode::Graceful),
            _ => None,
        }
    }
}

/// A verified request record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// Version of this record.
    pub version: Version,
    /// The lease version from which on the asker wants the resource; owners of older ones are meant.
    pub lver: u64,
    /// What the owner shall do.
    pub force_mode: ForceMode,
}

impl Request {
    /// No request: the record of a fresh resource.
    pub const NONE: Request = Request {
        version: Version::REQUEST_1_1,
        lver: 0,
        force_mode: ForceMode::None,
    };

    /// Verifies the record in this sector.
    pub fn parse(sector: &[u8]) -> Result<Request, BadRecord> {
        let bad = |field, problem| BadRecord::new(Record::Request, field, problem);
        let b: &[u8; LEN] = sector.first_chunk().ok_or_else(|| {
            let (have, need) = (sector.len(), LEN);
            bad(field::MAGIC, Problem::Short { have, need })
        })?;
        let found = field::MAGIC.u32(b);
        if found != MAGIC {
            return Err(bad(field::MAGIC, Problem::Magic { found }));
        }
        let version = Version::from_disk(field::VERSION.u32(b));
        if version.major != Version::REQUEST_1_1.major {
            let problem = Problem::Version { found: version };
            return Err(bad(field::VERSION, problem));
        }
        let mode = field::FORCE_MODE.u32(b);
        let force_mode = ForceMode::from_disk(mode)
            .ok_or_else(|| bad(field::FORCE_MODE, Problem::Value { found: mode.into() }))?;
        Ok(Request {
            version,
            lver: field::LVER.u64(b),
            force_mode,
        })
    }

    /// Fills sector 1 of the area.
    pub fn emit(&self, sector: &mut [u8]) {
        sector.fill(0);
        field::MAGIC.put_u32(sector, MAGIC);
        field::VERSION.put_u32(sector, self.version.to_disk());
        field::LVER.put_u64(sector, self.lver);
        field::FORCE_MODE.put_u32(sector, self.force_mode.to_disk());
    }
}
