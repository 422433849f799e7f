//! What LVM wrote on a physical volume: its label, and the metadata of its volume group. Reads; never writes.
//!
//! ```text
//!   label   sector 0 to 3: "LABELONE", the UUID of the physical volume, where its metadata areas are
//!   area    a metadata area: a header that says where in a ring the present text lies
//!   text    the text's syntax: sections, numbers, strings, arrays
//!   group   what the text says: name, sequence number, physical and logical volumes
//! ```
//!
//! So that the daemon learns, without asking lvm and without opening anything that is mapped, which volumes a volume group
//! lies on and what its logical volumes are called. Every checksum is verified, every length bounded, and what cannot be is
//! said ([`BadPv`]): whoever can write to the disk must not harm the daemon, and another host may be writing just now.
//!
//! The format is LVM2's text format as lvm2 2.03 writes it (lib/format_text/layout.h, lib/label/label.h).

mod area;
mod crc;
mod group;
mod label;
#[cfg(test)]
mod tests;
mod text;

use std::fmt;

use lockmgr::disk::{Disk, DiskError};

pub use group::{Group, Lv, Pv, Segment};
pub use label::Uuid;

/// Metadata may take so much; LVM makes areas of 1 MiB.
const TEXT_MAX: u64 = 16 << 20;
/// The unit in which a disk is read here: a multiple of every block size.
const PIECE: u64 = 4096;
/// Metadata areas of a physical volume: one at its start, one at its end.
const AREAS_MAX: usize = 4;

/// Why a physical volume cannot be understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BadPv {
    /// It does not answer.
    Io(DiskError),
    /// What another host may be writing just now, or nobody can read.
    Damaged(&'static str),
}

impl fmt::Display for BadPv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadPv::Io(error) => error.fmt(f),
            BadPv::Damaged(what) => write!(f, "LVM's {what} cannot be read"),
        }
    }
}

/// A physical volume as its own bytes describe it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its UUID.
    pub pv: Uuid,
    /// The volume group in its newest metadata area; `None` if it has none in use.
    pub group: Option<Group>,
}

/// Looks for a physical volume that begins at this byte of a disk. `None`: there is none.
///
/// # Errors
/// There is one, but it cannot be read or understood.
pub fn physical_volume(disk: &mut dyn Disk, start: u64) -> Result<Option<Found>, BadPv> {
    let size = disk.size().map_err(BadPv::Io)?;
    if start.checked_add(PIECE).is_none_or(|end| end > size) {
        return Ok(None);
    }
    let mut first = vec![0; PIECE as usize];
    disk.read(start, &mut first).map_err(BadPv::Io)?;
    let Some(label) = label::Label::find(&first)? else {
        return Ok(None);
    };
    let mut newest: Option<Group> = None;
    for span in &label.areas {
        let Some(bytes) = area::text(disk, start, *span)? else {
            continue;
        };
        let group = Group::parse(&bytes).ok_or(BadPv::Damaged("metadata text"))?;
        if newest.as_ref().is_none_or(|than| than.seqno < group.seqno) {
            newest = Some(group);
        }
    }
    Ok(Some(Found {
        pv: label.pv,
        group: newest,
    }))
}

/// Reads any range, in whole pieces.
fn read(disk: &mut dyn Disk, at: u64, len: u64) -> Result<Vec<u8>, BadPv> {
    let past_end = || {
        let (offset, len) = (at, len as usize);
        BadPv::Io(DiskError::PastEnd { offset, len })
    };
    let first = at - at % PIECE;
    let end = at.checked_add(len).ok_or_else(past_end)?;
    let last = end.checked_next_multiple_of(PIECE).ok_or_else(past_end)?;
    let mut bytes = Vec::new();
    let mut from = first;
    while from < last {
        // No more at a time than a disk takes that was opened for areas of the smallest size.
        let some = (last - from).min(1 << 20) as usize;
        let old = bytes.len();
        bytes.resize(old + some, 0);
        disk.read(from, &mut bytes[old..]).map_err(BadPv::Io)?;
        from += some as u64;
    }
    bytes.drain(..(at - first) as usize);
    bytes.truncate(len as usize);
    Ok(bytes)
}

/// Little-endian numbers at a place that may not be there.
fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    let piece = bytes.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*piece))
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    let piece = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*piece))
}
