//! The rules that hold under every policy, and the policies on a model of two links.

mod expectations;
mod model;

use super::*;

pub(super) const ALL: [PolicyKind; 5] = [
    PolicyKind::RoundRobin,
    PolicyKind::Failover,
    PolicyKind::QueueLength,
    PolicyKind::ServiceTime,
    PolicyKind::LateBinding,
];

/// A read of so many bytes, and nothing else waits.
pub(super) fn ask(len: u32) -> Ask {
    Ask {
        direction: Some(Direction::Read),
        len,
        class: Class::of(len),
        backlog: len.into(),
        pressed: Duration::ZERO,
        avoid: None,
    }
}

/// An idle path with nothing special.
pub(super) fn plain(path: u8) -> Candidate {
    Candidate::plain(PathId(path), AccessClass::Optimized, true, 0)
}

#[test]
fn the_best_access_class_goes_first() {
    use AccessClass::{LbaDependent, NonOptimized, Optimized, Preferred};
    // (candidates, chosen): the same under every policy.
    let table = [
        (vec![], Choice::Wait),
        (vec![(0, NonOptimized, true)], Choice::Send(PathId(0))),
        (
            vec![(0, NonOptimized, true), (1, Optimized, true)],
            Choice::Send(PathId(1)),
        ),
        (
            vec![(0, Optimized, true), (1, Preferred, true)],
            Choice::Send(PathId(1)),
        ),
        (
            vec![(0, NonOptimized, true), (1, LbaDependent, true)],
            Choice::Send(PathId(1)),
        ),
        // A full better path is waited for: the other class is slower by the target's own word.
        (
            vec![(0, NonOptimized, true), (1, Optimized, false)],
            Choice::Wait,
        ),
    ];
    for kind in ALL {
        for (candidates, chosen) in &table {
            let candidates: Vec<_> = candidates
                .iter()
                .map(|&(path, access, open)| Candidate::plain(PathId(path), access, open, 0))
                .collect();
            let mut state = PolicyState::default();
            assert_eq!(
                choose(kind, &mut state, &ask(4096), &candidates),
                *chosen,
                "{kind:?} {candidates:?}"
            );
        }
    }
}
