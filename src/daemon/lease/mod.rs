//! The lockspaces that this host is a member of, and the leases that the daemon holds for whoever asked, until they are
//! released or the daemon ends.
//!
//! ```text
//!   look    opens devices and sees what they have, on threads that may hang
//!   words   why not: sentences and exit codes
//! ```
//!
//! A verb looks, calls a keeper and waits for its answer. A client that goes away meanwhile changes nothing: what was
//! asked for goes on, and `lease status` shows it.

mod look;
mod words;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crossbeam_channel::unbounded;
use lockmgr::ondisk::{Geometry, HostId, Name};
use lockmgr::timing::Timing;
use lockmgr::{Identity, JoinError, LeaseError, LeaseId, OnOwner};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::control::server::Progress;
use crate::control::{LeaseJoin, LeasePlace, Reply};
use crate::failure::{Failure, Kind};
use crate::host;
use crate::keeper::{Call, Gates, Keeper, LeaveError, NoKeeper, Picture, Standing};
use crate::lease::host_name;
use crate::lease::place::Place;
use crate::report::{LockspaceReport, LockspacesReport, ModeWord};
use crate::together::together;

use super::Daemon;
use look::{Device, Looks};

/// Most lockspaces: some MiB of locked memory and four threads each.
const LOCKSPACES_MAX: usize = 64;
/// A keeper never waits for its disk; one that does not answer for so long is stuck.
const LOOK_LIMIT: Duration = Duration::from_secs(3);
/// A keeper that has left has so long to end its thread.
const END_LIMIT: Duration = Duration::from_secs(2);
/// What takes longer than this is worth a word.
const PATIENCE: Duration = Duration::from_secs(3);

/// All lockspaces of this host.
#[derive(Default)]
pub struct Lockspaces {
    joined: RefCell<Vec<Rc<Joined>>>,
    looks: Looks,
    /// Held from the look for others to the entry in the list.
    changes: tokio::sync::Mutex<()>,
}

/// A lockspace, from the start of its join on.
pub struct Joined {
    place: Place,
    device: Device,
    geometry: Geometry,
    space: Name,
    host: HostId,
    host_name: Name,
    timing: Timing,
    keeper: Keeper,
}

impl Joined {
    /// Whether this is the device, by whatever path. One that is gone is known by its path alone.
    fn is_on(&self, place: &Place, device: Option<Device>) -> bool {
        device.map_or(self.place.path == place.path, |there| there == self.device)
    }

    fn call(&self, call: Call) -> Result<(), Failure> {
        self.keeper.call(call).map_err(|error| match error {
            NoKeeper::Ended => words::gone(&self.space),
            NoKeeper::Busy => self.stuck(),
        })
    }

    fn stuck(&self) -> Failure {
        Failure::new(
            Kind::Failed,
            format!("the keeper of lockspace {} does not answer", self.space),
            "look at the daemon's log",
        )
    }

    /// How it stands; `None` if its keeper does not say.
    async fn picture(&self) -> Option<Picture> {
        let (tell, told) = oneshot::channel();
        self.keeper.call(Call::Look(tell)).ok()?;
        timeout(LOOK_LIMIT, told).await.ok()?.ok()
    }

    async fn report(&self) -> LockspaceReport {
        words::lockspace(self, self.picture().await.as_ref())
    }

    /// Waits for the answer to a call about a lease.
    async fn answer<T>(
        &self,
        name: &str,
        told: oneshot::Receiver<Result<T, LeaseError>>,
        progress: &Progress,
    ) -> Result<T, Failure> {
        let mut told = std::pin::pin!(told);
        let result = tokio::select! {
            result = &mut told => result,
            () = sleep(PATIENCE) => {
                progress.say(format!("waiting for {name} of lockspace {}", self.space));
                told.await
            }
        };
        match result {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                let picture = self.picture().await;
                Err(words::not_done(self, picture.as_ref(), name, error))
            }
            Err(_) => Err(words::gone(&self.space)),
        }
    }
}

fn place(of: &LeasePlace) -> Place {
    Place {
        path: of.path.clone(),
        offset: of.offset,
    }
}

