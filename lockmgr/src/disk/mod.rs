//! The disk as the driver of the machines sees it: whole sectors, read and written at once or not at all.
//!
//! The machines never hold a disk: they say what to read and write, and a driver does it here. A call may hang for as
//! long as the device does. That is safe: silence shuts the gate.
//!
//! What a write promises: when it returns `Ok`, the bytes are on the medium and every other host reads them. When it
//! returns an error, they may be there, or appear later.

mod aligned;
mod direct;

pub use aligned::AlignedBuf;
pub use direct::DirectDisk;

use std::fmt;
use std::io;

/// A device or file with lease areas on it.
pub trait Disk {
    /// Fills `into` from byte `offset`. Both are multiples of the sector size.
    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), DiskError>;

    /// Writes `from` at byte `offset`. Both are multiples of the sector size. Never makes a file longer.
    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), DiskError>;

    /// Size in bytes, now: devices and files grow.
    fn size(&mut self) -> Result<u64, DiskError>;
}

/// Why a disk did not do it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DiskError {
    /// The range ends behind the end. Whoever looks for the end of a lease volume waits for this.
    PastEnd {
        /// Where the range begins.
        offset: u64,
        /// Its length in bytes.
        len: usize,
    },
    /// The device or the kernel refused.
    Failed {
        /// Linux's number of the error.
        errno: i32,
    },
}

impl DiskError {
    /// For errors of the standard library. Those without a number are EIO (5).
    pub fn of(error: &io::Error) -> DiskError {
        let errno = error.raw_os_error().unwrap_or(5);
        DiskError::Failed { errno }
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiskError::PastEnd { offset, len } => {
                write!(f, "{len} bytes at byte {offset} lie behind the end")
            }
            DiskError::Failed { errno } => io::Error::from_raw_os_error(*errno).fmt(f),
        }
    }
}

impl std::error::Error for DiskError {}
