//! Which path carries the next command. Plain data in, an id out: nothing here sends, waits or remembers
//! more than whose turn it was.
//!
//! The access class goes first, whatever the policy (SCHEDULING rule: spread IO only inside the best
//! non-empty class). One file per policy, one signature.

mod failover;
mod round_robin;

use crate::contract::{PATHS_MAX, PathId, PolicyKind};

/// How well a target port serves the logical unit (SPC-5, 5.18: asymmetric access states), best first.
/// States that carry no IO are not here: such a path is no candidate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AccessClass {
    /// Active/optimized, and the target prefers it.
    Preferred,
    /// Active/optimized, or the target reports no asymmetric access.
    Optimized,
    /// Depends on the block address.
    LbaDependent,
    /// Active, but slower.
    NonOptimized,
}

/// A path that may carry IO.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Which.
    pub path: PathId,
    /// How well it serves the LUN.
    pub access: AccessClass,
    /// It can take a command now: there is room in its command window and its depth limit.
    pub open: bool,
}

/// What a policy remembers between two choices.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PolicyState {
    last: Option<PathId>,
}

/// The path for the next command, or `None` if it should wait. `candidates` are in the order of their ids.
pub fn choose(
    kind: PolicyKind,
    state: &mut PolicyState,
    candidates: &[Candidate],
) -> Option<PathId> {
    debug_assert!(candidates.len() <= PATHS_MAX);
    debug_assert!(candidates.is_sorted_by_key(|candidate| candidate.path));
    let best = candidates.iter().map(|candidate| candidate.access).min()?;
    let class = candidates
        .iter()
        .filter(|candidate| candidate.access == best);
    let chosen = match kind {
        PolicyKind::RoundRobin => round_robin::choose(state, class),
        PolicyKind::Failover => failover::choose(state, class),
    };
    if chosen.is_some() {
        state.last = chosen;
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(path: u8, access: AccessClass, open: bool) -> Candidate {
        Candidate {
            path: PathId(path),
            access,
            open,
        }
    }

    #[test]
    fn the_best_access_class_goes_first() {
        use AccessClass::{LbaDependent, NonOptimized, Optimized, Preferred};
        // (candidates, chosen): the same under every policy.
        let table = [
            (vec![], None),
            (vec![(0, NonOptimized, true)], Some(0)),
            (vec![(0, NonOptimized, true), (1, Optimized, true)], Some(1)),
            (vec![(0, Optimized, true), (1, Preferred, true)], Some(1)),
            (
                vec![(0, NonOptimized, true), (1, LbaDependent, true)],
                Some(1),
            ),
            // A full better path is waited for: the other class is slower by the target's own word.
            (vec![(0, NonOptimized, true), (1, Optimized, false)], None),
        ];
        for kind in [PolicyKind::RoundRobin, PolicyKind::Failover] {
            for (candidates, chosen) in &table {
                let candidates: Vec<_> = candidates
                    .iter()
                    .map(|&(path, access, open)| candidate(path, access, open))
                    .collect();
                let mut state = PolicyState::default();
                assert_eq!(
                    choose(kind, &mut state, &candidates),
                    chosen.map(PathId),
                    "{kind:?} {candidates:?}"
                );
            }
        }
    }
}
