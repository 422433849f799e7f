//! What is said about the client with an acquisition.

use lockmgr::ondisk::Name;

use super::super::bytes::At;

mod field {
    use super::At;

    pub const OWNER_NAME: At = At(0);
    pub const FLAGS: At = At(48);
    pub const LEN: At = At(52);
}

/// Follows the resources of ACQUIRE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// What status calls the client from now on, if it is not empty.
    pub owner_name: Name,
    /// Without a meaning.
    pub flags: u32,
    /// Without a meaning: nothing follows.
    pub len: u32,
}

impl Options {
    /// Bytes of the struct.
    pub const LEN: usize = 56;

    /// Reads the struct.
    pub fn parse(bytes: &[u8; Options::LEN]) -> Options {
        Options {
            owner_name: field::OWNER_NAME.name(bytes),
            flags: field::FLAGS.u32(bytes),
            len: field::LEN.u32(bytes),
        }
    }

    /// The struct.
    pub fn emit(&self) -> [u8; Options::LEN] {
        let mut bytes = [0; Options::LEN];
        field::OWNER_NAME.put_name(&mut bytes, self.owner_name);
        field::FLAGS.put_u32(&mut bytes, self.flags);
        field::LEN.put_u32(&mut bytes, self.len);
        bytes
    }
}
