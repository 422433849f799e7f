//! `sanblk lease`: leases on disk in sanlock's format. Making areas and looking at them needs no daemon; what is held,
//! the daemon holds.

mod dump;
mod held;
mod init;
mod status;
mod text;

use super::on_tokio;
use crate::failure::Failure;
use crate::layout::Layout;
use crate::lease::place::Place;

/// Make lease areas on a device or file, look at them, and hold leases
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Init(init::Arguments),
    Join(held::Join),
    Leave(held::Leave),
    Acquire(held::Acquire),
    Release(held::Release),
    Convert(held::Convert),
    Status(status::Arguments),
    Dump(dump::Arguments),
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

pub fn run(layout: &Layout, arguments: Arguments) -> Result<(), Failure> {
    match arguments.verb {
        Verb::Init(arguments) => init::run(arguments),
        Verb::Join(order) => on_tokio(held::join(layout, order)),
        Verb::Leave(order) => on_tokio(held::leave(layout, order)),
        Verb::Acquire(order) => on_tokio(held::acquire(layout, order)),
        Verb::Release(order) => on_tokio(held::release(layout, order)),
        Verb::Convert(order) => on_tokio(held::convert(layout, order)),
        Verb::Status(arguments) => on_tokio(status::run(layout, arguments)),
        Verb::Dump(arguments) => dump::run(arguments),
    }
}
