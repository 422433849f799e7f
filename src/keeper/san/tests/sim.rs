//! The sessions, the host's TCP below them, and the target: one world with one clock.

use std::collections::BTreeMap;
use std::time::Duration;

use iscsi_client::login::Offer;
use iscsi_client::memory::BufferId;
use iscsi_client::outgoing::{Outgoing, Piece};
use iscsi_client::session::Handle;
use iscsi_client::time::Instant;
use kit::disk::{Fault, Injection, LunConfig, Select};
use kit::net::{Direction, Link, LinkConfig};
use kit::pair::{self, Pair};
use kit::target::{ConnId, TargetConfig};
use kit::world::{HostEvent, Incident, LUN_0, World};
use lockmgr::{IoId, ReadFailed, WriteOutcome, Writers};
use multipath::{Description, Probe};

use crate::keeper::disk::{Answer, Job};
use crate::keeper::san::carrier::{Carrier, Output};
use crate::keeper::san::nexus::Trouble;
use crate::keeper::san::patience::{FIRST_REPEAT, Patience};
use crate::keeper::san::silence::TcpSeen;
use crate::keeper::san::{PortalPicture, PortalState, SanConfig, SanPortal};

pub const IO: Duration = Duration::from_secs(10);
pub const SECTOR: usize = 512;

/// A connection as the host's TCP has it.
pub struct Conn {
    id: ConnId,
    connected: bool,
    /// Bytes that were acknowledged, and since when none more were while some are on their way.
    acked: u64,
    stuck_since: Option<Instant>,
}

