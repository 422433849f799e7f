//! Commands about a resource index: which resource of a device lies where.
//!
//! Whoever changes an index holds the lease that guards it, as every host of the lockspace does; one such command at a time per index,
//! for a keeper acquires a lease once. To look is free. The order of writes is that of FORMAT: a resource is made before its
//! entry and deleted after it, so that an entry never names what is not there.

use std::rc::Rc;

use lockmgr::disk::Disk as _;
use lockmgr::ondisk::{
    AlignSize, Found, Geometry, Name, PaxosLeader, RINDEX_DEFAULT_ENTRIES, RINDEX_LEASE,
    RindexEntry, RindexHeader, init,
};
use lockmgr::{LeaseError, LeaseId, Mode, OnOwner};
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::areas::{self, Make};
use super::service::{Service, named, not_done, place};
use super::wire::Refusal;
use super::wire::flags::IndexFlags;
use super::wire::structs::{Rentry, Rindex};
use crate::control::server::Progress;
use crate::daemon::lease::Joined;
use crate::daemon::lease::hold::{NotDone, Parting};
use crate::daemon::lease::site::{Site, Window};

/// An index on its disk.
struct Index {
    disk: Window,
    site: Site,
    header: RindexHeader,
    area: Vec<u8>,
}

impl Index {
    /// Reads it, and verifies that it is this one.
    fn read(site: &Site, space: Name) -> Result<Index, Refusal> {
        let mut disk = areas::open(site, Site::for_writing, AlignSize::M8.bytes())?;
        let mut start = [0; Geometry::PROBE_LEN];
        disk.read(site.place.offset, &mut start)
            .map_err(areas::not_read)?;
        let header = RindexHeader::parse(&start)?;
        header.verify(site.place.offset, &space)?;
        let length = usize::try_from(header.geometry.area_bytes()).map_err(|_| Refusal::Invalid)?;
        let mut area = vec![0; length];
        disk.read(site.place.offset, &mut area)
            .map_err(areas::not_read)?;
        Ok(Index {
            disk,
            site: site.clone(),
            header,
            area,
        })
    }

    fn entries(&self) -> impl Iterator<Item = (u32, RindexEntry)> + '_ {
        // One that is damaged is neither free nor found.
        let entries = self.header.entries(&self.area);
        entries.filter_map(|(index, entry)| Some((index, entry.ok()?)))
    }

    fn named(&self, wanted: Name) -> Option<u32> {
        let mut entries = self.entries();
        let of = |entry: &RindexEntry| matches!(entry, RindexEntry::Used { name, .. } if *name == wanted);
        entries.find(|(_, entry)| of(entry)).map(|(index, _)| index)
    }

    fn free(&self) -> Option<u32> {
        let mut entries = self.entries();
        entries
            .find(|(_, entry)| *entry == RindexEntry::Free)
            .map(|(index, _)| index)
    }

    /// The number of the entry whose resource would lie there.
    fn at(&self, offset: u64) -> Option<u32> {
        let numbers = 0..self.header.max_resources;
        let mut numbers = numbers.take_while(|&index| self.header.resource_offset(index).is_some());
        numbers.find(|&index| self.header.resource_offset(index) == Some(offset))
    }

    fn offset_of(&self, index: u32) -> Result<u64, Refusal> {
        self.header
            .resource_offset(index)
            .ok_or(Refusal::RindexOffset)
    }

    /// Puts an entry, and writes the sector around it.
    fn put(&mut self, index: u32, entry: &RindexEntry) -> Result<(), Refusal> {
        self.offset_of(index)?;
        let sector = self.header.geometry.sector_bytes();
        let within = self.header.entry_sector(index);
        let at = usize::try_from(within).map_err(|_| Refusal::RindexOffset)?;
        let bytes = self.area.get_mut(at..at + sector);
        let bytes = bytes.ok_or(Refusal::RindexOffset)?;
        self.header.put_entry(bytes, index, entry);
        let place = self.site.place.offset.checked_add(within);
        let place = place.ok_or(Refusal::NoSpace)?;
        self.disk.write(place, bytes).map_err(areas::not_written)
    }
}

