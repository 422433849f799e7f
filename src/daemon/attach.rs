//! Attach, as a straight line: what do portals and files say ([`super::plan`]), is the LUN attached already, else make
//! it a block device ([`super::make`]).

use std::rc::Rc;

use multipath::PathState;
use multipath::contract::PATHS_MAX;

use crate::config::AllowFence;
use crate::control::server::Progress;
use crate::control::{AttachRequest, PathOrder, Reply};
use crate::failure::{Failure, Kind};
use crate::queue::Mail;
use crate::report::AttachReport;

use super::Daemon;
use super::make::{add_path, make, settle};
use super::old_sessions;
use super::plan::{Plan, paths, plan};
use super::survey;
use super::volume::Volume;

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
            Some(volume) => return Ok(reply(daemon, &volume, false, Vec::new()).await),
            None => return Err(failure),
        },
        Err(failure) => return Err(failure),
    };
    let wwid = &plan.choice.description.identity.wwid;
    let existing = || {
        let volumes = daemon.volumes.borrow();
        volumes.values().find(|v| v.wwid() == wwid).cloned()
    };
    let turn = daemon.turn_of(wwid);
    let _turn = turn.lock().await;
    // The logins of a living volume are not to be ended; only an attach could make one now, and this is it.
    if existing().is_none() {
        old_sessions::fence(&daemon.layout, &plan, progress).await?;
    }
    // From here on the daemon's volumes, this host's devices and the ISIDs in use must not change under us.
    let changes = daemon.changes.lock().await;
    let (volume, new) = match existing() {
        Some(volume) => (
            grow(daemon, volume, &request, &plan, progress).await?,
            false,
        ),
        None => (make(daemon, &plan, changes, progress).await?, true),
    };
    let others = survey::other_portals(&plan.answers, &plan.choice.target);
    Ok(reply(daemon, &volume, new, others).await)
}

async fn reply(daemon: &Daemon, volume: &Volume, new: bool, other_portals: Vec<String>) -> Reply {
    let volume = daemon.report(volume).await;
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
        let known = status
            .paths
            .iter()
            .find(|known| known.config.portal == path.portal);
        match known.map(|known| (&known.state, known.config.isid)) {
            None => add_path(daemon, &volume, path, progress).await?,
            // Its place is kept for the proof that its last session is dead; its own return is one.
            Some((PathState::Removed, isid)) => {
                let order = volume.order(PathOrder::Restore, isid).await?;
                debug_assert_eq!(order, Ok(()), "it was there a moment ago");
                progress.say(format!("{}: path {}", volume.node(), path.portal_name));
            }
            Some((PathState::Offline, _)) => progress.say(format!(
                "{}: path {} stays offline; sanblk path restore gives it back",
                volume.node(),
                path.portal_name
            )),
            Some(_) => {}
        }
    }
    for remark in survey::remarks(&plan.answers) {
        let mut notes = volume.notes.borrow_mut();
        if !notes.contains(&remark) {
            notes.push(remark);
        }
    }
    // The operator may have mended what a path was refused for, and does not want to wait for a backoff.
    volume.send(Mail::RetryNow)?;
    settle(&volume).await?;
    if let Some(policy) = request.settings.policy {
        volume.send(Mail::SetPolicy(policy.into()))?;
    }
    if let Some(rule) = request.settings.no_path_retry {
        volume.send(Mail::SetNoPathRetry(rule.into()))?;
    }
    if let Some(AllowFence::LunReset) = request.settings.allow_fence {
        volume.send(Mail::AllowLunReset)?;
    }
    Ok(volume)
}
