//! Session identities that survive restarts (RFC 7143, 10.3.1 and 11.12.5).
//!
//! The ISID decides which dead session a login replaces, so it must be the same after every restart of the
//! daemon and different on every path of a volume: two live sessions with one (InitiatorName, ISID, target,
//! portal group) log each other out for ever. It is therefore derived, not drawn.

use core::net::SocketAddr;

use iscsi_client::wire::{Isid, Lun, Tpgt};
use sha2::{Digest, Sha256};

/// Type 10b, "random": 24 + 16 bits of our choice after a byte that says so.
const TYPE_RANDOM: u8 = 0x80;

/// What a session is told apart by.
#[derive(Clone, Copy, Debug)]
pub struct IsidKey<'a> {
    /// Our iSCSI name.
    pub initiator_name: &'a str,
    /// The target's iSCSI name.
    pub target_name: &'a str,
    /// Portal group as discovery named it.
    pub portal_group: Option<Tpgt>,
    /// Where to connect.
    pub portal: SocketAddr,
    /// The LUN.
    pub lun: Lun,
    /// Number of the ublk queue.
    pub queue: u16,
}

/// The ISID of a path's data session, distinct from all those in `taken`.
pub fn isid(key: &IsidKey<'_>, taken: &[Isid]) -> Isid {
    distinct(b"data", key, taken)
}

/// The ISID of a probing login: never that of a data session, so that asking about a LUN ends no session.
pub fn probe_isid(key: &IsidKey<'_>, taken: &[Isid]) -> Isid {
    distinct(b"probe", key, taken)
}

/// The ISID of the session that a lockspace keeps for its leases, distinct from all those in `taken`. Lockspaces on one LUN have
/// sessions of their own, so the name counts.
pub fn keeper_isid(key: &IsidKey<'_>, lockspace: &[u8], taken: &[Isid]) -> Isid {
    distinct(&[b"keeper ", lockspace].concat(), key, taken)
}

fn distinct(purpose: &[u8], key: &IsidKey<'_>, taken: &[Isid]) -> Isid {
    // Each attempt is another hash: at most one more than there are ISIDs to avoid, short of a hash that cycles.
    (0u32..)
        .map(|attempt| derive(purpose, key, attempt))
        .find(|isid| !taken.contains(isid))
        .expect("forty bits hold more ISIDs than a volume has paths")
}

fn derive(purpose: &[u8], key: &IsidKey<'_>, attempt: u32) -> Isid {
    let mut hash = Sha256::new();
    // Lengths go first, so that no two keys run together into the same bytes.
    for part in [
        purpose,
        key.initiator_name.as_bytes(),
        key.target_name.as_bytes(),
    ] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let group = key.portal_group.map_or(u32::MAX, |tag| u32::from(tag.0));
    hash.update(group.to_be_bytes());
    let portal = key.portal.to_string();
    hash.update((portal.len() as u64).to_be_bytes());
    hash.update(portal.as_bytes());
    hash.update(key.lun.0);
    hash.update(key.queue.to_be_bytes());
    hash.update(attempt.to_be_bytes());
    let hash = hash.finalize();
    Isid([TYPE_RANDOM, hash[0], hash[1], hash[2], hash[3], hash[4]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> IsidKey<'static> {
        IsidKey {
            initiator_name: "iqn.2026-01.example:host",
            target_name: "iqn.2026-01.example:disk",
            portal_group: Some(Tpgt(1)),
            portal: "10.20.5.254:3260".parse().expect("an address"),
            lun: Lun::from_number(0).expect("a LUN"),
            queue: 0,
        }
    }

    #[test]
    fn stable_over_restarts() {
        // Changing the derivation would leave every dead session of an older daemon unfenced.
        assert_eq!(isid(&key(), &[]).to_string(), "0x80d7104b14d1");
        let keeper = keeper_isid(&key(), b"lockspace", &[]);
        assert_eq!(keeper.to_string(), "0x8000babf9880");
    }

    #[test]
    fn every_part_of_the_key_counts() {
        let mut all = vec![
            isid(&key(), &[]),
            probe_isid(&key(), &[]),
            keeper_isid(&key(), b"one", &[]),
            keeper_isid(&key(), b"other", &[]),
        ];
        let variants = [
            IsidKey {
                initiator_name: "iqn.2026-01.example:hos",
                ..key()
            },
            IsidKey {
                target_name: "iqn.2026-01.example:disk2",
                ..key()
            },
            IsidKey {
                portal_group: None,
                ..key()
            },
            IsidKey {
                portal_group: Some(Tpgt(0)),
                ..key()
            },
            IsidKey {
                portal: "10.20.6.254:3260".parse().expect("an address"),
                ..key()
            },
            IsidKey {
                portal: "10.20.5.254:3261".parse().expect("an address"),
                ..key()
            },
            IsidKey {
                lun: Lun::from_number(1).expect("a LUN"),
                ..key()
            },
            IsidKey { queue: 1, ..key() },
        ];
        all.extend(variants.iter().map(|key| isid(key, &[])));
        for (i, a) in all.iter().enumerate() {
            assert_eq!(a.0[0], TYPE_RANDOM);
            assert!(!all[i + 1..].contains(a), "{a} twice");
        }
    }

    #[test]
    fn a_collision_is_bumped_the_same_way_every_time() {
        let first = isid(&key(), &[]);
        let second = isid(&key(), &[first]);
        let third = isid(&key(), &[second, first]);
        assert_ne!(second, first);
        assert!(third != first && third != second);
        assert_eq!(isid(&key(), &[first]), second);
    }
}
