//! The only source of chance: a small generator that a seed reproduces exactly (SplitMix64).
//!
//! Never seeded from a clock or the system: [`seeds`] counts from 1, or takes the one in `SANBLK_SEED`.
//! `SANBLK_SEEDS` makes a run longer.

/// A deterministic generator.
#[derive(Clone, Debug)]
pub struct Prng(u64);

impl Prng {
    /// The generator of this seed.
    pub fn new(seed: u64) -> Prng {
        // Neighbouring seeds must not give neighbouring first draws.
        let mut prng = Prng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d);
        prng.next();
        prng
    }

    /// The next 64 bits.
    #[allow(
        clippy::should_implement_trait,
        reason = "it never ends, so it is no iterator"
    )]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing is below 0");
        self.next() % bound
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in `percent` of a hundred draws.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// Random bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// A generator of its own, so that one part's draws do not shift another's.
    pub fn fork(&mut self) -> Prng {
        Prng(self.next())
    }
}

/// The seeds a test runs: 1 to `count`, or to `SANBLK_SEEDS` if that is more, or only the one that `SANBLK_SEED` names.
///
/// # Panics
/// If one of these is set and not a number: a replay of the wrong seed would be worse.
pub fn seeds(count: u64) -> Vec<u64> {
    if let Some(seed) = number("SANBLK_SEED") {
        return vec![seed];
    }
    (1..=number("SANBLK_SEEDS").unwrap_or(0).max(count)).collect()
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => panic!("{variable} is {text:?}, not a decimal number"),
    }
}

/// Prints the seed if the test dies while this value lives, so that a failure can be replayed.
#[derive(Debug)]
pub struct Replay(pub u64, pub String);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with SANBLK_SEED={} ({})", self.0, self.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself_and_differs_from_its_neighbour() {
        let draw = |seed| {
            let mut prng = Prng::new(seed);
            (0..8).map(|_| prng.next()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let mut prng = Prng::new(1);
        assert!((0..1000).all(|_| (3..=5).contains(&prng.between(3, 5))));
    }
}
