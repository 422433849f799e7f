//! The daemon: one process per host, all volumes. tokio, on one thread, serves the control socket and keeps the books;
//! block requests never come near it.

pub mod attach;
mod carrier;
pub mod detach;
pub mod events;
mod gate;
pub mod lease;
mod lock_manager;
pub mod make;
pub mod notify;
mod old_sessions;
mod path;
mod picture;
pub mod plan;
pub mod start;
pub mod survey;
pub mod volume;
mod way_back;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use iscsi_client::wire::Isid;
use multipath::PathConfig;
use rustix::fs::{FlockOperation, flock};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use ublk_dev::{control, process};

use crate::config;
use crate::control::server::{self, Handler, Progress};
use crate::control::{Reply, Request, VERSION};
use crate::device::CONTROL_LIMIT;
use crate::failure::{Failure, Kind};
use crate::host::records;
use crate::kill_helper::KillHelper;
use crate::layout::Layout;
use crate::logging::Log;
use crate::queue::Mail;
use crate::report::{DaemonReport, EventsReport, LockManagerReport, StatusReport, VolumeReport};
use crate::sanlock::service::Service;

use events::Events;
use volume::Volume;

/// Most volumes: 64 MiB of locked memory each.
const VOLUMES_MAX: usize = 64;
/// How long SIGTERM waits for users of the devices. The shipped unit gives somewhat more before it kills.
const CLOSE_LIMIT: Duration = Duration::from_secs(90);
/// Name lookups and control commands; each blocks a thread at most for its own limit.
const BLOCKING_THREADS: usize = 8;
/// All memory is locked, stacks included.
const STACK: usize = 256 * 1024;

/// How the daemon runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where things are.
    pub layout: Layout,
    /// Log here instead of to stderr.
    pub log: Option<PathBuf>,
    /// Leave the terminal's session: `attach` started it by itself.
    pub background: bool,
    /// Log what happens in detail.
    pub verbose: bool,
    /// Serve sanlock's clients, and how.
    pub sanlock: Option<config::Sanlock>,
}

/// All volumes of this host.
pub struct Daemon {
    pub(crate) layout: Layout,
    log: Log,
    volumes: RefCell<BTreeMap<u32, Rc<Volume>>>,
    pub(crate) lockspaces: lease::Lockspaces,
    /// What happened lately; also to volumes that are gone.
    events: Rc<Events>,
    /// ISIDs of all paths.
    isids: RefCell<Vec<Isid>>,
    /// Held while volumes come and go. Never across a login: one that ends a session may hang as long as the target's
    /// backend does, and other volumes must not wait for that.
    changes: tokio::sync::Mutex<()>,
    /// By WWID, LUNs that are being attached: a second attach of the same LUN waits for the first.
    attaching: RefCell<BTreeMap<String, Rc<tokio::sync::Mutex<()>>>>,
    /// What `status` says of the lock manager; nothing, where none was asked for.
    lock_manager: RefCell<Option<LockManagerReport>>,
    /// Sanlock's clients, where they are served.
    clients: RefCell<Option<Rc<Service>>>,
}

