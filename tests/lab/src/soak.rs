//! `cargo lab soak`: a simulation (`tests/sim`, `lockmgr/tests/sim`) over as many seeds as wanted, on every core.
//!
//! It builds it once, optimized, and hands out ranges of seeds to processes of it. A seed that fails is
//! written down and the rest of its range goes on behind it. Each finding is one line, with the command that replays it.

use crate::cache::Lab;
use crate::command::say;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// What is simulated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Simulation {
    /// A volume, its paths and its target
    Volume,
    /// Hosts that share leases on a disk
    Leases,
}

impl Simulation {
    fn package(self) -> &'static str {
        match self {
            Simulation::Volume => "sanblk",
            Simulation::Leases => "lockmgr",
        }
    }

    /// Its tests that draw all they do from the seed; ranges go to them in turn.
    fn tests(self) -> &'static [&'static str] {
        match self {
            Simulation::Volume => &[
                "links_come_and_go",
                "commands_hang_and_come_back_late",
                "everything_goes_wrong",
                "the_permission_to_write_comes_and_goes",
                "links_stay_away_longer_than_any_hold",
            ],
            Simulation::Leases => &[
                "a_quiet_world",
                "storage_is_slow",
                "storage_comes_and_goes",
                "everything_goes_wrong",
                "sectors_are_torn",
            ],
        }
    }
}

/// Seeds that one process runs.
const RANGE: u64 = 200;
/// A process that computes so long for them hangs.
const RANGE_LIMIT: Duration = Duration::from_secs(300);
/// More findings than these say nothing new.
const FINDINGS_MAX: usize = 20;
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(10);

/// Runs `seeds` seeds, for at most `minutes`. Exit status: 0 without findings, otherwise 1.
pub fn run(lab: &Lab, simulation: Simulation, seeds: u64, minutes: Option<u64>) -> Result<i32> {
    let binary = build(lab, simulation)?;
    let dir = lab.dir.join("soak");
    fs::create_dir_all(&dir)?;
    let soak = Soak {
        simulation,
        binary,
        seeds,
        start: Instant::now(),
        limit: minutes.map(|minutes| Duration::from_secs(minutes * 60)),
        next: AtomicU64::new(0),
        done: AtomicU64::new(0),
        findings: Mutex::new(Vec::new()),
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    say(format_args!("soak: {seeds} seeds on {cores} cores"));
    thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..cores)
            .map(|number| {
                let log = dir.join(format!("{number}.log"));
                let soak = &soak;
                scope.spawn(move || soak.work(&log))
            })
            .collect();
        let mut told = Instant::now();
        while !workers.iter().all(thread::ScopedJoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(100));
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                say(&soak);
            }
        }
        for worker in workers {
            worker.join().expect("a worker does not panic")?;
        }
        Ok(())
    })?;
    say(&soak);
    let findings = soak.findings.into_inner().expect("no worker panics");
    for finding in &findings {
        println!("{finding}");
    }
    Ok(i32::from(!findings.is_empty()))
}

/// Builds the simulation and returns its program.
fn build(lab: &Lab, simulation: Simulation) -> Result<PathBuf> {
    let output = crate::cargo(lab)
        .args(["test", "--release", "--locked"])
        .args(["--package", simulation.package()])
        .args(["--test=sim", "--no-run", "--message-format=json"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the simulation does not build");
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let program = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_sim = message["target"]["name"] == "sim";
        is_sim.then(|| message["executable"].as_str().map(PathBuf::from))?
    });
    program.context("cargo names no program of the simulation")
}

struct Soak {
    simulation: Simulation,
    binary: PathBuf,
    seeds: u64,
    start: Instant,
    limit: Option<Duration>,
    /// Number of the next range.
    next: AtomicU64,
    /// Seeds that ran.
    done: AtomicU64,
    findings: Mutex<Vec<Finding>>,
}

/// A seed that broke a promise.
struct Finding {
    simulation: Simulation,
    test: &'static str,
    seed: Seed,
    why: String,
}

enum Seed {
    One(u64),
    /// The process said nothing about the seed: a hang, or a death without a word.
    Among(u64, u64),
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (package, test, why) = (self.simulation.package(), self.test, &self.why);
        match self.seed {
            Seed::One(seed) => write!(
                f,
                "SANBLK_SEED={seed} cargo test -p {package} --test sim {test}: {why}"
            ),
            Seed::Among(first, last) => write!(
                f,
                "SANBLK_SEEDS={first}-{last} cargo test -p {package} --test sim {test}: {why}"
            ),
        }
    }
}

impl std::fmt::Display for Soak {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.start.elapsed().as_secs();
        let findings = self.findings.lock().expect("no worker panics").len();
        write!(
            f,
            "soak: {} of {} seeds, {findings} findings, {} min {:02} s",
            self.done.load(Relaxed),
            self.seeds,
            seconds / 60,
            seconds % 60
        )
    }
}

