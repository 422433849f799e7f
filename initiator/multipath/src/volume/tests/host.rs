//! A host with one volume: what the runtime does in its turn, in memory.

use core::net::SocketAddr;
use core::time::Duration;

use iscsi_client::login::Offer;
use iscsi_client::memory::{BufferId, Memory};
use iscsi_client::scsi::Tpgs;
use iscsi_client::session::Want;
use iscsi_client::time::Instant;
use iscsi_client::wire::Tpgt;
use kit::disk::LunConfig;
use kit::memory::{Buffers, Sender};
use kit::net::{Direction, Link as Cable, LinkConfig};
use kit::prng::Prng;
use kit::target::{ConnId, TargetConfig};
use kit::world::{HostEvent, Incident, LUN_0, World};

use crate::contract::*;
use crate::identity::{Description, Identity, TaskSet, UnmapLimits};
use crate::isid::{IsidKey, isid};
use crate::note::Note;
use crate::volume::Volume;

pub(super) const DEPTH: u16 = 16;
const IO_LEN: u32 = 1 << 20;
const SPARES: u16 = PATHS_MAX as u16 + 8;
const INITIATOR: &str = "iqn.2026-01.test:host";

pub(super) struct Host {
    pub(super) world: World,
    pub(super) volume: Volume,
    pub(super) memory: Buffers,
    pub(super) done: Vec<(Tag, Result<(), IoError>)>,
    pub(super) notes: Vec<Note>,
    pub(super) drained: DrainId,
    pub(super) patience: Duration,
    first_paths: Vec<PathConfig>,
    conns: [Option<(ConnId, bool)>; LINKS_MAX],
    /// Links whose loss the runtime will report then: its cancelled receives take a moment.
    closing: Vec<(Instant, LinkId)>,
    sender: Sender,
    prng: Prng,
}

pub(super) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What a probing login would have found of this unit.
pub(super) fn describe(unit: &LunConfig) -> Description {
    let naa: String = unit
        .identity
        .naa
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Description {
        identity: Identity {
            wwid: format!("3{naa}"),
            serial: unit.identity.serial.clone(),
            vendor: unit.identity.vendor.clone(),
            product: unit.identity.product.clone(),
            blocks: unit.blocks,
            block_len: unit.block_size,
        },
        physical_block_exponent: unit.physical_exponent,
        max_transfer_blocks: Some(unit.max_transfer_blocks).filter(|&blocks| blocks > 0),
        optimal_transfer_blocks: None,
        optimal_granularity_blocks: None,
        rotational: unit.rotational,
        write_cache: unit.write_cache,
        fua: true,
        read_only: unit.read_only,
        unmap: unit.thin.then_some(UnmapLimits {
            max_blocks: unit.max_unmap_blocks,
            granularity_blocks: 1,
            alignment_blocks: 0,
        }),
        max_write_same_blocks: u32::try_from(unit.max_write_same_blocks)
            .ok()
            .filter(|&blocks| blocks > 0),
        write_same_unmaps: unit.thin,
        task_set: match unit.task_set_per_nexus {
            true => TaskSet::PerNexus,
            false => TaskSet::Shared,
        },
        target_port_group: Some(1),
        tpgs: match unit.alua {
            true => Tpgs::Implicit,
            false => Tpgs::None,
        },
    }
}

impl Host {
    /// A volume with a path to each portal of the target; link n leads to portal n.
    pub(super) fn new(seed: u64, target: TargetConfig, unit: LunConfig) -> Host {
        Host::with(seed, target, unit, |_| {})
    }

