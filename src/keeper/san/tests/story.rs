//! Many stories under faults.

use std::time::Duration;

use iscsi_client::time::Instant;
use iscsi_client::wire::Tpgt;
use kit::disk::{Code, Fault, Injection, LunConfig, Select};
use kit::net::{Direction, Link};
use kit::prng::Prng;
use kit::target::{FLAVOURS, Flavour, TargetConfig};
use kit::world::{Incident, LUN_0};
use lockmgr::IoId;

use super::sim::{SECTOR, Sim};

/// Faults of one moment.
fn incident(prng: &mut Prng, portals: usize) -> Incident {
    let link = Link(prng.below(portals as u64) as usize);
    let ms = |prng: &mut Prng, most| Duration::from_millis(prng.below(most));
    match prng.below(14) {
        0 | 1 => Incident::Cut(link, Direction::ToTarget),
        2 => Incident::Cut(link, Direction::ToInitiator),
        3 => Incident::Reset(link),
        4 => Incident::Clog(link, ms(prng, 5000)),
        5 => Incident::Forget(link),
        6 => Incident::Restart(ms(prng, 3000)),
        7 => Incident::StopReading(link.0, ms(prng, 8000)),
        8 => Incident::ReleaseAll,
        _ => {
            let fault = match prng.below(8) {
                0 => Fault::Check(Code::RESET),
                1 => Fault::Check(Code::INQUIRY_CHANGED),
                2 => Fault::Status(0x40),
                3 => Fault::Status(0x08),
                4 => Fault::Check(Code::MEDIUM_ERROR),
                5 => Fault::Delay(ms(prng, 15_000)),
                6 => Fault::Response(1),
                _ => Fault::Park,
            };
            let select = prng.pick(&[Select::Writes, Select::Writes, Select::Reads]);
            let times = 1 + prng.below(2) as u32;
            let nexus = None;
            Incident::Inject(
                LUN_0,
                Injection {
                    nexus,
                    select,
                    fault,
                    times,
                },
            )
        }
    }
}

/// One run under faults: eight machines, each with a sector, which behave as those of a lockspace do.
fn story(seed: u64) {
    let mut prng = Prng::new(seed);
    let flavour = prng.pick(&FLAVOURS);
    let (mut target, mut unit) = (TargetConfig::default(), LunConfig::default());
    flavour.shape(&mut target);
    target.limits.immediate_data = prng.percent(70);
    if prng.percent(25) {
        target.portals[1].group = Tpgt(2);
    }
    unit.identity.vendor = flavour.vendor().into();
    unit.ignores_order = flavour == Flavour::Spdk;
    unit.task_set_per_nexus = flavour == Flavour::Scst;
    unit.park_max = Some(Duration::from_secs(prng.between(1, 100)));
    unit.write_cache = prng.percent(30);
    let mut sim = Sim::new(seed, target, unit);
    let mut at = sim.world.now();
    for _ in 0..prng.below(12) {
        at = at + Duration::from_millis(prng.below(12_000));
        let incident = incident(&mut prng, 2);
        sim.world.schedule(at, incident);
        if let Incident::Cut(link, _) = incident {
            let heal = at + Duration::from_millis(prng.below(20_000));
            sim.world.schedule(heal, Incident::Heal(link));
        }
    }
    let end = at + Duration::from_secs(5);
    let mut out: [Option<IoId>; 8] = [None; 8];
    while sim.world.now() < end {
        for (lba, out) in out.iter_mut().enumerate() {
            let idle = out.is_none_or(|id| sim.is_over(id) || sim.data(id).is_some());
            if idle && prng.percent(60) {
                *out = Some(match prng.below(4) {
                    0 => sim.read(lba as u64, SECTOR),
                    1 => sim.read(0, 256 << 10),
                    // The first half of the blocks has one writer.
                    _ if lba < 4 => sim.write_alone(lba as u64),
                    _ => sim.write(lba as u64),
                });
            }
        }
        sim.run(Duration::from_millis(prng.below(400)), |_| false);
    }
    // The faults stop: everything comes to an end.
    sim.world.make_peace();
    let done = sim.run(Duration::from_secs(5000), |sim| {
        sim.writes.keys().all(|id| sim.is_over(*id))
    });
    assert!(
        done,
        "seed {seed}: not everything came to an end {:#?}",
        sim.carrier.picture()
    );
    sim.up();
    sim.run(Duration::from_secs(200), |_| false);
    sim.judge();
    sim.judge_order();
    let read = sim.read(0, 4096);
    sim.until("a read", |sim| sim.data(read).is_some());
    let data = sim.data(read).expect("just reached").expect("peace");
    for (lba, sector) in data.chunks(SECTOR).enumerate() {
        let mine = |(_, of, _): &&(Instant, u64, u64)| *of == lba as u64;
        let last = sim.effects.iter().rfind(mine);
        let expected = last.map_or(0, |(_, _, id)| *id);
        assert_eq!(
            sector[..8],
            expected.to_be_bytes(),
            "seed {seed}, block {lba}"
        );
    }
}

#[test]
fn no_schedule_of_faults_breaks_a_promise() {
    let first = std::env::var("SANBLK_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let count = std::env::var("SANBLK_SEEDS")
        .ok()
        .and_then(|count| count.parse().ok());
    let (first, count) = match (first, count) {
        (Some(seed), None) => (seed, 1),
        (first, count) => (first.unwrap_or(0), count.unwrap_or(60)),
    };
    for seed in first..first + count {
        println!("seed {seed}");
        story(seed);
    }
}
