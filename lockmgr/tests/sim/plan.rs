//! Everything that a seed draws before the first event.

use core::time::Duration;

use kit::prng::Prng;
use lockmgr::Mutant;
use lockmgr::ondisk::{AlignSize, Geometry, SectorSize};
use lockmgr::timing::{Margins, Timing};

/// Which trouble a run may meet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// Nothing goes wrong, but hosts compete and clocks drift.
    None,
    /// The writes of one host take their time, and then its path is cut for long, again and again: what a renewal is worth, and from when, matters most.
    Slow,
    /// Paths are cut; writes are lost, and some land late.
    Storage,
    /// That, and hosts pause, sleep, crash and come back.
    Everything,
    /// That, and sectors are torn: safety only, for a torn leader stays unreadable.
    Torn,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub trouble: Trouble,
    pub mutant: Option<Mutant>,
    pub timing: Timing,
    pub margins: Margins,
    pub geometry: Geometry,
    pub hosts: usize,
    pub resources: usize,
    /// Longest pause of a host between two orders.
    pub think: Duration,
    /// Incidents per host.
    pub incidents: u64,
    pub duration: Duration,
    /// Of a hundred writes that are lost, so many land late.
    pub late_percent: u64,
    /// Of a hundred reads, so many do not see all sectors at once.
    pub split_percent: u64,
    /// Of a hundred I/Os, so many fail for no reason.
    pub error_percent: u64,
    /// Of a hundred leases wanted, so many are wanted shared.
    pub shared_percent: u64,
    /// Of a hundred writes to sectors with one writer, so many are sent twice.
    pub doubled_percent: u64,
}

impl Plan {
    pub fn draw(seed: u64, trouble: Trouble, mutant: Option<Mutant>) -> Plan {
        let mut prng = Prng::new(seed);
        let slow = trouble == Trouble::Slow;
        let timing = match slow {
            true => Timing::DEFAULT,
            false => Timing::new(prng.pick(&[2, 5, 10])).expect("one byte"),
        };
        let drift_max = Duration::from_secs(6);
        let margins = Margins {
            drain_max: timing.host_dead() - timing.give_up() - drift_max,
            drift_max,
        };
        timing.verify(margins).expect("all of the slack, no more");
        let crowd = !slow && prng.percent(3);
        let hosts = match crowd {
            true => prng.between(12, 32),
            false if slow => prng.between(2, 3),
            false => prng.between(2, 5),
        };
        let busy = slow || prng.percent(30);
        let think_s = if busy { 4 } else { 30 };
        let dead = timing.host_dead().as_secs();
        let duration_s = match (crowd, slow) {
            (true, _) => dead + 60,
            (_, true) => 10 * dead,
            _ => prng.between(2 * dead, 5 * dead),
        };
        // The first has no room for a lock value block, but is sampled quickly.
        let geometry = match prng.fork().below(10) {
            0..5 => Geometry::new(SectorSize::B4096, AlignSize::M1).expect("one of the five"),
            5..9 => Geometry::B512_M1,
            _ => Geometry::B4096_M8,
        };
        Plan {
            seed,
            trouble,
            mutant,
            timing,
            margins,
            geometry,
            hosts: hosts as usize,
            resources: if slow { 1 } else { prng.between(1, 3) as usize },
            think: Duration::from_secs(if crowd { 60 } else { think_s }),
            incidents: match trouble {
                Trouble::None => 0,
                Trouble::Slow => 3,
                _ => prng.between(1, 6),
            },
            duration: Duration::from_secs(duration_s),
            late_percent: prng.pick(&[0, 30, 80]),
            split_percent: prng.pick(&[0, 30]),
            error_percent: match trouble {
                Trouble::None | Trouble::Slow => 0,
                _ => prng.pick(&[0, 0, 2, 10]),
            },
            shared_percent: if slow { 0 } else { prng.pick(&[0, 30, 60]) },
            doubled_percent: if slow { 0 } else { prng.pick(&[0, 10, 50]) },
        }
    }
}
