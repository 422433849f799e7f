//! Becoming a host of a lockspace, and giving the number back: for the control socket and for sanlock's clients alike.
//!
//! The two halves of a join are apart, because there are clients that do not wait: [`begin`] looks, and starts a keeper;
//! [`Begun::wait`] waits until the number is ours.

use std::io;
use std::rc::Rc;

use crossbeam_channel::unbounded;
use lockmgr::ondisk::{HostId, Name};
use lockmgr::timing::Timing;
use lockmgr::{Identity, JoinError};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::site::Site;
use super::{Carried, Joined, LOCKSPACES_MAX, Lockspaces, carried, look};
use crate::control::server::Progress;
use crate::daemon::Daemon;
use crate::failure::Failure;
use crate::host;
use crate::keeper::disk::LeaseDisk;
use crate::keeper::elsewhere::Elsewhere;
use crate::keeper::{Call, Gates, Keeper, LeaveError, Standing};
use crate::lease::place::Place;

/// What is to be joined.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Where the lockspace lies.
    pub place: Place,
    /// Its name, where the caller knows one.
    pub name: Option<Name>,
    /// Our number.
    pub host: HostId,
    /// What tells us apart from another machine with the same number.
    pub host_name: Name,
    /// Our patience.
    pub timing: Timing,
}

/// Why a lockspace was not joined.
pub enum NotAdded {
    /// The device, the area on it, or the volume that it lies on is not fit.
    Unfit(Failure),
    /// Another lockspace is there.
    OtherName(Name),
    /// The slot asks for a wait after which a number taken with this patience is lost again.
    Impatient {
        /// What was wanted.
        wanted: Timing,
        /// What the slot asks for.
        theirs: Timing,
        /// The least `io_timeout` that is enough, in seconds.
        least: Option<u64>,
    },
    /// It is joined there with this number, perhaps under another name of the host, and perhaps lost.
    Already(Rc<Joined>),
    /// It is being joined there with this number.
    UnderWay(Rc<Joined>),
    /// It is being left, and its disk does not answer.
    Ending(Rc<Joined>),
    /// This name or this place is joined in another way.
    Otherwise(Rc<Joined>),
    /// There are too many.
    Full,
    /// No thread, or no chance to be had from the kernel.
    Host(Failure),
    /// Another machine has our number.
    HostIdBusy {
        /// Which.
        joined: Rc<Joined>,
        /// Its name.
        name: Name,
    },
    /// The keeper did not succeed.
    Failed(Rc<Joined>, JoinError),
    /// It was given up meanwhile.
    Gone(Name),
}

/// Why a lockspace was not left.
#[derive(Debug)]
pub enum NotLeft {
    /// Leases are held, or something is under way with one.
    InUse,
    /// Writes to the volume may be under way, and it does not say when they are over.
    Undrained(Failure),
    /// Its keeper takes no call.
    Stuck,
}

/// A join under way.
pub struct Begun {
    /// The lockspace, as others see it too.
    pub joined: Rc<Joined>,
    site: Site,
    found: look::Space,
    told: oneshot::Receiver<Result<u64, JoinError>>,
}

/// Looks at the place, and starts to join.
///
/// # Errors
/// As [`NotAdded`] says; nothing was begun.
pub async fn begin(
    daemon: &Rc<Daemon>,
    spec: Spec,
    progress: &Progress,
) -> Result<Begun, NotAdded> {
    let spaces = &daemon.lockspaces;
    let Spec {
        place,
        name,
        host,
        host_name,
        timing,
    } = spec;
    let changes = spaces.changes.lock().await;
    let unfit = NotAdded::Unfit;
    let spot = carried::locate(daemon, &place).await.map_err(unfit)?;
    let site = spot.site.clone();
    let found = spaces.looks.at(&place, move |_| look::space(&site, host));
    let found = found.await.map_err(unfit)?;
    if name.is_some_and(|name| name != found.name) {
        return Err(NotAdded::OtherName(found.name));
    }
    patient_enough(timing, &found)?;
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
            return Err(NotAdded::Ending(other));
        }
        let alike = same && other.host == host;
        return Err(match standing {
            Some(Standing::Joining) if alike => NotAdded::UnderWay(other),
            Some(_) if alike => NotAdded::Already(other),
            _ => NotAdded::Otherwise(other),
        });
    }
    if spaces.all().len() >= LOCKSPACES_MAX {
        return Err(NotAdded::Full);
    }
    let (answers, inbox) = unbounded();
    let geometry = found.geometry;
    let elsewhere = Elsewhere::start(answers.clone()).map_err(no_thread)?;
    let (disk, carried, attached): (Box<dyn LeaseDisk>, _, _) = match &spot.on {
        None => {
            let open = move |place: &Place| look::open(place, geometry, answers);
            let disk = spaces.looks.at(&place, open).await.map_err(unfit)?;
            (disk, None, None)
        }
        Some(on) => {
            let opened = carried::open(daemon, on, &found.name, timing, answers, progress);
            let (disk, carried, attached) = opened.await.map_err(unfit)?;
            (disk, Some(carried), Some(attached))
        }
    };
    let disk = Box::new(elsewhere.beside(disk));
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
    host::random(&mut seed).map_err(NotAdded::Host)?;
    let (tell, told) = oneshot::channel();
    let keeper =
        Keeper::start(us, u64::from_ne_bytes(seed), disk, inbox, gates, tell).map_err(no_thread)?;
    // One that has no room for its first call has ended.
    let volume = carried.as_ref().map(|carried| &*carried.volume);
    let reporter = spaces.news.reporter(&place.path, volume);
    let _ = keeper.call(Call::Report(reporter));
    let joined = Rc::new(Joined {
        place,
        device: found.device,
        geometry,
        space: found.name,
        host,
        host_name,
        timing,
        keeper,
        elsewhere,
        carried,
    });
    spaces.joined.borrow_mut().push(Rc::clone(&joined));
    if joined.carried.is_some() {
        tokio::task::spawn_local(carried::watch(Rc::clone(daemon), Rc::clone(&joined)));
    }
    drop(attached);
    drop(changes);
    Ok(Begun {
        joined,
        site: spot.site,
        found,
        told,
    })
}

