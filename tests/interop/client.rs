//! A session on a blocking socket: the smallest driver there can be.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant as Clock};

use iscsi_client::login::{Credentials, LoginParameters, Negotiated, Offer, SessionType};
use iscsi_client::memory::{BufferId, Memory};
use iscsi_client::outgoing::{Outgoing, Piece};
use iscsi_client::scsi::{Cdb, Status};
use iscsi_client::session::{
    Closed, Command, Completion, Event, Handle, Session, SessionConfig, Transfer, Want,
};
use iscsi_client::time::Instant;
use iscsi_client::wire::{Isid, Lun, TaskAttribute};
use kit::conformance::Bench;

use multipath::{Description, Probe};

use super::tgtd::TARGET;

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Two buffers: 0 to send from, 1 to receive into.
struct Buffers([Vec<u8>; 2]);

impl Memory for Buffers {
    fn read(&self, buffer: BufferId, offset: u32, len: u32) -> &[u8] {
        &self.0[usize::from(buffer.0)][offset as usize..][..len as usize]
    }

    fn write(&mut self, buffer: BufferId, offset: u32, len: u32) -> &mut [u8] {
        &mut self.0[usize::from(buffer.0)][offset as usize..][..len as usize]
    }
}

/// A logged-in client.
pub struct Client {
    session: Session,
    stream: TcpStream,
    memory: Buffers,
    start: Clock,
    next_handle: u32,
    /// The connection before the present one.
    former: Option<TcpStream>,
    /// Payload of 16 KiB and more is received in place.
    in_place: bool,
}

/// Parameters of a login to the test's target.
pub fn parameters(isid: u8, offer: Offer, credentials: Option<Credentials>) -> LoginParameters {
    LoginParameters {
        initiator_name: "iqn.2026-01.test.sanblk:initiator".into(),
        session_type: SessionType::Normal {
            target_name: TARGET.into(),
        },
        isid: Isid([0x80, 0, 0, 0, 0, isid]),
        offer,
        credentials,
        entropy: [7; 32],
    }
}

impl Client {
    /// Logs in, or says why not.
    pub fn login(portal: SocketAddr, login: LoginParameters) -> Result<Client, Closed> {
        let stream = TcpStream::connect(portal).expect("the target listens");
        stream.set_nodelay(true).expect("a TCP option");
        stream
            .set_read_timeout(Some(Duration::from_millis(100)))
            .expect("a socket option");
        let config = SessionConfig {
            login,
            tasks_max: 32,
            login_timeout: PATIENCE,
            ping_after: Duration::from_secs(5),
            ping_timeout: Duration::from_secs(20),
        };
        let mut client = Client {
            session: Session::new(Instant::from_nanos(0), config),
            stream,
            memory: Buffers([vec![0; 2 << 20], vec![0; 2 << 20]]),
            start: Clock::now(),
            next_handle: 0,
            former: None,
            in_place: true,
        };
        match client.next_event() {
            Event::Established => Ok(client),
            Event::Closed(why) => Err(why),
            other => panic!("{other:?} before the login was done"),
        }
    }

    /// Copies all received payload instead of receiving any in place.
    pub fn staged_only(mut self) -> Client {
        self.in_place = false;
        self
    }

    pub fn negotiated(&self) -> &Negotiated {
        self.session.negotiated().expect("logged in")
    }

    /// Writes whole blocks of 512 bytes.
    pub fn write(&mut self, lba: u64, data: &[u8]) {
        let len = u32::try_from(data.len()).expect("short data");
        self.memory.0[0][..data.len()].copy_from_slice(data);
        let transfer = Transfer::Write {
            buffer: BufferId(0),
            offset: 0,
            len,
        };
        let done = self.run(Cdb::write_16(lba, len / 512, false), transfer);
        assert_eq!(
            (done.status, done.sense),
            (Status::Good, None),
            "write at {lba}"
        );
    }

    /// Reads whole blocks of 512 bytes.
    pub fn read(&mut self, lba: u64, len: u32) -> Vec<u8> {
        self.memory.0[1].fill(0xee);
        let transfer = Transfer::Read {
            buffer: BufferId(1),
            offset: 0,
            len,
        };
        let done = self.run(Cdb::read_16(lba, len / 512), transfer);
        assert_eq!(
            (done.status, done.sense),
            (Status::Good, None),
            "read at {lba}"
        );
        assert_eq!(done.received, len, "read at {lba}");
        assert!(
            self.memory.0[1][len as usize..]
                .iter()
                .all(|byte| *byte == 0xee)
        );
        self.memory.0[1][..len as usize].to_vec()
    }

    /// Runs one command, after the unit attentions that a new session finds.
    pub fn run(&mut self, cdb: Cdb, transfer: Transfer) -> Completion {
        for _ in 0..8 {
            let handle = Handle(self.next_handle);
            self.next_handle += 1;
            let lun = Lun::from_number(1).expect("a small number");
            let attribute = TaskAttribute::Simple;
            let now = self.now();
            self.session.submit(
                now,
                Command {
                    handle,
                    lun,
                    cdb,
                    attribute,
                    transfer,
                },
            );
            match self.next_event() {
                Event::Completed(done) => {
                    assert_eq!(done.handle, handle);
                    let attention = done.sense.is_some_and(|sense| sense.key as u8 == 6);
                    if !attention {
                        return done;
                    }
                }
                other => panic!("{other:?} instead of a completion"),
            }
        }
        panic!("unit attentions without end");
    }

