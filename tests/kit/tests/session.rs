//! The initiator's session against the simulated target: every agreement the two can reach moves data both
//! ways unharmed, and nothing the target says against the RFC goes unnoticed.

use core::time::Duration;

use iscsi_client::login::{DigestPreference, Offer};
use iscsi_client::memory::BufferId;
use iscsi_client::scsi::{Cdb, SenseKey, Status};
use iscsi_client::session::{Closed, Event, Transfer};
use kit::disk::{Code, Fault, Injection, LunConfig, Select};
use kit::pair::{self, BUFFERS, Pair, read, write};
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
                let _replay = Replay(seed, format!("{offer:?} {:?}", target.limits));
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
