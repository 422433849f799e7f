//! A logical unit: blocks, commands in execution, unit attentions, faults on demand (SAM-5, SPC-5, SBC-4).
//!
//! A command is judged when it arrives (faults, unit attentions, access state) and takes effect when its time
//! in the backend is over; between the two its session may die, and the effect happens all the same. That gap
//! is where ghost writes live, so every effect is recorded in [`LogicalUnit::take_effects`].

mod execute;
mod inject;
mod operation;
mod pages;
mod ports;
mod sense;
mod store;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use iscsi_client::time::Instant;
use iscsi_client::wire::TaskAttribute;

pub use inject::{Fault, Injection, Select};
use operation::Operation;
pub use sense::{Answer, Code, Format};
pub use store::Store;

use crate::prng::Prng;

/// One session's life: a reinstated session is another nexus here, because its fate must be told apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Nexus(pub u32);

/// A target port group of ALUA.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Group(pub u16);

/// Asymmetric access state (SPC-5, 5.15).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub enum AluaState {
    #[default]
    Optimized = 0x0,
    NonOptimized = 0x1,
    Standby = 0x2,
    Unavailable = 0x3,
    Offline = 0xe,
    Transitioning = 0xf,
}

/// Who the unit says it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Vendor, up to 8 characters.
    pub vendor: String,
    /// Product, up to 16 characters.
    pub product: String,
    /// Unit serial number.
    pub serial: String,
    /// NAA designator.
    pub naa: [u8; 16],
}

impl Default for Identity {
    fn default() -> Self {
        Identity {
            vendor: "KIT".into(),
            product: "simulated disk".into(),
            serial: "5eed0001".into(),
            naa: *b"\x60\x01\x40\x55\xee\xd0\x00\x10\0\0\0\0\0\0\0\x01",
        }
    }
}

/// Shape and behaviour of a unit.
#[derive(Clone, Debug)]
pub struct LunConfig {
    /// Who it is.
    pub identity: Identity,
    /// Logical block in bytes.
    pub block_size: u32,
    /// Capacity in blocks, at least 1.
    pub blocks: u64,
    /// log2 of logical blocks per physical block.
    pub physical_exponent: u8,
    /// Writes reach the medium only with FUA or SYNCHRONIZE CACHE.
    pub write_cache: bool,
    /// Writes are refused.
    pub read_only: bool,
    /// Formatted with protection information (which nobody here supports).
    pub protected: bool,
    /// UNMAP and WRITE SAME with UNMAP.
    pub thin: bool,
    /// WRITE SAME at all.
    pub write_same: bool,
    /// A disk of rust.
    pub rotational: bool,
    /// TPGS implicit, and REPORT TARGET PORT GROUPS.
    pub alua: bool,
    /// TPGS explicit as well: SET TARGET PORT GROUPS.
    pub alua_explicit: bool,
    /// Implicit transition time in seconds, in the extended header; `None`: the header itself is refused.
    pub transition_seconds: Option<u8>,
    /// Longest transfer in blocks; 0 if not stated. Enforced.
    pub max_transfer_blocks: u32,
    /// Longest UNMAP in blocks.
    pub max_unmap_blocks: u32,
    /// Most UNMAP descriptors.
    pub max_unmap_descriptors: u32,
    /// Longest WRITE SAME in blocks; 0 if not stated.
    pub max_write_same_blocks: u64,
    /// TST=001b: each nexus has a task set of its own, and ordered commands wait only for their nexus's.
    pub task_set_per_nexus: bool,
    /// ORDERED is taken for SIMPLE.
    pub ignores_order: bool,
    /// Shortest time in the backend.
    pub latency_min: Duration,
    /// Longest time in the backend.
    pub latency_max: Duration,
    /// A parked command runs on by itself after so long: the backend's own limit.
    pub park_max: Option<Duration>,
    /// How sense is written.
    pub sense_format: Format,
    /// Record effects for [`LogicalUnit::take_effects`]; the judge must take them, or they pile up.
    pub record_effects: bool,
}

