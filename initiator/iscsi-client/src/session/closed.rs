//! Why a session ended, in words.

use core::fmt;

use crate::login::LoginFailure;
use crate::wire::{Malformed, RejectReason};

/// Why a session ended. Each has a sentence (`Display`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Closed {
    /// The login failed.
    Login(LoginFailure),
    /// The login took longer than its limit.
    LoginTimeout,
    /// We logged out and the target agreed.
    LoggedOut,
    /// Nothing was received for so long although we pinged.
    Silent,
    /// The target rejected a PDU in a way that ends the session.
    Rejected(RejectReason),
    /// The target announced that it drops the connection or session, or did not complete our logout.
    DroppedByTarget {
        /// Seconds to wait before a reconnect.
        time2wait: u16,
    },
    /// A header or data digest was wrong.
    DigestError(&'static str),
    /// The target broke the protocol; the text names the rule.
    Protocol(&'static str),
    /// The runtime lost the connection.
    ConnectionLost,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Closed::Login(failure) => write!(f, "login failed: {failure}"),
            Closed::LoginTimeout => f.write_str("the target did not complete the login in time"),
            Closed::LoggedOut => f.write_str("logged out"),
            Closed::Silent => f.write_str("the target was silent and did not answer a ping"),
            Closed::Rejected(reason) => {
                write!(f, "the target rejected a request: {}", sentence(*reason))?;
                match reason {
                    RejectReason::Unknown(code) => write!(f, " (code {code:#04x})"),
                    _ => Ok(()),
                }
            }
            Closed::DroppedByTarget { time2wait } => {
                write!(
                    f,
                    "the target ended the session and asks to wait {time2wait} s"
                )
            }
            Closed::DigestError(which) => {
                write!(f, "wrong {which}: bytes were damaged on the way")
            }
            Closed::Protocol(rule) => write!(f, "the target broke the iSCSI protocol: {rule}"),
            Closed::ConnectionLost => f.write_str("the connection was lost"),
        }
    }
}

impl core::error::Error for Closed {}

impl From<Malformed> for Closed {
    fn from(Malformed(field): Malformed) -> Closed {
        Closed::Protocol(field)
    }
}

fn sentence(reason: RejectReason) -> &'static str {
    match reason {
        RejectReason::DataDigestError => "data digest error",
        RejectReason::SnackReject => "SNACK refused",
        RejectReason::ProtocolError => "protocol error",
        RejectReason::CommandNotSupported => "command not supported",
        RejectReason::TooManyImmediateCommands => "too many immediate commands",
        RejectReason::TaskInProgress => "task in progress",
        RejectReason::InvalidDataAck => "invalid data acknowledgement",
        RejectReason::InvalidPduField => "invalid PDU field",
        RejectReason::OutOfTransferTags => "out of transfer tags",
        RejectReason::NegotiationReset => "negotiation reset",
        RejectReason::WaitingForLogout => "waiting for our logout",
        RejectReason::Unknown(_) => "for a reason the specification does not know",
    }
}
