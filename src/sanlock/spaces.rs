//! Commands about lockspaces: joining and leaving, who is in them, events.

use std::rc::Rc;

use lockmgr::HostState;
use lockmgr::ondisk::{Event, HostId};
use lockmgr::timing::Timing;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, sleep};

use super::areas;
use super::service::{Emptied, Service, disk, place, refusal_of};
use super::wire::Refusal;
use super::wire::flags::{AddFlags, ConfigFlags, EventFlags, HostsFlags, LockspaceFlags, RemFlags};
use super::wire::reply::Outcome;
use super::wire::structs::{Callback, Host, HostEvent, HostFlags, Lockspace};
use crate::control::server::Progress;
use crate::daemon::lease::Joined;
use crate::daemon::lease::add::{self, NotAdded, NotLeft, Spec};
use crate::keeper::{Call, Standing};
use crate::lease::host_name;

/// How often somebody who waits looks.
const POLL: Duration = Duration::from_millis(100);
/// Event connections of a lockspace.
const EVENTS_MAX: usize = 32;
/// Events that wait for a client that does not read.
const CALLBACKS_MAX: usize = 64;

/// ADD_LOCKSPACE.
pub async fn add(
    service: &Rc<Service>,
    flags: AddFlags,
    lockspace: &Lockspace,
    io_timeout: u32,
) -> Outcome {
    let daemon = &service.daemon;
    if lockspace.name.is_empty() || lockspace.host_id == 0 || lockspace.disk.path.is_empty() {
        return Err(Refusal::Invalid);
    }
    let removing = |said: &super::service::Said| said.removing;
    if service
        .said
        .borrow()
        .get(&lockspace.name)
        .is_some_and(removing)
    {
        return Err(Refusal::Again);
    }
    let host = HostId::new(lockspace.host_id).ok_or(Refusal::AddInvalidHostId)?;
    let timing = match io_timeout {
        0 => Timing::DEFAULT,
        seconds => Timing::new(u64::from(seconds)).ok_or(Refusal::Invalid)?,
    };
    let host_name = host_name::usual(&daemon.layout).ok_or_else(|| {
        tracing::error!("no lockspace is joined: this host has no machine id to make a name of");
        Refusal::Invalid
    })?;
    let place = place(&lockspace.disk);
    if daemon.lockspaces.named(&lockspace.name).is_none() {
        // For the number: a sentence has none.
        let name = lockspace.name;
        let read = move |place: &_| areas::read_lockspace(place, name, host);
        service.at(place.clone(), read).await?;
    }
    let spec = Spec {
        place,
        name: Some(lockspace.name),
        host,
        host_name,
        timing,
    };
    let progress = Progress::silent();
    let begun = add::begin(daemon, spec, &progress)
        .await
        .map_err(not_added)?;
    service.listen(&begun.joined);
    if flags.contains(AddFlags::ASYNC) {
        let service = Rc::clone(service);
        tokio::task::spawn_local(async move {
            if let Err(error) = begun.wait(&service.daemon, &Progress::silent()).await {
                let refusal = not_added(error);
                tracing::warn!("a lockspace was not joined ({refusal})");
            }
        });
        return Ok(0);
    }
    match begun.wait(daemon, &progress).await {
        Ok(_) => Ok(0),
        Err(error) => Err(not_added(error)),
    }
}

fn not_added(error: NotAdded) -> Refusal {
    match error {
        NotAdded::Unfit(failure) | NotAdded::Host(failure) => refusal_of(&failure),
        NotAdded::OtherName(_) => Refusal::LeaderLockspace,
        NotAdded::Impatient { .. } => Refusal::Invalid,
        NotAdded::Already(_) => Refusal::Exists,
        NotAdded::UnderWay(_) => Refusal::InProgress,
        NotAdded::Ending(_) => Refusal::Again,
        NotAdded::Otherwise(_) => Refusal::Invalid,
        NotAdded::Full => Refusal::NoMemory,
        NotAdded::HostIdBusy { .. } => Refusal::HostIdBusy,
        NotAdded::Failed(_, error) => error.into(),
        NotAdded::Gone(_) => Refusal::NotFound,
    }
}

