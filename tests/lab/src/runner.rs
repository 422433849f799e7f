//! Runs scenarios: packs them into boots, streams what they print, judges each.
//!
//! Scenarios share a boot while they pass: after a failure the next one gets a fresh guest, so that no
//! verdict depends on what an earlier failure left behind. Those that mostly wait run in two guests at once. Those
//! that want several guests come last, one after the other (`cluster.rs`).

use crate::accel::Accel;
use crate::cache::{Lab, remove};
use crate::cluster;
use crate::command::say;
use crate::guest::{Boot, Guest, Next};
use crate::image::Image;
use crate::kernel_log;
use crate::scenario::{Load, Scenario};
use anyhow::Result;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Power-on to the agent, on a machine whose cores others use too.
const BOOT_LIMIT: Duration = Duration::from_secs(120);
/// The tidying after a scenario.
const RESET_LIMIT: Duration = Duration::from_secs(150);
/// Exit status of a scenario that ran out of time, as `timeout` has it.
pub const TIMED_OUT: i32 = 124;
/// Exit status of a scenario whose guest died.
pub const GUEST_DIED: i32 = 125;

/// What became of one scenario.
#[derive(Debug, Clone)]
pub struct Report {
    /// Its name.
    pub name: String,
    /// The kernel it ran on.
    pub kernel: &'static str,
    /// Wall time.
    pub seconds: f32,
    /// Its exit status, or [`TIMED_OUT`] or [`GUEST_DIED`]; 1 where the kernel log failed it.
    pub status: i32,
    /// Why it failed; `None` if it passed.
    pub failure: Option<String>,
}

impl Report {
    /// For a scenario that was asked for and that none of the chosen kernels can run.
    pub fn cannot_run(scenario: &Scenario) -> Report {
        let kernels: Vec<_> = scenario.kernels.iter().map(|k| k.name()).collect();
        Report {
            name: scenario.name.clone(),
            kernel: "none",
            seconds: 0.0,
            status: 1,
            failure: Some(format!("needs --kernel {}", kernels.join(" or --kernel "))),
        }
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = if self.failure.is_some() { "FAIL" } else { "ok" };
        write!(
            f,
            "{word:4} {:28} {:9} {:6.1} s",
            self.name, self.kernel, self.seconds
        )?;
        self.failure
            .as_ref()
            .map_or(Ok(()), |why| write!(f, "  {why}"))
    }
}

/// What all boots of a run have in common.
pub struct Run<'a> {
    /// The repository and the cache.
    pub lab: &'a Lab,
    /// Kernel and root.
    pub image: &'a Image,
    /// KVM or TCG.
    pub accel: Accel,
    /// The binary under test.
    pub sanblk: PathBuf,
    /// Factor on every scenario's time limit.
    pub patience: f32,
    /// How many guests may run at once.
    pub lanes: usize,
}

