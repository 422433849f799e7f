//! `sanblk path`: orders about one path of a volume.

use crate::control::{PathOrder, Reply, Request};
use crate::failure::Failure;
use crate::layout::Layout;
use crate::portal::Portal;

use super::{ask, no_volume, print, print_json, text, unexpected};

/// Take a path out, give it back, or remove it
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    order: Order,
}

#[derive(Debug, clap::Subcommand)]
enum Order {
    /// Close a path at once; it stays out until `path restore`
    ///
    /// What it carries moves to the other paths, as after a loss. Not counted against the path. With the last path that
    /// works, requests wait or fail as no-path-retry says.
    Fail(Which),
    /// Give a path back, and try it now
    ///
    /// Ends `path fail`, a `path remove` that is under way, a refusal and the wait between two attempts, and forgets
    /// past losses: a path that flapped carries IO like the others again.
    Restore(Which),
    /// Let a path finish what it carries, log out, and forget it
    ///
    /// Refused for the last path, and for the only one that carries IO. A path that has not finished after 10 s is
    /// closed; it is gone when that session is proven dead. `attach` with its portal adds it again.
    Remove(Which),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// /dev/ublkbN, ublkbN, WWID or a /dev/disk/by-id link
    volume: String,
    /// The path's portal, as `status` shows it: HOST[:PORT]
    portal: Portal,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(layout: &Layout, arguments: Arguments) -> Result<(), Failure> {
    let (order, which) = match arguments.order {
        Order::Fail(which) => (PathOrder::Fail, which),
        Order::Restore(which) => (PathOrder::Restore, which),
        Order::Remove(which) => (PathOrder::Remove, which),
    };
    let request = Request::Path {
        order,
        volume: which.volume.clone(),
        portal: which.portal,
    };
    match ask(layout, &request).await? {
        Some(Reply::Status(report)) if which.json => print_json(&report),
        Some(Reply::Status(report)) => {
            print(&text::status(&report));
            Ok(())
        }
        Some(_) => Err(unexpected()),
        None => Err(no_volume(&which.volume)),
    }
}