/// FORMAT_RINDEX.
pub async fn format(service: &Service, flags: IndexFlags, rindex: &Rindex) -> Result<(), Refusal> {
    let joined = joined(service, flags, rindex)?;
    let wanted = named(rindex.flags.geometry())?;
    let geometry = wanted.or(joined.map(|joined| joined.geometry));
    let space = rindex.lockspace;
    let entries = match rindex.max_resources {
        0 => RINDEX_DEFAULT_ENTRIES,
        number => number,
    };
    let write = move |site: &Site| {
        areas::write_all(site, geometry, |geometry| {
            init::rindex(geometry, &space, site.place.offset, entries).map(Vec::from)
        })
    };
    service.at(place(&rindex.disk), write).await
}

/// LOOKUP_RINDEX: by name, or by offset; without either, the first that is free.
///
/// # Errors
/// [`Refusal::NotFound`]: none; [`Refusal::NoSpace`]: none is free.
pub async fn lookup(
    service: &Service,
    flags: IndexFlags,
    rindex: &Rindex,
    wanted: Rentry,
) -> Result<Rentry, Refusal> {
    joined(service, flags, rindex)?;
    let space = rindex.lockspace;
    let look = move |site: &Site| {
        let index = Index::read(site, space)?;
        let number = match (wanted.name.is_empty(), wanted.offset) {
            (false, _) => index.named(wanted.name).ok_or(Refusal::NotFound)?,
            (true, 0) => index.free().ok_or(Refusal::NoSpace)?,
            (true, offset) => index.at(offset).ok_or(Refusal::NotFound)?,
        };
        let (name, flags) = match index.header.entry(&index.area, number)? {
            RindexEntry::Used { name, flags } => (name, flags),
            RindexEntry::Free => (Name::EMPTY, 0),
        };
        let offset = index.offset_of(number)?;
        Ok(Rentry {
            name,
            offset,
            flags,
        })
    };
    service.at(place(&rindex.disk), look).await
}

/// UPDATE_RINDEX: puts an entry, or removes it, whatever is on the disk there.
pub async fn update(
    service: &Service,
    flags: IndexFlags,
    rindex: &Rindex,
    entry: Rentry,
) -> Result<(), Refusal> {
    let adds = flags.contains(IndexFlags::ADD);
    if adds == flags.contains(IndexFlags::REM) || adds && entry.name.is_empty() {
        return Err(Refusal::Invalid);
    }
    let space = rindex.lockspace;
    let change = move |site: &Site| {
        let mut index = Index::read(site, space)?;
        let number = match entry.offset {
            0 => index.named(entry.name),
            offset => index.at(offset),
        };
        let number = number.ok_or(Refusal::NotFound)?;
        match adds {
            true if index.named(entry.name).is_some_and(|other| other != number) => {
                Err(Refusal::Exists)
            }
            true => {
                let (name, flags) = (entry.name, 0);
                index.put(number, &RindexEntry::Used { name, flags })
            }
            false => index.put(number, &RindexEntry::Free),
        }
    };
    guarded(service, flags, rindex, change).await
}

/// CREATE_RESOURCE: in the first area that is free; its offset. `num_hosts` 0: as many as it has room for.
///
/// # Errors
/// [`Refusal::Exists`]: one of this name; [`Refusal::NoSpace`]: none is free, or the device ends before it.
pub async fn create(
    service: &Service,
    flags: IndexFlags,
    rindex: &Rindex,
    name: Name,
    num_hosts: u32,
) -> Result<u64, Refusal> {
    if name.is_empty() {
        return Err(Refusal::Invalid);
    }
    let space = rindex.lockspace;
    let make = move |site: &Site| {
        let mut index = Index::read(site, space)?;
        if index.named(name).is_some() {
            return Err(Refusal::Exists);
        }
        let number = index.free().ok_or(Refusal::NoSpace)?;
        let offset = index.offset_of(number)?;
        let geometry = Some(index.header.geometry);
        let make = Make::Resource { hosts: num_hosts };
        areas::write_resource(&site.at(offset), geometry, space, name, make)?;
        index.put(number, &RindexEntry::Used { name, flags: 0 })?;
        Ok(offset)
    };
    guarded(service, flags, rindex, make).await
}

