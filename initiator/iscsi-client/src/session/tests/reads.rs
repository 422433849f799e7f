//! Reads: Data-In and responses.

use super::*;

/// A bench with one read of `len` bytes at 512 of its buffer under way.
fn reading(terms: Negotiated, len: u32) -> (Bench, TaskTag) {
    let mut bench = Bench::with(terms);
    bench.read(1, 512, len);
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    let command = ScsiCommand::parse(&sent[0].bhs).unwrap();
    assert!(command.read && command.last && !command.write && !command.immediate);
    assert_eq!((command.expected_len, command.cmd_sn), (len, CmdSn(1)));
    (bench, command.task)
}

#[test]
fn data_with_status_completes_a_read() {
    let (mut bench, task) = reading(terms(), 1000);
    let first = bench.data_in(task, 0, 0);
    bench.receive(first.emit(), &[1; 600]);
    assert_eq!(bench.events(), []);
    let status = bench.good_with_data();
    let second = DataIn {
        last: true,
        status,
        ..bench.data_in(task, 1, 600)
    };
    bench.receive(second.emit(), &[2; 400]);
    assert_eq!(bench.events(), [good(1, 1000)]);
    assert_eq!(bench.memory.buffers[0][512..1112], [1; 600]);
    assert_eq!(bench.memory.buffers[0][1112..1512], [2; 400]);
    assert_eq!(bench.session.in_flight(), 0);
    bench.read(2, 0, 512);
    let sent = bench.sent();
    let command = ScsiCommand::parse(&sent[0].bhs).unwrap();
    assert_eq!((command.cmd_sn, command.exp_stat_sn), (CmdSn(2), StatSn(2)));
}

#[test]
fn large_data_is_wanted_in_place() {
    for data_digest in [false, true] {
        let (mut bench, task) = reading(
            Negotiated {
                data_digest,
                ..terms()
            },
            1001,
        );
        let status = bench.good_with_data();
        let data_in = DataIn {
            last: true,
            status,
            ..bench.data_in(task, 0, 0)
        };
        let data: Vec<u8> = (0..1001u32).map(|byte| (byte * 3) as u8).collect();
        let bytes = serialise(data_in.emit(), &data, bench.digests);
        // The header and the first bytes come staged.
        bench
            .session
            .receive(bench.now, &bytes[..148], &mut bench.memory);
        let want = Want::Payload {
            buffer: BufferId(0),
            offset: 612,
            len: 901,
        };
        assert_eq!(bench.session.want(), want);
        for (from, to) in [(100, 400), (400, 1001)] {
            let place = (512 + from) as u32;
            bench
                .memory
                .write(BufferId(0), place, (to - from) as u32)
                .copy_from_slice(&data[from..to]);
            bench
                .session
                .received_in_place(bench.now, (to - from) as u32, &bench.memory);
        }
        assert_eq!(bench.events(), [], "padding is still missing");
        assert_eq!(bench.session.want(), Want::Stream);
        bench
            .session
            .receive(bench.now, &bytes[48 + 1001..], &mut bench.memory);
        assert_eq!(bench.events(), [good(1, 1001)]);
        assert_eq!(bench.memory.buffers[0][512..1513], data);
    }
}

#[test]
fn an_empty_data_in_is_legal() {
    let (mut bench, task) = reading(terms(), 8);
    let empty = bench.data_in(task, 0, 0);
    bench.receive(empty.emit(), &[]);
    let data = bench.data_in(task, 1, 0);
    bench.receive(data.emit(), &[7; 8]);
    let response = ScsiResponse {
        exp_data_sn: 2,
        ..bench.response(task)
    };
    bench.receive(response.emit(), &[]);
    assert_eq!(bench.events(), [good(1, 8)]);
}

#[test]
fn sense_comes_with_check_condition() {
    let (mut bench, task) = reading(terms(), 512);
    let mut sense = [0; 18];
    sense[..3].copy_from_slice(&[0x70, 0, 0x06]);
    (sense[7], sense[12]) = (10, 0x29);
    let mut data = vec![0, 18];
    data.extend_from_slice(&sense);
    let response = ScsiResponse {
        status: 2,
        residual: Residual::Underflow(512),
        ..bench.response(task)
    };
    bench.receive(response.emit(), &data);
    let [Event::Completed(completion)] = &bench.events()[..] else {
        panic!("no completion");
    };
    assert_eq!(completion.status, Status::CheckCondition);
    assert_eq!(completion.sense, crate::scsi::Sense::parse(&sense));
    assert!(completion.sense.is_some());
    assert_eq!(
        (completion.residual, completion.received),
        (Residual::Underflow(512), 0)
    );
}

