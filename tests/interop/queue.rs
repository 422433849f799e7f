//! A queue as the daemon holds it, with its own thread: what the keeper of a lease asks of it.

use std::sync::Arc;
use std::time::Duration;

use lockmgr::gate::Gate;
use lockmgr::time::Instant;
use multipath::{LINKS_MAX, PathState, Permission, PolicyKind, VolumeStatus};
use sanblk::queue::{Mail, Queue, QueueConfig};
use tokio::sync::oneshot;
use ublk_dev::Ring;
use ublk_dev::clock::boottime_ns;

use super::tgtd::Tgtd;
use super::volume;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

async fn status_when(queue: &Queue, done: impl Fn(&VolumeStatus) -> bool) -> VolumeStatus {
    let wait = async {
        loop {
            let status = queue.status().await.expect("a queue that listens");
            if done(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("what was waited for")
}

#[tokio::test(flavor = "current_thread")]
async fn a_keeper_prepares_arms_drains_and_refuses() {
    let target = Tgtd::start(&[]);
    let queue = Queue::start(QueueConfig {
        name: "queue-test".into(),
        volume: volume::config(&target, PolicyKind::LateBinding),
        gate: Arc::new(Gate::new()),
        open: Box::new(|| {
            let mut slots = volume::slots()?;
            let ring = Ring::new(None, LINKS_MAX as u8, &mut slots)?;
            Ok((ring, slots))
        }),
    })
    .expect("a queue");
    for path in volume::paths(&target.portals) {
        let (reply, added) = oneshot::channel();
        queue
            .send(Mail::AddPath(path, reply))
            .expect("room for mail");
        assert!(added.await.expect("an answer").is_some());
    }
    let up = |status: &VolumeStatus| {
        let up = |path: &multipath::PathStatus| path.state == PathState::Up;
        status.paths.iter().filter(|path| up(path)).count() == 2
    };
    status_when(&queue, up).await;

    // Any thread may hold what the keeper needs.
    let writes = queue.writes();
    writes.prepare_gate().await.expect("prepared");
    let gate = Arc::clone(writes.gate());
    let armed = std::thread::spawn(move || {
        let now = Instant::from_nanos(boottime_ns());
        gate.arm(now, now, Duration::from_millis(100))
    });
    assert_eq!(armed.join().expect("no panic"), Ok(()));
    writes.drained().await.expect("nothing was ever written");

    // Nobody rings at the deadline, and nothing is written: the queue finds out by itself.
    let withheld = |status: &VolumeStatus| status.permission.0 == Permission::Withheld;
    let status = status_when(&queue, withheld).await;
    assert!(up(&status), "no session carried a write");
    writes.drained().await.expect("nothing was ever written");

    writes.gate().refuse();
    writes.wake();
    let revoked = |status: &VolumeStatus| status.permission.0 == Permission::Revoked;
    status_when(&queue, revoked).await;
    writes.release_gate().await.expect("released");

    // Without a block device that stops, the thread goes on; its sessions do not.
    let patience = Duration::from_secs(5);
    queue
        .send(Mail::ShutDown { patience })
        .expect("room for mail");
    let gone = |status: &VolumeStatus| {
        let gone = |path: &multipath::PathStatus| matches!(path.state, PathState::Refused { .. });
        status.paths.iter().all(gone)
    };
    status_when(&queue, gone).await;
}
