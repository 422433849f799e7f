//! What a portal offers: SendTargets (RFC 7143, appendix C), and how portals are written.

use core::fmt;
use core::str::FromStr;
use std::collections::HashMap;
use std::net::Ipv6Addr;

use crate::login::keys::number;
use crate::login::text::split;
use crate::login::{InvalidName, check_target_name};
use crate::wire::Tpgt;

/// The port of iSCSI where none is said.
pub const DEFAULT_PORT: u16 = 3260;

/// Longest host that is accepted, in bytes: the longest name of the DNS.
const HOST_MAX: usize = 255;

/// The text of a request for all targets of a portal.
pub const SEND_ALL_TARGETS: &[u8] = b"SendTargets=All\0";

/// Most targets of one answer.
pub const TARGETS_MAX: usize = 4096;

/// Most portals of one target.
pub const PORTALS_MAX: usize = 256;

/// Most skipped pairs that are kept for display, and the longest excerpt of one, in characters.
const SKIPPED_MAX: usize = 64;
const EXCERPT_MAX: usize = 80;

/// What a portal answered to SendTargets. Nothing says that all of its portals can be reached: targets also list
/// link-local and internal addresses.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Discovery {
    /// The targets in the order of the answer, each once.
    pub targets: Vec<TargetRecord>,
    /// Pairs that were left out; the first 64 of them.
    pub skipped: Vec<Skipped>,
}

/// One target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetRecord {
    /// Its iSCSI name, byte for byte as sent.
    pub name: String,
    /// Its portals, each once. Empty means: the address that was asked. See [`TargetRecord::portals_from`].
    pub portals: Vec<Portal>,
}

/// A pair that was left out of a discovery, with the reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Skipped {
    /// The beginning of the pair, without control characters.
    pub excerpt: String,
    /// Why.
    pub why: Oddity,
}

/// Why a pair was left out of a discovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Oddity {
    /// A TargetName that is no iSCSI name. Its addresses are left out too.
    Name(InvalidName),
    /// A TargetAddress that is no portal.
    Address(InvalidPortal),
    /// A TargetAddress that belongs to no TargetName.
    AddressWithoutTarget,
    /// A key that SendTargets does not have.
    Key,
}

/// Why an answer cannot be used at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InvalidDiscovery {
    /// It is not a text of keys and values; the rule that it breaks.
    Text(&'static str),
    /// More than [`TARGETS_MAX`] targets.
    TooManyTargets,
    /// A target with more than [`PORTALS_MAX`] portals.
    TooManyPortals,
}

impl Discovery {
    /// Reads the complete text of an answer, continuations joined.
    pub fn parse(text: &[u8]) -> Result<Discovery, InvalidDiscovery> {
        let mut discovery = Discovery::default();
        // Where each name is. The same target may come in several records, for example one per portal group.
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut current = None;
        for pair in split(text).map_err(InvalidDiscovery::Text)? {
            let (key, value) = pair.map_err(InvalidDiscovery::Text)?;
            let oddity = match key {
                "TargetName" => match check_target_name(value) {
                    Ok(()) => {
                        let place = *places.entry(value).or_insert(discovery.targets.len());
                        if place == discovery.targets.len() {
                            discovery.add_target(value)?;
                        }
                        current = Some(place);
                        continue;
                    }
                    Err(invalid) => {
                        current = None;
                        Oddity::Name(invalid)
                    }
                },
                "TargetAddress" => match (current, value.parse()) {
                    (Some(place), Ok(portal)) => {
                        discovery.targets[place].add_portal(portal)?;
                        continue;
                    }
                    (None, Ok(_)) => Oddity::AddressWithoutTarget,
                    (_, Err(invalid)) => Oddity::Address(invalid),
                },
                // Sent by some targets; says nothing about where they are.
                "TargetAlias" => continue,
                _ => Oddity::Key,
            };
            discovery.skip(key, value, oddity);
        }
        Ok(discovery)
    }

    fn add_target(&mut self, name: &str) -> Result<(), InvalidDiscovery> {
        if self.targets.len() == TARGETS_MAX {
            return Err(InvalidDiscovery::TooManyTargets);
        }
        self.targets.push(TargetRecord {
            name: name.to_owned(),
            portals: Vec::new(),
        });
        Ok(())
    }

