//! `sanblk lease status`: who has what, for people: what the disk says, and what the daemon knows and holds.

use std::fmt::Write;

use serde::Serialize;

use super::super::{absolute, ask, print, print_json, say, unexpected};
use super::text as ours;
use crate::control::{Reply, Request};
use crate::failure::Failure;
use crate::layout::Layout;
use crate::lease::areas::{Areas, damage, damaged};
use crate::lease::place::Place;
use crate::lease::status::{
    AreaStatus, AreaWord, Collector, Holder, HostStatus, HostWord, LeaseStatus, Mode, Standing,
};
use crate::report::{LockspaceReport, LockspacesReport};

/// Show which host has which number and which lease; changes nothing
///
/// Without a place: the lockspaces that this host has joined, their hosts and the leases that it holds. With one: what the
/// disk says there, without a daemon; one look does not tell a live host from a dead one, but the daemon does for a lockspace
/// that it has joined. Exit code 1 if any record is refused.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Device or file, and the byte at which its first area begins [default offset: 0]
    #[arg(value_name = "PATH[:OFFSET]")]
    place: Option<Place>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A look, and what the daemon knows of the same device.
#[derive(Serialize)]
struct Both {
    #[serde(flatten)]
    look: LeaseStatus,
    lockspaces: Vec<LockspaceReport>,
}

pub async fn run(layout: &Layout, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { place, json } = arguments;
    let Some(place) = place else {
        let report = joined(layout).await?;
        return match json {
            true => print_json(&report),
            false if report.lockspaces.is_empty() => {
                print("this host has joined no lockspace\n");
                Ok(())
            }
            false => {
                print(&ours::lockspaces(&report));
                Ok(())
            }
        };
    };
    let mut collector = Collector::default();
    let mut refused = Vec::new();
    for area in Areas::open(&place)? {
        let (offset, dump) = area?;
        refused.extend(damage(&dump));
        collector.add(&dump, offset);
    }
    let look = collector.status(place.path.display().to_string());
    let path = absolute(place.path)?.display().to_string();
    let mut report = joined(layout).await.unwrap_or_else(|failure| {
        say(&format!(
            "what this host has joined is not known: {}",
            failure.what
        ));
        LockspacesReport::default()
    });
    report.lockspaces.retain(|space| space.path == path);
    match json {
        true => print_json(&Both {
            look,
            lockspaces: report.lockspaces,
        })?,
        false => {
            print(&text(&look));
            print(&ours::lockspaces(&report));
        }
    }
    damaged(&refused)
}

/// What the daemon knows; nothing, where none runs.
async fn joined(layout: &Layout) -> Result<LockspacesReport, Failure> {
    match ask(layout, &Request::LeaseStatus).await? {
        Some(Reply::Lockspaces(report)) => Ok(report),
        Some(_) => Err(unexpected()),
        None => Ok(LockspacesReport::default()),
    }
}

fn text(status: &LeaseStatus) -> String {
    let mut text = String::new();
    let mut taken = false;
    for area in &status.areas {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", title(area));
        let lines: Vec<String> = match &area.what {
            AreaWord::Lockspace { hosts, .. } => {
                taken |= hosts.iter().any(|host| host.state == HostWord::Taken);
                hosts.iter().map(host).collect()
            }
            AreaWord::Resource { holders, .. } => holders.iter().map(holder).collect(),
            _ => Vec::new(),
        };
        for line in lines {
            let _ = writeln!(text, "  {line}");
        }
        for damage in &area.damage {
            let _ = writeln!(text, "  ! {damage}");
        }
    }
    if taken {
        let _ = writeln!(text, "{}", status.note.replace(": ", ":\n"));
    }
    text
}

fn title(area: &AreaStatus) -> String {
    let at = area.offset_bytes;
    match &area.what {
        AreaWord::Lockspace {
            name,
            max_hosts,
            hosts,
        } => {
            let taken = hosts
                .iter()
                .filter(|host| host.state == HostWord::Taken)
                .count();
            format!("lockspace {name}  at {at}  {taken} of {max_hosts} host numbers taken")
        }
        AreaWord::Resource {
            lockspace,
            name,
            lver,
            mode,
            requested_lver,
            ..
        } => {
            let held = match mode {
                Mode::Free => "free",
                Mode::Exclusive => "exclusive",
                Mode::Shared => "shared",
                Mode::Unknown => "unknown, its leader is refused",
            };
            let asked = match requested_lver {
                Some(lver) => format!(", asked for from version {lver} on"),
                None => String::new(),
            };
            format!("resource {name} of {lockspace}  at {at}  version {lver}  {held}{asked}")
        }
        AreaWord::DeletedResource { lockspace, name } => {
            format!("deleted resource {name} of {lockspace}  at {at}")
        }
        AreaWord::Index {
            lockspace,
            max_resources,
            resources,
        } => {
            format!("index of {lockspace}  at {at}  {resources} of {max_resources} resources")
        }
        AreaWord::Damaged => format!("damaged  at {at}"),
    }
}

fn host(host: &HostStatus) -> String {
    let HostStatus {
        host_id,
        name,
        generation,
        timestamp_s,
        io_timeout_s,
        ..
    } = host;
    let who = format!("host {host_id}  {name}  generation {generation}");
    match (host.state, host.declared_dead_by) {
        (HostWord::Taken, _) => {
            format!(
                "{who}  taken, renewed at {timestamp_s} s of its clock, io_timeout {io_timeout_s} s"
            )
        }
        (HostWord::Free, _) => format!("{who}  has left"),
        (HostWord::DeclaredDead, Some(by)) => format!("{who}  declared dead by host {by}"),
        (HostWord::DeclaredDead, None) => format!("{who}  declared dead"),
        (HostWord::Damaged, _) => format!("host {host_id}  damaged"),
    }
}

fn holder(holder: &Holder) -> String {
    let name = holder.host_name.as_deref().unwrap_or("?");
    let standing = match holder.standing {
        Standing::Holds => "",
        Standing::Over => ", gone: the next who asks gets it",
        Standing::Unknown => ", not found in its lockspace",
    };
    format!(
        "by host {}  {name}  generation {}{standing}",
        holder.host_id, holder.generation
    )
}
