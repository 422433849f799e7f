//! What is done to the volume from above: the rule is changed, it is shut down and attached again, its daemon dies.

use core::time::Duration;

use iscsi_client::memory::BufferId;
use iscsi_client::time::Instant;
use kit::check::Outcome;
use multipath::{NoPathRetry, OrderRefused, UnresolvedWrite, Volume, VolumeConfig};

use crate::host::{CANARY, Host, gather};
use crate::plan::{Order, PathOrder, Plan};

/// A volume that was shut down is over so long after its patience.
const END_MARGIN: Duration = Duration::from_secs(1);
impl Host {
    /// Orders of the plan come from now on.
    pub fn begin_trouble(&mut self) {
        let now = self.world.now();
        let orders = self.plan.orders.iter();
        self.orders = orders.map(|&(after, order)| (now + after, order)).collect();
        self.gate.begin(now);
    }

    /// Carries out orders that are due.
    pub(crate) fn obey(&mut self) {
        let now = self.world.now();
        if let Some(end) = self.ends_by {
            assert!(
                now <= end,
                "the volume does not end: {:#?}",
                self.volume.status()
            );
            if self.volume.is_shut_down() {
                assert!(self.open.is_empty(), "requests outlive the volume");
                assert!(self.slots.is_empty(), "connections outlive the volume");
                self.ends_by = None;
                let unresolved = self.volume.status().unresolved;
                self.attach_again(&unresolved);
            }
            return;
        }
        let Some(&(at, order)) = self.orders.front() else {
            return;
        };
        if now < at {
            return;
        }
        self.orders.pop_front();
        match order {
            Order::Rule(rule) => {
                self.may_fail |= rule != NoPathRetry::Queue;
                self.volume.set_no_path_retry(now, rule);
            }
            Order::ShutDown(patience) => {
                self.may_fail = true;
                self.volume.shut_down(now, patience);
                self.ends_by = Some(now + patience + END_MARGIN);
            }
            Order::Crash => self.crash(),
            Order::Path(order, portal) => self.order_path(order, portal),
        }
    }

    /// The volume may refuse: it keeps its last path.
    fn order_path(&mut self, order: PathOrder, portal: usize) {
        let now = self.world.now();
        let config = self.plan.paths().nth(portal).expect("a path per portal");
        let Some(path) = self.volume.path_of(config.isid) else {
            let place = self.volume.add_path(now, config).expect("room for a path");
            self.places[usize::from(place.0)] = portal;
            return;
        };
        let result = match order {
            PathOrder::Fail => self.volume.fail_path(now, path),
            PathOrder::Restore => self.volume.restore_path(now, path),
            PathOrder::Remove => self.volume.remove_path(now, path),
        };
        assert!(
            matches!(
                (order, result),
                (_, Ok(()))
                    | (PathOrder::Fail, Err(OrderRefused::NoSuchPath))
                    | (
                        PathOrder::Remove,
                        Err(OrderRefused::LastPath | OrderRefused::OnlyWorkingPath)
                    )
            ),
            "{order:?}: {result:?}"
        );
    }

    /// The operator gives all paths back, and does no more to them.
    pub fn give_back_paths(&mut self) {
        self.orders
            .retain(|(_, order)| !matches!(order, Order::Path(..)));
        // A volume that is being shut down is attached again with all of them.
        if self.ends_by.is_none() {
            for portal in 0..self.plan.paths {
                self.order_path(PathOrder::Restore, portal);
            }
        }
    }

    /// The kernel closes the dead daemon's connections and fails what it had not answered.
    fn crash(&mut self) {
        for slot in core::mem::take(&mut self.slots).into_values() {
            if slot.over.is_none() {
                if let Some(sending) = &slot.sending
                    && self.prng.percent(50)
                {
                    self.world.send(slot.conn, &gather(sending, &self.memory));
                }
                self.world.close(slot.conn);
            }
        }
        self.held_back.clear();
        let mut unresolved = self.volume.status().unresolved;
        unresolved.extend(self.plan.anything_under_way());
        for (tag, open) in core::mem::take(&mut self.open) {
            if let Err(breach) = self.judge.end(open.id, Outcome::Failed, &[]) {
                panic!("{breach:?} at the crash");
            }
            self.memory.of(BufferId(tag.0)).fill(CANARY);
            self.free.push(tag);
        }
        self.attach_again(&unresolved);
    }

    fn attach_again(&mut self, unresolved: &[UnresolvedWrite]) {
        let mut config = self.plan.volume();
        config.no_path_retry = self.volume.status().no_path_retry;
        self.volume = attach(self.world.now(), &self.plan, config, unresolved);
        self.places = core::array::from_fn(|place| place);
    }
}

/// A volume with all its paths, guarding what an earlier one left unresolved.
pub(crate) fn attach(
    now: Instant,
    plan: &Plan,
    config: VolumeConfig,
    unresolved: &[UnresolvedWrite],
) -> Volume {
    let mut volume = Volume::new(now, config);
    volume.restore_unresolved(unresolved);
    for path in plan.paths() {
        volume.add_path(now, path).expect("room for a path");
    }
    volume
}
