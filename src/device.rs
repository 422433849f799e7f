//! The ublk device of a volume: what it looks like, and the blocking calls that make and remove it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use multipath::Description;
use ublk_dev::AddOptions;
use ublk_dev::control::ControlError;
use ublk_dev::params::{Discard, Parameters};

use crate::failure::{Failure, Kind};

/// Tags of a queue: requests in flight at most. Targets grant windows of 32 to 256 commands per session.
pub const DEPTH: u16 = 128;
/// Bytes of a tag's buffer, so of one request. All of them are locked memory: 64 MiB per volume.
pub const IO_BYTES_MAX: u32 = 512 * 1024;
/// The driver answers at once or is wedged; a loaded machine gets some patience.
pub const CONTROL_LIMIT: Duration = Duration::from_secs(10);
/// Up to Linux 6.18 the partition table is read within START_DEV, through our paths.
pub const START_LIMIT: Duration = Duration::from_secs(60);

/// What the block device of this LUN looks like.
pub fn parameters(description: &Description) -> Parameters {
    let block = description.identity.block_len;
    let bytes = |blocks: u32| blocks.saturating_mul(block);
    let io_bytes_max = description
        .max_transfer_blocks
        .map_or(IO_BYTES_MAX, |blocks| bytes(blocks).min(IO_BYTES_MAX));
    Parameters {
        blocks: description.identity.blocks,
        logical_block_bytes: block,
        physical_block_bytes: block
            .checked_shl(description.physical_block_exponent.into())
            .filter(|bytes| (block..=1 << 20).contains(bytes))
            .unwrap_or(block),
        io_min_bytes: description.optimal_granularity_blocks.map_or(0, bytes),
        io_opt_bytes: description.optimal_transfer_blocks.map_or(0, bytes),
        io_bytes_max,
        rotational: description.rotational,
        volatile_cache: description.write_cache,
        fua: description.fua,
        read_only: description.read_only,
        discard: description.unmap.map(|unmap| Discard {
            granularity_bytes: bytes(unmap.granularity_blocks),
            alignment_bytes: bytes(unmap.alignment_blocks),
            bytes_max: u64::from(unmap.max_blocks) * u64::from(block),
        }),
        write_zeroes_bytes_max: description
            .max_write_same_blocks
            .map_or(0, |blocks| u64::from(blocks) * u64::from(block)),
    }
}

/// What to add for this LUN. One queue: one TCP session per portal.
pub fn options(description: &Description) -> AddOptions {
    AddOptions {
        id: None,
        queues: 1,
        depth: DEPTH,
        io_bytes_max: IO_BYTES_MAX,
        parameters: parameters(description),
    }
}

/// A control error as the operator reads it.
pub fn failure(what: &str, error: &ControlError) -> Failure {
    let kind = match error {
        ControlError::NoDriver
        | ControlError::Kernel(_)
        | ControlError::ForeignMode { .. }
        | ControlError::CannotResize => Kind::Kernel,
        ControlError::NoAnswer { .. } => Kind::TimedOut,
        ControlError::NotOurs { .. } | ControlError::InUse { .. } => Kind::Refused,
        ControlError::Open(_)
        | ControlError::Parameters(_)
        | ControlError::Refused { .. }
        | ControlError::Thread(_) => Kind::Failed,
    };
    let next = match kind {
        Kind::TimedOut => "look at the kernel's log (dmesg); sanblk status",
        Kind::Kernel => "nothing was changed; attach again when that is done",
        _ => "",
    };
    Failure::new(kind, format!("{what}: {error}"), next)
}

/// Loads the driver where it is missing. Whether that helped shows when the device is added.
pub fn load_driver(control: &Path) {
    if control.exists() {
        return;
    }
    let quiet = Command::new("modprobe")
        .arg("ublk_drv")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = quiet else {
        return;
    };
    let end = Instant::now() + CONTROL_LIMIT;
    while Instant::now() < end {
        match child.try_wait() {
            Ok(Some(_)) | Err(_) => break,
            Ok(None) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    // devtmpfs has the node when modprobe is back, or moments later.
    let end = Instant::now() + Duration::from_secs(1);
    while !control.exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use multipath::Identity;
    use multipath::identity::{TaskSet, UnmapLimits};

    use super::*;

    #[test]
    fn limits_of_a_4k_lun() {
        let description = Description {
            identity: Identity {
                wwid: "3600".into(),
                serial: String::new(),
                vendor: String::new(),
                product: String::new(),
                blocks: 1 << 40,
                block_len: 4096,
            },
            physical_block_exponent: 40,
            max_transfer_blocks: Some(64),
            optimal_transfer_blocks: Some(u32::MAX),
            optimal_granularity_blocks: Some(2),
            rotational: true,
            write_cache: true,
            fua: false,
            read_only: true,
            unmap: Some(UnmapLimits {
                max_blocks: u32::MAX,
                granularity_blocks: 8,
                alignment_blocks: 0,
            }),
            max_write_same_blocks: None,
            write_same_unmaps: false,
            task_set: TaskSet::Shared,
            target_port_group: None,
            tpgs: iscsi_client::scsi::Tpgs::None,
        };
        let parameters = parameters(&description);
        assert_eq!(parameters.io_bytes_max, 64 * 4096);
        // A shift out of range is nonsense from the peer, not a panic.
        assert_eq!(parameters.physical_block_bytes, 4096);
        assert_eq!(parameters.io_opt_bytes, u32::MAX);
        assert_eq!(parameters.io_min_bytes, 8192);
        assert_eq!(parameters.discard.unwrap().granularity_bytes, 32768);
        assert_eq!(parameters.write_zeroes_bytes_max, 0);
        assert!(parameters.rotational && parameters.read_only && !parameters.fua);
    }
}
