//! Everything outside the host under test: network, target, faults, and time that only moves when asked.
//!
//! A host (one session, a whole volume) is driven by its owner: it connects, sends and closes through
//! [`World`], and [`World::advance`] hands it the next thing that happens to it. After [`World::close`] a
//! connection is never heard of again, so no byte of it can reach a buffer.

use core::time::Duration;
use std::collections::BTreeMap;

use iscsi_client::time::Instant;
use iscsi_client::wire::Lun;

use crate::disk::{AluaState, Code, Effect, Group, Injection, LogicalUnit, LunConfig};
use crate::net::{Arrival, Direction, Link, LinkConfig, Network};
use crate::prng::Prng;
use crate::target::{Bug, Close, ConnId, Target, TargetConfig};

/// What happens to the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HostEvent {
    /// A connection is made.
    Connected(ConnId),
    /// Stream bytes came.
    Received(ConnId, Vec<u8>),
    /// A connection was refused, closed or reset by the other side.
    Lost(ConnId),
}

/// What goes wrong, or right again, at a chosen time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Incident {
    /// One direction of a link is cut, silently.
    Cut(Link, Direction),
    /// A link works again.
    Heal(Link),
    /// Every connection of a link is reset.
    Reset(Link),
    /// Nothing arrives over a link for so long; nothing is lost.
    Clog(Link, Duration),
    /// Every connection of a link is dead from now on, and nobody is told; new ones work.
    Forget(Link),
    /// The target is wrong once.
    Arm(Bug),
    /// The target dies and is back after this time; until then connects are refused.
    Restart(Duration),
    /// A fault is armed at a logical unit.
    Inject(Lun, Injection),
    /// The target does not read its connections at this portal for so long.
    StopReading(usize, Duration),
    /// Parked commands of all units run on.
    ReleaseAll,
    /// Faults of all units are disarmed.
    Disarm,
    /// The target dies, and another disk is at [`LUN_0`] when it is back after this time; the next such incident brings
    /// the first disk back. Needs [`World::keep_impostor`].
    Swap(Duration),
    /// A target port group of a unit gets another access state.
    Access(Lun, Group, AluaState),
    /// A unit refuses writes, or takes them again.
    WriteProtect(Lun, bool),
    /// A unit's volatile write cache is switched on, and it says so.
    WriteCache(Lun),
}

/// The world.
#[derive(Debug)]
pub struct World {
    now: Instant,
    /// The network.
    pub net: Network,
    /// The target.
    pub target: Target,
    incidents: BTreeMap<(Instant, u64), Incident>,
    next_incident: u64,
    down_until: Option<Instant>,
    trace: Vec<(Instant, Incident)>,
    /// The disk that is not at [`LUN_0`] now.
    spare: Option<LogicalUnit>,
    /// The disk at [`LUN_0`] is the impostor.
    swapped: bool,
}

/// LUN 0.
pub const LUN_0: Lun = Lun([0; 8]);

impl World {
    /// A target with one unit at [`LUN_0`] behind `links`; link n leads to portal n by convention only.
    pub fn new(seed: u64, target: TargetConfig, unit: LunConfig, links: &[LinkConfig]) -> World {
        let mut prng = Prng::new(seed);
        let mut target = Target::new(target, prng.fork());
        target.add_unit(LUN_0, LogicalUnit::new(unit, prng.fork()));
        World {
            // Not 0: a time that was never set must differ from the start.
            now: Instant::from_nanos(1_000_000_000),
            net: Network::new(links, prng.fork()),
            target,
            incidents: BTreeMap::new(),
            next_incident: 0,
            down_until: None,
            trace: Vec::new(),
            spare: None,
            swapped: false,
        }
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The unit at [`LUN_0`].
    pub fn unit(&mut self) -> &mut LogicalUnit {
        self.target.unit(LUN_0)
    }

    /// The disk that [`Incident::Swap`] brings.
    pub fn keep_impostor(&mut self, unit: LogicalUnit) {
        self.spare = Some(unit);
    }

    /// Whether [`Incident::Swap`] happened.
    pub fn was_swapped(&self) -> bool {
        let mut trace = self.trace.iter();
        trace.any(|(_, incident)| matches!(incident, Incident::Swap(_)))
    }

    /// Whether [`Incident::WriteProtect`] happened.
    pub fn was_write_protected(&self) -> bool {
        let mut trace = self.trace.iter();
        trace.any(|(_, incident)| matches!(incident, Incident::WriteProtect(..)))
    }

    /// What the disk of the beginning, and what its impostor has executed since the last call.
    pub fn take_effects(&mut self) -> (Vec<Effect>, Vec<Effect>) {
        let present = self.unit().take_effects();
        let absent = self.spare.as_mut().map(LogicalUnit::take_effects);
        let absent = absent.unwrap_or_default();
        if self.swapped {
            (absent, present)
        } else {
            (present, absent)
        }
    }

    /// Plans an incident.
    pub fn schedule(&mut self, at: Instant, incident: Incident) {
        self.incidents.insert((at, self.next_incident), incident);
        self.next_incident += 1;
    }

    /// Incidents so far, for the report of a failure.
    pub fn trace(&self) -> &[(Instant, Incident)] {
        &self.trace
    }

    /// Ends all trouble: planned incidents are dropped, links heal, parked commands run, the target is up with the disk of
    /// the beginning, and every port serves it. A write cache stays on.
    pub fn make_peace(&mut self) {
        self.incidents.clear();
        if self.swapped {
            self.happen(Incident::Swap(Duration::ZERO));
        }
        self.down_until = None;
        self.unit().serve_everywhere();
        self.unit().config_mut().read_only = false;
        for link in 0..self.net.links() {
            self.happen(Incident::Heal(Link(link)));
            self.net.unclog(Link(link));
        }
        self.happen(Incident::Disarm);
        self.happen(Incident::ReleaseAll);
    }

    /// Starts a connection over a link to a portal; [`HostEvent::Connected`] or [`HostEvent::Lost`] follows.
    pub fn connect(&mut self, link: Link, portal: usize) -> ConnId {
        self.net.connect(self.now, link, portal)
    }

    /// Sends stream bytes.
    pub fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        self.net.send(self.now, conn, Direction::ToTarget, bytes);
    }

