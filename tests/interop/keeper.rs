//! The keeper's own sessions: lease sectors through two portals of a real target, one of which fails.

use std::time::{Duration, Instant as Clock};

use crossbeam_channel::{Receiver, unbounded};
use iscsi_client::login::{Credentials, Offer};
use iscsi_client::wire::{Lun, Tpgt};
use lockmgr::time::Instant;
use lockmgr::{IoId, ReadFailed, WriteOutcome, Writers};
use sanblk::host;
use sanblk::keeper::disk::{Answer, Job, LeaseDisk};
use sanblk::keeper::san::{PortalPicture, PortalState, SanConfig, SanDisk, SanPortal};

use super::client::{Client, parameters};
use super::pattern;
use super::proxy::Proxy;
use super::tgtd::{DISK_LEN, TARGET, Tgtd};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of the lockspace.
const IO_TIMEOUT: Duration = Duration::from_secs(4);
const SECTOR: usize = 512;

/// A keeper with its disk.
struct Keeper {
    disk: SanDisk,
    answers: Receiver<Answer>,
    last: u64,
}

impl Keeper {
    /// With a proxy before each portal.
    fn join(target: &Tgtd) -> (Keeper, [Proxy; 2]) {
        Keeper::join_as(target, None)
    }

    fn join_as(target: &Tgtd, credentials: Option<Credentials>) -> (Keeper, [Proxy; 2]) {
        let proxies = target.portals.map(Proxy::to);
        let portals = proxies.each_ref().map(|proxy| SanPortal {
            name: proxy.address.to_string(),
            address: proxy.address,
            interface: None,
            portal_group: Some(Tpgt(1)),
        });
        let login = parameters(0xfe, Offer::default(), credentials.clone());
        let initiator_name = login.initiator_name.clone();
        let mut client = Client::login(target.portals[0], login).expect("logs in");
        let config = SanConfig {
            portals: portals.to_vec(),
            target: TARGET.into(),
            lun: Lun::from_number(1).expect("a small number"),
            initiator_name,
            credentials,
            offer: Offer::default(),
            description: client.describe(),
            lockspace: b"test".to_vec(),
            taken: vec![],
            io_timeout: IO_TIMEOUT,
        };
        client.logout();
        let (tell, answers) = unbounded();
        let disk = SanDisk::open(config, tell).expect("a thread");
        let keeper = Keeper {
            disk,
            answers,
            last: 0,
        };
        (keeper, proxies)
    }

    fn id(&mut self) -> IoId {
        self.last += 1;
        IoId::new(self.last)
    }

    fn answer(&self) -> Answer {
        self.answers.recv_timeout(PATIENCE).expect("an answer")
    }

