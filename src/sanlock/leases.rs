//! Commands about the leases of a client: ACQUIRE, RELEASE, CONVERT, INQUIRE, lock value blocks, REQUEST.

use std::rc::Rc;

use lockmgr::ondisk::{ForceMode, Name};
use lockmgr::{LeaseError, LeaseId, Mode, OnOwner};
use tokio::time::{Duration, Instant, sleep};

use super::areas;
use super::clients::{Client, ClientId, Key, Lease, Lvb, Parting, Standing, Wish};
use super::service::{Service, not_done, place};
use super::wire::flags::{AcquireFlags, AskFlags, ReleaseFlags, ResourceFlags};
use super::wire::reply::Outcome;
use super::wire::structs::{Options, PlacedResource, Resource};
use super::wire::text::{self, Held};
use super::wire::{Command, Refusal, Release, Whose};
use crate::control::server::Progress;
use crate::daemon::lease::Joined;
use crate::daemon::lease::hold::NotDone;

/// How long a client waits for what became of its last attempt.
const SETTLED: Duration = Duration::from_secs(10);
/// How often it looks.
const POLL: Duration = Duration::from_millis(20);

/// The resource of every volume group that guards its metadata.
const VG_LOCK: &[u8] = b"VGLK";

/// ACQUIRE: all or none.
pub async fn acquire(
    service: &Rc<Service>,
    caller: ClientId,
    flags: AcquireFlags,
    whose: Whose,
    resources: &[PlacedResource],
    options: &Options,
) -> Outcome {
    let client = service.books.borrow().meant(caller, whose)?;
    {
        let mut books = service.books.borrow_mut();
        let urged = |client: &Client| client.recovery.is_some();
        if books.client(client).is_some_and(urged) {
            return Err(Refusal::Busy);
        }
        books.begin(client, Command::Acquire as u32)?;
        if let Some(client) = books.client_mut(client)
            && !options.owner_name.is_empty()
        {
            client.name = options.owner_name;
        }
    }
    let mut had = Vec::new();
    let mut result = Ok(0);
    for placed in resources {
        match one(service, client, flags, placed).await {
            Ok(()) => had.push(Key::of(placed)),
            Err(refusal) => {
                result = Err(refusal);
                break;
            }
        }
    }
    if result.is_err() {
        for key in had {
            give_back(service, client, key, None).await.ok();
        }
    }
    service.command_over(client);
    result
}

async fn one(
    service: &Rc<Service>,
    client: ClientId,
    flags: AcquireFlags,
    placed: &PlacedResource,
) -> Result<(), Refusal> {
    let key = Key::of(placed);
    if key.name.is_empty() || key.space.is_empty() {
        return Err(Refusal::Invalid);
    }
    let Some(joined) = service.space(key.space) else {
        return Err(Refusal::NoSpace);
    };
    let [disk] = &placed.disks[..] else {
        tracing::warn!("{}: a lease on several disks is not offered", key.name);
        return Err(Refusal::Invalid);
    };
    let there = service.books.borrow().lease(key).map(|lease| lease.id);
    let id = match there {
        // Whatever its path is called by now.
        Some(id) => id,
        None if flags.contains(AcquireFlags::ORPHAN_ONLY) => return Err(Refusal::NotFound),
        None => {
            let id = service.lease_at(&joined, &place(disk)).await?;
            let gone = |client: &Client| client.standing == Standing::Gone;
            if service.books.borrow().client(client).is_none_or(gone) {
                return Err(Refusal::Stale);
            }
            id
        }
    };
    let geometry = joined.geometry;
    let wish = service
        .books
        .borrow_mut()
        .wish(client, placed, flags, id, geometry)?;
    let lvb = flags.contains(AcquireFlags::LVB);
    if wish == Wish::Granted {
        if lvb {
            read_lvb(service, &joined, key, id).await?;
        }
        return Ok(());
    }
    match ask(service, &joined, flags, placed, id).await {
        Ok(lver) => service.books.borrow_mut().acquired(key, lver),
        Err(refusal) => {
            service.books.borrow_mut().forget(key);
            return Err(refusal);
        }
    }
    if lvb && let Err(refusal) = read_lvb(service, &joined, key, id).await {
        give_back(service, client, key, None).await.ok();
        return Err(refusal);
    }
    Ok(())
}

