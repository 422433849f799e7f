//! `cargo lab bench`: the kernel's stack and sanblk in turns in one boot, and the tables of it.
//!
//! Figures from an emulated CPU mean nothing alone, so everything is a ratio of medians, with the spread of each
//! side and with how much of the host others used meanwhile. Each suite is one guest script and one table maker;
//! its result is written as JSON (everything) and Markdown (the tables).

mod device;
mod failover;
mod figure;
mod goal;
mod host_load;
mod leases;
mod lvm;
mod scheduler;

use self::figure::Rows;
use self::host_load::HostLoad;
use crate::accel::Accel;
use crate::cache::Lab;
use crate::command::{command, output, say};
use crate::guest::{Boot, Next};
use crate::image::Image;
use crate::runner::{Run, print_line, shown};
use crate::{cluster, scenario};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Nothing in the guest is silent for longer than this.
const SILENCE: Duration = Duration::from_secs(300);

/// A job that loses a path must go on for so many IOs, a second of its steady rate, for its gap to be one.
const IOS_AFTER_FAULT: u64 = 250;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// What an IO costs, on links without a limit
    Device,
    /// How well two links are used that are equal, unequal, far, lossy or flapping
    Scheduler,
    /// How long IO stands still when a path is lost
    Failover,
    /// What taking and giving back a lease takes, beside sanlock, and a renewal while a path is lost
    Leases,
    /// What LVM's commands take on a volume group that two hosts share, in three guests
    Lvm,
}

impl Suite {
    fn name(self) -> &'static str {
        match self {
            Suite::Device => "device",
            Suite::Scheduler => "scheduler",
            Suite::Failover => "failover",
            Suite::Leases => "leases",
            Suite::Lvm => "lvm",
        }
    }

    /// Seconds of one measurement that give steady medians in three rounds. The links' limit is steadier than
    /// the emulated CPU, so the scheduler's turns are short.
    fn seconds(self) -> u32 {
        match self {
            Suite::Device | Suite::Failover | Suite::Leases | Suite::Lvm => 4,
            Suite::Scheduler => 2,
        }
    }

    fn tables(self, result: &Value) -> String {
        match self {
            Suite::Device => device::tables(result),
            Suite::Scheduler => scheduler::tables(result),
            Suite::Failover => failover::tables(result),
            Suite::Leases => leases::tables(result),
            Suite::Lvm => lvm::tables(result),
        }
    }
}

/// What a comparison runs with.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// What to compare [default: all]
    suites: Vec<Suite>,
    /// Rounds; the order of the stacks changes with each
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds per measurement; some take a multiple [default: 2 for scheduler, else 4]
    #[arg(long)]
    seconds: Option<u32>,
    /// Rate of a good link in the scheduler suite, Mbit/s
    #[arg(long, default_value_t = 100)]
    mbit: u32,
    /// sanblk's policies in the scheduler suite; the goals are judged for the first
    #[arg(long = "policy", default_values = ["late-binding"])]
    policies: Vec<String>,
    /// fio's seed
    #[arg(long, default_value_t = 20_260_101)]
    seed: u64,
}

impl Settings {
    fn env(&self, suite: Suite) -> String {
        format!(
            "ROUNDS={}\nROW_SECONDS={}\nMBIT={}\nPOLICIES='{}'\nSEED={}\n",
            self.rounds,
            self.seconds.unwrap_or_else(|| suite.seconds()),
            self.mbit,
            self.policies.join(" "),
            self.seed
        )
    }
}

/// Runs the suites and writes `benches/results/`.
pub fn run(
    lab: &Lab,
    image: &Image,
    accel: Accel,
    sanblk: &Path,
    settings: &Settings,
) -> Result<()> {
    let suites = match settings.suites.as_slice() {
        [] => Suite::value_variants(),
        chosen => chosen,
    };
    // Before the first suite: the tree may move on while they run.
    let commit = commit(lab);
    for suite in suites {
        let began = Instant::now();
        say(format_args!("bench: {}", suite.name()));
        let (rows, mut versions) = match suite {
            Suite::Lvm => measure_hosts(lab, image, accel, sanblk, settings)?,
            _ => measure(lab, image, accel, sanblk, settings, *suite)?,
        };
        versions.push(first_line(&mut command(
            "qemu-system-x86_64",
            ["--version"],
        )));
        versions.push(format!("{} {}", accel.name(), accel.cpu()));
        let result = json!({
            "suite": suite.name(), "commit": commit, "kernel": image.version, "accel": accel.name(),
            "cpu": accel.cpu(), "versions": versions, "seed": settings.seed, "rounds": settings.rounds,
            "row_seconds": settings.seconds.unwrap_or_else(|| suite.seconds()), "mbit": settings.mbit,
            "policies": settings.policies, "minutes": (began.elapsed().as_secs_f64() / 6.0).round() / 10.0, "rows": rows,
        });
        write(lab, image, accel, *suite, &result)?;
    }
    Ok(())
}

