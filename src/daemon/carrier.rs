//! Carriers of the storage interfaces, as the kernel announces them (rtnetlink(7), RTM_NEWLINK).
//!
//! A lost carrier is evidence that needs no waiting; one that is back ends the wait of a reconnect. Neither is needed:
//! the kernel may hold an event back for a second, a failure behind a switch shows none at all, and silence finds both
//! sooner. Nothing here asks the kernel anything, so a missed event is only a missed hint.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use tokio::sync::mpsc;

/// linux/rtnetlink.h
const RTMGRP_LINK: u32 = 1;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
/// linux/if.h
const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 1 << 16;
/// linux/if_link.h
const IFLA_IFNAME: u16 = 3;

/// struct nlmsghdr and, behind it, struct ifinfomsg.
const HEADER: usize = 16;
const LINK: usize = 16;
/// More than any message about one interface; a longer one is cut off and not understood.
const MESSAGE_MAX: usize = 32 << 10;

/// Enough for a loop that reads.
const STACK: usize = 128 * 1024;
/// Messages that may wait for the daemon's thread; the watcher waits beyond that.
const WAITING_MAX: usize = 64;

/// Starts a thread that tells which interfaces' carriers come and go, from now on. It ends with the process, or at the
/// first event after the receiver is gone.
///
/// # Errors
/// The kernel gives no such socket, or no thread.
pub fn watch() -> io::Result<mpsc::Receiver<(String, bool)>> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    bind(&socket, &SocketAddrNetlink::new(0, RTMGRP_LINK))?;
    let (tell, news) = mpsc::channel(WAITING_MAX);
    std::thread::Builder::new()
        .name("sanblk-carrier".to_owned())
        // All memory is locked, stacks included.
        .stack_size(STACK)
        .spawn(move || read(&socket, &tell))?;
    Ok(news)
}

fn read(socket: &OwnedFd, tell: &mpsc::Sender<(String, bool)>) {
    let mut known = BTreeMap::new();
    let mut buffer = vec![0; MESSAGE_MAX];
    loop {
        let len = match recv(socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((_, len)) => len.min(MESSAGE_MAX),
            // Events were dropped, which costs hints.
            Err(Errno::NOBUFS | Errno::INTR) => continue,
            Err(_) => return,
        };
        for (interface, carrier) in links(&buffer[..len]) {
            if known.insert(interface.clone(), carrier) != Some(carrier)
                && tell.blocking_send((interface, carrier)).is_err()
            {
                return;
            }
        }
    }
}

/// Interfaces and their carriers in a datagram of the kernel's; what is cut off or strange ends it.
fn links(mut bytes: &[u8]) -> impl Iterator<Item = (String, bool)> {
    std::iter::from_fn(move || {
        loop {
            let len = word(bytes, 0)? as usize;
            let message = bytes.get(..len).filter(|message| message.len() >= HEADER)?;
            bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
            if let Some(link) = link(message) {
                return Some(link);
            }
        }
    })
}

fn link(message: &[u8]) -> Option<(String, bool)> {
    let kind = half(message, 4)?;
    if kind != RTM_NEWLINK && kind != RTM_DELLINK {
        return None;
    }
    let flags = word(message, HEADER + 8)?;
    let carrier = kind == RTM_NEWLINK && flags & IFF_UP != 0 && flags & IFF_LOWER_UP != 0;
    let mut attributes = message.get(HEADER + LINK..)?;
    loop {
        let len = usize::from(half(attributes, 0)?);
        let attribute = attributes.get(..len).filter(|_| len >= 4)?;
        if half(attribute, 2)? == IFLA_IFNAME {
            let name = attribute[4..].split(|&byte| byte == 0).next()?;
            return Some((String::from_utf8(name.to_vec()).ok()?, carrier));
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let len = 4 + value.len();
        let mut bytes = (len as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(len.next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, flags: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
        let attributes = attributes.concat();
        let len = HEADER + LINK + attributes.len();
        let mut bytes = (len as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(HEADER + 8, 0);
        bytes.extend(flags.to_ne_bytes());
        bytes.resize(HEADER + LINK, 0);
        bytes.extend(attributes);
        bytes
    }

    fn named(kind: u16, flags: u32, name: &str) -> Vec<u8> {
        let name = format!("{name}\0");
        let attributes = [attribute(13, &[6]), attribute(IFLA_IFNAME, name.as_bytes())];
        message(kind, flags, &attributes)
    }

    #[test]
    fn carriers_are_found_among_other_messages() {
        let up = IFF_UP | IFF_LOWER_UP;
        let datagram = [
            named(RTM_NEWLINK, up, "san5"),
            message(20, 0, &[]),
            named(RTM_NEWLINK, IFF_UP, "san6"),
            named(RTM_NEWLINK, IFF_LOWER_UP, "eth0.25"),
            named(RTM_DELLINK, up, "san7"),
        ]
        .concat();
        let found: Vec<_> = links(&datagram).collect();
        let expected = [
            ("san5", true),
            ("san6", false),
            ("eth0.25", false),
            ("san7", false),
        ];
        assert_eq!(found, expected.map(|(name, up)| (name.to_owned(), up)));
    }

    #[test]
    fn whatever_is_cut_off_or_strange_is_no_panic_and_no_loop() {
        let datagram = [
            named(RTM_NEWLINK, IFF_UP, "san5"),
            named(RTM_NEWLINK, IFF_UP, "san6"),
        ]
        .concat();
        for end in 0..=datagram.len() {
            assert!(links(&datagram[..end]).count() <= 2);
        }
        for at in 0..datagram.len() {
            for value in [0, 1, 3, 0xff] {
                let mut damaged = datagram.clone();
                damaged[at] = value;
                assert!(links(&damaged).count() <= 2);
            }
        }
    }
}
