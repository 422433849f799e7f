//! What a session promises against any target: bodies of tests that run on the simulated target and on real ones, so
//! that the simulation stays honest.
//!
//! A [`Bench`] is one target that may be logged in to again and again. Each body logs in by itself, needs a unit with
//! blocks of 512 bytes and at least 64 MiB that nobody else uses, and panics where target and session disagree.

use iscsi_client::login::{Negotiated, Offer};
use iscsi_client::memory::BufferId;
use iscsi_client::scsi::{Cdb, SenseKey, Status};
use iscsi_client::session::{Command, Completion, Event, Handle, Session, Transfer};
use iscsi_client::time::Instant;
use iscsi_client::wire::{Lun, Residual, TaskAttribute, TaskManagementFunction};

use crate::prng::Prng;

/// A target, and the newest session on it.
pub trait Bench {
    /// Makes a connection and a session on it with this last byte of the ISID; earlier connections stay as they are.
    ///
    /// # Panics
    /// If the login fails.
    fn log_in(&mut self, isid: u8, offer: Offer) -> Negotiated;
    /// The session.
    fn session(&mut self) -> &mut Session;
    /// The time that the session is told.
    fn now(&self) -> Instant;
    /// The unit.
    fn lun(&self) -> Lun;
    /// A buffer of at least 1 MiB: 0 or 1.
    fn buffer(&mut self, buffer: BufferId) -> &mut [u8];
    /// The session's next event.
    ///
    /// # Panics
    /// If none comes within a time that no target needs.
    fn event(&mut self) -> Event;
    /// Whether the target has closed the connection before the newest one, or does within a time that no target needs.
    fn has_closed_the_former(&mut self) -> bool;
}

const FROM: BufferId = BufferId(0);
const INTO: BufferId = BufferId(1);
/// Unit attentions in a row, at most.
const ATTENTIONS_MAX: usize = 8;

fn submit(bench: &mut impl Bench, name: u32, cdb: Cdb, transfer: Transfer) {
    let (now, lun) = (bench.now(), bench.lun());
    let command = Command {
        handle: Handle(name),
        lun,
        cdb,
        attribute: TaskAttribute::Simple,
        transfer,
    };
    bench.session().submit(now, command);
}

/// The next end of a command.
fn completion(bench: &mut impl Bench) -> Completion {
    loop {
        match bench.event() {
            Event::Completed(done) => return done,
            Event::Pong | Event::Async(..) => {}
            other => panic!("{other:?} instead of a completion"),
        }
    }
}

fn run(bench: &mut impl Bench, cdb: Cdb, transfer: Transfer) -> Completion {
    submit(bench, 0, cdb, transfer);
    completion(bench)
}

/// TEST UNIT READY until the unit attentions are gone; how many there were.
fn calm(bench: &mut impl Bench) -> usize {
    for attentions in 0..ATTENTIONS_MAX {
        let done = run(bench, Cdb::test_unit_ready(), Transfer::None);
        match (done.status, done.sense) {
            (Status::Good, None) => return attentions,
            (Status::CheckCondition, Some(sense)) if sense.key == SenseKey::UnitAttention => {}
            other => panic!("{other:?} to TEST UNIT READY"),
        }
    }
    panic!("unit attentions without end");
}

fn to_target(len: u32) -> Transfer {
    Transfer::Write {
        buffer: FROM,
        offset: 0,
        len,
    }
}

fn from_target(len: u32) -> Transfer {
    Transfer::Read {
        buffer: INTO,
        offset: 0,
        len,
    }
}

/// Writes and reads back lengths on both sides of every limit that a login may set, under what this offer leads to.
pub fn data_arrive_unharmed(bench: &mut impl Bench, offer: Offer) -> Negotiated {
    let terms = bench.log_in(1, offer);
    calm(bench);
    let mut prng = Prng::new(u64::from(terms.max_burst_length) ^ u64::from(terms.initial_r2t));
    let lens = [
        512,
        4096,
        8192,
        8704,
        65_536,
        66_048,
        262_144,
        262_656,
        1 << 20,
    ];
    for (index, len) in lens.into_iter().enumerate() {
        let (lba, blocks) = (index as u64 * 4096 + 3, len / 512);
        let data = prng.bytes(len as usize);
        bench.buffer(FROM)[..len as usize].copy_from_slice(&data);
        let done = run(bench, Cdb::write_16(lba, blocks, false), to_target(len));
        let expected = (Status::Good, None, Residual::None);
        assert_eq!(
            (done.status, done.sense, done.residual),
            expected,
            "{len} bytes"
        );
        bench.buffer(INTO).fill(0xee);
        let done = run(bench, Cdb::read_16(lba, blocks), from_target(len));
        assert_eq!((done.status, done.received), (Status::Good, len));
        let (found, rest) = bench.buffer(INTO).split_at(len as usize);
        assert!(found == data, "{len} bytes at {lba} differ");
        assert!(rest.iter().all(|byte| *byte == 0xee), "beyond {len} bytes");
    }
    terms
}

/// Every agreement about who sends data when, and about digests, that offers can lead to.
pub fn data_arrive_under_every_offer(bench: &mut impl Bench, crc: &[bool]) {
    use iscsi_client::login::DigestPreference::{PreferNone, RequireCrc32c};
    for initial_r2t in [true, false] {
        for immediate_data in [true, false] {
            for crc in crc {
                let digest = if *crc { RequireCrc32c } else { PreferNone };
                let offer = Offer {
                    initial_r2t,
                    immediate_data,
                    header_digest: digest,
                    data_digest: digest,
                    ..Offer::default()
                };
                let terms = data_arrive_unharmed(bench, offer);
                // InitialR2T is the OR of both sides' wishes, ImmediateData the AND.
                assert!(terms.initial_r2t || !initial_r2t);
                assert!(!terms.immediate_data || immediate_data);
                assert_eq!((terms.header_digest, terms.data_digest), (*crc, *crc));
                log_out(bench);
            }
        }
    }
}

