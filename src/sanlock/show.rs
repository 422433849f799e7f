//! STATUS and HOST_STATUS: how things stand, as a stream of states.

use std::time::Duration;

use lockmgr::ondisk::Name;
use lockmgr::time::Instant;
use lockmgr::timing::Timing;
use lockmgr::{HostState, Miss, Renewal};

use super::clients::{Lease, Phase, Standing as Stands};
use super::leases;
use super::service::Service;
use super::spaces;
use super::wire::flags::{LockspaceFlags, RestrictFlags};
use super::wire::request::StatusOf;
use super::wire::structs::{Lockspace, OpenDisk, State};
use super::wire::text::{
    ClientText, DaemonText, HostText, LockspaceList, LockspaceText, RenewalText, ResourceList,
    ResourceText,
};
use super::wire::{Command, Refusal};
use crate::daemon::lease::Joined;
use crate::keeper::Standing;
use crate::lease::host_name;

/// Seconds from a kill path to SIGKILL.
const KILL_GRACE_S: u32 = 40;
/// Most threads that wait for disks.
const WORKERS: u32 = 16;

fn seconds() -> u64 {
    crate::keeper::now().nanos() / 1_000_000_000
}

/// All states, as far as somebody wants to see them.
pub async fn status(service: &Service, of: StatusOf) -> Vec<State> {
    let mut states = vec![daemon(service)];
    if of >= StatusOf::Clients {
        states.extend(clients(service));
    }
    if of >= StatusOf::Lockspaces {
        for joined in service.daemon.lockspaces.all() {
            states.push(lockspace(service, &joined).await);
        }
    }
    if of >= StatusOf::All {
        states.extend(resources(service));
    }
    states
}

fn daemon(service: &Service) -> State {
    let host_name = host_name::usual(&service.daemon.layout).unwrap_or(Name::EMPTY);
    let text = DaemonText {
        host_name,
        // The gate stops writes in time, as a watchdog stops the machine.
        use_watchdog: true,
        gid: rustix::process::getegid().as_raw(),
        uid: rustix::process::geteuid().as_raw(),
        max_worker_threads: WORKERS,
        num_worker_threads: WORKERS,
        io_timeout: u32::from(Timing::DEFAULT.io_timeout_s()),
        kill_grace_seconds: KILL_GRACE_S,
        helper_pid: -1,
        monotime: seconds(),
    };
    State::daemon(host_name, text.to_string())
}

/// The connections; before them the two that the real daemon has with itself, since people look for them.
fn clients(service: &Service) -> Vec<State> {
    let books = service.books.borrow();
    let own = ["helper", "listener"].into_iter().zip(0..);
    let own = own.map(|(name, ci)| {
        let text = ClientText { ci, ..PLAIN };
        State::client(-1, called(name), text.to_string())
    });
    let states = books.clients().map(|(id, client)| {
        let registered = client.standing != Stands::Plain;
        let pid = if registered { client.pid } else { -1 };
        let recovery = client.recovery;
        // The command that asks for this is no news.
        let running = client.running.filter(|_| registered);
        let text = ClientText {
            ci: id.0,
            pid,
            restricted: client.restricted,
            cmd_active: running.unwrap_or(0),
            cmd_last: client.last,
            pid_dead: client.standing == Stands::Gone,
            kill_count: recovery.map_or(0, |recovery| recovery.signals),
            suspend: running.is_some(),
            need_free: client.standing == Stands::Gone,
            ..PLAIN
        };
        let name = match client.name.is_empty() && !registered {
            true => called(Command::try_from(client.last).map_or("", Command::word)),
            false => client.name,
        };
        State::client(pid, name, text.to_string())
    });
    own.chain(states).collect()
}

/// A connection that stands for nobody.
const PLAIN: ClientText = ClientText {
    ci: 0,
    fd: -1,
    pid: -1,
    flags: 0,
    restricted: RestrictFlags(0),
    cmd_active: 0,
    cmd_last: 0,
    pid_dead: false,
    kill_count: 0,
    kill_last: 0,
    suspend: false,
    need_free: false,
};

fn called(word: &str) -> Name {
    Name::new(word).unwrap_or(Name::EMPTY)
}

