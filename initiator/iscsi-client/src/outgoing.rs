//! One gathered send: headers, digests and padding written into a head buffer, payload named by range.
//!
//! The runtime owns the head buffer (the kernel reads it while the send is in flight) and turns the list of
//! pieces into an I/O vector. Nothing here allocates once the list has its capacity.

use crate::memory::BufferId;

/// A stretch of bytes of a send, in stream order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece {
    /// Bytes of the head buffer.
    Head {
        /// First byte in the head buffer.
        start: u32,
        /// Number of bytes.
        len: u32,
    },
    /// Bytes of one of the caller's buffers.
    Payload {
        /// Which buffer.
        buffer: BufferId,
        /// First byte in the buffer.
        offset: u32,
        /// Number of bytes.
        len: u32,
    },
}

/// A send under construction.
#[derive(Debug)]
pub struct Outgoing<'a> {
    head: &'a mut [u8],
    used: usize,
    pieces: &'a mut Vec<Piece>,
    bytes: usize,
    bytes_max: usize,
}

impl<'a> Outgoing<'a> {
    /// Starts an empty send. `pieces` is cleared; its capacity is the limit on pieces and is never exceeded.
    /// `bytes_max` bounds the payload of one send: a small command never waits behind more than that.
    pub fn new(head: &'a mut [u8], pieces: &'a mut Vec<Piece>, bytes_max: usize) -> Self {
        pieces.clear();
        Self {
            head,
            used: 0,
            pieces,
            bytes: 0,
            bytes_max,
        }
    }

    /// Whether a PDU with `head` bytes of header, digests and padding and `payload` bytes by reference still
    /// fits. The first PDU of a send may exceed the payload bound, or a large one could never leave.
    pub fn fits(&self, head: usize, payload: usize) -> bool {
        self.head.len() - self.used >= head
            && self.pieces.capacity() - self.pieces.len() >= 3
            && (self.pieces.is_empty() || self.bytes + payload <= self.bytes_max)
    }

    /// How many head bytes can still be appended, for a PDU that may leave in parts.
    pub fn head_room(&self) -> usize {
        if self.pieces.capacity() - self.pieces.len() < 1 {
            return 0;
        }
        self.head.len() - self.used
    }

    /// Appends bytes by copy.
    ///
    /// # Panics
    /// If they do not fit: ask [`Outgoing::fits`] first.
    pub fn push_head(&mut self, bytes: &[u8]) {
        let start = self.used;
        self.head[start..start + bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
        match self.pieces.last_mut() {
            // Adjacent head bytes travel as one piece, so that many small commands need one I/O vector.
            Some(Piece::Head { start: first, len }) if *first as usize + *len as usize == start => {
                *len += bytes.len() as u32;
            }
            _ => self.push(Piece::Head {
                start: start as u32,
                len: bytes.len() as u32,
            }),
        }
    }

    /// Appends payload by reference.
    ///
    /// # Panics
    /// If there is no room for a piece: ask [`Outgoing::fits`] first.
    pub fn push_payload(&mut self, buffer: BufferId, offset: u32, len: u32) {
        self.bytes += len as usize;
        self.push(Piece::Payload {
            buffer,
            offset,
            len,
        });
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    fn push(&mut self, piece: Piece) {
        assert!(
            self.pieces.len() < self.pieces.capacity(),
            "asked for a piece beyond the bound"
        );
        self.pieces.push(piece);
    }
}
