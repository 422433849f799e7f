//! Queues, rates and round trips, by tables with a clock.

use super::*;

const READ: Option<Direction> = Some(Direction::Read);
const CHUNK: u32 = 128 * 1024;
/// 1 byte per 10 ns.
const FAST: u64 = 100_000_000;

fn at(micros: u64) -> Instant {
    Instant::from_nanos(micros * 1000)
}

const fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

/// A path with a round trip of 200 us, at `rate`, which always has `depth` reads of `len` queued; `count` of them.
fn busy(meter: &mut Meter, start_us: u64, rate: u64, len: u32, depth: usize, count: usize) -> u64 {
    let mut queue = std::collections::VecDeque::new();
    let step = u64::from(len) * 1_000_000 / rate;
    let mut now = start_us;
    let mut link_free = 0;
    let mut sent = 0;
    for _ in 0..count {
        while queue.len() < depth {
            let done = link_free.max(now + 200) + step;
            queue.push_back((meter.submitted(at(now), READ, len), done));
            link_free = done;
            sent += 1;
        }
        let (oldest, done) = queue.pop_front().expect("a queue that was just filled");
        now = done;
        meter.completed(at(now), oldest);
    }
    assert!(sent >= count);
    for (left, done) in queue {
        now = done;
        meter.completed(at(now), left);
    }
    now
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

#[test]
fn predicted_is_the_round_trip_and_what_is_before_it() {
    let mut meter = Meter::new(FAST);
    meter.round_trip_seen(at(0), micros(200));
    let first = meter.submitted(at(0), READ, 100_000);
    assert_eq!(first.predicted, micros(1200));
    assert_eq!(
        meter.submitted(at(0), READ, 100_000).predicted,
        micros(2200)
    );
    let write = meter.submitted(at(0), Some(Direction::Write), 100_000);
    assert_eq!(write.predicted, micros(1200), "the other direction is free");
    let flush = meter.submitted(at(0), None, 0);
    assert_eq!(flush.predicted, micros(2200), "behind both");
    let completion = meter.completed(at(1500), first);
    assert_eq!(completion.observed, micros(1500));
    assert_eq!(completion.predicted, micros(1200));
}

#[test]
fn a_busy_path_is_measured_up_and_down() {
    for (start, rate) in [
        (START_RATE, FAST),
        (FAST, 20_000_000),
        (1, FAST),
        (u64::MAX, FAST),
    ] {
        let mut meter = Meter::new(start);
        meter.round_trip_seen(at(0), micros(200));
        busy(&mut meter, 0, rate, CHUNK, 4, 200);
        let measured = meter.rate(Direction::Read);
        assert!(
            measured.abs_diff(rate) < rate / 100,
            "{start}: {measured} for {rate}"
        );
        assert_eq!(meter.rate(Direction::Write), start, "nothing was written");
    }
}

#[test]
fn one_large_request_after_the_other_is_measured_too() {
    // Never busy for 10 ms, and yet the rate is that of the link, not of the idle time.
    let mut meter = Meter::new(START_RATE);
    meter.round_trip_seen(at(0), micros(200));
    let mut now = 0;
    for _ in 0..50 {
        now = busy(&mut meter, now, FAST, CHUNK, 2, 3) + 3000;
    }
    let measured = meter.rate(Direction::Read);
    assert!(measured.abs_diff(FAST) < FAST / 50, "{measured}");
}

#[test]
fn a_guess_that_was_too_high_does_not_stay() {
    // A link of a quarter of the speed that is taken for granted, and never work for longer than one large request.
    const SLOW: u64 = START_RATE / 4;
    let mut meter = Meter::new(START_RATE);
    meter.round_trip_seen(at(0), micros(200));
    let mut now = 0;
    for _ in 0..8 {
        now = busy(&mut meter, now, SLOW, CHUNK, 2, 4) + 3000;
    }
    let measured = meter.rate(Direction::Read);
    assert!(measured.abs_diff(SLOW) < SLOW / 50, "{measured}");
    // Nor what was true until the link became slower.
    for _ in 0..60 {
        now = busy(&mut meter, now, SLOW / 2, CHUNK, 2, 4) + 3000;
    }
    let measured = meter.rate(Direction::Read);
    assert!(measured.abs_diff(SLOW / 2) < SLOW / 50, "{measured}");
}

#[test]
fn a_lack_of_work_says_nothing_less() {
    let mut meter = Meter::new(START_RATE);
    meter.round_trip_seen(at(0), micros(200));
    let now = busy(&mut meter, 0, FAST, CHUNK, 4, 200);
    let before = meter.rate(Direction::Read);
    // Small ones at depth 2 fill a hundredth of the path.
    let now = busy(&mut meter, now, FAST, 4096, 2, 5000);
    assert_eq!(meter.rate(Direction::Read), before);
    // One by one, with pauses.
    let mut now = now;
    for _ in 0..1000 {
        now = busy(&mut meter, now, FAST, 4096, 1, 1) + 500;
    }
    assert_eq!(meter.rate(Direction::Read), before);
}

#[test]
fn the_best_of_the_last_ten_spans() {
    let mut meter = Meter::new(START_RATE);
    meter.round_trip_seen(at(0), micros(200));
    let now = busy(&mut meter, 0, FAST, CHUNK, 4, 100);
    // A little slower for some spans of 8 completions: not believed yet; for more than ten: believed.
    let now = busy(&mut meter, now, FAST / 2, CHUNK, 4, 40);
    assert!(meter.rate(Direction::Read) > FAST * 9 / 10);
    busy(&mut meter, now, FAST / 2, CHUNK, 4, 120);
    let measured = meter.rate(Direction::Read);
    assert!(measured.abs_diff(FAST / 2) < FAST / 50, "{measured}");
}

#[test]
fn answers_that_come_at_one_moment_do_not_make_a_path_fast() {
    let mut meter = Meter::new(START_RATE);
    // A round trip that was measured far too long.
    meter.round_trip_seen(at(0), micros(50_000));
    for round in 0..1000 {
        let start = round * 5000;
        let sent = [0; 4].map(|_| meter.submitted(at(start), READ, 32 * 1024));
        for sent in sent {
            meter.completed(at(start + 1500), sent);
        }
    }
    // 128 KiB in 1.5 ms, at most twice that.
    let measured = meter.rate(Direction::Read);
    assert!(measured < 2 * 90_000_000, "{measured}");
}

#[test]
fn a_loss_is_not_measured() {
    let mut meter = Meter::new(FAST);
    meter.round_trip_seen(at(0), micros(200));
    for round in 0..1000 {
        let now = round * 1000;
        let lost = meter.submitted(at(now), READ, CHUNK);
        let answered = meter.submitted(at(now), READ, CHUNK);
        meter.dropped(lost);
        meter.completed(at(now + 300), answered);
    }
    assert_eq!(meter.rate(Direction::Read), FAST);
    assert_eq!(meter.queued(Direction::Read), 0);
}

#[test]
fn the_least_round_trip_of_5_to_10_s() {
    let mut meter = Meter::new(START_RATE);
    assert_eq!(meter.round_trip(), Duration::ZERO);
    let second = 1_000_000;
    // (when in s, seen, least then)
    for (when, seen, least) in [
        (0, 300, 300),
        (1, 200, 200),
        (4, 900, 200),
        // The first half ends; it still counts ...
        (6, 900, 200),
        (10, 800, 200),
        // ... until the second ends.
        (11, 900, 800),
        (17, 700, 700),
        // After a long silence one is no proof yet ...
        (60, 5000, 700),
        // ... but what follows is.
        (66, 6000, 5000),
    ] {
        meter.round_trip_seen(at(when * second), micros(seen));
        assert_eq!(meter.round_trip(), micros(least), "after {when} s");
    }
}

#[test]
fn only_small_commands_on_an_idle_path_tell_the_round_trip() {
    let mut meter = Meter::new(FAST);
    let bulk = meter.submitted(at(0), READ, CHUNK);
    let behind = meter.submitted(at(0), READ, 4096);
    meter.completed(at(100), behind);
    meter.completed(at(200), bulk);
    assert_eq!(meter.round_trip(), Duration::ZERO);
    let alone = meter.submitted(at(1000), READ, 10_000);
    meter.completed(at(1350), alone);
    assert_eq!(
        meter.round_trip(),
        micros(250),
        "without the 100 us of its bytes"
    );
}

#[test]
fn latency_is_what_the_queue_does_not_explain() {
    let mut meter = Meter::new(FAST);
    meter.round_trip_seen(at(0), micros(200));
    assert_eq!(meter.latency(), micros(200));
    for round in 0..200 {
        let now = round * 10_000;
        let sent = meter.submitted(at(now), READ, 100_000);
        // 1 ms to move it, 5 ms of medium.
        meter.completed(at(now + 6000), sent);
    }
    let latency = meter.latency();
    assert!(latency.abs_diff(micros(5000)) < micros(5), "{latency:?}");
    // Nor is it for ever: half of what is not the round trip is forgotten in a second.
    let tried = at(199 * 10_000 + 6000);
    assert_eq!(meter.expected_latency(tried), latency);
    let expected = meter.expected_latency(tried + Duration::from_secs(1));
    assert!(expected.abs_diff(micros(2600)) < micros(5), "{expected:?}");
    assert_eq!(meter.latency(), latency);
    // One retransmission timeout is no habit.
    let sent = meter.submitted(at(9_000_000), READ, 100_000);
    meter.completed(at(9_600_000), sent);
    assert!(meter.latency() < micros(7000));
}
