//! The sessions against the simulated target: single stories, and many under faults, with a judge.

use std::collections::BTreeMap;
use std::time::Duration;

use iscsi_client::login::Offer;
use iscsi_client::memory::BufferId;
use iscsi_client::outgoing::{Outgoing, Piece};
use iscsi_client::session::Handle;
use iscsi_client::time::Instant;
use iscsi_client::wire::Tpgt;
use kit::disk::{AluaState, Code, Fault, Group, Injection, LogicalUnit, LunConfig, Select};
use kit::net::{Direction, Link, LinkConfig};
use kit::pair::{self, Pair};
use kit::prng::Prng;
use kit::target::{ConnId, FLAVOURS, Flavour, Ping, TargetConfig};
use kit::world::{HostEvent, Incident, LUN_0, World};
use lockmgr::{IoId, ReadFailed, WriteOutcome};
use multipath::{Description, Probe};

use super::carrier::{Carrier, Output};
use super::nexus::Trouble;
use super::patience::{FIRST_REPEAT, Patience};
use super::{PortalPicture, PortalState, SanConfig, SanPortal};
use crate::keeper::disk::{Answer, Job};

const IO: Duration = Duration::from_secs(10);
const SECTOR: usize = 512;

/// A connection as the host's TCP has it.
struct Conn {
    id: ConnId,
    connected: bool,
    /// Bytes that were acknowledged, and since when none more were while some are on their way.
    acked: u64,
    stuck_since: Option<Instant>,
}

/// The sessions and their world.
struct Sim {
    world: World,
    carrier: Carrier,
    addresses: Vec<std::net::SocketAddr>,
    conns: Vec<Option<Conn>>,
    answers: Vec<(Instant, Answer)>,
    writes: BTreeMap<IoId, Instant>,
    effects: Vec<(Instant, u64, u64)>,
    last: u64,
}

fn describe(target: &TargetConfig, unit: &LunConfig) -> Description {
    let config = pair::login(target, Offer::default());
    let mut pair = Pair::new(1, target.clone(), unit.clone(), config);
    pair.establish();
    let mut probe = Probe::new(LUN_0, BufferId(0));
    loop {
        if let Some(result) = probe.result() {
            return result.expect("a usable unit").clone();
        }
        let command = probe.poll_command(Handle(9)).expect("a question");
        let now = pair.now();
        pair.session.submit(now, command);
        let done = pair.wait(Handle(9)).expect("an answer");
        probe.completed(&done, &pair.memory);
    }
}

impl Sim {
    fn new(seed: u64, target: TargetConfig, mut unit: LunConfig) -> Sim {
        unit.record_effects = true;
        let description = describe(&target, &unit);
        let addresses: Vec<std::net::SocketAddr> = target
            .portals
            .iter()
            .map(|portal| portal.address.parse().expect("an address"))
            .collect();
        let config = SanConfig {
            portals: addresses
                .iter()
                .zip(&target.portals)
                .map(|(address, portal)| SanPortal {
                    name: address.to_string(),
                    address: *address,
                    interface: Some(format!("if-{}", address.ip())),
                    portal_group: Some(portal.group),
                })
                .collect(),
            target: target.name.clone(),
            lun: LUN_0,
            initiator_name: "iqn.2026-01.test:host".into(),
            credentials: None,
            offer: Offer::default(),
            description,
            lockspace: b"space".to_vec(),
            taken: vec![],
            io_timeout: IO,
        };
        let links = vec![LinkConfig::default(); addresses.len()];
        let world = World::new(seed, target, unit, &links);
        Sim {
            carrier: Carrier::new(world.now(), config),
            conns: addresses.iter().map(|_| None).collect(),
            world,
            addresses,
            answers: vec![],
            writes: BTreeMap::new(),
            effects: vec![],
            last: 0,
        }
    }

    fn usual() -> Sim {
        Sim::new(1, TargetConfig::default(), LunConfig::default())
    }

    fn id(&mut self) -> IoId {
        self.last += 1;
        IoId::new(self.last)
    }

    fn deadline(&self) -> lockmgr::time::Instant {
        lockmgr::time::Instant::from_nanos(self.world.now().nanos()) + IO
    }

