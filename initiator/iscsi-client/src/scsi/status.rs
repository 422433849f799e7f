//! SCSI status codes (SAM-5, 5.3).

/// How the target says a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Status {
    /// 00h.
    Good,
    /// 02h: sense data say why.
    CheckCondition,
    /// 04h.
    ConditionMet,
    /// 08h: try again later.
    Busy,
    /// 18h: another host holds a reservation.
    ReservationConflict,
    /// 28h: too many commands.
    TaskSetFull,
    /// 30h.
    AcaActive,
    /// 40h: somebody else's action ended the task.
    TaskAborted,
    /// The iSCSI response code was not 0 (command completed): the target failed, the status byte is void.
    TargetFailure(u8),
    /// A status that SAM does not know.
    Unknown(u8),
}

impl Status {
    /// The status with this code.
    pub fn from_byte(byte: u8) -> Status {
        match byte {
            0x00 => Status::Good,
            0x02 => Status::CheckCondition,
            0x04 => Status::ConditionMet,
            0x08 => Status::Busy,
            0x18 => Status::ReservationConflict,
            0x28 => Status::TaskSetFull,
            0x30 => Status::AcaActive,
            0x40 => Status::TaskAborted,
            other => Status::Unknown(other),
        }
    }
}
