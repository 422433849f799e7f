//! What the kernel does with bytes that a queue has handed over, when its process is killed or stands still.
//!
//! No code of ours runs then, and yet none of these bytes may reach the target much later. What is set when a socket is made has
//! to see to it: a linger of 0, which makes the end of a process the reset of its connections, io_uring or not, and the
//! user timeout, which counts while the process is stopped.
//!
//! Each case runs a child, which is this program, with a ring of its own and a send that cannot come to its end: the other end
//! of its connection takes nothing and closes its window, or is deaf: a socket filter drops all that comes, as a
//! cut link does.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use socket2::{SockFilter, SockRef};
use ublk_dev::{BufferId, Close, Event, Into, LinkId, Piece, Ring, Slots, SocketOptions};

/// Tells the child whom to connect to.
const PEER: &str = "SANBLK_TEST_PEER";
const LINK: LinkId = LinkId(0);
const BUFFER_BYTES: u32 = 1 << 20;
/// More than any socket buffer holds.
const PIECES: usize = 64;
/// The child's user timeout in milliseconds.
const USER_TIMEOUT_MS: &str = "SANBLK_TEST_USER_TIMEOUT_MS";
/// Nothing here takes so long; a test that would hang fails instead.
const PATIENCE: Duration = Duration::from_secs(60);
/// A child that did not run for so long resets its connection: as if it had missed a deadline.
const STOOD: Duration = Duration::from_secs(1);
/// Longer than TCP's first repetitions: what could still come, comes in that time.
const A_WHILE: Duration = Duration::from_secs(2);

/// Why the bytes wait.
#[derive(Clone, Copy, Debug)]
enum Peer {
    /// It does not read, and its window is closed.
    Full,
    /// Nothing reaches it.
    Deaf,
}

/// What happens to the child.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Killed,
    Stopped,
    /// As stopped, and the other end takes again at once: what the kernel has still arrives, but what the send has not
    /// handed over to it does not. Nor does it when the child runs again and finds out that it was stopped.
    StoppedAndContinued,
    /// Nothing: to see that the bytes would arrive otherwise.
    Lives,
}

fn main() {
    if let Ok(peer) = std::env::var(PEER) {
        child(peer.parse().expect("an address"));
    }
    for peer in [Peer::Full, Peer::Deaf] {
        for fate in [Fate::Lives, Fate::Killed, Fate::Stopped] {
            case(peer, fate);
        }
    }
    case(Peer::Full, Fate::StoppedAndContinued);
}

/// Sends until it is killed.
fn child(peer: SocketAddr) -> ! {
    let user_timeout = std::env::var(USER_TIMEOUT_MS).expect("a time");
    let user_timeout = Duration::from_millis(user_timeout.parse().expect("a number"));
    let mut slots = Slots::new(8, BUFFER_BYTES, 1, 4096).expect("memory");
    let mut ring = Ring::new(None, 1, &mut slots).expect("an io_uring");
    ring.connect(LINK, peer, &SocketOptions::default());
    let pieces = [Piece::Payload {
        buffer: BufferId(1),
        offset: 0,
        len: BUFFER_BYTES,
    }; PIECES];
    let mut told = false;
    let mut ran = Instant::now();
    loop {
        while let Some(event) = ring.next() {
            match event {
                Event::Connected { .. } => {
                    ring.set_user_timeout(LINK, user_timeout);
                    // The other end gets ready, and says so with a byte.
                    ring.receive(LINK, Into::Staging, &mut slots);
                }
                Event::Received { .. } => {
                    ring.send(LINK, &pieces, &slots);
                    ring.receive(LINK, Into::Staging, &mut slots);
                }
                Event::Sent { .. } => {}
                Event::Lost { .. } => std::process::exit(0),
                other => panic!("{other:?}"),
            }
        }
        // The send is with the kernel, which cannot go on with it: a full window, or nothing acknowledged.
        if let (true, Some(info)) = (ring.sending(LINK), ring.tcp_info(LINK))
            && info.since_sent > Duration::from_millis(50)
            && !told
        {
            told = true;
            println!("stuck");
        }
        // Asked last before the system call, of the clock and not of this turn, as the queue does: that call takes up the send
        // again where it stopped.
        if ran.elapsed() > STOOD {
            ring.close(LINK, Close::Abort);
        }
        ran = Instant::now();
        ring.submit_and_wait(Some(ring.now() + 10_000_000))
            .expect("the ring works");
    }
}

