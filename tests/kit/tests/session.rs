//! The initiator's session against the simulated target: every agreement the two can reach moves data both
//! ways unharmed, and nothing the target says against the RFC goes unnoticed.

use core::time::Duration;

use iscsi_client::login::{DigestPreference, Offer};
use iscsi_client::memory::BufferId;
use iscsi_client::scsi::{Cdb, SenseKey, Status};
use iscsi_client::session::{Closed, Event};
use kit::disk::{Code, Fault, Injection, LunConfig, Select};
use kit::pair::{self, BUFFER_LEN, BUFFERS, Pair, read, write};
use kit::prng::{Prng, Replay, seeds};
use kit::target::{BUGS, Bug, Digests, Limits, TargetConfig};

/// Writes random ranges with many commands in flight and reads them back.
fn exercise(pair: &mut Pair, prng: &mut Prng, block: u32) {
    pair.calm();
    let lens: Vec<u32> = (0..8)
        .map(|_| block * prng.between(1, 300_000 / u64::from(block)) as u32)
        .collect();
    let data: Vec<Vec<u8>> = lens.iter().map(|len| prng.bytes(*len as usize)).collect();
    let start = |index: usize| index as u64 * 4096;
    let writes: Vec<_> = (0..lens.len())
        .map(|index| {
            pair.memory.of(BufferId(index as u16))[..lens[index] as usize]
                .copy_from_slice(&data[index]);
            let cdb = Cdb::write_16(start(index), lens[index] / block, prng.percent(20));
            pair.submit(cdb, write(index as u16, lens[index]))
        })
        .collect();
    for handle in writes {
        let done = pair.wait(handle).expect("the write ends");
        assert_eq!(done.status, Status::Good);
    }
    let reads: Vec<_> = (0..lens.len())
        .map(|index| {
            let buffer = (BUFFERS / 2 + index) as u16;
            pair.submit(
                Cdb::read_16(start(index), lens[index] / block),
                read(buffer, lens[index]),
            )
        })
        .collect();
    for (index, handle) in reads.into_iter().enumerate() {
        let done = pair.wait(handle).expect("the read ends");
        assert_eq!((done.status, done.received), (Status::Good, lens[index]));
        let buffer = pair.memory.of(BufferId((BUFFERS / 2 + index) as u16));
        assert!(
            buffer[..lens[index] as usize] == data[index],
            "read {index} of {} bytes",
            lens[index]
        );
    }
}

fn log_out(pair: &mut Pair) {
    let now = pair.now();
    pair.session.logout(now);
    assert_eq!(
        pair.until_closed(Duration::from_secs(10)),
        Some(Closed::LoggedOut)
    );
    assert_eq!(pair.world.target.violations(), []);
}

