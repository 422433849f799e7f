//! iSCSI names: `iqn.`, `eui.` and `naa.` (RFC 7143, 4.2.7).

use core::fmt;
use core::fmt::Write as _;

/// Longest iSCSI name in bytes.
pub const NAME_LEN_MAX: usize = 223;

/// Why a text is no iSCSI name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InvalidName {
    /// Empty or longer than 223 bytes.
    Length,
    /// It begins with none of `iqn.`, `eui.`, `naa.`, or has nothing after it.
    Type,
    /// `iqn.` without `yyyy-mm.` and a domain.
    Date,
    /// `eui.` without 16 hexadecimal digits, `naa.` without 16 or 32.
    Digits,
    /// A blank, a control character or another one that names do not have.
    Character(char),
    /// Capital letters. Some targets compare names byte by byte, others fold them; lower case works with both.
    UpperCase,
}

/// Checks a name that this host is to have. Strict: it will be typed into access lists.
pub fn check_initiator_name(name: &str) -> Result<(), InvalidName> {
    check_target_name(name)?;
    let (kind, rest) = name.split_at(4);
    match kind {
        "iqn." => {
            let (date, domain) = rest.split_at_checked(8).ok_or(InvalidName::Date)?;
            let pattern = |(at, byte): (usize, u8)| match at {
                4 => byte == b'-',
                7 => byte == b'.',
                _ => byte.is_ascii_digit(),
            };
            if !date.bytes().enumerate().all(pattern) || domain.is_empty() {
                return Err(InvalidName::Date);
            }
        }
        "eui." if rest.len() == 16 => {}
        "naa." if rest.len() == 16 || rest.len() == 32 => {}
        _ => return Err(InvalidName::Digits),
    }
    if kind != "iqn." && !rest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(InvalidName::Digits);
    }
    if name.contains(char::is_uppercase) {
        return Err(InvalidName::UpperCase);
    }
    Ok(())
}

/// Checks a target's name. Lenient where real targets are odd (capitals, underscores, any iqn date): such names
/// must be sent exactly as the target gave them.
pub fn check_target_name(name: &str) -> Result<(), InvalidName> {
    if !(1..=NAME_LEN_MAX).contains(&name.len()) {
        return Err(InvalidName::Length);
    }
    let typed = ["iqn.", "eui.", "naa."]
        .iter()
        .any(|kind| name.len() > kind.len() && name.starts_with(kind));
    if !typed {
        return Err(InvalidName::Type);
    }
    // The ASCII that RFC 3722 prohibits, less the underscore; and whatever would disturb a terminal or a text.
    let illegal = |c: char| {
        c.is_control() || c.is_whitespace() || (c.is_ascii_punctuation() && !"-.:_".contains(c))
    };
    match name.chars().find(|c| illegal(*c)) {
        Some(c) => Err(InvalidName::Character(c)),
        None => Ok(()),
    }
}

/// A new name for a host that has none, made of six fresh random bytes.
///
/// The naming authority is the domain for examples, which belongs to nobody; uniqueness rests on the random part
/// alone.
pub fn generate_initiator_name(random: [u8; 6]) -> String {
    let mut name = String::from("iqn.2026-01.org.example.sanblk:");
    for byte in random {
        // Writing to a String cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidName::Length => write!(f, "an iSCSI name has 1 to {NAME_LEN_MAX} bytes"),
            InvalidName::Type => {
                f.write_str("an iSCSI name begins with iqn., eui. or naa. and goes on after it")
            }
            InvalidName::Date => {
                f.write_str("after iqn. come a year, a month and a domain: iqn.2026-01.org.example")
            }
            InvalidName::Digits => f.write_str(
                "after eui. come 16 hexadecimal digits, after naa. 16 or 32, and nothing else",
            ),
            InvalidName::Character(c) => write!(f, "an iSCSI name has no {c:?}"),
            InvalidName::UpperCase => f.write_str("an iSCSI name has no capital letters"),
        }
    }
}

impl std::error::Error for InvalidName {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        use InvalidName::*;
        let long = format!("iqn.2026-01.org.example:{}", "x".repeat(200));
        for (name, as_ours, as_targets) in [
            ("iqn.2026-01.org.example:host", Ok(()), Ok(())),
            ("iqn.1993-08.org.debian:01:8a3f", Ok(()), Ok(())),
            ("eui.02004567a425678d", Ok(()), Ok(())),
            ("naa.52004567ba64678d", Ok(()), Ok(())),
            ("naa.62004567ba64678d0123456789abcdef", Ok(()), Ok(())),
            ("eui.02004567A425678D", Err(UpperCase), Ok(())),
            (
                "iqn.2000-01.com.synology:NAS.Target-1",
                Err(UpperCase),
                Ok(()),
            ),
            ("iqn.2026.org.example", Err(Date), Ok(())),
            ("iqn.2026-01.", Err(Date), Ok(())),
            ("iqn.x", Err(Date), Ok(())),
            ("iqn.äöüß-xyz", Err(Date), Ok(())),
            ("eui.0200", Err(Digits), Ok(())),
            ("naa.zz004567ba64678d", Err(Digits), Ok(())),
            ("iqn.", Err(Type), Err(Type)),
            ("disk0", Err(Type), Err(Type)),
            ("é", Err(Type), Err(Type)),
            ("", Err(Length), Err(Length)),
            (&long, Err(Length), Err(Length)),
            (
                "iqn.2026-01.org example",
                Err(Character(' ')),
                Err(Character(' ')),
            ),
            ("iqn.2026-01.a,b", Err(Character(',')), Err(Character(','))),
            (
                "iqn.2026-01.a\x1bb",
                Err(Character('\x1b')),
                Err(Character('\x1b')),
            ),
        ] {
            assert_eq!(check_initiator_name(name), as_ours, "{name}");
            assert_eq!(check_target_name(name), as_targets, "{name}");
        }
    }

    #[test]
    fn a_generated_name_is_a_name() {
        let name = generate_initiator_name([0, 1, 0xab, 0xcd, 0xef, 0xff]);
        assert_eq!(name, "iqn.2026-01.org.example.sanblk:0001abcdefff");
        assert_eq!(check_initiator_name(&name), Ok(()));
    }
}
