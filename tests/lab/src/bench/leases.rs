//! The `leases` suite: sanlock and sanblk, each a host of one lockspace on the same file, take and give back one lease in
//! turns. Both are asked by their command line.

use super::figure::Rows;
use serde_json::Value;
use std::fmt::Write as _;

/// A row per command, with its ratio.
pub fn tables(result: &Value) -> String {
    let rows = Rows::of(result);
    let mut md = String::new();
    let _ = writeln!(
        md,
        "# What a lease takes: sanlock and sanblk on one file, kernel {}\n\n\
         One boot, one file on tmpfs with 512-byte blocks, each program a host of the lockspace, the resource free; the two \
         in turns, {} rounds. Milliseconds of one command from its start to its end: medians (smallest..largest) of the \
         rounds' medians. Made by `cargo lab bench leases`.\n\
         `status` needs no medium: that is the process and the message alone, on an emulated CPU. Only ratios mean anything.\n\n\
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
    }
}
