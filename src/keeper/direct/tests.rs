//! The clerk with a clock of the test's and workers that end when the test says so; and the whole on a file.

use crossbeam_channel::{Receiver, bounded, unbounded};
use lockmgr::time::Instant;
use lockmgr::{IoId, WriteOutcome, Writers};

use super::*;

const SLOTS: Range<u64> = 0..1 << 20;
/// In the resources' area.
const REST: u64 = 1 << 20;

struct Desk {
    clerk: Clerk,
    work: Vec<Receiver<Job>>,
    answers: Receiver<Answer>,
}

fn at(seconds: u64) -> Instant {
    Instant::from_nanos(seconds * 1_000_000_000)
}

fn write(number: u64, offset: u64, until: u64) -> Job {
    Job::Write {
        id: IoId::new(number),
        offset,
        bytes: vec![0; 512].into(),
        deadline: at(until),
        writers: Writers::Many,
    }
}

fn read(number: u64, offset: u64, until: u64) -> Job {
    Job::Read {
        id: IoId::new(number),
        offset,
        len: 512,
        deadline: at(until),
    }
}

impl Desk {
    fn new() -> Desk {
        let (hands, work) = (0..LANES).map(|_| bounded(1)).unzip();
        let (tell, answers) = unbounded();
        Desk {
            clerk: Clerk::new(SLOTS, hands, tell),
            work,
            answers,
        }
    }

    /// The number of the job that this lane's worker finds.
    fn starts(&self, lane: usize) -> Option<IoId> {
        self.work[lane].try_recv().ok().map(|job| parts(&job).0)
    }

    /// Everything that the keeper was told, in short.
    fn told(&self) -> Vec<String> {
        let short = |answer| match answer {
            Answer::Read { id, data: Ok(_) } => format!("read {id:?}"),
            Answer::Read { id, data: Err(_) } => format!("no read {id:?}"),
            Answer::Wrote { id, outcome } => format!("{outcome:?} {id:?}"),
            Answer::Fenced { through } => format!("fenced {through:?}"),
            Answer::Settled { id } => format!("settled {id:?}"),
        };
        let plain = |text: String| text.replace("IoId(DiskId(0), ", "").replace(')', "");
        self.answers.try_iter().map(short).map(plain).collect()
    }

    fn wrote(&mut self, seconds: u64, lane: usize, outcome: WriteOutcome) {
        self.clerk.ended(at(seconds), lane, Ended::Wrote(outcome));
    }
}

#[test]
fn a_renewal_does_not_wait_for_a_resource() {
    let mut desk = Desk::new();
    desk.clerk.take(at(0), read(1, REST, 10));
    desk.clerk.take(at(0), read(2, REST, 10));
    desk.clerk.take(at(0), read(3, 0, 10));
    assert_eq!(desk.starts(1), Some(IoId::new(1)));
    assert_eq!(desk.starts(1), None, "one at a time");
    assert_eq!(desk.starts(0), Some(IoId::new(3)));
    desk.clerk.ended(at(1), 1, Ended::Read(Ok(vec![0; 512])));
    assert_eq!(desk.starts(1), Some(IoId::new(2)));
    assert_eq!(desk.told(), ["read 1"]);
}

#[test]
fn a_write_that_hangs_is_unknown_at_its_deadline_and_fenced_when_it_returns() {
    let mut desk = Desk::new();
    desk.clerk.take(at(0), write(1, 0, 10));
    assert_eq!(desk.starts(0), Some(IoId::new(1)));
    desk.clerk.expire(at(9));
    assert_eq!(desk.clerk.poll_timeout(), Some(at(10)));
    assert!(desk.told().is_empty());
    desk.clerk.expire(at(10));
    assert_eq!(desk.told(), ["Unknown 1"]);
    assert_eq!(desk.clerk.poll_timeout(), None);
    // The same bytes once more wait behind it, are never sent, and are no reason for a fence while it hangs.
    desk.clerk.take(at(10), write(2, 0, 20));
    desk.clerk.expire(at(20));
    assert_eq!(desk.told(), ["Unknown 2"]);
    assert_eq!(desk.starts(0), None);
    // It went well after all, but nobody may build on that.
    desk.wrote(500, 0, WriteOutcome::Done);
    assert_eq!(desk.told(), ["fenced 2"]);
}

