//! `sanblk lease`: leases on disk in sanlock's format. These verbs need no daemon, and join nothing.

mod dump;
mod init;
mod status;

use crate::failure::Failure;
use crate::lease::place::Place;

/// Make lease areas on a device or file, and look at them
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Init(init::Arguments),
    Dump(dump::Arguments),
    Status(status::Arguments),
}

/// What to look at.
#[derive(Debug, clap::Args)]
struct Look {
    /// Device or file, and the byte at which its first area begins [default offset: 0]
    #[arg(value_name = "PATH[:OFFSET]")]
    place: Place,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.verb {
        Verb::Init(arguments) => init::run(arguments),
        Verb::Dump(arguments) => dump::run(arguments),
        Verb::Status(arguments) => status::run(arguments),
    }
}
