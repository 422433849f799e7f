//! Reads of whole areas, which go in pieces.

use std::time::Duration;

use kit::disk::{Code, Fault, LunConfig, Select};
use kit::target::TargetConfig;
use kit::world::Incident;
use lockmgr::{IoId, ReadFailed, WriteOutcome};

use super::sim::{SECTOR, Sim};
use crate::keeper::disk::Answer;
use crate::keeper::san::tasks::{PIECE, READ_AHEAD};

const AREA: usize = 1 << 20;

/// Each piece of the area begins with the number of the write that was there last.
fn marked(sim: &mut Sim) -> Vec<u64> {
    let mut marks = vec![];
    for at in (0..AREA).step_by(PIECE as usize) {
        let id = sim.write((at / SECTOR) as u64);
        assert_eq!(sim.wrote(id), WriteOutcome::Done);
        marks.push(sim.last);
    }
    marks
}

fn marks_in(data: &[u8]) -> Vec<u64> {
    let pieces = data.chunks(PIECE as usize);
    let mark = |piece: &[u8]| u64::from_be_bytes(piece[..8].try_into().expect("eight bytes"));
    pieces.map(mark).collect()
}

fn answers_to(sim: &Sim, id: IoId) -> usize {
    let is = |answer: &Answer| matches!(answer, Answer::Read { id: of, .. } if *of == id);
    sim.answers.iter().filter(|(_, answer)| is(answer)).count()
}

#[test]
fn the_pieces_of_a_read_come_together_in_order() {
    let mut sim = Sim::usual();
    sim.up();
    let marks = marked(&mut sim);
    let id = sim.read(0, AREA);
    sim.turn();
    let out = sim.carrier.pieces_out(id);
    assert_eq!(out, READ_AHEAD, "no more at once, and no fewer");
    sim.until("the read's end", |sim| sim.data(id).is_some());
    let data = sim.data(id).expect("just reached").expect("all is well");
    assert_eq!((data.len(), marks_in(data)), (AREA, marks));
    assert_eq!(answers_to(&sim, id), 1);
    sim.judge();
}

/// Where a target takes less at once, pieces are smaller.
#[test]
fn a_target_that_moves_little_at_once() {
    let unit = LunConfig {
        max_transfer_blocks: 24,
        ..LunConfig::default()
    };
    let mut sim = Sim::new(3, TargetConfig::default(), unit);
    sim.up();
    let marks = marked(&mut sim);
    let id = sim.read(0, AREA);
    sim.until("the read's end", |sim| sim.data(id).is_some());
    let data = sim.data(id).expect("just reached").expect("all is well");
    assert_eq!(marks_in(data), marks);
    sim.judge();
}

/// A block at a time: 2048 pieces for each area.
#[test]
fn small_pieces_do_not_crowd_out_a_write() {
    let unit = LunConfig {
        max_transfer_blocks: 1,
        ..LunConfig::default()
    };
    let mut sim = Sim::new(3, TargetConfig::default(), unit);
    sim.up();
    let reads: Vec<IoId> = (0..3).map(|_| sim.read(0, AREA)).collect();
    sim.turn();
    let id = sim.write_alone(5);
    assert_eq!(sim.wrote(id), WriteOutcome::Done);
    sim.until("the reads' end", |sim| {
        reads.iter().all(|id| sim.data(*id).is_some())
    });
    assert!(
        reads
            .iter()
            .all(|id| sim.data(*id).expect("just reached").is_ok())
    );
    sim.judge();
}

#[test]
fn a_piece_that_fails_ends_the_read_once() {
    let mut sim = Sim::usual();
    sim.up();
    sim.inject(Select::Reads, Fault::Check(Code::MEDIUM_ERROR));
    let id = sim.read(0, AREA);
    sim.until("the read's end", |sim| sim.data(id).is_some());
    assert_eq!(sim.data(id), Some(Err(ReadFailed)));
    sim.run(Duration::from_secs(5), |_| false);
    assert_eq!((answers_to(&sim, id), sim.carrier.pieces_out(id)), (1, 0));
    // What its other pieces brought disturbs nobody.
    let id = sim.read(0, AREA);
    sim.until("the next one's end", |sim| sim.data(id).is_some());
    assert!(sim.data(id).expect("just reached").is_ok());
}

#[test]
fn pieces_of_a_late_portal_come_through_the_other() {
    let mut sim = Sim::usual();
    sim.up();
    let marks = marked(&mut sim);
    let slow = sim.current();
    sim.world
        .happen(Incident::StopReading(slow, Duration::from_secs(5)));
    let began = sim.world.now();
    let id = sim.read(0, AREA);
    sim.until("the read's end", |sim| sim.data(id).is_some());
    assert!(sim.world.now().since(began) < Duration::from_secs(1));
    let data = sim.data(id).expect("just reached").expect("all is well");
    assert_eq!(marks_in(data), marks);
    // What comes late lands where nobody looks.
    sim.run(Duration::from_secs(10), |_| false);
    assert_eq!(answers_to(&sim, id), 1);
    sim.judge();
}

#[test]
fn a_read_that_is_not_over_in_time_fails_once() {
    let mut sim = Sim::usual();
    sim.up();
    let id = sim.read(0, AREA);
    sim.turn();
    for portal in [0, 1] {
        sim.cut(portal);
    }
    sim.until("the read's end", |sim| sim.data(id).is_some());
    assert_eq!(sim.data(id), Some(Err(ReadFailed)));
    sim.world.make_peace();
    sim.up();
    assert_eq!(answers_to(&sim, id), 1);
    sim.judge();
}
