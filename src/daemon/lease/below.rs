//! Where a lease area lies, seen from this daemon's volumes: on none, on one, or on a logical volume on one.
//!
//! From sysfs and from the device mapper's table, asked for by device number. The mapped device is never opened.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};
use ublk_dev::dm::{self, Target};

use crate::failure::{Failure, Kind};
use crate::keeper::mapped::{Extent, Extents};
use crate::layout::Layout;
use crate::lease::place::{Device, Place};
use crate::lvm::Uuid;

/// Devices on devices; deeper is nobody's.
const DEPTH_MAX: u32 = 8;
/// Of the kernel's tables.
const SECTOR: u64 = 512;

/// Where an area lies. Volumes by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum On {
    /// On none of ours.
    Elsewhere,
    /// On this one itself.
    Volume(String),
    /// On a logical volume on this one.
    Lv(OnLv),
}

/// A logical volume on one of our volumes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OnLv {
    /// The volume below.
    pub volume: String,
    /// Where on it.
    pub extents: Extents,
    /// Its volume group.
    pub group: Uuid,
    /// Itself.
    pub lv: Uuid,
}

/// What the kernel knows of block devices.
pub struct Kernel<'a> {
    /// Where sysfs is.
    pub layout: &'a Layout,
    /// The live table of the mapped device of this number.
    pub table: &'a dyn Fn(u64) -> io::Result<Vec<Target>>,
}

/// Finds where a place lies. `ours`: names of our volumes.
///
/// # Errors
/// On one of ours, in a way that leases cannot be kept on.
pub fn find(layout: &Layout, ours: &[String], place: &Place) -> Result<On, Failure> {
    let Some(Device::Block(number)) = Device::at(&place.path) else {
        return Ok(On::Elsewhere);
    };
    let control = layout.path("/dev/mapper/control");
    let kernel = Kernel {
        layout,
        table: &|device| dm::table(&control, device),
    };
    kernel.find(ours, place, number)
}

impl Kernel<'_> {
    fn find(&self, ours: &[String], place: &Place, number: u64) -> Result<On, Failure> {
        let Some(directory) = self.directory(major(number), minor(number)) else {
            return Ok(On::Elsewhere);
        };
        if let Some(name) = ours_at(ours, &directory) {
            return Ok(On::Volume(name));
        }
        if let Some((name, start)) = partition(ours, &directory) {
            let offset = start.and_then(|start| start.checked_add(place.offset));
            return Err(unnamed(place, &name, offset));
        }
        let Some(name) = touches(ours, &directory, DEPTH_MAX) else {
            return Ok(On::Elsewhere);
        };
        let uuid = std::fs::read_to_string(directory.join("dm/uuid"));
        let Some((group, lv)) = uuid.ok().and_then(|text| uuids_of(text.trim())) else {
            return Err(unnamed(place, &name, None));
        };
        let (volume, extents) = self.extents(ours, place, number)?;
        Ok(On::Lv(OnLv {
            volume,
            extents,
            group,
            lv,
        }))
    }

    fn directory(&self, major: u32, minor: u32) -> Option<PathBuf> {
        let link = format!("/sys/dev/block/{major}:{minor}");
        std::fs::canonicalize(self.layout.path(&link)).ok()
    }

    /// The one volume that a mapped device is made of, and where on it.
    fn extents(
        &self,
        ours: &[String],
        place: &Place,
        number: u64,
    ) -> Result<(String, Extents), Failure> {
        let path = place.path.display();
        let table = (self.table)(number).map_err(|error| {
            Failure::new(
                Kind::Failed,
                format!("{path}: the device mapper does not say what it is made of: {error}"),
                "is it active? dmsetup table shows it",
            )
        })?;
        let mut on: Option<String> = None;
        let mut extents = Vec::new();
        let mut next = 0;
        for target in &table {
            let (name, start) = self.piece(ours, target).ok_or_else(|| {
                refused(
                    format!(
                        "{path} is not made of linear pieces of volumes of sanblk: {} {}",
                        target.kind, target.parameters
                    ),
                    "leases are kept on a plain logical volume, on volumes or on partitions of them",
                )
            })?;
            if *on.get_or_insert_with(|| name.clone()) != name {
                return Err(refused(
                    format!(
                        "{path} lies on two volumes, /dev/{} and /dev/{name}",
                        on.as_deref().unwrap_or_default()
                    ),
                    "leases of a lockspace lie on one: move it there with pvmove while nobody uses it",
                ));
            }
            let bytes = target.sectors.checked_mul(SECTOR);
            let (true, Some(len)) = (target.start == next, bytes) else {
                return Err(nonsense(place));
            };
            next += target.sectors;
            extents.push(Extent { start, len });
        }
        match (on, Extents::new(extents)) {
            (Some(name), Some(extents)) => Ok((name, extents)),
            _ => Err(nonsense(place)),
        }
    }

    /// Which of our volumes a line of a table lies on, and from which byte on.
    fn piece(&self, ours: &[String], target: &Target) -> Option<(String, u64)> {
        let linear = target.linear()?;
        let start = linear.sector.checked_mul(SECTOR)?;
        let directory = self.directory(linear.device.0, linear.device.1)?;
        if let Some(name) = ours_at(ours, &directory) {
            return Some((name, start));
        }
        let (name, base) = partition(ours, &directory)?;
        Some((name, base?.checked_add(start)?))
    }
}