    pub(super) fn with(
        seed: u64,
        target: TargetConfig,
        unit: LunConfig,
        adjust: impl FnOnce(&mut VolumeConfig),
    ) -> Host {
        let portals = target.portals.clone();
        let name = target.name.clone();
        let mut config = VolumeConfig {
            depth: DEPTH,
            first_scratch: BufferId(DEPTH),
            scratch_len: 64 << 10,
            io_len_max: IO_LEN,
            spares: SpareBuffers {
                first: BufferId(DEPTH + LINKS_MAX as u16),
                count: SPARES,
                len: 128 << 10,
            },
            initiator_name: INITIATOR.into(),
            credentials: None,
            offer: Offer::default(),
            lun: LUN_0,
            description: describe(&unit),
            no_path_retry: NoPathRetry::Queue,
            policy: PolicyKind::RoundRobin,
            allow_lun_reset: false,
            seed,
        };
        adjust(&mut config);
        let links = vec![LinkConfig::default(); portals.len()];
        let world = World::new(seed, target, unit, &links);
        let mut host = Host {
            volume: Volume::new(world.now(), config),
            world,
            memory: Buffers::new(usize::from(DEPTH + SPARES) + LINKS_MAX, IO_LEN as usize),
            done: Vec::new(),
            notes: Vec::new(),
            drained: DrainId::default(),
            patience: seconds(60),
            first_paths: Vec::new(),
            conns: [None; LINKS_MAX],
            closing: Vec::new(),
            sender: Sender::default(),
            prng: Prng::new(!seed),
        };
        let mut taken = Vec::new();
        for portal in &portals {
            let address: SocketAddr = portal.address.parse().expect("an address");
            let key = IsidKey {
                initiator_name: INITIATOR,
                target_name: &name,
                portal_group: Some(portal.group),
                portal: address,
                lun: LUN_0,
                queue: 0,
            };
            let isid = isid(&key, &taken);
            taken.push(isid);
            let path = PathConfig {
                portal_name: portal.address.clone(),
                portal: address,
                interface: None,
                target_name: name.clone(),
                portal_group: None,
                isid,
            };
            host.first_paths.push(path.clone());
            host.volume
                .add_path(host.world.now(), path)
                .expect("room for a path");
        }
        host
    }

    /// The path to this portal, as it was added first.
    pub(super) fn path_config(&self, portal: usize) -> PathConfig {
        self.first_paths[portal].clone()
    }

    pub(super) fn now(&self) -> Instant {
        self.world.now()
    }

    fn portal_of(&self, to: SocketAddr) -> usize {
        let portals = &self.world.target.config().portals;
        portals
            .iter()
            .position(|portal| portal.address == to.to_string())
            .expect("a portal of the target")
    }

    /// One turn of the runtime, without waiting.
    pub(super) fn turn(&mut self) {
        let now = self.now();
        while let Some(at) = self.closing.iter().position(|&(due, _)| due <= now) {
            let (_, link) = self.closing.remove(at);
            self.volume.lost(now, link, Lost::Ours);
        }
        let due = self.volume.poll_timeout().is_some_and(|at| at <= now);
        self.report_progress();
        if due {
            self.volume.handle_timeout(now);
        }
        while let Some(output) = self.volume.poll_output() {
            self.perform(output);
        }
        for index in 0..LINKS_MAX {
            let Some((conn, true)) = self.conns[index] else {
                continue;
            };
            loop {
                let Host {
                    volume,
                    sender,
                    memory,
                    ..
                } = self;
                let link = LinkId(index as u8);
                let bytes = sender.gather(memory, |memory, out| {
                    volume.poll_transmit(now, link, memory, out);
                });
                if bytes.is_empty() {
                    break;
                }
                self.world.send(conn, &bytes);
            }
        }
    }

    fn report_progress(&mut self) {
        let now = self.now();
        for index in 0..LINKS_MAX {
            let link = LinkId(index as u8);
            if self.volume.wants_progress(now, link)
                && let Some((conn, true)) = self.conns[index]
                && let Some(progress) = self.world.net.progress(now, conn)
            {
                let progress = TcpProgress {
                    acked: progress.acked,
                    received: progress.received,
                    unacked: progress.unacked,
                    since_ack: progress.since_ack,
                    since_data: progress.since_data,
                    since_sent: progress.since_sent,
                    rtt: None,
                    min_rtt: None,
                };
                self.volume.tcp_progress(now, link, progress);
            }
        }
    }