impl Run<'_> {
    /// Runs all of them and returns a report for each.
    pub fn scenarios(&self, all: &[Scenario]) -> Result<Vec<Report>> {
        let (clusters, single): (Vec<_>, Vec<_>) = all.iter().cloned().partition(|s| s.cluster);
        let (waiting, busy): (Vec<_>, Vec<_>) = single
            .into_iter()
            .partition(|s| s.load == Load::Waits && self.lanes > 1);
        let mut reports = self.lane(&Mutex::new(busy), 1, "")?;
        let lanes = self.lanes.min(waiting.len());
        let queue = Mutex::new(waiting);
        let results: Vec<Result<Vec<Report>>> = thread::scope(|scope| {
            let guests: Vec<_> = (1..=lanes)
                .map(|n| {
                    let queue = &queue;
                    let prefix = if lanes > 1 {
                        format!("{n}| ")
                    } else {
                        String::new()
                    };
                    scope.spawn(move || self.lane(queue, lanes, &prefix))
                })
                .collect();
            guests
                .into_iter()
                .map(|g| g.join().expect("a lane does not panic"))
                .collect()
        });
        for result in results {
            reports.extend(result?);
        }
        for scenario in &clusters {
            reports.push(cluster::run(self, scenario, &[])?.0);
        }
        Ok(reports)
    }

    /// One guest after the other until the queue is empty, beside `peers - 1` other lanes.
    fn lane(
        &self,
        queue: &Mutex<Vec<Scenario>>,
        peers: usize,
        prefix: &str,
    ) -> Result<Vec<Report>> {
        let cpus = if peers > 1 { 1 } else { 2 };
        let mut reports = Vec::new();
        let mut stillborn = false;
        loop {
            let batch = {
                let mut queue = queue.lock().expect("no lane panics");
                let share = queue.len().div_ceil(peers);
                take_batch(&mut queue, share)
            };
            if batch.is_empty() {
                return Ok(reports);
            }
            let mut done = self.boot(&batch, cpus, prefix, !stillborn)?;
            stillborn = done.is_empty();
            let left = batch[done.len()..].to_vec();
            reports.append(&mut done);
            queue.lock().expect("no lane panics").splice(0..0, left);
        }
    }

    /// One boot: runs the batch until its end or its first failure. At least one report comes back; none only if `again` and
    /// the guest did not even come up, which says nothing of sanblk: an emulated kernel that patches its own code at boot
    /// sometimes trips over it (`Oops: int3`).
    fn boot(
        &self,
        batch: &[Scenario],
        cpus: u32,
        prefix: &str,
        again: bool,
    ) -> Result<Vec<Report>> {
        let mut boot = Boot::new(self.lab, self.image, self.accel, cpus, 3072)
            .plan(batch.iter().map(|s| s.name.clone()))
            .sanblk(&self.sanblk);
        let mut programs: Vec<_> = batch.iter().filter_map(|s| s.with).collect();
        programs.sort_unstable_by_key(|unpacked| unpacked.name());
        programs.dedup_by_key(|unpacked| unpacked.name());
        for unpacked in programs {
            boot = boot.tree(unpacked.name(), unpacked.tree(self.lab)?);
        }
        let mut guest = boot.start()?;
        let mut reports = Vec::new();
        let mut deadline = Instant::now() + BOOT_LIMIT.mul_f32(self.patience);
        let mut current: Option<Current> = None;
        let mut ready = false;
        let died = loop {
            let event = guest.next(deadline);
            match event {
                Next::Text { clock, text } => {
                    print_line(prefix, clock.as_deref(), &text);
                    if let Some(c) = &mut current {
                        c.hear(clock.as_deref(), &text);
                    }
                }
                Next::Ready { version } => {
                    ready = true;
                    print_line(prefix, None, &format!("guest ready, kernel {version}"))
                }
                Next::Begin { name } => {
                    let Some(scenario) = batch.iter().find(|s| s.name == name) else {
                        continue;
                    };
                    print_line(prefix, None, &format!("=== {name}: {}", scenario.what));
                    deadline = Instant::now() + scenario.limit.mul_f32(self.patience);
                    current = Some(Current::new(scenario));
                }
                Next::End { status, .. } => {
                    deadline = Instant::now() + RESET_LIMIT;
                    if let Some(c) = &mut current {
                        c.ended(status);
                    }
                }
                Next::Clean { name } => {
                    wait_for_mark(&guest, &format!("lab: clean {name}\n"));
                    let Some(c) = current.take() else { continue };
                    reports.push(self.judge(c, &guest, None)?);
                    if reports.last().is_some_and(|r| r.failure.is_some())
                        && reports.len() < batch.len()
                    {
                        guest.kill();
                        break None;
                    }
                    deadline = Instant::now() + RESET_LIMIT;
                }
                Next::Dirty { name, why } => {
                    wait_for_mark(&guest, &format!("lab: dirty {name} "));
                    let Some(c) = current.take() else { continue };
                    reports.push(self.judge(c, &guest, Some((1, why)))?);
                }
                Next::PowerCycle { role } => {
                    print_line(
                        prefix,
                        None,
                        &format!("there is no {role} beside this guest"),
                    );
                }
                Next::Done => deadline = Instant::now() + Duration::from_secs(20),
                Next::Deadline => {
                    guest.dump_and_kill();
                    break Some((TIMED_OUT, "out of time".to_owned()));
                }
                Next::Ended(status) => {
                    break Some((GUEST_DIED, format!("the guest died ({status})")));
                }
            }
        };
        if let (Some((status, why)), Some(c)) = (&died, current.take()) {
            let why = if c.status.is_some() {
                format!("tidying up after it: {why}")
            } else {
                why.clone()
            };
            reports.push(self.judge(c, &guest, Some((*status, why)))?);
            explain(&guest, prefix);
        } else if let (Some((status, why)), true) = (&died, reports.is_empty()) {
            explain(&guest, prefix);
            if !ready && again {
                say(format_args!("no boot: {why}; once more"));
                guest.remove_files()?;
                return Ok(reports);
            }
            // Without this the lane would boot the same batch for ever.
            let first = Current::new(&batch[0]);
            reports.push(self.judge(first, &guest, Some((*status, format!("no boot: {why}"))))?);
        }
        guest.remove_files()?;
        Ok(reports)
    }

    /// Writes the scenario's files and decides.
    fn judge(
        &self,
        c: Current<'_>,
        guest: &Guest,
        trouble: Option<(i32, String)>,
    ) -> Result<Report> {
        let name = &c.scenario.name;
        let log = guest.out("dmesg.log");
        let part = kernel_log::part(&log, name);
        let alarm = kernel_log::alarm(part, &c.scenario.forgiven);
        let (status, failure) = match (c.status, trouble) {
            (Some(s), _) if s != 0 => (
                s,
                Some(
                    c.reason
                        .clone()
                        .unwrap_or_else(|| format!("exit status {s}")),
                ),
            ),
            (_, Some((s, why))) => {
                let serial = guest.out("serial.log");
                let last_words = kernel_log::alarm(&serial, &[]).filter(|_| s == GUEST_DIED);
                (
                    s,
                    Some(last_words.map_or(why.clone(), |line| format!("{why}: {line}"))),
                )
            }
            (Some(_), None) => match alarm {
                Some(line) => (1, Some(format!("kernel log: {line}"))),
                None => (0, None),
            },
            (None, None) => (GUEST_DIED, Some("never ran".to_owned())),
        };
        let seconds = c
            .run_time
            .unwrap_or_else(|| c.start.elapsed())
            .as_secs_f32();
        let report = Report {
            name: name.clone(),
            kernel: self.image.kernel.name(),
            seconds,
            status,
            failure,
        };
        let dir = self
            .lab
            .dir
            .join("runs")
            .join(format!("{name}.{}", report.kernel));
        remove(&dir)?;
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("console.log"), &c.text)?;
        fs::write(dir.join("kernel.log"), part)?;
        collect(guest, name, &dir)?;
        if report.failure.is_some() {
            say(format_args!(
                "{report}\nlab: logs: {}",
                shown(self.lab, &dir)
            ));
        }
        Ok(report)
    }
}

