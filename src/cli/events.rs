//! `sanblk events`: what happened lately.

use crate::control::{Reply, Request};
use crate::failure::Failure;
use crate::layout::Layout;
use crate::report::EventsReport;

use super::{ask, no_volume, print, print_json, text, unexpected};

/// Show what happened to volumes and paths, and why
///
/// The last 1000 events since the daemon started, oldest first, in UTC; also of volumes that are detached by now. To
/// follow them, and for those before: journalctl -fu sanblk.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only this volume: /dev/ublkbN, ublkbN, WWID or a /dev/disk/by-id link
    volume: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(layout: &Layout, arguments: Arguments) -> Result<(), Failure> {
    let request = Request::Events {
        volume: arguments.volume.clone(),
    };
    let report = match (ask(layout, &request).await?, arguments.volume) {
        (Some(Reply::Events(report)), _) => report,
        (Some(_), _) => return Err(unexpected()),
        (None, Some(name)) => return Err(no_volume(&name)),
        (None, None) => EventsReport::default(),
    };
    match arguments.json {
        true => print_json(&report),
        false => {
            print(&text::events(&report));
            Ok(())
        }
    }
}