/// Runs the daemon to its end.
///
/// # Errors
/// It cannot start.
pub fn run(options: &Options) -> Result<(), Failure> {
    // Before there is anything that it must not inherit: what this process is to the memory manager, descriptors.
    let helper = options.sanlock.as_ref().map(|_| KillHelper::start());
    // Next, so that every thread inherits it.
    let flusher = process::set_io_flusher();
    let core = process::forbid_core_dump();
    let oom = process::spare_from_oom_killer();
    if options.background {
        // Fails only for a group leader, which attach does not make of us.
        let _ = rustix::process::setsid();
    }
    let layout = &options.layout;
    let cannot = |what: String, error: io::Error| {
        Failure::new(
            Kind::Failed,
            format!("{what}: {error}"),
            "run as root; check the directory",
        )
    };
    let run = layout.run();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&run)
        .map_err(|error| cannot(format!("cannot make {}", run.display()), error))?;
    let _lock = lock(layout)?;
    let level = match options.verbose {
        true => tracing_subscriber::filter::LevelFilter::DEBUG,
        false => tracing_subscriber::filter::LevelFilter::INFO,
    };
    let log = Log::start(options.log.as_deref(), level)
        .map_err(|error| cannot("cannot open the log".to_owned(), error))?;
    tracing::info!("sanblk {VERSION}, process {}", std::process::id());
    let locked = process::lock_memory();
    for (what, result) in [
        (
            "not an IO flusher: memory reclaim may wait for our own disk",
            flusher,
        ),
        ("core dumps are possible", core),
        ("the out-of-memory killer may choose us", oom),
        (
            "memory is not locked: the daemon may be paged out when it is needed",
            locked,
        ),
    ] {
        if let Err(error) = result {
            tracing::warn!("{what}: {error}");
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_stack_size(STACK)
        .build()
        .map_err(|error| cannot("cannot start".to_owned(), error))?;
    let daemon = Rc::new(Daemon {
        layout: layout.clone(),
        log,
        volumes: RefCell::default(),
        lockspaces: lease::Lockspaces::default(),
        events: Rc::default(),
        isids: RefCell::default(),
        changes: tokio::sync::Mutex::new(()),
        attaching: RefCell::default(),
        lock_manager: RefCell::default(),
        clients: RefCell::default(),
    });
    let local = tokio::task::LocalSet::new();
    let helper = helper.and_then(|started| {
        started
            .inspect_err(|error| tracing::error!("kill paths are not run: {error}"))
            .ok()
    });
    let sanlock = options.sanlock.as_ref().map(|options| (options, helper));
    let result = local.block_on(&runtime, Rc::clone(&daemon).serve(sanlock));
    // A blocked control command must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// One daemon per host.
fn lock(layout: &Layout) -> Result<File, Failure> {
    let path = layout.lock();
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    let file = file.map_err(|error| {
        Failure::new(
            Kind::Failed,
            format!("cannot open {}: {error}", path.display()),
            "run as root",
        )
    })?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => Err(Failure::new(
            Kind::Refused,
            "another sanblk daemon runs on this host",
            "talk to it: sanblk status",
        )),
    }
}

impl Daemon {
    /// Tells every volume of carriers that come and go. Without them, silence and time find out the same.
    async fn watch_carriers(self: Rc<Self>) {
        let mut news = match carrier::watch() {
            Ok(news) => news,
            Err(error) => {
                tracing::warn!("carriers of interfaces are not watched: {error}");
                return;
            }
        };
        while let Some((interface, up)) = news.recv().await {
            tracing::debug!("{interface}: carrier {}", if up { "up" } else { "down" });
            for volume in self.volumes.borrow().values() {
                let interface = interface.clone();
                // A queue that does not listen is somebody else's concern.
                let _ = volume.send(Mail::Carrier { interface, up });
            }
            self.lockspaces.carrier(&interface, up);
        }
    }

    async fn serve(
        self: Rc<Self>,
        sanlock: Option<(&config::Sanlock, Option<KillHelper>)>,
    ) -> Result<(), Failure> {
        let socket = self.layout.socket();
        let cannot = |error: io::Error| {
            Failure::new(
                Kind::Failed,
                format!("cannot listen on {}: {error}", socket.display()),
                "",
            )
        };
        let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
        self.clean_up().await;
        let listener = server::bind(&socket).map_err(cannot)?;
        let server = tokio::task::spawn_local(server::serve(listener, Rc::clone(&self)));
        let carriers = tokio::task::spawn_local(Rc::clone(&self).watch_carriers());
        let clients = sanlock.and_then(|(options, helper)| self.serve_sanlock(options, helper));
        notify::ready();
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: ending"),
            _ = interrupt.recv() => tracing::info!("SIGINT: ending"),
        }
        notify::stopping();
        server.abort();
        carriers.abort();
        let _ = std::fs::remove_file(&socket);
        // Before the volumes, which they may lie on, and after them: until then leases may protect what is open.
        self.lockspaces.leave_unused().await;
        self.drain(&mut terminate).await;
        clients.iter().for_each(JoinHandle::abort);
        for held in self.lockspaces.leave_unused().await {
            tracing::error!(
                "leaving without letting go, so others take it when we are counted out: {held}"
            );
        }
        tracing::info!("ended");
        Ok(())
    }

    /// Frees what an earlier daemon left when it died: dead devices hold their numbers, and their records tell lies.
    async fn clean_up(&self) {
        let records = records::devices(&self.layout);
        if !self.layout.path("/dev/ublk-control").exists() {
            self.bury(&records);
            return;
        }
        let removed = tokio::task::spawn_blocking(move || {
            let mut freed = Vec::new();
            // Ours by the owner's mark, not by the record: another tool may have the number by now.
            for device in control::devices(CONTROL_LIMIT)? {
                if device.ours
                    && !device.live
                    && control::remove_leftover(device.id, CONTROL_LIMIT)?
                {
                    freed.push(device.id);
                }
            }
            Ok::<_, control::ControlError>(freed)
        });
        match removed.await {
            Ok(Ok(freed)) => {
                for id in freed {
                    tracing::warn!("removed /dev/ublkb{id}, which a daemon that died left behind");
                }
                self.bury(&records);
            }
            Ok(Err(error)) => tracing::warn!("looking for devices left behind: {error}"),
            Err(_) => {}
        }
    }

    fn bury(&self, records: &[records::DeviceRecord]) {
        for record in records {
            if let Err(error) = records::bury(&self.layout, record) {
                tracing::error!(
                    "cannot write down what the dead daemon's sessions may still do to {}: {error}",
                    record.wwid
                );
            }
        }
    }

    /// Ends all volumes: those that nobody uses at once, the others when they are closed, until the limit or a second
    /// SIGTERM. After that the process goes, and what is open gets IO errors: the unit's ordering is there to make
    /// that unlikely.
    async fn drain(&self, terminate: &mut Signal) {
        let end = Instant::now() + CLOSE_LIMIT;
        let mut told = false;
        loop {
            let volumes: Vec<Rc<Volume>> = self.volumes.borrow().values().cloned().collect();
            let mut open = Vec::new();
            for volume in volumes {
                let users = detach::users(self, &volume).await;
                if users.is_empty() {
                    if let Err(failure) = detach::end(self, &volume, false).await {
                        tracing::error!("{failure}");
                        open.push(volume.node());
                    }
                } else {
                    let users: Vec<String> = users.iter().map(ToString::to_string).collect();
                    open.push(format!("{}: {}", volume.node(), users.join(", ")));
                }
            }
            if open.is_empty() {
                return;
            }
            if !told {
                tracing::warn!("waiting up to {CLOSE_LIMIT:?} for: {}", open.join("; "));
                told = true;
            }
            tokio::select! {
                () = sleep(Duration::from_secs(1)) => {}
                _ = terminate.recv() => {
                    tracing::error!("second SIGTERM: leaving with open devices: {}", open.join("; "));
                    return;
                }
            }
            if Instant::now() >= end {
                tracing::error!("leaving with open devices: {}", open.join("; "));
                return;
            }
        }
    }

    /// What an attach of this LUN holds from its first change to its end.
    fn turn_of(&self, wwid: &str) -> Rc<tokio::sync::Mutex<()>> {
        let mut turns = self.attaching.borrow_mut();
        // Turns that nobody waits for are forgotten.
        turns.retain(|_, turn| Rc::strong_count(turn) > 1);
        Rc::clone(turns.entry(wwid.to_owned()).or_default())
    }

    /// ISIDs that a new session must not have: its login would end theirs.
    fn isids_in_use(&self) -> Vec<Isid> {
        let mut isids = self.isids.borrow().clone();
        isids.extend(self.lockspaces.isids());
        isids
    }

    fn forget_isids(&self, paths: &[PathConfig]) {
        self.isids
            .borrow_mut()
            .retain(|isid| !paths.iter().any(|path| path.isid == *isid));
    }

    /// The volume of this name: `/dev/ublkbN`, `ublkbN`, a WWID, a by-id link.
    fn find(&self, name: &str) -> Result<Rc<Volume>, Failure> {
        let volumes = self.volumes.borrow();
        // A link's own words first: it may be gone, or lead nowhere, while the volume is there.
        let target = std::fs::canonicalize(name)
            .ok()
            .filter(|_| name.starts_with("/dev/"));
        let target = target.as_deref().and_then(|path| path.to_str());
        let plain = name.strip_prefix("/dev/").unwrap_or(name);
        let by_id = |v: &Volume| {
            let link = plain.strip_prefix("disk/by-id/");
            let wwn = records::wwn(v.wwid()).map(|hex| format!("wwn-0x{hex}"));
            let own = format!("sanblk-{}", records::file_name(v.wwid()));
            link.is_some_and(|link| Some(link) == wwn.as_deref() || link == own)
        };
        let found = volumes
            .values()
            .find(|v| {
                v.name() == plain || v.wwid() == name || by_id(v) || target == Some(&v.node())
            })
            .cloned();
        found.ok_or_else(|| {
            let known: Vec<String> = volumes.values().map(|v| v.node()).collect();
            let next = match known.is_empty() {
                true => "nothing is attached".to_owned(),
                false => format!("attached are: {}", known.join(", ")),
            };
            Failure::new(Kind::NotFound, format!("no volume {name}"), next)
        })
    }

    /// What happened, to one volume or to all; also to one that is gone, by a name that it had.
    fn events(&self, name: Option<&str>) -> Result<EventsReport, Failure> {
        for volume in self.volumes.borrow().values() {
            volume.fetch_notes();
        }
        self.lockspaces.news.fetch(&self.events);
        let mut report = self.events.report();
        if let Some(name) = name {
            let found = self.find(name);
            let plain = name.strip_prefix("/dev/").unwrap_or(name);
            report.events.retain(|event| match &found {
                Ok(volume) => event.wwid == volume.wwid(),
                Err(_) => {
                    event.wwid == name
                        || event.device == name
                        || event.device.strip_prefix("/dev/") == Some(plain)
                }
            });
            if report.events.is_empty() {
                found?;
            }
        }
        Ok(report)
    }

    async fn report(&self, volume: &Volume) -> VolumeReport {
        let mut report = volume.report().await;
        if let Some(gate) = &mut report.gate {
            gate.lockspace = self.lockspaces.of(volume);
        }
        self.tell_way_back(volume, &mut report).await;
        report
    }

    async fn status(&self, name: Option<&str>) -> Result<StatusReport, Failure> {
        let volumes: Vec<Rc<Volume>> = match name {
            Some(name) => vec![self.find(name)?],
            None => self.volumes.borrow().values().cloned().collect(),
        };
        let reports = volumes.iter().map(|volume| self.report(volume));
        let lock_manager = self.lock_manager.borrow().clone();
        Ok(StatusReport {
            daemon: Some(DaemonReport {
                version: VERSION.to_owned(),
                pid: std::process::id(),
                dropped_log_lines: self.log.dropped(),
                lock_manager,
            }),
            volumes: crate::together::together(reports).await,
        })
    }
}

