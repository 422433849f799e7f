//! What is waited for until a write of a dead session is over.

use std::time::Duration;

use iscsi_client::wire::Tpgt;
use kit::disk::{Fault, LunConfig, Select};
use kit::target::{FLAVOURS, Flavour, TargetConfig};
use lockmgr::WriteOutcome;

use super::sim::Sim;

#[test]
fn the_fence_waits_for_the_backend() {
    for flavour in FLAVOURS {
        let (mut target, mut unit) = (TargetConfig::default(), LunConfig::default());
        flavour.shape(&mut target);
        unit.identity.vendor = flavour.vendor().into();
        unit.ignores_order = flavour == Flavour::Spdk;
        unit.task_set_per_nexus = flavour == Flavour::Scst;
        unit.park_max = Some(Duration::from_secs(20));
        let mut sim = Sim::new(2, target, unit);
        sim.up();
        let current = sim.current();
        sim.inject(Select::Writes, Fault::Park);
        let id = sim.write(5);
        sim.run(Duration::from_millis(10), |_| false);
        sim.cut(current);
        assert_eq!(sim.wrote(id), WriteOutcome::Unknown, "{flavour:?}");
        // The other portal reads and writes meanwhile, where the target lets it.
        sim.until("its fence", |sim| sim.fenced_at(id).is_some());
        assert_eq!(sim.effects_of(id), 1, "{flavour:?}: the backend had it");
        sim.judge();
    }
}

#[test]
fn without_a_sibling_in_its_group_only_time_tells() {
    let mut target = TargetConfig::default();
    target.portals[1].group = Tpgt(2);
    let mut sim = Sim::new(3, target, LunConfig::default());
    sim.up();
    let current = sim.current();
    sim.inject(Select::Writes, Fault::Park);
    let id = sim.write(5);
    sim.run(Duration::from_millis(10), |_| false);
    sim.cut(current);
    assert_eq!(sim.wrote(id), WriteOutcome::Unknown);
    let lost = sim.world.now();
    // Other sectors go on through the other group.
    let other = sim.write(6);
    assert_eq!(sim.wrote(other), WriteOutcome::Done);
    assert!(!sim.run(Duration::from_secs(300), |sim| sim.fenced_at(id).is_some()));
    sim.world.unit().release_all(lost);
    sim.until("the hold", |sim| sim.fenced_at(id).is_some());
    sim.judge();
}

#[test]
fn a_restarted_keeper_ends_its_own_dead_sessions_before_it_writes() {
    // A target where neither the other portal's login nor its commands wait for what is left.
    let mut target = TargetConfig::default();
    target.portals[1].group = Tpgt(2);
    let mut unit = LunConfig::default();
    unit.identity.vendor = "LIO-ORG".into();
    let mut sim = Sim::new(1, target.clone(), unit.clone());
    sim.up();
    sim.inject(Select::Writes, Fault::Park);
    let old = sim.write(5);
    sim.run(Duration::from_millis(10), |_| false);
    // The process dies, and the target does not hear of it.
    sim.carrier = Sim::new(1, target, unit).carrier;
    for conn in &mut sim.conns {
        *conn = None;
    }
    sim.writes.clear();
    let new = sim.write(5);
    assert!(!sim.run(Duration::from_secs(5), |sim| sim.outcome(new).is_some()));
    let now = sim.world.now();
    sim.world.unit().release_all(now);
    assert_eq!(sim.wrote(new), WriteOutcome::Done);
    let order: Vec<u64> = sim.effects.iter().map(|(_, _, id)| *id).collect();
    assert_eq!(order, [1, 2], "{old:?} before {new:?}");
}
