//! What a lockspace is told, and what it tells: events, orders, gate orders, notes.
//!
//! Each order names the notes that answer it. Reads and writes are in [`Output`](crate::Output).

use crate::gate::Reclaimed;
use crate::io::{IoId, ReadFailed, WriteOutcome};
use crate::ondisk::{BadRecord, CannotJoin, Event, ForceMode, HostId, Name};
use crate::paxos::{LeaseError, Mode, OnOwner};
use crate::time::Instant;

/// A resource: bytes from the start of the device to its area. One on another device than the lockspace's has the number of
/// that device, which the driver gave, in the upper 16 bits; so has every offset of an I/O there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LeaseId(pub u64);

/// Bits of an offset on a device. What lies behind 256 TiB is no lease area.
const OFFSET_BITS: u32 = 48;

/// A device, by the number that the driver gave it; [`HOME`](DiskId::HOME) is the lockspace's own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DiskId(pub u16);

impl DiskId {
    /// The device that the lockspace lies on.
    pub const HOME: DiskId = DiskId(0);

    /// Where an I/O goes, or an area lies.
    pub const fn of(offset: u64) -> DiskId {
        DiskId((offset >> OFFSET_BITS) as u16)
    }
}

impl LeaseId {
    /// The area at this offset of a device; `None` if no area can be there.
    pub fn on(disk: DiskId, offset: u64) -> Option<LeaseId> {
        let room = DiskId::of(offset) == DiskId::HOME;
        room.then_some(LeaseId(u64::from(disk.0) << OFFSET_BITS | offset))
    }

    /// The device that it lies on.
    pub const fn disk(self) -> DiskId {
        DiskId::of(self.0)
    }

    /// Bytes from the start of that device.
    pub const fn offset(self) -> u64 {
        self.0 & ((1 << OFFSET_BITS) - 1)
    }
}

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// The time of [`poll_timeout`](crate::Lockspace::poll_timeout) has come. Harmless at any other time.
    Timeout,
    /// A read ended.
    Read {
        /// Its number.
        id: IoId,
        /// The bytes, exactly as many as were asked for.
        data: Result<&'a [u8], ReadFailed>,
    },
    /// A write ended.
    Wrote {
        /// Its number.
        id: IoId,
        /// How.
        outcome: WriteOutcome,
    },
    /// No write to the same device up to and including this number can take effect any more. Every write that ended `Unknown`
    /// needs one.
    Fenced {
        /// The number.
        through: IoId,
    },
    /// No copy of this write, which ended `Doubled`, can take effect any more. Of others and of earlier ones it tells nothing.
    Settled {
        /// Its number.
        id: IoId,
    },
    /// No write to what the leases protect that was sent before the gate shut can execute any more. Owed once after each
    /// [`Note::Lost`]: by fences of the data path, or by waiting as long as a write may still execute. Raising our generation
    /// tells the others that our earlier life is over, so it must be.
    Drained,
    /// The gate refused to be armed, extended or restored: it had shut before the order came through.
    GateShut,
    /// Somebody wants something.
    Order(Order),
}

/// What the holder of a lockspace may want.
#[derive(Debug)]
pub enum Order {
    /// Take our slot. Answered by [`Note::Joined`] or [`Note::JoinFailed`].
    Join,
    /// Give the slot back. Answered by [`Note::Left`] or [`Note::LeaveRefused`].
    Leave,
    /// Acquire a lease. Answered by [`Note::Acquired`] or [`Note::Failed`].
    Acquire {
        /// Its area.
        id: LeaseId,
        /// Its name: another name there is an error.
        name: Name,
        /// How.
        mode: Mode,
        /// Whether to wait for the death of its owner.
        on_owner: OnOwner,
    },
    /// Hold it in this mode instead; before it becomes shared, its holder has stopped to write as for a release. Answered by [`Note::Converted`], or [`Note::Failed`] with the old mode kept.
    Convert {
        /// Its area.
        id: LeaseId,
        /// The mode.
        mode: Mode,
        /// One sector to leave in the lock value block, on the way to shared.
        lvb: Option<Box<[u8]>>,
    },
    /// Let go. Whoever holds it has stopped to use it, and nothing that it wrote can still land: another host may own it in the
    /// same instant. Answered by [`Note::Released`]. While it is being acquired: give up, which is
    /// answered by [`Note::Failed`], or comes too late and is answered by [`Note::Acquired`]. If the
    /// lockspace is lost before the lock value block is known to be written: [`Note::Failed`], and then [`Note::Released`]; the
    /// block is the old one or the new.
    Release {
        /// Its area.
        id: LeaseId,
        /// One sector to leave in the lock value block. Exclusive holders only.
        lvb: Option<Box<[u8]>>,
    },
    /// Let go as [`Order::Release`] does, and leave the resource under another name: whoever asks for it by the old one is
    /// refused. Exclusive holders only. Answered like it.
    Rename {
        /// Its area.
        id: LeaseId,
        /// The name that is left.
        name: Name,
        /// As in [`Order::Release`].
        lvb: Option<Box<[u8]>>,
    },
    /// Read the lock value block. Answered by [`Note::Lvb`] or [`Note::Failed`].
    ReadLvb {
        /// Its area.
        id: LeaseId,
    },
    /// Tell a host something, with the next renewals, for 6t.
    Tell {
        /// Whom.
        host: HostId,
        /// What.
        event: Event,
    },
    /// Ask the owner of a lease to let go. Answered by [`Note::Asked`] or [`Note::Failed`].
    Ask {
        /// Its area.
        id: LeaseId,
        /// Its name.
        name: Name,
        /// Force or graceful.
        force_mode: ForceMode,
    },
}

