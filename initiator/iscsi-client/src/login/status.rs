//! What a failed login means and what to do about it: one sentence per status and per failure
//! (RFC 7143, 11.13.5).

use core::fmt;

use super::{LoginFailure, LoginParameters, SessionType};
use crate::wire::LoginStatus;

/// Whether another attempt with the same parameters can succeed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Retry {
    /// It can, soon: try again with the usual back-off. After a redirect: at the new place.
    Backoff,
    /// It can, after somebody or something changed at the target: try again, but seldom.
    Slowly,
    /// It cannot until the operator changes something.
    Never,
}

impl LoginStatus {
    const fn code(self) -> u16 {
        (self.class as u16) << 8 | self.detail as u16
    }

    /// Whether another attempt can succeed.
    pub fn retry(self) -> Retry {
        match self.code() {
            // 0203 and 020a are what a target says that has restarted and has not restored everything.
            0x0203 | 0x0206 | 0x020a => Retry::Slowly,
            0x0300..=0x03ff | 0x0000 => Retry::Backoff,
            _ => Retry::Never,
        }
    }
}

impl fmt::Display for LoginStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.code() {
            0x0000 => "success",
            0x0101 => "the target has moved for now: log in where it says",
            0x0102 => "the target has moved for good: put its new address into the configuration",
            0x0200 => {
                "the target found fault with our login without saying what: \
                 look at its log and compare the negotiated settings"
            }
            0x0201 => {
                "authentication failed: \
                 compare the CHAP name and secret here with those at the target"
            }
            0x0202 => "not authorised: add the InitiatorName of this host to the target's ACL",
            0x0203 => {
                "no such target at this portal: check the target's name; \
                 right after a restart of the target it may still appear"
            }
            0x0204 => "the target was removed and will not come back under this name",
            0x0205 => "the target speaks no iSCSI version that we speak (0)",
            0x0206 => {
                "too many connections: \
                 raise the target's limit of sessions or connections, or close others"
            }
            0x0207 => "the target misses a parameter in our login: please report this as a bug",
            0x0208 => {
                "the target cannot add this connection to a session: please report this as a bug"
            }
            0x0209 => {
                "the target does not offer this type of session here: \
                 if discovery is switched off, name the target"
            }
            0x020a => "the target does not know the session: it may have restarted, log in anew",
            0x020b => {
                "the target found a request invalid during login: please report this as a bug"
            }
            0x0300 => "the target has an internal error: look at its log",
            0x0301 => {
                "the target is not in service now: \
                 enable the target portal group, or wait until it is up"
            }
            0x0302 => "the target is out of resources: close other sessions or raise its limits",
            _ => {
                return write!(
                    f,
                    "{} (status 0x{:04x}, which the standard does not name)",
                    match self.class {
                        1 => "the target sends us elsewhere in a way that we do not know",
                        2 => "the target puts the fault on our side: look at its log",
                        3 => "the target has an error of its own: look at its log",
                        _ => "the target refused the login: look at its log",
                    },
                    self.code()
                );
            }
        })?;
        write!(f, " (status 0x{:04x})", self.code())
    }
}

impl LoginFailure {
    /// Whether another attempt with the same parameters can succeed.
    pub fn retry(&self) -> Retry {
        match self {
            LoginFailure::Redirected { .. } => Retry::Backoff,
            LoginFailure::Refused(status) => status.retry(),
            // The peer may be half started, or another server at the same address.
            LoginFailure::Protocol(_) => Retry::Slowly,
            LoginFailure::CredentialsNeeded
            | LoginFailure::TargetNotAuthenticated(_)
            | LoginFailure::BadNegotiation(_) => Retry::Never,
        }
    }

    /// The same failure in a sentence that also gives the names and offers involved.
    pub fn explain<'a>(&'a self, parameters: &'a LoginParameters) -> impl fmt::Display + 'a {
        Explanation {
            failure: self,
            parameters,
        }
    }
}

