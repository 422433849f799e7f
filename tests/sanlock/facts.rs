//! An answer, read from a stream as what was asked tells, and shown without what differs from run to run.
//!
//! What is hidden has a name here, and is hidden on both sides of a comparison. All other bytes are shown, padding too.

use std::io::Read;
use std::ops::Range;

use sanblk::sanlock::wire::header::{HEADER_LEN, Header};
use sanblk::sanlock::wire::request::Request;
use sanblk::sanlock::wire::structs::{Callback, Host, Lockspace, Rentry, Resource, State};

/// Version of the daemon: `data2` of the answer to VERSION.
const VERSION: Range<usize> = 28..32;
/// Seconds of somebody's clock: `timestamp` of a host.
const TIMESTAMP: Range<usize> = 16..24;
/// The I/O timeout of a host, in seconds: hosts of the tests have another.
const IO_TIMEOUT: Range<usize> = 24..28;
/// Whether a host lives. That it renews may not have been seen yet: one is taken for the other.
const STATE: usize = 28;
const UNKNOWN: u8 = 1;
const LIVE: u8 = 3;
/// How long the text of a state is.
const STATE_LENGTH: Range<usize> = 72..76;
/// Seconds of somebody's clock: `data64` of a host and of a renewal.
const STATE_TIMESTAMP: Range<usize> = 16..24;
/// Process of a client: `data32` of its state and of what it holds.
const STATE_PID: Range<usize> = 8..12;
/// Name of the daemon's host.
const STATE_NAME: Range<usize> = 24..72;
/// What the daemon shows of an open disk: sector size and descriptor.
const OPEN_DISK: usize = 8;

/// Values in the texts of states that differ.
const KEYS: &[&str] = &[
    "ci",
    "fd",
    "pid",
    "last_check",
    "last_live",
    "timestamp",
    "acquire_last_attempt",
    "acquire_last_success",
    "renewal_last_attempt",
    "renewal_last_success",
    "read_ms",
    "write_ms",
    "owner_name",
    "space_id",
    "res_id",
    "token_id",
];

/// Bytes as the recordings have them.
fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        let same = |wanted: fn(&u8) -> bool| rest.iter().take_while(|b| wanted(b)).count();
        let (zeros, ascii) = (same(|b| *b == 0), same(|b| (b'!'..=b'~').contains(b)));
        let taken = match (zeros, ascii) {
            (3.., _) => {
                text.push_str(&format!(" *{zeros}"));
                zeros
            }
            (_, 2..) => {
                text.push_str(&format!(" {:?}", String::from_utf8_lossy(&rest[..ascii])));
                ascii
            }
            _ => {
                text.push_str(&format!(" {first:02x}"));
                1
            }
        };
        rest = &rest[taken..];
    }
    text
}

fn take(stream: &mut impl Read, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).expect("as much as was due");
    bytes
}

struct Facts<'a, R> {
    stream: &'a mut R,
    lines: Vec<String>,
}

