//! The sockets of a ring against real TCP on loopback: what is sent, placed, lost, and when buffers are free.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use ublk_dev::clock::boottime_ns;
use ublk_dev::ring::{HEAD_BYTES, STAGING_BYTES};
use ublk_dev::{
    BufferId, Close, Event, Into, LinkId, LostReason, Piece, Ring, Slots, SocketOptions,
};

const LINK: LinkId = LinkId(0);
const BUFFER: BufferId = BufferId(0);
const BUFFER_BYTES: u32 = 1 << 20;
/// Nothing here takes this long; a test that would hang fails instead.
const PATIENCE: Duration = Duration::from_secs(60);

struct Bench {
    ring: Ring,
    slots: Slots,
}

impl Bench {
    fn new(links: u8) -> Self {
        let mut slots = Slots::new(8, BUFFER_BYTES, links, 4096).unwrap();
        let ring = Ring::new(None, links, &mut slots).unwrap();
        Self { ring, slots }
    }

    /// A bench whose link 0 is connected, and the other end.
    fn connected(options: &SocketOptions) -> (Self, TcpStream) {
        let mut bench = Self::new(1);
        let peer = bench.connect(LINK, options);
        (bench, peer)
    }

    fn connect(&mut self, link: LinkId, options: &SocketOptions) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        self.ring
            .connect(link, listener.local_addr().unwrap(), options);
        assert_eq!(self.event(), Event::Connected { link });
        let peer = listener.accept().unwrap().0;
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer.set_write_timeout(Some(PATIENCE)).unwrap();
        peer
    }

    /// The next event, however many turns it takes.
    fn event(&mut self) -> Event {
        let deadline = boottime_ns() + PATIENCE.as_nanos() as u64;
        loop {
            if let Some(event) = self.ring.next() {
                return event;
            }
            assert!(boottime_ns() < deadline, "nothing happened");
            self.ring.submit_and_wait(Some(deadline)).unwrap();
        }
    }

    /// Turns until the deadline, during which nothing may happen.
    fn quiet_for(&mut self, time: Duration) {
        let deadline = boottime_ns() + time.as_nanos() as u64;
        while self.ring.now() < deadline {
            self.ring.submit_and_wait(Some(deadline)).unwrap();
            assert_eq!(self.ring.next(), None);
        }
    }

    fn lost(&mut self) -> LostReason {
        match self.event() {
            Event::Lost { link: LINK, why } => why,
            other => panic!("{other:?} instead of a loss"),
        }
    }

    fn place(&mut self, offset: u32, len: u32) {
        let into = Into::Buffer {
            buffer: BUFFER,
            offset,
            len,
        };
        self.ring.receive(LINK, into, &mut self.slots);
    }
}

fn pattern(seed: u32, len: usize) -> Vec<u8> {
    let mut state = u64::from(seed) * 2 + 1;
    let step = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    std::iter::repeat_with(step).take(len).collect()
}

/// RST instead of FIN: what closing with unread data does.
fn reset(bench: &mut Bench, peer: TcpStream) {
    bench.ring.head(LINK).unwrap()[0] = 1;
    bench
        .ring
        .send(LINK, &[Piece::Head { start: 0, len: 1 }], &bench.slots);
    assert_eq!(bench.event(), Event::Sent { link: LINK });
    peer.peek(&mut [0]).unwrap();
    drop(peer);
}

