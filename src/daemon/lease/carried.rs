//! A lockspace on a volume of this daemon: sessions of the keeper's own in place of a file descriptor, and the volume's
//! gate.
//!
//! Only the looks at an area, before a join and before an acquisition, go through the block device: they read. What they
//! find, the keeper reads again. A record of the keeper's sessions is not kept: their ISIDs are the same after a crash, and
//! the first logins of the next keeper end what this one left. Its portals are those that the volume has at the join.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crossbeam_channel::Sender;
use iscsi_client::wire::Isid;
use lockmgr::gate::{Gate, Permission};
use lockmgr::ondisk::Name;
use lockmgr::timing::Timing;
use multipath::PathState;
use rustix::fs::{major, minor};
use tokio::sync::MutexGuard;
use tokio::time::{sleep, timeout};

use super::look::Device;
use super::{Joined, PATIENCE};
use crate::control::server::Progress;
use crate::daemon::Daemon;
use crate::daemon::volume::Volume;
use crate::failure::{Failure, Kind};
use crate::host;
use crate::keeper::disk::Answer;
use crate::keeper::san::{PortalState, SanConfig, SanDisk, SanPortal, SanView};
use crate::keeper::{self, Protected, Told};
use crate::layout::Layout;
use crate::lease::place::Place;
use crate::queue::guard::{MARGINS, Writes};
use crate::report::{KeeperSessionReport, KeeperSessionWord};

/// How long a join waits for writes of before; what takes longer waits for a path that is lost.
const DRAIN_LIMIT: Duration = Duration::from_secs(20);
/// A queue turns many times a second.
const ORDER_LIMIT: Duration = Duration::from_secs(3);
/// How often a keeper's end is looked for.
const WATCH_EVERY: Duration = Duration::from_millis(200);
/// Devices on devices; deeper is nobody's.
const DEPTH_MAX: u32 = 8;

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
    /// It lies on it, and guards it.
    pub volume: Rc<Volume>,
    writes: Writes,
    /// Of its sessions.
    pub isids: Vec<Isid>,
    view: SanView,
}

/// Where an area lies, seen from this daemon's volumes.
enum Below {
    /// On none of them.
    Foreign,
    /// On this one, by name.
    Volume(String),
    /// On something that lies on this one; from this byte on, if it is a partition.
    Above(String, Option<u64>),
}

/// The volume of this daemon that a place is on.
///
/// # Errors
/// It is on a part of one, or on something made of one.
pub async fn volume_of(daemon: &Daemon, place: &Place) -> Result<Option<Rc<Volume>>, Failure> {
    let ours: Vec<String> = volumes(daemon).iter().map(|volume| volume.name()).collect();
    let layout = daemon.layout.clone();
    let look = move |place: &Place| Ok(below(&layout, &ours, &place.path));
    match daemon.lockspaces.looks.at(place, look).await? {
        Below::Foreign => Ok(None),
        Below::Volume(name) => Ok(volumes(daemon).into_iter().find(|v| v.name() == name)),
        Below::Above(name, start) => Err(Failure::new(
            Kind::Refused,
            format!(
                "{} lies on /dev/{name}, a volume of sanblk: leases on it are named by the volume itself",
                place.path.display()
            ),
            match start.and_then(|start| start.checked_add(place.offset)) {
                Some(offset) => format!("the same place is /dev/{name}:{offset}"),
                None => format!(
                    "name /dev/{name} and the byte at which the area begins on it (dmsetup table {} shows where it lies)",
                    place.path.display()
                ),
            },
        )),
    }
}

fn volumes(daemon: &Daemon) -> Vec<Rc<Volume>> {
    daemon.volumes.borrow().values().cloned().collect()
}

fn below(layout: &Layout, ours: &[String], path: &Path) -> Below {
    let Some(Device::Block(number)) = Device::at(path) else {
        return Below::Foreign;
    };
    let link = format!("/sys/dev/block/{}:{}", major(number), minor(number));
    match std::fs::canonicalize(layout.path(&link)) {
        Ok(directory) => lies_on(ours, &directory, DEPTH_MAX),
        Err(_) => Below::Foreign,
    }
}

fn lies_on(ours: &[String], directory: &Path, depth: u32) -> Below {
    let our_name = |path: &Path| {
        let name = path.file_name()?.to_str()?;
        ours.iter().find(|known| *known == name).cloned()
    };
    if let Some(name) = our_name(directory) {
        return Below::Volume(name);
    }
    if directory.join("partition").exists() {
        let sectors = std::fs::read_to_string(directory.join("start")).ok();
        let sectors = sectors.and_then(|text| text.trim().parse::<u64>().ok());
        let Some(disk) = directory.parent() else {
            return Below::Foreign;
        };
        return match our_name(disk) {
            Some(name) => Below::Above(name, sectors.and_then(|n| n.checked_mul(512))),
            None if depth > 0 => above(lies_on(ours, disk, depth - 1)),
            None => Below::Foreign,
        };
    }
    if depth == 0 {
        return Below::Foreign;
    }
    let slaves = std::fs::read_dir(directory.join("slaves"));
    slaves
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| std::fs::canonicalize(entry.path()).ok())
        .map(|slave: PathBuf| above(lies_on(ours, &slave, depth - 1)))
        .find(|found| !matches!(found, Below::Foreign))
        .unwrap_or(Below::Foreign)
}

/// Of what lies on something.
fn above(below: Below) -> Below {
    match below {
        Below::Volume(name) | Below::Above(name, _) => Below::Above(name, None),
        Below::Foreign => Below::Foreign,
    }
}

