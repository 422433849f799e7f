//! `sanblk lease join` and `leave`.

use std::rc::Rc;

use lockmgr::ondisk::{HostId, Name};
use lockmgr::timing::Timing;

use super::add::{self, NotAdded, NotLeft, Spec};
use super::{held, patiently, place, words};
use crate::control::server::Progress;
use crate::control::{LeaseJoin, LeasePlace, Reply};
use crate::daemon::Daemon;
use crate::failure::{Failure, Kind};
use crate::lease::host_name;
use crate::report::LockspacesReport;

/// Becomes a host of a lockspace.
pub async fn join(
    daemon: &Rc<Daemon>,
    request: LeaseJoin,
    progress: &Progress,
) -> Result<Reply, Failure> {
    let named = request.host_name.is_some();
    let spec = spec(daemon, request)?;
    let name = spec.host_name;
    let joined = match add::begin(daemon, spec, progress).await {
        Ok(begun) => begun
            .wait(daemon, progress)
            .await
            .map_err(words::not_added)?,
        // Asked for without a name, any will do.
        Err(NotAdded::Already(other))
            if (!named || other.host_name == name) && other.is_whole().await =>
        {
            other
        }
        Err(error) => return Err(words::not_added(error)),
    };
    let lockspaces = vec![joined.report().await];
    Ok(Reply::Lockspaces(LockspacesReport { lockspaces }))
}

fn spec(daemon: &Daemon, request: LeaseJoin) -> Result<Spec, Failure> {
    let usage = |what: String, next: &str| Failure::new(Kind::Usage, what, next);
    let host = HostId::new(request.host_id).ok_or_else(|| {
        usage(
            format!("{} is no host id: they go from 1 to 2000", request.host_id),
            "choose another --host-id",
        )
    })?;
    let timing = Timing::new(request.io_timeout_s).ok_or_else(|| {
        usage(
            format!("--io-timeout {}: 1 to 255 seconds", request.io_timeout_s),
            "leave it away: the usual 10 s suit most disks",
        )
    })?;
    let host_name = match &request.host_name {
        Some(text) => Name::new(text)
            .ok()
            .filter(|name| !name.is_empty())
            .ok_or_else(|| usage("--host-name: 1 to 48 bytes".to_owned(), "choose another"))?,
        None => host_name::usual(&daemon.layout).ok_or_else(|| {
            usage(
                "this host has no machine id to make a name of".to_owned(),
                "add --host-name NAME: another one on each host, the same after a reboot",
            )
        })?,
    };
    Ok(Spec {
        place: place(&request.place),
        name: None,
        host,
        host_name,
        timing,
    })
}

/// Gives the host id back.
pub async fn leave(
    daemon: &Daemon,
    at: &LeasePlace,
    progress: &Progress,
) -> Result<Reply, Failure> {
    let spaces = &daemon.lockspaces;
    let place = place(at);
    let device = spaces.device(&place).await;
    let all = spaces.all();
    let joined = all
        .iter()
        .find(|joined| joined.is_on(&place, device) && joined.place.offset == place.offset)
        .ok_or_else(|| {
            Failure::new(
                Kind::NotFound,
                format!("this host has joined no lockspace at {place}"),
                "sanblk lease status shows those that it has",
            )
        })?;
    let saying = || format!("leaving lockspace {}", joined.space);
    match patiently(spaces.leave(joined, progress), progress, saying).await {
        Ok(()) => {
            let lockspace = joined.space.to_string();
            Ok(Reply::LeaseLeft { lockspace })
        }
        Err(NotLeft::InUse) => Err(Failure::new(
            Kind::Refused,
            held(joined).await,
            "release it first: sanblk lease release",
        )),
        Err(NotLeft::Undrained(failure)) => Err(failure),
        Err(NotLeft::Stuck) => Err(joined.stuck()),
    }
}
