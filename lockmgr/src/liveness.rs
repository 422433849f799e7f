//! Which hosts live, judged by what they write into their slots and by our own clock.
//!
//! Every renewal reads the whole lockspace area, and so samples every slot. A host lives as long as its record keeps
//! changing. Its timestamps are seconds of *its* clock: they are compared with earlier ones of the same slot, never with ours.
//!
//! Who may be declared dead is judged strictly on the safe side: a change counts from when we had *seen* it, and silence is
//! measured up to when the last look was *asked for*. A host that paused for an hour knows nothing about that hour.

use core::time::Duration;

use crate::ondisk::{Death, DeltaLease, DeltaSlot, Event, Geometry, HostId, LEADER_LEN, Name};
use crate::time::Instant;
use crate::timing::Timing;

/// What is known about a host.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum HostState {
    /// Nobody has its slot.
    Free,
    /// Its record was there when we came, and no change was seen yet.
    Unknown,
    /// It renews.
    Live,
    /// It has not renewed for so long that it must have given up.
    Fail,
    /// Its leases may be taken.
    Dead,
}

/// A host as the last sample showed it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Host {
    /// Its number.
    pub id: HostId,
    /// Whether it lives.
    pub state: HostState,
    /// Its generation.
    pub generation: u64,
    /// Seconds of its own clock at its last renewal.
    pub timestamp: u64,
    /// Its I/O timeout in seconds.
    pub io_timeout_s: u16,
    /// Its unique name.
    pub name: Name,
    /// When it was looked at last, by our clock.
    pub last_check: Instant,
    /// When its record was last seen to have changed; the first look counts as a change.
    pub last_live: Instant,
}

#[derive(Clone, Debug)]
struct Peer {
    /// The record as last seen, so that a slot that did not change costs one comparison.
    raw: [u8; LEADER_LEN],
    /// The last record that could be verified.
    lease: Option<DeltaLease>,
    first_check: Instant,
    /// When the last sample was asked for.
    last_check: Instant,
    /// When a change had last been seen.
    last_live: Instant,
    changed_last: bool,
    /// What it told us while it calls us: each event is reported once.
    told: Option<Event>,
}

/// All other hosts of a lockspace.
#[derive(Debug)]
pub(crate) struct Peers {
    geometry: Geometry,
    space: Name,
    ours: Timing,
    peers: Vec<Peer>,
}

/// Whether one life of a host, one generation, may still write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Judgement {
    /// This life is over: released, started again, declared dead, or silent for too long.
    Over,
    /// Its record changed lately, or we do not know better.
    Alive,
    /// No change was seen for a while, but not for long enough.
    Silent,
    /// Silent for long enough, but its lockspace forbids to conclude anything from silence.
    NeverByTime,
}

impl Peers {
    pub fn new(geometry: Geometry, space: Name, ours: Timing) -> Peers {
        Peers {
            geometry,
            space,
            ours,
            peers: Vec::new(),
        }
    }

    /// Takes a sample of the whole area: asked for at `asked`, here at `now`. `called` gets every slot whose record changed and
    /// in which `me` is called, and whether its event is news.
    pub fn sample(
        &mut self,
        area: &[u8],
        asked: Instant,
        now: Instant,
        me: HostId,
        mut called: impl FnMut(HostId, &DeltaLease, bool),
    ) {
        let sectors = area.chunks_exact(self.geometry.sector_bytes());
        let first = self.peers.is_empty();
        for (host, sector) in self.geometry.hosts().zip(sectors) {
            let Some(raw) = sector.first_chunk::<LEADER_LEN>() else {
                return;
            };
            if first {
                self.peers.push(Peer {
                    raw: *raw,
                    lease: self.verified(sector),
                    first_check: now,
                    last_check: asked,
                    last_live: now,
                    changed_last: true,
                    told: None,
                });
                continue;
            }
            let peer = &mut self.peers[host.index()];
            peer.last_check = asked;
            peer.changed_last = peer.raw != *raw;
            if !peer.changed_last {
                continue;
            }
            peer.raw = *raw;
            peer.last_live = now;
            if let Some(slot) = DeltaSlot::parse(sector)
                .ok()
                .filter(|slot| slot.lease.space_name == self.space)
            {
                peer.lease = Some(slot.lease);
                let calls = slot.notify.contains(me) && host != me;
                let event = calls.then_some(slot.lease.event);
                if calls {
                    called(host, &slot.lease, peer.told != event);
                }
                peer.told = event;
            }
        }
    }

    fn verified(&self, sector: &[u8]) -> Option<DeltaLease> {
        let lease = DeltaLease::parse(sector).ok()?;
        (lease.space_name == self.space).then_some(lease)
    }

    /// Whether the slot of `host` was never taken by anybody, for sure.
    pub fn never_joined(&self, host: HostId) -> bool {
        self.peers
            .get(host.index())
            .and_then(|peer| peer.lease)
            .is_some_and(|lease| lease.owner_id == 0 && lease.owner_generation == 0)
    }

    /// Whether `generation` of `host` is over, by a look at its slot that was asked for at `asked`.
    pub fn judge(
        &self,
        host: HostId,
        generation: u64,
        slot: &DeltaLease,
        asked: Instant,
    ) -> Judgement {
        if slot.is_free() || slot.owner_id != host.number() || slot.owner_generation > generation {
            return Judgement::Over;
        }
        if slot.dead_ext().is_some() {
            return Judgement::Over;
        }
        let Some(peer) = self.peers.get(host.index()) else {
            // We have just come, and saw nobody yet.
            return Judgement::Silent;
        };
        let same = peer.lease.is_some_and(|known| {
            known.owner_generation == slot.owner_generation && known.timestamp == slot.timestamp
        });
        if !same || slot.owner_generation < generation {
            return Judgement::Alive;
        }
        let silence = asked.since(peer.last_live);
        if silence > self.host_dead(slot) {
            return match slot.death() {
                Death::OnDeclaration => Judgement::NeverByTime,
                Death::OnTimeout => Judgement::Over,
            };
        }
        match peer.changed_last && peer.first_check != peer.last_live {
            true => Judgement::Alive,
            false => Judgement::Silent,
        }
    }

    fn host_dead(&self, slot: &DeltaLease) -> Duration {
        Timing::of_other(slot.io_timeout, self.ours).host_dead()
    }

    /// What sanlock would say about a host at `now`. `None` before the first sample, and for slots that make no sense.
    pub fn host(&self, id: HostId, me: HostId, now: Instant) -> Option<Host> {
        let peer = self.peers.get(id.index())?;
        let lease = peer.lease?;
        let timing = Timing::of_other(lease.io_timeout, self.ours);
        let silence = now.since(peer.last_live);
        let state = if lease.is_free() {
            HostState::Free
        } else if id == me {
            HostState::Live
        } else if lease.dead_ext().is_some() {
            HostState::Dead
        } else if silence <= timing.give_up() {
            match peer.first_check == peer.last_live {
                true => HostState::Unknown,
                false => HostState::Live,
            }
        } else if silence > timing.host_dead() && lease.death() == Death::OnTimeout {
            HostState::Dead
        } else {
            HostState::Fail
        };
        Some(Host {
            id,
            state,
            generation: lease.owner_generation,
            timestamp: lease.timestamp,
            io_timeout_s: lease.io_timeout,
            name: lease.host_name,
            last_check: peer.last_check,
            last_live: peer.last_live,
        })
    }
}