    fn skip(&mut self, key: &str, value: &str, why: Oddity) {
        if self.skipped.len() < SKIPPED_MAX {
            let pair = key.chars().chain(['=']).chain(value.chars());
            self.skipped.push(Skipped {
                excerpt: pair.filter(|c| !c.is_control()).take(EXCERPT_MAX).collect(),
                why,
            });
        }
    }
}

impl TargetRecord {
    /// The portals of the target, given the one that was asked.
    pub fn portals_from<'a>(&'a self, asked: &'a Portal) -> &'a [Portal] {
        match self.portals.is_empty() {
            true => core::slice::from_ref(asked),
            false => &self.portals,
        }
    }

    fn add_portal(&mut self, portal: Portal) -> Result<(), InvalidDiscovery> {
        if self.portals.contains(&portal) {
            return Ok(());
        }
        if self.portals.len() == PORTALS_MAX {
            return Err(InvalidDiscovery::TooManyPortals);
        }
        self.portals.push(portal);
        Ok(())
    }
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Oddity::Name(invalid) => invalid.fmt(f),
            Oddity::Address(invalid) => invalid.fmt(f),
            Oddity::AddressWithoutTarget => f.write_str("an address that belongs to no target"),
            Oddity::Key => f.write_str("a key that SendTargets does not have"),
        }
    }
}

impl fmt::Display for InvalidDiscovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidDiscovery::Text(rule) => write!(f, "the list of targets is broken: {rule}"),
            InvalidDiscovery::TooManyTargets => {
                write!(f, "the portal lists more than {TARGETS_MAX} targets")
            }
            InvalidDiscovery::TooManyPortals => {
                write!(f, "a target lists more than {PORTALS_MAX} portals")
            }
        }
    }
}

