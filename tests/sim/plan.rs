//! Everything that a seed draws before the first event: shape of target, paths, workload, and the trouble to come.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;

use iscsi_client::login::{DigestPreference, Offer};
use iscsi_client::memory::BufferId;
use iscsi_client::scsi::Tpgs;
use iscsi_client::time::Instant;
use iscsi_client::wire::{Isid, Tpgt};
use kit::disk::{AluaState, Code, Fault, Group, Injection, LogicalUnit, LunConfig, Select};
use kit::net::{Direction, Link, LinkConfig};
use kit::prng::Prng;
use kit::target::{Bug, FLAVOURS, Flavour, Limits, Ping, Portal, TargetConfig};
use kit::world::{Incident, LUN_0, World};
use multipath::identity::{TaskSet, UnmapLimits};
use multipath::{
    Description, Identity, LINKS_MAX, NoPathRetry, PathConfig, PolicyKind, SpareBuffers,
    UnresolvedWrite, VolumeConfig,
};

use crate::gate::Episode;
use crate::host::{IO_LEN_MAX, SCRATCH_LEN};

/// All-paths-down rules to draw from.
const RULES: [NoPathRetry; 4] = [
    NoPathRetry::Queue,
    NoPathRetry::Queue,
    NoPathRetry::For(Duration::from_secs(2)),
    NoPathRetry::Fail,
];

/// What a target may do wrong and must not get away with, nor do harm: each is seen without a digest.
const BREACHES: [Bug; 12] = [
    Bug::DataSnGap,
    Bug::DataInOffset,
    Bug::DataInBeyond,
    Bug::Oversize,
    Bug::StatSnGap,
    Bug::ExpDataSn,
    Bug::R2tSnGap,
    Bug::R2tBeyond,
    Bug::R2tTooLong,
    Bug::R2tLost,
    Bug::UnknownOpcode,
    Bug::AmbiguousNop,
];

/// Kinds of incidents: the network's come first, then the backend's.
const NETWORK_KINDS: u64 = 6;
const BACKEND_KINDS: u64 = 12;
const ALL_KINDS: u64 = 20;

/// A bin per path and a few for second copies of reads: few enough to run out.
pub const SPARES: u16 = multipath::PATHS_MAX as u16 + 3;
/// Length of a spare.
pub const SPARE_LEN: u32 = 128 << 10;
/// The default most often.
const POLICIES: [PolicyKind; 8] = [
    PolicyKind::LateBinding,
    PolicyKind::LateBinding,
    PolicyKind::LateBinding,
    PolicyKind::LateBinding,
    PolicyKind::RoundRobin,
    PolicyKind::Failover,
    PolicyKind::QueueLength,
    PolicyKind::ServiceTime,
];
/// Longest pause between two requests in microseconds.
const THINK_US: u64 = 40_000;
/// The same where links stay away for minutes.
const THINK_LONG_US: u64 = 2_000_000;
/// How long the volume may take to recover after the last fault.
const RECOVERY: Duration = Duration::from_secs(120);
/// The same where the backend must be waited out after a login that hung.
const RECOVERY_LONG: Duration = Duration::from_secs(600);
/// What the timed hold assumes of a target, less a margin for the way there: its patience with a silent peer is that
/// of the slowest LIO, and its backend ends a command in time.
const PING: Ping = Ping {
    idle: Duration::from_secs(60),
    patience: Duration::from_secs(60),
    tag_zero: false,
};
const PARK_MAX_MS: u64 = 178_000;

/// Which trouble a run may meet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// Nothing goes wrong.
    None,
    /// Links are cut, reset and healed.
    Network,
    /// The network's, and commands hang, are refused and come late.
    Backend,
    /// All that, and the target restarts.
    Everything,
    /// The backend's, and the permission to write comes and goes.
    Lease,
    /// Links stay away longer than any timed hold, and writes hide wherever they can for as long as it allows.
    Outages,
}

/// What happens to the volume from above.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// The operator changes the all-paths-down rule.
    Rule(NoPathRetry),
    /// The volume is shut down with this patience, and attached again once it is over.
    ShutDown(Duration),
    /// The daemon dies, and another one attaches the volume again.
    Crash,
    /// The path to this portal is taken out, given back or removed; added again where it was removed.
    Path(PathOrder, usize),
}

