//! Ballots of Disk Paxos (Gafni and Lamport), on the host sectors of one resource: numbers, and what others said.
//!
//! Each value of `lver` is one instance; its decision is the owner of that lease version, for ever. Two rules go beyond
//! what sanlock does, and read the same to it:
//!
//! - A host that accepted a value keeps it in its dblock through later ballots of the same instance, also after a restart.
//!   The value may have been decided, and somebody may be about to write the leader for it.
//! - A dblock that does not verify is not skipped but ends the ballot: what it said may matter.

use crate::liveness::Peers;
use crate::ondisk::{
    BadRecord, BallotBlock, DBLOCK_RELEASED, Dblock, Geometry, HostId, HostSector,
};

/// The ballot number of `host` above all others: `number % stride` names the host. `None` when the numbers are used up.
pub(super) fn number_above(max_mbal: u64, stride: u64, host: HostId) -> Option<u64> {
    if max_mbal == 0 {
        return Some(host.number());
    }
    (max_mbal - max_mbal % stride)
        .checked_add(stride)?
        .checked_add(host.number())
}

/// How many sectors a ballot reads: leader, request and one per host, rounded up to a power of two as sanlock does.
pub(super) fn read_len(num_hosts: u64, geometry: Geometry) -> usize {
    let sectors = (num_hosts + 2).next_power_of_two() as usize;
    (sectors * geometry.sector_bytes()).min(geometry.area_bytes() as usize)
}

/// What the sectors of all hosts say.
#[derive(Debug)]
pub(super) struct Voices {
    /// Ours.
    pub own: HostSector,
    /// The others' that took part at all.
    pub others: Vec<(HostId, HostSector)>,
}

impl Voices {
    /// Reads hosts 1 to `num_hosts` from the start of a resource area. A sector that does not verify is an error, unless its
    /// host never joined the lockspace: then something else was written there, as an LVB of a neighbouring resource can be.
    pub fn read(
        area: &[u8],
        base: u64,
        geometry: Geometry,
        num_hosts: u64,
        me: HostId,
        peers: &Peers,
    ) -> Result<Voices, BadRecord> {
        let mut voices = Voices {
            own: HostSector::default(),
            others: Vec::new(),
        };
        for host in (1..=num_hosts).filter_map(HostId::new) {
            let at = geometry.host_sector(host);
            let sector = area
                .get(at as usize..at as usize + geometry.sector_bytes())
                .unwrap_or(&[]);
            match HostSector::parse(sector) {
                Ok(said) if host == me => voices.own = said,
                Ok(said) if said == HostSector::default() => {}
                Ok(said) => voices.others.push((host, said)),
                Err(_) if host != me && peers.never_joined(host) => {}
                Err(bad) => return Err(bad.at(base + at)),
            }
        }
        Ok(voices)
    }

    fn ballots(&self) -> impl Iterator<Item = &BallotBlock> {
        let all = self.others.iter().map(|(_, said)| said).chain([&self.own]);
        all.filter_map(|said| said.dblock.ballot())
    }

    /// The largest ballot number of any instance.
    pub fn max_mbal(&self) -> u64 {
        self.ballots().map(|b| b.mbal).max().unwrap_or(0)
    }

    /// The newest instance that anybody took part in.
    pub fn newest_instance(&self) -> u64 {
        self.ballots().map(|b| b.lver).max().unwrap_or(0)
    }

    /// What one host said.
    pub fn of(&self, host: u64) -> Option<&HostSector> {
        self.others
            .iter()
            .find(|(h, _)| h.number() == host)
            .map(|(_, said)| said)
    }

    /// The other hosts that hold the lease shared, and in which generation.
    pub fn shared(&self) -> Vec<(HostId, u64)> {
        let shared = |(host, said): &(HostId, HostSector)| Some((*host, said.mode.shared()?));
        self.others.iter().filter_map(shared).collect()
    }

    /// Whether nobody went beyond this ballot of ours.
    pub fn unopposed(&self, ours: &BallotBlock) -> bool {
        self.others
            .iter()
            .filter_map(|(_, said)| said.dblock.ballot())
            .all(|b| b.lver < ours.lver || (b.lver == ours.lver && b.mbal < ours.mbal))
    }

