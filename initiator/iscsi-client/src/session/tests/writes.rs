//! Writes: immediate and unsolicited data, R2Ts, and what fits a send.

use super::*;

/// Terms with these two keys; segments 1024, FirstBurst 2048, MaxBurst 8192, two R2Ts at once.
fn granting(initial_r2t: bool, immediate_data: bool) -> Negotiated {
    Negotiated {
        initial_r2t,
        immediate_data,
        ..terms()
    }
}

/// The Data-Out PDUs, each checked against the buffer's bytes.
fn data_outs(bench: &Bench, pdus: &[Pdu], base: u32) -> Vec<DataOut> {
    let outs: Vec<_> = pdus
        .iter()
        .map(|pdu| DataOut::parse(&pdu.bhs).unwrap())
        .collect();
    for (out, pdu) in outs.iter().zip(pdus) {
        let expected = bench
            .memory
            .read(BufferId(0), base + out.offset, out.data_len);
        assert_eq!(pdu.data, expected);
    }
    outs
}

fn shape(out: &DataOut) -> (u32, u32, u32, bool) {
    (out.data_sn.0, out.offset, out.data_len, out.last)
}

#[test]
fn a_small_write_rides_in_its_command() {
    let mut bench = Bench::new();
    bench.write(1, 100, 509);
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    let command = ScsiCommand::parse(&sent[0].bhs).unwrap();
    assert!(command.write && command.last && !command.read);
    assert_eq!((command.expected_len, command.data_len), (509, 509));
    assert_eq!(sent[0].data, bench.memory.buffers[0][100..609]);
    bench.answer_good(command.task);
    assert_eq!(bench.events(), [good(1, 0)]);
}

#[test]
fn without_immediate_data_nothing_leaves_unasked() {
    let mut bench = Bench::with(granting(true, false));
    bench.write(1, 0, 512);
    let sent = bench.sent();
    let command = ScsiCommand::parse(&sent[0].bhs).unwrap();
    assert_eq!((sent.len(), command.data_len, command.last), (1, 0, true));
}

#[test]
fn unsolicited_data_follow_their_command_before_the_next() {
    let mut bench = Bench::with(granting(false, true));
    bench.write(1, 0, 10_000);
    bench.write(2, 20_000, 1500);
    let sent = bench.sent();
    let opcodes: Vec<_> = sent.iter().map(Pdu::opcode).collect();
    use Opcode::{DataOut as Out, ScsiCommand as Cmd};
    assert_eq!(opcodes, [Cmd, Out, Cmd, Out]);
    let first = ScsiCommand::parse(&sent[0].bhs).unwrap();
    assert_eq!((first.data_len, first.last), (1024, false));
    let out = &data_outs(&bench, &sent[1..2], 0)[0];
    assert_eq!(
        shape(out),
        (0, 1024, 1024, true),
        "exactly FirstBurstLength in all"
    );
    assert_eq!(
        (out.transfer, out.lun, out.task),
        (TransferTag::NONE, LUN, first.task)
    );
    let out = &data_outs(&bench, &sent[3..], 20_000)[0];
    assert_eq!(
        shape(out),
        (0, 1024, 476, true),
        "exactly the write's length in all"
    );
}

#[test]
fn only_unsolicited_data_when_immediate_is_refused() {
    let mut bench = Bench::with(granting(false, false));
    bench.write(1, 0, 1100);
    let sent = bench.sent();
    let command = ScsiCommand::parse(&sent[0].bhs).unwrap();
    assert_eq!((command.data_len, command.last), (0, false));
    let outs: Vec<_> = data_outs(&bench, &sent[1..], 0).iter().map(shape).collect();
    assert_eq!(outs, [(0, 0, 1024, false), (1, 1024, 76, true)]);
}

#[test]
fn r2ts_are_served_in_arrival_order() {
    for (header_digest, data_digest) in [(false, false), (true, false), (false, true), (true, true)]
    {
        let mut bench = Bench::with(Negotiated {
            header_digest,
            data_digest,
            ..terms()
        });
        bench.write(1, 4000, 6001);
        bench.write(2, 16_000, 9000);
        let sent = bench.sent();
        let (one, two) = (sent[0].task(), sent[1].task());
        bench.r2t(two, 0, 1024, 1025);
        bench.r2t(one, 0, 1024, 3000);
        bench.r2t(one, 1, 4024, 1977);
        let sent = bench.sent();
        let outs = data_outs(&bench, &sent[..2], 16_000);
        assert_eq!(
            outs.iter().map(shape).collect::<Vec<_>>(),
            [(0, 1024, 1024, false), (1, 2048, 1, true)]
        );
        assert!(
            outs.iter()
                .all(|out| out.task == two && out.transfer == TransferTag(0x100))
        );
        let outs = data_outs(&bench, &sent[2..], 4000);
        assert_eq!(
            outs.iter().map(shape).collect::<Vec<_>>(),
            [
                (0, 1024, 1024, false),
                (1, 2048, 1024, false),
                (2, 3072, 952, true),
                (0, 4024, 1024, false),
                (1, 5048, 953, true)
            ]
        );
        assert!(outs.iter().all(|out| out.task == one && out.lun == LUN));
        assert_eq!(outs[4].transfer, TransferTag(0x101));
        bench.answer_good(one);
        bench.answer_good(two);
        assert_eq!(bench.events(), [good(1, 0), good(2, 0)]);
    }
}

