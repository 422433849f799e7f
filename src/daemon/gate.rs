//! The gate of a volume as the daemon sees it: what its keeper gets, and what people are told.

use iscsi_client::time::Instant;
use multipath::{Permission, VolumeStatus};

use crate::failure::Failure;
use crate::host;
use crate::queue::guard::Writes;
use crate::report::{GateReport, GateWord};

use super::events;
use super::volume::Volume;

impl Volume {
    /// Its writes, for the keeper of a lease that they shall depend on.
    ///
    /// # Errors
    /// It has no queue any more.
    pub fn writes(&self) -> Result<Writes, Failure> {
        let queue = self.queue().ok_or_else(|| self.stuck())?;
        Ok(queue.writes())
    }

    /// The gate for `status`; `None` where no lease guards the writes. Which lockspace keeps it is for others to say.
    pub(super) fn gate_report(&self, status: Option<&VolumeStatus>) -> Option<GateReport> {
        let now = host::now();
        if let Some(deadline) = self.gate.deadline() {
            let left = Instant::from_nanos(deadline.nanos()).since(now);
            return Some(GateReport {
                lockspace: None,
                state: GateWord::Open,
                since: None,
                open_ms: u64::try_from(left.as_millis()).ok(),
                waiting_writes: 0,
                way_back: Vec::new(),
            });
        }
        let status = status?;
        let (permission, since) = status.permission;
        let state = match permission {
            Permission::Granted => return None,
            Permission::Withheld => GateWord::Shut,
            Permission::Revoked => GateWord::Refused,
        };
        Some(GateReport {
            lockspace: None,
            state,
            since: since.map(events::utc),
            open_ms: None,
            waiting_writes: status.waiting_writes,
            way_back: Vec::new(),
        })
    }
}

/// What happened to the writes, in terms of leases.
pub(super) fn told(permission: Permission, waiting: u32) -> String {
    match permission {
        Permission::Withheld => format!(
            "the lease was not renewed in time: no write leaves any more, {waiting} wait; reads go on"
        ),
        Permission::Revoked => format!(
            "a lease is lost: {waiting} waiting writes fail, and so does every later one; reads go on; sanblk status \
             prints the way back"
        ),
        Permission::Granted => format!(
            "every lease was found as it was left and is held again: {waiting} waiting writes leave"
        ),
    }
}

/// The same as a lasting state.
pub(super) fn sentence(gate: &GateReport) -> Option<String> {
    let since = gate.since.as_deref().unwrap_or("its start");
    let waiting = gate.waiting_writes;
    match gate.state {
        GateWord::Open => None,
        GateWord::Shut => Some(format!(
            "the lease's deadline passed at {since}: {waiting} writes wait until the leases are won back or lost; reads go on"
        )),
        // The commands of the way back follow by themselves.
        GateWord::Refused => Some(format!(
            "a lease was lost at {since}: every write fails; reads go on"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(state: GateWord) -> GateReport {
        GateReport {
            lockspace: None,
            state,
            since: Some("2026-01-31T12:03:04.000Z".into()),
            open_ms: None,
            waiting_writes: 14,
            way_back: Vec::new(),
        }
    }

    #[test]
    fn status_says_since_when_why_and_what_to_do() {
        assert_eq!(sentence(&gate(GateWord::Open)), None);
        let shut = sentence(&gate(GateWord::Shut)).unwrap();
        assert!(
            shut.starts_with(
                "the lease's deadline passed at 2026-01-31T12:03:04.000Z: 14 writes wait"
            ),
            "{shut}"
        );
        let refused = sentence(&gate(GateWord::Refused)).unwrap();
        assert!(refused.contains("every write fails"), "{refused}");
        assert!(told(Permission::Revoked, 3).contains("way back"));
    }
}
