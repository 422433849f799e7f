//! All payload memory of one queue: a buffer per tag, and a scratch buffer per link.
//!
//! A tag's buffer is with the driver while the tag is idle, ours while its request is. Between, sends and
//! receives borrow it. The books of who has what are kept below, in `sys/memory.rs`; asking for bytes that are
//! not ours at that moment is a bug and panics.

use std::io;

use crate::sys::memory::{Buffers, Range};
use crate::{LinkId, Tag};

/// Names one buffer of a [`Slots`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub u16);

impl From<Tag> for BufferId {
    fn from(tag: Tag) -> Self {
        Self(tag.0)
    }
}

/// The payload memory of a queue: one mapping, page aligned, every page touched.
///
/// Buffers `0..depth` belong to the tags. Behind them lie the scratch buffers, one per link, for parameter data, and
/// behind those the spares, which belong to nobody: for second copies of reads, and for data that nobody wants.
pub struct Slots {
    buffers: Buffers,
    depth: u16,
    scratch_count: u8,
    io_bytes_max: u32,
    scratch_bytes: u32,
    spare_count: u16,
}

impl Slots {
    /// Maps `depth` buffers of `io_bytes_max` bytes and `scratch_count` of `scratch_bytes`, all zero.
    ///
    /// # Errors
    ///
    /// The kernel refused the memory (ENOMEM, or EAGAIN under a memlock limit).
    ///
    /// # Panics
    ///
    /// If there is not a byte to map.
    pub fn new(
        depth: u16,
        io_bytes_max: u32,
        scratch_count: u8,
        scratch_bytes: u32,
    ) -> io::Result<Self> {
        Self::with_spares(depth, io_bytes_max, scratch_count, scratch_bytes, 0, 0)
    }

    /// As [`new`](Self::new), with `spare_count` spares of `spare_bytes` besides.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_spares(
        depth: u16,
        io_bytes_max: u32,
        scratch_count: u8,
        scratch_bytes: u32,
        spare_count: u16,
        spare_bytes: u32,
    ) -> io::Result<Self> {
        let tags = std::iter::repeat_n(io_bytes_max, usize::from(depth));
        let scratch = std::iter::repeat_n(scratch_bytes, usize::from(scratch_count));
        let spares = std::iter::repeat_n(spare_bytes, usize::from(spare_count));
        let buffers = Buffers::new(tags.chain(scratch).chain(spares))?;
        Ok(Self {
            buffers,
            depth,
            scratch_count,
            io_bytes_max,
            scratch_bytes,
            spare_count,
        })
    }

    /// Tags, and so tag buffers.
    pub fn depth(&self) -> u16 {
        self.depth
    }

    /// Bytes of one tag's buffer: the largest block request.
    pub fn io_bytes_max(&self) -> u32 {
        self.io_bytes_max
    }

    /// Bytes of one scratch buffer.
    pub fn scratch_bytes(&self) -> u32 {
        self.scratch_bytes
    }

    /// The link's scratch buffer.
    ///
    /// # Panics
    ///
    /// If the link has none.
    pub fn scratch(&self, link: LinkId) -> BufferId {
        assert!(
            link.0 < self.scratch_count,
            "{link:?} of {} scratch buffers",
            self.scratch_count
        );
        BufferId(self.depth + u16::from(link.0))
    }

    /// The first spare and how many there are; the others follow it.
    pub fn spares(&self) -> (BufferId, u16) {
        let first = self.depth + u16::from(self.scratch_count);
        (BufferId(first), self.spare_count)
    }

    /// Copies `len` bytes from the start of one buffer into another.
    ///
    /// # Panics
    ///
    /// As [`read`](Self::read) of the one and [`write`](Self::write) of the other, or if they are the same.
    pub fn copy(&mut self, from: BufferId, to: BufferId, offset: u32, len: u32) {
        assert_ne!(from, to, "a copy within one buffer");
        self.buffers.copy(
            Range {
                buffer: from.0,
                offset: 0,
                len,
            },
            Range {
                buffer: to.0,
                offset,
                len,
            },
        );
    }

    /// `len` bytes of a buffer.
    ///
    /// # Panics
    ///
    /// Outside the buffer; while a receive may write there; while the tag is with the driver.
    pub fn read(&self, buffer: BufferId, offset: u32, len: u32) -> &[u8] {
        self.buffers.read(Range {
            buffer: buffer.0,
            offset,
            len,
        })
    }

    /// `len` bytes of a buffer, to be filled.
    ///
    /// # Panics
    ///
    /// As [`read`](Self::read), and while a send reads this buffer.
    pub fn write(&mut self, buffer: BufferId, offset: u32, len: u32) -> &mut [u8] {
        self.buffers.write(Range {
            buffer: buffer.0,
            offset,
            len,
        })
    }

    /// Whether a send or receive of any link may still touch the buffer. Its tag must not be committed while so.
    pub fn on_wire(&self, buffer: BufferId) -> bool {
        self.buffers.memory().lent_to_a_link(buffer.0)
    }

    pub(crate) fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    pub(crate) fn buffers_mut(&mut self) -> &mut Buffers {
        &mut self.buffers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_buffers_lie_behind_the_tags() {
        let mut slots = Slots::new(4, 8192, 2, 512).unwrap();
        assert_eq!(slots.scratch(LinkId(1)), BufferId(5));
        slots.write(BufferId(5), 0, 512).fill(9);
        slots.write(Tag(3).into(), 8191, 1).fill(8);
        assert!(
            slots
                .read(slots.scratch(LinkId(0)), 0, 512)
                .iter()
                .all(|byte| *byte == 0)
        );
        assert_eq!(slots.read(BufferId(3), 8191, 1), [8]);
        assert!(!slots.on_wire(BufferId(3)));
    }

    #[test]
    #[should_panic(expected = "ends outside its buffer")]
    fn a_range_past_the_end_is_our_bug() {
        Slots::new(1, 4096, 1, 4096)
            .unwrap()
            .read(BufferId(0), 4095, 2);
    }
}
