//! Names of lockspaces, resources and hosts: 48 bytes, padded with NULs, a full one without any.

use std::fmt;

/// Longest name, in bytes.
pub const NAME_LEN: usize = 48;

/// A name as it lies on disk. Bytes after the first NUL are kept but do not count.
#[derive(Clone, Copy)]
pub struct Name([u8; NAME_LEN]);

/// The name has more than [`NAME_LEN`] bytes, or a NUL within.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NameTooLong;

impl fmt::Display for NameTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a name has at most {NAME_LEN} bytes, none of them NUL")
    }
}

impl std::error::Error for NameTooLong {}

impl Name {
    /// No name: free index entries, slots that were never used.
    pub const EMPTY: Name = Name([0; NAME_LEN]);

    /// A name of ours. At most 48 bytes; a NUL inside would cut it short and is refused alike.
    pub fn new(text: &str) -> Result<Name, NameTooLong> {
        let text = text.as_bytes();
        if text.len() > NAME_LEN || text.contains(&0) {
            return Err(NameTooLong);
        }
        let mut name = [0; NAME_LEN];
        name[..text.len()].copy_from_slice(text);
        Ok(Name(name))
    }

    /// The 48 bytes found on disk.
    pub const fn from_disk(bytes: [u8; NAME_LEN]) -> Name {
        Name(bytes)
    }

    /// The 48 bytes to put on disk.
    pub const fn to_disk(self) -> [u8; NAME_LEN] {
        self.0
    }

    /// The bytes before the first NUL. Not necessarily UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        let len = self.0.iter().position(|&b| b == 0).unwrap_or(NAME_LEN);
        &self.0[..len]
    }

    /// Whether no name is there.
    pub fn is_empty(&self) -> bool {
        self.0[0] == 0
    }
}

/// Names are the same when they read the same: what follows the NUL is no part of them.
impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Name {}

impl std::hash::Hash for Name {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

/// Prints what a terminal may see: control characters and bytes that are no UTF-8 are escaped.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = String::new();
        for chunk in self.as_bytes().utf8_chunks() {
            for c in chunk.valid().chars() {
                match c.is_control() {
                    true => shown.extend(c.escape_default()),
                    false => shown.push(c),
                }
            }
            for byte in chunk.invalid() {
                shown.push_str(&format!("\\x{byte:02x}"));
            }
        }
        f.pad(&shown)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_fill_its_field() {
        let full = "x".repeat(NAME_LEN);
        assert_eq!(Name::new(&full).unwrap().as_bytes(), full.as_bytes());
        assert_eq!(Name::new(&"x".repeat(NAME_LEN + 1)), Err(NameTooLong));
        assert_eq!(Name::new("a\0b"), Err(NameTooLong));
    }

    #[test]
    fn bytes_behind_the_nul_are_kept_but_do_not_count() {
        let mut bytes = Name::new("LS").unwrap().to_disk();
        bytes[5] = b'!';
        let name = Name::from_disk(bytes);
        assert_eq!(name, Name::new("LS").unwrap());
        assert_eq!(name.to_disk(), bytes);
    }

    #[test]
    fn a_terminal_is_not_commanded() {
        let mut bytes = [0; NAME_LEN];
        bytes[..4].copy_from_slice(b"a\x1b\xffz");
        assert_eq!(Name::from_disk(bytes).to_string(), "a\\u{1b}\\xffz");
        assert_eq!(
            format!("{:>4}|", Name::new("LS").unwrap()),
            "  LS|",
            "columns of a dump"
        );
    }
}
