//! Ordered byte streams between an initiator and a target over links that can be cut.
//!
//! What TCP promises is kept (order, no duplicates, no loss without notice to somebody); what it leaves open is
//! drawn: latency, segmentation, whether bytes in flight outlive a reset. A cut link is silent: bytes wait at
//! the sender, as its kernel's retransmissions would, and arrive after the link heals unless the sender has
//! reset the connection meanwhile. That is one of the places where a ghost write hides.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use iscsi_client::time::Instant;

use crate::prng::Prng;
use crate::target::ConnId;

/// A link between the initiator and the target's network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Link(pub usize);

/// Which way bytes flow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Direction {
    /// From the initiator.
    ToTarget,
    /// From the target.
    ToInitiator,
}

use Direction::{ToInitiator, ToTarget};

/// How a link behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkConfig {
    /// Shortest way in one direction.
    pub latency_min: Duration,
    /// Longest.
    pub latency_max: Duration,
    /// Bytes per second in each direction; without a limit if `None`.
    pub bandwidth: Option<u64>,
    /// Longest piece of a stream that arrives at once, in bytes.
    pub piece_max: usize,
}

impl Default for LinkConfig {
    fn default() -> Self {
        LinkConfig {
            latency_min: Duration::from_micros(50),
            latency_max: Duration::from_micros(150),
            bandwidth: None,
            piece_max: 64 << 10,
        }
    }
}

/// What arrives at an end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// The target's end: a new connection at this portal.
    Syn(usize),
    /// The initiator's end: the connection is made.
    Established,
    /// Stream bytes.
    Bytes(Vec<u8>),
    /// The other end closed: nothing more comes.
    Fin,
    /// The other end reset the connection.
    Rst,
}

/// What the initiator's TCP knows about a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Bytes that the target's TCP has acknowledged. It does so even if the target itself is stuck.
    pub acked: u64,
    /// Bytes received.
    pub received: u64,
    /// Pieces sent and not acknowledged.
    pub unacked: u32,
    /// Time since the last acknowledgement.
    pub since_ack: Duration,
    /// Time since bytes were last received.
    pub since_data: Duration,
    /// Time since bytes were last sent.
    pub since_sent: Duration,
}

#[derive(Debug, Default)]
struct Half {
    queue: VecDeque<(Instant, Arrival)>,
    /// Nothing arrives before what was sent before it.
    last: Instant,
    /// Bytes and pieces that arrived at an end that was held.
    arrived: (u64, u32),
}

#[derive(Debug)]
struct Stream {
    link: Link,
    to_target: Half,
    to_initiator: Half,
    /// The initiator still holds its end.
    initiator_open: bool,
    /// The target still holds its end.
    target_open: bool,
    /// Pieces that the initiator sent.
    sent: u32,
    /// Of what arrived at the target, how much the initiator knows of, and since when.
    acked: (u64, u32),
    acked_at: Instant,
    received_at: Instant,
    sent_at: Instant,
    /// Somebody in the middle forgot it: nothing of it arrives any more, and neither end is told.
    forgotten: bool,
}

#[derive(Debug)]
struct LinkState {
    config: LinkConfig,
    to_target_cut: bool,
    to_initiator_cut: bool,
    /// Nothing arrives before.
    clogged_until: Instant,
    /// When each direction has sent what it was given.
    busy_until: [Instant; 2],
}

/// All links and the connections on them.
#[derive(Debug)]
pub struct Network {
    prng: Prng,
    links: Vec<LinkState>,
    streams: BTreeMap<ConnId, Stream>,
    next_conn: u32,
}

impl Network {
    /// Links of these shapes, all healthy.
    pub fn new(links: &[LinkConfig], prng: Prng) -> Network {
        let links = links.iter().map(|config| LinkState {
            config: *config,
            to_target_cut: false,
            to_initiator_cut: false,
            clogged_until: Instant::default(),
            busy_until: [Instant::default(); 2],
        });
        Network {
            prng,
            links: links.collect(),
            streams: BTreeMap::new(),
            next_conn: 1,
        }
    }

