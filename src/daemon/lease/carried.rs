//! A lockspace on a volume of this daemon: sessions of the keeper's own in place of a file descriptor, and the gates of the
//! volumes that its leases protect: that volume's, and those of all that a volume group lies on ([`follow`]).
//!
//! Only the looks at an area, before a join and before an acquisition, go through the block device: they read. What they
//! find, the keeper reads again. A record of the keeper's sessions is not kept: their ISIDs are the same after a crash, and
//! the first logins of the next keeper end what this one left. Its portals are those that the volume has at the join.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use iscsi_client::wire::Isid;
use lockmgr::gate::{Gate, Permission};
use lockmgr::ondisk::Name;
use lockmgr::timing::Timing;
use multipath::PathState;
use tokio::sync::MutexGuard;
use tokio::time::{sleep, timeout};

use super::below::{self, On, OnLv};
use super::follow::{self, OnGroup};
use super::site::Site;
use super::{Joined, Lockspaces, PATIENCE};
use crate::control::server::Progress;
use crate::daemon::Daemon;
use crate::daemon::volume::Volume;
use crate::failure::{Failure, Kind};
use crate::host;
use crate::keeper::disk::{Answer, LeaseDisk};
use crate::keeper::mapped::{Mapped, Mapping};
use crate::keeper::san::{PortalState, SanConfig, SanDisk, SanPortal, SanView};
use crate::keeper::{self, Gates, Protected, Told};
use crate::lease::place::Place;
use crate::queue::guard::{MARGINS, Writes};
use crate::report::{KeeperSessionReport, KeeperSessionWord};
use crate::together::together;

/// How long a join waits for writes of before; what takes longer waits for a path that is lost.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(20);
/// A queue turns many times a second.
const ORDER_LIMIT: Duration = Duration::from_secs(3);
/// How often a keeper's end is looked for.
const WATCH_EVERY: Duration = Duration::from_millis(200);

impl Protected for Writes {
    fn gate(&self) -> &Gate {
        self.gate()
    }

    fn wake(&self) {
        self.wake();
    }

    fn drain(&self, told: Told) -> Result<(), Told> {
        self.drain(told)
    }
}

/// What a lockspace on a volume of ours has besides its keeper.
pub struct Carried {
    /// It lies on it.
    pub volume: Rc<Volume>,
    /// Their writes depend on it: that volume's, the first, and those of the volume group.
    guarded: RefCell<Vec<Guarded>>,
    /// Of its sessions.
    pub isids: Vec<Isid>,
    view: SanView,
    /// Where it lies on a logical volume.
    pub group: Option<OnGroup>,
}

/// A volume whose writes depend on a lockspace, or are about to.
#[derive(Clone)]
pub struct Guarded {
    /// The volume.
    pub volume: Rc<Volume>,
    writes: Writes,
}

/// An area, where it lies and how to look at it.
pub struct Spot {
    /// For looks at it, and for writing what no host has part in.
    pub site: Site,
    /// The volume of this daemon that it lies on.
    pub on: Option<Ours>,
}

/// A volume that an area lies on, and the logical volume between them.
pub struct Ours {
    volume: Rc<Volume>,
    lv: Option<OnLv>,
}

/// Finds where a place lies; of a lockspace that is joined there, the end of its logical volume as well.
///
/// # Errors
/// It lies on volumes of ours in a way that leases cannot be kept on.
pub async fn locate(daemon: &Daemon, place: &Place) -> Result<Spot, Failure> {
    let ours: Vec<String> = volumes(daemon).iter().map(|volume| volume.name()).collect();
    let layout = daemon.layout.clone();
    let look = move |place: &Place| below::find(&layout, &ours, place);
    let on = daemon.lockspaces.looks.at(place, look).await?;
    let site = Site::plain(place.clone());
    let (name, lv) = match on {
        On::Elsewhere => return Ok(Spot { site, on: None }),
        On::Volume(name) => (name, None),
        On::Lv(lv) => (lv.volume.clone(), Some(lv)),
    };
    let volume = volumes(daemon)
        .into_iter()
        .find(|volume| volume.name() == name)
        .ok_or_else(|| gone(&format!("/dev/{name}")))?;
    let Some(lv) = lv else {
        let on = Some(Ours { volume, lv: None });
        return Ok(Spot { site, on });
    };
    for joined in daemon.lockspaces.all() {
        let group = joined.carried.as_ref().and_then(|on| on.group.as_ref());
        if let Some(group) = group.filter(|group| group.lv == lv.lv) {
            group.mapping.grow(lv.extents.clone()).map_err(|_| {
                Failure::new(
                    Kind::Refused,
                    format!(
                        "{} lies elsewhere than when lockspace {} was joined on it",
                        place.path.display(),
                        joined.space
                    ),
                    "leave the lockspace before its logical volume is moved",
                )
            })?;
        }
    }
    let site = Site {
        place: place.clone(),
        below: Some((PathBuf::from(volume.node()), Arc::new(lv.extents.clone()))),
    };
    let lv = Some(lv);
    let on = Some(Ours { volume, lv });
    Ok(Spot { site, on })
}

