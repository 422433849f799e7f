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
        bulk_is_alone: false,
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

#[test]
fn trust_goes_before_access_and_the_last_path_is_never_excluded() {
    use AccessClass::{NonOptimized, Optimized};
    use Standing::{Full, Marginal, Suspect};
    let path = |id, standing, access| Candidate {
        standing,
        access,
        ..plain(id)
    };
    // (candidates, the one that failed it, chosen): the same under every policy.
    let table = [
        (
            [path(0, Suspect, Optimized), path(1, Full, Optimized)],
            None,
            1,
        ),
        (
            [path(0, Suspect, Optimized), path(1, Full, NonOptimized)],
            None,
            1,
        ),
        (
            [path(0, Suspect, Optimized), path(1, Marginal, NonOptimized)],
            None,
            1,
        ),
        (
            [path(0, Marginal, Optimized), path(1, Full, NonOptimized)],
            None,
            1,
        ),
        (
            [
                path(0, Marginal, NonOptimized),
                path(1, Marginal, Optimized),
            ],
            None,
            1,
        ),
        (
            [path(0, Suspect, NonOptimized), path(1, Suspect, Optimized)],
            None,
            1,
        ),
        // Not where it failed, if that leaves a path that is not suspect.
        (
            [path(0, Full, Optimized), path(1, Full, Optimized)],
            Some(0),
            1,
        ),
        (
            [path(0, Full, Optimized), path(1, Marginal, NonOptimized)],
            Some(0),
            1,
        ),
        (
            [path(0, Suspect, Optimized), path(1, Full, Optimized)],
            Some(1),
            1,
        ),
        (
            [path(0, Suspect, Optimized), path(1, Suspect, Optimized)],
            Some(0),
            1,
        ),
    ];
    for kind in ALL {
        for (row, (candidates, avoid, chosen)) in table.into_iter().enumerate() {
            let ask = Ask {
                avoid: avoid.map(PathId),
                ..ask(4096)
            };
            let choice = choose(kind, &mut PolicyState::default(), &ask, &candidates);
            assert_eq!(choice, Choice::Send(PathId(chosen)), "{kind:?}, row {row}");
            // Alone, each of them is used.
            for candidate in candidates {
                let choice = choose(kind, &mut PolicyState::default(), &ask, &[candidate]);
                assert_eq!(choice, Choice::Send(candidate.path), "{kind:?}, row {row}");
            }
        }
    }
}

#[test]
fn a_path_on_probation_takes_what_its_ramp_allows() {
    use Allowance::{Bytes, Spent};
    let ramp = |id, allowance, in_flight, read| Candidate {
        allowance,
        in_flight,
        queued: PerDirection { read, write: 0 },
        ..plain(id)
    };
    // Full, and so far that nobody waits for it who has a choice.
    let other = Candidate {
        open: false,
        in_flight: 1,
        latency: Duration::from_secs(1),
        ..plain(1)
    };
    let here = Choice::Send(PathId(0));
    // (path on probation, chosen beside the other one, chosen if it is the only one)
    let table = [
        // Idle, it takes one command of any length; else what the limit leaves.
        (ramp(0, Bytes(1024), 0, 0), here, here),
        (ramp(0, Bytes(8192), 1, 4096), here, here),
        (ramp(0, Bytes(8191), 1, 4096), Choice::Wait, Choice::Wait),
        // It had its share: the other one is waited for.
        (ramp(0, Spent(8192), 0, 0), Choice::Wait, here),
        (ramp(0, Spent(8192), 1, 4096), Choice::Wait, here),
        (ramp(0, Spent(8191), 1, 4096), Choice::Wait, Choice::Wait),
    ];
    for kind in ALL {
        for (row, (candidate, beside, alone)) in table.into_iter().enumerate() {
            let of = |candidates: &[Candidate]| {
                choose(kind, &mut PolicyState::default(), &ask(4096), candidates)
            };
            assert_eq!(of(&[candidate, other]), beside, "{kind:?}, row {row}");
            assert_eq!(of(&[candidate]), alone, "{kind:?}, row {row}");
        }
    }
}
