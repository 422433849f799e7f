//! The blocks of a logical unit: a sparse medium and, above it, a volatile write cache.
//!
//! A block that nobody wrote reads as zeros and takes no memory, so a unit of many tebibytes costs nothing.

use std::collections::BTreeMap;

use crate::prng::Prng;

/// Sparse blocks with a volatile cache. Addresses are checked by the caller.
#[derive(Clone, Debug)]
pub struct Store {
    block_size: usize,
    zeros: Box<[u8]>,
    medium: BTreeMap<u64, Option<Box<[u8]>>>,
    /// Written and not yet on the medium; `None` is a discarded block.
    cache: BTreeMap<u64, Option<Box<[u8]>>>,
}

impl Store {
    /// An empty store of blocks of `block_size` bytes.
    pub fn new(block_size: u32) -> Store {
        Store {
            block_size: block_size as usize,
            zeros: vec![0; block_size as usize].into(),
            medium: BTreeMap::new(),
            cache: BTreeMap::new(),
        }
    }

    /// Appends `blocks` blocks from `lba` to `into`.
    pub fn read(&self, lba: u64, blocks: u64, into: &mut Vec<u8>) {
        for lba in lba..lba + blocks {
            match self.cache.get(&lba).or_else(|| self.medium.get(&lba)) {
                Some(Some(block)) => into.extend_from_slice(block),
                _ => into.extend_from_slice(&self.zeros),
            }
        }
    }

    /// Writes whole blocks; `durable` bypasses the cache.
    pub fn write(&mut self, lba: u64, data: &[u8], durable: bool) {
        for (lba, block) in (lba..).zip(data.chunks_exact(self.block_size)) {
            self.put(lba, Some(block.into()), durable);
        }
    }

    /// Discards blocks: they read as zeros.
    pub fn discard(&mut self, lba: u64, blocks: u64, durable: bool) {
        // Only blocks that hold something need a record; a discard may span the whole unit.
        let end = lba + blocks;
        let held: Vec<u64> = self
            .medium
            .range(lba..end)
            .chain(self.cache.range(lba..end))
            .map(|(lba, _)| *lba)
            .collect();
        for lba in held {
            self.put(lba, None, durable);
        }
    }

    fn put(&mut self, lba: u64, block: Option<Box<[u8]>>, durable: bool) {
        if durable {
            self.cache.remove(&lba);
            self.medium.insert(lba, block);
        } else {
            self.cache.insert(lba, block);
        }
    }

    /// Whether a block is mapped.
    pub fn is_mapped(&self, lba: u64) -> bool {
        matches!(
            self.cache.get(&lba).or_else(|| self.medium.get(&lba)),
            Some(Some(_))
        )
    }

    /// Brings the cache to the medium.
    pub fn flush(&mut self) {
        self.medium.append(&mut self.cache);
    }

    /// Loses the power: each cached block reached the medium or did not.
    pub fn power_cut(&mut self, prng: &mut Prng) {
        for (lba, block) in std::mem::take(&mut self.cache) {
            if prng.percent(50) {
                self.medium.insert(lba, block);
            }
        }
    }

    /// Written blocks in the volatile cache; discards, which promise nothing, are not counted.
    pub fn dirty_writes(&self) -> usize {
        self.cache.values().flatten().count()
    }

    /// Blocks in the volatile cache.
    pub fn dirty(&self) -> usize {
        self.cache.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(store: &Store, lba: u64) -> u8 {
        let mut data = Vec::new();
        store.read(lba, 1, &mut data);
        assert_eq!(data.len(), 512);
        data[0]
    }

    #[test]
    fn a_power_cut_takes_only_what_was_not_flushed() {
        let far = 1 << 40;
        let mut store = Store::new(512);
        store.write(far, &[1; 512], false);
        store.flush();
        for lba in 0..64 {
            store.write(lba, &[2; 512], false);
        }
        store.write(100, &[3; 512], true);
        store.power_cut(&mut Prng::new(1));
        assert_eq!((read(&store, far), read(&store, 100)), (1, 3));
        let lost = (0..64).filter(|lba| read(&store, *lba) == 0).count();
        assert!(lost > 0 && lost < 64);
        assert_eq!(store.dirty(), 0);
    }

    #[test]
    fn a_discard_hides_older_data_in_both_places() {
        let mut store = Store::new(512);
        store.write(1, &[1; 512], true);
        store.write(2, &[1; 512], false);
        store.discard(0, u64::MAX, false);
        assert_eq!((read(&store, 1), read(&store, 2)), (0, 0));
        assert!(!store.is_mapped(1));
    }
}
