//! The gate: whether writes may leave, as one deadline that only a completed renewal moves.
//!
//! A message "stop" gets lost exactly when it matters, so silence means stop: the keeper [extends](Gate::extend) the
//! deadline, counted from when the renewal's write **started**, and every queue compares it with its own clock before each
//! write command and each Data-Out. Nobody has to do anything for the gate to shut.
//!
//! ```text
//!             arm                    deadline passed                 restore(Reclaimed)
//!  Unarmed ---------> Open(deadline) ---------------> Shut ---------------------------> Open(deadline)
//!     ^     disarm          | ^                         |  refuse
//!     +---------------------+ | extend                  +--------> Refused, for good
//!                             +--
//! ```
//!
//! It shuts one way: caches above us still hold writes of before, and they may go only if nobody else was in between.
//! [`Reclaimed`] is that proof, and only a lockspace that found and won again every lease it held can make one.
//!
//! One word, shared by threads. Both clocks must be the same one (`CLOCK_BOOTTIME`).

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use crate::time::Instant;

/// No lockspace: a deadline that never comes.
const UNARMED: u64 = u64::MAX;
/// Deadlines that are always past.
const SHUT: u64 = 0;
const REFUSED: u64 = 1;

/// Whether a write may leave.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Permission {
    /// It may.
    Allowed,
    /// Not now: it waits until the leases are won again or lost.
    Fenced,
    /// Never: a lease was lost, and the write must fail.
    Refused,
}

/// The gate is shut: extending it now would let writes of before a pause slip through.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Expired;

/// Proof that no other host owned any of our leases while the gate was shut.
#[derive(Debug)]
pub struct Reclaimed(());

impl Reclaimed {
    /// To be called where the proof has just been completed, and nowhere else.
    pub(crate) fn proven() -> Reclaimed {
        Reclaimed(())
    }
}

/// The write permission of a volume.
#[derive(Debug)]
pub struct Gate(AtomicU64);

impl Default for Gate {
    fn default() -> Self {
        Gate::new()
    }
}

impl Gate {
    /// A volume without a lockspace: everything may leave.
    pub const fn new() -> Gate {
        Gate(AtomicU64::new(UNARMED))
    }

    /// Whether a write may leave at `now`. One load while the gate is open. Whoever finds the deadline passed shuts the gate
    /// for all: no later extension can make another thread see it open.
    pub fn check(&self, now: Instant) -> Permission {
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            match word {
                SHUT => return Permission::Fenced,
                REFUSED => return Permission::Refused,
                deadline if now.nanos() < deadline => return Permission::Allowed,
                deadline => {
                    let latched = self.0.compare_exchange(
                        deadline,
                        SHUT,
                        Ordering::AcqRel,
                        Ordering::Acquire,
                    );
                    match latched {
                        Ok(_) => return Permission::Fenced,
                        Err(other) => word = other,
                    }
                }
            }
        }
    }

    /// When it shuts if nothing is heard; `None` if it is not open, or not armed.
    pub fn deadline(&self) -> Option<Instant> {
        match self.0.load(Ordering::Acquire) {
            UNARMED | SHUT | REFUSED => None,
            deadline => Some(Instant::from_nanos(deadline)),
        }
    }

    /// A lockspace was joined: from now on writes need its renewals. `started` is when the write of the first one started,
    /// `give_up` how long it is good for.
    pub fn arm(&self, now: Instant, started: Instant, give_up: Duration) -> Result<(), Expired> {
        self.advance(now, deadline_after(started, give_up), |word| {
            word == UNARMED
        })
    }

    /// A renewal completed whose write started at `started`. Refused once the present deadline has passed, even if nobody
    /// asked in between. Never shortens.
    pub fn extend(&self, now: Instant, started: Instant, give_up: Duration) -> Result<(), Expired> {
        self.advance(now, deadline_after(started, give_up), |word| {
            !matches!(word, UNARMED | SHUT | REFUSED) && now.nanos() < word
        })
    }

    /// Every lease was found as we left it, and won again.
    pub fn restore(
        &self,
        now: Instant,
        started: Instant,
        give_up: Duration,
        _proof: &Reclaimed,
    ) -> Result<(), Expired> {
        // The deadline may have passed without anybody asking: the proof covers that as well.
        self.advance(now, deadline_after(started, give_up), |word| {
            word != REFUSED
        })
    }

    /// The lockspace was left with nothing held. A gate that shut stays shut.
    pub fn disarm(&self, now: Instant) -> Result<(), Expired> {
        let open = |word| !matches!(word, SHUT | REFUSED) && now.nanos() < word;
        self.replace(UNARMED, open)
    }

    /// The lockspace was lost before the deadline: another gate of it had shut. Nothing to an unarmed one.
    pub fn shut(&self) {
        let armed = |word| (!matches!(word, UNARMED | REFUSED)).then_some(SHUT);
        // Refused by one that is not armed, or shut for good already.
        let _ = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, armed);
    }

    /// A lease was lost: no write of this attachment leaves any more.
    pub fn refuse(&self) {
        self.0.store(REFUSED, Ordering::Release);
    }

    fn advance(
        &self,
        now: Instant,
        deadline: u64,
        may: impl Fn(u64) -> bool,
    ) -> Result<(), Expired> {
        if deadline <= now.nanos() {
            return Err(Expired);
        }
        self.replace(deadline, may)
    }

    fn replace(&self, new: u64, may: impl Fn(u64) -> bool) -> Result<(), Expired> {
        let step = |word| {
            may(word).then_some(match (word, new) {
                (UNARMED, _) | (_, UNARMED) => new,
                (word, new) => word.max(new),
            })
        };
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, step)
            .map(drop)
            .map_err(|_| Expired)
    }
}