    /// Number of links.
    pub fn links(&self) -> usize {
        self.links.len()
    }

    /// Connections of which either end is still held.
    pub fn connections(&self) -> usize {
        self.streams.len()
    }

    /// The link of a connection.
    pub fn link_of(&self, conn: ConnId) -> Option<Link> {
        self.streams.get(&conn).map(|stream| stream.link)
    }

    /// What the initiator's TCP knows about a connection of which it holds its end. Acknowledgements take no time; they
    /// are lost while the way back is cut, and known when the link heals.
    pub fn progress(&self, now: Instant, conn: ConnId) -> Option<Progress> {
        let stream = self.streams.get(&conn)?;
        stream.initiator_open.then_some(Progress {
            acked: stream.acked.0,
            received: stream.to_initiator.arrived.0,
            unacked: stream.sent - stream.acked.1,
            since_ack: now.since(stream.acked_at),
            since_data: now.since(stream.received_at),
            since_sent: now.since(stream.sent_at),
        })
    }

    /// Starts a connection over `link` to a portal of the target.
    pub fn connect(&mut self, now: Instant, link: Link, portal: usize) -> ConnId {
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        let stream = Stream {
            link,
            to_target: Half::default(),
            to_initiator: Half::default(),
            initiator_open: true,
            target_open: false,
            sent: 0,
            acked: (0, 0),
            acked_at: now,
            received_at: now,
            sent_at: now,
            forgotten: false,
        };
        self.streams.insert(conn, stream);
        self.push(now, conn, ToTarget, Arrival::Syn(portal));
        conn
    }

    /// The target took the connection (or refused it).
    pub fn answer(&mut self, now: Instant, conn: ConnId, accepted: bool) {
        if let Some(stream) = self.streams.get_mut(&conn) {
            stream.target_open = accepted;
        }
        let answer = if accepted {
            Arrival::Established
        } else {
            Arrival::Rst
        };
        self.push(now, conn, ToInitiator, answer);
    }

    /// Sends stream bytes. An end that is not held sends nothing.
    pub fn send(&mut self, now: Instant, conn: ConnId, direction: Direction, mut bytes: &[u8]) {
        let Some(stream) = self.streams.get(&conn) else {
            return;
        };
        let open = match direction {
            ToTarget => stream.initiator_open,
            ToInitiator => stream.target_open,
        };
        let piece_max = self.links[stream.link.0].config.piece_max as u64;
        while open && !bytes.is_empty() {
            let len = match self.prng.below(8) {
                0 => self.prng.between(1, 64),
                1 | 2 => self.prng.between(1, piece_max),
                _ => piece_max,
            };
            let (piece, rest) = bytes.split_at(bytes.len().min(len as usize));
            if let (ToTarget, Some(stream)) = (direction, self.streams.get_mut(&conn)) {
                stream.sent += 1;
                stream.sent_at = now;
            }
            self.push(now, conn, direction, Arrival::Bytes(piece.to_vec()));
            bytes = rest;
        }
    }

    /// An end closes in order, after what it sent.
    pub fn finish(&mut self, now: Instant, conn: ConnId, direction: Direction) {
        self.push(now, conn, direction, Arrival::Fin);
        self.let_go(conn, direction);
    }

    /// An end resets the connection: what it sent and what has not arrived may be lost, and is if the link is cut.
    pub fn reset(&mut self, now: Instant, conn: ConnId, direction: Direction) {
        let cut = match self.streams.get(&conn) {
            Some(stream) => self.is_cut(stream.link, direction),
            None => return,
        };
        let lose = cut || self.prng.percent(50);
        if let (true, Some(stream)) = (lose, self.streams.get_mut(&conn)) {
            stream.half(direction).queue.clear();
        }
        if !cut {
            self.push(now, conn, direction, Arrival::Rst);
        }
        self.let_go(conn, direction);
    }

