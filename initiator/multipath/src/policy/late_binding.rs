//! Late binding: a command goes to the path that would finish it first, and to none while a better path that is full
//! would still finish it sooner (SCHEDULING section 6.4, points 3 and 4). What is not bound yet can still go where it
//! is quickest, and nothing waits behind megabytes on a path that turns out slow.

use super::{Ask, Candidate, Class, eta};
use crate::contract::PathId;

pub(super) fn choose<'a>(
    ask: &Ask,
    candidates: impl Iterator<Item = &'a Candidate> + Clone,
) -> Option<PathId> {
    let (chosen, soonest) = candidates
        .clone()
        .filter(|candidate| is_open(candidate, ask))
        .map(|candidate| {
            let time = eta::eta(candidate, ask.direction, ask.len.into());
            (candidate, time)
        })
        .min_by_key(|(candidate, time)| (*time, candidate.in_flight, candidate.path))?;
    // More came all the time than the full path could carry, for longer than this one needs: what is kept back for the
    // full path is not late by itself, it makes all that comes after it late.
    if ask.pressed > soonest {
        return Some(chosen.path);
    }
    // The earliest-completion-first test: all that waits, through the full path alone. Only a path that has something
    // to complete can become open by waiting.
    let worth_waiting = candidates
        .filter(|candidate| candidate.in_flight > 0 && !is_open(candidate, ask))
        .any(|full| {
            let backlog = ask.backlog.max(ask.len.into());
            eta::eta(full, ask.direction, backlog) < soonest
        });
    (!worth_waiting).then_some(chosen.path)
}

/// Idle, or Q + S <= W. A small command may exceed W by 25 %; one without data takes no window. Bulk may have twice as much
/// under way while there is nothing small that would wait behind it: the short queue costs throughput where the path's or
/// our own pauses are longer than it.
fn is_open(candidate: &Candidate, ask: &Ask) -> bool {
    if !candidate.takes(ask) {
        return false;
    }
    let Some(direction) = ask.direction else {
        return true;
    };
    let queued = *candidate.queued.of(direction);
    let window = *candidate.window.of(direction);
    let window = match ask.class {
        Class::Small => window.saturating_add(window / 4),
        Class::Bulk if ask.bulk_is_alone => window.saturating_mul(2),
        Class::Bulk => window,
    };
    queued == 0 || queued.saturating_add(u64::from(ask.len)) <= window
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::super::tests::{ask, plain};
    use super::super::{Choice, Direction, PerDirection, PolicyState, choose};
    use super::*;
    use crate::contract::PolicyKind;

    const KIB: u64 = 1024;

    /// A path of 100 MB/s and 0.2 ms with a window of 256 KiB and so much queued to read.
    fn path(id: u8, queued: u64) -> Candidate {
        let both = |value| PerDirection {
            read: value,
            write: value,
        };
        Candidate {
            in_flight: u32::from(queued > 0),
            queued: PerDirection {
                read: queued,
                write: 0,
            },
            rate: both(100_000_000),
            latency: Duration::from_micros(200),
            window: both(256 * KIB),
            ..plain(id)
        }
    }

    fn far(candidate: Candidate) -> Candidate {
        Candidate {
            latency: Duration::from_micros(5200),
            ..candidate
        }
    }

    fn chosen(ask: &Ask, candidates: &[Candidate]) -> Option<u8> {
        let mut state = PolicyState::default();
        match choose(PolicyKind::LateBinding, &mut state, ask, candidates) {
            Choice::Send(path) => Some(path.0),
            Choice::Wait => None,
        }
    }

    #[test]
    fn the_soonest_of_the_open_ones() {
        let bulk = ask(128 * 1024);
        let stalled = Candidate {
            stall: Duration::from_millis(4),
            ..path(0, 0)
        };
        let table = [
            // Equal: the first.
            ([path(0, 0), path(1, 0)], Some(0)),
            // Less queued.
            ([path(0, 4 * KIB), path(1, 0)], Some(1)),
            // Nearer, though it has more to do.
            ([far(path(0, 0)), path(1, 128 * KIB)], Some(1)),
            // Not stalled lately.
            ([stalled, path(1, 128 * KIB)], Some(1)),
            // Full ones are passed over if that is no later than waiting.
            ([path(0, 256 * KIB), path(1, 128 * KIB)], Some(1)),
            ([path(0, 256 * KIB), path(1, 256 * KIB)], None),
            // An idle path takes what is longer than its window.
            (
                [
                    path(0, 256 * KIB),
                    Candidate {
                        window: PerDirection::default(),
                        ..path(1, 0)
                    },
                ],
                Some(1),
            ),
        ];
        for (i, (candidates, expected)) in table.into_iter().enumerate() {
            assert_eq!(chosen(&bulk, &candidates), expected, "row {i}");
        }
    }

    #[test]
    fn bulk_alone_may_fill_a_path_twice() {
        let full = [path(0, 256 * KIB), path(1, 256 * KIB)];
        let alone = Ask {
            bulk_is_alone: true,
            ..ask(128 * 1024)
        };
        assert_eq!(chosen(&ask(128 * 1024), &full), None);
        assert_eq!(chosen(&alone, &full), Some(0));
        let twice = [path(0, 512 * KIB), path(1, 512 * KIB)];
        assert_eq!(chosen(&alone, &twice), None);
    }

    #[test]
    fn waits_for_a_full_path_that_is_sooner_even_with_all_that_waits() {
        // The near path is full: 0.2 + (256 KiB + backlog) / 100 MB/s; the far one idle: 5.2 + 1.31 = 6.51 ms.
        let candidates = [path(0, 256 * KIB), far(path(1, 0))];
        for (backlog, pressed_ms, expected) in [
            (128 * KIB, 0, None),
            (350 * KIB, 0, None),
            (400 * KIB, 0, Some(1)),
            (u64::MAX, 0, Some(1)),
            // A backlog that forgets this command itself.
            (0, 0, None),
            // More comes all the time: the far path is there to be used.
            (128 * KIB, 6, None),
            (128 * KIB, 7, Some(1)),
        ] {
            let ask = Ask {
                backlog,
                pressed: Duration::from_millis(pressed_ms),
                ..ask(128 * 1024)
            };
            let choice = chosen(&ask, &candidates);
            assert_eq!(choice, expected, "{backlog} {pressed_ms}");
        }
    }

    #[test]
    fn nothing_is_waited_for_that_has_nothing_to_complete() {
        let closed = Candidate {
            open: false,
            ..path(0, 0)
        };
        assert_eq!(chosen(&ask(4096), &[closed, far(path(1, 0))]), Some(1));
        assert_eq!(chosen(&ask(4096), &[closed]), None);
    }

    #[test]
    fn small_exceeds_the_window_by_a_quarter() {
        for (class, queued, expected) in [
            (Class::Bulk, 252 * KIB, Some(0)),
            (Class::Bulk, 253 * KIB, None),
            (Class::Small, 316 * KIB, Some(0)),
            (Class::Small, 317 * KIB, None),
        ] {
            let ask = Ask { class, ..ask(4096) };
            let choice = chosen(&ask, &[path(0, queued)]);
            assert_eq!(choice, expected, "{class:?} {queued}");
        }
    }

    #[test]
    fn directions_have_windows_of_their_own() {
        let full = [path(0, 256 * KIB)];
        let write = Ask {
            direction: Some(Direction::Write),
            ..ask(128 * 1024)
        };
        assert_eq!(chosen(&write, &full), Some(0));
        let flush = Ask {
            direction: None,
            ..ask(0)
        };
        assert_eq!(chosen(&flush, &full), Some(0));
    }
}
