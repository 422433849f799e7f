//! `sanblk lease init`: makes a lockspace or a resource.

use std::str::FromStr;

use lockmgr::ondisk::{AlignSize, Name, NameTooLong, SectorSize};

use super::super::{print, print_json};
use crate::failure::Failure;
use crate::lease::init::{What, init};
use crate::lease::place::Place;

/// Make a lockspace or a resource, where nothing can be lost
///
/// Made in the versions that every sanlock reads. Only zeros, a lockspace that no host ever joined and deleted
/// resources are written over; all else is refused (exit code 4), and a refusal changes nothing on disk.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: Order,
}

#[derive(Debug, clap::Subcommand)]
enum Order {
    /// Make a lockspace: the area in which hosts have their numbers
    Lockspace {
        /// Its name, at most 48 bytes
        #[arg(long)]
        name: Named,
        #[command(flatten)]
        area: Area,
    },
    /// Make a resource: the area of one lease
    Resource {
        /// The lockspace whose hosts use it
        #[arg(long, value_name = "NAME")]
        lockspace: Named,
        /// Its name, at most 48 bytes
        #[arg(long)]
        name: Named,
        /// Only hosts 1 to N may use it [default: all that there is room for, 2000]
        #[arg(long, value_name = "N")]
        max_hosts: Option<u64>,
        #[command(flatten)]
        area: Area,
    },
}

#[derive(Debug, clap::Args)]
struct Area {
    /// Device or file, and the byte at which the area begins, a multiple of its size [default offset: 0]
    #[arg(value_name = "PATH[:OFFSET]")]
    place: Place,
    /// Bytes of a sector [default: the device's logical block; 512 in a file]
    #[arg(long, value_name = "512|4096", value_parser = sector)]
    sector: Option<SectorSize>,
    /// Size of the area [default: 1M with sectors of 512, 8M with 4096]
    ///
    /// Nothing else is made: elsewhere sanlock's lock value blocks overwrite other leases.
    #[arg(long, value_name = "1M|2M|4M|8M", value_parser = align)]
    align: Option<AlignSize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A name that fits its field.
#[derive(Clone, Copy, Debug)]
struct Named(Name);

impl FromStr for Named {
    type Err = NameTooLong;

    fn from_str(text: &str) -> Result<Named, NameTooLong> {
        Name::new(text).map(Named)
    }
}

fn sector(text: &str) -> Result<SectorSize, &'static str> {
    let bytes = text.parse().ok();
    bytes.and_then(SectorSize::from_bytes).ok_or("512 or 4096")
}

fn align(text: &str) -> Result<AlignSize, &'static str> {
    let mib = text.strip_suffix('M').and_then(|mib| mib.parse().ok());
    AlignSize::ALL
        .into_iter()
        .find(|align| Some(align.mib()) == mib)
        .ok_or("1M, 2M, 4M or 8M")
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let (what, title, area) = match arguments.what {
        Order::Lockspace {
            name: Named(name),
            area,
        } => (What::Lockspace { name }, format!("lockspace {name}"), area),
        Order::Resource {
            lockspace: Named(lockspace),
            name: Named(name),
            max_hosts: hosts,
            area,
        } => {
            let title = format!("resource {name} of lockspace {lockspace}");
            (
                What::Resource {
                    lockspace,
                    name,
                    hosts,
                },
                title,
                area,
            )
        }
    };
    let made = init(&area.place, what, area.sector, area.align)?;
    if area.json {
        return print_json(&made);
    }
    print(&format!(
        "{title} made at {}: {} MiB of {}-byte sectors, for hosts 1 to {}\n",
        area.place,
        made.area_bytes >> 20,
        made.sector_bytes,
        made.hosts,
    ));
    Ok(())
}
