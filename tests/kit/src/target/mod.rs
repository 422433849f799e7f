//! A pure iSCSI target: bytes per connection in, bytes per connection out (RFC 7143 from the other side).
//!
//! It is strict: whatever the initiator does against the RFC is recorded as a [`Violation`] and ends the
//! connection, so that every test judges the initiator. It is wrong only on demand ([`Bug`]).
//!
//! - `config`: portals, limits, temperament; `flavour`: that of targets people own
//! - `login`, `chap`, `negotiate`, `text`: up to full feature phase; `admission`: from there to a session
//! - `session`: PDUs of full feature phase; `task`: the data phase of a command
//! - `manage`: task management; `stream`: framing and digests; `bug`: wrong on demand

mod admission;
mod bug;
mod chap;
mod config;
mod flavour;
mod login;
mod manage;
mod negotiate;
mod session;
mod stream;
mod task;
mod text;

use std::collections::{BTreeMap, VecDeque};

use iscsi_client::time::Instant;
use iscsi_client::wire::{
    Bhs, Isid, LoginResponse, Lun, RejectReason, StatSn, TargetNumbers, TaskTag, Tpgt,
};

pub use bug::{BUGS, Bug};
pub use config::{Chap, Digests, Limits, LoginFate, Ping, Portal, Reinstatement, TargetConfig};
pub use flavour::{FLAVOURS, Flavour};
pub use negotiate::Terms;

use crate::disk::{Code, LogicalUnit, Nexus};
use crate::prng::Prng;
use bug::Twist;
use login::Negotiation;
use session::Session;

/// A connection, named by whoever carries its bytes. Never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnId(pub u32);

/// How the target ends a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Close {
    /// After what it still had to say.
    Fin,
    /// At once.
    Rst,
}

/// What the initiator did against the RFC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Where.
    pub conn: ConnId,
    /// Which rule.
    pub rule: &'static str,
}

/// What makes two sessions the same (RFC 7143, 6.3.5): the target keeps one of each.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Identity {
    /// InitiatorName.
    pub initiator: String,
    /// ISID.
    pub isid: Isid,
    /// Portal group it came in by.
    pub group: Tpgt,
}

/// Counters for tests that want to know what happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Sessions that reached full feature phase.
    pub logins: u32,
    /// Of these, sessions that took a living session's place.
    pub reinstatements: u32,
    /// SCSI commands taken on.
    pub commands: u32,
    /// R2Ts sent.
    pub r2ts: u32,
    /// Bytes of immediate data.
    pub immediate_bytes: u64,
    /// Bytes of unsolicited Data-Out.
    pub unsolicited_bytes: u64,
    /// Answers to our pings.
    pub pongs: u32,
    /// Task management functions.
    pub managements: u32,
    /// Logouts.
    pub logouts: u32,
}

#[derive(Debug)]
enum Phase {
    Login(Box<Negotiation>),
    /// The last response is ready and waits for the old session's commands.
    Reinstating(Box<Final>),
    Full(Nexus),
    /// Being closed: input is ignored.
    Over,
}

#[derive(Debug)]
struct Final {
    response: LoginResponse,
    text: Vec<u8>,
    session: Session,
    waits_for: Vec<Nexus>,
    reinstates: bool,
}

#[derive(Debug)]
struct Connection {
    group: Tpgt,
    portal: usize,
    /// Its input is not looked at before.
    reads_from: Option<Instant>,
    input: Vec<u8>,
    output: Vec<u8>,
    phase: Phase,
    stat_sn: StatSn,
    header_digest: bool,
    data_digest: bool,
    opened: Instant,
    last_received: Instant,
    pinged: Option<Instant>,
}

/// A target.
#[derive(Debug)]
pub struct Target {
    config: TargetConfig,
    prng: Prng,
    units: BTreeMap<Lun, LogicalUnit>,
    conns: BTreeMap<ConnId, Connection>,
    sessions: BTreeMap<Nexus, Session>,
    /// Ended sessions whose commands still run.
    lingering: Vec<(Identity, Nexus)>,
    next_nexus: u32,
    next_transfer: u32,
    closes: VecDeque<(ConnId, Close)>,
    fates: VecDeque<LoginFate>,
    bugs: Vec<Bug>,
    rejects: VecDeque<RejectReason>,
    violations: Vec<Violation>,
    counters: Counters,
}

/// Most violations kept.
const VIOLATIONS_MAX: usize = 64;