#[test]
fn every_agreement_moves_data_both_ways() {
    let preferences = [
        DigestPreference::PreferNone,
        DigestPreference::PreferCrc32c,
        DigestPreference::RequireCrc32c,
    ];
    let mut seed = 0;
    for (initial_r2t, immediate_data) in
        [(false, false), (false, true), (true, false), (true, true)]
    {
        for header_digest in preferences {
            for data_digest in preferences {
                seed += 1;
                let mut prng = Prng::new(seed);
                let burst = prng.pick(&[512, 8192, 65_536, 262_144]);
                let offer = Offer {
                    header_digest,
                    data_digest,
                    max_recv_data_segment_length: prng.pick(&[512, 4096, 8192, 262_144]),
                    max_burst_length: prng.pick(&[4096, 65_536, 16_776_192]),
                    first_burst_length: 4096,
                    max_outstanding_r2t: prng.pick(&[1, 8]),
                    initial_r2t,
                    immediate_data,
                };
                let target = TargetConfig {
                    limits: Limits {
                        max_recv_data_segment_length: prng.pick(&[
                            None,
                            Some(512),
                            Some(4096),
                            Some(65_536),
                        ]),
                        max_burst_length: burst,
                        first_burst_length: prng.pick(&[512, burst]),
                        max_outstanding_r2t: prng.pick(&[1, 3, 16]),
                        initial_r2t: prng.percent(20),
                        immediate_data: prng.percent(80),
                        window: prng.pick(&[16, 64]),
                        ..Limits::default()
                    },
                    ..TargetConfig::default()
                };
                let _replay = Replay::of(seed, &format!("{offer:?} {:?}", target.limits));
                let block = prng.pick(&[512, 4096]);
                let unit = LunConfig {
                    block_size: block,
                    ..LunConfig::default()
                };
                let config = pair::login(&target, offer);
                let mut pair = Pair::new(seed, target, unit, config);
                pair.establish();
                let terms = pair
                    .world
                    .target
                    .terms(pair.conn())
                    .expect("a session")
                    .clone();
                let agreed = pair.session.negotiated().expect("established").clone();
                assert_eq!(terms.header_digest, agreed.header_digest);
                assert_eq!(terms.data_digest, agreed.data_digest);
                assert_eq!(
                    terms.max_recv_data_segment_length,
                    agreed.max_send_data_segment_length
                );
                assert_eq!(
                    terms.max_send_data_segment_length,
                    agreed.max_recv_data_segment_length
                );
                assert_eq!(terms.max_burst_length, agreed.max_burst_length);
                assert_eq!(terms.first_burst_length, agreed.first_burst_length);
                assert_eq!(terms.max_outstanding_r2t, agreed.max_outstanding_r2t);
                assert_eq!(terms.initial_r2t, agreed.initial_r2t);
                assert_eq!(terms.immediate_data, agreed.immediate_data);
                exercise(&mut pair, &mut prng, block);
                log_out(&mut pair);
            }
        }
    }
}

fn pair_with(seed: u64, target: TargetConfig, offer: Offer) -> Pair {
    let config = pair::login(&target, offer);
    let mut pair = Pair::new(seed, target, LunConfig::default(), config);
    pair.establish();
    pair
}

#[test]
fn each_way_of_sending_data_is_really_used() {
    let offer = Offer {
        max_burst_length: 65_536,
        first_burst_length: 16_384,
        ..Offer::default()
    };
    let run = |initial_r2t, immediate_data| {
        let target = TargetConfig {
            limits: Limits {
                initial_r2t,
                immediate_data,
                max_recv_data_segment_length: Some(8192),
                ..Limits::default()
            },
            ..TargetConfig::default()
        };
        let mut pair = pair_with(1, target, offer.clone());
        pair.calm();
        let done = pair.command(Cdb::write_16(0, 256, false), write(0, 256 * 512));
        assert_eq!(done.status, Status::Good);
        let counters = pair.world.target.counters();
        log_out(&mut pair);
        (
            counters.immediate_bytes,
            counters.unsolicited_bytes,
            counters.r2ts,
        )
    };
    // 131072 bytes: what is not sent unasked comes in bursts of 65536.
    assert_eq!(run(true, false), (0, 0, 2));
    assert_eq!(run(true, true), (8192, 0, 2));
    assert_eq!(run(false, false), (0, 16_384, 2));
    assert_eq!(run(false, true), (8192, 8192, 2));
}

#[test]
fn many_seeds_of_random_terms() {
    for seed in seeds(150) {
        let mut prng = Prng::new(seed);
        let power = |prng: &mut Prng, low: u64, high: u64| 1u32 << prng.between(low, high);
        let first = power(&mut prng, 9, 16);
        let offer = Offer {
            header_digest: prng
                .pick(&[DigestPreference::PreferNone, DigestPreference::PreferCrc32c]),
            data_digest: prng.pick(&[DigestPreference::PreferNone, DigestPreference::PreferCrc32c]),
            max_recv_data_segment_length: power(&mut prng, 9, 18),
            max_burst_length: first << prng.between(0, 4),
            first_burst_length: first,
            max_outstanding_r2t: prng.between(1, 8) as u16,
            initial_r2t: prng.percent(30),
            immediate_data: prng.percent(70),
        };
        let first = power(&mut prng, 9, 16);
        let mut target = TargetConfig {
            limits: Limits {
                max_recv_data_segment_length: Some(512 + prng.below(100_000) as u32),
                max_burst_length: first << prng.between(0, 4),
                first_burst_length: first,
                max_outstanding_r2t: prng.between(1, 8) as u16,
                initial_r2t: prng.percent(30),
                immediate_data: prng.percent(70),
                header_digest: prng.pick(&[Digests::Never, Digests::Either]),
                data_digest: prng.pick(&[Digests::Never, Digests::Either]),
                window: prng.between(8, 64) as u32,
            },
            status_in_data_in: prng.pick(&[0, 50, 100]),
            text_max: prng.pick(&[16, 100, 8192]),
            ..TargetConfig::default()
        };
        if prng.percent(30) {
            target
                .proposals
                .push(("MaxOutstandingR2T".into(), "4".into()));
            target.proposals.push(("X-kit.test".into(), "1".into()));
        }
        let _replay = Replay::of(seed, &format!("{offer:?} {target:?}"));
        let mut pair = pair_with(seed, target, offer);
        exercise(&mut pair, &mut prng, 512);
        log_out(&mut pair);
    }
}

