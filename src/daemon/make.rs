//! From a LUN to a block device: refusals, device, queue, paths, first path up, disk. Nothing is changed before the
//! refusals are through, and every later step that fails is rolled back in reverse.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use iscsi_client::memory::BufferId;
use multipath::contract::{LINKS_MAX, PATHS_MAX};
use multipath::{NoPathRetry, PathConfig, PathState, PolicyKind, SpareBuffers, VolumeConfig};
use tokio::sync::MutexGuard;
use tokio::time::{Instant, sleep};
use ublk_dev::{Device, DeviceQueue, Ring, Slots};

use crate::config::AllowFence;
use crate::control::server::Progress;
use crate::device::{self, CONTROL_LIMIT, DEPTH};
use crate::failure::{Failure, Kind};
use crate::host::records::{self, DeviceRecord, SessionEntry};
use crate::host::{self, present};
use crate::queue::{Queue, QueueConfig};

use super::Daemon;
use super::old_sessions;
use super::plan::{Plan, paths};
use super::survey;
use super::volume::{Birth, Volume};

/// A portal answered the probing login moments ago: its data session follows soon, or something is wrong.
const FIRST_PATH_LIMIT: Duration = Duration::from_secs(30);
/// The other paths are on their way too: what attach prints should not be out of date at once.
const SETTLE_LIMIT: Duration = Duration::from_secs(2);
/// devtmpfs makes the node within START_DEV.
const NODE_LIMIT: Duration = Duration::from_secs(10);
/// udev's links are a convenience: wait a little, then go on.
const LINK_LIMIT: Duration = Duration::from_secs(3);
/// The volume's own small commands.
const SCRATCH_LEN: u32 = 64 * 1024;
/// Spare buffers of a queue: a bin per path, and so many second copies of reads at a time. A path that goes silent has
/// a few dozen small reads or a dozen chunks under way.
const SPARES: u16 = PATHS_MAX as u16 + 48;
/// Length of a spare: the longest chunk.
const SPARE_LEN: u32 = multipath::policy::chunk::CHUNK_MAX;

/// A new volume.
///
/// # Errors
/// Why there is none; then nothing of it is left.
pub async fn make(
    daemon: &Daemon,
    plan: &Plan,
    changes: MutexGuard<'_, ()>,
    progress: &Progress,
) -> Result<Rc<Volume>, Failure> {
    let layout = &daemon.layout;
    let description = &plan.choice.description;
    let wwid = &description.identity.wwid;
    let others = present::find(layout, wwid);
    if !others.is_empty() {
        let nodes: Vec<String> = others.iter().map(present::Present::node).collect();
        let mut remedies: Vec<String> = others.iter().map(present::Present::remedy).collect();
        // Several sessions to one target end with one logout.
        remedies.dedup();
        return Err(Failure::new(
            Kind::Refused,
            format!(
                "LUN {} ({wwid}) is already on this host as {}",
                plan.choice.lun,
                nodes.join(", ")
            ),
            format!("{}; then attach again", remedies.join("; ")),
        ));
    }
    if let Some(path) = records::unreadable(layout).first() {
        return Err(Failure::new(
            Kind::Failed,
            format!(
                "{} cannot be read: an earlier daemon may have left writes on the way to this LUN, and the record of its \
                 sessions is lost",
                path.display()
            ),
            "once the target has closed the sessions of that daemon, remove the file and attach again",
        ));
    }
    let unresolved = old_sessions::unresolved(layout, wwid)?;
    let mut notes = survey::remarks(&plan.answers);
    if !unresolved.is_empty() {
        let note = String::from(
            "sessions of an earlier run may still write and could not be fenced: overlapping writes wait until they \
             are; give back the portals of that run",
        );
        progress.say(note.clone());
        notes.push(note);
    }
    let (device, queue) = add(layout.path("/dev/ublk-control"), plan).await?;
    let volume = Volume::new(
        Birth {
            layout: layout.clone(),
            description: description.clone(),
            lun: plan.choice.lun,
            target: plan.choice.target.clone(),
            initiator_name: plan.initiator_name.clone(),
            credentials: plan.credentials.clone(),
            offer: plan.offer.clone(),
            notes,
            unresolved: unresolved.clone(),
            events: Rc::clone(&daemon.events),
        },
        device,
    );
    let paths = paths(daemon, plan);
    let built = build(daemon, &volume, queue, plan, &paths, progress).await;
    // Device number and ISIDs are taken: what follows waits for logins, and concerns this LUN alone.
    drop(changes);
    let shown = match built {
        Ok(()) => show(daemon, &volume, progress).await,
        Err(failure) => Err(failure),
    };
    match shown {
        Ok(()) => {
            daemon
                .volumes
                .borrow_mut()
                .insert(volume.id, Rc::clone(&volume));
            volume.tell("attached");
            tokio::task::spawn_local(Rc::clone(&volume).watch());
            Ok(volume)
        }
        Err(failure) => {
            progress.say(format!("{}: rolling back", volume.node()));
            if let Err(second) = volume.take_down(true).await {
                tracing::error!("rolling back: {second}");
            }
            // An attach that failed proved nothing about the writes of an earlier run.
            old_sessions::keep(layout, wwid, &unresolved);
            daemon.forget_isids(&paths);
            Err(failure)
        }
    }
}

