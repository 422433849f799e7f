//! `cargo lab bench`: the kernel's stack and sanblk in turns on one LUN in one boot, and the table of it.
//!
//! Figures from an emulated CPU mean nothing alone, so every row is a ratio of medians, with the spread of each
//! side and with how much of the host others used meanwhile. Written as JSON (everything) and Markdown (the table).

use crate::accel::Accel;
use crate::cache::Lab;
use crate::command::{command, output, say};
use crate::guest::{Boot, Next};
use crate::image::Image;
use crate::runner::{print_line, shown};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Ticks per second of `/proc/stat` and `/proc/PID/stat` on every x86 Linux.
const TICKS_MS: u64 = 10;
/// Nothing in the guest is silent for longer than this.
const SILENCE: Duration = Duration::from_secs(300);
/// Two paths must carry this much of one, when the links are the limit.
const TWO_PATHS: f64 = 1.9;

/// What a comparison runs with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A/B rounds.
    pub rounds: u32,
    /// Seconds per measurement.
    pub seconds: u32,
    /// Rounds of the cut link, each with every stack.
    pub cut_rounds: u32,
    /// Rate of a link in the shaped part, in tc's words.
    pub rate: String,
    /// fio's seed.
    pub seed: u64,
}

/// Runs the comparison and writes `benches/results/`.
pub fn run(
    lab: &Lab,
    image: &Image,
    accel: Accel,
    sanblk: &Path,
    settings: &Settings,
) -> Result<()> {
    let mut guest = Boot::new(lab, image, accel, 2, 3072)
        .plan(["bench".to_owned()])
        .file("bench.env", settings.env())
        .sanblk(sanblk)
        .start()?;
    let mut host = HostLoad::start(guest.pid());
    let mut rows = Vec::new();
    let mut versions = Vec::new();
    let status = loop {
        match guest.next(Instant::now() + SILENCE) {
            Next::Text { clock, text } => {
                if let Some(row) = text.strip_prefix("@row ") {
                    let mut row: Value =
                        serde_json::from_str(row).with_context(|| row.to_owned())?;
                    row["others_percent"] = json!(host.others_since_last());
                    print_line("", clock.as_deref(), &one_line(&row));
                    rows.push(row);
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
    versions.push(first_line("qemu-system-x86_64", &["--version"]));
    versions.push(format!("{} {}", accel.name(), accel.cpu()));
    let commit = first_line_in(&lab.repo, "git", &["describe", "--always", "--dirty"]);
    let result = json!({
        "commit": commit, "kernel": image.version, "accel": accel.name(), "cpu": accel.cpu(),
        "versions": versions, "seed": settings.seed, "rounds": settings.rounds,
        "seconds_per_row": settings.seconds, "cut_rounds": settings.cut_rounds, "rate": settings.rate, "rows": rows,
    });
    let table = markdown(&result);
    let dir = lab.repo.join("benches/results");
    fs::create_dir_all(&dir)?;
    let short: String = image
        .version
        .split('.')
        .take(2)
        .collect::<Vec<_>>()
        .join(".");
    let base = dir.join(format!("kernel-stack-and-sanblk-{short}-{}", accel.name()));
    let base = base.display();
    fs::write(
        format!("{base}.json"),
        serde_json::to_string_pretty(&result)? + "\n",
    )?;
    fs::write(format!("{base}.md"), &table)?;
    println!("\n{table}");
    say(format_args!("written: {}", shown(lab, &dir)));
    Ok(())
}

impl Settings {
    fn env(&self) -> String {
        format!(
            "ROUNDS={}\nSECONDS_PER_ROW={}\nCUT_ROUNDS={}\nCUT_SECONDS=26\nRATE={}\nSEED={}\n",
            self.rounds, self.seconds, self.cut_rounds, self.rate, self.seed
        )
    }
}

/// One measurement as it passes by.
fn one_line(row: &Value) -> String {
    let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let number = |key: &str| row[key].as_f64().unwrap_or_default();
    let (name, stack, others) = (text("row"), text("stack"), number("others_percent"));
    if row["gap_ms"].is_number() {
        return format!(
            "{name:28} {stack:12} gap {:6.0} ms  others {others:.0} %",
            number("gap_ms")
        );
    }
    format!(
        "{name:28} {stack:12} {:8.0} IOPS {:7.1} MiB/s  p99 {:8.0} us  cpu {:6.0} us/IO  others {others:.0} %",
        number("iops"),
        number("mib_s"),
        number("p99_us"),
        number("cpu_us_per_io")
    )
}

/// Median and spread of one figure over the rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Figure {
    median: f64,
    min: f64,
    max: f64,
}

impl Figure {
    fn of(mut values: Vec<f64>) -> Option<Figure> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let half = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[half]
        } else {
            f64::midpoint(values[half - 1], values[half])
        };
        Some(Figure { median, min, max })
    }

    /// `1234 (1200..1300)`.
    fn show(self, digits: usize) -> String {
        format!(
            "{:.digits$} ({:.digits$}..{:.digits$})",
            self.median, self.min, self.max
        )
    }
}

/// The rows of a result by name and stack.
struct Rows<'a>(BTreeMap<(&'a str, &'a str), Vec<&'a Value>>);

