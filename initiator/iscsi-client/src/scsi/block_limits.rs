//! What a block device can take in one command, and what it is made of: VPD pages B0h, B1h and B2h
//! (SBC-4, vital product data parameters).

use core::num::{NonZeroU16, NonZeroU32, NonZeroU64};

use super::page::BadPage;
use super::vpd::{vpd, vpd_page};

/// Block limits (B0h). Lengths are in logical blocks; `None` is "not stated".
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BlockLimits {
    /// WSNZ: WRITE SAME of 0 blocks is refused.
    pub write_same_non_zero: bool,
    /// Longest COMPARE AND WRITE; 0: not supported.
    pub compare_and_write_max: u8,
    /// Transfers should be a multiple of this.
    pub optimal_granularity: Option<NonZeroU16>,
    /// Longest transfer of one command.
    pub transfer_max: Option<NonZeroU32>,
    /// Longer transfers may be slower.
    pub transfer_optimal: Option<NonZeroU32>,
    /// Blocks in one UNMAP; `None`: UNMAP is not supported. `u32::MAX` is "no limit".
    pub unmap_blocks_max: Option<NonZeroU32>,
    /// Descriptors in one UNMAP; `None`: UNMAP is not supported. `u32::MAX` is "no limit".
    pub unmap_descriptors_max: Option<NonZeroU32>,
    /// UNMAP works on multiples of this.
    pub unmap_granularity: Option<NonZeroU32>,
    /// First LBA of an UNMAP granule, if stated.
    pub unmap_alignment: Option<u32>,
    /// Longest WRITE SAME.
    pub write_same_max: Option<NonZeroU64>,
    /// Longest atomic write.
    pub atomic_max: Option<NonZeroU32>,
    /// Alignment of atomic writes.
    pub atomic_alignment: Option<NonZeroU32>,
    /// Granularity of atomic writes.
    pub atomic_granularity: Option<NonZeroU32>,
}

impl BlockLimits {
    /// Reads page B0h. Pages of SBC-2 end after 16 bytes; what they do not say is "not stated".
    pub fn parse(data: &[u8]) -> Result<BlockLimits, BadPage> {
        let page = vpd(data, vpd_page::BLOCK_LIMITS)?;
        let number = |at| NonZeroU32::new(page.u32(at));
        Ok(BlockLimits {
            write_same_non_zero: page.bit(4, 0x01),
            compare_and_write_max: page.u8(5),
            optimal_granularity: NonZeroU16::new(page.u16(6)),
            transfer_max: number(8),
            transfer_optimal: number(12),
            unmap_blocks_max: number(20),
            unmap_descriptors_max: number(24),
            unmap_granularity: number(28),
            unmap_alignment: page.bit(32, 0x80).then(|| page.u32(32) & 0x7fff_ffff),
            write_same_max: NonZeroU64::new(page.u64(36)),
            atomic_max: number(44),
            atomic_alignment: number(48),
            atomic_granularity: number(52),
        })
    }

    /// Whether UNMAP may be sent: both its limits are stated.
    pub fn can_unmap(&self) -> bool {
        self.unmap_blocks_max.is_some() && self.unmap_descriptors_max.is_some()
    }
}

/// Block device characteristics (B1h).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Characteristics {
    /// Medium rotation rate: 0 not stated, 1 does not rotate, else turns per minute.
    pub rotation_rate: u16,
}

impl Characteristics {
    /// Reads page B1h.
    pub fn parse(data: &[u8]) -> Result<Characteristics, BadPage> {
        let page = vpd(data, vpd_page::BLOCK_DEVICE_CHARACTERISTICS)?;
        Ok(Characteristics {
            rotation_rate: page.u16(4),
        })
    }

    /// Whether seeks cost time. A device that does not say is taken for one.
    pub fn is_rotational(&self) -> bool {
        self.rotation_rate != 1
    }
}

