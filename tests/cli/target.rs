//! The kit's simulated target behind real loopback sockets, so that the real binary can talk to it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use iscsi_client::time::Instant as Moment;
use iscsi_client::wire::{Lun, Tpgt};
use kit::disk::{Identity, LogicalUnit, LunConfig};
use kit::prng::Prng;
use kit::target::{ConnId, Portal, Target, TargetConfig};

/// A target that listens until the test ends.
pub struct Served {
    /// Its portals, `address:port`.
    pub portals: Vec<String>,
}

struct Shared {
    target: Target,
    streams: Vec<(ConnId, TcpStream)>,
    started: Instant,
    connections: u32,
}

impl Shared {
    fn now(&self) -> Moment {
        Moment::from_nanos(self.started.elapsed().as_nanos() as u64)
    }

    /// Moves what the target has to say onto the sockets.
    fn flush(&mut self) {
        for conn in self.target.senders() {
            let bytes = self.target.take_output(conn);
            self.send(conn, &bytes);
        }
        while let Some((conn, _, bytes)) = self.target.poll_close() {
            self.send(conn, &bytes);
            self.streams.retain(|(id, stream)| {
                if *id == conn {
                    let _ = stream.shutdown(Shutdown::Both);
                }
                *id != conn
            });
        }
    }

    fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        if let Some((_, stream)) = self.streams.iter_mut().find(|(id, _)| *id == conn) {
            // A client that is gone shows at its reader.
            let _ = stream.write_all(bytes);
        }
    }
}

/// A disk with this serial number; equal numbers are the same disk.
pub fn disk(serial: u8) -> LunConfig {
    LunConfig {
        identity: Identity {
            serial: format!("serial-{serial}"),
            naa: [
                0x60, 0x01, 0x40, 0x5a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, serial,
            ],
            ..Identity::default()
        },
        latency_min: Duration::ZERO,
        latency_max: Duration::ZERO,
        ..LunConfig::default()
    }
}

impl Served {
    /// Serves `config` with a portal on each of the addresses and these logical units.
    pub fn start(addresses: &[&str], config: TargetConfig, units: &[(u16, LunConfig)]) -> Served {
        let listeners: Vec<TcpListener> = addresses
            .iter()
            .map(|address| TcpListener::bind((*address, 0)).expect("a loopback port"))
            .collect();
        let portals: Vec<String> = listeners
            .iter()
            .map(|listener| listener.local_addr().expect("a bound socket").to_string())
            .collect();
        let config = TargetConfig {
            portals: portals
                .iter()
                .map(|address| Portal {
                    address: address.clone(),
                    group: Tpgt(1),
                })
                .collect(),
            ..config
        };
        let mut prng = Prng::new(1);
        let mut target = Target::new(config, prng.fork());
        for (lun, unit) in units {
            let lun = Lun::from_number(*lun).expect("a small number");
            target.add_unit(lun, LogicalUnit::new(unit.clone(), prng.fork()));
        }
        let shared = Arc::new(Mutex::new(Shared {
            target,
            streams: Vec::new(),
            started: Instant::now(),
            connections: 0,
        }));
        for (portal, listener) in listeners.into_iter().enumerate() {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    accept(&shared, portal, stream);
                }
            });
        }
        thread::spawn(move || {
            loop {
                // The target's own timers; a tick of them is no wait for an outcome.
                thread::sleep(Duration::from_millis(2));
                let mut shared = lock(&shared);
                let now = shared.now();
                if shared.target.poll_timeout().is_some_and(|at| at <= now) {
                    shared.target.handle_timeout(now);
                    shared.flush();
                }
            }
        });
        Served { portals }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(shared: &Arc<Mutex<Shared>>, portal: usize, mut stream: TcpStream) {
    let conn = {
        let mut shared = lock(shared);
        shared.connections += 1;
        let conn = ConnId(shared.connections);
        let now = shared.now();
        if !shared.target.accept(now, conn, portal) {
            return;
        }
        let writer = stream.try_clone().expect("a second handle of the socket");
        shared.streams.push((conn, writer));
        conn
    };
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        let mut bytes = [0; 65536];
        loop {
            let len = stream.read(&mut bytes).unwrap_or(0);
            let mut shared = lock(&shared);
            let now = shared.now();
            if len == 0 {
                shared.target.lost(now, conn);
                shared.streams.retain(|(id, _)| *id != conn);
                return;
            }
            shared.target.handle(now, conn, &bytes[..len]);
            shared.flush();
        }
    });
}
