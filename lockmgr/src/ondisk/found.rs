//! What lies at a place of which nothing is known yet.

use super::{
    CLEARED_MAGIC, DELTA_MAGIC, Geometry, PAXOS_MAGIC, RINDEX_MAGIC, RawLeader, RindexHeader,
};

/// What the first bytes of an area say it is. Nothing is verified but the magic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// Zeros.
    Nothing,
    /// Not one of ours: a file system, data, or the first half of a formatting.
    Foreign {
        /// The first four bytes, little endian.
        magic: u32,
    },
    /// A lockspace.
    Lockspace(RawLeader),
    /// A resource.
    Resource(RawLeader),
    /// A deleted resource.
    Cleared(RawLeader),
    /// An index; its geometry, if the header makes sense.
    Index(Option<Geometry>),
}

impl Found {
    /// Looks at the start of an area: [`Geometry::PROBE_LEN`] bytes are enough. `None` if there are fewer than 200.
    pub fn at(start: &[u8]) -> Option<Found> {
        let raw = RawLeader::read(start)?;
        let probe = &start[..start.len().min(Geometry::PROBE_LEN)];
        Some(match raw.magic {
            DELTA_MAGIC => Found::Lockspace(raw),
            PAXOS_MAGIC => Found::Resource(raw),
            CLEARED_MAGIC => Found::Cleared(raw),
            RINDEX_MAGIC => Found::Index(RindexHeader::parse(start).ok().map(|h| h.geometry)),
            _ if probe.iter().all(|&byte| byte == 0) => Found::Nothing,
            magic => Found::Foreign { magic },
        })
    }

    /// The geometry that the area says it has.
    pub fn geometry(&self) -> Option<Geometry> {
        match self {
            Found::Nothing | Found::Foreign { .. } => None,
            Found::Lockspace(raw) | Found::Resource(raw) | Found::Cleared(raw) => raw.geometry(),
            Found::Index(geometry) => *geometry,
        }
    }
}
