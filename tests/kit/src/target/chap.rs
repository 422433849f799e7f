//! The target's half of CHAP (RFC 7143, 12.1.3; RFC 1994).

use sha2::Digest as _;

use super::config::Chap;
use crate::prng::Prng;

type Pairs = Vec<(String, String)>;

/// Where the exchange is.
#[derive(Clone, Debug)]
pub(super) enum Exchange {
    /// AuthMethod=CHAP was answered; CHAP_A is due.
    Algorithm,
    /// The challenge was sent.
    Response {
        algorithm: u8,
        id: u8,
        challenge: Vec<u8>,
    },
    /// The initiator has proved itself.
    Done,
}

/// Why it failed: login status 0201 in all cases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Refused;

impl Exchange {
    /// Takes the keys of a request and yields the next state and the keys of the answer.
    pub(super) fn step(
        self,
        chap: &Chap,
        keys: &Pairs,
        prng: &mut Prng,
    ) -> Result<(Exchange, Pairs), Refused> {
        let value = |name: &str| {
            keys.iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.as_str())
        };
        match self {
            Exchange::Algorithm => {
                let Some(offer) = value("CHAP_A") else {
                    return Ok((Exchange::Algorithm, Vec::new()));
                };
                let offer: Vec<u8> = offer
                    .split(',')
                    .filter_map(|number| number.parse().ok())
                    .collect();
                if chap.md5_alone && offer != [5] {
                    return Err(Refused);
                }
                let algorithm = *offer
                    .iter()
                    .find(|number| chap.algorithms.contains(number))
                    .ok_or(Refused)?;
                let id = prng.next() as u8;
                let challenge = prng.bytes(16);
                let answer = vec![
                    ("CHAP_A".into(), algorithm.to_string()),
                    ("CHAP_I".into(), id.to_string()),
                    ("CHAP_C".into(), hex(&challenge)),
                ];
                let next = Exchange::Response {
                    algorithm,
                    id,
                    challenge,
                };
                Ok((next, answer))
            }
            Exchange::Response {
                algorithm,
                id,
                challenge,
            } => {
                let response = value("CHAP_R").and_then(binary).ok_or(Refused)?;
                let proof = hash(algorithm, id, &chap.secret, &challenge).ok_or(Refused)?;
                if value("CHAP_N") != Some(&chap.name) || response != proof {
                    return Err(Refused);
                }
                let mut answer = Vec::new();
                match (value("CHAP_I"), value("CHAP_C"), &chap.mutual) {
                    (Some(id), Some(theirs), Some((name, secret))) => {
                        let id = id.parse().map_err(|_| Refused)?;
                        let theirs = binary(theirs).ok_or(Refused)?;
                        if theirs == challenge {
                            return Err(Refused);
                        }
                        let proof = hash(algorithm, id, secret, &theirs).ok_or(Refused)?;
                        answer.push(("CHAP_N".into(), name.clone()));
                        answer.push(("CHAP_R".into(), hex(&proof)));
                    }
                    (None, None, _) => {}
                    // Asked to prove itself without knowing how.
                    _ => return Err(Refused),
                }
                Ok((Exchange::Done, answer))
            }
            Exchange::Done => Err(Refused),
        }
    }
}

fn hash(algorithm: u8, id: u8, secret: &[u8], challenge: &[u8]) -> Option<Vec<u8>> {
    let input = [&[id], secret, challenge].concat();
    Some(match algorithm {
        5 => md5::Md5::digest(input).to_vec(),
        6 => sha1::Sha1::digest(input).to_vec(),
        7 => sha2::Sha256::digest(input).to_vec(),
        8 => {
            use sha3::Digest as _;
            sha3::Sha3_256::digest(input).to_vec()
        }
        _ => return None,
    })
}

fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}")
}

/// Only hex: the initiator under test sends nothing else.
fn binary(text: &str) -> Option<Vec<u8>> {
    let digits = text
        .strip_prefix("0x")
        .or_else(|| text.strip_prefix("0X"))?;
    if !digits.is_ascii() || digits.len() % 2 != 0 {
        return None;
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_hashes() {
        // Every algorithm's own test vector: the text "abc".
        let md5 = hash(5, b'a', b"b", b"c").expect("known");
        assert_eq!(hex(&md5), "0x900150983cd24fb0d6963f7d28e17f72");
        let sha1 = hash(6, b'a', b"b", b"c").expect("known");
        assert_eq!(hex(&sha1), "0xa9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(hash(7, b'a', b"b", b"c").map(|hash| hash[0]), Some(0xba));
        assert_eq!(hash(8, b'a', b"b", b"c").map(|hash| hash[0]), Some(0x3a));
        assert_eq!(hash(9, 0, b"", b""), None);
    }
}
