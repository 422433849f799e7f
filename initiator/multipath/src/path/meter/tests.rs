//! Queues, rates and round trips, by tables with a clock.

use super::*;

const READ: Option<Direction> = Some(Direction::Read);

fn at(micros: u64) -> Instant {
    Instant::from_nanos(micros * 1000)
}

#[test]
fn what_is_sent_is_queued_until_it_is_back_or_gone() {
    let mut meter = Meter::new(START_RATE);
    let read = meter.submitted(at(0), READ, 100);
    let write = meter.submitted(at(0), Some(Direction::Write), 30);
    let flush = meter.submitted(at(0), None, 0);
    let lost = meter.submitted(at(0), READ, 7);
    assert_eq!(meter.in_flight(), 4);
    assert_eq!(meter.queued(Direction::Read), 107);
    assert_eq!(meter.queued(Direction::Write), 30);
    meter.completed(at(1), read);
    meter.dropped(lost);
    meter.completed(at(2), flush);
    meter.completed(at(2), write);
    assert_eq!(meter.in_flight(), 0);
    assert_eq!(meter.queued(Direction::Read), 0);
    assert_eq!(meter.queued(Direction::Write), 0);
}
