//! How long the renewals of a lockspace would take on a volume that sanblk carries, as fast as they are asked for: 512 bytes
//! again and again to one sector, through sessions of the keeper's own, while the data path does what it does. For `cargo lab
//! bench leases`.
//!
//! ```text
//! renewals TARGET LUN OFFSET COUNT PAUSE_MS PORTAL...
//! ```
//!
//! OVERWRITES the 512 bytes at OFFSET of the LUN. COUNT renewals are asked for, or more, one each PAUSE_MS, or when the one
//! before is done. Each counts from when it is asked for: what it waits for because a copy of the one before may still land
//! is its own. `write` is what it takes without that.
//!
//! Each line on standard input is a wish for a fault: as soon as all portals are up, the one that the renewals go through is
//! printed, so that it can be cut. When the input has ended and COUNT is reached, one line of JSON follows, in milliseconds:
//! percentiles, and the slowest renewal after each fault.

use std::io::BufRead;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError, unbounded};
use iscsi_client::login::Offer;
use lockmgr::{IoId, WriteOutcome, Writers};
use sanblk::connection::Place;
use sanblk::host;
use sanblk::keeper::disk::{Answer, Job, LeaseDisk};
use sanblk::keeper::san::{PortalState, SanConfig, SanDisk, SanPortal};
use sanblk::probe::{self, Question};

const INITIATOR: &str = "iqn.2026-01.lab.sanblk:renewals";
const SECTOR: usize = 512;
const IO_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

type Failure = Box<dyn std::error::Error>;

struct Wanted {
    target: String,
    lun: u16,
    offset: u64,
    count: u64,
    pause: Duration,
    portals: Vec<std::net::SocketAddr>,
}

