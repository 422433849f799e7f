//! The lockspaces that this host is a member of, and the leases that the daemon holds for whoever asked, until they are
//! released or the daemon ends.
//!
//! ```text
//!   add     a number in a lockspace, and giving it back; join: the verbs for it
//!   hold    acquire, convert, release
//!   carried lockspaces on volumes of this daemon: sessions and gates
//!   below   where an area lies, seen from these volumes
//!   site    how a look gets at an area that lies on a logical volume
//!   follow  the volumes that a volume group lies on, and their gates
//!   look    opens devices and sees what they have, on threads that may hang
//!   words   why not: sentences and exit codes
//! ```
//!
//! A verb looks, calls a keeper and waits for its answer. A client that goes away meanwhile changes nothing: what was
//! asked for goes on, and `lease status` shows it.

pub mod add;
mod below;
mod carried;
mod follow;
pub mod hold;
pub mod join;
mod look;
mod news;
pub mod site;
mod words;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use iscsi_client::wire::Isid;
use lockmgr::ondisk::{Geometry, HostId, Name};
use lockmgr::timing::Timing;
use lockmgr::{DiskId, LeaseId};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::control::LeasePlace;
use crate::control::server::Progress;
use crate::daemon::Daemon;
use crate::daemon::volume::Volume;
use crate::failure::{Failure, Kind};
use crate::keeper::elsewhere::Elsewhere;
use crate::keeper::{Call, Keeper, Picture, Standing};
use crate::lease::place::{Device, Place};
use crate::report::{LockspaceReport, LockspacesReport};
use crate::together::together;

use carried::Carried;
use follow::OnGroup;
use look::Looks;
use news::Newsroom;

/// Most lockspaces: some MiB of locked memory and five threads each.
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
    pub(crate) looks: Looks,
    /// What their keepers tell.
    pub(super) news: Newsroom,
    /// Held from the look for others to the entry in the list.
    changes: tokio::sync::Mutex<()>,
}

/// A lockspace, from the start of its join on.
pub struct Joined {
    pub(crate) place: Place,
    pub(crate) device: Device,
    pub(crate) geometry: Geometry,
    pub(crate) space: Name,
    pub(crate) host: HostId,
    pub(crate) host_name: Name,
    pub(crate) timing: Timing,
    pub(crate) keeper: Keeper,
    /// Other devices that leases of it lie on.
    pub(crate) elsewhere: Elsewhere,
    /// Where it lies on a volume of this daemon.
    carried: Option<Carried>,
}

impl Joined {
    /// Whether this is the device, by whatever path. One that is gone is known by its path alone.
    pub(crate) fn is_on(&self, place: &Place, device: Option<Device>) -> bool {
        device.map_or(self.place.path == place.path, |there| there == self.device)
    }

    /// Whether it lies on a volume of this daemon, whose writes depend on it.
    pub(crate) fn is_carried(&self) -> bool {
        self.carried.is_some()
    }

    /// The volume group that it lies in.
    fn group(&self) -> Option<&OnGroup> {
        self.carried.as_ref()?.group.as_ref()
    }

    /// Its name.
    pub(super) fn group_name(&self) -> Option<String> {
        self.group().map(OnGroup::name)
    }

    /// The volumes whose writes depend on it.
    pub(super) fn guarded(&self) -> Vec<Rc<Volume>> {
        self.carried
            .as_ref()
            .map_or_else(Vec::new, Carried::volumes)
    }

    /// Whether its area lies within what the keeper knows of its device.
    pub(crate) fn reaches(&self, id: LeaseId) -> bool {
        let end = id.offset() + self.geometry.area_bytes();
        let size = self.group().map(|group| group.mapping.now().size());
        id.disk() != DiskId::HOME || size.is_none_or(|size| end <= size)
    }

    /// The lease at a place, if its device is the lockspace's or one that is in use for it.
    pub(crate) fn known_lease(&self, place: &Place, device: Option<Device>) -> Option<LeaseId> {
        let disk = match self.is_on(place, device) {
            true => DiskId::HOME,
            false => self.elsewhere.find(device?)?,
        };
        LeaseId::on(disk, place.offset)
    }

    /// The device of a lease, where it is not the lockspace's.
    pub(crate) fn path_elsewhere(&self, id: LeaseId) -> Option<String> {
        let place = self.elsewhere.place(id)?;
        Some(place.path.display().to_string())
    }

    /// The logical volume that a lease is of.
    pub(crate) fn lv_name(&self, lease: &Name) -> Option<String> {
        self.group()?.lv_name(lease)
    }

    /// Whether nothing of it is lost.
    async fn is_whole(&self) -> bool {
        let picture = self.picture().await;
        picture.is_some_and(|picture| picture.standing == Standing::Joined)
    }

    fn stuck(&self) -> Failure {
        Failure::new(
            Kind::Failed,
            format!("the keeper of lockspace {} does not answer", self.space),
            "look at the daemon's log",
        )
    }

    /// How it stands; `None` if its keeper does not say.
    pub(crate) async fn picture(&self) -> Option<Picture> {
        let (tell, told) = oneshot::channel();
        self.keeper.call(Call::Look(tell)).ok()?;
        timeout(LOOK_LIMIT, told).await.ok()?.ok()
    }

