//! Everything that touches io_uring: the block device and the sockets of one ring.
//!
//! One queue is one thread, one ring, one ublk queue and up to [`LINKS_MAX`] TCP connections, called links. One
//! `io_uring_enter` per turn serves them all ([`Ring::submit_and_wait`]); on the way there is no lock, no
//! allocation and no other thread.
//!
//! This crate moves bytes and decides nothing: it knows no iSCSI, no SCSI and no path policy. It reads the clock
//! once per turn. All unsafe code of the project is in `sys/`.
//!
//! | module | what |
//! |---|---|
//! | [`ring`] | the turn: typed operations in, a closed set of events out |
//! | [`slots`] | payload memory and who may touch it |
//! | [`request`] | block requests as the driver delivers them |
//! | [`link`] | what a TCP connection is asked for, and how it ends |
//! | [`event`] | the words spoken with a ring |
//! | [`device`] | add, start, stop and delete a device, under time limits |
//! | [`control`] | probe the driver, list devices, remove left-overs |
//! | [`params`] | a LUN's limits as the driver wants them |
//! | [`kernel`] | may this kernel run a ublk device at all? |
//! | [`process`] | locked memory, IO flusher, no core dump |
//! | [`dm`] | what a device of the device mapper is made of |
//! | [`interface`] | which interface's connected route holds an address |
//! | [`clock`] | `CLOCK_BOOTTIME` |
#![deny(unsafe_code)]

pub mod clock;
pub mod control;
pub mod device;
pub mod dm;
pub mod event;
pub mod interface;
pub mod kernel;
pub mod link;
pub mod params;
pub mod process;
pub mod request;
pub mod ring;
pub mod slots;
mod sys;

pub use device::{AddOptions, Device, DeviceQueue};
pub use event::{Event, Into, Piece, Waker};
pub use link::{Close, LinkId, LostReason, SocketOptions, TcpInfo, tcp_info};
pub use request::{BlockOp, BlockRequest, Errno, Tag};
pub use ring::Ring;
pub use slots::{BufferId, Slots};

/// Links of one ring, at most.
pub const LINKS_MAX: u8 = sys::memory::LINKS_MAX as u8;
