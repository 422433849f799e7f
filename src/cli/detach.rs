//! `sanblk detach`: the end of a volume.

use crate::control::{Reply, Request};
use crate::failure::Failure;
use crate::layout::Layout;

use super::{ask, no_volume, print, say, unexpected};

/// Detach a volume; refuses while it is in use
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// /dev/ublkbN, ublkbN, WWID or a /dev/disk/by-id link
    volume: String,
    /// Detach although it is open, waits for a path or has unresolved writes; says what is lost
    #[arg(long)]
    force: bool,
}

pub async fn run(layout: &Layout, arguments: Arguments) -> Result<(), Failure> {
    let request = Request::Detach {
        volume: arguments.volume.clone(),
        force: arguments.force,
    };
    match ask(layout, &request).await? {
        Some(Reply::Detached { device, notes }) => {
            for note in notes {
                say(&note);
            }
            print(&format!("{device} detached\n"));
            Ok(())
        }
        Some(_) => Err(unexpected()),
        None => Err(no_volume(&arguments.volume)),
    }
}