impl<'a> Rows<'a> {
    fn of(result: &'a Value) -> Rows<'a> {
        let mut rows: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for row in result["rows"].as_array().into_iter().flatten() {
            let key = (
                row["row"].as_str().unwrap_or_default(),
                row["stack"].as_str().unwrap_or_default(),
            );
            rows.entry(key).or_default().push(row);
        }
        Rows(rows)
    }

    fn figure(&self, row: &str, stack: &str, key: &str) -> Option<Figure> {
        let rows = self.0.get(&(row, stack))?;
        Figure::of(rows.iter().filter_map(|r| r[key].as_f64()).collect())
    }

    fn others(&self, row: &str) -> f64 {
        let all = self
            .0
            .iter()
            .filter(|((name, _), _)| *name == row)
            .flat_map(|(_, rows)| rows);
        Figure::of(all.filter_map(|r| r["others_percent"].as_f64()).collect())
            .map_or(0.0, |f| f.median)
    }
}

/// The table people read: every row with its ratio, wins and losses alike.
fn markdown(result: &Value) -> String {
    let rows = Rows::of(result);
    let mut md = String::new();
    let text = |key: &str| result[key].as_str().unwrap_or_default();
    let _ = writeln!(
        md,
        "# open-iscsi + dm-multipath and sanblk, kernel {}\n",
        text("kernel")
    );
    let _ = writeln!(
        md,
        "One boot, one LIO LUN (file on tmpfs), the stacks in turns; {} rounds of {} s, medians (smallest..largest).\n\
         `kernel` is open-iscsi + dm-multipath round-robin with default timers. Made by `cargo lab bench`.\n\
         Initiator, target and fio share two emulated cores: only ratios mean anything.\n\
         `others` is how much of the host other programs used during the row.\n",
        result["rounds"], result["seconds_per_row"]
    );
    for (title, key, digits, names) in [
        ("IOPS (more is better)", "iops", 0, &ROWS[..]),
        (
            "CPU time of the whole guest per IO, us (less is better)",
            "cpu_us_per_io",
            0,
            &ROWS[..],
        ),
        ("p99 latency, us (less is better)", "p99_us", 0, &ROWS[..]),
    ] {
        let _ = writeln!(
            md,
            "## {title}\n\n| | kernel | sanblk | sanblk / kernel | others |\n|---|---|---|---|---|"
        );
        for name in names {
            compare(&mut md, &rows, name, key, digits);
        }
        md.push('\n');
    }
    let _ = writeln!(
        md,
        "## Longest gap without a completed IO when a link is cut, ms\n\n| stack | gap | slowest IO |\n|---|---|---|"
    );
    for stack in ["kernel", "kernel-tuned", "sanblk"] {
        let show = |key| {
            rows.figure("link cut", stack, key)
                .map_or("-".to_owned(), |f| f.show(0))
        };
        let _ = writeln!(
            md,
            "| {stack} | {} | {} |",
            show("gap_ms"),
            show("slowest_ms")
        );
    }
    let rate = text("rate");
    let _ = writeln!(
        md,
        "\n`kernel-tuned`: NOP 1 s / 1 s, fast_io_fail_tmo 1, polling_interval 1.\n\n\
         ## Two paths against one, both links shaped to {rate}, MiB/s\n\n\
         | | one path | two paths | two / one | at least {TWO_PATHS} |\n|---|---|---|---|---|"
    );
    for stack in ["kernel", "sanblk"] {
        for direction in ["read", "write"] {
            let get = |paths| {
                rows.figure(
                    &format!("1m {direction} qd8, {rate}, {paths}"),
                    stack,
                    "mib_s",
                )
            };
            let (Some(one), Some(two)) = (get("one"), get("two")) else {
                continue;
            };
            let ratio = two.median / one.median;
            let verdict = if ratio >= TWO_PATHS { "yes" } else { "no" };
            let _ = writeln!(
                md,
                "| {stack}, 1m {direction} | {} | {} | {ratio:.2} | {verdict} |",
                one.show(1),
                two.show(1)
            );
        }
    }
    md.push_str("\n## Run\n\n");
    for version in result["versions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        let _ = writeln!(md, "- {version}");
    }
    let _ = writeln!(
        md,
        "- sanblk commit {}\n- fio seed {}",
        text("commit"),
        result["seed"]
    );
    md
}

/// The rows measured with both stacks on unlimited links.
const ROWS: [&str; 6] = [
    "4k randread qd1",
    "4k randwrite qd1",
    "4k randread qd32",
    "4k randwrite qd32",
    "1m read qd8",
    "1m write qd8",
];

fn compare(md: &mut String, rows: &Rows<'_>, name: &str, key: &str, digits: usize) {
    let (Some(kernel), Some(sanblk)) = (
        rows.figure(name, "kernel", key),
        rows.figure(name, "sanblk", key),
    ) else {
        return;
    };
    let _ = writeln!(
        md,
        "| {name} | {} | {} | {:.2} | {:.0} % |",
        kernel.show(digits),
        sanblk.show(digits),
        sanblk.median / kernel.median,
        rows.others(name)
    );
}

/// How much of the host others use: all busy time less the guest's.
struct HostLoad {
    guest: u32,
    last: (Instant, u64, u64),
}

impl HostLoad {
    fn start(guest: u32) -> HostLoad {
        HostLoad {
            guest,
            last: (Instant::now(), busy_ticks(), process_ticks(guest)),
        }
    }

