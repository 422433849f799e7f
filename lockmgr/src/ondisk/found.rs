//! What lies at a place of which nothing is known yet.

use std::fmt;

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

/// What a sentence about the place says: "there is ... already".
impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resource = |raw: &RawLeader| (raw.resource_name, raw.space_name);
        match self {
            Found::Nothing => write!(f, "nothing"),
            Found::Foreign { magic } => write!(f, "something that begins with {magic:#010x}"),
            Found::Lockspace(raw) => write!(f, "lockspace {:?}", raw.space_name),
            Found::Resource(raw) => {
                let (name, space) = resource(raw);
                write!(f, "resource {name:?} of lockspace {space:?}")
            }
            Found::Cleared(raw) => {
                let (name, space) = resource(raw);
                write!(f, "deleted resource {name:?} of lockspace {space:?}")
            }
            Found::Index(_) => write!(f, "a resource index"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ondisk::{Name, init};

    #[test]
    fn a_place_says_what_it_is() {
        let g = Geometry::B512_M1;
        let (space, name) = (Name::new("LS").unwrap(), Name::new("RA").unwrap());
        let [_, lockspace] = init::lockspace(g, &space, 10).unwrap();
        let [guard, index] = init::rindex(g, &space, 0, 1).unwrap();
        let table = [
            (lockspace.bytes, "lockspace \"LS\"", Some(g)),
            (
                init::resource(g, &space, &name).unwrap().bytes,
                "resource \"RA\" of lockspace \"LS\"",
                Some(g),
            ),
            (
                init::clear_resource(g, &space, &name, 1).bytes,
                "deleted resource \"RA\" of lockspace \"LS\"",
                Some(g),
            ),
            (
                guard.bytes,
                "resource \"rindex_lease\" of lockspace \"LS\"",
                Some(g),
            ),
            (index.bytes, "a resource index", Some(g)),
            (vec![0; 4096], "nothing", None),
            (vec![7; 512], "something that begins with 0x07070707", None),
        ];
        for (bytes, wanted, geometry) in table {
            let found = Found::at(&bytes).unwrap();
            assert_eq!((&*found.to_string(), found.geometry()), (wanted, geometry));
        }
        assert_eq!(Found::at(&[0; 199]), None);
    }
}
