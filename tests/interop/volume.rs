//! The whole data path but the ublk driver: the program's own turn over real TCP, two portals of a real target.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, Instant as Clock};

use iscsi_client::login::Offer;
use iscsi_client::memory::BufferId;
use iscsi_client::wire::{Lun, Tpgt};
use lockmgr::gate::Gate;
use multipath::{
    Description, IsidKey, LINKS_MAX, NoPathRetry, PathConfig, PathState, Permission, PolicyKind,
    SpareBuffers, Tag, Volume, VolumeConfig, VolumeStatus, isid,
};
use sanblk::queue::guard::USER_TIMEOUT;
use sanblk::queue::{Front, Turn};
use ublk_dev::{BlockOp, BlockRequest, Errno, Ring, Slots};

use super::client::{Client, parameters};
use super::pattern;
use super::proxy::Proxy;
use super::tgtd::{DISK_LEN, TARGET, Tgtd};

const DEPTH: u16 = 32;
const IO_LEN_MAX: u32 = 1 << 20;
const SCRATCH_LEN: u32 = 64 << 10;
const SPARES: u16 = 16;
const SPARE_LEN: u32 = 128 << 10;
/// Longest wait for anything; the silence that fails a path is far shorter.
const PATIENCE: Duration = Duration::from_secs(60);

/// Collects answers where the ublk driver would.
#[derive(Default)]
struct Answers(Vec<(Tag, Result<(), Errno>)>);

impl Front for Answers {
    fn answer(&mut self, _: &mut Ring, _: &mut Slots, tag: Tag, result: Result<(), Errno>) {
        assert!(
            self.0.iter().all(|(answered, _)| *answered != tag),
            "{tag:?} answered twice"
        );
        self.0.push((tag, result));
    }
}

/// A host with one attached volume.
struct Host {
    turn: Turn,
    answers: Answers,
    notes: Vec<String>,
    gate: Arc<Gate>,
}

impl Host {
    fn attach(target: &Tgtd, portals: &[std::net::SocketAddr], policy: PolicyKind) -> Host {
        let mut slots = slots().expect("memory");
        let ring = Ring::new(None, LINKS_MAX as u8, &mut slots).expect("an io_uring");
        let config = config(target, policy);
        let block_len = config.description.identity.block_len;
        let now = iscsi_client::time::Instant::from_nanos(ring.now());
        let gate = Arc::new(Gate::new());
        let turn = Turn::new(ring, slots, Volume::new(now, config), block_len)
            .guarded_by(Arc::clone(&gate));
        let mut host = Host {
            turn,
            answers: Answers::default(),
            notes: vec![],
            gate,
        };
        for path in paths(portals) {
            host.turn.add_path(path).expect("room for a path");
        }
        host
    }

    /// Turns until `done`, for a bounded time.
    fn turn_until(&mut self, what: &str, mut done: impl FnMut(&mut Host) -> bool) {
        let until = Clock::now() + PATIENCE;
        loop {
            let notes = &mut self.notes;
            self.turn
                .work(&mut self.answers, &mut |note| notes.push(note.to_string()));
            if done(self) {
                return;
            }
            if Clock::now() > until {
                panic!(
                    "{what}: not within {PATIENCE:?}\n{:#?}\n{:#?}",
                    self.status(),
                    self.notes
                );
            }
            let soon = self.turn.now() + Duration::from_millis(20);
            self.turn.wait(Some(soon)).expect("the ring works");
        }
    }

    fn status(&mut self) -> VolumeStatus {
        self.turn.volume().status()
    }

    fn paths_up(&mut self) -> usize {
        self.status()
            .paths
            .iter()
            .filter(|path| path.state == PathState::Up)
            .count()
    }

    fn wait_for_paths(&mut self, count: usize) {
        self.turn_until(&format!("{count} paths up"), |host| {
            host.paths_up() == count
        });
    }

    fn start(&mut self, tag: u16, op: BlockOp, lba: u64, blocks: u32) {
        let request = BlockRequest {
            tag: ublk_dev::Tag(tag),
            op,
            start_sector: lba,
            sectors: blocks,
            fua: false,
        };
        self.turn.submit(&mut self.answers, request);
    }

