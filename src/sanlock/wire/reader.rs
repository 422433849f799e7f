//! Bytes of one connection to requests, however they are cut.
//!
//! Memory is bounded by the longest request, 35 KiB. Nothing that a client sends is an error of this connection: the
//! real daemon answers what it can, says nothing to the rest and reads on, and so do we.

use super::header::{BadMagic, Command, HEADER_LEN, Header, PROTOCOL};
use super::request::{LONGEST_BODY, Request, known_length};
use super::result::Refusal;

/// Why nothing is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Silence {
    /// No message begins here: another magic. The next 32 bytes are tried.
    BadMagic {
        /// The word found in its place.
        found: u32,
    },
    /// A number that no command has. Its body, if it has one, is taken for headers.
    UnknownCommand {
        /// The number.
        number: u32,
    },
    /// A protocol of later times. Its body is taken for headers.
    GreaterMajor {
        /// The protocol version.
        version: u32,
    },
}

/// What became of the bytes so far.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one at a time, and most are requests"
)]
pub enum Progress {
    /// All are taken, and so many more are wanted next: at least 1, at most 64 KiB. Not more belong to this request.
    Need(usize),
    /// A request is complete. Behind it another may follow.
    Request {
        /// Its header, for the reply.
        header: Header,
        /// What is asked for.
        request: Request,
    },
    /// Nothing is answered.
    Silent(Silence),
    /// The request cannot be taken apart. This is the answer; what is left of it is discarded.
    Refused {
        /// Its header, for the reply.
        header: Header,
        /// The answer.
        refusal: Refusal,
    },
}

#[derive(Debug)]
enum State {
    Header,
    Body(Command, Header),
    /// So many bytes of a refused request are still to come.
    Draining(u32),
}

/// Reads the requests of one connection.
#[derive(Debug)]
pub struct RequestReader {
    state: State,
    /// What there is of the header or of the body.
    have: Vec<u8>,
}

impl Default for RequestReader {
    fn default() -> RequestReader {
        RequestReader::new()
    }
}

impl RequestReader {
    /// For a new connection.
    pub fn new() -> RequestReader {
        RequestReader {
            state: State::Header,
            have: vec![],
        }
    }

    /// Takes bytes from the front of `input` until there is something to do. To be called until it answers
    /// [`Progress::Need`], which leaves `input` empty.
    pub fn read(&mut self, input: &mut &[u8]) -> Progress {
        loop {
            match self.state {
                State::Draining(left) => {
                    let discarded = input.len().min(left as usize);
                    *input = &input[discarded..];
                    match left - discarded as u32 {
                        0 => self.state = State::Header,
                        left => {
                            self.state = State::Draining(left);
                            return Progress::Need((left as usize).min(LONGEST_BODY));
                        }
                    }
                }
                State::Header => {
                    if let Some(missing) = self.fill(input, HEADER_LEN) {
                        return Progress::Need(missing);
                    }
                    match self.header() {
                        Ok((command, header)) => self.state = State::Body(command, header),
                        Err(silence) => return Progress::Silent(silence),
                    }
                }
                State::Body(command, header) => match known_length(command, &header, &self.have) {
                    Ok(length) if length == self.have.len() => {
                        let request = Request::parse(command, &header, &self.have);
                        self.have.clear();
                        self.state = State::Header;
                        return Progress::Request { header, request };
                    }
                    Ok(length) => {
                        if let Some(missing) = self.fill(input, length) {
                            return Progress::Need(missing);
                        }
                    }
                    Err(refusal) => {
                        let read = self.have.len() as u32;
                        self.have.clear();
                        self.state = State::Draining(header.body_length().saturating_sub(read));
                        return Progress::Refused { header, refusal };
                    }
                },
            }
        }
    }

    /// Whether the rest of a refused request is still to come. Clients state lengths that are not true: after some
    /// silence (the real daemon waits 20 times 1 ms) it is over all the same, see [`stop_draining`](Self::stop_draining).
    pub fn is_draining(&self) -> bool {
        matches!(self.state, State::Draining(_))
    }

    /// The client has been silent: what comes now is a new request.
    pub fn stop_draining(&mut self) {
        if self.is_draining() {
            self.state = State::Header;
        }
    }

    /// Takes bytes until there are `length`; returns how many are still missing.
    fn fill(&mut self, input: &mut &[u8], length: usize) -> Option<usize> {
        assert!(length <= LONGEST_BODY.max(HEADER_LEN));
        let wanted = length - self.have.len();
        let (taken, rest) = input.split_at(wanted.min(input.len()));
        self.have.extend_from_slice(taken);
        *input = rest;
        (taken.len() < wanted).then_some(wanted - taken.len())
    }

    fn header(&mut self) -> Result<(Command, Header), Silence> {
        let parsed = self.have.first_chunk().map(Header::parse);
        self.have.clear();
        let header = parsed
            .expect("a whole header")
            .map_err(|BadMagic { found }| Silence::BadMagic { found })?;
        let command = Command::try_from(header.command);
        // Who asks for the version may be of any time.
        if header.major() > PROTOCOL >> 16 && command != Ok(Command::Version) {
            return Err(Silence::GreaterMajor {
                version: header.version,
            });
        }
        let command = command.map_err(|unknown| Silence::UnknownCommand { number: unknown.0 })?;
        Ok((command, header))
    }
}