    async fn report(&self) -> LockspaceReport {
        words::lockspace(self, self.picture().await.as_ref())
    }
}

/// Waits, and says what for when it takes long.
async fn patiently<T>(
    done: impl Future<Output = T>,
    progress: &Progress,
    saying: impl FnOnce() -> String,
) -> T {
    let mut done = std::pin::pin!(done);
    tokio::select! {
        result = &mut done => result,
        () = sleep(PATIENCE) => {
            progress.say(saying());
            done.await
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
    /// The one of this name.
    pub(crate) fn named(&self, name: &Name) -> Option<Rc<Joined>> {
        let all = self.all();
        all.into_iter().find(|joined| joined.space == *name)
    }

    /// Those whose keepers live.
    pub(crate) fn all(&self) -> Vec<Rc<Joined>> {
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

    /// The one that the writes of this volume depend on.
    pub(super) fn guardian(&self, volume: &Volume) -> Option<Rc<Joined>> {
        let guards = |carried: &Carried| carried.guards(volume);
        let all = self.all();
        all.into_iter()
            .find(|joined| joined.carried.as_ref().is_some_and(guards))
    }

    /// The same by name.
    pub(super) fn of(&self, volume: &Volume) -> Option<String> {
        self.guardian(volume).map(|joined| joined.space.to_string())
    }

    /// ISIDs of the keepers' own sessions.
    pub(super) fn isids(&self) -> Vec<Isid> {
        let all = self.all();
        let carried = all.iter().filter_map(|joined| joined.carried.as_ref());
        carried.flat_map(|carried| carried.isids.clone()).collect()
    }

    /// The carrier of an interface came or went.
    pub(super) fn carrier(&self, interface: &str, up: bool) {
        for joined in self.all() {
            if let Some(carried) = &joined.carried {
                carried.carrier(interface, up);
            }
        }
    }

    /// Refuses to lose a volume whose writes depend on a lockspace.
    ///
    /// # Errors
    /// They do.
    pub(super) async fn may_lose(&self, volume: &Volume) -> Result<(), Failure> {
        let Some(joined) = self.guardian(volume) else {
            return Ok(());
        };
        let picture = joined.picture().await;
        // Given up: what it waits for is its own.
        if picture.is_some_and(|picture| picture.standing == Standing::Ending) {
            return Ok(());
        }
        Err(Failure::new(
            Kind::Refused,
            format!(
                "{}: its writes depend on lockspace {}, of which this host is host {}",
                volume.node(),
                joined.space,
                joined.host
            ),
            format!(
                "leave it first: sanblk lease leave {}; --force gives it up, and others take its leases when they count \
                 this host out",
                joined.place
            ),
        ))
    }

    /// The volume goes whatever happens: nothing of it is written any more, and the lockspace's slot expires.
    pub(super) fn abandon(&self, volume: &Volume) {
        if let Some(joined) = self.guardian(volume) {
            joined.carried.iter().for_each(Carried::refuse);
            if joined.keeper.call(Call::Abandon).is_err() {
                tracing::error!("lockspace {}: its keeper takes no call", joined.space);
            }
        }
    }

    /// The lease at a place, whose device is the lockspace's or another one that is not ours, and is open from now on.
    ///
    /// # Errors
    /// The device's own; it lies on a volume of this daemon, and the lockspace elsewhere.
    pub(crate) async fn lease_at(
        &self,
        daemon: &Daemon,
        joined: &Joined,
        place: &Place,
    ) -> Result<LeaseId, Failure> {
        let device = match place.path == joined.place.path {
            true => Some(joined.device),
            false => self.device(place).await,
        };
        if let Some(id) = joined.known_lease(place, device) {
            return Ok(id);
        }
        // Its bytes would go through the block device of this daemon, where a write waits for a path without limit.
        if carried::locate(daemon, place).await?.on.is_some() {
            return Err(Failure::new(
                Kind::Refused,
                format!(
                    "{place} lies on a volume of sanblk, and lockspace {} on {}",
                    joined.space,
                    joined.place.path.display()
                ),
                "leases on a volume of sanblk lie on the device of their lockspace",
            ));
        }
        let elsewhere = joined.elsewhere.clone();
        let open = move |place: &Place| look::elsewhere(place, &elsewhere);
        let disk = self.looks.at(place, open).await?;
        LeaseId::on(disk, place.offset).ok_or_else(|| {
            let path = place.path.display();
            let what = format!("byte {} of {path}: no lease lies there", place.offset);
            Failure::new(Kind::Usage, what, "")
        })
    }

    pub(crate) async fn device(&self, place: &Place) -> Option<Device> {
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
            let picture = joined.picture().await;
            if picture.is_some_and(|picture| !picture.held.is_empty()) {
                return Some(held(joined).await);
            }
            // Not given back while what its leases protected may still be written: it expires.
            if let Some(carried) = &joined.carried
                && let Some(node) = carried.not_drained_within(END_LIMIT).await
            {
                let space = &joined.space;
                return Some(format!(
                    "lockspace {space}: writes of {node} may be under way"
                ));
            }
            let asked = joined.keeper.call(Call::Leave(tell));
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