    /// Percent of all cores since the last call.
    fn others_since_last(&mut self) -> f64 {
        let now = (Instant::now(), busy_ticks(), process_ticks(self.guest));
        let (then, busy, guest) = std::mem::replace(&mut self.last, now);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let total_ms = now.0.duration_since(then).as_secs_f64() * 1e3 * cores as f64;
        let others = (now.1 - busy).saturating_sub(now.2.saturating_sub(guest)) * TICKS_MS;
        (100.0 * others as f64 / total_ms).round()
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

fn first_line(program: &str, args: &[&str]) -> String {
    let text = output(&mut command(program, args)).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

fn first_line_in(dir: &Path, program: &str, args: &[&str]) -> String {
    let text = output(command(program, args).current_dir(dir)).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_medians_with_their_spread() {
        let f = Figure::of(vec![5.0, 1.0, 3.0]).expect("values");
        assert_eq!(
            f,
            Figure {
                median: 3.0,
                min: 1.0,
                max: 5.0
            }
        );
        assert_eq!(Figure::of(vec![1.0, 2.0]).expect("values").median, 1.5);
        assert_eq!(Figure::of(Vec::new()), None);
        assert_eq!(f.show(1), "3.0 (1.0..5.0)");
    }

    #[test]
    fn the_table_shows_ratios_and_the_verdict_of_two_paths() {
        let row = |row: &str, stack: &str, iops: f64, mib: f64| {
            json!({"row": row, "stack": stack, "iops": iops, "mib_s": mib, "cpu_us_per_io": 1.0, "p99_us": 1.0,
                   "others_percent": 4.0})
        };
        let result = json!({
            "kernel": "6.12.1", "rounds": 1, "seconds_per_row": 4, "rate": "100mbit", "seed": 1, "commit": "abc",
            "versions": ["fio-3.39"],
            "rows": [
                row("4k randread qd1", "kernel", 1000.0, 4.0),
                row("4k randread qd1", "sanblk", 1500.0, 6.0),
                row("1m read qd8, 100mbit, one", "sanblk", 11.0, 11.0),
                row("1m read qd8, 100mbit, two", "sanblk", 20.0, 20.0),
                {"row": "link cut", "stack": "kernel", "gap_ms": 15000.0, "slowest_ms": 15400.0},
            ],
        });
        let table = markdown(&result);
        assert!(
            table.contains(
                "| 4k randread qd1 | 1000 (1000..1000) | 1500 (1500..1500) | 1.50 | 4 % |"
            ),
            "{table}"
        );
        assert!(
            table.contains(
                "| sanblk, 1m read | 11.0 (11.0..11.0) | 20.0 (20.0..20.0) | 1.82 | no |"
            ),
            "{table}"
        );
        assert!(
            table.contains("| kernel | 15000 (15000..15000) |"),
            "{table}"
        );
        assert!(!table.contains("4k randwrite qd1"), "{table}");
    }
}