#[test]
fn many_pieces_leave_as_one_stream() {
    let (mut bench, mut peer) = Bench::connected(&SocketOptions::default());
    let payload = pattern(1, 256 << 10);
    bench
        .slots
        .write(BUFFER, 0, 256 << 10)
        .copy_from_slice(&payload);
    bench.ring.head(LINK).unwrap()[..256 * 48].copy_from_slice(&pattern(2, 256 * 48));
    let mut expected = Vec::new();
    let mut pieces = Vec::new();
    for i in 0..256_u32 {
        pieces.push(Piece::Head {
            start: i * 48,
            len: 48,
        });
        pieces.push(Piece::Payload {
            buffer: BUFFER,
            offset: i * 1024,
            len: 1 + i * 3,
        });
        expected.extend_from_slice(&pattern(2, 256 * 48)[i as usize * 48..][..48]);
        expected.extend_from_slice(&payload[i as usize * 1024..][..1 + i as usize * 3]);
    }
    assert_eq!(pieces.len(), Ring::PIECES_MAX);
    bench.ring.send(LINK, &pieces, &bench.slots);
    assert!(
        bench.ring.head(LINK).is_none(),
        "the head is with the kernel"
    );
    assert!(bench.slots.on_wire(BUFFER));
    let mut found = vec![0; expected.len()];
    let reader = thread::spawn(move || peer.read_exact(&mut found).map(|()| found));
    assert_eq!(bench.event(), Event::Sent { link: LINK });
    assert!(!bench.slots.on_wire(BUFFER));
    assert!(bench.ring.head(LINK).is_some());
    assert!(reader.join().unwrap().unwrap() == expected);
}

#[test]
fn a_send_larger_than_every_buffer_is_finished_by_the_ring() {
    let (mut bench, mut peer) = Bench::connected(&SocketOptions::default());
    for buffer in 0..8 {
        let bytes = pattern(u32::from(buffer), BUFFER_BYTES as usize);
        bench
            .slots
            .write(BufferId(buffer), 0, BUFFER_BYTES)
            .copy_from_slice(&bytes);
    }
    let pieces: Vec<Piece> = (0..32)
        .map(|i| Piece::Payload {
            buffer: BufferId(i % 8),
            offset: 0,
            len: BUFFER_BYTES,
        })
        .collect();
    bench.ring.send(LINK, &pieces, &bench.slots);
    bench.quiet_for(Duration::from_millis(50));
    let reader = thread::spawn(move || {
        let mut found = vec![0; BUFFER_BYTES as usize];
        (0..32).all(|i| {
            peer.read_exact(&mut found).unwrap();
            found == pattern(i % 8, BUFFER_BYTES as usize)
        })
    });
    assert_eq!(bench.event(), Event::Sent { link: LINK });
    assert!(reader.join().unwrap());
}

#[test]
fn bytes_are_staged_as_they_come_and_placed_when_all_are_there() {
    let (mut bench, mut peer) = Bench::connected(&SocketOptions::default());
    bench.ring.receive(LINK, Into::Staging, &mut bench.slots);
    assert!(bench.ring.receive_armed(LINK));
    peer.write_all(b"header").unwrap();
    assert_eq!(bench.event(), Event::Received { link: LINK, len: 6 });
    assert_eq!(bench.ring.staged(LINK), b"header");

    bench.slots.write(BUFFER, 0, 300).fill(0xee);
    bench.place(100, 100);
    assert!(bench.ring.receive_armed(LINK));
    let bytes = pattern(3, 100);
    for part in bytes.chunks(33) {
        assert!(bench.slots.on_wire(BUFFER));
        bench.quiet_for(Duration::from_millis(2));
        peer.write_all(part).unwrap();
    }
    assert_eq!(
        bench.event(),
        Event::Placed {
            link: LINK,
            len: 100
        }
    );
    assert_eq!(bench.slots.read(BUFFER, 100, 100), bytes);
    assert!(
        bench
            .slots
            .read(BUFFER, 0, 100)
            .iter()
            .all(|byte| *byte == 0xee)
    );
    assert!(
        bench
            .slots
            .read(BUFFER, 200, 100)
            .iter()
            .all(|byte| *byte == 0xee)
    );
}

#[test]
fn a_fin_is_a_loss_even_in_the_middle_of_a_placement() {
    for sent in [0, 40] {
        let (mut bench, mut peer) = Bench::connected(&SocketOptions::default());
        bench.place(0, 100);
        peer.write_all(&vec![7; sent]).unwrap();
        drop(peer);
        assert_eq!(bench.lost(), LostReason::PeerClosed);
        assert!(!bench.slots.on_wire(BUFFER));
        assert!(!bench.ring.connected(LINK));
    }
}

#[test]
fn a_reset_is_a_loss() {
    let (mut bench, peer) = Bench::connected(&SocketOptions::default());
    bench.place(0, 100);
    reset(&mut bench, peer);
    assert_eq!(bench.lost(), LostReason::Reset);
}

