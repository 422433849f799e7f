//! From a request to its answer: which command is done where, and who closes the connection afterwards.

use std::rc::Rc;

use lockmgr::ondisk::HostId;
use tokio::sync::mpsc;

use super::areas::{self, Make};
use super::clients::ClientId;
use super::kill::KillPath;
use super::service::{Service, named, place};
use super::wire::flags::{
    InqFlags, KillpathFlags, ResourceFlags, WriteLockspaceFlags, WriteResourceFlags,
};
use super::wire::reply::Outcome;
use super::wire::structs::{
    Callback, Host, HostFlags, Lockspace, PlacedResource, Rentry, Resource, State,
};
use super::wire::{Header, Refusal, Reply, Request, Whose};
use super::{index, leases, show, spaces};

/// Seconds in slots of lockspaces that nobody gave a patience.
const IO_TIMEOUT: u16 = 10;

/// What a connection does next.
pub enum Then {
    /// It waits for the client.
    Stay,
    /// It ends.
    Close,
    /// It tells of events.
    Tell(mpsc::Receiver<Callback>),
}

/// An answer.
pub struct Answer {
    /// To be sent; nothing, where the real daemon says nothing.
    pub bytes: Vec<u8>,
    /// What follows.
    pub then: Then,
}

impl Answer {
    /// A reply, after which the client closes.
    pub fn of(reply: Reply) -> Answer {
        Answer {
            bytes: reply.into_bytes(),
            then: Then::Stay,
        }
    }

    /// A reply, after which we do.
    fn last(reply: Reply) -> Answer {
        Answer {
            bytes: reply.into_bytes(),
            then: Then::Close,
        }
    }

    fn silence() -> Answer {
        Answer {
            bytes: Vec::new(),
            then: Then::Stay,
        }
    }

    /// States end with the connection.
    fn states(reply: Reply, states: &[State]) -> Answer {
        let mut answer = Answer::last(reply);
        for state in states {
            answer.bytes.extend(state.emit());
        }
        answer
    }
}

