//! `sanblk path`: one path taken out, given back, or removed. The volume knows what may be done ([`OrderRefused`]);
//! here are the words, and the wait until it is done.

use std::rc::Rc;
use std::time::Duration;

use multipath::volume::DRAIN_LIMIT;
use multipath::{NoPathRetry, OrderRefused, PathConfig, PathState, PathStatus, VolumeStatus};
use tokio::time::{Instant, sleep};

use crate::control::server::Progress;
use crate::control::{PathOrder, Reply};
use crate::failure::{Failure, Kind};
use crate::portal::Portal;

use super::Daemon;
use super::make::settle;
use super::volume::Volume;

/// A connection that is closed is gone within this time.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);
/// How often a removed path that must be fenced is looked at.
const FENCE_EVERY: Duration = Duration::from_secs(1);

/// Carries out an order about the path behind `portal`.
///
/// # Errors
/// There is no such volume or path, or the volume needs the path.
pub async fn carry_out(
    daemon: &Rc<Daemon>,
    order: PathOrder,
    name: &str,
    portal: &Portal,
    progress: &Progress,
) -> Result<Reply, Failure> {
    // A place that becomes free must not be given away before it is known to be free.
    let _turn = match order {
        PathOrder::Remove => Some(daemon.changes.lock().await),
        PathOrder::Fail | PathOrder::Restore => None,
    };
    let volume = daemon.find(name)?;
    let path = find(&volume, portal, &volume.status().await?)?;
    if let Err(refused) = volume.order(order, path.isid).await? {
        return Err(refusal(&volume, &path, refused));
    }
    match order {
        PathOrder::Fail => {
            let status = until(&volume, &path, CLOSE_LIMIT, |path| {
                path.is_some_and(|path| path.state == PathState::Offline)
            })
            .await?;
            warn(&volume, &status, progress);
        }
        PathOrder::Restore => settle(&volume).await?,
        PathOrder::Remove => {
            let status = until(&volume, &path, DRAIN_LIMIT + CLOSE_LIMIT, |path| {
                path.is_none_or(|path| path.state == PathState::Removed)
            })
            .await?;
            if same(&status, &path).is_none() {
                daemon.forget_isids(&[path]);
            } else {
                progress.say(format!(
                    "{}: path {} is gone when its last session is proven dead; see sanblk status",
                    volume.node(),
                    path.portal_name
                ));
                tokio::task::spawn_local(forget_later(Rc::clone(daemon), volume, path));
            }
        }
    }
    Ok(Reply::Status(daemon.status(Some(name)).await?))
}

/// The path behind this portal, by the name that `status` shows, or its address.
fn find(volume: &Volume, portal: &Portal, status: &VolumeStatus) -> Result<PathConfig, Failure> {
    let configs = || status.paths.iter().map(|path| &path.config);
    let named = configs().find(|path| path.portal_name == portal.to_string());
    let found = named.or_else(|| configs().find(|path| Some(path.portal) == portal.address()));
    found.cloned().ok_or_else(|| {
        let known: Vec<&str> = configs().map(|path| path.portal_name.as_str()).collect();
        Failure::new(
            Kind::NotFound,
            format!("{} has no path {portal}", volume.node()),
            format!("its paths are: {}", known.join(", ")),
        )
    })
}

fn refusal(volume: &Volume, path: &PathConfig, refused: OrderRefused) -> Failure {
    let (node, portal) = (volume.node(), &path.portal_name);
    let (kind, next) = match refused {
        OrderRefused::NoSuchPath => (Kind::NotFound, format!("sanblk status {node}")),
        OrderRefused::LastPath => (Kind::Refused, format!("sanblk detach {node}")),
        OrderRefused::OnlyWorkingPath => (
            Kind::Refused,
            format!(
                "give another path back first; or, if IO may wait meanwhile, sanblk path fail {node} {portal}, then \
                 remove it"
            ),
        ),
        OrderRefused::Ending => (Kind::Refused, String::new()),
    };
    Failure::new(kind, format!("{node}: path {portal}: {refused}"), next)
}

/// Says what the operator may not have meant.
fn warn(volume: &Volume, status: &VolumeStatus, progress: &Progress) {
    if status.paths.iter().any(|path| path.state == PathState::Up) {
        return;
    }
    let then = match status.no_path_retry {
        NoPathRetry::Queue => "requests wait for a path".to_owned(),
        NoPathRetry::Fail => "requests fail".to_owned(),
        NoPathRetry::For(limit) => format!("requests wait {} s, then fail", limit.as_secs()),
    };
    progress.say(format!("{}: no path carries IO now; {then}", volume.node()));
}

fn same<'a>(status: &'a VolumeStatus, path: &PathConfig) -> Option<&'a PathStatus> {
    let isid = path.isid;
    status.paths.iter().find(|other| other.config.isid == isid)
}

/// Waits until the path is as wanted.
async fn until(
    volume: &Volume,
    path: &PathConfig,
    limit: Duration,
    done: impl Fn(Option<&PathStatus>) -> bool,
) -> Result<VolumeStatus, Failure> {
    let end = Instant::now() + limit;
    loop {
        let status = volume.status().await?;
        if done(same(&status, path)) {
            return Ok(status);
        }
        if Instant::now() >= end {
            return Err(Failure::new(
                Kind::TimedOut,
                format!(
                    "{}: path {} has not ended within {} s",
                    volume.node(),
                    path.portal_name,
                    limit.as_secs()
                ),
                "the order stands; sanblk status shows when it is done",
            ));
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// The ISID of a removed path is in use until its last session is proven dead; or for ever, if the path was kept.
async fn forget_later(daemon: Rc<Daemon>, volume: Rc<Volume>, path: PathConfig) {
    loop {
        sleep(FENCE_EVERY).await;
        // A volume that is gone has given back all its ISIDs.
        let Ok(status) = volume.status().await else {
            return;
        };
        match same(&status, &path).map(|path| &path.state) {
            None => return daemon.forget_isids(&[path]),
            Some(PathState::Removed) => {}
            Some(_) => return,
        }
    }
}
