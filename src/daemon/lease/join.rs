//! Becoming a host of a lockspace, and giving the number back.

use std::rc::Rc;

use crossbeam_channel::unbounded;
use lockmgr::ondisk::{HostId, Name};
use lockmgr::timing::Timing;
use lockmgr::{Identity, JoinError};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::site::Site;
use super::{
    Carried, Joined, LOCKSPACES_MAX, Lockspaces, PATIENCE, carried, held, look, place, words,
};
use crate::control::server::Progress;
use crate::control::{LeaseJoin, LeasePlace, Reply};
use crate::daemon::Daemon;
use crate::failure::{Failure, Kind};
use crate::host;
use crate::keeper::disk::LeaseDisk;
use crate::keeper::{Call, Gates, Keeper, LeaveError, Standing};
use crate::lease::host_name;
use crate::lease::place::Place;
use crate::report::LockspacesReport;

/// Becomes a host of a lockspace.
pub async fn join(
    daemon: &Rc<Daemon>,
    request: LeaseJoin,
    progress: &Progress,
) -> Result<Reply, Failure> {
    let spaces = &daemon.lockspaces;
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
    let place = place(&request.place);
    let changes = spaces.changes.lock().await;
    let spot = carried::locate(daemon, &place).await?;
    let site = spot.site.clone();
    let found = spaces
        .looks
        .at(&place, move |_| look::space(&site, host))
        .await?;
    long_enough(timing, &found)?;
    for other in spaces.all() {
        let same = other.is_on(&place, Some(found.device)) && other.place.offset == place.offset;
        if !same && other.space != found.name {
            continue;
        }
        let standing = other.picture().await.map(|picture| picture.standing);
        if standing.is_none_or(|standing| standing == Standing::Ending) {
            if spaces.ended(&other).await {
                continue;
            }
            return Err(Failure::new(
                Kind::Refused,
                format!(
                    "lockspace {} is still being left: its disk does not answer",
                    other.space
                ),
                "try again when it does",
            ));
        }
        let named = request.host_name.is_none() || other.host_name == host_name;
        if same && other.host == host && named && standing == Some(Standing::Joined) {
            let lockspaces = vec![other.report().await];
            return Ok(Reply::Lockspaces(LockspacesReport { lockspaces }));
        }
        return Err(Failure::new(
            Kind::Refused,
            format!(
                "this host is host {} of lockspace {} already, at {}",
                other.host, other.space, other.place
            ),
            "leave it first: sanblk lease leave",
        ));
    }
    if spaces.all().len() >= LOCKSPACES_MAX {
        return Err(Failure::new(
            Kind::Refused,
            format!("{LOCKSPACES_MAX} lockspaces are joined, which is the limit"),
            "leave one",
        ));
    }
    let (answers, inbox) = unbounded();
    let geometry = found.geometry;
    let (disk, carried, attached): (Box<dyn LeaseDisk>, _, _) = match &spot.on {
        None => {
            let open = move |place: &Place| look::open(place, geometry, answers);
            (spaces.looks.at(&place, open).await?, None, None)
        }
        Some(on) => {
            let (disk, carried, attached) =
                carried::open(daemon, on, &found.name, timing, answers, progress).await?;
            (disk, Some(carried), Some(attached))
        }
    };
    let gates = carried.as_ref().map_or_else(Gates::none, Carried::gates);
    let us = Identity {
        offset: place.offset,
        geometry,
        space: found.name,
        host,
        name: host_name,
        timing,
    };
    let mut seed = [0; 8];
    host::random(&mut seed)?;
    let (tell, told) = oneshot::channel();
    let keeper = Keeper::start(
        us,
        u64::from_ne_bytes(seed),
        disk,
        inbox,
        gates,
        tell,
    )
    .map_err(|error| Failure::new(Kind::Failed, format!("no thread: {error}"), ""))?;
    let joined = Rc::new(Joined {
        place,
        device: found.device,
        geometry,
        space: found.name,
        host,
        host_name,
        timing,
        keeper,
        carried,
    });
    spaces.joined.borrow_mut().push(Rc::clone(&joined));
    if joined.carried.is_some() {
        tokio::task::spawn_local(carried::watch(Rc::clone(daemon), Rc::clone(&joined)));
    }
    drop(attached);
    drop(changes);
    wait(spaces, &joined, &spot.site, &found, told, progress).await?;
    let lockspaces = vec![joined.report().await];
    Ok(Reply::Lockspaces(LockspacesReport { lockspaces }))
}

