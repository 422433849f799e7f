//! Round-robin: command by command over all usable paths. A path without room is passed over.

use super::{Ask, Candidate, PolicyState};
use crate::contract::PathId;

pub(super) fn choose<'a>(
    state: &PolicyState,
    ask: &Ask,
    candidates: impl Iterator<Item = &'a Candidate> + Clone,
) -> Option<PathId> {
    let mut open = candidates
        .filter(|candidate| candidate.takes(ask))
        .map(|candidate| candidate.path);
    let first = open.clone().next();
    match state.last {
        Some(last) => open.find(|&path| path > last).or(first),
        None => first,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ask, plain};
    use super::super::{Choice, choose};
    use super::*;
    use crate::contract::PolicyKind;

    #[test]
    fn takes_turns_and_passes_over_the_full() {
        // Which of paths 0, 2 and 5 are open, and who is chosen, in sequence.
        let table = [
            ([true, true, true], Choice::Send(PathId(0))),
            ([true, true, true], Choice::Send(PathId(2))),
            ([true, true, true], Choice::Send(PathId(5))),
            ([true, true, true], Choice::Send(PathId(0))),
            ([true, false, true], Choice::Send(PathId(5))),
            ([false, false, true], Choice::Send(PathId(5))),
            ([false, false, false], Choice::Wait),
            ([true, true, false], Choice::Send(PathId(0))),
        ];
        let mut state = PolicyState::default();
        for (i, (open, chosen)) in table.into_iter().enumerate() {
            let candidates = [0, 2, 5].map(plain);
            let mut candidates = candidates
                .into_iter()
                .zip(open)
                .map(|(candidate, open)| Candidate { open, ..candidate });
            let candidates: [Candidate; 3] = std::array::from_fn(|_| candidates.next().unwrap());
            assert_eq!(
                choose(PolicyKind::RoundRobin, &mut state, &ask(4096), &candidates),
                chosen,
                "step {i}"
            );
        }
    }
}
