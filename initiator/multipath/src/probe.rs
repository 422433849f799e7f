//! The questions that tell who a LUN is and what it can do, one command at a time (SPC-5, SBC-4).
//!
//! The same machine runs in the probing login and in the verification of every path. It begins with [`Drain`],
//! so that a session which finished its probe has also proven its predecessor dead. INQUIRY comes in the middle of that:
//! it tells whether the target may be sent an ORDERED command.

use iscsi_client::memory::{BufferId, Memory};
use iscsi_client::scsi::{
    BlockLimits, Capacity, Cdb, Characteristics, Designators, Inquiry, ModeData, Moves,
    Provisioning, SupportedPages, Tpgs, Verdict, Wwid, judge, mode_page, serial_number, vpd_page,
};
use iscsi_client::session::{Command, Completion, Handle, Transfer};
use iscsi_client::wire::{Lun, TaskAttribute};

use crate::drain::{Drain, Drained, LastWord};
use crate::identity::{Description, Identity, ProbeFailure, TaskSet, UnmapLimits};
use crate::ladder::TargetKind;

/// Most bytes asked for in one answer; the buffer holds them.
const ANSWER_LEN: u16 = 1024;
/// Answers in a row that only ask for patience.
const PATIENCE: u8 = 32;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Question {
    Inquiry,
    Pages,
    Serial,
    Designators,
    Limits,
    Characteristics,
    Provisioning,
    Capacity,
    Mode,
    Control,
}

impl Question {
    const ALL: [Question; 10] = [
        Question::Inquiry,
        Question::Pages,
        Question::Serial,
        Question::Designators,
        Question::Limits,
        Question::Characteristics,
        Question::Provisioning,
        Question::Capacity,
        Question::Mode,
        Question::Control,
    ];

    /// The VPD page it asks for, which is only asked for if the LUN lists it.
    fn page(self) -> Option<u8> {
        match self {
            Question::Serial => Some(vpd_page::UNIT_SERIAL_NUMBER),
            Question::Designators => Some(vpd_page::DEVICE_IDENTIFICATION),
            Question::Limits => Some(vpd_page::BLOCK_LIMITS),
            Question::Characteristics => Some(vpd_page::BLOCK_DEVICE_CHARACTERISTICS),
            Question::Provisioning => Some(vpd_page::LOGICAL_BLOCK_PROVISIONING),
            Question::Inquiry
            | Question::Pages
            | Question::Capacity
            | Question::Mode
            | Question::Control => None,
        }
    }

    fn cdb(self) -> (Cdb, u32) {
        let len = ANSWER_LEN;
        match self {
            // Some old devices answer nothing at all if asked for more than they have ever had.
            Question::Inquiry => (Cdb::inquiry(96), 96),
            Question::Pages => (Cdb::inquiry_vpd(vpd_page::SUPPORTED_PAGES, 255), 255),
            Question::Capacity => (Cdb::read_capacity_16(32), 32),
            Question::Mode => (Cdb::mode_sense_10(mode_page::CACHING, 192), 192),
            Question::Control => (Cdb::mode_sense_10(mode_page::CONTROL, 192), 192),
            _ => {
                let page = self.page().expect("all others are VPD pages");
                (Cdb::inquiry_vpd(page, len), u32::from(len))
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Question::Inquiry => "INQUIRY",
            Question::Pages => "INQUIRY page 00h",
            Question::Serial => "INQUIRY page 80h",
            Question::Designators => "INQUIRY page 83h",
            Question::Limits => "INQUIRY page B0h",
            Question::Characteristics => "INQUIRY page B1h",
            Question::Provisioning => "INQUIRY page B2h",
            Question::Capacity => "READ CAPACITY(16)",
            Question::Mode => "MODE SENSE(10)",
            Question::Control => "MODE SENSE(10) page 0Ah",
        }
    }
}

/// What was answered so far.
#[derive(Clone, Default, Debug)]
struct Answers {
    inquiry: Option<Inquiry>,
    pages: SupportedPages,
    serial: String,
    wwid: Option<Wwid>,
    target_port_group: Option<u16>,
    limits: Option<BlockLimits>,
    characteristics: Option<Characteristics>,
    provisioning: Provisioning,
    capacity: Option<Capacity>,
    /// FUA honoured, write protected, write cache on.
    mode: Option<(bool, bool, bool)>,
    task_set: TaskSet,
}

#[derive(Clone, Debug)]
enum Stage {
    Draining(Drain),
    Asking { next: Question, out: bool },
    Done(Result<Description, ProbeFailure>),
}

/// Whether the port serves the LUN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Port {
    Serves,
    /// It answers INQUIRY alone: that tells which LUN it is, and which port.
    Inactive,
}

