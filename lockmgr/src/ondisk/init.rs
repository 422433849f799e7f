//! Formatting: the writes that make a lockspace, a resource or an index, and the one that deletes a resource.
//!
//! Everything is formatted in the versions that every sanlock in the field reads (3.4 and 6.4). Nothing here looks at
//! what was there before: the caller reads the place first ([`Found`](super::Found)) and knows that it may be lost.

use std::fmt;

use super::rindex::max_entries;
use super::{
    CLEARED_MAGIC, DeltaLease, DeltaSlot, Event, Geometry, HostSet, LEADER_LEN, LeaderFlags, Name,
    PaxosLeader, RINDEX_LEASE, Request, RindexHeader, Version,
};

/// One write. Each may be sent when the one before is on the disk.
#[derive(Clone, PartialEq, Eq)]
pub struct Write {
    /// Bytes from the start of the area (of the index, for those of an index).
    pub offset: u64,
    /// Whole sectors.
    pub bytes: Vec<u8>,
}

/// Why nothing is formatted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CannotInit {
    /// In this geometry an LVB written by a sanlock host overwrites the sector of some host in a later resource.
    LvbHitsOthers(Geometry),
    /// A lockspace or resource must have a name.
    NoName,
    /// The I/O timeout is kept in 8 bits, in seconds, and is not 0.
    IoTimeout(u16),
    /// An index of this geometry has 1 to this many entries.
    Entries {
        /// How many were wanted.
        wanted: u32,
        /// The most there can be.
        most: u32,
    },
    /// A resource of this geometry is for 1 to this many hosts.
    Hosts {
        /// How many were wanted.
        wanted: u64,
        /// The most there can be.
        most: u64,
    },
    /// The resources would lie beyond any device.
    Offset(u64),
}

impl fmt::Display for CannotInit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CannotInit::LvbHitsOthers(geometry) => write!(
                f,
                "{geometry} are not formatted: sanlock writes a resource's value block over the next resources' \
                 records there; use 512-byte sectors with 1 MiB or 4096-byte sectors with 8 MiB"
            ),
            CannotInit::NoName => f.write_str("a name is needed"),
            CannotInit::IoTimeout(seconds) => {
                write!(f, "an I/O timeout is 1 to 255 seconds, not {seconds}")
            }
            CannotInit::Entries { wanted, most } => {
                write!(f, "an index has 1 to {most} entries here, not {wanted}")
            }
            CannotInit::Hosts { wanted, most } => {
                write!(f, "a resource is for 1 to {most} hosts here, not {wanted}")
            }
            CannotInit::Offset(offset) => write!(f, "no index fits at byte {offset}"),
        }
    }
}

impl std::error::Error for CannotInit {}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Write {{ {} bytes at {} }}",
            self.bytes.len(),
            self.offset
        )
    }
}

fn check(geometry: Geometry, names: &[&Name]) -> Result<(), CannotInit> {
    if geometry.lvb_victim().is_some() {
        return Err(CannotInit::LvbHitsOthers(geometry));
    }
    match names.iter().any(|name| name.is_empty()) {
        true => Err(CannotInit::NoName),
        false => Ok(()),
    }
}

fn empty_area(geometry: Geometry) -> Vec<u8> {
    let len = usize::try_from(geometry.area_bytes()).expect("8 MiB fit any machine's memory");
    vec![0; len]
}

/// A lockspace without hosts, in two writes. The first is the whole area, in which slot 1 has no magic; the second
/// gives it one. Until then nobody takes the area for a lockspace.
///
/// `io_timeout`, in seconds, is what stands in slots never used: 1 to 255, 10 by custom.
pub fn lockspace(
    geometry: Geometry,
    space: &Name,
    io_timeout: u16,
) -> Result<[Write; 2], CannotInit> {
    check(geometry, &[space])?;
    if !(1..=255).contains(&io_timeout) {
        return Err(CannotInit::IoTimeout(io_timeout));
    }
    Ok(lockspace_writes(geometry, space, io_timeout))
}