/// Runs one suite's script in a guest of its own: its rows and the versions of what ran.
fn measure(
    lab: &Lab,
    image: &Image,
    accel: Accel,
    sanblk: &Path,
    settings: &Settings,
    suite: Suite,
) -> Result<(Vec<Value>, Vec<String>)> {
    let mut boot = Boot::new(lab, image, accel, 2, 3072)
        .plan([format!("bench-{}", suite.name())])
        .file("bench.env", settings.env(suite))
        .sanblk(sanblk);
    if suite == Suite::Leases {
        boot = boot.program(&crate::example(lab, "renewals")?);
    }
    let mut guest = boot.start()?;
    let mut host = HostLoad::start(guest.pid());
    let mut rows = Vec::new();
    let mut versions = Vec::new();
    let status = loop {
        match guest.next(Instant::now() + SILENCE) {
            Next::Text { clock, text } => {
                if let Some(row) = text.strip_prefix("@row ") {
                    let mut row: Value =
                        serde_json::from_str(row).with_context(|| row.to_owned())?;
                    row["others_percent"] = json!(host.others_percent());
                    print_line("", clock.as_deref(), &one_line(&row));
                    match flaw(&row) {
                        Some(flaw) => say(format_args!("left out: {flaw}")),
                        None => rows.push(row),
                    }
                } else if let Some(version) = text.strip_prefix("@version ") {
                    versions.push(version.to_owned());
                } else {
                    print_line("", clock.as_deref(), &text);
                }
            }
            Next::End { status, .. } => break status,
            Next::Deadline => bail!("the guest has been silent for {} s", SILENCE.as_secs()),
            Next::Ended(s) => bail!("the guest died ({s})"),
            _ => {}
        }
    };
    guest.kill();
    if status != 0 {
        bail!("the comparison did not reach its end: see the FAIL line above");
    }
    guest.remove_files()?;
    Ok((rows, versions))
}

/// The suite of several guests.
fn measure_hosts(
    lab: &Lab,
    image: &Image,
    accel: Accel,
    sanblk: &Path,
    settings: &Settings,
) -> Result<(Vec<Value>, Vec<String>)> {
    let scenario = scenario::outside(lab, "bench-lvm")?;
    let run = Run {
        lab,
        image,
        accel,
        sanblk: sanblk.to_owned(),
        patience: settings.rounds as f32,
        lanes: 1,
    };
    let env = ("bench.env".to_owned(), settings.env(Suite::Lvm));
    let (report, text) = cluster::run(&run, &scenario, &[env])?;
    if let Some(failure) = report.failure {
        bail!("the comparison did not reach its end: {failure}");
    }
    let told = |word: &str| {
        text.lines()
            .filter_map(|line| line.split_once(word).map(|(_, rest)| rest.to_owned()))
            .collect::<Vec<String>>()
    };
    let rows = told(" @row ")
        .iter()
        .map(|row| serde_json::from_str(row).with_context(|| row.clone()))
        .collect::<Result<Vec<Value>>>()?;
    Ok((rows, told(" @version ")))
}

fn write(lab: &Lab, image: &Image, accel: Accel, suite: Suite, result: &Value) -> Result<()> {
    let text = suite.tables(result) + &provenance(result);
    let dir = lab.repo.join("benches/results");
    fs::create_dir_all(&dir)?;
    let short: Vec<&str> = image.version.split('.').take(2).collect();
    let name = format!("{}-{}-{}", suite.name(), short.join("."), accel.name());
    fs::write(
        dir.join(format!("{name}.json")),
        serde_json::to_string_pretty(result)? + "\n",
    )?;
    fs::write(dir.join(format!("{name}.md")), &text)?;
    println!("\n{text}");
    say(format_args!("written: {}/{name}.md", shown(lab, &dir)));
    Ok(())
}

