//! One session against the target, over one link, in memory.
//!
//! The driver does what the runtime does in a turn, and draws what the runtime is free to do: where a receive
//! ends, and whether payload lands in place or is staged.

use core::time::Duration;

use iscsi_client::login::{LoginParameters, Offer, SessionType};
use iscsi_client::memory::{BufferId, Memory};
use iscsi_client::scsi::Cdb;
use iscsi_client::session::{
    Closed, Command, Completion, Event, Handle, Session, SessionConfig, Transfer, Want,
};
use iscsi_client::time::Instant;
use iscsi_client::wire::{Isid, TaskAttribute};

use crate::disk::LunConfig;
use crate::memory::{Buffers, Sender};
use crate::net::{Link, LinkConfig};
use crate::prng::Prng;
use crate::target::{ConnId, TargetConfig};
use crate::world::{HostEvent, LUN_0, World};

/// A session and its world.
#[derive(Debug)]
pub struct Pair {
    /// Everything outside.
    pub world: World,
    /// The session under test.
    pub session: Session,
    /// Its payload memory: [`BUFFERS`] buffers of [`BUFFER_LEN`] bytes.
    pub memory: Buffers,
    conn: ConnId,
    sender: Sender,
    prng: Prng,
    events: Vec<Event>,
    connected: bool,
    next_handle: u32,
}

/// Buffers of a pair.
pub const BUFFERS: usize = 32;
/// Length of each in bytes.
pub const BUFFER_LEN: usize = 1 << 20;

/// A login to the target of the world with this offer.
pub fn login(target: &TargetConfig, offer: Offer) -> SessionConfig {
    SessionConfig {
        login: LoginParameters {
            initiator_name: "iqn.2026-01.test:host".into(),
            session_type: SessionType::Normal {
                target_name: target.name.clone(),
            },
            isid: Isid([0x80, 0, 0, 1, 0, 1]),
            offer,
            credentials: None,
            entropy: [0x5a; 32],
        },
        tasks_max: 32,
        login_timeout: Duration::from_secs(15),
        ping_after: Duration::from_secs(1),
        ping_timeout: Duration::from_secs(3),
    }
}

impl Pair {
    /// A pair whose connection is being made.
    pub fn new(seed: u64, target: TargetConfig, unit: LunConfig, config: SessionConfig) -> Pair {
        let mut prng = Prng::new(!seed);
        let mut world = World::new(seed, target, unit, &[LinkConfig::default()]);
        let conn = world.connect(Link(0), 0);
        let head = prng.pick(&[512, 4096, 16 << 10]);
        Pair {
            session: Session::new(world.now(), config),
            world,
            memory: Buffers::new(BUFFERS, BUFFER_LEN),
            conn,
            sender: Sender::new(head, 64),
            prng,
            events: Vec::new(),
            connected: false,
            next_handle: 0,
        }
    }

    /// The connection.
    pub fn conn(&self) -> ConnId {
        self.conn
    }

    /// Makes a new connection and starts a new session on it. The old connection is reset.
    pub fn restart(&mut self, config: SessionConfig) {
        self.world.close(self.conn);
        self.conn = self.world.connect(Link(0), 0);
        self.connected = false;
        self.session = Session::new(self.world.now(), config);
    }

    /// As [`Pair::restart`], but the old connection stays open, and nobody reads it any more.
    pub fn log_in_beside(&mut self, config: SessionConfig) {
        self.conn = self.world.connect(Link(0), 0);
        self.connected = false;
        self.session = Session::new(self.world.now(), config);
        self.events.clear();
    }

    /// Lets things happen until `done` holds or `limit` has passed. True: it holds.
    pub fn run(&mut self, limit: Duration, mut done: impl FnMut(&[Event]) -> bool) -> bool {
        let end = self.world.now() + limit;
        loop {
            self.turn();
            if done(&self.events) {
                return true;
            }
            if self.world.now() >= end {
                return false;
            }
            let wake = self.session.poll_timeout().unwrap_or(end).min(end);
            match self.world.advance(wake) {
                Some(HostEvent::Connected(conn)) if conn == self.conn => self.connected = true,
                Some(HostEvent::Received(conn, bytes)) if conn == self.conn => self.receive(&bytes),
                Some(HostEvent::Lost(conn)) if conn == self.conn => self.session.connection_lost(),
                Some(_) => {}
                None => self.session.handle_timeout(self.world.now()),
            }
        }
    }