    /// What the disk is, asked as the program asks.
    pub fn describe(&mut self) -> Description {
        let mut probe = Probe::new(Lun::from_number(1).expect("a small number"), BufferId(1));
        loop {
            match probe.result() {
                Some(Ok(description)) => return description.clone(),
                Some(Err(failure)) => panic!("{failure}"),
                None => {}
            }
            let handle = Handle(self.next_handle);
            self.next_handle += 1;
            let command = probe.poll_command(handle).expect("a question");
            let now = self.now();
            self.session.submit(now, command);
            match self.next_event() {
                Event::Completed(done) => probe.completed(&done, &self.memory),
                other => panic!("{other:?} instead of a completion"),
            }
        }
    }

    /// Logs out and expects the target to agree.
    pub fn logout(mut self) {
        let now = self.now();
        self.session.logout(now);
        assert_eq!(self.next_event(), Event::Closed(Closed::LoggedOut));
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(0) + self.start.elapsed()
    }

    fn next_event(&mut self) -> Event {
        loop {
            let event = self.any_event();
            if event != Event::Pong {
                return event;
            }
        }
    }

    fn any_event(&mut self) -> Event {
        let until = Clock::now() + PATIENCE;
        loop {
            if let Some(event) = self.session.poll_event() {
                return event;
            }
            assert!(Clock::now() < until, "no answer within {PATIENCE:?}");
            self.transmit();
            self.receive();
            let now = self.now();
            self.session.handle_timeout(now);
        }
    }

    fn transmit(&mut self) {
        loop {
            let mut head = [0; 4096];
            let mut pieces = Vec::with_capacity(64);
            let mut out = Outgoing::new(&mut head, &mut pieces, 1 << 20);
            let now = Instant::from_nanos(0) + self.start.elapsed();
            self.session.poll_transmit(now, &self.memory, &mut out);
            if pieces.is_empty() {
                return;
            }
            for piece in pieces {
                let bytes = match piece {
                    Piece::Head { start, len } => &head[start as usize..][..len as usize],
                    Piece::Payload {
                        buffer,
                        offset,
                        len,
                    } => self.memory.read(buffer, offset, len),
                };
                self.stream.write_all(bytes).expect("the target reads");
            }
        }
    }

    fn receive(&mut self) {
        let now = self.now();
        match self.session.want() {
            Want::Payload {
                buffer,
                offset,
                len,
            } if self.in_place && len >= 16 << 10 => {
                let place = self.memory.write(buffer, offset, len);
                self.stream
                    .set_read_timeout(Some(PATIENCE))
                    .expect("a socket option");
                self.stream
                    .read_exact(place)
                    .expect("the target sends what it announced");
                let short = Some(Duration::from_millis(100));
                self.stream
                    .set_read_timeout(short)
                    .expect("a socket option");
                self.session.received_in_place(now, len, &self.memory);
            }
            Want::Payload { .. } | Want::Stream => {
                let mut bytes = [0; 8192];
                match self.stream.read(&mut bytes) {
                    Ok(0) => self.session.connection_lost(),
                    Ok(count) => self.session.receive(now, &bytes[..count], &mut self.memory),
                    Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(_) => self.session.connection_lost(),
                }
            }
            Want::Nothing => {}
        }
    }
}

/// A portal of a real target with a disk that nobody else uses.
pub struct RealTarget {
    portal: SocketAddr,
    client: Option<Client>,
}

impl RealTarget {
    pub fn at(portal: SocketAddr) -> RealTarget {
        RealTarget {
            portal,
            client: None,
        }
    }

    fn client(&mut self) -> &mut Client {
        self.client.as_mut().expect("a body logs in first")
    }
}

impl Bench for RealTarget {
    fn log_in(&mut self, isid: u8, offer: Offer) -> Negotiated {
        let client = Client::login(self.portal, parameters(isid, offer, None));
        let mut client = client.unwrap_or_else(|why| panic!("no login: {why}"));
        client.former = self.client.take().map(|former| former.stream);
        let terms = client.negotiated().clone();
        self.client = Some(client);
        terms
    }

    fn session(&mut self) -> &mut Session {
        &mut self.client().session
    }

    fn now(&self) -> Instant {
        self.client
            .as_ref()
            .map_or(Instant::from_nanos(0), Client::now)
    }

    fn lun(&self) -> Lun {
        Lun::from_number(1).expect("a small number")
    }

    fn buffer(&mut self, buffer: BufferId) -> &mut [u8] {
        &mut self.client().memory.0[usize::from(buffer.0)]
    }

    fn event(&mut self) -> Event {
        self.client().any_event()
    }

    fn has_closed_the_former(&mut self) -> bool {
        let former = self.client().former.as_mut().expect("a second login");
        former
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket option");
        let mut bytes = [0; 4096];
        loop {
            match former.read(&mut bytes) {
                Ok(0) => return true,
                // What the target still had to say.
                Ok(_) => {}
                Err(e) => return e.kind() == ErrorKind::ConnectionReset,
            }
        }
    }
}