fn lockspace_writes(geometry: Geometry, space: &Name, io_timeout: u16) -> [Write; 2] {
    let unused = DeltaSlot {
        lease: DeltaLease {
            version: Version::DELTA_3_4,
            flags: LeaderFlags::of_align(geometry.align()),
            geometry,
            owner_id: 0,
            owner_generation: 0,
            space_name: *space,
            host_name: Name::EMPTY,
            timestamp: 0,
            dead_ext_by: 0,
            io_timeout,
            event: Event::default(),
        },
        notify: HostSet::EMPTY,
    };
    let mut slot = vec![0; geometry.sector_bytes()];
    unused.emit(&mut slot);
    let mut area = empty_area(geometry);
    let used = geometry.max_hosts() as usize * slot.len();
    for place in area[..used].chunks_exact_mut(slot.len()) {
        place.copy_from_slice(&slot);
    }
    area[..4].fill(0);
    [
        Write {
            offset: 0,
            bytes: area,
        },
        Write {
            offset: 0,
            bytes: slot,
        },
    ]
}

/// The leader of a resource that nobody ever had, open to every host of the geometry.
fn unowned(geometry: Geometry, space: &Name, resource: &Name) -> PaxosLeader {
    PaxosLeader {
        version: Version::PAXOS_6_4,
        flags: LeaderFlags::of_align(geometry.align()),
        geometry,
        num_hosts: geometry.max_hosts(),
        max_hosts: geometry.max_hosts(),
        owner_id: 0,
        owner_generation: 0,
        lver: 0,
        space_name: *space,
        resource_name: *resource,
        timestamp: 0,
        unused1: 0,
        write_id: 0,
        write_generation: 0,
        write_timestamp: 0,
    }
}

fn resource_area(leader: &PaxosLeader) -> Vec<u8> {
    let mut area = empty_area(leader.geometry);
    let sector = leader.geometry.sector_bytes();
    leader.emit(&mut area[..sector]);
    Request::NONE.emit(&mut area[sector..2 * sector]);
    area
}

/// A resource without owner, request, ballots and LVB, for every host of the geometry, in one write.
pub fn resource(geometry: Geometry, space: &Name, resource: &Name) -> Result<Write, CannotInit> {
    resource_for(geometry, space, resource, geometry.max_hosts())
}

/// The same for hosts 1 to `hosts` alone, which makes the reads of a ballot shorter. The stride of ballot numbers
/// stays that of the geometry.
pub fn resource_for(
    geometry: Geometry,
    space: &Name,
    resource: &Name,
    hosts: u64,
) -> Result<Write, CannotInit> {
    check(geometry, &[space, resource])?;
    let most = geometry.max_hosts();
    if !(1..=most).contains(&hosts) {
        let wanted = hosts;
        return Err(CannotInit::Hosts { wanted, most });
    }
    let mut leader = unowned(geometry, space, resource);
    leader.num_hosts = hosts;
    Ok(Write {
        offset: 0,
        bytes: resource_area(&leader),
    })
}

/// Deletes a resource: its area as fresh, but under the magic of cleared areas. `now` is in seconds of our monotonic
/// clock and stays as a trace.
///
/// No geometry is refused here: what a sanlock host made must be possible to delete.
pub fn clear_resource(geometry: Geometry, space: &Name, resource: &Name, now: u64) -> Write {
    let mut leader = unowned(geometry, space, resource);
    leader.write_timestamp = now;
    let mut bytes = resource_area(&leader);
    let mut raw = leader.raw();
    raw.magic = CLEARED_MAGIC;
    bytes[..LEADER_LEN].copy_from_slice(&raw.summed().emit());
    Write { offset: 0, bytes }
}

/// An index at byte `offset` of the device with `entries` free entries, in two writes: the resource that guards it,
/// then the index itself, so that whoever finds the index finds its guard.
pub fn rindex(
    geometry: Geometry,
    space: &Name,
    offset: u64,
    entries: u32,
) -> Result<[Write; 2], CannotInit> {
    check(geometry, &[space])?;
    let most = max_entries(geometry);
    if !(1..=most).contains(&entries) {
        let wanted = entries;
        return Err(CannotInit::Entries { wanted, most });
    }
    let header = RindexHeader {
        version: Version::RINDEX_1_2,
        geometry,
        max_resources: entries,
        offset,
        space_name: *space,
    };
    if header.resource_offset(entries - 1).is_none() {
        return Err(CannotInit::Offset(offset));
    }
    let guard = Name::new(RINDEX_LEASE).expect("it fits a name");
    let mut index = empty_area(geometry);
    header.emit(&mut index[..geometry.sector_bytes()]);
    Ok([
        Write {
            offset: geometry.area_bytes(),
            bytes: resource_area(&unowned(geometry, space, &guard)),
        },
        Write {
            offset: 0,
            bytes: index,
        },
    ])
}
