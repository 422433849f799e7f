//! Portals as operators write them: `HOST`, `HOST:PORT`, `[IPv6]:PORT`.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use iscsi_client::discovery::{self, DEFAULT_PORT, InvalidPortal};
use serde::{Deserialize, Serialize};

/// A portal: a host name or address, and a TCP port. Its portal group is the target's to say.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Portal {
    host: String,
    port: u16,
}

impl Portal {
    /// The address, where the host is one (a scoped IPv6 address needs the resolver).
    pub fn address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.host.parse().ok()?, self.port))
    }

    /// Addresses of the host, in the resolver's order; at least one.
    ///
    /// # Errors
    /// The resolver's own.
    pub async fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        if let Some(address) = self.address() {
            return Ok(vec![address]);
        }
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await?;
        let found: Vec<SocketAddr> = found.collect();
        if found.is_empty() {
            return Err(std::io::Error::other("the name has no address"));
        }
        Ok(found)
    }

    /// Whether discovery means this portal, at `address`.
    pub fn is(&self, other: &discovery::Portal, address: Option<SocketAddr>) -> bool {
        let other = Portal::from(other.clone());
        *self == other || (address.is_some() && other.address() == address)
    }
}

impl From<discovery::Portal> for Portal {
    fn from(portal: discovery::Portal) -> Portal {
        // One spelling per address, so that `FD00::5` and `fd00:0::5` are one portal.
        let host = match portal.host.parse::<std::net::IpAddr>() {
            Ok(ip) => ip.to_string(),
            Err(_) => portal.host.to_ascii_lowercase(),
        };
        Portal {
            host,
            port: portal.port,
        }
    }
}

impl FromStr for Portal {
    type Err = InvalidPortal;

    fn from_str(text: &str) -> Result<Portal, InvalidPortal> {
        let portal: discovery::Portal = text.parse()?;
        match portal.portal_group {
            Some(_) => Err(InvalidPortal::PortalGroup),
            None => Ok(portal.into()),
        }
    }
}

impl fmt::Display for Portal {
    /// The shortest text that parses to the same portal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.host.contains(':'), self.port) {
            (_, DEFAULT_PORT) => f.write_str(&self.host),
            (true, port) => write!(f, "[{}]:{port}", self.host),
            (false, port) => write!(f, "{}:{port}", self.host),
        }
    }
}

impl TryFrom<String> for Portal {
    type Error = InvalidPortal;

    fn try_from(text: String) -> Result<Portal, InvalidPortal> {
        text.parse()
    }
}

impl From<Portal> for String {
    fn from(portal: Portal) -> String {
        portal.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shown_form_is_short_and_parses_back() {
        for (text, shown) in [
            ("10.20.5.254", "10.20.5.254"),
            ("10.20.5.254:3260", "10.20.5.254"),
            ("10.20.5.254:3261", "10.20.5.254:3261"),
            ("Array-A.example", "array-a.example"),
            ("FD00:0::5", "fd00::5"),
            ("[fd00::5]:860", "[fd00::5]:860"),
            ("fe80::1%eth1", "fe80::1%eth1"),
        ] {
            let portal: Portal = text.parse().unwrap();
            assert_eq!(portal.to_string(), shown);
            assert_eq!(shown.parse::<Portal>().unwrap(), portal);
        }
    }

    #[test]
    fn refusals() {
        for text in [
            "",
            ":3260",
            "host:0",
            "host:65536",
            "host:",
            "[fd00::5",
            "a b",
            "host:3260,1",
        ] {
            assert!(text.parse::<Portal>().is_err(), "{text}");
        }
    }

    #[test]
    fn discovery_means_the_same_address() {
        let offered: discovery::Portal = "10.20.5.254:3260,1".parse().unwrap();
        let by_name: Portal = "array-a".parse().unwrap();
        assert!(!by_name.is(&offered, None));
        assert!(by_name.is(&offered, Some("10.20.5.254:3260".parse().unwrap())));
        assert!("10.20.5.254".parse::<Portal>().unwrap().is(&offered, None));
    }
}
