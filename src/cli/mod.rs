//! The command line: one file per verb. A verb asks, prints its answer on stdout and what is going on on stderr, and
//! ends with an exit code that scripts can rely on ([`exit`]).

mod attach;
mod daemon;
mod detach;
mod discover;
mod events;
pub mod exit;
mod lease;
mod path;
mod set;
mod status;
pub mod text;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde::Serialize;

use crate::control::client::{self, NoDaemon};
use crate::control::{Reply, Request};
use crate::failure::{Failure, Kind};
use crate::host::records;
use crate::kill_helper;
use crate::layout::Layout;

/// One iSCSI LUN over several storage networks as one block device, /dev/ublkbN.
#[derive(Debug, Parser)]
#[command(name = "sanblk", version, after_help = exit::HELP, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Discover(discover::Arguments),
    Attach(attach::Arguments),
    Detach(detach::Arguments),
    Set(set::Arguments),
    Path(path::Arguments),
    Status(status::Arguments),
    Events(events::Arguments),
    Lease(lease::Arguments),
    Daemon(daemon::Arguments),
    #[command(name = kill_helper::VERB, hide = true)]
    KillHelper,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors; clap knows.
            let code = u8::try_from(error.exit_code()).unwrap_or(1);
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let layout = Layout::system();
    let result = match arguments.verb {
        Verb::Discover(arguments) => on_tokio(discover::run(&layout, arguments)),
        Verb::Attach(arguments) => on_tokio(attach::run(&layout, arguments)),
        Verb::Detach(arguments) => on_tokio(detach::run(&layout, arguments)),
        Verb::Set(arguments) => on_tokio(set::run(&layout, arguments)),
        Verb::Path(arguments) => on_tokio(path::run(&layout, arguments)),
        Verb::Events(arguments) => on_tokio(events::run(&layout, arguments)),
        Verb::Status(arguments) => on_tokio(status::run(&layout, arguments)),
        Verb::Lease(arguments) => lease::run(&layout, arguments),
        Verb::Daemon(arguments) => daemon::run(layout, arguments),
        Verb::KillHelper => {
            kill_helper::serve();
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("sanblk: {failure}");
            ExitCode::from(failure.kind.exit_code())
        }
    }
}

fn on_tokio(verb: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| {
        Failure::new(
            Kind::Failed,
            format!("cannot start: {error}"),
            "check the limits of this user",
        )
    })?;
    let result = runtime.block_on(verb);
    // A name lookup without an answer must not keep the process.
    runtime.shutdown_background();
    result
}

/// Asks the running daemon. `None` where none runs and none left anything behind.
async fn ask(layout: &Layout, request: &Request) -> Result<Option<Reply>, Failure> {
    let socket = layout.socket();
    match client::connect(&socket).await {
        Ok(stream) => Ok(Some(client::call(stream, request, say).await?)),
        Err(NoDaemon::Absent) => {
            let dead = records::devices(layout);
            if dead.is_empty() {
                return Ok(None);
            }
            let names: Vec<String> = dead
                .iter()
                .map(|record| format!("/dev/ublkb{}", record.id))
                .collect();
            Err(Failure::new(
                Kind::Daemon,
                format!("the daemon has died; {} gives IO errors", names.join(", ")),
                "close what uses it; `sanblk attach` starts a new daemon, which cleans up",
            ))
        }
        Err(other) => Err(other.failure(&socket)),
    }
}

/// What is going on, for a person who waits.
fn say(text: &str) {
    eprintln!("{text}");
}

/// The answer. A reader that is gone (`| head`) is no failure of ours.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new(Kind::Failed, format!("cannot write JSON: {error}"), ""))?;
    text.push('\n');
    print(&text);
    Ok(())
}

fn no_volume(name: &str) -> Failure {
    Failure::new(
        Kind::NotFound,
        format!("no volume {name}: the daemon does not run, so nothing is attached"),
        "sanblk attach --portal HOST",
    )
}

fn unexpected() -> Failure {
    Failure::new(
        Kind::Daemon,
        "the daemon answers something else than was asked",
        "restart it when no device is in use: systemctl restart sanblk",
    )
}

/// The configuration file: the flag, else the usual place; absolute, as the daemon's directory is another.
fn config_path(layout: &Layout, flag: Option<PathBuf>) -> Result<PathBuf, Failure> {
    match flag {
        Some(path) if path.exists() => absolute(path),
        // The usual file may be missing; one that was named may not.
        Some(path) => Err(Failure::new(
            Kind::Usage,
            format!("there is no configuration {}", path.display()),
            "check --config",
        )),
        None => Ok(layout.config()),
    }
}

fn absolute(path: PathBuf) -> Result<PathBuf, Failure> {
    std::path::absolute(&path).map_err(|error| {
        Failure::new(
            Kind::Usage,
            format!("{}: {error}", path.display()),
            "give an absolute path",
        )
    })
}
