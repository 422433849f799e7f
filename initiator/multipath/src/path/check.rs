//! The examination of a path: who answers, does its port serve the LUN, do real data come through.
//!
//! A full examination is [`Probe`], then REPORT TARGET PORT GROUPS where the target reports asymmetric access, then
//! one READ: a small command succeeding proves nothing about the data path, the MTU or the medium (SCHEDULING
//! section 2). The short one asks for the port groups alone.

use iscsi_client::memory::{BufferId, Memory};
use iscsi_client::scsi::{AluaState, Cdb, Moves, PortGroups, Suspicion, Verdict, judge};
use iscsi_client::session::{Command, Completion, Handle, Transfer};
use iscsi_client::wire::{Lun, TaskAttribute};

use crate::identity::{Description, ProbeFailure};
use crate::policy::AccessClass;
use crate::probe::Probe;

/// Bytes of real data that must come through.
const READ_LEN: u32 = 64 * 1024;
/// Most bytes of port groups asked for: room for over a hundred groups.
const GROUPS_LEN: u32 = 4096;
/// Answers in a row that only ask for patience.
const PATIENCE: u8 = 32;

/// How much is asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Extent {
    /// The port groups alone.
    Groups,
    /// Everything.
    Full,
}

/// How well the port serves the LUN; `None`: not at all at present.
pub type Access = Option<AccessClass>;

/// What an examination found.
#[derive(Clone, Debug)]
pub struct Findings {
    /// The LUN, after a full examination.
    pub description: Option<Description>,
    /// All groups, if the target reports them.
    pub groups: Option<PortGroups>,
}

/// Why an examination did not end well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failed {
    /// The probe's own reasons.
    Probe(ProbeFailure),
    /// Data did not come through; the sentence.
    Data(&'static str),
}

#[derive(Clone, Debug)]
enum Stage {
    Probing(Box<Probe>),
    Grouping,
    Reading,
    Done(Box<Result<Findings, Failed>>),
}

/// An examination under way.
#[derive(Clone, Debug)]
pub struct Check {
    extent: Extent,
    lun: Lun,
    buffer: BufferId,
    read_len: u32,
    stage: Stage,
    out: bool,
    drained: bool,
    patience: u8,
    description: Option<Description>,
    groups: Option<PortGroups>,
}

impl Check {
    /// A full examination, with answers in `buffer` of `buffer_len` bytes.
    pub fn full(lun: Lun, buffer: BufferId, buffer_len: u32) -> Check {
        Check {
            extent: Extent::Full,
            lun,
            buffer,
            read_len: READ_LEN.min(buffer_len),
            stage: Stage::Probing(Box::new(Probe::new(lun, buffer))),
            out: false,
            drained: false,
            patience: PATIENCE,
            description: None,
            groups: None,
        }
    }

    /// The port groups alone.
    pub fn groups(lun: Lun, buffer: BufferId) -> Check {
        Check {
            extent: Extent::Groups,
            stage: Stage::Grouping,
            ..Check::full(lun, buffer, READ_LEN)
        }
    }

    /// The next command; `None` while one is out or when done.
    pub fn poll_command(&mut self, handle: Handle) -> Option<Command> {
        if self.out {
            return None;
        }
        let (cdb, len) = match &mut self.stage {
            Stage::Probing(probe) => {
                let command = probe.poll_command(handle);
                self.out = command.is_some();
                return command;
            }
            Stage::Grouping => (
                Cdb::report_target_port_groups(GROUPS_LEN, false),
                GROUPS_LEN,
            ),
            Stage::Reading => {
                let (blocks, len) = self.read();
                (Cdb::read_16(0, blocks), len)
            }
            Stage::Done(_) => return None,
        };
        self.out = true;
        Some(Command {
            handle,
            lun: self.lun,
            cdb,
            attribute: TaskAttribute::Simple,
            transfer: Transfer::Read {
                buffer: self.buffer,
                offset: 0,
                len,
            },
        })
    }

    /// Blocks and bytes of the trial read: all of a tiny LUN.
    fn read(&self) -> (u32, u32) {
        let description = self.description.as_ref().expect("the probe is done");
        let block_len = description.identity.block_len;
        let capacity = u32::try_from(description.identity.blocks).unwrap_or(u32::MAX);
        let blocks = (self.read_len / block_len)
            .min(description.max_transfer_blocks.unwrap_or(u32::MAX))
            .min(capacity)
            .max(1);
        (blocks, blocks * block_len)
    }