/// What the gate shall do. If it refuses, the lockspace must hear [`Input::GateShut`]. Each `started` is good for [`Timing::give_up`](crate::timing::Timing::give_up).
#[derive(Debug)]
pub enum GateOrder {
    /// From now on writes need renewals.
    Arm {
        /// When the first write of the slot started.
        started: Instant,
    },
    /// A renewal completed.
    Extend {
        /// When its write started.
        started: Instant,
    },
    /// Every lease was found as we left it and was won again.
    Restore {
        /// When the write of the last renewal started.
        started: Instant,
        /// The proof.
        proof: Reclaimed,
    },
    /// The lockspace was left with nothing held.
    Disarm,
    /// A lease was lost: shut for good.
    Refuse,
}

/// What happened, for whoever asked or watches.
#[derive(Debug)]
#[allow(missing_docs, reason = "fields are named as in the orders")]
pub enum Note {
    /// The slot is ours.
    Joined { generation: u64 },
    /// It is not, and nothing is attempted any more.
    JoinFailed(JoinError),
    /// The slot was given back, or is left to expire.
    Left,
    /// Something is held or under way.
    LeaveRefused,
    /// No renewal for 6t.
    RenewalLate,
    /// The lockspace was lost; the gate is shut.
    Lost(LostWhy),
    /// It is ours again, under a new generation; leases are being won back.
    Rejoined { generation: u64 },
    /// Every lease was won back; the gate is open again.
    Restored,
    /// A lease cannot be won back, or the slot was taken: the gate stays shut for good.
    Refused,
    /// A lease is held.
    Acquired { id: LeaseId, mode: Mode, lver: u64 },
    /// It is held in another mode.
    Converted { id: LeaseId, mode: Mode, lver: u64 },
    /// It is not held any more.
    Released { id: LeaseId },
    /// What was asked for did not happen.
    Failed { id: LeaseId, error: LeaseError },
    /// A lease was won back.
    Reclaimed { id: LeaseId },
    /// A lease could not be won back: it is lost.
    ReclaimFailed { id: LeaseId, error: LeaseError },
    /// While letting go, the leader was found to be no leader of this lease any more. Nothing was written.
    LeaderLost { id: LeaseId, error: LeaseError },
    /// The lock value block.
    Lvb { id: LeaseId, bytes: Box<[u8]> },
    /// The request was written, and its owner will be called.
    Asked { id: LeaseId },
    /// Another host tells us something.
    Told {
        from: HostId,
        generation: u64,
        event: Event,
    },
    /// Another host asks us to let go.
    AskedToRelease { id: LeaseId, force_mode: ForceMode },
}

/// Why the slot could not be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JoinError {
    /// The slot, or the area, is not what it should be. Nothing was written.
    Bad(BadRecord),
    /// We do not take part in areas of this kind.
    Cannot(CannotJoin),
    /// Another machine uses this host id.
    HostIdBusy {
        /// Its name.
        name: Name,
    },
    /// The slot could not be read or written for so long that its owner is bound to give up.
    Io,
    /// The gate shut for good in this attachment.
    GateShut,
    /// While rejoining: somebody else has been in our slot.
    SlotTaken,
}

/// Why a held slot was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LostWhy {
    /// No renewal for 8t.
    Silence,
    /// The record is not one any more.
    Bad(BadRecord),
    /// Somebody wrote another owner, generation or name.
    Owner,
    /// Somebody changed the record that we wrote.
    Changed,
    /// A fencing agent declared us dead.
    DeclaredDead,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_area_has_a_device_and_an_offset_on_it() {
        let here = LeaseId::on(DiskId::HOME, 1 << 20);
        assert_eq!(here, Some(LeaseId(1 << 20)));
        let last = (1 << OFFSET_BITS) - (1 << 20);
        let there = LeaseId::on(DiskId(9), last).expect("an offset");
        assert_eq!((there.disk(), there.offset()), (DiskId(9), last));
        assert_eq!(LeaseId::on(DiskId::HOME, 1 << OFFSET_BITS), None);
    }
}