/// What the operator does to one path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathOrder {
    Fail,
    Restore,
    Remove,
}

/// What a seed draws.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub trouble: Trouble,
    pub paths: usize,
    /// Portal group of each portal. A path is fenced through another one of its group, or by its own return.
    pub groups: Vec<u16>,
    pub flavour: Flavour,
    /// Ordered commands wait only for their own nexus's: then the login alone must prove an old session dead, or time.
    pub task_set_per_nexus: bool,
    /// Refused commands are answered before their data have come.
    pub answers_before_data: bool,
    pub links: Vec<LinkConfig>,
    pub digests: bool,
    /// The target reports asymmetric access.
    pub alua: bool,
    pub limits: Limits,
    pub block_len: u32,
    pub depth: u16,
    pub first_lba: u64,
    /// Blocks that the workload uses: few, so that requests overlap.
    pub region: u64,
    /// How long the kernel may take to let go of a connection's buffers.
    pub close_delay: Duration,
    /// Payload bytes of one send.
    pub send_max: usize,
    pub policy: PolicyKind,
    pub no_path_retry: NoPathRetry,
    pub incidents: u64,
    /// Orders, and when after the start of the trouble.
    pub orders: Vec<(Duration, Order)>,
    /// When writes may not leave.
    pub gate: Vec<Episode>,
    /// How long trouble lasts.
    pub duration: Duration,
    /// Longest pause between two requests in microseconds.
    pub think_us: u64,
    /// Percentage of requests that follow the one before at once.
    pub bursts: u64,
    /// How long the volume may take to recover after it.
    pub recovery: Duration,
    /// Without a path that is waited for: what is parked, is parked for at most so long.
    pub park_max: Option<Duration>,
    pub allow_lun_reset: bool,
}

impl Plan {
    pub fn draw(seed: u64, trouble: Trouble) -> Plan {
        let mut prng = Prng::new(seed);
        let burst = 8192 << prng.between(0, 5);
        let flavour = prng.pick(&FLAVOURS);
        let paths = prng.between(1, 4) as usize;
        let duration = Duration::from_millis(prng.between(2_000, 15_000));
        let orders = Plan::draw_orders(&mut prng, trouble, duration);
        let plan = Plan {
            seed,
            trouble,
            paths,
            groups: Plan::draw_groups(&mut prng, paths),
            flavour,
            task_set_per_nexus: flavour.has_task_set_per_nexus(),
            answers_before_data: prng.percent(40),
            links: (0..paths).map(|_| Plan::draw_link(&mut prng)).collect(),
            digests: prng.percent(30),
            alua: prng.percent(50),
            limits: Limits {
                max_recv_data_segment_length: Some(prng.pick(&[8192, 65_536, 262_144])),
                max_burst_length: burst,
                first_burst_length: prng.pick(&[8192, burst]),
                max_outstanding_r2t: prng.between(1, 4) as u16,
                initial_r2t: prng.percent(50),
                immediate_data: prng.percent(80),
                window: prng.pick(&[2, 8, 64]),
                ..Limits::default()
            },
            block_len: prng.pick(&[512, 4096]),
            depth: prng.between(2, 24) as u16,
            first_lba: prng.pick(&[0, 1 << 20, (1 << 33) + 7]),
            region: prng.between(4, 96),
            close_delay: Duration::from_micros(prng.pick(&[300, 300, 20_000])),
            send_max: prng.pick(&[4 << 10, 16 << 10, 64 << 10]),
            policy: prng.pick(&POLICIES),
            no_path_retry: prng.pick(&RULES),
            incidents: if trouble == Trouble::None {
                0
            } else {
                prng.between(1, 14)
            },
            orders,
            gate: Vec::new(),
            duration,
            think_us: THINK_US,
            bursts: 25,
            // Where no order is kept, a dead session's commands are waited out.
            recovery: match flavour.ignores_order() {
                true => RECOVERY_LONG,
                false => RECOVERY,
            },
            park_max: None,
            allow_lun_reset: false,
        };
        let mut plan = match trouble {
            Trouble::Outages => plan.with_outages(&mut prng),
            _ => plan,
        };
        plan.draw_path_orders();
        if trouble == Trouble::Lease {
            plan.gate = Episode::draw(&mut prng, duration);
        }
        plan
    }

