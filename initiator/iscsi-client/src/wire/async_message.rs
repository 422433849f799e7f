//! Asynchronous Message (RFC 7143, 11.9).

use super::{Bhs, Lun, Malformed, Opcode, TargetNumbers};

/// What the target tells us without being asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AsyncEvent {
    /// 0: sense data for the logical unit follow.
    Scsi,
    /// 1: log out within `seconds`.
    LogoutRequested {
        /// Time left, in seconds.
        seconds: u16,
    },
    /// 2: the connection will be dropped.
    ConnectionDrop {
        /// Connection that is dropped.
        cid: u16,
        /// Seconds to wait before a reconnect.
        time2wait: u16,
    },
    /// 3: all connections of the session will be dropped.
    SessionDrop {
        /// Seconds to wait before a reconnect.
        time2wait: u16,
    },
    /// 4: negotiate again within `seconds`, or log out.
    Renegotiate {
        /// Time left, in seconds.
        seconds: u16,
    },
    /// 5: all tasks of the logical unit were terminated.
    TasksTerminated,
    /// 248..255: vendor's own.
    Vendor {
        /// Event code.
        event: u8,
        /// Vendor's code.
        code: u8,
    },
    /// A code that the specification does not know.
    Unknown(u8),
}

/// An unsolicited message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AsyncMessage {
    /// The logical unit it concerns, for [`AsyncEvent::Scsi`] and [`AsyncEvent::TasksTerminated`].
    pub lun: Lun,
    /// Counters; the StatSN is consumed.
    pub numbers: TargetNumbers,
    /// What happened.
    pub event: AsyncEvent,
    /// Length of the data segment: sense length (2), sense.
    pub data_len: u32,
}

impl AsyncMessage {
    /// Reads a header.
    pub fn parse(bhs: &Bhs) -> Result<Self, Malformed> {
        bhs.expect(Opcode::AsyncMessage);
        let (code, first, second, third) = (bhs.u8(36), bhs.u16(38), bhs.u16(40), bhs.u16(42));
        Ok(Self {
            lun: Lun(bhs.array(8)),
            numbers: TargetNumbers::parse(bhs),
            event: match code {
                0 => AsyncEvent::Scsi,
                1 => AsyncEvent::LogoutRequested { seconds: third },
                2 => AsyncEvent::ConnectionDrop {
                    cid: first,
                    time2wait: second,
                },
                3 => AsyncEvent::SessionDrop { time2wait: second },
                4 => AsyncEvent::Renegotiate { seconds: third },
                5 => AsyncEvent::TasksTerminated,
                248..=255 => AsyncEvent::Vendor {
                    event: code,
                    code: bhs.u8(37),
                },
                _ => AsyncEvent::Unknown(code),
            },
            data_len: bhs.data_len() as u32,
        })
    }

    /// Writes the header.
    pub fn emit(&self) -> Bhs {
        let mut bhs = Bhs::new(Opcode::AsyncMessage);
        bhs.put_u8(1, 0x80);
        bhs.set_data_len(self.data_len as usize);
        bhs.put(8, &self.lun.0);
        bhs.put_u32(16, 0xffff_ffff);
        self.numbers.emit(&mut bhs);
        let (code, vendor, first, second, third) = match self.event {
            AsyncEvent::Scsi => (0, 0, 0, 0, 0),
            AsyncEvent::LogoutRequested { seconds } => (1, 0, 0, 0, seconds),
            AsyncEvent::ConnectionDrop { cid, time2wait } => (2, 0, cid, time2wait, 0),
            AsyncEvent::SessionDrop { time2wait } => (3, 0, 0, time2wait, 0),
            AsyncEvent::Renegotiate { seconds } => (4, 0, 0, 0, seconds),
            AsyncEvent::TasksTerminated => (5, 0, 0, 0, 0),
            AsyncEvent::Vendor { event, code } => (event, code, 0, 0, 0),
            AsyncEvent::Unknown(code) => (code, 0, 0, 0, 0),
        };
        bhs.put_u8(36, code);
        bhs.put_u8(37, vendor);
        bhs.put_u16(38, first);
        bhs.put_u16(40, second);
        bhs.put_u16(42, third);
        bhs
    }
}
