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

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn vectors() {
        let table = [
            (AsyncEvent::Scsi, [0x0000_0000, 0x0000_0000]),
            (
                AsyncEvent::LogoutRequested { seconds: 0x0304 },
                [0x0100_0000, 0x0000_0304],
            ),
            (
                AsyncEvent::ConnectionDrop {
                    cid: 0x0102,
                    time2wait: 0x0304,
                },
                [0x0200_0102, 0x0304_0000],
            ),
            (
                AsyncEvent::SessionDrop { time2wait: 0x0304 },
                [0x0300_0000, 0x0304_0000],
            ),
            (
                AsyncEvent::Renegotiate { seconds: 0x0304 },
                [0x0400_0000, 0x0000_0304],
            ),
            (AsyncEvent::TasksTerminated, [0x0500_0000, 0]),
            (
                AsyncEvent::Vendor {
                    event: 0xf8,
                    code: 0x77,
                },
                [0xf877_0000, 0],
            ),
            (AsyncEvent::Unknown(6), [0x0600_0000, 0]),
            (AsyncEvent::Unknown(0xf7), [0xf700_0000, 0]),
        ];
        for (event, [word9, word10]) in table {
            let message = AsyncMessage {
                lun: LUN,
                numbers: NUMBERS,
                event,
                data_len: 20,
            };
            #[rustfmt::skip]
            let bhs = header([
                0x3280_0000, 20, 0x4041_4243, 0x4445_4647, 0xffff_ffff, 0, 0x5151_5151,
                0xecec_ecec, 0x3c3c_3c3c, word9, word10, 0,
            ]);
            assert_eq!(message.emit(), bhs, "{event:?}");
            assert_eq!(AsyncMessage::parse(&bhs), Ok(message));
        }
    }

    #[test]
    fn parameters_of_other_events_are_ignored() {
        let mut bhs = Bhs::new(Opcode::AsyncMessage);
        for at in 37..44 {
            bhs.put_u8(at, 0xff);
        }
        bhs.put_u8(36, 3);
        let event = AsyncMessage::parse(&bhs).map(|it| it.event);
        assert_eq!(event, Ok(AsyncEvent::SessionDrop { time2wait: 0xffff }));
    }

    proptest! {
        #[test]
        fn round_trip(
            code: u8, vendor: u8, first: u16, second: u16, lun in lun(), numbers in numbers(),
            data_len in data_len(),
        ) {
            let event = match code {
                0 => AsyncEvent::Scsi,
                1 => AsyncEvent::LogoutRequested { seconds: first },
                2 => AsyncEvent::ConnectionDrop { cid: first, time2wait: second },
                3 => AsyncEvent::SessionDrop { time2wait: first },
                4 => AsyncEvent::Renegotiate { seconds: first },
                5 => AsyncEvent::TasksTerminated,
                248.. => AsyncEvent::Vendor { event: code, code: vendor },
                _ => AsyncEvent::Unknown(code),
            };
            let message = AsyncMessage { lun, numbers, event, data_len };
            prop_assert_eq!(AsyncMessage::parse(&message.emit()), Ok(message));
        }
    }
}
