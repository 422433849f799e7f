//! Leases on disk, without being a host of any lockspace: making areas, and looking at them.
//!
//! ```text
//!   place    PATH[:OFFSET] and the disk behind it
//!   areas    one area after the other, from a place on
//!   init     formats an area where nothing can be lost
//!   host_name what this host calls itself in lockspaces
//!   dump     everything an area says, for programs
//!   status   who has what, as far as one look tells
//! ```
//!
//! What this module never does: join, acquire, or change an area that any host ever took part in.

pub mod areas;
pub mod dump;
pub mod host_name;
pub mod init;
pub mod place;
pub mod status;
