//! The checksum of leaders and dblocks: CRC-32C with a seed of its own and no final inversion.

/// What the usual CRC-32C shifts in last: all ones. Undone here.
const FINAL_INVERSION: u32 = 0xffff_ffff;

/// The register before the first byte: one bit off the usual seed of all ones.
const SEED: u32 = 0xffff_fffe;

/// The checksum of `bytes` as they lie on disk.
pub fn checksum(bytes: &[u8]) -> u32 {
    // `crc32c_append` inverts the register on the way in and on the way out.
    crc32c::crc32c_append(SEED ^ FINAL_INVERSION, bytes) ^ FINAL_INVERSION
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_the_real_program() {
        assert_eq!(checksum(b""), 0xffff_fffe);
        assert_eq!(checksum(b"123456789"), 0xe8c7_bb34);
        assert_eq!(checksum(&[0; 168]), 0x7e11_fbd1);
        assert_eq!(checksum(&[0; 48]), 0xcb5a_d842);
    }
}
