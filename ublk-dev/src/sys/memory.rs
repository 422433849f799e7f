//! Page-aligned buffers that are lent to the kernel, and the books of what is lent.
//!
//! One anonymous mapping holds all buffers of one kind. [`Buffers`] is the only handle that makes slices, so the
//! borrow checker orders our own reads and writes; [`Memory`] is shared with the engine, which keeps the
//! mapping alive and notes what the kernel may touch:
//!
//! ```text
//!            owner        written by            read by
//! driver     the tag's whole buffer (from COMMIT or FETCH until the next request, or the end)
//! receive    one range per link (from RECV to its completion)
//! send                                          whole buffers, counted (from SENDMSG to its completion)
//! ```
//!
//! A slice of something the kernel may write, or a mutable slice of something it may read, is a bug of ours
//! and panics. The engine takes `&mut Buffers` where it starts lending for writing, which proves that no slice
//! made earlier is still alive.

use std::cell::Cell;
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;

/// Links of one ring, at most: one bit each in the books.
pub(crate) const LINKS_MAX: usize = 16;

/// A range of one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) buffer: u16,
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

impl Range {
    fn overlaps(&self, other: &Range) -> bool {
        self.buffer == other.buffer
            && u64::from(self.offset) < u64::from(other.offset) + u64::from(other.len)
            && u64::from(other.offset) < u64::from(self.offset) + u64::from(self.len)
    }
}

struct Buffer {
    start: usize,
    len: u32,
    /// Sends in flight that read this buffer.
    readers: Cell<u32>,
    /// The ublk driver may write it at any enter: its tag is not in our hands.
    driver: Cell<bool>,
}

/// The mapping and the books; lives as long as anything may touch it.
pub(crate) struct Memory {
    base: NonNull<u8>,
    len: usize,
    buffers: Box<[Buffer]>,
    /// The range a link's receive may write, by link.
    placing: [Cell<Option<Range>>; LINKS_MAX],
}

impl Memory {
    fn new(lens: impl Iterator<Item = u32>) -> io::Result<Self> {
        let page = super::host::page_bytes();
        let mut len = 0;
        let buffers = lens
            .map(|wanted| {
                let start = len;
                len += (wanted as usize).next_multiple_of(page);
                Buffer {
                    start,
                    len: wanted,
                    readers: Cell::new(0),
                    driver: Cell::new(false),
                }
            })
            .collect::<Box<[Buffer]>>();
        assert!(len > 0, "buffers without a byte");
        // SAFETY: a fresh anonymous mapping at an address the kernel chooses touches no existing memory.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // A child between fork and exec must not make these pages copy-on-write under the kernel's pins.
        // SAFETY: the range is the mapping just made; the advice changes nothing in this process.
        let advised = unsafe { libc::madvise(base, len, libc::MADV_DONTFORK) };
        assert_eq!(advised, 0, "MADV_DONTFORK refused on our own mapping");
        let base = NonNull::new(base.cast::<u8>()).expect("mmap never returns null");
        Ok(Self {
            base,
            len,
            buffers,
            placing: [const { Cell::new(None) }; LINKS_MAX],
        })
    }

    /// The address of a range, checked against the buffer's bounds; for the kernel, never dereferenced here.
    pub(crate) fn address(&self, range: Range) -> *mut u8 {
        let buffer = &self.buffers[usize::from(range.buffer)];
        let end = u64::from(range.offset) + u64::from(range.len);
        assert!(
            end <= u64::from(buffer.len),
            "{range:?} ends outside its buffer of {}",
            buffer.len
        );
        // SAFETY: start + offset lies inside the mapping, as just asserted.
        unsafe { self.base.as_ptr().add(buffer.start + range.offset as usize) }
    }

    fn assert_not_written(&self, range: Range) {
        assert!(
            !self.buffers[usize::from(range.buffer)].driver.get(),
            "{range:?} belongs to the driver: its tag is not in our hands"
        );
        for (link, placing) in self.placing.iter().enumerate() {
            if let Some(lent) = placing.get() {
                assert!(
                    !lent.overlaps(&range),
                    "{range:?} overlaps {lent:?} of link {link}'s receive"
                );
            }
        }
    }

