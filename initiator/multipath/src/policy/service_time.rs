//! Service-time: the open path that would have moved all it has to move soonest, this command included, at its rate;
//! on a tie the next in turn. Unlike dm-multipath's, the rate is the measured one, not a weight. It ignores the round
//! trip and the stall penalty (SCHEDULING section 6.2).

use super::{Ask, Candidate, PolicyState, eta, in_turn};
use crate::contract::PathId;

pub(super) fn choose<'a>(
    state: &PolicyState,
    ask: &Ask,
    candidates: impl Iterator<Item = &'a Candidate>,
) -> Option<PathId> {
    candidates
        .filter(|candidate| candidate.takes(ask))
        .min_by_key(|candidate| {
            let moving = eta::moving_time(candidate, ask.direction, ask.len.into());
            (moving, in_turn(state, candidate.path))
        })
        .map(|candidate| candidate.path)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ask, plain};
    use super::super::{Choice, PerDirection, choose};
    use super::*;
    use crate::contract::PolicyKind;

    #[test]
    fn the_least_to_move_for_the_rate() {
        // (queued to read, queued to write, MB/s) of paths 0 and 1, and who gets a read of 100 kB, in sequence.
        let table = [
            ([(0, 0, 100), (0, 0, 100)], 0),
            // A tie: in turn.
            ([(0, 0, 100), (0, 0, 100)], 1),
            ([(100_000, 0, 100), (0, 0, 100)], 1),
            ([(100_000, 0, 250), (0, 0, 100)], 0),
            ([(200_000, 0, 250), (0, 0, 100)], 1),
            // The other direction does not count.
            ([(0, 900_000, 100), (1, 0, 100)], 0),
        ];
        let mut state = PolicyState::default();
        for (i, (paths, chosen)) in table.into_iter().enumerate() {
            let candidates = [0, 1].map(|path| {
                let (read, write, rate) = paths[usize::from(path)];
                let rate = rate * 1_000_000;
                Candidate {
                    queued: PerDirection { read, write },
                    rate: PerDirection {
                        read: rate,
                        write: rate,
                    },
                    ..plain(path)
                }
            });
            assert_eq!(
                choose(
                    PolicyKind::ServiceTime,
                    &mut state,
                    &ask(100_000),
                    &candidates
                ),
                Choice::Send(PathId(chosen)),
                "step {i}"
            );
        }
    }

    #[test]
    fn the_full_are_passed_over() {
        let full = |path| Candidate {
            open: false,
            ..plain(path)
        };
        let mut state = PolicyState::default();
        for (candidates, chosen) in [
            ([full(0), plain(1)], Choice::Send(PathId(1))),
            ([full(0), full(1)], Choice::Wait),
        ] {
            let choice = choose(PolicyKind::ServiceTime, &mut state, &ask(4096), &candidates);
            assert_eq!(choice, chosen);
        }
    }
}
