//! Any schedule of losses: no promise is broken while they last, and everything comes to its end when they stop.
//!
//! Two phases per seed. In the first, links are cut in either direction, healed and reset, the target parks
//! writes and restarts, in an order the seed draws. In the second all trouble ends and every request must be
//! answered well. The kit's judge watches the medium and the answers: a read returns the last acknowledged write
//! or one in flight, and no write takes effect after its end on top of something newer.

use std::collections::BTreeMap;

use iscsi_client::memory::{BufferId, Memory};
use kit::check::{Judge, Outcome, RequestId};
use kit::disk::{Fault, Injection, LunConfig, Select};
use kit::net::{Direction, Link as Cable};
use kit::prng::{Prng, seeds};
use kit::target::Reinstatement;
use kit::world::{Incident, LUN_0};

use super::host::*;
use crate::contract::*;

/// Blocks that all requests fall into: few, so that they meet.
const BLOCKS: u64 = 24;
const SEEDS: u64 = 80;
const TURNS: u32 = 1500;

struct Run {
    seed: u64,
    host: Host,
    judge: Judge,
    dice: Prng,
    open: BTreeMap<u16, (RequestId, Operation, u32)>,
    failed: u32,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut dice = Prng::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let groups = dice.pick(&[
            &[1_u16][..],
            &[1, 1],
            &[1, 1],
            &[1, 2],
            &[1, 1, 2],
            &[1, 1, 1],
        ]);
        let mut config = target(groups);
        config.reinstatement = dice.pick(&[
            Reinstatement::AnswerAfterDrain,
            Reinstatement::ReadAfterDrain,
            Reinstatement::AnswerAtOnce,
        ]);
        config.limits.window = dice.pick(&[2, 8, 64]);
        config.limits.initial_r2t = dice.percent(50);
        config.limits.immediate_data = dice.percent(50);
        let unit = LunConfig {
            record_effects: true,
            write_same: dice.percent(70),
            max_write_same_blocks: dice.pick(&[0, 3, 1000]),
            max_unmap_blocks: dice.pick(&[3, 1000]),
            ..LunConfig::default()
        };
        let rule = dice.pick(&[
            NoPathRetry::Queue,
            NoPathRetry::Fail,
            NoPathRetry::For(seconds(10)),
        ]);
        let policy = dice.pick(&[PolicyKind::RoundRobin, PolicyKind::Failover]);
        println!(
            "seed {seed}: groups {groups:?}, {:?}, {rule:?}, {policy:?}",
            config.reinstatement
        );
        let host = Host::with(seed, config, unit, |config| {
            config.no_path_retry = rule;
            config.policy = policy;
        });
        Run {
            seed,
            host,
            judge: Judge::new(512, seed),
            dice,
            open: BTreeMap::new(),
            failed: 0,
        }
    }

    fn submit(&mut self) {
        let tag = self.dice.below(u64::from(DEPTH)) as u16;
        if self.open.contains_key(&tag) {
            return;
        }
        let lba = self.dice.below(BLOCKS);
        let blocks = self.dice.between(1, (BLOCKS - lba).min(8)) as u32;
        let (id, operation) = match self.dice.below(12) {
            0 => (self.judge.zero(lba, u64::from(blocks)), Operation::Discard),
            1 => {
                let may_unmap = self.dice.percent(50);
                let id = self.judge.zero(lba, u64::from(blocks));
                (id, Operation::WriteZeroes { may_unmap })
            }
            2 => (self.judge.other(), Operation::Flush),
            3..7 => (self.judge.read(lba, u64::from(blocks)), Operation::Read),
            _ => {
                let (id, data) = self.judge.write(lba, u64::from(blocks));
                self.host.memory.of(BufferId(tag))[..data.len()].copy_from_slice(&data);
                (id, Operation::Write)
            }
        };
        self.open.insert(tag, (id, operation, blocks));
        let mut request = request(tag, operation, lba, blocks);
        if operation == Operation::Flush {
            (request.lba, request.blocks) = (0, 0);
        }
        self.host.submit(request);
    }

    fn disturb(&mut self) {
        let links = self.host.world.net.links() as u64;
        let link = Cable(self.dice.below(links) as usize);
        let direction = self
            .dice
            .pick(&[Direction::ToTarget, Direction::ToInitiator]);
        let incident = match self.dice.below(10) {
            0 | 1 => Incident::Cut(link, direction),
            2..5 => Incident::Heal(link),
            5 => Incident::Reset(link),
            6 => Incident::Restart(millis(self.dice.below(3000))),
            7 => Incident::ReleaseAll,
            _ => Incident::Inject(
                LUN_0,
                Injection {
                    nexus: None,
                    select: Select::Writes,
                    fault: self.dice.pick(&[
                        Fault::Park,
                        Fault::Park,
                        Fault::Delay(seconds(8)),
                        Fault::Status(0x28),
                        Fault::Status(0x40),
                    ]),
                    times: 1,
                },
            ),
        };
        self.host.world.happen(incident);
    }

    /// What became of requests since the last call, before the judge.
    fn judge(&mut self) {
        for effect in self.host.world.unit().take_effects() {
            let verdict = self.judge.effect(&effect);
            assert_eq!(
                verdict,
                Ok(()),
                "seed {}: {:?}",
                self.seed,
                self.host.world.trace()
            );
        }
        for (tag, result) in std::mem::take(&mut self.host.done) {
            let (id, operation, blocks) = self.open.remove(&tag.0).expect("answered once");
            let outcome = if result.is_ok() {
                Outcome::Done
            } else {
                self.failed += 1;
                Outcome::Failed
            };
            let len = if operation == Operation::Read {
                blocks * 512
            } else {
                0
            };
            let data = self.host.memory.read(BufferId(tag.0), 0, len).to_vec();
            let verdict = self.judge.end(id, outcome, &data);
            assert_eq!(
                verdict,
                Ok(()),
                "seed {}: {:?}",
                self.seed,
                self.host.world.trace()
            );
        }
    }

    fn go(mut self) {
        for _ in 0..TURNS {
            if self.dice.percent(60) {
                self.submit();
            }
            if self.dice.percent(2) {
                self.disturb();
            }
            let long = self.dice.percent(3);
            let pause = self.dice.below(if long { 4_000_000 } else { 3000 });
            let end = self.host.now() + core::time::Duration::from_micros(pause);
            while self.host.now() < end {
                let before = self.host.done.len();
                let left = end.since(self.host.now());
                self.host.run(left, |host| host.done.len() > before);
                self.judge();
            }
            self.judge();
        }
        // Peace: everything ends well, each path comes back, nothing stays unresolved.
        let now = self.host.now();
        self.host.world.make_peace();
        self.host.volume.set_no_path_retry(now, NoPathRetry::Queue);
        self.host.volume.retry_now(now);
        let failed = self.failed;
        for round in 0..240 {
            self.host.pass(seconds(1));
            self.judge();
            let idle = self.open.is_empty() && self.host.volume.status().unresolved.is_empty();
            if idle && round > 10 {
                break;
            }
        }
        assert!(
            self.open.is_empty() && self.judge.open() == 0,
            "seed {}: {:?} {:#?}",
            self.seed,
            self.open,
            self.host.volume.status()
        );
        assert_eq!(self.failed, failed, "seed {}: an error in peace", self.seed);
        self.host.all_up();
        assert_eq!(
            self.host.volume.status().unresolved,
            [],
            "seed {}",
            self.seed
        );
        assert_eq!(
            self.host.world.target.violations(),
            [],
            "seed {}",
            self.seed
        );
        self.host
            .volume
            .shut_down(self.host.world.now(), seconds(10));
        assert!(
            self.host
                .run(seconds(11), |host| host.volume.is_shut_down())
        );
    }
}

#[test]
fn random_losses_break_no_promise() {
    for seed in seeds(SEEDS) {
        Run::new(seed).go();
    }
}