    fn let_go(&mut self, conn: ConnId, direction: Direction) {
        if let Some(stream) = self.streams.get_mut(&conn) {
            match direction {
                ToTarget => stream.initiator_open = false,
                ToInitiator => stream.target_open = false,
            }
        }
        self.forget_if_over(conn);
    }

    fn forget_if_over(&mut self, conn: ConnId) {
        if let Some(stream) = self.streams.get(&conn)
            && !stream.initiator_open
            && !stream.target_open
            && stream.to_target.queue.is_empty()
            && stream.to_initiator.queue.is_empty()
        {
            self.streams.remove(&conn);
        }
    }

    fn push(&mut self, now: Instant, conn: ConnId, direction: Direction, arrival: Arrival) {
        let Some(stream) = self.streams.get_mut(&conn) else {
            return;
        };
        if stream.forgotten {
            return;
        }
        let link = &mut self.links[stream.link.0];
        let (low, high) = (link.config.latency_min, link.config.latency_max);
        let latency = self
            .prng
            .between(low.as_nanos() as u64, high.max(low).as_nanos() as u64);
        let mut due = now + Duration::from_nanos(latency);
        if let (Some(bandwidth), Arrival::Bytes(bytes)) = (link.config.bandwidth, &arrival) {
            let busy = &mut link.busy_until[usize::from(direction == ToInitiator)];
            let start = (*busy).max(now);
            *busy = start + Duration::from_nanos(bytes.len() as u64 * 1_000_000_000 / bandwidth);
            due = due.max(*busy + Duration::from_nanos(latency));
        }
        let clogged_until = link.clogged_until;
        let half = stream.half(direction);
        half.last = half.last.max(due).max(clogged_until);
        half.queue.push_back((half.last, arrival));
    }

    fn is_cut(&self, link: Link, direction: Direction) -> bool {
        match direction {
            ToTarget => self.links[link.0].to_target_cut,
            ToInitiator => self.links[link.0].to_initiator_cut,
        }
    }

    /// Whether either direction of a link is cut.
    pub fn is_broken(&self, link: Link) -> bool {
        self.is_cut(link, ToTarget) || self.is_cut(link, ToInitiator)
    }

    /// Cuts one direction of a link, silently.
    pub fn cut(&mut self, link: Link, direction: Direction) {
        let state = &mut self.links[link.0];
        match direction {
            ToTarget => state.to_target_cut = true,
            ToInitiator => state.to_initiator_cut = true,
        }
    }

    /// Heals a link: what senders still hold is on its way again.
    pub fn heal(&mut self, now: Instant, link: Link) {
        let state = &mut self.links[link.0];
        (state.to_target_cut, state.to_initiator_cut) = (false, false);
        let latency = state.config.latency_max;
        for stream in self
            .streams
            .values_mut()
            .filter(|stream| stream.link == link)
        {
            for half in [&mut stream.to_target, &mut stream.to_initiator] {
                for (due, _) in &mut half.queue {
                    *due = (*due).max(now + latency);
                }
                half.last = half.last.max(now + latency);
            }
            stream.acknowledge(now);
        }
    }

    /// A queue on the way fills up: what is on the way and what is sent from now arrives after `until`, in order.
    pub fn clog(&mut self, link: Link, until: Instant) {
        let state = &mut self.links[link.0];
        state.clogged_until = state.clogged_until.max(until);
        for stream in self
            .streams
            .values_mut()
            .filter(|stream| stream.link == link)
        {
            for half in [&mut stream.to_target, &mut stream.to_initiator] {
                for (due, _) in &mut half.queue {
                    *due = (*due).max(until);
                }
                half.last = half.last.max(until);
            }
        }
    }

    /// Ends the wait of [`Network::clog`] for what is sent from now.
    pub fn unclog(&mut self, link: Link) {
        self.links[link.0].clogged_until = Instant::default();
    }

