//! Which LUN is this, and what can it do? The questions are asked by a probing login before the device exists, and
//! again on every path after every login, before any write. This file knows the answers; [`Probe`] asks.
//!
//! Equal WWIDs alone prove nothing: cloned targets carry one WWID on different disks, and another disk may appear
//! behind a LUN number (PROTOCOL.md section 13). Hence [`Identity`] holds everything that must be equal.

use core::fmt;

use iscsi_client::scsi::Tpgs;

pub use crate::probe::Probe;

/// What must be equal on every path of a volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// World wide identifier, derived as multipath-tools derives it.
    pub wwid: String,
    /// Unit serial number (VPD 80h), empty where the target has none.
    pub serial: String,
    /// T10 vendor identification, trimmed.
    pub vendor: String,
    /// Product identification, trimmed.
    pub product: String,
    /// Capacity in logical blocks.
    pub blocks: u64,
    /// Logical block length in bytes: 512 or 4096.
    pub block_len: u32,
}

/// Everything the block device and the data path need to know of a LUN.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Description {
    /// Who it is.
    pub identity: Identity,
    /// log2 of logical blocks per physical block.
    pub physical_block_exponent: u8,
    /// Longest READ or WRITE in blocks, if stated.
    pub max_transfer_blocks: Option<u32>,
    /// Optimal transfer length in blocks, if stated.
    pub optimal_transfer_blocks: Option<u32>,
    /// Optimal transfer length granularity in blocks, if stated.
    pub optimal_granularity_blocks: Option<u32>,
    /// Rotating medium, as far as stated (VPD B1h).
    pub rotational: bool,
    /// A volatile write cache is on (mode page 08h, WCE).
    pub write_cache: bool,
    /// FUA is honoured (DPOFUA).
    pub fua: bool,
    /// Write protected (mode header WP).
    pub read_only: bool,
    /// UNMAP, where offered.
    pub unmap: Option<UnmapLimits>,
    /// Longest WRITE SAME(16) in blocks, if stated. Whether the target knows the command shows when it is used.
    pub max_write_same_blocks: Option<u32>,
    /// WRITE SAME(16) with UNMAP deallocates and reads back zeros.
    pub write_same_unmaps: bool,
    /// Whose commands an ORDERED one waits for (mode page 0Ah, TST).
    pub task_set: TaskSet,
    /// Target port group of the port that answered, and the relative port.
    pub target_port_group: Option<u16>,
    /// Whether the target reports asymmetric access, and who may change it.
    pub tpgs: Tpgs,
}

/// Task set type of the control mode page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum TaskSet {
    /// TST=000b, or not stated: one task set for all nexuses.
    #[default]
    Shared,
    /// TST=001b, or a value that no standard knows yet: one task set per nexus.
    PerNexus,
}

/// Limits of UNMAP (VPD B0h, B2h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnmapLimits {
    /// Blocks per command.
    pub max_blocks: u32,
    /// Granularity in blocks, at least 1.
    pub granularity_blocks: u32,
    /// First aligned block.
    pub alignment_blocks: u32,
}

/// Why a LUN cannot be used. Each has a sentence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProbeFailure {
    /// No logical unit behind this number.
    NoSuchLun,
    /// Not a direct access block device; the peripheral device type.
    NotADisk(u8),
    /// Block length that is neither 512 nor 4096 bytes.
    BlockLength(u32),
    /// Formatted with protection information.
    Protection,
    /// Not ready within the probe's patience.
    NotReady,
    /// This port does not serve the LUN now (ALUA: standby, unavailable or in transition).
    PortInactive,
    /// No usable identifier: neither VPD 83h nor a serial number.
    NoIdentifier,
    /// A command failed or answered nonsense; the name of the command.
    Failed(&'static str),
}

/// What two LUNs that should be one differ in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    what: &'static str,
    expected: String,
    found: String,
}

