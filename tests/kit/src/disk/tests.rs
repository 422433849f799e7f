//! The unit by itself: commands that outlive their session, ordered ones, attentions, large capacities.

use super::*;

const NOW: Instant = Instant::from_nanos(0);
const LATER: Instant = Instant::from_nanos(1_000_000_000);
const A: Nexus = Nexus(1);
const B: Nexus = Nexus(2);

fn unit(config: LunConfig) -> LogicalUnit {
    let mut unit = LogicalUnit::new(config, Prng::new(1));
    unit.join(A, None);
    unit.join(B, None);
    unit
}

fn job(nexus: Nexus, task: u32, cdb: &[u8], data: Vec<u8>) -> Job {
    let mut bytes = [0; 16];
    bytes[..cdb.len()].copy_from_slice(cdb);
    Job {
        nexus,
        task,
        group: Group(1),
        port: 1,
        cdb: bytes,
        attribute: TaskAttribute::Simple,
        data,
    }
}

fn write(nexus: Nexus, task: u32, lba: u8, byte: u8) -> Job {
    job(
        nexus,
        task,
        &[0x8a, 0, 0, 0, 0, 0, 0, 0, 0, lba, 0, 0, 0, 1],
        vec![byte; 512],
    )
}

fn read(unit: &mut LogicalUnit, lba: u8) -> u8 {
    unit.submit(
        LATER,
        job(
            A,
            99,
            &[0x88, 0, 0, 0, 0, 0, 0, 0, 0, lba, 0, 0, 0, 1],
            vec![],
        ),
    );
    unit.handle_timeout(LATER + Duration::from_secs(1));
    let done = unit.poll_done().expect("the read ends");
    assert_eq!((done.task, done.answer.status), (99, 0));
    done.answer.data[0]
}

#[test]
fn a_parked_write_outlives_its_session_and_lands_late() {
    let mut unit = unit(LunConfig {
        record_effects: true,
        ..LunConfig::default()
    });
    unit.inject(Injection {
        nexus: Some(A),
        select: Select::Writes,
        fault: Fault::Park,
        times: 1,
    });
    let ghost = unit.submit(NOW, write(A, 1, 5, 1));
    unit.leave(NOW, A, true);
    unit.submit(NOW, write(B, 1, 5, 2));
    unit.handle_timeout(LATER);
    assert_eq!(unit.poll_done().map(|done| done.nexus), Some(B));
    assert_eq!(unit.busy(A), 1);
    assert_eq!(read(&mut unit, 5), 2);
    unit.release(LATER, ghost);
    unit.handle_timeout(LATER);
    assert!(unit.poll_done().is_none(), "nobody hears it");
    assert_eq!(read(&mut unit, 5), 1);
    let effects = unit.take_effects();
    assert_eq!(
        effects
            .iter()
            .map(|effect| effect.nexus)
            .collect::<Vec<_>>(),
        [B, A]
    );
}

#[test]
fn an_ordered_command_waits_for_every_nexus() {
    let mut unit = unit(LunConfig::default());
    unit.inject(Injection {
        nexus: Some(A),
        select: Select::Writes,
        fault: Fault::Park,
        times: 1,
    });
    let parked = unit.submit(NOW, write(A, 1, 5, 1));
    unit.submit(
        NOW,
        Job {
            attribute: TaskAttribute::Ordered,
            ..job(B, 1, &[0], vec![])
        },
    );
    unit.submit(NOW, write(B, 2, 6, 1));
    unit.handle_timeout(LATER);
    assert!(unit.poll_done().is_none());
    unit.release(LATER, parked);
    let end = LATER + Duration::from_secs(1);
    unit.handle_timeout(end);
    let order: Vec<_> = std::iter::from_fn(|| unit.poll_done())
        .map(|done| (done.nexus, done.task))
        .collect();
    assert_eq!(order, [(A, 1), (B, 1), (B, 2)]);
}

#[test]
fn attentions_are_per_nexus_and_spare_inquiry() {
    let mut unit = unit(LunConfig::default());
    unit.resize(1 << 33, true);
    let tur = [0; 16];
    let mut inquiry = [0; 16];
    inquiry[0] = 0x12;
    for nexus in [A, B] {
        assert!(unit.refuse_early(nexus, Group(1), &inquiry).is_none());
        let answer = unit
            .refuse_early(nexus, Group(1), &tur)
            .expect("a unit attention");
        assert_eq!(
            (answer.sense[2], answer.sense[12], answer.sense[13]),
            (6, 0x2a, 9)
        );
        assert!(unit.refuse_early(nexus, Group(1), &tur).is_none());
    }
}

#[test]
fn capacity_beyond_two_tebibytes() {
    let mut unit = unit(LunConfig {
        blocks: 1 << 40,
        ..LunConfig::default()
    });
    let last = [0x8a, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1];
    let beyond = [0x8a, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    for (cdb, status) in [(last, 0), (beyond, 2)] {
        unit.submit(NOW, job(A, 1, &cdb, vec![7; 512]));
        unit.handle_timeout(LATER);
        assert_eq!(unit.poll_done().expect("an answer").answer.status, status);
    }
}
