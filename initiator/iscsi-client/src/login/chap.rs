//! CHAP: each side proves that it knows a secret without sending it (RFC 7143, 12.1.3; RFC 1994).
//!
//! Pure arithmetic on values: digests, the text forms of binary values, and the check of a target's proof.
//! Which message comes when is in `stages`.

use core::fmt::Write as _;
use core::hint::black_box;

use md5::Md5;
use sha1::{Digest, Sha1};
use sha2::Sha256;
use sha3::Sha3_256;

/// Most bytes that a binary value may stand for (RFC 7143, 6.1: large-binary-value up to 1024 bytes).
const BINARY_MAX: usize = 1024;

/// Bytes of our own challenge: what RFC 1994 asks for with MD5, and more than enough against guessing.
pub(crate) const CHALLENGE_LEN: usize = 16;

/// The digest of a CHAP exchange, with its number on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Algorithm {
    Md5 = 5,
    Sha1 = 6,
    Sha256 = 7,
    Sha3_256 = 8,
}

impl Algorithm {
    /// What we offer, most wanted first.
    ///
    /// The strongest comes first; no target is known to misread 8. SHA-256 comes last although it is strong: tgt
    /// takes 7 for SHA-1, and it picks whichever of 5 and 7 stands first. So 7 is chosen only by a target that
    /// has none of the others. 5 must be in every offer (12.1.3).
    pub(crate) const OFFER: &'static [Algorithm] = &[
        Algorithm::Sha3_256,
        Algorithm::Sha1,
        Algorithm::Md5,
        Algorithm::Sha256,
    ];

    /// For targets that fail when the offer holds anything but 5 (LIO before Linux 3.15).
    pub(crate) const OFFER_MD5_ONLY: &'static [Algorithm] = &[Algorithm::Md5];

    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    /// The proof: H(identifier, secret, challenge).
    pub(crate) fn response(self, identifier: u8, secret: &[u8], challenge: &[u8]) -> Vec<u8> {
        fn digest<D: Digest>(parts: [&[u8]; 3]) -> Vec<u8> {
            let mut digest = D::new();
            parts.iter().for_each(|part| digest.update(part));
            digest.finalize().to_vec()
        }
        let parts = [&[identifier], secret, challenge];
        match self {
            Algorithm::Md5 => digest::<Md5>(parts),
            Algorithm::Sha1 => digest::<Sha1>(parts),
            Algorithm::Sha256 => digest::<Sha256>(parts),
            Algorithm::Sha3_256 => digest::<Sha3_256>(parts),
        }
    }
}

/// What we asked the target to prove, and with what.
pub(crate) struct Question {
    pub(crate) algorithm: Algorithm,
    pub(crate) identifier: u8,
    pub(crate) challenge: [u8; CHALLENGE_LEN],
    /// The target's secret.
    pub(crate) secret: Vec<u8>,
    /// Our own secret, only to recognise our own proof when it is sent back to us.
    pub(crate) our_secret: Vec<u8>,
    /// The name the target must use.
    pub(crate) name: Option<String>,
}

impl Question {
    /// Judges the target's CHAP_N and CHAP_R. The error is a sentence about the target.
    pub(crate) fn judge(&self, name: &str, response: &[u8]) -> Result<(), &'static str> {
        let proof = |secret: &[u8]| {
            self.algorithm
                .response(self.identifier, secret, &self.challenge)
        };
        if self.name.as_deref().is_some_and(|wanted| wanted != name) {
            return Err("it gave another CHAP name than the configured one");
        }
        if equal(response, &proof(&self.our_secret)) {
            return Err("it sent our own proof back (reflection)");
        }
        if !equal(response, &proof(&self.secret)) {
            return Err("its CHAP response is wrong: compare the target's secret on both sides");
        }
        Ok(())
    }
}

/// Shows nothing secret.
impl core::fmt::Debug for Question {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Question")
            .field("algorithm", &self.algorithm)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Compares in a time that depends on the lengths alone.
fn equal(a: &[u8], b: &[u8]) -> bool {
    let differences = a
        .iter()
        .zip(b)
        .fold(0, |all, (a, b)| black_box(all | (a ^ b)));
    a.len() == b.len() && black_box(differences) == 0
}

/// Writes a binary value as `0x` and hexadecimal digits.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 + 2 * bytes.len());
    text.push_str("0x");
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Reads a binary value: `0x` and hexadecimal digits of any case and number, or `0b` and base64. `None` if it
/// is neither, stands for nothing or for more than 1024 bytes.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let (form, digits) = text.split_at_checked(2)?;
    let bytes = match form {
        "0x" | "0X" if digits.len() <= 2 * BINARY_MAX => hexadecimal(digits)?,
        "0b" | "0B" if digits.len() <= 4 * BINARY_MAX.div_ceil(3) => base64(digits)?,
        _ => return None,
    };
    (1..=BINARY_MAX).contains(&bytes.len()).then_some(bytes)
}