/// Asks the keeper when it is done with the lease. An attempt that came to nothing is taken back after it was answered; the real
/// daemon answers afterwards, and so clients that try again at once are not used to hear of it.
async fn settled<T>(ask: impl AsyncFn() -> Result<T, NotDone>) -> Result<T, NotDone> {
    let end = Instant::now() + SETTLED;
    loop {
        match ask().await {
            Err(NotDone::Lease(LeaseError::Busy)) if Instant::now() < end => sleep(POLL).await,
            done => return done,
        }
    }
}

/// Has the keeper acquire a lease; its version.
async fn ask(
    service: &Service,
    joined: &Joined,
    flags: AcquireFlags,
    placed: &PlacedResource,
    id: LeaseId,
) -> Result<u64, Refusal> {
    let Resource {
        lockspace,
        name,
        lver,
        flags: wanted,
        ..
    } = placed.resource;
    let disk = placed.disks.first().ok_or(Refusal::Range)?;
    let place = place(disk);
    let demanded = wanted.contains(ResourceFlags::LVER).then_some(lver);
    if let Some(lver) = demanded {
        let read = move |place: &_| areas::read_resource(place, lockspace, name);
        if service.at(place.clone(), read).await?.lver != lver {
            return Err(Refusal::AcquireLver);
        }
    }
    let mode = match wanted.contains(ResourceFlags::SHARED) {
        true => Mode::Shared,
        false => Mode::Exclusive,
    };
    let on_owner = match flags.contains(AcquireFlags::OWNER_NOWAIT) {
        true => OnOwner::Refuse,
        false => OnOwner::Wait,
    };
    if let Err(failure) = joined.may_protect(&name) {
        tracing::warn!("{}", failure.what);
        return Err(Refusal::Invalid);
    }
    // A logical volume that was extended since: the keeper learns of it by a look alone.
    if !joined.reaches(id) {
        let _ = service
            .daemon
            .lockspaces
            .site(&service.daemon, &place)
            .await;
    }
    let acquire = async || joined.acquire(id, name, mode, on_owner).await;
    match settled(acquire).await {
        Ok(had) => {
            if name.as_bytes() == VG_LOCK {
                metadata_changed(service, lockspace).await;
            }
            Ok(had)
        }
        // The end of the device is worth a number of its own: it is looked for again when the volume has grown.
        Err(NotDone::Lease(LeaseError::Io)) => {
            let read = move |place: &_| areas::read_resource(place, lockspace, name);
            match service.at(place, read).await {
                Ok(_) => Err(LeaseError::Io.into()),
                Err(refusal) => Err(refusal),
            }
        }
        Err(error) => Err(not_done(&error)),
    }
}

async fn read_lvb(
    service: &Service,
    joined: &Joined,
    key: Key,
    id: LeaseId,
) -> Result<(), Refusal> {
    let there = |lease: &Lease| lease.lvb != Lvb::None;
    if service.books.borrow().lease(key).is_some_and(there) {
        return Ok(());
    }
    let bytes = match joined.read_lvb(id).await {
        Ok(bytes) => bytes,
        // Nothing is kept there, so that nothing else is overwritten.
        Err(NotDone::Lease(LeaseError::NoRoomForLvb)) => {
            vec![0; joined.geometry.sector_bytes()].into()
        }
        Err(error) => return Err(not_done(&error)),
    };
    if let Some(lease) = service.books.borrow_mut().lease_mut(key) {
        lease.lvb = Lvb::Read(bytes);
    }
    Ok(())
}

/// Gives a client's share back, and the lease with the last one.
async fn give_back(
    service: &Rc<Service>,
    client: ClientId,
    key: Key,
    rename: Option<Name>,
) -> Result<(), Refusal> {
    let parting = service.books.borrow_mut().part(client, key)?;
    match parting {
        Parting::StillShared => Ok(()),
        Parting::LetGo => {
            if key.name.as_bytes() == VG_LOCK {
                metadata_changed(service, key.space).await;
            }
            // That it is owed is nobody's concern but the log's: the client has let go.
            if let Err(refusal) = service.let_go(key, rename).await {
                tracing::warn!(
                    "{} of lockspace {}: not released yet ({refusal})",
                    key.name,
                    key.space
                );
            }
            Ok(())
        }
    }
}

/// Whoever has, or had, the lock of a volume group may have given it other physical volumes. What comes of it is no reason to
/// keep the lock: `status` has it, and LVM needs the lock to mend things.
async fn metadata_changed(service: &Service, space: Name) {
    let daemon = &service.daemon;
    // Its log has the sentence.
    let _ = daemon.lockspaces.vg_changed(daemon, &space).await;
}

