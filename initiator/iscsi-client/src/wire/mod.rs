//! PDUs on the wire (RFC 7143, section 11).
//!
//! One file per PDU, all with the same anatomy: the meaning as a struct, `parse` from a [`Bhs`], `emit` to a
//! [`Bhs`], tests. Both directions exist for every PDU, because the tests hold both ends. Parsing checks what
//! the header alone can show to be illegal; what needs the session's state is the session's to check.
//! Everything is big-endian but the digests.

mod bhs;
pub mod digest;
mod ids;
mod serial;

mod async_message;
mod data_in;
mod data_out;
mod login;
mod logout;
mod nop;
mod r2t;
mod reject;
mod scsi_command;
mod scsi_response;
mod task_management;
mod text;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

pub use async_message::{AsyncEvent, AsyncMessage};
pub use bhs::{AHS_LEN_MAX, BHS_LEN, Bhs, Malformed, Opcode, padding};
pub use data_in::{DataIn, DataInStatus};
pub use data_out::DataOut;
pub use ids::{Isid, Lun, TaskTag, Tpgt, TransferTag, Tsih};
pub use login::{LoginRequest, LoginResponse, LoginStatus, Stage};
pub use logout::{LogoutReason, LogoutRequest, LogoutResponse};
pub use nop::{NopIn, NopOut};
pub use r2t::R2t;
pub use reject::{Reject, RejectReason};
pub use scsi_command::{ScsiCommand, TaskAttribute};
pub use scsi_response::{Residual, ScsiResponse};
pub use serial::{CmdSn, DataSn, StatSn};
pub use task_management::{TaskManagementFunction, TaskManagementRequest, TaskManagementResponse};
pub use text::{TextRequest, TextResponse};

/// The three counters that every numbered PDU of a target carries at bytes 24, 28 and 32.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TargetNumbers {
    /// Status number of this PDU, or the next one where the PDU does not consume a number.
    pub stat_sn: StatSn,
    /// The next CmdSN the target expects.
    pub exp_cmd_sn: CmdSn,
    /// The last CmdSN the target accepts now.
    pub max_cmd_sn: CmdSn,
}

impl TargetNumbers {
    pub(crate) fn parse(bhs: &Bhs) -> Self {
        Self {
            stat_sn: StatSn(bhs.u32(24)),
            exp_cmd_sn: CmdSn(bhs.u32(28)),
            max_cmd_sn: CmdSn(bhs.u32(32)),
        }
    }

    pub(crate) fn emit(self, bhs: &mut Bhs) {
        bhs.put_u32(24, self.stat_sn.0);
        bhs.put_u32(28, self.exp_cmd_sn.0);
        bhs.put_u32(32, self.max_cmd_sn.0);
    }
}
