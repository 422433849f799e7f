//! Error rate: a path on which 5 of the last 200 commands failed, which is more than 1 %, is marginal, whatever its
//! penalty (SCHEDULING section 5). For a path that never dies and is never well: a bad optic, a port that resets.
//!
//! Which failures count is the caller's knowledge: those that are the path's own, not the LUN's.

/// Commands looked back upon.
const COMMANDS: usize = 200;
/// So many failures among them are too many. The rule's 1 % of 200 is less, so this decides alone.
const FAILURES: u32 = 5;

/// The last commands of a path, one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errors {
    failed: [u64; COMMANDS.div_ceil(64)],
    next: usize,
    failures: u32,
}

impl Default for Errors {
    fn default() -> Errors {
        Errors {
            failed: [0; COMMANDS.div_ceil(64)],
            next: 0,
            failures: 0,
        }
    }
}

/// How a command ended, as far as the path is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ended {
    /// It got through, whatever the LUN answered.
    Through,
    /// The path is to blame.
    Failed,
}

impl Errors {
    /// A command ended. Returns whether the path fails too many: for [`condemn`]. Then the count starts anew.
    ///
    /// [`condemn`]: super::damping::Damping::condemn
    #[must_use]
    pub fn note(&mut self, ended: Ended) -> bool {
        let (word, bit) = (self.next / 64, 1 << (self.next % 64));
        self.next = (self.next + 1) % COMMANDS;
        if self.failed[word] & bit != 0 {
            self.failed[word] &= !bit;
            self.failures -= 1;
        }
        if ended == Ended::Failed {
            self.failed[word] |= bit;
            self.failures += 1;
        }
        let too_many = self.failures >= FAILURES;
        if too_many {
            *self = Errors::default();
        }
        too_many
    }

    /// Failures among the last 200 commands.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(errors: &mut Errors, ended: Ended, times: u32) -> bool {
        (0..times).fold(false, |said, _| errors.note(ended) || said)
    }

    #[test]
    fn five_of_the_last_two_hundred() {
        let mut errors = Errors::default();
        assert!(!notes(&mut errors, Ended::Failed, 4));
        assert!(!notes(&mut errors, Ended::Through, 195));
        assert!(notes(&mut errors, Ended::Failed, 1), "the 5th of 200");
        // Once; then from the start.
        assert_eq!(errors.failures(), 0);
        assert!(!notes(&mut errors, Ended::Failed, 4));
        assert!(!notes(&mut errors, Ended::Through, 196));
        assert!(
            !notes(&mut errors, Ended::Failed, 1),
            "the first is forgotten"
        );
        assert_eq!(errors.failures(), 4);
        assert!(!notes(&mut errors, Ended::Through, 200));
        assert_eq!(errors.failures(), 0);
    }

    #[test]
    fn one_per_cent_is_bearable() {
        let mut errors = Errors::default();
        for _ in 0..1000 {
            assert!(!notes(&mut errors, Ended::Through, 99));
            assert!(!notes(&mut errors, Ended::Failed, 1));
        }
    }
}