impl Soak {
    fn work(&self, log: &Path) -> Result<()> {
        loop {
            let found = self.findings.lock().expect("no worker panics").len();
            let late = self.limit.is_some_and(|limit| self.start.elapsed() > limit);
            let range = self.next.fetch_add(1, Relaxed);
            let first = range * RANGE + 1;
            if late || found >= FINDINGS_MAX || first > self.seeds {
                return Ok(());
            }
            let last = (first + RANGE - 1).min(self.seeds);
            let tests = self.simulation.tests();
            self.range(tests[range as usize % tests.len()], first, last, log)?;
        }
    }

    fn range(&self, test: &'static str, mut first: u64, last: u64, log: &Path) -> Result<()> {
        while first <= last {
            let Some((seed, why)) = self.process(test, first, last, log)? else {
                self.done.fetch_add(last - first + 1, Relaxed);
                return Ok(());
            };
            let next = match seed {
                Seed::One(seed) => seed + 1,
                Seed::Among(..) => last + 1,
            };
            let finding = Finding {
                simulation: self.simulation,
                test,
                seed,
                why,
            };
            say(&finding);
            self.findings
                .lock()
                .expect("no worker panics")
                .push(finding);
            self.done.fetch_add(next - first, Relaxed);
            first = next;
        }
        Ok(())
    }

    /// One process; what it found, if anything.
    fn process(
        &self,
        test: &'static str,
        first: u64,
        last: u64,
        log: &Path,
    ) -> Result<Option<(Seed, String)>> {
        let output = File::create(log).with_context(|| log.display().to_string())?;
        let mut child = Command::new(&self.binary)
            .args(["--exact", test, "--test-threads=1"])
            .env("SANBLK_SEEDS", format!("{first}-{last}"))
            .env_remove("SANBLK_SEED")
            .env_remove("SEED")
            .stdin(Stdio::null())
            .stderr(output.try_clone()?)
            .stdout(output)
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        let status = loop {
            match child.try_wait()? {
                Some(status) => break status,
                None if processor_time(child.id()) > RANGE_LIMIT => {
                    child.kill()?;
                    child.wait()?;
                    let why = format!(
                        "no end within {} s of processor time",
                        RANGE_LIMIT.as_secs()
                    );
                    return Ok(Some((Seed::Among(first, last), why)));
                }
                None => thread::sleep(Duration::from_millis(10)),
            }
        };
        let text = fs::read_to_string(log)?;
        if !text.contains("running 1 test\n") {
            bail!("the simulation has no test {test}:\n{text}");
        }
        if status.success() {
            return Ok(None);
        }
        Ok(Some(match failure(&text) {
            Some((seed, why)) if (first..=last).contains(&seed) => (Seed::One(seed), why),
            _ => (Seed::Among(first, last), format!("{status}")),
        }))
    }
}

/// The seed that a failed run names, and the first line of why.
fn failure(text: &str) -> Option<(u64, String)> {
    let mut lines = text.lines();
    let seed =
        lines.find_map(|line| line.strip_prefix("seed ")?.split(' ').next()?.parse().ok())?;
    lines.find(|line| line.contains("panicked at"))?;
    Some((seed, lines.next().unwrap_or_default().to_owned()))
}

/// What a process has used of processors; nothing if that cannot be read. Not the time of day: beside other work a range may have
/// to wait for hours.
fn processor_time(process: u32) -> Duration {
    /// Linux counts in these for user space on every architecture that Debian has.
    const TICKS_PER_SECOND: u64 = 100;
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name before it may have blanks. Then: state, and 10 fields until utime and stime (proc(5)).
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    let used: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(used * 1000 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_run_names_its_seed_and_its_reason() {
        let text = "\nrunning 1 test\ntest x ... FAILED\n\nfailures:\n\n---- x stdout ----\n\
                    seed 7 Plan { paths: 2 }\n\nthread 'x' (81) panicked at a.rs:1:2:\nStale { lba: 3 }\nnote: no\n";
        assert_eq!(failure(text), Some((7, "Stale { lba: 3 }".to_owned())));
        assert_eq!(failure("running 1 test\nKilled\n"), None);
    }

    #[test]
    fn only_time_on_a_processor_counts() {
        let mut idle = Command::new("sleep").arg("60").spawn().expect("sleep");
        let mut busy = Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn()
            .expect("sh");
        while processor_time(busy.id()) < Duration::from_millis(200) {
            thread::sleep(Duration::from_millis(10));
        }
        assert!(processor_time(idle.id()) < Duration::from_millis(200));
        for child in [&mut idle, &mut busy] {
            child.kill().expect("it runs");
            child.wait().expect("its end");
        }
    }
}