impl Default for LunConfig {
    fn default() -> Self {
        LunConfig {
            identity: Identity::default(),
            block_size: 512,
            blocks: 1 << 21,
            physical_exponent: 3,
            write_cache: false,
            read_only: false,
            protected: false,
            thin: true,
            write_same: true,
            rotational: false,
            alua: false,
            alua_explicit: false,
            transition_seconds: Some(5),
            max_transfer_blocks: 8192,
            max_unmap_blocks: 1 << 16,
            max_unmap_descriptors: 8,
            max_write_same_blocks: 1 << 16,
            task_set_per_nexus: false,
            ignores_order: false,
            latency_min: Duration::from_micros(50),
            latency_max: Duration::from_micros(500),
            park_max: None,
            sense_format: Format::Fixed,
            record_effects: false,
        }
    }
}

/// A command with all its data.
#[derive(Clone, Debug)]
pub struct Job {
    /// Whose.
    pub nexus: Nexus,
    /// The session's task tag.
    pub task: u32,
    /// Where the session comes in.
    pub group: Group,
    /// Relative target port of the session.
    pub port: u16,
    /// What to do.
    pub cdb: [u8; 16],
    /// Order against other commands.
    pub attribute: TaskAttribute,
    /// Data from the initiator.
    pub data: Vec<u8>,
}

/// The unit's name for a command in execution.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct JobId(u64);

/// A command that ended and whose session still wants to know.
#[derive(Clone, Debug)]
pub struct Done {
    /// Whose.
    pub nexus: Nexus,
    /// The session's task tag.
    pub task: u32,
    /// How.
    pub answer: Answer,
}

/// A change of the medium, at the moment it happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Effect {
    /// When.
    pub at: Instant,
    /// Whose command.
    pub nexus: Nexus,
    /// First block.
    pub lba: u64,
    /// Number of blocks.
    pub blocks: u64,
    /// What was written; `None` where blocks were discarded or zeroed.
    pub data: Option<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Progress {
    /// Behind an ordered command, or ordered itself.
    Waiting(Duration),
    Running(Instant),
    /// Until it is released, or until then.
    Parked {
        until: Option<Instant>,
    },
}

#[derive(Clone, Debug)]
struct Entry {
    id: JobId,
    job: Job,
    progress: Progress,
    /// Overrides what the command would do or say.
    verdict: Verdict,
    /// The session is gone or the task aborted: nobody hears the answer.
    silent: bool,
}

#[derive(Clone, Debug)]
enum Verdict {
    Execute,
    /// Execute, then say this.
    ExecuteThen(Vec<u8>),
    ExecuteShort,
    Refuse(Answer),
}

#[derive(Clone, Debug, Default)]
struct NexusState {
    attentions: VecDeque<Code>,
}

/// Most unit attentions queued per nexus; the oldest stays.
const ATTENTIONS_MAX: usize = 8;

/// A logical unit.
#[derive(Clone, Debug)]
pub struct LogicalUnit {
    config: LunConfig,
    store: Store,
    prng: Prng,
    next_id: u64,
    /// In order of arrival.
    jobs: Vec<Entry>,
    done: VecDeque<Done>,
    injections: Vec<Injection>,
    nexuses: BTreeMap<Nexus, NexusState>,
    groups: BTreeMap<Group, (AluaState, bool)>,
    effects: Vec<Effect>,
    /// What READ CAPACITY says through these groups, instead of the truth.
    stale_capacities: BTreeMap<Group, u64>,
    activations: Vec<(Instant, Group)>,
}

impl LogicalUnit {
    /// A unit full of zeros. `prng` draws its latencies.
    pub fn new(config: LunConfig, prng: Prng) -> LogicalUnit {
        assert!(config.blocks > 0 && config.block_size > 0);
        LogicalUnit {
            store: Store::new(config.block_size),
            config,
            prng,
            next_id: 0,
            jobs: Vec::new(),
            done: VecDeque::new(),
            injections: Vec::new(),
            nexuses: BTreeMap::new(),
            groups: BTreeMap::new(),
            effects: Vec::new(),
            stale_capacities: BTreeMap::new(),
            activations: Vec::new(),
        }
    }

