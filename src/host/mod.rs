//! What the host says and keeps: sysfs, procfs, its clock, its randomness. Reads a lot and decides little.

pub mod openers;
pub mod present;
pub mod records;

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use iscsi_client::time::Instant;

use crate::failure::{Failure, Kind};

/// Fresh random bytes from the kernel.
///
/// # Errors
/// The kernel gives none (sandboxed away).
pub fn random(bytes: &mut [u8]) -> Result<(), Failure> {
    getrandom::fill(bytes).map_err(|error| {
        Failure::new(
            Kind::Failed,
            format!("the kernel gives no random bytes: {error}"),
            "check the sandbox that this process runs in",
        )
    })
}

/// The clock of all sessions and of the queue threads: `CLOCK_BOOTTIME`, which counts a suspended host's time.
pub fn now() -> Instant {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let nanos = (time.tv_sec as u64)
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_nsec as u64);
    Instant::from_nanos(nanos)
}

/// Replaces a file so that a crash leaves the old one or the new one, whole.
///
/// # Errors
/// The file system's own.
pub fn write_durably(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    if let Some(directory) = path.parent() {
        std::fs::File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// A small text file's content without the final newline; `None` where it cannot be read.
pub(crate) fn text(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// Names in a directory, sorted; empty where it cannot be read.
pub(crate) fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}
