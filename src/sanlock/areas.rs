//! Areas on disk as clients read and format them: past the page cache, on a thread that may hang.
//!
//! Formatting asks nobody: who may use the socket may format, as with the real daemon. Unlike `sanblk lease init`, which
//! looks first.

use lockmgr::disk::{Disk as _, DiskError};
use lockmgr::ondisk::init::{self, CannotInit, Write};
use lockmgr::ondisk::{
    AlignSize, DeltaLease, Found, Geometry, HostId, HostSector, MODE_SHARED, Name, PaxosLeader,
    Request,
};

use super::wire::Refusal;
use crate::daemon::lease::site::{Site, Window};

/// What the first bytes of an area are read into.
type Start = [u8; Geometry::PROBE_LEN];

pub(super) fn open(
    site: &Site,
    how: fn(&Site, usize) -> std::io::Result<Window>,
    largest: u64,
) -> Result<Window, Refusal> {
    // Asked first: opening a pipe would wait for its other end.
    use std::os::unix::fs::FileTypeExt;
    let refuse = |error: std::io::Error| {
        tracing::debug!("{}: {error}", site.place);
        Refusal::NoDevice
    };
    let kind = std::fs::metadata(site.path()).map_err(refuse)?.file_type();
    if !kind.is_block_device() && !kind.is_file() {
        return Err(Refusal::NoDevice);
    }
    let largest = usize::try_from(largest).map_err(|_| Refusal::Invalid)?;
    let disk = how(site, largest).map_err(refuse)?;
    match site
        .place
        .offset
        .is_multiple_of(disk.sector().bytes() as u64)
    {
        true => Ok(disk),
        false => Err(Refusal::Invalid),
    }
}

pub(super) fn not_read(error: DiskError) -> Refusal {
    match error {
        DiskError::PastEnd { .. } => Refusal::MessageSize,
        DiskError::Failed { .. } => Refusal::Io,
    }
}

pub(super) fn not_written(error: DiskError) -> Refusal {
    match error {
        DiskError::PastEnd { .. } => Refusal::NoSpace,
        DiskError::Failed { .. } => Refusal::Io,
    }
}

fn not_made(cannot: CannotInit) -> Refusal {
    tracing::warn!("not formatted: {cannot}");
    match cannot {
        CannotInit::LvbHitsOthers(_) => Refusal::NotOffered,
        CannotInit::Hosts { .. } | CannotInit::Entries { .. } => Refusal::Range,
        CannotInit::NoName | CannotInit::IoTimeout(_) | CannotInit::Offset(_) => Refusal::Invalid,
    }
}

/// The sizes that leases of a device have where nobody names others: its own sectors; 512 bytes in files.
fn usual(disk: &Window) -> Geometry {
    Geometry::default_for(disk.sector())
}

/// Bytes of an area, by the device's own sectors.
///
/// # Errors
/// It cannot be opened.
pub fn align(site: &Site) -> Result<u32, Refusal> {
    let disk = open(&site.at(0), Site::for_reading, 0)?;
    Ok(usual(&disk).align().mib() << 20)
}

pub(super) fn write_all(
    site: &Site,
    geometry: Option<Geometry>,
    make: impl FnOnce(Geometry) -> Result<Vec<Write>, CannotInit>,
) -> Result<(), Refusal> {
    let largest = geometry.map_or(AlignSize::M8.bytes(), Geometry::area_bytes);
    let mut disk = open(site, Site::for_writing, largest)?;
    let geometry = geometry.unwrap_or(usual(&disk));
    if geometry.sector() < disk.sector() {
        return Err(Refusal::Invalid);
    }
    for write in make(geometry).map_err(not_made)? {
        let at = site.place.offset.checked_add(write.offset);
        let at = at.ok_or(Refusal::NoSpace)?;
        disk.write(at, &write.bytes).map_err(not_written)?;
    }
    Ok(())
}

/// Formats a lockspace. `io_timeout` in seconds.
///
/// # Errors
/// [`Refusal::NoSpace`] beyond the end of the device.
pub fn write_lockspace(
    site: &Site,
    geometry: Option<Geometry>,
    name: Name,
    io_timeout: u16,
) -> Result<(), Refusal> {
    write_all(site, geometry, |geometry| {
        init::lockspace(geometry, &name, io_timeout).map(Vec::from)
    })
}

/// What WRITE_RESOURCE makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Make {
    /// A resource for so many hosts; 0: as many as it has room for.
    Resource {
        /// The number.
        hosts: u32,
    },
    /// The trace of a deleted one. Seconds of the monotonic clock.
    Cleared {
        /// When.
        now: u64,
    },
}