async fn add(control: PathBuf, plan: &Plan) -> Result<(Device, DeviceQueue), Failure> {
    let options = device::options(&plan.choice.description);
    let added = tokio::task::spawn_blocking(move || {
        device::load_driver(&control);
        Device::add(options, CONTROL_LIMIT)
    });
    let failed = |what: &str| Failure::new(Kind::Failed, what, "look at the daemon's log");
    let mut device = added
        .await
        .map_err(|_| failed("adding the block device came to no end"))?
        .map_err(|error| device::failure("cannot add a block device", &error))?;
    let queue = device.take_queues().into_iter().next();
    Ok((
        device,
        queue.ok_or_else(|| failed("the block device has no queue"))?,
    ))
}

/// Record, queue and paths: what other attaches must see.
async fn build(
    daemon: &Daemon,
    volume: &Rc<Volume>,
    queue: DeviceQueue,
    plan: &Plan,
    paths: &[PathConfig],
    progress: &Progress,
) -> Result<(), Failure> {
    let identity = &volume.description.identity;
    let record = DeviceRecord {
        id: volume.id,
        wwid: identity.wwid.clone(),
        pid: std::process::id(),
        blocks: identity.blocks,
        sessions: paths
            .iter()
            .map(|path| SessionEntry {
                isid: path.isid.0,
                portal_group: path.portal_group.map(|group| group.0),
            })
            .collect(),
    };
    records::write_device(&daemon.layout, &record, identity).map_err(|error| {
        Failure::new(
            Kind::Failed,
            format!(
                "cannot write {}: {error}",
                daemon.layout.devices().display()
            ),
            "check the space on /run",
        )
    })?;
    let config = queue_config(volume, queue, plan)?;
    let started = tokio::task::spawn_blocking(move || Queue::start(config)).await;
    let queue = match started {
        Ok(Ok(queue)) => queue,
        Ok(Err(error)) => {
            return Err(Failure::new(
                Kind::Failed,
                format!("{}: the queue cannot start: {error}", volume.node()),
                "check the memory (64 MiB are locked per volume) and sysctl kernel.io_uring_disabled",
            ));
        }
        Err(_) => {
            return Err(Failure::new(
                Kind::Failed,
                format!("{}: the queue's start came to no end", volume.node()),
                "look at the daemon's log",
            ));
        }
    };
    volume.set_queue(queue).map_err(|_| {
        Failure::new(
            Kind::Failed,
            format!("{}: the queue ended at once", volume.node()),
            "look at the daemon's log",
        )
    })?;
    for path in paths {
        add_path(daemon, volume, path.clone(), progress).await?;
    }
    Ok(())
}

/// From the first path to the disk.
async fn show(daemon: &Daemon, volume: &Volume, progress: &Progress) -> Result<(), Failure> {
    first_path(volume).await?;
    volume.start().await?;
    progress.say(format!("{}: started", volume.node()));
    node(daemon, volume).await?;
    settle(volume).await
}

