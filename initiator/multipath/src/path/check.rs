//! The examination of a path: who answers, does its port serve the LUN, do real data come through.
//!
//! A full examination is [`Probe`], then REPORT TARGET PORT GROUPS where the target reports asymmetric access, then
//! one READ: a small command succeeding proves nothing about the data path, the MTU or the medium (SCHEDULING
//! section 2). The brief one asks for what may change while IO goes on: the port groups, and the capacity through a
//! port that serves. One of a port in standby may begin with SET TARGET PORT GROUPS.

use iscsi_client::memory::{BufferId, Memory};
use iscsi_client::scsi::{
    AluaState, Capacity, Cdb, Moves, PortGroups, SET_GROUPS_LEN, Suspicion, Tpgs, Verdict, judge,
};
use iscsi_client::session::{Command, Completion, Handle, Transfer};
use iscsi_client::wire::{Lun, TaskAttribute};

use crate::identity::{Description, ProbeFailure};
use crate::policy::AccessClass;
use crate::probe::{Glimpse, Probe};

/// Bytes of real data that must come through.
const READ_LEN: u32 = 64 * 1024;
/// Bytes of port groups asked for at first: room for over a hundred groups. More, if the target has more.
const GROUPS_LEN: u32 = 4096;
/// Bytes of READ CAPACITY(16) data.
const CAPACITY_LEN: u32 = 32;
/// Answers in a row that only ask for patience.
const PATIENCE: u8 = 32;

/// How much is asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Extent {
    /// The port groups and the capacity.
    Brief,
    /// Everything.
    Full,
}

/// How well a port serves the LUN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Reads and writes are served.
    Serves(AccessClass),
    /// It changes just now: ask again soon.
    Transition,
    /// Standby, unavailable or offline.
    Inactive,
}

/// The form in which port groups are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// With the extended header, which names the implicit transition time.
    #[default]
    Extended,
    /// For targets that refuse the other.
    LengthOnly,
}

/// Where the commands go, and what is known beforehand.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// The logical unit.
    pub lun: Lun,
    /// For the answers.
    pub buffer: BufferId,
    /// Its length in bytes, at least 4096.
    pub buffer_len: u32,
    /// What the target says of its port groups; found out by a full examination.
    pub tpgs: Tpgs,
    /// As the target was last content with.
    pub format: Format,
    /// Port group of this port, likewise.
    pub own_group: Option<u16>,
}

/// What an examination found.
#[derive(Clone, Debug)]
pub struct Findings {
    /// The LUN, after a full examination.
    pub description: Option<Description>,
    /// What could be seen of it, after a full examination through a port that does not serve it.
    pub glimpse: Option<Glimpse>,
    /// All groups, if the target reports them.
    pub groups: Option<PortGroups>,
    /// Capacity in blocks, if the port serves the LUN.
    pub blocks: Option<u64>,
    /// What the target understands.
    pub format: Format,
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
    /// SET TARGET PORT GROUPS: this group shall be active/optimized.
    Activating(u16),
    /// REPORT TARGET PORT GROUPS with room for so many bytes.
    Grouping(u32),
    Measuring,
    Reading,
    Done(Box<Result<Findings, Failed>>),
}

/// An examination under way.
#[derive(Clone, Debug)]
pub struct Check {
    extent: Extent,
    terms: Terms,
    stage: Stage,
    out: bool,
    drained: bool,
    patience: u8,
    description: Option<Description>,
    glimpse: Option<Glimpse>,
    groups: Option<PortGroups>,
    blocks: Option<u64>,
}

impl Check {
    /// An examination of this extent.
    pub fn new(terms: Terms, extent: Extent) -> Check {
        let stage = match extent {
            Extent::Full => Stage::Probing(Box::new(Probe::new(terms.lun, terms.buffer))),
            Extent::Brief if terms.tpgs == Tpgs::None => Stage::Measuring,
            Extent::Brief => Stage::Grouping(GROUPS_LEN),
        };
        Check {
            extent,
            terms,
            stage,
            out: false,
            drained: false,
            patience: PATIENCE,
            description: None,
            glimpse: None,
            groups: None,
            blocks: None,
        }
    }

    /// A brief one that first tells the target to serve the LUN through this group.
    pub fn activation(terms: Terms, group: u16) -> Check {
        Check {
            stage: Stage::Activating(group),
            ..Check::new(terms, Extent::Brief)
        }
    }

    /// Whether SET TARGET PORT GROUPS is what it is about now; the group.
    pub fn activates(&self) -> Option<u16> {
        match self.stage {
            Stage::Activating(group) => Some(group),
            _ => None,
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
            Stage::Activating(_) => (Cdb::set_target_port_groups(SET_GROUPS_LEN), SET_GROUPS_LEN),
            &mut Stage::Grouping(len) => {
                let extended = self.terms.format == Format::Extended;
                (Cdb::report_target_port_groups(len, extended), len)
            }
            Stage::Measuring => (Cdb::read_capacity_16(CAPACITY_LEN), CAPACITY_LEN),
            Stage::Reading => {
                let (blocks, len) = self.read();
                (Cdb::read_16(0, blocks), len)
            }
            Stage::Done(_) => return None,
        };
        self.out = true;
        let (buffer, offset) = (self.terms.buffer, 0);
        Some(Command {
            handle,
            lun: self.terms.lun,
            cdb,
            attribute: TaskAttribute::Simple,
            transfer: match self.stage {
                Stage::Activating(_) => Transfer::Write {
                    buffer,
                    offset,
                    len,
                },
                _ => Transfer::Read {
                    buffer,
                    offset,
                    len,
                },
            },
        })
    }

