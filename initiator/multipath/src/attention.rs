//! Unit attentions: absorbed on every path, acted on once per volume (SCHEDULING section 4).
//!
//! The target queues the same news once per nexus, so a change comes as many times as there are paths. What
//! concerns the logical unit is done by the first path that hears of it; what concerns the nexus is done by each.

use core::time::Duration;

use iscsi_client::scsi::Attention;
use iscsi_client::time::Instant;

/// The same news from another path within this time is an echo.
const ECHO: Duration = Duration::from_secs(2);
/// Kinds of news that concern the logical unit.
const KINDS: usize = 5;

/// What must be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Nothing but repeating the command.
    Nothing,
    /// No write on this path until its identity is verified again.
    Verify,
    /// Read identity, capacity and cache mode again; IO goes on.
    Examine,
    /// Read the target port groups again.
    Groups,
    /// Read the capacity again, through every path: each has a word in it.
    Capacity,
    /// Tell the operator that the pool fills up.
    TellThin,
    /// Tell the operator that a reservation is gone.
    TellReservation,
}

/// What was heard lately.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attentions {
    heard: [Option<Instant>; KINDS],
}

impl Attentions {
    /// News arrived on some path.
    pub fn hear(&mut self, now: Instant, news: Attention) -> Action {
        let (kind, action) = match news {
            // A reset unit may be another one, and so may a changed one: each path looks for itself.
            Attention::Reset | Attention::IdentityChanged | Attention::LunsChanged => {
                return Action::Verify;
            }
            Attention::NexusLoss | Attention::CommandsCleared | Attention::Other => {
                return Action::Nothing;
            }
            Attention::ModeParametersChanged => (0, Action::Examine),
            Attention::CapacityChanged => (1, Action::Capacity),
            Attention::AluaChanged => (2, Action::Groups),
            Attention::ThinThreshold => (3, Action::TellThin),
            Attention::ReservationLost => (4, Action::TellReservation),
        };
        let echo = self.heard[kind].is_some_and(|at| now.since(at) < ECHO);
        if echo {
            return Action::Nothing;
        }
        self.heard[kind] = Some(now);
        action
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_per_volume_but_identity_on_every_path() {
        let at = |millis: u64| Instant::from_nanos(millis * 1_000_000);
        let table = [
            (0, Attention::CapacityChanged, Action::Capacity),
            (5, Attention::CapacityChanged, Action::Nothing),
            (5, Attention::ModeParametersChanged, Action::Examine),
            (1999, Attention::CapacityChanged, Action::Nothing),
            (2000, Attention::CapacityChanged, Action::Capacity),
            (2001, Attention::IdentityChanged, Action::Verify),
            (2001, Attention::IdentityChanged, Action::Verify),
            (2002, Attention::AluaChanged, Action::Groups),
            (2003, Attention::AluaChanged, Action::Nothing),
            (2004, Attention::NexusLoss, Action::Nothing),
        ];
        let mut attentions = Attentions::default();
        for (millis, news, action) in table {
            assert_eq!(
                attentions.hear(at(millis), news),
                action,
                "{news:?} at {millis}"
            );
        }
    }
}
