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