#[test]
fn a_reset_ends_a_stuck_send() {
    let (mut bench, peer) = Bench::connected(&SocketOptions::default());
    let pieces = [Piece::Payload {
        buffer: BUFFER,
        offset: 0,
        len: BUFFER_BYTES,
    }; 64];
    bench.ring.send(LINK, &pieces, &bench.slots);
    bench.quiet_for(Duration::from_millis(20));
    drop(peer);
    assert_eq!(bench.lost(), LostReason::Reset);
    assert!(!bench.slots.on_wire(BUFFER));
    bench.slots.write(BUFFER, 0, BUFFER_BYTES).fill(1);
}

#[test]
fn after_an_abort_nothing_touches_the_buffer_and_nothing_unsent_arrives() {
    let (mut bench, mut peer) = Bench::connected(&SocketOptions::default());
    bench.slots.write(BUFFER, 0, 1000).fill(0xaa);
    bench.place(0, 1000);
    let pieces = [Piece::Payload {
        buffer: BufferId(1),
        offset: 0,
        len: BUFFER_BYTES,
    }; 64];
    bench.ring.send(LINK, &pieces, &bench.slots);
    bench.quiet_for(Duration::from_millis(20));
    bench.ring.close(LINK, Close::Abort);
    // Before the loss is even reported, the peer has seen it.
    let mut taken = Vec::new();
    let error = peer.read_to_end(&mut taken).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(taken.len() < pieces.len() * BUFFER_BYTES as usize);
    assert_eq!(bench.lost(), LostReason::Ours);
    assert!(!bench.slots.on_wire(BUFFER) && !bench.slots.on_wire(BufferId(1)));
    // It may even succeed: there is nobody to take it.
    let _ = peer.write_all(&[0xbb; 1000]);
    bench.quiet_for(Duration::from_millis(20));
    assert!(
        bench
            .slots
            .read(BUFFER, 0, 1000)
            .iter()
            .all(|byte| *byte == 0xaa)
    );
}

/// The ends of a connection as the kernel's table writes them: ours first, seen from `peer`.
fn ends(peer: &TcpStream) -> [String; 2] {
    [peer.peer_addr(), peer.local_addr()].map(|end| format!(":{:04X}", end.unwrap().port()))
}

/// Whether the kernel still has our end of this connection: only such a socket can send anything.
fn kernel_has(ends: &[String; 2]) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().any(|line| {
        let mut columns = line.split_whitespace().skip(1);
        ends.iter()
            .all(|end| columns.next().is_some_and(|column| column.ends_with(end)))
    })
}

#[test]
fn when_a_loss_is_reported_the_kernel_has_nothing_left_to_send() {
    // The peer takes nothing, so the send queue is full; then we abort, or the peer says goodbye.
    for ours in [true, false] {
        let (mut bench, peer) = Bench::connected(&SocketOptions::default());
        let ends = ends(&peer);
        let pieces = [Piece::Payload {
            buffer: BufferId(1),
            offset: 0,
            len: BUFFER_BYTES,
        }; 64];
        bench.ring.send(LINK, &pieces, &bench.slots);
        bench.place(0, 1000);
        bench.quiet_for(Duration::from_millis(20));
        assert!(kernel_has(&ends));
        if ours {
            bench.ring.close(LINK, Close::Abort);
            assert_eq!(bench.lost(), LostReason::Ours);
        } else {
            peer.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(bench.lost(), LostReason::PeerClosed);
        }
        assert!(!kernel_has(&ends), "aborted by us: {ours}");
    }
}

#[test]
fn an_abort_in_the_turn_that_armed_everything_is_clean_too() {
    let (mut bench, mut peer) = Bench::connected(&SocketOptions::default());
    bench.place(0, 1000);
    bench.ring.send(
        LINK,
        &[Piece::Payload {
            buffer: BufferId(1),
            offset: 0,
            len: 9,
        }],
        &bench.slots,
    );
    bench.ring.close(LINK, Close::Abort);
    bench.ring.close(LINK, Close::Orderly);
    assert_eq!(bench.lost(), LostReason::Ours);
    assert!(peer.read(&mut [0; 16]).is_err(), "not a byte, but a reset");
    bench.quiet_for(Duration::from_millis(5));
    bench.ring.close(LINK, Close::Abort);
    bench.quiet_for(Duration::from_millis(5));
}

