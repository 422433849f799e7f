//! The `leases` suite: sanlock and sanblk, each a host of one lockspace on the same file, take and give back one lease in
//! turns; then eight of each kind all want it. Both are asked by their command line. And renewals of 512 bytes, as fast as
//! they are asked for, beside a data path that is full, while a path is cut.

use super::figure::{Rows, shown};
use serde_json::Value;
use std::fmt::Write as _;

/// The goal for the 999th of a thousand renewals while a path is cut, in milliseconds.
const GOAL_MS: f64 = 100.0;

/// A row per command, with its ratio; then the renewals.
pub fn tables(result: &Value) -> String {
    let rows = Rows::of(result);
    let mut md = String::new();
    let _ = writeln!(
        md,
        "# What a lease takes: sanlock and sanblk on one file, and its renewals on a volume, kernel {}\n\n\
         One boot, one file on tmpfs with 512-byte blocks, each program a host of the lockspace; the two in turns, {} rounds. \
         Milliseconds of one command from its start to its end: medians (smallest..largest) of the rounds' medians. Made by \
         `cargo lab bench leases`.\n\
         `status` needs no medium: that is the process and the message alone, on an emulated CPU. With 8 hosts, eight daemons \
         of one kind want the lease at the same time, each again and again: an acquisition is then the time from the first \
         attempt to the one that succeeds, 10 ms between two. Only ratios mean anything.\n\n\
         | | sanlock, ms | sanblk, ms | sanblk / sanlock | others |\n|---|---|---|---|---|",
        result["kernel"].as_str().unwrap_or_default(),
        result["rounds"],
    );
    for name in rows.words("row") {
        let here = rows.with("row", name);
        let figure = |stack| here.with("stack", stack).figure("ms");
        let (Some(sanlock), Some(sanblk)) = (figure("sanlock"), figure("sanblk")) else {
            continue;
        };
        let _ = writeln!(
            md,
            "| {name} | {} | {} | {:.2} | {:.0} % |",
            sanlock.show(1),
            sanblk.show(1),
            sanblk.median / sanlock.median,
            here.figure("others_percent").map_or(0.0, |f| f.median)
        );
    }
    md.push('\n');
    md.push_str(&renewals(&rows));
    md
}

/// What a renewal takes, by what the data path does.
fn renewals(rows: &Rows) -> String {
    let all = rows.with("row", "renewal");
    if all.words("load").is_empty() {
        return String::new();
    }
    let mut md = String::from(
        "## Renewals\n\nOn a volume of two paths, links without a limit, 512 bytes each 50 ms through the keeper's own sessions, \
         while fio does nothing, or fills the data path with 64 KiB reads and writes. Cut: half way, all packets of the path that the \
         renewals go through vanish, both ways. Milliseconds from when a renewal is asked for, with what it waits for because of the one \
         before; medians (smallest..largest) of the rounds.\n\n\
         | data path | median | p99 | p99.9 | slowest | sent twice | others |\n|---|---|---|---|---|---|---|\n",
    );
    for load in all.words("load") {
        let here = all.with("load", load);
        let ms = |key| shown(here.figure(key), 1);
        let _ = writeln!(
            md,
            "| {load} | {} | {} | {} | {} | {} | {:.0} % |",
            ms("ms"),
            ms("p99_ms"),
            ms("p999_ms"),
            ms("worst_ms"),
            shown(here.figure("twice"), 0),
            here.figure("others_percent").map_or(0.0, |f| f.median)
        );
    }
    if let Some(cut) = all.with("load", "full, cut").figure("p999_ms") {
        let verdict = if cut.median <= GOAL_MS {
            "met"
        } else {
            "MISSED"
        };
        let _ = writeln!(
            md,
            "\nGoal: p99.9 of a full data path with one of two paths cut at most {GOAL_MS:.0} ms: {verdict}, {}.",
            cut.show(1)
        );
    }
    md.push('\n');
    md
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_command_has_its_ratio() {
        let row = |stack: &str, ms: f64| json!({"row": "acquire", "stack": stack, "ms": ms, "others_percent": 4.0});
        let table = tables(&json!({
            "kernel": "6.12.1", "rounds": 1,
            "rows": [row("sanlock", 20.0), row("sanblk", 30.0), {"row": "release", "stack": "sanblk", "ms": 1.0}],
        }));
        let line = "| acquire | 20.0 (20.0..20.0) | 30.0 (30.0..30.0) | 1.50 | 4 % |";
        assert!(table.contains(line), "{table}");
        // Without its other side a row has no ratio.
        assert!(!table.contains("| release"), "{table}");
        assert!(!table.contains("## Renewals"), "{table}");
    }

    #[test]
    fn renewals_are_judged_while_a_path_is_cut() {
        let row = |load: &str, p999: f64| {
            json!({"row": "renewal", "stack": "sanblk", "load": load, "ms": 1.0, "p99_ms": 2.0, "p999_ms": p999,
                   "worst_ms": 150.0, "twice": 1, "others_percent": 4.0})
        };
        let table = |p999| {
            let rows = [row("idle", 3.0), row("full, cut", p999)];
            tables(&json!({"kernel": "6.12.1", "rounds": 1, "rows": rows}))
        };
        let met = table(40.0);
        assert!(met.contains("| idle | 1.0 (1.0..1.0) | 2.0"), "{met}");
        assert!(met.contains(": met, 40.0 (40.0..40.0)."), "{met}");
        assert!(table(100.1).contains(": MISSED,"));
    }
}
