//! The write permissions that a lockspace keeps open: those of the volumes that its leases protect, none for files.

use std::fmt;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::Sender;
use lockmgr::GateOrder;
use lockmgr::gate::{Expired, Gate};
use lockmgr::time::Instant;

/// Called when a drain is over.
pub type Told = Box<dyn FnOnce() + Send>;

/// A volume whose writes depend on the leases of a lockspace. Nothing here may block.
pub trait Protected: Send {
    /// Asked before every write.
    fn gate(&self) -> &Gate;

    /// The gate was shut, restored or refused: waiting writes go on or fail, those under way are cut.
    fn wake(&self);

    /// Tells when no write that was sent before now can execute any more, by fences of the data path or by waiting.
    ///
    /// # Errors
    /// Not taken; it is asked again within about a second.
    fn drain(&self, told: Told) -> Result<(), Told>;
}

/// Why a volume is not protected from now on, or not let go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GateError {
    /// The lockspace is lost, or being left.
    NotJoined,
    /// The gate had shut, or is another lockspace's.
    Shut,
}

/// What a lockspace protects.
#[derive(Default)]
pub struct Gates {
    volumes: Vec<Volume>,
}

struct Volume {
    writes: Box<dyn Protected>,
    /// Drains that it did not take yet.
    owed: Vec<Told>,
}

impl Volume {
    fn is(&self, other: &Volume) -> bool {
        ptr::eq(self.writes.gate(), other.writes.gate())
    }
}

impl fmt::Debug for Gates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gates")
            .field("volumes", &self.volumes.len())
            .finish()
    }
}

impl Gates {
    /// Nothing that this host carries: there is nothing to shut and nothing to drain.
    pub fn none() -> Gates {
        Gates::default()
    }

    /// Those of these volumes.
    pub fn of(volumes: Vec<Box<dyn Protected>>) -> Gates {
        let guarded = |writes| Volume {
            writes,
            owed: Vec::new(),
        };
        Gates {
            volumes: volumes.into_iter().map(guarded).collect(),
        }
    }

    /// Protects these too. `renewed`: when the present renewal's write started; without one, they are armed with the
    /// others.
    pub(super) fn add(
        &mut self,
        now: Instant,
        more: Gates,
        renewed: Option<Instant>,
        give_up: Duration,
    ) -> Result<(), GateError> {
        let mut result = Ok(());
        for volume in more.volumes {
            if self.volumes.iter().any(|known| known.is(&volume)) {
                continue;
            }
            let armed = renewed.map_or(Ok(()), |started| {
                volume.writes.gate().arm(now, started, give_up)
            });
            match armed {
                Ok(()) => self.volumes.push(volume),
                Err(Expired) => result = Err(GateError::Shut),
            }
        }
        result
    }

    /// Protects these no more. One whose gate had shut stays, and stays shut.
    pub(super) fn remove(&mut self, now: Instant, those: &Gates) -> Result<(), GateError> {
        let mut result = Ok(());
        self.volumes.retain(|volume| {
            if !those.volumes.iter().any(|leaving| leaving.is(volume)) {
                return true;
            }
            let shut = volume.writes.gate().disarm(now).is_err();
            if shut {
                result = Err(GateError::Shut);
            }
            shut
        });
        result
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
        for volume in &self.volumes {
            let gate = volume.writes.gate();
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
            // Of the others nobody waits for anything.
            if matches!(order, GateOrder::Restore { .. } | GateOrder::Refuse) {
                volume.writes.wake();
            }
            result = result.and(moved);
        }
        result
    }

    /// The lockspace is lost: all shut. One word on `drained` once nothing that had left by then can execute any more.
    pub(super) fn lost(&mut self, drained: &Sender<()>) {
        for volume in &self.volumes {
            volume.writes.gate().shut();
            volume.writes.wake();
        }
        // There is room for the word: no second one is owed before the first is heard. A keeper that is gone needs none.
        if self.volumes.is_empty() {
            let _ = drained.try_send(());
        }
        let left = Arc::new(AtomicUsize::new(self.volumes.len()));
        for volume in &mut self.volumes {
            let (left, drained) = (Arc::clone(&left), drained.clone());
            let told = move || {
                if left.fetch_sub(1, Ordering::AcqRel) == 1 {
                    let _ = drained.try_send(());
                }
            };
            volume.owed.push(Box::new(told));
        }
        self.ask_again();
    }

    /// Asks the volumes that did not take their drain.
    pub(super) fn ask_again(&mut self) {
        for volume in &mut self.volumes {
            for told in std::mem::take(&mut volume.owed) {
                if let Err(told) = volume.writes.drain(told) {
                    volume.owed.push(told);
                }
            }
        }
    }

    /// The lockspace is given up while it is lost: no write leaves any more.
    pub(super) fn refuse(&self) {
        for volume in &self.volumes {
            volume.writes.gate().refuse();
            volume.writes.wake();
        }
    }
}