/// Opens the disk of a lockspace on a volume, whose writes may depend on it from then on. The volume does not go before
/// the guard does.
///
/// # Errors
/// Its writes depend on another lockspace, or fail for good; old ones may still land; it is gone.
pub async fn open<'a>(
    daemon: &'a Daemon,
    volume: &Rc<Volume>,
    space: &Name,
    timing: Timing,
    answers: Sender<Answer>,
    progress: &Progress,
) -> Result<(SanDisk, Carried, MutexGuard<'a, ()>), Failure> {
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
    let writes = volume.writes()?;
    let opened = open_prepared(
        daemon,
        volume,
        writes.clone(),
        space,
        timing,
        answers,
        progress,
    );
    let opened = opened.await;
    if opened.is_err() {
        let _ = timeout(ORDER_LIMIT, writes.release_gate()).await;
    }
    opened
}

async fn open_prepared<'a>(
    daemon: &'a Daemon,
    volume: &Rc<Volume>,
    writes: Writes,
    space: &Name,
    timing: Timing,
    answers: Sender<Answer>,
    progress: &Progress,
) -> Result<(SanDisk, Carried, MutexGuard<'a, ()>), Failure> {
    let node = volume.node();
    match timeout(ORDER_LIMIT, writes.prepare_gate()).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) | Err(_) => return Err(volume.stuck()),
    }
    // What an earlier generation of this host sent is over before there is a new one.
    match timeout(DRAIN_LIMIT, drained(volume, &writes, progress)).await {
        Ok(result) => result?,
        Err(_) => {
            return Err(Failure::new(
                Kind::TimedOut,
                format!(
                    "{node}: writes that were sent on a session that was lost may still reach the LUN"
                ),
                format!(
                    "give the lost path back, which settles them (sanblk status {node} shows it), and join again"
                ),
            ));
        }
    }
    let changes = daemon.changes.lock().await;
    if !volumes(daemon)
        .iter()
        .any(|there| Rc::ptr_eq(there, volume))
    {
        return Err(Failure::new(
            Kind::NotFound,
            format!("{node} was detached meanwhile"),
            "",
        ));
    }
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
    let carried = Carried {
        volume: Rc::clone(volume),
        view: disk.view(),
        writes,
        isids,
    };
    Ok((disk, carried, changes))
}

async fn drained(volume: &Volume, writes: &Writes, progress: &Progress) -> Result<(), Failure> {
    let mut over = std::pin::pin!(writes.drained());
    let result = tokio::select! {
        result = &mut over => result,
        () = sleep(PATIENCE) => {
            progress.say(format!("{}: waiting for writes that were sent before", volume.node()));
            over.await
        }
    };
    result.map_err(|_| volume.stuck())
}

fn is_unarmed(gate: &Gate) -> bool {
    gate.deadline().is_none() && gate.check(keeper::now()) == Permission::Allowed
}

impl Carried {
    /// The volume's writes, for the keeper.
    pub fn writes(&self) -> Writes {
        self.writes.clone()
    }

    /// Waits until no write can execute any more that was sent before now: others may follow at once.
    ///
    /// # Errors
    /// The queue does not answer.
    pub async fn drained(&self, progress: &Progress) -> Result<(), Failure> {
        drained(&self.volume, &self.writes, progress).await
    }

    /// As [`drained`](Self::drained), where nobody listens.
    pub async fn is_drained_within(&self, limit: Duration) -> bool {
        matches!(timeout(limit, self.writes.drained()).await, Ok(Ok(())))
    }

    /// No write of this attachment leaves any more.
    pub fn refuse(&self) {
        self.writes.gate().refuse();
        self.writes.wake();
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
    if daemon.lockspaces.guardian(&carried.volume).is_some() {
        return;
    }
    match is_unarmed(carried.writes.gate()) {
        true => drop(timeout(ORDER_LIMIT, carried.writes.release_gate()).await),
        false => carried.refuse(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_lies_on_a_volume_is_told_from_the_volume_and_from_what_does_not() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for directory in [
            "ublkb0/ublkb0p1",
            "ublkb1/slaves",
            "dm-0/slaves",
            "dm-1/slaves",
            "dm-2/slaves",
            "sda",
        ] {
            std::fs::create_dir_all(at(directory)).unwrap();
        }
        std::fs::write(at("ublkb0/ublkb0p1/partition"), "1\n").unwrap();
        std::fs::write(at("ublkb0/ublkb0p1/start"), "2048\n").unwrap();
        // A volume group on the partition, a logical volume on that, and one on another disk.
        symlink(at("ublkb0/ublkb0p1"), at("dm-0/slaves/ublkb0p1")).unwrap();
        symlink(at("dm-0"), at("dm-1/slaves/dm-0")).unwrap();
        symlink(at("sda"), at("dm-2/slaves/sda")).unwrap();
        let look = |name: &str| {
            let directory = std::fs::canonicalize(at(name)).unwrap();
            match lies_on(&["ublkb0".to_owned()], &directory, DEPTH_MAX) {
                Below::Foreign => "foreign".to_owned(),
                Below::Volume(name) => format!("is {name}"),
                Below::Above(name, start) => format!("on {name} {start:?}"),
            }
        };
        assert_eq!(look("ublkb0"), "is ublkb0");
        assert_eq!(look("ublkb0/ublkb0p1"), "on ublkb0 Some(1048576)");
        assert_eq!(look("dm-0"), "on ublkb0 None");
        assert_eq!(look("dm-1"), "on ublkb0 None");
        // Another program's, or nothing of ublk at all.
        assert_eq!(look("ublkb1"), "foreign");
        assert_eq!(look("dm-2"), "foreign");
    }
}
