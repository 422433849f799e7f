//! What all connections share: the books, what is known of lockspaces beside their keepers, and the way to the disks.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use lockmgr::ondisk::{Geometry, HostId, Name};
use lockmgr::{DiskId, LeaseError, LeaseId};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::clients::{ClientId, Key, Lease, Lvb, Phase, Registry, Standing as Stands};
use super::kill::{Act, Cause, Killer, Recovery};
use super::wire::Refusal;
use super::wire::structs::{BadGeometry, Callback, Disk, HostEvent};
use crate::config::OnLeaseExpiry;
use crate::control::server::Progress;
use crate::daemon::Daemon;
use crate::daemon::lease::Joined;
use crate::daemon::lease::hold::{NotDone, Parting};
use crate::daemon::lease::site::Site;
use crate::failure::{Failure, Kind};
use crate::keeper::{Call, Heard, Standing};
use crate::lease::place::Place;
use crate::report::LockspacesReport;

/// How often the lockspaces are looked at.
const TICK: Duration = Duration::from_secs(1);
/// Before a release that did not come about is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often somebody who waits looks.
const POLL: Duration = Duration::from_millis(20);
/// How long a read may take.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// How long a formatting may take: as long as the real daemon gives it.
const FORMAT_LIMIT: Duration = Duration::from_secs(60);
/// What other hosts say and nobody has taken yet.
const HEARD_MAX: usize = 64;

/// Whose a lease is that no client has, in [`Service::held_for`].
pub const ORPHAN: &str = "nobody (an orphan)";

/// What clients said of a lockspace, beside what its keeper knows.
#[derive(Debug, Default)]
pub struct Said {
    /// SET_CONFIG: it is in use.
    pub used: bool,
    /// SET_CONFIG: orphans keep it in use.
    pub used_by_orphans: bool,
    /// Somebody removes it.
    pub removing: bool,
    /// The event that other hosts are being told, by its number and data, and until when.
    pub telling: Option<((u64, u64), Instant)>,
    /// Those who want to hear of events.
    pub events: Vec<mpsc::Sender<Callback>>,
}

/// How a lockspace came to be used by nobody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Emptied {
    /// Everything was let go.
    LetGo,
    /// It is lost, and nothing can be let go any more.
    Lost,
}

/// The service behind the socket.
pub struct Service {
    /// The daemon, and in it the lockspaces.
    pub daemon: Rc<Daemon>,
    /// Who holds what.
    pub books: RefCell<Registry>,
    /// By name.
    pub said: RefCell<HashMap<Name, Said>>,
    /// When a kill path is run.
    pub on_lease_expiry: OnLeaseExpiry,
    killer: Killer,
    /// Releases that are owed, and tried again and again.
    owed: Cell<usize>,
}

impl Service {
    /// With empty books.
    pub fn new(daemon: Rc<Daemon>, on_lease_expiry: OnLeaseExpiry, killer: Killer) -> Service {
        Service {
            daemon,
            books: RefCell::default(),
            said: RefCell::default(),
            on_lease_expiry,
            killer,
            owed: Cell::new(0),
        }
    }

    /// The lockspace of this name, if it is not being removed.
    pub fn space(&self, name: Name) -> Option<Rc<Joined>> {
        let removing = |said: &Said| said.removing;
        if self.said.borrow().get(&name).is_some_and(removing) {
            return None;
        }
        self.daemon.lockspaces.named(&name)
    }

