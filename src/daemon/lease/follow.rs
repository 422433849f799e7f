//! The volume group that a lockspace lies in: on which volumes it lies, and how its gates follow when that changes.
//!
//! Its metadata is read from the volumes themselves, never through lvm. Whoever serves the lock of a volume group calls
//! [`Lockspaces::vg_changed`] when it was acquired, for then all that other hosts did is on disk, and before it is let go,
//! for then all that this host did is. So no logical volume is in use here on a volume whose gate is not armed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use lockmgr::ondisk::Name;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::carried::{self, Carried, DRAIN_LIMIT, Guarded};
use super::{Joined, LOOK_LIMIT, Lockspaces, below};
use crate::control::server::Progress;
use crate::daemon::Daemon;
use crate::daemon::volume::Volume;
use crate::failure::{Failure, Kind};
use crate::keeper::mapped::Mapping;
use crate::keeper::{Call, GateError, Gates, Standing};
use crate::layout::Layout;
use crate::lease::place::Place;
use crate::lvm::{self, BadPv, Group, Pv, Uuid};

/// Metadata that another host is writing just now is read again.
const READS: u32 = 4;
const BETWEEN_READS: Duration = Duration::from_millis(50);

/// lvmlockd's name for the lock of the volume group that a lockspace lies in.
const VG_LOCK: &str = "VGLK";
/// And for the lock of all volume groups, which protects no data.
const GLOBAL_LOCK: &str = "GLLK";

/// What a lockspace on a logical volume has besides.
pub struct OnGroup {
    /// The logical volume.
    pub lv: Uuid,
    /// Where it lies on the volume below.
    pub mapping: Mapping,
    /// What the metadata said last.
    pub members: RefCell<Members>,
    /// Why not all of it is guarded.
    pub trouble: RefCell<Option<String>>,
    /// One change is followed at a time.
    pub turn: tokio::sync::Mutex<()>,
}

/// A volume group and the volumes of this daemon that it lies on.
#[derive(Clone)]
pub struct Members {
    /// What its metadata says.
    pub group: Rc<Group>,
    /// By physical volume.
    places: BTreeMap<Uuid, Rc<Volume>>,
}

impl Members {
    /// Each once.
    fn volumes(&self) -> Vec<Rc<Volume>> {
        let mut volumes: Vec<Rc<Volume>> = Vec::new();
        for pv in &self.group.pvs {
            if let Some(volume) = self.places.get(&pv.id)
                && !volumes.iter().any(|known| Rc::ptr_eq(known, volume))
            {
                volumes.push(Rc::clone(volume));
            }
        }
        volumes
    }

    /// One that is on no volume of ours.
    fn foreign(&self) -> Option<&Pv> {
        let mut pvs = self.group.pvs.iter();
        pvs.find(|pv| !self.places.contains_key(&pv.id))
    }

    fn all_ours(&self) -> Result<(), Failure> {
        let Some(pv) = self.foreign() else {
            return Ok(());
        };
        let hint = match (pv.missing, pv.device.as_str()) {
            (true, _) => "which LVM counts as missing".to_owned(),
            (false, device) => format!("last seen as {device}"),
        };
        Err(Failure::new(
            Kind::Refused,
            format!(
                "volume group {}: its physical volume {}, {hint}, is on no volume of sanblk, so nothing would stop its writes \
                 when a lease is lost",
                self.group.name, pv.id
            ),
            "attach it with sanblk, or take it out: vgreduce; a volume group is carried by sanblk as a whole or not at all",
        ))
    }
}

impl OnGroup {
    /// The volumes that it lies on, as far as they are ours.
    pub fn volumes(&self) -> Vec<Rc<Volume>> {
        self.members.borrow().volumes()
    }

    /// The volume group's name.
    pub fn name(&self) -> String {
        self.members.borrow().group.name.clone()
    }

