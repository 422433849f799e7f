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
    /// SPDK: as tgt, and commands are executed in any order, whatever they ask for.
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
        config.reinstatement = self.reinstatement();
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

    /// What a login with a known identity waits for.
    pub fn reinstatement(self) -> Reinstatement {
        match self {
            Flavour::Lio | Flavour::LioFileio => Reinstatement::AnswerAfterDrain,
            Flavour::Scst | Flavour::Ctl => Reinstatement::ReadAfterDrain,
            Flavour::Tgt | Flavour::Spdk => Reinstatement::AnswerAtOnce,
        }
    }

    /// Vendor identification of its disks.
    pub fn vendor(self) -> &'static str {
        match self {
            Flavour::Lio | Flavour::LioFileio => "LIO-ORG",
            Flavour::Tgt => "IET",
            Flavour::Spdk => "INTEL",
            Flavour::Scst => "SCST_FIO",
            Flavour::Ctl => "FREEBSD",
        }
    }

    /// Does not know what ORDERED means.
    pub fn ignores_order(self) -> bool {
        self == Flavour::Spdk
    }

    /// TST=001b in its control mode page.
    pub fn has_task_set_per_nexus(self) -> bool {
        self == Flavour::Scst
    }
}
