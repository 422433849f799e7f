//! What a portal offers: SendTargets (RFC 7143, appendix C), and how portals are written.

use core::fmt;
use core::str::FromStr;
use std::net::Ipv6Addr;

use crate::login::keys::number;
use crate::wire::Tpgt;

/// The port of iSCSI where none is said.
pub const DEFAULT_PORT: u16 = 3260;

/// Longest host that is accepted, in bytes: the longest name of the DNS.
const HOST_MAX: usize = 255;

/// A place to connect to, written `10.20.5.254`, `10.20.5.254:3260`, `[fd00::1]:3260`, `fd00::1` or
/// `san.example.org`; a target's TargetAddress may add `,` and its portal group.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Portal {
    /// Address or name, without brackets.
    pub host: String,
    /// TCP port, not 0.
    pub port: u16,
    /// The portal group, where a target said it. A portal that an operator wrote has none.
    pub portal_group: Option<Tpgt>,
}

impl Portal {
    /// Whether both are the same host and port, whatever is known of their groups. Host names are compared as
    /// written, nothing is resolved.
    pub fn is_same_address(&self, other: &Portal) -> bool {
        self.host.eq_ignore_ascii_case(&other.host) && self.port == other.port
    }
}

/// Why a text is no portal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InvalidPortal {
    /// The host is empty, longer than 255 bytes, or has characters that no host has.
    Host,
    /// Brackets that do not hold an IPv6 address.
    Ipv6,
    /// The port is not a number from 1 to 65535.
    Port,
    /// The portal group is not a number from 0 to 65535.
    PortalGroup,
}

impl FromStr for Portal {
    type Err = InvalidPortal;

    fn from_str(text: &str) -> Result<Self, InvalidPortal> {
        let (text, portal_group) = match text.split_once(',') {
            Some((text, tag)) => (text, Some(parse_portal_group(tag)?)),
            None => (text, None),
        };
        let (host, port) = if let Some(bracketed) = text.strip_prefix('[') {
            let (host, rest) = bracketed.split_once(']').ok_or(InvalidPortal::Ipv6)?;
            let port = match rest {
                "" => None,
                rest => Some(rest.strip_prefix(':').ok_or(InvalidPortal::Port)?),
            };
            (ipv6(host).ok_or(InvalidPortal::Ipv6)?, port)
        } else if let Some(host) = ipv6(text) {
            // Without brackets every colon belongs to the address.
            (host, None)
        } else {
            match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        // The zone of a link-local address (`fe80::1%eth0`) may hold what interface names hold.
        let legal = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
        if !(1..=HOST_MAX).contains(&host.len()) || !host.chars().all(legal) {
            return Err(InvalidPortal::Host);
        }
        Ok(Portal {
            host: host.to_owned(),
            port: port.map_or(Ok(DEFAULT_PORT), parse_port)?,
            portal_group,
        })
    }
}

impl fmt::Display for Portal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for InvalidPortal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InvalidPortal::Host => "not a host: write an address or a name, such as 10.20.5.254",
            InvalidPortal::Ipv6 => "not an IPv6 address in brackets, such as [fd00::1]:3260",
            InvalidPortal::Port => "the port is not a number from 1 to 65535",
            InvalidPortal::PortalGroup => "the portal group is not a number from 0 to 65535",
        })
    }
}

impl std::error::Error for InvalidPortal {}

/// The text itself if it is an IPv6 address, with or without a zone.
fn ipv6(text: &str) -> Option<&str> {
    let address = match text.split_once('%') {
        Some((address, zone)) if !zone.is_empty() => address,
        Some(_) => return None,
        None => text,
    };
    address.parse::<Ipv6Addr>().is_ok().then_some(text)
}

fn parse_portal_group(text: &str) -> Result<Tpgt, InvalidPortal> {
    number(text)
        .and_then(|tag| u16::try_from(tag).ok())
        .map(Tpgt)
        .ok_or(InvalidPortal::PortalGroup)
}

fn parse_port(text: &str) -> Result<u16, InvalidPortal> {
    match text.parse() {
        Ok(port) if port != 0 && !text.starts_with('+') => Ok(port),
        _ => Err(InvalidPortal::Port),
    }
}
