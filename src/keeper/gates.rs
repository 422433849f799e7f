//! The write permissions that a lockspace keeps open: those of the volumes that its leases protect, none for files.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lockmgr::GateOrder;
use lockmgr::gate::{Expired, Gate};
use lockmgr::time::Instant;

use super::Drained;

/// Called when the gates have shut, to make sure that no write sent before can still execute, by fences of the data path or by
/// waiting. Tells when that is so. Must not block.
pub type Drain = Box<dyn FnMut(Drained) + Send>;

/// What a lockspace protects.
pub struct Gates {
    gates: Vec<Arc<Gate>>,
    drain: Drain,
}

impl fmt::Debug for Gates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gates")
            .field("gates", &self.gates)
            .finish_non_exhaustive()
    }
}

impl Gates {
    /// Nothing that this host carries: there is nothing to shut and nothing to drain.
    pub fn none() -> Gates {
        Gates::of(Vec::new(), Box::new(Drained::tell))
    }

    /// These gates, and how what was sent through them is drained.
    pub fn of(gates: Vec<Arc<Gate>>, drain: Drain) -> Gates {
        Gates { gates, drain }
    }

    /// Carries out an order on each. [`Expired`] if any refuses, which the lockspace must hear; but not of one that
    /// had shut when it was to be disarmed: it stays shut.
    pub(super) fn apply(
        &self,
        now: Instant,
        order: &GateOrder,
        give_up: Duration,
    ) -> Result<(), Expired> {
        let mut result = Ok(());
        for gate in &self.gates {
            let moved = match order {
                GateOrder::Arm { started } => gate.arm(now, *started, give_up),
                GateOrder::Extend { started } => gate.extend(now, *started, give_up),
                GateOrder::Restore { started, proof } => {
                    gate.restore(now, *started, give_up, proof)
                }
                GateOrder::Disarm => {
                    let _ = gate.disarm(now);
                    Ok(())
                }
                GateOrder::Refuse => {
                    gate.refuse();
                    Ok(())
                }
            };
            result = result.and(moved);
        }
        result
    }

    /// The lockspace is lost: all shut, and what has left is drained.
    pub(super) fn lost(&mut self, drained: Drained) {
        for gate in &self.gates {
            gate.shut();
        }
        (self.drain)(drained);
    }

    /// The lockspace is given up while it is lost: no write leaves any more.
    pub(super) fn refuse(&self) {
        for gate in &self.gates {
            gate.refuse();
        }
    }
}
