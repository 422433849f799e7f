//! Failover: the first usable path in the order given. While it is usable but full, commands wait for it.

use super::{Candidate, PolicyState};
use crate::contract::PathId;

pub(super) fn choose<'a>(
    _state: &PolicyState,
    mut candidates: impl Iterator<Item = &'a Candidate> + Clone,
) -> Option<PathId> {
    candidates
        .next()
        .filter(|candidate| candidate.open)
        .map(|candidate| candidate.path)
}

#[cfg(test)]
mod tests {
    use super::super::{AccessClass, choose};
    use super::*;
    use crate::contract::PolicyKind;

    #[test]
    fn stays_on_the_first() {
        let table: [(&[(u8, bool)], Option<u8>); 5] = [
            (&[(0, true), (1, true)], Some(0)),
            (&[(0, true), (1, true)], Some(0)),
            (&[(0, false), (1, true)], None),
            (&[(1, true)], Some(1)),
            (&[(0, true), (1, true)], Some(0)),
        ];
        let mut state = PolicyState::default();
        for (candidates, chosen) in table {
            let candidates: Vec<_> = candidates
                .iter()
                .map(|&(path, open)| Candidate {
                    path: PathId(path),
                    access: AccessClass::Optimized,
                    open,
                })
                .collect();
            assert_eq!(
                choose(PolicyKind::Failover, &mut state, &candidates),
                chosen.map(PathId)
            );
        }
    }
}