impl Lockspaces {
    /// Where an area really is, for whoever reads or writes it without being its host: through no device that is mapped onto
    /// a volume of this daemon. The end of its logical volume is as this host's LVM has it now.
    ///
    /// # Errors
    /// As [`locate`].
    pub async fn site(&self, daemon: &Daemon, place: &Place) -> Result<Site, Failure> {
        locate(daemon, place).await.map(|spot| spot.site)
    }
}

/// All volumes of this daemon.
pub fn volumes(daemon: &Daemon) -> Vec<Rc<Volume>> {
    daemon.volumes.borrow().values().cloned().collect()
}

/// A volume that is not there any more.
pub fn gone(node: &str) -> Failure {
    Failure::new(Kind::NotFound, format!("{node} was detached meanwhile"), "")
}

impl Guarded {
    /// Makes a volume's connections fit for a gate, which is armed later. Held with the list of changes of lockspaces, so
    /// that no two guard one volume.
    ///
    /// # Errors
    /// Its writes depend on another lockspace, or fail for good; its queue does not answer.
    pub async fn prepare(daemon: &Daemon, volume: &Rc<Volume>) -> Result<Guarded, Failure> {
        let node = volume.node();
        if let Some(other) = daemon.lockspaces.guardian(volume) {
            return Err(Failure::new(
                Kind::Refused,
                format!(
                    "the writes of {node} depend on lockspace {} already",
                    other.space
                ),
                "one volume, one lockspace: leave that one first",
            ));
        }
        if !is_unarmed(&volume.gate) {
            return Err(Failure::new(
                Kind::Refused,
                format!(
                    "{node}: a lease was lost, and its writes fail for the rest of this attachment"
                ),
                "deactivate what is on it, detach it, attach it again, and join",
            ));
        }
        let guarded = Guarded {
            volume: Rc::clone(volume),
            writes: volume.writes()?,
        };
        match timeout(ORDER_LIMIT, guarded.writes.prepare_gate()).await {
            Ok(Ok(())) => Ok(guarded),
            Ok(Err(_)) | Err(_) => {
                guarded.let_go().await;
                Err(volume.stuck())
            }
        }
    }

    /// For the keeper.
    pub fn protected(&self) -> Box<dyn Protected> {
        Box::new(self.writes.clone())
    }

    /// Waits until no write can execute any more that was sent before now.
    ///
    /// # Errors
    /// It takes too long, or the queue does not answer.
    pub async fn drained_soon(&self, progress: &Progress) -> Result<(), Failure> {
        match timeout(DRAIN_LIMIT, self.drained(progress)).await {
            Ok(result) => result,
            Err(_) => Err(self.not_drained()),
        }
    }

    /// Old writes may still land.
    pub fn not_drained(&self) -> Failure {
        let node = self.volume.node();
        Failure::new(
            Kind::TimedOut,
            format!(
                "{node}: writes that were sent on a session that was lost may still reach the LUN"
            ),
            format!(
                "give the lost path back, which settles them (sanblk status {node} shows it), and try again"
            ),
        )
    }

    async fn drained(&self, progress: &Progress) -> Result<(), Failure> {
        let mut over = std::pin::pin!(self.writes.drained());
        let result = tokio::select! {
            result = &mut over => result,
            () = sleep(PATIENCE) => {
                let node = self.volume.node();
                progress.say(format!("{node}: waiting for writes that were sent before"));
                over.await
            }
        };
        result.map_err(|_| self.volume.stuck())
    }

    /// The same, where nobody listens.
    pub async fn is_drained_within(&self, limit: Duration) -> bool {
        matches!(timeout(limit, self.writes.drained()).await, Ok(Ok(())))
    }

    /// No lease guards it any more.
    pub async fn let_go(&self) {
        let _ = timeout(ORDER_LIMIT, self.writes.release_gate()).await;
    }

    /// No write of this attachment leaves any more.
    fn refuse(&self) {
        self.writes.gate().refuse();
        self.writes.wake();
    }
}

