//! The simulated target on its own, spoken to in raw PDUs.

use core::time::Duration;

use iscsi_client::wire::{
    Bhs, CmdSn, DataIn, LoginRequest, LoginResponse, LoginStatus, ScsiCommand, ScsiResponse, Stage,
    TaskAttribute, Tsih, padding,
};

use super::*;
use crate::disk::LunConfig;

const START: Instant = Instant::from_nanos(0);
const LUN: Lun = Lun([0; 8]);

fn target(config: TargetConfig) -> Target {
    let mut target = Target::new(config, Prng::new(1));
    target.add_unit(LUN, LogicalUnit::new(LunConfig::default(), Prng::new(2)));
    target
}

fn pdu(bhs: Bhs, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream::put(&mut bytes, &bhs, data, false, false);
    bytes
}

fn split(mut bytes: &[u8]) -> Vec<(Bhs, Vec<u8>)> {
    let mut pdus = Vec::new();
    while let Some(header) = bytes.first_chunk::<48>() {
        let bhs = Bhs(*header);
        let len = bhs.data_len();
        pdus.push((bhs, bytes[48..48 + len].to_vec()));
        bytes = &bytes[48 + len + padding(len)..];
    }
    pdus
}

fn log_in(target: &mut Target, now: Instant, conn: ConnId, isid: u8) -> Option<LoginResponse> {
    assert!(target.accept(now, conn, 0));
    let text = b"InitiatorName=iqn.2026-01.test:a\0TargetName=iqn.2026-01.test.kit:disk\0\
        SessionType=Normal\0InitialR2T=Yes\0ImmediateData=Yes\0MaxBurstLength=65536\0\
        MaxRecvDataSegmentLength=4096\0";
    let request = LoginRequest {
        transit: Some(Stage::FullFeature),
        continued: false,
        stage: Stage::Operational,
        isid: Isid([0x80, 0, 0, 0, 0, isid]),
        tsih: Tsih(0),
        task: TaskTag(7),
        cid: 0,
        cmd_sn: CmdSn(100),
        exp_stat_sn: StatSn(0),
        data_len: text.len() as u32,
    };
    target.handle(now, conn, &pdu(request.emit(), text));
    login_answer(target, conn)
}

fn login_answer(target: &mut Target, conn: ConnId) -> Option<LoginResponse> {
    let output = target.take_output(conn);
    let (bhs, _) = split(&output).into_iter().next()?;
    Some(LoginResponse::parse(&bhs).expect("a login response"))
}

fn command(cmd_sn: u32, cdb: &[u8], read: u32, write: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = [0; 16];
    bytes[..cdb.len()].copy_from_slice(cdb);
    let command = ScsiCommand {
        immediate: false,
        last: true,
        read: read > 0,
        write: write > 0,
        attribute: TaskAttribute::Simple,
        lun: LUN,
        task: TaskTag(cmd_sn),
        expected_len: read + write,
        cmd_sn: CmdSn(cmd_sn),
        exp_stat_sn: StatSn(0),
        cdb: bytes,
        data_len: data.len() as u32,
    };
    pdu(command.emit(), data)
}

/// Output after the backend had time.
fn later(target: &mut Target, conn: ConnId) -> Vec<(Bhs, Vec<u8>)> {
    target.handle_timeout(START + Duration::from_secs(1));
    split(&target.take_output(conn))
}

