//! Formats a lockspace or a resource, where nothing can be lost.
//!
//! What may be written over, and why nobody can miss it:
//!
//! | there is | rule |
//! |---|---|
//! | zeros, all of the area | yes |
//! | a lockspace as it was formatted, also the first half of a formatting | yes: no host is in it, and one that is just joining reads its slot again after 2 x io_timeout and begins anew |
//! | a deleted resource, otherwise as formatted | yes: its magic keeps every host away |
//! | a free resource | no: a host may be in the middle of a ballot, whose marks would be wiped out between its reads |
//! | an area that any host ever used, held or free | no: one look cannot tell the living from the dead, and a host or a resource elsewhere may remember its generations |
//! | anything else, damage, other layouts and versions among it | no |
//!
//! Zeros prove nothing on a disk with other contents: a device that is claimed on this host, that begins with something
//! else, or that has a larger lease area around the place, is refused too. Looking comes first, so a refusal leaves every
//! byte as it was.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use lockmgr::disk::{DirectDisk, Disk};
use lockmgr::ondisk::init::{self, CannotInit, Write};
use lockmgr::ondisk::{
    AlignSize, DELTA_MAGIC, DeltaSlot, Found, Geometry, Name, NoSuchGeometry, PaxosLeader,
    RawLeader, Request, SectorSize,
};
use rustix::fs::OFlags;
use serde::Serialize;

use super::place::{Place, readable};
use crate::failure::{Failure, Kind};

/// Seconds that one I/O may take, as a fresh lockspace says it and every sanlock assumes it. Each host that joins writes
/// its own.
const IO_TIMEOUT_S: u16 = 10;

/// What to make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// A lockspace.
    Lockspace {
        /// Its name.
        name: Name,
    },
    /// A resource.
    Resource {
        /// The lockspace whose hosts share it.
        lockspace: Name,
        /// Its name.
        name: Name,
        /// For hosts 1 to this; `None` for all that the layout has room for.
        hosts: Option<u64>,
    },
}

/// What was made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Made {
    /// The device or file.
    pub path: String,
    /// Bytes from its start.
    pub offset_bytes: u64,
    /// Bytes of a sector of the area.
    pub sector_bytes: usize,
    /// Bytes of the area.
    pub area_bytes: u64,
    /// Hosts 1 to this may use it.
    pub hosts: u64,
    /// What was there before, in words.
    pub replaced: String,
}

/// Formats.
///
/// # Errors
/// [`Kind::Usage`] for sizes, offsets and names that cannot be, [`Kind::Refused`] where something could be lost,
/// [`Kind::NotFound`] and [`Kind::Failed`] from the disk. Nothing is written then, but for a write that fails itself.
pub fn init(
    place: &Place,
    what: What,
    sector: Option<SectorSize>,
    align: Option<AlignSize>,
) -> Result<Made, Failure> {
    let mut disk = place.open()?;
    let geometry = geometry(sector.unwrap_or(disk.sector()), align)?;
    let writes = writes(geometry, what)?;
    verify_place(place, &mut disk, geometry)?;
    // Held until the end: who mounts or activates the device meanwhile is told that it is busy.
    let _claim = claim(place)?;
    let replaced = look(place, &mut disk, geometry)?;
    for write in &writes {
        let at = place.at(place.offset + write.offset);
        disk.write(at.offset, &write.bytes).map_err(|error| {
            let mut failure = at.io_failed("write", error);
            failure.next =
                "half an area may be there now: see dmesg, then run it again, which says how to clear it".to_owned();
            failure
        })?;
    }
    let hosts = match what {
        What::Lockspace { .. } => geometry.max_hosts(),
        What::Resource { hosts, .. } => hosts.unwrap_or(geometry.max_hosts()),
    };
    Ok(Made {
        path: place.path.display().to_string(),
        offset_bytes: place.offset,
        sector_bytes: geometry.sector_bytes(),
        area_bytes: geometry.area_bytes(),
        hosts,
        replaced,
    })
}