    pub(crate) fn lend_to_receive(&self, link: u8, range: Range) {
        self.assert_not_written(range);
        let buffer = &self.buffers[usize::from(range.buffer)];
        assert_eq!(
            buffer.readers.get(),
            0,
            "receive into {range:?} while a send reads it"
        );
        let before = self.placing[usize::from(link)].replace(Some(range));
        assert_eq!(before, None, "second receive on link {link}");
    }

    pub(crate) fn return_from_receive(&self, link: u8) {
        let lent = self.placing[usize::from(link)].take();
        assert!(lent.is_some(), "link {link} had no receive");
    }

    pub(crate) fn lend_to_send(&self, range: Range) {
        self.assert_not_written(range);
        let readers = &self.buffers[usize::from(range.buffer)].readers;
        readers.set(readers.get() + 1);
    }

    pub(crate) fn return_from_send(&self, buffer: u16) {
        let readers = &self.buffers[usize::from(buffer)].readers;
        readers.set(
            readers
                .get()
                .checked_sub(1)
                .expect("a send returned what it had not borrowed"),
        );
    }

    /// Hands the whole buffer to the driver, which nothing on a link may touch any more.
    pub(crate) fn lend_to_driver(&self, buffer: u16) {
        assert!(
            !self.lent_to_a_link(buffer),
            "buffer {buffer} is still on a link"
        );
        let was = self.buffers[usize::from(buffer)].driver.replace(true);
        assert!(!was, "buffer {buffer} handed to the driver twice");
    }

    pub(crate) fn return_from_driver(&self, buffer: u16) {
        let was = self.buffers[usize::from(buffer)].driver.replace(false);
        assert!(was, "buffer {buffer} was not with the driver");
    }

