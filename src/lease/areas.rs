//! One area after the other, as `sanlock direct dump` walks: from a place on, until something is no lease area.

use lockmgr::disk::{DirectDisk, Disk};
use lockmgr::ondisk::{Dump, Found, Geometry};

use super::place::{Place, readable};
use crate::failure::{Failure, Kind};

/// A place with at least one lease area. An iterator over the areas; after an error it ends.
#[derive(Debug)]
pub struct Areas {
    place: Place,
    disk: DirectDisk,
    size: u64,
    /// Where the next area would begin; `None` behind the last one.
    next: Option<u64>,
    /// One for all areas: a volume may hold thousands.
    buffer: Vec<u8>,
}

impl Areas {
    /// Looks at the place.
    ///
    /// # Errors
    /// What [`Place::open_read_only`] says; no lease area there.
    pub fn open(place: &Place) -> Result<Areas, Failure> {
        let mut disk = place.open_read_only()?;
        place.verify_block(&disk)?;
        let size = disk
            .size()
            .map_err(|error| place.io_failed("measure", error))?;
        let mut areas = Areas {
            place: place.clone(),
            disk,
            size,
            next: Some(place.offset),
            buffer: Vec::new(),
        };
        let what = match areas.found(place.offset)? {
            Some(found) if is_ours(&found) => return Ok(areas),
            Some(Found::Nothing) => "it begins with zeros".to_owned(),
            Some(found) => format!("there is {found}"),
            None => format!("{} has {size} bytes", place.path.display()),
        };
        Err(Failure::new(
            Kind::NotFound,
            format!("no lease area at {place}: {what}"),
            "lease areas lie at multiples of 1 or 8 MiB; `sanblk lease init` makes one",
        ))
    }

    /// What begins at byte `at`; `None` behind the end.
    fn found(&mut self, at: u64) -> Result<Option<Found>, Failure> {
        let start = self.read(at, Geometry::PROBE_LEN as u64)?;
        Ok(Found::at(start))
    }

    fn read(&mut self, at: u64, most: u64) -> Result<&[u8], Failure> {
        self.buffer.resize(readable(self.size, at, most), 0);
        let read = self.disk.read(at, &mut self.buffer);
        read.map_err(|error| self.place.at(at).io_failed("read", error))?;
        Ok(&self.buffer)
    }

    fn area(&mut self, at: u64) -> Result<Option<Dump>, Failure> {
        let Some(found) = self.found(at)?.filter(is_ours) else {
            return Ok(None);
        };
        // Without a geometry nobody knows where the next area begins.
        let Some(geometry) = found.geometry() else {
            return Ok(Some(Dump::of(&self.buffer, at)));
        };
        self.next = at.checked_add(geometry.area_bytes());
        Ok(Some(Dump::of(self.read(at, geometry.area_bytes())?, at)))
    }
}

impl Iterator for Areas {
    /// Where it begins, and what it says.
    type Item = Result<(u64, Dump), Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.next.take()?;
        let area = self.area(at).transpose()?;
        Some(area.map(|dump| (at, dump)))
    }
}

fn is_ours(found: &Found) -> bool {
    !matches!(found, Found::Nothing | Found::Foreign { .. })
}

/// The records of an area that are refused, in sentences. A deleted resource is no damage.
pub fn damage(dump: &Dump) -> Vec<String> {
    match dump {
        Dump::Nothing | Dump::Foreign { .. } => Vec::new(),
        Dump::Damaged(bad) => vec![bad.to_string()],
        Dump::Lockspace(dump) => {
            let slots = dump.slots.iter().filter_map(|slot| slot.damage);
            slots.map(|bad| bad.to_string()).collect()
        }
        Dump::Resource(dump) => {
            let leader = dump.damage.filter(|_| !dump.is_cleared());
            let hosts = dump.hosts.iter().filter_map(|host| host.sector.err());
            let all = leader.into_iter().chain(dump.request.err()).chain(hosts);
            all.map(|bad| bad.to_string()).collect()
        }
        Dump::Index(dump) => {
            let entries = dump.entries.iter().filter_map(|(_, entry)| entry.err());
            let all = dump.damage.into_iter().chain(entries);
            all.map(|bad| bad.to_string()).collect()
        }
    }
}

/// What a look ends with that met damage. Everything was shown.
pub fn damaged(damage: &[String]) -> Result<(), Failure> {
    let Some(first) = damage.first() else {
        return Ok(());
    };
    let what = match damage.len() {
        1 => first.clone(),
        more => format!("{more} records are refused, the first: {first}"),
    };
    Err(Failure::new(
        Kind::Failed,
        what,
        "nothing was changed and nothing repairs it by itself; no host can use a refused record",
    ))
}
