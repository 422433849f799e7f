//! What becomes of a write by what the target answers.

use std::time::Duration;

use kit::disk::{Code, Fault, LunConfig, Select};
use kit::target::TargetConfig;
use lockmgr::WriteOutcome;

use super::sim::{IO, SECTOR, Sim};

#[test]
fn a_write_that_was_not_executed_is_sent_again() {
    let mut sim = Sim::usual();
    sim.up();
    let faults = [
        Fault::Check(Code::CAPACITY_CHANGED),
        Fault::Check(Code::INQUIRY_CHANGED),
        Fault::Check(Code::NOT_READY_BECOMING),
        Fault::Status(0x08),
        Fault::Status(0x28),
    ];
    for fault in faults {
        sim.inject(Select::Writes, fault);
        let id = sim.write(5);
        assert_eq!(sim.wrote(id), WriteOutcome::Done, "{fault:?}");
    }
    sim.judge();
}

#[test]
fn a_write_that_failed_is_unknown_and_over() {
    let mut sim = Sim::usual();
    sim.up();
    for fault in [
        Fault::Check(Code::MEDIUM_ERROR),
        Fault::Check(Code::WRITE_PROTECTED),
        Fault::Check(Code::SPACE),
        Fault::Status(0x18),
    ] {
        sim.inject(Select::Writes, fault);
        let id = sim.write(5);
        assert_eq!(sim.wrote(id), WriteOutcome::Unknown, "{fault:?}");
        sim.until("its fence", |sim| sim.fenced_at(id).is_some());
        assert_eq!(sim.outcome(id).map(|(at, _)| at), sim.fenced_at(id));
    }
    // No session was given up for that.
    assert_eq!(sim.world.target.counters().reinstatements, 0);
    sim.judge();
}

#[test]
fn a_write_that_was_aborted_is_in_doubt_until_its_session_is_fenced() {
    for fault in [Fault::Status(0x40), Fault::Response(1)] {
        let mut sim = Sim::usual();
        sim.up();
        sim.inject(Select::Writes, fault);
        let id = sim.write(5);
        assert_eq!(sim.wrote(id), WriteOutcome::Unknown, "{fault:?}");
        assert_eq!(sim.fenced_at(id), None);
        sim.until("its fence", |sim| sim.fenced_at(id).is_some());
        sim.judge();
    }
}

#[test]
fn a_reset_by_another_host_that_tells_nobody_is_found() {
    let mut sim = Sim::usual();
    sim.up();
    sim.inject(Select::Writes, Fault::Park);
    let id = sim.write(5);
    sim.until("the write there", |sim| {
        sim.world.target.counters().commands > 0
    });
    sim.run(Duration::from_millis(10), |_| false);
    let now = sim.world.now();
    assert_eq!(sim.world.unit().abort(now, |_| true).len(), 1);
    sim.world.unit().attention(Code::RESET, None);
    assert_eq!(sim.wrote(id), WriteOutcome::Unknown);
    let waited = sim.world.now().since(now);
    assert!(waited < IO / 4, "found by its deadline only: {waited:?}");
    // An aborted command may be at the backend all the same.
    assert!(!sim.run(Duration::from_secs(20), |sim| sim.fenced_at(id).is_some()));
    let now = sim.world.now();
    sim.world.unit().release_all(now);
    sim.until("its fence", |sim| sim.fenced_at(id).is_some());
    sim.judge();
}

#[test]
fn what_is_done_survives_the_target_s_power() {
    let unit = LunConfig {
        write_cache: true,
        ..LunConfig::default()
    };
    let mut sim = Sim::new(6, TargetConfig::default(), unit);
    sim.up();
    let id = sim.write(5);
    assert_eq!(sim.wrote(id), WriteOutcome::Done);
    sim.world.unit().power_cut();
    let read = sim.read(5, SECTOR);
    sim.until("a read", |sim| sim.data(read).is_some());
    let data = sim
        .data(read)
        .expect("just reached")
        .expect("a healthy disk");
    assert_eq!(data[..8], 1u64.to_be_bytes());
}
