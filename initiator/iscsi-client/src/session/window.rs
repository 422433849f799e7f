//! The command window: which CmdSN comes next and how far the target lets us go (RFC 7143, 4.2.2.1).
//!
//! A command beyond MaxCmdSN is silently dropped by the target and hangs for ever, so the window is never
//! exceeded: [`Window::take`] asserts it.

use crate::mutant::{Mutant, lives};
use crate::wire::CmdSn;

/// CmdSN and MaxCmdSN of a session.
#[derive(Debug)]
pub(super) struct Window {
    next: CmdSn,
    max: CmdSn,
}

impl Window {
    /// A closed window. The first command after a login carries the login's own CmdSN.
    pub(super) fn closed_at(next: CmdSn) -> Window {
        Window {
            next,
            max: CmdSn(next.0.wrapping_sub(1)),
        }
    }

    /// Takes what the target says. MaxCmdSN only moves forward; a pair that contradicts itself is ignored.
    pub(super) fn update(&mut self, exp: CmdSn, max: CmdSn) {
        if max.distance_from(exp) < -1 {
            return;
        }
        if self.max.is_before(max) {
            self.max = max;
        }
    }

    /// How many numbered requests may leave now.
    pub(super) fn room(&self) -> u32 {
        let more = 1 + i64::from(lives(Mutant::BeyondTheWindow));
        u32::try_from(i64::from(self.max.distance_from(self.next)) + more).unwrap_or(0)
    }

    /// The CmdSN that the next numbered request will carry, and that immediate requests carry.
    pub(super) fn current(&self) -> CmdSn {
        self.next
    }

    /// Uses up one CmdSN.
    ///
    /// # Panics
    /// If the window is closed.
    pub(super) fn take(&mut self) -> CmdSn {
        assert!(self.room() > 0, "a request beyond MaxCmdSN");
        let taken = self.next;
        self.next = taken.next();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_moves_forward_only_and_wraps() {
        let mut window = Window::closed_at(CmdSn(0xffff_fffe));
        assert_eq!(window.room(), 0);
        window.update(CmdSn(0xffff_fffe), CmdSn(1));
        assert_eq!(window.room(), 4);
        assert_eq!(window.take(), CmdSn(0xffff_fffe));
        window.update(CmdSn(0xffff_ffff), CmdSn(0xffff_ffff));
        assert_eq!(window.room(), 3, "MaxCmdSN never moves back");
        for expected in [0xffff_ffff, 0, 1] {
            assert_eq!(window.take(), CmdSn(expected));
        }
        assert_eq!(window.room(), 0);
    }

    #[test]
    fn a_contradiction_is_ignored() {
        let mut window = Window::closed_at(CmdSn(10));
        window.update(CmdSn(20), CmdSn(18));
        assert_eq!(window.room(), 0);
        window.update(CmdSn(10), CmdSn(9));
        assert_eq!(
            window.room(),
            0,
            "MaxCmdSN = ExpCmdSN - 1 closes the window"
        );
    }

    #[test]
    #[should_panic(expected = "beyond MaxCmdSN")]
    fn a_closed_window_yields_nothing() {
        Window::closed_at(CmdSn(5)).take();
    }
}