    /// Reads, or does little, with the disk at a place, on a thread of its own and within a limit.
    ///
    /// # Errors
    /// What is done says; [`Refusal::AioTimeout`] when it takes too long.
    pub async fn at<T: Send + 'static>(
        &self,
        place: Place,
        act: impl FnOnce(&Site) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.within(READ_LIMIT, place, act).await
    }

    /// The same for writing whole areas, which may take longer.
    ///
    /// # Errors
    /// As [`at`](Self::at).
    pub async fn format(
        &self,
        place: Place,
        act: impl FnOnce(&Site) -> Result<(), Refusal> + Send + 'static,
    ) -> Result<(), Refusal> {
        self.within(FORMAT_LIMIT, place, act).await
    }

    /// The lease at a place, on whatever device.
    ///
    /// # Errors
    /// The device's own, or it is one on which no leases of this lockspace may lie.
    pub async fn lease_at(&self, joined: &Joined, place: &Place) -> Result<LeaseId, Refusal> {
        let lockspaces = &self.daemon.lockspaces;
        let found = lockspaces.lease_at(&self.daemon, joined, place).await;
        found.map_err(|failure| refusal_of(&failure))
    }

    async fn within<T: Send + 'static>(
        &self,
        limit: Duration,
        place: Place,
        act: impl FnOnce(&Site) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let lockspaces = &self.daemon.lockspaces;
        let site = lockspaces.site(&self.daemon, &place).await;
        let site = site.map_err(|failure| refusal_of(&failure))?;
        let look = move |_: &Place| Ok(act(&site));
        let done = lockspaces.looks.within(limit, &place, look).await;
        done.unwrap_or_else(|failure| Err(refusal_of(&failure)))
    }

    /// Who has a lease, in words: clients, or [`ORPHAN`]; empty for what they never had.
    pub fn held_for(&self, space: Name, id: LeaseId) -> Vec<String> {
        self.holders(|lease| lease.key.space == space && lease.id == id)
    }

    fn holders(&self, is_it: impl Fn(&Lease) -> bool) -> Vec<String> {
        let books = self.books.borrow();
        let Some(lease) = books.leases().iter().find(|lease| is_it(lease)) else {
            return Vec::new();
        };
        if lease.is_orphan() {
            return vec![ORPHAN.to_owned()];
        }
        let clients = lease.holders.iter().filter_map(|holder| {
            let client = books.client(holder.client)?;
            Some(match client.name.is_empty() {
                true => format!("process {}", client.pid),
                false => format!("{} (process {})", client.name, client.pid),
            })
        });
        clients.collect()
    }

    /// The operator has let an orphan go.
    pub fn forget_orphan(&self, space: Name, id: LeaseId) {
        let mut books = self.books.borrow_mut();
        let mut leases = books.leases().iter();
        let is_it =
            |lease: &&Lease| lease.key.space == space && lease.id == id && lease.is_orphan();
        if let Some(key) = leases.find(is_it).map(|lease| lease.key) {
            books.forget(key);
        }
    }

    /// Fills in who has which lease.
    pub fn tell_holders(&self, report: &mut LockspacesReport) {
        for lockspace in &mut report.lockspaces {
            let Ok(space) = Name::new(&lockspace.name) else {
                continue;
            };
            for lease in &mut lockspace.leases {
                lease.held_for = self.holders(|listed| {
                    let same = listed.key.name.to_string() == lease.name;
                    same && listed.key.space == space && listed.id.offset() == lease.offset_bytes
                });
            }
        }
    }

    /// Lets a lease go that the books list as being removed. What does not come about at once is owed: it is tried until it
    /// is done, and the client need not wait for it.
    ///
    /// # Errors
    /// It is owed.
    pub async fn let_go(self: &Rc<Self>, key: Key, rename: Option<Name>) -> Result<(), Refusal> {
        let done = self.release(key, rename).await;
        if done.is_err() {
            let service = Rc::clone(self);
            self.owed.set(self.owed.get() + 1);
            tokio::task::spawn_local(async move {
                while service.release(key, rename).await.is_err() {
                    sleep(AGAIN).await;
                }
                service.owed.set(service.owed.get() - 1);
            });
        }
        done
    }

    async fn release(&self, key: Key, rename: Option<Name>) -> Result<(), Refusal> {
        let found = {
            let books = self.books.borrow();
            let lease = books
                .lease(key)
                .filter(|lease| lease.phase == Phase::Removing);
            lease.map(|lease| (lease.id, lease.lvb.to_write()))
        };
        let Some((id, lvb)) = found else {
            return Ok(());
        };
        let forget = || self.books.borrow_mut().forget(key);
        let Some(joined) = self.daemon.lockspaces.named(&key.space) else {
            forget();
            return Ok(());
        };
        let parting = Parting { lvb, rename };
        match joined.release(id, parting, &Progress::silent()).await {
            Ok(()) | Err(NotDone::Gone | NotDone::Lease(LeaseError::NotHeld)) => {
                forget();
                Ok(())
            }
            Err(NotDone::Lease(LeaseError::NotExclusive | LeaseError::NoRoomForLvb)) => {
                if let Some(lease) = self.books.borrow_mut().lease_mut(key) {
                    lease.lvb = Lvb::None;
                }
                Err(Refusal::Invalid)
            }
            Err(error) => {
                tracing::debug!(
                    "{} of lockspace {}: not released: {error:?}",
                    key.name,
                    key.space
                );
                Err(not_done(&error))
            }
        }
    }

    /// A command about a client's leases is over.
    pub fn command_over(self: &Rc<Self>, client: ClientId) {
        let gone = self.books.borrow_mut().end(client);
        if gone {
            self.leave(client);
        }
    }

    /// A connection is closed.
    pub fn hang_up(self: &Rc<Self>, client: ClientId) {
        let over = self.books.borrow_mut().hang_up(client);
        if over {
            return self.leave(client);
        }
        // What it waits for, it waits for in vain.
        let waits: Vec<(Key, LeaseId)> = {
            let books = self.books.borrow();
            let its = |holder: &super::clients::Holder| holder.client == client;
            let adding = books
                .leases()
                .iter()
                .filter(|lease| lease.phase == Phase::Adding && lease.holders.iter().any(its));
            adding.map(|lease| (lease.key, lease.id)).collect()
        };
        for (key, id) in waits {
            if let Some(joined) = self.daemon.lockspaces.named(&key.space) {
                tokio::task::spawn_local(async move {
                    let _ = joined.give_up(id).await;
                });
            }
        }
    }

    fn leave(self: &Rc<Self>, client: ClientId) {
        let to_release = self.books.borrow_mut().leave(client);
        for key in to_release {
            let service = Rc::clone(self);
            tokio::task::spawn_local(async move {
                let _ = service.let_go(key, None).await;
            });
        }
    }

    /// Waits until no client has anything of a lockspace any more, urging those that do. What they have let go and the disk
    /// does not say yet is waited for, unless the lockspace is lost: then its slot expires with all of it.
    pub async fn empty(self: &Rc<Self>, joined: &Joined) -> Emptied {
        let space = joined.space;
        let mut since = TICK;
        loop {
            let (used, users) = {
                let books = self.books.borrow();
                (books.uses(space), books.users(space))
            };
            if !used {
                return Emptied::LetGo;
            }
            if users.is_empty() {
                let standing = joined.picture().await.map(|picture| picture.standing);
                if !matches!(standing, Some(Standing::Joining | Standing::Joined)) {
                    self.books.borrow_mut().forget_space(space);
                    return Emptied::Lost;
                }
            }
            if since >= TICK {
                since = Duration::ZERO;
                self.urge(space, Cause::Removed);
            }
            sleep(POLL).await;
            since += POLL;
        }
    }

    /// Listens to the other hosts of a lockspace as long as it lives.
    pub fn listen(self: &Rc<Self>, joined: &Rc<Joined>) {
        let (ear, mut heard) = mpsc::channel(HEARD_MAX);
        if joined.keeper.call(Call::Hear(ear)).is_err() {
            return;
        }
        let (service, joined) = (Rc::clone(self), Rc::clone(joined));
        tokio::task::spawn_local(async move {
            while let Some(heard) = heard.recv().await {
                match heard {
                    Heard::Told {
                        from,
                        generation,
                        event,
                    } => service.told(&joined, from, generation, event).await,
                    Heard::AskedToRelease { id, force_mode } => {
                        service.asked(&joined, id, force_mode);
                    }
                }
            }
        });
    }

    async fn told(
        &self,
        joined: &Joined,
        from: HostId,
        generation: u64,
        event: lockmgr::ondisk::Event,
    ) {
        let ours = joined
            .picture()
            .await
            .map_or(0, |picture| picture.generation);
        let callback = Callback {
            event: HostEvent {
                host_id: joined.host.number(),
                generation: ours,
                event: event.number,
                data: event.data,
            },
            from_host_id: from.number(),
            from_generation: generation,
        };
        if let Some(said) = self.said.borrow_mut().get_mut(&joined.space) {
            // Who does not read is dropped, as by the real daemon.
            said.events.retain(|ear| ear.try_send(callback).is_ok());
        }
    }

    /// Another host wants a lease of ours.
    fn asked(&self, joined: &Joined, id: LeaseId, force_mode: lockmgr::ondisk::ForceMode) {
        use super::kill::Signal;
        use lockmgr::ondisk::ForceMode;
        let books = self.books.borrow();
        let leases = books.leases().iter();
        let meant = leases.filter(|lease| lease.key.space == joined.space && lease.id == id);
        for client in meant.flat_map(|lease| &lease.holders) {
            let Some(client) = books.client(client.client) else {
                continue;
            };
            match (force_mode, &client.kill_path) {
                (ForceMode::Graceful, Some(path)) => self.killer.run(path, client.pid),
                (ForceMode::Graceful, None) => {
                    let signal = super::kill::allowed(Signal::Terminate, client.restricted);
                    self.killer.signal(client.pid, signal);
                }
                _ => {
                    let signal = super::kill::allowed(Signal::Kill, client.restricted);
                    self.killer.signal(client.pid, signal);
                }
            }
        }
    }

    /// Looks at the lockspaces, for ever, and urges the clients of those that are lost.
    pub async fn watch(self: Rc<Self>) {
        loop {
            sleep(TICK).await;
            let mut spaces: Vec<Name> = Vec::new();
            for lease in self.books.borrow().leases() {
                if !spaces.contains(&lease.key.space) {
                    spaces.push(lease.key.space);
                }
            }
            let mut lost = Vec::new();
            for space in spaces {
                let (standing, gated) = match self.daemon.lockspaces.named(&space) {
                    Some(joined) => {
                        let picture = joined.picture().await;
                        let standing = picture.map(|picture| picture.standing);
                        (standing, self.is_gated(&joined))
                    }
                    None => (Some(Standing::Ending), false),
                };
                if self.is_lost(standing, gated) {
                    lost.push(space);
                }
            }
            for space in &lost {
                self.urge(*space, Cause::Lost);
            }
            self.forgive(&lost);
        }
    }

    /// Whether a gate stops what its leases protect. Where none does, as for the disks of libvirt's guests, whose leases lie in
    /// files, nothing but the end of a client stops its writes.
    fn is_gated(&self, joined: &Joined) -> bool {
        let books = self.books.borrow();
        let mut leases = books.leases().iter();
        let elsewhere =
            |lease: &Lease| lease.key.space == joined.space && lease.id.disk() != DiskId::HOME;
        joined.is_carried() && !leases.any(elsewhere)
    }

    /// Whether its clients have to let go.
    fn is_lost(&self, standing: Option<Standing>, gated: bool) -> bool {
        match standing {
            Some(Standing::Refused | Standing::Ending) => true,
            Some(Standing::Lost(_) | Standing::Reclaiming) => {
                !gated || self.on_lease_expiry == OnLeaseExpiry::Kill
            }
            Some(Standing::Joining | Standing::Joined) | None => false,
        }
    }

    /// A client that has let go of everything that is lost lives on.
    fn forgive(&self, lost: &[Name]) {
        let mut books = self.books.borrow_mut();
        let removing = |space: &Name| {
            let said = self.said.borrow();
            said.get(space).is_some_and(|said| said.removing)
        };
        let urged: Vec<ClientId> = books
            .clients()
            .filter(|(_, client)| client.recovery.is_some())
            .map(|(id, _)| id)
            .collect();
        for id in urged {
            let holds = books
                .held_by(id)
                .any(|lease| lost.contains(&lease.key.space) || removing(&lease.key.space));
            if let Some(client) = books.client_mut(id)
                && !holds
            {
                client.recovery = None;
            }
        }
    }

    /// Urges those that hold something in a lockspace. Called once a second.
    fn urge(&self, space: Name, cause: Cause) {
        let mut books = self.books.borrow_mut();
        for id in books.users(space) {
            let Some(client) = books.client_mut(id) else {
                continue;
            };
            // Its process is gone, and it is only waited for what it had begun.
            if client.standing == Stands::Gone {
                continue;
            }
            let passed = match client.recovery {
                Some(_) => TICK,
                None => Duration::ZERO,
            };
            let recovery = client.recovery.get_or_insert_with(|| Recovery::new(cause));
            let act = recovery.next(passed, client.kill_path.is_some(), client.restricted);
            match (act, &client.kill_path) {
                (Act::RunPath, Some(path)) => {
                    tracing::warn!("lockspace {space} is lost");
                    self.killer.run(path, client.pid);
                }
                (Act::Send(signal), _) => {
                    tracing::warn!("lockspace {space}: {signal:?} to process {}", client.pid);
                    self.killer.signal(client.pid, signal);
                }
                (Act::Stuck, _) => tracing::error!(
                    "lockspace {space}: process {} does not let go, and no signal ends it",
                    client.pid
                ),
                (Act::Wait | Act::RunPath, _) => {}
            }
        }
    }
}