fn main() -> ExitCode {
    match wanted().and_then(|wanted| measure(&wanted)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("renewals: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn wanted() -> Result<Wanted, Failure> {
    let mut words = std::env::args().skip(1);
    let mut next = |what: &str| words.next().ok_or_else(|| format!("{what} is missing"));
    Ok(Wanted {
        target: next("TARGET")?,
        lun: next("LUN")?.parse()?,
        offset: next("OFFSET")?.parse()?,
        count: next("COUNT")?.parse()?,
        pause: Duration::from_millis(next("PAUSE_MS")?.parse()?),
        portals: words
            .map(|word| word.parse())
            .collect::<Result<Vec<_>, _>>()?,
    })
}

fn open(wanted: &Wanted) -> Result<(SanDisk, Receiver<Answer>), Failure> {
    let question = Question {
        initiator_name: INITIATOR.into(),
        credentials: None,
        offer: Offer::default(),
        target: wanted.target.clone(),
        lun: Some(wanted.lun),
    };
    let first = Place::of(*wanted.portals.first().ok_or("PORTAL is missing")?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let shown = runtime.block_on(probe::ask(&question, &first))?;
    let unit = shown.units.into_iter().next().ok_or("no such LUN")?;
    let description = unit.what.map_err(|failure| failure.to_string())?;
    let portal = |address: &std::net::SocketAddr| SanPortal {
        name: address.to_string(),
        address: *address,
        interface: Place::of(*address).interface,
        portal_group: shown.portal_group,
    };
    let (tell, answers) = unbounded();
    let config = SanConfig {
        portals: wanted.portals.iter().map(portal).collect(),
        target: wanted.target.clone(),
        lun: unit.lun,
        initiator_name: INITIATOR.into(),
        credentials: None,
        offer: Offer::default(),
        description,
        lockspace: b"renewals".to_vec(),
        taken: vec![],
        io_timeout: IO_TIMEOUT,
    };
    Ok((SanDisk::open(config, tell)?, answers))
}

/// A message for each line of standard input, and an end at its end.
fn cues() -> Receiver<()> {
    let (tell, cues) = unbounded();
    std::thread::spawn(move || {
        let lines = std::io::stdin().lock().lines();
        lines
            .map_while(Result::ok)
            .try_for_each(|_| tell.send(()).ok())
    });
    cues
}

/// The portal that renewals go through, if all are up.
fn current(disk: &SanDisk, portals: usize) -> Option<String> {
    let status = disk.view().status();
    let up = |state| matches!(state, PortalState::Up { .. });
    let all = status.len() == portals && status.iter().all(|portal| up(portal.state));
    let through = |state| state == PortalState::Up { current: true };
    let portal = status.into_iter().find(|portal| through(portal.state));
    portal.filter(|_| all).map(|portal| portal.portal)
}

/// What the renewals took.
#[derive(Default)]
struct Took {
    /// From when each was asked for.
    all: Vec<Duration>,
    /// From when its write began.
    write: Vec<Duration>,
    /// The slowest one after each fault, from when it was asked for, and its write.
    hit: Vec<Duration>,
    hit_write: Vec<Duration>,
    /// How many were sent twice.
    twice: u64,
}

impl Took {
    fn add(&mut self, all: Duration, write: Duration) {
        self.all.push(all);
        self.write.push(write);
        for (slowest, took) in [(&mut self.hit, all), (&mut self.hit_write, write)] {
            if let Some(slowest) = slowest.last_mut() {
                *slowest = took.max(*slowest);
            }
        }
    }

    fn json(mut self) -> String {
        let list = |took: &[Duration]| {
            let each: Vec<String> = took
                .iter()
                .map(|took| format!("{:.3}", ms(*took)))
                .collect();
            each.join(",")
        };
        let (hit, hit_write) = (list(&self.hit), list(&self.hit_write));
        self.all.sort();
        self.write.sort();
        format!(
            "{{\"count\":{},\"twice\":{},\"ms\":{:.3},\"p99_ms\":{:.3},\"p999_ms\":{:.3},\"worst_ms\":{:.3},\
             \"write_p999_ms\":{:.3},\"hit_ms\":[{hit}],\"hit_write_ms\":[{hit_write}]}}",
            self.all.len(),
            self.twice,
            at(&self.all, 500),
            at(&self.all, 990),
            at(&self.all, 999),
            at(&self.all, 1000),
            at(&self.write, 999),
        )
    }
}

fn ms(of: Duration) -> f64 {
    of.as_secs_f64() * 1e3
}

/// The smallest of these that so many in a thousand do not exceed; they are sorted.
fn at(took: &[Duration], per_mille: usize) -> f64 {
    let rank = (took.len() * per_mille).div_ceil(1000);
    took.get(rank.saturating_sub(1))
        .map_or(0.0, |took| ms(*took))
}

fn measure(wanted: &Wanted) -> Result<(), Failure> {
    let cues = cues();
    let (mut disk, answers) = open(wanted)?;
    let began = Instant::now();
    while current(&disk, wanted.portals.len()).is_none() {
        if began.elapsed() > PATIENCE {
            return Err("not all portals came up".into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // A session that is lost as soon as it is made is not made again at once.
    std::thread::sleep(Duration::from_secs(2));
    let mut took = Took::default();
    let (mut wished, mut more) = (false, true);
    let mut over = true;
    let mut asked = Instant::now();
    for number in 1.. {
        if !wished {
            match cues.try_recv() {
                Ok(()) => wished = true,
                Err(TryRecvError::Disconnected) => more = false,
                Err(TryRecvError::Empty) => {}
            }
        }
        if wished && let Some(portal) = current(&disk, wanted.portals.len()) {
            println!("{portal}");
            took.hit.push(Duration::ZERO);
            took.hit_write.push(Duration::ZERO);
            wished = false;
        }
        if !more && number > wanted.count {
            break;
        }
        let (before, id) = (IoId::new(number - 1), IoId::new(number));
        // Something different is written only when no copy of the older can land.
        while !over {
            over = match answers.recv_timeout(PATIENCE)? {
                Answer::Settled { id } => id == before,
                Answer::Fenced { through } => through >= before,
                _ => false,
            };
        }
        let began = Instant::now();
        disk.start(Job::Write {
            id,
            offset: wanted.offset,
            bytes: number.to_be_bytes().repeat(SECTOR / 8).into(),
            deadline: lockmgr::time::Instant::from_nanos(host::now().nanos()) + IO_TIMEOUT,
            writers: Writers::One,
        });
        loop {
            match answers.recv_timeout(PATIENCE)? {
                Answer::Wrote { id: of, outcome } if of == id => {
                    if outcome == WriteOutcome::Unknown {
                        return Err(format!("renewal {number} was lost").into());
                    }
                    over = outcome == WriteOutcome::Done;
                    took.twice += u64::from(!over);
                    break;
                }
                _ => {}
            }
        }
        took.add(asked.elapsed(), began.elapsed());
        asked += wanted.pause;
        let now = Instant::now();
        if asked > now {
            std::thread::sleep(asked - now);
        } else {
            asked = now;
        }
    }
    println!("{}", took.json());
    Ok(())
}
