//! A look at a device, to open it and to see what it has, before anything is asked of a keeper. Each on a thread of its own,
//! bounded in time and number: a device that hangs costs that thread, and nothing else of the daemon.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::Sender;
use lockmgr::DiskId;
use lockmgr::disk::Disk;
use lockmgr::ondisk::{DeltaLease, Found, Geometry, HostId, Name};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use crate::failure::{Failure, Kind};
use crate::keeper::direct::DirectLeases;
use crate::keeper::disk::{Answer, LeaseDisk};
use crate::keeper::elsewhere::{Elsewhere, Full};
use crate::lease::place::{Device, Place, readable};

use super::site::{Site, Window};

/// How long a look may take.
const LOOK_LIMIT: Duration = Duration::from_secs(10);
/// Looks at a time, those that hang included.
const LOOKS_MAX: usize = 16;
const STACK: usize = 128 * 1024;

/// Places for threads that look.
#[derive(Debug)]
pub struct Looks(Arc<Semaphore>);

impl Default for Looks {
    fn default() -> Looks {
        Looks(Arc::new(Semaphore::new(LOOKS_MAX)))
    }
}

impl Looks {
    /// Does this on a thread of its own.
    pub async fn at<T: Send + 'static>(
        &self,
        place: &Place,
        look: impl FnOnce(&Place) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.within(LOOK_LIMIT, place, look).await
    }

    /// The same with a limit of the caller's.
    pub async fn within<T: Send + 'static>(
        &self,
        limit: Duration,
        place: &Place,
        look: impl FnOnce(&Place) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let dmesg = "look at the kernel's log: dmesg";
        let Ok(permit) = Arc::clone(&self.0).try_acquire_owned() else {
            let what = format!("{LOOKS_MAX} looks at devices are under way and do not end");
            return Err(Failure::new(Kind::Failed, what, dmesg));
        };
        let (tell, told) = oneshot::channel();
        let there = place.clone();
        let body = move || {
            let _ = tell.send(look(&there));
            drop(permit);
        };
        let thread = thread::Builder::new()
            .name("sanblk-look".to_owned())
            .stack_size(STACK)
            .spawn(body);
        if let Err(error) = thread {
            return Err(Failure::new(
                Kind::Failed,
                format!("no thread: {error}"),
                "",
            ));
        }
        match timeout(limit, told).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(Failure::new(
                Kind::TimedOut,
                format!("{place} has not answered for {} s", limit.as_secs()),
                dmesg,
            )),
        }
    }
}

/// A lockspace that may be joined.
pub struct Space {
    /// Where it is.
    pub device: Device,
    /// How it is laid out.
    pub geometry: Geometry,
    /// Its name.
    pub name: Name,
    /// The slot that is wanted.
    pub slot: DeltaLease,
}

/// A resource that may be acquired.
pub struct Resource {
    /// How it is laid out.
    pub geometry: Geometry,
    /// Its lockspace.
    pub space: Name,
    /// Its name.
    pub name: Name,
}

/// Looks at a lockspace and at one slot of it.
pub fn space(site: &Site, host: HostId) -> Result<Space, Failure> {
    let Start {
        mut disk,
        device,
        found,
        size,
    } = begin(site)?;
    let place = &site.place;
    let Found::Lockspace(raw) = &found else {
        return Err(something_else(place, "lockspace", &found));
    };
    let geometry = usable(place, &disk, size, &found)?;
    if !geometry.has_room_for(host) {
        return Err(Failure::new(
            Kind::Usage,
            format!(
                "lockspace {} has host ids from 1 to {}, not {host}",
                raw.space_name,
                geometry.max_hosts()
            ),
            "choose another --host-id",
        ));
    }
    let slot = slot(place, &mut disk, geometry, host)?;
    Ok(Space {
        device,
        geometry,
        name: raw.space_name,
        slot,
    })
}

/// Looks at one slot again.
pub fn slot_again(site: &Site, geometry: Geometry, host: HostId) -> Result<DeltaLease, Failure> {
    slot(&site.place, &mut site.open_read_only()?, geometry, host)
}

fn slot(
    place: &Place,
    disk: &mut Window,
    geometry: Geometry,
    host: HostId,
) -> Result<DeltaLease, Failure> {
    let at = place.offset.saturating_add(geometry.delta_slot(host));
    let mut sector = vec![0; geometry.sector_bytes()];
    disk.read(at, &mut sector)
        .map_err(|error| place.at(at).io_failed("read", error))?;
    DeltaLease::parse(&sector).map_err(|bad| {
        Failure::new(
            Kind::Failed,
            format!("{}: {}", place.path.display(), bad.at(at)),
            "nothing was changed; choose another --host-id",
        )
    })
}

/// Looks at a resource.
pub fn resource(site: &Site) -> Result<Resource, Failure> {
    let place = &site.place;
    let Start {
        disk, found, size, ..
    } = begin(site)?;
    let Found::Resource(raw) = &found else {
        return Err(something_else(place, "resource", &found));
    };
    Ok(Resource {
        geometry: usable(place, &disk, size, &found)?,
        space: raw.space_name,
        name: raw.resource_name,
    })
}

