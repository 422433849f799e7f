//! Delta leases: one slot per host in a lockspace area. Holding slot N is what makes a host host N.
//!
//! A slot is one sector: the lease in bytes 0 to 199, and in bytes 256 to 511 the set of hosts that its owner is
//! calling. Slot 1 stands for the whole area: an area without it is not a lockspace.

use std::fmt;

use super::leader::{Accepts, DELTA_MAGIC, LEADER_LEN, field};
use super::{BadRecord, Geometry, HostId, LeaderFlags, Name, Problem, RawLeader, Record, Version};

/// Flags that sanlock 5 added.
const FLAGS_5: LeaderFlags = LeaderFlags::NO_TIMEOUT
    .with(LeaderFlags::DEAD_EXT)
    .with(LeaderFlags::CAW);

const DELTA: Accepts = Accepts {
    record: Record::DeltaLease,
    magic: DELTA_MAGIC,
    versions: &[(3, LeaderFlags(0)), (5, FLAGS_5)],
};

/// Bytes 256 to 511 of a slot.
const NOTIFY_AT: usize = 256;
const NOTIFY_LEN: usize = 256;

/// A verified delta lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeltaLease {
    /// Version of this record. A record is updated in the version in which it was found.
    pub version: Version,
    /// All flags, align bits included. They agree with `geometry`.
    pub flags: LeaderFlags,
    /// How the area is laid out.
    pub geometry: Geometry,
    /// Number of the slot once it was ever taken, else 0.
    pub owner_id: u64,
    /// Raised by each acquisition and never lowered; 0 if there was none.
    pub owner_generation: u64,
    /// Name of the lockspace.
    pub space_name: Name,
    /// Unique name of the machine that owns, or last owned, the slot. Empty if it was never taken.
    pub host_name: Name,
    /// 0: free. Else seconds of the owner's monotonic clock at its last renewal.
    pub timestamp: u64,
    /// Who set DEAD_EXT last, see [`dead_ext`](Self::dead_ext); kept when the flag is cleared.
    pub dead_ext_by: u64,
    /// The owner's I/O timeout in seconds, from which all its other times follow. Real programs keep 8 bits.
    pub io_timeout: u16,
    /// What the owner tells the hosts that it calls. Outside the checksum.
    pub event: Event,
}

/// An event that a host sends to the hosts in its [`HostSet`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Event {
    /// The generation of the receiver for which it is meant.
    pub generation: u64,
    /// What happened; 0 is no event.
    pub number: u64,
    /// Anything.
    pub data: u64,
}

/// Who declared a host dead.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DeadExt {
    /// Its host number.
    pub host: u64,
    /// The low 16 bits of its generation.
    pub generation_low: u16,
}

impl DeadExt {
    /// From the number on disk.
    pub const fn from_disk(number: u64) -> DeadExt {
        DeadExt {
            host: number >> 16,
            generation_low: number as u16,
        }
    }

    /// The number on disk.
    pub const fn to_disk(self) -> u64 {
        self.host << 16 | self.generation_low as u64
    }
}

impl DeltaLease {
    /// Verifies the lease in this sector: magic, version, checksum, geometry, flags, and the fields that are constant
    /// in delta leases. Whose lockspace it is remains to be asked: [`verify_space`](Self::verify_space).
    pub fn parse(sector: &[u8]) -> Result<DeltaLease, BadRecord> {
        let (raw, geometry) = DELTA.judge(sector)?;
        for (field, found, always) in [
            (field::NUM_HOSTS, raw.num_hosts, 0),
            (field::MAX_HOSTS, raw.max_hosts, 1),
            (field::LVER, raw.lver, 0),
        ] {
            if found != always {
                let problem = Problem::Value { found };
                return Err(BadRecord::new(Record::DeltaLease, field, problem));
            }
        }
        Ok(DeltaLease {
            version: raw.version,
            flags: raw.flags,
            geometry,
            owner_id: raw.owner_id,
            owner_generation: raw.owner_generation,
            space_name: raw.space_name,
            host_name: raw.resource_name,
            timestamp: raw.timestamp,
            dead_ext_by: raw.unused1,
            io_timeout: raw.io_timeout,
            event: Event {
                generation: raw.write_id,
                number: raw.write_generation,
                data: raw.write_timestamp,
            },
        })
    }

