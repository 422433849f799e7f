//! What the caller must do when a command has ended: one table for all of SCSI's ways to say no.
//!
//! The table is pure and knows neither paths nor time. It says what happened and whom to blame; how often and
//! where to try again is the scheduler's. Sources: SPC-5 (sense keys and additional sense codes), RFC 7143,
//! 11.4.7.2, and the behaviour of `scsi_check_sense()` in Linux where the standards leave a choice.

use core::fmt;

use super::{Sense, SenseKey, Status};
use crate::mutant::{Mutant, lives};
use crate::wire::Residual;

/// What a command was to move, so that "good" can be told from "good, but short".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moves {
    /// No data.
    Nothing,
    /// That many bytes from the medium; fewer is a failure.
    Read(u32),
    /// That many bytes to the target; fewer is a failure.
    Written(u32),
    /// At most that many bytes of parameter data (INQUIRY, MODE SENSE, ...); fewer is normal.
    Parameters(u32),
}

/// The next step for a command that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// Done.
    Success,
    /// An earlier write, already reported complete, is lost: the next flush must fail, and loudly. This
    /// command was not executed: repeat it.
    EarlierWriteLost,
    /// The command was not executed. Act on the news once per logical unit, then repeat the command on the
    /// same path. Bounded, because attentions queue.
    UnitAttention(Attention),
    /// Repeat on the same class of paths after 10 to 100 ms with jitter. No path is to blame.
    Busy,
    /// Too many commands in the target's queue: shrink the window, repeat later. No path is to blame.
    TaskSetFull,
    /// The logical unit is starting or allocating: repeat with backoff, any path.
    BecomingReady,
    /// The logical unit is not ready for another reason: another path, then wait.
    NotReady,
    /// The port is in transition, standby or unavailable: read the port groups, use another group. No blame.
    OtherGroup,
    /// Once more on another path, then give the error to the caller.
    OtherPathOnce(Suspicion),
    /// The transport hurt the command: repeat on another path, and blame this one.
    PathError,
    /// The target dropped the command: repeat, bounded. No blame.
    Aborted {
        /// Another host's action ended it: see whether our reservation still stands.
        check_reservation: bool,
    },
    /// This target does not know the command, a field or a parameter: remember and fall back.
    NotSupported,
    /// Beyond the end: the logical unit may have shrunk, read the capacity. Final for the command.
    OutOfRange,
    /// The logical unit is not there through this path. On all paths: permanent loss, fail at once.
    LunGone,
    /// Thin pool full: "no space" to the caller, never another path.
    NoSpace,
    /// Final.
    WriteProtected,
    /// Another host holds a reservation. Final, no other path.
    ReservationConflict,
    /// The medium differs from the data given: a result, not an error.
    Miscompare,
    /// Refused for good, for a reason that no repetition changes. Final.
    Refused,
}

/// What one more try elsewhere is to find out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Suspicion {
    /// Medium error: probably real.
    Medium,
    /// The target's hardware, perhaps only the half behind this port.
    Hardware,
    /// The status was good but the number of bytes was not.
    WrongLength,
    /// The target failed without a usable reason.
    Unexplained,
}

/// The news in a unit attention, by what must be done about them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Attention {
    /// Power on, reset, changed medium: read identity and limits again; reservations and unflushed caches may
    /// be gone.
    Reset,
    /// Our nexus was lost: expected after a login. Reservations may be gone.
    NexusLoss,
    /// Read the cache mode page again.
    ModeParametersChanged,
    /// Reservation released or preempted, or registration preempted: tell whoever relies on it.
    ReservationLost,
    /// Read the port groups, rank the paths again.
    AluaChanged,
    /// Read the capacity, resize.
    CapacityChanged,
    /// INQUIRY data, identifier or firmware changed: verify the identity before the next write.
    IdentityChanged,
    /// LUNs came or went: REPORT LUNS, verify the identity of each.
    LunsChanged,
    /// Commands in flight were dropped and will not be answered as usual.
    CommandsCleared,
    /// The thin pool is filling up: warn.
    ThinThreshold,
    /// Nothing that concerns us.
    Other,
}