/// Formats a resource, or deletes it.
///
/// # Errors
/// [`Refusal::NoSpace`] beyond the end of the device.
pub fn write_resource(
    site: &Site,
    geometry: Option<Geometry>,
    space: Name,
    name: Name,
    make: Make,
) -> Result<(), Refusal> {
    write_all(site, geometry, |geometry| {
        Ok(vec![match make {
            Make::Resource { hosts: 0 } => init::resource(geometry, &space, &name)?,
            Make::Resource { hosts } => {
                init::resource_for(geometry, &space, &name, u64::from(hosts))?
            }
            Make::Cleared { now } => init::clear_resource(geometry, &space, &name, now),
        }])
    })
}

/// The first bytes of an area. What is shorter than they are is its own end.
fn start(site: &Site, largest: u64) -> Result<(Window, Start), Refusal> {
    let mut disk = open(site, Site::for_reading, largest)?;
    let mut start = [0; Geometry::PROBE_LEN];
    disk.read(site.place.offset, &mut start).map_err(not_read)?;
    Ok((disk, start))
}

/// A lockspace, as one slot of it shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// The slot.
    pub slot: DeltaLease,
}

/// Reads one slot of a lockspace; of any name, if none is wanted.
///
/// # Errors
/// [`Refusal::MessageSize`] beyond the end of the device; what the first field says that is wrong.
pub fn read_lockspace(site: &Site, name: Name, host: HostId) -> Result<Space, Refusal> {
    let (mut disk, start) = start(site, Geometry::PROBE_LEN as u64)?;
    let Some(Found::Lockspace(raw)) = Found::at(&start) else {
        return Err(Refusal::LeaderMagic);
    };
    let geometry = raw.geometry().ok_or(Refusal::LeaderSectorSize)?;
    if !geometry.has_room_for(host) {
        return Err(Refusal::AddInvalidHostId);
    }
    let mut sector = vec![0; geometry.sector_bytes()];
    let at = site.place.offset.checked_add(geometry.delta_slot(host));
    let at = at.ok_or(Refusal::MessageSize)?;
    disk.read(at, &mut sector).map_err(not_read)?;
    let slot = DeltaLease::parse(&sector)?;
    if !name.is_empty() {
        slot.verify_space(&name)?;
    }
    Ok(Space { slot })
}

/// Reads the leader of a resource; of any name, where none is wanted.
///
/// # Errors
/// [`Refusal::MessageSize`] beyond the end of the device; what the first field says that is wrong.
pub fn read_resource(site: &Site, space: Name, name: Name) -> Result<PaxosLeader, Refusal> {
    let (_, start) = start(site, Geometry::PROBE_LEN as u64)?;
    leader(&start, space, name)
}

fn leader(start: &[u8], space: Name, name: Name) -> Result<PaxosLeader, Refusal> {
    let Some(Found::Resource(raw)) = Found::at(start) else {
        return Err(Refusal::LeaderMagic);
    };
    let sector = raw.geometry().map(Geometry::sector_bytes);
    let sector = sector.ok_or(Refusal::LeaderSectorSize)?;
    let leader = PaxosLeader::parse(&start[..sector])?;
    let wanted = |wanted: Name, found: Name| match wanted.is_empty() {
        true => found,
        false => wanted,
    };
    leader.verify_names(
        &wanted(space, leader.space_name),
        &wanted(name, leader.resource_name),
    )?;
    Ok(leader)
}

/// Withdraws what was asked of the owner of a resource.
///
/// # Errors
/// As [`read_resource`].
pub fn clear_request(site: &Site, space: Name, name: Name) -> Result<(), Refusal> {
    let geometry = read_resource(site, space, name)?.geometry;
    let mut disk = open(site, Site::for_writing, Geometry::PROBE_LEN as u64)?;
    let mut sector = vec![0; geometry.sector_bytes()];
    Request::NONE.emit(&mut sector);
    let at = site.place.offset.checked_add(geometry.request_sector());
    let at = at.ok_or(Refusal::NoSpace)?;
    disk.write(at, &sector).map_err(not_written)
}

/// A host that owns a resource, or shares it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// Its number.
    pub host: u64,
    /// Its generation.
    pub generation: u64,
    /// When it became the owner, in seconds of its own clock; 0 for one that shares.
    pub timestamp: u64,
}

/// A resource and its owners.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owners {
    /// Its leader.
    pub leader: PaxosLeader,
    /// The one that has it alone, then those that share it.
    pub owners: Vec<Owner>,
    /// Whether it is shared.
    pub shared: bool,
}

