//! The `device` suite: open-iscsi + dm-multipath round-robin and sanblk on links without a limit, so that
//! what is compared is what an IO costs.

use super::figure::Rows;
use serde_json::Value;
use std::fmt::Write as _;

/// A table per figure: every row with its ratio, wins and losses alike.
pub fn tables(result: &Value) -> String {
    let rows = Rows::of(result);
    let mut md = String::new();
    let _ = writeln!(
        md,
        "# What an IO costs: open-iscsi + dm-multipath and sanblk, kernel {}\n\n\
         One boot, one LIO LUN (file on tmpfs), the stacks in turns; {} rounds of {} s, medians (smallest..largest).\n\
         `kernel` is open-iscsi + dm-multipath round-robin with default timers. Made by `cargo lab bench device`.\n\
         Initiator, target and fio share two emulated cores: only ratios mean anything.\n\
         `others` is how much of the host other programs used during the row.\n",
        result["kernel"].as_str().unwrap_or_default(),
        result["rounds"],
        result["row_seconds"]
    );
    for (title, key) in [
        ("IOPS (more is better)", "iops"),
        (
            "CPU time of the whole guest per IO, us (less is better)",
            "cpu_us_per_io",
        ),
        ("p99 latency, us (less is better)", "p99_us"),
    ] {
        let _ = writeln!(
            md,
            "## {title}\n\n| | kernel | sanblk | sanblk / kernel | others |\n|---|---|---|---|---|"
        );
        for name in rows.words("row") {
            let here = rows.with("row", name);
            let figure = |stack| here.with("stack", stack).figure(key);
            let (Some(kernel), Some(sanblk)) = (figure("kernel"), figure("sanblk")) else {
                continue;
            };
            let _ = writeln!(
                md,
                "| {name} | {} | {} | {:.2} | {:.0} % |",
                kernel.show(0),
                sanblk.show(0),
                sanblk.median / kernel.median,
                here.figure("others_percent").map_or(0.0, |f| f.median)
            );
        }
        md.push('\n');
    }
    md
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_shows_ratios() {
        let row = |row: &str, stack: &str, iops: f64| json!({"row": row, "stack": stack, "iops": iops, "cpu_us_per_io": 1.0, "p99_us": 1.0, "others_percent": 4.0});
        let table = tables(&json!({
            "kernel": "6.12.1", "rounds": 1, "row_seconds": 4,
            "rows": [
                row("4k randread qd1", "kernel", 1000.0),
                row("4k randread qd1", "sanblk", 1500.0),
                row("4k randwrite qd1", "kernel", 1000.0),
            ],
        }));
        assert!(
            table.contains(
                "| 4k randread qd1 | 1000 (1000..1000) | 1500 (1500..1500) | 1.50 | 4 % |"
            ),
            "{table}"
        );
        // Without its other side a row has no ratio.
        assert!(!table.contains("4k randwrite qd1"), "{table}");
    }
}