#[test]
fn whatever_the_target_does_wrong_ends_in_a_closed_session_and_clean_memory() {
    let canary = vec![0xee; BUFFER_LEN];
    for seed in seeds(12) {
        for bug in BUGS {
            let _replay = Replay::of(seed, &format!("{bug:?}"));
            let digests = matches!(bug, Bug::HeaderBitFlip | Bug::DataBitFlip);
            let preference = if digests {
                DigestPreference::PreferCrc32c
            } else {
                DigestPreference::PreferNone
            };
            let offer = Offer {
                header_digest: preference,
                data_digest: preference,
                max_recv_data_segment_length: 8192,
                ..Offer::default()
            };
            let target = TargetConfig {
                status_in_data_in: 0,
                ..TargetConfig::default()
            };
            let mut pair = pair_with(seed, target, offer);
            pair.calm();
            for buffer in 0..BUFFERS {
                pair.memory
                    .of(BufferId(buffer as u16))
                    .copy_from_slice(&canary);
            }
            pair.world.unit().inject(Injection {
                nexus: None,
                select: Select::Opcode(0x12),
                fault: Fault::Check(Code::INVALID_FIELD),
                times: 1,
            });
            pair.world.target.arm(bug);
            let len = 64 << 10;
            pair.submit(Cdb::read_16(0, 128), read(1, len));
            pair.submit(Cdb::write_16(4096, 1024, false), write(2, 1024 * 512));
            pair.submit(Cdb::inquiry(36), read(3, 36));
            let now = pair.now();
            pair.session.ping(now);
            let why = pair.until_closed(Duration::from_secs(60));
            assert_eq!(pair.world.target.armed(), 0, "{bug:?} struck");
            match (bug, why) {
                (Bug::DataBitFlip, Some(Closed::DigestError(_))) => {}
                // A flipped length moves the place of the digest: the stream may also starve.
                (Bug::HeaderBitFlip, Some(Closed::DigestError(_) | Closed::Silent)) => {}
                (Bug::Garbage, Some(_)) => {}
                (Bug::HeaderBitFlip | Bug::DataBitFlip, why) => panic!("{bug:?}: {why:?}"),
                (_, Some(Closed::Protocol(_))) => {}
                (_, why) => panic!("{bug:?}: {why:?}"),
            }
            for buffer in 0..BUFFERS as u16 {
                let used = match buffer {
                    1 => len as usize,
                    3 => 36,
                    _ => 0,
                };
                let rest = &pair.memory.of(BufferId(buffer))[used..];
                assert!(
                    *rest == canary[used..],
                    "{bug:?} wrote into buffer {buffer}"
                );
            }
            let orphans = pair.session.drain_orphans().count();
            let ended = pair
                .take_events()
                .iter()
                .filter(|event| matches!(event, Event::Completed(_)))
                .count();
            assert_eq!(orphans + ended, 3, "{bug:?}: every command ends once");
            assert_eq!(pair.world.target.violations(), [], "{bug:?}");
        }
    }
}