#[test]
fn an_orderly_close_delivers_what_was_sent() {
    let (mut bench, mut peer) = Bench::connected(&SocketOptions::default());
    let bytes = pattern(4, 30_000);
    bench.slots.write(BUFFER, 0, 30_000).copy_from_slice(&bytes);
    bench.ring.send(
        LINK,
        &[Piece::Payload {
            buffer: BUFFER,
            offset: 0,
            len: 30_000,
        }],
        &bench.slots,
    );
    assert_eq!(bench.event(), Event::Sent { link: LINK });
    bench.place(0, 10);
    bench.ring.close(LINK, Close::Orderly);
    assert_eq!(bench.lost(), LostReason::Ours);
    let mut found = Vec::new();
    peer.read_to_end(&mut found).unwrap();
    assert!(found == bytes);
}

#[test]
fn a_refused_connection_and_a_missing_interface_are_losses_and_the_slot_serves_again() {
    let mut bench = Bench::new(1);
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    bench.ring.connect(LINK, nobody, &SocketOptions::default());
    assert_eq!(bench.lost(), LostReason::Refused);
    let nowhere = SocketOptions {
        interface: Some("no-such-if0".into()),
        ..SocketOptions::default()
    };
    bench.ring.connect(LINK, nobody, &nowhere);
    assert_eq!(bench.lost(), LostReason::NoInterface);
    let lo = SocketOptions {
        interface: Some("lo".into()),
        ..SocketOptions::default()
    };
    let mut peer = bench.connect(LINK, &lo);
    peer.write_all(b"x").unwrap();
    bench.ring.receive(LINK, Into::Staging, &mut bench.slots);
    assert_eq!(bench.event(), Event::Received { link: LINK, len: 1 });
}

#[test]
fn ipv6_connects() {
    let mut bench = Bench::new(1);
    let listener = TcpListener::bind("[::1]:0").unwrap();
    bench.ring.connect(
        LINK,
        listener.local_addr().unwrap(),
        &SocketOptions::default(),
    );
    assert_eq!(bench.event(), Event::Connected { link: LINK });
}

#[test]
fn a_connection_that_nobody_answers_ends_in_time() {
    let mut bench = Bench::new(1);
    // Bound to loopback, a documentation address goes nowhere: the packet comes back in and is dropped.
    let options = SocketOptions {
        interface: Some("lo".into()),
        connect_timeout: Duration::from_millis(80),
        ..SocketOptions::default()
    };
    let begin = boottime_ns();
    let to: SocketAddr = "192.0.2.1:3260".parse().unwrap();
    bench.ring.connect(LINK, to, &options);
    assert_eq!(bench.lost(), LostReason::ConnectTimeout);
    let took = Duration::from_nanos(boottime_ns() - begin);
    assert!(
        took >= Duration::from_millis(80) && took < Duration::from_secs(5),
        "{took:?}"
    );
    // And a connect that we give up ourselves.
    bench.ring.connect(LINK, to, &options);
    bench.ring.close(LINK, Close::Abort);
    assert_eq!(bench.lost(), LostReason::Ours);
}

#[test]
fn a_peer_that_takes_nothing_any_more_is_lost_after_the_user_timeout() {
    let options = SocketOptions {
        user_timeout: Duration::from_millis(300),
        ..SocketOptions::default()
    };
    let (mut bench, _peer) = Bench::connected(&options);
    let pieces = [Piece::Payload {
        buffer: BUFFER,
        offset: 0,
        len: BUFFER_BYTES,
    }; 64];
    bench.ring.send(LINK, &pieces, &bench.slots);
    bench.ring.receive(LINK, Into::Staging, &mut bench.slots);
    assert_eq!(bench.lost(), LostReason::TimedOut);
    assert!(!bench.slots.on_wire(BUFFER));
}