    /// Takes the answer.
    pub fn completed(&mut self, completion: &Completion, memory: &dyn Memory) {
        self.out = false;
        match &mut self.stage {
            Stage::Probing(probe) => {
                probe.completed(completion, memory);
                self.drained = probe.is_drained();
                match probe.result() {
                    None => {}
                    Some(Ok(description)) => {
                        let alua = description.alua;
                        self.description = Some(description.clone());
                        self.stage = if alua {
                            Stage::Grouping
                        } else {
                            Stage::Reading
                        };
                    }
                    Some(Err(failure)) => {
                        self.stage = Stage::Done(Box::new(Err(Failed::Probe(failure.clone()))));
                    }
                }
            }
            Stage::Grouping => self.grouped(completion, memory),
            Stage::Reading => self.did_read(completion),
            Stage::Done(_) => {}
        }
    }

    fn grouped(&mut self, completion: &Completion, memory: &dyn Memory) {
        match self.judge(Moves::Parameters(GROUPS_LEN), completion) {
            None => {}
            Some(verdict) => {
                // A target that claims asymmetric access and cannot say more serves all ports alike.
                if verdict == Verdict::Success {
                    let data = memory.read(self.buffer, 0, completion.received.min(GROUPS_LEN));
                    self.groups = PortGroups::parse(data).ok();
                }
                match self.extent {
                    Extent::Groups => self.succeed(),
                    Extent::Full if self.access() == Some(None) => self.succeed(),
                    Extent::Full => self.stage = Stage::Reading,
                }
            }
        }
    }

    /// The state of this port's own group, if it was reported.
    fn access(&self) -> Option<Access> {
        access_of(
            self.groups.as_ref()?,
            self.description.as_ref()?.target_port_group?,
        )
    }

    fn did_read(&mut self, completion: &Completion) {
        let (_, len) = self.read();
        match self.judge(Moves::Read(len), completion) {
            None => {}
            // Bad blocks are the medium's: the path brought the answer.
            Some(Verdict::Success | Verdict::OtherPathOnce(Suspicion::Medium)) => self.succeed(),
            Some(Verdict::OtherGroup) => self.fail(Failed::Probe(ProbeFailure::PortInactive)),
            Some(Verdict::LunGone) => self.fail(Failed::Probe(ProbeFailure::NoSuchLun)),
            // Another host holds the LUN: the path works, and each request will get its own answer.
            Some(Verdict::ReservationConflict) => self.succeed(),
            Some(_) => self.fail(Failed::Data(
                "the trial read of the LUN's first blocks failed",
            )),
        }
    }

    /// The verdict, or `None` if the command is to be repeated.
    fn judge(&mut self, moves: Moves, completion: &Completion) -> Option<Verdict> {
        let verdict = judge(
            moves,
            completion.status,
            completion.sense,
            completion.residual,
            completion.received,
        );
        match verdict {
            Verdict::UnitAttention(_)
            | Verdict::Busy
            | Verdict::TaskSetFull
            | Verdict::BecomingReady
            | Verdict::EarlierWriteLost
            | Verdict::Aborted { .. }
                if self.patience > 0 =>
            {
                self.patience -= 1;
                None
            }
            verdict => Some(verdict),
        }
    }

    fn succeed(&mut self) {
        self.stage = Stage::Done(Box::new(Ok(Findings {
            description: self.description.take(),
            groups: self.groups.take(),
        })));
    }

    fn fail(&mut self, why: Failed) {
        self.stage = Stage::Done(Box::new(Err(why)));
    }

    /// Whether unit attentions are eaten and the ordered command is answered: the proof of the fence.
    pub fn is_drained(&self) -> bool {
        self.drained
    }

    /// The end, once reached.
    pub fn result(&self) -> Option<Result<&Findings, &Failed>> {
        match &self.stage {
            Stage::Done(result) => Some(result.as_ref()),
            _ => None,
        }
    }
}

/// How well the ports of `group` serve the LUN; `None` if it is not among the groups.
pub fn access_of(groups: &PortGroups, group: u16) -> Option<Access> {
    let group = groups.group(group)?;
    Some(match group.state {
        AluaState::ActiveOptimized if group.preferred => Some(AccessClass::Preferred),
        AluaState::ActiveOptimized => Some(AccessClass::Optimized),
        AluaState::LbaDependent => Some(AccessClass::LbaDependent),
        AluaState::ActiveNonOptimized => Some(AccessClass::NonOptimized),
        AluaState::Standby
        | AluaState::Unavailable
        | AluaState::Offline
        | AluaState::Transitioning
        | AluaState::Reserved(_) => None,
    })
}