/// What is known of a LUN behind a port that does not serve it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Glimpse {
    /// Its WWID.
    pub wwid: String,
    /// Whether the target reports asymmetric access.
    pub tpgs: Tpgs,
    /// Target port group of the port.
    pub target_port_group: u16,
}

/// The questions, one command at a time.
#[derive(Clone, Debug)]
pub struct Probe {
    lun: Lun,
    buffer: BufferId,
    stage: Stage,
    drained: bool,
    port: Port,
    answers: Answers,
    patience: u8,
}

impl Probe {
    /// Asks about `lun`, with answers in `buffer` (at least 4096 bytes).
    pub fn new(lun: Lun, buffer: BufferId) -> Probe {
        Probe {
            lun,
            buffer,
            stage: Stage::Draining(Drain::new(lun, LastWord::Omitted)),
            drained: false,
            port: Port::Serves,
            answers: Answers::default(),
            patience: PATIENCE,
        }
    }

    /// The next command to submit, under `handle`; `None` while one is out or when done.
    pub fn poll_command(&mut self, handle: Handle) -> Option<Command> {
        let Stage::Asking { next, out } = &mut self.stage else {
            return match &mut self.stage {
                Stage::Draining(drain) => drain.poll_command(handle),
                _ => None,
            };
        };
        if *out {
            return None;
        }
        *out = true;
        let (cdb, len) = next.cdb();
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

    /// Takes the answer.
    pub fn completed(&mut self, completion: &Completion, memory: &dyn Memory) {
        match &mut self.stage {
            Stage::Draining(drain) => {
                drain.completed(completion);
                match drain.result() {
                    None => {}
                    Some(Drained::Ready) if self.answers.inquiry.is_none() => {
                        self.ask(Some(Question::Inquiry));
                    }
                    Some(Drained::Ready) => {
                        self.drained = true;
                        self.ask(self.after(Question::Inquiry));
                    }
                    Some(Drained::LunGone) => self.end(Err(ProbeFailure::NoSuchLun)),
                    Some(Drained::PortInactive) => {
                        self.port = Port::Inactive;
                        self.ask(Some(Question::Inquiry));
                    }
                    Some(Drained::NotReady) => self.end(Err(ProbeFailure::NotReady)),
                }
            }
            &mut Stage::Asking { next, .. } => self.answered(next, completion, memory),
            Stage::Done(_) => {}
        }
    }

    /// Whether the unit attentions are eaten and the ordered command, where there is one, is answered.
    pub fn is_drained(&self) -> bool {
        self.drained
    }

    /// The result, once everything was asked.
    pub fn result(&self) -> Option<Result<&Description, &ProbeFailure>> {
        match &self.stage {
            Stage::Done(result) => Some(result.as_ref()),
            _ => None,
        }
    }

    /// What was found through a port that does not serve the LUN.
    pub fn glimpse(&self) -> Option<Glimpse> {
        let answers = &self.answers;
        let inquiry = answers.inquiry.as_ref()?;
        let wwid = match &answers.wwid {
            Some(wwid) => wwid.clone(),
            None => Wwid::from_serial(inquiry, &answers.serial)?,
        };
        Some(Glimpse {
            wwid: wwid.as_str().to_owned(),
            tpgs: inquiry.tpgs,
            target_port_group: answers.target_port_group?,
        })
    }

    fn end(&mut self, result: Result<Description, ProbeFailure>) {
        self.stage = Stage::Done(result);
    }

    fn ask(&mut self, next: Option<Question>) {
        self.stage = match next {
            Some(next) if self.port == Port::Inactive && next > Question::Designators => {
                Stage::Done(Err(ProbeFailure::PortInactive))
            }
            Some(next) => Stage::Asking { next, out: false },
            None => Stage::Done(self.description()),
        };
    }

    /// INQUIRY is answered: the last word of the drain, if this target may hear it.
    fn known(&mut self) {
        let inquiry = self.answers.inquiry.as_ref();
        let vendor = inquiry.map_or(String::new(), Inquiry::vendor_text);
        match TargetKind::of_vendor(&vendor).last_word() {
            // Through this port it proves nothing.
            _ if self.port == Port::Inactive => self.ask(self.after(Question::Inquiry)),
            LastWord::Ordered => self.stage = Stage::Draining(Drain::ordered(self.lun)),
            LastWord::Omitted => {
                self.drained = true;
                self.ask(self.after(Question::Inquiry));
            }
        }
    }

    fn answered(&mut self, question: Question, completion: &Completion, memory: &dyn Memory) {
        let (_, len) = question.cdb();
        let verdict = judge(
            Moves::Parameters(len),
            completion.status,
            completion.sense,
            completion.residual,
            completion.received,
        );
        match verdict {
            Verdict::Success => {
                let data = memory.read(self.buffer, 0, completion.received.min(len));
                match self.note(question, data) {
                    Ok(()) if question == Question::Inquiry => self.known(),
                    Ok(()) => self.ask(self.after(question)),
                    Err(failure) => self.end(Err(failure)),
                }
            }
            Verdict::UnitAttention(_)
            | Verdict::Busy
            | Verdict::TaskSetFull
            | Verdict::BecomingReady
            | Verdict::EarlierWriteLost
            | Verdict::Aborted { .. }
                if self.patience > 0 =>
            {
                self.patience -= 1;
                self.ask(Some(question));
            }
            Verdict::LunGone => self.end(Err(ProbeFailure::NoSuchLun)),
            Verdict::OtherGroup => self.end(Err(ProbeFailure::PortInactive)),
            Verdict::BecomingReady | Verdict::NotReady | Verdict::Busy | Verdict::TaskSetFull => {
                self.end(Err(ProbeFailure::NotReady));
            }
            // No VPD at all, or no such mode page: answered by silence.
            Verdict::NotSupported | Verdict::Refused
                if matches!(
                    question,
                    Question::Pages | Question::Mode | Question::Control
                ) =>
            {
                self.ask(self.after(question));
            }
            _ => self.end(Err(ProbeFailure::Failed(question.name()))),
        }
    }

    fn note(&mut self, question: Question, data: &[u8]) -> Result<(), ProbeFailure> {
        let answers = &mut self.answers;
        let failed = |_| ProbeFailure::Failed(question.name());
        match question {
            Question::Inquiry => {
                let inquiry = Inquiry::parse(data).map_err(failed)?;
                match inquiry.qualifier {
                    0 if inquiry.is_block_device() => {}
                    0 => return Err(ProbeFailure::NotADisk(inquiry.device_type)),
                    _ => return Err(ProbeFailure::NoSuchLun),
                }
                answers.inquiry = Some(inquiry);
            }
            // Standard INQUIRY data instead of the page: the LUN has no VPD.
            Question::Pages => answers.pages = SupportedPages::parse(data).unwrap_or_default(),
            Question::Serial => answers.serial = serial_number(data).map_err(failed)?,
            Question::Designators => {
                let designators = Designators::parse(data).map_err(failed)?;
                answers.wwid = Wwid::from_designators(designators);
                answers.target_port_group = designators.target_port_group();
            }
            Question::Limits => answers.limits = Some(BlockLimits::parse(data).map_err(failed)?),
            Question::Characteristics => {
                answers.characteristics = Some(Characteristics::parse(data).map_err(failed)?);
            }
            Question::Provisioning => {
                answers.provisioning = Provisioning::parse(data).map_err(failed)?;
            }
            Question::Capacity => {
                let capacity = Capacity::parse(data).map_err(failed)?;
                if !matches!(capacity.block_len, 512 | 4096) {
                    return Err(ProbeFailure::BlockLength(capacity.block_len));
                }
                if capacity.protection.is_some() {
                    return Err(ProbeFailure::Protection);
                }
                answers.capacity = Some(capacity);
            }
            Question::Mode => {
                if let Ok(mode) = ModeData::parse(data) {
                    // A LUN that does not say has a cache until proven otherwise: flushes cost little.
                    let cache = mode.caching().is_none_or(|caching| caching.write_cache);
                    answers.mode = Some((mode.fua, mode.write_protected, cache));
                }
            }
            Question::Control => {
                let control = ModeData::parse(data).ok().and_then(|mode| mode.control());
                answers.task_set = match control.map(|control| control.task_set_type) {
                    None | Some(0) => TaskSet::Shared,
                    Some(_) => TaskSet::PerNexus,
                };
            }
        }
        Ok(())
    }

    fn after(&self, question: Question) -> Option<Question> {
        Question::ALL
            .into_iter()
            .filter(|&next| next > question)
            .find(|next| {
                next.page()
                    .is_none_or(|page| self.answers.pages.contains(page))
            })
    }

    fn description(&self) -> Result<Description, ProbeFailure> {
        let answers = &self.answers;
        let (Some(inquiry), Some(capacity)) = (&answers.inquiry, answers.capacity) else {
            return Err(ProbeFailure::Failed(Question::Inquiry.name()));
        };
        let wwid = match &answers.wwid {
            Some(wwid) => wwid.clone(),
            None if answers.serial.is_empty() => return Err(ProbeFailure::NoIdentifier),
            None => {
                Wwid::from_serial(inquiry, &answers.serial).ok_or(ProbeFailure::NoIdentifier)?
            }
        };
        let limits = answers.limits.unwrap_or_default();
        let provisioning = answers.provisioning;
        let (fua, read_only, write_cache) = answers.mode.unwrap_or((false, false, true));
        Ok(Description {
            identity: Identity {
                wwid: wwid.as_str().to_owned(),
                serial: answers.serial.clone(),
                vendor: inquiry.vendor_text(),
                product: inquiry.product_text(),
                blocks: capacity.blocks,
                block_len: capacity.block_len,
            },
            physical_block_exponent: capacity.physical_exponent,
            max_transfer_blocks: limits.transfer_max.map(u32::from),
            optimal_transfer_blocks: limits.transfer_optimal.map(u32::from),
            optimal_granularity_blocks: limits
                .optimal_granularity
                .map(|blocks| u32::from(u16::from(blocks))),
            rotational: answers
                .characteristics
                .is_none_or(|characteristics| characteristics.is_rotational()),
            write_cache,
            fua,
            read_only,
            unmap: match limits.unmap_blocks_max {
                Some(max_blocks)
                    if capacity.provisioned && provisioning.unmap && limits.can_unmap() =>
                {
                    Some(UnmapLimits {
                        max_blocks: max_blocks.into(),
                        granularity_blocks: limits.unmap_granularity.map_or(1, u32::from),
                        alignment_blocks: limits.unmap_alignment.unwrap_or(0),
                    })
                }
                _ => None,
            },
            max_write_same_blocks: limits
                .write_same_max
                .map(|blocks| u32::try_from(u64::from(blocks)).unwrap_or(u32::MAX)),
            write_same_unmaps: capacity.provisioned
                && provisioning.write_same_16_unmaps
                && (provisioning.reads_zeros || capacity.reads_zeros),
            task_set: answers.task_set,
            target_port_group: answers.target_port_group,
            tpgs: inquiry.tpgs,
        })
    }
}