fn hexadecimal(digits: &str) -> Option<Vec<u8>> {
    // An odd number of digits lacks its leading zero.
    let mut high = (digits.len() % 2 == 1).then_some(0);
    let mut bytes = Vec::with_capacity(digits.len().div_ceil(2));
    for digit in digits.chars() {
        let low = digit.to_digit(16)? as u8;
        match high.take() {
            None => high = Some(low),
            Some(high) => bytes.push(high << 4 | low),
        }
    }
    Some(bytes)
}

fn base64(digits: &str) -> Option<Vec<u8>> {
    let body = digits.trim_end_matches('=');
    // One digit alone stands for no byte, and padding is at most two.
    if body.len() % 4 == 1 || digits.len() - body.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(body.len() * 3 / 4);
    let (mut held, mut bits) = (0u32, 0);
    for digit in body.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = (held << 6 | u32::from(value)) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Computed with another implementation: H(2a, "our secret 42", 10 11 … 1f).
    #[test]
    fn responses() {
        let challenge: [u8; 16] = core::array::from_fn(|i| 0x10 + i as u8);
        for (algorithm, response) in [
            (Algorithm::Md5, "0xc5eef47955c13d684ae69200373e0955"),
            (
                Algorithm::Sha1,
                "0xe9c8476b6a41fc13c411cc7639fb01204cbde55b",
            ),
            (
                Algorithm::Sha256,
                "0xf8513398a3566aabdff100901a34ce41c0257352bd7f194aa62cd42a53aa5f57",
            ),
            (
                Algorithm::Sha3_256,
                "0xe1a4b136b4379a240811db5225d1d247c5820ff82f23dd70dc6eb1a6dfad8926",
            ),
        ] {
            let computed = algorithm.response(0x2a, b"our secret 42", &challenge);
            assert_eq!(encode(&computed), response);
        }
    }

    #[test]
    fn every_offer_has_md5_and_tgt_meets_it_before_seven() {
        let numbers = |offer: &[Algorithm]| -> Vec<u8> {
            offer.iter().map(|algorithm| algorithm.number()).collect()
        };
        assert_eq!(numbers(Algorithm::OFFER), [8, 6, 5, 7]);
        assert_eq!(numbers(Algorithm::OFFER_MD5_ONLY), [5]);
    }

    #[test]
    fn binary_values() {
        for (text, bytes) in [
            ("0x00ff", &[0x00, 0xff][..]),
            ("0XaBc", &[0x0a, 0xbc]),
            ("0x1", &[0x01]),
            ("0bAP8=", &[0x00, 0xff]),
            ("0BAP8", &[0x00, 0xff]),
            ("0b+/+/", &[0xfb, 0xff, 0xbf]),
            ("0bQQ==", &[0x41]),
        ] {
            assert_eq!(decode(text).as_deref(), Some(bytes), "{text}");
        }
        for wrong in [
            "", "0", "0x", "0b", "00ff", "0xfg", "0x+1", "0b=", "0bA", "0bAAAAA", "0bQ===",
            "0bQ=Q=", "0bA-_A", "é1",
        ] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn binary_values_are_bounded() {
        let hex = |bytes: usize| decode(&format!("0x{}", "ab".repeat(bytes)));
        assert_eq!(hex(1024).map(|bytes| bytes.len()), Some(1024));
        assert_eq!(hex(1025), None);
        let base64 = |digits: usize| decode(&format!("0b{}", "A".repeat(digits)));
        assert_eq!(base64(1366).map(|bytes| bytes.len()), Some(1024));
        assert_eq!(base64(1367), None);
        assert_eq!(base64(1368), None);
    }

    #[test]
    fn the_target_is_judged() {
        let question = |name: Option<&str>| Question {
            algorithm: Algorithm::Md5,
            identifier: 16,
            challenge: core::array::from_fn(|i| i as u8),
            secret: b"their secret 43".to_vec(),
            our_secret: b"our secret 42".to_vec(),
            name: name.map(str::to_owned),
        };
        let right = decode("0x61366981179c85b6fa050e3e3d95ce59").unwrap();
        let reflected = decode("0x525cc2db0639d33e0cdece839af39b06").unwrap();
        assert_eq!(question(None).judge("disk", &right), Ok(()));
        assert_eq!(question(Some("disk")).judge("disk", &right), Ok(()));
        assert!(
            question(Some("disk"))
                .judge("other", &right)
                .unwrap_err()
                .contains("name")
        );
        assert!(
            question(None)
                .judge("disk", &reflected)
                .unwrap_err()
                .contains("reflection")
        );
        assert!(question(None).judge("disk", &right[..15]).is_err());
        assert!(question(None).judge("disk", &[]).is_err());
        for bit in 0..right.len() * 8 {
            let mut wrong = right.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(question(None).judge("disk", &wrong).is_err());
        }
        assert!(!format!("{:?}", question(None)).contains("secret"));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(bytes in proptest::collection::vec(any::<u8>(), 1..1024)) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }

        #[test]
        fn any_text_is_a_value_or_none(text in "(0[xXbB])?[0-9a-zA-Z+/=é]{0,60}") {
            if let Some(bytes) = decode(&text) {
                prop_assert!(!bytes.is_empty());
            }
        }
    }
}
