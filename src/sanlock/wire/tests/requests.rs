//! What clients were recorded to send is read, whatever the cut, and written again from the fields.

use super::super::header::{Command, HEADER_LEN, Header};
use super::super::reader::{Progress, RequestReader, Silence};
use super::super::request::{MAX_LVB, Release, Request};
use super::super::result::Refusal;
use super::super::structs::{Callback, Disk, Options, Resource};
use super::encode::encode;
use super::trace::{From, Trace};

/// Reads everything in pieces of `piece` bytes.
fn read(mut bytes: &[u8], piece: usize) -> (Vec<Progress>, usize) {
    let mut reader = RequestReader::new();
    let mut seen = vec![];
    let mut missing = HEADER_LEN;
    while !bytes.is_empty() {
        let (mut now, later) = bytes.split_at(piece.min(bytes.len()));
        bytes = later;
        loop {
            match reader.read(&mut now) {
                Progress::Need(n) => {
                    assert!(now.is_empty(), "it takes all before it needs more");
                    missing = n;
                    break;
                }
                progress => seen.push(progress),
            }
        }
    }
    (seen, missing)
}

fn requests(bytes: &[u8]) -> Vec<(Header, Request)> {
    let (seen, _) = read(bytes, bytes.len());
    seen.into_iter()
        .map(|progress| match progress {
            Progress::Request { header, request } => (header, request),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn what_was_recorded_is_read_and_written_again() {
    let mut commands = std::collections::BTreeSet::new();
    for trace in Trace::all() {
        for connection in trace.connections() {
            let said: Vec<u8> = trace
                .packets()
                .filter(|p| p.connection == connection && p.from == From::Client)
                .flat_map(|packet| packet.bytes.clone())
                .collect();
            let whole = requests(&said);
            let mut again = vec![];
            for (header, request) in &whole {
                commands.insert(header.command);
                again.extend(encode(header, request));
            }
            // The last four bytes on an event connection are no request.
            if let Some((_, Request::RegEvent(_))) = whole.last() {
                again.extend(Callback::GOODBYE.to_ne_bytes());
            }
            assert_eq!(again, said, "{} connection {connection}", trace.name);
            for piece in [1, 7, 31, 33, 1000] {
                let (pieces, _) = read(&said, piece);
                let pieces: Vec<_> = pieces
                    .into_iter()
                    .filter_map(|progress| match progress {
                        Progress::Request { header, request } => Some((header, request)),
                        _ => None,
                    })
                    .collect();
                assert_eq!(pieces, whole, "{} by {piece} bytes", trace.name);
            }
        }
    }
    let missing: Vec<_> = Command::ALL
        .iter()
        .filter(|&&command| !commands.contains(&(command as u32)))
        .collect();
    assert_eq!(missing, [&Command::ExamineResource], "not recorded");
}

#[test]
fn a_reader_never_wants_a_byte_of_the_next_request() {
    for trace in Trace::all() {
        for connection in trace.connections() {
            let said: Vec<u8> = trace
                .packets()
                .filter(|p| p.connection == connection && p.from == From::Client)
                .flat_map(|packet| packet.bytes.clone())
                .collect();
            let mut reader = RequestReader::new();
            let (mut at, mut need, mut ends) = (0, HEADER_LEN, vec![]);
            while at + need <= said.len() {
                let mut exactly = &said[at..at + need];
                at += need;
                match reader.read(&mut exactly) {
                    Progress::Need(n) => need = n,
                    Progress::Request { .. } => {
                        ends.push(at);
                        need = HEADER_LEN;
                    }
                    other => panic!("{other:?}"),
                }
                assert!(exactly.is_empty());
            }
            let goodbye = said.len() - ends.last().copied().unwrap_or(0);
            assert!(goodbye == 0 || goodbye == 4, "{}", trace.name);
        }
    }
}

/// A request of these parts, as a client would send it.
fn message(command: Command, flags: u32, data: i32, body: &[u8]) -> Vec<u8> {
    let header = Header {
        flags,
        data,
        data2: -1,
        length: (HEADER_LEN + body.len()) as u32,
        ..Header::request(command)
    };
    [&header.emit()[..], body].concat()
}

fn resource(num_disks: u32) -> Vec<u8> {
    let mut bytes = vec![0; Resource::LEN];
    bytes[124..].copy_from_slice(&num_disks.to_ne_bytes());
    bytes.resize(Resource::LEN + num_disks.min(9) as usize * Disk::LEN, 0);
    bytes
}

fn only_refusal(bytes: &[u8]) -> Refusal {
    // A second request behind it: what was left of the first must not be taken for it.
    let both = [bytes, &message(Command::Version, 0, 0, &[])].concat();
    for piece in [1, 100, both.len()] {
        let (seen, _) = read(&both, piece);
        let [
            Progress::Refused { refusal, .. },
            Progress::Request {
                request: Request::Version,
                ..
            },
        ] = seen[..]
        else {
            panic!("{seen:?}");
        };
        if piece == both.len() {
            return refusal;
        }
    }
    unreachable!("the last piece is all of it")
}

#[test]
fn requests_that_cannot_be_taken_apart_are_refused_and_drained() {
    use Command as C;
    let disks = |n| [resource(n), vec![0; Options::LEN]].concat();
    let table: &[(&str, Vec<u8>, Refusal)] = &[
        (
            "no disk",
            message(C::Acquire, 0, 1, &disks(0)),
            Refusal::Range,
        ),
        ("five", message(C::Acquire, 0, 1, &disks(5)), Refusal::Range),
        (
            "many",
            message(C::Acquire, 0, 1, &disks(u32::MAX)),
            Refusal::Range,
        ),
        (
            "nine resources",
            message(C::Acquire, 0, 9, &[0; 5000]),
            Refusal::TooBig,
        ),
        (
            "two of them",
            message(C::Acquire2, 0, 2, &disks(1)),
            Refusal::Invalid,
        ),
        (
            "no place",
            message(C::WriteResource, 0, 0, &resource(0)),
            Refusal::Range,
        ),
        (
            "one renamed",
            message(C::Release, 2, 1, &[0; Resource::LEN]),
            Refusal::Invalid,
        ),
        (
            "two orphans",
            message(C::Release, 4, 2, &[0; 2 * Resource::LEN]),
            Refusal::Invalid,
        ),
        (
            "a crowd",
            message(C::Release, 0, i32::MAX, &[]),
            Refusal::TooBig,
        ),
        (
            "no resource",
            message(C::SetLvb, 0, 0, &[0; 127]),
            Refusal::Invalid,
        ),
        (
            "a long block",
            message(C::SetLvb, 0, 0, &[0; Resource::LEN + MAX_LVB + 1]),
            Refusal::TooBig,
        ),
    ];
    for (what, bytes, refusal) in table {
        assert_eq!(only_refusal(bytes), *refusal, "{what}");
    }
}

#[test]
fn four_disks_and_eight_resources_are_read() {
    let body = [resource(4).repeat(8), vec![0; Options::LEN]].concat();
    let bytes = message(Command::Acquire, 0, 8, &body);
    let [(_, Request::Acquire { resources, .. })] = &requests(&bytes)[..] else {
        panic!("one acquisition");
    };
    assert_eq!(resources.len(), 8);
    assert!(resources.iter().all(|placed| placed.disks.len() == 4));
}

#[test]
fn a_release_says_nothing_of_disks() {
    // What lvm2 2.03.31 sends at vgremove: no disks, and a name where there should be a lockspace.
    let trace = Trace::load("lvmlockd-2.03.31/session-512-sanlock-3.9.5-vgremove-bug");
    let renames = trace.packets().filter(|p| {
        p.from == From::Client && p.bytes.get(8..16) == Some(&[8, 0, 0, 0, 2, 0, 0, 0])
    });
    let connection = renames.map(|p| p.connection).next().expect("a rename");
    let said: Vec<u8> = trace
        .packets()
        .filter(|p| p.connection == connection && p.from == From::Client)
        .flat_map(|packet| packet.bytes.clone())
        .collect();
    let renamed = requests(&said)
        .into_iter()
        .find_map(|(_, request)| match request {
            Request::Release {
                what: Release::Rename { held, .. },
                ..
            } => Some(held),
            _ => None,
        });
    let held = renamed.expect("a rename");
    assert!(held.lockspace.is_empty() && held.name.is_empty());
    assert_eq!(held.num_disks, 0);
}

#[test]
fn nothing_is_said_to_what_is_no_request() {
    let junk = [0xa5; HEADER_LEN];
    let unknown = Header {
        command: 45,
        ..Header::request(Command::Version)
    };
    let later = Header {
        version: 0x0001_0000,
        ..Header::request(Command::Inquire)
    };
    let who = Header {
        version: 0x0001_0000,
        ..Header::request(Command::Version)
    };
    let said = [junk, unknown.emit(), later.emit(), who.emit()].concat();
    let (seen, _) = read(&said, 1);
    let silence = |why| Progress::Silent(why);
    assert_eq!(
        seen,
        [
            silence(Silence::BadMagic { found: 0xa5a5_a5a5 }),
            silence(Silence::UnknownCommand { number: 45 }),
            silence(Silence::GreaterMajor {
                version: 0x0001_0000
            }),
            Progress::Request {
                header: who,
                request: Request::Version
            },
        ]
    );
}

#[test]
fn draining_ends_with_the_stated_length_or_with_silence() {
    let mut stated = message(Command::Acquire, 0, 9, &[]);
    stated[16..20].copy_from_slice(&5000_u32.to_ne_bytes());
    let mut reader = RequestReader::new();
    let mut input = &stated[..];
    assert!(matches!(reader.read(&mut input), Progress::Refused { .. }));
    assert!(reader.is_draining());
    assert_eq!(
        reader.read(&mut &[0; 100][..]),
        Progress::Need(5000 - 32 - 100)
    );
    reader.stop_draining();
    let version = message(Command::Version, 0, 0, &[]);
    assert!(matches!(
        reader.read(&mut &version[..]),
        Progress::Request {
            request: Request::Version,
            ..
        }
    ));
}