    /// Asks for a write whose bytes tell its number.
    fn write(&mut self, lba: u64) -> IoId {
        let id = self.id();
        let bytes = self.last.to_be_bytes().repeat(SECTOR / 8);
        let deadline = self.deadline();
        self.writes.insert(id, self.world.now() + IO);
        let job = Job::Write {
            id,
            offset: lba * SECTOR as u64,
            bytes: bytes.into(),
            deadline,
        };
        self.carrier.start(self.world.now(), job);
        id
    }

    fn read(&mut self, lba: u64, len: usize) -> IoId {
        let id = self.id();
        let job = Job::Read {
            id,
            offset: lba * SECTOR as u64,
            len,
            deadline: self.deadline(),
        };
        self.carrier.start(self.world.now(), job);
        id
    }

    fn turn(&mut self) {
        let now = self.world.now();
        loop {
            self.carrier.turn(now);
            let mut again = false;
            while let Some(output) = self.carrier.poll_output() {
                again = true;
                self.perform(output);
            }
            for index in 0..self.conns.len() {
                again |= self.transmit(index);
            }
            if !again {
                break;
            }
        }
        let (effects, _) = self.world.take_effects();
        for effect in effects {
            let data = effect.data.expect("only writes");
            let id = u64::from_be_bytes(data[..8].try_into().expect("eight bytes"));
            self.effects.push((effect.at, effect.lba, id));
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Connect { nexus, to, .. } => {
                assert!(self.conns[nexus].is_none(), "one connection at a time");
                let portal = self.addresses.iter().position(|address| *address == to);
                let portal = portal.expect("a portal");
                self.conns[nexus] = Some(Conn {
                    id: self.world.connect(Link(portal), portal),
                    connected: false,
                    acked: 0,
                    stuck_since: None,
                });
            }
            Output::Reset { nexus } => {
                if let Some(conn) = self.conns[nexus].take() {
                    self.world.close(conn.id);
                }
            }
            Output::Answer(answer) => self.answers.push((self.world.now(), answer)),
        }
    }

    fn transmit(&mut self, index: usize) -> bool {
        let now = self.world.now();
        let Some(conn) = self.conns[index].as_ref().filter(|conn| conn.connected) else {
            return false;
        };
        let mut head = [0; 4096];
        let mut pieces = Vec::with_capacity(16);
        let mut out = Outgoing::new(&mut head, &mut pieces, 64 << 10);
        self.carrier.transmit(now, index, &mut out);
        let mut bytes = vec![];
        for piece in pieces {
            match piece {
                Piece::Head { start, len } => {
                    bytes.extend(&head[start as usize..][..len as usize]);
                }
                Piece::Payload {
                    buffer,
                    offset,
                    len,
                } => bytes.extend(self.carrier.memory().read(buffer, offset, len)),
            }
        }
        if bytes.is_empty() {
            return false;
        }
        let until = self.carrier.send_until(index);
        assert!(until.is_none_or(|until| now < until), "sent after its time");
        self.world.send(conn.id, &bytes);
        if let Some(conn) = &mut self.conns[index] {
            conn.stuck_since.get_or_insert(now);
        }
        true
    }

    /// `TCP_USER_TIMEOUT`, as the kernel would.
    fn user_timeouts(&mut self) {
        let now = self.world.now();
        let limit = FIRST_REPEAT + Patience::of(IO).user_timeout;
        for index in 0..self.conns.len() {
            let Some(conn) = &mut self.conns[index] else {
                continue;
            };
            let Some(progress) = self.world.net.progress(now, conn.id) else {
                continue;
            };
            if progress.unacked == 0 || progress.acked != conn.acked {
                conn.acked = progress.acked;
                conn.stuck_since = (progress.unacked > 0).then_some(now);
            }
            if conn
                .stuck_since
                .is_some_and(|since| now.since(since) >= limit)
            {
                self.world.close(conn.id);
                self.conns[index] = None;
                let timed_out = Trouble::Connection(std::io::ErrorKind::TimedOut);
                self.carrier.lost(now, index, timed_out);
            }
        }
    }