impl fmt::Display for LoginFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoginFailure::Redirected {
                portal,
                permanent: false,
            } => write!(f, "the target asks us to log in at {portal} this time"),
            LoginFailure::Redirected {
                portal,
                permanent: true,
            } => write!(
                f,
                "the target has moved to {portal}: put that portal into the configuration"
            ),
            LoginFailure::Refused(status) => status.fmt(f),
            LoginFailure::CredentialsNeeded => {
                f.write_str("the target demands CHAP: configure a CHAP name and secret")
            }
            LoginFailure::TargetNotAuthenticated(why) => write!(
                f,
                "the target did not prove who it is, and mutual CHAP is configured: {why}"
            ),
            LoginFailure::BadNegotiation("AuthMethod") => f.write_str(
                "the target does not accept the AuthMethod we offered: \
                 configure the same authentication on both sides",
            ),
            LoginFailure::BadNegotiation(key) => write!(
                f,
                "the target answered {key} with a value that we did not offer: \
                 change that setting on one side"
            ),
            LoginFailure::Protocol(rule) => write!(
                f,
                "the target broke the protocol during login ({rule}): \
                 check that the portal is an iSCSI target, and report this if it is"
            ),
        }
    }
}

impl std::error::Error for LoginFailure {}

struct Explanation<'a> {
    failure: &'a LoginFailure,
    parameters: &'a LoginParameters,
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let initiator = &self.parameters.initiator_name;
        let target = match &self.parameters.session_type {
            SessionType::Normal { target_name } => target_name,
            SessionType::Discovery => "discovery",
        };
        let LoginFailure::Refused(status) = self.failure else {
            return write!(f, "{} (login to {target})", self.failure);
        };
        match status.code() {
            0x0200 => write!(f, "{status} (we offered {:?})", self.parameters.offer),
            0x0201 => match &self.parameters.credentials {
                Some(credentials) => {
                    write!(f, "{status} (our CHAP name is {:?})", credentials.name)
                }
                None => status.fmt(f),
            },
            0x0202 => write!(
                f,
                "{target} does not admit this host: add {initiator} to the target's ACL \
                 (status 0x0202)"
            ),
            0x0203 | 0x0204 => write!(f, "{target}: {status}"),
            _ => write!(f, "{status} (login of {initiator} to {target})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_sentence_of_its_own() {
        let named = [
            0x0101, 0x0102, 0x0200, 0x0201, 0x0202, 0x0203, 0x0204, 0x0205, 0x0206, 0x0207, 0x0208,
            0x0209, 0x020a, 0x020b, 0x0300, 0x0301, 0x0302,
        ];
        let mut sentences: Vec<String> = Vec::new();
        for code in named {
            let [class, detail] = u16::to_be_bytes(code);
            let sentence = LoginStatus { class, detail }.to_string();
            assert!(sentence.ends_with(&format!("(status 0x{code:04x})")));
            let words = sentence.split(" (status").next().unwrap().to_owned();
            assert!(!sentences.contains(&words), "{words}");
            sentences.push(words);
        }
        for class in 0..=255 {
            for detail in 0..=255 {
                let code = u16::from_be_bytes([class, detail]);
                if code != 0 && !named.contains(&code) {
                    let sentence = LoginStatus { class, detail }.to_string();
                    assert!(sentence.contains("does not name"), "{sentence}");
                }
            }
        }
    }

    #[test]
    fn what_to_try_again() {
        let retry = |code: u16| {
            let [class, detail] = code.to_be_bytes();
            LoginFailure::Refused(LoginStatus { class, detail }).retry()
        };
        assert_eq!(retry(0x0201), Retry::Never);
        assert_eq!(retry(0x0202), Retry::Never);
        assert_eq!(retry(0x0203), Retry::Slowly);
        assert_eq!(retry(0x0301), Retry::Backoff);
        assert_eq!(LoginFailure::CredentialsNeeded.retry(), Retry::Never);
    }
}
