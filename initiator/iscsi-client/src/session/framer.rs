//! From a byte stream to PDUs (RFC 7143, 11.1 and 11.2).
//!
//! ```text
//!   Head ──BHS, AHS, header digest──> Routing ──route()──> Data ──> Tail ──padding, data digest──> Head
//! ```
//!
//! The framer never decides what a PDU means. When a header is complete it stops and asks where the data
//! belong: in the control buffer, or in one of the caller's buffers. Payload that was received in place is
//! read back only if a data digest has to be computed.

use crate::memory::{BufferId, Memory};
use crate::wire::digest::{DIGEST_LEN, Digest, digest};
use crate::wire::{AHS_LEN_MAX, BHS_LEN, Bhs, TaskTag, padding};

use super::{Closed, Want};

/// Where a PDU's data segment belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// The framer's own control buffer.
    Control,
    /// From `offset` on in the caller's `buffer`. The session has checked the whole range.
    Payload { buffer: BufferId, offset: u32 },
}

/// What [`Framer::advance`] came upon.
#[derive(Debug)]
pub(super) enum Step {
    /// All bytes are used up.
    Starved,
    /// A header is complete; [`Framer::route`] must be called next.
    Header(Bhs),
    /// A PDU is complete, and its digests were right. Its control data are in [`Framer::control`].
    Complete(Bhs),
}

/// Position in the stream.
#[derive(Debug)]
pub(super) struct Framer {
    header_digest: bool,
    data_digest: bool,
    head: Box<[u8; HEAD_MAX]>,
    /// Data segment of the PDU at hand, if it was routed to [`Place::Control`].
    pub(super) control: Vec<u8>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Collecting BHS, AHS and header digest.
    Head { filled: usize },
    /// Waiting for [`Framer::route`].
    Routing { bhs: Bhs },
    /// Collecting `bhs.data_len()` bytes.
    Data {
        bhs: Bhs,
        place: Place,
        done: u32,
        digest: Digest,
    },
    /// Collecting padding and data digest.
    Tail {
        bhs: Bhs,
        bytes: [u8; TAIL_MAX],
        filled: usize,
        digest: Digest,
    },
}

impl Framer {
    /// A framer at the start of a stream, without digests: logins carry none.
    pub(super) fn new() -> Framer {
        Framer {
            header_digest: false,
            data_digest: false,
            head: Box::new([0; HEAD_MAX]),
            control: Vec::with_capacity(CONTROL_CAPACITY),
            stage: Stage::Head { filled: 0 },
        }
    }

    /// Switches digests on for all PDUs that follow the one just completed.
    pub(super) fn set_digests(&mut self, header: bool, data: bool) {
        debug_assert!(
            matches!(self.stage, Stage::Head { filled: 0 }),
            "digests change between PDUs"
        );
        self.header_digest = header;
        self.data_digest = data;
    }

    /// Where the next bytes belong.
    pub(super) fn want(&self) -> Want {
        match self.stage {
            Stage::Data {
                bhs,
                place: Place::Payload { buffer, offset },
                done,
                ..
            } => Want::Payload {
                buffer,
                offset: offset + done,
                len: bhs.data_len() as u32 - done,
            },
            _ => Want::Stream,
        }
    }

    /// Takes bytes off the front of `bytes` up to the next point where the session has to act.
    pub(super) fn advance(
        &mut self,
        bytes: &mut &[u8],
        memory: &mut dyn Memory,
    ) -> Result<Step, Closed> {
        loop {
            match &mut self.stage {
                Stage::Head { filled } => {
                    let need = head_len(&self.head, *filled, self.header_digest);
                    *filled += take(bytes, &mut self.head[*filled..need]);
                    if *filled < need {
                        return Ok(Step::Starved);
                    }
                    // The first 48 bytes say how many more belong to the header.
                    if head_len(&self.head, *filled, self.header_digest) == *filled {
                        let bhs = self.finish_head(need)?;
                        return Ok(Step::Header(bhs));
                    }
                }
                Stage::Routing { .. } => unreachable!("a header must be routed before its data"),
                Stage::Data {
                    bhs,
                    place,
                    done,
                    digest,
                } => {
                    let missing = bhs.data_len() - *done as usize;
                    let (now, rest) = bytes.split_at(missing.min(bytes.len()));
                    *bytes = rest;
                    match *place {
                        Place::Control => self.control.extend_from_slice(now),
                        Place::Payload { .. } if now.is_empty() => {}
                        Place::Payload { buffer, offset } => memory
                            .write(buffer, offset + *done, now.len() as u32)
                            .copy_from_slice(now),
                    }
                    if self.data_digest {
                        *digest = digest.update(now);
                    }
                    *done += now.len() as u32;
                    if now.len() < missing {
                        return Ok(Step::Starved);
                    }
                    if let Some(bhs) = self.end_of_data() {
                        return Ok(Step::Complete(bhs));
                    }
                }
                Stage::Tail {
                    bhs,
                    bytes: tail,
                    filled,
                    digest,
                } => {
                    let bhs = *bhs;
                    let need = tail_len(&bhs, self.data_digest);
                    *filled += take(bytes, &mut tail[*filled..need]);
                    if *filled < need {
                        return Ok(Step::Starved);
                    }
                    if self.data_digest {
                        // The sender digested the padding it sent, whatever it is.
                        let (pad, sent) = tail[..need].split_at(need - DIGEST_LEN);
                        if digest.update(pad).finish(0) != *sent {
                            return Err(Closed::DigestError("data digest"));
                        }
                    }
                    self.stage = Stage::Head { filled: 0 };
                    return Ok(Step::Complete(bhs));
                }
            }
        }
    }