/// DELETE_RESOURCE: by name, or by offset where none is given.
///
/// # Errors
/// [`Refusal::NotFound`]: no such entry.
pub async fn delete(
    service: &Service,
    flags: IndexFlags,
    rindex: &Rindex,
    entry: Rentry,
) -> Result<(), Refusal> {
    let space = rindex.lockspace;
    let now = crate::keeper::now().nanos() / 1_000_000_000;
    let delete = move |site: &Site| {
        let mut index = Index::read(site, space)?;
        let number = match entry.name.is_empty() {
            true => index.at(entry.offset),
            false => index.named(entry.name),
        };
        let number = number.ok_or(Refusal::NotFound)?;
        let RindexEntry::Used { name, .. } = index.header.entry(&index.area, number)? else {
            return Err(Refusal::NotFound);
        };
        let offset = index.offset_of(number)?;
        if entry.offset != 0 && entry.offset != offset {
            return Err(Refusal::RindexDiff);
        }
        index.put(number, &RindexEntry::Free)?;
        let geometry = Some(index.header.geometry);
        areas::write_resource(
            &site.at(offset),
            geometry,
            space,
            name,
            Make::Cleared { now },
        )
    };
    guarded(service, flags, rindex, delete).await
}

/// REBUILD_RINDEX: makes the entries again from the resources that there are, up to the end of the device.
pub async fn rebuild(service: &Service, flags: IndexFlags, rindex: &Rindex) -> Result<(), Refusal> {
    let space = rindex.lockspace;
    let rebuild = move |site: &Site| {
        let mut index = Index::read(site, space)?;
        for number in 0..index.header.max_resources {
            let offset = index.offset_of(number)?;
            let mut start = [0; Geometry::PROBE_LEN];
            match index.disk.read(offset, &mut start).map_err(areas::not_read) {
                Ok(()) => {}
                Err(Refusal::MessageSize) => break,
                Err(refusal) => return Err(refusal),
            }
            let entry = resource(&start, space).map_or(RindexEntry::Free, |name| {
                RindexEntry::Used { name, flags: 0 }
            });
            // Damaged ones are made again, too.
            if index.header.entry(&index.area, number) != Ok(entry) {
                index.put(number, &entry)?;
            }
        }
        Ok(())
    };
    guarded(service, flags, rindex, rebuild).await
}

/// The resource of this lockspace that begins so, if one does.
fn resource(start: &[u8], space: Name) -> Option<Name> {
    let Some(Found::Resource(raw)) = Found::at(start) else {
        return None;
    };
    let sector = raw.geometry()?.sector_bytes();
    let leader = PaxosLeader::parse(start.get(..sector)?).ok()?;
    (leader.space_name == space).then_some(leader.resource_name)
}

/// The lockspace of an index; none where the client does without.
fn joined(
    service: &Service,
    flags: IndexFlags,
    rindex: &Rindex,
) -> Result<Option<Rc<Joined>>, Refusal> {
    if flags.contains(IndexFlags::NO_LOCKSPACE) {
        return Ok(None);
    }
    let joined = service.space(rindex.lockspace);
    joined.map(Some).ok_or(Refusal::NoSpace)
}

/// Does this while the lease that guards the index is held.
async fn guarded<T: Send + 'static>(
    service: &Service,
    flags: IndexFlags,
    rindex: &Rindex,
    act: impl FnOnce(&Site) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let place = place(&rindex.disk);
    let Some(joined) = joined(service, flags, rindex)? else {
        return service.at(place, act).await;
    };
    let space = rindex.lockspace;
    let look = move |site: &Site| Ok(Index::read(site, space)?.header.lease_offset());
    let guard = service.at(place.clone(), look).await?;
    let guard = place.at(guard.ok_or(Refusal::RindexOffset)?);
    let guard = service.lease_at(&joined, &guard).await?;
    let name = Name::new(RINDEX_LEASE).map_err(|_| Refusal::Invalid)?;
    let had = joined
        .acquire(guard, name, Mode::Exclusive, OnOwner::Refuse)
        .await;
    had.map_err(|error| match error {
        NotDone::Lease(LeaseError::AlreadyHeld) => Refusal::Busy,
        error => not_done(&error),
    })?;
    let (ends, mut ended) = oneshot::channel::<()>();
    let whole = move |site: &Site| {
        let done = act(site);
        drop(ends);
        done
    };
    let done = service.at(place, whole).await;
    match ended.try_recv() {
        Err(TryRecvError::Closed) => let_go(&joined, guard).await,
        // A disk that hangs: what was begun may still be written, and the guard is held until it no longer can.
        _ => {
            tokio::task::spawn_local(async move {
                let _ = ended.await;
                let_go(&joined, guard).await;
            });
        }
    }
    done
}

async fn let_go(joined: &Joined, guard: LeaseId) {
    let parting = Parting::default();
    if let Err(error) = joined.release(guard, parting, &Progress::silent()).await {
        let space = joined.space;
        tracing::warn!("index of lockspace {space}: its guard is not let go: {error:?}");
    }
}