impl std::error::Error for InvalidDiscovery {}

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn portal(host: &str, port: u16, group: Option<u16>) -> Portal {
        Portal {
            host: host.to_owned(),
            port,
            portal_group: group.map(Tpgt),
        }
    }

    #[test]
    fn portals_as_operators_and_targets_write_them() {
        for (text, host, port, group) in [
            ("10.20.5.254", "10.20.5.254", 3260, None),
            ("10.20.5.254:860", "10.20.5.254", 860, None),
            ("[fd00::1]:3261", "fd00::1", 3261, None),
            ("[fd00::1]", "fd00::1", 3260, None),
            ("fd00::1", "fd00::1", 3260, None),
            ("[fe80::1%eth0]:3260,2", "fe80::1%eth0", 3260, Some(2)),
            ("san.example.org", "san.example.org", 3260, None),
            ("san.example.org:3261,0", "san.example.org", 3261, Some(0)),
            ("10.20.5.254,65535", "10.20.5.254", 3260, Some(65535)),
            ("fd00::1,1", "fd00::1", 3260, Some(1)),
        ] {
            assert_eq!(text.parse(), Ok(portal(host, port, group)), "{text}");
        }
    }

    #[test]
    fn texts_that_are_no_portals() {
        for (text, why) in [
            ("", InvalidPortal::Host),
            (":3260", InvalidPortal::Host),
            ("a b", InvalidPortal::Host),
            ("a/b", InvalidPortal::Host),
            ("[fd00::1", InvalidPortal::Ipv6),
            ("[10.20.5.254]:3260", InvalidPortal::Ipv6),
            ("[fe80::1%]:3260", InvalidPortal::Ipv6),
            ("[fd00::1]3260", InvalidPortal::Port),
            ("host:", InvalidPortal::Port),
            ("host:0", InvalidPortal::Port),
            ("host:+1", InvalidPortal::Port),
            ("host:65536", InvalidPortal::Port),
            ("fd00::1:g", InvalidPortal::Port),
            ("host,", InvalidPortal::PortalGroup),
            ("host,65536", InvalidPortal::PortalGroup),
        ] {
            assert_eq!(text.parse::<Portal>(), Err(why), "{text}");
        }
    }

    #[test]
    fn a_portal_is_written_as_it_is_read() {
        for text in ["10.20.5.254:3260", "[fd00::1]:3260", "san.example.org:860"] {
            assert_eq!(text.parse::<Portal>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn targets_with_and_without_addresses() {
        let text = b"TargetName=iqn.2026-01.org.example:a\0\
            TargetAddress=10.20.5.254:3260,1\0\
            TargetAddress=10.20.6.254:3260,1\0\
            TargetAddress=[fe80::1]:3260,1\0\
            TargetName=iqn.2026-01.org.example:b\0\
            TargetName=iqn.2026-01.org.example:a\0\
            TargetAddress=10.20.5.254:3260,1\0\
            TargetAddress=10.20.5.254:3260,2\0";
        let discovery = Discovery::parse(text).unwrap();
        assert_eq!(
            discovery.targets,
            [
                TargetRecord {
                    name: "iqn.2026-01.org.example:a".to_owned(),
                    portals: vec![
                        portal("10.20.5.254", 3260, Some(1)),
                        portal("10.20.6.254", 3260, Some(1)),
                        portal("fe80::1", 3260, Some(1)),
                        portal("10.20.5.254", 3260, Some(2)),
                    ],
                },
                TargetRecord {
                    name: "iqn.2026-01.org.example:b".to_owned(),
                    portals: vec![],
                },
            ]
        );
        assert_eq!(discovery.skipped, []);
        let asked = portal("10.20.5.254", 3260, None);
        assert_eq!(
            discovery.targets[1].portals_from(&asked),
            core::slice::from_ref(&asked)
        );
        assert_eq!(discovery.targets[0].portals_from(&asked).len(), 4);
        assert!(discovery.targets[0].portals[0].is_same_address(&asked));
    }

    #[test]
    fn odd_pairs_are_left_out_with_their_reason() {
        let text = b"TargetAddress=10.20.5.254\0\
            TargetName=disk 1\0\
            TargetAddress=10.20.5.254\0\
            TargetName=iqn.2026-01.org.example:a\0\
            TargetAddress=10.20.5.254:port\0\
            TargetAddress=10.20.6.254\0\
            X-com.example.color=\x1b[31m\0";
        let discovery = Discovery::parse(text).unwrap();
        assert_eq!(discovery.targets.len(), 1);
        assert_eq!(
            discovery.targets[0].portals,
            [portal("10.20.6.254", 3260, None)]
        );
        let skipped: Vec<_> = discovery
            .skipped
            .iter()
            .map(|skipped| (skipped.excerpt.as_str(), skipped.why))
            .collect();
        assert_eq!(
            skipped,
            [
                ("TargetAddress=10.20.5.254", Oddity::AddressWithoutTarget),
                ("TargetName=disk 1", Oddity::Name(InvalidName::Type)),
                ("TargetAddress=10.20.5.254", Oddity::AddressWithoutTarget),
                (
                    "TargetAddress=10.20.5.254:port",
                    Oddity::Address(InvalidPortal::Port)
                ),
                ("X-com.example.color=[31m", Oddity::Key),
            ]
        );
    }

    #[test]
    fn answers_are_bounded() {
        let targets = |count| -> Vec<u8> {
            (0..count)
                .flat_map(|i| format!("TargetName=iqn.2026-01.org.example:{i}\0").into_bytes())
                .collect()
        };
        let portals = |count| -> Vec<u8> {
            let addresses = (0..count).map(|i| format!("TargetAddress=host{i}\0"));
            ["TargetName=iqn.2026-01.org.example:a\0".to_owned()]
                .into_iter()
                .chain(addresses)
                .flat_map(String::into_bytes)
                .collect()
        };
        assert!(Discovery::parse(&targets(TARGETS_MAX)).is_ok());
        assert_eq!(
            Discovery::parse(&targets(TARGETS_MAX + 1)),
            Err(InvalidDiscovery::TooManyTargets)
        );
        assert!(Discovery::parse(&portals(PORTALS_MAX)).is_ok());
        assert_eq!(
            Discovery::parse(&portals(PORTALS_MAX + 1)),
            Err(InvalidDiscovery::TooManyPortals)
        );
        let odd = b"X-odd=1\0".repeat(1000);
        assert_eq!(Discovery::parse(&odd).unwrap().skipped.len(), SKIPPED_MAX);
        assert_eq!(Discovery::parse(b""), Ok(Discovery::default()));
        assert!(matches!(
            Discovery::parse(b"TargetName"),
            Err(InvalidDiscovery::Text(_))
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_an_error(text in proptest::collection::vec(any::<u8>(), 0..500)) {
            let _ = Discovery::parse(&text);
        }

        #[test]
        fn any_text_is_a_portal_or_an_error(text in "[\\[\\]:%,a-f0-9.é-]{0,40}") {
            if let Ok(portal) = text.parse::<Portal>() {
                // What was read is written in a form that reads as the same address.
                let again: Portal = portal.to_string().parse().unwrap();
                prop_assert!(again.is_same_address(&portal));
            }
        }
    }
}
