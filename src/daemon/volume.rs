//! An attached volume: its device, its queue, and what is written down about it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use iscsi_client::login::{Credentials, Offer};
use iscsi_client::time::Instant;
use iscsi_client::wire::{Isid, Lun};
use lockmgr::gate::Gate;
use multipath::{
    Description, NoPathRetry, Note, OrderRefused, PathConfig, PathId, UnresolvedWrite, VolumeStatus,
};
use tokio::sync::oneshot;
use tokio::time::timeout;
use ublk_dev::Device;
use ublk_dev::control::ControlError;

use crate::control::PathOrder;
use crate::device::{self, CONTROL_LIMIT, START_LIMIT};
use crate::failure::{Failure, Kind};
use crate::host;
use crate::host::records::{self, DeviceRecord, SessionEntry};
use crate::layout::Layout;
use crate::queue::{Mail, NotListening, Queue};
use crate::report::{EventReport, PathWord};

use super::events::{self, Events};
use super::gate;
use super::picture;

/// A queue turns many times a second; one that does not answer for so long is stuck.
const STATUS_LIMIT: Duration = Duration::from_secs(3);
/// How long sessions may take to log out.
const LOGOUT_PATIENCE: Duration = Duration::from_secs(5);
/// Beyond the sessions' patience, for the thread to end.
const THREAD_LIMIT: Duration = Duration::from_secs(10);
/// How often notes are fetched and unresolved writes are looked at.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// How far the device has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Added,
    Started,
    Stopped,
}

/// A volume.
pub struct Volume {
    layout: Layout,
    /// ublk device number.
    pub id: u32,
    /// What the probing login found.
    pub description: Description,
    /// The logical unit.
    pub lun: Lun,
    /// The target's iSCSI name.
    pub target: String,
    /// Our iSCSI name.
    pub initiator_name: String,
    /// CHAP, or nothing, for whoever makes sessions to the LUN beside the queue.
    pub credentials: Option<Credentials>,
    /// Proposals for their logins.
    pub offer: Offer,
    /// What the operator should know.
    pub notes: RefCell<Vec<String>>,
    stage: Cell<Stage>,
    device: RefCell<Option<Arc<Device>>>,
    queue: RefCell<Option<Rc<Queue>>>,
    /// Whether its writes may leave; not armed where no lease guards them.
    pub(super) gate: Arc<Gate>,
    /// What happened to the volumes of this host.
    events: Rc<Events>,
    /// Portals of the paths, for what is told of them.
    portals: RefCell<BTreeMap<u8, String>>,
    /// Notes that were lost, as far as it was told.
    told_lost: Cell<u64>,
    saved: RefCell<Vec<UnresolvedWrite>>,
    sessions: RefCell<Vec<SessionEntry>>,
    size: Cell<Size>,
}

/// What the volume allows and what the disk shows, in logical blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Size {
    /// The disk's.
    disk: u64,
    /// The last growth that was tried on it.
    tried: u64,
}

/// What a volume is made of.
pub struct Birth {
    /// Where things are.
    pub layout: Layout,
    /// What the probing login found.
    pub description: Description,
    /// The logical unit.
    pub lun: Lun,
    /// The target's iSCSI name.
    pub target: String,
    /// Our iSCSI name.
    pub initiator_name: String,
    /// CHAP, or nothing.
    pub credentials: Option<Credentials>,
    /// Proposals for logins.
    pub offer: Offer,
    /// What the operator should know.
    pub notes: Vec<String>,
    /// Writes that an earlier run left unresolved.
    pub unresolved: Vec<UnresolvedWrite>,
    /// Where to tell what happens.
    pub events: Rc<Events>,
}

