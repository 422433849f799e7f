//! `sanblk set`: settings of a volume, live.

use crate::config::{NoPath, Policy};
use crate::control::{Reply, Request};
use crate::failure::Failure;
use crate::layout::Layout;

use super::{ask, no_volume, print, print_json, text, unexpected};

/// Change settings of a volume, at once
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true).args(["policy", "no_path_retry"]))]
pub struct Arguments {
    /// /dev/ublkbN, ublkbN, WWID or a /dev/disk/by-id link
    volume: String,
    /// How a path is chosen
    #[arg(
        long,
        value_name = "late-binding|service-time|queue-length|round-robin|failover",
        hide_possible_values = true
    )]
    policy: Option<Policy>,
    /// What requests do while no path works, those that wait now included
    #[arg(long, value_name = "queue|fail|SECONDS")]
    no_path_retry: Option<NoPath>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(layout: &Layout, arguments: Arguments) -> Result<(), Failure> {
    let request = Request::Set {
        volume: arguments.volume.clone(),
        policy: arguments.policy,
        no_path_retry: arguments.no_path_retry,
    };
    match ask(layout, &request).await? {
        Some(Reply::Status(report)) if arguments.json => print_json(&report),
        Some(Reply::Status(report)) => {
            print(&text::status(&report));
            Ok(())
        }
        Some(_) => Err(unexpected()),
        None => Err(no_volume(&arguments.volume)),
    }
}