    fn fill(&mut self, tag: u16, data: &[u8]) {
        let buffer = ublk_dev::BufferId(tag);
        self.turn
            .slots()
            .write(buffer, 0, data.len() as u32)
            .copy_from_slice(data);
    }

    fn buffer(&mut self, tag: u16, len: usize) -> Vec<u8> {
        self.turn
            .slots()
            .read(ublk_dev::BufferId(tag), 0, len as u32)
            .to_vec()
    }

    fn run(&mut self, tag: u16, op: BlockOp, lba: u64, blocks: u32) {
        self.start(tag, op, lba, blocks);
        self.turn_until("one request", |host| host.answers.0.len() == 1);
        assert_eq!(self.answers.0.pop(), Some((Tag(tag), Ok(()))));
    }

    fn shut_down(mut self) {
        let now = self.turn.now();
        self.turn.volume().shut_down(now, Duration::from_secs(5));
        self.turn_until("shut down", |host| host.turn.volume().is_shut_down());
    }
}

/// The buffers of a queue.
pub fn slots() -> std::io::Result<Slots> {
    let links = LINKS_MAX as u8;
    Slots::with_spares(DEPTH, IO_LEN_MAX, links, SCRATCH_LEN, SPARES, SPARE_LEN)
}

/// A volume on [`slots`].
pub fn config(target: &Tgtd, policy: PolicyKind) -> VolumeConfig {
    VolumeConfig {
        depth: DEPTH,
        first_scratch: BufferId(DEPTH),
        scratch_len: SCRATCH_LEN,
        io_len_max: IO_LEN_MAX,
        spares: SpareBuffers {
            first: BufferId(DEPTH + LINKS_MAX as u16),
            count: SPARES,
            len: SPARE_LEN,
        },
        initiator_name: parameters(0, Offer::default(), None).initiator_name,
        credentials: None,
        offer: Offer::default(),
        lun: Lun::from_number(1).expect("a small number"),
        description: describe(target),
        no_path_retry: NoPathRetry::Queue,
        policy,
        allow_lun_reset: false,
        seed: 1,
    }
}

/// A path to each of these portals.
pub fn paths(portals: &[std::net::SocketAddr]) -> Vec<PathConfig> {
    let initiator_name = parameters(0, Offer::default(), None).initiator_name;
    let mut taken = vec![];
    for portal in portals {
        let key = IsidKey {
            initiator_name: &initiator_name,
            target_name: TARGET,
            portal_group: Some(Tpgt(1)),
            portal: *portal,
            lun: Lun::from_number(1).expect("a small number"),
            queue: 0,
        };
        taken.push(isid(&key, &taken));
    }
    let path = |(portal, isid): (&std::net::SocketAddr, _)| PathConfig {
        portal_name: portal.to_string(),
        portal: *portal,
        interface: None,
        target_name: TARGET.into(),
        portal_group: Some(Tpgt(1)),
        isid,
    };
    portals.iter().zip(taken).map(path).collect()
}

fn describe(target: &Tgtd) -> Description {
    let login = parameters(200, Offer::default(), None);
    let mut client = Client::login(target.portals[0], login).expect("logs in");
    let description = client.describe();
    assert_eq!(description.identity.blocks, DISK_LEN / 512);
    client.logout();
    description
}

/// Overwrites blocks in place again and again, with one version per block known to have been answered, and checks
/// every read: it must return the last answered version or one in flight.
struct Register {
    /// Region `r` is `REGION` blocks at `r * REGION`; the value is its last answered version.
    versions: Vec<u64>,
    /// What each busy tag does: region, and version if it writes.
    busy: Vec<Option<(usize, Option<u64>)>>,
    next: u64,
    random: u64,
    answered: u64,
}

const REGION: u32 = 40;
const REGIONS: usize = 96;