/// Reads who owns a resource. Whether the owners live is another matter.
///
/// # Errors
/// As [`read_resource`].
pub fn read_owners(site: &Site, space: Name, name: Name) -> Result<Owners, Refusal> {
    let (mut disk, start) = start(site, AlignSize::M8.bytes())?;
    let leader = leader(&start, space, name)?;
    let geometry = leader.geometry;
    let sector = geometry.sector_bytes();
    let len = usize::try_from(geometry.area_bytes()).map_err(|_| Refusal::Invalid)?;
    let mut area = vec![0; len];
    disk.read(site.place.offset, &mut area).map_err(not_read)?;
    let mut owners = Vec::new();
    if !leader.is_free() {
        owners.push(Owner {
            host: leader.owner_id,
            generation: leader.owner_generation,
            timestamp: leader.timestamp,
        });
    }
    let mut shared = false;
    for host in geometry.hosts() {
        let at = usize::try_from(geometry.host_sector(host)).map_err(|_| Refusal::Invalid)?;
        let found = area
            .get(at..at + sector)
            .and_then(HostSector::mode_unverified);
        let Some(mode) = found.filter(|mode| mode.flags & MODE_SHARED != 0 && mode.generation > 0)
        else {
            continue;
        };
        shared = true;
        let owner = Owner {
            host: host.number(),
            generation: mode.generation,
            timestamp: 0,
        };
        if !owners.iter().any(|known| known.host == owner.host) {
            owners.push(owner);
        }
    }
    Ok(Owners {
        leader,
        owners,
        shared,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::place::Place;
    use std::io::Write as _;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    /// A file of so many MiB on the medium of this directory, which must take direct IO.
    fn device(mib: u64) -> (tempfile::NamedTempFile, Site) {
        let directory = std::env::var_os("CARGO_TARGET_TMPDIR")
            .map_or_else(|| std::path::PathBuf::from("target"), Into::into);
        let mut file = tempfile::NamedTempFile::new_in(directory).unwrap();
        file.as_file().set_len(mib << 20).unwrap();
        file.flush().unwrap();
        let place = Place {
            path: file.path().to_owned(),
            offset: 0,
        };
        (file, Site::plain(place))
    }

    #[test]
    fn what_is_formatted_is_read() {
        let (_file, ls) = device(4);
        assert_eq!(align(&ls), Ok(1 << 20));
        let host = HostId::new(1).unwrap();
        assert_eq!(
            read_lockspace(&ls, Name::EMPTY, host),
            Err(Refusal::LeaderMagic)
        );
        write_lockspace(&ls, None, name("LS"), 10).unwrap();
        let space = read_lockspace(&ls, Name::EMPTY, host).unwrap();
        assert_eq!(space.slot.space_name, name("LS"));
        assert_eq!(
            read_lockspace(&ls, name("LX"), host),
            Err(Refusal::LeaderLockspace)
        );

        let ra = ls.at(1 << 20);
        let make = Make::Resource { hosts: 0 };
        write_resource(&ra, Some(Geometry::B512_M1), name("LS"), name("RA"), make).unwrap();
        let leader = read_resource(&ra, name("LS"), Name::EMPTY).unwrap();
        assert_eq!(leader.resource_name, name("RA"));
        assert_eq!(
            read_resource(&ra, name("LS"), name("RB")),
            Err(Refusal::LeaderResource)
        );
        let owners = read_owners(&ra, Name::EMPTY, Name::EMPTY).unwrap();
        assert_eq!((owners.owners, owners.shared), (vec![], false));
        write_resource(&ra, None, name("LS"), name("RA"), Make::Cleared { now: 7 }).unwrap();
        assert_eq!(
            read_resource(&ra, name("LS"), name("RA")),
            Err(Refusal::LeaderMagic)
        );
    }

    #[test]
    fn the_end_of_a_device_has_two_numbers() {
        let (_file, ls) = device(2);
        let make = Make::Resource { hosts: 0 };
        let beyond = ls.at(2 << 20);
        assert_eq!(
            write_resource(&beyond, None, name("LS"), name("RA"), make),
            Err(Refusal::NoSpace)
        );
        assert_eq!(
            read_resource(&beyond, name("LS"), name("RA")),
            Err(Refusal::MessageSize)
        );
        let nowhere = Site::plain(Place {
            path: "/nowhere/at/all".into(),
            offset: 0,
        });
        assert_eq!(align(&nowhere), Err(Refusal::NoDevice));
    }
}
