//! The only source of chance: a small generator that a seed reproduces exactly (SplitMix64).
//!
//! Never seeded from a clock or the system: [`seeds`] counts from 1, or goes by the environment, and [`Replay`] says
//! which one was drawn.

use std::cell::RefCell;
use std::io::Write;
use std::sync::Once;

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

/// The seeds a test runs: 1 to `count`, or what the environment says: `SANBLK_SEED=7` (or `SEED=7`) that one,
/// `SANBLK_SEEDS=2000` at least 1 to 2000, `SANBLK_SEEDS=300-499` just these.
///
/// # Panics
/// If one of these is set and cannot be read: a replay of the wrong seed would be worse.
pub fn seeds(count: u64) -> Vec<u64> {
    if let Some(seed) = named() {
        return vec![seed];
    }
    match std::env::var("SANBLK_SEEDS") {
        Ok(text) => range(&text, count)
            .unwrap_or_else(|| panic!("SANBLK_SEEDS is {text:?}, neither a number nor FIRST-LAST")),
        Err(_) => (1..=count).collect(),
    }
}

fn range(text: &str, count: u64) -> Option<Vec<u64>> {
    match text.split_once('-') {
        Some((first, last)) => Some((first.parse().ok()?..=last.parse().ok()?).collect()),
        None => Some((1..=text.parse::<u64>().ok()?.max(count)).collect()),
    }
}

/// The one seed that the environment names, for a replay.
fn named() -> Option<u64> {
    ["SANBLK_SEED", "SEED"].into_iter().find_map(|variable| {
        let text = std::env::var(variable).ok()?;
        match text.parse() {
            Ok(seed) => Some(seed),
            Err(_) => panic!("{variable} is {text:?}, not a decimal number"),
        }
    })
}

thread_local! {
    /// What the thread's test draws from now.
    static DRAWN: RefCell<Option<String>> = const { RefCell::new(None) };
}
static HOOK: Once = Once::new();

/// Makes the seed and what it drew the first line that is printed: of a replay at once, past the test harness; of any
/// other run as soon as something fails, before the failure's own words.
#[derive(Debug)]
pub struct Replay(());

impl Replay {
    /// `drawn`: everything that the seed decides about shape and course of the run, in one line.
    pub fn of(seed: u64, drawn: &str) -> Replay {
        HOOK.call_once(|| {
            let next = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                DRAWN.with_borrow(|drawn| {
                    if let Some(line) = drawn {
                        eprintln!("{line}");
                    }
                });
                next(panic);
            }));
        });
        let line = format!("seed {seed} {drawn}");
        if named().is_some() {
            // Unlike `eprintln`, this is not kept back by the test harness. A closed stderr has no reader to miss it.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
        DRAWN.set(Some(line));
        Replay(())
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        DRAWN.set(None);
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

    #[test]
    fn a_list_of_seeds_is_a_count_or_a_range() {
        assert_eq!(range("3", 2), Some(vec![1, 2, 3]));
        assert_eq!(range("1", 2), Some(vec![1, 2]));
        assert_eq!(range("7-9", 2), Some(vec![7, 8, 9]));
        for text in ["", "-", "7-", "a", "1-b"] {
            assert_eq!(range(text, 2), None, "{text}");
        }
    }
}