#[test]
fn a_target_failure_hides_the_status_byte() {
    let (mut bench, task) = reading(terms(), 512);
    let response = ScsiResponse {
        response: 1,
        status: 0,
        ..bench.response(task)
    };
    bench.receive(response.emit(), &[]);
    let [Event::Completed(completion)] = &bench.events()[..] else {
        panic!("no completion");
    };
    assert_eq!(completion.status, Status::TargetFailure(1));
}

#[test]
fn broken_rules_close_the_session() {
    type Spoil = fn(&mut DataIn);
    let cases: [(&str, Spoil, usize); 5] = [
        (
            "Data-In for an unknown task",
            |pdu| pdu.task.0 ^= 0x10000,
            8,
        ),
        ("DataSN out of sequence", |pdu| pdu.data_sn = DataSn(1), 8),
        ("Data-In offset out of order", |pdu| pdu.offset = 4, 8),
        ("Data-In beyond the expected length", |_| (), 1001),
        (
            "data longer than our MaxRecvDataSegmentLength",
            |_| (),
            8193,
        ),
    ];
    for (rule, spoil, len) in cases {
        let (mut bench, task) = reading(terms(), 1000);
        let before = bench.memory.buffers[0].clone();
        let mut data_in = bench.data_in(task, 0, 0);
        spoil(&mut data_in);
        bench.receive(data_in.emit(), &vec![0xee; len]);
        bench.assert_violation(rule);
        assert_eq!(bench.memory.buffers[0], before, "no byte may land");
        assert_eq!(bench.orphans(), [(1, true)]);
    }
}

#[test]
fn broken_responses_close_the_session() {
    type Spoil = fn(&mut ScsiResponse);
    let cases: [(&str, Spoil, &[u8]); 7] = [
        (
            "SCSI Response for an unknown task",
            |pdu| pdu.task = TaskTag(0),
            &[],
        ),
        (
            "StatSN out of sequence",
            |pdu| pdu.numbers.stat_sn = StatSn(2),
            &[],
        ),
        (
            "ExpDataSN differs from the Data-In PDUs received",
            |pdu| pdu.exp_data_sn = 1,
            &[],
        ),
        ("CHECK CONDITION without sense", |pdu| pdu.status = 2, &[]),
        (
            "sense longer than its data segment",
            |pdu| pdu.status = 2,
            &[0, 18, 0x70],
        ),
        ("sense length cut off", |pdu| pdu.status = 2, &[0]),
        (
            "residual underflow longer than the command's data",
            |pdu| pdu.residual = Residual::Underflow(1001),
            &[],
        ),
    ];
    for (rule, spoil, data) in cases {
        let (mut bench, task) = reading(terms(), 1000);
        let mut response = bench.response(task);
        spoil(&mut response);
        bench.receive(response.emit(), data);
        bench.assert_violation(rule);
        assert_eq!(bench.orphans(), [(1, true)], "{rule}");
    }
}

#[test]
fn a_duplicate_response_closes_the_session() {
    let (mut bench, task) = reading(terms(), 512);
    bench.answer_good(task);
    assert_eq!(bench.events(), [good(1, 0)]);
    bench.answer_good(task);
    bench.assert_violation("SCSI Response for an unknown task");
}

#[test]
fn data_for_a_task_that_reads_nothing() {
    let mut bench = Bench::new();
    bench.submit(1, Transfer::None);
    let task = bench.sent()[0].task();
    let data_in = bench.data_in(task, 0, 0);
    bench.receive(data_in.emit(), &[]);
    bench.assert_violation("Data-In for a task that reads nothing");
}

#[test]
fn a_closed_session_touches_no_buffer() {
    let (mut bench, task) = reading(terms(), 1000);
    let data_in = bench.data_in(task, 0, 0);
    let bytes = serialise(data_in.emit(), &[9; 1000], bench.digests);
    bench
        .session
        .receive(bench.now, &bytes[..100], &mut bench.memory);
    bench.session.connection_lost();
    let before = bench.memory.buffers[0].clone();
    bench
        .session
        .receive(bench.now, &bytes[100..], &mut bench.memory);
    bench
        .session
        .received_in_place(bench.now, 10, &bench.memory);
    assert_eq!(bench.memory.buffers[0], before);
    assert_eq!(bench.events(), [Event::Closed(Closed::ConnectionLost)]);
    assert_eq!(bench.sent(), []);
}