    /// All fields as they will lie on disk, summed.
    pub fn raw(&self) -> RawLeader {
        assert_eq!(
            self.flags.geometry(self.geometry.sector()),
            Some(self.geometry),
            "flags and geometry disagree"
        );
        RawLeader {
            magic: DELTA_MAGIC,
            version: self.version,
            flags: self.flags,
            sector_size: self.geometry.sector_bytes() as u32,
            num_hosts: 0,
            max_hosts: 1,
            owner_id: self.owner_id,
            owner_generation: self.owner_generation,
            lver: 0,
            space_name: self.space_name,
            resource_name: self.host_name,
            timestamp: self.timestamp,
            unused1: self.dead_ext_by,
            checksum: 0,
            unused2: 0,
            io_timeout: self.io_timeout,
            write_id: self.event.generation,
            write_generation: self.event.number,
            write_timestamp: self.event.data,
        }
        .summed()
    }

    /// Refuses the slot of another lockspace.
    pub fn verify_space(&self, space: &Name) -> Result<(), BadRecord> {
        if self.space_name == *space {
            return Ok(());
        }
        let found = self.space_name;
        let problem = Problem::Name { found };
        Err(BadRecord::new(
            Record::DeltaLease,
            field::SPACE_NAME,
            problem,
        ))
    }

    /// Refuses a slot that is laid out otherwise than the area it was found in.
    pub fn verify_geometry(&self, area: Geometry) -> Result<(), BadRecord> {
        super::leader::verify_geometry(Record::DeltaLease, self.geometry, self.flags, area)
    }

    /// Whether nobody has this slot.
    pub const fn is_free(&self) -> bool {
        self.timestamp == 0
    }

    /// Whether the last that became of this slot is that `host` released it, under this name.
    pub fn left_by(&self, host: HostId, name: &Name) -> bool {
        self.is_free() && self.owner_id == host.number() && self.host_name == *name
    }

    /// Who declared the owner, in this generation, dead; `None` if nobody did.
    pub fn dead_ext(&self) -> Option<DeadExt> {
        self.flags
            .contains(LeaderFlags::DEAD_EXT)
            .then(|| DeadExt::from_disk(self.dead_ext_by))
    }
}

/// A set of hosts: one bit each. What an owner writes behind its lease to call others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HostSet([u8; NOTIFY_LEN]);

impl HostSet {
    /// Nobody.
    pub const EMPTY: HostSet = HostSet([0; NOTIFY_LEN]);

    /// Whether `host` is in it.
    pub const fn contains(&self, host: HostId) -> bool {
        self.0[host.index() / 8] & (1 << (host.index() % 8)) != 0
    }

    /// Puts `host` in.
    pub const fn insert(&mut self, host: HostId) {
        self.0[host.index() / 8] |= 1 << (host.index() % 8);
    }

    /// Takes `host` out.
    pub const fn remove(&mut self, host: HostId) {
        self.0[host.index() / 8] &= !(1 << (host.index() % 8));
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        *self == HostSet::EMPTY
    }

    /// All in it, smallest first.
    pub fn iter(&self) -> impl Iterator<Item = HostId> {
        (1..=HostId::MAX.number())
            .filter_map(HostId::new)
            .filter(|&host| self.contains(host))
    }
}

impl fmt::Debug for HostSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.iter().map(HostId::number))
            .finish()
    }
}

/// A whole slot: lease and called hosts are always written together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeltaSlot {
    /// The lease.
    pub lease: DeltaLease,
    /// The hosts that the owner calls.
    pub notify: HostSet,
}

impl DeltaSlot {
    /// Verifies the lease; the set has no checksum, any bits are one.
    pub fn parse(sector: &[u8]) -> Result<DeltaSlot, BadRecord> {
        let lease = DeltaLease::parse(sector)?;
        let notify = sector
            .get(NOTIFY_AT..)
            .and_then(|rest| rest.first_chunk())
            .copied()
            .map(HostSet)
            .ok_or_else(|| {
                let (have, need) = (sector.len(), NOTIFY_AT + NOTIFY_LEN);
                let problem = Problem::Short { have, need };
                BadRecord::new(Record::DeltaLease, field::MAGIC, problem)
            })?;
        Ok(DeltaSlot { lease, notify })
    }

    /// Fills one sector. Panics if `sector` is not one sector of the lease's geometry.
    pub fn emit(&self, sector: &mut [u8]) {
        assert_eq!(sector.len(), self.lease.geometry.sector_bytes());
        sector.fill(0);
        sector[..LEADER_LEN].copy_from_slice(&self.lease.raw().emit());
        sector[NOTIFY_AT..NOTIFY_AT + NOTIFY_LEN].copy_from_slice(&self.notify.0);
    }
}
