//! Everything an area says, for programs: one structure per record, every field by its name on disk.
//!
//! The JSON is an interface: fields are added, never renamed. `_bytes` are bytes, `_s` seconds; times are seconds of the
//! monotonic clock of the host that wrote them, comparable with earlier values of the same field alone. Names show what a
//! terminal may see: control characters and bytes that are no UTF-8 are escaped.

use lockmgr::ondisk::{
    CLEARED_MAGIC, Dblock, Dump, ForceMode, Geometry, HostDump, HostId, MODE_SHARED, RawLeader,
    Request, RindexEntry, SlotDump,
};
use serde::Serialize;

use super::areas::damage;

/// An area.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct AreaDump {
    /// Where it begins, on the device.
    pub offset_bytes: u64,
    /// Bytes of a sector; `null` if the area is too damaged to say, as with the next two.
    pub sector_bytes: Option<usize>,
    /// Bytes of the area.
    pub area_bytes: Option<u64>,
    /// The hosts that the layout has room for.
    pub max_hosts: Option<u64>,
    /// What it is.
    #[serde(flatten)]
    pub what: Area,
    /// The records that are refused, in sentences.
    pub damage: Vec<String>,
}

/// The kinds of area.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Area {
    /// A lockspace.
    Lockspace {
        /// The slots that were ever taken, and damaged ones.
        slots: Vec<Slot>,
    },
    /// A resource.
    Resource(Box<Resource>),
    /// A resource that was deleted.
    DeletedResource(Box<Resource>),
    /// An index of resources.
    Index {
        /// The lockspace.
        space_name: String,
        /// Entries there is room for.
        max_resources: u32,
        /// Those in use.
        entries: Vec<Entry>,
    },
    /// The first record is so damaged that nobody can say how the area is laid out.
    Damaged,
}

/// All fields of a leader record.
#[allow(missing_docs, reason = "the fields are those of the record")]
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Leader {
    pub magic: u32,
    pub version: String,
    pub flags: u32,
    pub flag_names: Vec<&'static str>,
    pub sector_size: u32,
    pub num_hosts: u64,
    pub max_hosts: u64,
    pub owner_id: u64,
    pub owner_generation: u64,
    pub lver: u64,
    pub space_name: String,
    /// In a slot: the name of the host.
    pub resource_name: String,
    pub timestamp_s: u64,
    pub unused1: u64,
    pub checksum: u32,
    pub unused2: u16,
    pub io_timeout_s: u16,
    /// In a slot: the generation that its event is for.
    pub write_id: u64,
    /// In a slot: the number of its event.
    pub write_generation: u64,
    /// In a slot: the data of its event.
    pub write_timestamp: u64,
}

/// A slot of a lockspace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Slot {
    /// Whose it is.
    pub host_id: u64,
    /// Where it lies on the device.
    pub offset_bytes: u64,
    /// The record.
    pub leader: Leader,
    /// The hosts it calls.
    pub notify: Vec<u64>,
    /// Whether it is refused.
    pub damaged: bool,
}

/// A resource.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Resource {
    /// The leader.
    pub leader: Leader,
    /// The request record; `null` if it is refused.
    pub request: Option<RequestRecord>,
    /// Hosts that ever took part, and damaged sectors.
    pub hosts: Vec<Host>,
    /// The lock value block up to its last byte that is not zero, in hexadecimal digits.
    pub lvb_hex: String,
}

/// A request record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RequestRecord {
    /// The lease version asked for; 0 if none is.
    pub lver: u64,
    /// `none`, `force` or `graceful`.
    pub force_mode: &'static str,
}

/// One host's sector of a resource.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Host {
    /// Whose it is.
    pub host_id: u64,
    /// Where it lies on the device.
    pub offset_bytes: u64,
    /// What it said in the ballot; `null` if nothing, or if it is refused.
    pub dblock: Option<Ballot>,
    /// Whether it holds the lease shared.
    pub shared: bool,
    /// The generation that does, or did.
    pub shared_generation: u64,
    /// Whether the dblock is refused.
    pub damaged: bool,
}

/// The fields of a dblock.
#[allow(missing_docs, reason = "the fields are those of the record")]
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Ballot {
    pub mbal: u64,
    pub bal: u64,
    pub inp: u64,
    pub inp2: u64,
    pub inp3: u64,
    pub lver: u64,
    pub released: bool,
}

