//! A LUN's limits, in bytes and blocks, as the driver wants them: shifts and 512-byte sectors.

use libublk::sys::{
    UBLK_ATTR_FUA, UBLK_ATTR_READ_ONLY, UBLK_ATTR_ROTATIONAL, UBLK_ATTR_VOLATILE_CACHE,
    UBLK_PARAM_TYPE_BASIC, UBLK_PARAM_TYPE_DISCARD, ublk_param_basic, ublk_param_discard,
    ublk_params,
};

use crate::request::SECTOR_BYTES;

/// What the block device shall look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Capacity in logical blocks.
    pub blocks: u64,
    /// 512 or 4096 (any power of two from 512 to a page).
    pub logical_block_bytes: u32,
    /// A power of two, at least the logical block.
    pub physical_block_bytes: u32,
    /// Smallest IO without penalty; 0 if the LUN does not say.
    pub io_min_bytes: u32,
    /// Preferred IO size; 0 if the LUN does not say.
    pub io_opt_bytes: u32,
    /// Largest read or write, at most the size of a tag's buffer.
    pub io_bytes_max: u32,
    /// Seeks cost time.
    pub rotational: bool,
    /// Completed writes are durable only after a flush.
    pub volatile_cache: bool,
    /// Single writes can be forced to the medium; without effect unless `volatile_cache`.
    pub fua: bool,
    /// Writes are refused by the kernel.
    pub read_only: bool,
    /// Discard, if the LUN can unmap.
    pub discard: Option<Discard>,
    /// Largest write-zeroes in bytes, if the LUN can do it without data; 0 for none.
    pub write_zeroes_bytes_max: u64,
}

/// How the LUN unmaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discard {
    /// Size of what it can unmap; 0 if it does not say.
    pub granularity_bytes: u32,
    /// Where the first such unit begins.
    pub alignment_bytes: u32,
    /// Largest single request.
    pub bytes_max: u64,
}

/// The limits cannot be given to the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// Block sizes.
    #[error("block sizes of {logical} (logical) and {physical} (physical) bytes cannot be served")]
    BlockSize {
        /// Logical.
        logical: u32,
        /// Physical.
        physical: u32,
    },
    /// No blocks, or more bytes than 64 bits hold.
    #[error("a capacity of {blocks} blocks of {logical} bytes cannot be served")]
    Capacity {
        /// Logical blocks.
        blocks: u64,
        /// Bytes of one.
        logical: u32,
    },
    /// Not even one block fits.
    #[error("requests of {bytes} bytes at most do not hold a block")]
    RequestSize {
        /// `io_bytes_max`.
        bytes: u32,
    },
}

/// Kernels before 6.11 cut longer zeroouts: their byte count is kept in 32 bits.
const RANGE_BYTES_MAX: u64 = 1 << 32;