impl Target {
    /// A target without logical units. `prng` draws what the RFC leaves to it.
    ///
    /// # Panics
    /// If the configuration contradicts itself.
    pub fn new(config: TargetConfig, prng: Prng) -> Target {
        let limits = &config.limits;
        assert!(limits.first_burst_length <= limits.max_burst_length);
        assert!(limits.window > 0 && limits.max_outstanding_r2t > 0 && config.text_max > 0);
        Target {
            config,
            prng,
            units: BTreeMap::new(),
            conns: BTreeMap::new(),
            sessions: BTreeMap::new(),
            lingering: Vec::new(),
            next_nexus: 1,
            next_transfer: 0,
            closes: VecDeque::new(),
            fates: VecDeque::new(),
            bugs: Vec::new(),
            rejects: VecDeque::new(),
            violations: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// Adds or replaces a logical unit.
    pub fn add_unit(&mut self, lun: Lun, mut unit: LogicalUnit) {
        for nexus in self.sessions.keys() {
            unit.join(*nexus, Some(Code::LUNS_CHANGED));
        }
        self.units.insert(lun, unit);
    }

    /// Takes a logical unit away.
    pub fn remove_unit(&mut self, lun: Lun) -> Option<LogicalUnit> {
        self.units.remove(&lun)
    }

    /// A logical unit.
    ///
    /// # Panics
    /// If there is none of this number.
    pub fn unit(&mut self, lun: Lun) -> &mut LogicalUnit {
        self.units
            .get_mut(&lun)
            .expect("a logical unit of this number")
    }

    /// Lets the parked commands of all units run.
    pub fn release_all(&mut self, now: Instant) {
        for unit in self.units.values_mut() {
            unit.release_all(now);
        }
    }

    /// Disarms all bugs and the faults of all units.
    pub fn disarm(&mut self) {
        self.bugs.clear();
        for unit in self.units.values_mut() {
            unit.heal();
        }
    }

    /// Shape and behaviour.
    pub fn config(&self) -> &TargetConfig {
        &self.config
    }

    /// Changes shape and behaviour; new logins notice.
    pub fn config_mut(&mut self) -> &mut TargetConfig {
        &mut self.config
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What the initiator did against the RFC so far.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Living sessions: connection, identity, nexus.
    pub fn sessions(&self) -> impl Iterator<Item = (ConnId, &Identity, Nexus)> {
        self.sessions
            .values()
            .map(|session| (session.conn, &session.identity, session.nexus))
    }

    /// The terms of the session on a connection.
    pub fn terms(&self, conn: ConnId) -> Option<&Terms> {
        self.sessions
            .values()
            .find(|session| session.conn == conn)
            .map(|session| &session.terms)
    }

    /// What the next logins get instead of their due, in order.
    pub fn next_login(&mut self, fate: LoginFate) {
        self.fates.push_back(fate);
    }

    /// Arms a bug.
    pub fn arm(&mut self, bug: Bug) {
        self.bugs.push(bug);
    }

    /// Bugs that have not struck yet.
    pub fn armed(&self) -> usize {
        self.bugs.len()
    }

    /// The next SCSI command is rejected for this reason.
    pub fn reject_next(&mut self, reason: RejectReason) {
        self.rejects.push_back(reason);
    }

    /// A connection comes in at a portal. False: the portal does not exist.
    pub fn accept(&mut self, now: Instant, conn: ConnId, portal: usize) -> bool {
        let Some(at) = self.config.portals.get(portal) else {
            return false;
        };
        let connection = Connection {
            group: at.group,
            portal,
            reads_from: None,
            input: Vec::new(),
            output: Vec::new(),
            phase: Phase::Login(Box::new(Negotiation::new())),
            stat_sn: StatSn(self.prng.next() as u32),
            header_digest: false,
            data_digest: false,
            opened: now,
            last_received: now,
            pinged: None,
        };
        let known = self.conns.insert(conn, connection);
        assert!(known.is_none(), "connection {conn:?} exists");
        true
    }

    /// The connections that a portal has now are read again only from `until` on; what arrives until then lies in
    /// their receive buffers, as where a connection's thread is busy with a slow disk.
    pub fn stop_reading(&mut self, portal: usize, until: Instant) {
        for conn in self.conns.values_mut() {
            if conn.portal == portal {
                conn.reads_from = Some(until);
            }
        }
    }

    /// Takes stream bytes of a connection. Bytes for a connection that is over are ignored.
    pub fn handle(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) {
        if let Some(connection) = self.conns.get_mut(&conn) {
            connection.input.extend(bytes);
            connection.last_received = now;
            connection.pinged = None;
        }
        self.read(now, conn);
        self.settle(now);
    }

    /// The initiator's end of a connection is gone.
    pub fn lost(&mut self, now: Instant, conn: ConnId) {
        if let Some(connection) = self.conns.remove(&conn)
            && let Phase::Full(nexus) = connection.phase
        {
            self.end_session(now, nexus);
        }
        self.settle(now);
    }

    /// The target dies and starts again: no connection, session or command survives. Cached blocks do, unless
    /// the power goes too ([`LogicalUnit::power_cut`]).
    pub fn restart(&mut self, now: Instant) {
        let nexuses: Vec<Nexus> = self.sessions.keys().copied().collect();
        for nexus in nexuses {
            self.end_session(now, nexus);
        }
        for unit in self.units.values_mut() {
            unit.drop_jobs();
        }
        self.conns.clear();
        self.closes.clear();
        self.lingering.clear();
    }

    /// Bytes to send on a connection; empty if none.
    pub fn take_output(&mut self, conn: ConnId) -> Vec<u8> {
        self.conns
            .get_mut(&conn)
            .map(|conn| std::mem::take(&mut conn.output))
            .unwrap_or_default()
    }

    /// The next connection that the target closes. Its output must be taken before; then it is forgotten.
    pub fn poll_close(&mut self) -> Option<(ConnId, Close, Vec<u8>)> {
        let (conn, close) = self.closes.pop_front()?;
        let output = match self.conns.remove(&conn) {
            Some(connection) if close == Close::Fin => connection.output,
            _ => Vec::new(),
        };
        Some((conn, close, output))
    }

    /// Connections with bytes to send.
    pub fn senders(&self) -> Vec<ConnId> {
        self.conns
            .iter()
            .filter(|(_, conn)| !conn.output.is_empty())
            .map(|(id, _)| *id)
            .collect()
    }

    /// When [`Target::handle_timeout`] must be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let units = self.units.values().filter_map(LogicalUnit::poll_timeout);
        let conns = self.conns.values().filter_map(|conn| match conn.phase {
            Phase::Login(_) => Some(conn.opened + self.config.login_timeout),
            Phase::Full(_) => self.config.ping.map(|ping| match conn.pinged {
                None => conn.last_received + ping.idle,
                Some(pinged) => pinged + ping.patience,
            }),
            _ => None,
        });
        let data = self
            .sessions
            .values()
            .filter_map(|session| self.data_deadline(session));
        let readers = self.conns.values().filter_map(|conn| conn.reads_from);
        units.chain(conns).chain(data).chain(readers).min()
    }

    fn data_deadline(&self, session: &Session) -> Option<Instant> {
        Some(session.waiting_since()? + self.config.data_out_timeout?)
    }

    /// Fires timers that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        for unit in self.units.values_mut() {
            unit.handle_timeout(now);
        }
        let conns: Vec<ConnId> = self.conns.keys().copied().collect();
        for id in conns {
            if let Some(conn) = self.conns.get_mut(&id)
                && conn.reads_from.is_some_and(|from| from <= now)
            {
                conn.reads_from = None;
                self.read(now, id);
            }
        }
        let late: Vec<ConnId> = self
            .sessions
            .values()
            .filter(|session| self.data_deadline(session).is_some_and(|due| due <= now))
            .map(|session| session.conn)
            .collect();
        for conn in late {
            self.close(now, conn, Close::Rst);
        }
        let ids: Vec<ConnId> = self.conns.keys().copied().collect();
        for id in ids {
            let conn = &self.conns[&id];
            match (&conn.phase, self.config.ping) {
                (Phase::Login(_), _) if conn.opened + self.config.login_timeout <= now => {
                    self.close(now, id, Close::Rst);
                }
                (Phase::Full(nexus), Some(ping)) => match conn.pinged {
                    None if conn.last_received + ping.idle <= now => {
                        let nexus = *nexus;
                        self.ping(now, nexus, ping.tag_zero);
                    }
                    Some(pinged) if pinged + ping.patience <= now => {
                        self.close(now, id, Close::Rst)
                    }
                    _ => {}
                },
                _ => {}
            }
        }
        self.settle(now);
    }

