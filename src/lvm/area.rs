//! A metadata area: a header of one sector, and behind it a ring of text in which the present metadata is one stretch.
//!
//! LVM writes a new text beside the present one and then the header, so one that matches its checksum is whole.

use lockmgr::disk::Disk;

use super::label::Span;
use super::{BadPv, TEXT_MAX, crc, le32, le64, read};

/// The header's length; the ring begins behind it.
const HEADER: u64 = 512;
const MAGIC: &[u8; 16] = b" LVM2 x[5A%r0N*>";
/// The first of two locations: the committed one.
const COMMITTED: usize = 40;
/// Flag of a location that is not to be used.
const IGNORED: u32 = 1;

/// The present text of the area at `span` of the physical volume that begins at byte `start` of the disk. `None`: it has none.
pub fn text(disk: &mut dyn Disk, start: u64, span: Span) -> Result<Option<Vec<u8>>, BadPv> {
    let bad = || BadPv::Damaged("metadata header");
    let at = start.checked_add(span.offset).ok_or_else(bad)?;
    let header = read(disk, at, HEADER)?;
    let Some(stretch) = stretch(&header, span).ok_or_else(bad)? else {
        return Ok(None);
    };
    let first = read(disk, at + stretch.offset, stretch.before_end)?;
    let second = match stretch.wrapped {
        0 => Vec::new(),
        wrapped => read(disk, at + HEADER, wrapped)?,
    };
    let text = [first, second].concat();
    match crc::checksum(&text) == stretch.checksum {
        true => Ok(Some(text)),
        false => Err(BadPv::Damaged("metadata text")),
    }
}

/// Where the text lies in its area.
struct Stretch {
    offset: u64,
    before_end: u64,
    /// What goes on behind the header.
    wrapped: u64,
    checksum: u32,
}

fn stretch(header: &[u8], span: Span) -> Option<Option<Stretch>> {
    let whole = le32(header, 0)? == crc::checksum(header.get(4..)?)
        && header.get(4..20)? == MAGIC
        && le32(header, 20)? == 1
        && le64(header, 24)? == span.offset;
    let ring = le64(header, 32)?;
    if !whole || ring <= HEADER || span.offset.checked_add(ring).is_none() {
        return None;
    }
    let (offset, size) = (le64(header, COMMITTED)?, le64(header, COMMITTED + 8)?);
    if offset == 0 || size == 0 || le32(header, COMMITTED + 20)? & IGNORED != 0 {
        return Some(None);
    }
    let fits = (HEADER..ring).contains(&offset) && size <= ring - HEADER && size <= TEXT_MAX;
    fits.then(|| {
        let before_end = size.min(ring - offset);
        Some(Stretch {
            offset,
            before_end,
            wrapped: size - before_end,
            checksum: le32(header, COMMITTED + 16).unwrap_or(0),
        })
    })
}
