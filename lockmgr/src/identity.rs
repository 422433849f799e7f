//! Who a host is in a lockspace: what does not change while it is there.

use crate::ondisk::{Geometry, HostId, Name};
use crate::timing::Timing;

/// Who we are in a lockspace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Bytes from the start of the device to the lockspace area.
    pub offset: u64,
    /// How its areas are laid out.
    pub geometry: Geometry,
    /// Its name.
    pub space: Name,
    /// Our number. Must have room in the geometry.
    pub host: HostId,
    /// Our name: unique among machines, and best the same after a reboot.
    pub name: Name,
    /// Our times.
    pub timing: Timing,
}

impl Identity {
    pub(crate) fn slot_offset(&self, host: HostId) -> u64 {
        self.offset + self.geometry.delta_slot(host)
    }
}
