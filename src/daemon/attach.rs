//! Attach, as a straight line: configuration, survey, refusals, device, queue, paths, first path up, disk. Nothing is
//! changed before the refusals are through, and every later step that fails is rolled back in reverse.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use iscsi_client::login::{Credentials, Offer};
use iscsi_client::memory::BufferId;
use multipath::contract::{LINKS_MAX, PATHS_MAX};
use multipath::{IsidKey, isid};
use multipath::{NoPathRetry, PathConfig, PathState, PolicyKind, UnresolvedWrite, VolumeConfig};
use tokio::time::{Instant, sleep};
use ublk_dev::{Device, DeviceQueue, Ring, Slots};

use crate::config::{Config, Settings};
use crate::connection::SessionError;
use crate::control::server::Progress;
use crate::control::{AttachRequest, Reply};
use crate::device::{self, CONTROL_LIMIT, DEPTH};
use crate::discover::{self, Answer, Asker};
use crate::failure::{Failure, Kind};
use crate::host::records::{self, DeviceRecord};
use crate::host::{self, present};
use crate::names::{self, Source};
use crate::probe::{self, Question};
use crate::queue::{Mail, Queue, QueueConfig};
use crate::report::AttachReport;
use crate::secrets;
use crate::together::with_grace;

use super::Daemon;
use super::survey::{self, Choice, Sight};
use super::volume::{Birth, Volume};

/// A portal that is silent for so long after another one answered is a path that is down, not a delay.
const PORTAL_GRACE: Duration = Duration::from_millis(1500);
/// The same for probing logins, which take more round trips; a target may also be ending an old session first.
const PROBE_GRACE: Duration = Duration::from_secs(5);
/// A portal answered the probing login moments ago: its data session follows soon, or something is wrong.
const FIRST_PATH_LIMIT: Duration = Duration::from_secs(30);
/// devtmpfs makes the node within START_DEV.
const NODE_LIMIT: Duration = Duration::from_secs(10);
/// udev's links are a convenience: wait a little, then go on.
const LINK_LIMIT: Duration = Duration::from_secs(3);
/// The volume's own small commands.
const SCRATCH_LEN: u32 = 64 * 1024;

/// What portals, configuration and command line say together.
struct Plan {
    answers: Vec<Answer>,
    sights: Vec<Sight>,
    choice: Choice,
    initiator_name: String,
    settings: Settings,
    credentials: Option<Credentials>,
    offer: Offer,
}

/// Carries out an attach.
pub async fn attach(
    daemon: &Daemon,
    request: AttachRequest,
    progress: &Progress,
) -> Result<Reply, Failure> {
    if request.portals.is_empty() {
        return Err(Failure::new(
            Kind::Usage,
            "no portal",
            "add --portal HOST[:PORT]",
        ));
    }
    if request.portals.len() > PATHS_MAX {
        return Err(Failure::new(
            Kind::Usage,
            format!(
                "{} portals; a volume has at most {PATHS_MAX} paths",
                request.portals.len()
            ),
            "give one portal per storage network",
        ));
    }
    let plan = match plan(daemon, &request, progress).await {
        Ok(plan) => plan,
        // Attached before, and now no portal answers: that is a status, not an error.
        Err(failure) if failure.kind == Kind::Unreachable => match known(daemon, &request).await {
            Some(volume) => return Ok(reply(&volume, false, Vec::new()).await),
            None => return Err(failure),
        },
        Err(failure) => return Err(failure),
    };
    // From here on the daemon's volumes, this host's devices and the ISIDs in use must not change under us.
    let _turn = daemon.changes.lock().await;
    let wwid = &plan.choice.description.identity.wwid;
    let existing = daemon
        .volumes
        .borrow()
        .values()
        .find(|v| v.wwid() == wwid)
        .cloned();
    let (volume, new) = match existing {
        Some(volume) => (
            grow(daemon, volume, &request, &plan, progress).await?,
            false,
        ),
        None => (make(daemon, &plan, progress).await?, true),
    };
    let others = survey::other_portals(&plan.answers, &plan.choice.target);
    Ok(reply(&volume, new, others).await)
}

async fn reply(volume: &Volume, new: bool, other_portals: Vec<String>) -> Reply {
    let volume = volume.report().await;
    Reply::Attached(Box::new(AttachReport {
        volume,
        new,
        other_portals,
    }))
}

/// The one volume that has all these portals as its paths.
async fn known(daemon: &Daemon, request: &AttachRequest) -> Option<Rc<Volume>> {
    let volumes: Vec<Rc<Volume>> = daemon.volumes.borrow().values().cloned().collect();
    let mut found = None;
    for volume in volumes {
        let Ok(status) = volume.status().await else {
            continue;
        };
        let has = |name: String| {
            status
                .paths
                .iter()
                .any(|path| path.config.portal_name == name)
        };
        let fits = request.portals.iter().all(|portal| has(portal.to_string()))
            && request
                .target
                .as_ref()
                .is_none_or(|target| *target == volume.target)
            && request
                .lun
                .is_none_or(|lun| volume.lun.number() == Some(lun));
        if fits && found.replace(volume).is_some() {
            return None;
        }
    }
    found
}

