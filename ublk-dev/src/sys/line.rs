//! A link as the engine sees it: its socket, what is in flight on it, and what the kernel reads through pointers.

use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::types::Fd;

use super::memory::Range;
use super::socket::KernelAddress;

/// Pieces of one gathered send, at most. The kernel's own limit is 1024.
pub(crate) const PIECES_MAX: usize = 512;

/// Which memory a piece of a send lies in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// The engine's own: heads.
    Own(Range),
    /// The caller's payload buffers.
    Payload(Range),
}

impl Source {
    pub(super) fn range(&self) -> Range {
        let (Self::Own(range) | Self::Payload(range)) = *self;
        range
    }
}

/// A receive in flight, or the last one.
#[derive(Clone, Copy)]
pub(super) struct Incoming {
    pub(super) own: bool,
    pub(super) range: Range,
    /// Bytes of `range` filled by earlier, short completions.
    pub(super) done: u32,
    pub(super) flags: i32,
}

/// Everything of a link that the kernel reads through a pointer, and what it is doing.
pub(super) struct Line {
    pub(super) socket: Option<OwnedFd>,
    pub(super) address: KernelAddress,
    pub(super) message: libc::msghdr,
    pub(super) vector: Vec<libc::iovec>,
    pub(super) sources: Vec<Source>,
    /// Bytes of all pieces, and how many the kernel has taken.
    pub(super) send_total: u32,
    pub(super) send_done: u32,
    pub(super) incoming: Incoming,
    pub(super) connecting: bool,
    pub(super) sending: bool,
    pub(super) receiving: bool,
    pub(super) cancelling: u8,
}

impl Line {
    pub(super) fn new() -> Self {
        Self {
            socket: None,
            address: KernelAddress::empty(),
            // SAFETY: all-zero is a valid msghdr without name, vector and control data.
            message: unsafe { std::mem::zeroed() },
            vector: Vec::with_capacity(PIECES_MAX),
            sources: Vec::with_capacity(PIECES_MAX),
            send_total: 0,
            send_done: 0,
            incoming: Incoming {
                own: true,
                range: Range {
                    buffer: 0,
                    offset: 0,
                    len: 0,
                },
                done: 0,
                flags: 0,
            },
            connecting: false,
            sending: false,
            receiving: false,
            cancelling: 0,
        }
    }

    pub(super) fn busy(&self) -> bool {
        self.connecting || self.sending || self.receiving || self.cancelling > 0
    }

    pub(super) fn fd(&self) -> Fd {
        Fd(self
            .socket
            .as_ref()
            .expect("an operation on a link without a socket")
            .as_raw_fd())
    }
}