impl Register {
    fn new() -> Register {
        Register {
            versions: vec![0; REGIONS],
            busy: vec![None; usize::from(DEPTH)],
            next: 0,
            random: 88_172_645_463_325_252,
            answered: 0,
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    /// Keeps every tag busy; one request per region at a time, so that the last answer decides.
    fn feed(&mut self, host: &mut Host) {
        for tag in 0..DEPTH {
            if self.busy[usize::from(tag)].is_some() {
                continue;
            }
            let region = self.draw(REGIONS as u64) as usize;
            let taken = self
                .busy
                .iter()
                .flatten()
                .any(|(other, _)| *other == region);
            if taken {
                continue;
            }
            let lba = region as u64 * u64::from(REGION);
            let write = self.draw(2) == 0;
            let version = write.then(|| {
                self.next += 1;
                self.next
            });
            self.busy[usize::from(tag)] = Some((region, version));
            match version {
                Some(version) => {
                    host.fill(tag, &content(region, version));
                    host.start(tag, BlockOp::Write, lba, REGION);
                }
                None => host.start(tag, BlockOp::Read, lba, REGION),
            }
        }
    }

    fn judge(&mut self, host: &mut Host) {
        for (tag, result) in std::mem::take(&mut host.answers.0) {
            assert_eq!(result, Ok(()), "{tag:?}");
            let (region, version) = self.busy[usize::from(tag.0)].take().expect("a busy tag");
            match version {
                Some(version) => self.versions[region] = version,
                None => {
                    let expected = content(region, self.versions[region]);
                    let found = host.buffer(tag.0, expected.len());
                    assert!(
                        found == expected,
                        "region {region} is not version {:?}",
                        self.versions[region]
                    );
                }
            }
            self.answered += 1;
        }
    }

    fn run(&mut self, host: &mut Host, requests: u64) {
        let goal = self.answered + requests;
        while self.answered < goal {
            self.feed(host);
            let before = self.answered;
            host.turn_until("verified IO goes on", |host| !host.answers.0.is_empty());
            self.judge(host);
            assert!(self.answered > before);
        }
    }

    fn finish(&mut self, host: &mut Host) {
        while self.busy.iter().any(Option::is_some) {
            host.turn_until("the last requests end", |host| !host.answers.0.is_empty());
            self.judge(host);
        }
    }
}

fn content(region: usize, version: u64) -> Vec<u8> {
    match version {
        0 => vec![0; REGION as usize * 512],
        _ => pattern((region as u64) << 32 | version, REGION as usize * 512),
    }
}

#[test]
fn a_volume_over_two_portals_moves_data() {
    let target = Tgtd::start(&[]);
    let mut host = Host::attach(&target, &target.portals, PolicyKind::RoundRobin);
    host.wait_for_paths(2);
    for (number, blocks) in [1, 8, 33, 127, 512, 2048].into_iter().enumerate() {
        let (lba, len) = (number as u64 * 4096, blocks as usize * 512);
        let data = pattern(lba + 1, len);
        host.fill(0, &data);
        host.run(0, BlockOp::Write, lba, blocks);
        host.fill(0, &vec![0xee; len]);
        host.run(0, BlockOp::Read, lba, blocks);
        assert!(host.buffer(0, len) == data, "{blocks} blocks");
    }
    host.run(1, BlockOp::Flush, 0, 0);
    host.run(1, BlockOp::WriteZeroes { unmap: false }, 4096, 8);
    host.run(2, BlockOp::Read, 4096, 8);
    assert!(host.buffer(2, 4096).iter().all(|byte| *byte == 0));
    let status = host.status();
    assert!(
        status.paths.iter().all(|path| path.completed > 0),
        "both paths carried IO"
    );
    assert_eq!(status.unresolved, []);
    host.shut_down();
}

#[test]
fn verified_io_survives_the_loss_and_the_return_of_a_path() {
    let target = Tgtd::start(&[]);
    let proxies = target.portals.map(Proxy::to);
    let portals = [proxies[0].address, proxies[1].address];
    let mut host = Host::attach(&target, &portals, PolicyKind::RoundRobin);
    host.wait_for_paths(2);
    let mut register = Register::new();
    register.run(&mut host, 300);

    proxies[0].go_down();
    register.run(&mut host, 300);
    host.turn_until("one path left", |host| host.paths_up() == 1);
    register.judge(&mut host);
    proxies[0].come_back();
    register.run(&mut host, 100);
    register.finish(&mut host);
    host.wait_for_paths(2);

    // Silence, while TCP acknowledges: new requests go the other way, and nothing is given up.
    register.run(&mut host, 100);
    proxies[1].go_silent();
    register.feed(&mut host);
    host.turn_until("a suspect", |host| {
        host.status().paths[1].suspect_since.is_some()
    });
    assert_eq!(host.paths_up(), 2);
    // What was on the way is answered only after the fence.
    proxies[1].go_down();
    register.run(&mut host, 600);
    let fenced = |note: &&String| note.contains("its dead session is fenced");
    assert_eq!(
        host.notes.iter().filter(fenced).count(),
        2,
        "{:#?}",
        host.notes
    );
    proxies[1].come_back();
    register.finish(&mut host);
    host.wait_for_paths(2);
    register.run(&mut host, 300);
    register.finish(&mut host);
    assert_eq!(host.status().unresolved, []);
    host.shut_down();
}

#[test]
fn nothing_is_lost_while_no_path_works() {
    let target = Tgtd::start(&[]);
    let proxies = target.portals.map(Proxy::to);
    let portals = [proxies[0].address, proxies[1].address];
    let mut host = Host::attach(&target, &portals, PolicyKind::Failover);
    host.wait_for_paths(2);
    let mut register = Register::new();
    register.run(&mut host, 200);
    for proxy in &proxies {
        proxy.go_down();
    }
    register.feed(&mut host);
    host.turn_until("no path", |host| host.paths_up() == 0);
    register.judge(&mut host);
    assert!(host.status().all_paths_down_since.is_some());
    proxies[1].come_back();
    register.run(&mut host, 200);
    register.finish(&mut host);
    host.shut_down();
}

#[test]
fn writes_end_with_the_lease_and_reads_go_on() {
    let target = Tgtd::start(&[]);
    let mut host = Host::attach(&target, &target.portals, PolicyKind::LateBinding);
    host.wait_for_paths(2);
    host.turn.set_user_timeout(USER_TIMEOUT);

    // Each tag overwrites a megabyte of its own, again and again, until the deadline passes in the midst of that.
    let writers = 1..DEPTH;
    let mut version = 0;
    let mut write = |host: &mut Host, tag: u16| {
        version += 1;
        host.fill(tag, &pattern(version, IO_LEN_MAX as usize));
        host.start(tag, BlockOp::Write, place(tag), BLOCKS);
    };
    let now = lockmgr::time::Instant::from_nanos(host.turn.now().nanos());
    host.gate
        .arm(now, now, Duration::from_millis(300))
        .expect("it is not armed yet");
    for tag in writers.clone() {
        write(&mut host, tag);
    }
    host.turn_until("the deadline", |host| {
        for (tag, result) in std::mem::take(&mut host.answers.0) {
            assert_eq!(result, Ok(()));
            write(host, tag.0);
        }
        host.status().permission.0 == Permission::Withheld
    });
    assert_eq!(host.gate.deadline(), None, "shut for all");

    // What was under way is over at some time; all the rest waits.
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    host.turn.drain(Box::new(move || told.store(true, Release)));
    host.turn_until("the end of what was sent", |_| over.load(Acquire));
    assert_eq!(host.status().unresolved, []);
    assert_eq!(host.status().waiting_writes, u32::from(DEPTH) - 1);
    assert_eq!(
        host.answers.0,
        [],
        "no write is answered without permission"
    );

    // Reads go on, and find what the drain left, however often they look.
    let medium = |host: &mut Host| -> Vec<u8> {
        let regions = writers.clone().map(|tag| {
            host.run(0, BlockOp::Read, place(tag), BLOCKS);
            host.buffer(0, IO_LEN_MAX as usize)
        });
        regions.collect::<Vec<_>>().concat()
    };
    let then = medium(&mut host);
    host.wait_for_paths(2);
    assert!(medium(&mut host) == then, "written to after the drain");

    host.gate.refuse();
    host.turn_until("the end of the writes", |host| {
        host.answers.0.len() == writers.len()
    });
    for (_, result) in std::mem::take(&mut host.answers.0) {
        assert_eq!(result, Err(Errno::RESERVATION));
    }
    assert!(medium(&mut host) == then);
    host.shut_down();
}

/// Longest request in blocks.
const BLOCKS: u32 = IO_LEN_MAX / 512;

/// Where a tag writes.
fn place(tag: u16) -> u64 {
    u64::from(tag) * u64::from(BLOCKS)
}
