//! The lease's gate over the volume, and the keeper who moves it: it shuts at any moment, opens again after a drain, or is
//! refused for good.
//!
//! Two judges live here. No byte of a write is handed to the runtime, or goes on from there, once the deadline has passed. And
//! nothing executes at the target between the end of a drain and the moment when the gate opens again: that is when
//! another host may own the disk.

use core::time::Duration;

use iscsi_client::time::Instant;
use kit::disk::Effect;
use kit::prng::Prng;
use multipath::{DrainId, LinkId, Operation, PATHS_MAX, Permission};

use crate::host::{Host, Sending, gather};

/// One shutting of the gate, and what the keeper finds out then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Episode {
    /// When the deadline passes, after the start of the trouble or the end of the episode before.
    pub after: Duration,
    /// How long the keeper takes to order the drain.
    pub until_drain: Duration,
    /// How long it takes from the end of the drain to the verdict.
    pub until_verdict: Duration,
    /// What that is.
    pub verdict: Verdict,
}

/// What becomes of a gate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Every lease is ours again.
    Restored,
    /// One is lost.
    Refused,
    /// One is lost, and was before the deadline passed.
    RefusedWhileOpen,
}

impl Episode {
    /// Up to three, of which the last may be final.
    pub fn draw(prng: &mut Prng, within: Duration) -> Vec<Episode> {
        let count = prng.between(1, 3);
        let most = within.as_micros() as u64 / count;
        (1..=count)
            .map(|number| Episode {
                after: Duration::from_micros(prng.below(most)),
                until_drain: Duration::from_micros(prng.pick(&[0, 100, 50_000])),
                until_verdict: Duration::from_micros(prng.pick(&[0, 1_000, 2_000_000])),
                verdict: match prng.below(6) {
                    0 if number == count => Verdict::Refused,
                    1 if number == count => Verdict::RefusedWhileOpen,
                    _ => Verdict::Restored,
                },
            })
            .collect()
    }
}

/// How far the keeper is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The gate is open until then, if at all.
    Open { until: Option<Instant> },
    /// It is shut; the drain is ordered then.
    Shut { drain_at: Instant },
    /// The drain was ordered.
    Draining { id: DrainId },
    /// Nothing of ours can execute any more; the verdict comes then.
    Drained { verdict_at: Instant },
    /// Refused, and the drain was ordered or is over.
    Refused { drain: Option<DrainId> },
}

/// The gate and its keeper.
#[derive(Debug)]
pub struct Gate {
    episodes: std::vec::IntoIter<Episode>,
    now: Option<Episode>,
    stage: Stage,
    /// How often it opened again, and how often a drain came to its end.
    pub restored: u64,
    pub drained: u64,
}

impl Gate {
    pub fn new(episodes: Vec<Episode>) -> Gate {
        Gate {
            episodes: episodes.into_iter(),
            now: None,
            stage: Stage::Open { until: None },
            restored: 0,
            drained: 0,
        }
    }

    /// The next episode begins.
    pub fn begin(&mut self, now: Instant) {
        self.now = self.episodes.next();
        let until = self.now.map(|episode| now + episode.after);
        self.stage = Stage::Open { until };
    }

    /// Nothing shuts it any more.
    pub fn make_peace(&mut self, now: Instant) {
        self.episodes = Vec::new().into_iter();
        if let Stage::Open { until: Some(until) } = self.stage
            && until > now
        {
            self.now = None;
            self.stage = Stage::Open { until: None };
        }
    }

    fn permission(&self, now: Instant) -> Permission {
        match self.stage {
            Stage::Open { until: Some(until) } if until <= now => match self.verdict() {
                Verdict::RefusedWhileOpen => Permission::Revoked,
                Verdict::Restored | Verdict::Refused => Permission::Withheld,
            },
            Stage::Open { .. } => Permission::Granted,
            Stage::Shut { .. } | Stage::Draining { .. } | Stage::Drained { .. } => {
                Permission::Withheld
            }
            Stage::Refused { .. } => Permission::Revoked,
        }
    }

    fn verdict(&self) -> Verdict {
        self.now.expect("an episode").verdict
    }

    /// Whether a write may fail for it.
    pub fn is_refused(&self) -> bool {
        matches!(self.stage, Stage::Refused { .. })
    }

    /// Whether the keeper has nothing more to do.
    pub fn is_settled(&self) -> bool {
        matches!(
            self.stage,
            Stage::Open { until: None } | Stage::Refused { drain: None }
        )
    }

