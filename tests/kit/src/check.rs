//! The judge of a block device: every block is a register, every request is answered once.
//!
//! Writes carry their own name: each block holds its address and the number of its write, and the rest of the
//! block follows from these. A block that is torn, misplaced or stale convicts itself.
//!
//! - A read returns, per block, a write that was not overwritten before the read began, or one in flight.
//! - A write takes no effect at the target after it was acknowledged. After it was failed it may, as long as
//!   nothing newer is there ("ghost write").
//! - Each request ends exactly once.

use std::collections::BTreeMap;

use crate::disk::Effect;
use crate::prng::Prng;

/// A request of the workload.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Acknowledged.
    Done,
    /// Failed: a write may have taken effect or not.
    Failed,
}

/// A promise that was broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Breach {
    /// A request ended that was not in flight.
    AnsweredTwice(RequestId),
    /// A block does not hold what its own name says.
    Torn {
        /// Block.
        lba: u64,
    },
    /// A read returned a write that cannot be there.
    Stale {
        /// Block.
        lba: u64,
        /// The write that was found; `None` for zeros.
        found: Option<u64>,
        /// The writes that could be.
        legal: Vec<Option<u64>>,
    },
    /// A write took effect after its end.
    Ghost {
        /// Block.
        lba: u64,
        /// The write.
        write: Option<u64>,
        /// What it would replace.
        over: Option<u64>,
    },
    /// The target was given a write that nobody made.
    Forged {
        /// Block.
        lba: u64,
    },
}

#[derive(Clone, Debug)]
struct Write {
    lba: u64,
    blocks: u64,
    /// A discard or zeroing.
    zeroes: bool,
    issued: u64,
    ended: Option<(u64, Outcome)>,
}

#[derive(Clone, Debug)]
struct Read {
    lba: u64,
    /// Per block, the writes it may find; more may be issued while it runs.
    legal: Vec<Vec<Option<u64>>>,
    started: u64,
}

/// The judge.
#[derive(Clone, Debug)]
pub struct Judge {
    block_size: usize,
    /// Salt of the block contents.
    salt: u64,
    /// Random bytes that blocks are filled from.
    noise: Vec<u8>,
    tick: u64,
    next: u64,
    writes: BTreeMap<u64, Write>,
    reads: BTreeMap<RequestId, Read>,
    other: BTreeMap<RequestId, u64>,
    /// Per block, the writes that may be its content. `None` is the zeros of the beginning.
    candidates: BTreeMap<u64, Vec<Option<u64>>>,
    /// Per block, the write that the target executed last.
    content: BTreeMap<u64, Option<u64>>,
    open: u64,
}

const MAGIC: &[u8; 8] = b"kitblock";
/// Magic, address and write.
const HEAD_LEN: usize = 24;
/// Places in the random page where a block's noise may begin.
const NOISE_STARTS: u64 = 4096;

impl Judge {
    /// A judge of a device of zeros with blocks of `block_size` bytes.
    pub fn new(block_size: u32, salt: u64) -> Judge {
        assert!(block_size >= 32);
        Judge {
            block_size: block_size as usize,
            salt,
            noise: Prng::new(salt).bytes(block_size as usize + NOISE_STARTS as usize),
            tick: 0,
            next: 1,
            writes: BTreeMap::new(),
            reads: BTreeMap::new(),
            other: BTreeMap::new(),
            candidates: BTreeMap::new(),
            content: BTreeMap::new(),
            open: 0,
        }
    }

    /// Requests in flight.
    pub fn open(&self) -> u64 {
        self.open
    }

    /// Requests in flight, for the report of a hang.
    pub fn open_requests(&self) -> Vec<RequestId> {
        let writes = self
            .writes
            .iter()
            .filter(|(_, write)| write.ended.is_none());
        let writes = writes.map(|(id, _)| RequestId(*id));
        writes
            .chain(self.reads.keys().copied())
            .chain(self.other.keys().copied())
            .collect()
    }

    fn id(&mut self) -> RequestId {
        self.tick += 1;
        self.open += 1;
        let id = RequestId(self.next);
        self.next += 1;
        id
    }