    /// Somebody in the middle forgets every connection of a link: its ends hear no more of each other, in silence. New
    /// connections are none of these.
    pub fn forget_link(&mut self, link: Link) {
        for stream in self
            .streams
            .values_mut()
            .filter(|stream| stream.link == link)
        {
            stream.forgotten = true;
            stream.to_target.queue.clear();
            stream.to_initiator.queue.clear();
        }
    }

    /// Somebody in the middle resets every connection of a link; both ends hear of it at once.
    pub fn reset_link(&mut self, now: Instant, link: Link) {
        for stream in self
            .streams
            .values_mut()
            .filter(|stream| stream.link == link)
        {
            for half in [&mut stream.to_target, &mut stream.to_initiator] {
                half.queue.clear();
                half.queue.push_back((now, Arrival::Rst));
                half.last = half.last.max(now);
            }
        }
    }

    /// The target forgets every connection without a word, as after a crash.
    pub fn target_forgets(&mut self) {
        for stream in self.streams.values_mut() {
            stream.target_open = false;
            stream.to_initiator.queue.clear();
        }
    }

    /// When the next arrival is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next().map(|(due, ..)| due)
    }

    fn next(&self) -> Option<(Instant, ConnId, Direction)> {
        let heads = self.streams.iter().flat_map(|(conn, stream)| {
            [
                (ToTarget, &stream.to_target),
                (ToInitiator, &stream.to_initiator),
            ]
            .into_iter()
            .filter(|(direction, _)| !self.is_cut(stream.link, *direction))
            .filter_map(|(direction, half)| {
                half.queue.front().map(|(due, _)| (*due, *conn, direction))
            })
        });
        heads.min()
    }

    /// The next arrival that is due. Arrivals for an end that is no longer held are answered with a reset and
    /// not reported.
    pub fn poll(&mut self, now: Instant) -> Option<(ConnId, Direction, Arrival)> {
        while let Some((due, conn, direction)) = self.next() {
            if due > now {
                return None;
            }
            let stream = self.streams.get_mut(&conn).expect("it has an arrival");
            let (_, arrival) = stream
                .half(direction)
                .queue
                .pop_front()
                .expect("it has an arrival");
            let is_end = matches!(arrival, Arrival::Fin | Arrival::Rst);
            let held = match direction {
                ToTarget => stream.target_open || matches!(arrival, Arrival::Syn(_)),
                ToInitiator => stream.initiator_open,
            };
            let back = match direction {
                ToTarget => ToInitiator,
                ToInitiator => ToTarget,
            };
            if held {
                if let Arrival::Bytes(bytes) = &arrival {
                    let arrived = &mut stream.half(direction).arrived;
                    *arrived = (arrived.0 + bytes.len() as u64, arrived.1 + 1);
                    let way_back = &self.links[stream.link.0];
                    if direction == ToInitiator {
                        stream.received_at = due;
                    } else if !way_back.to_initiator_cut {
                        stream.acknowledge(due);
                    }
                }
                if is_end {
                    // The receiver of an end lets go as well: nobody here uses half-closed connections.
                    self.let_go(conn, back);
                }
                self.forget_if_over(conn);
                return Some((conn, direction, arrival));
            }
            if !is_end {
                self.push(now, conn, back, Arrival::Rst);
            }
            self.forget_if_over(conn);
        }
        None
    }
}

impl Stream {
    /// The initiator hears of everything that arrived at the target.
    fn acknowledge(&mut self, now: Instant) {
        if self.acked != self.to_target.arrived {
            self.acked = self.to_target.arrived;
            self.acked_at = now;
        }
    }