/// RELEASE.
pub async fn release(
    service: &Rc<Service>,
    caller: ClientId,
    flags: ReleaseFlags,
    whose: Whose,
    what: Release,
) -> Outcome {
    if let Release::Orphan(resource) = what {
        return release_orphans(service, &resource).await;
    }
    if flags.contains(ReleaseFlags::NO_DISK) {
        tracing::warn!("a release without the disk is not offered: released as usual");
    }
    let client = service.books.borrow().meant(caller, whose)?;
    let begun = service
        .books
        .borrow_mut()
        .begin(client, Command::Release as u32);
    begun?;
    let (keys, rename) = match what {
        Release::All => {
            let books = service.books.borrow();
            (books.held_by(client).map(|lease| lease.key).collect(), None)
        }
        Release::These(resources) => (resources.iter().map(key_of).collect(), None),
        Release::Rename { held, renamed } => (vec![key_of(&held)], Some(renamed.name)),
        Release::Orphan(_) => (Vec::new(), None),
    };
    let mut result = Ok(0);
    for key in keys {
        if give_back(service, client, key, rename).await.is_err() {
            result = Err(Refusal::Failed);
        }
    }
    service.command_over(client);
    result
}

fn key_of(resource: &Resource) -> Key {
    Key {
        space: resource.lockspace,
        name: resource.name,
    }
}

async fn release_orphans(service: &Rc<Service>, resource: &Resource) -> Outcome {
    let name = Some(resource.name).filter(|name| !name.is_empty());
    let dropped = service
        .books
        .borrow_mut()
        .drop_orphans(resource.lockspace, name);
    let count = u32::try_from(dropped.len()).unwrap_or(u32::MAX);
    for key in dropped {
        if let Err(refusal) = service.let_go(key, None).await {
            tracing::warn!("orphan {}: not released yet ({refusal})", key.name);
        }
    }
    Ok(count)
}

/// CONVERT.
pub async fn convert(
    service: &Rc<Service>,
    caller: ClientId,
    whose: Whose,
    resource: &Resource,
) -> Outcome {
    let client = service.books.borrow().meant(caller, whose)?;
    let begun = service
        .books
        .borrow_mut()
        .begin(client, Command::Convert as u32);
    begun?;
    let result = converted(service, client, resource).await;
    service.command_over(client);
    result.map(|()| 0)
}

async fn converted(
    service: &Service,
    client: ClientId,
    resource: &Resource,
) -> Result<(), Refusal> {
    let key = key_of(resource);
    let mode = match resource.flags.contains(ResourceFlags::SHARED) {
        true => Mode::Shared,
        false => Mode::Exclusive,
    };
    let (id, lvb) = {
        let books = service.books.borrow();
        let lease = books.lease(key).filter(|lease| lease.is_held_by(client));
        let lease = lease.ok_or(Refusal::NotFound)?;
        if lease.mode == mode {
            return Err(Refusal::Already);
        }
        // Other clients of this host share it.
        if lease.holders.len() > 1 {
            return Err(Refusal::Again);
        }
        (lease.id, lease.lvb.to_write())
    };
    let joined = service.space(key.space).ok_or(Refusal::NoSpace)?;
    if mode == Mode::Shared && key.name.as_bytes() == VG_LOCK {
        metadata_changed(service, key.space).await;
    }
    let lvb = lvb.filter(|_| mode == Mode::Shared && joined.geometry.lvb_sector().is_some());
    let convert = async || {
        let lvb = lvb.clone();
        joined.convert(id, mode, lvb, &Progress::silent()).await
    };
    settled(convert).await.map_err(|error| match error {
        NotDone::Lease(LeaseError::AlreadyHeld) => Refusal::Already,
        error => not_done(&error),
    })?;
    let lver = version(&joined, id).await;
    if let Some(lease) = service.books.borrow_mut().lease_mut(key) {
        lease.mode = mode;
        lease.lver = lver.unwrap_or(lease.lver);
        if let Lvb::Set(bytes) = &lease.lvb
            && mode == Mode::Shared
        {
            lease.lvb = Lvb::Read(bytes.clone());
        }
    }
    Ok(())
}

async fn version(joined: &Joined, id: LeaseId) -> Option<u64> {
    let picture = joined.picture().await?;
    let held = picture.held.iter().find(|held| held.id == id)?;
    Some(held.lver)
}