    fn perform(&mut self, output: Output) {
        let now = self.now();
        match output {
            Output::Complete { tag, result } => self.done.push((tag, result)),
            Output::Connect { link, to, .. } => {
                let slot = usize::from(link.0);
                assert!(self.conns[slot].is_none(), "{link:?} is not free");
                assert!(self.closing.iter().all(|&(_, closing)| closing != link));
                let portal = self.portal_of(to);
                let conn = self.world.connect(Cable(portal), portal);
                self.conns[slot] = Some((conn, false));
            }
            Output::Close { link, .. } => {
                if let Some((conn, _)) = self.conns[usize::from(link.0)].take() {
                    self.world.close(conn);
                    let delay = Duration::from_micros(self.prng.below(2000));
                    self.closing.push((now + delay, link));
                }
            }
            Output::Publish {
                spare,
                tag,
                offset,
                len,
            } => {
                let bytes = self.memory.read(spare, 0, len).to_vec();
                let place = self.memory.write(BufferId(tag.0), offset, len);
                place.copy_from_slice(&bytes);
            }
            // Nothing stays armed between two turns.
            Output::Rearm { link } => self.volume.rearmed(now, link),
            Output::Drained(drain) => self.drained = drain,
            Output::Note(note) => self.notes.push(note),
        }
    }

    fn link_of(&self, conn: ConnId) -> Option<LinkId> {
        let mut conns = self.conns.iter();
        let index = conns.position(|slot| slot.is_some_and(|(other, _)| other == conn))?;
        Some(LinkId(index as u8))
    }

    /// Lets the world go on until `done` holds, or so long. True: it holds.
    pub(super) fn run(&mut self, limit: Duration, mut done: impl FnMut(&Host) -> bool) -> bool {
        let end = self.now() + limit;
        let mut spins = (self.now(), 0);
        loop {
            spins = match spins {
                (at, count) if at == self.now() => (at, count + 1),
                _ => (self.now(), 0),
            };
            assert!(
                spins.1 < 10_000,
                "time stands still: volume {:?} target {:?} net {:?} now {:?} {:#?}",
                self.volume.poll_timeout(),
                self.world.target.poll_timeout(),
                self.world.net.poll_timeout(),
                self.now(),
                self.volume.status().paths
            );
            self.turn();
            if done(self) {
                return true;
            }
            if self.now() >= end {
                return false;
            }
            let closing = self.closing.iter().map(|&(at, _)| at).min();
            let wake = self.volume.poll_timeout().into_iter().chain(closing).min();
            let wake = wake.map_or(end, |wake| wake.min(end)).max(self.now());
            self.step(wake);
        }
    }

    /// Waits for the next thing that happens to the host.
    pub(super) fn step(&mut self, wake: Instant) {
        if let Some(event) = self.world.advance(wake) {
            self.happened(event);
        }
    }

    pub(super) fn happened(&mut self, event: HostEvent) {
        let now = self.now();
        match event {
            HostEvent::Connected(conn) => {
                if let Some(link) = self.link_of(conn) {
                    self.conns[usize::from(link.0)] = Some((conn, true));
                    self.volume.connected(now, link, [0x5a; 32]);
                }
            }
            HostEvent::Received(conn, bytes) => {
                if let Some(link) = self.link_of(conn) {
                    self.receive(link, &bytes);
                }
            }
            HostEvent::Lost(conn) => {
                if let Some(link) = self.link_of(conn) {
                    self.conns[usize::from(link.0)] = None;
                    self.volume.lost(now, link, Lost::Reset);
                }
            }
        }
    }

    fn receive(&mut self, link: LinkId, mut bytes: &[u8]) {
        let now = self.now();
        while !bytes.is_empty() {
            let want = self.volume.want(link);
            if let Want::Payload {
                buffer,
                offset,
                len,
            } = want
                && self.prng.percent(50)
            {
                let (piece, rest) = bytes.split_at(bytes.len().min(len as usize));
                let len = piece.len() as u32;
                self.memory
                    .write(buffer, offset, len)
                    .copy_from_slice(piece);
                self.volume
                    .received_in_place(now, link, len, &mut self.memory);
                bytes = rest;
            } else {
                self.volume.receive(now, link, bytes, &mut self.memory);
                bytes = &[];
            }
        }
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, time: Duration) {
        self.run(time, |_| false);
    }

