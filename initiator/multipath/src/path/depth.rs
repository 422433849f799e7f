//! How many commands a path may carry after TASK SET FULL: 0.7 of those in flight, then one more per round trip
//! (SCHEDULING section 6.5). Without it there is no limit but the command window.

/// The limit.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    limit: u32,
    completed: u32,
}

/// Beyond this the limit is forgotten: no target grants more.
const UNLIMITED: u32 = 4096;

impl Default for Depth {
    fn default() -> Depth {
        Depth {
            limit: UNLIMITED,
            completed: 0,
        }
    }
}

impl Depth {
    /// Whether one more command may join those in flight.
    pub fn allows(&self, in_flight: u32) -> bool {
        self.limit >= UNLIMITED || in_flight < self.limit
    }

    /// The target said TASK SET FULL with so many in flight, the refused one included.
    pub fn full(&mut self, in_flight: u32) {
        self.limit = self.limit.min((in_flight * 7 / 10).max(1));
        self.completed = 0;
    }

    /// A command was carried out.
    pub fn completed(&mut self) {
        if self.limit >= UNLIMITED {
            return;
        }
        self.completed += 1;
        if self.completed >= self.limit {
            self.completed = 0;
            self.limit += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shrinks_at_once_and_grows_per_round_trip() {
        let mut depth = Depth::default();
        assert!(depth.allows(100_000));
        depth.full(20);
        assert!(depth.allows(13) && !depth.allows(14));
        for _ in 0..13 {
            depth.completed();
        }
        assert!(!depth.allows(14));
        depth.completed();
        assert!(depth.allows(14) && !depth.allows(15));
        for _ in 0..10 {
            depth.full(1);
        }
        assert!(depth.allows(0) && !depth.allows(1));
    }
}
