//! The SCSI commands that a block initiator needs, and what their answers mean (SPC-5, SBC-4).

mod cdb;
mod sense;
mod status;

pub use cdb::Cdb;
pub use sense::{Sense, SenseKey};
pub use status::Status;