fn geometry(sector: SectorSize, align: Option<AlignSize>) -> Result<Geometry, Failure> {
    let usual = Geometry::default_for(sector);
    let geometry = Geometry::new(sector, align.unwrap_or(usual.align()));
    geometry.map_err(|error: NoSuchGeometry| {
        Failure::new(Kind::Usage, error.to_string(), "leave --align away")
    })
}

fn writes(geometry: Geometry, what: What) -> Result<Vec<Write>, Failure> {
    let writes = match what {
        What::Lockspace { name } => init::lockspace(geometry, &name, IO_TIMEOUT_S).map(Vec::from),
        What::Resource {
            lockspace,
            name,
            hosts,
        } => {
            let hosts = hosts.unwrap_or(geometry.max_hosts());
            init::resource_for(geometry, &lockspace, &name, hosts).map(|write| vec![write])
        }
    };
    writes.map_err(|error| {
        let next = match error {
            CannotInit::LvbHitsOthers(_) => "leave --align away",
            CannotInit::Hosts { .. } => "check --max-hosts",
            _ => "check the names",
        };
        Failure::new(Kind::Usage, error.to_string(), next)
    })
}

/// The area must lie at a multiple of its size, as every tool assumes, and end on the disk.
fn verify_place(place: &Place, disk: &mut DirectDisk, geometry: Geometry) -> Result<(), Failure> {
    let area = geometry.area_bytes();
    if geometry.sector() < disk.sector() {
        return Err(Failure::new(
            Kind::Usage,
            format!(
                "{} has blocks of 4096 bytes: sectors of 512 cannot be written there",
                place.path.display()
            ),
            "leave --sector away",
        ));
    }
    if !place.offset.is_multiple_of(area) {
        let mib = geometry.align().mib();
        let below = place.offset - place.offset % area;
        return Err(Failure::new(
            Kind::Usage,
            format!(
                "byte {} is no place for an area of {mib} MiB: it is no multiple of that",
                place.offset
            ),
            format!("the place before it is {}", place.at(below)),
        ));
    }
    let size = disk
        .size()
        .map_err(|error| place.io_failed("measure", error))?;
    if place.offset.checked_add(area).is_none_or(|end| end > size) {
        return Err(Failure::new(
            Kind::Usage,
            format!(
                "{} has {size} bytes: no room for an area of {area} at byte {}",
                place.path.display(),
                place.offset
            ),
            "make it larger first; nothing is extended",
        ));
    }
    Ok(())
}

/// Takes a block device for ourselves as far as the kernel of this host knows. `None` for a file.
fn claim(place: &Place) -> Result<Option<std::fs::File>, Failure> {
    let failed = |error: std::io::Error| {
        let path = place.path.display();
        match error
            .raw_os_error()
            .map(rustix::io::Errno::from_raw_os_error)
        {
            Some(rustix::io::Errno::BUSY) => Failure::new(
                Kind::Refused,
                format!("{path} is in use on this host: mounted, or below another device"),
                "see lsblk; give the leases a logical volume or partition of their own",
            ),
            _ => Failure::new(
                Kind::Failed,
                format!("{path}: {error}"),
                "look at the kernel's log: dmesg",
            ),
        }
    };
    let kind = std::fs::metadata(&place.path).map_err(failed)?.file_type();
    if !kind.is_block_device() {
        return Ok(None);
    }
    let mut exclusive = OpenOptions::new();
    exclusive
        .read(true)
        .custom_flags(OFlags::EXCL.bits() as i32);
    exclusive.open(&place.path).map(Some).map_err(failed)
}