    /// Minutes instead of seconds, and targets on which a login alone proves nothing.
    fn with_outages(self, prng: &mut Prng) -> Plan {
        let duration = Duration::from_secs(prng.between(400, 1_000));
        let paths = prng.between(2, 3) as usize;
        let one_group = prng.percent(25);
        Plan {
            paths,
            groups: (0..paths)
                .map(|path| if one_group { 1 } else { path as u16 + 1 })
                .collect(),
            task_set_per_nexus: self.task_set_per_nexus || prng.percent(50),
            links: (0..paths).map(|_| Plan::draw_link(prng)).collect(),
            depth: prng.between(2, 8) as u16,
            region: prng.between(4, 24),
            // What is sent unasked can lie in a receive buffer as a whole.
            limits: Limits {
                max_recv_data_segment_length: Some(65_536),
                max_burst_length: 65_536,
                first_burst_length: 65_536,
                immediate_data: true,
                ..self.limits
            },
            incidents: prng.between(2, 8),
            orders: Plan::draw_orders(prng, Trouble::Outages, duration),
            duration,
            think_us: THINK_LONG_US,
            // The attention of a LUN reset stops the first late command of a dead session, and no other.
            bursts: 70,
            recovery: RECOVERY_LONG,
            park_max: Some(Duration::from_millis(prng.between(1_000, PARK_MAX_MS))),
            allow_lun_reset: prng.percent(50),
            ..self
        }
    }

    /// All portals in one group, each in its own, or two groups.
    fn draw_groups(prng: &mut Prng, paths: usize) -> Vec<u16> {
        let kind = prng.below(10);
        let group = |portal: usize| match kind {
            0..=5 => 1,
            6 | 7 => 1 + portal as u16,
            _ => 1 + prng.below(2) as u16,
        };
        (0..paths).map(group).collect()
    }

    fn draw_link(prng: &mut Prng) -> LinkConfig {
        let latency = prng.pick(&[10, 50, 50, 50, 500, 5_000]);
        LinkConfig {
            latency_min: Duration::from_micros(latency),
            latency_max: Duration::from_micros(latency * prng.between(1, 4)),
            bandwidth: prng.pick(&[None, None, Some(100 << 20), Some(10 << 20)]),
            piece_max: prng.pick(&[536, 1460, 8960, 65_536]),
        }
    }

    fn draw_orders(
        prng: &mut Prng,
        trouble: Trouble,
        duration: Duration,
    ) -> Vec<(Duration, Order)> {
        let most = match trouble {
            Trouble::Everything => 4,
            Trouble::Outages => 2,
            Trouble::None | Trouble::Network | Trouble::Backend | Trouble::Lease => {
                return Vec::new();
            }
        };
        let mut orders: Vec<(Duration, Order)> = (0..prng.below(most))
            .map(|_| {
                let at = Duration::from_micros(prng.below(duration.as_micros() as u64));
                let order = match prng.below(3) {
                    0 => Order::Rule(prng.pick(&RULES)),
                    1 => Order::ShutDown(Duration::from_millis(prng.between(0, 4_000))),
                    _ => Order::Crash,
                };
                (at, order)
            })
            .collect();
        orders.sort_by_key(|(at, _)| *at);
        orders
    }

    /// Mixes in what the operator does to single paths, drawn apart so that all else of a seed stays what it was.
    fn draw_path_orders(&mut self) {
        let most = match self.trouble {
            Trouble::Network | Trouble::Everything | Trouble::Outages | Trouble::Lease => 8,
            Trouble::None | Trouble::Backend => return,
        };
        let mut prng = Prng::new(self.seed.rotate_left(23) ^ 0x70a7);
        for _ in 0..prng.below(most) {
            let at = Duration::from_micros(prng.below(self.duration.as_micros() as u64));
            let order = prng.pick(&[PathOrder::Fail, PathOrder::Restore, PathOrder::Remove]);
            let portal = prng.below(self.paths as u64) as usize;
            self.orders.push((at, Order::Path(order, portal)));
        }
        self.orders.sort_by_key(|(at, _)| *at);
    }