#[test]
fn tcp_tells_what_was_acknowledged_and_what_waits() {
    let (mut bench, mut peer) = Bench::connected(&SocketOptions::default());
    let before = bench.ring.tcp_info(LINK).unwrap();
    let piece = |len| Piece::Payload {
        buffer: BUFFER,
        offset: 0,
        len,
    };
    bench.ring.send(LINK, &[piece(5000)], &bench.slots);
    assert_eq!(bench.event(), Event::Sent { link: LINK });
    peer.read_exact(&mut [0; 5000]).unwrap();
    peer.write_all(&[7; 300]).unwrap();
    bench.ring.receive(LINK, Into::Staging, &mut bench.slots);
    assert!(matches!(bench.event(), Event::Received { .. }));
    let after = bench.ring.tcp_info(LINK).unwrap();
    assert_eq!(after.bytes_acked - before.bytes_acked, 5000);
    assert_eq!(after.bytes_received - before.bytes_received, 300);
    assert_eq!(after.unacked, 0);
    assert!(after.rtt.is_some() && after.min_rtt.is_some_and(|rtt| rtt < PATIENCE));

    // A peer that does not read acknowledges what its kernel takes, and then closes its window: nothing is on the wire.
    let pieces = [piece(BUFFER_BYTES); 64];
    bench.ring.send(LINK, &pieces, &bench.slots);
    let deadline = boottime_ns() + PATIENCE.as_nanos() as u64;
    loop {
        bench
            .ring
            .submit_and_wait(Some(boottime_ns() + 20_000_000))
            .unwrap();
        assert_eq!(bench.ring.next(), None);
        let full = bench.ring.tcp_info(LINK).unwrap();
        if full.unacked == 0 && full.bytes_acked > after.bytes_acked {
            break;
        }
        assert!(boottime_ns() < deadline, "{full:?}");
    }
    bench.ring.close(LINK, Close::Abort);
    assert_eq!(bench.lost(), LostReason::Ours);
    assert_eq!(bench.ring.tcp_info(LINK), None);
}

#[test]
fn a_wake_from_another_thread_ends_the_wait_and_many_are_one() {
    let mut bench = Bench::new(1);
    let (go, wait) = mpsc::channel();
    let waker = bench.ring.waker();
    let other = thread::spawn(move || {
        while let Ok(times) = wait.recv() {
            (0..times).for_each(|_| waker.wake());
        }
    });
    for _ in 0..3 {
        go.send(1).unwrap();
        assert_eq!(bench.event(), Event::Wake);
    }
    let waker = bench.ring.waker();
    (0..100).for_each(|_| waker.wake());
    assert_eq!(bench.event(), Event::Wake);
    bench.quiet_for(Duration::from_millis(5));
    drop(go);
    other.join().unwrap();
    drop(bench);
    waker.wake();
}

#[test]
fn a_wait_ends_at_its_deadline_not_before() {
    let mut bench = Bench::new(1);
    for millis in [0, 1, 30] {
        let deadline = boottime_ns() + millis * 1_000_000;
        while bench.ring.now() < deadline {
            bench.ring.submit_and_wait(Some(deadline)).unwrap();
            assert_eq!(bench.ring.next(), None);
        }
        assert!(bench.ring.now() < deadline + PATIENCE.as_nanos() as u64 / 4);
    }
    bench.ring.submit_and_wait(Some(0)).unwrap();
}

#[test]
fn dropping_the_ring_gives_every_byte_back() {
    let (mut bench, mut peer) = Bench::connected(&SocketOptions::default());
    bench.slots.write(BUFFER, 0, 100).fill(5);
    bench.place(0, 100);
    let pieces = [Piece::Payload {
        buffer: BufferId(1),
        offset: 0,
        len: BUFFER_BYTES,
    }; 64];
    bench.ring.send(LINK, &pieces, &bench.slots);
    bench.quiet_for(Duration::from_millis(10));
    let Bench { ring, mut slots } = bench;
    drop(ring);
    // The connection is gone, so this may fail; if it does not, nobody receives it.
    let _ = peer.write_all(&[9; 100]);
    assert_eq!(slots.write(BUFFER, 0, 100), [5; 100]);
    slots.write(BufferId(1), 0, BUFFER_BYTES).fill(0);
    assert!(!slots.on_wire(BUFFER));
}