/// Looks at everything that an area here would touch. What is there, in words.
fn look(place: &Place, disk: &mut DirectDisk, geometry: Geometry) -> Result<String, Failure> {
    not_amid_other_things(place, disk)?;
    not_within_another(place, disk)?;
    let mut area = vec![0; usize::try_from(geometry.area_bytes()).expect("8 MiB fit")];
    let read = disk.read(place.offset, &mut area);
    read.map_err(|error| place.io_failed("read", error))?;
    let found = Found::at(&area).expect("an area is longer than a leader");
    let Err(why) = may_be_lost(&mut area, place.offset, found, geometry) else {
        return Ok(found.to_string());
    };
    Err(refused(
        place,
        geometry,
        format!("{place} is not free: {why}"),
    ))
}

fn refused(place: &Place, geometry: Geometry, what: String) -> Failure {
    let mib = u64::from(geometry.align().mib());
    Failure::new(
        Kind::Refused,
        what,
        format!(
            "see `sanblk lease status {place}`; if no host needs it, stop all that use it and zero it: \
             dd if=/dev/zero of={} bs=1M seek={} count={mib} oflag=direct conv=notrunc",
            place.path.display(),
            place.offset >> 20,
        ),
    )
}

/// Zeros in the middle of a file system or a volume group are not free.
fn not_amid_other_things(place: &Place, disk: &mut DirectDisk) -> Result<(), Failure> {
    let first = place.at(0);
    let start = probe(&first, disk)?;
    match Found::at(&start) {
        Some(Found::Foreign { .. }) if place.offset > 0 && !is_cut_short(&start) => {
            Err(Failure::new(
                Kind::Refused,
                format!(
                    "{} begins with something else than leases: a file system, a partition table, data",
                    place.path.display()
                ),
                "give the leases a logical volume, partition or file of their own",
            ))
        }
        _ => Ok(()),
    }
}

/// The zeros may be those of a larger area that begins before. At a multiple of its size: each slot in the middle of a
/// lockspace looks like the start of one.
fn not_within_another(place: &Place, disk: &mut DirectDisk) -> Result<(), Failure> {
    let step = AlignSize::M1.bytes();
    for back in 1..AlignSize::M8.bytes() / step {
        let Some(offset) = place.offset.checked_sub(back * step) else {
            break;
        };
        let before = place.at(offset);
        let found = Found::at(&probe(&before, disk)?);
        let geometry = found.as_ref().and_then(Found::geometry);
        if let (Some(found), Some(geometry)) = (found, geometry)
            && geometry.area_bytes() > back * step
            && offset.is_multiple_of(geometry.area_bytes())
        {
            return Err(Failure::new(
                Kind::Refused,
                format!(
                    "{place} lies within {found} of {} MiB at byte {offset}",
                    geometry.align().mib()
                ),
                format!(
                    "the first place behind it is {}",
                    place.at(offset.saturating_add(geometry.area_bytes()))
                ),
            ));
        }
    }
    Ok(())
}

fn probe(place: &Place, disk: &mut DirectDisk) -> Result<Vec<u8>, Failure> {
    let size = disk
        .size()
        .map_err(|error| place.io_failed("measure", error))?;
    let mut start = vec![0; readable(size, place.offset, Geometry::PROBE_LEN as u64)];
    let read = disk.read(place.offset, &mut start);
    read.map_err(|error| place.io_failed("read", error))?;
    Ok(start)
}

/// Whether this is the start of a lockspace whose formatting was cut short: all there but the first magic.
fn is_cut_short(start: &[u8]) -> bool {
    let mut whole = start.to_vec();
    whole[..4].copy_from_slice(&DELTA_MAGIC.to_le_bytes());
    start[..4] == [0; 4] && DeltaSlot::parse(&whole).is_ok_and(|slot| is_unused(&slot))
}