    /// Lets things happen until `done` or for so long. True: it is done.
    fn run(&mut self, limit: Duration, mut done: impl FnMut(&Sim) -> bool) -> bool {
        let end = self.world.now() + limit;
        loop {
            self.turn();
            if done(self) {
                return true;
            }
            let now = self.world.now();
            if now >= end {
                return false;
            }
            let mut conns = self.conns.iter().flatten();
            let busy = conns.any(|conn| conn.stuck_since.is_some());
            let tick = now + Duration::from_millis(if busy { 20 } else { 1000 });
            let wake = self
                .carrier
                .poll_timeout(now)
                .map_or(tick, |at| at.min(tick));
            match self.world.advance(wake.min(end)) {
                Some(HostEvent::Connected(id)) => {
                    if let Some(index) = self.index(id) {
                        self.conns[index].as_mut().expect("just found").connected = true;
                        self.carrier.connected(self.world.now(), index, [7; 32]);
                    }
                }
                Some(HostEvent::Received(id, bytes)) => {
                    if let Some(index) = self.index(id) {
                        self.carrier.receive(self.world.now(), index, &bytes);
                    }
                }
                Some(HostEvent::Lost(id)) => {
                    if let Some(index) = self.index(id) {
                        self.conns[index] = None;
                        self.carrier
                            .lost(self.world.now(), index, Trouble::PeerClosed);
                    }
                }
                None => {}
            }
            self.user_timeouts();
        }
    }

    fn index(&self, id: ConnId) -> Option<usize> {
        let is = |conn: &Option<Conn>| conn.as_ref().is_some_and(|conn| conn.id == id);
        self.conns.iter().position(is)
    }

    fn until(&mut self, what: &str, done: impl FnMut(&Sim) -> bool) {
        let reached = self.run(Duration::from_secs(600), done);
        assert!(
            reached,
            "{what}: {:#?}\n{:?}\n{:?}",
            self.carrier.picture(),
            self.answers,
            self.world.target.violations()
        );
    }

    fn up(&mut self) {
        let up = |portal: &PortalPicture| matches!(portal.state, PortalState::Up { .. });
        self.until("all up", |sim| sim.carrier.picture().iter().all(up));
    }

    fn outcome(&self, id: IoId) -> Option<(Instant, WriteOutcome)> {
        self.answers.iter().find_map(|(at, answer)| match answer {
            Answer::Wrote { id: of, outcome } if *of == id => Some((*at, *outcome)),
            _ => None,
        })
    }

    fn data(&self, id: IoId) -> Option<Result<&[u8], ReadFailed>> {
        self.answers.iter().find_map(|(_, answer)| match answer {
            Answer::Read { id: of, data } if *of == id => {
                Some(data.as_deref().map_err(|failed| *failed))
            }
            _ => None,
        })
    }

    fn fenced_at(&self, id: IoId) -> Option<Instant> {
        self.answers.iter().find_map(|(at, answer)| match answer {
            Answer::Fenced { through } if *through >= id => Some(*at),
            _ => None,
        })
    }

    fn wrote(&mut self, id: IoId) -> WriteOutcome {
        self.until("a write's end", |sim| sim.outcome(id).is_some());
        self.outcome(id).expect("just reached").1
    }

    fn inject(&mut self, select: Select, fault: Fault) {
        self.world.unit().inject(Injection {
            nexus: None,
            select,
            fault,
            times: 1,
        });
    }

    fn current(&self) -> usize {
        let current = PortalState::Up { current: true };
        let picture = self.carrier.picture();
        let found = picture.iter().position(|portal| portal.state == current);
        found.expect("a current portal")
    }

    fn effects_of(&self, id: IoId) -> usize {
        let is = |(_, _, of): &&(Instant, u64, u64)| IoId::new(*of) == id;
        self.effects.iter().filter(is).count()
    }

    /// What must hold of everything that was seen.
    fn judge(&self) {
        assert_eq!(self.world.target.violations(), &[]);
        for (id, deadline) in &self.writes {
            let outcomes = self
                .answers
                .iter()
                .filter(|(_, answer)| matches!(answer, Answer::Wrote { id: of, .. } if of == id));
            assert!(outcomes.count() <= 1, "{id:?} answered twice");
            assert!(self.effects_of(*id) <= 1, "{id:?} executed twice");
            let Some((at, outcome)) = self.outcome(*id) else {
                continue;
            };
            assert!(at <= *deadline, "{id:?} answered late");
            if outcome == WriteOutcome::Done {
                assert_eq!(self.effects_of(*id), 1, "{id:?} is done and not there");
            }
            let fenced = self.fenced_at(*id);
            for (at, _, of) in &self.effects {
                let late = IoId::new(*of) == *id && fenced.is_some_and(|fenced| *at > fenced);
                assert!(!late, "{id:?} executed at {at:?}, after its fence");
            }
        }
    }
}