/// Does what is asked for. `pid` is the process at the other end.
pub async fn handle(
    service: &Rc<Service>,
    caller: ClientId,
    pid: i32,
    header: &Header,
    request: Request,
) -> Answer {
    if let Some(client) = service.books.borrow_mut().client_mut(caller) {
        client.last = header.command;
    }
    let result = |outcome: Outcome| Answer::of(Reply::result(header, outcome));
    let entry = |done: Result<Rentry, Refusal>| {
        let found = *done.as_ref().unwrap_or(&Rentry::NONE);
        Answer::of(Reply::entry(header, done.map(|_| 0), &found))
    };
    let last = |outcome: Outcome| Answer::last(Reply::result(header, outcome));
    match request {
        Request::Version => Answer::of(Reply::version(header)),
        Request::Register => {
            service.books.borrow_mut().register(caller);
            Answer::silence()
        }
        Request::Restrict { flags, whose } => result(change(service, caller, whose, |client| {
            client.restricted = flags;
        })),
        Request::Killpath {
            flags,
            whose,
            path,
            args,
        } => {
            let path = KillPath {
                path,
                args,
                with_pid: flags.contains(KillpathFlags::PID),
            };
            result(change(service, caller, whose, |client| {
                client.kill_path = Some(path).filter(|path| !path.path.is_empty());
            }))
        }
        Request::AddLockspace {
            flags,
            lockspace,
            io_timeout,
        } => result(spaces::add(service, flags, &lockspace, io_timeout).await),
        Request::RemLockspace { flags, lockspace } => {
            result(spaces::rem(service, flags, &lockspace, pid).await)
        }
        Request::InqLockspace { flags, lockspace } => {
            let wait = flags.contains(InqFlags::WAIT);
            result(spaces::inq(service, &lockspace, wait).await)
        }
        Request::GetLockspaces => {
            Answer::last(Reply::lockspaces(header, &spaces::all(service).await))
        }
        Request::GetHosts { flags, lockspace } => {
            match spaces::hosts(service, flags, &lockspace).await {
                Ok(hosts) => Answer::last(Reply::hosts(header, &hosts)),
                Err(refusal) => last(Err(refusal)),
            }
        }
        Request::SetConfig {
            lockspace, config, ..
        } => {
            let outcome = spaces::config(service, &lockspace, config);
            Answer::last(Reply::config(header, outcome))
        }
        Request::SetEvent {
            flags,
            lockspace,
            event,
        } => result(spaces::set_event(service, flags, &lockspace, &event).await),
        Request::RegEvent(lockspace) => match spaces::register(service, &lockspace) {
            Ok(callbacks) => Answer {
                bytes: Reply::result(header, Ok(0)).into_bytes(),
                then: Then::Tell(callbacks),
            },
            Err(refusal) => last(Err(refusal)),
        },
        Request::EndEvent(_) => last(Ok(0)),
        Request::Acquire {
            flags,
            whose,
            resources,
            options,
        } => {
            let acquired = leases::acquire(service, caller, flags, whose, &resources, &options);
            result(acquired.await)
        }
        Request::Release { flags, whose, what } => {
            result(leases::release(service, caller, flags, whose, what).await)
        }
        Request::Convert {
            whose, resource, ..
        } => result(leases::convert(service, caller, whose, &resource).await),
        Request::Inquire { whose } => match leases::inquire(service, caller, whose) {
            Ok(held) => Answer::of(Reply::inquired(header, &held)),
            Err(refusal) => result(Err(refusal)),
        },
        Request::SetLvb { resource, lvb } => result(leases::set_lvb(service, &resource, &lvb)),
        Request::GetLvb { resource, len } => match leases::lvb(service, &resource, len) {
            Ok(bytes) => Answer::of(Reply::lvb(header, &bytes)),
            Err(refusal) => result(Err(refusal)),
        },
        Request::Request {
            flags,
            placed,
            force_mode,
        } => result(leases::request(service, flags, &placed, force_mode).await),
        Request::ExamineLockspace(lockspace) => result(known(service, &lockspace)),
        Request::ExamineResource(resource) => {
            let space = service.space(resource.lockspace);
            result(space.map(|_| 0).ok_or(Refusal::NoSpace))
        }
        Request::Align(disk) => result(service.at(place(&disk), areas::align).await),
        Request::WriteLockspace {
            flags,
            lockspace,
            io_timeout,
        } => result(write_lockspace(service, flags, &lockspace, io_timeout).await),
        Request::ReadLockspace(lockspace) => read_lockspace(service, header, lockspace).await,
        Request::WriteResource {
            flags,
            placed,
            num_hosts,
        } => result(write_resource(service, flags, &placed, num_hosts).await),
        Request::ReadResource(placed) => read_resource(service, header, &placed).await,
        Request::ReadResourceOwners(placed) => read_owners(service, header, &placed).await,
        Request::Status(of) => {
            let states = show::status(service, of).await;
            Answer::states(Reply::result(header, Ok(0)), &states)
        }
        Request::HostStatus(lockspace) => match show::hosts(service, &lockspace).await {
            Ok(states) => Answer::states(Reply::result(header, Ok(0)), &states),
            Err(refusal) => last(Err(refusal)),
        },
        Request::Renewal(lockspace) => match service.space(lockspace.name) {
            Some(joined) => {
                let seconds = u32::from(joined.timing.io_timeout_s());
                let states = show::renewals(&joined).await;
                Answer::states(Reply::renewal(header, seconds), &states)
            }
            None => last(Err(Refusal::NoSpace)),
        },
        Request::LogDump => {
            let text = "the lock manager is part of sanblk: its log is sanblk's\n";
            Answer::last(Reply::log(header, text.as_bytes()))
        }
        Request::Shutdown { .. } => {
            tracing::warn!("process {pid} wants the lock manager to end: it ends with sanblk");
            Answer {
                bytes: Vec::new(),
                then: Then::Close,
            }
        }
        Request::ShutdownWait { .. } => match service.daemon.lockspaces.all().is_empty() {
            true => Answer::last(Reply::ended()),
            false => last(Err(Refusal::Busy)),
        },
        Request::FormatRindex { flags, rindex } => {
            result(index::format(service, flags, &rindex).await.map(|()| 0))
        }
        Request::RebuildRindex { flags, rindex } => {
            result(index::rebuild(service, flags, &rindex).await.map(|()| 0))
        }
        Request::LookupRindex {
            flags,
            rindex,
            entry: wanted,
        } => entry(index::lookup(service, flags, &rindex, wanted).await),
        Request::UpdateRindex {
            flags,
            rindex,
            entry: changed,
        } => {
            let done = index::update(service, flags, &rindex, changed).await;
            entry(done.map(|()| Rentry::NONE))
        }
        Request::CreateResource {
            flags,
            rindex,
            entry: made,
            num_hosts,
        } => {
            let done = index::create(service, flags, &rindex, made.name, num_hosts).await;
            entry(done.map(|offset| Rentry {
                offset,
                ..Rentry::NONE
            }))
        }
        Request::DeleteResource {
            flags,
            rindex,
            entry: gone,
        } => {
            let done = index::delete(service, flags, &rindex, gone).await;
            entry(done.map(|()| Rentry::NONE))
        }
        // Of versions after the one that we say to be, which is silent about them.
        Request::Acquire2 { .. }
        | Request::ReadLockspaceHost(_)
        | Request::InitLockspaceHost { .. }
        | Request::SetHost { .. } => Answer::silence(),
    }
}

fn known(service: &Service, lockspace: &Lockspace) -> Outcome {
    let space = service.space(lockspace.name);
    space.map(|_| 0).ok_or(Refusal::NoSpace)
}

