//! What makes CHAP credentials acceptable before any target sees them (RFC 7143, 9.2.1).

use core::fmt;

use super::{Credentials, MutualCredentials};

/// Shortest secret in bytes: the 96 bits that the standard asks for where IPsec is not used.
pub const SECRET_LEN_MIN: usize = 12;

/// Longest name or secret in bytes that a text value can carry.
pub const SECRET_LEN_MAX: usize = 255;

/// Why credentials are not accepted. The texts name no secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InvalidCredentials {
    /// A CHAP name is empty or longer than 255 bytes, or has control characters.
    Name(Whose),
    /// A secret is shorter than 12 bytes.
    SecretTooShort(Whose),
    /// A secret is longer than 255 bytes.
    SecretTooLong(Whose),
    /// Both directions have the same secret.
    SameSecret,
}

/// Whose half of the credentials.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    /// With which we prove who we are.
    Ours,
    /// With which the target proves who it is.
    Targets,
}

impl Credentials {
    /// Checks the credentials. To be called when they are configured; a login does not check them again.
    pub fn validate(&self) -> Result<(), InvalidCredentials> {
        check_name(&self.name, Whose::Ours)?;
        check_secret(&self.secret, Whose::Ours)?;
        if let Some(MutualCredentials { name, secret }) = &self.mutual {
            if let Some(name) = name {
                check_name(name, Whose::Targets)?;
            }
            check_secret(secret, Whose::Targets)?;
            if *secret == self.secret {
                return Err(InvalidCredentials::SameSecret);
            }
        }
        Ok(())
    }
}

fn check_name(name: &str, whose: Whose) -> Result<(), InvalidCredentials> {
    match (1..=SECRET_LEN_MAX).contains(&name.len()) && !name.contains(char::is_control) {
        true => Ok(()),
        false => Err(InvalidCredentials::Name(whose)),
    }
}

fn check_secret(secret: &[u8], whose: Whose) -> Result<(), InvalidCredentials> {
    match secret.len() {
        ..SECRET_LEN_MIN => Err(InvalidCredentials::SecretTooShort(whose)),
        SECRET_LEN_MIN..=SECRET_LEN_MAX => Ok(()),
        _ => Err(InvalidCredentials::SecretTooLong(whose)),
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Whose::Ours => "our",
            Whose::Targets => "the target's",
        })
    }
}

impl fmt::Display for InvalidCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidCredentials::Name(whose) => write!(
                f,
                "{whose} CHAP name must have 1 to {SECRET_LEN_MAX} bytes and no control characters"
            ),
            InvalidCredentials::SecretTooShort(whose) => write!(
                f,
                "{whose} CHAP secret must have at least {SECRET_LEN_MIN} bytes: \
                 a shorter one can be guessed from a recorded login"
            ),
            InvalidCredentials::SecretTooLong(whose) => write!(
                f,
                "{whose} CHAP secret must have at most {SECRET_LEN_MAX} bytes"
            ),
            InvalidCredentials::SameSecret => f.write_str(
                "both directions of CHAP have the same secret: \
                 an impostor could then answer with our own proof, so give the target another one",
            ),
        }
    }
}

impl std::error::Error for InvalidCredentials {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_checked() {
        let credentials = |name: &str, secret: &[u8], theirs: Option<&[u8]>| Credentials {
            name: name.to_owned(),
            secret: secret.to_vec(),
            mutual: theirs.map(|secret| MutualCredentials {
                name: None,
                secret: secret.to_vec(),
            }),
            md5_only: false,
        };
        let check = |name, secret, theirs| credentials(name, secret, theirs).validate();
        let long = [b'x'; 256];
        use InvalidCredentials::*;
        assert_eq!(check("host", b"twelve bytes", None), Ok(()));
        assert_eq!(
            check("host", b"twelve bytes", Some(b"other twelve bytes")),
            Ok(())
        );
        assert_eq!(check("", b"twelve bytes", None), Err(Name(Whose::Ours)));
        assert_eq!(check("a\0b", b"twelve bytes", None), Err(Name(Whose::Ours)));
        assert_eq!(
            check("host", b"eleven byte", None),
            Err(SecretTooShort(Whose::Ours))
        );
        assert_eq!(check("host", &long, None), Err(SecretTooLong(Whose::Ours)));
        assert_eq!(
            check("host", b"twelve bytes", Some(b"short")),
            Err(SecretTooShort(Whose::Targets))
        );
        assert_eq!(
            check("host", b"twelve bytes", Some(b"twelve bytes")),
            Err(SameSecret)
        );
        let shown = format!("{:?}", credentials("host", b"twelve bytes", None));
        assert!(
            shown.contains("host") && !shown.contains("secret"),
            "{shown}"
        );
    }
}
