//! Caller's buffers as plain vectors, and the turn of a send: what every host of these tests needs.

use iscsi_client::memory::{BufferId, Memory};
use iscsi_client::outgoing::{Outgoing, Piece};

/// Buffers 0 to n, all of one length.
#[derive(Clone, Debug)]
pub struct Buffers(Vec<Vec<u8>>);

impl Buffers {
    /// `count` buffers of `len` bytes.
    pub fn new(count: usize, len: usize) -> Buffers {
        Buffers(vec![vec![0; len]; count])
    }

    /// A whole buffer.
    pub fn of(&mut self, buffer: BufferId) -> &mut Vec<u8> {
        &mut self.0[usize::from(buffer.0)]
    }
}

impl Memory for Buffers {
    fn read(&self, buffer: BufferId, offset: u32, len: u32) -> &[u8] {
        &self.0[usize::from(buffer.0)][offset as usize..][..len as usize]
    }

    fn write(&mut self, buffer: BufferId, offset: u32, len: u32) -> &mut [u8] {
        &mut self.0[usize::from(buffer.0)][offset as usize..][..len as usize]
    }
}

/// Head buffer and pieces of a send.
#[derive(Debug)]
pub struct Sender {
    head: Vec<u8>,
    pieces: Vec<Piece>,
}

impl Default for Sender {
    fn default() -> Self {
        Sender::new(16 << 10, 256)
    }
}

/// Payload bytes of one send.
const PAYLOAD_MAX: usize = 256 << 10;

impl Sender {
    /// A head buffer of `head` bytes and room for `pieces` pieces.
    pub fn new(head: usize, pieces: usize) -> Sender {
        Sender {
            head: vec![0; head],
            pieces: Vec::with_capacity(pieces),
        }
    }

    /// Lets `fill` fill a send and gathers it; empty if there is nothing to send.
    pub fn gather(
        &mut self,
        memory: &mut Buffers,
        fill: impl FnOnce(&mut Buffers, &mut Outgoing<'_>),
    ) -> Vec<u8> {
        let mut out = Outgoing::new(&mut self.head, &mut self.pieces, PAYLOAD_MAX);
        fill(memory, &mut out);
        let mut bytes = Vec::new();
        for piece in &self.pieces {
            match *piece {
                Piece::Head { start, len } => {
                    bytes.extend(&self.head[start as usize..][..len as usize]);
                }
                Piece::Payload {
                    buffer,
                    offset,
                    len,
                } => {
                    bytes.extend(memory.read(buffer, offset, len));
                }
            }
        }
        bytes
    }
}