#[test]
fn a_burst_goes_on_in_the_next_send() {
    let mut bench = Bench::new();
    bench.write(1, 0, 8192);
    let task = bench.sent()[0].task();
    bench.bytes_max = 2500;
    bench.r2t(task, 0, 1024, 7168);
    bench.read(2, 0, 512);
    for offset in [1024, 3072, 5120] {
        let sent = bench.send_once();
        let outs: Vec<_> = data_outs(&bench, &sent, 0)
            .iter()
            .map(|out| out.offset)
            .collect();
        assert_eq!(outs, [offset, offset + 1024]);
        // ExpStatSN is the current one in every PDU, in the middle of a burst too.
        let stat_sn = bench.stat_sn;
        assert!(sent.iter().all(|pdu| pdu.bhs.u32(28) == stat_sn));
        let vendor = AsyncMessage {
            lun: LUN,
            numbers: bench.numbers(),
            event: AsyncEvent::Vendor {
                event: 250,
                code: 1,
            },
            data_len: 0,
        };
        bench.receive(vendor.emit(), &[]);
    }
    let sent = bench.send_once();
    assert_eq!(sent[0].opcode(), Opcode::DataOut);
    assert_eq!(
        sent[1].opcode(),
        Opcode::ScsiCommand,
        "commands come after what is owed"
    );
    assert_eq!(sent.len(), 2);
}

#[test]
fn a_full_outgoing_loses_nothing() {
    for (head, pieces) in [(59, 3), (64, 4), (130, 5), (4096, 3)] {
        let terms = Negotiated {
            header_digest: true,
            data_digest: true,
            ..granting(false, true)
        };
        let mut bench = Bench::with(terms);
        (bench.head, bench.pieces) = (head, pieces);
        bench.write(1, 0, 4001);
        bench.read(2, 8000, 100);
        bench.session.ping(bench.now);
        bench.session.text(bench.now, &[b'x'; 300]);
        let sent = bench.sent();
        let opcodes: Vec<_> = sent.iter().map(Pdu::opcode).collect();
        use Opcode::{DataOut as Out, NopOut, ScsiCommand as Cmd, TextRequest as Text};
        assert_eq!(opcodes, [NopOut, Text, Cmd, Out, Cmd]);
        assert_eq!(sent[1].data, [b'x'; 300]);
        let numbers: Vec<_> = [1, 2, 4].map(|at| sent[at].bhs.u32(24)).into();
        assert_eq!(numbers, [1, 2, 3], "CmdSN in the order of leaving");
        bench.r2t(sent[2].task(), 0, 2048, 1953);
        let outs: Vec<_> = {
            let sent = bench.sent();
            data_outs(&bench, &sent, 0).iter().map(shape).collect()
        };
        assert_eq!(outs, [(0, 2048, 1024, false), (1, 3072, 929, true)]);
    }
}

#[test]
fn an_early_error_ends_the_burst() {
    let mut bench = Bench::new();
    bench.write(1, 0, 8192);
    bench.write(2, 8192, 8192);
    let sent = bench.sent();
    let (one, two) = (sent[0].task(), sent[1].task());
    bench.bytes_max = 1024;
    bench.r2t(one, 0, 1024, 4096);
    bench.r2t(two, 0, 1024, 1024);
    assert_eq!(bench.send_once()[0].task(), one);
    let busy = ScsiResponse {
        status: 0x08,
        ..bench.response(one)
    };
    bench.receive(busy.emit(), &[]);
    let [Event::Completed(completion)] = &bench.events()[..] else {
        panic!("no completion");
    };
    assert_eq!(
        (completion.handle, completion.status),
        (Handle(1), Status::Busy)
    );
    let sent = bench.sent();
    assert!(
        sent.iter().all(|pdu| pdu.task() == two),
        "nothing more for a task that has ended"
    );
    assert_eq!(sent.len(), 1);
}

