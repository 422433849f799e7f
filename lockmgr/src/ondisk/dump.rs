//! Everything an area says, for people: damage is shown beside what is whole, never hidden and never fatal.
//!
//! The text has the lines of `sanlock direct dump`, so that what is known about that output holds here. It differs in
//! two ways: damage has lines of its own, which begin with `!`, and deleted resources and indexes are shown where the
//! real tool ends.

use std::fmt;

use super::{
    BadRecord, DeltaLease, DeltaSlot, Found, Geometry, HostId, HostSector, HostSet, MODE_SHARED,
    ModeBlock, Name, PaxosLeader, Problem, RawLeader, Request, RindexEntry, RindexHeader,
};

/// An area, decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Dump {
    /// Zeros.
    Nothing,
    /// Not one of ours.
    Foreign {
        /// The first four bytes, little endian.
        magic: u32,
    },
    /// One of ours, but its first record is so damaged that nobody can say how the area is laid out.
    Damaged(BadRecord),
    /// A lockspace.
    Lockspace(LockspaceDump),
    /// A resource, deleted ones too.
    Resource(Box<ResourceDump>),
    /// An index.
    Index(IndexDump),
}

/// The slots of a lockspace that say something: once used, held, or damaged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockspaceDump {
    /// Where the area lies on the device.
    pub offset: u64,
    /// How it is laid out.
    pub geometry: Geometry,
    /// Its name, as slot 1 says it.
    pub space_name: Name,
    /// In order.
    pub slots: Vec<SlotDump>,
}

/// One slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotDump {
    /// Whose it is.
    pub host: HostId,
    /// Where it lies on the device.
    pub offset: u64,
    /// All fields.
    pub leader: RawLeader,
    /// The hosts it calls; empty if damaged.
    pub notify: HostSet,
    /// Why it is refused, if it is.
    pub damage: Option<BadRecord>,
}

/// A resource.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResourceDump {
    /// Where the area lies on the device.
    pub offset: u64,
    /// How it is laid out.
    pub geometry: Geometry,
    /// All fields of the leader.
    pub leader: RawLeader,
    /// Why the leader is refused, if it is. [`Problem::Cleared`]: the resource was deleted.
    pub damage: Option<BadRecord>,
    /// The request record, or why it is refused.
    pub request: Result<Request, BadRecord>,
    /// Hosts that ever took part, and damaged sectors.
    pub hosts: Vec<HostDump>,
    /// The LVB up to its last byte that is not zero; empty where the geometry has no room for one.
    pub lvb: Vec<u8>,
}

/// One host's sector of a resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostDump {
    /// Whose it is.
    pub host: HostId,
    /// Where it lies on the device.
    pub offset: u64,
    /// What it says, or why the dblock is refused.
    pub sector: Result<HostSector, BadRecord>,
    /// The mode block, which no checksum protects, also if the dblock is damaged.
    pub mode: ModeBlock,
}

/// An index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IndexDump {
    /// Where it lies on the device.
    pub offset: u64,
    /// The header.
    pub header: RindexHeader,
    /// Why it is not the index of this place, if it is not.
    pub damage: Option<BadRecord>,
    /// Entries in use, and damaged ones.
    pub entries: Vec<(u32, Result<RindexEntry, BadRecord>)>,
}

impl Dump {
    /// Decodes the area that lies at `offset` of the device. `area` begins there and may go on behind it; how long it is
    /// says [`Found::geometry`]. Hosts whose sectors a shorter one lacks are left out.
    pub fn of(area: &[u8], offset: u64) -> Dump {
        let layout_unknown = |refused: Option<BadRecord>| {
            let bad = refused.expect("without a geometry no leader is accepted");
            Dump::Damaged(bad.at(offset))
        };
        match Found::at(area) {
            None | Some(Found::Nothing) => Dump::Nothing,
            Some(Found::Foreign { magic }) => Dump::Foreign { magic },
            Some(Found::Lockspace(raw)) => match raw.geometry() {
                Some(geometry) => {
                    let name = raw.space_name;
                    Dump::Lockspace(LockspaceDump::of(area, offset, geometry, name))
                }
                None => layout_unknown(DeltaLease::parse(area).err()),
            },
            Some(Found::Resource(raw) | Found::Cleared(raw)) => match raw.geometry() {
                Some(geometry) => {
                    Dump::Resource(Box::new(ResourceDump::of(area, offset, geometry, raw)))
                }
                None => layout_unknown(PaxosLeader::parse(area).err()),
            },
            Some(Found::Index(_)) => match RindexHeader::parse(area) {
                Ok(header) => Dump::Index(IndexDump::of(area, offset, header)),
                Err(bad) => Dump::Damaged(bad.at(offset)),
            },
        }
    }

    /// The first line of the text.
    pub const HEADING: &str = "  offset                            lockspace                                         resource  timestamp  own  gen lver/req/mode";
}

/// The sector at this place of the area; whatever is left of it if the area was cut.
fn sector(area: &[u8], at: u64, geometry: Geometry) -> &[u8] {
    let at = usize::try_from(at).map_or(area.len(), |at| at.min(area.len()));
    let rest = &area[at..];
    &rest[..rest.len().min(geometry.sector_bytes())]
}

