//! The `leases` suite: sanlock and sanblk, each a host of one lockspace on the same file, take and give back one lease in
//! turns, asked over sanlock's socket and by their command lines; then eight of each kind all want it. And renewals of 512
//! bytes beside a data path that is full, while a path is cut again and again.

use super::figure::{Figure, Rows, shown};
use super::goal::{self, Goal, Wanted};
use serde_json::Value;
use std::fmt::Write as _;

/// The goal for the 999th of a thousand renewals while a path is cut, in milliseconds.
const GOAL_MS: f64 = 100.0;

/// What eight hosts did with one lease: the words for a reader, the member of the row, the digits.
const CROWD: [(&str, &str, usize); 8] = [
    ("acquisition, mean, ms", "mean_ms", 1),
    ("acquisition, median, ms", "ms", 1),
    ("acquisition, slowest, ms", "worst_ms", 0),
    ("release, median, ms", "release_ms", 1),
    ("acquisitions a second, all hosts", "per_second", 1),
    ("attempts for one", "tries", 1),
    ("acquisitions of the host with the fewest", "fewest", 0),
    ("acquisitions of the host with the most", "most", 0),
];

/// A row per question, with its ratio; then the crowd, and the renewals.
pub fn tables(result: &Value) -> String {
    let rows = Rows::of(result);
    let mut md = String::new();
    let _ = writeln!(
        md,
        "# What a lease takes: sanlock and sanblk on one file, and its renewals on a volume, kernel {}\n\n\
         One boot, two emulated cores, one file on tmpfs with 512-byte blocks; each program a host of the lockspace; the two in\n\
         turns, {} rounds. Medians (smallest..largest) of the rounds' medians. Only ratios mean anything. `others` is how much\n\
         of the host other programs used meanwhile. Made by `cargo lab bench leases`.\n",
        result["kernel"].as_str().unwrap_or_default(),
        result["rounds"],
    );
    md.push_str(&goal::table(&goals(&rows), 1));
    md.push_str(
        "## One host of each kind, ms\n\n\
         The same client asks both daemons over sanlock's socket, as lvmlockd does. `version` needs no medium: that is the\n\
         message alone.\n\n",
    );
    let commands: Vec<&str> = rows.words("row");
    let (by_command, asked): (Vec<&str>, Vec<&str>) = commands
        .into_iter()
        .filter(|name| !["8 hosts", "renewal"].contains(name))
        .partition(|name| name.starts_with("command: "));
    md.push_str(&beside(&rows, &asked));
    md.push_str(
        "## The same by the command line of each, ms\n\n\
         From the start of a command to its end. `status` needs no medium: that is the process and the message.\n\n",
    );
    md.push_str(&beside(&rows, &by_command));
    md.push_str(&crowd(&rows));
    md.push_str(&renewals(&rows));
    md
}

fn goals(rows: &Rows<'_>) -> Vec<Goal> {
    let all = rows.with("row", "renewal");
    let p999 = |load| all.with("load", load).figure("p999_ms");
    let goal = p999("full, cut").map(|cut| Goal {
        what: "renewals, data path full, one of two paths cut, p99.9, ms".into(),
        value: cut.median,
        wanted: Wanted::AtMost(GOAL_MS),
        detail: format!("{}; not cut: {}", cut.show(1), shown(p999("full"), 1)),
    });
    goal.into_iter().collect()
}

/// Both stacks and their ratio, a line for each row.
fn beside(rows: &Rows<'_>, names: &[&str]) -> String {
    let mut md =
        String::from("| | sanlock | sanblk | sanblk / sanlock | others |\n|---|---|---|---|---|\n");
    for name in names {
        let here = rows.with("row", name);
        let name = name.trim_start_matches("command: ");
        md.push_str(&line(&here, name, "ms", 2));
    }
    md + "\n"
}

/// One figure of both stacks; empty where one of them has none.
fn line(here: &Rows<'_>, name: &str, key: &str, digits: usize) -> String {
    let figure = |stack| here.with("stack", stack).figure(key);
    let (Some(sanlock), Some(sanblk)) = (figure("sanlock"), figure("sanblk")) else {
        return String::new();
    };
    format!(
        "| {name} | {} | {} | {:.2} | {:.0} % |\n",
        sanlock.show(digits),
        sanblk.show(digits),
        sanblk.median / sanlock.median,
        here.figure("others_percent").map_or(0.0, |f| f.median)
    )
}

fn crowd(rows: &Rows<'_>) -> String {
    let here = rows.with("row", "8 hosts");
    let mut md = String::from(
        "## Eight hosts of one kind want one lease\n\n\
         Eight daemons of one kind, each with such a client, which wants the lease again and again, for a time; the other eight\n\
         idle in the lockspace. An acquisition lasts from the first attempt to the one that succeeds; it is given back at\n\
         once. 10 ms (5 to 15) between two attempts, and before the next acquisition.\n\n\
         | | sanlock | sanblk | sanblk / sanlock | others |\n|---|---|---|---|---|\n",
    );
    for (words, key, digits) in CROWD {
        md.push_str(&line(&here, words, key, digits));
    }
    md + "\n"
}

