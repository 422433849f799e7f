//! The leader of a resource: who has it, or had it last, and how often it changed hands.
//!
//! `owner_id` stays after a release: only the timestamp says whether the lease is held.

use super::leader::{Accepts, LEADER_LEN, PAXOS_MAGIC, field};
use super::{BadRecord, Geometry, HostId, LeaderFlags, Name, Problem, RawLeader, Record, Version};

const PAXOS: Accepts = Accepts {
    record: Record::PaxosLeader,
    magic: PAXOS_MAGIC,
    versions: &[
        (6, LeaderFlags::SHORT_HOLD),
        (7, LeaderFlags::SHORT_HOLD.with(LeaderFlags::CAW)),
    ],
};

/// A verified resource leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PaxosLeader {
    /// Version of this record. A record is updated in the version in which it was found.
    pub version: Version,
    /// All flags, align bits included. They agree with `geometry`.
    pub flags: LeaderFlags,
    /// How the area is laid out.
    pub geometry: Geometry,
    /// Hosts 1 to this may use it. At least 1, at most `max_hosts`.
    pub num_hosts: u64,
    /// The stride of ballot numbers. At least 1, at most [`Geometry::max_hosts`].
    pub max_hosts: u64,
    /// The owner, or the last one; 0 if there was none.
    pub owner_id: u64,
    /// Its generation.
    pub owner_generation: u64,
    /// Raised by one by each ballot that was won.
    pub lver: u64,
    /// Name of the lockspace.
    pub space_name: Name,
    /// Name of the resource.
    pub resource_name: Name,
    /// 0: free. Else seconds of the owner's monotonic clock when it acquired.
    pub timestamp: u64,
    /// 0 in all that is known, kept as found.
    pub unused1: u64,
    /// The host that wrote this record. Outside the checksum, like the next two.
    pub write_id: u64,
    /// Its generation.
    pub write_generation: u64,
    /// Seconds of its monotonic clock when it wrote.
    pub write_timestamp: u64,
}

impl PaxosLeader {
    /// Verifies the leader in this sector: magic, version, checksum, geometry, flags, numbers of hosts. Whose it is
    /// remains to be asked: [`verify_names`](Self::verify_names).
    pub fn parse(sector: &[u8]) -> Result<PaxosLeader, BadRecord> {
        let (raw, geometry) = PAXOS.judge(sector)?;
        // A stride of 0 or numbers beyond the area would break the arithmetic of ballots and reads.
        for (field, found, most) in [
            (field::MAX_HOSTS, raw.max_hosts, geometry.max_hosts()),
            (field::NUM_HOSTS, raw.num_hosts, raw.max_hosts),
        ] {
            if !(1..=most).contains(&found) {
                let problem = Problem::Value { found };
                return Err(BadRecord::new(Record::PaxosLeader, field, problem));
            }
        }
        Ok(PaxosLeader {
            version: raw.version,
            flags: raw.flags,
            geometry,
            num_hosts: raw.num_hosts,
            max_hosts: raw.max_hosts,
            owner_id: raw.owner_id,
            owner_generation: raw.owner_generation,
            lver: raw.lver,
            space_name: raw.space_name,
            resource_name: raw.resource_name,
            timestamp: raw.timestamp,
            unused1: raw.unused1,
            write_id: raw.write_id,
            write_generation: raw.write_generation,
            write_timestamp: raw.write_timestamp,
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
            magic: PAXOS_MAGIC,
            version: self.version,
            flags: self.flags,
            sector_size: self.geometry.sector_bytes() as u32,
            num_hosts: self.num_hosts,
            max_hosts: self.max_hosts,
            owner_id: self.owner_id,
            owner_generation: self.owner_generation,
            lver: self.lver,
            space_name: self.space_name,
            resource_name: self.resource_name,
            timestamp: self.timestamp,
            unused1: self.unused1,
            checksum: 0,
            unused2: 0,
            io_timeout: 0,
            write_id: self.write_id,
            write_generation: self.write_generation,
            write_timestamp: self.write_timestamp,
        }
        .summed()
    }

    /// Fills sector 0 of the area. Panics if `sector` is not one sector of the leader's geometry.
    pub fn emit(&self, sector: &mut [u8]) {
        assert_eq!(sector.len(), self.geometry.sector_bytes());
        sector.fill(0);
        sector[..LEADER_LEN].copy_from_slice(&self.raw().emit());
    }

    /// Refuses the leader of another lockspace or resource.
    pub fn verify_names(&self, space: &Name, resource: &Name) -> Result<(), BadRecord> {
        for (field, found, wanted) in [
            (field::SPACE_NAME, self.space_name, space),
            (field::RESOURCE_NAME, self.resource_name, resource),
        ] {
            if found != *wanted {
                let problem = Problem::Name { found };
                return Err(BadRecord::new(Record::PaxosLeader, field, problem));
            }
        }
        Ok(())
    }

    /// Refuses a leader that is laid out otherwise than it was read.
    pub fn verify_geometry(&self, area: Geometry) -> Result<(), BadRecord> {
        super::leader::verify_geometry(Record::PaxosLeader, self.geometry, self.flags, area)
    }

    /// Refuses a resource that was made for fewer hosts.
    pub fn verify_host(&self, host: HostId) -> Result<(), BadRecord> {
        if host.number() <= self.num_hosts {
            return Ok(());
        }
        let last = self.num_hosts;
        let problem = Problem::NotForHost { last };
        Err(BadRecord::new(
            Record::PaxosLeader,
            field::NUM_HOSTS,
            problem,
        ))
    }

    /// Whether nobody owns it exclusively. Shared holders show in their mode blocks only.
    pub const fn is_free(&self) -> bool {
        self.timestamp == 0
    }

    /// Whether the owner is only passing through on its way to a shared lease.
    pub fn is_short_hold(&self) -> bool {
        self.flags.contains(LeaderFlags::SHORT_HOLD)
    }
}