#[test]
fn statuses_and_sense_arrive_as_sent() {
    let mut pair = pair_with(1, TargetConfig::default(), Offer::default());
    pair.calm();
    let mut give = |fault| {
        pair.world.unit().inject(Injection {
            nexus: None,
            select: Select::Writes,
            fault,
            times: 1,
        });
        pair.command(Cdb::write_16(0, 8, false), write(0, 4096))
    };
    let done = give(Fault::Check(Code::MEDIUM_ERROR));
    let sense = done.sense.expect("sense");
    assert_eq!(
        (done.status, sense.key, sense.asc),
        (Status::CheckCondition, SenseKey::MediumError, 0x11)
    );
    let done = give(Fault::Deferred(Code::MEDIUM_ERROR));
    assert!(done.sense.expect("sense").deferred);
    assert_eq!(give(Fault::Status(0x08)).status, Status::Busy);
    assert_eq!(
        give(Fault::Status(0x18)).status,
        Status::ReservationConflict
    );
    assert_eq!(give(Fault::Status(0x28)).status, Status::TaskSetFull);
    assert_eq!(give(Fault::Response(1)).status, Status::TargetFailure(1));
    assert_eq!(
        give(Fault::Delay(Duration::from_secs(2))).status,
        Status::Good
    );
    log_out(&mut pair);
}

#[test]
fn a_command_can_be_aborted_and_ends_once() {
    use iscsi_client::session::Handle;
    use iscsi_client::wire::TaskManagementFunction;
    let mut pair = pair_with(1, TargetConfig::default(), Offer::default());
    pair.calm();
    pair.world.unit().inject(Injection {
        nexus: None,
        select: Select::Writes,
        fault: Fault::Park,
        times: 1,
    });
    let hangs = pair.submit(Cdb::write_16(0, 8, false), write(0, 4096));
    assert!(!pair.run(Duration::from_millis(100), |events| !events.is_empty()));
    let now = pair.now();
    let lun = kit::world::LUN_0;
    let function = TaskManagementFunction::AbortTask;
    assert!(
        pair.session
            .manage(now, Handle(77), function, lun, Some(hangs))
    );
    // The backend still holds it: the function waits.
    assert!(!pair.run(Duration::from_millis(500), |events| !events.is_empty()));
    let now = pair.now();
    pair.world.target.release_all(now);
    let managed = |events: &[Event]| {
        events
            .iter()
            .any(|event| matches!(event, Event::Managed { .. }))
    };
    assert!(pair.run(Duration::from_secs(1), managed));
    let events = pair.take_events();
    assert!(
        matches!(&events[0], Event::Completed(done)
        if done.handle == hangs && done.status == Status::TaskAborted),
        "{events:?}"
    );
    assert_eq!(
        events[1],
        Event::Managed {
            handle: Handle(77),
            response: 0
        }
    );
    log_out(&mut pair);
}

#[test]
fn pings_go_both_ways_and_keep_an_idle_session() {
    for tag_zero in [false, true] {
        let ping = kit::target::Ping {
            idle: Duration::from_millis(300),
            patience: Duration::from_secs(1),
            tag_zero,
        };
        let target = TargetConfig {
            ping: Some(ping),
            ..TargetConfig::default()
        };
        let mut pair = pair_with(1, target, Offer::default());
        assert!(!pair.run(Duration::from_secs(30), |events| {
            events.iter().any(|event| matches!(event, Event::Closed(_)))
        }));
        assert!(pair.world.target.counters().pongs > 20);
        let now = pair.now();
        pair.session.ping(now);
        assert!(pair.run(Duration::from_secs(1), |events| {
            events.contains(&Event::Pong)
        }));
        log_out(&mut pair);
    }
}

#[test]
fn silence_is_noticed_and_what_was_sent_is_told_from_what_was_not() {
    use kit::net::{Direction, Link};
    for direction in [Direction::ToTarget, Direction::ToInitiator] {
        let mut pair = pair_with(1, TargetConfig::default(), Offer::default());
        pair.calm();
        pair.world.net.cut(Link(0), direction);
        let handle = pair.submit(Cdb::write_16(0, 8, false), write(0, 4096));
        let why = pair.until_closed(Duration::from_secs(20));
        assert_eq!(why, Some(Closed::Silent));
        let orphans: Vec<_> = pair.session.drain_orphans().collect();
        assert_eq!(
            orphans
                .iter()
                .map(|orphan| (orphan.handle, orphan.sent))
                .collect::<Vec<_>>(),
            [(handle, true)]
        );
    }
}