#[test]
fn a_write_that_was_not_executed_is_sent_again() {
    let mut sim = Sim::usual();
    sim.up();
    let faults = [
        Fault::Check(Code::CAPACITY_CHANGED),
        Fault::Check(Code::INQUIRY_CHANGED),
        Fault::Check(Code::NOT_READY_BECOMING),
        Fault::Status(0x08),
        Fault::Status(0x28),
    ];
    for fault in faults {
        sim.inject(Select::Writes, fault);
        let id = sim.write(5);
        assert_eq!(sim.wrote(id), WriteOutcome::Done, "{fault:?}");
    }
    sim.judge();
}

#[test]
fn a_write_that_failed_is_unknown_and_over() {
    let mut sim = Sim::usual();
    sim.up();
    for fault in [
        Fault::Check(Code::MEDIUM_ERROR),
        Fault::Check(Code::WRITE_PROTECTED),
        Fault::Check(Code::SPACE),
        Fault::Status(0x18),
    ] {
        sim.inject(Select::Writes, fault);
        let id = sim.write(5);
        assert_eq!(sim.wrote(id), WriteOutcome::Unknown, "{fault:?}");
        sim.until("its fence", |sim| sim.fenced_at(id).is_some());
        assert_eq!(sim.outcome(id).map(|(at, _)| at), sim.fenced_at(id));
    }
    // No session was given up for that.
    assert_eq!(sim.world.target.counters().reinstatements, 0);
    sim.judge();
}

#[test]
fn a_write_that_was_aborted_is_in_doubt_until_its_session_is_fenced() {
    for fault in [Fault::Status(0x40), Fault::Response(1)] {
        let mut sim = Sim::usual();
        sim.up();
        sim.inject(Select::Writes, fault);
        let id = sim.write(5);
        assert_eq!(sim.wrote(id), WriteOutcome::Unknown, "{fault:?}");
        assert_eq!(sim.fenced_at(id), None);
        sim.until("its fence", |sim| sim.fenced_at(id).is_some());
        sim.judge();
    }
}

#[test]
fn a_reset_by_another_host_that_tells_nobody_is_found() {
    let mut sim = Sim::usual();
    sim.up();
    sim.inject(Select::Writes, Fault::Park);
    let id = sim.write(5);
    sim.until("the write there", |sim| {
        sim.world.target.counters().commands > 0
    });
    sim.run(Duration::from_millis(10), |_| false);
    let now = sim.world.now();
    assert_eq!(sim.world.unit().abort(now, |_| true).len(), 1);
    sim.world.unit().attention(Code::RESET, None);
    assert_eq!(sim.wrote(id), WriteOutcome::Unknown);
    let waited = sim.world.now().since(now);
    assert!(waited < IO / 4, "found by its deadline only: {waited:?}");
    // An aborted command may be at the backend all the same.
    assert!(!sim.run(Duration::from_secs(20), |sim| sim.fenced_at(id).is_some()));
    let now = sim.world.now();
    sim.world.unit().release_all(now);
    sim.until("its fence", |sim| sim.fenced_at(id).is_some());
    sim.judge();
}

#[test]
fn the_fence_waits_for_the_backend() {
    for flavour in FLAVOURS {
        let (mut target, mut unit) = (TargetConfig::default(), LunConfig::default());
        flavour.shape(&mut target);
        unit.identity.vendor = flavour.vendor().into();
        unit.ignores_order = flavour == Flavour::Spdk;
        unit.task_set_per_nexus = flavour == Flavour::Scst;
        unit.park_max = Some(Duration::from_secs(20));
        let mut sim = Sim::new(2, target, unit);
        sim.up();
        let current = sim.current();
        sim.inject(Select::Writes, Fault::Park);
        let id = sim.write(5);
        sim.run(Duration::from_millis(10), |_| false);
        sim.world
            .happen(Incident::Cut(Link(current), Direction::ToTarget));
        sim.world
            .happen(Incident::Cut(Link(current), Direction::ToInitiator));
        assert_eq!(sim.wrote(id), WriteOutcome::Unknown, "{flavour:?}");
        // The other portal reads and writes meanwhile, where the target lets it.
        sim.until("its fence", |sim| sim.fenced_at(id).is_some());
        assert_eq!(sim.effects_of(id), 1, "{flavour:?}: the backend had it");
        sim.judge();
    }
}

