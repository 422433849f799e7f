//! Writes of which nobody knows whether they will still execute, and what they wait for.
//!
//! A debt belongs to a nexus (an ISID and the portal group where it logged in), because that is what a login ends.
//! [`multipath::ladder`] tells what proves one over, and where a copy may hide until then:
//!
//! 1. a login with that ISID in that portal group, and after it TEST UNIT READY and one ORDERED command, which is what
//!    every session of the keeper begins with ([`multipath::Probe`]), through its own portal or another one;
//! 2. where the target's login does not wait for old commands and an ORDERED one cannot: the backend's time on top;
//! 3. where no login of that group comes about: the timed hold, and then a check of a living session as the last word.

use iscsi_client::time::Instant;
use iscsi_client::wire::Tpgt;
use lockmgr::IoId;
use multipath::ladder::{Hideout, Terms};

/// What may still land of the dead sessions of one nexus.
#[derive(Clone, Copy, Debug)]
pub(super) struct Debt {
    /// First and last write that was answered as unknown. `None`: what an earlier run of the keeper left, if it left
    /// anything.
    pub writes: Option<(IoId, IoId)>,
    /// Where the dead session was logged in; `None` if that is not known, or not one group.
    pub group: Option<Tpgt>,
    /// The worst place where a copy may be.
    pub hideout: Hideout,
}

impl Debt {
    /// Of a session that an earlier run may have left.
    pub fn of_earlier_run(group: Option<Tpgt>) -> Debt {
        Debt {
            writes: None,
            group,
            hideout: Hideout::Unknown,
        }
    }

    /// Adds a write of a session in this group, whose socket was just reset.
    pub fn add(debt: &mut Option<Debt>, now: Instant, group: Option<Tpgt>, id: IoId) {
        let hideout = Hideout::Target { since: now };
        *debt = Some(match *debt {
            None => Debt {
                writes: Some((id, id)),
                group,
                hideout,
            },
            Some(old) => Debt {
                writes: Some(
                    old.writes
                        .map_or((id, id), |(first, last)| (first.min(id), last.max(id))),
                ),
                group: old.group.filter(|old| Some(*old) == group),
                hideout: old.hideout.max(hideout),
            },
        });
    }

    /// Whether a login in this group would tell anything new.
    pub fn wants_login(&self, group: Option<Tpgt>) -> bool {
        !matches!(self.hideout, Hideout::Backend { .. })
            && self.group.is_some()
            && self.group == group
    }

    /// A login of this nexus in this group, with the commands after it, was answered. True: that is the proof.
    pub fn reinstated(&mut self, now: Instant, group: Option<Tpgt>, terms: &Terms) -> bool {
        // What an earlier run left belongs to this portal; its group is what the login says.
        let same = self.writes.is_none() || self.wants_login(group);
        if same && !terms.after_login.is_zero() {
            self.group = group;
            self.hideout = Hideout::Backend { since: now };
        }
        same && terms.after_login.is_zero()
    }

    /// A login hung: the backend is stuck, and no time that has passed so far counts.
    pub fn stuck(&mut self, now: Instant) {
        if let Hideout::Target { since } | Hideout::Backend { since } = &mut self.hideout {
            *since = now;
        }
    }

    /// From when on a check of any living session is the last word. `None`: never by time.
    pub fn over_after(&self, terms: &Terms) -> Option<Instant> {
        terms.over_after(self.hideout)
    }
}

#[cfg(test)]
mod tests {
    use multipath::{Identity, TaskSet};

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn terms(vendor: &str, task_set: TaskSet) -> Terms {
        let identity = Identity {
            wwid: "3".into(),
            serial: "1".into(),
            vendor: vendor.into(),
            product: "disk".into(),
            blocks: 8,
            block_len: 512,
        };
        Terms::of(&identity, task_set)
    }

    #[test]
    fn a_login_elsewhere_proves_nothing() {
        let terms = terms("LIO-ORG", TaskSet::Shared);
        let (here, there) = (Some(Tpgt(1)), Some(Tpgt(2)));
        let mut debt = None;
        Debt::add(&mut debt, at(10), here, IoId::new(3));
        let mut debt = debt.expect("just added");
        assert!(!debt.reinstated(at(11), there, &terms));
        assert!(!debt.reinstated(at(11), None, &terms));
        assert_eq!(debt.over_after(&terms), Some(at(320)));
        assert!(debt.reinstated(at(12), here, &terms));
    }

    #[test]
    fn two_groups_leave_the_hold() {
        let terms = terms("LIO-ORG", TaskSet::Shared);
        let mut debt = None;
        Debt::add(&mut debt, at(10), Some(Tpgt(1)), IoId::new(3));
        Debt::add(&mut debt, at(20), Some(Tpgt(2)), IoId::new(9));
        let mut debt = debt.expect("just added");
        assert_eq!(debt.writes, Some((IoId::new(3), IoId::new(9))));
        assert!(!debt.reinstated(at(21), Some(Tpgt(2)), &terms));
        assert_eq!(debt.over_after(&terms), Some(at(330)), "from the last");
    }

    #[test]
    fn a_target_whose_login_does_not_wait() {
        let terms = terms("NETAPP", TaskSet::PerNexus);
        let mut debt = None;
        Debt::add(&mut debt, at(10), Some(Tpgt(1)), IoId::new(3));
        let mut debt = debt.expect("just added");
        assert!(!debt.reinstated(at(11), Some(Tpgt(1)), &terms));
        assert!(
            !debt.wants_login(Some(Tpgt(1))),
            "it would tell nothing new"
        );
        assert_eq!(debt.over_after(&terms), Some(at(191)));
        debt.stuck(at(100));
        assert_eq!(debt.over_after(&terms), Some(at(280)));
    }

    #[test]
    fn what_an_earlier_run_left_is_never_waited_out() {
        let terms = terms("LIO-ORG", TaskSet::Shared);
        let mut debt = Debt::of_earlier_run(None);
        assert_eq!(debt.over_after(&terms), None);
        assert!(debt.reinstated(at(1), Some(Tpgt(7)), &terms));
    }
}
