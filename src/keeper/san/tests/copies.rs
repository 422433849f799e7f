//! Writes to sectors with one writer, which may be sent twice.

use std::time::Duration;

use iscsi_client::wire::Tpgt;
use kit::disk::{Fault, LunConfig, Select};
use kit::net::{Direction, Link};
use kit::target::TargetConfig;
use kit::world::Incident;
use lockmgr::WriteOutcome;

use super::sim::{IO, Sim};
use crate::keeper::san::PortalState;

const TENTH: Duration = Duration::from_millis(100);

#[test]
fn a_portal_that_falls_silent_costs_a_renewal_less_than_a_tenth_of_a_second() {
    for directions in [
        &[Direction::ToTarget, Direction::ToInitiator][..],
        &[Direction::ToTarget],
        &[Direction::ToInitiator],
    ] {
        for step in 0..20 {
            let mut sim = Sim::usual();
            sim.up();
            let link = Link(sim.current());
            // A session that is lost as soon as it is made is not made again at once.
            sim.run(Duration::from_secs(2), |_| false);
            for _ in 0..20 {
                let id = sim.write_alone(5);
                assert_eq!(sim.wrote(id), WriteOutcome::Done);
            }
            let cut = sim.world.now() + step * Duration::from_micros(100);
            for direction in directions {
                sim.world.schedule(cut, Incident::Cut(link, *direction));
            }
            for _ in 0..20 {
                let asked = sim.world.now();
                let id = sim.write_alone(5);
                assert_ne!(sim.wrote(id), WriteOutcome::Unknown);
                let took = sim.world.now().since(asked);
                assert!(took <= TENTH, "{took:?}");
                sim.until("its end", |sim| sim.is_over(id));
                let waited = sim.world.now().since(asked);
                assert!(waited <= 3 * TENTH, "found and fenced after {waited:?}");
            }
            sim.judge();
            sim.judge_order();
        }
    }
}

#[test]
fn what_others_write_too_is_sent_once() {
    let mut sim = Sim::usual();
    sim.up();
    sim.inject(Select::Writes, Fault::Park);
    let id = sim.write(5);
    assert_eq!(sim.wrote(id), WriteOutcome::Unknown);
    let now = sim.world.now();
    sim.world.unit().release_all(now);
    sim.until("its fence", |sim| sim.fenced_at(id).is_some());
    sim.judge();
}

#[test]
fn a_portal_that_is_late_but_lives_settles_its_copy_and_keeps_its_session() {
    let mut sim = Sim::usual();
    sim.up();
    let logins = sim.world.target.counters().logins;
    sim.inject(Select::Writes, Fault::Park);
    let id = sim.write_alone(5);
    assert_eq!(sim.wrote(id), WriteOutcome::Doubled);
    assert!(!sim.run(Duration::from_secs(3), |sim| sim.is_over(id)));
    let now = sim.world.now();
    sim.world.unit().release_all(now);
    sim.until("its other copy", |sim| sim.is_over(id));
    assert_eq!(
        sim.fenced_at(id),
        None,
        "its own end, not that of a session"
    );
    assert_eq!(sim.effects_of(id), 2);
    assert_eq!(sim.world.target.counters().logins, logins);
    sim.judge();
}

#[test]
fn no_copy_outlives_its_deadline() {
    let mut sim = Sim::usual();
    sim.up();
    let began = sim.world.now();
    sim.inject(Select::Writes, Fault::Park);
    let id = sim.write_alone(5);
    assert_eq!(sim.wrote(id), WriteOutcome::Doubled);
    // The session that has the parked one is reset at its last call, and fenced.
    sim.until("a lost session", |sim| {
        let up = |state| matches!(state, PortalState::Up { .. });
        !sim.carrier.picture().iter().all(|portal| up(portal.state))
    });
    assert!(sim.world.now().since(began) < IO);
    assert!(!sim.is_over(id));
    let now = sim.world.now();
    sim.world.unit().release_all(now);
    sim.until("its fence", |sim| sim.fenced_at(id).is_some());
    sim.judge();
}

#[test]
fn a_copy_in_doubt_is_over_when_its_session_is_proven_dead() {
    let mut target = TargetConfig::default();
    target.portals[1].group = Tpgt(2);
    let mut sim = Sim::new(3, target, LunConfig::default());
    sim.up();
    let current = sim.current();
    sim.inject(Select::Writes, Fault::Park);
    let id = sim.write_alone(5);
    sim.run(Duration::from_millis(10), |_| false);
    sim.cut(current);
    assert_eq!(sim.wrote(id), WriteOutcome::Doubled);
    // What has no copy in doubt does not wait with it.
    let other = sim.write_alone(6);
    assert_eq!(sim.wrote(other), WriteOutcome::Done);
    // No sibling in its group: only time tells.
    assert!(!sim.run(Duration::from_secs(300), |sim| sim.is_over(id)));
    let now = sim.world.now();
    sim.world.unit().release_all(now);
    sim.until("the hold", |sim| sim.is_over(id));
    sim.judge();
}

#[test]
fn what_was_aborted_is_sent_again_at_once() {
    let mut sim = Sim::usual();
    sim.up();
    sim.inject(Select::Writes, Fault::Status(0x40));
    let began = sim.world.now();
    let id = sim.write_alone(5);
    assert_eq!(sim.wrote(id), WriteOutcome::Doubled);
    assert!(sim.world.now().since(began) <= TENTH);
    sim.until("its fence", |sim| sim.fenced_at(id).is_some());
    sim.judge();
}

#[test]
fn without_a_living_portal_it_is_unknown_in_the_end() {
    let mut sim = Sim::usual();
    sim.up();
    sim.cut(0);
    sim.cut(1);
    let began = sim.world.now();
    let id = sim.write_alone(5);
    assert_eq!(sim.wrote(id), WriteOutcome::Unknown);
    assert!(sim.world.now().since(began) <= IO);
    for link in [Link(0), Link(1)] {
        sim.world.happen(Incident::Heal(link));
    }
    sim.until("its fence", |sim| sim.fenced_at(id).is_some());
    sim.up();
    sim.judge();
}

#[test]
fn a_false_suspicion_costs_a_login() {
    let mut sim = Sim::usual();
    sim.up();
    let link = Link(sim.current());
    sim.world
        .happen(Incident::Clog(link, Duration::from_millis(400)));
    for _ in 0..50 {
        let began = sim.world.now();
        let id = sim.write_alone(5);
        assert_ne!(sim.wrote(id), WriteOutcome::Unknown);
        assert!(sim.world.now().since(began) <= TENTH);
        sim.until("its end", |sim| sim.is_over(id));
    }
    sim.up();
    sim.judge();
    sim.judge_order();
}