impl<R: Read> Facts<'_, R> {
    fn show(&mut self, what: &str, length: usize, hidden: &[Range<usize>]) -> Vec<u8> {
        let bytes = take(self.stream, length);
        self.line(what, &bytes, hidden);
        bytes
    }

    fn line(&mut self, what: &str, bytes: &[u8], hidden: &[Range<usize>]) {
        let mut seen = bytes.to_vec();
        for range in hidden {
            seen[range.clone()].fill(0);
        }
        self.lines.push(format!("{what}{}", shown(&seen)));
    }

    fn hosts(&mut self, count: i32) {
        for _ in 0..count {
            let mut bytes = take(self.stream, Host::LEN);
            if bytes[STATE] == UNKNOWN {
                bytes[STATE] = LIVE;
            }
            self.line("host", &bytes, &[TIMESTAMP, IO_TIMEOUT]);
        }
    }

    /// States until the stream ends, clients in the order of their names: the numbers of connections differ.
    fn states(&mut self) {
        let mut head = vec![0; State::LEN];
        while self.stream.read(&mut head[..1]).expect("a byte or the end") == 1 {
            self.stream
                .read_exact(&mut head[1..])
                .expect("a whole state");
            let word = |at: usize| u32::from_ne_bytes(*head[at..].first_chunk().expect("a word"));
            let (kind, length) = (word(0), word(72));
            let text = take(self.stream, length as usize);
            let text = String::from_utf8(text).expect("UTF-8");
            match kind {
                // What the daemons say of themselves differs with their versions.
                1 => self.line("daemon", &head, &[STATE_LENGTH, STATE_NAME]),
                2 => {
                    self.line("client", &head, &[STATE_LENGTH, STATE_PID]);
                    self.text(&text);
                }
                3 => {
                    self.line("lockspace", &head, &[STATE_LENGTH]);
                    self.text(&text);
                    self.show("lockspace", Lockspace::LEN - OPEN_DISK, &[]);
                    take(self.stream, OPEN_DISK);
                }
                4 => {
                    self.line("resource", &head, &[STATE_LENGTH, STATE_PID]);
                    self.text(&text);
                    self.show("resource", Resource::LEN, &[]);
                    self.show("disk", 1032, &[]);
                    take(self.stream, OPEN_DISK);
                }
                5 => {
                    self.line("host", &head, &[STATE_LENGTH, STATE_TIMESTAMP]);
                    self.text(&text);
                }
                // How many renewals there were depends on the time.
                6 => {}
                other => self.lines.push(format!("state {other}")),
            }
        }
    }

    fn text(&mut self, text: &str) {
        let pairs = text.trim_end_matches('\0').split(' ').map(|pair| {
            let (key, value) = pair.split_once('=').expect("key=value");
            match KEYS.contains(&key) {
                true => format!("{key}=*"),
                false => format!("{key}={value}"),
            }
        });
        // What 3.9 added to what was recorded of 3.8.
        let pairs = pairs.filter(|pair| pair != "ci=*");
        let line = pairs.collect::<Vec<_>>().join(" ");
        self.lines.push(line);
    }
}

/// The answer to this request, as lines to compare. Some requests have none.
pub fn answer(request: &Request, stream: &mut impl Read) -> Vec<String> {
    if matches!(request, Request::Register | Request::Shutdown { .. }) {
        return vec![];
    }
    let mut facts = Facts {
        stream,
        lines: vec![],
    };
    let hidden: &[_] = match request {
        Request::Version => &[VERSION],
        _ => &[],
    };
    let bytes = facts.show("header", HEADER_LEN, hidden);
    let bytes = bytes.first_chunk().expect("a header");
    let header = Header::parse(bytes).expect("the magic");
    let (done, count) = (header.data >= 0, header.data2);
    match request {
        Request::GetLockspaces => {
            for _ in 0..count {
                facts.show("lockspace", Lockspace::LEN, &[]);
            }
        }
        Request::GetHosts { .. } if done => facts.hosts(count),
        Request::ReadLockspace(_) => {
            facts.show("lockspace", Lockspace::LEN, &[]);
        }
        Request::ReadResource(_) => {
            facts.show("resource", Resource::LEN, &[]);
        }
        Request::ReadResourceOwners(_) => {
            facts.show("resource", Resource::LEN, &[]);
            facts.hosts(count);
        }
        Request::Inquire { .. } | Request::GetLvb { .. } => {
            facts.show("bytes", header.body_length() as usize, &[]);
        }
        Request::UpdateRindex { .. }
        | Request::LookupRindex { .. }
        | Request::CreateResource { .. }
        | Request::DeleteResource { .. } => {
            facts.show("entry", Rentry::LEN, &[]);
        }
        Request::Status(_) | Request::HostStatus(_) | Request::Renewal(_) if done => facts.states(),
        _ => {}
    }
    facts.lines
}

/// A message on an event connection.
pub fn callback(stream: &mut impl Read) -> Vec<String> {
    let mut facts = Facts {
        stream,
        lines: vec![],
    };
    facts.show("callback", Callback::LEN, &[]);
    facts.lines
}