    fn turn(&mut self) {
        let now = self.world.now();
        while self.connected {
            let Pair {
                session,
                sender,
                memory,
                ..
            } = self;
            let bytes = sender.gather(memory, |memory, out| {
                session.poll_transmit(now, memory, out)
            });
            if bytes.is_empty() {
                break;
            }
            self.world.send(self.conn, &bytes);
        }
        while let Some(event) = self.session.poll_event() {
            if matches!(event, Event::Closed(_)) && self.connected {
                self.connected = false;
                self.world.close(self.conn);
            }
            self.events.push(event);
        }
    }

    /// Hands bytes over in pieces, in place where the session wants payload and the dice say so.
    fn receive(&mut self, mut bytes: &[u8]) {
        let now = self.world.now();
        while !bytes.is_empty() {
            let some = match self.prng.below(4) {
                0 => self.prng.between(1, bytes.len() as u64) as usize,
                _ => bytes.len(),
            };
            let (piece, rest) = match self.session.want() {
                Want::Payload {
                    buffer,
                    offset,
                    len,
                } if self.prng.percent(50) => {
                    let (piece, rest) = bytes.split_at(some.min(len as usize));
                    self.memory
                        .write(buffer, offset, piece.len() as u32)
                        .copy_from_slice(piece);
                    self.session
                        .received_in_place(now, piece.len() as u32, &self.memory);
                    bytes = rest;
                    continue;
                }
                _ => bytes.split_at(some),
            };
            self.session.receive(now, piece, &mut self.memory);
            bytes = rest;
        }
    }

    /// Events since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Takes the oldest event.
    pub fn next_event(&mut self) -> Option<Event> {
        (!self.events.is_empty()).then(|| self.events.remove(0))
    }

    /// Runs until the session is established.
    ///
    /// # Panics
    /// If it is not within a minute.
    pub fn establish(&mut self) {
        let up = self.run(Duration::from_secs(60), |events| {
            events.contains(&Event::Established)
        });
        assert!(
            up,
            "no session: {:?}, {:?}",
            self.events,
            self.world.target.violations()
        );
        self.events.retain(|event| *event != Event::Established);
    }

    /// Runs until the session is closed, and says why. `None`: it is not within `limit`.
    pub fn until_closed(&mut self, limit: Duration) -> Option<Closed> {
        self.run(limit, |events| {
            events.iter().any(|event| matches!(event, Event::Closed(_)))
        });
        self.events.iter().find_map(|event| match event {
            Event::Closed(why) => Some(why.clone()),
            _ => None,
        })
    }

    /// Submits a command; its handle is returned.
    pub fn submit(&mut self, cdb: Cdb, transfer: Transfer) -> Handle {
        let handle = Handle(self.next_handle);
        self.next_handle += 1;
        let command = Command {
            handle,
            lun: LUN_0,
            cdb,
            attribute: TaskAttribute::Simple,
            transfer,
        };
        self.session.submit(self.world.now(), command);
        handle
    }

    /// Runs until a command has ended. `None`: it has not within a minute, or the session is closed.
    pub fn wait(&mut self, handle: Handle) -> Option<Completion> {
        let is_it =
            |event: &Event| matches!(event, Event::Completed(done) if done.handle == handle);
        self.run(Duration::from_secs(60), |events| {
            events
                .iter()
                .any(|event| is_it(event) || matches!(event, Event::Closed(_)))
        });
        let at = self.events.iter().position(is_it)?;
        match self.events.remove(at) {
            Event::Completed(done) => Some(done),
            _ => unreachable!("it was a completion"),
        }
    }

    /// Submits a command and waits for its end.
    ///
    /// # Panics
    /// If it does not end.
    pub fn command(&mut self, cdb: Cdb, transfer: Transfer) -> Completion {
        let handle = self.submit(cdb, transfer);
        self.wait(handle).unwrap_or_else(|| {
            panic!(
                "{}: {:?} {:?}",
                cdb.name(),
                self.events,
                self.world.target.violations()
            )
        })
    }

    /// Sends TEST UNIT READY until the unit attentions are gone.
    pub fn calm(&mut self) {
        for _ in 0..16 {
            let done = self.command(Cdb::test_unit_ready(), Transfer::None);
            if done.status == iscsi_client::scsi::Status::Good {
                return;
            }
        }
        panic!("the unit never gets ready");
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.world.now()
    }
}

/// A read of `len` bytes to the start of a buffer.
pub fn read(buffer: u16, len: u32) -> Transfer {
    Transfer::Read {
        buffer: BufferId(buffer),
        offset: 0,
        len,
    }
}

/// A write of `len` bytes from the start of a buffer.
pub fn write(buffer: u16, len: u32) -> Transfer {
    Transfer::Write {
        buffer: BufferId(buffer),
        offset: 0,
        len,
    }
}
