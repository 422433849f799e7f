//! Portals as operators write them: `HOST`, `HOST:PORT`, `[IPv6]:PORT` (RFC 7143, 4.2.7 and 13.8).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The port that IANA gave iSCSI.
pub const DEFAULT_PORT: u16 = 3260;

/// A portal: a host name or address, and a TCP port.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Portal {
    host: String,
    port: u16,
}

/// Why a text is no portal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortalError {
    /// Nothing before the port.
    NoHost,
    /// What follows the colon is no port.
    BadPort,
    /// A bracket without its partner, or text after it.
    Brackets,
    /// Characters that no host name and no address has.
    BadHost,
}

impl Portal {
    /// The host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address, where the host is one (scoped IPv6 addresses need the resolver).
    pub fn address(&self) -> Option<SocketAddr> {
        let ip: IpAddr = self.host.parse().ok()?;
        Some(SocketAddr::new(ip, self.port))
    }

    /// Addresses of the host, in the resolver's order.
    ///
    /// # Errors
    /// The resolver's own.
    pub async fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        if let Some(address) = self.address() {
            return Ok(vec![address]);
        }
        Ok(tokio::net::lookup_host((self.host.as_str(), self.port))
            .await?
            .collect())
    }
}

impl FromStr for Portal {
    type Err = PortalError;

    fn from_str(text: &str) -> Result<Portal, PortalError> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, after) = rest.split_once(']').ok_or(PortalError::Brackets)?;
            match after {
                "" => (host, None),
                _ => (
                    host,
                    Some(after.strip_prefix(':').ok_or(PortalError::Brackets)?),
                ),
            }
        } else {
            match text.split_once(':') {
                // More than one colon and no brackets: an IPv6 address without a port.
                Some((_, rest)) if rest.contains(':') => (text, None),
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        if host.is_empty() {
            return Err(PortalError::NoHost);
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-:%".contains(c);
        if host.len() > 255 || !host.chars().all(fits) {
            return Err(PortalError::BadHost);
        }
        let colons = host.contains(':');
        let address = host.split('%').next().unwrap_or(host);
        if colons && address.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(PortalError::BadHost);
        }
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => match port.parse() {
                Ok(0) | Err(_) => return Err(PortalError::BadPort),
                Ok(port) => port,
            },
        };
        Ok(Portal {
            host: host.to_ascii_lowercase(),
            port,
        })
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

impl fmt::Display for PortalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PortalError::NoHost => "there is no host before the port",
            PortalError::BadPort => "the port must be a number from 1 to 65535",
            PortalError::Brackets => "an IPv6 address with a port is written [ADDRESS]:PORT",
            PortalError::BadHost => "this is neither an address nor a host name",
        })
    }
}

impl std::error::Error for PortalError {}

impl TryFrom<String> for Portal {
    type Error = PortalError;

    fn try_from(text: String) -> Result<Portal, PortalError> {
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
    fn forms() {
        for (text, host, port, shown) in [
            ("10.20.5.254", "10.20.5.254", 3260, "10.20.5.254"),
            ("10.20.5.254:3261", "10.20.5.254", 3261, "10.20.5.254:3261"),
            ("Array-A.example", "array-a.example", 3260, "array-a.example"),
            ("fd00::5", "fd00::5", 3260, "fd00::5"),
            ("[fd00::5]", "fd00::5", 3260, "fd00::5"),
            ("[fd00::5]:860", "fd00::5", 860, "[fd00::5]:860"),
            ("fe80::1%eth1", "fe80::1%eth1", 3260, "fe80::1%eth1"),
        ] {
            let portal: Portal = text.parse().unwrap();
            assert_eq!((portal.host(), portal.port()), (host, port), "{text}");
            assert_eq!(portal.to_string(), shown);
            assert_eq!(shown.parse::<Portal>().unwrap(), portal);
        }
    }

    #[test]
    fn refusals() {
        for (text, error) in [
            ("", PortalError::NoHost),
            (":3260", PortalError::NoHost),
            ("host:0", PortalError::BadPort),
            ("host:65536", PortalError::BadPort),
            ("host:", PortalError::BadPort),
            ("[fd00::5", PortalError::Brackets),
            ("[fd00::5]3260", PortalError::Brackets),
            ("fd00::g", PortalError::BadHost),
            ("a b", PortalError::BadHost),
        ] {
            assert_eq!(text.parse::<Portal>(), Err(error), "{text}");
        }
    }
}