/// Bytes of a volume at which a physical volume may begin: its start, and its partitions'.
pub fn starts(layout: &Layout, volume: &str) -> Vec<u64> {
    let entries = std::fs::read_dir(layout.path(&format!("/sys/block/{volume}")));
    let partitions = entries.into_iter().flatten().flatten();
    let mut starts: Vec<u64> = partitions
        .filter_map(|entry| partition_start(&entry.path()))
        .collect();
    starts.push(0);
    starts.sort_unstable();
    starts
}

/// In bytes, if this is a partition.
fn partition_start(directory: &Path) -> Option<u64> {
    if !directory.join("partition").exists() {
        return None;
    }
    let sectors = std::fs::read_to_string(directory.join("start")).ok()?;
    sectors.trim().parse::<u64>().ok()?.checked_mul(SECTOR)
}

fn ours_at(ours: &[String], directory: &Path) -> Option<String> {
    let name = directory.file_name()?.to_str()?;
    ours.iter().find(|known| *known == name).cloned()
}

/// The volume of ours that this is a partition of, and where it begins.
fn partition(ours: &[String], directory: &Path) -> Option<(String, Option<u64>)> {
    if !directory.join("partition").exists() {
        return None;
    }
    let name = ours_at(ours, directory.parent()?)?;
    Some((name, partition_start(directory)))
}

/// A volume of ours that something lies on, in part at least.
fn touches(ours: &[String], directory: &Path, depth: u32) -> Option<String> {
    if let Some(name) = ours_at(ours, directory) {
        return Some(name);
    }
    let depth = depth.checked_sub(1)?;
    if directory.join("partition").exists() {
        return touches(ours, directory.parent()?, depth);
    }
    let slaves = std::fs::read_dir(directory.join("slaves"));
    let mut slaves = slaves.into_iter().flatten().flatten();
    slaves.find_map(|entry| {
        let slave = std::fs::canonicalize(entry.path()).ok()?;
        touches(ours, &slave, depth)
    })
}

/// The UUIDs of a volume group and a logical volume of it, from the device mapper's name for that: `LVM-`, the one, the other.
/// What has more behind them is a layer.
fn uuids_of(uuid: &str) -> Option<(Uuid, Uuid)> {
    let both = uuid.strip_prefix("LVM-")?;
    let (group, lv) = (both.get(..32)?, both.get(32..)?);
    Some((Uuid::parse(group)?, Uuid::parse(lv)?))
}

fn refused(what: String, next: &str) -> Failure {
    Failure::new(Kind::Refused, what, next)
}

fn nonsense(place: &Place) -> Failure {
    let path = place.path.display();
    Failure::new(
        Kind::Failed,
        format!("{path}: the device mapper's table makes no sense"),
        format!("look at it: dmsetup table {path}"),
    )
}

/// On a volume of ours, and not to be named so.
fn unnamed(place: &Place, volume: &str, offset: Option<u64>) -> Failure {
    Failure::new(
        Kind::Refused,
        format!(
            "{} lies on /dev/{volume}, a volume of sanblk: leases on it are named by the volume itself, or by a logical \
             volume of LVM",
            place.path.display()
        ),
        match offset {
            Some(offset) => format!("the same place is /dev/{volume}:{offset}"),
            None => format!(
                "name /dev/{volume} and the byte at which the area begins on it (dmsetup table {} shows where it lies)",
                place.path.display()
            ),
        },
    )
}

#[cfg(test)]
mod tests;
