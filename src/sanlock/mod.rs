//! sanlock's place on a host: the socket that its clients know, lvmlockd and libvirt among them, answered by sanblk.
//!
//! ```text
//!   server    socket, connections     wire     the protocol as pure code
//!      |
//!   dispatch  which command is done where, and who closes
//!      |--- spaces  lockspaces, hosts, events      leases   a client's leases
//!      |--- areas   formatting and reading          index    which resource lies where
//!      |                                           show     states
//!      |
//!   service   what they share --- clients  who holds what      kill  who has to let go, and how
//!      |
//!   daemon::lease and the keepers: one list of lockspaces, whoever joined them
//! ```

mod areas;
pub mod clients;
mod dispatch;
mod index;
pub mod kill;
mod leases;
pub mod server;
pub mod service;
mod show;
mod spaces;
pub mod wire;