#[test]
fn without_a_sibling_in_its_group_only_time_tells() {
    let mut target = TargetConfig::default();
    target.portals[1].group = Tpgt(2);
    let mut sim = Sim::new(3, target, LunConfig::default());
    sim.up();
    let current = sim.current();
    sim.inject(Select::Writes, Fault::Park);
    let id = sim.write(5);
    sim.run(Duration::from_millis(10), |_| false);
    sim.world
        .happen(Incident::Cut(Link(current), Direction::ToTarget));
    sim.world
        .happen(Incident::Cut(Link(current), Direction::ToInitiator));
    assert_eq!(sim.wrote(id), WriteOutcome::Unknown);
    let lost = sim.world.now();
    // Other sectors go on through the other group.
    let other = sim.write(6);
    assert_eq!(sim.wrote(other), WriteOutcome::Done);
    assert!(!sim.run(Duration::from_secs(300), |sim| sim.fenced_at(id).is_some()));
    sim.world.unit().release_all(lost);
    sim.until("the hold", |sim| sim.fenced_at(id).is_some());
    sim.judge();
}

#[test]
fn another_lun_is_never_written_to() {
    let mut sim = Sim::usual();
    sim.up();
    let mut other = LunConfig::default();
    other.identity.serial = "5eed0002".into();
    other.record_effects = true;
    sim.world
        .keep_impostor(LogicalUnit::new(other, Prng::new(5)));
    sim.world.happen(Incident::Swap(Duration::from_millis(10)));
    let id = sim.write(5);
    assert_eq!(sim.wrote(id), WriteOutcome::Unknown);
    let read = sim.read(5, SECTOR);
    sim.until("the read's end", |sim| sim.data(read).is_some());
    assert_eq!(sim.data(read), Some(Err(ReadFailed)));
    let why = sim.carrier.picture().remove(0).why;
    assert!(matches!(why, Some(Trouble::OtherLun(_))), "{why:?}");
    // Nothing reached it, and the old disk had nothing to lose.
    assert_eq!(sim.effects, []);
    sim.world.happen(Incident::Swap(Duration::from_millis(10)));
    sim.up();
    let id = sim.write(5);
    assert_eq!(sim.wrote(id), WriteOutcome::Done);
    sim.judge();
}

#[test]
fn a_port_in_standby_is_left() {
    let mut target = TargetConfig::default();
    target.portals[1].group = Tpgt(2);
    let unit = LunConfig {
        alua: true,
        ..LunConfig::default()
    };
    let mut sim = Sim::new(4, target, unit);
    sim.up();
    let current = sim.current();
    let group = Group(current as u16 + 1);
    sim.world
        .happen(Incident::Access(LUN_0, group, AluaState::Standby));
    let id = sim.write(5);
    assert_eq!(sim.wrote(id), WriteOutcome::Done);
    assert_ne!(sim.current(), current);
    sim.judge();
}

#[test]
fn an_idle_session_stays_up_and_answers_pings() {
    let target = TargetConfig {
        ping: Some(Ping {
            idle: Duration::from_secs(1),
            patience: Duration::from_secs(1),
            tag_zero: true,
        }),
        ..TargetConfig::default()
    };
    let mut sim = Sim::new(5, target, LunConfig::default());
    sim.up();
    let logins = sim.world.target.counters().logins;
    sim.run(Duration::from_secs(120), |_| false);
    assert_eq!(sim.world.target.counters().logins, logins);
    sim.judge();
}

#[test]
fn a_dead_idle_portal_is_known_before_it_is_needed() {
    let mut sim = Sim::usual();
    sim.up();
    let idle = 1 - sim.current();
    sim.world
        .happen(Incident::Cut(Link(idle), Direction::ToTarget));
    let started = sim.world.now();
    sim.until("the loss", |sim| {
        !matches!(sim.carrier.picture()[idle].state, PortalState::Up { .. })
    });
    let waited = sim.world.now().since(started);
    assert!(waited < IO / 2, "{waited:?}");
}

