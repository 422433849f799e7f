//! The name Linux gives a disk: WWID as multipath-tools derives it from VPD page 83h, and the serial number
//! name of udev's `scsi_id` where there is no usable page 83h.
//!
//! Kept identical so that operators can compare, and configuration can be carried over. A WWID is what the
//! target *claims*; two different disks may claim the same one.

use core::fmt;
use core::str::FromStr;

use super::{Association, Designator, DesignatorKind, Designators, Inquiry};

/// multipath-tools keeps 128 bytes for a WWID, the terminating zero included.
const LEN_MAX: usize = 127;

/// A disk's name: 1 to 127 printable ASCII characters without blanks.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Wwid(String);

/// A text that is no WWID.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAWwid;

impl fmt::Display for NotAWwid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a WWID is 1 to 127 printable ASCII characters without blanks")
    }
}

impl core::error::Error for NotAWwid {}

impl Wwid {
    /// The WWID from page 83h: the best of the logical unit's designators, the first among equals.
    /// `None` if there is no usable one.
    pub fn from_designators(designators: Designators<'_>) -> Option<Wwid> {
        let mut best: Option<(Rank, Designator<'_>)> = None;
        for designator in designators {
            if let Some(rank) = rank(&designator)
                && best.is_none_or(|(so_far, _)| rank > so_far)
            {
                best = Some((rank, designator));
            }
        }
        let (_, designator) = best?;
        Wwid::of_bytes(spell(&designator))
    }

    /// The name from the serial number, page 80h: `S`, vendor, product and serial. The serial number is given
    /// as [`super::serial_number`] returns it, so one thing differs from udev: blanks before the serial number
    /// of a product whose name fills its field leave no `_`. Two disks that both have none would share this name; the caller
    /// should not trust it with an empty serial.
    pub fn from_serial(inquiry: &Inquiry, serial: &str) -> Option<Wwid> {
        let mut raw = vec![b'S'];
        raw.extend(inquiry.vendor);
        raw.extend(inquiry.product);
        raw.extend(serial.bytes());
        // What udev leaves of a string for use in file names.
        let name = join_words(&raw).into_iter().map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() || b"#+-.:=@_".contains(&byte) => byte,
            _ => b'_',
        });
        Wwid::of_bytes(name.collect())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What multipath-tools would leave raw becomes `_`: the name goes to logs, file names and terminals.
    fn of_bytes(mut bytes: Vec<u8>) -> Option<Wwid> {
        if let Some(end) = bytes.iter().position(|&byte| byte == 0) {
            bytes.truncate(end);
        }
        bytes.truncate(LEN_MAX);
        let printable = |byte: u8| {
            if byte.is_ascii_graphic() {
                char::from(byte)
            } else {
                '_'
            }
        };
        (!bytes.is_empty()).then(|| Wwid(bytes.into_iter().map(printable).collect()))
    }
}

impl fmt::Display for Wwid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Wwid {
    type Err = NotAWwid;

    fn from_str(text: &str) -> Result<Wwid, NotAWwid> {
        let legal =
            (1..=LEN_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if legal {
            Ok(Wwid(text.to_owned()))
        } else {
            Err(NotAWwid)
        }
    }
}

/// multipath's preference; the later, the better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Rank {
    NaaLocal,
    T10Vendor,
    ScsiName,
    Eui64,
    NaaExtended,
    NaaRegistered,
    NaaRegisteredExtended,
}

/// `None` for designators that never become a WWID: other associations, other types, lengths that do not
/// match the type.
fn rank(designator: &Designator<'_>) -> Option<Rank> {
    if designator.association != Association::LogicalUnit {
        return None;
    }
    let value = designator.value;
    match designator.kind {
        DesignatorKind::Naa => match (value.first()? >> 4, value.len()) {
            (6, 16) => Some(Rank::NaaRegisteredExtended),
            (5, 8) => Some(Rank::NaaRegistered),
            (2, 8) => Some(Rank::NaaExtended),
            (3, 8) => Some(Rank::NaaLocal),
            _ => None,
        },
        DesignatorKind::Eui64 => matches!(value.len(), 8 | 12 | 16).then_some(Rank::Eui64),
        DesignatorKind::ScsiNameString => {
            let scheme = value.get(..4)?;
            [b"eui.", b"naa.", b"iqn."]
                .iter()
                .any(|known| scheme == *known)
                .then_some(Rank::ScsiName)
        }
        DesignatorKind::T10Vendor => (value.len() >= 8).then_some(Rank::T10Vendor),
        _ => None,
    }
}

/// The designator in multipath's spelling. Called for ranked designators only.
fn spell(designator: &Designator<'_>) -> Vec<u8> {
    let value = designator.value;
    match designator.kind {
        DesignatorKind::Naa => hex(b'3', value),
        DesignatorKind::Eui64 => hex(b'2', value),
        DesignatorKind::ScsiNameString => {
            let (scheme, name) = value.split_at_checked(4).unwrap_or((value, &[]));
            // The scheme becomes one digit; an IQN keeps its case, hexadecimal digits do not.
            match scheme {
                b"naa." => [b"3", &*name.to_ascii_lowercase()].concat(),
                b"eui." => [b"2", &*name.to_ascii_lowercase()].concat(),
                _ => [b"8", name].concat(),
            }
        }
        _ => [b"1", &*join_words(value)].concat(),
    }
}

fn hex(first: u8, value: &[u8]) -> Vec<u8> {
    let digit = |nibble: u8| {
        if nibble < 10 {
            b'0' + nibble
        } else {
            b'a' + nibble - 10
        }
    };
    let digits = value
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 0x0f)]);
    core::iter::once(first).chain(digits).collect()
}

/// Runs of blanks become one `_`, blanks at the end nothing.
fn join_words(text: &[u8]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(text.len());
    let mut blank = false;
    for &byte in text {
        if byte == b' ' {
            blank = true;
            continue;
        }
        if blank {
            joined.push(b'_');
            blank = false;
        }
        joined.push(byte);
    }
    joined
}

#[cfg(test)]
mod tests;
