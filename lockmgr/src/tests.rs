//! Whole lockspaces on a disk in memory that answers at once: what happens when, by each host's clock.

mod calls;
mod membership;
mod ownership;
mod room;
mod value_block;