impl Attention {
    /// The news, if the sense data are a unit attention. They come with a command or in an Asynchronous
    /// Message.
    pub fn from_sense(sense: &Sense) -> Option<Attention> {
        if sense.key != SenseKey::UnitAttention {
            return None;
        }
        Some(match (sense.asc, sense.ascq) {
            (0x28, _) => Attention::Reset,
            (0x29, 0x07) => Attention::NexusLoss,
            (0x29, _) => Attention::Reset,
            (0x2a, 0x00 | 0x01) => Attention::ModeParametersChanged,
            (0x2a, 0x03..=0x05) => Attention::ReservationLost,
            (0x2a, 0x06 | 0x07) => Attention::AluaChanged,
            (0x2a, 0x09) => Attention::CapacityChanged,
            (0x2f, _) => Attention::CommandsCleared,
            (0x38, 0x07) => Attention::ThinThreshold,
            (0x3f, 0x01..=0x03 | 0x05) => Attention::IdentityChanged,
            (0x3f, 0x0e) => Attention::LunsChanged,
            (0x47, 0x7f) => Attention::CommandsCleared,
            _ => Attention::Other,
        })
    }
}

impl Verdict {
    /// Whether the path's record should suffer.
    pub fn blames_path(self) -> bool {
        self == Verdict::PathError
    }

    /// Whether the command's life ends here, well or badly, without another try.
    pub fn is_final(self) -> bool {
        use Verdict::*;
        match self {
            Success | NotSupported | OutOfRange | NoSpace | WriteProtected
            | ReservationConflict | Miscompare | Refused => true,
            EarlierWriteLost
            | UnitAttention(_)
            | Busy
            | TaskSetFull
            | BecomingReady
            | NotReady
            | OtherGroup
            | OtherPathOnce(_)
            | PathError
            | Aborted { .. }
            | LunGone => false,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Success => "success",
            Verdict::EarlierWriteLost => "an earlier acknowledged write was lost",
            Verdict::UnitAttention(_) => "unit attention",
            Verdict::Busy => "busy",
            Verdict::TaskSetFull => "task set full",
            Verdict::BecomingReady => "becoming ready",
            Verdict::NotReady => "not ready",
            Verdict::OtherGroup => "the port's group does not serve I/O",
            Verdict::OtherPathOnce(Suspicion::Medium) => "medium error",
            Verdict::OtherPathOnce(Suspicion::Hardware) => "hardware error",
            Verdict::OtherPathOnce(Suspicion::WrongLength) => "wrong number of bytes moved",
            Verdict::OtherPathOnce(Suspicion::Unexplained) => "unexplained failure",
            Verdict::PathError => "transport error",
            Verdict::Aborted { .. } => "aborted by the target",
            Verdict::NotSupported => "not supported by the target",
            Verdict::OutOfRange => "beyond the end of the logical unit",
            Verdict::LunGone => "logical unit gone",
            Verdict::NoSpace => "no space left in the target's pool",
            Verdict::WriteProtected => "write protected",
            Verdict::ReservationConflict => "reservation conflict",
            Verdict::Miscompare => "miscompare",
            Verdict::Refused => "refused",
        })
    }
}