    /// Why not all of it is guarded.
    pub fn unguarded(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    /// The logical volume that a lease is of, which is named by its UUID.
    pub fn lv_name(&self, lease: &Name) -> Option<String> {
        let id = Uuid::parse(&lease.to_string())?;
        let members = self.members.borrow();
        members.group.lv(id).map(|lv| lv.name.clone())
    }
}

/// The volume group of this UUID, of which a part lies on `home`, and where all of it lies.
///
/// # Errors
/// Its metadata cannot be read, or a part of it is on no volume of ours.
pub async fn all_members(daemon: &Daemon, home: &Rc<Volume>, id: Uuid) -> Result<Members, Failure> {
    let members = members(daemon, home, id, BTreeMap::new()).await?;
    members.all_ours()?;
    Ok(members)
}

/// The same, with the places that are known already.
async fn members(
    daemon: &Daemon,
    home: &Rc<Volume>,
    id: Uuid,
    mut places: BTreeMap<Uuid, Rc<Volume>>,
) -> Result<Members, Failure> {
    let mut newest: Option<Group> = None;
    let mut unread = None;
    let mut others = carried::volumes(daemon);
    others.retain(|volume| !Rc::ptr_eq(volume, home));
    // Those that seem to be meant come first: a volume that does not answer costs its time.
    let mut left: Vec<_> = std::iter::once(Rc::clone(home)).chain(others).collect();
    while !left.is_empty() {
        let wanted = newest.as_ref().map(|group| {
            let pvs = group.pvs.iter();
            pvs.filter(|pv| !places.contains_key(&pv.id))
                .collect::<Vec<_>>()
        });
        let next = match &wanted {
            Some(wanted) if wanted.is_empty() => break,
            Some(wanted) => left
                .iter()
                .position(|volume| wanted.iter().any(|pv| pv.device == volume.node())),
            None => None,
        };
        let volume = left.remove(next.unwrap_or(0));
        match physical_volumes(daemon, &volume).await {
            Ok(found) => {
                for found in found {
                    places.insert(found.pv, Rc::clone(&volume));
                    let group = found.group.filter(|group| group.id == id);
                    let seqno = newest.as_ref().map(|group| group.seqno);
                    if group.as_ref().map(|group| group.seqno) > seqno {
                        newest = group;
                    }
                }
            }
            Err(failure) if Rc::ptr_eq(&volume, home) => return Err(failure),
            // Only if something is not found elsewhere.
            Err(failure) => unread = Some(failure),
        }
    }
    let Some(group) = newest else {
        return Err(unread.unwrap_or_else(|| {
            Failure::new(
                Kind::Failed,
                format!(
                    "{}: LVM's metadata does not know its volume group",
                    home.node()
                ),
                "look at it: pvs, vgs",
            )
        }));
    };
    let group = Rc::new(group);
    let members = Members { group, places };
    match (members.foreign(), unread) {
        (Some(_), Some(failure)) => Err(failure),
        _ => Ok(members),
    }
}

async fn physical_volumes(daemon: &Daemon, volume: &Volume) -> Result<Vec<lvm::Found>, Failure> {
    let (layout, name) = (daemon.layout.clone(), volume.name());
    let place = Place {
        path: volume.node().into(),
        offset: 0,
    };
    let look = move |place: &Place| physical_volumes_at(&layout, &name, place);
    daemon.lockspaces.looks.at(&place, look).await
}

/// On a thread that may wait.
fn physical_volumes_at(
    layout: &Layout,
    name: &str,
    place: &Place,
) -> Result<Vec<lvm::Found>, Failure> {
    let mut disk = place.open_read_only()?;
    let mut all = Vec::new();
    for start in below::starts(layout, name) {
        let mut reads = 1;
        let found = loop {
            match lvm::physical_volume(&mut disk, start) {
                Err(BadPv::Damaged(_)) if reads < READS => {
                    reads += 1;
                    thread::sleep(BETWEEN_READS);
                }
                Err(BadPv::Io(error)) => return Err(place.at(start).io_failed("read", error)),
                Err(bad) => {
                    return Err(Failure::new(
                        Kind::Failed,
                        format!("{}: {bad}", place.at(start)),
                        "look at it: pvck",
                    ));
                }
                Ok(found) => break found,
            }
        };
        all.extend(found);
    }
    Ok(all)
}

impl Joined {
    /// Refuses a lease of data while a part of its volume group is not guarded. The locks that let LVM mend that are had.
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn may_protect(&self, lease: &Name) -> Result<(), Failure> {
        let of_data = ![VG_LOCK, GLOBAL_LOCK].contains(&lease.to_string().as_str());
        match self.group().and_then(OnGroup::unguarded) {
            Some(why) if of_data => Err(Failure::new(
                Kind::Refused,
                format!("{lease} of lockspace {}: {why}", self.space),
                "attach what is missing with sanblk, or vgreduce; the next use of the volume group's lock sees it",
            )),
            _ => Ok(()),
        }
    }
}

impl Lockspaces {
    /// [`vg_changed`](Self::vg_changed), if this lease is the lock of the volume group. What comes of it is told, and is no
    /// reason to keep the lock: others wait for it, and LVM needs it to mend things.
    pub(super) async fn follow_lock(
        &self,
        daemon: &Daemon,
        joined: &Joined,
        lease: &Name,
        progress: &Progress,
    ) {
        if lease.to_string() == VG_LOCK
            && let Err(failure) = self.vg_changed(daemon, &joined.space).await
        {
            progress.say(failure.what);
        }
    }