#[test]
fn wrong_digests_close_the_session() {
    for (damaged, name) in [
        (20, "header digest"),
        (60, "data digest"),
        (53, "data digest"),
    ] {
        let terms = Negotiated {
            header_digest: true,
            data_digest: true,
            ..terms()
        };
        let (mut bench, task) = reading(terms, 5);
        let data_in = bench.data_in(task, 0, 0);
        let mut bytes = serialise(data_in.emit(), &[3; 5], bench.digests);
        bytes[damaged] ^= 1;
        bench.session.receive(bench.now, &bytes, &mut bench.memory);
        assert_eq!(bench.events(), [Event::Closed(Closed::DigestError(name))]);
    }
}

#[test]
fn additional_header_segments_are_skipped() {
    for header_digest in [false, true] {
        let (mut bench, task) = reading(
            Negotiated {
                header_digest,
                ..terms()
            },
            8,
        );
        let status = bench.good_with_data();
        let data_in = DataIn {
            last: true,
            status,
            ..bench.data_in(task, 0, 0)
        };
        let mut bhs = data_in.emit();
        bhs.put_u8(4, 255);
        bhs.set_data_len(8);
        let mut bytes = bhs.0.to_vec();
        bytes.extend([0xab; 255 * 4]);
        if header_digest {
            bytes.extend(digest(&bytes, 0));
        }
        bytes.extend([5; 8]);
        bench.session.receive(bench.now, &bytes, &mut bench.memory);
        assert_eq!(bench.events(), [good(1, 8)]);
        assert_eq!(bench.memory.buffers[0][512..520], [5; 8]);
    }
}

#[test]
fn a_redirected_read_touches_its_first_place_no_more() {
    for data_digest in [false, true] {
        let (mut bench, task) = reading(
            Negotiated {
                data_digest,
                ..terms()
            },
            1000,
        );
        let first = bench.data_in(task, 0, 0);
        bench.receive(first.emit(), &[1; 400]);
        let status = bench.good_with_data();
        let second = DataIn {
            last: true,
            status,
            ..bench.data_in(task, 1, 400)
        };
        let bytes = serialise(second.emit(), &[2; 600], bench.digests);
        // In the middle of a PDU.
        let (now, later) = bytes.split_at(48 + 100);
        bench.session.receive(bench.now, now, &mut bench.memory);
        bench.session.redirect(Handle(1), BufferId(0), 8192);
        let untouched = bench.memory.buffers[0][1012..1512].to_vec();
        let want = Want::Payload {
            buffer: BufferId(0),
            offset: 8192 + 500,
            len: 500,
        };
        assert_eq!(bench.session.want(), want);
        bench.session.receive(bench.now, later, &mut bench.memory);
        assert_eq!(bench.events(), [good(1, 1000)]);
        assert_eq!(bench.memory.buffers[0][512..912], [1; 400]);
        assert_eq!(bench.memory.buffers[0][912..1012], [2; 100]);
        assert_eq!(bench.memory.buffers[0][1012..1512], untouched);
        assert_eq!(bench.memory.buffers[0][8692..9192], [2; 500]);
        // It is over: there is nothing to redirect.
        bench.session.redirect(Handle(1), BufferId(0), 0);
    }
}

#[test]
fn only_a_command_that_has_not_left_can_be_withdrawn() {
    let (mut bench, _) = reading(terms(), 512);
    bench.read(2, 0, 512);
    bench.read(3, 0, 512);
    assert!(!bench.session.withdraw(Handle(1)), "it has left");
    assert!(bench.session.withdraw(Handle(2)));
    assert!(!bench.session.withdraw(Handle(2)), "it is not there");
    assert_eq!(bench.events(), []);
    let sent = bench.sent();
    let numbers: Vec<_> = sent
        .iter()
        .map(|pdu| ScsiCommand::parse(&pdu.bhs).unwrap().cmd_sn)
        .collect();
    assert_eq!(numbers, [CmdSn(2)], "no hole in the numbering");
    assert_eq!(bench.session.in_flight(), 2);
}
