//! The SCSI commands that a block initiator needs, and what their answers mean (SPC-5, SBC-4).
//!
//! - Commands: [`Cdb`] and its constructors, [`unmap_parameters`].
//! - How a command ended: [`Status`], [`Sense`], and [`judge`], which turns both into the caller's next
//!   step, a [`Verdict`].
//! - Parameter data, one file per page: [`Inquiry`], [`SupportedPages`], [`Designators`], [`BlockLimits`],
//!   [`Capacity`], [`ReportedLuns`], [`ModeData`], [`PortGroups`].
//! - What Linux would call the disk: [`Wwid`].
//!
//! Everything here is a function of its arguments: nothing sends, waits or remembers. Parameter data come
//! from the peer and may be cut anywhere; bytes that are missing read as zero, and what cannot be used at
//! all is a [`BadPage`].

mod alua;
mod block_limits;
mod capacity;
mod cdb;
mod designator;
mod inquiry;
mod luns;
mod mode;
mod page;
mod sense;
mod status;
mod verdict;
mod vpd;
mod wwid;

#[cfg(test)]
mod tests;

pub use alua::{AluaState, PortGroup, PortGroups, SET_GROUPS_LEN, set_groups_parameters};
pub use block_limits::{BlockLimits, Characteristics, Provisioning};
pub use capacity::Capacity;
pub use cdb::{Cdb, UNMAP_PARAMETERS_LEN, WriteSame, unmap_parameters};
pub use designator::{Association, CodeSet, Designator, DesignatorKind, Designators};
pub use inquiry::{Inquiry, Tpgs};
pub use luns::ReportedLuns;
pub use mode::{Caching, Control, ModeData, mode_page};
pub use page::BadPage;
pub use sense::{Sense, SenseKey};
pub use status::Status;
pub use verdict::{Attention, Moves, Suspicion, Verdict, judge};
pub use vpd::{SupportedPages, serial_number, vpd_page};
pub use wwid::{NotAWwid, Wwid};