/// Changes what is known of a registered client.
fn change(
    service: &Service,
    caller: ClientId,
    whose: Whose,
    change: impl FnOnce(&mut super::clients::Client),
) -> Outcome {
    let mut books = service.books.borrow_mut();
    let client = books.meant(caller, whose)?;
    change(books.client_mut(client).ok_or(Refusal::NoProcess)?);
    Ok(0)
}

async fn write_lockspace(
    service: &Service,
    flags: WriteLockspaceFlags,
    lockspace: &Lockspace,
    io_timeout: u32,
) -> Outcome {
    if flags.contains(WriteLockspaceFlags::NO_TIMEOUT_ONLY)
        || flags.contains(WriteLockspaceFlags::USE_CAW)
    {
        return Err(Refusal::NotOffered);
    }
    let geometry = named(lockspace.flags.geometry())?;
    let io_timeout = match u16::try_from(io_timeout).map_err(|_| Refusal::Invalid)? {
        0 => IO_TIMEOUT,
        seconds => seconds,
    };
    let name = lockspace.name;
    let write = move |place: &_| areas::write_lockspace(place, geometry, name, io_timeout);
    let written = service.format(place(&lockspace.disk), write);
    written.await.map(|()| 0)
}

async fn read_lockspace(service: &Service, header: &Header, mut lockspace: Lockspace) -> Answer {
    let read = async {
        let number = match lockspace.host_id {
            0 => 1,
            number => number,
        };
        let host = HostId::new(number).ok_or(Refusal::AddInvalidHostId)?;
        let name = lockspace.name;
        let read = move |place: &_| areas::read_lockspace(place, name, host);
        let space = service.at(place(&lockspace.disk), read).await?;
        Ok((host, space))
    };
    let (outcome, io_timeout) = match read.await {
        Ok((host, space)) => {
            lockspace.name = space.slot.space_name;
            lockspace.host_id = host.number();
            lockspace.flags = lockspace.flags.with_geometry(space.slot.geometry);
            (Ok(0), u32::from(space.slot.io_timeout))
        }
        Err(refusal) => (Err(refusal), 0),
    };
    Answer::of(Reply::lockspace(header, outcome, io_timeout, &lockspace))
}

/// The one disk of a resource.
fn only(placed: &PlacedResource) -> Result<crate::lease::place::Place, Refusal> {
    match &placed.disks[..] {
        [disk] => Ok(place(disk)),
        _ => Err(Refusal::Invalid),
    }
}

async fn write_resource(
    service: &Service,
    flags: WriteResourceFlags,
    placed: &PlacedResource,
    num_hosts: u32,
) -> Outcome {
    if flags.contains(WriteResourceFlags::USE_CAW) {
        return Err(Refusal::NotOffered);
    }
    let Resource {
        lockspace,
        name,
        flags: wanted,
        ..
    } = placed.resource;
    let geometry = named(wanted.geometry())?;
    let make = match flags.contains(WriteResourceFlags::CLEAR) {
        true => Make::Cleared {
            now: crate::keeper::now().nanos() / 1_000_000_000,
        },
        false => Make::Resource { hosts: num_hosts },
    };
    let write = move |place: &_| areas::write_resource(place, geometry, lockspace, name, make);
    service.format(only(placed)?, write).await.map(|()| 0)
}

async fn read_resource(service: &Service, header: &Header, placed: &PlacedResource) -> Answer {
    let mut resource = placed.resource;
    let (space, name) = (resource.lockspace, resource.name);
    let read = async {
        let read = move |place: &_| areas::read_resource(place, space, name);
        service.at(only(placed)?, read).await
    };
    let outcome = read.await.map(|leader| {
        resource.lockspace = leader.space_name;
        resource.name = leader.resource_name;
        resource.lver = leader.lver;
        resource.flags = resource.flags.with_geometry(leader.geometry);
        0
    });
    Answer::of(Reply::resource(header, outcome, &resource))
}

async fn read_owners(service: &Service, header: &Header, placed: &PlacedResource) -> Answer {
    let mut resource = placed.resource;
    let (space, name) = (resource.lockspace, resource.name);
    let read = async {
        let read = move |place: &_| areas::read_owners(place, space, name);
        service.at(only(placed)?, read).await
    };
    let found = match read.await {
        Ok(found) => found,
        Err(refusal) => return Answer::of(Reply::resource(header, Err(refusal), &resource)),
    };
    resource.lockspace = found.leader.space_name;
    resource.name = found.leader.resource_name;
    resource.lver = found.leader.lver;
    // The mode alone: unlike READ_RESOURCE it says nothing of the geometry.
    if found.shared {
        resource.flags = resource.flags.with(ResourceFlags::SHARED);
    }
    let owners: Vec<Host> = found
        .owners
        .iter()
        .map(|owner| Host {
            host_id: owner.host,
            generation: owner.generation,
            timestamp: owner.timestamp,
            io_timeout: 0,
            flags: HostFlags::default(),
        })
        .collect();
    Answer::of(Reply::owners(header, &resource, &owners))
}
