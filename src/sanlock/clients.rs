//! Who is connected, and who holds what: the books of the socket, without socket, disk or clock.
//!
//! ```text
//!             acquire                acquired                 release, or its last holder goes
//!   (nothing) -------> Adding -----------------> Held ---------------------------> Removing -> (nothing)
//!                        | not acquired           |  ^  adopted
//!                        v                        v  |
//!                    (nothing)                  orphan: held for nobody, its last holder was PERSISTENT
//! ```
//!
//! A lease is held once by this host and shared by as many of its clients as like. Names alone tell leases apart, as the real
//! daemon has it: an orphan is found again whatever its path is called by then.

use std::collections::BTreeMap;

use lockmgr::ondisk::{Geometry, Name};
use lockmgr::{LeaseId, Mode};

use super::kill::{KillPath, Recovery};
use super::wire::flags::{AcquireFlags, ResourceFlags, RestrictFlags};
use super::wire::structs::{Disk, PlacedResource};
use super::wire::{Refusal, Whose};

/// Most leases of the clients together: those of a keeper, several times.
const LEASES_MAX: usize = 4000;

/// The number of the first connection. `status` shows the two below as the real daemon's own.
const FIRST: u32 = 2;

/// The number of a connection, as `status` shows it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ClientId(pub u32);

/// What a connection stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// For single requests.
    Plain,
    /// For its process, whose leases live as long as it does.
    Registered,
    /// It was closed, while a command of its was running.
    Gone,
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    /// Its process.
    pub pid: i32,
    /// What it stands for.
    pub standing: Standing,
    /// What `status` calls it.
    pub name: Name,
    /// What may not be done to it, or by it.
    pub restricted: RestrictFlags,
    /// What is run when a lockspace is lost.
    pub kill_path: Option<KillPath>,
    /// The command that runs for it, by number.
    pub running: Option<u32>,
    /// The last one; 0 before the first.
    pub last: u32,
    /// It has to let go of a lockspace.
    pub recovery: Option<Recovery>,
}

/// A lease by name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    /// Its lockspace.
    pub space: Name,
    /// Its own name.
    pub name: Name,
}

impl Key {
    /// That of a resource.
    pub fn of(placed: &PlacedResource) -> Key {
        Key {
            space: placed.resource.lockspace,
            name: placed.resource.name,
        }
    }
}

/// Where a lease is listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Being acquired.
    Adding,
    /// Held; for nobody, if it has no holders.
    Held,
    /// Being released.
    Removing,
}

/// A client's share in a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Whose.
    pub client: ClientId,
    /// It becomes an orphan when the client goes.
    pub persistent: bool,
    /// Its number in `status`.
    pub token: u32,
}

/// The lock value block in memory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Lvb {
    /// Nobody asked for it.
    #[default]
    None,
    /// As it was read.
    Read(Box<[u8]>),
    /// As a client set it, to be written with the release.
    Set(Box<[u8]>),
}

impl Lvb {
    /// Its bytes, where there are any.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Lvb::None => None,
            Lvb::Read(bytes) | Lvb::Set(bytes) => Some(bytes),
        }
    }

    /// What has to be written.
    pub fn to_write(&self) -> Option<Box<[u8]>> {
        match self {
            Lvb::Set(bytes) => Some(bytes.clone()),
            Lvb::None | Lvb::Read(_) => None,
        }
    }
}

/// A lease of this host that clients asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    /// Its name.
    pub key: Key,
    /// Its place, as the client named it.
    pub disks: Vec<Disk>,
    /// Its area, as the keeper knows it.
    pub id: LeaseId,
    /// How its areas are laid out.
    pub geometry: Geometry,
    /// Where it is listed.
    pub phase: Phase,
    /// How it is held, or is to be.
    pub mode: Mode,
    /// The version; 0 until it is held.
    pub lver: u64,
    /// The lock value block.
    pub lvb: Lvb,
    /// Who has a share in it.
    pub holders: Vec<Holder>,
    /// Its number in `status`.
    pub number: u32,
}

impl Lease {
    /// Whether it is held for nobody.
    pub fn is_orphan(&self) -> bool {
        self.phase == Phase::Held && self.holders.is_empty()
    }

    /// Whether this client has a share in it.
    pub fn is_held_by(&self, client: ClientId) -> bool {
        self.phase == Phase::Held && self.holders.iter().any(|holder| holder.client == client)
    }
}

/// What becomes of a wish for a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// The client has it: this host shares it already, or it was an orphan.
    Granted,
    /// The keeper has to be asked, then [`Registry::acquired`] or [`Registry::forget`].
    Ask,
}