fn no_thread(error: io::Error) -> NotAdded {
    use crate::failure::Kind;
    NotAdded::Host(Failure::new(
        Kind::Failed,
        format!("no thread: {error}"),
        "",
    ))
}

/// Refuses to be less patient than the wait that the slot asks for: the number would be lost before it is ours.
fn patient_enough(timing: Timing, found: &look::Space) -> Result<(), NotAdded> {
    let theirs = Timing::of_other(found.slot.io_timeout, timing);
    let enough = |ours: Timing| theirs.settle() + ours.io() <= ours.give_up();
    if enough(timing) {
        return Ok(());
    }
    Err(NotAdded::Impatient {
        wanted: timing,
        theirs,
        least: (1..=255).find(|&t| Timing::new(t).is_some_and(enough)),
    })
}

impl Begun {
    /// Waits until the number is ours.
    ///
    /// # Errors
    /// It is not, and the keeper has ended or is about to.
    pub async fn wait(self, daemon: &Daemon, progress: &Progress) -> Result<Rc<Joined>, NotAdded> {
        let spaces = &daemon.lockspaces;
        let Begun {
            joined,
            site,
            found,
            told,
        } = self;
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
        } else if !found.slot.left_by(host, &joined.host_name) {
            progress.say(format!(
                "waiting {settle} s until host id {host} of lockspace {space} is ours"
            ));
        }
        let told = timeout(limit, told);
        let result = tokio::select! {
            result = told => result,
            name = moved(spaces, &joined, &site, &found), if foreign => {
                give_up(&joined);
                return Err(NotAdded::HostIdBusy { joined: Rc::clone(&joined), name });
            }
        };
        match result {
            Ok(Ok(Ok(_))) => Ok(joined),
            Ok(Ok(Err(error))) => {
                spaces.ended(&joined).await;
                Err(match error {
                    JoinError::HostIdBusy { name } => NotAdded::HostIdBusy { joined, name },
                    error => NotAdded::Failed(joined, error),
                })
            }
            Ok(Err(_)) => Err(NotAdded::Gone(*space)),
            Err(_) => {
                give_up(&joined);
                Err(NotAdded::Failed(joined, JoinError::Io))
            }
        }
    }
}

fn give_up(joined: &Joined) {
    // Nobody waits for it: the entry goes when the keeper's thread does.
    let (tell, _) = oneshot::channel();
    let _ = joined.keeper.call(Call::Leave(tell));
}

/// Comes back as soon as the owner of the slot shows a sign of life; the keeper would wait for its whole time.
async fn moved(spaces: &Lockspaces, joined: &Joined, site: &Site, found: &look::Space) -> Name {
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

impl Lockspaces {
    /// Gives the host id back, and waits until the keeper is gone.
    ///
    /// # Errors
    /// It is still ours.
    pub async fn leave(&self, joined: &Joined, progress: &Progress) -> Result<(), NotLeft> {
        if let Some(carried) = &joined.carried
            && let Some(picture) = joined.picture().await
            && matches!(picture.standing, Standing::Joined | Standing::Refused)
            && picture.held.is_empty()
        {
            // Whoever follows may have our leases at once.
            let drained = carried.drained(progress).await;
            drained.map_err(NotLeft::Undrained)?;
        }
        let (tell, told) = oneshot::channel();
        match joined.keeper.call(Call::Leave(tell)) {
            Ok(()) => {}
            Err(crate::keeper::NoKeeper::Ended) => return Ok(()),
            Err(crate::keeper::NoKeeper::Busy) => return Err(NotLeft::Stuck),
        }
        match told.await {
            Ok(Err(LeaveError::InUse)) => Err(NotLeft::InUse),
            Ok(Ok(())) | Err(_) => {
                self.ended(joined).await;
                Ok(())
            }
        }
    }
}