/// Opens the disk of a lockspace on a volume, whose writes may depend on it from then on, as may those of the others that its
/// volume group lies on. None of them goes before the guard does.
///
/// # Errors
/// Writes depend on another lockspace, or fail for good; old ones may still land; a volume is gone, or of a volume group
/// there is one that is not ours.
pub async fn open<'a>(
    daemon: &'a Daemon,
    Ours { volume, lv }: &Ours,
    space: &Name,
    timing: Timing,
    answers: Sender<Answer>,
    progress: &Progress,
) -> Result<(Box<dyn LeaseDisk>, Carried, MutexGuard<'a, ()>), Failure> {
    let node = volume.node();
    timing.verify(MARGINS).map_err(|overrun| {
        Failure::new(
            Kind::Usage,
            format!(
                "--io-timeout {}: to be sure that nothing of {node} is written when others follow takes {} s, and they \
                 follow after {} s",
                timing.io_timeout_s(),
                overrun.needed.as_secs(),
                overrun.host_dead.as_secs()
            ),
            "choose another --io-timeout",
        )
    })?;
    let group = match lv {
        None => None,
        Some(lv) => Some(OnGroup {
            lv: lv.lv,
            mapping: Mapping::new(lv.extents.clone()),
            members: RefCell::new(follow::all_members(daemon, volume, lv.group).await?),
            trouble: RefCell::default(),
            turn: tokio::sync::Mutex::default(),
        }),
    };
    let mut volumes = vec![Rc::clone(volume)];
    let others = group.as_ref().map(OnGroup::volumes).unwrap_or_default();
    volumes.extend(
        others
            .into_iter()
            .filter(|other| !Rc::ptr_eq(other, volume)),
    );
    let mut guarded = Vec::new();
    let opened = async {
        let changes = prepare_all(daemon, &volumes, &mut guarded, progress).await?;
        let (disk, isids) = sessions(daemon, volume, space, timing, answers).await?;
        Ok((disk, isids, changes))
    };
    let (disk, isids, changes) = match opened.await {
        Ok(opened) => opened,
        Err(failure) => {
            together(guarded.iter().map(Guarded::let_go)).await;
            return Err(failure);
        }
    };
    let carried = Carried {
        volume: Rc::clone(volume),
        guarded: RefCell::new(guarded),
        isids,
        view: disk.view(),
        group,
    };
    let disk: Box<dyn LeaseDisk> = match &carried.group {
        Some(group) => Box::new(Mapped::new(disk, group.mapping.clone())),
        None => Box::new(disk),
    };
    Ok((disk, carried, changes))
}

/// Makes all fit for the gate. Those that are, are in `guarded` then, whatever comes of it.
async fn prepare_all<'a>(
    daemon: &'a Daemon,
    volumes: &[Rc<Volume>],
    guarded: &mut Vec<Guarded>,
    progress: &Progress,
) -> Result<MutexGuard<'a, ()>, Failure> {
    for volume in volumes {
        guarded.push(Guarded::prepare(daemon, volume).await?);
    }
    // What an earlier generation of this host sent is over before there is a new one.
    for drained in together(guarded.iter().map(|each| each.drained_soon(progress))).await {
        drained?;
    }
    let changes = daemon.changes.lock().await;
    match volumes.iter().find(|volume| !is_attached(daemon, volume)) {
        Some(lost) => Err(gone(&lost.node())),
        None => Ok(changes),
    }
}

/// The keeper's own sessions, to the LUN that the leases are on.
async fn sessions(
    daemon: &Daemon,
    volume: &Volume,
    space: &Name,
    timing: Timing,
    answers: Sender<Answer>,
) -> Result<(SanDisk, Vec<Isid>), Failure> {
    let node = volume.node();
    let mut paths = volume.status().await?.paths;
    paths.retain(|path| path.state != PathState::Removed);
    paths.sort_by_key(|path| path.state != PathState::Up);
    let portals = paths.into_iter().map(|path| SanPortal {
        portal_group: path.portal_group.or(path.config.portal_group),
        name: path.config.portal_name,
        address: path.config.portal,
        interface: path.config.interface,
    });
    let config = SanConfig {
        portals: portals.collect(),
        target: volume.target.clone(),
        lun: volume.lun,
        initiator_name: volume.initiator_name.clone(),
        credentials: volume.credentials.clone(),
        offer: volume.offer.clone(),
        description: volume.description.clone(),
        lockspace: space.to_string().into_bytes(),
        taken: daemon.isids_in_use(),
        io_timeout: timing.io(),
    };
    let isids = config.isids();
    let disk = SanDisk::open(config, answers).map_err(|error| {
        Failure::new(
            Kind::Failed,
            format!("{node}: no sessions for lockspace {space}: {error}"),
            "look at the daemon's log",
        )
    })?;
    Ok((disk, isids))
}

