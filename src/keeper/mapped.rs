//! Lease areas on a logical volume, carried where its bytes really are: offsets of the logical volume in, offsets of the
//! volume below it out.
//!
//! The mapped device is not opened: who carries the volume below it, and waits for what is mapped onto that, waits for
//! itself. An extension is learned from the mapping by whoever looks at an area first ([`Mapping::grow`]), on a thread that
//! may wait; the keeper reads and writes only what was looked at. What was mapped stays where it is: LVM neither moves nor
//! shrinks the logical volume of a lockspace that is in use, and a mapping that says otherwise is not followed.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::disk::{Job, LeaseDisk};

/// Beyond the end of every disk: a job there fails as one that does not fit, and nothing of it is sent.
const NOWHERE: u64 = u64::MAX;

/// A stretch of a logical volume, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Where it begins on the volume below.
    pub start: u64,
    /// Its length.
    pub len: u64,
}

/// Why a range is nowhere on the volume below.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unmapped {
    /// It ends behind the end.
    PastEnd,
    /// It lies in two pieces.
    Apart,
}

/// All of a logical volume, from its first byte to its last.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Extents(Vec<Extent>);

impl Extents {
    /// In their order. Those that continue each other become one; `None` if the sum of lengths, or an end, is no offset.
    pub fn new(all: impl IntoIterator<Item = Extent>) -> Option<Extents> {
        let mut extents: Vec<Extent> = Vec::new();
        let mut total = 0_u64;
        for next in all {
            total = total.checked_add(next.len)?;
            next.start.checked_add(next.len)?;
            match extents.last_mut() {
                Some(last) if last.start + last.len == next.start => last.len += next.len,
                _ => extents.push(next),
            }
        }
        Some(Extents(extents))
    }

    /// Bytes of the logical volume.
    pub fn size(&self) -> u64 {
        self.0.iter().map(|extent| extent.len).sum()
    }

    /// The stretches, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Extent> {
        self.0.iter()
    }

    /// Where `len` bytes from `offset` on are, on the volume below.
    ///
    /// # Errors
    /// They are not in one piece there.
    pub fn locate(&self, offset: u64, len: u64) -> Result<u64, Unmapped> {
        let end = offset.checked_add(len).ok_or(Unmapped::PastEnd)?;
        if end > self.size() {
            return Err(Unmapped::PastEnd);
        }
        let mut before = 0;
        for extent in &self.0 {
            if offset - before < extent.len {
                let inside = end - before <= extent.len;
                let at = extent.start + (offset - before);
                return inside.then_some(at).ok_or(Unmapped::Apart);
            }
            before += extent.len;
        }
        Err(Unmapped::PastEnd)
    }

    /// Whether `other` begins with all of this.
    fn is_start_of(&self, other: &Extents) -> bool {
        let mut before = 0;
        self.0.iter().all(|extent| {
            let same = other.locate(before, extent.len) == Ok(extent.start);
            before += extent.len;
            same
        })
    }
}

/// The mapping moved, or became shorter: it is not what the lockspace was joined on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moved;

/// The present extents, shared by who reads and writes and who looks for the end.
#[derive(Clone)]
pub struct Mapping(Arc<Mutex<Arc<Extents>>>);

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.now().fmt(f)
    }
}

impl Mapping {
    /// As it is now.
    pub fn new(extents: Extents) -> Mapping {
        Mapping(Arc::new(Mutex::new(Arc::new(extents))))
    }

