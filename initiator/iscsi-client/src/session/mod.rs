//! A session: one TCP connection from the first login request to its end (RFC 7143, 4.2 and 6 to 11).
//!
//! ```text
//!   new ──> LoggingIn ──> FullFeature ──> LoggingOut ──> Closed(why)
//!               └──────────────┴───────────────┴─────────> Closed(why)
//! ```
//!
//! The contract for a driver, in the order of one turn:
//! 1. events from outside: [`Session::receive`], [`Session::received_in_place`], [`Session::handle_timeout`];
//! 2. the caller's wishes: [`Session::submit`], [`Session::manage`], [`Session::text`], [`Session::logout`];
//! 3. drain [`Session::poll_event`] until `None`;
//! 4. when no send is in flight, [`Session::poll_transmit`];
//! 5. arm one receive for [`Session::want`];
//! 6. wake up at [`Session::poll_timeout`] at the latest.
//!
//! After the first error the session is `Closed` and stays so: every call is accepted and does nothing.
//! Commands that were not answered are handed back by [`Session::drain_orphans`].

use core::time::Duration;

use crate::login::{LoginFailure, LoginParameters, Negotiated};
use crate::memory::{BufferId, Memory};
use crate::outgoing::Outgoing;
use crate::scsi::{Cdb, Sense, Status};
use crate::time::Instant;
use crate::wire::{
    AsyncMessage, Lun, RejectReason, Residual, TaskAttribute, TaskManagementFunction, Tpgt,
};

/// Limits and timers of a session.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// The login.
    pub login: LoginParameters,
    /// Tasks at most in flight: the size of the task table.
    pub tasks_max: u16,
    /// The whole login must be done within this time.
    pub login_timeout: Duration,
    /// After so long without a received byte, a ping is sent.
    pub ping_after: Duration,
    /// After so long without a received byte since the ping, the session is closed.
    pub ping_timeout: Duration,
}

/// The caller's name for a command. The session only hands it back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Handle(pub u32);

/// Where a command's data are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transfer {
    /// No data.
    None,
    /// From the target into `len` bytes at `offset` of `buffer`.
    Read {
        /// Whose memory.
        buffer: BufferId,
        /// First byte.
        offset: u32,
        /// Expected length in bytes.
        len: u32,
    },
    /// To the target from `len` bytes at `offset` of `buffer`.
    Write {
        /// Whose memory.
        buffer: BufferId,
        /// First byte.
        offset: u32,
        /// Length in bytes.
        len: u32,
    },
}

/// A SCSI command to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Command {
    /// Handed back with the completion.
    pub handle: Handle,
    /// Addressed logical unit.
    pub lun: Lun,
    /// What to do.
    pub cdb: Cdb,
    /// Ordering against other commands of the logical unit.
    pub attribute: TaskAttribute,
    /// Data.
    pub transfer: Transfer,
}

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Completion {
    /// The caller's name.
    pub handle: Handle,
    /// What the target said.
    pub status: Status,
    /// Sense, with CHECK CONDITION.
    pub sense: Option<Sense>,
    /// Difference between expected and moved bytes, as the target states it.
    pub residual: Residual,
    /// Bytes of Data-In that arrived (contiguous from 0).
    pub received: u32,
}

/// A command that was not answered when the session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Orphan {
    /// The caller's name.
    pub handle: Handle,
    /// Whether any of its bytes were handed to the runtime for sending. If so, the target may have it.
    pub sent: bool,
}

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
    /// The target announced that it drops the connection or session.
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

/// What the caller should know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Full feature phase; [`Session::negotiated`] says on which terms.
    Established,
    /// A command ended.
    Completed(Completion),
    /// A task management function was answered, with the RFC's response code.
    Managed {
        /// The caller's name.
        handle: Handle,
        /// 0 complete, 1 no such task, …
        response: u8,
    },
    /// A text exchange ended; the text is in [`Session::text_response`].
    Text,
    /// The target told us something. `sense` comes with [`crate::wire::AsyncEvent::Scsi`].
    Async(AsyncMessage, Option<Sense>),
    /// A ping of ours was answered.
    Pong,
    /// The session is over. Comes once, last.
    Closed(Closed),
}

