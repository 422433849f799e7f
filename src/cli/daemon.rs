//! `sanblk daemon`: the background process, in the foreground.

use std::path::PathBuf;

use crate::config::Config;
use crate::daemon::{self, Options};
use crate::failure::Failure;
use crate::layout::Layout;

/// Run the daemon in the foreground (attach starts one when none runs)
///
/// SIGTERM detaches what nobody uses, waits up to 90 s for the rest to be closed, and ends. What is open then gives
/// IO errors. A second SIGTERM ends it at once.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Log to this file, at most 2 MiB, instead of to stderr
    #[arg(long, value_name = "PATH")]
    log: Option<PathBuf>,
    /// Leave the terminal's session
    #[arg(long, hide = true)]
    background: bool,
    /// Log in detail
    #[arg(long)]
    verbose: bool,
    /// Be the lock manager of this host: serve lvmlockd and other clients of sanlock at sanlock's own socket
    #[arg(long)]
    sanlock_socket: bool,
}

pub fn run(layout: Layout, arguments: Arguments) -> Result<(), Failure> {
    let config = Config::read(&layout.config())?;
    let sanlock = match arguments.sanlock_socket || config.sanlock_socket {
        true => {
            // Without the file there are numbers still.
            let groups = std::fs::read_to_string(layout.groups()).unwrap_or_default();
            Some(config.sanlock(&groups)?)
        }
        false => None,
    };
    daemon::run(&Options {
        layout,
        sanlock,
        log: arguments.log,
        background: arguments.background,
        verbose: arguments.verbose,
    })
}