/// REM_LOCKSPACE. Clients that hold something there are made to let go; what the caller's own process holds is let go for it:
/// lvmlockd cannot do so itself once its RENAME at vgremove has come to nothing, and would wait for ever.
pub async fn rem(
    service: &Rc<Service>,
    flags: RemFlags,
    lockspace: &Lockspace,
    pid: i32,
) -> Outcome {
    let space = lockspace.name;
    let joined = service.daemon.lockspaces.named(&space);
    let joined = joined.ok_or(Refusal::NotFound)?;
    {
        let mut said = service.said.borrow_mut();
        let said = said.entry(space).or_default();
        if said.removing {
            return Err(Refusal::InProgress);
        }
        let books = service.books.borrow();
        let unused = flags.contains(RemFlags::UNUSED) && books.uses(space);
        let orphans = said.used_by_orphans && books.has_orphans(space);
        if unused || orphans || said.used {
            return Err(Refusal::Busy);
        }
        said.removing = true;
    }
    if flags.contains(RemFlags::ASYNC) {
        let service = Rc::clone(service);
        tokio::task::spawn_local(async move {
            if let Err(refusal) = removed(&service, &joined, pid).await {
                tracing::warn!("lockspace {}: not left ({refusal})", joined.space);
            }
        });
        return Ok(0);
    }
    removed(service, &joined, pid).await
}

async fn removed(service: &Rc<Service>, joined: &Joined, pid: i32) -> Outcome {
    let space = joined.space;
    let result = given_up(service, joined, pid).await;
    let mut said = service.said.borrow_mut();
    match result {
        Ok(()) => {
            said.remove(&space);
            Ok(0)
        }
        Err(refusal) => {
            if let Some(said) = said.get_mut(&space) {
                said.removing = false;
            }
            Err(refusal)
        }
    }
}

async fn given_up(service: &Rc<Service>, joined: &Joined, pid: i32) -> Result<(), Refusal> {
    let space = joined.space;
    let mut to_release = service.books.borrow_mut().drop_orphans(space, None);
    {
        let mut books = service.books.borrow_mut();
        let own: Vec<_> = books
            .clients()
            .filter(|(_, client)| client.pid == pid)
            .map(|(id, _)| id)
            .collect();
        for id in own {
            let held: Vec<_> = books
                .held_by(id)
                .filter(|lease| lease.key.space == space)
                .map(|lease| lease.key)
                .collect();
            for key in held {
                if books.part(id, key) == Ok(super::clients::Parting::LetGo) {
                    to_release.push(key);
                }
            }
        }
    }
    for key in to_release {
        tracing::info!("lockspace {space}: {} is let go, to leave it", key.name);
        // What is owed is waited for below.
        let _ = service.let_go(key, None).await;
    }
    let lockspaces = &service.daemon.lockspaces;
    if service.empty(joined).await == Emptied::Lost {
        // Nothing that it protects is written any more in this attachment.
        let _ = joined.keeper.call(Call::Abandon);
    }
    match lockspaces.leave(joined, &Progress::silent()).await {
        Ok(()) => Ok(()),
        // Held by the operator, with `sanblk lease acquire`.
        Err(NotLeft::InUse) => Err(Refusal::Busy),
        Err(NotLeft::Stuck) => Err(Refusal::AioTimeout),
        Err(NotLeft::Undrained(failure)) => Err(refusal_of(&failure)),
    }
}

/// INQ_LOCKSPACE.
pub async fn inq(service: &Service, lockspace: &Lockspace, wait: bool) -> Outcome {
    loop {
        let result = stands(service, lockspace).await;
        match result {
            Err(Refusal::InProgress) if wait => sleep(POLL).await,
            result => return result,
        }
    }
}

async fn stands(service: &Service, lockspace: &Lockspace) -> Outcome {
    let joined = service.daemon.lockspaces.named(&lockspace.name);
    let ours = |joined: &Rc<Joined>| joined.host.number() == lockspace.host_id;
    let joined = joined.filter(ours).ok_or(Refusal::NotFound)?;
    if service.space(lockspace.name).is_none() {
        return Err(Refusal::InProgress);
    }
    match joined.picture().await.map(|picture| picture.standing) {
        Some(Standing::Joining) => Err(Refusal::InProgress),
        Some(Standing::Ending) => Err(Refusal::NotFound),
        Some(_) => Ok(0),
        None => Err(Refusal::AioTimeout),
    }
}

/// Where a lockspace is listed.
pub async fn state(service: &Service, joined: &Joined) -> LockspaceFlags {
    if service.space(joined.space).is_none() {
        return LockspaceFlags::REM;
    }
    match joined.picture().await.map(|picture| picture.standing) {
        Some(Standing::Joining) => LockspaceFlags::ADD,
        Some(Standing::Ending) => LockspaceFlags::REM,
        _ => LockspaceFlags(0),
    }
}

/// A lockspace as lists show it.
pub fn listed(joined: &Joined, flags: LockspaceFlags) -> Lockspace {
    Lockspace {
        name: joined.space,
        host_id: joined.host.number(),
        flags,
        disk: disk(&joined.place),
    }
}

/// GET_LOCKSPACES.
pub async fn all(service: &Service) -> Vec<Lockspace> {
    let mut list = Vec::new();
    for joined in service.daemon.lockspaces.all() {
        let flags = state(service, &joined).await;
        list.push(listed(&joined, flags));
    }
    list
}