#[test]
fn logs_in_writes_with_an_r2t_and_reads_back() {
    let mut target = target(TargetConfig {
        first_attention: None,
        status_in_data_in: 0,
        ..TargetConfig::default()
    });
    let conn = ConnId(1);
    // ExpStatSN 0 must not be beyond what was sent.
    let answer = log_in(&mut target, START, conn, 1).expect("an answer");
    assert_eq!(answer.status, LoginStatus::SUCCESS);
    assert_eq!(answer.transit, Some(Stage::FullFeature));
    assert_ne!(answer.tsih, Tsih(0));
    let mut cdb = [0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 16];
    let data: Vec<u8> = (0..8192u32).map(|at| (at / 7) as u8).collect();
    let exp = answer.numbers.stat_sn.next();
    let with_exp = |mut bytes: Vec<u8>| {
        bytes[28..32].copy_from_slice(&exp.0.to_be_bytes());
        bytes
    };
    target.handle(
        START,
        conn,
        &with_exp(command(100, &cdb, 0, 8192, &data[..4096])),
    );
    let asked = split(&target.take_output(conn));
    let r2t = iscsi_client::wire::R2t::parse(&asked[0].0).expect("an R2T");
    assert_eq!((r2t.offset, r2t.len.get()), (4096, 4096));
    let out = iscsi_client::wire::DataOut {
        last: true,
        lun: LUN,
        task: TaskTag(100),
        transfer: r2t.transfer,
        exp_stat_sn: exp,
        data_sn: iscsi_client::wire::DataSn(0),
        offset: 4096,
        data_len: 4096,
    };
    target.handle(START, conn, &pdu(out.emit(), &data[4096..]));
    let done = later(&mut target, conn);
    assert_eq!(
        ScsiResponse::parse(&done[0].0).expect("a response").status,
        0
    );
    cdb[0] = 0x88;
    target.handle(START, conn, &with_exp(command(101, &cdb, 8192, 0, &[])));
    let read = later(&mut target, conn);
    let (last, parts) = read.split_last().expect("data and a response");
    let back: Vec<u8> = parts.iter().flat_map(|(_, data)| data.clone()).collect();
    assert!(back == data);
    assert_eq!(
        DataIn::parse(&parts[1].0).map(|pdu| (pdu.offset, pdu.last)),
        Ok((4096, true))
    );
    let response = ScsiResponse::parse(&last.0).expect("a response");
    assert_eq!((response.status, response.exp_data_sn), (0, 2));
    assert_eq!(target.violations(), []);
}

#[test]
fn misconduct_is_recorded_and_ends_the_connection() {
    let mut target = target(TargetConfig::default());
    let conn = ConnId(1);
    let answer = log_in(&mut target, START, conn, 1).expect("an answer");
    let mut bytes = command(101, &[0], 0, 0, &[]);
    bytes[28..32].copy_from_slice(&answer.numbers.stat_sn.next().0.to_be_bytes());
    target.handle(START, conn, &bytes);
    assert_eq!(target.violations()[0].rule, "CmdSN is not the expected one");
    assert_eq!(
        target.poll_close().map(|(id, how, _)| (id, how)),
        Some((conn, Close::Rst))
    );
    assert_eq!(target.sessions().count(), 0);
}

/// A write of session 1 hangs in the backend; session 2 has the same identity. Is its login answered?
fn reinstated(reinstatement: Reinstatement) -> (bool, bool) {
    let mut target = target(TargetConfig {
        first_attention: None,
        reinstatement,
        ..TargetConfig::default()
    });
    let (one, two) = (ConnId(1), ConnId(2));
    let answer = log_in(&mut target, START, one, 1).expect("an answer");
    target.unit(LUN).inject(crate::disk::Injection {
        nexus: None,
        select: crate::disk::Select::Writes,
        fault: crate::disk::Fault::Park,
        times: 1,
    });
    let mut bytes = command(
        100,
        &[0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1],
        0,
        512,
        &[1; 512],
    );
    bytes[28..32].copy_from_slice(&answer.numbers.stat_sn.next().0.to_be_bytes());
    target.handle(START, one, &bytes);
    assert_eq!(target.unit(LUN).parked().count(), 1);
    let early = log_in(&mut target, START, two, 1);
    assert_eq!(
        target.poll_close().map(|(id, ..)| id),
        Some(one),
        "the old session ends"
    );
    let mut answered = false;
    if let Some(answer) = early {
        let mut bytes = command(100, &[0x12, 0, 0, 0, 36], 36, 0, &[]);
        bytes[28..32].copy_from_slice(&answer.numbers.stat_sn.next().0.to_be_bytes());
        target.handle(START, two, &bytes);
        answered = !later(&mut target, two).is_empty();
    }
    let now = START + Duration::from_secs(2);
    target.unit(LUN).release_all(now);
    target.handle_timeout(now);
    if early.is_none() {
        assert!(
            login_answer(&mut target, two).is_some(),
            "answered after the drain"
        );
    } else {
        target.handle_timeout(now + Duration::from_secs(1));
        assert!(
            answered || !target.take_output(two).is_empty(),
            "served after the drain"
        );
    }
    assert_eq!(target.violations(), []);
    (early.is_some(), answered)
}

#[test]
fn temperaments_differ_in_what_waits_for_the_old_session() {
    assert_eq!(reinstated(Reinstatement::AnswerAfterDrain), (false, false));
    assert_eq!(reinstated(Reinstatement::ReadAfterDrain), (true, false));
    assert_eq!(reinstated(Reinstatement::AnswerAtOnce), (true, true));
}
