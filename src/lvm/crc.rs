//! LVM's checksum: CRC-32 (the polynomial of Ethernet, reflected) with a seed of its own and no final inversion.

/// The register before the first byte.
pub const SEED: u32 = 0xf597_a6cf;

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = match value & 1 {
                1 => (value >> 1) ^ 0xedb8_8320,
                _ => value >> 1,
            };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

/// The checksum of these bytes.
pub fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(SEED, |register, byte| {
        TABLE[usize::from(register as u8 ^ byte)] ^ (register >> 8)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_polynomial_is_that_of_ethernet() {
        // The usual CRC-32 of "123456789" is 0xcbf43926: all ones first, inverted last.
        let usual = b"123456789".iter().fold(!0_u32, |register, byte| {
            TABLE[usize::from(register as u8 ^ byte)] ^ (register >> 8)
        });
        assert_eq!(!usual, 0xcbf4_3926);
        assert_eq!(checksum(b""), SEED);
    }
}
