//! A host of a lockspace.

use lockmgr::HostState;

use super::super::bytes::At;

mod field {
    use super::At;

    pub const HOST_ID: At = At(0);
    pub const GENERATION: At = At(8);
    pub const TIMESTAMP: At = At(16);
    pub const IO_TIMEOUT: At = At(24);
    pub const FLAGS: At = At(28);
}

/// Whether a host lives, in the low four bits; above them what sanlock 5 knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct HostFlags(pub u32);

impl HostFlags {
    /// sanlock 5: somebody declared it dead.
    pub const DEAD_EXT: HostFlags = HostFlags(0x10);

    /// The number of a state.
    pub const fn of(state: HostState) -> HostFlags {
        HostFlags(match state {
            HostState::Unknown => 1,
            HostState::Free => 2,
            HostState::Live => 3,
            HostState::Fail => 4,
            HostState::Dead => 5,
        })
    }
}

/// A host, or one that owns something: then only number, generation and timestamp are known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Host {
    /// Its number.
    pub host_id: u64,
    /// Its generation.
    pub generation: u64,
    /// Seconds of its own clock at its last renewal.
    pub timestamp: u64,
    /// Its I/O timeout in seconds.
    pub io_timeout: u32,
    /// Whether it lives; 0 where that was not asked.
    pub flags: HostFlags,
}

impl Host {
    /// Bytes of the struct.
    pub const LEN: usize = 32;

    /// Reads the struct.
    pub fn parse(bytes: &[u8; Host::LEN]) -> Host {
        Host {
            host_id: field::HOST_ID.u64(bytes),
            generation: field::GENERATION.u64(bytes),
            timestamp: field::TIMESTAMP.u64(bytes),
            io_timeout: field::IO_TIMEOUT.u32(bytes),
            flags: HostFlags(field::FLAGS.u32(bytes)),
        }
    }

    /// The struct.
    pub fn emit(&self) -> [u8; Host::LEN] {
        let mut bytes = [0; Host::LEN];
        field::HOST_ID.put_u64(&mut bytes, self.host_id);
        field::GENERATION.put_u64(&mut bytes, self.generation);
        field::TIMESTAMP.put_u64(&mut bytes, self.timestamp);
        field::IO_TIMEOUT.put_u32(&mut bytes, self.io_timeout);
        field::FLAGS.put_u32(&mut bytes, self.flags.0);
        bytes
    }
}