impl Handler for Daemon {
    async fn handle(
        self: Rc<Self>,
        request: Request,
        progress: Progress,
    ) -> Result<Reply, Failure> {
        match request {
            Request::Ping => Ok(Reply::Pong),
            Request::Status { volume } => Ok(Reply::Status(self.status(volume.as_deref()).await?)),
            Request::Attach(request) => {
                if self.volumes.borrow().len() >= VOLUMES_MAX {
                    return Err(Failure::new(
                        Kind::Refused,
                        format!("{VOLUMES_MAX} volumes are attached, which is the limit"),
                        "detach one",
                    ));
                }
                attach::attach(&self, request, &progress).await
            }
            Request::Detach { volume, force } => {
                detach::detach(&self, &volume, force, &progress).await
            }
            Request::Path {
                order,
                volume,
                portal,
            } => path::carry_out(&self, order, &volume, &portal, &progress).await,
            Request::Events { volume } => Ok(Reply::Events(self.events(volume.as_deref())?)),
            Request::Set {
                volume,
                policy,
                no_path_retry,
            } => {
                let found = self.find(&volume)?;
                if let Some(policy) = policy {
                    found.send(Mail::SetPolicy(policy.into()))?;
                    found.tell(format!("policy set to {policy}"));
                }
                if let Some(rule) = no_path_retry {
                    found.send(Mail::SetNoPathRetry(rule.into()))?;
                    found.tell(format!("no path: set to {rule}"));
                }
                Ok(Reply::Status(self.status(Some(&volume)).await?))
            }
            Request::LeaseJoin(request) => lease::join::join(&self, request, &progress).await,
            Request::LeaseLeave(place) => lease::join::leave(&self, &place, &progress).await,
            Request::LeaseAcquire {
                place,
                mode,
                wait,
                lvb,
            } => lease::hold::acquire(&self, &place, mode, wait, lvb, &progress).await,
            Request::LeaseRelease { place, lvb } => {
                lease::hold::release(&self, &place, lvb, &progress).await
            }
            Request::LeaseConvert { place, mode } => {
                lease::hold::convert(&self, &place, mode, &progress).await
            }
            Request::LeaseStatus => {
                let mut report = self.lockspaces.report().await;
                self.tell_ways_back(&mut report).await;
                if let Some(clients) = self.clients() {
                    clients.tell_holders(&mut report);
                }
                Ok(Reply::Lockspaces(report))
            }
        }
    }
}
