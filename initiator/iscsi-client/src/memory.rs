//! The caller's payload memory, spoken of by handle.
//!
//! Payload never enters the state machines: a command says *which* buffer, the session says *which range*,
//! and only the runtime knows where the bytes are. Small payload that arrived staged is copied through this
//! trait; large payload is received in place by the runtime, and the session only looks at it where a
//! data digest was negotiated.

/// Names one buffer of the caller: a request's own buffer, or scratch space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BufferId(pub u16);

/// Access to the caller's buffers. An implementation panics on a range outside the buffer: the session
/// checks every range the peer names against the command before it asks.
pub trait Memory {
    /// `len` bytes at `offset` of `buffer`, to be sent or digested.
    fn read(&self, buffer: BufferId, offset: u32, len: u32) -> &[u8];

    /// `len` bytes at `offset` of `buffer`, to be filled with received data.
    fn write(&mut self, buffer: BufferId, offset: u32, len: u32) -> &mut [u8];
}
