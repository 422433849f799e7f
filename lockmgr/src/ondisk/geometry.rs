//! Sector size and align size, and where in an area everything lies.

use std::fmt;

/// Size of one sector of the structures. A property of what is on disk, not of the device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SectorSize {
    /// 512 bytes.
    B512,
    /// 4096 bytes.
    B4096,
}

impl SectorSize {
    /// Both, smaller first.
    pub const ALL: [SectorSize; 2] = [SectorSize::B512, SectorSize::B4096];

    /// The size with so many bytes.
    pub fn from_bytes(bytes: u32) -> Option<SectorSize> {
        match bytes {
            512 => Some(SectorSize::B512),
            4096 => Some(SectorSize::B4096),
            _ => None,
        }
    }

    /// In bytes.
    pub const fn bytes(self) -> usize {
        match self {
            SectorSize::B512 => 512,
            SectorSize::B4096 => 4096,
        }
    }
}

/// Size of one area: a lockspace, a resource or an index takes exactly one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AlignSize {
    /// 1 MiB.
    M1,
    /// 2 MiB.
    M2,
    /// 4 MiB.
    M4,
    /// 8 MiB.
    M8,
}

impl AlignSize {
    /// All, smallest first.
    pub const ALL: [AlignSize; 4] = [AlignSize::M1, AlignSize::M2, AlignSize::M4, AlignSize::M8];

    /// The size of so many bytes.
    pub fn from_bytes(bytes: u64) -> Option<AlignSize> {
        AlignSize::ALL.into_iter().find(|a| a.bytes() == bytes)
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        (self.mib() as u64) << 20
    }

    /// In MiB.
    pub const fn mib(self) -> u32 {
        match self {
            AlignSize::M1 => 1,
            AlignSize::M2 => 2,
            AlignSize::M4 => 4,
            AlignSize::M8 => 8,
        }
    }
}

/// Number of a host in a lockspace: 1 to 2000, and at most [`Geometry::max_hosts`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostId(u16);

impl HostId {
    /// The largest number that any geometry has room for.
    pub const MAX: HostId = HostId(2000);

    /// The host with this number; `None` for 0 and above 2000.
    pub fn new(number: u64) -> Option<HostId> {
        let number = u16::try_from(number).ok()?;
        (1..=HostId::MAX.0)
            .contains(&number)
            .then_some(HostId(number))
    }

    /// 1 to 2000.
    pub const fn number(self) -> u64 {
        self.0 as u64
    }

    /// 0 to 1999: the place in a table of hosts.
    pub const fn index(self) -> usize {
        self.0 as usize - 1
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A valid pair of sector size and align size. There are five.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Geometry {
    sector: SectorSize,
    align: AlignSize,
}

/// 512-byte sectors go with 1 MiB only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoSuchGeometry {
    /// The sector size.
    pub sector: SectorSize,
    /// The align size that does not go with it.
    pub align: AlignSize,
}

impl fmt::Display for NoSuchGeometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "there are no {} MiB areas of {}-byte sectors: 512 goes with 1 MiB, 4096 with 1, 2, 4 or 8 MiB",
            self.align.mib(),
            self.sector.bytes()
        )
    }
}

impl std::error::Error for NoSuchGeometry {}

impl Geometry {
    /// The only one with 512-byte sectors.
    pub const B512_M1: Geometry = Geometry::of(SectorSize::B512, AlignSize::M1);
    /// The usual one with 4096-byte sectors.
    pub const B4096_M8: Geometry = Geometry::of(SectorSize::B4096, AlignSize::M8);
    /// All five.
    pub const ALL: [Geometry; 5] = [
        Geometry::B512_M1,
        Geometry::of(SectorSize::B4096, AlignSize::M1),
        Geometry::of(SectorSize::B4096, AlignSize::M2),
        Geometry::of(SectorSize::B4096, AlignSize::M4),
        Geometry::B4096_M8,
    ];

    /// Bytes of the first read of an unknown area: enough for a leader whatever its sector size.
    pub const PROBE_LEN: usize = 4096;