    /// The value accepted in the largest ballot of this instance, if any was: it may be decided, so it must be kept.
    pub fn accepted(&self, ours: &BallotBlock) -> Option<Value> {
        self.others
            .iter()
            .filter_map(|(_, said)| said.dblock.ballot())
            .chain([ours])
            .filter(|b| b.lver == ours.lver && b.inp != 0)
            .max_by_key(|b| b.bal)
            .map(|b| Value {
                host: b.inp,
                generation: b.inp2,
                timestamp: b.inp3,
            })
    }
}

/// A proposed owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Value {
    pub host: u64,
    pub generation: u64,
    pub timestamp: u64,
}

/// The dblock with which we enter instance `lver` with ballot `mbal`, given what we said last.
pub(super) fn first_phase(last: &Dblock, lver: u64, mbal: u64) -> (BallotBlock, u32) {
    match last {
        Dblock::Voted { ballot, flags } if ballot.lver == lver => {
            (BallotBlock { mbal, ..*ballot }, flags & DBLOCK_RELEASED)
        }
        _ => {
            let clean = BallotBlock::default();
            (
                BallotBlock {
                    mbal,
                    lver,
                    ..clean
                },
                0,
            )
        }
    }
}

/// The same with this value accepted.
pub(super) fn second_phase(first: BallotBlock, value: Value) -> BallotBlock {
    BallotBlock {
        bal: first.mbal,
        inp: value.host,
        inp2: value.generation,
        inp3: value.timestamp,
        ..first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: u64) -> HostId {
        HostId::new(number).unwrap()
    }

    fn said(ballot: BallotBlock) -> HostSector {
        HostSector {
            dblock: Dblock::Voted { ballot, flags: 0 },
            ..HostSector::default()
        }
    }

    fn block(lver: u64, mbal: u64, bal: u64, inp: u64) -> BallotBlock {
        BallotBlock {
            mbal,
            bal,
            inp,
            inp2: 1,
            inp3: 9,
            lver,
        }
    }

    #[test]
    fn numbers_name_their_host() {
        assert_eq!(number_above(0, 2000, host(7)), Some(7));
        assert_eq!(number_above(7, 2000, host(3)), Some(2003));
        assert_eq!(number_above(2003, 2000, host(3)), Some(4003));
        assert_eq!(number_above(250, 250, host(250)), Some(750));
        assert_eq!(number_above(u64::MAX, 250, host(1)), None);
        for max in [0, 1, 249, 250, 251, 10_000] {
            assert!(number_above(max, 250, host(1)).unwrap() > max);
        }
    }

    #[test]
    fn reads_are_a_power_of_two_within_the_area() {
        assert_eq!(read_len(2000, Geometry::B512_M1), 2048 * 512);
        assert_eq!(read_len(30, Geometry::B512_M1), 32 * 512);
        assert_eq!(read_len(31, Geometry::B512_M1), 64 * 512);
        assert_eq!(read_len(250, Geometry::ALL[1]), 1 << 20);
    }

    #[test]
    fn the_value_of_the_largest_ballot_is_kept() {
        let mut voices = Voices {
            own: HostSector::default(),
            others: vec![
                (host(1), said(block(5, 1, 1, 1))),
                (host(2), said(block(5, 252, 252, 2))),
                (host(3), said(block(4, 900, 900, 3))),
            ],
        };
        let ours = block(5, 504, 0, 0);
        assert_eq!(voices.accepted(&ours).unwrap().host, 2);
        assert!(voices.unopposed(&ours), "the older instance does not count");
        let ours_accepted = block(5, 504, 400, 4);
        assert_eq!(voices.accepted(&ours_accepted).unwrap().host, 4);
        voices.others.push((host(9), said(block(6, 9, 0, 0))));
        assert!(!voices.unopposed(&ours), "a newer instance");
        assert_eq!(voices.newest_instance(), 6);
    }

    #[test]
    fn what_was_accepted_survives_a_restart() {
        let last = Dblock::Voted {
            ballot: block(5, 7, 7, 7),
            flags: DBLOCK_RELEASED,
        };
        let (again, flags) = first_phase(&last, 5, 257);
        assert_eq!((again.bal, again.inp, flags), (7, 7, DBLOCK_RELEASED));
        let (next, flags) = first_phase(&last, 6, 257);
        assert_eq!((next.bal, next.inp, flags), (0, 0, 0));
    }
}
