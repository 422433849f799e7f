//! `cargo lab cuts`: the scenario `failover-cuts` with as many cuts as wanted, and its log for keeping.
//!
//! The scenario judges; this gives it numbers, watches that it goes on, and writes what it said to
//! `tests/lab/logs/failover-cuts-KERNEL.txt` when it ended well.

use crate::accel::Accel;
use crate::cache::Lab;
use crate::command::{command, output, say};
use crate::guest::{Boot, Next};
use crate::image::Image;
use crate::kernel_log;
use crate::runner::{print_line, shown};
use anyhow::{Result, bail};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// The scenario.
const NAME: &str = "failover-cuts";
/// It says something at least this often, by a wide margin: 50 cuts of a few seconds on a busy machine.
const SILENCE: Duration = Duration::from_secs(900);

/// How many, and which.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Cuts, half of them on each kind of backstore.
    pub count: u32,
    /// Of all that is random.
    pub seed: u64,
}

impl Settings {
    fn params(self) -> String {
        format!("CUTS={}\nSEED={}\n", self.count.div_ceil(2), self.seed)
    }
}

/// Runs it and returns the scenario's exit status.
pub fn run(
    lab: &Lab,
    image: &Image,
    accel: Accel,
    sanblk: &Path,
    settings: Settings,
) -> Result<i32> {
    let mut guest = Boot::new(lab, image, accel, 2, 3072)
        .plan([NAME.to_owned()])
        .file("params", settings.params())
        .sanblk(sanblk)
        .start()?;
    let start = Instant::now();
    let mut log = String::new();
    let status = loop {
        match guest.next(Instant::now() + SILENCE) {
            Next::Text { clock, text } => {
                print_line("", clock.as_deref(), &text);
                let _ = writeln!(log, "{:>9} {text}", clock.unwrap_or_default());
            }
            Next::End { status, .. } => break status,
            Next::Deadline => {
                guest.dump_and_kill();
                bail!("the guest has been silent for {} s", SILENCE.as_secs());
            }
            Next::Ended(how) => bail!("the guest died ({how})"),
            _ => {}
        }
    };
    let alarm = kernel_log::alarm(&guest.out("dmesg.log"), &[]).map(str::to_owned);
    guest.kill();
    guest.remove_files()?;
    if let Some(line) = &alarm {
        say(format_args!("kernel log: {line}"));
    }
    if status != 0 || alarm.is_some() {
        return Ok(status.max(1));
    }
    let commit =
        output(command("git", ["describe", "--always", "--dirty"]).current_dir(&lab.repo))?;
    let text = format!(
        "cargo lab cuts --count {} --seed {}: kernel {}, {}, sanblk commit {}, {} minutes\n{log}",
        settings.count,
        settings.seed,
        image.version,
        accel.name(),
        commit.trim(),
        start.elapsed().as_secs() / 60
    );
    let file = lab
        .repo
        .join(format!("tests/lab/logs/{NAME}-{}.txt", image.kernel.name()));
    fs::write(&file, text)?;
    say(format_args!("written: {}", shown(lab, &file)));
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_reads_its_numbers_as_shell_variables() {
        let settings = Settings { count: 5, seed: 9 };
        assert_eq!(settings.params(), "CUTS=3\nSEED=9\n");
    }
}
