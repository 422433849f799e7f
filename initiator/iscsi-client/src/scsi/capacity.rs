//! READ CAPACITY(16) data (SBC-4).

use super::page::{BadPage, Page};

/// Size and geometry of a logical unit. Made by [`Capacity::parse`] only: `blocks * block_len` fits 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Number of logical blocks, at least 1.
    pub blocks: u64,
    /// Bytes of data in a logical block: a power of two from 512 to 65536.
    pub block_len: u32,
    /// A physical block holds 2 to this power logical blocks (0 to 15; 0 may mean "not stated").
    pub physical_exponent: u8,
    /// The first LBA that begins a physical block.
    pub lowest_aligned: u16,
    /// Protection type 1 to 3, if the medium is formatted with protection information (PROT_EN). Without
    /// RDPROTECT and WRPROTECT the target adds and strips it, and a block stays `block_len` bytes on the wire.
    pub protection: Option<u8>,
    /// LBPME: blocks can be unmapped.
    pub provisioned: bool,
    /// LBPRZ: unmapped blocks read as zeros.
    pub reads_zeros: bool,
}

impl Capacity {
    /// Reads the data. The first 12 bytes must be there.
    pub fn parse(data: &[u8]) -> Result<Capacity, BadPage> {
        let page = Page::of_len(data, 12)?;
        let last_lba = page.u64(0);
        let block_len = page.u32(8);
        if !block_len.is_power_of_two() || !(512..=65536).contains(&block_len) {
            return Err(BadPage::Illegal("block length"));
        }
        let blocks = last_lba
            .checked_add(1)
            .filter(|blocks| blocks.checked_mul(block_len.into()).is_some())
            .ok_or(BadPage::Illegal("last LBA"))?;
        Ok(Capacity {
            blocks,
            block_len,
            physical_exponent: page.u8(13) & 0x0f,
            lowest_aligned: page.u16(14) & 0x3fff,
            protection: page
                .bit(12, 0x01)
                .then(|| (page.u8(12) >> 1 & 0x07).saturating_add(1)),
            provisioned: page.bit(14, 0x80),
            reads_zeros: page.bit(14, 0x40),
        })
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks * u64::from(self.block_len)
    }

    /// Length of a physical block in bytes.
    pub fn physical_block_len(&self) -> u32 {
        self.block_len << self.physical_exponent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn data(last_lba: u64, block_len: u32) -> [u8; 32] {
        let mut data = [0; 32];
        data[..8].copy_from_slice(&last_lba.to_be_bytes());
        data[8..12].copy_from_slice(&block_len.to_be_bytes());
        data
    }

    #[test]
    fn fields() {
        let mut data = data(0x1_ffff_ffff, 512);
        data[12..16].copy_from_slice(&[0x03, 0xf3, 0xc0, 0x07]);
        let capacity = Capacity::parse(&data).unwrap();
        assert_eq!(
            capacity,
            Capacity {
                blocks: 0x2_0000_0000,
                block_len: 512,
                physical_exponent: 3,
                lowest_aligned: 7,
                protection: Some(2),
                provisioned: true,
                reads_zeros: true,
            }
        );
        assert_eq!(capacity.bytes(), 4 << 40);
        assert_eq!(capacity.physical_block_len(), 4096);
    }

    #[test]
    fn short_data() {
        let data = data(7, 4096);
        let capacity = Capacity::parse(&data[..12]).unwrap();
        assert_eq!((capacity.blocks, capacity.block_len), (8, 4096));
        assert_eq!(capacity.protection, None);
        assert_eq!(
            Capacity::parse(&data[..11]),
            Err(BadPage::Short {
                len: 11,
                needed: 12
            })
        );
    }

    #[test]
    fn impossible_devices() {
        for block_len in [0, 1, 256, 520, 4160, 131_072, u32::MAX] {
            assert_eq!(
                Capacity::parse(&data(7, block_len)),
                Err(BadPage::Illegal("block length"))
            );
        }
        assert_eq!(
            Capacity::parse(&data(u64::MAX, 512)),
            Err(BadPage::Illegal("last LBA"))
        );
        assert_eq!(
            Capacity::parse(&data(1 << 60, 512)),
            Err(BadPage::Illegal("last LBA"))
        );
    }

    proptest! {
        #[test]
        fn any_bytes(data in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(capacity) = Capacity::parse(&data) {
                prop_assert!(capacity.bytes() >= 512);
                prop_assert!(capacity.physical_block_len() >= capacity.block_len);
            }
        }
    }
}