/// The sessions and their world.
pub struct Sim {
    pub world: World,
    pub carrier: Carrier,
    pub addresses: Vec<std::net::SocketAddr>,
    pub conns: Vec<Option<Conn>>,
    pub answers: Vec<(Instant, Answer)>,
    /// Their deadlines, and who else writes there.
    pub writes: BTreeMap<IoId, (Instant, Writers)>,
    /// When which block was written by which write.
    pub effects: Vec<(Instant, u64, u64)>,
    pub last: u64,
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
    pub fn new(seed: u64, target: TargetConfig, mut unit: LunConfig) -> Sim {
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

    pub fn usual() -> Sim {
        Sim::new(1, TargetConfig::default(), LunConfig::default())
    }

    pub fn id(&mut self) -> IoId {
        self.last += 1;
        IoId::new(self.last)
    }

    pub fn deadline(&self) -> lockmgr::time::Instant {
        lockmgr::time::Instant::from_nanos(self.world.now().nanos()) + IO
    }

    /// Asks for a write to a sector that others write too; its bytes tell its number.
    pub fn write(&mut self, lba: u64) -> IoId {
        self.write_as(lba, Writers::Many)
    }

    /// The same, to a sector that nobody else writes.
    pub fn write_alone(&mut self, lba: u64) -> IoId {
        self.write_as(lba, Writers::One)
    }

    pub fn write_as(&mut self, lba: u64, writers: Writers) -> IoId {
        let id = self.id();
        let bytes = self.last.to_be_bytes().repeat(SECTOR / 8);
        let deadline = self.deadline();
        self.writes.insert(id, (self.world.now() + IO, writers));
        let job = Job::Write {
            id,
            offset: lba * SECTOR as u64,
            bytes: bytes.into(),
            deadline,
            writers,
        };
        self.carrier.start(self.world.now(), job);
        id
    }

    pub fn read(&mut self, lba: u64, len: usize) -> IoId {
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

    pub fn turn(&mut self) {
        let now = self.world.now();
        self.look();
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

    /// What TCP knows, where it is asked for.
    fn look(&mut self) {
        let now = self.world.now();
        for index in 0..self.conns.len() {
            if self.carrier.wants_look(now, index) {
                let conn = self.conns[index].as_ref();
                let seen = conn.and_then(|conn| self.world.net.progress(now, conn.id));
                let seen = seen.map(|seen| TcpSeen {
                    unacked: seen.unacked,
                    since_ack: seen.since_ack,
                    round_trip: Duration::from_millis(1),
                });
                self.carrier.look(now, index, seen);
            }
        }
    }

    pub fn perform(&mut self, output: Output) {
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

    pub fn transmit(&mut self, index: usize) -> bool {
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
    pub fn user_timeouts(&mut self) {
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
    pub fn run(&mut self, limit: Duration, mut done: impl FnMut(&Sim) -> bool) -> bool {
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

    pub fn index(&self, id: ConnId) -> Option<usize> {
        let is = |conn: &Option<Conn>| conn.as_ref().is_some_and(|conn| conn.id == id);
        self.conns.iter().position(is)
    }

    pub fn until(&mut self, what: &str, done: impl FnMut(&Sim) -> bool) {
        let reached = self.run(Duration::from_secs(600), done);
        assert!(
            reached,
            "{what}: {:#?}\n{:?}\n{:?}",
            self.carrier.picture(),
            self.answers,
            self.world.target.violations()
        );
    }

    pub fn up(&mut self) {
        let up = |portal: &PortalPicture| matches!(portal.state, PortalState::Up { .. });
        self.until("all up", |sim| sim.carrier.picture().iter().all(up));
    }

    pub fn outcome(&self, id: IoId) -> Option<(Instant, WriteOutcome)> {
        self.answers.iter().find_map(|(at, answer)| match answer {
            Answer::Wrote { id: of, outcome } if *of == id => Some((*at, *outcome)),
            _ => None,
        })
    }

    pub fn data(&self, id: IoId) -> Option<Result<&[u8], ReadFailed>> {
        self.answers.iter().find_map(|(_, answer)| match answer {
            Answer::Read { id: of, data } if *of == id => {
                Some(data.as_deref().map_err(|failed| *failed))
            }
            _ => None,
        })
    }

    pub fn fenced_at(&self, id: IoId) -> Option<Instant> {
        self.answers.iter().find_map(|(at, answer)| match answer {
            Answer::Fenced { through } if *through >= id => Some(*at),
            _ => None,
        })
    }

    /// From when on nothing of a doubled or unknown write can execute.
    pub fn over_at(&self, id: IoId) -> Option<Instant> {
        let settled = self.answers.iter().find_map(|(at, answer)| match answer {
            Answer::Settled { id: of } if *of == id => Some(*at),
            _ => None,
        });
        self.fenced_at(id).into_iter().chain(settled).min()
    }

    /// Whether nothing is owed for a write: it was answered, and what may land late is over.
    pub fn is_over(&self, id: IoId) -> bool {
        match self.outcome(id) {
            Some((_, WriteOutcome::Done)) => true,
            Some((_, WriteOutcome::Doubled | WriteOutcome::Unknown)) => self.over_at(id).is_some(),
            None => false,
        }
    }

    /// Cuts a portal off, silently.
    pub fn cut(&mut self, portal: usize) {
        for direction in [Direction::ToTarget, Direction::ToInitiator] {
            self.world.happen(Incident::Cut(Link(portal), direction));
        }
    }

    pub fn wrote(&mut self, id: IoId) -> WriteOutcome {
        self.until("a write's end", |sim| sim.outcome(id).is_some());
        self.outcome(id).expect("just reached").1
    }

    pub fn inject(&mut self, select: Select, fault: Fault) {
        self.world.unit().inject(Injection {
            nexus: None,
            select,
            fault,
            times: 1,
        });
    }

    pub fn current(&self) -> usize {
        let current = PortalState::Up { current: true };
        let picture = self.carrier.picture();
        let found = picture.iter().position(|portal| portal.state == current);
        found.expect("a current portal")
    }

    pub fn effects_of(&self, id: IoId) -> usize {
        let is = |(_, _, of): &&(Instant, u64, u64)| IoId::new(*of) == id;
        self.effects.iter().filter(is).count()
    }
}