impl Volume {
    /// A volume with its device added and nothing else.
    pub fn new(birth: Birth, device: Device) -> Rc<Volume> {
        let blocks = birth.description.identity.blocks;
        Rc::new(Volume {
            layout: birth.layout,
            id: device.id(),
            description: birth.description,
            lun: birth.lun,
            target: birth.target,
            initiator_name: birth.initiator_name,
            credentials: birth.credentials,
            offer: birth.offer,
            notes: RefCell::new(birth.notes),
            stage: Cell::new(Stage::Added),
            device: RefCell::new(Some(Arc::new(device))),
            queue: RefCell::new(None),
            gate: Arc::default(),
            events: birth.events,
            portals: RefCell::default(),
            told_lost: Cell::new(0),
            saved: RefCell::new(birth.unresolved),
            sessions: RefCell::default(),
            size: Cell::new(Size {
                disk: blocks,
                tried: blocks,
            }),
        })
    }

    /// `ublkb0`.
    pub fn name(&self) -> String {
        format!("ublkb{}", self.id)
    }

    /// `/dev/ublkb0`.
    pub fn node(&self) -> String {
        format!("/dev/ublkb{}", self.id)
    }

    /// As multipath-tools derives it.
    pub fn wwid(&self) -> &str {
        &self.description.identity.wwid
    }

    /// Gives the volume its queue, with the unresolved writes of an earlier run before any path.
    ///
    /// # Errors
    /// The queue does not listen.
    pub fn set_queue(&self, queue: Queue) -> Result<(), NotListening> {
        let queue = Rc::new(queue);
        *self.queue.borrow_mut() = Some(Rc::clone(&queue));
        let unresolved = self.saved.borrow().clone();
        match unresolved.is_empty() {
            true => Ok(()),
            false => queue.send(Mail::RestoreUnresolved(unresolved)),
        }
    }

    /// Sends an order.
    ///
    /// # Errors
    /// The queue has ended or does not look at its mail.
    pub fn send(&self, order: Mail) -> Result<(), Failure> {
        let queue = self.queue.borrow().clone();
        queue
            .ok_or(NotListening)
            .and_then(|queue| queue.send(order))
            .map_err(|_| self.stuck())
    }

    pub(super) fn queue(&self) -> Option<Rc<Queue>> {
        self.queue.borrow().clone()
    }

    pub(super) fn stuck(&self) -> Failure {
        Failure::new(
            Kind::TimedOut,
            format!("{}: its queue thread does not answer", self.node()),
            "look at the daemon's log; sanblk detach --force ends the device",
        )
    }

