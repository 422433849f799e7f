//! However the stream is cut, and whether payload is staged or received in place: the same events, the same
//! bytes.

use proptest::prelude::*;

use super::*;

/// What a run left behind.
#[derive(PartialEq, Eq, Debug)]
struct Outcome {
    events: Vec<Event>,
    buffer: Vec<u8>,
    sent: Vec<Pdu>,
}

/// A conversation of the target with every kind of PDU, as one stream, ending in `end`.
fn conversation(bench: &mut Bench) -> Vec<u8> {
    bench.read(1, 3, 2001);
    bench.read(2, 4000, 64);
    bench.write(3, 8000, 5000);
    bench.submit(4, Transfer::None);
    bench.session.ping(bench.now);
    let sent = bench.sent();
    let task = |index: usize| sent[index].task();
    let mut stream = Vec::new();
    let digests = bench.digests;
    let mut say = |bhs: Bhs, data: &[u8]| stream.extend(serialise(bhs, data, digests));

    let pong = NopIn {
        task: task(0),
        lun: Lun::default(),
        transfer: TransferTag::NONE,
        numbers: bench.numbers(),
        data_len: 0,
    };
    say(pong.emit(), &[0xcc; 3]);
    say(bench.data_in(task(1), 0, 0).emit(), &[1; 1001]);
    let r2t = R2t {
        lun: LUN,
        task: task(3),
        transfer: TransferTag(0),
        numbers: bench.numbers_unconsumed(),
        r2t_sn: DataSn(0),
        offset: 1024,
        len: 3976.try_into().unwrap(),
    };
    say(r2t.emit(), &[]);
    let status = bench.good_with_data();
    say(
        DataIn {
            last: true,
            status,
            ..bench.data_in(task(2), 0, 0)
        }
        .emit(),
        &[2; 64],
    );
    say(bench.data_in(task(1), 1, 1001).emit(), &[3; 998]);
    let mut sense = vec![0, 18, 0x70, 0, 0x05, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x20];
    sense.resize(20, 0);
    let refused = ScsiResponse {
        status: 2,
        ..bench.response(task(4))
    };
    say(refused.emit(), &sense);
    say(bench.data_in(task(1), 2, 1999).emit(), &[4; 2]);
    let done = ScsiResponse {
        exp_data_sn: 3,
        ..bench.response(task(1))
    };
    say(done.emit(), &[]);
    let ping = NopIn {
        lun: LUN,
        task: TaskTag::NONE,
        transfer: TransferTag(0),
        numbers: bench.numbers_unconsumed(),
        data_len: 0,
    };
    say(ping.emit(), &[]);
    let last = AsyncMessage {
        lun: LUN,
        numbers: bench.numbers(),
        event: AsyncEvent::ConnectionDrop {
            cid: 0,
            time2wait: 1,
        },
        data_len: 0,
    };
    say(last.emit(), &[]);
    stream
}

/// Feeds the conversation in pieces of these lengths, over and over; with `in_place` set, wanted payload is
/// received in place in those pieces.
fn run(digests: (bool, bool), cuts: &[usize], in_place: bool, damage: Option<usize>) -> Outcome {
    let (header_digest, data_digest) = digests;
    let mut bench = Bench::with(Negotiated {
        header_digest,
        data_digest,
        ..terms()
    });
    let mut stream = conversation(&mut bench);
    if let Some(at) = damage {
        let at = at % stream.len();
        stream[at] ^= 0x10;
    }
    let mut rest = &stream[..];
    let mut cuts = cuts.iter().cycle();
    let mut events = Vec::new();
    let mut sent = Vec::new();
    while !rest.is_empty() {
        let cut = *cuts.next().unwrap();
        match bench.session.want() {
            Want::Payload {
                buffer,
                offset,
                len,
            } if in_place => {
                let len = (len as usize).min(cut).min(rest.len());
                let (now, later) = rest.split_at(len);
                bench
                    .memory
                    .write(buffer, offset, len as u32)
                    .copy_from_slice(now);
                bench
                    .session
                    .received_in_place(bench.now, len as u32, &bench.memory);
                rest = later;
            }
            _ => {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                bench.session.receive(bench.now, now, &mut bench.memory);
                rest = later;
            }
        }
        if damage.is_none() && rest.len() == 48 + if header_digest { 4 } else { 0 } {
            // Before the end, collect what the conversation made the session say.
            sent = bench.sent();
        }
        events.extend(bench.events());
    }
    Outcome {
        events,
        buffer: bench.memory.buffers[0].clone(),
        sent,
    }
}

#[test]
fn byte_by_byte() {
    for digests in [(false, false), (true, false), (false, true), (true, true)] {
        let reference = run(digests, &[1], false, None);
        assert_eq!(reference.events.len(), 6);
        assert_eq!(reference.events[0], Event::Pong);
        assert_eq!(reference.events[1], good(2, 64));
        assert_eq!(reference.events[3], good(1, 2001));
        let dropped = Closed::DroppedByTarget { time2wait: 1 };
        assert_eq!(reference.events[5], Event::Closed(dropped));
        assert_eq!(reference.buffer[3..1004], [1; 1001]);
        assert_eq!(reference.buffer[1004..2004][998..], [4; 2]);
        let opcodes: Vec<_> = reference.sent.iter().map(Pdu::opcode).collect();
        use Opcode::{DataOut as Out, NopOut};
        assert_eq!(opcodes, [NopOut, Out, Out, Out, Out]);
        assert_eq!(run(digests, &[1], true, None), reference);
        let whole = run(digests, &[usize::MAX], false, None);
        assert_eq!(
            (whole.events, whole.buffer),
            (reference.events, reference.buffer)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_segmentation_is_the_same(
        header_digest: bool,
        data_digest: bool,
        in_place: bool,
        cuts in prop::collection::vec(1usize..1500, 1..20),
    ) {
        let digests = (header_digest, data_digest);
        let reference = run(digests, &[1], false, None);
        let outcome = run(digests, &cuts, in_place, None);
        prop_assert_eq!(outcome.events, reference.events);
        prop_assert_eq!(outcome.buffer, reference.buffer);
    }

    #[test]
    fn with_digests_no_damage_passes(
        at in 0usize..8192,
        in_place: bool,
        cuts in prop::collection::vec(1usize..1500, 1..20),
    ) {
        let outcome = run((true, true), &cuts, in_place, Some(at));
        let caught = match outcome.events.last() {
            Some(Event::Closed(why)) => *why != Closed::DroppedByTarget { time2wait: 1 },
            // A damaged length can only make the framer wait for bytes that never come.
            _ => true,
        };
        prop_assert!(caught, "damage went unnoticed: {:?}", outcome.events);
    }
}
