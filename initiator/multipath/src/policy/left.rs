//! Candidates that the rules have left over so far: a mask over the caller's list, so that nothing is copied.

use super::Candidate;
use crate::contract::PATHS_MAX;

const _: () = assert!(PATHS_MAX <= u8::BITS as usize, "one bit per path");

/// Some of the candidates, in the order of the list.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    list: &'a [Candidate],
    mask: u8,
}

impl<'a> Left<'a> {
    /// The whole list.
    ///
    /// # Panics
    /// If it has more candidates than there are paths.
    pub(super) fn all(list: &'a [Candidate]) -> Left<'a> {
        assert!(list.len() <= PATHS_MAX, "more candidates than paths");
        Left {
            list,
            mask: u8::MAX,
        }
    }

    /// Those that keep the rule; if none does, the rule does not count: the last path is never excluded.
    pub(super) fn prefer(self, rule: impl Fn(&Candidate) -> bool) -> Left<'a> {
        let keep = self
            .list
            .iter()
            .enumerate()
            .filter(|(_, candidate)| rule(candidate))
            .fold(0, |mask, (index, _)| mask | 1 << index);
        match self.mask & keep {
            0 => self,
            mask => Left { mask, ..self },
        }
    }

    pub(super) fn iter(self) -> impl Iterator<Item = &'a Candidate> + Clone {
        self.list
            .iter()
            .enumerate()
            .filter(move |(index, _)| self.mask & 1 << index != 0)
            .map(|(_, candidate)| candidate)
    }
}
