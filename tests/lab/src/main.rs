//! `cargo lab`: real kernels, real targets, one command.
//!
//! It installs what is missing (Debian, root), builds and caches a small Debian 13 guest under `target/lab/`,
//! boots it with QEMU, runs the plain-shell scenarios of `tests/lab/guest/` in it, streams what they print and
//! returns their status. The scenarios hold the knowledge; this program sets up, watches and judges. It
//! simulates nothing and depends on no other crate of the workspace.
#![forbid(unsafe_code)]

mod accel;
mod apt;
mod bench;
mod cache;
mod cluster;
mod command;
mod cuts;
mod guest;
mod image;
mod kernel;
mod kernel_log;
mod runner;
mod scenario;
mod soak;
mod unpacked;

use crate::accel::Accel;
use crate::cache::{Lab, target_dir};
use crate::command::say;
use crate::guest::Boot;
use crate::image::Image;
use crate::kernel::Kernel;
use crate::runner::{Report, Run};
use crate::scenario::Scenario;
use crate::unpacked::{SANLOCK, TGT};
use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

#[derive(Parser)]
#[command(
    name = "cargo lab",
    about = "sanblk on real kernels, in guests this command builds and boots"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// The README's story: a LUN over two VLANs, LVM and ext4 on it, a pulled link
    Demo(Which),
    /// `cargo test`, then every scenario; or only the scenarios named
    Test {
        /// Scenarios (see `cargo lab list`)
        names: Vec<String>,
        /// Include the long scenarios
        #[arg(long)]
        all: bool,
        /// Factor on every time limit, for a busy machine [default: 1 with KVM, 2 without]
        #[arg(long)]
        patience: Option<f32>,
        /// Guests that may run at once
        #[arg(long, default_value_t = 2)]
        lanes: usize,
        #[command(flatten)]
        which: Which,
    },
    /// The comparison with open-iscsi + dm-multipath; writes benches/results/
    Bench {
        #[command(flatten)]
        settings: bench::Settings,
        #[command(flatten)]
        which: Which,
    },
    /// The simulation over many seeds, on every core
    Soak {
        /// Which simulation
        #[arg(value_enum, default_value = "volume")]
        simulation: soak::Simulation,
        /// How many
        #[arg(long, default_value_t = 100_000)]
        seeds: u64,
        /// Minutes after which no more are begun
        #[arg(long)]
        minutes: Option<u64>,
    },
    /// Random cuts and returns of both links under verified IO; writes tests/lab/logs/
    Cuts {
        /// How many, half of them on LIO fileio, half on iblock
        #[arg(long, default_value_t = 1000)]
        count: u32,
        /// Of all that is random
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[command(flatten)]
        which: Which,
    },
    /// A guest with the target up and sanblk installed, and a shell in it
    Shell(Which),
    /// Build everything that is not cached
    Image(Which),
    /// Scenarios and what each checks
    List,
    /// Print the path of a tgtd (real target, user space) unpacked for tests on this machine
    TgtPath,
    /// Print the path of a sanlock (the real lock manager) unpacked for tests on this machine
    SanlockPath,
}

#[derive(Args, Clone, Copy)]
struct Which {
    /// Debian 13's own kernel, the one from its backports, or both
    #[arg(long, value_enum, default_value = "stable")]
    kernel: Kernels,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kernels {
    Stable,
    Backports,
    Both,
}

impl Which {
    fn kernels(self) -> &'static [Kernel] {
        match self.kernel {
            Kernels::Stable => &[Kernel::Stable],
            Kernels::Backports => &[Kernel::Backports],
            Kernels::Both => &[Kernel::Stable, Kernel::Backports],
        }
    }
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().verb) {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(1)),
        Err(e) => {
            say(format_args!("{e:#}"));
            ExitCode::from(2)
        }
    }
}

/// Runs one verb and returns the exit status.
fn dispatch(verb: Verb) -> Result<i32> {
    let lab = Lab::open()?;
    match verb {
        Verb::Demo(which) => {
            let reports = run(
                &lab,
                &[scenario::outside(&lab, "demo")?],
                which.kernels(),
                None,
                1,
            )?;
            Ok(reports
                .iter()
                .map(|r| r.status)
                .find(|s| *s != 0)
                .unwrap_or(0))
        }
        Verb::Test {
            names,
            all,
            patience,
            lanes,
            which,
        } => test(&lab, &names, all, which.kernels(), patience, lanes),
        Verb::Bench { settings, which } => {
            let sanblk = sanblk(&lab)?;
            for kernel in which.kernels() {
                let image = image::build(&lab, *kernel)?;
                let accel = accel::choose(&lab, &image)?;
                bench::run(&lab, &image, accel, &sanblk, &settings)?;
            }
            Ok(0)
        }
        Verb::Soak {
            simulation,
            seeds,
            minutes,
        } => soak::run(&lab, simulation, seeds, minutes),
        Verb::Cuts { count, seed, which } => {
            let sanblk = sanblk(&lab)?;
            let settings = cuts::Settings { count, seed };
            for kernel in which.kernels() {
                let image = image::build(&lab, *kernel)?;
                let accel = accel::choose(&lab, &image)?;
                let status = cuts::run(&lab, &image, accel, &sanblk, settings)?;
                if status != 0 {
                    return Ok(status);
                }
            }
            Ok(0)
        }
        Verb::Shell(which) => shell(&lab, which.kernels()[0]),
        Verb::Image(which) => {
            for kernel in which.kernels() {
                let image = image::build(&lab, *kernel)?;
                let accel = accel::choose(&lab, &image)?;
                say(format_args!(
                    "ready: kernel {}, {}",
                    image.version,
                    accel.name()
                ));
            }
            Ok(0)
        }
        Verb::List => {
            for s in scenario::all(&lab)? {
                println!(
                    "{:28} {}{}",
                    s.name,
                    s.what,
                    if s.is_everyday() { "" } else { " (long)" }
                );
            }
            Ok(0)
        }
        Verb::TgtPath => {
            println!("{}", TGT.program(&lab)?.display());
            Ok(0)
        }
        Verb::SanlockPath => {
            println!("{}", SANLOCK.program(&lab)?.display());
            Ok(0)
        }
    }
}

