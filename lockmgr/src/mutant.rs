//! Deliberate breakages, so that the simulation can prove that its judges see them.
//!
//! Nothing outside this crate's own tests can ask for one: the constructor that takes a [`Mutant`] exists with the feature
//! `mutants` only, and only the tests of this crate switch it on.

/// One way to get the algorithms wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mutant {
    /// Takes another machine's slot, and a dead owner's lease, without waiting.
    SkipWait,
    /// Takes its slot again without raising the generation.
    ForgetGeneration,
    /// Counts the gate's deadline from when a renewal completed.
    ExtendFromNow,
    /// Does not look for shared holders after an exclusive ballot was won.
    IgnoreModeBlocks,
    /// Sends a leader that was lost once more, without a fence and without reading back.
    ResendLeaderBlindly,
    /// Opens the gate again once the slot is held again, without winning the leases back.
    OpenWithoutProof,
    /// Writes something different to its own sector while a copy of what is there may still land.
    OverwriteDoubled,
    /// Releases a lease without waiting for the end of what it writes into its lock value block.
    BlockNotAwaited,
    /// Releases a lease and forgets the lock value block that it was given.
    ForgetBlock,
    /// Asks an owner to let go where another host has asked before, and clears that host's request.
    ClearRequest,
    /// Takes every call of another host for a request for each lease that it holds.
    HearEveryCall,
    /// Leaves the field for up to a second after every lost ballot: safe, but a crowd hardly gets on.
    PauseLong,
}