    /// Shape and behaviour.
    pub fn config(&self) -> &LunConfig {
        &self.config
    }

    /// Changes shape and behaviour without telling anybody.
    pub fn config_mut(&mut self) -> &mut LunConfig {
        &mut self.config
    }

    /// The blocks, for a look past the protocol.
    pub fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    /// A session comes; it finds `attention` pending.
    pub fn join(&mut self, nexus: Nexus, attention: Option<Code>) {
        let state = self.nexuses.entry(nexus).or_default();
        state.attentions.extend(attention);
    }

    /// A session ends. Commands not started are dropped where `drop_waiting`; started ones run on, unheard.
    pub fn leave(&mut self, now: Instant, nexus: Nexus, drop_waiting: bool) {
        self.nexuses.remove(&nexus);
        self.injections
            .retain(|injection| injection.nexus != Some(nexus));
        self.silence(now, drop_waiting, |job| job.nexus == nexus);
    }

    /// Aborts what `select` names; returns the commands whose end must be awaited.
    pub fn abort(&mut self, now: Instant, select: impl Fn(&Job) -> bool) -> Vec<JobId> {
        self.silence(now, true, &select);
        self.done.retain(|done| {
            let gone = self
                .jobs
                .iter()
                .any(|entry| entry.silent && entry.job.task == done.task);
            !gone
        });
        self.jobs
            .iter()
            .filter(|entry| select(&entry.job))
            .map(|entry| entry.id)
            .collect()
    }

    fn silence(&mut self, now: Instant, drop_waiting: bool, select: impl Fn(&Job) -> bool) {
        self.jobs.retain_mut(|entry| {
            if select(&entry.job) {
                entry.silent = true;
                return !(drop_waiting && matches!(entry.progress, Progress::Waiting(_)));
            }
            true
        });
        self.start_what_may_start(now);
    }

    /// Whether a command is still in execution.
    pub fn is_running(&self, id: JobId) -> bool {
        self.jobs.iter().any(|entry| entry.id == id)
    }

    /// Commands of a nexus in execution, heard or not.
    pub fn busy(&self, nexus: Nexus) -> usize {
        self.jobs
            .iter()
            .filter(|entry| entry.job.nexus == nexus)
            .count()
    }

    /// Commands in execution.
    pub fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// Parked commands, oldest first.
    pub fn parked(&self) -> impl Iterator<Item = (JobId, &Job)> {
        self.jobs
            .iter()
            .filter(|entry| matches!(entry.progress, Progress::Parked { .. }))
            .map(|entry| (entry.id, &entry.job))
    }

    /// Lets a parked command run at once.
    pub fn release(&mut self, now: Instant, id: JobId) {
        for entry in &mut self.jobs {
            if entry.id == id && matches!(entry.progress, Progress::Parked { .. }) {
                entry.progress = Progress::Running(now);
            }
        }
    }

    /// Lets all parked commands run at once.
    pub fn release_all(&mut self, now: Instant) {
        for entry in &mut self.jobs {
            if matches!(entry.progress, Progress::Parked { .. }) {
                entry.progress = Progress::Running(now);
            }
        }
    }

    /// Arms a fault.
    pub fn inject(&mut self, injection: Injection) {
        self.injections.push(injection);
    }

    /// Disarms all faults.
    pub fn heal(&mut self) {
        self.injections.clear();
    }

    /// Faults still armed.
    pub fn armed(&self) -> usize {
        self.injections.len()
    }

    /// Queues a unit attention for every nexus but `except`.
    pub fn attention(&mut self, code: Code, except: Option<Nexus>) {
        for (nexus, state) in &mut self.nexuses {
            if Some(*nexus) != except && state.attentions.len() < ATTENTIONS_MAX {
                state.attentions.push_back(code);
            }
        }
    }

    /// Another capacity. `tell`: with a unit attention (LIO and tgt send none).
    pub fn resize(&mut self, blocks: u64, tell: bool) {
        self.config.blocks = blocks;
        if tell {
            self.attention(Code::CAPACITY_CHANGED, None);
        }
    }