    /// When the keeper does something by himself, or the deadline passes.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.stage {
            Stage::Open { until } => until,
            Stage::Shut { drain_at } => Some(drain_at),
            Stage::Drained { verdict_at } => Some(verdict_at),
            Stage::Draining { .. } | Stage::Refused { .. } => None,
        }
    }

    /// Nothing may execute now.
    fn is_silent(&self) -> bool {
        matches!(
            self.stage,
            Stage::Drained { .. } | Stage::Refused { drain: None }
        )
    }
}

impl Host {
    /// What the runtime does before each send, and before anything else in a turn. What changes is carried out before
    /// anything more is sent.
    pub(crate) fn ask_gate(&mut self, now: Instant) {
        let before = self.permission;
        self.permission = self.gate.permission(now);
        self.volume.permit(now, self.permission);
        if before != self.permission {
            while let Some(output) = self.volume.poll_output() {
                self.perform(now, output);
            }
        }
    }

    /// What the keeper does.
    pub(crate) fn keep(&mut self) {
        let now = self.world.now();
        if self.gate.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        let episode = self.gate.now.expect("an episode");
        self.gate.stage = match self.gate.stage {
            Stage::Open { .. } if episode.verdict == Verdict::RefusedWhileOpen => {
                self.ask_gate(now);
                let drain = Some(self.volume.drain(now));
                Stage::Refused { drain }
            }
            Stage::Open { .. } => Stage::Shut {
                drain_at: now + episode.until_drain,
            },
            Stage::Shut { .. } => {
                self.ask_gate(now);
                let id = self.volume.drain(now);
                Stage::Draining { id }
            }
            Stage::Drained { .. } if episode.verdict == Verdict::Restored => {
                self.gate.restored += 1;
                return self.gate.begin(now);
            }
            Stage::Drained { .. } => Stage::Refused { drain: None },
            stage @ (Stage::Draining { .. } | Stage::Refused { .. }) => stage,
        };
    }

    pub(crate) fn hear_drained(&mut self, through: DrainId) {
        let now = self.world.now();
        self.gate.stage = match self.gate.stage {
            Stage::Draining { id } if id <= through => {
                let episode = self.gate.now.expect("an episode");
                self.gate.drained += 1;
                Stage::Drained {
                    verdict_at: now + episode.until_verdict,
                }
            }
            Stage::Refused { drain: Some(id) } if id <= through => {
                self.gate.drained += 1;
                Stage::Refused { drain: None }
            }
            stage => panic!("{through:?} is over in {stage:?}"),
        };
    }

    /// Another host may own the disk now.
    pub(crate) fn judge_silence(&self, effects: &[Effect]) {
        if let (Some(effect), true) = (effects.first(), self.gate.is_silent()) {
            panic!("executed after the drain: {effect:?}");
        }
    }

    /// A send is filled, or goes on.
    pub(crate) fn judge_send(&self, now: Instant, link: LinkId, sending: &Sending) {
        if self.gate.permission(now) == Permission::Granted || usize::from(link.0) >= PATHS_MAX {
            return;
        }
        let status = self.volume.status();
        let path = status.paths.iter().find(|path| path.id.0 == link.0);
        let Some(terms) = path.and_then(|path| path.negotiated.as_ref()) else {
            // It logs in.
            return;
        };
        let (header, data) = (terms.header_digest, terms.data_digest);
        let bytes = gather(sending, &self.memory);
        let mut rest = &bytes[..];
        while rest.len() >= BHS_LEN {
            let bhs = &rest[..BHS_LEN];
            let write = match bhs[0] & 0x3f {
                SCSI_COMMAND => bhs[1] & WRITE_BIT != 0,
                DATA_OUT => true,
                _ => false,
            };
            assert!(!write, "a write leaves without permission: {bhs:02x?}");
            let len = usize::from(bhs[5]) << 16 | usize::from(bhs[6]) << 8 | usize::from(bhs[7]);
            let digests = 4 * usize::from(header) + 4 * usize::from(data && len > 0);
            rest = &rest[BHS_LEN + len.next_multiple_of(4) + digests..];
        }
        assert!(rest.is_empty(), "a send ends within a PDU");
    }

    /// Whether this operation may fail because the permission is gone.
    pub(crate) fn may_be_forbidden(&self, operation: Operation) -> bool {
        let now = self.world.now();
        self.gate.permission(now) == Permission::Revoked
            && !matches!(operation, Operation::Read | Operation::Flush)
    }
}

/// Basic header segment, opcodes and the W bit (RFC 7143, 11.2 and 11.3).
const BHS_LEN: usize = 48;
const SCSI_COMMAND: u8 = 0x01;
const DATA_OUT: u8 = 0x05;
const WRITE_BIT: u8 = 0x20;