#[test]
fn a_lost_carrier_needs_no_waiting() {
    let mut sim = Sim::usual();
    sim.up();
    let current = sim.current();
    let interface = format!("if-{}", sim.addresses[current].ip());
    sim.inject(Select::Writes, Fault::Park);
    let id = sim.write(5);
    sim.run(Duration::from_millis(10), |_| false);
    let now = sim.world.now();
    sim.world
        .happen(Incident::Cut(Link(current), Direction::ToTarget));
    sim.carrier.carrier(now, &interface, false);
    assert_eq!(sim.wrote(id), WriteOutcome::Unknown);
    assert_eq!(sim.world.now(), now);
    sim.world.unit().release_all(now);
    sim.until("its fence", |sim| sim.fenced_at(id).is_some());
    sim.world.happen(Incident::Heal(Link(current)));
    sim.carrier.carrier(sim.world.now(), &interface, true);
    sim.up();
    sim.judge();
}

#[test]
fn what_is_done_survives_the_target_s_power() {
    let unit = LunConfig {
        write_cache: true,
        ..LunConfig::default()
    };
    let mut sim = Sim::new(6, TargetConfig::default(), unit);
    sim.up();
    let id = sim.write(5);
    assert_eq!(sim.wrote(id), WriteOutcome::Done);
    sim.world.unit().power_cut();
    let read = sim.read(5, SECTOR);
    sim.until("a read", |sim| sim.data(read).is_some());
    let data = sim
        .data(read)
        .expect("just reached")
        .expect("a healthy disk");
    assert_eq!(data[..8], 1u64.to_be_bytes());
}

#[test]
fn a_slow_disk_costs_no_session() {
    let unit = LunConfig {
        latency_min: Duration::from_secs(2),
        latency_max: Duration::from_secs(3),
        ..LunConfig::default()
    };
    let mut sim = Sim::new(7, TargetConfig::default(), unit);
    sim.up();
    let logins = sim.world.target.counters().logins;
    for lba in 0..20 {
        let (id, read) = (sim.write(lba), sim.read(lba, SECTOR));
        assert_eq!(sim.wrote(id), WriteOutcome::Done);
        sim.until("a read", |sim| sim.data(read).is_some());
        assert!(sim.data(read).expect("just reached").is_ok());
    }
    assert_eq!(sim.world.target.counters().logins, logins);
    sim.judge();
}

#[test]
fn a_restarted_keeper_ends_its_own_dead_sessions_before_it_writes() {
    // A target where neither the other portal's login nor its commands wait for what is left.
    let mut target = TargetConfig::default();
    target.portals[1].group = Tpgt(2);
    let mut unit = LunConfig::default();
    unit.identity.vendor = "LIO-ORG".into();
    let mut sim = Sim::new(1, target.clone(), unit.clone());
    sim.up();
    sim.inject(Select::Writes, Fault::Park);
    let old = sim.write(5);
    sim.run(Duration::from_millis(10), |_| false);
    // The process dies, and the target does not hear of it.
    sim.carrier = Sim::new(1, target, unit).carrier;
    for conn in &mut sim.conns {
        *conn = None;
    }
    sim.writes.clear();
    let new = sim.write(5);
    assert!(!sim.run(Duration::from_secs(5), |sim| sim.outcome(new).is_some()));
    let now = sim.world.now();
    sim.world.unit().release_all(now);
    assert_eq!(sim.wrote(new), WriteOutcome::Done);
    let order: Vec<u64> = sim.effects.iter().map(|(_, _, id)| *id).collect();
    assert_eq!(order, [1, 2], "{old:?} before {new:?}");
}

/// Faults of one moment.
fn incident(prng: &mut Prng, portals: usize) -> Incident {
    let link = Link(prng.below(portals as u64) as usize);
    let ms = |prng: &mut Prng, most| Duration::from_millis(prng.below(most));
    match prng.below(14) {
        0 | 1 => Incident::Cut(link, Direction::ToTarget),
        2 => Incident::Cut(link, Direction::ToInitiator),
        3 => Incident::Reset(link),
        4 => Incident::Clog(link, ms(prng, 5000)),
        5 => Incident::Forget(link),
        6 => Incident::Restart(ms(prng, 3000)),
        7 => Incident::StopReading(link.0, ms(prng, 8000)),
        8 => Incident::ReleaseAll,
        _ => {
            let fault = match prng.below(8) {
                0 => Fault::Check(Code::RESET),
                1 => Fault::Check(Code::INQUIRY_CHANGED),
                2 => Fault::Status(0x40),
                3 => Fault::Status(0x08),
                4 => Fault::Check(Code::MEDIUM_ERROR),
                5 => Fault::Delay(ms(prng, 15_000)),
                6 => Fault::Response(1),
                _ => Fault::Park,
            };
            let select = prng.pick(&[Select::Writes, Select::Writes, Select::Reads]);
            let times = 1 + prng.below(2) as u32;
            let nexus = None;
            Incident::Inject(
                LUN_0,
                Injection {
                    nexus,
                    select,
                    fault,
                    times,
                },
            )
        }
    }
}