/// INQUIRE: what a client holds, as strings.
///
/// # Errors
/// No such client.
pub fn inquire(service: &Service, caller: ClientId, whose: Whose) -> Result<Vec<Vec<u8>>, Refusal> {
    let books = service.books.borrow();
    let client = books.meant(caller, whose)?;
    let running = |client: &Client| client.running.is_some();
    if books.client(client).is_some_and(running) {
        return Err(Refusal::Busy);
    }
    let held = books.held_by(client);
    Ok(held
        .map(|lease| {
            let mode = match lease.mode {
                Mode::Shared => Held::Shared,
                Mode::Exclusive => Held::Exclusive { lver: lease.lver },
            };
            text::resource(&listed(lease), mode)
        })
        .collect())
}

/// A lease as lists show it: its version has a place of its own there, and what it was asked for with is forgotten.
pub fn listed(lease: &Lease) -> PlacedResource {
    PlacedResource {
        resource: Resource {
            lockspace: lease.key.space,
            name: lease.key.name,
            lver: 0,
            data64: 0,
            data32: 0,
            flags: match lease.mode {
                Mode::Shared => ResourceFlags::SHARED,
                Mode::Exclusive => ResourceFlags(0),
            },
            num_disks: lease.disks.len().try_into().unwrap_or(0),
        },
        disks: lease.disks.clone(),
    }
}

/// SET_LVB: kept in memory until the lease is released or shared.
pub fn set_lvb(service: &Service, resource: &Resource, bytes: &[u8]) -> Outcome {
    let mut books = service.books.borrow_mut();
    let lease = books.lease_mut(key_of(resource)).ok_or(Refusal::NotFound)?;
    let mut block = lease.lvb.bytes().ok_or(Refusal::Invalid)?.to_vec();
    let room = block.get_mut(..bytes.len()).ok_or(Refusal::TooBig)?;
    room.copy_from_slice(bytes);
    // Where the areas have no room, what is set is seen by this host alone.
    lease.lvb = match lease.geometry.lvb_sector() {
        Some(_) => Lvb::Set(block.into()),
        None => Lvb::Read(block.into()),
    };
    Ok(0)
}

/// GET_LVB: from memory.
///
/// # Errors
/// Not held, or not with its block; more is wanted than there is.
pub fn lvb(service: &Service, resource: &Resource, len: u32) -> Result<Vec<u8>, Refusal> {
    let books = service.books.borrow();
    let lease = books.lease(key_of(resource)).ok_or(Refusal::NotFound)?;
    let block = lease.lvb.bytes().ok_or(Refusal::Invalid)?;
    match len as usize {
        0 => Ok(block.to_vec()),
        len => Ok(block.get(..len).ok_or(Refusal::TooBig)?.to_vec()),
    }
}

/// REQUEST: asks the owner of a lease to let go.
///
/// Until which version of the lease the request stands is the keeper's: until its next one. A client that names another is
/// refused where that has passed.
pub async fn request(
    service: &Service,
    flags: AskFlags,
    placed: &PlacedResource,
    force_mode: u32,
) -> Outcome {
    let joined = service.space(placed.resource.lockspace);
    let joined = joined.ok_or(Refusal::NoSpace)?;
    let [disk] = &placed.disks[..] else {
        return Err(Refusal::Invalid);
    };
    let (space, name) = (placed.resource.lockspace, placed.resource.name);
    let force_mode = match force_mode {
        0 if placed.resource.lver == 0 => {
            let clear = move |place: &_| areas::clear_request(place, space, name);
            return service.at(place(disk), clear).await.map(|()| 0);
        }
        1 => ForceMode::Force,
        2 => ForceMode::Graceful,
        _ => return Err(Refusal::Invalid),
    };
    if !flags.contains(AskFlags::NEXT_LVER) {
        let read = move |place: &_| areas::read_resource(place, space, name);
        let leader = service.at(place(disk), read).await?;
        if placed.resource.lver <= leader.lver {
            return Err(Refusal::RequestOld);
        }
    }
    let id = service.lease_at(&joined, &place(disk)).await?;
    let asked = joined.request(id, name, force_mode);
    match asked.await {
        Ok(()) => Ok(0),
        Err(NotDone::Lease(LeaseError::NotHeld)) => Err(Refusal::RequestOld),
        Err(error) => Err(not_done(&error)),
    }
}
