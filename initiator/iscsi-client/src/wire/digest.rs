//! Header and data digests: CRC32C, least significant byte first (RFC 7143, 11.2.3 and 13.1).

/// Length of a digest in bytes.
pub const DIGEST_LEN: usize = 4;

/// The digest of `bytes` followed by `padding` zero bytes (at most three), in wire order.
pub fn digest(bytes: &[u8], padding: usize) -> [u8; DIGEST_LEN] {
    Digest::default().update(bytes).finish(padding)
}

/// A digest over several pieces.
#[derive(Clone, Copy, Debug, Default)]
pub struct Digest(u32);

impl Digest {
    /// Adds bytes.
    #[must_use]
    pub fn update(self, bytes: &[u8]) -> Self {
        Digest(crc32c::crc32c_append(self.0, bytes))
    }

    /// The digest in wire order, after `padding` zero bytes (at most three).
    #[must_use]
    pub fn finish(self, padding: usize) -> [u8; DIGEST_LEN] {
        self.update(&[0; 3][..padding]).0.to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn vectors_of_the_rfc() {
        assert_eq!(digest(&[0; 32], 0), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(digest(&[0xff; 32], 0), [0x43, 0xab, 0xa8, 0x62]);
        let up: Vec<u8> = (0..32).collect();
        let down: Vec<u8> = (0..32).rev().collect();
        assert_eq!(digest(&up, 0), [0x4e, 0x79, 0xdd, 0x46]);
        assert_eq!(digest(&down, 0), [0x5c, 0xdb, 0x3f, 0x11]);
        let read10 = hex(
            "01c0000000000000000000000000000014000000000004000000001400000018\
             28000000000000000200000000000000",
        );
        assert_eq!(read10.len(), 48);
        assert_eq!(digest(&read10, 0), [0x56, 0x3a, 0x96, 0xd9]);
    }

    #[test]
    fn padding_counts_as_zeros() {
        assert_eq!(digest(b"sanblk!", 1), digest(b"sanblk!\0", 0));
        assert_eq!(digest(b"", 0), [0; 4]);
    }
}