#[test]
fn the_fence_waits_for_older_writes_of_the_other_worker() {
    let mut desk = Desk::new();
    desk.clerk.take(at(0), write(1, REST, 10));
    desk.clerk.take(at(0), write(2, 0, 10));
    desk.clerk.take(at(0), write(3, REST, 30));
    assert_eq!(desk.starts(1), Some(IoId::new(1)));
    desk.wrote(1, 0, WriteOutcome::Unknown);
    assert_eq!(desk.told(), ["Unknown 2"], "write 1 may still land");
    desk.wrote(2, 1, WriteOutcome::Done);
    assert_eq!(desk.told(), ["Done 1", "fenced 2"]);
    desk.wrote(3, 1, WriteOutcome::Done);
    assert_eq!(desk.told(), ["Done 3"]);
}

#[test]
fn an_error_is_unknown_and_over() {
    let mut desk = Desk::new();
    desk.clerk.take(at(0), write(1, 0, 10));
    desk.wrote(1, 0, WriteOutcome::Unknown);
    assert_eq!(desk.told(), ["Unknown 1", "fenced 1"]);
}

#[test]
fn what_is_late_before_it_starts_is_never_sent() {
    let mut desk = Desk::new();
    desk.clerk.take(at(10), write(1, 0, 10));
    desk.clerk.take(at(10), read(2, 0, 10));
    assert_eq!(desk.starts(0), None);
    assert_eq!(desk.told(), ["Unknown 1", "fenced 1", "no read 2"]);
}

#[test]
fn a_read_that_comes_late_is_not_told_twice() {
    let mut desk = Desk::new();
    desk.clerk.take(at(0), read(1, 0, 10));
    assert_eq!(desk.starts(0), Some(IoId::new(1)));
    desk.clerk.take(at(5), read(2, 0, 15));
    desk.clerk.expire(at(11));
    assert_eq!(desk.told(), ["no read 1"]);
    desk.clerk.ended(at(12), 0, Ended::Read(Ok(vec![0; 512])));
    assert!(desk.told().is_empty());
    assert_eq!(desk.starts(0), Some(IoId::new(2)));
}

#[test]
fn a_file_is_written_and_read_and_never_grows() {
    // On a file system with direct I/O: that of the build.
    let program = std::env::current_exe().unwrap();
    let dir = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
    let path = dir.path().join("leases");
    std::fs::write(&path, vec![7; 2 << 20]).unwrap();
    let (tell, answers) = unbounded();
    let mut disk = DirectLeases::open(&path, SLOTS, tell).unwrap();
    let later = now() + std::time::Duration::from_secs(3600);
    let id = IoId::new(1);
    disk.start(Job::Write {
        id,
        offset: 512,
        bytes: vec![9; 512].into(),
        deadline: later,
        writers: Writers::Many,
    });
    assert!(matches!(
        answers.recv().unwrap(),
        Answer::Wrote {
            outcome: WriteOutcome::Done,
            ..
        }
    ));
    disk.start(Job::Read {
        id: IoId::new(2),
        offset: 0,
        len: 1024,
        deadline: later,
    });
    let Answer::Read { data: Ok(data), .. } = answers.recv().unwrap() else {
        panic!("it was read");
    };
    assert_eq!((data[511], data[512], data[1023]), (7, 9, 9));
    let id = IoId::new(3);
    disk.start(Job::Write {
        id,
        offset: 2 << 20,
        bytes: vec![9; 512].into(),
        deadline: later,
        writers: Writers::Many,
    });
    assert!(matches!(
        answers.recv().unwrap(),
        Answer::Wrote {
            outcome: WriteOutcome::Unknown,
            ..
        }
    ));
    assert!(matches!(
        answers.recv().unwrap(),
        Answer::Fenced { through } if through == id
    ));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 2 << 20);
}

#[test]
fn its_threads_end_with_it() {
    let program = std::env::current_exe().unwrap();
    let dir = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
    let path = dir.path().join("leases");
    std::fs::write(&path, vec![0; 1 << 20]).unwrap();
    let (tell, answers) = unbounded();
    let disk = DirectLeases::open(&path, SLOTS, tell).unwrap();
    drop(disk);
    // Who could still answer would hold the other end.
    let last = answers.recv_timeout(std::time::Duration::from_secs(60));
    assert_eq!(
        last.unwrap_err(),
        crossbeam_channel::RecvTimeoutError::Disconnected
    );
}