    fn half(&mut self, direction: Direction) -> &mut Half {
        match direction {
            ToTarget => &mut self.to_target,
            ToInitiator => &mut self.to_initiator,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_nanos(0);
    const A: Link = Link(0);

    fn at(millis: u64) -> Instant {
        START + Duration::from_millis(millis)
    }

    fn connected() -> (Network, ConnId) {
        let mut net = Network::new(&[LinkConfig::default()], Prng::new(3));
        let conn = net.connect(START, A, 0);
        assert_eq!(net.poll(at(1)), Some((conn, ToTarget, Arrival::Syn(0))));
        net.answer(at(1), conn, true);
        assert_eq!(
            net.poll(at(2)),
            Some((conn, ToInitiator, Arrival::Established))
        );
        (net, conn)
    }

    fn arrived(net: &mut Network, now: Instant) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some((_, _, Arrival::Bytes(bytes))) = net.poll(now) {
            all.extend(bytes);
        }
        all
    }

    #[test]
    fn order_survives_segmentation() {
        let (mut net, conn) = connected();
        let bytes: Vec<u8> = (0..200_000u32).map(|at| at as u8).collect();
        for chunk in bytes.chunks(30_000) {
            net.send(at(2), conn, ToTarget, chunk);
        }
        assert!(arrived(&mut net, at(10)) == bytes);
    }

    #[test]
    fn bytes_wait_out_a_cut_unless_the_sender_resets() {
        for reset in [false, true] {
            let (mut net, conn) = connected();
            net.cut(A, ToTarget);
            net.send(at(2), conn, ToTarget, b"late");
            assert_eq!(net.poll(at(5000)), None);
            if reset {
                net.reset(at(5000), conn, ToTarget);
            }
            net.heal(at(6000), A);
            assert_eq!(
                arrived(&mut net, at(6001)),
                if reset {
                    b"".to_vec()
                } else {
                    b"late".to_vec()
                }
            );
        }
    }

    #[test]
    fn what_arrives_is_acknowledged_unless_the_way_back_is_cut() {
        let progress = |net: &Network, now: Instant| {
            let known = net.progress(now, ConnId(1)).expect("a living end");
            (known.acked, known.received, known.unacked)
        };
        let (mut net, conn) = connected();
        net.send(at(2), conn, ToTarget, b"a");
        assert_eq!(progress(&net, at(2)), (0, 0, 1), "under way");
        arrived(&mut net, at(3));
        assert_eq!(progress(&net, at(3)), (1, 0, 0));
        let since_ack = net.progress(at(3), conn).map(|known| known.since_ack);
        assert!(since_ack < Some(Duration::from_millis(1)));
        // What the target still sends arrives; what it acknowledges does not, until the way back is there again.
        net.cut(A, ToInitiator);
        net.send(at(4), conn, ToTarget, b"bc");
        arrived(&mut net, at(9));
        assert_eq!(progress(&net, at(9)), (1, 0, 1));
        net.heal(at(20), A);
        assert_eq!(progress(&net, at(25)), (3, 0, 0));
        let since_ack = net.progress(at(25), conn).map(|known| known.since_ack);
        assert_eq!(since_ack, Some(Duration::from_millis(5)));
        // Nothing arrives: nothing is acknowledged.
        net.cut(A, ToTarget);
        net.send(at(30), conn, ToTarget, b"d");
        net.send(at(30), conn, ToInitiator, b"xyz");
        arrived(&mut net, at(40));
        assert_eq!(progress(&net, at(40)), (3, 3, 1));
        let since_data = net.progress(at(40), conn).map(|known| known.since_data);
        assert!(since_data > Some(Duration::from_millis(9)));
        net.reset(at(50), conn, ToTarget);
        assert_eq!(net.progress(at(50), conn), None);
    }

    #[test]
    fn who_sends_to_a_dead_end_hears_of_it() {
        let (mut net, conn) = connected();
        net.target_forgets();
        net.send(at(2), conn, ToTarget, b"anybody there?");
        // Every piece is answered with a reset; the first one ends it.
        assert_eq!(net.poll(at(10)), None);
        assert_eq!(net.poll(at(20)), Some((conn, ToInitiator, Arrival::Rst)));
        assert_eq!(net.poll(at(30)), None);
        assert_eq!(net.connections(), 0);
    }
}
