//! Which portal is used, and which is given up.

use std::time::Duration;

use iscsi_client::wire::Tpgt;
use kit::disk::{AluaState, Fault, Group, LogicalUnit, LunConfig, Select};
use kit::net::{Direction, Link};
use kit::prng::Prng;
use kit::target::{Ping, TargetConfig};
use kit::world::{Incident, LUN_0};
use lockmgr::{ReadFailed, WriteOutcome};

use super::sim::{IO, SECTOR, Sim};
use crate::keeper::san::PortalState;
use crate::keeper::san::nexus::Trouble;

#[test]
fn another_lun_is_never_written_to() {
    let mut sim = Sim::usual();
    sim.up();
    let mut other = LunConfig::default();
    other.identity.serial = "5eed0002".into();
    other.record_effects = true;
    sim.world
        .keep_impostor(LogicalUnit::new(other, Prng::new(5)));
    sim.world.happen(Incident::Swap(Duration::from_millis(10)));
    let id = sim.write(5);
    assert_eq!(sim.wrote(id), WriteOutcome::Unknown);
    let read = sim.read(5, SECTOR);
    sim.until("the read's end", |sim| sim.data(read).is_some());
    assert_eq!(sim.data(read), Some(Err(ReadFailed)));
    let why = sim.carrier.picture().remove(0).why;
    assert!(matches!(why, Some(Trouble::OtherLun(_))), "{why:?}");
    // Nothing reached it, and the old disk had nothing to lose.
    assert_eq!(sim.effects, []);
    sim.world.happen(Incident::Swap(Duration::from_millis(10)));
    sim.up();
    let id = sim.write(5);
    assert_eq!(sim.wrote(id), WriteOutcome::Done);
    sim.judge();
}

#[test]
fn a_port_in_standby_is_left() {
    let mut target = TargetConfig::default();
    target.portals[1].group = Tpgt(2);
    let unit = LunConfig {
        alua: true,
        ..LunConfig::default()
    };
    let mut sim = Sim::new(4, target, unit);
    sim.up();
    let current = sim.current();
    let group = Group(current as u16 + 1);
    sim.world
        .happen(Incident::Access(LUN_0, group, AluaState::Standby));
    let id = sim.write(5);
    assert_eq!(sim.wrote(id), WriteOutcome::Done);
    assert_ne!(sim.current(), current);
    sim.judge();
}

#[test]
fn an_idle_session_stays_up_and_answers_pings() {
    let target = TargetConfig {
        ping: Some(Ping {
            idle: Duration::from_secs(1),
            patience: Duration::from_secs(1),
            tag_zero: true,
        }),
        ..TargetConfig::default()
    };
    let mut sim = Sim::new(5, target, LunConfig::default());
    sim.up();
    let logins = sim.world.target.counters().logins;
    sim.run(Duration::from_secs(120), |_| false);
    assert_eq!(sim.world.target.counters().logins, logins);
    sim.judge();
}

#[test]
fn a_dead_idle_portal_is_known_before_it_is_needed() {
    let mut sim = Sim::usual();
    sim.up();
    let idle = 1 - sim.current();
    sim.world
        .happen(Incident::Cut(Link(idle), Direction::ToTarget));
    let started = sim.world.now();
    sim.until("the loss", |sim| {
        !matches!(sim.carrier.picture()[idle].state, PortalState::Up { .. })
    });
    let waited = sim.world.now().since(started);
    assert!(waited < IO / 2, "{waited:?}");
}

#[test]
fn a_lost_carrier_needs_no_waiting() {
    let mut sim = Sim::usual();
    sim.up();
    let current = sim.current();
    let interface = format!("if-{}", sim.addresses[current].ip());
    sim.inject(Select::Writes, Fault::Park);
    let id = sim.write(5);
    sim.run(Duration::from_millis(10), |_| false);
    let now = sim.world.now();
    sim.world
        .happen(Incident::Cut(Link(current), Direction::ToTarget));
    sim.carrier.carrier(now, &interface, false);
    assert_eq!(sim.wrote(id), WriteOutcome::Unknown);
    assert_eq!(sim.world.now(), now);
    sim.world.unit().release_all(now);
    sim.until("its fence", |sim| sim.fenced_at(id).is_some());
    sim.world.happen(Incident::Heal(Link(current)));
    sim.carrier.carrier(sim.world.now(), &interface, true);
    sim.up();
    sim.judge();
}

#[test]
fn a_slow_disk_costs_no_session() {
    let unit = LunConfig {
        latency_min: Duration::from_secs(2),
        latency_max: Duration::from_secs(3),
        ..LunConfig::default()
    };
    let mut sim = Sim::new(7, TargetConfig::default(), unit);
    sim.up();
    let logins = sim.world.target.counters().logins;
    for lba in 0..20 {
        let (id, read) = (sim.write(lba), sim.read(lba, SECTOR));
        assert_eq!(sim.wrote(id), WriteOutcome::Done);
        sim.until("a read", |sim| sim.data(read).is_some());
        assert!(sim.data(read).expect("just reached").is_ok());
    }
    assert_eq!(sim.world.target.counters().logins, logins);
    sim.judge();
}
