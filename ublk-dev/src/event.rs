//! The words spoken with a ring: what to send, where to receive, what happened, and how to wake it.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use crate::link::{LinkId, LostReason};
use crate::request::BlockRequest;
use crate::slots::BufferId;

/// One piece of a gathered send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the link's header space.
    Head {
        /// First byte.
        start: u32,
        /// Bytes.
        len: u32,
    },
    /// Bytes of a payload buffer.
    Payload {
        /// Which buffer.
        buffer: BufferId,
        /// First byte in it.
        offset: u32,
        /// Bytes.
        len: u32,
    },
}

/// Where the next received bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Into {
    /// Whatever comes, into the link's staging buffer: [`Event::Received`].
    Staging,
    /// Exactly `len` bytes to their place: [`Event::Placed`].
    Buffer {
        /// Which buffer.
        buffer: BufferId,
        /// First byte in it.
        offset: u32,
        /// Bytes, at least one.
        len: u32,
    },
}

/// What happened since the last turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The kernel wants something of the block device; the tag and its buffer are ours until the commit.
    Request(BlockRequest),
    /// The connection stands. Nothing is armed yet.
    Connected {
        /// Which.
        link: LinkId,
    },
    /// Bytes came into the staging buffer; no receive is armed any more.
    Received {
        /// On which link.
        link: LinkId,
        /// How many, at least one.
        len: u32,
    },
    /// All bytes asked for are in their place; no receive is armed any more.
    Placed {
        /// On which link.
        link: LinkId,
        /// How many: what was asked for.
        len: u32,
    },
    /// All of the send is with the kernel: its pieces may be reused. Says nothing about delivery.
    Sent {
        /// On which link.
        link: LinkId,
    },
    /// The link is gone and nothing of it is in flight; the slot may be connected again.
    Lost {
        /// Which.
        link: LinkId,
        /// The first reason seen.
        why: LostReason,
    },
    /// Somebody used a [`Waker`], once or more.
    Wake,
    /// The device is being stopped and every tag has come home. No more requests will come.
    DeviceStopped,
}

/// Interrupts a ring's wait from any thread.
#[derive(Clone, Debug)]
pub struct Waker(pub(crate) Arc<File>);

impl Waker {
    /// Makes the ring's thread see [`Event::Wake`]. Many wakes before it looks are one.
    pub fn wake(&self) {
        // The counter can be full only after 2^64-2 unseen wakes; a ring that is gone needs no wake.
        let _ = (&*self.0).write(&1_u64.to_ne_bytes());
    }
}
