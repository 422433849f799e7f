//! Command descriptor blocks.

/// A CDB of up to sixteen bytes, zero-filled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cdb(pub [u8; 16]);
