//! The table, row by row.

use super::Attention::*;
use super::Verdict::*;
use super::*;
use SenseKey as Key;
use proptest::prelude::*;

const DROPPED: Verdict = Aborted {
    check_reservation: false,
};

fn sense(key: SenseKey, asc: u8, ascq: u8) -> Sense {
    Sense {
        deferred: false,
        key,
        asc,
        ascq,
        information: None,
    }
}

fn checked(key: SenseKey, asc: u8, ascq: u8) -> Verdict {
    let sense = sense(key, asc, ascq);
    judge(
        Moves::Nothing,
        Status::CheckCondition,
        Some(sense),
        Residual::None,
        0,
    )
}

#[test]
fn statuses() {
    let table = [
        (Status::Good, Success),
        (Status::ConditionMet, Success),
        (Status::CheckCondition, DROPPED),
        (Status::Busy, Busy),
        (Status::AcaActive, Busy),
        (Status::ReservationConflict, ReservationConflict),
        (Status::TaskSetFull, TaskSetFull),
        (
            Status::TaskAborted,
            Aborted {
                check_reservation: true,
            },
        ),
        (Status::TargetFailure(1), PathError),
        (Status::TargetFailure(0x80), PathError),
        (Status::Unknown(0x22), OtherPathOnce(Suspicion::Unexplained)),
    ];
    for (status, verdict) in table {
        let judged = judge(Moves::Nothing, status, None, Residual::None, 0);
        assert_eq!(judged, verdict, "{status:?}");
    }
}

#[test]
fn sense_codes() {
    let table = [
        (Key::NoSense, 0x00, 0x00, DROPPED),
        (Key::RecoveredError, 0x17, 0x01, Success),
        (Key::NotReady, 0x04, 0x00, NotReady),
        (Key::NotReady, 0x04, 0x01, BecomingReady),
        (Key::NotReady, 0x04, 0x02, NotReady),
        (Key::NotReady, 0x04, 0x0a, OtherGroup),
        (Key::NotReady, 0x04, 0x0b, OtherGroup),
        (Key::NotReady, 0x04, 0x0c, OtherGroup),
        (Key::NotReady, 0x04, 0x0d, NotReady),
        (Key::NotReady, 0x04, 0x14, BecomingReady),
        (Key::NotReady, 0x3a, 0x00, NotReady),
        (
            Key::MediumError,
            0x11,
            0x00,
            OtherPathOnce(Suspicion::Medium),
        ),
        (
            Key::MediumError,
            0x0c,
            0x00,
            OtherPathOnce(Suspicion::Medium),
        ),
        (
            Key::HardwareError,
            0x44,
            0x00,
            OtherPathOnce(Suspicion::Hardware),
        ),
        (Key::IllegalRequest, 0x20, 0x00, NotSupported),
        (Key::IllegalRequest, 0x20, 0x02, Refused),
        (Key::IllegalRequest, 0x21, 0x00, OutOfRange),
        (Key::IllegalRequest, 0x24, 0x00, NotSupported),
        (Key::IllegalRequest, 0x25, 0x00, LunGone),
        (Key::IllegalRequest, 0x26, 0x00, NotSupported),
        (Key::IllegalRequest, 0x55, 0x04, Refused),
        (Key::DataProtect, 0x27, 0x00, WriteProtected),
        (Key::DataProtect, 0x27, 0x02, WriteProtected),
        (Key::DataProtect, 0x27, 0x07, NoSpace),
        (Key::DataProtect, 0x20, 0x00, Refused),
        (Key::BlankCheck, 0x00, 0x00, Refused),
        (
            Key::VendorSpecific,
            0x80,
            0x00,
            OtherPathOnce(Suspicion::Unexplained),
        ),
        (Key::CopyAborted, 0x0d, 0x00, Refused),
        (Key::AbortedCommand, 0x00, 0x00, DROPPED),
        (Key::AbortedCommand, 0x44, 0x00, DROPPED),
        (Key::AbortedCommand, 0x0c, 0x00, DROPPED),
        (Key::AbortedCommand, 0x0c, 0x0c, PathError),
        (Key::AbortedCommand, 0x0c, 0x0d, PathError),
        (
            Key::AbortedCommand,
            0x10,
            0x01,
            OtherPathOnce(Suspicion::Medium),
        ),
        (Key::AbortedCommand, 0x11, 0x13, PathError),
        (Key::AbortedCommand, 0x47, 0x05, PathError),
        (Key::AbortedCommand, 0x4b, 0x00, PathError),
        (
            Key::Reserved,
            0x00,
            0x00,
            OtherPathOnce(Suspicion::Unexplained),
        ),
        (Key::VolumeOverflow, 0x00, 0x00, Refused),
        (Key::Miscompare, 0x1d, 0x00, Miscompare),
        (Key::Completed, 0x00, 0x1d, Success),
    ];
    for (key, asc, ascq, verdict) in table {
        assert_eq!(
            checked(key, asc, ascq),
            verdict,
            "{key} {asc:02x}/{ascq:02x}"
        );
    }
}