impl Lockspaces {
    /// Those whose keepers live.
    fn all(&self) -> Vec<Rc<Joined>> {
        let mut joined = self.joined.borrow_mut();
        joined.retain(|joined| !joined.keeper.has_ended());
        joined.clone()
    }

    /// Waits a moment for a keeper that is ending.
    async fn ended(&self, joined: &Joined) -> bool {
        let end = Instant::now() + END_LIMIT;
        while !joined.keeper.has_ended() && Instant::now() < end {
            sleep(Duration::from_millis(10)).await;
        }
        joined.keeper.has_ended()
    }

    async fn device(&self, place: &Place) -> Option<Device> {
        let look = |place: &Place| Ok(Device::at(&place.path));
        self.looks.at(place, look).await.ok().flatten()
    }

    /// All of them, as they stand.
    pub async fn report(&self) -> LockspacesReport {
        let all = self.all();
        let mut lockspaces = together(all.iter().map(|joined| joined.report())).await;
        lockspaces.sort_by(|a, b| a.name.cmp(&b.name));
        LockspacesReport { lockspaces }
    }

    /// Leaves those in which nothing is held. The others, in words.
    pub async fn leave_unused(&self) -> Vec<String> {
        let all = self.all();
        let left = together(all.iter().map(|joined| async move {
            let (tell, told) = oneshot::channel();
            let limit = joined.timing.io() + END_LIMIT;
            let asked = joined.call(Call::Leave(tell));
            match (asked, timeout(limit, told).await) {
                (Err(_), _) | (_, Ok(Ok(Ok(())))) => None,
                _ => Some(held(joined).await),
            }
        }))
        .await;
        left.into_iter().flatten().collect()
    }
}

/// What keeps a lockspace from being left.
async fn held(joined: &Joined) -> String {
    let space = &joined.space;
    let picture = joined.picture().await;
    let Some(picture) = picture.filter(|picture| picture.standing != Standing::Ending) else {
        return format!("lockspace {space}: its disk does not answer");
    };
    let names: Vec<String> = picture.held.iter().map(|h| h.name.to_string()).collect();
    match names.is_empty() {
        true => format!("lockspace {space}: something is under way"),
        false => format!("lockspace {space}: this host holds {}", names.join(", ")),
    }
}

/// Becomes a host of a lockspace.
pub async fn join(
    daemon: &Daemon,
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
    let found = spaces
        .looks
        .at(&place, move |place| look::space(place, host))
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
    let disk = spaces
        .looks
        .at(&place, move |place| look::open(place, geometry, answers))
        .await?;
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
        Gates::none(),
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
    });
    spaces.joined.borrow_mut().push(Rc::clone(&joined));
    drop(changes);
    wait(spaces, &joined, &found, told, progress).await?;
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
        name = moved(spaces, joined, found), if foreign => {
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
async fn moved(spaces: &Lockspaces, joined: &Joined, found: &look::Space) -> Name {
    let (geometry, host) = (joined.geometry, joined.host);
    let theirs = Timing::of_other(found.slot.io_timeout, joined.timing);
    loop {
        sleep(theirs.io()).await;
        let look = move |place: &Place| look::slot_again(place, geometry, host);
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
    let found = spaces.looks.at(&place, look::resource).await?;
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
    let lease = crate::report::LeaseReport {
        name: name.clone(),
        lockspace: joined.space.to_string(),
        offset_bytes: place.offset,
        mode,
        lver,
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

/// Lets a lease go.
pub async fn release(
    daemon: &Daemon,
    at: &LeasePlace,
    lvb: Option<Vec<u8>>,
    progress: &Progress,
) -> Result<Reply, Failure> {
    let place = place(at);
    let (joined, picture) = holder(&daemon.lockspaces, &place).await?;
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
    let (joined, picture) = holder(&daemon.lockspaces, &place).await?;
    let id = LeaseId(place.offset);
    let held = picture.held.iter().find(|held| held.id == id);
    let name = held.map_or_else(|| place.to_string(), |held| held.name.to_string());
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
