//! The label of a physical volume, in one of its first four sectors, and the header behind it.

use std::fmt;

use super::{AREAS_MAX, BadPv, crc, le32, le64};

const SECTOR: usize = 512;
const SECTORS: usize = 4;
/// From here on the checksum counts.
const CHECKED: usize = 20;
/// Of `pv_header`, before the lists.
const PV_HEADER: usize = 40;
/// Of a `disk_locn`: offset and size.
const LOCATION: usize = 16;

/// A UUID of LVM: 32 letters and digits. On disk without hyphens, elsewhere with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid([u8; 32]);

impl Uuid {
    /// From 32 letters and digits, hyphens among them left out.
    pub fn parse(text: &str) -> Option<Uuid> {
        let mut bytes = text.bytes().filter(|byte| *byte != b'-');
        let mut uuid = [0; 32];
        for place in &mut uuid {
            *place = bytes.next()?;
        }
        let whole = bytes.next().is_none();
        (whole && uuid.iter().all(Uuid::may_have)).then_some(Uuid(uuid))
    }

    fn may_have(byte: &u8) -> bool {
        byte.is_ascii_alphanumeric() || matches!(byte, b'!' | b'#')
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = &self.0[..];
        for (number, len) in [6, 4, 4, 4, 4, 4, 6].into_iter().enumerate() {
            let (group, others) = rest.split_at(len);
            rest = others;
            if number > 0 {
                f.write_str("-")?;
            }
            f.write_str(&String::from_utf8_lossy(group))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A range of a physical volume, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// From its start.
    pub offset: u64,
    /// How many.
    pub size: u64,
}

/// What a label says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Label {
    /// The physical volume's UUID.
    pub pv: Uuid,
    /// Its metadata areas.
    pub areas: Vec<Span>,
}

impl Label {
    /// Looks for one in the first sectors of a physical volume.
    pub fn find(first: &[u8]) -> Result<Option<Label>, BadPv> {
        let sectors = first.chunks_exact(SECTOR).take(SECTORS).enumerate();
        for (number, sector) in sectors {
            // Both must be there: other programs' labels begin with LABELONE as well.
            if sector.starts_with(b"LABELONE") && sector[24..32] == *b"LVM2 001" {
                let label = Label::parse(sector, number as u64);
                return label.map(Some).ok_or(BadPv::Damaged("label"));
            }
        }
        Ok(None)
    }

    fn parse(sector: &[u8], number: u64) -> Option<Label> {
        let whole = le64(sector, 8)? == number
            && le32(sector, 16)? == crc::checksum(&sector[CHECKED..SECTOR]);
        if !whole {
            return None;
        }
        let header = sector.get(usize::try_from(le32(sector, 20)?).ok()?..)?;
        let pv = Uuid::parse(std::str::from_utf8(header.get(..32)?).ok()?)?;
        // Two lists, each with an empty entry at its end: data areas, then metadata areas.
        let mut at = PV_HEADER;
        while location(header, at)?.offset != 0 {
            at += LOCATION;
        }
        let mut areas = Vec::new();
        loop {
            at += LOCATION;
            match location(header, at)? {
                Span { offset: 0, .. } => return Some(Label { pv, areas }),
                _ if areas.len() == AREAS_MAX => return None,
                area => areas.push(area),
            }
        }
    }
}

fn location(header: &[u8], at: usize) -> Option<Span> {
    Some(Span {
        offset: le64(header, at)?,
        size: le64(header, at + 8)?,
    })
}