#[test]
fn attentions() {
    let table = [
        (0x28, 0x00, Reset),
        (0x29, 0x00, Reset),
        (0x29, 0x01, Reset),
        (0x29, 0x02, Reset),
        (0x29, 0x03, Reset),
        (0x29, 0x04, Reset),
        (0x29, 0x07, NexusLoss),
        (0x2a, 0x00, ModeParametersChanged),
        (0x2a, 0x01, ModeParametersChanged),
        (0x2a, 0x02, Other),
        (0x2a, 0x03, ReservationLost),
        (0x2a, 0x04, ReservationLost),
        (0x2a, 0x05, ReservationLost),
        (0x2a, 0x06, AluaChanged),
        (0x2a, 0x07, AluaChanged),
        (0x2a, 0x08, Other),
        (0x2a, 0x09, CapacityChanged),
        (0x2f, 0x00, CommandsCleared),
        (0x38, 0x00, Other),
        (0x38, 0x07, ThinThreshold),
        (0x3f, 0x01, IdentityChanged),
        (0x3f, 0x03, IdentityChanged),
        (0x3f, 0x04, Other),
        (0x3f, 0x05, IdentityChanged),
        (0x3f, 0x0e, LunsChanged),
        (0x47, 0x7f, CommandsCleared),
        (0x47, 0x00, Other),
        (0x5a, 0x01, Other),
    ];
    for (asc, ascq, news) in table {
        assert_eq!(
            checked(Key::UnitAttention, asc, ascq),
            UnitAttention(news),
            "{asc:02x}/{ascq:02x}"
        );
    }
    assert_eq!(Attention::from_sense(&sense(Key::NotReady, 0x29, 0)), None);
}

#[test]
fn deferred_sense_is_about_another_command() {
    for key in [
        Key::MediumError,
        Key::HardwareError,
        Key::AbortedCommand,
        Key::DataProtect,
    ] {
        let sense = Sense {
            deferred: true,
            ..sense(key, 0x0c, 0)
        };
        let judged = judge(
            Moves::Written(512),
            Status::CheckCondition,
            Some(sense),
            Residual::None,
            0,
        );
        assert_eq!(judged, EarlierWriteLost, "{key}");
    }
    // Nothing was lost, but success it is not: this command was not executed.
    let saved = Sense {
        deferred: true,
        ..sense(Key::RecoveredError, 0x0c, 1)
    };
    let judged = judge(
        Moves::Written(512),
        Status::CheckCondition,
        Some(saved),
        Residual::None,
        0,
    );
    assert_eq!(judged, DROPPED);
}

#[test]
fn good_but_short() {
    use Residual::{None as Exact, Overflow, Underflow};
    let short = OtherPathOnce(Suspicion::WrongLength);
    let table = [
        (Moves::Read(4096), Exact, 4096, Success),
        (Moves::Read(4096), Underflow(0), 4096, Success),
        (Moves::Read(4096), Exact, 4095, short),
        (Moves::Read(4096), Exact, 0, short),
        (Moves::Read(4096), Underflow(512), 3584, short),
        (Moves::Read(4096), Underflow(512), 4096, short),
        (Moves::Read(4096), Overflow(512), 4096, short),
        (Moves::Written(4096), Exact, 0, Success),
        (Moves::Written(4096), Underflow(0), 0, Success),
        (Moves::Written(4096), Underflow(512), 0, short),
        (Moves::Written(4096), Overflow(512), 0, short),
        (Moves::Nothing, Exact, 0, Success),
        (Moves::Nothing, Overflow(512), 0, short),
        (Moves::Parameters(255), Exact, 255, Success),
        (Moves::Parameters(255), Underflow(159), 96, Success),
        (Moves::Parameters(255), Overflow(1), 255, Success),
    ];
    let recovered = sense(Key::RecoveredError, 0x17, 0x01);
    for (moves, residual, received, verdict) in table {
        let row = format!("{moves:?} {residual:?} {received}");
        assert_eq!(
            judge(moves, Status::Good, None, residual, received),
            verdict,
            "{row}"
        );
        let judged = judge(
            moves,
            Status::CheckCondition,
            Some(recovered),
            residual,
            received,
        );
        assert_eq!(judged, verdict, "recovered, {row}");
    }
}

#[test]
fn only_the_transport_is_blamed() {
    assert!(PathError.blames_path());
    assert!(!OtherPathOnce(Suspicion::Medium).blames_path());
    assert!(!Busy.blames_path());
    assert!(!OtherGroup.blames_path());
}

proptest! {
    /// Nobody may take a command for done because the target used a code that the table does not know.
    #[test]
    fn no_success_without_good_or_recovered(key in 0_u8..16, asc: u8, ascq: u8, deferred: bool) {
        let key = SenseKey::from_low_nibble(key);
        let sense = Sense { deferred, ..sense(key, asc, ascq) };
        let judged = judge(Moves::Written(512), Status::CheckCondition, Some(sense), Residual::None, 0);
        let executed = !deferred && matches!(key, Key::RecoveredError | Key::Completed);
        prop_assert_eq!(judged == Success, executed);
        prop_assert_eq!(matches!(judged, UnitAttention(_)), !deferred && key == Key::UnitAttention);
    }
}