/// As many commands as the window takes, again and again: each ends once, and the window opens as they end.
pub fn the_window_opens_as_commands_end(bench: &mut impl Bench) {
    bench.log_in(2, Offer::default());
    calm(bench);
    let full = bench.session().room();
    assert!(full > 0, "a window of nothing");
    let (mut sent, mut ended) = (0, Vec::new());
    while ended.len() < 200 {
        while sent < 200 && bench.session().room() > 0 {
            submit(
                bench,
                sent,
                Cdb::read_16(u64::from(sent), 1),
                from_target(512),
            );
            sent += 1;
        }
        let done = completion(bench);
        assert_eq!((done.status, done.received), (Status::Good, 512));
        ended.push(done.handle.0);
    }
    ended.sort_unstable();
    assert!(ended.iter().copied().eq(0..200), "each command ends once");
    calm(bench);
    assert!(
        bench.session().room() + 1 >= full,
        "the window is open again"
    );
    log_out(bench);
}

/// A login with a living session's ISID ends that session; the new one finds a unit attention and then works.
pub fn a_session_is_reinstated(bench: &mut impl Bench) {
    bench.log_in(3, Offer::default());
    calm(bench);
    bench.log_in(3, Offer::default());
    assert!(bench.has_closed_the_former(), "two sessions with one name");
    assert!(calm(bench) > 0, "a new session finds a unit attention");
    let done = run(bench, Cdb::read_16(0, 8), from_target(4096));
    assert_eq!(done.status, Status::Good);
    log_out(bench);
}

/// ABORT TASK, whether it finds its command or comes too late: the command ends once, the function is answered, and
/// what is written afterwards stays.
pub fn an_aborted_command_ends_once(bench: &mut impl Bench) {
    bench.log_in(4, Offer::default());
    calm(bench);
    for round in 0..8 {
        let (old, new) = (0x40 + round, 0x80 + round);
        bench.buffer(FROM)[..1 << 18].fill(old);
        submit(
            bench,
            1,
            Cdb::write_16(16_384, 512, false),
            to_target(1 << 18),
        );
        let (now, lun) = (bench.now(), bench.lun());
        let (name, function) = (Handle(2), TaskManagementFunction::AbortTask);
        let asked = bench
            .session()
            .manage(now, name, function, lun, Some(Handle(1)));
        assert!(asked, "the command is in flight");
        let (mut ends, mut answers) = (0, 0);
        while (ends, answers) != (1, 1) {
            match bench.event() {
                Event::Completed(done) => {
                    assert!(matches!(done.status, Status::Good | Status::TaskAborted));
                    ends += 1;
                }
                Event::Managed { response, .. } => {
                    assert!(response <= 1, "response {response} to ABORT TASK");
                    answers += 1;
                    // Found no such command: its own answer is on the way.
                }
                other => panic!("{other:?}"),
            }
            assert!(ends <= 1 && answers <= 1);
        }
        bench.buffer(FROM)[..1 << 18].fill(new);
        let done = run(bench, Cdb::write_16(16_384, 512, false), to_target(1 << 18));
        assert_eq!(done.status, Status::Good);
        let done = run(bench, Cdb::read_16(16_384, 512), from_target(1 << 18));
        assert_eq!(done.status, Status::Good);
        let found = &bench.buffer(INTO)[..1 << 18];
        assert!(
            found.iter().all(|byte| *byte == new),
            "the aborted write came back"
        );
    }
    log_out(bench);
}

/// A ping is answered, also while commands are under way.
pub fn pings_are_answered(bench: &mut impl Bench) {
    bench.log_in(5, Offer::default());
    calm(bench);
    for _ in 0..3 {
        submit(bench, 1, Cdb::read_16(0, 128), from_target(65_536));
        let now = bench.now();
        bench.session().ping(now);
        let (mut pong, mut end) = (false, false);
        while !(pong && end) {
            match bench.event() {
                Event::Pong => pong = true,
                Event::Completed(done) => end = done.status == Status::Good,
                other => panic!("{other:?}"),
            }
        }
    }
    log_out(bench);
}

/// Less data than offered is reported as underflow, to the byte.
pub fn residuals_are_exact(bench: &mut impl Bench) {
    bench.log_in(6, Offer::default());
    calm(bench);
    let done = run(bench, Cdb::inquiry(255), from_target(255));
    assert_eq!(done.status, Status::Good);
    assert!(
        (36..255).contains(&done.received),
        "{} bytes",
        done.received
    );
    assert_eq!(done.residual, Residual::Underflow(255 - done.received));
    let done = run(bench, Cdb::read_16(0, 1), from_target(4096));
    assert_eq!((done.status, done.received), (Status::Good, 512));
    assert_eq!(done.residual, Residual::Underflow(4096 - 512));
    log_out(bench);
}

/// Ends the session in order.
fn log_out(bench: &mut impl Bench) {
    let now = bench.now();
    bench.session().logout(now);
    match bench.event() {
        Event::Closed(iscsi_client::session::Closed::LoggedOut) => {}
        other => panic!("{other:?} instead of the end"),
    }
}
