//! States: the messages that STATUS, HOST_STATUS and RENEWAL are answered with, until the connection ends.

use lockmgr::ondisk::Name;

use super::super::bytes::At;
use super::{Lockspace, OpenDisk, PlacedResource};

mod field {
    use super::At;

    pub const KIND: At = At(0);
    pub const DATA32: At = At(8);
    pub const DATA64: At = At(16);
    pub const NAME: At = At(24);
    pub const STR_LEN: At = At(72);
}

/// What a state is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u32)]
pub enum StateKind {
    /// The daemon.
    Daemon = 1,
    /// A connection.
    Client = 2,
    /// A lockspace.
    Lockspace = 3,
    /// A resource that is held, or an orphan.
    Resource = 4,
    /// A host of a lockspace.
    Host = 5,
    /// A renewal.
    Renewal = 6,
}

/// One state. Its text is `key=value key=value …`; see [`text`](crate::sanlock::wire::text).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    kind: StateKind,
    data32: u32,
    data64: u64,
    name: Name,
    text: String,
    body: Vec<u8>,
}

impl State {
    /// Bytes of the struct. The last four are padding, which is sent.
    pub const LEN: usize = 80;

    fn new(kind: StateKind, data32: u32, data64: u64, name: Name, text: String) -> State {
        State {
            kind,
            data32,
            data64,
            name,
            text,
            body: vec![],
        }
    }

    /// The daemon: the name of this host.
    pub fn daemon(host_name: Name, text: String) -> State {
        State::new(StateKind::Daemon, 0, 0, host_name, text)
    }

    /// A connection; process -1 where it is not registered.
    pub fn client(pid: i32, name: Name, text: String) -> State {
        State::new(StateKind::Client, pid.cast_unsigned(), 0, name, text)
    }

    /// A lockspace that is joined, or is being.
    pub fn lockspace(lockspace: &Lockspace, open: OpenDisk, text: String) -> State {
        State {
            body: lockspace.emit_open(open).to_vec(),
            ..State::new(
                StateKind::Lockspace,
                0,
                lockspace.host_id,
                lockspace.name,
                text,
            )
        }
    }

    /// A resource in the hands of a process; an orphan in those of the last one.
    pub fn resource(
        pid: i32,
        lver: u64,
        placed: &PlacedResource,
        open: OpenDisk,
        text: String,
    ) -> State {
        let mut body = placed.resource.emit().to_vec();
        for disk in &placed.disks {
            body.extend(disk.emit_open(open));
        }
        let name = placed.resource.name;
        State {
            body,
            ..State::new(StateKind::Resource, pid.cast_unsigned(), lver, name, text)
        }
    }

    /// A host: its number (at most 2000) and its last timestamp.
    pub fn host(host_id: u32, timestamp: u64, text: String) -> State {
        State::new(StateKind::Host, host_id, timestamp, Name::EMPTY, text)
    }

    /// A renewal: its timestamp.
    pub fn renewal(timestamp: u64, text: String) -> State {
        State::new(StateKind::Renewal, 0, timestamp, Name::EMPTY, text)
    }

    /// The struct, the text with its NUL, and the structs that follow.
    pub fn emit(&self) -> Vec<u8> {
        let mut bytes = vec![0; State::LEN];
        // The texts are ours: some hundred bytes.
        let str_len = self.text.len() as u32 + 1;
        field::KIND.put_u32(&mut bytes, self.kind as u32);
        field::DATA32.put_u32(&mut bytes, self.data32);
        field::DATA64.put_u64(&mut bytes, self.data64);
        field::NAME.put_name(&mut bytes, self.name);
        field::STR_LEN.put_u32(&mut bytes, str_len);
        bytes.extend(self.text.as_bytes());
        bytes.push(0);
        bytes.extend(&self.body);
        bytes
    }
}