    /// Everything that waits for commands to end: answers, aborted tasks, reinstating logins, held connections.
    fn settle(&mut self, now: Instant) {
        let mut done = Vec::new();
        for unit in self.units.values_mut() {
            while let Some(end) = unit.poll_done() {
                done.push(end);
            }
        }
        for end in done {
            self.answer_executed(now, end);
        }
        self.settle_managements(now);
        let units = &self.units;
        let is_busy = |nexus: &Nexus| units.values().any(|unit| unit.busy(*nexus) > 0);
        self.lingering.retain(|(_, nexus)| is_busy(nexus));
        let mut held_groups = Vec::new();
        let mut ready = Vec::new();
        for (id, conn) in &mut self.conns {
            if let Phase::Reinstating(last) = &mut conn.phase {
                last.waits_for.retain(is_busy);
                // One login at a time per portal group: a hanging one blocks those behind it.
                if last.waits_for.is_empty() && !held_groups.contains(&conn.group) {
                    ready.push(*id);
                }
                held_groups.push(conn.group);
            }
        }
        for id in ready {
            self.finish_login(now, id);
        }
        let mut thawed = Vec::new();
        for session in self.sessions.values_mut() {
            if !session.held_by.is_empty() {
                session
                    .held_by
                    .retain(|nexus| self.units.values().any(|unit| unit.busy(*nexus) > 0));
                if session.held_by.is_empty() {
                    thawed.push(session.conn);
                }
            }
        }
        for conn in thawed {
            self.read(now, conn);
        }
    }

