//! The `scheduler` suite: sanblk's policies beside dm-multipath's path selectors on two shaped links, one of
//! which is always good and alone the reference.

use super::figure::{Figure, Rows, shown};
use super::goal::{self, Goal, Wanted};
use serde_json::Value;
use std::fmt::Write as _;

/// Above this the emulated CPUs, not the links, may be what is measured.
const BUSY_PERCENT: f64 = 85.0;
/// 1 MiB at depth 1 on two equal links against one of them.
const TWO_LINKS: f64 = 1.8;
/// 4 KiB latency beside bulk streams against the best path selector.
const BESIDE_BULK: f64 = 0.25;
/// What is left at depth 1 of having only the good link, when the other is bad.
const BAD_LINK: f64 = 0.95;
/// Saturated throughput against the best path selector.
const SATURATED: f64 = 0.98;

/// Networks in the guest script's words, and in a reader's.
const NETWORKS: [(&str, &str); 6] = [
    ("one-link", "Only the good link (the reference)"),
    ("equal", "Two equal links"),
    ("slow", "One link 2.5 times as fast as the other"),
    ("far", "One link with 5 ms more round trip"),
    ("lossy", "One link that loses 1 % of the packets"),
    ("flap", "One link silent for 300 ms every 2 s"),
];

/// Which figures of a row tell something.
enum Kind {
    Throughput,
    Latency,
}

impl Kind {
    fn of(row: &str) -> Kind {
        if row.starts_with("4k") || row.ends_with("qd32") {
            Kind::Latency
        } else {
            Kind::Throughput
        }
    }

    /// Title, member of the row, factor to the unit of the title, digits.
    fn columns(&self) -> &'static [(&'static str, &'static str, f64, usize)] {
        match self {
            Kind::Throughput => &[("MiB/s", "mib_s", 1.0, 1)],
            Kind::Latency => &[
                ("mean ms", "mean_us", 1e-3, 2),
                ("p50 ms", "p50_us", 1e-3, 2),
                ("p99 ms", "p99_us", 1e-3, 2),
                ("p99.9 ms", "p999_us", 1e-3, 2),
            ],
        }
    }
}

/// The goals, then a table per network with a column per contender.
pub fn tables(result: &Value) -> String {
    let rows = Rows::of(result);
    let mut md = String::new();
    let _ = writeln!(
        md,
        "# Two unequal links: dm-multipath's path selectors and sanblk's policies, kernel {}\n\n\
         One boot, one file of a LIO target under every LUN, the contenders in turns for each network; {} rounds of {} s\n\
         (twice that where a row is saturated or 4 KiB, three times on the flapping link), after 0.5 s to settle;\n\
         medians (smallest..largest). A good link carries {} Mbit/s in jumbo frames. `dm-` is open-iscsi + dm-multipath,\n\
         default timers. Made by `cargo lab bench scheduler`. The emulated processor is meant not to be the limit:\n\
         `busy` is the most that a contender kept it busy (median).\n",
        result["kernel"].as_str().unwrap_or_default(),
        result["rounds"],
        result["row_seconds"],
        result["mbit"]
    );
    let policy = result["policies"][0].as_str().unwrap_or_default();
    md.push_str(&goal::table(&goals(&rows, &format!("sanblk-{policy}")), 2));
    for (network, title) in NETWORKS {
        let here = rows.with("network", network);
        let stacks = here.words("stack");
        if stacks.is_empty() {
            continue;
        }
        let _ = writeln!(
            md,
            "## {title}\n\n| | {} | busy |\n|---|{}---|",
            stacks.join(" | "),
            "---|".repeat(stacks.len())
        );
        for name in here.words("row") {
            table_rows(&mut md, &here.with("row", name), name, &stacks);
        }
        md.push('\n');
    }
    md
}

fn table_rows(md: &mut String, rows: &Rows<'_>, name: &str, stacks: &[&str]) {
    let busiest = stacks
        .iter()
        .filter_map(|stack| rows.with("stack", stack).figure("busy_percent"))
        .map(|busy| busy.median)
        .fold(0.0, f64::max);
    let warning = if busiest > BUSY_PERCENT { " (!)" } else { "" };
    for (unit, key, factor, digits) in Kind::of(name).columns() {
        let cells: Vec<String> = stacks
            .iter()
            .map(|stack| {
                shown(
                    rows.with("stack", stack)
                        .figure(key)
                        .map(|f| f.times(*factor)),
                    *digits,
                )
            })
            .collect();
        let _ = writeln!(
            md,
            "| {name}, {unit} | {} | {busiest:.0} %{warning} |",
            cells.join(" | ")
        );
    }
}