impl Parameters {
    /// Capacity in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks * u64::from(self.logical_block_bytes)
    }

    /// The driver's parameter block.
    ///
    /// # Errors
    ///
    /// Sizes that no block device can have. Preferences of the LUN that make no sense are dropped instead.
    pub(crate) fn kernel(&self) -> Result<ublk_params, ParameterError> {
        let Self {
            logical_block_bytes: logical,
            physical_block_bytes: physical,
            blocks,
            ..
        } = *self;
        if !logical.is_power_of_two()
            || !(SECTOR_BYTES..=4096).contains(&logical)
            || !physical.is_power_of_two()
            || physical < logical
        {
            return Err(ParameterError::BlockSize { logical, physical });
        }
        let bytes = blocks
            .checked_mul(u64::from(logical))
            .filter(|bytes| *bytes > 0);
        let bytes = bytes.ok_or(ParameterError::Capacity { blocks, logical })?;
        let io_bytes_max = self.io_bytes_max / logical * logical;
        // The block layer wants a page at least.
        if io_bytes_max < 4096 {
            return Err(ParameterError::RequestSize {
                bytes: self.io_bytes_max,
            });
        }
        // The driver takes powers of two only, and has no "not said": the physical block says as little.
        let preferred = |bytes: u32| {
            let usable = bytes.is_power_of_two() && bytes >= physical;
            if usable {
                bytes.trailing_zeros()
            } else {
                physical.trailing_zeros()
            }
        };
        let mut attrs = 0;
        for (set, bit) in [
            (self.read_only, UBLK_ATTR_READ_ONLY),
            (self.rotational, UBLK_ATTR_ROTATIONAL),
            (self.volatile_cache, UBLK_ATTR_VOLATILE_CACHE),
            (self.volatile_cache && self.fua, UBLK_ATTR_FUA),
        ] {
            attrs |= if set { bit } else { 0 };
        }
        let basic = ublk_param_basic {
            attrs,
            logical_bs_shift: logical.trailing_zeros() as u8,
            physical_bs_shift: physical.trailing_zeros() as u8,
            io_opt_shift: preferred(self.io_opt_bytes) as u8,
            io_min_shift: preferred(self.io_min_bytes) as u8,
            max_sectors: io_bytes_max / SECTOR_BYTES,
            chunk_sectors: 0,
            dev_sectors: bytes / u64::from(SECTOR_BYTES),
            virt_boundary_mask: 0,
        };
        let mut params = ublk_params {
            len: size_of::<ublk_params>() as u32,
            types: UBLK_PARAM_TYPE_BASIC,
            basic,
            ..Default::default()
        };
        if self.discard.is_some() || self.write_zeroes_bytes_max > 0 {
            params.types |= UBLK_PARAM_TYPE_DISCARD;
            params.discard = self.kernel_discard();
        }
        Ok(params)
    }

    fn kernel_discard(&self) -> ublk_param_discard {
        let logical = self.logical_block_bytes;
        let sectors = |bytes: u64| {
            let capped = bytes.min(RANGE_BYTES_MAX - u64::from(logical));
            let whole = capped / u64::from(logical) * u64::from(logical);
            (whole / u64::from(SECTOR_BYTES)) as u32
        };
        let discard = self.discard.unwrap_or(Discard {
            granularity_bytes: 0,
            alignment_bytes: 0,
            bytes_max: 0,
        });
        // Zero is refused by the driver, and what is no multiple of the block is no granularity.
        let usable = discard.granularity_bytes >= logical
            && discard.granularity_bytes.is_multiple_of(logical);
        ublk_param_discard {
            discard_alignment: discard.alignment_bytes,
            discard_granularity: if usable {
                discard.granularity_bytes
            } else {
                logical
            },
            max_discard_sectors: sectors(discard.bytes_max),
            max_write_zeroes_sectors: sectors(self.write_zeroes_bytes_max),
            // More would need a list of ranges, which the driver refuses.
            max_discard_segments: 1,
            reserved0: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Parameters {
        Parameters {
            blocks: 2048,
            logical_block_bytes: 512,
            physical_block_bytes: 4096,
            io_min_bytes: 0,
            io_opt_bytes: 0,
            io_bytes_max: 1 << 20,
            rotational: false,
            volatile_cache: false,
            fua: false,
            read_only: false,
            discard: None,
            write_zeroes_bytes_max: 0,
        }
    }

    #[test]
    fn sectors_are_512_bytes_whatever_the_block() {
        let big = Parameters {
            logical_block_bytes: 4096,
            blocks: 1 << 32,
            ..plain()
        };
        let params = big.kernel().unwrap();
        assert_eq!(params.basic.dev_sectors, 1 << 35);
        assert_eq!(params.basic.logical_bs_shift, 12);
        assert_eq!(params.basic.max_sectors, 2048);
        assert_eq!(params.types, UBLK_PARAM_TYPE_BASIC);
        assert_eq!(params.len, 112);
    }

    #[test]
    fn preferences_that_make_no_sense_become_the_physical_block() {
        for (asked, shift) in [(0, 12), (512, 12), (65_536, 16), (196_608, 12)] {
            let params = Parameters {
                io_opt_bytes: asked,
                io_min_bytes: asked,
                ..plain()
            }
            .kernel();
            let basic = params.unwrap().basic;
            assert_eq!(
                (basic.io_opt_shift, basic.io_min_shift),
                (shift, shift),
                "{asked}"
            );
        }
    }

    #[test]
    fn fua_needs_a_volatile_cache() {
        let attrs = |volatile_cache, fua| {
            Parameters {
                volatile_cache,
                fua,
                ..plain()
            }
            .kernel()
            .unwrap()
            .basic
            .attrs
        };
        assert_eq!(attrs(false, true), 0);
        assert_eq!(attrs(true, false), UBLK_ATTR_VOLATILE_CACHE);
        assert_eq!(attrs(true, true), UBLK_ATTR_VOLATILE_CACHE | UBLK_ATTR_FUA);
    }

    #[test]
    fn ranges_stay_below_four_gibibytes_and_end_on_blocks() {
        let discard = Discard {
            granularity_bytes: 0,
            alignment_bytes: 0,
            bytes_max: u64::MAX,
        };
        for logical in [512, 4096] {
            let params = Parameters {
                logical_block_bytes: logical,
                discard: Some(discard),
                write_zeroes_bytes_max: 10_000,
                ..plain()
            };
            let found = params.kernel().unwrap().discard;
            assert_eq!(
                u64::from(found.max_discard_sectors) * 512,
                (1 << 32) - u64::from(logical)
            );
            assert_eq!(
                found.max_write_zeroes_sectors * 512,
                10_000 / logical * logical
            );
            assert_eq!(
                (found.discard_granularity, found.max_discard_segments),
                (logical, 1)
            );
        }
    }

    #[test]
    fn impossible_sizes_are_refused() {
        let refused = |change: fn(&mut Parameters)| {
            let mut parameters = plain();
            change(&mut parameters);
            parameters.kernel().unwrap_err()
        };
        let block_size = |error| matches!(error, ParameterError::BlockSize { .. });
        assert!(block_size(refused(|p| p.logical_block_bytes = 520)));
        assert!(block_size(refused(|p| p.logical_block_bytes = 8192)));
        assert!(block_size(refused(|p| p.physical_block_bytes = 256)));
        assert!(matches!(
            refused(|p| p.blocks = 0),
            ParameterError::Capacity { .. }
        ));
        assert!(matches!(
            refused(|p| p.blocks = u64::MAX),
            ParameterError::Capacity { .. }
        ));
        assert!(matches!(
            refused(|p| p.io_bytes_max = 2048),
            ParameterError::RequestSize { .. }
        ));
    }
}