    const fn of(sector: SectorSize, align: AlignSize) -> Geometry {
        Geometry { sector, align }
    }

    /// The pair, if it is one of the five.
    pub fn new(sector: SectorSize, align: AlignSize) -> Result<Geometry, NoSuchGeometry> {
        let geometry = Geometry::of(sector, align);
        match Geometry::ALL.contains(&geometry) {
            true => Ok(geometry),
            false => Err(NoSuchGeometry { sector, align }),
        }
    }

    /// What a sector size goes with by default, and what old areas mean that name no align size.
    pub const fn default_for(sector: SectorSize) -> Geometry {
        match sector {
            SectorSize::B512 => Geometry::B512_M1,
            SectorSize::B4096 => Geometry::B4096_M8,
        }
    }

    /// Sector size.
    pub const fn sector(self) -> SectorSize {
        self.sector
    }

    /// Align size.
    pub const fn align(self) -> AlignSize {
        self.align
    }

    /// Bytes of a sector.
    pub const fn sector_bytes(self) -> usize {
        self.sector.bytes()
    }

    /// Bytes of an area.
    pub const fn area_bytes(self) -> u64 {
        self.align.bytes()
    }

    /// The largest host number that an area has room for; also the stride of ballot numbers in leaders made for it.
    pub const fn max_hosts(self) -> u64 {
        match self.sector {
            SectorSize::B512 => 2000,
            SectorSize::B4096 => 250 * self.align.mib() as u64,
        }
    }

    /// Whether this host has its sectors in areas of this geometry.
    pub const fn has_room_for(self, host: HostId) -> bool {
        host.number() <= self.max_hosts()
    }

    /// All hosts that have room, 1 first.
    pub fn hosts(self) -> impl Iterator<Item = HostId> {
        (1..=self.max_hosts()).filter_map(HostId::new)
    }

    /// Bytes from the start of a lockspace area to the delta lease of `host`.
    pub const fn delta_slot(self, host: HostId) -> u64 {
        (host.number() - 1) * self.sector_bytes() as u64
    }

    /// Bytes from the start of a resource area to its request record.
    pub const fn request_sector(self) -> u64 {
        self.sector_bytes() as u64
    }

    /// Bytes from the start of a resource area to the sector with `host`'s dblock and mode block.
    pub const fn host_sector(self, host: HostId) -> u64 {
        (host.number() + 1) * self.sector_bytes() as u64
    }
}

impl fmt::Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}-byte sectors with {} MiB areas",
            self.sector_bytes(),
            self.align.mib()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_geometries() {
        let table: Vec<_> = Geometry::ALL
            .iter()
            .map(|g| (g.sector_bytes(), g.align().mib(), g.max_hosts()))
            .collect();
        assert_eq!(
            table,
            [
                (512, 1, 2000),
                (4096, 1, 250),
                (4096, 2, 500),
                (4096, 4, 1000),
                (4096, 8, 2000)
            ]
        );
        let refused = Geometry::new(SectorSize::B512, AlignSize::M8).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "there are no 8 MiB areas of 512-byte sectors: 512 goes with 1 MiB, 4096 with 1, 2, 4 or 8 MiB"
        );
    }

    #[test]
    fn every_host_has_its_sectors_inside_the_area() {
        for geometry in Geometry::ALL {
            let sector = geometry.sector_bytes() as u64;
            let last = geometry.hosts().last().unwrap();
            assert_eq!(last.number(), geometry.max_hosts());
            assert!(geometry.delta_slot(last) + sector <= geometry.area_bytes());
            assert!(geometry.host_sector(last) + sector <= geometry.area_bytes());
        }
        let first = HostId::new(1).unwrap();
        assert_eq!(Geometry::B512_M1.delta_slot(first), 0);
        assert_eq!(Geometry::B4096_M8.host_sector(first), 8192);
    }

    #[test]
    fn host_ids_end_at_2000() {
        assert_eq!(HostId::new(0), None);
        assert_eq!(HostId::new(2001), None);
        assert_eq!(HostId::new(u64::MAX), None);
        assert_eq!(HostId::new(2000), Some(HostId::MAX));
    }
}