/// What the scheduler is for, as far as it was measured.
fn goals(rows: &Rows<'_>, ours: &str) -> Vec<Goal> {
    let at = |network: &str, row: &str| rows.with("network", network).with("row", row);
    let figure = |network: &str, row: &str, stack: &str, key: &str| {
        at(network, row).with("stack", stack).figure(key)
    };
    let mut goals = Vec::new();
    for row in ["1m read qd1", "1m write qd1"] {
        let one = best(&at("one-link", row), "", "mib_s", More);
        let two = figure("equal", row, ours, "mib_s");
        let what = format!("{row}, two equal links / the best stack on one link, MiB/s");
        goals.extend(Goal::ratio(what, two, one, Wanted::AtLeast(TWO_LINKS), 1));
    }
    // Beside bulk a small IO takes so long that a row has some tens of them: no tail to judge.
    for (name, key) in [("mean", "mean_us"), ("p50", "p50_us")] {
        let row = "4k read qd1 beside bulk";
        let dm = best(&at("equal", row), "dm-", key, Less);
        let what = format!("{row}, {name}, against dm's best, us");
        goals.extend(Goal::ratio(
            what,
            figure("equal", row, ours, key),
            dm,
            Wanted::AtMost(BESIDE_BULK),
            0,
        ));
    }
    for (network, title) in NETWORKS
        .iter()
        .filter(|(n, _)| ["slow", "far", "lossy"].contains(n))
    {
        for row in [
            "1m read qd1",
            "1m write qd1",
            "128k read qd1",
            "4k read qd1",
        ] {
            let what = format!(
                "{row}, {}, against sanblk with the good link alone, IOPS",
                title.to_lowercase()
            );
            goals.extend(Goal::ratio(
                what,
                figure(network, row, ours, "iops"),
                figure("one-link", row, "sanblk-one-link", "iops"),
                Wanted::AtLeast(BAD_LINK),
                1,
            ));
        }
    }
    for (network, title) in NETWORKS {
        for row in ["1m read qd8", "1m write qd8"] {
            let dm = best(&at(network, row), "dm-", "mib_s", More);
            let what = format!("{row}, {}, against dm's best, MiB/s", title.to_lowercase());
            goals.extend(Goal::ratio(
                what,
                figure(network, row, ours, "mib_s"),
                dm,
                Wanted::AtLeast(SATURATED),
                1,
            ));
        }
    }
    goals
}

/// Which of two figures is the better one.
#[derive(Clone, Copy)]
enum Better {
    More,
    Less,
}
use Better::{Less, More};

/// The best median among the stacks whose name starts so.
fn best(rows: &Rows<'_>, prefix: &str, key: &str, better: Better) -> Option<Figure> {
    rows.words("stack")
        .into_iter()
        .filter(|stack| stack.starts_with(prefix))
        .filter_map(|stack| rows.with("stack", stack).figure(key))
        .max_by(|a, b| match better {
            More => a.median.total_cmp(&b.median),
            Less => b.median.total_cmp(&a.median),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(network: &str, row: &str, stack: &str, figure: f64) -> Value {
        json!({"network": network, "row": row, "stack": stack, "mib_s": figure, "iops": figure, "mean_us": figure,
               "p50_us": figure, "p99_us": figure, "p999_us": figure, "busy_percent": 40.0})
    }

    fn result(rows: Vec<Value>) -> Value {
        json!({"kernel": "6.12.1", "rounds": 1, "row_seconds": 2, "mbit": 100, "policies": ["late-binding"], "rows": rows})
    }

    fn value(result: &Value, what: &str) -> Option<f64> {
        let goals = goals(&Rows::of(result), "sanblk-late-binding");
        goals
            .iter()
            .find(|g| g.what.starts_with(what))
            .map(|g| g.value)
    }

    #[test]
    fn goals_compare_with_the_best_of_the_other_side() {
        let ours = "sanblk-late-binding";
        let result = result(vec![
            row("one-link", "1m read qd1", "dm-one-link", 10.0),
            row("one-link", "1m read qd1", "sanblk-one-link", 8.0),
            row("equal", "1m read qd1", ours, 19.0),
            row("slow", "1m read qd1", ours, 7.0),
            row("equal", "4k read qd1 beside bulk", "dm-round-robin", 100.0),
            row("equal", "4k read qd1 beside bulk", "dm-queue-length", 80.0),
            row("equal", "4k read qd1 beside bulk", ours, 20.0),
            row("equal", "1m read qd8", "dm-round-robin", 20.0),
            row("equal", "1m read qd8", "dm-queue-length", 25.0),
            row("equal", "1m read qd8", ours, 24.0),
        ]);
        // Two links: against the better stack on one. A bad link: against sanblk itself on the good one.
        assert_eq!(value(&result, "1m read qd1, two equal"), Some(1.9));
        assert_eq!(value(&result, "1m read qd1, one link 2.5"), Some(0.875));
        // Latency: the best is the least; throughput: the most.
        assert_eq!(value(&result, "4k read qd1 beside bulk, p50"), Some(0.25));
        assert_eq!(value(&result, "1m read qd8, two equal"), Some(0.96));
        assert_eq!(value(&result, "1m write qd1"), None);
    }

    #[test]
    fn every_network_has_a_table_in_units_people_read() {
        let mut busy = row("flap", "128k read qd32", "dm-round-robin", 201_000.0);
        busy["busy_percent"] = json!(93);
        let table = tables(&result(vec![
            row("equal", "1m read qd8", "sanblk-late-binding", 24.0),
            busy,
        ]));
        for line in [
            "## Two equal links",
            "| | sanblk-late-binding | busy |",
            "| 1m read qd8, MiB/s | 24.0 (24.0..24.0) | 40 % |",
            "| 128k read qd32, p99.9 ms | 201.00 (201.00..201.00) | 93 % (!) |",
        ] {
            assert!(
                table.lines().any(|l| l == line),
                "{line} is not in:\n{table}"
            );
        }
        assert!(!table.contains("loses 1 %"), "{table}");
    }
}
