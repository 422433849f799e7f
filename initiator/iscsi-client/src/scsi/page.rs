//! Reading parameter data that may be shorter than their own length fields say.

use core::fmt;

/// Parameter data that cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadPage {
    /// The data end before the fields without which the rest means nothing.
    Short {
        /// Bytes that arrived.
        len: usize,
        /// Bytes needed at least.
        needed: usize,
    },
    /// Another page than the one asked for.
    OtherPage {
        /// Page asked for.
        wanted: u8,
        /// Page that came.
        found: u8,
    },
    /// A field has a value that no block device can have. The text names the field.
    Illegal(&'static str),
}

impl fmt::Display for BadPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadPage::Short { len, needed } => {
                write!(f, "{len} bytes of parameter data, at least {needed} needed")
            }
            BadPage::OtherPage { wanted, found } => {
                write!(f, "page {found:02x}h instead of {wanted:02x}h")
            }
            BadPage::Illegal(field) => write!(f, "illegal {field}"),
        }
    }
}

impl core::error::Error for BadPage {}

/// Bytes from the target; those beyond the end read as zero.
#[derive(Clone, Copy)]
pub(super) struct Page<'a>(pub(super) &'a [u8]);

impl<'a> Page<'a> {
    /// The data, if there are at least `needed` bytes.
    pub(super) fn of_len(data: &'a [u8], needed: usize) -> Result<Self, BadPage> {
        if data.len() < needed {
            return Err(BadPage::Short {
                len: data.len(),
                needed,
            });
        }
        Ok(Page(data))
    }

    pub(super) fn u8(self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    pub(super) fn bit(self, at: usize, mask: u8) -> bool {
        self.u8(at) & mask != 0
    }

    pub(super) fn u16(self, at: usize) -> u16 {
        u16::from_be_bytes(self.array(at))
    }

    pub(super) fn u32(self, at: usize) -> u32 {
        u32::from_be_bytes(self.array(at))
    }

    pub(super) fn u64(self, at: usize) -> u64 {
        u64::from_be_bytes(self.array(at))
    }

    pub(super) fn array<const N: usize>(self, at: usize) -> [u8; N] {
        core::array::from_fn(|i| self.u8(at.saturating_add(i)))
    }

    /// The bytes from `at` on, at most `len` of them, as far as they arrived.
    pub(super) fn slice(self, at: usize, len: usize) -> &'a [u8] {
        let start = at.min(self.0.len());
        let end = start.saturating_add(len).min(self.0.len());
        self.0.get(start..end).unwrap_or(&[])
    }
}

/// ASCII text without the blanks and zeros around it; anything unprintable becomes `?`.
pub(super) fn text(bytes: &[u8]) -> String {
    let padding = |byte: &u8| matches!(byte, b' ' | 0);
    let start = bytes
        .iter()
        .position(|b| !padding(b))
        .unwrap_or(bytes.len());
    let end = bytes
        .iter()
        .rposition(|b| !padding(b))
        .map_or(start, |last| last + 1);
    let printable = |&byte: &u8| match byte {
        b' '..=b'~' => char::from(byte),
        _ => '?',
    };
    bytes
        .get(start..end)
        .unwrap_or(&[])
        .iter()
        .map(printable)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_bytes_are_zero() {
        let page = Page(&[0x12, 0x34, 0x56]);
        assert_eq!(page.u16(1), 0x3456);
        assert_eq!(page.u32(1), 0x3456_0000);
        assert_eq!(page.u64(usize::MAX), 0);
        assert_eq!(page.slice(1, 9), [0x34, 0x56]);
        assert_eq!(page.slice(usize::MAX, usize::MAX), []);
    }

    #[test]
    fn text_is_trimmed_and_printable() {
        assert_eq!(text(b"  LIO-ORG \0\0"), "LIO-ORG");
        assert_eq!(text(b"a b\x07\xff"), "a b??");
        assert_eq!(text(b" \0 "), "");
        assert_eq!(text(b""), "");
    }
}
