//! Leases: what the control socket and sanlock's clients alike do with those of a lockspace, and `sanblk lease acquire`,
//! `release` and `convert`.

use std::rc::Rc;

use lockmgr::ondisk::{ForceMode, Name};
use lockmgr::{LeaseError, LeaseId, Mode, OnOwner};
use tokio::sync::oneshot;

use super::{Joined, Lockspaces, look, patiently, place, words};
use crate::control::server::Progress;
use crate::control::{LeasePlace, Reply};
use crate::daemon::Daemon;
use crate::failure::{Failure, Kind};
use crate::keeper::{Call, NoKeeper, Picture};
use crate::lease::place::Place;
use crate::report::{LeaseReport, ModeWord};
use crate::sanlock::service::ORPHAN;

/// Why something was not done with a lease.
#[derive(Debug)]
pub enum NotDone {
    /// The lockspace says so.
    Lease(LeaseError),
    /// The lockspace is being left.
    Gone,
    /// Its keeper does not answer.
    Stuck,
    /// Writes to the volume may be under way, and it does not say when they are over.
    Undrained(Failure),
}

/// How a lease is let go.
#[derive(Clone, Debug, Default)]
pub struct Parting {
    /// One sector to leave in the lock value block.
    pub lvb: Option<Box<[u8]>>,
    /// The name that the resource is left under, if another.
    pub rename: Option<Name>,
}

impl Joined {
    /// Asks, and waits for the answer.
    async fn ask<T>(
        &self,
        call: impl FnOnce(oneshot::Sender<Result<T, LeaseError>>) -> Call,
    ) -> Result<T, NotDone> {
        let (reply, told) = oneshot::channel();
        self.keeper.call(call(reply)).map_err(|error| match error {
            NoKeeper::Ended => NotDone::Gone,
            NoKeeper::Busy => NotDone::Stuck,
        })?;
        match told.await {
            Ok(result) => result.map_err(NotDone::Lease),
            Err(_) => Err(NotDone::Gone),
        }
    }

    /// Takes a lease, and answers its version.
    ///
    /// # Errors
    /// It is not held.
    pub async fn acquire(
        &self,
        id: LeaseId,
        name: Name,
        mode: Mode,
        on_owner: OnOwner,
    ) -> Result<u64, NotDone> {
        self.ask(|reply| Call::Acquire {
            id,
            name,
            mode,
            on_owner,
            reply,
        })
        .await
    }

    /// Holds a lease otherwise. Before it is shared, nothing that was written under it is under way any more.
    ///
    /// # Errors
    /// It is held as before.
    pub async fn convert(
        &self,
        id: LeaseId,
        mode: Mode,
        lvb: Option<Box<[u8]>>,
        progress: &Progress,
    ) -> Result<(), NotDone> {
        if mode == Mode::Shared {
            self.drained(progress).await?;
        }
        self.ask(|reply| Call::Convert {
            id,
            mode,
            lvb,
            reply,
        })
        .await
    }

    /// Lets a lease go that is held: nothing that was written under it is under way any more.
    ///
    /// # Errors
    /// It is held as before, or the lockspace is lost and with it the lease.
    pub async fn release(
        &self,
        id: LeaseId,
        parting: Parting,
        progress: &Progress,
    ) -> Result<(), NotDone> {
        self.drained(progress).await?;
        let Parting { lvb, rename } = parting;
        self.ask(|reply| match rename {
            None => Call::Release { id, lvb, reply },
            Some(name) => Call::Rename {
                id,
                name,
                lvb,
                reply,
            },
        })
        .await
    }

    /// Gives up what is being acquired; what comes too late for that is released.
    ///
    /// # Errors
    /// Nothing of the kind is under way.
    pub async fn give_up(&self, id: LeaseId) -> Result<(), NotDone> {
        let lvb = None;
        self.ask(|reply| Call::Release { id, lvb, reply }).await
    }

    /// Reads the lock value block of a lease that is held: one sector.
    ///
    /// # Errors
    /// It was not read.
    pub async fn read_lvb(&self, id: LeaseId) -> Result<Box<[u8]>, NotDone> {
        self.ask(|reply| Call::ReadLvb { id, reply }).await
    }

    /// Asks the owner of a lease to let go.
    ///
    /// # Errors
    /// The request was not written.
    pub async fn request(
        &self,
        id: LeaseId,
        name: Name,
        force_mode: ForceMode,
    ) -> Result<(), NotDone> {
        self.ask(|reply| Call::Ask {
            id,
            name,
            force_mode,
            reply,
        })
        .await
    }

    /// Others may follow at once: what was written under the lease is over before.
    async fn drained(&self, progress: &Progress) -> Result<(), NotDone> {
        match &self.carried {
            Some(carried) => carried.drained(progress).await.map_err(NotDone::Undrained),
            None => Ok(()),
        }
    }