/// What becomes of a share that is given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parting {
    /// Other clients share the lease on.
    StillShared,
    /// The keeper has to let it go, then [`Registry::forget`].
    LetGo,
}

/// All connections and their leases.
#[derive(Debug, Default)]
pub struct Registry {
    clients: BTreeMap<ClientId, Client>,
    leases: Vec<Lease>,
    connections: u32,
    numbers: u32,
}

impl Registry {
    /// A new connection of this process.
    pub fn connect(&mut self, pid: i32) -> ClientId {
        self.connections = self.connections.wrapping_add(1).max(FIRST);
        let id = ClientId(self.connections);
        let client = Client {
            pid,
            standing: Standing::Plain,
            name: Name::EMPTY,
            restricted: RestrictFlags(0),
            kill_path: None,
            running: None,
            last: 0,
            recovery: None,
        };
        self.clients.insert(id, client);
        id
    }

    /// From now on it stands for its process.
    pub fn register(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.standing = Standing::Registered;
        }
    }

    /// A connection.
    pub fn client(&self, id: ClientId) -> Option<&Client> {
        self.clients.get(&id)
    }

    /// The same, to be changed.
    pub fn client_mut(&mut self, id: ClientId) -> Option<&mut Client> {
        self.clients.get_mut(&id)
    }

    /// All of them.
    pub fn clients(&self) -> impl Iterator<Item = (ClientId, &Client)> {
        self.clients.iter().map(|(id, client)| (*id, client))
    }

    /// Whose leases a command is about.
    pub fn meant(&self, caller: ClientId, whose: Whose) -> Result<ClientId, Refusal> {
        let registered = |client: &Client| client.standing == Standing::Registered;
        match whose {
            Whose::Callers => match self.clients.get(&caller) {
                Some(client) if registered(client) => Ok(caller),
                _ => Err(Refusal::Busy),
            },
            Whose::Process(pid) => self
                .clients()
                .find(|(_, client)| registered(client) && client.pid == pid)
                .map(|(id, _)| id)
                .ok_or(Refusal::NoProcess),
            Whose::Client(number) => u32::try_from(number)
                .ok()
                .map(ClientId)
                .filter(|id| self.clients.get(id).is_some_and(registered))
                .ok_or(Refusal::NoProcess),
        }
    }

    /// A command about the leases of a client begins. One at a time.
    pub fn begin(&mut self, id: ClientId, command: u32) -> Result<(), Refusal> {
        let client = self.clients.get_mut(&id).ok_or(Refusal::Stale)?;
        match client.standing {
            Standing::Gone => return Err(Refusal::Stale),
            Standing::Plain => return Err(Refusal::Busy),
            Standing::Registered => {}
        }
        if client.running.is_some() {
            return Err(Refusal::Busy);
        }
        client.running = Some(command);
        client.last = command;
        Ok(())
    }

    /// It ends. Whether the client has gone meanwhile: then [`leave`](Self::leave) is due.
    pub fn end(&mut self, id: ClientId) -> bool {
        let Some(client) = self.clients.get_mut(&id) else {
            return false;
        };
        client.running = None;
        client.standing == Standing::Gone
    }

    /// The connection is closed. Whether nothing runs for it: then [`leave`](Self::leave) is due.
    pub fn hang_up(&mut self, id: ClientId) -> bool {
        let Some(client) = self.clients.get_mut(&id) else {
            return false;
        };
        client.standing = Standing::Gone;
        client.running.is_none()
    }

    /// Forgets a client. What only it held, and not for ever, is to be let go.
    pub fn leave(&mut self, id: ClientId) -> Vec<Key> {
        self.clients.remove(&id);
        let mut to_release = Vec::new();
        for lease in &mut self.leases {
            let Some(place) = lease.holders.iter().position(|h| h.client == id) else {
                continue;
            };
            let holder = lease.holders.swap_remove(place);
            if lease.phase == Phase::Held && lease.holders.is_empty() && !holder.persistent {
                lease.phase = Phase::Removing;
                to_release.push(lease.key);
            }
        }
        to_release
    }

    /// All leases.
    pub fn leases(&self) -> &[Lease] {
        &self.leases
    }

    /// One of them.
    pub fn lease(&self, key: Key) -> Option<&Lease> {
        self.leases.iter().find(|lease| lease.key == key)
    }

    /// The same, to be changed.
    pub fn lease_mut(&mut self, key: Key) -> Option<&mut Lease> {
        self.leases.iter_mut().find(|lease| lease.key == key)
    }

    /// A client wants a lease.
    pub fn wish(
        &mut self,
        client: ClientId,
        placed: &PlacedResource,
        flags: AcquireFlags,
        id: LeaseId,
        geometry: Geometry,
    ) -> Result<Wish, Refusal> {
        let key = Key::of(placed);
        let wanted = placed.resource.flags;
        let mode = match wanted.contains(ResourceFlags::SHARED) {
            true => Mode::Shared,
            false => Mode::Exclusive,
        };
        self.numbers = self.numbers.wrapping_add(1);
        let holder = Holder {
            client,
            persistent: wanted.contains(ResourceFlags::PERSISTENT),
            token: self.numbers,
        };
        let only_orphans = flags.contains(AcquireFlags::ORPHAN_ONLY);
        let orphans = only_orphans || flags.contains(AcquireFlags::ORPHAN);
        let full = self.leases.len() >= LEASES_MAX;
        let Some(lease) = self.lease_mut(key) else {
            if only_orphans {
                return Err(Refusal::NotFound);
            }
            if full {
                return Err(Refusal::NoMemory);
            }
            let number = holder.token;
            self.leases.push(Lease {
                key,
                disks: placed.disks.clone(),
                id,
                geometry,
                phase: Phase::Adding,
                mode,
                lver: 0,
                lvb: Lvb::None,
                holders: vec![holder],
                number,
            });
            return Ok(Wish::Ask);
        };
        match lease.phase {
            Phase::Adding => Err(Refusal::Busy),
            Phase::Removing => Err(Refusal::Again),
            Phase::Held if lease.is_orphan() => match orphans && lease.mode == mode {
                true => {
                    lease.holders.push(holder);
                    Ok(Wish::Granted)
                }
                false => Err(Refusal::Unclean),
            },
            Phase::Held => {
                let both_share = mode == Mode::Shared && lease.mode == Mode::Shared;
                match both_share && !lease.is_held_by(client) {
                    true => {
                        lease.holders.push(holder);
                        Ok(Wish::Granted)
                    }
                    false => Err(Refusal::Exists),
                }
            }
        }
    }

    /// The keeper has it.
    pub fn acquired(&mut self, key: Key, lver: u64) {
        if let Some(lease) = self.lease_mut(key) {
            lease.phase = Phase::Held;
            lease.lver = lver;
        }
    }

    /// It is held no more, or never was.
    pub fn forget(&mut self, key: Key) {
        self.leases.retain(|lease| lease.key != key);
    }

    /// A lockspace is given up with all that is held there.
    pub fn forget_space(&mut self, space: Name) {
        self.leases.retain(|lease| lease.key.space != space);
    }

    /// A client gives its share back.
    pub fn part(&mut self, client: ClientId, key: Key) -> Result<Parting, Refusal> {
        let lease = self.lease_mut(key).ok_or(Refusal::Failed)?;
        if !lease.is_held_by(client) {
            return Err(Refusal::Failed);
        }
        lease.holders.retain(|holder| holder.client != client);
        if lease.holders.is_empty() {
            lease.phase = Phase::Removing;
            return Ok(Parting::LetGo);
        }
        Ok(Parting::StillShared)
    }

    /// Orphans of a lockspace, of this name or of any, which are to be let go.
    pub fn drop_orphans(&mut self, space: Name, name: Option<Name>) -> Vec<Key> {
        let mut dropped = Vec::new();
        for lease in &mut self.leases {
            let meant = lease.key.space == space && name.is_none_or(|name| lease.key.name == name);
            if meant && lease.is_orphan() {
                lease.phase = Phase::Removing;
                dropped.push(lease.key);
            }
        }
        dropped
    }

    /// What a client holds.
    pub fn held_by(&self, client: ClientId) -> impl Iterator<Item = &Lease> {
        self.leases
            .iter()
            .filter(move |lease| lease.is_held_by(client))
    }

    /// Who holds something in a lockspace.
    pub fn users(&self, space: Name) -> Vec<ClientId> {
        let leases = self.leases.iter().filter(|lease| lease.key.space == space);
        let mut users: Vec<ClientId> = leases
            .flat_map(|lease| lease.holders.iter().map(|holder| holder.client))
            .collect();
        users.sort_unstable();
        users.dedup();
        users
    }

    /// Whether anything of a lockspace is in these books.
    pub fn uses(&self, space: Name) -> bool {
        self.leases.iter().any(|lease| lease.key.space == space)
    }

    /// Whether a lockspace has orphans.
    pub fn has_orphans(&self, space: Name) -> bool {
        self.leases
            .iter()
            .any(|lease| lease.key.space == space && lease.is_orphan())
    }
}

#[cfg(test)]
mod tests;