async fn plan(
    daemon: &Daemon,
    request: &AttachRequest,
    progress: &Progress,
) -> Result<Plan, Failure> {
    let layout = &daemon.layout;
    let config = Config::read(&request.config)?;
    let (initiator_name, source) = names::initiator_name(
        layout,
        request.initiator_name.as_deref(),
        config.initiator_name.as_deref(),
    )?;
    if let Source::Generated(path) = source {
        progress.say(format!(
            "new initiator name {initiator_name}, kept in {}",
            path.display()
        ));
    }
    // Also where the target is not known yet: what is wrong with the file is said before any portal is asked.
    let secret = |target: &str| {
        let file = request
            .settings
            .clone()
            .over(config.settings(target))
            .chap_file;
        credentials(file.as_deref(), &layout.chap(), target)
    };
    let asker = Asker {
        initiator_name: initiator_name.clone(),
        credentials: secret(request.target.as_deref().unwrap_or_default())?,
    };
    let portals: Vec<String> = request.portals.iter().map(ToString::to_string).collect();
    progress.say(format!("asking {}", portals.join(", ")));
    let answers = discover::ask_all(&asker, &request.portals, Some(PORTAL_GRACE)).await;
    for answer in &answers {
        if let Err(error) = &answer.targets {
            progress.say(format!("portal {}: {error}", answer.portal));
        }
    }
    let mut questions = Vec::new();
    for (portal, target) in survey::pairs(&answers, request.target.as_deref()) {
        let settings = request.settings.clone().over(config.settings(&target));
        let question = Question {
            initiator_name: initiator_name.clone(),
            credentials: secret(&target)?,
            offer: offer(&settings),
            target: target.clone(),
            lun: request.lun,
        };
        questions.push((portal, target, question));
    }
    let asked = questions.iter().map(|(portal, target, question)| {
        let place = answers[*portal].place.clone();
        async move {
            // `pairs` names only portals that have a place.
            let place = place.expect("a portal that was asked has an address");
            let shown = probe::ask(question, &place).await;
            Sight {
                portal: *portal,
                target: target.clone(),
                shown,
            }
        }
    });
    let sights: Vec<Sight> = with_grace(asked, PROBE_GRACE, |sight| sight.shown.is_ok())
        .await
        .into_iter()
        .zip(&questions)
        .map(|(sight, (portal, target, _))| {
            sight.unwrap_or_else(|| Sight {
                portal: *portal,
                target: target.clone(),
                shown: Err(SessionError::Silent("a login")),
            })
        })
        .collect();
    for sight in &sights {
        if let Err(error) = &sight.shown {
            progress.say(format!(
                "portal {}, {}: {error}",
                answers[sight.portal].portal, sight.target
            ));
        }
    }
    let choice = survey::choose(&answers, &sights, request.lun, &initiator_name)?;
    survey::same_everywhere(&answers, &sights, &choice)?;
    let settings = request
        .settings
        .clone()
        .over(config.settings(&choice.target));
    Ok(Plan {
        credentials: secret(&choice.target)?,
        offer: offer(&settings),
        answers,
        sights,
        choice,
        initiator_name,
        settings,
    })
}

/// Credentials from the file that was named, or from the usual one where it exists.
pub fn credentials(
    named: Option<&Path>,
    usual: &Path,
    target: &str,
) -> Result<Option<Credentials>, Failure> {
    match named {
        Some(path) => secrets::credentials(path, target),
        None if usual.exists() => secrets::credentials(usual, target),
        None => Ok(None),
    }
}

fn offer(settings: &Settings) -> Offer {
    Offer {
        header_digest: settings.header_digest.map(Into::into).unwrap_or_default(),
        data_digest: settings.data_digest.map(Into::into).unwrap_or_default(),
        ..Offer::default()
    }
}

/// Every given portal that has an address, as a path; ISIDs distinct from each other and from those in use.
fn paths(daemon: &Daemon, plan: &Plan) -> Vec<PathConfig> {
    let mut taken = daemon.isids.borrow().clone();
    let mut paths: Vec<PathConfig> = Vec::new();
    for (index, answer) in plan.answers.iter().enumerate() {
        let Some(place) = &answer.place else {
            continue;
        };
        if paths.iter().any(|path| path.portal == place.address) {
            continue;
        }
        let portal_group =
            survey::portal_group(&plan.answers, &plan.sights, &plan.choice.target, index);
        let key = IsidKey {
            initiator_name: &plan.initiator_name,
            target_name: &plan.choice.target,
            portal_group,
            portal: place.address,
            lun: plan.choice.lun,
            queue: 0,
        };
        let isid = isid(&key, &taken);
        taken.push(isid);
        paths.push(PathConfig {
            portal_name: answer.portal.to_string(),
            portal: place.address,
            interface: place.interface.clone(),
            target_name: plan.choice.target.clone(),
            portal_group,
            isid,
        });
    }
    paths
}