    /// The present extents.
    pub fn now(&self) -> Arc<Extents> {
        // Held for as long as a pointer takes to copy.
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The logical volume has these now.
    ///
    /// # Errors
    /// They do not begin with what it had; nothing is changed.
    pub fn grow(&self, extents: Extents) -> Result<(), Moved> {
        let mut present = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !present.is_start_of(&extents) {
            return Err(Moved);
        }
        *present = Arc::new(extents);
        Ok(())
    }
}

/// A disk below, seen through a mapping.
#[derive(Debug)]
pub struct Mapped<D> {
    below: D,
    mapping: Mapping,
}

impl<D: LeaseDisk> Mapped<D> {
    /// Jobs in terms of the logical volume are carried by `below`.
    pub fn new(below: D, mapping: Mapping) -> Mapped<D> {
        Mapped { below, mapping }
    }
}

impl<D: LeaseDisk> LeaseDisk for Mapped<D> {
    fn start(&mut self, mut job: Job) {
        let (offset, len) = match &mut job {
            Job::Read { offset, len, .. } => (offset, *len),
            Job::Write { offset, bytes, .. } => (offset, bytes.len()),
        };
        let found = self.mapping.now().locate(*offset, len as u64);
        *offset = found.unwrap_or(NOWHERE);
        self.below.start(job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::{Sender, unbounded};
    use lockmgr::time::Instant;
    use lockmgr::{IoId, Writers};

    const MIB: u64 = 1 << 20;

    fn extents(all: &[(u64, u64)]) -> Extents {
        let extent = |&(start, len)| Extent {
            start: start * MIB,
            len: len * MIB,
        };
        Extents::new(all.iter().map(extent)).unwrap()
    }

    #[test]
    fn what_continues_is_one_piece_and_the_rest_is_found_piece_by_piece() {
        let lv = extents(&[(1, 4), (5, 4), (100, 2), (50, 1)]);
        assert_eq!(lv.iter().count(), 3);
        assert_eq!(lv.size(), 11 * MIB);
        for (offset, len, at) in [
            (0, 8, Ok(1)),
            (3, 2, Ok(4)),
            (7, 1, Ok(8)),
            (7, 2, Err(Unmapped::Apart)),
            (8, 2, Ok(100)),
            (9, 2, Err(Unmapped::Apart)),
            (10, 1, Ok(50)),
            (10, 2, Err(Unmapped::PastEnd)),
            (11, 1, Err(Unmapped::PastEnd)),
        ] {
            let found = lv.locate(offset * MIB, len * MIB);
            assert_eq!(found, at.map(|mib: u64| mib * MIB), "{offset}+{len}");
        }
        assert_eq!(lv.locate(u64::MAX, 2), Err(Unmapped::PastEnd));
        let nothing = Extents::default();
        assert_eq!(nothing.locate(0, 512), Err(Unmapped::PastEnd));
    }

    #[test]
    fn offsets_that_no_disk_has_make_no_extents() {
        let from = |start, len| Extents::new([Extent { start, len }]);
        assert_eq!(from(u64::MAX, 1), None);
        let half = |start| Extent {
            start,
            len: 1 << 63,
        };
        assert_eq!(Extents::new([half(0), half(5)]), None);
    }

    #[test]
    fn it_grows_and_does_nothing_else() {
        let mapping = Mapping::new(extents(&[(1, 4), (10, 4)]));
        for other in [
            extents(&[(1, 4)]),
            extents(&[(2, 4), (10, 4)]),
            extents(&[(1, 4), (11, 4)]),
            extents(&[(1, 4), (10, 3), (20, 4)]),
            Extents::default(),
        ] {
            assert_eq!(mapping.grow(other), Err(Moved));
        }
        assert_eq!(mapping.now().size(), 8 * MIB);
        mapping.grow(extents(&[(1, 4), (10, 5), (30, 1)])).unwrap();
        assert_eq!(mapping.now().size(), 10 * MIB);
        assert_eq!(mapping.now().locate(9 * MIB, MIB), Ok(30 * MIB));
    }

    /// Says where each job would go.
    struct Below(Sender<u64>);

    impl LeaseDisk for Below {
        fn start(&mut self, job: Job) {
            let (Job::Read { offset, .. } | Job::Write { offset, .. }) = job;
            self.0.send(offset).unwrap();
        }
    }

    #[test]
    fn what_is_not_mapped_goes_where_nothing_is_sent() {
        let (tell, told) = unbounded();
        let mapping = Mapping::new(extents(&[(1, 2), (10, 2)]));
        let mut disk = Mapped::new(Below(tell), mapping.clone());
        let deadline = Instant::from_nanos(1);
        let mut read = |offset: u64, mib: u64| {
            disk.start(Job::Read {
                id: IoId::new(1),
                offset,
                len: (mib * MIB) as usize,
                deadline,
            });
            let at = told.recv().unwrap();
            let bytes = vec![0; 512].into_boxed_slice();
            disk.start(Job::Write {
                id: IoId::new(2),
                offset,
                bytes,
                deadline,
                writers: Writers::Many,
            });
            (at, told.recv().unwrap())
        };
        assert_eq!(read(512, 1), (MIB + 512, MIB + 512));
        assert_eq!(read(2 * MIB, 2), (10 * MIB, 10 * MIB));
        assert_eq!(read(MIB, 2), (NOWHERE, 2 * MIB));
        assert_eq!(read(4 * MIB, 1), (NOWHERE, NOWHERE));
        mapping.grow(extents(&[(1, 2), (10, 2), (7, 1)])).unwrap();
        assert_eq!(read(4 * MIB, 1), (7 * MIB, 7 * MIB));
    }
}
