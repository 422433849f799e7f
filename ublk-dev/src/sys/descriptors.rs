//! The array in which the ublk driver describes the requests of one queue.
//!
//! The driver lays queues out for its own maximum depth (4096), not for ours: with the wrong stride queue 1
//! would silently read queue 0's descriptors.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use libublk::sys::{UBLK_MAX_QUEUE_DEPTH, UBLKSRV_CMD_BUF_OFFSET, ublksrv_io_desc};

/// Read-only view of one queue's descriptors. Unmapped on drop; a mapping left behind keeps the device's number taken.
pub(crate) struct Descriptors {
    base: NonNull<ublksrv_io_desc>,
    len: usize,
    depth: u16,
}

/// Distance between the arrays of two queues in the character device, in bytes.
pub(crate) fn stride_bytes(page: usize) -> usize {
    (UBLK_MAX_QUEUE_DEPTH as usize * size_of::<ublksrv_io_desc>()).next_multiple_of(page)
}

impl Descriptors {
    pub(crate) fn map(device: BorrowedFd<'_>, queue: u16, depth: u16) -> io::Result<Self> {
        let page = super::host::page_bytes();
        let len = (usize::from(depth) * size_of::<ublksrv_io_desc>()).next_multiple_of(page);
        let offset = UBLKSRV_CMD_BUF_OFFSET as usize + usize::from(queue) * stride_bytes(page);
        // SAFETY: a new shared mapping at an address the kernel chooses touches no existing memory.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                device.as_raw_fd(),
                offset as libc::off_t,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).expect("mmap never returns null");
        Ok(Self { base, len, depth })
    }

    /// The tag's descriptor. Meaningful between the request's arrival and its commit.
    pub(crate) fn read(&self, tag: u16) -> ublksrv_io_desc {
        assert!(tag < self.depth, "tag {tag} of a queue of {}", self.depth);
        // SAFETY: tag < depth, so the element lies in the mapping.
        let descriptor = unsafe { self.base.as_ptr().add(usize::from(tag)) };
        // SAFETY: mapped, aligned (24-byte elements from a page boundary), plain integers. Volatile because the
        // driver writes it; it does so before the completion that made us look, so the value is whole.
        unsafe { descriptor.read_volatile() }
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        // SAFETY: our own mapping, and `read` returns copies, so nothing points into it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_stride_is_that_of_the_drivers_maximum_depth() {
        assert_eq!(super::stride_bytes(4096), 98_304);
        assert_eq!(super::stride_bytes(65_536), 131_072);
    }
}