    /// What may be under way when the daemon dies: anything, on every session that it may have had.
    pub fn anything_under_way(&self) -> impl Iterator<Item = UnresolvedWrite> + '_ {
        let blocks = self.unit().blocks;
        self.paths()
            .flat_map(move |path| UnresolvedWrite::anything(blocks, path.isid, path.portal_group))
    }

    /// Longest request in bytes: no longer than the region, so that buffers are small and runs fast.
    pub fn io_len_max(&self) -> u32 {
        let region = self.region * u64::from(self.block_len);
        u32::try_from(region).unwrap_or(IO_LEN_MAX).min(IO_LEN_MAX)
    }

    fn group(&self, portal: usize) -> Tpgt {
        Tpgt(self.groups[portal])
    }

    fn address(portal: usize) -> SocketAddr {
        SocketAddr::new(
            IpAddr::V4(Ipv4Addr::new(10, 20, 5 + portal as u8, 254)),
            3260,
        )
    }

    /// The portal at an address.
    pub fn portal_of(&self, address: SocketAddr) -> usize {
        (0..self.paths)
            .find(|portal| Plan::address(*portal) == address)
            .expect("a known portal")
    }

    fn portal(&self, portal: usize) -> Portal {
        Portal {
            address: Plan::address(portal).to_string(),
            group: self.group(portal),
        }
    }

    fn target(&self) -> TargetConfig {
        let mut target = TargetConfig {
            portals: (0..self.paths).map(|portal| self.portal(portal)).collect(),
            limits: self.limits.clone(),
            answers_before_data: self.answers_before_data,
            ..TargetConfig::default()
        };
        self.flavour.shape(&mut target);
        if self.trouble == Trouble::Outages {
            target.ping = Some(PING);
        }
        target
    }

    /// Where a login alone proves nothing, who they are decides how long that takes. In outages tgt and SPDK do not say
    /// who they are: what is known of tgt makes a hold of an hour.
    fn vendor(&self) -> &'static str {
        match (self.trouble, self.flavour) {
            (Trouble::Outages, Flavour::Tgt | Flavour::Spdk) => "KIT",
            (_, flavour) => flavour.vendor(),
        }
    }

    fn ignores_order(&self) -> bool {
        self.trouble != Trouble::Outages && self.flavour.ignores_order()
    }

    fn unit(&self) -> LunConfig {
        let mut identity = LunConfig::default().identity;
        identity.vendor = self.vendor().into();
        LunConfig {
            identity,
            park_max: self.park_max,
            block_size: self.block_len,
            blocks: 1 << 34,
            alua: self.alua,
            task_set_per_nexus: self.task_set_per_nexus,
            ignores_order: self.ignores_order(),
            record_effects: true,
            ..LunConfig::default()
        }
    }

    /// Another disk of the same shape, behind the same LUN.
    fn impostor(&self) -> LunConfig {
        let mut unit = self.unit();
        unit.identity.serial = "1mp05706".into();
        unit.identity.naa[15] = 2;
        unit
    }

    pub fn world(&self) -> World {
        let mut world = World::new(self.seed, self.target(), self.unit(), &self.links);
        let mut prng = Prng::new(!self.seed);
        world.keep_impostor(LogicalUnit::new(self.impostor(), prng.fork()));
        if self.trouble == Trouble::Everything {
            // Once per run: a request that meets two such answers is failed, and rightly.
            let at = Duration::from_micros(prng.below(self.duration.as_micros() as u64));
            let short = Injection {
                nexus: None,
                select: Select::Reads,
                fault: Fault::ShortRead,
                times: 1,
            };
            let lie = match prng.below(2) {
                0 => Incident::Inject(LUN_0, short),
                _ => Incident::Arm(Bug::WrongResidual),
            };
            world.schedule(world.now() + at, lie);
        }
        for _ in 0..self.incidents {
            let at =
                world.now() + Duration::from_micros(prng.below(self.duration.as_micros() as u64));
            self.plan_incident(&mut world, &mut prng, at);
        }
        world
    }

    fn plan_incident(&self, world: &mut World, prng: &mut Prng, at: Instant) {
        let link = Link(prng.below(self.paths as u64) as usize);
        let later = at + Duration::from_millis(prng.between(1, 6_000));
        let kinds = match self.trouble {
            Trouble::None => return,
            Trouble::Network => NETWORK_KINDS,
            Trouble::Backend | Trouble::Lease => BACKEND_KINDS,
            Trouble::Everything => ALL_KINDS,
            Trouble::Outages => return self.plan_outage(world, prng, at, link),
        };
        let mut inject = |select, fault, times| {
            let injection = Injection {
                nexus: None,
                select,
                fault,
                times,
            };
            world.schedule(at, Incident::Inject(LUN_0, injection));
        };
        match prng.below(kinds) {
            0 => {
                world.schedule(at, Incident::Cut(link, Direction::ToTarget));
                world.schedule(later, Incident::Heal(link));
            }
            1 => {
                world.schedule(at, Incident::Cut(link, Direction::ToInitiator));
                world.schedule(later, Incident::Heal(link));
            }
            2 => {
                world.schedule(at, Incident::Cut(link, Direction::ToTarget));
                world.schedule(at, Incident::Cut(link, Direction::ToInitiator));
                world.schedule(later, Incident::Heal(link));
            }
            3 => world.schedule(at, Incident::Reset(link)),
            4 => {
                let time = Duration::from_millis(prng.between(1, 3_000));
                world.schedule(at, Incident::Clog(link, time));
            }
            5 => world.schedule(at, Incident::Forget(link)),
            // A write hangs in the backend, and its link goes: the making of a ghost.
            6 | 7 => {
                inject(Select::Writes, Fault::Park, prng.between(1, 4) as u32);
                let soon = at + Duration::from_millis(prng.between(1, 300));
                let cut = if prng.percent(50) {
                    Incident::Reset(link)
                } else {
                    Incident::Cut(link, Direction::ToInitiator)
                };
                world.schedule(soon, cut);
                world.schedule(later, Incident::Heal(link));
                let end = at + Duration::from_millis(prng.between(1, 8_000));
                world.schedule(end, Incident::ReleaseAll);
            }
            8 => {
                let late = Fault::Delay(Duration::from_millis(prng.between(1, 2_000)));
                inject(Select::Any, late, prng.between(1, 8) as u32);
            }
            9 => inject(Select::Any, Fault::Status(prng.pick(&[0x08, 0x28])), 2),
            10 => inject(
                Select::Any,
                Fault::Check(prng.pick(&[Code::RESET, Code::MODE_CHANGED])),
                1,
            ),
            11 => self.plan_blackout(world, prng, at),
            12..=14 => {
                let down = Duration::from_millis(prng.between(0, 3_000));
                world.schedule(at, Incident::Restart(down));
            }
            15 => {
                // Back to the right disk with the next such incident, or in peace.
                let down = Duration::from_millis(prng.between(0, 2_000));
                world.schedule(at, Incident::Swap(down));
                world.schedule(later, Incident::Swap(Duration::ZERO));
            }
            16 => world.schedule(at, Incident::WriteCache(LUN_0)),
            17 => world.schedule(at, Incident::Arm(prng.pick(&BREACHES))),
            18 => {
                world.schedule(at, Incident::WriteProtect(LUN_0, true));
                world.schedule(later, Incident::WriteProtect(LUN_0, false));
            }
            _ => {
                let group = self.portal(prng.below(self.paths as u64) as usize).group;
                let group = Group(group.0);
                let state = prng.pick(&[
                    AluaState::NonOptimized,
                    AluaState::Standby,
                    AluaState::Unavailable,
                    AluaState::Transitioning,
                ]);
                world.schedule(at, Incident::Access(LUN_0, group, state));
                let optimized = Incident::Access(LUN_0, group, AluaState::Optimized);
                world.schedule(later, optimized);
            }
        }
    }

    /// Writes hang in the backend or lie unread in the target's receive buffer, and their link goes for minutes.
    fn plan_outage(&self, world: &mut World, prng: &mut Prng, at: Instant, link: Link) {
        let injection = Injection {
            nexus: None,
            select: Select::Writes,
            fault: Fault::Park,
            times: prng.between(1, 4) as u32,
        };
        if prng.percent(70) {
            world.schedule(at, Incident::Inject(LUN_0, injection));
        }
        // Before the silence is noticed, and after more than one write.
        let soon = at + Duration::from_millis(prng.between(1_000, 4_500));
        let unread = prng.percent(60);
        if unread {
            let time = Duration::from_millis(prng.between(1_000, 119_000));
            world.schedule(at, Incident::StopReading(link.0, time));
        }
        let directions: &[Direction] = prng.pick(&[
            &[Direction::ToTarget],
            &[Direction::ToTarget, Direction::ToInitiator],
            &[Direction::ToInitiator],
        ]);
        for direction in directions {
            world.schedule(soon, Incident::Cut(link, *direction));
        }
        if unread {
            // A reset that arrives would empty the receive buffer.
            world.schedule(soon, Incident::Cut(link, Direction::ToTarget));
        }
        let later = soon + Duration::from_millis(prng.between(1_000, 450_000));
        world.schedule(later, Incident::Heal(link));
    }

    /// Writes hang in the backend and every link goes. The links come back one by one, the writes when they like:
    /// what was failed meanwhile must not land on what was written since.
    fn plan_blackout(&self, world: &mut World, prng: &mut Prng, at: Instant) {
        let injection = Injection {
            nexus: None,
            select: Select::Writes,
            fault: Fault::Park,
            times: prng.between(1, 6) as u32,
        };
        world.schedule(at, Incident::Inject(LUN_0, injection));
        let dark = at + Duration::from_millis(prng.between(20, 300));
        for link in (0..self.paths).map(Link) {
            world.schedule(dark, Incident::Reset(link));
            world.schedule(dark, Incident::Cut(link, Direction::ToTarget));
            let light = dark + Duration::from_millis(prng.between(1, 4_000));
            world.schedule(light, Incident::Heal(link));
        }
        let end = dark + Duration::from_millis(prng.between(1, 10_000));
        world.schedule(end, Incident::ReleaseAll);
    }

    pub fn volume(&self) -> VolumeConfig {
        let unit = self.unit();
        let naa: String = unit
            .identity
            .naa
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let preference = if self.digests {
            DigestPreference::PreferCrc32c
        } else {
            DigestPreference::PreferNone
        };
        VolumeConfig {
            depth: self.depth,
            first_scratch: BufferId(self.depth),
            scratch_len: SCRATCH_LEN,
            io_len_max: self.io_len_max(),
            spares: SpareBuffers {
                first: BufferId(self.depth + LINKS_MAX as u16),
                count: SPARES,
                len: SPARE_LEN,
            },
            initiator_name: "iqn.2026-01.test:host".into(),
            credentials: None,
            offer: Offer {
                header_digest: preference,
                data_digest: preference,
                ..Offer::default()
            },
            lun: LUN_0,
            description: Description {
                identity: Identity {
                    wwid: format!("3{naa}"),
                    serial: unit.identity.serial.clone(),
                    vendor: unit.identity.vendor.clone(),
                    product: unit.identity.product.clone(),
                    blocks: unit.blocks,
                    block_len: unit.block_size,
                },
                physical_block_exponent: unit.physical_exponent,
                max_transfer_blocks: Some(unit.max_transfer_blocks),
                optimal_transfer_blocks: None,
                optimal_granularity_blocks: None,
                rotational: unit.rotational,
                write_cache: unit.write_cache,
                fua: true,
                read_only: unit.read_only,
                unmap: Some(UnmapLimits {
                    max_blocks: unit.max_unmap_blocks,
                    granularity_blocks: 1,
                    alignment_blocks: 0,
                }),
                max_write_same_blocks: u32::try_from(unit.max_write_same_blocks).ok(),
                write_same_unmaps: true,
                task_set: match unit.task_set_per_nexus {
                    true => TaskSet::PerNexus,
                    false => TaskSet::Shared,
                },
                target_port_group: Some(1),
                tpgs: match unit.alua {
                    true => Tpgs::Implicit,
                    false => Tpgs::None,
                },
            },
            no_path_retry: self.no_path_retry,
            policy: self.policy,
            allow_lun_reset: self.allow_lun_reset,
            seed: self.seed,
        }
    }

    pub fn paths(&self) -> impl Iterator<Item = PathConfig> + '_ {
        let target_name = TargetConfig::default().name;
        (0..self.paths).map(move |portal| PathConfig {
            portal_name: Plan::address(portal).to_string(),
            portal: Plan::address(portal),
            interface: Some(format!("vlan{portal}")),
            target_name: target_name.clone(),
            portal_group: Some(self.group(portal)),
            isid: Isid([0x80, 0, 0, 7, 0, portal as u8]),
        })
    }
}
