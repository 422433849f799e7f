//! Leases that the daemon holds for whoever asked.

use std::rc::Rc;

use lockmgr::{LeaseId, OnOwner};
use tokio::sync::oneshot;

use super::{Joined, Lockspaces, carried, look, place, words};
use crate::control::server::Progress;
use crate::control::{LeasePlace, Reply};
use crate::daemon::Daemon;
use crate::failure::{Failure, Kind};
use crate::keeper::{Call, Picture};
use crate::lease::place::Place;
use crate::report::{LeaseReport, ModeWord};

/// Takes a lease.
pub async fn acquire(
    daemon: &Daemon,
    at: &LeasePlace,
    mode: ModeWord,
    wait: bool,
    lvb: bool,
    progress: &Progress,
) -> Result<Reply, Failure> {
    let spaces = &daemon.lockspaces;
    let place = place(at);
    let site = carried::locate(daemon, &place).await?.site;
    let look = move |_: &Place| look::resource(&site);
    let found = spaces.looks.at(&place, look).await?;
    let all = spaces.all();
    let named = |joined: &&Rc<Joined>| joined.space == found.space;
    let Some(joined) = all.iter().find(named) else {
        return Err(Failure::new(
            Kind::Refused,
            format!(
                "{} is a lease of lockspace {}, which this host has not joined",
                found.name, found.space
            ),
            "join it: sanblk lease join PATH[:OFFSET] --host-id N, with the place of the lockspace",
        ));
    };
    if !joined.is_on(&place, Some(found.device)) || joined.geometry != found.geometry {
        return Err(Failure::new(
            Kind::Refused,
            format!(
                "{} at {place} is not on the device of its lockspace {}, or has areas of another size",
                found.name, joined.space
            ),
            format!(
                "leases of {} lie on {}",
                joined.space,
                joined.place.path.display()
            ),
        ));
    }
    joined.may_protect(&found.name)?;
    let id = LeaseId(place.offset);
    let name = found.name.to_string();
    let on_owner = match wait {
        true => OnOwner::Wait,
        false => OnOwner::Refuse,
    };
    let (reply, told) = oneshot::channel();
    joined.call(Call::Acquire {
        id,
        name: found.name,
        mode: mode.into(),
        on_owner,
        reply,
    })?;
    let lver = joined.answer(&name, told, progress).await?;
    // What other hosts did is on disk now.
    spaces.follow_lock(daemon, joined, &found.name, progress).await;
    let lease = LeaseReport {
        name: name.clone(),
        lockspace: joined.space.to_string(),
        offset_bytes: place.offset,
        mode,
        lver,
        lv: joined.lv_name(&found.name),
    };
    let lvb = match lvb {
        false => None,
        true => {
            let (reply, told) = oneshot::channel();
            joined.call(Call::ReadLvb { id, reply })?;
            let read = joined.answer(&name, told, progress).await;
            let bytes = read.map_err(|failure| Failure {
                what: format!(
                    "{name} is held now, but its lock value block was not read: {}",
                    failure.what
                ),
                ..failure
            })?;
            Some(bytes.into_vec())
        }
    };
    Ok(Reply::Leased { lease, lvb })
}

/// The lockspace of ours that holds, or is acquiring, the lease at this place, and how it stands.
async fn holder(spaces: &Lockspaces, place: &Place) -> Result<(Rc<Joined>, Picture), Failure> {
    let device = spaces.device(place).await;
    for joined in spaces.all() {
        if !joined.is_on(place, device) {
            continue;
        }
        let picture = joined.picture().await.ok_or_else(|| joined.stuck())?;
        let id = LeaseId(place.offset);
        if picture.held.iter().any(|held| held.id == id) || picture.acquiring.contains(&id) {
            return Ok((joined, picture));
        }
    }
    Err(Failure::new(
        Kind::NotFound,
        format!("this host holds no lease at {place}"),
        "sanblk lease status shows what it holds",
    ))
}

/// Others may follow at once: what was written under the lease is over before.
async fn drained(joined: &Joined, progress: &Progress) -> Result<(), Failure> {
    match &joined.carried {
        Some(carried) => carried.drained(progress).await,
        None => Ok(()),
    }
}

/// Lets a lease go.
pub async fn release(
    daemon: &Daemon,
    at: &LeasePlace,
    lvb: Option<Vec<u8>>,
    progress: &Progress,
) -> Result<Reply, Failure> {
    let place = place(at);
    let spaces = &daemon.lockspaces;
    let (joined, picture) = holder(spaces, &place).await?;
    let sector = joined.geometry.sector_bytes();
    let lvb = match lvb {
        Some(bytes) if bytes.len() > sector => {
            return Err(Failure::new(
                Kind::Usage,
                format!("{} bytes: a lock value block has {sector}", bytes.len()),
                "nothing was released",
            ));
        }
        Some(mut bytes) => {
            bytes.resize(sector, 0);
            Some(bytes.into_boxed_slice())
        }
        None => None,
    };
    let id = LeaseId(place.offset);
    let held = picture.held.iter().find(|held| held.id == id);
    let name = held.map_or_else(|| place.to_string(), |held| held.name.to_string());
    if let Some(held) = held {
        // What this host did is on disk now.
        spaces.follow_lock(daemon, &joined, &held.name, progress).await;
        drained(&joined, progress).await?;
    }
    let (reply, told) = oneshot::channel();
    joined.call(Call::Release { id, lvb, reply })?;
    joined.answer(&name, told, progress).await?;
    let lease = held.map(|held| words::lease(&joined, held));
    Ok(Reply::LeaseReleased { lease })
}

/// Holds a lease otherwise.
pub async fn convert(
    daemon: &Daemon,
    at: &LeasePlace,
    mode: ModeWord,
    progress: &Progress,
) -> Result<Reply, Failure> {
    let place = place(at);
    let spaces = &daemon.lockspaces;
    let (joined, picture) = holder(spaces, &place).await?;
    let id = LeaseId(place.offset);
    let held = picture.held.iter().find(|held| held.id == id);
    let name = held.map_or_else(|| place.to_string(), |held| held.name.to_string());
    if let (ModeWord::Shared, Some(held)) = (mode, held) {
        spaces.follow_lock(daemon, &joined, &held.name, progress).await;
        drained(&joined, progress).await?;
    }
    let (reply, told) = oneshot::channel();
    let order = Call::Convert {
        id,
        mode: mode.into(),
        reply,
    };
    joined.call(order)?;
    joined.answer(&name, told, progress).await?;
    let picture = joined.picture().await.ok_or_else(|| joined.stuck())?;
    let held = picture.held.iter().find(|held| held.id == id);
    let held = held.ok_or_else(|| words::gone(&joined.space))?;
    let lease = words::lease(&joined, held);
    Ok(Reply::Leased { lease, lvb: None })
}
