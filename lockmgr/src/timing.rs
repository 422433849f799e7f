//! sanlock's arithmetic: every wait that hosts of a lockspace rely on, from one number.
//!
//! The number is the `io_timeout` *t* that a host writes into its own slot; the others judge it by that one, never by
//! theirs. *W* is the time a watchdog takes to reset a machine. It is not on disk: every host of a lockspace must use
//! the same, and 60 s is what all of them use. A host without a watchdog reset, like ours, owes the others the same
//! promise: **from the start of its last renewal + 8t + W on, nothing of it reaches the medium.**
//!
//! With t = 10 s, W = 60 s, and a last renewal whose write started at 0:
//!
//! ```text
//!   0 s   renewal starts                                            gate: open until 80
//!  20 s   next renewal is due (2t), and fails, again and again
//!  60 s   warn (6t)
//!  80 s   give up (8t): the gate shuts, connections are cut         --+
//!         what the target has been given may still execute            | drain_max + drift_max
//! 140 s   dead (8t + W): any other host may own our leases          <-+ at least
//! ```
//!
//! Others count from the moment they *saw* our last renewal, which is never before it started. [`Timing::verify`] asserts
//! the inequality `give_up + drain_max + drift_max <= host_dead`.

use core::fmt;
use core::time::Duration;

/// *W*: what a watchdog takes to reset a machine, after renewals were given up.
pub const WATCHDOG_FIRE: Duration = Duration::from_secs(60);

/// Longest pause at random before a lost ballot is tried again.
pub const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// What a ballot takes at least, for the pauses after it.
pub const PASS_MIN: Duration = Duration::from_millis(1);

/// Pause before a renewal that failed, or a write that was lost, is tried again.
pub const RENEWAL_RETRY: Duration = Duration::from_millis(500);
/// Between two looks at a lease whose owner we wait for.
pub const OWNER_POLL: Duration = Duration::from_secs(1);

/// The times of one host. Small and copied: of ourselves from the configuration, of others from their slots.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Timing {
    io_timeout: u8,
}

impl Timing {
    /// sanlock's default of 10 s.
    pub const DEFAULT: Timing = Timing { io_timeout: 10 };

    /// From an `io_timeout` in seconds, 1 to 255: sanlock keeps 8 bits of it. `None` for others.
    pub fn new(io_timeout_s: u64) -> Option<Timing> {
        match u8::try_from(io_timeout_s) {
            Ok(0) | Err(_) => None,
            Ok(io_timeout) => Some(Timing { io_timeout }),
        }
    }

    /// The times of another host, by what it wrote into its slot; 0 there means that ours are to be used. Only the low 8
    /// bits count, as in sanlock.
    pub fn of_other(io_timeout_on_disk: u16, ours: Timing) -> Timing {
        Timing::new(u64::from(io_timeout_on_disk & 0xff)).unwrap_or(ours)
    }

    /// t in whole seconds: the number for the disk.
    pub const fn io_timeout_s(self) -> u16 {
        self.io_timeout as u16
    }

    const fn times(self, n: u64) -> Duration {
        Duration::from_secs(self.io_timeout as u64 * n)
    }

    /// t: the patience with one I/O.
    pub const fn io(self) -> Duration {
        self.times(1)
    }

    /// 2t: from one renewal to the next.
    pub const fn renewal_interval(self) -> Duration {
        self.times(2)
    }

    /// 2t: from writing a slot to reading it back. Whoever wrote it at the same time has done so by then.
    pub const fn settle(self) -> Duration {
        self.times(2)
    }

    /// 6t: without a renewal for so long, somebody should look.
    pub const fn warn(self) -> Duration {
        self.times(6)
    }

    /// 6t: how long another host's bit stays set after an event.
    pub const fn notify(self) -> Duration {
        self.times(6)
    }

    /// 8t: from the start of the last renewal to the moment when its host stops writing anything that leases protect.
    pub const fn give_up(self) -> Duration {
        self.times(8)
    }

    /// 8t + W: from the last sign of life to the moment when the host's leases may be taken.
    pub const fn host_dead(self) -> Duration {
        self.give_up().saturating_add(WATCHDOG_FIRE)
    }

    /// How long a slot that another machine holds must not change before it may be taken.
    pub const fn slot_takeover(self) -> Duration {
        // max(8t + W, 8t): the second is the delay that the algorithm itself asks for.
        self.host_dead()
    }

    /// Refuses margins that do not fit between giving up and being declared dead.
    pub fn verify(self, margins: Margins) -> Result<(), Overrun> {
        let needed = self
            .give_up()
            .saturating_add(margins.drain_max)
            .saturating_add(margins.drift_max);
        let host_dead = self.host_dead();
        match needed <= host_dead {
            true => Ok(()),
            false => Err(Overrun { needed, host_dead }),
        }
    }
}

/// What may happen between our giving up and our silence.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Margins {
    /// How long a write may still execute after the gate shut: queued bytes in the kernel until the TCP user timeout, and what
    /// the target was given already.
    pub drain_max: Duration,
    /// How much the clocks of two hosts may diverge in the time of [`Timing::host_dead`], and how long a thread may stand
    /// between asking the gate and handing a write over.
    pub drift_max: Duration,
}

/// The margins do not fit: somebody could own our lease while our writes still execute.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Overrun {
    /// give_up + drain_max + drift_max.
    pub needed: Duration,
    /// When others take over.
    pub host_dead: Duration,
}

impl fmt::Display for Overrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "writes may still execute {} s after the last renewal, but other hosts take over after {} s",
            self.needed.as_secs_f64(),
            self.host_dead.as_secs_f64()
        )
    }
}

impl std::error::Error for Overrun {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_format() {
        let row = |t| {
            let timing = Timing::new(t).unwrap();
            [
                timing.renewal_interval(),
                timing.warn(),
                timing.give_up(),
                timing.host_dead(),
                timing.slot_takeover(),
                timing.settle(),
                timing.notify(),
                timing.io(),
            ]
            .map(|d| d.as_secs())
        };
        assert_eq!(row(5), [10, 30, 40, 100, 100, 10, 30, 5]);
        assert_eq!(row(10), [20, 60, 80, 140, 140, 20, 60, 10]);
        assert_eq!(row(20), [40, 120, 160, 220, 220, 40, 120, 20]);
    }

    #[test]
    fn a_timeout_is_one_byte() {
        assert_eq!(Timing::new(0), None);
        assert_eq!(Timing::new(256), None);
        assert!(Timing::new(255).is_some());
        let ours = Timing::new(7).unwrap();
        assert_eq!(Timing::of_other(0, ours), ours);
        assert_eq!(Timing::of_other(0x105, ours).io_timeout_s(), 5);
    }

    #[test]
    fn the_minute_between_is_all_there_is() {
        let margins = |drain, drift| Margins {
            drain_max: Duration::from_secs(drain),
            drift_max: Duration::from_secs(drift),
        };
        for t in [1, 10, 255] {
            let timing = Timing::new(t).unwrap();
            assert_eq!(timing.verify(margins(50, 10)), Ok(()));
            assert!(timing.verify(margins(50, 11)).is_err());
        }
        let refused = Timing::DEFAULT.verify(margins(60, 5)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "writes may still execute 145 s after the last renewal, but other hosts take over after 140 s"
        );
    }
}