fn queue_config(volume: &Volume, queue: DeviceQueue, plan: &Plan) -> Result<QueueConfig, Failure> {
    let mut seed = [0; 8];
    host::random(&mut seed)?;
    let (depth, io_len_max) = (queue.depth(), queue.io_bytes_max());
    debug_assert!(depth <= DEPTH);
    let links = LINKS_MAX as u8;
    Ok(QueueConfig {
        name: format!("queue-{}", volume.id),
        volume: VolumeConfig {
            depth,
            // The queue's slots lie behind the tags' buffers, one per link.
            first_scratch: BufferId(depth),
            scratch_len: SCRATCH_LEN,
            io_len_max,
            spares: SpareBuffers {
                first: BufferId(depth + u16::from(links)),
                count: SPARES,
                len: SPARE_LEN,
            },
            initiator_name: plan.initiator_name.clone(),
            credentials: plan.credentials.clone(),
            offer: plan.offer.clone(),
            lun: volume.lun,
            description: volume.description.clone(),
            no_path_retry: plan
                .settings
                .no_path_retry
                .map_or(NoPathRetry::Queue, Into::into),
            policy: plan
                .settings
                .policy
                .map_or_else(PolicyKind::default, Into::into),
            allow_lun_reset: plan.settings.allow_fence == Some(AllowFence::LunReset),
            seed: u64::from_ne_bytes(seed),
        },
        gate: Arc::clone(&volume.gate),
        open: Box::new(move || {
            let mut slots =
                Slots::with_spares(depth, io_len_max, links, SCRATCH_LEN, SPARES, SPARE_LEN)?;
            let ring = Ring::new(Some(queue), links, &mut slots)?;
            Ok((ring, slots))
        }),
    })
}

/// Waits until a path carries IO; the disk must not appear before, as its partitions are read at once.
async fn first_path(volume: &Volume) -> Result<(), Failure> {
    let end = Instant::now() + FIRST_PATH_LIMIT;
    loop {
        let status = volume.status().await?;
        if status.paths.iter().any(|path| path.state == PathState::Up) {
            return Ok(());
        }
        let refused = |state: &PathState| matches!(state, PathState::Refused { .. });
        let hopeless = status.paths.iter().all(|path| refused(&path.state));
        if hopeless || Instant::now() >= end {
            let each: Vec<String> = status
                .paths
                .iter()
                .map(|path| match &path.state {
                    PathState::Down { why, .. } | PathState::Refused { why } => {
                        format!("{}: {why}", path.config.portal_name)
                    }
                    state => format!("{}: {state:?}", path.config.portal_name),
                })
                .collect();
            return Err(Failure::new(
                if hopeless {
                    Kind::Denied
                } else {
                    Kind::Unreachable
                },
                format!(
                    "{}: no path came up:\n  {}",
                    volume.node(),
                    each.join("\n  ")
                ),
                "sanblk discover shows what the portals say",
            ));
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits a little until no path is between down and up.
///
/// # Errors
/// The queue does not answer.
pub async fn settle(volume: &Volume) -> Result<(), Failure> {
    let end = Instant::now() + SETTLE_LIMIT;
    loop {
        let status = volume.status().await?;
        let moving = |state: &PathState| {
            matches!(
                state,
                PathState::Connecting | PathState::LoggingIn | PathState::Verifying
            )
        };
        if !status.paths.iter().any(|path| moving(&path.state)) || Instant::now() >= end {
            return Ok(());
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits for the device's node, and a little for udev's links.
async fn node(daemon: &Daemon, volume: &Volume) -> Result<(), Failure> {
    let node = daemon.layout.path(&volume.node());
    let end = Instant::now() + NODE_LIMIT;
    while !node.exists() {
        if Instant::now() >= end {
            return Err(Failure::new(
                Kind::TimedOut,
                format!("{} did not appear", node.display()),
                "check that /dev is a devtmpfs (mount | grep devtmpfs), or that udev runs",
            ));
        }
        sleep(Duration::from_millis(10)).await;
    }
    let udev = daemon.layout.path("/run/udev/control").exists();
    let rule = ["/etc", "/run", "/usr/lib", "/lib"].iter().any(|place| {
        daemon
            .layout
            .path(&format!("{place}/udev/rules.d/61-sanblk.rules"))
            .exists()
    });
    if udev && rule {
        let name = records::file_name(volume.wwid());
        let link = daemon
            .layout
            .path(&format!("/dev/disk/by-id/sanblk-{name}"));
        let end = Instant::now() + LINK_LIMIT;
        while !link.exists() && Instant::now() < end {
            sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

/// Adds a path, and takes its ISID.
///
/// # Errors
/// The volume has as many paths as it can hold, or its queue does not answer.
pub async fn add_path(
    daemon: &Daemon,
    volume: &Volume,
    path: PathConfig,
    progress: &Progress,
) -> Result<(), Failure> {
    let (name, isid) = (path.portal_name.clone(), path.isid);
    if volume.add_path(path).await? {
        daemon.isids.borrow_mut().push(isid);
        progress.say(format!("{}: path {name}", volume.node()));
        Ok(())
    } else {
        Err(Failure::new(
            Kind::Refused,
            format!(
                "{} has {PATHS_MAX} paths, portal {name} is not added",
                volume.node()
            ),
            "detach, and attach with the portals that matter",
        ))
    }
}