/// One run under faults: eight machines, each with a sector, which behave as those of a lockspace do.
fn story(seed: u64) {
    let mut prng = Prng::new(seed);
    let flavour = prng.pick(&FLAVOURS);
    let (mut target, mut unit) = (TargetConfig::default(), LunConfig::default());
    flavour.shape(&mut target);
    target.limits.immediate_data = prng.percent(70);
    if prng.percent(25) {
        target.portals[1].group = Tpgt(2);
    }
    unit.identity.vendor = flavour.vendor().into();
    unit.ignores_order = flavour == Flavour::Spdk;
    unit.task_set_per_nexus = flavour == Flavour::Scst;
    unit.park_max = Some(Duration::from_secs(prng.between(1, 100)));
    unit.write_cache = prng.percent(30);
    let mut sim = Sim::new(seed, target, unit);
    let mut at = sim.world.now();
    for _ in 0..prng.below(12) {
        at = at + Duration::from_millis(prng.below(12_000));
        let incident = incident(&mut prng, 2);
        sim.world.schedule(at, incident);
        if let Incident::Cut(link, _) = incident {
            let heal = at + Duration::from_millis(prng.below(20_000));
            sim.world.schedule(heal, Incident::Heal(link));
        }
    }
    let end = at + Duration::from_secs(5);
    let mut out: [Option<IoId>; 8] = [None; 8];
    while sim.world.now() < end {
        for (lba, out) in out.iter_mut().enumerate() {
            let idle = out.is_none_or(|id| match sim.outcome(id) {
                Some((_, WriteOutcome::Done)) => true,
                Some((_, WriteOutcome::Unknown)) => sim.fenced_at(id).is_some(),
                None => sim.data(id).is_some(),
            });
            if idle && prng.percent(60) {
                *out = Some(match prng.below(4) {
                    0 => sim.read(lba as u64, SECTOR),
                    1 => sim.read(0, 256 << 10),
                    _ => sim.write(lba as u64),
                });
            }
        }
        sim.run(Duration::from_millis(prng.below(400)), |_| false);
    }
    // The faults stop: everything comes to an end.
    sim.world.make_peace();
    let done = sim.run(Duration::from_secs(5000), |sim| {
        sim.writes.keys().all(|id| match sim.outcome(*id) {
            Some((_, WriteOutcome::Done)) => true,
            Some((_, WriteOutcome::Unknown)) => sim.fenced_at(*id).is_some(),
            None => false,
        })
    });
    assert!(
        done,
        "seed {seed}: not everything came to an end {:#?}",
        sim.carrier.picture()
    );
    sim.up();
    sim.run(Duration::from_secs(200), |_| false);
    sim.judge();
    let read = sim.read(0, 4096);
    sim.until("a read", |sim| sim.data(read).is_some());
    let data = sim.data(read).expect("just reached").expect("peace");
    for (lba, sector) in data.chunks(SECTOR).enumerate() {
        let mine = |(_, of, _): &&(Instant, u64, u64)| *of == lba as u64;
        let last = sim.effects.iter().rfind(mine);
        let expected = last.map_or(0, |(_, _, id)| *id);
        assert_eq!(
            sector[..8],
            expected.to_be_bytes(),
            "seed {seed}, block {lba}"
        );
    }
}

#[test]
fn no_schedule_of_faults_breaks_a_promise() {
    let first = std::env::var("SANBLK_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let count = std::env::var("SANBLK_SEEDS")
        .ok()
        .and_then(|count| count.parse().ok());
    let (first, count) = match (first, count) {
        (Some(seed), None) => (seed, 1),
        (first, count) => (first.unwrap_or(0), count.unwrap_or(60)),
    };
    for seed in first..first + count {
        println!("seed {seed}");
        story(seed);
    }
}
