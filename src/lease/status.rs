//! Who has what, as far as one look tells: that a host wrote its slot, never that it still lives.
//!
//! What a resource says counts only together with its lockspace: who left, or came back under a new generation, holds
//! nothing any more, whatever the resource says. The lockspace is known if it lies before the resource on the same
//! device; else the holder's standing is unknown.

use std::collections::HashMap;

use lockmgr::ondisk::{
    DeadExt, Dump, LeaderFlags, LockspaceDump, Name, ResourceDump, RindexEntry, SlotDump,
};
use serde::Serialize;

use super::areas::damage;

/// What one look cannot say, and what can.
pub const ONE_LOOK: &str = "one look does not tell a live host from a dead one: a host lives if its time has moved when \
                            you look again after twice its io_timeout";

/// A place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LeaseStatus {
    /// The device or file.
    pub path: String,
    /// The areas, in their order on the device.
    pub areas: Vec<AreaStatus>,
    /// What this does not say.
    pub note: &'static str,
}

/// An area.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct AreaStatus {
    /// Where it begins, on the device.
    pub offset_bytes: u64,
    /// What it is.
    #[serde(flatten)]
    pub what: AreaWord,
    /// The records that are refused, in sentences.
    pub damage: Vec<String>,
}

/// The kinds of area.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum AreaWord {
    /// A lockspace.
    Lockspace {
        /// Its name.
        name: String,
        /// Hosts 1 to this may join.
        max_hosts: u64,
        /// Those that ever did.
        hosts: Vec<HostStatus>,
    },
    /// A resource.
    Resource {
        /// Its lockspace.
        lockspace: String,
        /// Its name.
        name: String,
        /// Raised by each acquisition.
        lver: u64,
        /// How it is held.
        mode: Mode,
        /// By whom.
        holders: Vec<Holder>,
        /// The request that waits for its owner: the lease version that is asked for.
        requested_lver: Option<u64>,
    },
    /// A resource that was deleted.
    DeletedResource {
        /// Its lockspace.
        lockspace: String,
        /// Its name.
        name: String,
    },
    /// An index.
    Index {
        /// Its lockspace.
        lockspace: String,
        /// Resources it has room for.
        max_resources: u32,
        /// Resources it names.
        resources: usize,
    },
    /// Nobody can say how it is laid out.
    Damaged,
}

/// A host of a lockspace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct HostStatus {
    /// Its number.
    pub host_id: u64,
    /// Its unique name.
    pub name: String,
    /// Whether it has its number.
    pub state: HostWord,
    /// How often the number was taken.
    pub generation: u64,
    /// Its last renewal, in seconds of its own monotonic clock; 0 if it left.
    pub timestamp_s: u64,
    /// How long it gives one I/O, in seconds: all its other times follow from it.
    pub io_timeout_s: u16,
    /// The host that declared it dead.
    pub declared_dead_by: Option<u64>,
}

/// What a slot says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostWord {
    /// A host took the number and did not give it back: it lives, or died so.
    Taken,
    /// The host gave it back.
    Free,
    /// A fencing agent declared it dead.
    DeclaredDead,
    /// The slot is refused.
    Damaged,
}

/// How a resource is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Nobody has it.
    Free,
    /// One host has it.
    Exclusive,
    /// Hosts share it. One that is just joining them may show as owner for a moment.
    Shared,
    /// The leader is refused, so nobody can say.
    Unknown,
}

/// Who holds a resource.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Holder {
    /// The host.
    pub host_id: u64,
    /// The generation in which it acquired.
    pub generation: u64,
    /// Its name, if the lockspace is known.
    pub host_name: Option<String>,
    /// What the lockspace says of that.
    pub standing: Standing,
}

/// Whether a holder is still one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Its slot says the same generation.
    Holds,
    /// Its slot is free, of another generation, or declared dead: the next who wants the resource gets it.
    Over,
    /// Its lockspace was not seen, or its slot is refused.
    Unknown,
}

/// Collects one area after the other.
#[derive(Debug, Default)]
pub struct Collector {
    areas: Vec<AreaStatus>,
    /// The hosts of the lockspaces seen so far.
    hosts: HashMap<Name, HashMap<u64, HostStatus>>,
}

impl Collector {
    /// Adds the area that begins at byte `offset`.
    pub fn add(&mut self, dump: &Dump, offset: u64) {
        let what = match dump {
            Dump::Nothing | Dump::Foreign { .. } | Dump::Damaged(_) => AreaWord::Damaged,
            Dump::Lockspace(space) => self.lockspace(space),
            Dump::Resource(resource) => self.resource(resource),
            Dump::Index(index) => AreaWord::Index {
                lockspace: index.header.space_name.to_string(),
                max_resources: index.header.max_resources,
                resources: index
                    .entries
                    .iter()
                    .filter(|(_, entry)| matches!(entry, Ok(RindexEntry::Used { .. })))
                    .count(),
            },
        };
        self.areas.push(AreaStatus {
            offset_bytes: offset,
            what,
            damage: damage(dump),
        });
    }

