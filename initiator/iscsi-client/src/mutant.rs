//! Rules of this crate broken on purpose, one at a time: the proof that the simulation's judges can see.
//!
//! Only the feature `mutants` can arm one. Without it [`lives`] is false for the compiler already, and nothing of this is
//! left in a program. Each mutant has one place where it strikes; its name says which rule is gone.

/// A rule that does not hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// One command more than MaxCmdSN allows.
    BeyondTheWindow,
    /// A second R2T for one write is overlooked.
    LostR2t,
    /// GOOD is taken for done, however little arrived.
    ShortDataPass,
    /// One response more is acknowledged than came.
    ExpStatSnAhead,
}

#[cfg(feature = "mutants")]
thread_local! {
    static ARMED: core::cell::Cell<Option<Mutant>> = const { core::cell::Cell::new(None) };
}

/// Breaks one rule, or none, on this thread from now on.
#[cfg(feature = "mutants")]
pub fn arm(mutant: Option<Mutant>) {
    ARMED.set(mutant);
}

#[cfg(feature = "mutants")]
pub(crate) fn lives(mutant: Mutant) -> bool {
    ARMED.get() == Some(mutant)
}

#[cfg(not(feature = "mutants"))]
pub(crate) const fn lives(_: Mutant) -> bool {
    false
}