    /// A write begins; the data to write are returned.
    pub fn write(&mut self, lba: u64, blocks: u64) -> (RequestId, Vec<u8>) {
        let id = self.begin_write(lba, blocks, false);
        let mut data = Vec::with_capacity(blocks as usize * self.block_size);
        for lba in lba..lba + blocks {
            data.extend(self.block(lba, id.0));
        }
        (id, data)
    }

    /// A discard or zeroing begins.
    pub fn zero(&mut self, lba: u64, blocks: u64) -> RequestId {
        self.begin_write(lba, blocks, true)
    }

    fn begin_write(&mut self, lba: u64, blocks: u64, zeroes: bool) -> RequestId {
        let id = self.id();
        let write = Write {
            lba,
            blocks,
            zeroes,
            issued: self.tick,
            ended: None,
        };
        self.writes.insert(id.0, write);
        for lba in lba..lba + blocks {
            self.candidates
                .entry(lba)
                .or_insert_with(|| vec![None])
                .push(Some(id.0));
        }
        id
    }

    /// A read begins.
    pub fn read(&mut self, lba: u64, blocks: u64) -> RequestId {
        let id = self.id();
        let legal = (lba..lba + blocks)
            .map(|lba| {
                self.candidates
                    .get(&lba)
                    .cloned()
                    .unwrap_or_else(|| vec![None])
            })
            .collect();
        let read = Read {
            lba,
            legal,
            started: self.tick,
        };
        self.reads.insert(id, read);
        id
    }

    /// A request begins that moves no data (a flush).
    pub fn other(&mut self) -> RequestId {
        let id = self.id();
        self.other.insert(id, self.tick);
        id
    }

    /// A request ends. `data`: what a read that is done returned.
    pub fn end(&mut self, id: RequestId, outcome: Outcome, data: &[u8]) -> Result<(), Breach> {
        self.tick += 1;
        if self.other.remove(&id).is_some() {
            self.open -= 1;
            return Ok(());
        }
        if let Some(read) = self.reads.remove(&id) {
            self.open -= 1;
            return match outcome {
                Outcome::Done => self.judge_read(&read, data),
                Outcome::Failed => Ok(()),
            };
        }
        match self.writes.get_mut(&id.0) {
            Some(write) if write.ended.is_none() => write.ended = Some((self.tick, outcome)),
            _ => return Err(Breach::AnsweredTwice(id)),
        }
        self.open -= 1;
        if outcome == Outcome::Done {
            self.supersede(id.0);
        }
        Ok(())
    }

    /// An acknowledged write leaves no room for what ended before it began.
    fn supersede(&mut self, id: u64) {
        let (lba, blocks, issued) = {
            let write = &self.writes[&id];
            (write.lba, write.blocks, write.issued)
        };
        for lba in lba..lba + blocks {
            if let Some(candidates) = self.candidates.get_mut(&lba) {
                candidates.retain(|other| match other {
                    None => false,
                    Some(other) => {
                        *other == id
                            || self.writes[other]
                                .ended
                                .is_none_or(|(ended, _)| ended > issued)
                    }
                });
            }
        }
    }

