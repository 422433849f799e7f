//! The first commands of every session: unit attentions eaten, older commands waited for.
//!
//! TEST UNIT READY until it comes back GOOD: each nexus has its own queue of unit attentions, and after a login
//! there is at least one. Then one ORDERED TEST UNIT READY: on targets that answer a reinstating login before the
//! old session's commands have ended, and that keep one task set per logical unit, it waits for them (PROTOCOL.md
//! section 11). Both answers together are the proof that the fence asks for.
//!
//! LIO is never sent an ORDERED command, and needs none, for its login waits. A command that completes while LIO closes
//! its connection is not taken off the count of commands that an ORDERED one waits for (Linux 6.12,
//! `target_cmd_interrupted`): the ORDERED one would be held back for ever, and behind it every later command of every
//! host. Hence [`LastWord`]; seen in the lab's scenario ghost-lio.

use iscsi_client::scsi::{Cdb, Moves, Verdict, judge};
use iscsi_client::session::{Command, Completion, Handle, Transfer};
use iscsi_client::wire::{Lun, TaskAttribute};

use crate::mutant::{Mutant, lives};

/// Unit attentions, BUSYs and the like in a row, until the target is taken for not ready.
const PATIENCE: u8 = 32;

/// What follows the unit attentions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LastWord {
    /// One ORDERED TEST UNIT READY.
    Ordered,
    /// Nothing.
    Omitted,
}

/// The sequence.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    lun: Lun,
    last: LastWord,
    stage: Stage,
    out: bool,
    patience: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Eating,
    Ordered,
    Done(Drained),
}

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drained {
    /// Ready, and everything older is over.
    Ready,
    /// The port does not serve the LUN now.
    PortInactive,
    /// No LUN of this number here.
    LunGone,
    /// Not ready, or no sensible answer.
    NotReady,
}

impl Drain {
    /// For this LUN, on a session that was just established.
    pub fn new(lun: Lun, last: LastWord) -> Drain {
        Drain {
            lun,
            last,
            stage: Stage::Eating,
            out: false,
            patience: PATIENCE,
        }
    }

    /// The ORDERED command at once, for a session whose unit attentions are eaten.
    pub fn ordered(lun: Lun) -> Drain {
        Drain {
            stage: Stage::Ordered,
            ..Drain::new(lun, LastWord::Ordered)
        }
    }

    /// The next command; `None` while one is out or when done.
    pub fn poll_command(&mut self, handle: Handle) -> Option<Command> {
        let attribute = match self.stage {
            _ if self.out => return None,
            Stage::Eating => TaskAttribute::Simple,
            Stage::Ordered => TaskAttribute::Ordered,
            Stage::Done(_) => return None,
        };
        self.out = true;
        Some(Command {
            handle,
            lun: self.lun,
            cdb: Cdb::test_unit_ready(),
            attribute,
            transfer: Transfer::None,
        })
    }

    /// Takes the answer.
    pub fn completed(&mut self, completion: &Completion) {
        self.out = false;
        let verdict = judge(
            Moves::Nothing,
            completion.status,
            completion.sense,
            completion.residual,
            completion.received,
        );
        self.stage = match (verdict, self.stage) {
            (Verdict::Success, Stage::Eating) if lives(Mutant::NoOrderedCommand) => {
                Stage::Done(Drained::Ready)
            }
            (Verdict::Success, Stage::Eating) => match self.last {
                LastWord::Ordered => Stage::Ordered,
                LastWord::Omitted => Stage::Done(Drained::Ready),
            },
            (Verdict::Success, Stage::Ordered) => Stage::Done(Drained::Ready),
            (Verdict::OtherGroup, _) => Stage::Done(Drained::PortInactive),
            (Verdict::LunGone, _) => Stage::Done(Drained::LunGone),
            // An ordered command that was not executed has waited for nothing: from the start.
            (
                Verdict::UnitAttention(_)
                | Verdict::Busy
                | Verdict::TaskSetFull
                | Verdict::BecomingReady
                | Verdict::EarlierWriteLost
                | Verdict::Aborted { .. },
                _,
            ) if self.patience > 0 => {
                self.patience -= 1;
                Stage::Eating
            }
            _ => Stage::Done(Drained::NotReady),
        };
    }

