//! The one place where the protocol's idea of memory meets the block device's buffers.
//!
//! Neither `iscsi-client` nor `ublk-dev` knows the other; a buffer's number means the same to both.

use iscsi_client::memory::{BufferId, Memory};
use ublk_dev::Slots;

/// A queue's buffers, as the state machines see them.
pub struct TagMemory<'a>(pub &'a mut Slots);

impl Memory for TagMemory<'_> {
    fn read(&self, buffer: BufferId, offset: u32, len: u32) -> &[u8] {
        self.0.read(ublk_dev::BufferId(buffer.0), offset, len)
    }

    fn write(&mut self, buffer: BufferId, offset: u32, len: u32) -> &mut [u8] {
        self.0.write(ublk_dev::BufferId(buffer.0), offset, len)
    }
}