/// GET_HOSTS: those that are not free, or one.
///
/// # Errors
/// No such lockspace; nothing known yet.
pub async fn hosts(
    service: &Service,
    flags: HostsFlags,
    lockspace: &Lockspace,
) -> Result<Vec<Host>, Refusal> {
    let joined = service.space(lockspace.name).ok_or(Refusal::NotFound)?;
    let picture = joined.picture().await.ok_or(Refusal::AioTimeout)?;
    if picture.hosts.is_empty() {
        return Err(Refusal::Again);
    }
    let wanted =
        |host: &&lockmgr::Host| match (flags.contains(HostsFlags::LOCAL), lockspace.host_id) {
            (true, _) => host.id == joined.host,
            (false, 0) => host.state != HostState::Free,
            (false, number) => host.id.number() == number,
        };
    Ok(picture
        .hosts
        .iter()
        .filter(wanted)
        .map(|host| Host {
            host_id: host.id.number(),
            generation: host.generation,
            timestamp: host.timestamp,
            io_timeout: u32::from(host.io_timeout_s),
            flags: HostFlags::of(host.state),
        })
        .collect())
}

/// SET_CONFIG.
pub fn config(service: &Service, lockspace: &Lockspace, config: ConfigFlags) -> Outcome {
    if service.daemon.lockspaces.named(&lockspace.name).is_none() {
        return Err(Refusal::NotFound);
    }
    if config.contains(ConfigFlags::IO_TIMEOUT) {
        return Err(Refusal::NotOffered);
    }
    let mut said = service.said.borrow_mut();
    let said = said.entry(lockspace.name).or_default();
    if config.contains(ConfigFlags::USED) {
        said.used = true;
    }
    if config.contains(ConfigFlags::UNUSED) {
        said.used = false;
    }
    if config.contains(ConfigFlags::USED_BY_ORPHANS) {
        said.used_by_orphans = true;
    }
    if config.contains(ConfigFlags::UNUSED_BY_ORPHANS) {
        said.used_by_orphans = false;
    }
    Ok(0)
}

/// SET_EVENT: tells a host something, or all of them.
pub async fn set_event(
    service: &Service,
    flags: EventFlags,
    lockspace: &Lockspace,
    event: &HostEvent,
) -> Outcome {
    let joined = service.space(lockspace.name).ok_or(Refusal::NotFound)?;
    if flags.contains(EventFlags::CLEAR_EVENT) || flags.contains(EventFlags::CLEAR_HOSTID) {
        // A bit goes by itself, after six io_timeouts.
        return Err(Refusal::NotOffered);
    }
    let wanted = (event.event, event.data);
    let telling = service
        .said
        .borrow()
        .get(&lockspace.name)
        .and_then(|said| said.telling);
    // A slot has room for one event.
    if let Some((told, until)) = telling
        && told != wanted
        && Instant::now() < until
        && !flags.contains(EventFlags::REPLACE)
    {
        return Err(Refusal::Busy);
    }
    let picture = joined.picture().await.ok_or(Refusal::AioTimeout)?;
    let all = flags.contains(EventFlags::ALL_HOSTS);
    let mut told = false;
    for host in &picture.hosts {
        let meant = (all && host.id != joined.host && host.state == HostState::Live)
            || (!all && host.id.number() == event.host_id);
        if !meant {
            continue;
        }
        let generation = match flags.contains(EventFlags::CUR_GENERATION) || all {
            true => host.generation,
            false => event.generation,
        };
        let event = Event {
            generation,
            number: event.event,
            data: event.data,
        };
        let host = host.id;
        let taken = joined.keeper.call(Call::Tell { host, event });
        taken.map_err(|_| Refusal::Busy)?;
        told = true;
    }
    if told {
        let until = Instant::now() + joined.timing.notify();
        let mut said = service.said.borrow_mut();
        said.entry(lockspace.name).or_default().telling = Some((wanted, until));
    }
    match told || all {
        true => Ok(0),
        false => Err(Refusal::NotFound),
    }
}

/// REG_EVENT: what the connection is told from now on.
///
/// # Errors
/// No such lockspace; too many listen already.
pub fn register(
    service: &Service,
    lockspace: &Lockspace,
) -> Result<mpsc::Receiver<Callback>, Refusal> {
    service.space(lockspace.name).ok_or(Refusal::NotFound)?;
    let mut said = service.said.borrow_mut();
    let said = said.entry(lockspace.name).or_default();
    said.events.retain(|ear| !ear.is_closed());
    if said.events.len() >= EVENTS_MAX {
        return Err(Refusal::NoMoreEvents);
    }
    let (ear, callbacks) = mpsc::channel(CALLBACKS_MAX);
    said.events.push(ear);
    Ok(callbacks)
}