/// How a place begins.
struct Start {
    disk: Window,
    device: Device,
    found: Found,
    size: u64,
}

fn begin(site: &Site) -> Result<Start, Failure> {
    let place = &site.place;
    let mut disk = site.open_read_only()?;
    place.verify_block(disk.disk())?;
    let failed = |error| place.io_failed("read", error);
    let size = disk.size().map_err(failed)?;
    let mut start = vec![0; readable(size, place.offset, Geometry::PROBE_LEN as u64)];
    disk.read(place.offset, &mut start).map_err(failed)?;
    let gone = || Failure::new(Kind::NotFound, format!("{place} is gone"), "");
    let device = Device::at(&place.path).ok_or_else(gone)?;
    match Found::at(&start) {
        Some(found) => Ok(Start {
            disk,
            device,
            found,
            size,
        }),
        None => Err(Failure::new(
            Kind::NotFound,
            format!(
                "no lease area at {place}: {} has {size} bytes",
                place.path.display()
            ),
            "sanblk lease status shows the areas of a device",
        )),
    }
}

fn something_else(place: &Place, wanted: &str, found: &Found) -> Failure {
    let what = match found {
        Found::Nothing => "it begins with zeros".to_owned(),
        found => format!("there is {found}"),
    };
    Failure::new(
        Kind::NotFound,
        format!("no {wanted} at {place}: {what}"),
        "sanblk lease status shows the areas of a device; `sanblk lease init` makes one",
    )
}

/// The geometry, where the area is whole and this device can carry it.
fn usable(place: &Place, disk: &Window, size: u64, found: &Found) -> Result<Geometry, Failure> {
    let Some(geometry) = found.geometry() else {
        return Err(Failure::new(
            Kind::Failed,
            format!("{place}: nobody can say how the area is laid out"),
            "see `sanblk lease dump`, which names the field; nothing was changed",
        ));
    };
    let area = geometry.area_bytes();
    // Every slot of a lockspace looks like the start of one.
    if !place.offset.is_multiple_of(area) {
        let start = place.at(place.offset - place.offset % area);
        return Err(Failure::new(
            Kind::Usage,
            format!(
                "byte {} is not the start of an area of {} MiB: it is no multiple of that",
                place.offset,
                geometry.align().mib()
            ),
            format!("the place before it is {start}"),
        ));
    }
    if place.offset.checked_add(area).is_none_or(|end| end > size) {
        return Err(Failure::new(
            Kind::Failed,
            format!(
                "the area at {place} is cut short: {} has {size} bytes",
                place.path.display()
            ),
            "nothing was changed",
        ));
    }
    if disk.is_apart(place.offset, area) {
        return Err(Failure::new(
            Kind::Refused,
            format!(
                "the area at {place} lies in two pieces: {} is not contiguous there",
                place.path.display()
            ),
            "leases lie in one: choose the next one, or extend the volume by multiples of the area's size",
        ));
    }
    if geometry.sector() < disk.sector() {
        return Err(Failure::new(
            Kind::Usage,
            format!(
                "the area at {place} has sectors of {} bytes, and the device blocks of {}: it cannot be written there",
                geometry.sector_bytes(),
                disk.sector().bytes()
            ),
            "leases for this device are made with 4096-byte sectors: `sanblk lease init`",
        ));
    }
    Ok(geometry)
}

/// Opens a device for leases whose lockspace lies elsewhere, and numbers it.
///
/// # Errors
/// The device's own; there are too many; another file has this name meanwhile.
pub fn elsewhere(place: &Place, among: &Elsewhere) -> Result<DiskId, Failure> {
    let gone = || {
        let what = format!("there is no {}", place.path.display());
        Failure::new(Kind::NotFound, what, "check the path; nothing is created")
    };
    let device = Device::at(&place.path).ok_or_else(gone)?;
    let disk = place.open_unbuffered()?;
    // The number is that of what was opened.
    if Device::at(&place.path) != Some(device) {
        return Err(gone());
    }
    place.verify_block(&disk)?;
    among.admit(device, place.clone(), disk).map_err(|Full| {
        Failure::new(
            Kind::Refused,
            format!("{place}: the leases of the lockspace lie on too many devices"),
            "release some of them",
        )
    })
}

/// Opens what carries the leases of a lockspace.
///
/// # Errors
/// The device's own.
pub fn open(
    place: &Place,
    geometry: Geometry,
    answers: Sender<Answer>,
) -> Result<Box<dyn LeaseDisk>, Failure> {
    let slots = place.offset..place.offset.saturating_add(geometry.area_bytes());
    match DirectLeases::open(&place.path, slots, answers) {
        Ok(disk) => Ok(Box::new(disk)),
        Err(error) => Err(place.not_opened(&error)),
    }
}