    /// Takes PDUs off a connection's input as long as there are complete ones.
    fn read(&mut self, now: Instant, id: ConnId) {
        while let Some(conn) = self.conns.get_mut(&id)
            && conn.reads_from.is_none()
        {
            let (limit, full) = match &conn.phase {
                Phase::Login(_) => (8192, None),
                Phase::Full(nexus) => {
                    let session = &self.sessions[nexus];
                    let works = self.config.works_while_reading && session.is_executing();
                    if works || !session.held_by.is_empty() {
                        return;
                    }
                    (
                        session.terms.max_recv_data_segment_length as usize,
                        Some(*nexus),
                    )
                }
                Phase::Reinstating(_) => return,
                Phase::Over => {
                    conn.input.clear();
                    return;
                }
            };
            let taken = stream::take(&mut conn.input, conn.header_digest, conn.data_digest, limit);
            let pdu = match taken {
                Ok(Some(pdu)) => pdu,
                Ok(None) => return,
                Err(broken) => {
                    let rule = match broken {
                        stream::Broken::HeaderDigest => "header digest",
                        stream::Broken::DataDigest => "data digest",
                        stream::Broken::TooLong => "data segment longer than our limit",
                        stream::Broken::PaddingNotZero => "padding is not zero",
                    };
                    return self.violation(now, id, rule);
                }
            };
            match full {
                None => self.login_request(now, id, &pdu),
                Some(nexus) => self.full_feature(now, nexus, pdu),
            }
        }
    }

    fn violation(&mut self, now: Instant, conn: ConnId, rule: &'static str) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(Violation { conn, rule });
        }
        self.close(now, conn, Close::Rst);
    }

    /// Ends a connection and its session.
    fn close(&mut self, now: Instant, id: ConnId, close: Close) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let phase = std::mem::replace(&mut conn.phase, Phase::Over);
        if !self.closes.iter().any(|(other, _)| *other == id) {
            self.closes.push_back((id, close));
        }
        if let Phase::Full(nexus) = phase {
            self.end_session(now, nexus);
        }
    }

    fn end_session(&mut self, now: Instant, nexus: Nexus) {
        let Some(session) = self.sessions.remove(&nexus) else {
            return;
        };
        for unit in self.units.values_mut() {
            unit.leave(now, nexus, true);
        }
        self.lingering.push((session.identity, nexus));
        // Who waited for this session's predecessors must go on waiting: they are in `lingering` themselves.
    }

    /// Sends a PDU of full feature phase, wrongly if a bug is armed.
    fn send(&mut self, id: ConnId, mut bhs: Bhs, data: &[u8], burst: u32) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let mut data = data;
        let mut twist = Twist::None;
        if !self.bugs.is_empty() {
            for at in 0..self.bugs.len() {
                twist = self.bugs[at].twist(&mut bhs, data, burst);
                if !matches!(twist, Twist::None) {
                    self.bugs.remove(at);
                    break;
                }
            }
        }
        match twist {
            Twist::Nothing => return,
            Twist::NoData => data = &[],
            _ => {}
        }
        let start = conn.output.len();
        stream::put(
            &mut conn.output,
            &bhs,
            data,
            conn.header_digest,
            conn.data_digest,
        );
        match twist {
            Twist::FlipHeader => {
                let at = start + self.prng.below(48) as usize;
                conn.output[at] ^= 1 << self.prng.below(8);
            }
            Twist::FlipData => {
                let from = start + 48 + if conn.header_digest { 4 } else { 0 };
                let at = from + self.prng.below(data.len() as u64) as usize;
                conn.output[at] ^= 1 << self.prng.below(8);
            }
            Twist::Garbage => {
                let garbage = self.prng.bytes(conn.output.len() - start);
                conn.output[start..].copy_from_slice(&garbage);
            }
            _ => {}
        }
    }

    fn numbers(&mut self, session: &Session, consume: bool) -> TargetNumbers {
        let stat_sn = match self.conns.get_mut(&session.conn) {
            Some(conn) => {
                let stat_sn = conn.stat_sn;
                if consume {
                    conn.stat_sn = stat_sn.next();
                }
                stat_sn
            }
            None => StatSn(0),
        };
        TargetNumbers {
            stat_sn,
            exp_cmd_sn: session.exp_cmd_sn,
            max_cmd_sn: session.max_cmd_sn(),
        }
    }
}

/// A task tag as the target's tables name it.
fn key(task: TaskTag) -> u32 {
    task.0
}

#[cfg(test)]
mod tests;