/// An entry of an index.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Entry {
    /// Its number.
    pub index: u32,
    /// The resource's name.
    pub name: String,
    /// Where the resource lies on the device.
    pub offset_bytes: Option<u64>,
}

impl AreaDump {
    /// The area that begins at byte `offset`.
    pub fn of(dump: &Dump, offset: u64) -> AreaDump {
        let (geometry, what) = match dump {
            Dump::Nothing | Dump::Foreign { .. } | Dump::Damaged(_) => (None, Area::Damaged),
            Dump::Lockspace(space) => {
                let slots = space.slots.iter().map(slot).collect();
                (Some(space.geometry), Area::Lockspace { slots })
            }
            Dump::Resource(dump) => {
                let resource = Box::new(Resource {
                    leader: leader(&dump.leader),
                    request: dump.request.ok().map(request),
                    hosts: dump.hosts.iter().map(host).collect(),
                    lvb_hex: dump.lvb.iter().map(|byte| format!("{byte:02x}")).collect(),
                });
                let what = match dump.leader.magic {
                    CLEARED_MAGIC => Area::DeletedResource(resource),
                    _ => Area::Resource(resource),
                };
                (Some(dump.geometry), what)
            }
            Dump::Index(dump) => {
                let entries = dump
                    .entries
                    .iter()
                    .filter_map(|(index, entry)| match entry {
                        Ok(RindexEntry::Used { name, .. }) => Some(Entry {
                            index: *index,
                            name: name.to_string(),
                            offset_bytes: dump.header.resource_offset(*index),
                        }),
                        Ok(RindexEntry::Free) | Err(_) => None,
                    });
                let what = Area::Index {
                    space_name: dump.header.space_name.to_string(),
                    max_resources: dump.header.max_resources,
                    entries: entries.collect(),
                };
                (Some(dump.header.geometry), what)
            }
        };
        AreaDump {
            offset_bytes: offset,
            sector_bytes: geometry.map(Geometry::sector_bytes),
            area_bytes: geometry.map(Geometry::area_bytes),
            max_hosts: geometry.map(Geometry::max_hosts),
            what,
            damage: damage(dump),
        }
    }
}

fn leader(raw: &RawLeader) -> Leader {
    Leader {
        magic: raw.magic,
        version: raw.version.to_string(),
        flags: raw.flags.0,
        flag_names: raw.flags.names().collect(),
        sector_size: raw.sector_size,
        num_hosts: raw.num_hosts,
        max_hosts: raw.max_hosts,
        owner_id: raw.owner_id,
        owner_generation: raw.owner_generation,
        lver: raw.lver,
        space_name: raw.space_name.to_string(),
        resource_name: raw.resource_name.to_string(),
        timestamp_s: raw.timestamp,
        unused1: raw.unused1,
        checksum: raw.checksum,
        unused2: raw.unused2,
        io_timeout_s: raw.io_timeout,
        write_id: raw.write_id,
        write_generation: raw.write_generation,
        write_timestamp: raw.write_timestamp,
    }
}

fn slot(dump: &SlotDump) -> Slot {
    Slot {
        host_id: dump.host.number(),
        offset_bytes: dump.offset,
        leader: leader(&dump.leader),
        notify: dump.notify.iter().map(HostId::number).collect(),
        damaged: dump.damage.is_some(),
    }
}

fn request(request: Request) -> RequestRecord {
    RequestRecord {
        lver: request.lver,
        force_mode: match request.force_mode {
            ForceMode::None => "none",
            ForceMode::Force => "force",
            ForceMode::Graceful => "graceful",
        },
    }
}

fn host(dump: &HostDump) -> Host {
    let dblock = match dump.sector {
        Err(_) => None,
        Ok(sector) => match sector.dblock {
            Dblock::Empty => None,
            Dblock::Voted { ballot, .. } => Some(Ballot {
                mbal: ballot.mbal,
                bal: ballot.bal,
                inp: ballot.inp,
                inp2: ballot.inp2,
                inp3: ballot.inp3,
                lver: ballot.lver,
                released: sector.dblock.is_released(),
            }),
        },
    };
    Host {
        host_id: dump.host.number(),
        offset_bytes: dump.offset,
        dblock,
        shared: dump.mode.flags & MODE_SHARED != 0,
        shared_generation: dump.mode.generation,
        damaged: dump.sector.is_err(),
    }
}