    fn start_write(&mut self, offset: u64, bytes: &[u8]) -> IoId {
        let id = self.id();
        self.disk.start(Job::Write {
            id,
            offset,
            bytes: bytes.into(),
            deadline: deadline(),
            writers: Writers::Many,
        });
        id
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> WriteOutcome {
        let id = self.start_write(offset, bytes);
        self.wrote(id)
    }

    fn wrote(&self, id: IoId) -> WriteOutcome {
        match self.answer() {
            Answer::Wrote { id: of, outcome } if of == id => outcome,
            other => panic!("{other:?} instead of the end of write {id:?}"),
        }
    }

    /// Waits for the proof that a write is over.
    fn fenced(&self, id: IoId) {
        match self.answer() {
            Answer::Fenced { through } => assert_eq!(through, id),
            other => panic!("{other:?} instead of a fence"),
        }
    }

    fn read(&mut self, offset: u64, len: usize) -> Result<Vec<u8>, ReadFailed> {
        let id = self.id();
        self.disk.start(Job::Read {
            id,
            offset,
            len,
            deadline: deadline(),
        });
        match self.answer() {
            Answer::Read { id: of, data } if of == id => data,
            other => panic!("{other:?} instead of read {id:?}"),
        }
    }

    /// Waits until the portals are as wanted.
    fn until(&self, what: &str, mut wanted: impl FnMut(&[PortalPicture]) -> bool) {
        let end = Clock::now() + PATIENCE;
        loop {
            let picture = self.disk.view().status();
            if wanted(&picture) {
                return;
            }
            assert!(Clock::now() < end, "{what}: {picture:#?}");
            std::thread::yield_now();
        }
    }

    fn both_up(&self) {
        self.until("both portals", |portals| {
            portals.len() == 2
                && portals
                    .iter()
                    .all(|portal| matches!(portal.state, PortalState::Up { .. }))
        });
    }

    fn current(&self) -> usize {
        let mut found = None;
        self.until("a current portal", |portals| {
            found = portals
                .iter()
                .position(|portal| portal.state == PortalState::Up { current: true });
            found.is_some()
        });
        found.expect("just found")
    }
}

fn deadline() -> Instant {
    Instant::from_nanos(host::now().nanos()) + IO_TIMEOUT
}

/// What the disk really has, asked on a session of one's own.
fn on_disk(target: &Tgtd, offset: u64) -> Vec<u8> {
    let login = parameters(0xfd, Offer::default(), None);
    let mut client = Client::login(target.portals[1], login).expect("logs in");
    let bytes = client.read(offset / SECTOR as u64, SECTOR as u32);
    client.logout();
    bytes
}

#[test]
fn sectors_and_areas() {
    let target = Tgtd::start(&[]);
    let (mut keeper, _proxies) = Keeper::join(&target);
    let sector = pattern(1, SECTOR);
    let offset = 7 * SECTOR as u64;
    assert_eq!(keeper.write(offset, &sector), WriteOutcome::Done);
    assert_eq!(keeper.read(offset, SECTOR), Ok(sector.clone()));
    assert_eq!(on_disk(&target, offset), sector);
    // An area is many pieces.
    let area = keeper.read(0, 1 << 20).expect("an area");
    assert_eq!(area.len(), 1 << 20);
    assert_eq!(area[offset as usize..][..SECTOR], sector);
    assert!(
        area[offset as usize + SECTOR..]
            .iter()
            .all(|byte| *byte == 0)
    );
    keeper.both_up();
}

#[test]
fn what_does_not_fit_is_refused_and_over() {
    let target = Tgtd::start(&[]);
    let (mut keeper, _proxies) = Keeper::join(&target);
    for (offset, len) in [
        (1, SECTOR),
        (0, SECTOR - 1),
        (DISK_LEN, SECTOR),
        (u64::MAX - 511, SECTOR),
        (0, 0),
    ] {
        assert_eq!(keeper.read(offset, len), Err(ReadFailed), "{offset} {len}");
        let id = keeper.start_write(offset, &vec![0xff; len]);
        assert_eq!(keeper.wrote(id), WriteOutcome::Unknown);
        keeper.fenced(id);
    }
}

#[test]
fn a_write_on_a_lost_session_is_fenced_through_the_other_portal() {
    let target = Tgtd::start(&[]);
    let (mut keeper, proxies) = Keeper::join(&target);
    keeper.both_up();
    assert_eq!(keeper.write(0, &pattern(1, SECTOR)), WriteOutcome::Done);
    let current = keeper.current();
    proxies[current].hold();
    let id = keeper.start_write(SECTOR as u64, &pattern(2, SECTOR));
    proxies[current].go_down();
    assert_eq!(keeper.wrote(id), WriteOutcome::Unknown);
    keeper.fenced(id);
    // The other portal serves.
    assert_eq!(keeper.read(0, SECTOR), Ok(pattern(1, SECTOR)));
    let newer = pattern(3, SECTOR);
    assert_eq!(keeper.write(SECTOR as u64, &newer), WriteOutcome::Done);
    assert_eq!(on_disk(&target, SECTOR as u64), newer);
    assert_ne!(keeper.current(), current);
    // And the first comes back.
    proxies[current].come_back();
    keeper.both_up();
}

#[test]
fn what_a_silent_portal_kept_is_dead_when_it_speaks_again() {
    let target = Tgtd::start(&[]);
    let (mut keeper, proxies) = Keeper::join(&target);
    keeper.both_up();
    assert_eq!(keeper.write(0, &pattern(1, SECTOR)), WriteOutcome::Done);
    let current = keeper.current();
    // The bytes arrive, and are acknowledged by TCP, but nobody looks at them: as in a target's receive buffer.
    proxies[current].hold();
    let id = keeper.start_write(0, &pattern(2, SECTOR));
    assert_eq!(keeper.wrote(id), WriteOutcome::Unknown);
    keeper.fenced(id);
    let newer = pattern(3, SECTOR);
    assert_eq!(keeper.write(0, &newer), WriteOutcome::Done);
    proxies[current].come_back();
    keeper.both_up();
    assert_eq!(on_disk(&target, 0), newer, "the old write came late");
}

#[test]
fn with_all_portals_silent_the_return_is_the_fence() {
    let target = Tgtd::start(&[]);
    let (mut keeper, proxies) = Keeper::join(&target);
    keeper.both_up();
    for proxy in &proxies {
        proxy.hold();
    }
    let id = keeper.start_write(0, &pattern(2, SECTOR));
    assert_eq!(keeper.wrote(id), WriteOutcome::Unknown);
    for proxy in &proxies {
        proxy.come_back();
    }
    keeper.fenced(id);
    let newer = pattern(3, SECTOR);
    assert_eq!(keeper.write(0, &newer), WriteOutcome::Done);
    keeper.both_up();
    assert_eq!(on_disk(&target, 0), newer, "the old write came late");
}

#[test]
fn a_target_that_wants_chap() {
    let target = Tgtd::start(&[]);
    target.incoming_account("us", "our secret of 96 bits");
    let credentials = Credentials {
        name: "us".into(),
        secret: "our secret of 96 bits".into(),
        mutual: None,
        md5_only: false,
    };
    let (mut keeper, _proxies) = Keeper::join_as(&target, Some(credentials));
    assert_eq!(keeper.write(0, &pattern(1, SECTOR)), WriteOutcome::Done);
    assert_eq!(keeper.read(0, SECTOR), Ok(pattern(1, SECTOR)));
}

#[test]
fn reads_move_while_a_portal_is_silent() {
    let target = Tgtd::start(&[]);
    let (mut keeper, proxies) = Keeper::join(&target);
    keeper.both_up();
    assert_eq!(keeper.write(0, &pattern(1, SECTOR)), WriteOutcome::Done);
    proxies[keeper.current()].go_silent();
    assert_eq!(keeper.read(0, SECTOR), Ok(pattern(1, SECTOR)));
}

#[test]
fn without_a_portal_nothing_is_sent_and_nothing_is_in_doubt() {
    let target = Tgtd::start(&[]);
    let (mut keeper, proxies) = Keeper::join(&target);
    keeper.both_up();
    for proxy in &proxies {
        proxy.go_down();
    }
    keeper.until("no portal", |portals| {
        portals
            .iter()
            .all(|portal| !matches!(portal.state, PortalState::Up { .. }))
    });
    let id = keeper.start_write(0, &pattern(1, SECTOR));
    assert_eq!(keeper.wrote(id), WriteOutcome::Unknown);
    keeper.fenced(id);
    assert_eq!(keeper.read(0, SECTOR), Err(ReadFailed));
    for proxy in &proxies {
        proxy.come_back();
    }
    keeper.both_up();
    assert_eq!(keeper.read(0, SECTOR), Ok(vec![0; SECTOR]));
}