    /// A picture.
    ///
    /// # Errors
    /// The queue does not answer.
    pub async fn status(&self) -> Result<VolumeStatus, Failure> {
        let queue = self.queue.borrow().clone().ok_or_else(|| self.stuck())?;
        match timeout(STATUS_LIMIT, queue.status()).await {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(NotListening)) | Err(_) => Err(self.stuck()),
        }
    }

    /// Adds a path; false if the volume has as many as it can hold.
    ///
    /// # Errors
    /// The queue does not answer.
    pub async fn add_path(&self, path: PathConfig) -> Result<bool, Failure> {
        // What is told of the path that had this place before is told by its name.
        self.fetch_notes();
        let portal = path.portal_name.clone();
        let (reply, answer) = oneshot::channel();
        self.send(Mail::AddPath(path, reply))?;
        match timeout(STATUS_LIMIT, answer).await {
            Ok(Ok(id)) => {
                if let Some(id) = id {
                    self.portals.borrow_mut().insert(id.0, portal);
                }
                Ok(id.is_some())
            }
            Ok(Err(_)) | Err(_) => Err(self.stuck()),
        }
    }

    /// Carries an order about a path to the queue.
    ///
    /// # Errors
    /// The queue refuses it, or does not answer.
    pub async fn order(
        &self,
        order: PathOrder,
        isid: Isid,
    ) -> Result<Result<(), OrderRefused>, Failure> {
        let (reply, answer) = oneshot::channel();
        self.send(Mail::Path(order, isid, reply))?;
        match timeout(STATUS_LIMIT, answer).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_)) | Err(_) => Err(self.stuck()),
        }
    }

    /// Tells of something that the queue does not know of.
    pub fn tell(&self, text: impl Into<String>) {
        self.happened(host::now(), None, None, text.into());
    }

    fn happened(&self, at: Instant, portal: Option<String>, state: Option<PathWord>, text: String) {
        tracing::info!("{}: {text}", self.node());
        self.events.tell(EventReport {
            time: events::utc(at),
            device: self.node(),
            wwid: self.wwid().to_owned(),
            portal,
            state,
            text,
        });
    }

    /// Takes over what the queue has to tell.
    pub fn fetch_notes(&self) {
        if let Some(queue) = self.queue.borrow().clone() {
            self.take_notes(&queue);
        }
    }

    fn take_notes(&self, queue: &Queue) {
        let name = |path: PathId| {
            let portals = self.portals.borrow();
            portals
                .get(&path.0)
                .cloned()
                .unwrap_or_else(|| format!("path {}", path.0))
        };
        while let Some((at, note)) = queue.note() {
            let state = match &note {
                Note::PathState { state, .. } => Some(picture::word(state)),
                _ => None,
            };
            let text = match note {
                Note::Writes {
                    permission,
                    waiting,
                } => gate::told(permission, waiting),
                _ => note.told(&name).to_string(),
            };
            self.happened(at, note.path().map(name), state, text);
        }
        let lost = queue.notes_lost();
        let more = lost - self.told_lost.replace(lost);
        if more > 0 {
            self.tell(format!("{more} notes came too fast and were dropped"));
        }
    }

    /// Makes the disk appear.
    ///
    /// # Errors
    /// The driver's, or its silence.
    pub async fn start(&self) -> Result<(), Failure> {
        self.control("starting", |device| device.start(START_LIMIT))
            .await?;
        self.stage.set(Stage::Started);
        Ok(())
    }

    async fn control(
        &self,
        what: &str,
        order: impl FnOnce(&Device) -> Result<(), ControlError> + Send + 'static,
    ) -> Result<(), Failure> {
        let Some(device) = self.device.borrow().clone() else {
            return Ok(());
        };
        let result = tokio::task::spawn_blocking(move || order(&device)).await;
        let what = format!("{}: {what} it failed", self.node());
        match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(device::failure(&what, &error)),
            Err(_) => Err(Failure::new(Kind::Failed, what, "look at the daemon's log")),
        }
    }

    /// Ends the volume: device stopped, sessions logged out, device deleted, records removed. `force` fails what waits
    /// for a path instead of waiting with it. May be called again after a failure; done steps are not repeated.
    ///
    /// # Errors
    /// The step that did not end in time.
    pub async fn take_down(&self, force: bool) -> Result<(), Failure> {
        if force {
            // A queue that is gone has nothing left to fail.
            let _ = self.send(Mail::SetNoPathRetry(NoPathRetry::Fail));
        }
        if self.stage.get() != Stage::Stopped {
            let limit = if force {
                CONTROL_LIMIT
            } else {
                3 * CONTROL_LIMIT
            };
            // Also before START_DEV: it makes the driver give back the tags, which ends the queue.
            let stopped = self
                .control("stopping", move |device| device.stop(limit))
                .await;
            match stopped {
                Err(failure) if force && failure.kind == Kind::TimedOut => {
                    // Requests hang on sessions that are silent: end the sessions, then the driver can end.
                    let _ = self.send(Mail::ShutDown {
                        patience: Duration::ZERO,
                    });
                    self.control("stopping", move |device| device.stop(limit))
                        .await?;
                }
                result => result?,
            }
            self.stage.set(Stage::Stopped);
        }
        self.save().await;
        self.end_queue().await?;
        let device = self.device.borrow_mut().take();
        if let Some(device) = device {
            let node = self.node();
            match Arc::try_unwrap(device) {
                Ok(device) => {
                    let deleted = tokio::task::spawn_blocking(move || device.delete(CONTROL_LIMIT));
                    if let Ok(Err(error)) = deleted.await {
                        // The disk is gone for everybody; the number is freed by the next daemon.
                        tracing::warn!("{node}: deleting it failed: {error}");
                    }
                }
                Err(_) => tracing::warn!("{node}: a control command is still out"),
            }
        }
        records::remove_device(&self.layout, self.id);
        Ok(())
    }

    async fn end_queue(&self) -> Result<(), Failure> {
        let Some(queue) = self.queue.borrow().clone() else {
            return Ok(());
        };
        // An ended thread takes no mail, and needs none.
        let _ = queue.send(Mail::ShutDown {
            patience: LOGOUT_PATIENCE,
        });
        let wait = async {
            while !queue.is_finished() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if timeout(LOGOUT_PATIENCE + THREAD_LIMIT, wait).await.is_err() {
            return Err(self.stuck());
        }
        self.take_notes(&queue);
        *self.queue.borrow_mut() = None;
        if let Some(Err(error)) = Rc::into_inner(queue).map(Queue::join) {
            tracing::error!("{}: the queue ended with an error: {error}", self.node());
        }
        Ok(())
    }

    /// Fetches notes and keeps unresolved writes, until the queue is gone.
    pub async fn watch(self: Rc<Volume>) {
        loop {
            tokio::time::sleep(WATCH_EVERY).await;
            let Some(queue) = self.queue.borrow().clone() else {
                return;
            };
            self.take_notes(&queue);
            if queue.is_finished() {
                if self.stage.get() != Stage::Stopped {
                    tracing::error!("{}: its queue thread has ended; IO fails", self.node());
                }
                return;
            }
            drop(queue);
            self.save().await;
        }
    }

    /// Keeps what a later daemon must know: the sessions that may carry writes, and the unresolved ones.
    async fn save(&self) {
        let Ok(status) = self.status().await else {
            return;
        };
        self.save_sessions(&status);
        self.follow_growth(&status).await;
        if *self.saved.borrow() == status.unresolved {
            return;
        }
        match records::keep_unresolved(&self.layout, self.wwid(), &status.unresolved) {
            Ok(()) => *self.saved.borrow_mut() = status.unresolved,
            Err(error) => tracing::error!(
                "{}: cannot write down the unresolved writes: {error}",
                self.node()
            ),
        }
    }

    /// Paths may be added later, and only the login has the last word on the portal group.
    fn save_sessions(&self, status: &VolumeStatus) {
        let sessions: Vec<SessionEntry> = status
            .paths
            .iter()
            .map(|path| SessionEntry {
                isid: path.config.isid.0,
                portal_group: path
                    .portal_group
                    .or(path.config.portal_group)
                    .map(|group| group.0),
            })
            .collect();
        if *self.sessions.borrow() == sessions || self.stage.get() == Stage::Stopped {
            return;
        }
        self.write_record(sessions, status.identity.blocks);
    }

    /// Makes the disk as large as the volume takes requests. The record goes first: after a crash every block that
    /// may have been written is unresolved.
    async fn follow_growth(&self, status: &VolumeStatus) {
        let blocks = status.identity.blocks;
        let size = self.size.get();
        if blocks <= size.tried || self.stage.get() != Stage::Started {
            return;
        }
        self.size.set(Size {
            tried: blocks,
            ..size
        });
        let sessions = self.sessions.borrow().clone();
        self.write_record(sessions, blocks);
        let bytes = blocks.saturating_mul(u64::from(status.identity.block_len));
        let resized = self
            .control("growing", move |device| device.resize(bytes, CONTROL_LIMIT))
            .await;
        match resized {
            Ok(()) => {
                tracing::info!("{}: the disk has {blocks} blocks now", self.node());
                self.size.set(Size {
                    disk: blocks,
                    tried: blocks,
                });
            }
            Err(failure) => tracing::warn!("{failure}; attach again to use the new size"),
        }
    }

    /// What the disk shows, in logical blocks.
    pub fn disk_blocks(&self) -> u64 {
        self.size.get().disk
    }

    fn write_record(&self, sessions: Vec<SessionEntry>, blocks: u64) {
        let record = DeviceRecord {
            id: self.id,
            wwid: self.wwid().to_owned(),
            pid: std::process::id(),
            blocks,
            sessions,
        };
        match records::write_record(&self.layout, &record) {
            Ok(()) => *self.sessions.borrow_mut() = record.sessions,
            Err(error) => tracing::error!("{}: cannot write its record: {error}", self.node()),
        }
    }

    /// How many writes are unresolved, as last seen.
    pub fn unresolved(&self) -> usize {
        self.saved.borrow().len()
    }
}