/// Clear of the words with a meaning.
fn deadline_after(started: Instant, give_up: Duration) -> u64 {
    (started + give_up).nanos().clamp(REFUSED + 1, UNARMED - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVE_UP: Duration = Duration::from_secs(80);

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn open() -> Gate {
        let gate = Gate::new();
        assert_eq!(gate.check(at(1_000_000)), Permission::Allowed, "not armed");
        gate.arm(at(101), at(100), GIVE_UP).unwrap();
        gate
    }

    #[test]
    fn silence_shuts_it() {
        let gate = open();
        assert_eq!(gate.deadline(), Some(at(180)));
        assert_eq!(gate.check(at(179)), Permission::Allowed);
        assert_eq!(gate.check(at(180)), Permission::Fenced);
        assert_eq!(gate.check(at(101)), Permission::Fenced, "shut for all");
    }

    #[test]
    fn a_renewal_counts_from_its_start() {
        let gate = open();
        gate.extend(at(150), at(120), GIVE_UP).unwrap();
        assert_eq!(gate.deadline(), Some(at(200)));
        gate.extend(at(151), at(110), GIVE_UP).unwrap();
        assert_eq!(gate.deadline(), Some(at(200)), "never shortened");
    }

    #[test]
    fn an_expired_gate_is_not_extended() {
        let gate = open();
        assert_eq!(
            gate.extend(at(180), at(175), GIVE_UP),
            Err(Expired),
            "nobody had asked"
        );
        assert_eq!(gate.check(at(180)), Permission::Fenced);
        assert_eq!(
            gate.extend(at(170), at(165), GIVE_UP),
            Err(Expired),
            "a stale clock"
        );
        assert_eq!(gate.disarm(at(181)), Err(Expired));
        assert_eq!(gate.arm(at(181), at(181), GIVE_UP), Err(Expired));
    }

    #[test]
    fn a_renewal_that_took_too_long_is_worth_nothing() {
        let gate = Gate::new();
        assert_eq!(gate.arm(at(180), at(100), GIVE_UP), Err(Expired));
        assert_eq!(
            gate.check(at(180)),
            Permission::Allowed,
            "still without a lockspace"
        );
    }

    #[test]
    fn only_the_proof_opens_it_again() {
        let gate = open();
        assert_eq!(gate.check(at(200)), Permission::Fenced);
        gate.restore(at(300), at(290), GIVE_UP, &Reclaimed::proven())
            .unwrap();
        assert_eq!(gate.check(at(300)), Permission::Allowed);
        assert_eq!(gate.deadline(), Some(at(370)));
    }

    #[test]
    fn a_lost_lease_is_final() {
        let gate = open();
        gate.refuse();
        assert_eq!(gate.check(at(101)), Permission::Refused);
        assert!(gate.extend(at(101), at(101), GIVE_UP).is_err());
        assert!(
            gate.restore(at(101), at(101), GIVE_UP, &Reclaimed::proven())
                .is_err()
        );
        assert!(gate.disarm(at(101)).is_err());
        assert_eq!(gate.check(at(101)), Permission::Refused);
    }

    #[test]
    fn it_shuts_at_a_word_but_for_who_is_not_armed() {
        let gate = open();
        gate.shut();
        assert_eq!(gate.check(at(101)), Permission::Fenced);
        assert!(gate.extend(at(101), at(101), GIVE_UP).is_err());
        gate.refuse();
        gate.shut();
        assert_eq!(gate.check(at(101)), Permission::Refused, "for good");
        let unarmed = Gate::new();
        unarmed.shut();
        assert_eq!(unarmed.check(at(101)), Permission::Allowed);
    }

    #[test]
    fn a_clean_leave_disarms_and_a_join_arms_again() {
        let gate = open();
        gate.disarm(at(110)).unwrap();
        assert_eq!(gate.check(at(10_000)), Permission::Allowed);
        gate.arm(at(10_001), at(10_000), GIVE_UP).unwrap();
        assert_eq!(gate.check(at(10_080)), Permission::Fenced);
    }
}