/// Where the next received bytes belong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Want {
    /// Anything, any number of bytes: [`Session::receive`].
    Stream,
    /// The next `len` bytes of the stream are payload for this place: either receive exactly these in place and
    /// call [`Session::received_in_place`], or hand any bytes to [`Session::receive`] as ever.
    Payload {
        /// Whose memory.
        buffer: BufferId,
        /// First byte.
        offset: u32,
        /// Bytes still missing of this PDU's data.
        len: u32,
    },
    /// Nothing: the session is over.
    Nothing,
}

/// A session.
#[derive(Debug)]
pub struct Session {}

#[allow(unused_variables)]
impl Session {
    /// A session whose connection has just been made. The login starts with the first transmit.
    pub fn new(now: Instant, config: SessionConfig) -> Session {
        todo!()
    }

    /// Takes stream bytes. Consumes all of them; what the peer did wrong shows as [`Event::Closed`].
    pub fn receive(&mut self, now: Instant, bytes: &[u8], memory: &mut dyn Memory) {
        todo!()
    }

    /// Takes note that the runtime received `len` bytes where [`Session::want`] said, in order.
    pub fn received_in_place(&mut self, now: Instant, len: u32, memory: &dyn Memory) {
        todo!()
    }

    /// Where the next received bytes belong.
    pub fn want(&self) -> Want {
        todo!()
    }

    /// Fires timers that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        todo!()
    }

    /// When [`Session::handle_timeout`] must be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    /// How many commands may be submitted now: the CmdSN window and the task table, whichever is smaller.
    pub fn room(&self) -> u32 {
        todo!()
    }

    /// Queues a command; it leaves with the next transmit.
    ///
    /// # Panics
    /// If [`Session::room`] is 0, or the transfer is longer than 2^24 - 1 ... see the implementation.
    pub fn submit(&mut self, now: Instant, command: Command) {
        todo!()
    }

    /// Queues a task management function. `abort` names the command for ABORT TASK.
    /// Returns false if the command is no longer in flight or the table is full.
    pub fn manage(
        &mut self,
        now: Instant,
        handle: Handle,
        function: TaskManagementFunction,
        lun: Lun,
        abort: Option<Handle>,
    ) -> bool {
        todo!()
    }

    /// Starts a text exchange (SendTargets). The answer is collected up to 1 MiB over all continuations.
    pub fn text(&mut self, now: Instant, text: &[u8]) {
        todo!()
    }

    /// The collected answer of the last text exchange.
    pub fn text_response(&self) -> &[u8] {
        todo!()
    }

    /// Sends a ping now.
    pub fn ping(&mut self, now: Instant) {
        todo!()
    }

    /// Logs out: no new commands; ends in [`Closed::LoggedOut`].
    pub fn logout(&mut self, now: Instant) {
        todo!()
    }

    /// The runtime lost the connection, or was told to close it.
    pub fn connection_lost(&mut self) {
        todo!()
    }

    /// The next thing the caller should know.
    pub fn poll_event(&mut self) -> Option<Event> {
        todo!()
    }

    /// Fills `out` with what should leave now: answers to pings first, then data the target asked for, then
    /// commands in CmdSN order. Not called while an earlier send is in flight.
    pub fn poll_transmit(&mut self, now: Instant, memory: &dyn Memory, out: &mut Outgoing<'_>) {
        todo!()
    }

    /// The unanswered commands of a closed session, each once.
    pub fn drain_orphans(&mut self) -> impl Iterator<Item = Orphan> + '_ {
        core::iter::from_fn(|| todo!())
    }

    /// The agreed terms, from [`Event::Established`] on.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        todo!()
    }

    /// The portal group the target named, as soon as it did.
    pub fn portal_group(&self) -> Option<Tpgt> {
        todo!()
    }

    /// When the last byte was received.
    pub fn last_received(&self) -> Instant {
        todo!()
    }

    /// Commands submitted and not yet completed.
    pub fn in_flight(&self) -> u32 {
        todo!()
    }
}