    /// The metadata of the volume group that this lockspace lies in may have changed: the gates follow. To be called with the
    /// lock of the volume group held, when it was acquired and before it is let go. Nothing is to be done where the lockspace
    /// lies on no logical volume.
    ///
    /// # Errors
    /// Not all of the volume group is guarded now; `status` says so until it is. What was guarded still is.
    pub async fn vg_changed(&self, daemon: &Daemon, space: &Name) -> Result<(), Failure> {
        let Some(joined) = self.named(space) else {
            return Ok(());
        };
        let Some(carried) = &joined.carried else {
            return Ok(());
        };
        let Some(group) = &carried.group else {
            return Ok(());
        };
        // Reads would wait for as long as the storage is away, and nothing could be guarded.
        let standing = joined.picture().await.map(|picture| picture.standing);
        if standing != Some(Standing::Joined) {
            return Err(not_joined(&joined));
        }
        let _turn = group.turn.lock().await;
        let result = follow(daemon, &joined, carried, group).await;
        let trouble = result.as_ref().err().map(|failure| failure.what.clone());
        if let Some(what) = &trouble {
            tracing::warn!("lockspace {space}: {what}");
        }
        group.trouble.replace(trouble);
        result
    }
}

async fn follow(
    daemon: &Daemon,
    joined: &Joined,
    carried: &Carried,
    group: &OnGroup,
) -> Result<(), Failure> {
    let known = group.members.borrow().clone();
    let mut places = known.places.clone();
    places.retain(|_, volume| carried::is_attached(daemon, volume));
    let id = known.group.id;
    let members = members(daemon, &carried.volume, id, places).await?;
    let volumes = members.volumes();
    let guarded = carried.guarded();
    let is_in = |volumes: &[Rc<Volume>], volume| volumes.iter().any(|v| Rc::ptr_eq(v, volume));
    let new: Vec<_> = volumes
        .iter()
        .filter(|volume| !carried.guards(volume))
        .collect();
    // The one with the leases on it is guarded whatever the metadata says.
    let old: Vec<_> = guarded
        .iter()
        .filter(|each| !is_in(&volumes, &each.volume))
        .filter(|each| !Rc::ptr_eq(&each.volume, &carried.volume))
        .collect();
    for volume in new {
        guard(daemon, joined, carried, volume).await?;
        tracing::info!(
            "lockspace {}: guards {} now, which volume group {} lies on",
            joined.space,
            volume.node(),
            members.group.name
        );
    }
    for each in old {
        let_go(joined, carried, each).await?;
        tracing::info!(
            "lockspace {}: guards {} no more, which volume group {} does not lie on",
            joined.space,
            each.volume.node(),
            members.group.name
        );
    }
    let whole = members.all_ours();
    group.members.replace(members);
    whole
}

/// Arms the gate of a further volume.
async fn guard(
    daemon: &Daemon,
    joined: &Joined,
    carried: &Carried,
    volume: &Rc<Volume>,
) -> Result<(), Failure> {
    let _changes = daemon.lockspaces.changes.lock().await;
    let guarded = Guarded::prepare(daemon, volume).await?;
    let _attached = daemon.changes.lock().await;
    if !carried::is_attached(daemon, volume) {
        return Err(carried::gone(&volume.node()));
    }
    carried.set_guarded(|all| all.push(guarded.clone()));
    let add = Gates::of(vec![guarded.protected()]);
    let result = ask(joined, add, Gates::none()).await;
    if result.is_err() {
        carried.set_guarded(|all| all.retain(|each| !Rc::ptr_eq(&each.volume, volume)));
        guarded.let_go().await;
    }
    result
}

/// Disarms the gate of a volume that has left the group.
async fn let_go(joined: &Joined, carried: &Carried, guarded: &Guarded) -> Result<(), Failure> {
    if !guarded.is_drained_within(DRAIN_LIMIT).await {
        return Err(guarded.not_drained());
    }
    let remove = Gates::of(vec![guarded.protected()]);
    ask(joined, Gates::none(), remove).await?;
    carried.set_guarded(|all| all.retain(|each| !Rc::ptr_eq(&each.volume, &guarded.volume)));
    guarded.let_go().await;
    Ok(())
}

async fn ask(joined: &Joined, add: Gates, remove: Gates) -> Result<(), Failure> {
    let (reply, told) = oneshot::channel();
    let call = Call::Guard { add, remove, reply };
    joined.keeper.call(call).map_err(|_| joined.stuck())?;
    match timeout(LOOK_LIMIT, told).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(GateError::NotJoined))) => Err(not_joined(joined)),
        Ok(Ok(Err(GateError::Shut))) => Err(as_it_stands(joined, "a gate of its volumes had shut")),
        Ok(Err(_)) | Err(_) => Err(joined.stuck()),
    }
}

fn not_joined(joined: &Joined) -> Failure {
    as_it_stands(
        joined,
        "it is lost or being left: its volumes stay as they are",
    )
}

fn as_it_stands(joined: &Joined, what: &str) -> Failure {
    Failure::new(
        Kind::Refused,
        format!("lockspace {}: {what}", joined.space),
        "sanblk lease status shows how things stand",
    )
}
