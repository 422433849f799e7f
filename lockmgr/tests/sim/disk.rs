//! The shared medium: a lockspace area and a few resource areas. Sector writes are atomic unless they are torn.
//!
//! Only the first bytes of a sector have a meaning, and only the first sectors of an area and its lock value block are ever
//! used, so a snapshot for a read takes no more than those.

use lockmgr::ondisk::{
    DeltaLease, DeltaSlot, Event, Geometry, HostSet, LeaderFlags, Name, PaxosLeader, Request,
    Version,
};

/// Sectors of each area that are kept: leader, request and one per host, or one slot per host.
const KEPT: usize = 34;
/// Bytes of each sector that are kept.
const HEAD: usize = 512;

pub fn space() -> Name {
    Name::new("SPACE").expect("short")
}

pub fn resource_name(index: usize) -> Name {
    Name::new(&format!("resource-{index}")).expect("short")
}

/// Where a resource is on the device.
pub fn resource_offset(geometry: Geometry, index: usize) -> u64 {
    (1 + index as u64) * geometry.area_bytes()
}

pub struct Disk {
    geometry: Geometry,
    /// Per area the sectors that are kept, and its lock value block behind them.
    areas: Vec<Vec<[u8; HEAD]>>,
    /// What is handed out: whole areas, of which only the kept sectors change.
    lockspace: Vec<u8>,
    resource: Vec<u8>,
}

/// What a read saw.
pub struct Snapshot {
    area: usize,
    /// First sector in the area.
    sector: usize,
    /// Bytes.
    len: usize,
    heads: Vec<[u8; HEAD]>,
}

impl Disk {
    pub fn format(geometry: Geometry, resources: usize, hosts: u64, io_timeout_s: u16) -> Disk {
        let sector = geometry.sector_bytes();
        let flags = LeaderFlags::of_align(geometry.align());
        let slot = DeltaSlot {
            lease: DeltaLease {
                version: Version::DELTA_3_4,
                flags,
                geometry,
                owner_id: 0,
                owner_generation: 0,
                space_name: space(),
                host_name: Name::EMPTY,
                timestamp: 0,
                dead_ext_by: 0,
                io_timeout: io_timeout_s,
                event: Event::default(),
            },
            notify: HostSet::EMPTY,
        };
        let mut lockspace = vec![0; geometry.area_bytes() as usize];
        let slots = geometry.max_hosts() as usize;
        for bytes in lockspace.chunks_exact_mut(sector).take(slots) {
            slot.emit(bytes);
        }
        let mut areas = vec![heads(geometry, &lockspace)];
        let mut resource = vec![0; geometry.area_bytes() as usize];
        for index in 0..resources {
            let leader = PaxosLeader {
                version: Version::PAXOS_6_4,
                flags,
                geometry,
                num_hosts: hosts,
                max_hosts: geometry.max_hosts(),
                owner_id: 0,
                owner_generation: 0,
                lver: 0,
                space_name: space(),
                resource_name: resource_name(index),
                timestamp: 0,
                unused1: 0,
                write_id: 0,
                write_generation: 0,
                write_timestamp: 0,
            };
            leader.emit(&mut resource[..sector]);
            Request::NONE.emit(&mut resource[sector..2 * sector]);
            areas.push(heads(geometry, &resource));
        }
        Disk {
            geometry,
            areas,
            lockspace,
            resource,
        }
    }

    fn place(&self, offset: u64) -> (usize, usize) {
        let area = self.geometry.area_bytes();
        let sector = (offset % area) as usize / self.geometry.sector_bytes();
        ((offset / area) as usize, sector)
    }

    /// Where a sector is kept.
    fn slot(&self, sector: usize) -> usize {
        let value_block = |at| at == (sector * self.geometry.sector_bytes()) as u64;
        match self.geometry.lvb_sector().is_some_and(value_block) {
            true => KEPT,
            false => sector,
        }
    }

    /// What a read sees that executes now.
    pub fn snapshot(&self, offset: u64, len: usize) -> Snapshot {
        let (area, sector) = self.place(offset);
        let first = self.slot(sector);
        let end = match first {
            KEPT => KEPT + 1,
            _ => (first + len / self.geometry.sector_bytes()).min(KEPT),
        };
        let heads = self.areas[area][first..end].to_vec();
        Snapshot {
            area,
            sector,
            len,
            heads,
        }
    }

    /// A read is not atomic: the sectors on one side of `middle` are seen again now.
    pub fn look_again(&self, snapshot: &mut Snapshot, middle: usize, tail: bool) {
        let first = self.slot(snapshot.sector);
        for (index, head) in snapshot.heads.iter_mut().enumerate() {
            if (index >= middle) == tail {
                *head = self.areas[snapshot.area][first + index];
            }
        }
    }

    /// The bytes of a snapshot.
    pub fn bytes(&mut self, snapshot: &Snapshot) -> &[u8] {
        let whole = match snapshot.area {
            0 => &mut self.lockspace,
            _ => &mut self.resource,
        };
        let sector = self.geometry.sector_bytes();
        let start = snapshot.sector * sector;
        for (head, bytes) in snapshot
            .heads
            .iter()
            .zip(whole[start..].chunks_exact_mut(sector))
        {
            bytes[..HEAD].copy_from_slice(head);
        }
        &whole[start..start + snapshot.len]
    }

    /// Executes a write of one sector.
    pub fn write(&mut self, offset: u64, bytes: &[u8], torn: bool) {
        assert_eq!(bytes.len(), self.geometry.sector_bytes());
        let (area, sector) = self.place(offset);
        let slot = self.slot(sector);
        let len = if torn { 44 } else { HEAD };
        self.areas[area][slot][..len].copy_from_slice(&bytes[..len]);
    }

    /// The leader of a resource, if it is one.
    pub fn leader(&self, index: usize) -> Option<PaxosLeader> {
        PaxosLeader::parse(&self.areas[1 + index][0]).ok()
    }
}

fn heads(geometry: Geometry, area: &[u8]) -> Vec<[u8; HEAD]> {
    area.chunks_exact(geometry.sector_bytes())
        .take(KEPT + 1)
        .map(|sector| *sector.first_chunk().expect("a sector is longer"))
        .collect()
}

impl Disk {
    /// Stands in for the real one while its bytes are lent.
    pub fn empty() -> Disk {
        Disk {
            geometry: Geometry::B512_M1,
            areas: Vec::new(),
            lockspace: Vec::new(),
            resource: Vec::new(),
        }
    }
}