#[test]
fn slots_outlived_by_their_ring_stay_mapped_for_it() {
    let (
        Bench {
            mut ring,
            mut slots,
        },
        mut peer,
    ) = Bench::connected(&SocketOptions::default());
    let into = Into::Buffer {
        buffer: BUFFER,
        offset: 0,
        len: BUFFER_BYTES,
    };
    ring.receive(LINK, into, &mut slots);
    ring.submit_and_wait(Some(0)).unwrap();
    drop(slots);
    peer.write_all(&vec![1; BUFFER_BYTES as usize]).unwrap();
    let deadline = boottime_ns() + PATIENCE.as_nanos() as u64;
    let event = loop {
        match ring.next() {
            Some(event) => break event,
            None => ring.submit_and_wait(Some(deadline)).unwrap(),
        }
    };
    assert_eq!(
        event,
        Event::Placed {
            link: LINK,
            len: BUFFER_BYTES
        }
    );
}

#[test]
fn what_would_mix_up_bytes_is_refused() {
    let (mut bench, _peer) = Bench::connected(&SocketOptions::default());
    let mut refused = |act: &mut dyn FnMut(&mut Bench)| {
        assert!(catch_unwind(AssertUnwindSafe(|| act(&mut bench))).is_err());
    };
    refused(&mut |b| b.place(BUFFER_BYTES - 1, 2));
    refused(&mut |b| b.place(0, 0));
    refused(&mut |b| b.ring.send(LINK, &[], &b.slots));
    refused(&mut |b| {
        b.ring.send(
            LINK,
            &[Piece::Head {
                start: HEAD_BYTES,
                len: 1,
            }],
            &b.slots,
        )
    });
    refused(&mut |b| {
        b.ring
            .connect(LINK, ([127, 0, 0, 1], 1).into(), &SocketOptions::default())
    });
    refused(&mut |b| {
        let mut others = Slots::new(8, BUFFER_BYTES, 1, 4096).unwrap();
        b.ring.receive(
            LINK,
            Into::Buffer {
                buffer: BUFFER,
                offset: 0,
                len: 1,
            },
            &mut others,
        );
    });
    bench.place(0, 100);
    let mut refused = |act: &mut dyn FnMut(&mut Bench)| {
        assert!(catch_unwind(AssertUnwindSafe(|| act(&mut bench))).is_err());
    };
    refused(&mut |b| b.place(200, 100));
    refused(&mut |b| drop(b.slots.read(BUFFER, 99, 1).to_vec()));
    refused(&mut |b| b.slots.write(BUFFER, 0, 1).fill(0));
    refused(&mut |b| {
        b.ring.send(
            LINK,
            &[Piece::Payload {
                buffer: BUFFER,
                offset: 0,
                len: 1,
            }],
            &b.slots,
        );
    });
}

/// What the peer of a stressed link does with one message.
#[derive(Clone, Debug)]
struct Exchange {
    head: u32,
    payload: u32,
    /// Sizes in which the peer writes its echo.
    segments: Vec<usize>,
    staged: bool,
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let segments = prop::collection::vec(prop_oneof![1..50_usize, 1..9000_usize], 1..8);
    let fields = (1..200_u32, 1..100_000_u32, segments, any::<bool>());
    fields.prop_map(|(head, payload, segments, staged)| Exchange {
        head,
        payload,
        segments,
        staged,
    })
}

/// Echoes every exchange in its segments; then vanishes.
fn echo(mut peer: TcpStream, exchanges: &[Exchange]) -> io::Result<()> {
    peer.set_nodelay(true)?;
    for exchange in exchanges {
        let mut bytes = vec![0; (exchange.head + exchange.payload) as usize];
        peer.read_exact(&mut bytes)?;
        let mut sizes = exchange.segments.iter().cycle();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(*sizes.next().expect("a cycle")));
            peer.write_all(now)?;
            rest = later;
        }
    }
    Ok(())
}

/// One link's way through its exchanges: send, then receive the echo either staged or in place.
struct Runner {
    link: LinkId,
    exchanges: Vec<Exchange>,
    next: usize,
    /// Bytes of the echo so far; when staged they are copied here.
    copied: Vec<u8>,
    cut_after: Option<usize>,
}

