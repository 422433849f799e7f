//! Which interface's connected route holds an address: the main table, longest prefix, lowest metric.
//!
//! A storage portal is expected on a directly connected network, one per interface. That is a rule of the house
//! above; this module only says what the routes are. Policy routing (`ip rule`) is not looked at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::{fs, io};

/// Where packets for an address go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The interface is on the address's network.
    Direct {
        /// Its name.
        interface: String,
    },
    /// A router is in between.
    Gateway {
        /// The interface towards it.
        interface: String,
        /// The router.
        via: IpAddr,
    },
    /// No route.
    None,
}

/// Looks the address up in the running system's main routing table.
///
/// # Errors
///
/// `/proc/net` cannot be read. A system without IPv6 has no IPv6 routes, which is no error.
pub fn reach(address: IpAddr) -> io::Result<Reach> {
    match address {
        // The local table holds these, /proc/net/route does not.
        IpAddr::V4(v4) if v4.is_loopback() => Ok(Reach::Direct {
            interface: "lo".to_owned(),
        }),
        IpAddr::V4(v4) => Ok(in_routes(&fs::read_to_string("/proc/net/route")?, v4)),
        IpAddr::V6(v6) => match fs::read_to_string("/proc/net/ipv6_route") {
            Ok(table) => Ok(in_routes_v6(&table, v6)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Reach::None),
            Err(error) => Err(error),
        },
    }
}

// Flags of both tables (linux/route.h).
const UP: u32 = 0x1;
const GATEWAY: u32 = 0x2;
const REJECT: u32 = 0x200;

/// The better of the routes that match: longer prefix, then lower metric, then the one listed first.
#[derive(Default)]
struct Best {
    found: Option<(u32, u32, Reach)>,
}

impl Best {
    fn offer(&mut self, prefix: u32, metric: u32, route: impl FnOnce() -> Reach) {
        let better = match &self.found {
            None => true,
            Some((p, m, _)) => prefix > *p || (prefix == *p && metric < *m),
        };
        if better {
            self.found = Some((prefix, metric, route()));
        }
    }

    fn reach(self) -> Reach {
        self.found.map_or(Reach::None, |(_, _, reach)| reach)
    }
}

/// `/proc/net/route`: addresses are hex numbers in the machine's byte order, as they lie in memory.
fn in_routes(table: &str, address: Ipv4Addr) -> Reach {
    let wanted = u32::from_ne_bytes(address.octets());
    let mut best = Best::default();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let hex = |index: usize| {
            fields
                .get(index)
                .and_then(|f| u32::from_str_radix(f, 16).ok())
        };
        let (Some(network), Some(via), Some(flags), Some(mask)) = (hex(1), hex(2), hex(3), hex(7))
        else {
            continue;
        };
        let Some(metric) = fields.get(6).and_then(|f| f.parse::<u32>().ok()) else {
            continue;
        };
        if flags & UP == 0 || wanted & mask != network {
            continue;
        }
        best.offer(mask.count_ones(), metric, || {
            let interface = fields[0].to_owned();
            if flags & REJECT != 0 {
                Reach::None
            } else if flags & GATEWAY != 0 {
                Reach::Gateway {
                    interface,
                    via: Ipv4Addr::from(via.to_ne_bytes()).into(),
                }
            } else {
                Reach::Direct { interface }
            }
        });
    }
    best.reach()
}

/// `/proc/net/ipv6_route`: addresses are 32 hex digits in network order, the rest hex numbers.
fn in_routes_v6(table: &str, address: Ipv6Addr) -> Reach {
    let wanted = u128::from(address);
    let mut best = Best::default();
    for line in table.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let hex = |index: usize| {
            fields
                .get(index)
                .and_then(|f| u32::from_str_radix(f, 16).ok())
        };
        let long = |index: usize| {
            fields
                .get(index)
                .and_then(|f| u128::from_str_radix(f, 16).ok())
        };
        let (Some(network), Some(prefix), Some(via)) = (long(0), hex(1), long(4)) else {
            continue;
        };
        let (Some(metric), Some(flags), Some(interface)) = (hex(5), hex(8), fields.get(9)) else {
            continue;
        };
        if prefix > 128 || flags & UP == 0 {
            continue;
        }
        let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
        if wanted & mask != network {
            continue;
        }
        best.offer(prefix, metric, || {
            let interface = (*interface).to_owned();
            if flags & REJECT != 0 {
                Reach::None
            } else if flags & GATEWAY != 0 {
                Reach::Gateway {
                    interface,
                    via: Ipv6Addr::from(via).into(),
                }
            } else {
                Reach::Direct { interface }
            }
        });
    }
    best.reach()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Little endian, as x86-64 and arm64 print it.
    #[cfg(target_endian = "little")]
    const ROUTES: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0
san5\t0005140A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
san6\t0006140A\t00000000\t0001\t0\t0\t20\t00FFFFFF\t0\t0\t0
bad6\t0006140A\t00000000\t0001\t0\t0\t30\t00FFFFFF\t0\t0\t0
down\t0007140A\t00000000\t0000\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth0\t0008140A\tFE05140A\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0
*\t0009140A\t00000000\t0201\t0\t0\t0\t00FFFFFF\t0\t0\t0
short
";

    fn direct(interface: &str) -> Reach {
        Reach::Direct {
            interface: interface.to_owned(),
        }
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn the_longest_prefix_then_the_lowest_metric_wins() {
        let reach = |address: &str| in_routes(ROUTES, address.parse().unwrap());
        let gateway = |via: &str| Reach::Gateway {
            interface: "eth0".to_owned(),
            via: via.parse().unwrap(),
        };
        assert_eq!(reach("10.20.5.254"), direct("san5"));
        assert_eq!(reach("10.20.6.254"), direct("san6"));
        assert_eq!(
            reach("10.20.7.1"),
            gateway("10.0.0.1"),
            "the route that is down does not count"
        );
        assert_eq!(reach("10.20.8.1"), gateway("10.20.5.254"));
        assert_eq!(
            reach("10.20.9.1"),
            Reach::None,
            "unreachable beats the default route"
        );
        assert_eq!(
            in_routes("header\n", Ipv4Addr::new(1, 2, 3, 4)),
            Reach::None
        );
    }

    #[test]
    fn ipv6_routes_are_read_in_network_order() {
        let zero = "0".repeat(32);
        let table = format!(
            "20010db8000500000000000000000000 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001 san5\n\
             {zero} 00 {zero} 00 20010db8000500000000000000000001 00000400 1 0 00000003 eth0\n\
             fe800000000000000000000000000000 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001 san6\n"
        );
        let reach = |address: &str| in_routes_v6(&table, address.parse().unwrap());
        assert_eq!(reach("2001:db8:5::fe"), direct("san5"));
        assert_eq!(reach("fe80::1"), direct("san6"));
        let via = "2001:db8:5::1".parse().unwrap();
        assert_eq!(
            reach("2001:db8:9::1"),
            Reach::Gateway {
                interface: "eth0".to_owned(),
                via
            }
        );
    }

    #[test]
    fn loopback_is_on_lo() {
        assert_eq!(reach("127.0.0.9".parse().unwrap()).unwrap(), direct("lo"));
    }
}