impl Identity {
    /// The first thing in which `found` differs, except for the capacity.
    pub fn difference(&self, found: &Identity) -> Option<Difference> {
        let number = |value: u32| value.to_string();
        let pairs = [
            ("WWID", self.wwid.clone(), found.wwid.clone()),
            ("serial number", self.serial.clone(), found.serial.clone()),
            ("vendor", self.vendor.clone(), found.vendor.clone()),
            ("product", self.product.clone(), found.product.clone()),
            (
                "block length",
                number(self.block_len),
                number(found.block_len),
            ),
        ];
        pairs
            .into_iter()
            .find(|(_, expected, found)| expected != found)
            .map(|(what, expected, found)| Difference {
                what,
                expected,
                found,
            })
    }

    /// As [`Identity::difference`], and the capacity must be the same as well.
    pub fn difference_or_size(&self, found: &Identity) -> Option<Difference> {
        self.difference(found).or_else(|| {
            (self.blocks != found.blocks).then(|| Difference {
                what: "capacity",
                expected: format!("{} blocks", self.blocks),
                found: format!("{} blocks", found.blocks),
            })
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference {
            what,
            expected,
            found,
        } = self;
        write!(
            f,
            "another LUN answers behind this portal: its {what} is {found:?}, the volume's is {expected:?}; \
             nothing was written to it. Correct the target's LUN mapping, or detach and attach again"
        )
    }
}

impl fmt::Display for ProbeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeFailure::NoSuchLun => f.write_str(
                "the target has no such LUN for this initiator; check the LUN number and the target's mapping",
            ),
            ProbeFailure::NotADisk(kind) => {
                write!(f, "the LUN is no disk (peripheral device type {kind:02x}h)")
            }
            ProbeFailure::BlockLength(len) => write!(
                f,
                "the LUN has blocks of {len} bytes; only 512 and 4096 are supported"
            ),
            ProbeFailure::Protection => f.write_str(
                "the LUN is formatted with protection information, which is not supported; \
                 format it without",
            ),
            ProbeFailure::NotReady => f.write_str("the LUN is not ready"),
            ProbeFailure::PortInactive => f.write_str(
                "the target port does not serve the LUN now (ALUA standby, unavailable or in transition)",
            ),
            ProbeFailure::NoIdentifier => f.write_str(
                "the LUN has neither a device identifier (VPD page 83h) nor a serial number (80h), \
                 so paths to it cannot be told from paths to another; give it one on the target",
            ),
            ProbeFailure::Failed(command) => write!(f, "{command} failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            wwid: "36001405aaaa".into(),
            serial: "aaaa".into(),
            vendor: "LIO-ORG".into(),
            product: "disk".into(),
            blocks: 2048,
            block_len: 512,
        }
    }

    #[test]
    fn the_sentence_names_what_differs() {
        let volume = identity();
        assert_eq!(volume.difference(&identity()), None);
        let others = [
            (
                "WWID",
                Identity {
                    wwid: "36001405bbbb".into(),
                    ..identity()
                },
            ),
            (
                "serial number",
                Identity {
                    serial: "bbbb".into(),
                    ..identity()
                },
            ),
            (
                "vendor",
                Identity {
                    vendor: "IET".into(),
                    ..identity()
                },
            ),
            (
                "product",
                Identity {
                    product: "other".into(),
                    ..identity()
                },
            ),
            (
                "block length",
                Identity {
                    block_len: 4096,
                    ..identity()
                },
            ),
        ];
        for (what, other) in others {
            let sentence = volume.difference(&other).expect("a difference").to_string();
            assert!(sentence.contains(&format!("its {what} is")), "{sentence}");
        }
        let grown = Identity {
            blocks: 4096,
            ..identity()
        };
        assert_eq!(volume.difference(&grown), None);
        let sentence = volume
            .difference_or_size(&grown)
            .expect("a difference")
            .to_string();
        assert!(
            sentence.contains("its capacity is \"4096 blocks\""),
            "{sentence}"
        );
    }
}
