//! `sanblk lease join|leave|acquire|release|convert`: orders to the daemon, which holds what it is told to.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::super::{absolute, ask, print, print_json, say, unexpected};
use super::text;
use crate::control::{LeaseJoin, LeasePlace, Reply, Request, client};
use crate::daemon::start;
use crate::failure::{Failure, Kind};
use crate::layout::Layout;
use crate::lease::place::Place;
use crate::report::{LeaseReport, ModeWord};
use serde::Serialize;

/// Longest lock value block in bytes: a sector.
const LVB_MAX: u64 = 4096;

/// Become a host of a lockspace
///
/// Starts the daemon if none runs. Takes 2 io_timeouts of the area, 20 s with the usual 10, because other hosts rely on
/// that wait; and 8 io_timeouts and 60 s more if another machine has the number and shows no sign of life. No time where
/// this host was the last to have the number and left it. The number is kept until `lease leave`, and renewed all the
/// time. On a volume of sanblk, /dev/ublkbN, the writes of that volume depend on it from then on.
#[derive(Debug, clap::Args)]
pub struct Join {
    #[command(flatten)]
    area: Area,
    /// This host's number in the lockspace, from 1 on; another one on each host
    #[arg(long, value_name = "N")]
    host_id: u64,
    /// This host's name, at most 48 bytes [default: its name and machine id]
    ///
    /// Another one on each host, and the same after a reboot: under the same name the number is had again at once.
    #[arg(long, value_name = "NAME")]
    host_name: Option<String>,
    /// Patience with one read or write; every other time is a multiple of it
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    io_timeout: u64,
}

/// Give the number in a lockspace back
///
/// Refused while a lease is held. A lockspace that is lost is given up: its number is free for others when they count
/// this host out, and the volume that it guards stays write-protected until it is attached again. On a volume of sanblk,
/// waits until nothing that was written before can still reach the disk.
#[derive(Debug, clap::Args)]
pub struct Leave {
    #[command(flatten)]
    area: Area,
}

/// Take a lease; the daemon holds it until `lease release`
///
/// Fails at once, with exit code 11, while another host holds it.
#[derive(Debug, clap::Args)]
pub struct Acquire {
    #[command(flatten)]
    area: Area,
    /// Alone, or with others
    #[arg(long, value_name = "exclusive|shared", value_parser = mode)]
    mode: ModeWord,
    /// If its owner shows no sign of life, wait until it does, or until it is dead
    #[arg(long)]
    wait: bool,
    /// Write its lock value block, one sector, to this file
    #[arg(long, value_name = "FILE")]
    lvb: Option<PathBuf>,
}

/// Let a lease go, or stop to wait for it
///
/// Whoever used what it protects must have stopped before: another host may have it in the same instant.
#[derive(Debug, clap::Args)]
pub struct Release {
    #[command(flatten)]
    area: Area,
    /// Leave what this file has, at most one sector, in its lock value block
    #[arg(long, value_name = "FILE")]
    lvb: Option<PathBuf>,
}

/// Hold a lease in another mode
///
/// To exclusive: fails, with exit code 11, while other hosts share it, and it stays shared. To shared: whoever wrote what
/// it protects must have stopped before.
#[derive(Debug, clap::Args)]
pub struct Convert {
    #[command(flatten)]
    area: Area,
    /// Alone, or with others
    #[arg(long, value_name = "exclusive|shared", value_parser = mode)]
    mode: ModeWord,
}

#[derive(Debug, clap::Args)]
struct Area {
    /// Device or file, and the byte at which the area begins [default offset: 0]
    #[arg(value_name = "PATH[:OFFSET]")]
    place: Place,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Area {
    fn place(&self) -> Result<LeasePlace, Failure> {
        Ok(LeasePlace {
            path: absolute(self.place.path.clone())?,
            offset: self.place.offset,
        })
    }
}

fn mode(text: &str) -> Result<ModeWord, &'static str> {
    match text {
        "exclusive" => Ok(ModeWord::Exclusive),
        "shared" => Ok(ModeWord::Shared),
        _ => Err("exclusive or shared"),
    }
}