/// The scenario a guest is at.
pub struct Current<'a> {
    scenario: &'a Scenario,
    /// When it began.
    pub start: Instant,
    /// What was printed.
    pub text: String,
    status: Option<i32>,
    run_time: Option<Duration>,
    /// What the first `FAIL:` line says.
    pub reason: Option<String>,
}

impl<'a> Current<'a> {
    /// One that begins now.
    pub fn new(scenario: &'a Scenario) -> Current<'a> {
        Current {
            scenario,
            start: Instant::now(),
            text: String::new(),
            status: None,
            run_time: None,
            reason: None,
        }
    }

    fn hear(&mut self, clock: Option<&str>, text: &str) {
        let _ = writeln!(self.text, "{:>8} {text}", clock.unwrap_or_default());
        if let (None, Some(reason)) = (self.status, text.strip_prefix("FAIL: ")) {
            self.reason = Some(reason.to_owned());
        }
    }

    /// A line of one of several guests.
    pub fn hear_from(&mut self, role: &str, clock: Option<&str>, text: &str) {
        let _ = writeln!(
            self.text,
            "{role:5}| {:>8} {text}",
            clock.unwrap_or_default()
        );
        if let (None, Some(reason)) = (&self.reason, text.strip_prefix("FAIL: ")) {
            self.reason = Some(format!("{role}: {reason}"));
        }
    }

    fn ended(&mut self, status: i32) {
        self.status = Some(status);
        self.run_time = Some(self.start.elapsed());
    }
}

/// Takes what the next boot runs: one that wants its own boot, or up to `share` that do not mind.
fn take_batch(queue: &mut Vec<Scenario>, share: usize) -> Vec<Scenario> {
    if queue.first().is_some_and(|s| s.own_boot) {
        return vec![queue.remove(0)];
    }
    let mut batch = Vec::new();
    let mut at = 0;
    while at < queue.len() && batch.len() < share.max(1) {
        if queue[at].own_boot {
            at += 1;
        } else {
            batch.push(queue.remove(at));
        }
    }
    batch
}

/// The kernel log reaches the host a moment after the agent's word.
fn wait_for_mark(guest: &Guest, mark: &str) {
    for _ in 0..20 {
        if guest.out("dmesg.log").contains(mark) {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Copies what the scenario left in `/host/out` under its own name.
pub fn collect(guest: &Guest, name: &str, dir: &Path) -> Result<()> {
    for entry in fs::read_dir(guest.share.join("out"))? {
        let entry = entry?;
        let file = entry.file_name().to_string_lossy().into_owned();
        let own = file
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('.'));
        let target = match own {
            Some(rest) => rest,
            None if file.starts_with("dump.") => file.as_str(),
            None => continue,
        };
        fs::copy(entry.path(), dir.join(target))?;
    }
    Ok(())
}

/// After a death: the ends of the logs that tell why.
pub fn explain(guest: &Guest, prefix: &str) {
    for (title, file, lines) in [
        ("kernel log", "dmesg.log", 25),
        ("serial console", "serial.log", 40),
        ("processes", "dump.txt", 40),
        ("sanblk's log", "dump.sanblk.log", 30),
    ] {
        let text = guest.out(file);
        if !text.trim().is_empty() {
            print_line(prefix, None, &format!("--- end of the {title}"));
            for line in kernel_log::tail(&text, lines) {
                print_line(prefix, None, line);
            }
        }
    }
}

/// One line of output: time of day (UTC), the guest's clock, text.
pub fn print_line(prefix: &str, clock: Option<&str>, text: &str) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let (h, m, s) = (now / 3600 % 24, now / 60 % 60, now % 60);
    match clock {
        Some(clock) => println!("{h:02}:{m:02}:{s:02} {prefix}[{clock:>7}] {text}"),
        None => println!("{h:02}:{m:02}:{s:02} {prefix}          {text}"),
    }
}

/// A path below the repository as people type it.
pub fn shown(lab: &Lab, path: &Path) -> String {
    path.strip_prefix(&lab.repo)
        .unwrap_or(path)
        .display()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::parse;

    fn scenario(name: &str, settings: &str) -> Scenario {
        parse(name, &format!("# lab: {settings}\n# what: w\n")).expect("a header")
    }

    fn names(batch: &[Scenario]) -> Vec<&str> {
        batch.iter().map(|s| s.name.as_str()).collect()
    }

    #[test]
    fn shared_scenarios_share_and_own_ones_stand_alone() {
        let mut queue = vec![
            scenario("a", "boot=shared"),
            scenario("b", "boot=own"),
            scenario("c", "boot=shared"),
            scenario("d", "boot=shared"),
        ];
        assert_eq!(names(&take_batch(&mut queue, 2)), ["a", "c"]);
        assert_eq!(names(&take_batch(&mut queue, 2)), ["b"]);
        assert_eq!(names(&take_batch(&mut queue, 0)), ["d"]);
        assert!(take_batch(&mut queue, 4).is_empty());
    }
}