/// Why a row says nothing: on a busy host a fault may come after its job's time.
fn flaw(row: &Value) -> Option<&'static str> {
    let ios = row["ios"].as_u64()?;
    if ios == 0 {
        Some("no IO completed")
    } else if row["gap_ms"].is_number() && ios < IOS_AFTER_FAULT {
        Some("IO ended too soon after the fault")
    } else {
        None
    }
}

/// One measurement as it passes by.
fn one_line(row: &Value) -> String {
    let text = |key: &str| row[key].as_str().unwrap_or_default();
    let number = |key: &str| row[key].as_f64().unwrap_or_default();
    let (stack, others) = (text("stack"), number("others_percent"));
    if row["gap_ms"].is_number() {
        return format!(
            "{:8} {:6} {stack:14} gap {:6.0} ms  slowest {:6.0} ms  (calm: {:3.0} and {:3.0} ms)  others {others:.0} %",
            text("fault"),
            text("job"),
            number("gap_ms"),
            number("slowest_ms"),
            number("calm_gap_ms"),
            number("calm_slowest_ms")
        );
    }
    if row["ms"].is_number() {
        return format!(
            "{:16} {stack:8} {:7.1} ms  worst {:7.1} ms  others {others:.0} %",
            text("row"),
            number("ms"),
            number("worst_ms")
        );
    }
    format!(
        "{:8} {:27} {stack:21} {:6.0} IOPS {:6.1} MiB/s  p50 {:8.2} p99 {:8.2} p99.9 {:8.2} ms  busy {:2.0} %  others {others:.0} %",
        text("network"),
        text("row"),
        number("iops"),
        number("mib_s"),
        number("p50_us") / 1e3,
        number("p99_us") / 1e3,
        number("p999_us") / 1e3,
        number("busy_percent")
    )
}

/// What ran, on what, and how alone it was.
fn provenance(result: &Value) -> String {
    let mut md = String::from("## Run\n\n");
    let versions = result["versions"].as_array().into_iter().flatten();
    for version in versions.filter_map(Value::as_str) {
        let _ = writeln!(md, "- {version}");
    }
    let _ = writeln!(
        md,
        "- sanblk commit {}\n- fio seed {}\n- {} minutes",
        result["commit"].as_str().unwrap_or_default(),
        result["seed"],
        result["minutes"]
    );
    if let Some(others) = Rows::of(result).figure("others_percent") {
        let _ = writeln!(
            md,
            "- of the host, other programs used {:.0} % (median of the rows; most: {:.0} %)",
            others.median, others.max
        );
    }
    md
}

/// The commit that was measured; the results themselves, which this program writes, do not make it dirty.
fn commit(lab: &Lab) -> String {
    let git = |args: &[&str]| first_line(command("git", args).current_dir(&lab.repo));
    let changed = git(&["status", "--porcelain", "--", ".", ":!benches/results"]);
    let dirty = if changed.is_empty() { "" } else { "-dirty" };
    git(&["rev-parse", "--short", "HEAD"]) + dirty
}

fn first_line(command: &mut std::process::Command) -> String {
    let text = output(command).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_say_nothing_are_left_out() {
        assert_eq!(flaw(&json!({"ios": 1, "iops": 3.0})), None);
        assert!(flaw(&json!({"ios": 0, "iops": 0.0})).is_some());
        assert_eq!(flaw(&json!({"ios": 900, "gap_ms": 5000})), None);
        assert!(flaw(&json!({"ios": 9, "gap_ms": 4})).is_some());
    }

    #[test]
    fn a_result_says_what_ran_and_how_alone_it_was() {
        let result = json!({
            "versions": ["kernel 6.12.1", "fio-3.39"], "commit": "abc", "seed": 7, "minutes": 3.5,
            "rows": [{"others_percent": 2.0}, {"others_percent": 10.0}, {"others_percent": 4.0}],
        });
        let text = provenance(&result);
        for line in [
            "- kernel 6.12.1",
            "- fio-3.39",
            "- sanblk commit abc",
            "- fio seed 7",
            "- of the host, other programs used 4 % (median of the rows; most: 10 %)",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in:\n{text}");
        }
    }
}