    pub(super) fn state(&self, path: usize) -> PathState {
        self.volume.status().paths[path].state.clone()
    }

    pub(super) fn is_up(&self, path: usize) -> bool {
        self.state(path) == PathState::Up
    }

    /// Runs until every path is up.
    pub(super) fn all_up(&mut self) {
        let limit = self.patience;
        let up = self.run(limit, |host| {
            let status = host.volume.status();
            status.paths.iter().all(|path| path.state == PathState::Up)
        });
        assert!(
            up,
            "{:?}\n{:?}",
            self.volume.status(),
            self.world.target.violations()
        );
    }

    pub(super) fn submit(&mut self, request: Request) {
        self.volume.submit(self.world.now(), request);
    }

    /// Fills a tag's buffer and writes it.
    pub(super) fn write(&mut self, tag: u16, lba: u64, blocks: u32, fill: u8) {
        self.memory.of(BufferId(tag)).fill(fill);
        self.submit(request(tag, Operation::Write, lba, blocks));
    }

    /// Runs until this tag is answered.
    pub(super) fn wait(&mut self, tag: u16) -> Option<Result<(), IoError>> {
        let limit = self.patience;
        self.run(limit, |host| host.result(tag).is_some());
        let result = self.result(tag);
        self.done.retain(|&(done, _)| done != Tag(tag));
        result
    }

    pub(super) fn result(&self, tag: u16) -> Option<Result<(), IoError>> {
        let mut results = self.done.iter().filter(|(done, _)| *done == Tag(tag));
        let result = results.next().map(|&(_, result)| result);
        assert!(results.next().is_none(), "{tag} was answered twice");
        result
    }

    /// Writes, and wants it to succeed.
    pub(super) fn must_write(&mut self, tag: u16, lba: u64, blocks: u32, fill: u8) {
        self.write(tag, lba, blocks, fill);
        assert_eq!(self.wait(tag), Some(Ok(())));
    }

    /// Reads through the volume; the bytes.
    pub(super) fn must_read(&mut self, tag: u16, lba: u64, blocks: u32) -> Vec<u8> {
        self.memory.of(BufferId(tag)).fill(0xee);
        self.submit(request(tag, Operation::Read, lba, blocks));
        assert_eq!(self.wait(tag), Some(Ok(())));
        let len = blocks * self.volume.block_len();
        self.memory.read(BufferId(tag), 0, len).to_vec()
    }

    /// What lies on the medium.
    pub(super) fn medium(&mut self, lba: u64, blocks: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.world.unit().store().read(lba, blocks, &mut bytes);
        bytes
    }

    pub(super) fn cut(&mut self, link: usize) {
        for direction in [Direction::ToTarget, Direction::ToInitiator] {
            self.world.happen(Incident::Cut(Cable(link), direction));
        }
    }

    pub(super) fn heal(&mut self, link: usize) {
        self.world.happen(Incident::Heal(Cable(link)));
    }

    pub(super) fn reset(&mut self, link: usize) {
        self.world.happen(Incident::Reset(Cable(link)));
        // Both ends hear of it at once.
        self.pass(Duration::from_micros(1));
    }

    pub(super) fn noted(&self, what: impl Fn(&Note) -> bool) -> bool {
        self.notes.iter().any(what)
    }

    /// Nobody broke the protocol.
    pub(super) fn assert_good_manners(&self) {
        assert_eq!(self.world.target.violations(), []);
    }
}

pub(super) fn request(tag: u16, operation: Operation, lba: u64, blocks: u32) -> Request {
    Request {
        tag: Tag(tag),
        operation,
        lba,
        blocks,
        fua: false,
    }
}

/// A target whose portals are in these groups.
pub(super) fn target(groups: &[u16]) -> TargetConfig {
    let portals = groups.iter().enumerate();
    TargetConfig {
        portals: portals
            .map(|(index, &group)| kit::target::Portal {
                address: format!("10.20.{}.254:3260", index + 5),
                group: Tpgt(group),
            })
            .collect(),
        ..TargetConfig::default()
    }
}
