//! Round-robin: command by command over all usable paths. A path without room is passed over.

use super::{Candidate, PolicyState};
use crate::contract::PathId;

pub(super) fn choose<'a>(
    state: &PolicyState,
    candidates: impl Iterator<Item = &'a Candidate> + Clone,
) -> Option<PathId> {
    let mut open = candidates
        .filter(|candidate| candidate.open)
        .map(|candidate| candidate.path);
    let first = open.clone().next();
    match state.last {
        Some(last) => open.find(|&path| path > last).or(first),
        None => first,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AccessClass, choose};
    use super::*;
    use crate::contract::PolicyKind;

    #[test]
    fn takes_turns_and_passes_over_the_full() {
        // Which of paths 0, 2 and 5 are open, and who is chosen, in sequence.
        let table = [
            ([true, true, true], Some(0)),
            ([true, true, true], Some(2)),
            ([true, true, true], Some(5)),
            ([true, true, true], Some(0)),
            ([true, false, true], Some(5)),
            ([false, false, true], Some(5)),
            ([false, false, false], None),
            ([true, true, false], Some(0)),
        ];
        let mut state = PolicyState::default();
        for (i, (open, chosen)) in table.into_iter().enumerate() {
            let candidates: Vec<_> = [0, 2, 5]
                .into_iter()
                .zip(open)
                .map(|(path, open)| Candidate {
                    path: PathId(path),
                    access: AccessClass::Optimized,
                    open,
                })
                .collect();
            assert_eq!(
                choose(PolicyKind::RoundRobin, &mut state, &candidates),
                chosen.map(PathId),
                "step {i}"
            );
        }
    }
}