    /// All that was added.
    pub fn status(self, path: String) -> LeaseStatus {
        LeaseStatus {
            path,
            areas: self.areas,
            note: ONE_LOOK,
        }
    }

    fn lockspace(&mut self, dump: &LockspaceDump) -> AreaWord {
        let hosts: Vec<HostStatus> = dump.slots.iter().map(host).collect();
        let known = hosts.iter().map(|host| (host.host_id, host.clone()));
        self.hosts.insert(dump.space_name, known.collect());
        AreaWord::Lockspace {
            name: dump.space_name.to_string(),
            max_hosts: dump.geometry.max_hosts(),
            hosts,
        }
    }

    fn resource(&self, dump: &ResourceDump) -> AreaWord {
        let leader = &dump.leader;
        let (lockspace, name) = (
            leader.space_name.to_string(),
            leader.resource_name.to_string(),
        );
        if dump.is_cleared() {
            return AreaWord::DeletedResource { lockspace, name };
        }
        let owner =
            owner(dump).map(|(host, generation)| self.holder(&leader.space_name, host, generation));
        // The mode block of a damaged sector is as doubtful as the rest of it, though no checksum says so.
        let shared = dump.hosts.iter().filter_map(|host| {
            let generation = host.sector.ok()?.mode.shared()?;
            Some(self.holder(&leader.space_name, host.host.number(), generation))
        });
        let mut holders: Vec<Holder> = shared.collect();
        let mode = match (&dump.damage, &owner, holders.is_empty()) {
            (Some(_), _, _) => Mode::Unknown,
            (None, None, true) => Mode::Free,
            (None, _, false) => Mode::Shared,
            (None, Some(_), true) if leader.flags.contains(LeaderFlags::SHORT_HOLD) => Mode::Shared,
            (None, Some(_), true) => Mode::Exclusive,
        };
        if let Some(owner) = owner
            && !holders.iter().any(|holder| holder.host_id == owner.host_id)
        {
            holders.insert(0, owner);
        }
        let requested = dump.request.ok().map(|request| request.lver);
        AreaWord::Resource {
            lockspace,
            name,
            lver: leader.lver,
            mode,
            holders,
            requested_lver: requested.filter(|&lver| lver > leader.lver),
        }
    }

    fn holder(&self, space: &Name, host_id: u64, generation: u64) -> Holder {
        let hosts = self.hosts.get(space);
        let slot = hosts.and_then(|hosts| hosts.get(&host_id));
        let standing = match (hosts, slot) {
            (None, _) => Standing::Unknown,
            // The lockspace was seen, and nobody ever had that number.
            (Some(_), None) => Standing::Over,
            (_, Some(slot)) => match slot.state {
                HostWord::Damaged => Standing::Unknown,
                HostWord::Taken if slot.generation == generation => Standing::Holds,
                // A generation never goes down: one of the two records is not what it should be.
                HostWord::Taken | HostWord::DeclaredDead if slot.generation < generation => {
                    Standing::Unknown
                }
                HostWord::Taken | HostWord::Free | HostWord::DeclaredDead => Standing::Over,
            },
        };
        Holder {
            host_id,
            generation,
            host_name: slot.map(|slot| slot.name.clone()),
            standing,
        }
    }
}

fn host(slot: &SlotDump) -> HostStatus {
    let leader = &slot.leader;
    let dead = leader.flags.contains(LeaderFlags::DEAD_EXT);
    let state = match (slot.damage, leader.timestamp) {
        (Some(_), _) => HostWord::Damaged,
        (None, 0) => HostWord::Free,
        (None, _) if dead => HostWord::DeclaredDead,
        (None, _) => HostWord::Taken,
    };
    HostStatus {
        host_id: slot.host.number(),
        name: leader.resource_name.to_string(),
        state,
        generation: leader.owner_generation,
        timestamp_s: leader.timestamp,
        io_timeout_s: leader.io_timeout,
        declared_dead_by: (state == HostWord::DeclaredDead)
            .then(|| DeadExt::from_disk(leader.unused1).host),
    }
}

/// The exclusive owner. None, too, if another host wrote the leader for the owner, which has let go since: then only its
/// own sector says so.
fn owner(dump: &ResourceDump) -> Option<(u64, u64)> {
    let leader = &dump.leader;
    if leader.timestamp == 0 || dump.damage.is_some() {
        return None;
    }
    let its = dump
        .hosts
        .iter()
        .find(|host| host.host.number() == leader.owner_id);
    let let_go =
        its.is_some_and(|host| host.sector.is_ok_and(|sector| sector.dblock.is_released()));
    let lost_release = leader.write_id != leader.owner_id && let_go;
    (!lost_release).then_some((leader.owner_id, leader.owner_generation))
}