    /// Another disk behind the same LUN: identity, shape and content.
    pub fn swap(&mut self, config: LunConfig, tell: bool) {
        self.store = Store::new(config.block_size);
        self.config = config;
        if tell {
            self.attention(Code::INQUIRY_CHANGED, None);
        }
    }

    /// The target dies: commands in execution are lost.
    pub fn drop_jobs(&mut self) {
        self.jobs.clear();
        self.done.clear();
    }

    /// The power fails: commands in execution and unflushed blocks are lost.
    pub fn power_cut(&mut self) {
        self.drop_jobs();
        self.store.power_cut(&mut self.prng);
    }

    /// Bytes the command wants from the initiator, for the data phase that precedes [`LogicalUnit::submit`].
    pub fn data_out_len(&self, cdb: &[u8; 16]) -> u64 {
        Operation::decode(cdb).map_or(0, |operation| {
            operation.data_out_len(self.config.block_size)
        })
    }

    /// What a command gets before any data is asked for: a pending unit attention, a missing access.
    pub fn refuse_early(&mut self, nexus: Nexus, group: Group, cdb: &[u8; 16]) -> Option<Answer> {
        let operation = match Operation::decode(cdb) {
            Ok(operation) => operation,
            Err(code) => return Some(self.check(code)),
        };
        if !operation.passes_unit_attention()
            && let Some(state) = self.nexuses.get_mut(&nexus)
            && let Some(code) = state.attentions.pop_front()
        {
            return Some(self.check(code));
        }
        if !operation.works_without_access() {
            let code = match self.access(group) {
                AluaState::Optimized | AluaState::NonOptimized => None,
                AluaState::Standby => Some(Code::STANDBY),
                AluaState::Transitioning => Some(Code::TRANSITION),
                AluaState::Unavailable | AluaState::Offline => Some(Code::UNAVAILABLE),
            };
            if let Some(code) = code {
                return Some(self.check(code));
            }
        }
        if operation.changes_medium() && self.config.read_only {
            return Some(self.check(Code::WRITE_PROTECTED));
        }
        None
    }

    /// Takes on a command that has all its data.
    pub fn submit(&mut self, now: Instant, job: Job) -> JobId {
        let (low, high) = (self.config.latency_min, self.config.latency_max);
        let (low, high) = (low.as_nanos() as u64, high.as_nanos() as u64);
        let mut latency = Duration::from_nanos(self.prng.between(low, high.max(low)));
        let mut verdict = Verdict::Execute;
        let mut park = false;
        if let Some(fault) = self.strike(&job) {
            let format = self.config.sense_format;
            match fault {
                Fault::Check(code) => verdict = Verdict::Refuse(self.check(code)),
                Fault::Deferred(code) => {
                    verdict = Verdict::Refuse(Answer::check(code.encode(format, true, None)));
                }
                Fault::Recovered(code) => {
                    verdict = Verdict::ExecuteThen(code.encode(format, false, None));
                }
                Fault::Status(status) => verdict = Verdict::Refuse(Answer::status(status)),
                Fault::Response(response) => {
                    let answer = Answer {
                        response,
                        ..Answer::status(0)
                    };
                    verdict = Verdict::Refuse(answer);
                }
                Fault::Park => park = true,
                Fault::Delay(more) => latency += more,
                Fault::ShortRead => verdict = Verdict::ExecuteShort,
            }
        }
        let id = JobId(self.next_id);
        self.next_id += 1;
        self.jobs.push(Entry {
            id,
            job,
            progress: if park {
                let until = self.config.park_max.map(|limit| now + limit);
                Progress::Parked { until }
            } else {
                Progress::Waiting(latency)
            },
            verdict,
            silent: false,
        });
        self.start_what_may_start(now);
        id
    }

    fn strike(&mut self, job: &Job) -> Option<Fault> {
        let at = self.injections.iter().position(|injection| {
            injection.nexus.is_none_or(|nexus| nexus == job.nexus)
                && injection.select.matches(&job.cdb)
        })?;
        let injection = &mut self.injections[at];
        let fault = injection.fault;
        injection.times = injection.times.saturating_sub(1);
        if injection.times == 0 {
            self.injections.remove(at);
        }
        Some(fault)
    }

