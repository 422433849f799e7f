//! Rules of this crate broken on purpose, one at a time: the proof that the simulation's judges can see.
//!
//! Only the feature `mutants` can arm one. Without it [`lives`] is false for the compiler already, and nothing of this is
//! left in a program. Each mutant has one place where it strikes; its name says which rule is gone.

/// A rule that does not hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// A retried write is answered while a copy of it may still execute.
    AnswerBeforeFence,
    /// A write leaves although a copy of another one may still land on its blocks.
    OverlapLetThrough,
    /// A lost session's writes are repeated and forgotten: nothing is fenced.
    RetryWithoutFence,
    /// The proof that a session is dead leaves out the ORDERED command.
    NoOrderedCommand,
    /// All paths log in with one ISID.
    SameIsid,
    /// Whatever disk answers is taken for ours.
    AnyIdentity,
    /// A write cache that was switched on at run time is overlooked.
    CacheOverlooked,
    /// A second copy of a read is published, and the request answered, while the first may still be received into its
    /// buffer.
    AnsweredWhileReceiving,
    /// When the permission to write ends, only whole commands are stopped: the rest of a write that has begun leaves.
    DataOutWithoutPermission,
    /// New writes leave although the permission is withheld.
    WriteWithoutPermission,
    /// A drain is over when nothing is on a session any more, whatever dead sessions have left.
    DrainedTooEarly,
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
