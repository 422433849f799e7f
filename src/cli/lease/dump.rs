//! `sanblk lease dump`: everything that lease areas say, in the words of `sanlock direct dump`.

use lockmgr::ondisk::Dump;
use serde::Serialize;

use super::super::{print, print_json};
use super::Look;
use crate::failure::Failure;
use crate::lease::areas::{Areas, damage, damaged};
use crate::lease::dump::AreaDump;

/// Print every record of the lease areas from a place on; changes nothing
///
/// Text as `sanlock direct dump` prints it, with deleted resources, indexes and damage (lines that begin with `!`)
/// besides. Ends at the first area that is none. Exit code 1 if any record is refused.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    look: Look,
}

#[derive(Serialize)]
struct Report {
    path: String,
    areas: Vec<AreaDump>,
}

pub fn run(Arguments { look }: Arguments) -> Result<(), Failure> {
    let areas = Areas::open(&look.place)?;
    let mut refused = Vec::new();
    let mut report = Report {
        path: look.place.path.display().to_string(),
        areas: Vec::new(),
    };
    if !look.json {
        print(&format!("{}\n", Dump::HEADING));
    }
    for area in areas {
        let (offset, dump) = area?;
        refused.extend(damage(&dump));
        match look.json {
            true => report.areas.push(AreaDump::of(&dump, offset)),
            false => print(&dump.to_string()),
        }
    }
    if look.json {
        print_json(&report)?;
    }
    damaged(&refused)
}
