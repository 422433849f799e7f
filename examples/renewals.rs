//! How long the renewals of a lockspace would take on a volume that sanblk carries, as fast as they are asked for: 512 bytes
//! again and again to one sector, through sessions of the keeper's own, while the data path does what it does. For `cargo lab
//! bench leases`.
//!
//! ```text
//! renewals TARGET LUN OFFSET COUNT PAUSE_MS PORTAL...
//! ```
//!
//! OVERWRITES the 512 bytes at OFFSET of the LUN. COUNT renewals are asked for, one each PAUSE_MS, or when the one before is
//! done. Each counts from when it is asked for: what it waits for because a copy of the one before may still land is its own.
//! After half of them the portal that they go through is printed, so that it can be cut; at the end one line of JSON, in
//! milliseconds.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
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

fn measure(wanted: &Wanted) -> Result<(), Failure> {
    let (mut disk, answers) = open(wanted)?;
    let began = Instant::now();
    let up = |state| matches!(state, PortalState::Up { .. });
    while !disk.view().status().iter().all(|portal| up(portal.state))
        || disk.view().status().len() != wanted.portals.len()
    {
        if began.elapsed() > PATIENCE {
            return Err("not all portals came up".into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // A session that is lost as soon as it is made is not made again at once.
    std::thread::sleep(Duration::from_secs(2));
    let (mut took, mut twice) = (Vec::new(), 0u64);
    let mut over = true;
    let mut asked = Instant::now();
    for number in 1..=wanted.count {
        if number == wanted.count / 2 {
            let current = PortalState::Up { current: true };
            let status = disk.view().status();
            let portal = status.iter().find(|portal| portal.state == current);
            println!("{}", portal.ok_or("no portal is current")?.portal);
        }
        // Something different is written only when no copy of the older can land.
        while !over {
            over = matches!(
                answers.recv_timeout(PATIENCE)?,
                Answer::Settled { .. } | Answer::Fenced { .. }
            );
        }
        let id = IoId::new(number);
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
                    twice += u64::from(!over);
                    break;
                }
                _ => {}
            }
        }
        took.push(asked.elapsed());
        asked += wanted.pause;
        let now = Instant::now();
        if asked > now {
            std::thread::sleep(asked - now);
        } else {
            asked = now;
        }
    }
    took.sort();
    let ms = |of: Duration| of.as_secs_f64() * 1e3;
    let at = |per_mille: usize| ms(took[(took.len() * per_mille / 1000).min(took.len() - 1)]);
    println!(
        "{{\"count\":{},\"twice\":{twice},\"ms\":{:.3},\"p99_ms\":{:.3},\"p999_ms\":{:.3},\"worst_ms\":{:.3}}}",
        took.len(),
        at(500),
        at(990),
        at(999),
        ms(*took.last().ok_or("nothing was measured")?)
    );
    Ok(())
}