    /// Closes a connection abortively (linger 0). Nothing more is heard of it.
    pub fn close(&mut self, conn: ConnId) {
        self.net.reset(self.now, conn, Direction::ToTarget);
    }

    /// Lets time pass until something happens to the host, or until `until`.
    pub fn advance(&mut self, until: Instant) -> Option<HostEvent> {
        loop {
            if let Some(event) = self.deliver() {
                return Some(event);
            }
            let incident = self.incidents.first_key_value().map(|((at, _), _)| *at);
            let next = [
                self.net.poll_timeout(),
                self.target.poll_timeout(),
                incident,
            ];
            let Some(next) = next
                .into_iter()
                .flatten()
                .min()
                .filter(|next| *next <= until)
            else {
                self.now = self.now.max(until);
                return None;
            };
            self.now = self.now.max(next);
            while let Some(entry) = self.incidents.first_entry() {
                if entry.key().0 > self.now {
                    break;
                }
                let incident = entry.remove();
                self.happen(incident);
            }
            self.target.handle_timeout(self.now);
            self.pump();
        }
    }

    /// Arrivals that are due now, up to the first that concerns the host.
    fn deliver(&mut self) -> Option<HostEvent> {
        while let Some((conn, direction, arrival)) = self.net.poll(self.now) {
            match (direction, arrival) {
                (Direction::ToTarget, Arrival::Syn(portal)) => {
                    let up = self.down_until.is_none_or(|until| until <= self.now);
                    let accepted = up && self.target.accept(self.now, conn, portal);
                    self.net.answer(self.now, conn, accepted);
                }
                (Direction::ToTarget, Arrival::Bytes(bytes)) => {
                    self.target.handle(self.now, conn, &bytes);
                    self.pump();
                }
                (Direction::ToTarget, _) => {
                    self.target.lost(self.now, conn);
                    self.pump();
                }
                (Direction::ToInitiator, Arrival::Bytes(bytes)) => {
                    return Some(HostEvent::Received(conn, bytes));
                }
                (Direction::ToInitiator, Arrival::Established) => {
                    return Some(HostEvent::Connected(conn));
                }
                (Direction::ToInitiator, _) => return Some(HostEvent::Lost(conn)),
            }
        }
        None
    }

    /// Brings what the target has to say onto the network. Call it after touching [`World::target`] directly.
    pub fn pump(&mut self) {
        for conn in self.target.senders() {
            let bytes = self.target.take_output(conn);
            self.net
                .send(self.now, conn, Direction::ToInitiator, &bytes);
        }
        while let Some((conn, close, bytes)) = self.target.poll_close() {
            self.net
                .send(self.now, conn, Direction::ToInitiator, &bytes);
            match close {
                Close::Fin => self.net.finish(self.now, conn, Direction::ToInitiator),
                Close::Rst => self.net.reset(self.now, conn, Direction::ToInitiator),
            }
        }
    }

    /// Makes an incident happen now.
    pub fn happen(&mut self, incident: Incident) {
        self.trace.push((self.now, incident));
        match incident {
            Incident::Cut(link, direction) => self.net.cut(link, direction),
            Incident::Heal(link) => self.net.heal(self.now, link),
            Incident::Reset(link) => self.net.reset_link(self.now, link),
            Incident::Clog(link, time) => self.net.clog(link, self.now + time),
            Incident::Forget(link) => self.net.forget_link(link),
            Incident::Arm(bug) => self.target.arm(bug),
            Incident::Restart(down) => self.restart(down),
            Incident::Swap(down) => {
                self.restart(down);
                let impostor = self.spare.take().expect("a disk to swap in");
                self.spare = self.target.remove_unit(LUN_0);
                self.target.add_unit(LUN_0, impostor);
                self.swapped = !self.swapped;
            }
            Incident::Access(lun, group, state) => {
                self.target.unit(lun).set_group(group, state, false);
            }
            Incident::WriteProtect(lun, on) => self.target.unit(lun).config_mut().read_only = on,
            Incident::WriteCache(lun) => {
                let unit = self.target.unit(lun);
                unit.config_mut().write_cache = true;
                unit.attention(Code::MODE_CHANGED, None);
            }
            Incident::Inject(lun, injection) => self.target.unit(lun).inject(injection),
            Incident::StopReading(portal, time) => {
                self.target.stop_reading(portal, self.now + time);
            }
            Incident::ReleaseAll => self.target.release_all(self.now),
            Incident::Disarm => self.target.disarm(),
        }
        self.target.handle_timeout(self.now);
        self.pump();
    }

    fn restart(&mut self, down: Duration) {
        self.target.restart(self.now);
        self.net.target_forgets();
        self.down_until = Some(self.now + down);
    }
}