pub async fn join(layout: &Layout, order: Join) -> Result<(), Failure> {
    let request = Request::LeaseJoin(LeaseJoin {
        place: order.area.place()?,
        host_id: order.host_id,
        host_name: order.host_name,
        io_timeout_s: order.io_timeout,
    });
    let stream = start::connect(layout, say).await?;
    match client::call(stream, &request, say).await? {
        Reply::Lockspaces(report) if order.area.json => match report.lockspaces.first() {
            Some(lockspace) => print_json(lockspace),
            None => Err(unexpected()),
        },
        Reply::Lockspaces(report) => {
            print(&text::lockspaces(&report));
            Ok(())
        }
        _ => Err(unexpected()),
    }
}

/// What the daemon answers; none runs, none holds anything.
async fn order(layout: &Layout, request: &Request) -> Result<Reply, Failure> {
    ask(layout, request).await?.ok_or_else(|| {
        Failure::new(
            Kind::NotFound,
            "the daemon does not run, so this host has joined no lockspace",
            "sanblk lease join PATH[:OFFSET] --host-id N",
        )
    })
}

pub async fn leave(layout: &Layout, Leave { area }: Leave) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Left {
        lockspace: String,
    }
    match order(layout, &Request::LeaseLeave(area.place()?)).await? {
        Reply::LeaseLeft { lockspace } if area.json => print_json(&Left { lockspace }),
        Reply::LeaseLeft { lockspace } => {
            print(&format!("left lockspace {lockspace}\n"));
            Ok(())
        }
        _ => Err(unexpected()),
    }
}

pub async fn acquire(layout: &Layout, arguments: Acquire) -> Result<(), Failure> {
    let request = Request::LeaseAcquire {
        place: arguments.area.place()?,
        mode: arguments.mode,
        wait: arguments.wait,
        lvb: arguments.lvb.is_some(),
    };
    match order(layout, &request).await? {
        Reply::Leased { lease, lvb } => {
            if let (Some(path), Some(bytes)) = (&arguments.lvb, lvb) {
                std::fs::write(path, bytes).map_err(|error| {
                    Failure::new(
                        Kind::Failed,
                        format!(
                            "{} is held now, but {}: {error}",
                            lease.name,
                            path.display()
                        ),
                        "sanblk lease release lets it go",
                    )
                })?;
            }
            leased(&lease, arguments.area.json)
        }
        _ => Err(unexpected()),
    }
}

pub async fn convert(layout: &Layout, Convert { area, mode }: Convert) -> Result<(), Failure> {
    let place = area.place()?;
    match order(layout, &Request::LeaseConvert { place, mode }).await? {
        Reply::Leased { lease, .. } => leased(&lease, area.json),
        _ => Err(unexpected()),
    }
}

fn leased(lease: &LeaseReport, json: bool) -> Result<(), Failure> {
    if json {
        return print_json(lease);
    }
    print(&format!("{}\n", text::lease(lease)));
    Ok(())
}

pub async fn release(layout: &Layout, Release { area, lvb }: Release) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Released {
        lease: Option<LeaseReport>,
    }
    let place = area.place()?;
    let lvb = lvb.as_deref().map(block).transpose()?;
    match order(layout, &Request::LeaseRelease { place, lvb }).await? {
        Reply::LeaseReleased { lease } if area.json => print_json(&Released { lease }),
        Reply::LeaseReleased { lease: Some(lease) } => {
            print(&format!("released {} of {}\n", lease.name, lease.lockspace));
            Ok(())
        }
        Reply::LeaseReleased { lease: None } => {
            print("it was not held yet, and is not waited for any more\n");
            Ok(())
        }
        _ => Err(unexpected()),
    }
}

/// What the file has, if it is not too much.
fn block(path: &Path) -> Result<Vec<u8>, Failure> {
    let usage = |what: String| Failure::new(Kind::Usage, what, "nothing was released");
    let read = || {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path)?;
        file.take(LVB_MAX + 1).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    let bytes = read().map_err(|error| usage(format!("{}: {error}", path.display())))?;
    if bytes.len() as u64 > LVB_MAX {
        let path = path.display();
        return Err(usage(format!("{path} has more than one sector")));
    }
    Ok(bytes)
}
