//! Targets that people own, as far as an initiator can tell them apart (from their sources).

use core::time::Duration;

use super::{Ping, Reinstatement, TargetConfig};

/// Whose manners a simulated target has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flavour {
    /// Linux LIO with a backend that queues (iblock): a reinstating login waits for the old commands.
    Lio,
    /// LIO with a backend that works in the receiving thread (fileio): while a command runs, the session reads nothing,
    /// so that no ping is answered.
    LioFileio,
    /// tgt: the login is answered at once, old commands run on, one queue per unit keeps their order.
    Tgt,
    /// SPDK with an old connection that is told to die and dies when it likes.
    Spdk,
    /// SCST: the login is answered, the connection reads nothing before the old commands have ended; a task set per nexus.
    Scst,
    /// FreeBSD CTL: as SCST, with one task set for all and pings with transfer tag 0.
    Ctl,
}

/// All of them.
pub const FLAVOURS: [Flavour; 6] = [
    Flavour::Lio,
    Flavour::LioFileio,
    Flavour::Tgt,
    Flavour::Spdk,
    Flavour::Scst,
    Flavour::Ctl,
];

impl Flavour {
    /// Gives a configuration these manners.
    pub fn shape(self, config: &mut TargetConfig) {
        let ping = |idle, patience| Ping {
            idle: Duration::from_secs(idle),
            patience: Duration::from_secs(patience),
            tag_zero: self == Flavour::Ctl,
        };
        config.reinstatement = match self {
            Flavour::Lio | Flavour::LioFileio => Reinstatement::AnswerAfterDrain,
            Flavour::Scst | Flavour::Ctl => Reinstatement::ReadAfterDrain,
            Flavour::Tgt | Flavour::Spdk => Reinstatement::AnswerAtOnce,
        };
        config.works_while_reading = self == Flavour::LioFileio;
        config.ping = match self {
            Flavour::Lio | Flavour::LioFileio => Some(ping(15, 30)),
            Flavour::Tgt => None,
            Flavour::Spdk | Flavour::Scst => Some(ping(30, 30)),
            Flavour::Ctl => Some(ping(3, 2)),
        };
        config.data_out_timeout = match self {
            Flavour::Lio | Flavour::LioFileio => Some(Duration::from_secs(3)),
            _ => None,
        };
    }

    /// TST=001b in its control mode page.
    pub fn has_task_set_per_nexus(self) -> bool {
        self == Flavour::Scst
    }
}
