//! The resource index: which resource lies where, so that resources can be made and deleted by name.
//!
//! ```text
//! A              the index: header in sector 0, entries of 64 bytes from sector 1 on
//! A + align      a resource named "rindex_lease": whoever changes the index owns it
//! A + (2+i)*align   the resource of entry i
//! ```
//!
//! Header: `magic, version, flags, sector_size, max_resources: u32; 0: u32; rx_offset: u64; lockspace name`.
//! Entry: `res_offset: u64; flags: u32; 0: u32; name`. Neither has a checksum.

use super::{
    AlignSize, BadRecord, Field, Geometry, NAME_LEN, Name, Problem, Record, SectorSize, Version,
};

/// Magic of the header.
pub const RINDEX_MAGIC: u32 = 0x0104_2018;
/// Name of the resource that guards the index.
pub const RINDEX_LEASE: &str = "rindex_lease";
/// Entries of an index that is formatted without saying how many.
pub const RINDEX_DEFAULT_ENTRIES: u32 = 4096;

const HEADER_LEN: usize = 80;
const ENTRY_LEN: usize = 64;

mod field {
    use super::Field;

    pub const MAGIC: Field = Field::new("magic", 0);
    pub const VERSION: Field = Field::new("version", 4);
    pub const FLAGS: Field = Field::new("flags", 8);
    pub const SECTOR_SIZE: Field = Field::new("sector_size", 12);
    pub const MAX_RESOURCES: Field = Field::new("max_resources", 16);
    pub const RX_OFFSET: Field = Field::new("rx_offset", 24);
    pub const SPACE_NAME: Field = Field::new("lockspace_name", 32);

    pub const ENTRY_OFFSET: Field = Field::new("res_offset", 0);
    pub const ENTRY_FLAGS: Field = Field::new("flags", 8);
    pub const ENTRY_NAME: Field = Field::new("name", 16);
}

/// A verified header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RindexHeader {
    /// Version of the index.
    pub version: Version,
    /// How the index and its resources are laid out.
    pub geometry: Geometry,
    /// Number of entries: 1 to [`max_entries`].
    pub max_resources: u32,
    /// Where the index lies, in bytes from the start of the device.
    pub offset: u64,
    /// Name of the lockspace.
    pub space_name: Name,
}

/// An entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RindexEntry {
    /// No resource.
    #[default]
    Free,
    /// A resource by its name. Where it lies follows from the number of the entry.
    Used {
        /// Its name.
        name: Name,
        /// 0 in all that is known, kept as found.
        flags: u32,
    },
}

/// The most entries that an index of this geometry may have.
pub const fn max_entries(geometry: Geometry) -> u32 {
    16_000 * geometry.align().mib()
}

/// The align size's bit in the header: other bits than those of leaders.
const fn align_flag(align: AlignSize) -> u32 {
    align.mib()
}

impl RindexHeader {
    /// Verifies the header in this sector. That it is *this* index remains to be asked: [`verify`](Self::verify).
    pub fn parse(sector: &[u8]) -> Result<RindexHeader, BadRecord> {
        let bad = |field, problem| BadRecord::new(Record::RindexHeader, field, problem);
        let b: &[u8; HEADER_LEN] = sector.first_chunk().ok_or_else(|| {
            let (have, need) = (sector.len(), HEADER_LEN);
            bad(field::MAGIC, Problem::Short { have, need })
        })?;
        let found = field::MAGIC.u32(b);
        if found != RINDEX_MAGIC {
            return Err(bad(field::MAGIC, Problem::Magic { found }));
        }
        let version = Version::from_disk(field::VERSION.u32(b));
        if version.major != Version::RINDEX_1_2.major {
            let problem = Problem::Version { found: version };
            return Err(bad(field::VERSION, problem));
        }
        let value = |field: Field, number: u32| {
            let found = number.into();
            bad(field, Problem::Value { found })
        };
        let size = field::SECTOR_SIZE.u32(b);
        let sector = SectorSize::from_bytes(size).ok_or_else(|| value(field::SECTOR_SIZE, size))?;
        let flags = field::FLAGS.u32(b);
        let geometry = AlignSize::ALL
            .into_iter()
            .find(|&align| align_flag(align) == flags)
            .and_then(|align| Geometry::new(sector, align).ok())
            .ok_or_else(|| value(field::FLAGS, flags))?;
        let max_resources = field::MAX_RESOURCES.u32(b);
        if !(1..=max_entries(geometry)).contains(&max_resources) {
            return Err(value(field::MAX_RESOURCES, max_resources));
        }
        Ok(RindexHeader {
            version,
            geometry,
            max_resources,
            offset: field::RX_OFFSET.u64(b),
            space_name: Name::from_disk(field::SPACE_NAME.bytes(b)),
        })
    }