fn test(
    lab: &Lab,
    names: &[String],
    long_too: bool,
    kernels: &[Kernel],
    patience: Option<f32>,
    lanes: usize,
) -> Result<i32> {
    let known = scenario::all(lab)?;
    let mut chosen = Vec::new();
    for name in names {
        match known.iter().find(|s| s.name == *name) {
            Some(s) => chosen.push(s.clone()),
            None => bail!("no scenario {name:?}; `cargo lab list` names them"),
        }
    }
    let mut failed = 0;
    let mut passed = 0;
    if names.is_empty() {
        chosen = if long_too {
            known
        } else {
            known.into_iter().filter_map(Scenario::everyday).collect()
        };
        // Who chose a kernel chose what can run on it.
        chosen.retain(|s| s.kernels.iter().any(|kernel| kernels.contains(kernel)));
        if workspace_tests(lab)? {
            passed += 1;
        } else {
            failed += 1;
        }
    }
    let reports = run(lab, &chosen, kernels, patience, lanes)?;
    println!();
    if names.is_empty() {
        println!(
            "{:4} cargo test --workspace",
            if failed == 0 { "ok" } else { "FAIL" }
        );
    }
    for report in &reports {
        println!("{report}");
        match report.failure {
            None => passed += 1,
            Some(_) => failed += 1,
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(match reports.as_slice() {
        [only] if names.len() == 1 => only.status,
        _ => i32::from(failed > 0),
    })
}

fn cargo(lab: &Lab) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&lab.repo);
    cargo
}

/// `cargo test --workspace`, with a real tgtd and sanlock for the tests that want them, and the simulation with rules
/// broken on purpose, which is built apart so that no other test runs on such code. Their output goes straight through.
fn workspace_tests(lab: &Lab) -> Result<bool> {
    let tgtd = TGT.program(lab)?;
    let sanlock = SANLOCK.program(lab)?;
    let mutants = "test --locked --package sanblk --features mutants --test sim mutants::";
    for line in ["test --workspace --locked", mutants] {
        say(format_args!("cargo {line}"));
        let status = cargo(lab)
            .args(line.split(' '))
            .env("SANBLK_TGTD", &tgtd)
            .env("SANBLK_SANLOCK", &sanlock)
            .status()
            .context("cannot start cargo")?;
        if !status.success() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Builds the program under test; `SANBLK_LAB_BINARY` names one that is built already.
fn sanblk(lab: &Lab) -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os("SANBLK_LAB_BINARY") {
        return Ok(binary.into());
    }
    let status = cargo(lab)
        .args(["build", "--quiet", "--release", "--locked", "-p", "sanblk"])
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("sanblk does not build");
    }
    Ok(target_dir(&lab.repo).join("release/sanblk"))
}

/// Builds a program of `examples/`, for the guest.
fn example(lab: &Lab, name: &str) -> Result<PathBuf> {
    let status = cargo(lab)
        .args(["build", "--quiet", "--release", "--locked", "-p", "sanblk"])
        .args(["--example", name])
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("{name} does not build");
    }
    Ok(target_dir(&lab.repo).join("release/examples").join(name))
}

fn run(
    lab: &Lab,
    chosen: &[Scenario],
    kernels: &[Kernel],
    patience: Option<f32>,
    lanes: usize,
) -> Result<Vec<Report>> {
    let sanblk = sanblk(lab)?;
    let mut reports = Vec::new();
    for kernel in kernels {
        let here: Vec<Scenario> = chosen
            .iter()
            .filter(|s| s.kernels.contains(kernel))
            .cloned()
            .collect();
        if here.is_empty() {
            continue;
        }
        let image: Image = image::build(lab, *kernel)?;
        let accel: Accel = accel::choose(lab, &image)?;
        say(format_args!(
            "{} on kernel {}, {}",
            plural(here.len(), "scenario"),
            image.version,
            accel.name()
        ));
        let patience = patience.unwrap_or(if accel == Accel::Kvm { 1.0 } else { 2.0 });
        let run = Run {
            lab,
            image: &image,
            accel,
            sanblk: sanblk.clone(),
            patience,
            lanes,
        };
        reports.extend(run.scenarios(&here)?);
    }
    let nowhere = chosen
        .iter()
        .filter(|s| !s.kernels.iter().any(|k| kernels.contains(k)));
    reports.extend(nowhere.map(Report::cannot_run));
    Ok(reports)
}

fn shell(lab: &Lab, kernel: Kernel) -> Result<i32> {
    let sanblk = sanblk(lab)?;
    let image = image::build(lab, kernel)?;
    let accel = accel::choose(lab, &image)?;
    say("exit or ctrl-d powers the guest off");
    let mut guest = Boot::new(lab, &image, accel, 2, 3072)
        .sanblk(&sanblk)
        .interactive()
        .start()?;
    guest.wait()?;
    guest.remove_files()?;
    Ok(0)
}

fn plural(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}