/// Refuses to be less patient than the wait that the slot asks for: the number would be lost before it is ours.
fn long_enough(timing: Timing, found: &look::Space) -> Result<(), Failure> {
    let theirs = Timing::of_other(found.slot.io_timeout, timing);
    let enough = |ours: Timing| theirs.settle() + ours.io() <= ours.give_up();
    if enough(timing) {
        return Ok(());
    }
    let least = (1..=255).find(|&t| Timing::new(t).is_some_and(enough));
    Err(Failure::new(
        Kind::Usage,
        format!(
            "--io-timeout {}: the slot asks for a wait of {} s, after which a number taken with this is lost again",
            timing.io_timeout_s(),
            theirs.settle().as_secs()
        ),
        match least {
            Some(least) => {
                format!("give at least {least}; all hosts of a lockspace should have the same")
            }
            None => "make the lockspace anew".to_owned(),
        },
    ))
}

/// Waits until the host id is ours.
async fn wait(
    spaces: &Lockspaces,
    joined: &Joined,
    site: &Site,
    found: &look::Space,
    told: oneshot::Receiver<Result<u64, JoinError>>,
    progress: &Progress,
) -> Result<(), Failure> {
    let (host, space) = (joined.host, &joined.space);
    let theirs = Timing::of_other(found.slot.io_timeout, joined.timing);
    let settle = theirs.settle().as_secs();
    let foreign = !found.slot.is_free() && found.slot.host_name != joined.host_name;
    let mut limit = theirs.settle() + 2 * joined.timing.give_up();
    if foreign {
        let dead = theirs.slot_takeover();
        limit += dead;
        progress.say(format!(
            "host id {host} of lockspace {space} was taken by {}: waiting {} s for a sign of life, then {settle} s \
             until it is ours",
            found.slot.host_name,
            dead.as_secs()
        ));
    } else {
        progress.say(format!(
            "waiting {settle} s until host id {host} of lockspace {space} is ours"
        ));
    }
    let told = timeout(limit, told);
    let result = tokio::select! {
        result = told => result,
        name = moved(spaces, joined, site, found), if foreign => {
            give_up(joined);
            return Err(words::host_id_busy(space, host, &name));
        }
    };
    match result {
        Ok(Ok(Ok(_))) => Ok(()),
        Ok(Ok(Err(error))) => {
            spaces.ended(joined).await;
            Err(words::not_joined(joined, error))
        }
        Ok(Err(_)) => Err(words::gone(space)),
        Err(_) => {
            give_up(joined);
            Err(words::not_joined(joined, JoinError::Io))
        }
    }
}

fn give_up(joined: &Joined) {
    // Nobody waits for it: the entry goes when the keeper's thread does.
    let (tell, _) = oneshot::channel();
    let _ = joined.call(Call::Leave(tell));
}

/// Comes back as soon as the owner of the slot shows a sign of life; the keeper would wait for its whole time.
async fn moved(
    spaces: &Lockspaces,
    joined: &Joined,
    site: &Site,
    found: &look::Space,
) -> Name {
    let (geometry, host) = (joined.geometry, joined.host);
    let theirs = Timing::of_other(found.slot.io_timeout, joined.timing);
    loop {
        sleep(theirs.io()).await;
        let site = site.clone();
        let look = move |_: &Place| look::slot_again(&site, geometry, host);
        // Ours by now, or unreadable, or free: the keeper's business.
        if let Ok(slot) = spaces.looks.at(&joined.place, look).await
            && slot.host_name != joined.host_name
            && !slot.is_free()
            && slot != found.slot
        {
            return slot.host_name;
        }
    }
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
    if let Some(carried) = &joined.carried
        && let Some(picture) = joined.picture().await
        && matches!(picture.standing, Standing::Joined | Standing::Refused)
        && picture.held.is_empty()
    {
        // Whoever follows may have our leases at once.
        carried.drained(progress).await?;
    }
    let (tell, told) = oneshot::channel();
    joined.call(Call::Leave(tell))?;
    let mut told = std::pin::pin!(told);
    let result = tokio::select! {
        result = &mut told => result,
        () = sleep(PATIENCE) => {
            progress.say(format!("leaving lockspace {}", joined.space));
            told.await
        }
    };
    match result {
        Ok(Err(LeaveError::InUse)) => Err(Failure::new(
            Kind::Refused,
            held(joined).await,
            "release it first: sanblk lease release",
        )),
        Ok(Ok(())) | Err(_) => {
            spaces.ended(joined).await;
            let lockspace = joined.space.to_string();
            Ok(Reply::LeaseLeft { lockspace })
        }
    }
}
