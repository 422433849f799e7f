//! Answers: the header echoed with a result, and the structs that follow it.
//!
//! Not every `length` is the truth: the log follows a header that says 32, and states come until the connection ends.

use lockmgr::ondisk::Name;

use super::header::{Command, HEADER_LEN, Header};
use super::result::Refusal;
use super::structs::{Host, Lockspace, Rentry, Resource};

/// The version that we say to be: sanlock 3.9.5, as `0xMMmmpp00`.
///
/// Of the versions whose commands we offer and whose on-disk format we write, the latest: libraries and lvmlockd look
/// at this number before they use a later command. 5 would promise COMPARE AND WRITE.
pub const VERSION_NUMBER: u32 = 0x0309_0500;

/// What was done: a number where the command has one, else 0.
pub type Outcome = Result<u32, Refusal>;

/// Bytes to send as the answer to one request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply(Vec<u8>);

impl Reply {
    fn new(header: Header) -> Reply {
        Reply(header.emit().to_vec())
    }

    /// A header with structs behind it, which it counts.
    fn with_body<const N: usize>(
        mut header: Header,
        structs: impl IntoIterator<Item = [u8; N]>,
    ) -> Reply {
        let mut bytes = vec![0; HEADER_LEN];
        for each in structs {
            bytes.extend(each);
        }
        // Lists of hosts are the longest: 2000 of 32 bytes.
        header.length = bytes.len() as u32;
        bytes[..HEADER_LEN].copy_from_slice(&header.emit());
        Reply(bytes)
    }

    /// More structs, which the header counts.
    fn and(mut self, more: &[u8]) -> Reply {
        let mut header = self
            .0
            .first_chunk()
            .map(Header::parse)
            .and_then(Result::ok)
            .expect("a reply begins with its header");
        self.0.extend(more);
        header.length = self.0.len() as u32;
        self.0[..HEADER_LEN].copy_from_slice(&header.emit());
        self
    }

    /// A header alone, as most commands are answered. STATUS and HOST_STATUS go on with
    /// [states](super::structs::State).
    pub fn result(request: &Header, outcome: Outcome) -> Reply {
        Reply::new(request.answered(outcome))
    }

    /// To VERSION.
    pub fn version(request: &Header) -> Reply {
        Reply::new(Header {
            flags: 0,
            seq: 0,
            data2: VERSION_NUMBER.cast_signed(),
            ..request.answered(Ok(0))
        })
    }

    /// To SET_CONFIG, which alone echoes `data2`.
    pub fn config(request: &Header, outcome: Outcome) -> Reply {
        Reply::new(Header {
            data2: request.data2,
            ..request.answered(outcome)
        })
    }

    /// To RENEWAL: states follow. Seconds.
    pub fn renewal(request: &Header, io_timeout: u32) -> Reply {
        Reply::new(with_data2(request.answered(Ok(0)), io_timeout))
    }

    /// To GET_LOCKSPACES.
    pub fn lockspaces(request: &Header, lockspaces: &[Lockspace]) -> Reply {
        let header = with_data2(request.answered(Ok(0)), lockspaces.len() as u32);
        Reply::with_body(header, lockspaces.iter().map(Lockspace::emit))
    }

    /// To GET_HOSTS.
    pub fn hosts(request: &Header, hosts: &[Host]) -> Reply {
        let header = with_data2(request.answered(Ok(0)), hosts.len() as u32);
        Reply::with_body(header, hosts.iter().map(Host::emit))
    }

    /// To READ_LOCKSPACE: what there is, or on failure what was asked for. Seconds.
    pub fn lockspace(
        request: &Header,
        outcome: Outcome,
        io_timeout: u32,
        lockspace: &Lockspace,
    ) -> Reply {
        let header = with_data2(request.answered(outcome), io_timeout);
        Reply::with_body(header, [lockspace.emit()])
    }

    /// To READ_LOCKSPACE_HOST: the same, and what the slot says.
    pub fn lockspace_host(
        request: &Header,
        outcome: Outcome,
        io_timeout: u32,
        lockspace: &Lockspace,
        host: &Host,
    ) -> Reply {
        Reply::lockspace(request, outcome, io_timeout, lockspace).and(&host.emit())
    }

    /// To READ_RESOURCE: what there is, or on failure what was asked for.
    pub fn resource(request: &Header, outcome: Outcome, resource: &Resource) -> Reply {
        Reply::with_body(request.answered(outcome), [resource.emit()])
    }

    /// To READ_RESOURCE_OWNERS, where reading it did not fail; then [`resource`](Reply::resource).
    pub fn owners(request: &Header, resource: &Resource, owners: &[Host]) -> Reply {
        let header = with_data2(request.answered(Ok(0)), owners.len() as u32);
        let structs: Vec<u8> = owners.iter().flat_map(Host::emit).collect();
        Reply::with_body(header, [resource.emit()]).and(&structs)
    }

    /// To ACQUIRE2: on conflict with the host that owns it and its name, else with zeros. Echoes `data2`.
    pub fn acquired2(request: &Header, outcome: Outcome, owner: &Host, name: Name) -> Reply {
        let header = Header {
            data2: request.data2,
            ..request.answered(outcome)
        };
        Reply::with_body(header, [owner.emit()]).and(&name.to_disk())
    }

    /// To INQUIRE: the [resource strings](super::text::resource) of what is held.
    pub fn inquired(request: &Header, held: &[Vec<u8>]) -> Reply {
        let header = with_data2(request.answered(Ok(0)), held.len() as u32);
        match held {
            [] => Reply::new(header),
            _ => {
                let mut text = held.join(&b' ');
                text.push(0);
                Reply::new(header).and(&text)
            }
        }
    }

    /// To GET_LVB.
    pub fn lvb(request: &Header, lvb: &[u8]) -> Reply {
        Reply::new(request.answered(Ok(0))).and(lvb)
    }

    /// To the commands on index entries: [`Rentry::NONE`] where there is no entry to tell.
    pub fn entry(request: &Header, outcome: Outcome, entry: &Rentry) -> Reply {
        Reply::with_body(request.answered(outcome), [entry.emit()])
    }

    /// To LOG_DUMP: the header does not count the text.
    pub fn log(request: &Header, text: &[u8]) -> Reply {
        let mut reply = Reply::new(request.answered(Ok(text.len() as u32)));
        reply.0.extend(text);
        reply
    }

    /// To SHUTDOWN_WAIT, when the daemon ends: a header that names no command.
    pub fn ended() -> Reply {
        Reply::new(Header {
            command: 0,
            ..Header::request(Command::ShutdownWait)
        })
    }

    /// The bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Counts and seconds are small: far below the sign.
fn with_data2(header: Header, number: u32) -> Header {
    Header {
        data2: number.cast_signed(),
        ..header
    }
}