fn case(kind: Peer, fate: Fate) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    // A living child is not to lose its connection while the other end makes up its mind.
    let user_timeout_ms = match fate {
        Fate::Stopped => "400",
        Fate::Killed | Fate::Lives | Fate::StoppedAndContinued => "60000",
    };
    let mut child = Command::new(std::env::current_exe().expect("our own name"))
        .env(PEER, listener.local_addr().expect("bound").to_string())
        .env(USER_TIMEOUT_MS, user_timeout_ms)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut peer = listener.accept().expect("a connection").0;
    peer.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let ends = ends(&peer);
    if let Peer::Deaf = kind {
        // BPF_RET with 0: nothing passes, not even an acknowledgement or a reset.
        let nothing = SockFilter::new(0x06, 0, 0, 0);
        SockRef::from(&peer)
            .attach_filter(&[nothing])
            .expect("a filter");
    }
    std::io::Write::write_all(&mut peer, b"!").expect("a byte");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped"))
        .read_line(&mut line)
        .expect("its output");
    assert_eq!(line, "stuck\n");
    assert!(kernel_has(&ends));
    let start = Instant::now();
    match fate {
        Fate::Lives => {}
        Fate::Killed => {
            child.kill().expect("a child to kill");
            child.wait().expect("it ends");
        }
        Fate::Stopped | Fate::StoppedAndContinued => stop(&child),
    }
    if let Fate::Killed | Fate::Stopped = fate {
        wait("the kernel forgets the connection", || !kernel_has(&ends));
        println!("{kind:?} {fate:?}: forgotten after {:?}", start.elapsed());
    }
    if let Peer::Deaf = kind {
        SockRef::from(&peer).detach_filter().expect("a filter");
    }
    let total = PIECES * BUFFER_BYTES as usize;
    let taken = take(&mut peer, total);
    println!("{kind:?} {fate:?}: {taken} of {total} bytes arrived");
    match (kind, fate) {
        (_, Fate::Lives) => assert_eq!(taken, total),
        (Peer::Deaf, _) => assert_eq!(taken, 0),
        // What one kernel or the other had taken before, and not a byte that waited in the process.
        (Peer::Full, _) => assert!(taken < total),
    }
    if let Fate::StoppedAndContinued = fate {
        let pid = Pid::from_child(&child);
        kill_process(pid, Signal::CONT).expect("a child to continue");
        assert!(child.wait().expect("it ends").success());
        assert_eq!(take(&mut peer, total), 0, "what the send had left");
    }
    // One that was stopped ends like this, too.
    let _ = child.kill();
    child.wait().expect("it ends");
}

/// Stops the child, and waits until it stands.
fn stop(child: &Child) {
    let pid = Pid::from_child(child);
    kill_process(pid, Signal::STOP).expect("a child to stop");
    let stat = format!("/proc/{}/stat", child.id());
    wait("the child stands", || {
        let stat = std::fs::read_to_string(&stat).expect("it is there");
        // `pid (name) state`
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.starts_with(" T"))
    });
}

/// Reads what comes until the connection is over, or nothing has come for a while. How much.
fn take(peer: &mut TcpStream, most: usize) -> usize {
    peer.set_read_timeout(Some(A_WHILE)).expect("a socket");
    let mut bytes = vec![0; 1 << 20];
    let mut taken = 0;
    while taken < most {
        match peer.read(&mut bytes) {
            Ok(0) => panic!("a FIN: our kernel has sent all there was"),
            Ok(len) => taken += len,
            Err(error) => {
                let over = [ErrorKind::ConnectionReset, ErrorKind::WouldBlock];
                assert!(over.contains(&error.kind()), "{error}");
                break;
            }
        }
    }
    taken
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// The ends of a connection as the kernel's table writes them: the child's first, seen from `peer`.
fn ends(peer: &TcpStream) -> [String; 2] {
    [peer.peer_addr(), peer.local_addr()].map(|end| format!(":{:04X}", end.unwrap().port()))
}

/// Whether the kernel still has the child's end: only such a socket can send anything.
fn kernel_has(ends: &[String; 2]) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    table.lines().any(|line| {
        let mut columns = line.split_whitespace().skip(1);
        ends.iter()
            .all(|end| columns.next().is_some_and(|column| column.ends_with(end)))
    })
}