impl Runner {
    fn buffer(&self) -> BufferId {
        BufferId(u16::from(self.link.0))
    }

    fn expected(&self) -> Vec<u8> {
        let Exchange { head, payload, .. } = self.exchanges[self.next];
        pattern(
            u32::from(self.link.0) * 1000 + self.next as u32,
            (head + payload) as usize,
        )
    }

    fn begin(&mut self, bench: &mut Bench) {
        let Exchange { head, payload, .. } = self.exchanges[self.next];
        let bytes = self.expected();
        let space = bench.ring.head(self.link).expect("no send in flight");
        space[..head as usize].copy_from_slice(&bytes[..head as usize]);
        let into = bench.slots.write(self.buffer(), 0, payload);
        into.copy_from_slice(&bytes[head as usize..]);
        let pieces = [
            Piece::Head {
                start: 0,
                len: head,
            },
            Piece::Payload {
                buffer: self.buffer(),
                offset: 0,
                len: payload,
            },
        ];
        bench.ring.send(self.link, &pieces, &bench.slots);
        self.copied.clear();
    }

    /// Asks for what is missing: staged in any portions, or placed behind the sent bytes.
    fn ask(&mut self, bench: &mut Bench) {
        let Exchange {
            head,
            payload,
            staged,
            ..
        } = self.exchanges[self.next];
        let into = match staged {
            true => Into::Staging,
            false => Into::Buffer {
                buffer: self.buffer(),
                offset: 200_000,
                len: head + payload,
            },
        };
        bench.ring.receive(self.link, into, &mut bench.slots);
    }

    /// True when this was the last one.
    fn finish(&mut self, bench: &mut Bench, found: &[u8]) -> bool {
        assert!(
            found == self.expected(),
            "exchange {} of {:?}",
            self.next,
            self.link
        );
        self.next += 1;
        if self.cut_after == Some(self.next) {
            bench.ring.close(self.link, Close::Abort);
        } else if self.next < self.exchanges.len() {
            self.begin(bench);
            return false;
        }
        self.cut_after.is_none()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn streams_survive_any_segmentation(
        links in prop::collection::vec((prop::collection::vec(exchange(), 1..6), prop::option::of(1..6_usize)), 1..4),
    ) {
        let mut bench = Bench::new(4);
        let mut peers = Vec::new();
        let mut runners = Vec::new();
        for (index, (exchanges, cut)) in links.into_iter().enumerate() {
            let link = LinkId(index as u8);
            let peer = bench.connect(link, &SocketOptions::default());
            let script = exchanges.clone();
            peers.push(thread::spawn(move || echo(peer, &script)));
            let cut_after = cut.filter(|cut| *cut <= exchanges.len());
            runners.push(Runner { link, exchanges, next: 0, copied: Vec::new(), cut_after });
        }
        for runner in &mut runners {
            runner.begin(&mut bench);
        }
        let mut running = runners.len();
        while running > 0 {
            let event = bench.event();
            match event {
                Event::Sent { link } => runners[usize::from(link.0)].ask(&mut bench),
                Event::Received { link, len } => {
                    let runner = &mut runners[usize::from(link.0)];
                    prop_assert!(len > 0 && len <= STAGING_BYTES);
                    runner.copied.extend_from_slice(bench.ring.staged(link));
                    if runner.copied.len() < runner.expected().len() {
                        runner.ask(&mut bench);
                    } else {
                        let found = std::mem::take(&mut runner.copied);
                        running -= usize::from(runner.finish(&mut bench, &found));
                    }
                }
                Event::Placed { link, len } => {
                    let runner = &mut runners[usize::from(link.0)];
                    let found = bench.slots.read(runner.buffer(), 200_000, len).to_vec();
                    running -= usize::from(runner.finish(&mut bench, &found));
                }
                Event::Lost { link, why } => {
                    prop_assert_eq!(why, LostReason::Ours);
                    prop_assert!(runners[usize::from(link.0)].cut_after.is_some());
                    running -= 1;
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
        drop(bench);
        for peer in peers {
            // A peer that was cut off reports that; the bytes were judged on our side.
            let _ = peer.join().unwrap();
        }
    }
}