/// What a renewal takes, by what the data path does.
fn renewals(rows: &Rows<'_>) -> String {
    let all = rows.with("row", "renewal");
    if all.words("load").is_empty() {
        return String::new();
    }
    let mut md = String::from(
        "## Renewals, ms\n\n\
         On a volume of two paths, links without a limit: 512 bytes each 20 ms through the keeper's own sessions, while fio does\n\
         nothing, or fills the data path with 64 KiB reads and writes, 32 of each. Cut: all packets of the path that the renewals\n\
         go through vanish for 1 s, both ways, five times in a round, each time when all is whole again. From when a renewal is\n\
         asked for, with what it waits for because a copy of the one before may still land; that cannot happen to one each\n\
         20 s, so `its write` leaves it out.\n\n\
         | data path | renewals | median | p99 | p99.9 | slowest | p99.9 of its write | sent twice | others |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for load in all.words("load") {
        let here = all.with("load", load);
        let ms = |key| shown(here.figure(key), 1);
        let _ = writeln!(
            md,
            "| {load} | {} | {} | {} | {} | {} | {} | {} | {:.0} % |",
            shown(here.figure("count"), 0),
            ms("ms"),
            ms("p99_ms"),
            ms("p999_ms"),
            ms("worst_ms"),
            ms("write_p999_ms"),
            shown(here.figure("twice"), 0),
            here.figure("others_percent").map_or(0.0, |f| f.median)
        );
    }
    let cut = all.with("load", "full, cut");
    let hits = |key| {
        (
            cut.numbers(key).len(),
            shown(Figure::of(cut.numbers(key)), 1),
        )
    };
    let (count, slowest) = hits("hit_ms");
    let _ = writeln!(
        md,
        "\nThe slowest renewal after each of the {count} cuts: {slowest}; of the writes alone: {}.\n",
        hits("hit_write_ms").1
    );
    md
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_question_has_its_ratio() {
        let row = |row: &str, stack: &str, ms: f64| json!({"row": row, "stack": stack, "ms": ms, "others_percent": 4.0});
        let table = tables(&json!({
            "kernel": "6.12.1", "rounds": 1,
            "rows": [row("acquire", "sanlock", 20.0), row("acquire", "sanblk", 30.0), row("release", "sanblk", 1.0),
                     row("command: acquire", "sanlock", 50.0), row("command: acquire", "sanblk", 40.0)],
        }));
        let line = "| acquire | 20.00 (20.00..20.00) | 30.00 (30.00..30.00) | 1.50 | 4 % |";
        assert!(table.contains(line), "{table}");
        let line = "| acquire | 50.00 (50.00..50.00) | 40.00 (40.00..40.00) | 0.80 | 4 % |";
        assert!(table.contains(line), "{table}");
        // Without its other side a row has no ratio.
        assert!(!table.contains("| release |"), "{table}");
        assert!(!table.contains("## Renewals"), "{table}");
    }

    #[test]
    fn a_crowd_is_more_than_one_time() {
        let row = |stack: &str, each: f64| {
            json!({"row": "8 hosts", "stack": stack, "ms": 10.0 * each, "worst_ms": 100.0 * each, "per_second": each,
                   "fewest": 3, "most": 9, "others_percent": 4.0})
        };
        let rows = [row("sanlock", 5.0), row("sanblk", 10.0)];
        let table = tables(&json!({"kernel": "6.12.1", "rounds": 1, "rows": rows}));
        for line in [
            "| acquisition, median, ms | 50.0 (50.0..50.0) | 100.0 (100.0..100.0) | 2.00 | 4 % |",
            "| acquisitions a second, all hosts | 5.0 (5.0..5.0) | 10.0 (10.0..10.0) | 2.00 | 4 % |",
            "| acquisitions of the host with the fewest | 3 (3..3) | 3 (3..3) | 1.00 | 4 % |",
        ] {
            assert!(table.contains(line), "{line} is not in:\n{table}");
        }
    }

    #[test]
    fn renewals_are_judged_while_a_path_is_cut() {
        let row = |load: &str, p999: f64| {
            json!({"row": "renewal", "stack": "sanblk", "load": load, "count": 1000, "ms": 1.0, "p99_ms": 2.0,
                   "p999_ms": p999, "worst_ms": 150.0, "write_p999_ms": 30.0, "twice": 1, "hit_ms": [50.0, 150.0],
                   "hit_write_ms": [20.0, 40.0], "others_percent": 4.0})
        };
        let table = |p999| {
            let rows = [
                row("full", 3.0),
                row("full, cut", p999),
                row("full, cut", p999),
            ];
            tables(&json!({"kernel": "6.12.1", "rounds": 2, "rows": rows}))
        };
        let met = table(40.0);
        assert!(met.contains("| full | 1000 (1000..1000) | 1.0"), "{met}");
        let verdict =
            "p99.9, ms | 40.0 | ≤ 100 | yes | 40.0 (40.0..40.0); not cut: 3.0 (3.0..3.0) |";
        assert!(met.contains(verdict), "{met}");
        let hits =
            "each of the 4 cuts: 100.0 (50.0..150.0); of the writes alone: 30.0 (20.0..40.0).";
        assert!(met.contains(hits), "{met}");
        assert!(table(100.1).contains("| **no** |"));
    }
}
