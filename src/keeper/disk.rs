//! A lease disk as the keeper sees it: jobs go in and never block, answers come back through a channel.
//!
//! Leases that lie on other devices than their lockspace ([`elsewhere`](super::elsewhere)) are told apart by their offsets. What carries
//! the jobs differs: a thread with a file descriptor for files and foreign devices, sessions of the keeper's own for
//! a volume that sanblk carries. The rules are one:
//!
//! - Every job is answered once, a read at the latest soon after its deadline.
//! - A write that may have executed, or still may, is answered [`WriteOutcome::Unknown`]; a [`Answer::Fenced`] follows as soon
//!   as nothing of it can take effect any more.
//! - A write to a sector that others write too is sent once. One with a single writer may be sent again unchanged, also
//!   while the first copy is under way: then [`WriteOutcome::Doubled`] may be the answer, and [`Answer::Settled`] follows, or
//!   a fence.
//! - Nothing of a write is sent after its deadline, not by the kernel's socket either.

use lockmgr::time::Instant;
use lockmgr::{IoId, LeaseId, ReadFailed, WriteOutcome, Writers};

/// What to do.
#[derive(Debug)]
pub enum Job {
    /// Read `len` bytes.
    Read {
        /// Its number.
        id: IoId,
        /// Bytes from the start of the device, and its number ([`LeaseId`]).
        offset: u64,
        /// Bytes wanted.
        len: usize,
        /// `CLOCK_BOOTTIME`; answered as failed then.
        deadline: Instant,
    },
    /// Write one sector.
    Write {
        /// Its number.
        id: IoId,
        /// Bytes from the start of the device, and its number ([`LeaseId`]).
        offset: u64,
        /// The sector.
        bytes: Box<[u8]>,
        /// `CLOCK_BOOTTIME`; nothing of it is sent after that.
        deadline: Instant,
        /// Whether it may be sent more than once.
        writers: Writers,
    },
}

/// What became of it.
#[derive(Debug)]
pub enum Answer {
    /// A read ended.
    Read {
        /// Its number.
        id: IoId,
        /// Exactly as many bytes as were asked for.
        data: Result<Vec<u8>, ReadFailed>,
    },
    /// A write ended.
    Wrote {
        /// Its number.
        id: IoId,
        /// How.
        outcome: WriteOutcome,
    },
    /// No write to the same device up to and including this number can take effect any more.
    Fenced {
        /// The number.
        through: IoId,
    },
    /// No copy of this write, which was answered as doubled, can take effect any more.
    Settled {
        /// Its number.
        id: IoId,
    },
}

/// Carries the jobs of one lockspace. Its answers go to the channel that it was opened with.
pub trait LeaseDisk: Send {
    /// Takes a job. Returns at once, whatever the device does.
    fn start(&mut self, job: Job);

    /// Leases that are held, or with which something is under way. Called about once a second: what serves no lease any more
    /// need not be kept open.
    fn in_use(&mut self, leases: &mut dyn Iterator<Item = LeaseId>) {
        let _ = leases;
    }
}