    /// The end, once reached.
    pub fn result(&self) -> Option<Drained> {
        match self.stage {
            Stage::Done(drained) => Some(drained),
            Stage::Eating | Stage::Ordered => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use iscsi_client::scsi::{Sense, SenseKey, Status};
    use iscsi_client::wire::Residual;

    use super::*;

    fn answer(status: Status, sense: Option<(SenseKey, u8, u8)>) -> Completion {
        Completion {
            handle: Handle(0),
            status,
            sense: sense.map(|(key, asc, ascq)| Sense {
                deferred: false,
                key,
                asc,
                ascq,
                information: None,
            }),
            residual: Residual::None,
            received: 0,
        }
    }

    fn good() -> Completion {
        answer(Status::Good, None)
    }

    fn check(key: SenseKey, asc: u8, ascq: u8) -> Completion {
        answer(Status::CheckCondition, Some((key, asc, ascq)))
    }

    #[test]
    fn answers_decide() {
        use SenseKey::{IllegalRequest, NotReady, UnitAttention};
        let nexus_loss = check(UnitAttention, 0x29, 7);
        let table: [(&str, Vec<Completion>, Drained); 6] = [
            ("simple", vec![good(), good()], Drained::Ready),
            (
                "attentions",
                vec![nexus_loss, nexus_loss, good(), good()],
                Drained::Ready,
            ),
            // The ordered command was not executed: a simple one must come back good first.
            (
                "late attention",
                vec![good(), nexus_loss, good(), good()],
                Drained::Ready,
            ),
            (
                "standby",
                vec![nexus_loss, check(NotReady, 4, 0x0b)],
                Drained::PortInactive,
            ),
            (
                "gone",
                vec![check(IllegalRequest, 0x25, 0)],
                Drained::LunGone,
            ),
            (
                "no medium",
                vec![check(NotReady, 0x3a, 0)],
                Drained::NotReady,
            ),
        ];
        for (name, answers, end) in table {
            let mut drain = Drain::new(Lun::default(), LastWord::Ordered);
            for answer in answers {
                assert_eq!(drain.result(), None, "{name}");
                assert!(drain.poll_command(Handle(0)).is_some(), "{name}");
                assert!(
                    drain.poll_command(Handle(0)).is_none(),
                    "{name}: one at a time"
                );
                drain.completed(&answer);
            }
            assert_eq!(drain.result(), Some(end), "{name}");
            assert!(drain.poll_command(Handle(0)).is_none());
        }
    }

    #[test]
    fn the_last_command_is_the_ordered_one() {
        use TaskAttribute::{Ordered, Simple};
        let lun = Lun::default();
        let table: [(Drain, &[TaskAttribute]); 3] = [
            (Drain::new(lun, LastWord::Ordered), &[Simple, Ordered]),
            (Drain::new(lun, LastWord::Omitted), &[Simple]),
            (Drain::ordered(lun), &[Ordered]),
        ];
        for (mut drain, wanted) in table {
            let mut attributes = Vec::new();
            while let Some(command) = drain.poll_command(Handle(0)) {
                attributes.push(command.attribute);
                drain.completed(&good());
            }
            assert_eq!(attributes, wanted);
            assert_eq!(drain.result(), Some(Drained::Ready));
        }
    }

    #[test]
    fn patience_ends() {
        let mut drain = Drain::new(Lun::default(), LastWord::Ordered);
        let mut commands = 0;
        while drain.poll_command(Handle(0)).is_some() {
            commands += 1;
            drain.completed(&answer(Status::Busy, None));
        }
        assert_eq!(drain.result(), Some(Drained::NotReady));
        assert_eq!(commands, u32::from(PATIENCE) + 1);
    }
}