    /// Waits as a verb does: says so after a while, and says why not.
    async fn as_verb<T>(
        &self,
        name: &str,
        done: impl Future<Output = Result<T, NotDone>>,
        progress: &Progress,
    ) -> Result<T, Failure> {
        let waiting = || format!("waiting for {name} of lockspace {}", self.space);
        match patiently(done, progress, waiting).await {
            Ok(answer) => Ok(answer),
            Err(NotDone::Lease(error)) => {
                let picture = self.picture().await;
                Err(words::not_done(self, picture.as_ref(), name, error))
            }
            Err(NotDone::Gone) => Err(words::gone(&self.space)),
            Err(NotDone::Stuck) => Err(self.stuck()),
            Err(NotDone::Undrained(failure)) => Err(failure),
        }
    }
}

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
    let site = spaces.site(daemon, &place).await?;
    let look = move |_: &Place| look::resource(&site);
    let found = spaces.looks.at(&place, look).await?;
    let Some(joined) = spaces.named(&found.space) else {
        return Err(Failure::new(
            Kind::Refused,
            format!(
                "{} is a lease of lockspace {}, which this host has not joined",
                found.name, found.space
            ),
            "join it: sanblk lease join PATH[:OFFSET] --host-id N, with the place of the lockspace",
        ));
    };
    if joined.geometry != found.geometry {
        return Err(Failure::new(
            Kind::Refused,
            format!(
                "the area of {} at {place} is laid out otherwise than its lockspace {}",
                found.name, joined.space
            ),
            "make it anew, with the --sector and --align of the lockspace",
        ));
    }
    joined.may_protect(&found.name)?;
    let id = spaces.lease_at(daemon, &joined, &place).await?;
    let name = found.name.to_string();
    let on_owner = match wait {
        true => OnOwner::Wait,
        false => OnOwner::Refuse,
    };
    let acquired = joined.acquire(id, found.name, mode.into(), on_owner);
    let lver = joined.as_verb(&name, acquired, progress).await?;
    // What other hosts did is on disk now.
    let followed = spaces.follow_lock(daemon, &joined, &found.name, progress);
    followed.await;
    let lease = LeaseReport {
        name: name.clone(),
        lockspace: joined.space.to_string(),
        path: joined.path_elsewhere(id),
        offset_bytes: place.offset,
        mode,
        lver,
        held_for: Vec::new(),
        lv: joined.lv_name(&found.name),
    };
    let lvb = match lvb {
        false => None,
        true => {
            let read = joined.as_verb(&name, joined.read_lvb(id), progress).await;
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
async fn holder(
    spaces: &Lockspaces,
    place: &Place,
) -> Result<(Rc<Joined>, LeaseId, Picture), Failure> {
    let device = spaces.device(place).await;
    for joined in spaces.all() {
        let Some(id) = joined.known_lease(place, device) else {
            continue;
        };
        let picture = joined.picture().await.ok_or_else(|| joined.stuck())?;
        if picture.held.iter().any(|held| held.id == id) || picture.acquiring.contains(&id) {
            return Ok((joined, id, picture));
        }
    }
    Err(Failure::new(
        Kind::NotFound,
        format!("this host holds no lease at {place}"),
        "sanblk lease status shows what it holds",
    ))
}

/// What a client of sanlock's socket has is its own to let go. An orphan is nobody's.
fn nobody_else_has(daemon: &Daemon, joined: &Joined, id: LeaseId) -> Result<(), Failure> {
    let Some(clients) = daemon.clients() else {
        return Ok(());
    };
    match clients.held_for(joined.space, id).as_slice() {
        [] => Ok(()),
        [one] if one == ORPHAN => Ok(()),
        those => Err(Failure::new(
            Kind::Refused,
            format!("that lease is held for {}", those.join(", ")),
            "it is let go by that program: `lvchange -an` for a logical volume",
        )),
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
    let (joined, id, picture) = holder(spaces, &place).await?;
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
    nobody_else_has(daemon, &joined, id)?;
    let held = picture.held.iter().find(|held| held.id == id);
    let name = held.map_or_else(|| place.to_string(), |held| held.name.to_string());
    let released = async {
        match held {
            Some(held) => {
                // What this host did is on disk now.
                let followed = spaces.follow_lock(daemon, &joined, &held.name, progress);
                followed.await;
                let parting = Parting { lvb, rename: None };
                joined.release(id, parting, progress).await
            }
            None => joined.give_up(id).await,
        }
    };
    joined.as_verb(&name, released, progress).await?;
    if let Some(clients) = daemon.clients() {
        clients.forget_orphan(joined.space, id);
    }
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
    let (joined, id, picture) = holder(spaces, &place).await?;
    nobody_else_has(daemon, &joined, id)?;
    let held = picture.held.iter().find(|held| held.id == id);
    let name = held.map_or_else(|| place.to_string(), |held| held.name.to_string());
    if let (ModeWord::Shared, Some(held)) = (mode, held) {
        let followed = spaces.follow_lock(daemon, &joined, &held.name, progress);
        followed.await;
    }
    let converted = joined.convert(id, mode.into(), None, progress);
    joined.as_verb(&name, converted, progress).await?;
    let picture = joined.picture().await.ok_or_else(|| joined.stuck())?;
    let held = picture.held.iter().find(|held| held.id == id);
    let held = held.ok_or_else(|| words::gone(&joined.space))?;
    let lease = words::lease(&joined, held);
    Ok(Reply::Leased { lease, lvb: None })
}
