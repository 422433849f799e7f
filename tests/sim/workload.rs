//! What the block layer asks for: a random mix of reads, writes, flushes, discards and zeroing over a small region, so that
//! requests meet on the same blocks.

use core::time::Duration;

use iscsi_client::memory::BufferId;
use multipath::{Operation, Request};

use crate::host::{Host, Open, Until};

impl Host {
    /// Makes the requests that are due, as far as there are tags.
    pub(crate) fn make_requests(&mut self) {
        let now = self.world.now();
        while self.next_request <= now {
            let Some(tag) = self.free.pop() else { return };
            let at_once = self.plan.bursts > 0 && self.prng.percent(self.plan.bursts);
            let think = match at_once {
                true => 0,
                false => self.prng.below(self.plan.think_us),
            };
            self.next_request = self.next_request.max(now) + Duration::from_micros(think);
            let buffer = self.memory.of(BufferId(tag.0));
            assert!(
                *buffer == self.untouched,
                "{tag:?} was touched after its answer"
            );
            let most = u64::from(self.plan.io_len_max() / self.plan.block_len);
            let blocks = match self.prng.below(4) {
                0 => self.prng.between(1, most),
                _ => self.prng.between(1, most.min(8)),
            };
            let lba = self.plan.first_lba + self.prng.below(self.plan.region - blocks + 1);
            let len = (blocks * u64::from(self.plan.block_len)) as usize;
            let (id, operation) = match self.prng.below(20) {
                0 => (self.judge.other(), Operation::Flush),
                1 => (self.judge.zero(lba, blocks), Operation::Discard),
                2 => {
                    let may_unmap = self.prng.percent(50);
                    (
                        self.judge.zero(lba, blocks),
                        Operation::WriteZeroes { may_unmap },
                    )
                }
                3..=10 => (self.judge.read(lba, blocks), Operation::Read),
                _ => {
                    let (id, data) = self.judge.write(lba, blocks);
                    self.memory.of(BufferId(tag.0))[..len].copy_from_slice(&data);
                    (id, Operation::Write)
                }
            };
            let request = match operation {
                Operation::Flush => Request {
                    tag,
                    operation,
                    lba: 0,
                    blocks: 0,
                    fua: false,
                },
                _ => Request {
                    tag,
                    operation,
                    lba,
                    blocks: blocks as u32,
                    fua: self.prng.percent(10),
                },
            };
            self.open.insert(tag, Open { id, operation, len });
            self.volume.submit(now, request);
        }
    }

    /// After a write cache was switched on, every write must reach the medium by itself.
    pub fn prove_writes_are_forced(&mut self, time: Duration) {
        self.world.unit().store().flush();
        let end = self.world.now() + time;
        self.run(end, Until::TheEnd);
        let end = end + time;
        self.run(end, Until::Quiet);
        let dirty = self.world.unit().store().dirty_writes();
        assert_eq!(dirty, 0, "writes in the cache");
    }
}