/// Why what is in this area must stay, if it must.
fn may_be_lost(area: &mut [u8], base: u64, found: Found, geometry: Geometry) -> Result<(), String> {
    let used = match found {
        Found::Nothing => first_used(area, 0)
            .map(|at| format!("the first bytes are zeros, byte {at} of the area is not")),
        Found::Foreign { .. } if is_cut_short(area) => {
            area[..4].copy_from_slice(&DELTA_MAGIC.to_le_bytes());
            used_lockspace(area, base, geometry)
        }
        Found::Lockspace(_) => {
            used_lockspace(area, base, geometry).map(|why| format!("{found}, {why}"))
        }
        Found::Resource(_) => Some(format!("{found}, {}", used_resource(area, base))),
        Found::Cleared(raw) => {
            unsettled(area, &raw, base, geometry).map(|why| format!("{found}, {why}"))
        }
        Found::Foreign { .. } | Found::Index(_) => Some(format!("there is {found}")),
    };
    used.map_or(Ok(()), Err)
}

fn first_used(area: &[u8], from: usize) -> Option<usize> {
    let at = area[from..].iter().position(|&byte| byte != 0)?;
    Some(from + at)
}

const OTHERWISE: &str = "laid out otherwise";

/// A slot as formatting leaves it. Flags of sanlock 5 are somebody's choice, so not nothing.
fn is_unused(slot: &DeltaSlot) -> bool {
    let lease = &slot.lease;
    (lease.owner_id, lease.owner_generation, lease.timestamp) == (0, 0, 0)
        && lease.flags.without_align().0 == 0
        && slot.notify.is_empty()
}

fn used_lockspace(area: &[u8], base: u64, geometry: Geometry) -> Option<String> {
    let sectors = area.chunks_exact(geometry.sector_bytes());
    for (host, sector) in geometry.hosts().zip(sectors) {
        let slot = match DeltaSlot::parse(sector) {
            Ok(slot) if slot.lease.geometry != geometry => return Some(OTHERWISE.to_owned()),
            Ok(slot) => slot,
            Err(bad) => {
                return Some(format!(
                    "damaged: {}",
                    bad.at(base + geometry.delta_slot(host))
                ));
            }
        };
        let lease = &slot.lease;
        let name = lease.host_name;
        match is_unused(&slot) {
            true => {}
            false if lease.is_free() => {
                return Some(format!(
                    "in which host {host} ({name}) was, up to generation {}",
                    lease.owner_generation
                ));
            }
            false => {
                return Some(format!(
                    "in which host {host} ({name}) is, or died: generation {}",
                    lease.owner_generation
                ));
            }
        }
    }
    let end = geometry.max_hosts() as usize * geometry.sector_bytes();
    first_used(area, end).map(|at| format!("and byte {at} behind its slots is not zero"))
}

/// How a resource is in use, or may be.
fn used_resource(area: &[u8], base: u64) -> String {
    let leader = match PaxosLeader::parse(area) {
        Ok(leader) => leader,
        Err(bad) => return format!("damaged: {}", bad.at(base)),
    };
    let (owner, generation) = (leader.owner_id, leader.owner_generation);
    match (leader.is_free(), leader.lver) {
        (false, _) => format!("held by host {owner}, generation {generation}"),
        (true, 0) => "never held, but a host may be taking it at this moment".to_owned(),
        (true, _) => format!("which hosts have used, host {owner} last"),
    }
}

/// What in the area of a deleted resource is not as deleting leaves it.
fn unsettled(area: &[u8], raw: &RawLeader, base: u64, geometry: Geometry) -> Option<String> {
    if raw.geometry() != Some(geometry) {
        return Some(OTHERWISE.to_owned());
    }
    if raw.checksum != raw.computed_checksum() {
        return Some("damaged: the checksum of its leader is wrong".to_owned());
    }
    let sector = geometry.sector_bytes();
    match Request::parse(&area[sector..2 * sector]) {
        Ok(Request::NONE) => {}
        Ok(_) => return Some("which a host asks for".to_owned()),
        Err(bad) => return Some(format!("damaged: {}", bad.at(base + sector as u64))),
    }
    let at = first_used(area, 2 * sector)?;
    Some(format!(
        "in which hosts took part since: byte {at} of the area is not zero"
    ))
}
