//! What happened lately, in memory: the answer to "why was it slow last night" when nobody had looked. Bounded; the
//! log has the same sentences, and more of them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use iscsi_client::time::Instant;

use crate::host;
use crate::report::{EventReport, EventsReport};

/// Most events kept, of all volumes together.
const EVENTS_MAX: usize = 1000;

/// The latest events of all volumes, also of those that are gone.
#[derive(Debug, Default)]
pub struct Events {
    ring: RefCell<VecDeque<EventReport>>,
    forgotten: Cell<u64>,
}

impl Events {
    /// One more; the oldest makes room.
    pub fn tell(&self, event: EventReport) {
        let mut ring = self.ring.borrow_mut();
        if ring.len() == EVENTS_MAX {
            ring.pop_front();
            self.forgotten.set(self.forgotten.get() + 1);
        }
        ring.push_back(event);
    }

    /// All of them, in the order of their time: queues are asked one after the other.
    pub fn report(&self) -> EventsReport {
        let mut events: Vec<EventReport> = self.ring.borrow().iter().cloned().collect();
        events.sort_by(|a, b| a.time.cmp(&b.time));
        EventsReport {
            forgotten: self.forgotten.get(),
            events,
        }
    }
}

/// The wall clock at a moment of our own clock, in UTC. Texts of two moments compare as the moments do.
pub fn utc(at: Instant) -> String {
    let age = host::now().since(at);
    let since_epoch = SystemTime::now()
        .checked_sub(age)
        .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    rfc3339(since_epoch.unwrap_or_default())
}

/// RFC 3339, with milliseconds.
fn rfc3339(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        time / 3600,
        time / 60 % 60,
        time % 60,
        since_epoch.subsec_millis()
    )
}

/// The date so many days after 1970-01-01. Years begin in March here, so that a leap day is a year's last.
fn date(days: u64) -> (u64, u64, u64) {
    /// Days from 0000-03-01 to 1970-01-01.
    const EPOCH: u64 = 719_468;
    /// Days of 400 years, after which the calendar repeats.
    const CYCLE: u64 = 146_097;
    let days = days + EPOCH;
    let (cycle, day) = (days / CYCLE, days % CYCLE);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months of 31, 30, 31, 30, 31 days, from March: 153 days in five.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = match month {
        0..10 => (month + 3, 0),
        _ => (month - 9, 1),
    };
    (cycle * 400 + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: usize) -> EventReport {
        EventReport {
            time: rfc3339(Duration::from_secs(number as u64)),
            device: "/dev/ublkb0".into(),
            wwid: "3600".into(),
            portal: None,
            state: None,
            text: number.to_string(),
        }
    }

    #[test]
    fn the_latest_thousand_are_kept_in_order_and_the_rest_is_counted() {
        let events = Events::default();
        for number in (0..EVENTS_MAX + 6).map(|number| number ^ 1) {
            events.tell(event(number));
        }
        let report = events.report();
        assert_eq!(report.forgotten, 6);
        let texts: Vec<usize> = report
            .events
            .iter()
            .map(|event| event.text.parse().expect("a number"))
            .collect();
        assert_eq!(texts, (6..EVENTS_MAX + 6).collect::<Vec<_>>());
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_399, "2000-02-28T23:59:59.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (951_868_800, "2000-03-01T00:00:00.007Z"),
            (1_704_067_199, "2023-12-31T23:59:59.007Z"),
            (1_709_164_800, "2024-02-29T00:00:00.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        ] {
            let time = Duration::from_secs(seconds) + Duration::from_millis(7);
            assert_eq!(rfc3339(time), text);
        }
    }

    #[test]
    fn the_past_is_before_the_present() {
        let now = host::now();
        let past = Instant::from_nanos(now.nanos().saturating_sub(2_000_000_000));
        assert!(utc(past) < utc(now));
    }
}
