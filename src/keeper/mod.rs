//! The keeper: the thread that keeps one lockspace, and the disks it writes to.
//!
//! ```text
//!   disk   reads and writes of lease sectors, as the lockspace asks for them
//!   san    those of a volume that sanblk carries: sessions of the keeper's own
//! ```

pub mod disk;
pub mod san;