    /// Says where the data of the header just seen belong.
    pub(super) fn route(&mut self, place: Place) {
        let Stage::Routing { bhs } = self.stage else {
            unreachable!("no header waits for its route");
        };
        self.control.clear();
        self.stage = Stage::Data {
            bhs,
            place,
            done: 0,
            digest: Digest::default(),
        };
    }

    /// The rest of the Data-In at hand belongs elsewhere, if it is one of this task. `offset` is where the PDU's first
    /// byte would lie.
    pub(super) fn redirect(&mut self, task: TaskTag, buffer: BufferId, offset: u32) {
        if let Stage::Data { bhs, place, .. } = &mut self.stage
            && let Place::Payload { .. } = place
            && TaskTag(bhs.u32(16)) == task
        {
            *place = Place::Payload { buffer, offset };
        }
    }

    /// Takes note of `len` bytes that arrived where [`Framer::want`] said. Returns the header if they
    /// completed the PDU.
    ///
    /// # Panics
    /// If more bytes were placed than wanted: they lie where they must not, and the stream is lost.
    pub(super) fn placed(&mut self, len: u32, memory: &dyn Memory) -> Option<Bhs> {
        let Stage::Data {
            bhs,
            place: Place::Payload { buffer, offset },
            done,
            digest,
        } = &mut self.stage
        else {
            panic!("bytes received in place that nobody wanted");
        };
        let missing = bhs.data_len() as u32 - *done;
        assert!(
            len <= missing,
            "{len} bytes received in place where {missing} were wanted"
        );
        if self.data_digest {
            *digest = digest.update(memory.read(*buffer, *offset + *done, len));
        }
        *done += len;
        if len < missing {
            return None;
        }
        self.end_of_data()
    }

    fn finish_head(&mut self, len: usize) -> Result<Bhs, Closed> {
        if self.header_digest {
            let (header, sent) = self.head[..len].split_at(len - DIGEST_LEN);
            if digest(header, 0) != *sent {
                return Err(Closed::DigestError("header digest"));
            }
        }
        let bhs = Bhs(*self
            .head
            .first_chunk::<BHS_LEN>()
            .expect("the head holds a BHS"));
        self.stage = Stage::Routing { bhs };
        Ok(bhs)
    }

    /// Leaves the data stage; returns the header if neither padding nor digest follow.
    fn end_of_data(&mut self) -> Option<Bhs> {
        let Stage::Data { bhs, digest, .. } = self.stage else {
            unreachable!("the data stage ends only once");
        };
        if tail_len(&bhs, self.data_digest) == 0 {
            self.stage = Stage::Head { filled: 0 };
            return Some(bhs);
        }
        self.stage = Stage::Tail {
            bhs,
            bytes: [0; TAIL_MAX],
            filled: 0,
            digest,
        };
        None
    }
}

/// Length of the whole head as far as `filled` bytes show it.
fn head_len(head: &[u8; HEAD_MAX], filled: usize, header_digest: bool) -> usize {
    if filled < BHS_LEN {
        return BHS_LEN;
    }
    BHS_LEN + usize::from(head[4]) * 4 + if header_digest { DIGEST_LEN } else { 0 }
}

/// Padding and data digest behind the data of this PDU. A PDU without data has neither.
fn tail_len(bhs: &Bhs, data_digest: bool) -> usize {
    match bhs.data_len() {
        0 => 0,
        len => padding(len) + if data_digest { DIGEST_LEN } else { 0 },
    }
}

/// Moves bytes from the front of `from` until `to` is full or `from` is empty.
fn take(from: &mut &[u8], to: &mut [u8]) -> usize {
    let len = from.len().min(to.len());
    let (now, rest) = from.split_at(len);
    to[..len].copy_from_slice(now);
    *from = rest;
    len
}

const HEAD_MAX: usize = BHS_LEN + AHS_LEN_MAX + DIGEST_LEN;
const TAIL_MAX: usize = 3 + DIGEST_LEN;
/// Room for sense, async and reject data, so that the hot path does not allocate.
const CONTROL_CAPACITY: usize = 8192;