/// Judges how a command ended. `received` is the number of Data-In bytes that arrived, contiguous from 0.
pub fn judge(
    moves: Moves,
    status: Status,
    sense: Option<Sense>,
    residual: Residual,
    received: u32,
) -> Verdict {
    match status {
        Status::Good | Status::ConditionMet => judge_length(moves, residual, received),
        Status::CheckCondition => match sense {
            Some(sense) if sense.deferred => judge_deferred(&sense),
            Some(sense) => {
                judge_sense(&sense).unwrap_or_else(|| judge_length(moves, residual, received))
            }
            // The reason got lost on the way; whether the command was executed is unknown, so repeat it.
            None => Verdict::Aborted {
                check_reservation: false,
            },
        },
        // We never establish an ACA; somebody else's ends without our help.
        Status::Busy | Status::AcaActive => Verdict::Busy,
        Status::ReservationConflict => Verdict::ReservationConflict,
        Status::TaskSetFull => Verdict::TaskSetFull,
        Status::TaskAborted => Verdict::Aborted {
            check_reservation: true,
        },
        Status::TargetFailure(_) => Verdict::PathError,
        Status::Unknown(_) => Verdict::OtherPathOnce(Suspicion::Unexplained),
    }
}

/// A command that succeeded must also have moved what it was to move.
fn judge_length(moves: Moves, residual: Residual, received: u32) -> Verdict {
    // Some targets raise the U bit with a count of zero.
    let exact = matches!(residual, Residual::None | Residual::Underflow(0));
    let complete = match moves {
        Moves::Nothing | Moves::Written(_) => exact,
        Moves::Read(expected) => exact && received == expected,
        Moves::Parameters(_) => true,
    };
    if complete || lives(Mutant::ShortDataPass) {
        Verdict::Success
    } else {
        Verdict::OtherPathOnce(Suspicion::WrongLength)
    }
}

fn judge_deferred(sense: &Sense) -> Verdict {
    match sense.key {
        // The target saved the earlier command after all; this one still was not executed.
        SenseKey::NoSense | SenseKey::RecoveredError | SenseKey::Completed => Verdict::Aborted {
            check_reservation: false,
        },
        _ => Verdict::EarlierWriteLost,
    }
}

/// `None` if the command was executed and only its length remains to be judged.
fn judge_sense(sense: &Sense) -> Option<Verdict> {
    use Verdict::*;
    let code = (sense.asc, sense.ascq);
    Some(match sense.key {
        SenseKey::RecoveredError | SenseKey::Completed => return None,
        // CHECK CONDITION without a condition.
        SenseKey::NoSense => Aborted {
            check_reservation: false,
        },
        SenseKey::NotReady => match code {
            (0x04, 0x01 | 0x14) => BecomingReady,
            (0x04, 0x0a..=0x0c) => OtherGroup,
            _ => NotReady,
        },
        SenseKey::MediumError => OtherPathOnce(Suspicion::Medium),
        SenseKey::HardwareError => OtherPathOnce(Suspicion::Hardware),
        SenseKey::IllegalRequest => match code {
            // 20h with another qualifier is "access denied".
            (0x20, 0x00) | (0x24 | 0x26, _) => NotSupported,
            (0x21, _) => OutOfRange,
            (0x25, _) => LunGone,
            _ => Refused,
        },
        SenseKey::UnitAttention => {
            UnitAttention(Attention::from_sense(sense).unwrap_or(Attention::Other))
        }
        SenseKey::DataProtect => match code {
            (0x27, 0x07) => NoSpace,
            (0x27, _) => WriteProtected,
            _ => Refused,
        },
        SenseKey::AbortedCommand => match code {
            // 47h: CRC. 0Ch/0Ch, 0Ch/0Dh, 11h/13h: what RFC 7143 has a target say when our data did not come
            // as agreed. 4Bh: data phase error.
            (0x47 | 0x4b, _) | (0x0c, 0x0c | 0x0d) | (0x11, 0x13) => PathError,
            // Protection information: the blocks themselves are in doubt.
            (0x10, _) => OtherPathOnce(Suspicion::Medium),
            _ => Aborted {
                check_reservation: false,
            },
        },
        SenseKey::Miscompare => Miscompare,
        SenseKey::BlankCheck | SenseKey::CopyAborted | SenseKey::VolumeOverflow => Refused,
        SenseKey::VendorSpecific | SenseKey::Reserved => OtherPathOnce(Suspicion::Unexplained),
    })
}

#[cfg(test)]
mod tests;
