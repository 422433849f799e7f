//! What SCHEDULING section 6.8 claims of late binding, on the model. Limits leave room for rounding, not for another
//! policy.

use super::model::{GIGABIT, Job, Link, Outcome, run};
use super::*;

const KIB: u32 = 1024;
const MIB: u32 = 1024 * KIB;
const DM: [PolicyKind; 3] = [
    PolicyKind::RoundRobin,
    PolicyKind::QueueLength,
    PolicyKind::ServiceTime,
];
const FASTER: Link = Link {
    rate: GIGABIT * 5 / 2,
    ..Link::GIGABIT
};
const SLOW: Link = Link {
    rate: GIGABIT / 10,
    ..Link::GIGABIT
};
const FAR: Link = Link {
    round_trip_us: 5200,
    ..Link::GIGABIT
};
const DISK: Link = Link {
    medium_us: 5000,
    ..Link::GIGABIT
};
const LOSSY: Link = Link {
    loss: 100,
    ..Link::GIGABIT
};

fn read(len: u32, depth: usize) -> Job {
    Job {
        direction: Direction::Read,
        len,
        depth,
    }
}

fn late(links: &[Link], job: Job, millis: u64) -> Outcome {
    run(PolicyKind::LateBinding, links, &[job], millis).remove(0)
}

/// The best throughput of dm-multipath's policies, MiB/s.
fn dm(links: &[Link], job: Job, millis: u64) -> f64 {
    DM.iter()
        .map(|&kind| run(kind, links, &[job], millis)[0].mib())
        .fold(0.0, f64::max)
}

#[test]
fn one_large_request_uses_both_links() {
    for (len, least) in [(MIB, 1.8), (128 * KIB, 1.5)] {
        for direction in [Direction::Read, Direction::Write] {
            let job = Job {
                direction,
                len,
                depth: 1,
            };
            let single = late(&[Link::GIGABIT], job, 500).mib();
            let both = late(&[Link::GIGABIT; 2], job, 500).mib();
            assert!(both >= least * single, "{len}: {single:.0} -> {both:.0}");
        }
    }
}

#[test]
fn unequal_links_add_up() {
    let links = [Link::GIGABIT, FASTER];
    let dm = dm(&links, read(MIB, 1), 500);
    let both = late(&links, read(MIB, 1), 500).mib();
    // The two have 393 MiB/s together; the fast one alone needs 4 ms for the request.
    assert!(both >= 330.0, "{both:.0}");
    assert!(both >= 1.5 * dm, "{dm:.0} -> {both:.0}");
}

#[test]
fn small_requests_do_not_wait_behind_bulk() {
    let links = [Link::GIGABIT; 2];
    let jobs = [read(4 * KIB, 1), read(MIB, 4)];
    let dm = DM.map(|kind| run(kind, &links, &jobs, 1000));
    let small = dm.iter().map(|of| of[0].mean()).min().expect("three");
    let bulk = dm.iter().map(|of| of[1].mib()).fold(0.0, f64::max);
    let late = run(PolicyKind::LateBinding, &links, &jobs, 1000);
    assert!(
        late[0].mean() * 4 <= small,
        "{small:?} -> {:?}",
        late[0].mean()
    );
    assert!(
        late[1].mib() >= 0.98 * bulk,
        "{bulk:.0} -> {:.0}",
        late[1].mib()
    );
}

#[test]
fn a_far_or_lossy_second_path_costs_nothing() {
    for bad in [FAR, LOSSY] {
        for len in [4 * KIB, 128 * KIB, MIB] {
            let job = read(len, 1);
            let alone = late(&[Link::GIGABIT], job, 3000);
            for links in [[Link::GIGABIT, bad], [bad, Link::GIGABIT]] {
                let both = late(&links, job, 3000);
                let limit = alone.mean() + alone.mean() / 20;
                assert!(both.mean() <= limit, "{len}: {:?}", both.mean());
                // Nothing waits for TCP's retransmission.
                let worst = both.quantile(0.999);
                assert!(worst < Duration::from_millis(30), "{len}: {worst:?}");
            }
        }
    }
}

#[test]
fn saturated_links_stay_saturated() {
    // Links, and milliseconds for the smallest requests: the window that a far path or a slow medium needs must be found.
    for (links, millis) in [
        ([Link::GIGABIT; 2], 200),
        ([Link::GIGABIT, FASTER], 200),
        ([SLOW; 2], 200),
        ([Link::GIGABIT, FAR], 600),
        ([DISK; 2], 600),
    ] {
        for job in [
            read(4 * KIB, 256),
            read(64 * KIB, 64),
            read(128 * KIB, 32),
            read(MIB, 16),
        ] {
            // Long enough that a request more or less at its edge is no matter.
            let millis = match job.len {
                4096 => millis,
                MIB => 10_000,
                _ => 1500,
            };
            let dm = dm(&links, job, millis);
            let late = late(&links, job, millis).mib();
            assert!(late >= 0.98 * dm, "{}: {dm:.0} -> {late:.0}", job.len);
        }
    }
}
