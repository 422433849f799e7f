//! What must hold of everything that was seen: no write executes after it is over, or more often than it may; none is answered
//! twice or late; what is done is there.

use lockmgr::{IoId, WriteOutcome, Writers};

use super::sim::Sim;
use crate::keeper::disk::Answer;

impl Sim {
    /// Asserts all of it.
    pub fn judge(&self) {
        assert_eq!(self.world.target.violations(), &[]);
        for (id, (deadline, writers)) in &self.writes {
            let outcomes = self
                .answers
                .iter()
                .filter(|(_, answer)| matches!(answer, Answer::Wrote { id: of, .. } if of == id));
            assert!(outcomes.count() <= 1, "{id:?} answered twice");
            let effects = self.effects_of(*id);
            let once = *writers == Writers::Many;
            assert!(!once || effects <= 1, "{id:?} executed twice");
            let Some((at, outcome)) = self.outcome(*id) else {
                continue;
            };
            assert!(at <= *deadline, "{id:?} answered late");
            if outcome != WriteOutcome::Unknown {
                assert!(effects >= 1, "{id:?} is {outcome:?} and not there");
            }
            let over = match outcome {
                WriteOutcome::Done => Some(at),
                WriteOutcome::Doubled | WriteOutcome::Unknown => self.over_at(*id),
            };
            for (at, _, of) in &self.effects {
                let late = IoId::new(*of) == *id && over.is_some_and(|over| *at > over);
                assert!(!late, "{id:?} executed at {at:?}, after its end");
            }
        }
    }

    /// For who asks for a write to a block only when the one before it there is over: blocks never go back.
    pub fn judge_order(&self) {
        for (place, (at, lba, id)) in self.effects.iter().enumerate() {
            let older = |(_, of, later): &&(_, u64, u64)| of == lba && later < id;
            let back = self.effects[place..].iter().find(older);
            assert!(
                back.is_none(),
                "{id} at {at:?} in block {lba}, then {back:?}"
            );
        }
    }
}