impl LockspaceDump {
    fn of(area: &[u8], offset: u64, geometry: Geometry, space_name: Name) -> LockspaceDump {
        let slots = geometry.hosts().filter_map(|host| {
            let at = geometry.delta_slot(host);
            let bytes = sector(area, at, geometry);
            let leader = RawLeader::read(bytes)?;
            let parsed = DeltaSlot::parse(bytes).and_then(|slot| {
                slot.lease.verify_geometry(geometry)?;
                Ok(slot)
            });
            let silent = leader.owner_id == 0 && leader.timestamp == 0;
            if parsed.is_ok() && silent {
                return None;
            }
            let offset = offset.saturating_add(at);
            Some(SlotDump {
                host,
                offset,
                leader,
                notify: parsed.map_or(HostSet::EMPTY, |slot| slot.notify),
                damage: parsed.err().map(|bad| bad.at(offset)),
            })
        });
        LockspaceDump {
            offset,
            geometry,
            space_name,
            slots: slots.collect(),
        }
    }
}

impl ResourceDump {
    fn of(area: &[u8], offset: u64, geometry: Geometry, leader: RawLeader) -> ResourceDump {
        let place = |at: u64| offset.saturating_add(at);
        let request_at = geometry.request_sector();
        let hosts = geometry.hosts().filter_map(|host| {
            let at = geometry.host_sector(host);
            let bytes = sector(area, at, geometry);
            let sector = HostSector::parse(bytes).map_err(|bad| bad.at(place(at)));
            if sector == Ok(HostSector::default()) {
                return None;
            }
            Some(HostDump {
                host,
                offset: place(at),
                sector,
                mode: HostSector::mode_unverified(bytes)?,
            })
        });
        let lvb = geometry
            .lvb_sector()
            .map_or(&[][..], |at| sector(area, at, geometry));
        let used = lvb.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
        ResourceDump {
            offset,
            geometry,
            leader,
            damage: PaxosLeader::parse(area).err().map(|bad| bad.at(offset)),
            request: Request::parse(sector(area, request_at, geometry))
                .map_err(|bad| bad.at(place(request_at))),
            hosts: hosts.collect(),
            lvb: lvb[..used].to_vec(),
        }
    }

    /// Whether it was deleted.
    pub fn is_cleared(&self) -> bool {
        matches!(
            self.damage,
            Some(BadRecord {
                problem: Problem::Cleared,
                ..
            })
        )
    }
}

impl IndexDump {
    fn of(area: &[u8], offset: u64, header: RindexHeader) -> IndexDump {
        let entries = header
            .entries(area)
            .filter(|(_, entry)| *entry != Ok(RindexEntry::Free))
            .map(|(index, entry)| (index, entry.map_err(|bad| bad.at(offset))));
        let space = header.space_name;
        IndexDump {
            offset,
            header,
            damage: header.verify(offset, &space).err().map(|b| b.at(offset)),
            entries: entries.collect(),
        }
    }
}

/// The columns that all lines of leaders begin with.
fn leader_columns(f: &mut fmt::Formatter<'_>, offset: u64, leader: &RawLeader) -> fmt::Result {
    write!(
        f,
        "{offset:08} {:>36} {:>48} {:010} {:04} {:04}",
        leader.space_name,
        leader.resource_name,
        leader.timestamp,
        leader.owner_id,
        leader.owner_generation
    )
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dump::Nothing => Ok(()),
            Dump::Foreign { magic } => writeln!(f, "! no lease area: it begins with {magic:#010x}"),
            Dump::Damaged(damage) => writeln!(f, "! {damage}"),
            Dump::Lockspace(dump) => dump.fmt(f),
            Dump::Resource(dump) => dump.fmt(f),
            Dump::Index(dump) => dump.fmt(f),
        }
    }
}

impl fmt::Display for LockspaceDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for slot in &self.slots {
            leader_columns(f, slot.offset, &slot.leader)?;
            // Flags worth seeing came with version 5; the tool of that version has the column.
            if let 5.. = slot.leader.version.major {
                write!(f, " 0x{:08x}", slot.leader.flags.0)?;
            }
            for called in slot.notify.iter() {
                write!(f, " {called}")?;
            }
            writeln!(f)?;
            if let Some(damage) = slot.damage {
                writeln!(f, "! {damage}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for ResourceDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        leader_columns(f, self.offset, &self.leader)?;
        write!(f, " {}/", self.leader.lver)?;
        match self.request {
            Ok(request) => writeln!(f, "{}/{}", request.lver, request.force_mode.to_disk())?,
            Err(damage) => write!(f, "?/?\n! {damage}\n")?,
        }
        for host in &self.hosts {
            if host.mode.flags & MODE_SHARED != 0 {
                writeln!(
                    f,
                    "{:105} {:04} {:04} SH",
                    "", host.host, host.mode.generation
                )?;
            }
            if let Err(damage) = host.sector {
                writeln!(f, "! {damage}")?;
            }
        }
        match self.damage {
            Some(damage) => writeln!(f, "! {damage}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for IndexDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RindexHeader {
            space_name,
            max_resources,
            ..
        } = self.header;
        writeln!(
            f,
            "{:08} {space_name:>36} index of {max_resources} resources",
            self.offset
        )?;
        for (index, entry) in &self.entries {
            match (entry, self.header.resource_offset(*index)) {
                (Err(damage), _) => writeln!(f, "! {damage}")?,
                (Ok(RindexEntry::Used { name, .. }), Some(offset)) => {
                    writeln!(f, "{:45} {name:>48} at {offset}", "")?;
                }
                (Ok(_), _) => {}
            }
        }
        match self.damage {
            Some(damage) => writeln!(f, "! {damage}"),
            None => Ok(()),
        }
    }
}