#[test]
fn an_early_error_ends_unsolicited_data() {
    let mut bench = Bench::with(Negotiated {
        first_burst_length: 8192,
        ..granting(false, true)
    });
    bench.bytes_max = 1024;
    bench.write(1, 0, 8192);
    bench.write(2, 8192, 512);
    let task = bench.send_once()[0].task();
    bench.answer_good(task);
    let sent = bench.sent();
    assert_eq!((sent.len(), sent[0].opcode()), (1, Opcode::ScsiCommand));
}

#[test]
fn r2ts_that_break_a_rule() {
    type Asked = (u32, u32, u32);
    let cases: [(&str, &[Asked]); 6] = [
        ("R2TSN out of sequence", &[(1, 1024, 512)]),
        ("R2T longer than MaxBurstLength", &[(0, 0, 8193)]),
        ("R2T outside the write", &[(0, 9_000, 1001)]),
        ("R2T outside the write", &[(0, 10_001, 1)]),
        ("R2T outside the write", &[(0, u32::MAX, 8192)]),
        (
            "more R2Ts at once than MaxOutstandingR2T",
            &[(0, 0, 1), (1, 1, 1), (2, 2, 1)],
        ),
    ];
    for (rule, r2ts) in cases {
        let mut bench = Bench::new();
        bench.write(1, 0, 10_000);
        let task = bench.sent()[0].task();
        for (r2t_sn, offset, len) in r2ts {
            bench.r2t(task, *r2t_sn, *offset, *len);
        }
        bench.assert_violation(rule);
        assert_eq!(bench.orphans(), [(1, true)]);
    }
}

#[test]
fn r2ts_for_the_wrong_task() {
    let mut bench = Bench::new();
    bench.read(1, 0, 512);
    let task = bench.sent()[0].task();
    bench.r2t(task, 0, 0, 512);
    bench.assert_violation("R2T for a task that writes nothing");

    let mut bench = Bench::new();
    bench.r2t(TaskTag(0x10000), 0, 0, 512);
    bench.assert_violation("R2T for an unknown task");
}

#[test]
fn an_answered_r2t_makes_room_for_the_next() {
    let mut bench = Bench::new();
    bench.write(1, 0, 8192);
    let task = bench.sent()[0].task();
    for r2t_sn in 0..7 {
        bench.r2t(task, r2t_sn, 1024 * (r2t_sn + 1), 1024);
        assert_eq!(bench.sent().len(), 1);
    }
    assert_eq!(bench.events(), []);
}

#[test]
fn the_window_is_never_exceeded() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.session.room(),
        8,
        "the task table is smaller than the window"
    );
    bench.max_cmd_sn = 16;
    let mut left = 0;
    // The target answers but does not open the window any further.
    for handle in 0..16 {
        assert!(bench.session.room() > 0);
        bench.submit(handle, Transfer::None);
        let sent = bench.sent();
        left += sent.len();
        bench.answer_good(sent[0].task());
    }
    assert_eq!((bench.session.room(), left), (0, 16));
    // A ping needs no room.
    bench.session.ping(bench.now);
    let ping = NopOut::parse(&bench.sent()[0].bhs).unwrap();
    assert_eq!((ping.immediate, ping.cmd_sn), (true, CmdSn(17)));
    bench.max_cmd_sn = 18;
    let window = NopIn {
        lun: Lun::default(),
        task: TaskTag::NONE,
        transfer: TransferTag::NONE,
        numbers: bench.numbers_unconsumed(),
        data_len: 0,
    };
    bench.receive(window.emit(), &[]);
    assert_eq!(bench.session.room(), 2);
    bench.submit(100, Transfer::None);
    assert_eq!(bench.session.room(), 1, "a queued command holds its place");
    bench.session.text(bench.now, b"SendTargets=All\0");
    assert_eq!(bench.session.room(), 0, "and so does a text request");
    assert_eq!(bench.sent().len(), 2);
}

#[test]
fn orphans_tell_sent_from_unsent() {
    let mut bench = Bench::new();
    bench.write(1, 0, 8192);
    bench.sent();
    bench.write(2, 0, 512);
    bench.bytes_max = 1;
    bench.read(3, 0, 512);
    assert_eq!(bench.send_once().len(), 1);
    bench.session.connection_lost();
    bench.submit(4, Transfer::None);
    assert_eq!(bench.session.in_flight(), 4);
    assert_eq!(
        bench.orphans(),
        [(1, true), (2, true), (3, false), (4, false)]
    );
    assert_eq!(bench.orphans(), []);
    assert_eq!(bench.session.in_flight(), 0);
}
