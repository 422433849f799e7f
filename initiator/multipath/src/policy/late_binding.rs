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

/// Idle, or Q + S <= W. A small command may exceed W by 25 %; one without data takes no window.
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
        Class::Bulk => window,
    };
    queued == 0 || queued.saturating_add(u64::from(ask.len)) <= window
}
