//! The `failover` suite: how long IO stands still when VLAN 5 is lost, sanblk beside open-iscsi + dm-multipath.

use super::figure::{Figure, Rows, shown};
use super::goal::{self, Goal, Wanted};
use serde_json::Value;
use std::fmt::Write as _;

/// Longest gap between completions after a silent cut, for reads and for new writes.
const SILENT_MS: f64 = 100.0;
/// Slowest write that was under way at a silent cut.
const IN_FLIGHT_MS: f64 = 150.0;
/// Longest gap after an RST or a FIN.
const EVIDENCE_MS: f64 = 10.0;

/// Faults in the guest script's words, and in a reader's.
const FAULTS: [(&str, &str); 6] = [
    ("in", "packets from the array vanish"),
    ("out", "packets to the array vanish"),
    ("both", "packets vanish both ways"),
    ("down", "the array's end goes down"),
    ("rst", "connections reset"),
    ("fin", "connections closed"),
];

const STACKS: [&str; 3] = ["sanblk", "kernel-tuned", "kernel"];

/// The goals, then the gaps and the slowest IOs.
pub fn tables(result: &Value) -> String {
    let rows = Rows::of(result).with("row", "gap");
    let mut md = String::new();
    let _ = writeln!(
        md,
        "# A path is lost: open-iscsi + dm-multipath and sanblk, kernel {}\n\n\
         LIO on two VLANs, random 4 KiB IO at a steady rate, one VLAN is lost while it runs; {} rounds, medians\n\
         (smallest..largest), ms. The slowest IO is one that was under way on the lost path.\n\
         `kernel` is open-iscsi + dm-multipath round-robin with default timers; `kernel-tuned` has every timer at 1 s\n\
         (NOP 1 s / 1 s, fast_io_fail_tmo 1, polling_interval 1). A gap is the longest time between two completions;\n\
         `calm` is the longest one before the fault in the same runs, which is the emulated guest's own jitter.\n\
         Made by `cargo lab bench failover`.\n",
        result["kernel"].as_str().unwrap_or_default(),
        result["rounds"]
    );
    md.push_str(&goal::table(&goals(&rows), 0));
    for (title, job, key, calm) in [
        ("Longest gap, reads", "reads", "gap_ms", "calm_gap_ms"),
        ("Longest gap, writes", "writes", "gap_ms", "calm_gap_ms"),
        ("Slowest read", "reads", "slowest_ms", "calm_slowest_ms"),
        ("Slowest write", "writes", "slowest_ms", "calm_slowest_ms"),
    ] {
        let _ = writeln!(
            md,
            "## {title}, ms\n\n| | {} | sanblk, calm |\n|---|---|---|---|---|",
            STACKS.join(" | ")
        );
        for (fault, words) in FAULTS {
            let here = rows.with("job", job).with("fault", fault);
            let cells = STACKS.map(|stack| shown(here.with("stack", stack).figure(key), 0));
            if cells.iter().any(|cell| cell != "-") {
                let calm = shown(here.with("stack", "sanblk").figure(calm), 0);
                let _ = writeln!(md, "| {fault}: {words} | {} | {calm} |", cells.join(" | "));
            }
        }
        md.push('\n');
    }
    md
}

/// What failover is for, judged on the median; the spread and the calm stand beside.
fn goals(rows: &Rows<'_>) -> Vec<Goal> {
    let ours = rows.with("stack", "sanblk");
    let mut goals = Vec::new();
    for (fault, _) in FAULTS {
        let here = ours.with("fault", fault);
        let (gap_limit, in_flight_limit) = match fault {
            "rst" | "fin" => (EVIDENCE_MS, None),
            _ => (SILENT_MS, Some(IN_FLIGHT_MS)),
        };
        for (job, name) in [("reads", "reads"), ("writes", "new writes")] {
            let rows = here.with("job", job);
            goals.extend(goal(
                format!("{fault}: {name}, longest gap, ms"),
                rows.figure("gap_ms"),
                rows.figure("calm_gap_ms"),
                gap_limit,
            ));
        }
        if let Some(limit) = in_flight_limit {
            let rows = here.with("job", "writes");
            goals.extend(goal(
                format!("{fault}: in-flight writes, slowest, ms"),
                rows.figure("slowest_ms"),
                rows.figure("calm_slowest_ms"),
                limit,
            ));
        }
    }
    goals
}

fn goal(what: String, measured: Option<Figure>, calm: Option<Figure>, limit: f64) -> Option<Goal> {
    let measured = measured?;
    Some(Goal {
        what,
        value: measured.median,
        wanted: Wanted::AtMost(limit),
        detail: format!("{}; calm: {}", measured.show(0), shown(calm, 0)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_loss_has_its_limit_and_its_calm() {
        let row = |stack: &str, job: &str, fault: &str, gap: f64| {
            json!({"row": "gap", "stack": stack, "job": job, "fault": fault, "gap_ms": gap,
                   "slowest_ms": gap + 60.0, "calm_gap_ms": 7, "calm_slowest_ms": 9.0})
        };
        let result = json!({"kernel": "6.12.1", "rounds": 1, "rows": [
            row("sanblk", "reads", "in", 90.0), row("sanblk", "writes", "in", 95.0),
            row("sanblk", "reads", "rst", 12.0), row("kernel", "reads", "in", 15_300.0),
        ]});
        let table = tables(&result);
        for line in [
            "| in: reads, longest gap, ms | 90 | ≤ 100 | yes | 90 (90..90); calm: 7 (7..7) |",
            "| in: in-flight writes, slowest, ms | 155 | ≤ 150 | **no** | 155 (155..155); calm: 9 (9..9) |",
            "| rst: reads, longest gap, ms | 12 | ≤ 10 | **no** | 12 (12..12); calm: 7 (7..7) |",
            "| in: packets from the array vanish | 90 (90..90) | - | 15300 (15300..15300) | 7 (7..7) |",
        ] {
            assert!(
                table.lines().any(|l| l == line),
                "{line} is not in:\n{table}"
            );
        }
        assert!(!table.contains("out:"), "{table}");
    }
}