    /// Refuses a header that was copied here from elsewhere, or belongs to another lockspace.
    pub fn verify(&self, offset: u64, space: &Name) -> Result<(), BadRecord> {
        let (field, problem) = if self.offset != offset {
            let found = self.offset;
            (field::RX_OFFSET, Problem::Value { found })
        } else if self.space_name != *space {
            let found = self.space_name;
            (field::SPACE_NAME, Problem::Name { found })
        } else {
            return Ok(());
        };
        Err(BadRecord::new(Record::RindexHeader, field, problem))
    }

    /// Fills sector 0 of the index. Panics if `sector` is not one sector of its geometry.
    pub fn emit(&self, sector: &mut [u8]) {
        assert_eq!(sector.len(), self.geometry.sector_bytes());
        sector.fill(0);
        field::MAGIC.put_u32(sector, RINDEX_MAGIC);
        field::VERSION.put_u32(sector, self.version.to_disk());
        field::FLAGS.put_u32(sector, align_flag(self.geometry.align()));
        let size = self.geometry.sector_bytes() as u32;
        field::SECTOR_SIZE.put_u32(sector, size);
        field::MAX_RESOURCES.put_u32(sector, self.max_resources);
        field::RX_OFFSET.put_u64(sector, self.offset);
        field::SPACE_NAME.put(sector, &self.space_name.to_disk());
    }

    /// Where the guarding resource lies on the device; `None` if that is beyond any device.
    pub fn lease_offset(&self) -> Option<u64> {
        self.offset.checked_add(self.geometry.area_bytes())
    }

    /// Where the resource of entry `index` lies on the device; `None` if there is no such entry or the place is
    /// beyond any device.
    pub fn resource_offset(&self, index: u32) -> Option<u64> {
        if index >= self.max_resources {
            return None;
        }
        let areas = 2 + u64::from(index);
        self.offset.checked_add(areas * self.geometry.area_bytes())
    }

    /// Bytes from the start of the index to entry `index`. Changes rewrite the sector around it.
    fn entry_at(&self, index: u32) -> usize {
        assert!(index < self.max_resources, "no entry {index}");
        self.geometry.sector_bytes() + ENTRY_LEN * index as usize
    }

    /// Bytes from the start of the index to the sector with entry `index`. Panics if there is no such entry.
    pub fn entry_sector(&self, index: u32) -> u64 {
        let at = self.entry_at(index);
        (at - at % self.geometry.sector_bytes()) as u64
    }

    /// Entry `index` of the index in `area`, which begins with the header. Panics if there is no such entry.
    pub fn entry(&self, area: &[u8], index: u32) -> Result<RindexEntry, BadRecord> {
        let at = self.entry_at(index);
        let bad = |field: Field, problem| {
            BadRecord::new(Record::RindexEntry, field, problem).at(at as u64)
        };
        let b: &[u8; ENTRY_LEN] = area
            .get(at..)
            .and_then(|rest| rest.first_chunk())
            .ok_or_else(|| {
                let (have, need) = (area.len(), at + ENTRY_LEN);
                bad(field::ENTRY_OFFSET, Problem::Short { have, need })
            })?;
        let found = field::ENTRY_OFFSET.u64(b);
        let name = Name::from_disk(field::ENTRY_NAME.bytes(b));
        match (found, name.is_empty()) {
            (0, true) => Ok(RindexEntry::Free),
            // Half an entry, or one that points elsewhere and would make two resources of one area.
            (_, nameless) if nameless || self.resource_offset(index) != Some(found) => {
                Err(bad(field::ENTRY_OFFSET, Problem::Value { found }))
            }
            (_, _) => Ok(RindexEntry::Used {
                name,
                flags: field::ENTRY_FLAGS.u32(b),
            }),
        }
    }

    /// All entries of the index in `area`, in order.
    pub fn entries<'a>(
        &'a self,
        area: &'a [u8],
    ) -> impl Iterator<Item = (u32, Result<RindexEntry, BadRecord>)> + 'a {
        (0..self.max_resources).map(|index| (index, self.entry(area, index)))
    }

    /// Puts entry `index` into its sector as read from [`entry_sector`](Self::entry_sector), leaving its neighbours.
    /// Panics if there is no such entry, or its resource lies beyond any device.
    pub fn put_entry(&self, sector: &mut [u8], index: u32, entry: &RindexEntry) {
        assert_eq!(sector.len(), self.geometry.sector_bytes());
        let within = self.entry_at(index) % sector.len();
        let b = &mut sector[within..within + ENTRY_LEN];
        b.fill(0);
        if let RindexEntry::Used { name, flags } = entry {
            let offset = self.resource_offset(index);
            field::ENTRY_OFFSET.put_u64(b, offset.expect("a place on the device"));
            field::ENTRY_FLAGS.put_u32(b, *flags);
            field::ENTRY_NAME.put(b, &name.to_disk());
        }
    }
}

// The layout in numbers: a name ends the entry, and the header fits the smallest sector.
const _: () = assert!(field::ENTRY_NAME.offset + NAME_LEN == ENTRY_LEN);
const _: () = assert!(field::SPACE_NAME.offset + NAME_LEN == HEADER_LEN && HEADER_LEN <= 512);