async fn lockspace(service: &Service, joined: &Joined) -> State {
    let flags = spaces::state(service, joined).await;
    let picture = joined.picture().await;
    let standing = picture.as_ref().map(|picture| picture.standing);
    let history = picture.as_ref().map(|picture| picture.history.clone());
    let history = history.unwrap_or_default();
    let moment = |at: Option<Instant>| at.map_or(0, Instant::disk_seconds);
    let lost = matches!(
        standing,
        Some(Standing::Lost(_) | Standing::Reclaiming | Standing::Refused)
    );
    let (external_used, used_by_orphans) = {
        let said = service.said.borrow();
        let said = said.get(&joined.space);
        said.map_or((false, false), |said| (said.used, said.used_by_orphans))
    };
    let text = LockspaceText {
        list: match flags {
            LockspaceFlags::ADD => LockspaceList::Adding,
            LockspaceFlags::REM => LockspaceList::Removing,
            _ => LockspaceList::Joined,
        },
        space_id: 0,
        io_timeout: u32::from(joined.timing.io_timeout_s()),
        geometry: Some(joined.geometry),
        host_generation: picture.as_ref().map_or(0, |picture| picture.generation),
        renew_fail: lost,
        space_dead: matches!(standing, Some(Standing::Refused)),
        killing_pids: lost && matches!(standing, Some(Standing::Refused)),
        used_retries: 0,
        external_used,
        used_by_orphans,
        corrupt_result: 0,
        acquire_last_result: i32::from(
            history.acquired.is_some() && history.acquired >= history.acquire_began,
        ),
        renewal_last_result: history.miss.map_or(1, |miss| match miss {
            Miss::TimedOut => Refusal::AioTimeout as i32,
            Miss::Failed => Refusal::Io as i32,
        }),
        acquire_last_attempt: moment(history.acquire_began),
        acquire_last_success: moment(history.acquired),
        renewal_last_attempt: moment(history.renewal_began),
        renewal_last_success: history.renewals().last().map_or(0, |last| last.timestamp),
    };
    let sector = u32::try_from(joined.geometry.sector_bytes()).unwrap_or(0);
    let open = OpenDisk {
        sector_size: sector,
        fd: -1,
    };
    State::lockspace(&spaces::listed(joined, flags), open, text.to_string())
}

fn resources(service: &Service) -> Vec<State> {
    let books = service.books.borrow();
    let lists = [
        ResourceList::Held,
        ResourceList::Adding,
        ResourceList::Removing,
        ResourceList::Orphan,
    ];
    let mut states = Vec::new();
    for list in lists {
        for lease in books
            .leases()
            .iter()
            .rev()
            .filter(|lease| listed_in(lease) == list)
        {
            let shares = lease.holders.iter().map(|holder| Share {
                pid: books.client(holder.client).map_or(-1, |client| client.pid),
                ci: i32::try_from(holder.client.0).unwrap_or(-1),
                token: holder.token,
            });
            let mut shares: Vec<Share> = shares.collect();
            if shares.is_empty() {
                shares.push(Share::NOBODYS);
            }
            for share in shares {
                states.push(resource(lease, list, share));
            }
        }
    }
    states
}

fn listed_in(lease: &Lease) -> ResourceList {
    match lease.phase {
        Phase::Adding => ResourceList::Adding,
        Phase::Removing => ResourceList::Removing,
        Phase::Held if lease.is_orphan() => ResourceList::Orphan,
        Phase::Held => ResourceList::Held,
    }
}

/// Whose lease it is.
struct Share {
    pid: i32,
    ci: i32,
    token: u32,
}

impl Share {
    /// Of an orphan, or of what is being released.
    const NOBODYS: Share = Share {
        pid: 0,
        ci: -1,
        token: 0,
    };
}

fn resource(lease: &Lease, list: ResourceList, share: Share) -> State {
    let placed = leases::listed(lease);
    let text = ResourceText {
        list,
        shared: lease.mode == lockmgr::Mode::Shared,
        lvb: lease.lvb.bytes().is_some(),
        geometry: Some(lease.geometry),
        lver: lease.lver,
        reused: 0,
        res_id: lease.number,
        token_id: share.token,
        ci: share.ci,
    };
    let sector = u32::try_from(lease.geometry.sector_bytes()).unwrap_or(0);
    let open = OpenDisk {
        sector_size: sector,
        fd: -1,
    };
    State::resource(share.pid, lease.lver, &placed, open, text.to_string())
}

/// HOST_STATUS.
///
/// # Errors
/// [`Refusal::NoSpace`]: no such lockspace.
pub async fn hosts(service: &Service, lockspace: &Lockspace) -> Result<Vec<State>, Refusal> {
    let joined = service.space(lockspace.name).ok_or(Refusal::NoSpace)?;
    let picture = joined.picture().await.ok_or(Refusal::AioTimeout)?;
    let used = |host: &&lockmgr::Host| host.state != HostState::Free;
    let states = picture.hosts.iter().filter(used).map(|host| {
        let text = HostText {
            last_check: host.last_check.disk_seconds(),
            last_live: host.last_live.disk_seconds(),
            last_req: 0,
            owner_id: host.id.number(),
            owner_generation: host.generation,
            timestamp: host.timestamp,
            io_timeout: u32::from(host.io_timeout_s),
            owner_name: host.name,
        };
        let number = u32::try_from(host.id.number()).unwrap_or(0);
        State::host(number, host.timestamp, text.to_string())
    });
    Ok(states.collect())
}

/// RENEWAL: the last ones, the oldest first.
pub async fn renewals(joined: &Joined) -> Vec<State> {
    let picture = joined.picture().await;
    let history = picture.map(|picture| picture.history).unwrap_or_default();
    let milliseconds = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    let state = |of: &Renewal| {
        let text = RenewalText {
            timestamp: of.timestamp,
            read_ms: milliseconds(of.read),
            write_ms: milliseconds(of.write),
            next_timeouts: of.next_timeouts,
            next_errors: of.next_errors,
        };
        State::renewal(of.timestamp, text.to_string())
    };
    history.renewals().map(state).collect()
}
