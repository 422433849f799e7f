//! A buffer that direct I/O takes: its address is a multiple of the largest sector size.

use std::ops::{Deref, DerefMut};

/// Multiple of every sector size and of the page size.
const ALIGN: usize = 4096;

/// Bytes at an address that is a multiple of 4096. They never move, though the buffer itself may.
#[derive(Debug)]
pub struct AlignedBuf {
    /// Never grown, so what it points to stays where it is.
    storage: Box<[u8]>,
    start: usize,
    len: usize,
}

impl AlignedBuf {
    /// `len` zeros.
    pub fn zeroed(len: usize) -> AlignedBuf {
        let storage = vec![0; len + ALIGN].into_boxed_slice();
        let start = storage.as_ptr().align_offset(ALIGN);
        assert!(start < ALIGN, "an aligned address lies within the slack");
        AlignedBuf {
            storage,
            start,
            len,
        }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.storage[self.start..self.start + self.len]
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stay_aligned_wherever_the_buffer_moves() {
        let buffers: Vec<AlignedBuf> = [0, 1, 512, 1 << 20].map(AlignedBuf::zeroed).into();
        for (mut buffer, len) in buffers.into_iter().zip([0, 1, 512, 1 << 20]) {
            assert_eq!(buffer.as_ptr().align_offset(ALIGN), 0);
            assert_eq!(*buffer, vec![0; len]);
            buffer.fill(7);
            assert!(buffer.iter().all(|&byte| byte == 7));
        }
    }
}
