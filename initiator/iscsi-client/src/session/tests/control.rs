//! Everything but data: pings, silence, task management, text, logout, async messages, rejects.

use super::*;

fn ping_from_target(bench: &Bench, transfer: u32) -> NopIn {
    NopIn {
        lun: LUN,
        task: TaskTag::NONE,
        transfer: TransferTag(transfer),
        numbers: bench.numbers_unconsumed(),
        data_len: 0,
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_ping_of_the_target_is_answered_first() {
    let mut bench = Bench::new();
    bench.read(1, 0, 512);
    // 0 is a legal tag.
    for tag in [0, 0x1234] {
        bench.receive(ping_from_target(&bench, tag).emit(), &[]);
    }
    let sent = bench.sent();
    assert_eq!(sent.len(), 3);
    for (pdu, tag) in sent.iter().zip([0, 0x1234]) {
        let answer = NopOut::parse(&pdu.bhs).unwrap();
        assert_eq!(
            (answer.transfer, answer.task),
            (TransferTag(tag), TaskTag::NONE)
        );
        assert_eq!(
            (answer.lun, answer.immediate, answer.data_len),
            (LUN, true, 0)
        );
    }
    assert_eq!(bench.events(), []);
}

#[test]
fn a_flood_of_pings_closes_the_session() {
    let mut bench = Bench::new();
    for _ in 0..65 {
        bench.receive(ping_from_target(&bench, 7).emit(), &[]);
    }
    bench.assert_violation("more pings from the target than we can answer");
}

#[test]
fn malformed_nop_ins() {
    let mut bench = Bench::new();
    bench.receive(ping_from_target(&bench, 7).emit(), &[0; 4]);
    bench.assert_violation("ping from the target with data");

    let mut bench = Bench::new();
    let mut answer = NopIn {
        task: TaskTag(9),
        ..ping_from_target(&bench, 0xffff_ffff)
    };
    answer.numbers = bench.numbers();
    bench.receive(answer.emit(), &[]);
    bench.assert_violation("answer to a ping that was not sent");
}

#[test]
fn idleness_brings_a_ping_and_its_answer_peace() {
    let mut bench = Bench::new();
    assert_eq!(bench.session.poll_timeout(), Some(at(2)));
    bench.wait(seconds(2));
    let sent = bench.sent();
    let ping = NopOut::parse(&sent[0].bhs).unwrap();
    assert_eq!(
        (sent.len(), ping.immediate, ping.transfer),
        (1, true, TransferTag::NONE)
    );
    assert_ne!(ping.task, TaskTag::NONE);
    assert_eq!(bench.session.poll_timeout(), Some(at(5)));
    bench.wait(seconds(1));
    let pong = NopIn {
        task: ping.task,
        lun: Lun::default(),
        transfer: TransferTag::NONE,
        numbers: bench.numbers(),
        data_len: 0,
    };
    bench.receive(pong.emit(), &[]);
    assert_eq!(bench.events(), [Event::Pong]);
    assert_eq!(
        bench.session.poll_timeout(),
        Some(at(5)),
        "idle again at 3 s + 2 s"
    );
    assert_eq!(bench.session.last_received(), at(3));
}

#[test]
fn several_pings_may_be_unanswered_but_not_any_number() {
    let mut bench = Bench::new();
    for asked in 1..=6 {
        assert_eq!(bench.session.ping(bench.now), asked <= 4);
    }
    let sent = bench.sent();
    assert_eq!((sent.len(), bench.session.pings()), (4, 4));
    // Answered in any order, each once.
    for index in [2, 0, 3, 1] {
        let pong = NopIn {
            task: sent[index].task(),
            lun: Lun::default(),
            transfer: TransferTag::NONE,
            numbers: bench.numbers(),
            data_len: 0,
        };
        bench.receive(pong.emit(), &[]);
    }
    assert_eq!(bench.events(), vec![Event::Pong; 4]);
    assert_eq!(bench.session.pings(), 0);
    assert!(bench.session.ping(bench.now));
}

#[test]
fn silence_after_a_ping_closes_the_session() {
    let mut bench = Bench::new();
    bench.submit(1, Transfer::None);
    bench.sent();
    bench.wait(seconds(2));
    bench.wait(seconds(3));
    assert_eq!(bench.events(), [Event::Closed(Closed::Silent)]);
    assert_eq!(bench.orphans(), [(1, true)]);
    assert_eq!(bench.session.poll_timeout(), None);
}

#[test]
fn a_busy_receiver_acknowledges_now_and_then() {
    let mut bench = Bench::new();
    for second in 1..=5 {
        bench.wait(seconds(1));
        let message = AsyncMessage {
            lun: LUN,
            numbers: bench.numbers(),
            event: AsyncEvent::Unknown(77),
            data_len: 0,
        };
        bench.receive(message.emit(), &[]);
        assert_eq!(bench.sent().len(), 0, "at {second} s");
    }
    bench.wait(seconds(1));
    let sent = bench.sent();
    let nop = NopOut::parse(&sent[0].bhs).unwrap();
    assert_eq!(
        (nop.task, nop.transfer, nop.immediate),
        (TaskTag::NONE, TransferTag::NONE, true)
    );
    assert_eq!(nop.exp_stat_sn, StatSn(6));
}

#[test]
fn a_completed_abort_ends_its_command() {
    let mut bench = Bench::new();
    bench.write(1, 0, 8192);
    bench.read(2, 0, 512);
    let sent = bench.sent();
    let abort = TaskManagementFunction::AbortTask;
    bench.r2t(sent[0].task(), 0, 1024, 1024);
    assert!(
        bench
            .session
            .manage(bench.now, Handle(9), abort, LUN, Some(Handle(1)))
    );
    assert!(
        !bench
            .session
            .manage(bench.now, Handle(9), abort, LUN, Some(Handle(77)))
    );
    let out = bench.sent();
    let request = TaskManagementRequest::parse(&out[0].bhs).unwrap();
    assert_eq!(
        (request.function, request.referenced),
        (abort, sent[0].task())
    );
    assert_eq!((request.ref_cmd_sn, request.cmd_sn), (CmdSn(1), CmdSn(3)));
    assert!(request.immediate);
    assert_eq!(
        out[1].opcode(),
        Opcode::DataOut,
        "R2Ts are served until the answer"
    );
    let response = TaskManagementResponse {
        response: 0,
        task: request.task,
        numbers: bench.numbers(),
    };
    bench.receive(response.emit(), &[]);
    let [
        Event::Completed(completion),
        Event::Managed {
            handle,
            response: 0,
        },
    ] = &bench.events()[..]
    else {
        panic!("the command ends, then the function");
    };
    assert_eq!(
        (completion.handle, completion.status),
        (Handle(1), Status::TaskAborted)
    );
    assert_eq!(*handle, Handle(9));
    assert_eq!(bench.session.in_flight(), 1);
}

#[test]
fn an_abort_that_found_nothing_leaves_the_command() {
    let mut bench = Bench::new();
    bench.read(1, 0, 512);
    bench.sent();
    let abort = TaskManagementFunction::AbortTask;
    bench
        .session
        .manage(bench.now, Handle(9), abort, LUN, Some(Handle(1)));
    let task = bench.sent()[0].task();
    let response = TaskManagementResponse {
        response: 1,
        task,
        numbers: bench.numbers(),
    };
    bench.receive(response.emit(), &[]);
    assert_eq!(
        bench.events(),
        [Event::Managed {
            handle: Handle(9),
            response: 1
        }]
    );
    assert_eq!(bench.session.in_flight(), 1);
}

#[test]
fn an_unsent_command_is_aborted_on_the_spot() {
    let mut bench = Bench::new();
    bench.read(1, 0, 512);
    let abort = TaskManagementFunction::AbortTask;
    assert!(
        bench
            .session
            .manage(bench.now, Handle(9), abort, LUN, Some(Handle(1)))
    );
    assert!(matches!(
        bench.events()[..],
        [
            Event::Completed(Completion {
                status: Status::TaskAborted,
                ..
            }),
            Event::Managed { response: 0, .. }
        ]
    ));
    assert_eq!(bench.sent(), []);
}

#[test]
fn a_reset_ends_the_older_commands_of_its_unit() {
    let mut bench = Bench::new();
    bench.read(1, 0, 512);
    let other = Command {
        lun: Lun::default(),
        ..command(2, Transfer::None)
    };
    bench.session.submit(bench.now, other);
    bench.sent();
    let reset = TaskManagementFunction::LogicalUnitReset;
    assert!(bench.session.manage(bench.now, Handle(9), reset, LUN, None));
    let request = bench.sent()[0].clone();
    bench.read(3, 0, 512);
    bench.sent();
    let numbers = bench.numbers();
    let response = TaskManagementResponse {
        response: 0,
        task: request.task(),
        numbers,
    };
    bench.receive(response.emit(), &[]);
    let ended: Vec<_> = bench.events();
    assert!(matches!(
        ended[..],
        [
            Event::Completed(Completion {
                handle: Handle(1),
                status: Status::TaskAborted,
                ..
            }),
            Event::Managed {
                handle: Handle(9),
                response: 0
            }
        ]
    ));
    assert_eq!(bench.session.in_flight(), 2);
}

#[test]
fn a_response_to_a_function_that_has_not_left() {
    let mut bench = Bench::new();
    let reset = TaskManagementFunction::LogicalUnitReset;
    bench.session.manage(bench.now, Handle(9), reset, LUN, None);
    // The peer guesses the tag: behind text, logout and four pings, first generation.
    let task = TaskTag(0x1_0000 | (8 + 6));
    let response = TaskManagementResponse {
        response: 0,
        task,
        numbers: bench.numbers(),
    };
    bench.receive(response.emit(), &[]);
    bench.assert_violation("response to a task management function not yet sent");
}

fn text_response(bench: &mut Bench, task: TaskTag, last: bool, continued: bool) -> TextResponse {
    TextResponse {
        last,
        continued,
        lun: LUN,
        task,
        transfer: if last {
            TransferTag::NONE
        } else {
            TransferTag(5)
        },
        numbers: bench.numbers(),
        data_len: 0,
    }
}

#[test]
fn text_is_collected_over_continuations() {
    let mut bench = Bench::new();
    bench.session.text(bench.now, b"SendTargets=All\0");
    let sent = bench.sent();
    let request = TextRequest::parse(&sent[0].bhs).unwrap();
    assert_eq!(
        (request.transfer, request.last, request.cmd_sn),
        (TransferTag::NONE, true, CmdSn(1))
    );
    assert_eq!(sent[0].data, b"SendTargets=All\0");
    for (text, continued) in [(&b"TargetNa"[..], true), (b"me=a\0", false)] {
        let response = text_response(&mut bench, request.task, false, continued);
        bench.receive(response.emit(), text);
        let sent = bench.sent();
        let more = TextRequest::parse(&sent[0].bhs).unwrap();
        assert_eq!(
            (more.transfer, more.lun, more.data_len),
            (TransferTag(5), LUN, 0)
        );
        assert_eq!((more.task, more.last), (request.task, true));
        assert_eq!(bench.events(), []);
    }
    let last = text_response(&mut bench, request.task, true, false);
    let response = TextResponse {
        transfer: TransferTag(5),
        ..last
    };
    bench.receive(response.emit(), b"TargetName=b\0");
    assert_eq!(bench.events(), [Event::Text]);
    assert_eq!(
        bench.session.text_response(),
        b"TargetName=a\0TargetName=b\0"
    );
    // A second exchange starts over.
    bench.session.text(bench.now, b"x=y\0");
    let task = bench.sent()[0].task();
    let response = text_response(&mut bench, task, true, false);
    bench.receive(response.emit(), b"x=z\0");
    assert_eq!(bench.session.text_response(), b"x=z\0");
}

#[test]
fn text_without_end_closes_the_session() {
    for (len, rule) in [
        (8192, "text response longer than 1 MiB"),
        (0, "text exchange without progress"),
    ] {
        let mut bench = Bench::new();
        bench.max_cmd_sn = 1000;
        bench.session.text(bench.now, b"SendTargets=All\0");
        let mut events = Vec::new();
        for _ in 0..200 {
            let Some(task) = bench.sent().first().map(Pdu::task) else {
                break;
            };
            let response = text_response(&mut bench, task, false, false);
            bench.receive(response.emit(), &vec![b'a'; len]);
            events.extend(bench.events());
        }
        assert_eq!(events, [Event::Closed(Closed::Protocol(rule))]);
    }
}

#[test]
fn text_that_nobody_asked_for() {
    let mut bench = Bench::new();
    let response = text_response(&mut bench, TaskTag(1), true, false);
    bench.receive(response.emit(), &[]);
    bench.assert_violation("Text Response that was not asked for");
}

fn logout_response(bench: &mut Bench, task: TaskTag, response: u8) -> LogoutResponse {
    LogoutResponse {
        response,
        task,
        numbers: bench.numbers(),
        time2wait: 4,
        time2retain: 0,
    }
}

#[test]
fn a_logout_waits_for_sent_commands() {
    let mut bench = Bench::new();
    bench.read(1, 0, 512);
    let task = bench.sent()[0].task();
    bench.read(2, 0, 512);
    bench.session.logout(bench.now);
    assert_eq!(bench.session.room(), 0);
    assert_eq!(bench.sent(), []);
    bench.submit(3, Transfer::None);
    bench.answer_good(task);
    let sent = bench.sent();
    let logout = LogoutRequest::parse(&sent[0].bhs).unwrap();
    assert_eq!((sent.len(), logout.reason), (1, LogoutReason::CloseSession));
    let response = logout_response(&mut bench, logout.task, 0);
    bench.receive(response.emit(), &[]);
    assert_eq!(
        bench.events(),
        [good(1, 0), Event::Closed(Closed::LoggedOut)]
    );
    assert_eq!(bench.orphans(), [(2, false), (3, false)]);
}

#[test]
fn a_failed_logout_names_the_wait() {
    let mut bench = Bench::new();
    bench.session.logout(bench.now);
    let task = bench.sent()[0].task();
    let response = logout_response(&mut bench, task, 3);
    bench.receive(response.emit(), &[]);
    let dropped = Closed::DroppedByTarget { time2wait: 4 };
    assert_eq!(bench.events(), [Event::Closed(dropped)]);
}

fn message(bench: &mut Bench, event: AsyncEvent) -> AsyncMessage {
    AsyncMessage {
        lun: LUN,
        numbers: bench.numbers(),
        event,
        data_len: 0,
    }
}

#[test]
fn async_messages() {
    let mut bench = Bench::new();
    let request = message(&mut bench, AsyncEvent::LogoutRequested { seconds: 3 });
    bench.receive(request.emit(), &[]);
    assert_eq!(bench.events(), [Event::Async(request, None)]);
    assert_eq!(bench.session.room(), 8, "obeying is the caller's");

    let mut sense = [0; 18];
    sense[..3].copy_from_slice(&[0x70, 0, 0x06]);
    (sense[7], sense[12], sense[13]) = (10, 0x2a, 0x09);
    let scsi = message(&mut bench, AsyncEvent::Scsi);
    let mut data = vec![0, 18];
    data.extend(sense);
    bench.receive(scsi.emit(), &data);
    let [Event::Async(_, Some(found))] = bench.events()[..] else {
        panic!("no sense")
    };
    assert_eq!((found.asc, found.ascq), (0x2a, 0x09));

    let drop = message(&mut bench, AsyncEvent::SessionDrop { time2wait: 9 });
    bench.receive(drop.emit(), &[]);
    assert_eq!(
        bench.events(),
        [
            Event::Async(drop, None),
            Event::Closed(Closed::DroppedByTarget { time2wait: 9 })
        ]
    );
}

#[test]
fn terminated_tasks_end_and_are_acknowledged() {
    let mut bench = Bench::new();
    bench.read(1, 0, 512);
    bench.sent();
    let terminated = message(&mut bench, AsyncEvent::TasksTerminated);
    bench.receive(terminated.emit(), &[]);
    assert!(matches!(
        bench.events()[..],
        [
            Event::Async(..),
            Event::Completed(Completion {
                handle: Handle(1),
                status: Status::TaskAborted,
                ..
            })
        ]
    ));
    let nop = NopOut::parse(&bench.sent()[0].bhs).unwrap();
    assert_eq!(
        (nop.task, nop.lun, nop.immediate),
        (TaskTag::NONE, LUN, true)
    );
}

fn reject(bench: &mut Bench, reason: RejectReason, rejected: &Pdu) {
    let reject = Reject {
        reason,
        numbers: bench.numbers(),
        data_len: 48,
    };
    bench.receive(reject.emit(), &rejected.bhs.0);
}

#[test]
fn too_many_immediates_are_sent_again_later() {
    let mut bench = Bench::new();
    let reset = TaskManagementFunction::LogicalUnitReset;
    bench.session.manage(bench.now, Handle(9), reset, LUN, None);
    bench.receive(ping_from_target(&bench, 3).emit(), &[]);
    let sent = bench.sent();
    for pdu in &sent {
        reject(&mut bench, RejectReason::TooManyImmediateCommands, pdu);
    }
    assert_eq!((bench.events(), bench.sent()), (vec![], vec![]));
    assert_eq!(
        bench.session.poll_timeout(),
        Some(at(0) + Duration::from_millis(100))
    );
    bench.wait(Duration::from_millis(100));
    let again = bench.sent();
    assert_eq!(
        again.iter().map(Pdu::task).collect::<Vec<_>>(),
        [sent[0].task(), sent[1].task()]
    );
    assert_eq!(
        NopOut::parse(&again[1].bhs).unwrap().transfer,
        TransferTag(3)
    );
}

#[test]
fn a_rejected_text_request_is_sent_again() {
    let mut bench = Bench::new();
    bench.session.text(bench.now, b"SendTargets=All\0");
    let sent = bench.sent();
    reject(&mut bench, RejectReason::OutOfTransferTags, &sent[0]);
    bench.wait(Duration::from_millis(100));
    let again = bench.sent();
    assert_eq!(
        (again[0].task(), &again[0].data),
        (sent[0].task(), &sent[0].data)
    );
}

#[test]
fn a_rejected_ping_proves_life() {
    let mut bench = Bench::new();
    bench.session.ping(bench.now);
    let sent = bench.sent();
    reject(&mut bench, RejectReason::CommandNotSupported, &sent[0]);
    assert_eq!(bench.events(), [Event::Pong]);
}

#[test]
fn waiting_for_logout_is_obeyed_at_once() {
    let mut bench = Bench::new();
    bench.read(1, 0, 512);
    let sent = bench.sent();
    reject(&mut bench, RejectReason::WaitingForLogout, &sent[0]);
    let task = bench.sent()[0].task();
    let response = logout_response(&mut bench, task, 0);
    bench.receive(response.emit(), &[]);
    assert_eq!(bench.events(), [Event::Closed(Closed::LoggedOut)]);
    assert_eq!(bench.orphans(), [(1, true)]);
}

#[test]
fn other_rejects_close_the_session() {
    for reason in [
        RejectReason::ProtocolError,
        RejectReason::TooManyImmediateCommands,
    ] {
        let mut bench = Bench::new();
        bench.read(1, 0, 512);
        let sent = bench.sent();
        reject(&mut bench, reason, &sent[0]);
        assert_eq!(bench.events(), [Event::Closed(Closed::Rejected(reason))]);
        assert_eq!(bench.orphans(), [(1, true)]);
    }
    let mut bench = Bench::new();
    let short = Reject {
        reason: RejectReason::ProtocolError,
        numbers: bench.numbers(),
        data_len: 0,
    };
    bench.receive(short.emit(), &[0; 47]);
    bench.assert_violation("Reject without the rejected header");
}

#[test]
fn opcodes_that_no_target_sends() {
    for opcode in [0x00, 0x01, 0x05, 0x10, 0x1c, 0x2f, 0x3c] {
        let mut bench = Bench::new();
        let mut bhs = Bhs::new(Opcode::NopOut);
        bhs.put_u8(0, opcode);
        bench.receive(bhs, &[]);
        bench.assert_violation("opcode that no target sends");
    }
    let mut bench = Bench::new();
    let mut bhs = Bhs::new(Opcode::LoginResponse);
    bhs.put_u8(1, 0x87);
    bench.receive(bhs, &[]);
    bench.assert_violation("Login Response in full feature phase");
}

#[test]
fn control_data_are_bounded() {
    let terms = Negotiated {
        max_recv_data_segment_length: 1 << 20,
        ..terms()
    };
    let mut bench = Bench::with(terms);
    let reject = Reject {
        reason: RejectReason::ProtocolError,
        numbers: bench.numbers(),
        data_len: 0,
    };
    bench.receive(reject.emit(), &[0; 65_537]);
    bench.assert_violation("control data longer than 64 KiB");
}

#[test]
fn every_end_has_a_sentence() {
    let sentence = Closed::Rejected(RejectReason::Unknown(0x42)).to_string();
    assert!(sentence.contains("0x42"), "{sentence}");
    let sentence = Closed::Protocol("StatSN out of sequence").to_string();
    assert_eq!(
        sentence,
        "the target broke the iSCSI protocol: StatSN out of sequence"
    );
}
