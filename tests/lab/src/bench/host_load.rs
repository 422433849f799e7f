//! How much of the host other programs use while a guest is measured.

use std::fs;
use std::time::{Duration, Instant};

/// A tick of `/proc/stat` and `/proc/PID/stat` in milliseconds, on every x86 Linux.
const TICK_MS: u64 = 10;
/// Rows of one fio arrive together: those that follow within this time share one figure.
const TOGETHER: Duration = Duration::from_secs(1);

/// All busy time of the host less the guest's.
pub struct HostLoad {
    guest: u32,
    sampled: Sample,
    asked: Instant,
    percent: f64,
}

#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    busy: u64,
    guest: u64,
}

impl Sample {
    fn now(guest: u32) -> Sample {
        Sample {
            at: Instant::now(),
            busy: busy_ticks(),
            guest: process_ticks(guest),
        }
    }
}

impl HostLoad {
    /// Starts to measure, beside the guest with this process id.
    pub fn start(guest: u32) -> HostLoad {
        let sampled = Sample::now(guest);
        HostLoad {
            guest,
            sampled,
            asked: sampled.at,
            percent: 0.0,
        }
    }

    /// Percent of all cores that others used since the row before.
    pub fn others_percent(&mut self) -> f64 {
        let now = Sample::now(self.guest);
        let together = now.at.duration_since(self.asked) < TOGETHER;
        self.asked = now.at;
        if !together {
            let then = std::mem::replace(&mut self.sampled, now);
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let total_ms = now.at.duration_since(then.at).as_secs_f64() * 1e3 * cores as f64;
            let busy = now.busy.saturating_sub(then.busy);
            let others = busy.saturating_sub(now.guest.saturating_sub(then.guest)) * TICK_MS;
            self.percent = (100.0 * others as f64 / total_ms).round();
        }
        self.percent
    }
}

/// user + nice + system + irq + softirq + steal of the host.
fn busy_ticks() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|f| f.parse().ok())
        .collect();
    [0, 1, 2, 5, 6, 7]
        .iter()
        .filter_map(|i| fields.get(*i))
        .sum()
}

/// user + system of a process and its threads.
fn process_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold spaces.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|f| f.parse::<u64>().ok())
        .sum()
}