/// Logical block provisioning (B2h).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Provisioning {
    /// LBPU: knows UNMAP.
    pub unmap: bool,
    /// LBPWS: WRITE SAME(16) can unmap.
    pub write_same_16_unmaps: bool,
    /// LBPWS10: WRITE SAME(10) can unmap.
    pub write_same_10_unmaps: bool,
    /// LBPRZ is xx1b: unmapped blocks read as zeros.
    pub reads_zeros: bool,
    /// ANC_SUP: blocks can be anchored.
    pub anchors: bool,
    /// Provisioning type 2: space is taken from a pool that can run out.
    pub thin: bool,
}

impl Provisioning {
    /// Reads page B2h.
    pub fn parse(data: &[u8]) -> Result<Provisioning, BadPage> {
        let page = vpd(data, vpd_page::LOGICAL_BLOCK_PROVISIONING)?;
        Ok(Provisioning {
            unmap: page.bit(5, 0x80),
            write_same_16_unmaps: page.bit(5, 0x40),
            write_same_10_unmaps: page.bit(5, 0x20),
            reads_zeros: page.bit(5, 0x04),
            anchors: page.bit(5, 0x02),
            thin: page.u8(6) & 0x07 == 2,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_page() {
        let mut page = [0; 64];
        page[..16].copy_from_slice(&[0, 0xb0, 0, 60, 1, 2, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5]);
        page[20..36].copy_from_slice(&[0, 0, 0, 6, 0, 0, 0, 7, 0, 0, 0, 8, 0x80, 0, 0, 9]);
        page[36..56].copy_from_slice(&[
            1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 11, 0, 0, 0, 12, 0, 0, 0, 13,
        ]);
        let limits = BlockLimits::parse(&page).unwrap();
        assert_eq!(
            limits,
            BlockLimits {
                write_same_non_zero: true,
                compare_and_write_max: 2,
                optimal_granularity: NonZeroU16::new(3),
                transfer_max: NonZeroU32::new(4),
                transfer_optimal: NonZeroU32::new(5),
                unmap_blocks_max: NonZeroU32::new(6),
                unmap_descriptors_max: NonZeroU32::new(7),
                unmap_granularity: NonZeroU32::new(8),
                unmap_alignment: Some(9),
                write_same_max: NonZeroU64::new(0x0100_0000_0000_000a),
                atomic_max: NonZeroU32::new(11),
                atomic_alignment: NonZeroU32::new(12),
                atomic_granularity: NonZeroU32::new(13),
            }
        );
        assert!(limits.can_unmap());
    }

    #[test]
    fn old_page() {
        let page = [0, 0xb0, 0, 12, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0];
        let limits = BlockLimits::parse(&page).unwrap();
        assert_eq!(limits.transfer_max, NonZeroU32::new(0x1000));
        assert!(!limits.can_unmap());
        assert_eq!(limits.unmap_alignment, None);
        // Alignment 0 is a statement, too.
        let mut page = [0; 64];
        (page[1], page[3], page[32]) = (0xb0, 60, 0x80);
        assert_eq!(BlockLimits::parse(&page).unwrap().unmap_alignment, Some(0));
    }

    #[test]
    fn rotation() {
        let rotates = |rate: u8| {
            Characteristics::parse(&[0, 0xb1, 0, 60, 0, rate])
                .unwrap()
                .is_rotational()
        };
        assert!(!rotates(1));
        assert!(rotates(0));
        assert!(
            Characteristics::parse(&[0, 0xb1, 0, 2, 0x1c, 0x20])
                .unwrap()
                .is_rotational()
        );
    }

    #[test]
    fn provisioning() {
        let all = Provisioning::parse(&[0, 0xb2, 0, 4, 0, 0xe6, 2, 0]).unwrap();
        assert!(all.unmap && all.write_same_16_unmaps && all.write_same_10_unmaps);
        assert!(all.reads_zeros && all.anchors && all.thin);
        let none = Provisioning::parse(&[0, 0xb2, 0, 4, 0, 0, 1, 0]).unwrap();
        assert_eq!(none, Provisioning::default());
        assert_eq!(
            Provisioning::parse(&[0, 0xb0, 0, 0]),
            Err(BadPage::OtherPage {
                wanted: 0xb2,
                found: 0xb0
            })
        );
    }
}