    /// Within a task set, an ordered command waits for all older ones, and all newer simple ones wait for it.
    fn start_what_may_start(&mut self, now: Instant) {
        for at in 0..self.jobs.len() {
            let (older, [entry, ..]) = self.jobs.split_at_mut(at) else {
                unreachable!("an index of the list");
            };
            let nexus = entry.job.nexus;
            let mut older = older
                .iter()
                .filter(|other| !self.config.task_set_per_nexus || other.job.nexus == nexus);
            let may = match entry.job.attribute {
                _ if self.config.ignores_order => true,
                TaskAttribute::HeadOfQueue => true,
                TaskAttribute::Ordered => older.next().is_none(),
                TaskAttribute::Simple | TaskAttribute::Untagged => {
                    older.all(|other| other.job.attribute != TaskAttribute::Ordered)
                }
            };
            if let (true, Progress::Waiting(latency)) = (may, entry.progress) {
                entry.progress = Progress::Running(now + latency);
            }
        }
    }

    /// When [`LogicalUnit::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.jobs
            .iter()
            .filter_map(|entry| match entry.progress {
                Progress::Running(due) => Some(due),
                Progress::Parked { until } => until,
                _ => None,
            })
            .min()
    }

    /// Executes what is due, in the order in which it became due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((due, _, at)) = self
            .jobs
            .iter()
            .enumerate()
            .filter_map(|(at, entry)| match entry.progress {
                Progress::Running(due) | Progress::Parked { until: Some(due) } if due <= now => {
                    Some((due, entry.id, at))
                }
                _ => None,
            })
            .min()
        {
            let entry = self.jobs.remove(at);
            let answer = match entry.verdict {
                Verdict::Execute => self.execute(due, &entry.job),
                Verdict::ExecuteThen(sense) => {
                    let done = self.execute(due, &entry.job);
                    if done.status == 0 {
                        Answer {
                            status: 0x02,
                            sense,
                            ..done
                        }
                    } else {
                        done
                    }
                }
                Verdict::ExecuteShort => {
                    let mut done = self.execute(due, &entry.job);
                    done.data.truncate(done.data.len() / 2);
                    done.wanted = done.data.len() as u64;
                    done
                }
                Verdict::Refuse(answer) => answer,
            };
            if !entry.silent {
                self.done.push_back(Done {
                    nexus: entry.job.nexus,
                    task: entry.job.task,
                    answer,
                });
            }
            self.start_what_may_start(due);
        }
    }

    /// The next command that ended.
    pub fn poll_done(&mut self) -> Option<Done> {
        self.done.pop_front()
    }

    /// Changes of the medium since the last call, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    fn check(&self, code: Code) -> Answer {
        Answer::check(code.encode(self.config.sense_format, false, None))
    }
}

/// The answer of a LUN without a logical unit.
pub fn answer_of_nothing(cdb: &[u8; 16], luns: &[[u8; 8]]) -> Answer {
    match Operation::decode(cdb) {
        Ok(Operation::Inquiry { page: None, len }) => {
            let mut data = pages::inquiry_of_nothing();
            data.truncate(len as usize);
            Answer::data(data)
        }
        Ok(Operation::ReportLuns { len }) => Answer::data(report_luns(luns, len)),
        _ => Answer::check(Code::LUN_NOT_SUPPORTED.encode(Format::Fixed, false, None)),
    }
}

/// REPORT LUNS, if that is what the CDB asks for: the target's to answer, since a unit knows only itself.
pub fn answer_report_luns(cdb: &[u8; 16], luns: &[[u8; 8]]) -> Option<Answer> {
    match Operation::decode(cdb) {
        Ok(Operation::ReportLuns { len }) => Some(Answer::data(report_luns(luns, len))),
        _ => None,
    }
}

fn report_luns(luns: &[[u8; 8]], len: u32) -> Vec<u8> {
    let mut data = vec![0; 8];
    data[0..4].copy_from_slice(&(luns.len() as u32 * 8).to_be_bytes());
    data.extend(luns.concat());
    data.truncate(len as usize);
    data
}

#[cfg(test)]
mod tests;