/// New portals and settings for a volume that is attached.
async fn grow(
    daemon: &Daemon,
    volume: Rc<Volume>,
    request: &AttachRequest,
    plan: &Plan,
    progress: &Progress,
) -> Result<Rc<Volume>, Failure> {
    let found = &plan.choice.description.identity;
    if let Some(difference) = volume.description.identity.difference(found) {
        return Err(Failure::new(
            Kind::Refused,
            format!("{}: {difference}", volume.node()),
            "",
        ));
    }
    if volume.target != plan.choice.target || volume.lun != plan.choice.lun {
        return Err(Failure::new(
            Kind::Refused,
            format!(
                "{} has this WWID and is {} LUN {}; {} LUN {} may be another disk with a cloned WWID",
                volume.node(),
                volume.target,
                volume.lun,
                plan.choice.target,
                plan.choice.lun
            ),
            "if it is another disk, give it a WWID of its own on the target",
        ));
    }
    let status = volume.status().await?;
    for path in paths(daemon, plan) {
        if status
            .paths
            .iter()
            .any(|known| known.config.portal == path.portal)
        {
            continue;
        }
        add_path(daemon, &volume, path, progress).await?;
    }
    if let Some(policy) = request.settings.policy {
        volume.send(Mail::SetPolicy(policy.into()))?;
    }
    if let Some(rule) = request.settings.no_path_retry {
        volume.send(Mail::SetNoPathRetry(rule.into()))?;
    }
    Ok(volume)
}

async fn add_path(
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

/// A new volume.
async fn make(daemon: &Daemon, plan: &Plan, progress: &Progress) -> Result<Rc<Volume>, Failure> {
    let layout = &daemon.layout;
    let description = &plan.choice.description;
    let wwid = &description.identity.wwid;
    if let Some(other) = present::find(layout, wwid).first() {
        return Err(Failure::new(
            Kind::Refused,
            format!(
                "LUN {} ({wwid}) is already on this host as {}",
                plan.choice.lun,
                other.node()
            ),
            format!("{}; then attach again", other.remedy()),
        ));
    }
    let unresolved = records::unresolved(layout, wwid).map_err(|error| {
        Failure::new(
            Kind::Failed,
            format!("the record of unresolved writes of {wwid} cannot be read: {error}"),
            format!(
                "look at {}; an old write of it may still reach the LUN",
                layout.volumes().display()
            ),
        )
    })?;
    let mut notes = survey::remarks(&plan.answers);
    if !unresolved.is_empty() {
        let note = format!(
            "{} writes of an earlier run are unresolved: they may or may not be on the LUN; overlapping writes wait \
             until their sessions are fenced",
            unresolved.len()
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
            notes,
            unresolved: unresolved.clone(),
        },
        device,
    );
    match bring_up(daemon, &volume, queue, plan, progress).await {
        Ok(()) => {
            daemon
                .volumes
                .borrow_mut()
                .insert(volume.id, Rc::clone(&volume));
            tokio::task::spawn_local(Rc::clone(&volume).watch());
            Ok(volume)
        }
        Err(failure) => {
            progress.say(format!("{}: rolling back", volume.node()));
            if let Err(second) = volume.take_down(true).await {
                tracing::error!("rolling back: {second}");
            }
            keep(layout, wwid, &unresolved);
            daemon.forget_isids(&paths(daemon, plan));
            Err(failure)
        }
    }
}

/// An attach that failed proved nothing about the writes of an earlier run.
fn keep(layout: &crate::layout::Layout, wwid: &str, unresolved: &[UnresolvedWrite]) {
    if unresolved.is_empty() {
        return;
    }
    if let Err(error) = records::keep_unresolved(layout, wwid, unresolved) {
        tracing::error!("cannot write down the unresolved writes of {wwid}: {error}");
    }
}

async fn add(control: std::path::PathBuf, plan: &Plan) -> Result<(Device, DeviceQueue), Failure> {
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

async fn bring_up(
    daemon: &Daemon,
    volume: &Rc<Volume>,
    queue: DeviceQueue,
    plan: &Plan,
    progress: &Progress,
) -> Result<(), Failure> {
    let identity = &volume.description.identity;
    let record = DeviceRecord {
        id: volume.id,
        wwid: identity.wwid.clone(),
        pid: std::process::id(),
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
    for path in paths(daemon, plan) {
        add_path(daemon, volume, path, progress).await?;
    }
    first_path(volume).await?;
    volume.start().await?;
    progress.say(format!("{}: started", volume.node()));
    node(daemon, volume).await
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
                .map_or(PolicyKind::RoundRobin, Into::into),
            seed: u64::from_ne_bytes(seed),
        },
        open: Box::new(move || {
            let mut slots = Slots::new(depth, io_len_max, links, SCRATCH_LEN)?;
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
