//! Our half of a session's identity, the same after every restart (RFC 7143, 10.1.1 and 11.12.5).
//!
//! A login with a known ISID reinstates the old session, which is how a lost write is proven dead. So every path has
//! an ISID that depends on nothing but its names, and no two living sessions with one target share one: two logins
//! with the same ISID to one portal group would kill each other in turn.

use std::collections::BTreeSet;

use iscsi_client::wire::{Isid, Lun, Tpgt};
use sha2::{Digest, Sha256};

/// What the session is for. Sessions of different purpose never reinstate each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Carries IO of this ublk queue.
    Data {
        /// Number of the queue.
        queue: u16,
    },
    /// Asks which LUNs there are.
    Probe,
    /// SendTargets.
    Discovery,
}

/// The names a session's identity is derived from.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// Our iSCSI name.
    pub initiator: &'a str,
    /// The target's; empty in discovery.
    pub target: &'a str,
    /// Portal group, where known.
    pub portal_group: Option<Tpgt>,
    /// The portal as the operator wrote it.
    pub portal: &'a str,
    /// The logical unit.
    pub lun: Lun,
    /// What the session is for.
    pub purpose: Purpose,
}

/// The ISID of these names. `attempt` 0 is the usual one, others resolve collisions.
fn derive(names: &Names<'_>, attempt: u8) -> Isid {
    let mut hash = Sha256::new();
    let mut field = |bytes: &[u8]| {
        // Each field with its length, so that no two lists of names run into the same bytes.
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    field(b"sanblk isid 1");
    field(names.initiator.as_bytes());
    field(names.target.as_bytes());
    match names.portal_group {
        Some(Tpgt(group)) => field(&group.to_be_bytes()),
        None => field(&[]),
    }
    field(names.portal.as_bytes());
    field(&names.lun.0);
    match names.purpose {
        Purpose::Data { queue } => field(&[[0].as_slice(), &queue.to_be_bytes()].concat()),
        Purpose::Probe => field(&[1]),
        Purpose::Discovery => field(&[2]),
    }
    field(&[attempt]);
    let digest = hash.finalize();
    // Type 10b, "random": 24 bits of random number and 16 of qualifier.
    Isid([
        0x80, digest[0], digest[1], digest[2], digest[3], digest[4],
    ])
}

/// The ISID of these names that is not among `taken`: the first free one of a fixed sequence.
///
/// # Panics
/// If 256 derived ISIDs are all taken, which a set of that size cannot do by chance.
pub fn choose(names: &Names<'_>, taken: &BTreeSet<Isid>) -> Isid {
    (0..=u8::MAX)
        .map(|attempt| derive(names, attempt))
        .find(|isid| !taken.contains(isid))
        .expect("256 independent 40-bit values cannot all collide")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names<'static> = Names {
        initiator: "iqn.2024-08.internal.sanblk:a",
        target: "iqn.2003-01.org.linux-iscsi.store:t1",
        portal_group: Some(Tpgt(1)),
        portal: "10.20.5.254",
        lun: Lun([0; 8]),
        purpose: Purpose::Data { queue: 0 },
    };

    #[test]
    fn stable_over_releases() {
        // A changed value would open a second session beside the dead one instead of reinstating it.
        assert_eq!(choose(&NAMES, &BTreeSet::new()).to_string(), STABLE);
    }

    const STABLE: &str = "0x80";

    #[test]
    fn every_name_counts() {
        let none = BTreeSet::new();
        let other = [
            NAMES,
            Names { initiator: "iqn.2024-08.internal.sanblk:b", ..NAMES },
            Names { target: "iqn.2003-01.org.linux-iscsi.store:t2", ..NAMES },
            Names { portal_group: None, ..NAMES },
            Names { portal_group: Some(Tpgt(2)), ..NAMES },
            Names { portal: "10.20.6.254", ..NAMES },
            Names { lun: Lun([0, 1, 0, 0, 0, 0, 0, 0]), ..NAMES },
            Names { purpose: Purpose::Data { queue: 1 }, ..NAMES },
            Names { purpose: Purpose::Probe, ..NAMES },
            Names { purpose: Purpose::Discovery, ..NAMES },
        ];
        let all: BTreeSet<Isid> = other.iter().map(|names| choose(names, &none)).collect();
        assert_eq!(all.len(), other.len());
    }

    #[test]
    fn a_collision_moves_on() {
        let first = choose(&NAMES, &BTreeSet::new());
        let second = choose(&NAMES, &BTreeSet::from([first]));
        assert_ne!(first, second);
        assert_eq!(second, choose(&NAMES, &BTreeSet::from([first])));
    }
}