/// The place that a client names. A relative path is relative to the daemon's directory.
pub fn place(disk: &Disk) -> Place {
    Place {
        path: PathBuf::from(&disk.path),
        offset: disk.offset,
    }
}

/// How a client names a place.
pub fn disk(place: &Place) -> Disk {
    Disk {
        path: place.path.clone().into_os_string(),
        offset: place.offset,
    }
}

/// The geometry that flags name.
pub fn named(geometry: Result<Option<Geometry>, BadGeometry>) -> Result<Option<Geometry>, Refusal> {
    geometry.map_err(|BadGeometry| Refusal::Failed)
}

/// By the class of a failure that has a sentence only.
pub fn refusal_of(failure: &Failure) -> Refusal {
    tracing::warn!("sanlock client: {failure}");
    match failure.kind {
        Kind::NotFound => Refusal::NoDevice,
        Kind::TimedOut => Refusal::AioTimeout,
        Kind::Usage | Kind::Refused => Refusal::Invalid,
        _ => Refusal::Error,
    }
}

/// Why something was not done with a lease, by number.
pub fn not_done(error: &NotDone) -> Refusal {
    match error {
        NotDone::Lease(error) => (*error).into(),
        NotDone::Gone => Refusal::NoSpace,
        NotDone::Stuck => Refusal::AioTimeout,
        NotDone::Undrained(failure) => refusal_of(failure),
    }
}
