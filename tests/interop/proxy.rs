//! A network between the volume and one portal: a forwarder on loopback that can go silent, reset or close.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const PASS: u8 = 0;
const SILENT: u8 = 1;
const DOWN: u8 = 2;
const HOLD: u8 = 3;

/// How often a blocked forwarder looks at the wish.
const POLL: Duration = Duration::from_millis(20);

/// The forwarder. Bytes that arrive while it is silent are lost with their connection: it never resumes in the
/// middle of a stream. What it holds is late, as in a target's receive buffer.
pub struct Proxy {
    pub address: SocketAddr,
    wish: Arc<AtomicU8>,
    stop: Arc<AtomicBool>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    pub fn to(portal: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
        listener.set_nonblocking(true).expect("a socket option");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let wish = Arc::new(AtomicU8::new(PASS));
        let stop = Arc::new(AtomicBool::new(false));
        let threads = Arc::new(Mutex::new(vec![]));
        let acceptor = {
            let (wish, stop, threads) = (wish.clone(), stop.clone(), threads.clone());
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    match listener.accept() {
                        Ok((client, _)) if wish.load(Ordering::Relaxed) == PASS => {
                            let target = TcpStream::connect(portal).expect("the target listens");
                            let new = connect(client, target, &wish, &stop);
                            threads.lock().expect("no forwarder panics").extend(new);
                        }
                        // Down or silent: whoever connects is dropped.
                        Ok(_) => {}
                        Err(_) => thread::sleep(POLL),
                    }
                }
            })
        };
        Proxy {
            address,
            wish,
            stop,
            threads,
            acceptor: Some(acceptor),
        }
    }

    /// Nothing passes any more, and nobody is told.
    pub fn go_silent(&self) {
        self.wish.store(SILENT, Ordering::Relaxed);
    }

    /// Nothing passes for now: it is kept, and delivered when the proxy comes back.
    pub fn hold(&self) {
        self.wish.store(HOLD, Ordering::Relaxed);
    }

    /// All connections end; new ones are refused.
    pub fn go_down(&self) {
        self.wish.store(DOWN, Ordering::Relaxed);
    }

    /// New connections pass again, and what was held.
    pub fn come_back(&self) {
        self.wish.store(PASS, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        for thread in self.threads.lock().expect("no forwarder panics").drain(..) {
            let _ = thread.join();
        }
    }
}

fn connect(
    client: TcpStream,
    target: TcpStream,
    wish: &Arc<AtomicU8>,
    stop: &Arc<AtomicBool>,
) -> [JoinHandle<()>; 2] {
    // Once silent, a connection stays dead: what it lost cannot be made good.
    let dead = Arc::new(AtomicBool::new(false));
    let one = |mut from: TcpStream, mut to: TcpStream| {
        let (wish, stop, dead) = (wish.clone(), stop.clone(), dead.clone());
        thread::spawn(move || {
            from.set_read_timeout(Some(POLL)).expect("a socket option");
            from.set_nodelay(true).expect("a TCP option");
            let mut bytes = vec![0; 1 << 16];
            while !stop.load(Ordering::Relaxed) {
                let now = wish.load(Ordering::Relaxed);
                if now == SILENT {
                    dead.store(true, Ordering::Relaxed);
                }
                if now == DOWN {
                    break;
                }
                match from.read(&mut bytes) {
                    Ok(0) => break,
                    Ok(_) if dead.load(Ordering::Relaxed) => {}
                    Ok(count) => {
                        while wish.load(Ordering::Relaxed) == HOLD && !stop.load(Ordering::Relaxed)
                        {
                            thread::sleep(POLL);
                        }
                        if wish.load(Ordering::Relaxed) == DOWN
                            || to.write_all(&bytes[..count]).is_err()
                        {
                            break;
                        }
                    }
                    Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(_) => break,
                }
            }
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        })
    };
    let again = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
    [one(again(&client), again(&target)), one(target, client)]
}
