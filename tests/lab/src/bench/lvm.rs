//! The `lvm` suite: what LVM's commands take on a volume group that two hosts share, with the kernel's stack and sanlock and
//! with sanblk in their place; three guests, the stacks in turns.

use super::figure::Rows;
use serde_json::Value;
use std::fmt::Write as _;

/// A row per command, with its ratio.
pub fn tables(result: &Value) -> String {
    let rows = Rows::of(result);
    let mut md = String::new();
    let _ = writeln!(
        md,
        "# LVM on two hosts: open-iscsi, dm-multipath and sanlock, and sanblk, kernel {}\n\n\
         One array and two hosts, a guest each; lvm2 and lvmlockd unmodified, the usual io_timeout of 10 s, no watchdog. The two \
         stacks in turns on hosts that boot anew in between, {} rounds. Seconds of one command from its start to its end; \
         `take-over` is from the moment the other host loses its power to the activation. Medians (smallest..largest). Made by \
         `cargo lab bench lvm`.\n\
         Joining a lockspace and declaring a host dead are waits that the format asks for: 20 s and 140 s at this io_timeout.\n\n\
         | | kernel stack + sanlock, s | sanblk, s | sanblk / kernel stack |\n|---|---|---|---|",
        result["kernel"].as_str().unwrap_or_default(),
        result["rounds"],
    );
    for name in rows.words("row") {
        let here = rows.with("row", name);
        let figure = |stack| here.with("stack", stack).figure("ms");
        let (Some(kernel), Some(sanblk)) = (figure("kernel"), figure("sanblk")) else {
            continue;
        };
        let _ = writeln!(
            md,
            "| {name} | {} | {} | {:.2} |",
            kernel.times(1e-3).show(2),
            sanblk.times(1e-3).show(2),
            sanblk.median / kernel.median,
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
        let row = |stack: &str, ms: f64| json!({"row": "lock-start", "stack": stack, "ms": ms});
        let table = tables(&json!({
            "kernel": "6.12.1", "rounds": 1,
            "rows": [row("kernel", 24_000.0), row("sanblk", 21_000.0), {"row": "refusal", "stack": "sanblk", "ms": 1.0}],
        }));
        let line = "| lock-start | 24.00 (24.00..24.00) | 21.00 (21.00..21.00) | 0.88 |";
        assert!(table.contains(line), "{table}");
        // Without its other side a row has no ratio.
        assert!(!table.contains("| refusal"), "{table}");
    }
}