    /// Blocks and bytes of the trial read: all of a tiny LUN.
    fn read(&self) -> (u32, u32) {
        let description = self.description.as_ref().expect("the probe is done");
        let block_len = description.identity.block_len;
        let capacity = u32::try_from(description.identity.blocks).unwrap_or(u32::MAX);
        let blocks = (READ_LEN.min(self.terms.buffer_len) / block_len)
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
                        let description = description.clone();
                        self.terms.tpgs = description.tpgs;
                        self.terms.own_group = description.target_port_group;
                        self.blocks = Some(description.identity.blocks);
                        self.stage = match description.tpgs {
                            Tpgs::None => Stage::Reading,
                            _ => Stage::Grouping(GROUPS_LEN),
                        };
                        self.description = Some(description);
                    }
                    Some(Err(failure)) => {
                        let failure = failure.clone();
                        match probe.glimpse() {
                            // The groups say whether that is going to change.
                            Some(glimpse)
                                if failure == ProbeFailure::PortInactive
                                    && glimpse.tpgs != Tpgs::None =>
                            {
                                self.terms.own_group = Some(glimpse.target_port_group);
                                self.glimpse = Some(glimpse);
                                self.stage = Stage::Grouping(GROUPS_LEN);
                            }
                            _ => self.fail(Failed::Probe(failure)),
                        }
                    }
                }
            }
            // Whether it worked, the groups will tell.
            Stage::Activating(_) => {
                if self
                    .judge(Moves::Written(SET_GROUPS_LEN), completion)
                    .is_some()
                {
                    self.stage = Stage::Grouping(GROUPS_LEN);
                }
            }
            &mut Stage::Grouping(len) => self.grouped(len, completion, memory),
            Stage::Measuring => self.measured(completion, memory),
            Stage::Reading => self.did_read(completion),
            Stage::Done(_) => {}
        }
    }

    fn grouped(&mut self, len: u32, completion: &Completion, memory: &dyn Memory) {
        let Some(verdict) = self.judge(Moves::Parameters(len), completion) else {
            return;
        };
        // A target that claims asymmetric access and cannot say more serves all ports alike.
        match verdict {
            Verdict::Success => {
                let data = memory.read(self.terms.buffer, 0, completion.received.min(len));
                self.groups = PortGroups::parse(data).ok();
                let needed = self.groups.as_ref().map_or(0, |groups| groups.len_needed);
                let most = self.terms.buffer_len;
                if needed > len && len < most {
                    self.stage = Stage::Grouping(needed.min(most));
                    return;
                }
            }
            Verdict::NotSupported | Verdict::Refused if self.terms.format == Format::Extended => {
                self.terms.format = Format::LengthOnly;
                return;
            }
            _ => {}
        }
        let serves = matches!(self.access(), None | Some(Access::Serves(_)));
        match self.extent {
            _ if self.glimpse.is_some() && self.access().is_none() => {
                self.fail(Failed::Probe(ProbeFailure::PortInactive));
            }
            // Also where the port serves by now: everything is asked once more.
            _ if !serves || self.glimpse.is_some() => self.succeed(),
            Extent::Brief => self.stage = Stage::Measuring,
            Extent::Full => self.stage = Stage::Reading,
        }
    }

    fn measured(&mut self, completion: &Completion, memory: &dyn Memory) {
        let Some(verdict) = self.judge(Moves::Parameters(CAPACITY_LEN), completion) else {
            return;
        };
        match verdict {
            Verdict::Success => {
                let len = completion.received.min(CAPACITY_LEN);
                let data = memory.read(self.terms.buffer, 0, len);
                self.blocks = Capacity::parse(data).ok().map(|capacity| capacity.blocks);
                self.succeed();
            }
            Verdict::OtherGroup => self.fail(Failed::Probe(ProbeFailure::PortInactive)),
            Verdict::LunGone => self.fail(Failed::Probe(ProbeFailure::NoSuchLun)),
            // The path carries IO, whose answers say more of it than this one.
            _ => self.succeed(),
        }
    }

    /// The state of this port's own group, if it was reported.
    fn access(&self) -> Option<Access> {
        access_of(self.groups.as_ref()?, self.terms.own_group?)
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
            glimpse: self.glimpse.take(),
            groups: self.groups.take(),
            blocks: self.blocks,
            format: self.terms.format,
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
            Stage::Done(result) => Some(result.as_ref().as_ref()),
            _ => None,
        }
    }
}

/// How well the ports of `group` serve the LUN; `None` if it is not among the groups.
pub fn access_of(groups: &PortGroups, group: u16) -> Option<Access> {
    let group = groups.group(group)?;
    Some(match group.state {
        AluaState::ActiveOptimized if group.preferred => Access::Serves(AccessClass::Preferred),
        AluaState::ActiveOptimized => Access::Serves(AccessClass::Optimized),
        AluaState::LbaDependent => Access::Serves(AccessClass::LbaDependent),
        AluaState::ActiveNonOptimized => Access::Serves(AccessClass::NonOptimized),
        AluaState::Transitioning => Access::Transition,
        AluaState::Standby
        | AluaState::Unavailable
        | AluaState::Offline
        | AluaState::Reserved(_) => Access::Inactive,
    })
}