    fn judge_read(&self, read: &Read, data: &[u8]) -> Result<(), Breach> {
        assert_eq!(
            data.len(),
            read.legal.len() * self.block_size,
            "length of a read"
        );
        for ((lba, legal), block) in (read.lba..)
            .zip(&read.legal)
            .zip(data.chunks_exact(self.block_size))
        {
            let found = self.name(lba, block)?;
            let may = |id: &Option<u64>| match (id, found) {
                (None, None) => true,
                (Some(id), None) => self.writes[id].zeroes,
                (id, found) => *id == found,
            };
            let meanwhile = || {
                let now = self.candidates.get(&lba);
                let since =
                    |id: &Option<u64>| id.is_some_and(|id| self.writes[&id].issued > read.started);
                // A write that began after the read did may also have been superseded since.
                now.is_some_and(|now| now.iter().any(|id| since(id) && may(id)))
                    || found.is_some_and(|id| self.writes[&id].issued > read.started)
            };
            if !legal.iter().any(may) && !meanwhile() {
                // A discard that came and went while the read ran leaves no candidate; look at all writes.
                let passed = found.is_none()
                    && self.writes.values().any(|write| {
                        write.zeroes
                            && write.issued > read.started
                            && (write.lba..write.lba + write.blocks).contains(&lba)
                    });
                if !passed {
                    return Err(Breach::Stale {
                        lba,
                        found,
                        legal: legal.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    /// The target changed blocks.
    pub fn effect(&mut self, effect: &Effect) -> Result<(), Breach> {
        for at in 0..effect.blocks {
            let lba = effect.lba + at;
            let found = match &effect.data {
                None => None,
                Some(data) => {
                    let start = at as usize * self.block_size;
                    self.name(lba, &data[start..start + self.block_size])?
                }
            };
            let over = self.content.get(&lba).copied().flatten();
            let newer_than =
                |ended: u64| over.is_some_and(|over| self.writes[&over].issued > ended);
            match found {
                Some(id) => {
                    let ghost = match self.writes[&id].ended {
                        None => false,
                        Some((_, Outcome::Done)) => true,
                        Some((ended, Outcome::Failed)) => newer_than(ended),
                    };
                    if ghost {
                        return Err(Breach::Ghost {
                            lba,
                            write: found,
                            over,
                        });
                    }
                    self.content.insert(lba, found);
                }
                None => {
                    // Zeros have no name: some discard of this block must be able to explain them. The oldest
                    // is taken: a newer one may never have reached the target, and would accuse the innocent.
                    let explains = self.writes.iter().find(|(_, write)| {
                        write.zeroes
                            && (write.lba..write.lba + write.blocks).contains(&lba)
                            && match write.ended {
                                None => true,
                                Some((_, Outcome::Done)) => false,
                                Some((ended, Outcome::Failed)) => !newer_than(ended),
                            }
                    });
                    match explains {
                        Some((id, _)) => self.content.insert(lba, Some(*id)),
                        None => {
                            return Err(Breach::Ghost {
                                lba,
                                write: None,
                                over,
                            });
                        }
                    };
                }
            }
        }
        Ok(())
    }

    /// The content of a block: magic, address, write, and noise that follows from them.
    fn block(&self, lba: u64, write: u64) -> Vec<u8> {
        let mut block = vec![0; self.block_size];
        let (head, noise) = block.split_at_mut(HEAD_LEN);
        head[..8].copy_from_slice(MAGIC);
        head[8..16].copy_from_slice(&lba.to_be_bytes());
        head[16..].copy_from_slice(&write.to_be_bytes());
        noise.copy_from_slice(self.noise(lba, write));
        block
    }

    /// A stretch of the random page: where it begins follows from address and write.
    fn noise(&self, lba: u64, write: u64) -> &[u8] {
        let start = Prng::new(self.salt ^ lba.rotate_left(32) ^ write).below(NOISE_STARTS);
        &self.noise[start as usize..][..self.block_size - HEAD_LEN]
    }

    /// The write that a block names; `None` for zeros.
    fn name(&self, lba: u64, block: &[u8]) -> Result<Option<u64>, Breach> {
        let word =
            |at: usize| u64::from_be_bytes(block[at..at + 8].try_into().expect("eight bytes"));
        if block[..8] != MAGIC[..] {
            let zeros = block.chunks(64).all(|part| *part == [0; 64][..part.len()]);
            return if zeros {
                Ok(None)
            } else {
                Err(Breach::Torn { lba })
            };
        }
        let write = word(16);
        let whole = block[HEAD_LEN..] == *self.noise(lba, write);
        if word(8) != lba || !whole {
            return Err(Breach::Torn { lba });
        }
        let made = self
            .writes
            .get(&write)
            .is_some_and(|made| !made.zeroes && (made.lba..made.lba + made.blocks).contains(&lba));
        if made {
            Ok(Some(write))
        } else {
            Err(Breach::Forged { lba })
        }
    }
}

#[cfg(test)]
mod tests {
    use iscsi_client::time::Instant;

    use super::*;
    use crate::disk::Nexus;

    fn effect(lba: u64, data: &[u8]) -> Effect {
        Effect {
            at: Instant::default(),
            nexus: Nexus(1),
            lba,
            blocks: data.len() as u64 / 512,
            data: Some(data.to_vec()),
        }
    }

    fn judge() -> Judge {
        Judge::new(512, 9)
    }

    #[test]
    fn a_read_may_find_the_last_write_or_one_in_flight_and_no_older() {
        let mut judge = judge();
        let (first, old) = judge.write(5, 1);
        judge.end(first, Outcome::Done, &[]).expect("first end");
        let (second, new) = judge.write(5, 1);
        for data in [&old, &new] {
            let read = judge.read(5, 1);
            assert_eq!(judge.end(read, Outcome::Done, data), Ok(()));
        }
        judge.end(second, Outcome::Done, &[]).expect("first end");
        let read = judge.read(5, 1);
        let stale = judge.end(read, Outcome::Done, &old);
        assert!(
            matches!(stale, Err(Breach::Stale { lba: 5, .. })),
            "{stale:?}"
        );
        let read = judge.read(5, 1);
        assert!(matches!(
            judge.end(read, Outcome::Done, &[0; 512]),
            Err(Breach::Stale { .. })
        ));
        assert_eq!(
            judge.end(second, Outcome::Done, &[]),
            Err(Breach::AnsweredTwice(second))
        );
    }

    #[test]
    fn a_read_that_began_earlier_may_find_what_was_there_then() {
        let mut judge = judge();
        let read = judge.read(5, 1);
        let (write, data) = judge.write(5, 1);
        judge.end(write, Outcome::Done, &[]).expect("first end");
        let mut copy = judge.clone();
        assert_eq!(copy.end(read, Outcome::Done, &[0; 512]), Ok(()));
        assert_eq!(judge.end(read, Outcome::Done, &data), Ok(()));
    }

    #[test]
    fn torn_and_misplaced_blocks_convict_themselves() {
        let mut judge = judge();
        let (write, data) = judge.write(5, 2);
        judge.end(write, Outcome::Done, &[]).expect("first end");
        let mut torn = data.clone();
        torn[300] ^= 1;
        let read = judge.read(5, 2);
        assert_eq!(
            judge.end(read, Outcome::Done, &torn),
            Err(Breach::Torn { lba: 5 })
        );
        let swapped = [&data[512..], &data[..512]].concat();
        let read = judge.read(5, 2);
        assert_eq!(
            judge.end(read, Outcome::Done, &swapped),
            Err(Breach::Torn { lba: 5 })
        );
    }

    #[test]
    fn an_effect_after_the_acknowledgement_is_a_ghost() {
        let mut judge = judge();
        let (first, old) = judge.write(5, 1);
        assert_eq!(judge.effect(&effect(5, &old)), Ok(()));
        assert_eq!(
            judge.effect(&effect(5, &old)),
            Ok(()),
            "a retry before the end does no harm"
        );
        judge.end(first, Outcome::Done, &[]).expect("first end");
        let ghost = judge.effect(&effect(5, &old));
        assert!(
            matches!(ghost, Err(Breach::Ghost { lba: 5, .. })),
            "{ghost:?}"
        );
    }

    #[test]
    fn zeros_are_laid_to_the_oldest_discard_that_can_explain_them() {
        let mut judge = judge();
        let (write, data) = judge.write(5, 1);
        let old = judge.zero(5, 1);
        judge.end(old, Outcome::Failed, &[]).expect("first end");
        judge.end(write, Outcome::Failed, &[]).expect("first end");
        let unsent = judge.zero(5, 1);
        judge.end(unsent, Outcome::Failed, &[]).expect("first end");
        let zeros = Effect {
            data: None,
            ..effect(5, &data)
        };
        let zeros = Effect { blocks: 1, ..zeros };
        assert_eq!(judge.effect(&zeros), Ok(()));
        assert_eq!(judge.effect(&effect(5, &data)), Ok(()));
    }

    #[test]
    fn a_failed_write_may_land_until_something_newer_is_there() {
        let mut judge = judge();
        let (first, old) = judge.write(5, 1);
        judge.end(first, Outcome::Failed, &[]).expect("first end");
        assert_eq!(judge.effect(&effect(5, &old)), Ok(()));
        let (second, new) = judge.write(5, 1);
        assert_eq!(judge.effect(&effect(5, &new)), Ok(()));
        judge.end(second, Outcome::Done, &[]).expect("first end");
        assert!(matches!(
            judge.effect(&effect(5, &old)),
            Err(Breach::Ghost { .. })
        ));
    }
}