/// Whether it is still one of the daemon's.
pub fn is_attached(daemon: &Daemon, volume: &Rc<Volume>) -> bool {
    volumes(daemon)
        .iter()
        .any(|there| Rc::ptr_eq(there, volume))
}

fn is_unarmed(gate: &Gate) -> bool {
    gate.deadline().is_none() && gate.check(keeper::now()) == Permission::Allowed
}

impl Carried {
    /// All whose writes depend on it.
    pub fn guarded(&self) -> Vec<Guarded> {
        self.guarded.borrow().clone()
    }

    /// For the keeper.
    pub fn gates(&self) -> Gates {
        let guarded = self.guarded.borrow();
        Gates::of(guarded.iter().map(Guarded::protected).collect())
    }

    /// Whether the writes of this volume depend on it.
    pub fn guards(&self, volume: &Volume) -> bool {
        let guarded = self.guarded.borrow();
        guarded
            .iter()
            .any(|each| std::ptr::eq(&raw const *each.volume, volume))
    }

    /// From now on they depend on it, or do not.
    pub(super) fn set_guarded(&self, change: impl FnOnce(&mut Vec<Guarded>)) {
        change(&mut self.guarded.borrow_mut());
    }

    /// All whose writes depend on it.
    pub fn volumes(&self) -> Vec<Rc<Volume>> {
        let guarded = self.guarded.borrow();
        guarded.iter().map(|each| Rc::clone(&each.volume)).collect()
    }

    /// Device nodes of all whose writes depend on it.
    pub fn nodes(&self) -> Vec<String> {
        self.guarded
            .borrow()
            .iter()
            .map(|each| each.volume.node())
            .collect()
    }

    /// Waits until no write can execute any more that was sent before now: others may follow at once.
    ///
    /// # Errors
    /// A queue does not answer.
    pub async fn drained(&self, progress: &Progress) -> Result<(), Failure> {
        let guarded = self.guarded();
        let all = together(guarded.iter().map(|each| each.drained(progress))).await;
        all.into_iter().collect()
    }

    /// The first of them, by node, of which writes may still execute after this time.
    pub async fn not_drained_within(&self, limit: Duration) -> Option<String> {
        let guarded = self.guarded();
        let drained = guarded.iter().map(|each| each.is_drained_within(limit));
        let drained = together(drained).await;
        let undrained = guarded.iter().zip(drained).find(|(_, drained)| !drained);
        undrained.map(|(each, _)| each.volume.node())
    }

    /// No write of these attachments leaves any more.
    pub fn refuse(&self) {
        self.guarded.borrow().iter().for_each(Guarded::refuse);
    }

    /// The carrier of an interface came or went.
    pub fn carrier(&self, interface: &str, up: bool) {
        self.view.carrier(interface, up);
    }

    /// The sessions, for `status`.
    pub fn sessions(&self) -> Vec<KeeperSessionReport> {
        let now = host::now();
        let report = |portal: keeper::san::PortalPicture| KeeperSessionReport {
            portal: portal.portal,
            state: word(portal.state),
            seconds: now.since(portal.since).as_secs(),
            reason: portal.why.map(|why| why.to_string()),
            in_doubt: portal.in_doubt,
        };
        self.view.status().into_iter().map(report).collect()
    }
}

fn word(state: PortalState) -> KeeperSessionWord {
    match state {
        PortalState::Down => KeeperSessionWord::Down,
        PortalState::Connecting => KeeperSessionWord::Connecting,
        PortalState::LoggingIn => KeeperSessionWord::Login,
        PortalState::Checking => KeeperSessionWord::Checking,
        PortalState::Up { current: true } => KeeperSessionWord::Current,
        PortalState::Up { current: false } => KeeperSessionWord::Ready,
        PortalState::Fencing => KeeperSessionWord::Fencing,
        PortalState::LoggingOut => KeeperSessionWord::Closing,
    }
}

/// Waits for the keeper's end. A gate that it left disarmed is nobody's again; one that it did not is nobody's to open.
pub async fn watch(daemon: Rc<Daemon>, joined: Rc<Joined>) {
    let Some(carried) = &joined.carried else {
        return;
    };
    while !joined.keeper.has_ended() {
        sleep(WATCH_EVERY).await;
    }
    let _changes = daemon.lockspaces.changes.lock().await;
    for each in carried.guarded() {
        if daemon.lockspaces.guardian(&each.volume).is_some() {
            continue;
        }
        match is_unarmed(each.writes.gate()) {
            true => each.let_go().await,
            false => each.refuse(),
        }
    }
}
