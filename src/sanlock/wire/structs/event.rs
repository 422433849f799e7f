//! Events: what hosts of a lockspace tell each other.

use super::super::bytes::At;
use super::super::header::{HEADER_LEN, Header, PROTOCOL};

mod field {
    use super::At;

    pub const HOST_ID: At = At(0);
    pub const GENERATION: At = At(8);
    pub const EVENT: At = At(16);
    pub const DATA: At = At(24);

    /// From the start of a callback.
    pub const FROM_HOST_ID: At = At(64);
    pub const FROM_GENERATION: At = At(72);
}

/// An event and the host that it is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HostEvent {
    /// Host number.
    pub host_id: u64,
    /// Its generation.
    pub generation: u64,
    /// The event: numbers without a meaning to the lock manager.
    pub event: u64,
    /// More of it.
    pub data: u64,
}

impl HostEvent {
    /// Bytes of the struct.
    pub const LEN: usize = 32;

    /// Reads the struct.
    pub fn parse(bytes: &[u8; HostEvent::LEN]) -> HostEvent {
        HostEvent {
            host_id: field::HOST_ID.u64(bytes),
            generation: field::GENERATION.u64(bytes),
            event: field::EVENT.u64(bytes),
            data: field::DATA.u64(bytes),
        }
    }

    /// The struct.
    pub fn emit(&self) -> [u8; HostEvent::LEN] {
        let mut bytes = [0; HostEvent::LEN];
        field::HOST_ID.put_u64(&mut bytes, self.host_id);
        field::GENERATION.put_u64(&mut bytes, self.generation);
        field::EVENT.put_u64(&mut bytes, self.event);
        field::DATA.put_u64(&mut bytes, self.data);
        bytes
    }
}

/// The message on an event connection: what another host tells this one. Nobody asks for it, nobody answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Callback {
    /// Our own number and generation, and the event.
    pub event: HostEvent,
    /// Whose event it is.
    pub from_host_id: u64,
    /// In which generation.
    pub from_generation: u64,
}

impl Callback {
    /// Bytes of the message.
    pub const LEN: usize = 80;

    /// What a client writes into its event connection before it closes it.
    pub const GOODBYE: u32 = 1;

    /// Event messages have numbers of their own; there is one.
    const GET_EVENT: u32 = 1;

    /// The message with its header.
    pub fn emit(&self) -> [u8; Callback::LEN] {
        let header = Header {
            version: PROTOCOL,
            command: Callback::GET_EVENT,
            flags: 0,
            length: Callback::LEN as u32,
            seq: 0,
            data: 0,
            data2: 0,
        };
        let mut bytes = [0; Callback::LEN];
        bytes[..HEADER_LEN].copy_from_slice(&header.emit());
        bytes[HEADER_LEN..HEADER_LEN + HostEvent::LEN].copy_from_slice(&self.event.emit());
        field::FROM_HOST_ID.put_u64(&mut bytes, self.from_host_id);
        field::FROM_GENERATION.put_u64(&mut bytes, self.from_generation);
        bytes
    }
}
