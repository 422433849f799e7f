//! Failover: the first usable path in the order given. While it is usable but full, commands wait for it.

use super::{Ask, Candidate};
use crate::contract::PathId;

pub(super) fn choose<'a>(
    ask: &Ask,
    mut candidates: impl Iterator<Item = &'a Candidate>,
) -> Option<PathId> {
    candidates
        .next()
        .filter(|candidate| candidate.takes(ask))
        .map(|candidate| candidate.path)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ask, plain};
    use super::super::{Choice, PolicyState, choose};
    use super::*;
    use crate::contract::PolicyKind;

    #[test]
    fn stays_on_the_first() {
        // (candidates and whether they are open, who is chosen), in sequence.
        let table = [
            (&[(0, true), (1, true)][..], Choice::Send(PathId(0))),
            (&[(0, true), (1, true)], Choice::Send(PathId(0))),
            (&[(0, false), (1, true)], Choice::Wait),
            (&[(1, true)], Choice::Send(PathId(1))),
            (&[(0, true), (1, true)], Choice::Send(PathId(0))),
        ];
        let mut state = PolicyState::default();
        for (candidates, chosen) in table {
            let candidates: Vec<_> = candidates
                .iter()
                .map(|&(path, open)| Candidate {
                    open,
                    ..plain(path)
                })
                .collect();
            assert_eq!(
                choose(PolicyKind::Failover, &mut state, &ask(4096), &candidates),
                chosen
            );
        }
    }
}