    pub(crate) fn lent_to_a_link(&self, buffer: u16) -> bool {
        self.buffers[usize::from(buffer)].readers.get() > 0
            || self
                .placing
                .iter()
                .any(|p| p.get().is_some_and(|lent| lent.buffer == buffer))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and dropping the last owner means that no slice and no engine is left.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// The one handle through which our own code sees the bytes.
pub(crate) struct Buffers {
    memory: Rc<Memory>,
}

impl Buffers {
    /// Maps and touches one zeroed, page-aligned buffer per length.
    pub(crate) fn new(lens: impl Iterator<Item = u32>) -> io::Result<Self> {
        Ok(Self {
            memory: Rc::new(Memory::new(lens)?),
        })
    }

    pub(crate) fn memory(&self) -> &Rc<Memory> {
        &self.memory
    }

    pub(crate) fn read(&self, range: Range) -> &[u8] {
        let address = self.memory.address(range);
        self.memory.assert_not_written(range);
        // SAFETY: in bounds and mapped while `memory` lives; nobody writes it: the kernel not, as just asserted
        // (and lending for writing needs `&mut self`), our own code not, since `write` needs `&mut self`.
        unsafe { std::slice::from_raw_parts(address, range.len as usize) }
    }

    pub(crate) fn write(&mut self, range: Range) -> &mut [u8] {
        let address = self.memory.address(range);
        self.memory.assert_not_written(range);
        let readers = self.memory.buffers[usize::from(range.buffer)].readers.get();
        assert_eq!(readers, 0, "{range:?} is being sent");
        // SAFETY: in bounds and mapped while `memory` lives; `&mut self` excludes our other slices, the
        // assertions exclude the kernel.
        unsafe { std::slice::from_raw_parts_mut(address, range.len as usize) }
    }

    /// Copies between two buffers.
    pub(crate) fn copy(&mut self, from: Range, to: Range) {
        assert!(from.buffer != to.buffer && from.len == to.len);
        let source: *const u8 = self.read(from).as_ptr();
        let place = self.write(to);
        // SAFETY: `source` has `from.len` readable bytes, as `read` checked a moment ago; the two lie in different
        // buffers, so they do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(source, place.as_mut_ptr(), place.len()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(buffer: u16, offset: u32, len: u32) -> Range {
        Range {
            buffer,
            offset,
            len,
        }
    }

    fn panics(act: impl FnOnce() + std::panic::UnwindSafe) -> bool {
        std::panic::catch_unwind(act).is_err()
    }

    #[test]
    fn a_copy_lands_where_it_should_and_nowhere_else() {
        let mut buffers = Buffers::new([4096, 8192].into_iter()).unwrap();
        buffers.write(range(0, 0, 512)).fill(7);
        buffers.copy(range(0, 0, 512), range(1, 1024, 512));
        assert!(
            buffers
                .read(range(1, 1024, 512))
                .iter()
                .all(|byte| *byte == 7)
        );
        assert!(
            buffers
                .read(range(1, 0, 1024))
                .iter()
                .all(|byte| *byte == 0)
        );
        assert!(
            buffers
                .read(range(1, 1536, 512))
                .iter()
                .all(|byte| *byte == 0)
        );
        assert!(panics(std::panic::AssertUnwindSafe(move || {
            buffers.copy(range(0, 0, 512), range(0, 1024, 512));
        })));
    }

    #[test]
    fn buffers_are_page_aligned_zeroed_and_apart() {
        let mut buffers = Buffers::new([5000, 4096].into_iter()).unwrap();
        buffers.write(range(0, 0, 5000)).fill(7);
        assert!(
            buffers
                .read(range(1, 0, 4096))
                .iter()
                .all(|byte| *byte == 0)
        );
        for buffer in 0..2 {
            let address = buffers.memory().address(range(buffer, 0, 1)) as usize;
            assert_eq!(address % crate::sys::host::page_bytes(), 0);
        }
    }

    #[test]
    fn what_the_kernel_may_write_gives_no_slice() {
        let buffers = Buffers::new([4096].into_iter()).unwrap();
        buffers.memory().lend_to_receive(3, range(0, 100, 100));
        assert_eq!(buffers.read(range(0, 0, 100)).len(), 100);
        assert_eq!(buffers.read(range(0, 200, 100)).len(), 100);
        let buffers = std::panic::AssertUnwindSafe(buffers);
        assert!(panics(|| assert!(
            !buffers.read(range(0, 199, 2)).is_empty()
        )));
        buffers.memory().return_from_receive(3);
        assert_eq!(buffers.read(range(0, 199, 2)).len(), 2);
        buffers.memory().lend_to_driver(0);
        assert!(panics(|| assert!(!buffers.read(range(0, 0, 1)).is_empty())));
    }

    #[test]
    fn what_is_being_sent_can_be_read_but_not_written_or_committed() {
        let mut buffers = Buffers::new([4096].into_iter()).unwrap();
        buffers.memory().lend_to_send(range(0, 0, 10));
        assert_eq!(buffers.read(range(0, 0, 10)).len(), 10);
        assert!(panics(std::panic::AssertUnwindSafe(|| buffers
            .memory()
            .lend_to_driver(0))));
        assert!(panics(std::panic::AssertUnwindSafe(|| {
            buffers.write(range(0, 5, 1));
        })));
        buffers.memory().return_from_send(0);
        assert_eq!(buffers.write(range(0, 5, 1)).len(), 1);
    }

    #[test]
    fn ranges_outside_a_buffer_are_refused_even_inside_the_mapping() {
        let buffers = std::panic::AssertUnwindSafe(Buffers::new([10, 10].into_iter()).unwrap());
        assert!(panics(|| assert!(!buffers.read(range(0, 5, 6)).is_empty())));
        assert!(panics(|| assert!(
            !buffers.read(range(0, u32::MAX, u32::MAX)).is_empty()
        )));
        assert!(panics(|| assert!(!buffers.read(range(2, 0, 1)).is_empty())));
    }
}
