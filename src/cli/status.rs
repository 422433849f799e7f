//! `sanblk status`: what is attached, and how its paths are.

use crate::control::{Reply, Request};
use crate::failure::Failure;
use crate::layout::Layout;
use crate::report::StatusReport;

use super::{ask, no_volume, print, print_json, text, unexpected};

/// Show volumes and their paths
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only this volume: /dev/ublkbN, ublkbN, WWID or a /dev/disk/by-id link
    volume: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(layout: &Layout, arguments: Arguments) -> Result<(), Failure> {
    let request = Request::Status {
        volume: arguments.volume.clone(),
    };
    let report = match (ask(layout, &request).await?, arguments.volume) {
        (Some(Reply::Status(report)), _) => report,
        (Some(_), _) => return Err(unexpected()),
        (None, Some(name)) => return Err(no_volume(&name)),
        (None, None) => StatusReport::default(),
    };
    match arguments.json {
        true => print_json(&report),
        false => {
            print(&text::status(&report));
            Ok(())
        }
    }
}
