//! Detach: refuse politely while somebody uses the device, else end it in bounded time.

use std::rc::Rc;
use std::time::Duration;

use multipath::PathState;
use tokio::time::{Instant, sleep, timeout};

use crate::control::Reply;
use crate::control::server::Progress;
use crate::failure::{Failure, Kind};
use crate::host::openers::{self, Opener};

use super::Daemon;
use super::volume::Volume;

/// udev looks at a disk for moments after each close: its visits are waited for.
const VISITORS_LIMIT: Duration = Duration::from_secs(3);

/// Carries out a detach.
pub async fn detach(
    daemon: &Daemon,
    name: &str,
    force: bool,
    progress: &Progress,
) -> Result<Reply, Failure> {
    let _turn = daemon.changes.lock().await;
    let volume = daemon.find(name)?;
    let mut notes = Vec::new();
    if force {
        notes.extend(losses(daemon, &volume).await);
        for note in &notes {
            progress.say(note.clone());
        }
        daemon.lockspaces.abandon(&volume);
    } else {
        daemon.lockspaces.may_lose(&volume).await?;
        may_end(daemon, &volume).await?;
    }
    end(daemon, &volume, force).await?;
    Ok(Reply::Detached {
        device: volume.node(),
        notes,
    })
}

/// Takes the volume down and forgets it.
pub async fn end(daemon: &Daemon, volume: &Rc<Volume>, force: bool) -> Result<(), Failure> {
    let paths = volume
        .status()
        .await
        .map(|status| status.paths)
        .unwrap_or_default();
    volume.take_down(force).await?;
    let configs: Vec<_> = paths.into_iter().map(|path| path.config).collect();
    daemon.forget_isids(&configs);
    daemon.volumes.borrow_mut().remove(&volume.id);
    volume.tell("detached");
    Ok(())
}

/// Everybody who uses the device, once short visits have passed.
pub async fn users(daemon: &Daemon, volume: &Volume) -> Vec<Opener> {
    let end = Instant::now() + VISITORS_LIMIT;
    loop {
        let (layout, name) = (daemon.layout.clone(), volume.name());
        let look = move || {
            let mut users = openers::find(&layout, &name);
            if users.is_empty() && !openers::exclusive_open_works(&layout, &name) {
                users.push(Opener::Exclusive);
            }
            users
        };
        // Reading all of /proc takes a while on a busy host; an open may wait for the disk.
        let looking = timeout(VISITORS_LIMIT, tokio::task::spawn_blocking(look));
        let users = match looking.await {
            Ok(users) => users.unwrap_or_default(),
            // An open that does not return: the disk waits for a path, so somebody wrote to it.
            Err(_) => return vec![Opener::Exclusive],
        };
        let visitor = |user: &Opener| match user {
            Opener::Process { name, .. } => name.contains("udev"),
            Opener::Exclusive => true,
            _ => false,
        };
        if !users.iter().all(visitor) || users.is_empty() || Instant::now() >= end {
            return users;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Refuses while the device is in use, while requests wait for a path, and while writes are unresolved.
async fn may_end(daemon: &Daemon, volume: &Volume) -> Result<(), Failure> {
    let users = users(daemon, volume).await;
    if !users.is_empty() {
        let list: Vec<String> = users.iter().map(ToString::to_string).collect();
        let mut remedies: Vec<String> = users.iter().map(Opener::remedy).collect();
        remedies.dedup();
        return Err(Failure::new(
            Kind::Refused,
            format!("{} is in use:\n  {}", volume.node(), list.join("\n  ")),
            format!(
                "{}; then detach. --force ends it now: what is not written yet is lost, and its users get IO errors",
                remedies.join("; ")
            ),
        ));
    }
    let Ok(status) = volume.status().await else {
        return Err(Failure::new(
            Kind::Refused,
            format!("{}: its queue thread does not answer", volume.node()),
            "detach --force",
        ));
    };
    if !status.unresolved.is_empty() {
        return Err(Failure::new(
            Kind::Refused,
            format!(
                "{}: {} writes are unresolved: they were sent on a session that was lost, and may still reach the LUN",
                volume.node(),
                status.unresolved.len()
            ),
            "give a lost path back, which settles them (sanblk status shows it); --force detaches and remembers them",
        ));
    }
    let up = status.paths.iter().any(|path| path.state == PathState::Up);
    if !up && status.in_flight > 0 {
        return Err(Failure::new(
            Kind::Refused,
            format!(
                "{}: no path works and {} requests wait",
                volume.node(),
                status.in_flight
            ),
            "give a path back; --force fails the requests",
        ));
    }
    Ok(())
}

/// What a forced detach loses, one sentence each.
async fn losses(daemon: &Daemon, volume: &Volume) -> Vec<String> {
    let mut notes: Vec<String> = users(daemon, volume)
        .await
        .iter()
        .map(|user| format!("{user}: it gets IO errors, and loses what it has not written yet"))
        .collect();
    if let Some(space) = daemon.lockspaces.of(volume) {
        notes.push(format!(
            "lockspace {space} is given up: others take its leases when they count this host out"
        ));
    }
    if let Ok(status) = volume.status().await {
        if status.in_flight > 0 {
            notes.push(format!("{} requests in flight fail", status.in_flight));
        }
        if !status.unresolved.is_empty() {
            notes.push(format!(
                "{} unresolved writes are remembered for the next attach of {}",
                status.unresolved.len(),
                volume.wwid()
            ));
        }
    }
    notes
}
