//! Queue-length: the open path with the fewest commands outstanding; on a tie the next in turn. Blind to size and
//! rate, and known so (SCHEDULING section 6.2).

use super::{Ask, Candidate, PolicyState, in_turn};
use crate::contract::PathId;

pub(super) fn choose<'a>(
    state: &PolicyState,
    ask: &Ask,
    candidates: impl Iterator<Item = &'a Candidate>,
) -> Option<PathId> {
    candidates
        .filter(|candidate| candidate.takes(ask))
        .min_by_key(|candidate| (candidate.in_flight, in_turn(state, candidate.path)))
        .map(|candidate| candidate.path)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ask, plain};
    use super::super::{Choice, choose};
    use super::*;
    use crate::contract::PolicyKind;

    #[test]
    fn the_fewest_commands_then_the_turn() {
        // Commands in flight on paths 0, 1 and 2 (`None`: not open), and who is chosen, in sequence.
        let table = [
            ([Some(3), Some(1), Some(2)], Choice::Send(PathId(1))),
            ([Some(0), Some(0), Some(0)], Choice::Send(PathId(2))),
            ([Some(0), Some(0), Some(0)], Choice::Send(PathId(0))),
            ([Some(0), Some(0), Some(0)], Choice::Send(PathId(1))),
            ([Some(0), Some(0), Some(1)], Choice::Send(PathId(0))),
            ([None, Some(9), Some(9)], Choice::Send(PathId(1))),
            ([None, None, None], Choice::Wait),
        ];
        let mut state = PolicyState::default();
        for (i, (in_flight, chosen)) in table.into_iter().enumerate() {
            let candidates = [0, 1, 2].map(|path| Candidate {
                open: in_flight[usize::from(path)].is_some(),
                in_flight: in_flight[usize::from(path)].unwrap_or(0),
                ..plain(path)
            });
            assert_eq!(
                choose(PolicyKind::QueueLength, &mut state, &ask(4096), &candidates),
                chosen,
                "step {i}"
            );
        }
    }
}
