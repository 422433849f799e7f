//! How long the keeper's sessions wait for what: every time from one number, the `io_timeout` of the lockspace.
//!
//! **Nothing of a write is sent after its deadline, not by our kernel's socket either.** While this process runs, that
//! is easy: the connection is reset (linger 0), and with it goes what the kernel had queued. A process that is stopped
//! or frozen resets nothing, and its kernel goes on repeating what it was given. So the kernel has a limit of its own,
//! set when the socket is made, and no byte of a write is handed to it later than that limit before the deadline:
//!
//! ```text
//!   handed over        first repeat              TCP_USER_TIMEOUT is over: the kernel drops everything
//!        |---- at most ----|------- user_timeout -------|--tick--|
//!        |   FIRST_REPEAT                                        |
//!        +------------------- LAST CALL -------------------------+ <= deadline
//! ```
//!
//! What Linux does (`net/ipv4/tcp_timer.c`), and where the terms come from:
//!
//! - `TCP_USER_TIMEOUT` counts from the first *repeat* by timeout (`retrans_stamp`), not from the send. A probe for a
//!   lost tail may come before it (TLP, after at most one RTO) and starts the timer anew, so the first repeat leaves at
//!   most two RTOs after the send. An RTO is the round trip plus 200 ms, or four times its variation where that is
//!   more: 2 x 250 ms hold as long as round trips stay below 50 ms. Where they do not, the limit is later by as much.
//!   Seen on 6.18 with a stopped sender, user timeout 500 ms, no round trip to speak of: frames after 0, 208, 416 and
//!   840 ms, and none any more.
//! - Each later timer is cut to what is left of the user timeout (`tcp_clamp_rto_to_user_timeout`, Linux 4.19), so that
//!   doubled repeats do not overshoot it by more than a tick of the timer wheel: [`TICK`].
//! - It also ends the connection to a living peer whose window stays closed for so long. The keeper has a few sectors
//!   under way, which no window is too small for; a target that has stopped to read is no use to it, and the other
//!   portal is.
//! - TCP's clocks stand still while a machine is suspended, ours goes on. When it wakes, this thread's timer fires at
//!   once and resets the connection; a repeat may go first. A target that pings has closed that connection before
//!   others may take over; one that never pings (tgt) may not have.
//!
//! In this process a write counts as over at its last call: handed over or not, it is not waited for any longer. What
//! remains is the thread that is stopped between looking at the clock and the system call that sends: that is in the
//! lockspace's `drift_max` ([`lockmgr::timing::Margins`]).
//!
//! While another portal lives, a dead one is found long before (`silence`). With no other to compare, the same limit is
//! the *detector*: a connection whose peer acknowledges nothing ends by itself within `FIRST_REPEAT + user_timeout`, one
//! tenth of the usual `io_timeout` of 10 s. A target whose kernel acknowledges, and that does not answer, is another
//! matter; for that see [`Patience::late`] and [`Patience::silent`].

use std::time::Duration;

use iscsi_client::time::Instant;

/// From a send to its first repeat by timeout.
pub(super) const FIRST_REPEAT: Duration = Duration::from_millis(500);
/// How late the kernel's timers and ours may be.
pub(super) const TICK: Duration = Duration::from_millis(50);
/// Silence on a session that has nothing to do, until a ping: so that a portal that died is known before it is needed.
pub(super) const PING_AFTER: Duration = Duration::from_secs(2);
/// A login, and what proves the session before it dead, may wait for that session's commands as long as the target's
/// backend does.
pub(super) const LOGIN: Duration = Duration::from_secs(60);
/// After a login that hung: the target may be busy with it still.
pub(super) const HANG_PAUSE: Duration = Duration::from_secs(60);
/// A logout is a courtesy.
pub(super) const LOGOUT: Duration = Duration::from_secs(2);
/// After an answer that asks for patience.
pub(super) const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// A portal that shows another LUN, or none, is looked at again after so long; an operator may be correcting it.
pub(super) const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// How long a portal that was no good for a command comes after the others.
pub(super) const ASIDE: Duration = Duration::from_secs(2);

/// The times of one lockspace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Patience {
    /// `TCP_USER_TIMEOUT`: a twentieth, 100 ms to 1 s.
    pub user_timeout: Duration,
    /// For a TCP handshake: a tenth, 250 ms to 4 s.
    pub connect: Duration,
    /// A command without an answer for so long is late in any case, whatever those before it took: a twentieth.
    pub late: Duration,
    /// From the question on whether it is there, without a single byte: the session is given up. A quarter.
    pub silent: Duration,
}

impl Patience {
    /// Of a lockspace with this `io_timeout`, 1 to 255 s.
    pub fn of(io_timeout: Duration) -> Patience {
        let ms = Duration::from_millis;
        Patience {
            user_timeout: (io_timeout / 20).clamp(ms(100), ms(1000)),
            connect: (io_timeout / 10).clamp(ms(250), ms(4000)),
            late: (io_timeout / 20).clamp(ms(100), ms(1000)),
            silent: (io_timeout / 4).clamp(ms(500), ms(5000)),
        }
    }

    /// The longest time from handing bytes to the kernel to the moment when it sends none of them any more.
    pub fn kernel(&self) -> Duration {
        FIRST_REPEAT + self.user_timeout + TICK
    }

    /// The last moment of a write with this deadline.
    pub fn last_call(&self, deadline: Instant) -> Instant {
        let kernel = u64::try_from(self.kernel().as_nanos()).unwrap_or(u64::MAX);
        Instant::from_nanos(deadline.nanos().saturating_sub(kernel))
    }
}

#[cfg(test)]
mod tests {
    use lockmgr::timing::Timing;

    use super::*;

    #[test]
    fn a_write_has_time_whatever_the_timeout() {
        for seconds in 1..=255 {
            let io = Timing::new(seconds).expect("one byte").io();
            let patience = Patience::of(io);
            // What is left for a write that was asked for now, with io_timeout as its deadline.
            let left = io - patience.kernel();
            assert!(left >= io / 4, "{seconds} s: {left:?}");
            // Both portals can be found dead, one after the other, within it or at least within the next attempt.
            let found = FIRST_REPEAT + patience.user_timeout + TICK;
            assert!(found + patience.connect <= io, "{seconds} s");
        }
        let usual = Patience::of(Timing::DEFAULT.io());
        assert_eq!(usual.user_timeout, Duration::from_millis(500));
        assert_eq!(usual.kernel(), Duration::from_millis(1050));
    }
}
