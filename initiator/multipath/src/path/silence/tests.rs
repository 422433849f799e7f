//! Every row of the diagnosis table, and what must not be taken for silence. A small bench plays the runtime: it samples
//! when asked, probes when asked, and jumps from deadline to deadline.

use super::*;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at(at: u64) -> Instant {
    Instant::from_nanos(1_000_000_000) + millis(at)
}

/// What the other end and the way to it do from some moment on.
#[derive(Clone, Copy, Debug)]
struct Far {
    /// The target answers probes.
    answers: bool,
    /// The target's TCP acknowledges what is sent.
    acknowledges: bool,
    /// Its window is closed: nothing leaves.
    window_closed: bool,
}

const HEALTHY: Far = Far {
    answers: true,
    acknowledges: true,
    window_closed: false,
};
/// The target is busy in its receive thread.
const STALLED: Far = Far {
    answers: false,
    ..HEALTHY
};
/// The link is cut.
const CUT: Far = Far {
    answers: false,
    acknowledges: false,
    window_closed: false,
};
/// The target has taken nothing from its receive buffer for long.
const FULL: Far = Far {
    answers: false,
    acknowledges: true,
    window_closed: true,
};

struct Bench {
    now: Instant,
    silence: Silence,
    far: Far,
    peers: Peers,
    /// The other paths live, complete commands.
    peers_live: bool,
    peers_complete: bool,
    /// As the kernel sees it.
    acked: u64,
    received: u64,
    unacked: u32,
    acked_at: Instant,
    received_at: Instant,
    sent_at: Instant,
    min_rtt: Option<Duration>,
    commands: u32,
    probes: u32,
    samples: u32,
    suspected_at: Option<Instant>,
    dead: Option<(Instant, Dead)>,
}

impl Bench {
    fn new() -> Bench {
        let mut silence = Silence::new(at(0));
        silence.connected(at(0));
        Bench {
            now: at(0),
            silence,
            far: HEALTHY,
            peers: Peers {
                established: true,
                ..Peers::default()
            },
            peers_live: true,
            peers_complete: true,
            acked: 1000,
            received: 1000,
            unacked: 0,
            acked_at: at(0),
            received_at: at(0),
            sent_at: at(0),
            min_rtt: Some(Duration::from_micros(200)),
            commands: 0,
            probes: 0,
            samples: 0,
            suspected_at: None,
            dead: None,
        }
    }

    /// Bytes leave in one segment, and are acknowledged if the way is there.
    fn sent(&mut self, bytes: u64) {
        if self.far.window_closed {
            return;
        }
        self.sent_at = self.now;
        if self.far.acknowledges {
            self.acked += bytes;
            self.acked_at = self.now;
        } else {
            self.unacked += 1;
        }
    }

    fn command(&mut self) {
        self.commands += 1;
        self.sent(48);
        self.silence.observe(self.now, self.commands, false);
    }

    fn answer(&mut self) {
        self.commands -= 1;
        self.received += 48;
        self.received_at = self.now;
        self.silence.heard(self.now);
        self.silence.completed(self.now);
        self.silence.observe(self.now, self.commands, false);
    }

    /// One turn at the present time.
    fn turn(&mut self) {
        if self.peers_live {
            self.peers.alive_at = self.now;
        }
        if self.peers_complete {
            self.peers.completed_at = self.now;
        }
        if self.silence.wants_sample(self.now) {
            self.samples += 1;
            if self.far.window_closed {
                // The kernel probes the window, and is answered.
                self.acked_at = self.now;
            }
            let sample = TcpProgress {
                acked: self.acked,
                received: self.received,
                unacked: self.unacked,
                since_ack: self.now.since(self.acked_at),
                since_data: self.now.since(self.received_at),
                since_sent: self.now.since(self.sent_at),
                rtt: self.min_rtt,
                min_rtt: self.min_rtt,
            };
            self.silence.sampled(self.now, sample);
        }
        if let Some(dead) = self.silence.check(self.now, &self.peers) {
            self.dead.get_or_insert((self.now, dead));
        }
        if self.silence.suspect_since().is_some() {
            self.suspected_at.get_or_insert(self.now);
        }
        if self.silence.wants_probe(self.now) {
            self.probes += 1;
            self.silence.probed(self.now, true);
            self.sent(48);
            if self.far.answers {
                self.received += 48;
                self.received_at = self.now;
                self.silence.heard(self.now);
            }
        }
    }

    /// Goes from deadline to deadline.
    fn run(&mut self, until: u64) {
        let mut turns = 0;
        while self.dead.is_none() {
            self.turn();
            let next = self.silence.deadline().unwrap_or(at(until));
            assert!(next > self.now, "a timer stays due");
            turns += 1;
            assert!(turns < 100_000, "a timer every moment");
            if next >= at(until) {
                break;
            }
            self.now = next;
        }
        self.now = self.now.max(if self.dead.is_some() {
            self.now
        } else {
            at(until)
        });
    }
}

/// A bench under load for a while: a command each millisecond, answered half a millisecond later.
fn busy(until: u64) -> Bench {
    let mut bench = Bench::new();
    for milli in 0..until {
        bench.now = at(milli);
        bench.command();
        bench.turn();
        bench.now = bench.now + Duration::from_micros(500);
        bench.answer();
        bench.turn();
    }
    bench.now = at(until);
    bench
}

#[test]
fn a_busy_path_is_neither_probed_nor_looked_at() {
    let bench = busy(3000);
    assert_eq!((bench.probes, bench.suspected_at), (0, None));
    assert!((3..=4).contains(&bench.samples), "{}", bench.samples);
}

#[test]
fn the_table() {
    struct Row {
        name: &'static str,
        far: Far,
        peers_live: bool,
        peers_complete: bool,
        alone: bool,
        suspected_within: Option<(u64, u64)>,
        dead_within: Option<(u64, u64)>,
    }
    let table = [
        Row {
            name: "probes answered, commands stuck here and there: the unit is slow",
            far: HEALTHY,
            peers_live: true,
            peers_complete: false,
            alone: false,
            suspected_within: None,
            dead_within: None,
        },
        Row {
            name: "probes answered, commands stuck here alone",
            far: HEALTHY,
            peers_live: true,
            peers_complete: true,
            alone: false,
            suspected_within: Some((1000, 1020)),
            dead_within: None,
        },
        Row {
            name: "probes silent, nothing acknowledged, another path fine: dead",
            far: CUT,
            peers_live: true,
            peers_complete: true,
            alone: false,
            suspected_within: Some((30, 35)),
            dead_within: Some((100, 105)),
        },
        Row {
            name: "probes silent, TCP acknowledges, another path fine",
            far: STALLED,
            peers_live: true,
            peers_complete: true,
            alone: false,
            suspected_within: Some((30, 35)),
            dead_within: None,
        },
        Row {
            // The first look cannot tell the answer to a window probe from the command's acknowledgement.
            name: "the same with a window that has closed",
            far: FULL,
            peers_live: true,
            peers_complete: true,
            alone: false,
            suspected_within: Some((30, 45)),
            dead_within: None,
        },
        Row {
            name: "everything silent",
            far: CUT,
            peers_live: false,
            peers_complete: false,
            alone: false,
            suspected_within: Some((30, 35)),
            dead_within: Some((5000, 5020)),
        },
        Row {
            name: "silent, and no other path to compare",
            far: CUT,
            peers_live: false,
            peers_complete: false,
            alone: true,
            suspected_within: Some((30, 35)),
            dead_within: Some((1000, 1020)),
        },
        Row {
            name: "a slow unit without another path",
            far: STALLED,
            peers_live: false,
            peers_complete: false,
            alone: true,
            suspected_within: Some((30, 35)),
            dead_within: None,
        },
    ];
    for row in table {
        let mut bench = busy(100);
        bench.far = row.far;
        bench.peers_live = row.peers_live;
        bench.peers_complete = row.peers_complete;
        bench.peers.established = !row.alone;
        bench.command();
        bench.run(60_000);
        let since = |moment: Instant| moment.since(at(100)).as_millis() as u64;
        let within = |moment: Option<Instant>, range: Option<(u64, u64)>| match (moment, range) {
            (None, None) => true,
            (Some(moment), Some((first, last))) => (first..=last).contains(&since(moment)),
            _ => false,
        };
        assert!(
            within(bench.suspected_at, row.suspected_within),
            "{}: suspected {:?}",
            row.name,
            bench.suspected_at.map(since)
        );
        assert!(
            within(bench.dead.map(|(when, _)| when), row.dead_within),
            "{}: dead {:?}",
            row.name,
            bench.dead
        );
        let right = match bench.dead {
            None => true,
            Some((_, Dead::WhileOthersLive { .. })) => row.peers_live,
            Some((_, Dead::Together { .. })) => !row.peers_live && !row.alone,
            Some((_, Dead::Alone { .. })) => row.alone,
        };
        assert!(right, "{}: {:?}", row.name, bench.dead);
    }
}

#[test]
fn the_target_stalls_and_comes_back() {
    let mut bench = busy(100);
    bench.far = STALLED;
    bench.command();
    bench.run(5_100);
    assert!(bench.silence.suspect_since().is_some() && bench.dead.is_none());
    bench.far = HEALTHY;
    bench.answer();
    assert_eq!(bench.silence.suspect_since(), None);
}

#[test]
fn an_acknowledged_command_is_progress_and_an_acknowledged_probe_is_not() {
    // A long write drains slowly: acknowledgements are all there is.
    let mut bench = busy(100);
    bench.far = STALLED;
    bench.peers_complete = false;
    bench.command();
    for step in 1..100 {
        bench.now = at(100 + step * 20);
        bench.acked += 30_000;
        bench.acked_at = bench.now;
        bench.turn();
    }
    assert_eq!(bench.suspected_at, None);
    bench.run(bench.now.since(at(0)).as_millis() as u64 + 100);
    assert!(bench.suspected_at.is_some());
}

#[test]
fn one_lost_segment_is_no_dead_path() {
    // The command is lost and TCP repeats it after 200 ms; what follows is acknowledged as a duplicate.
    let mut bench = busy(100);
    bench.far = CUT;
    bench.command();
    bench.far = HEALTHY;
    for step in 1..20 {
        bench.now = at(100 + step * 10);
        // Probes arrive out of order: not passed on, so not answered, but the acknowledgement number comes again.
        bench.acked_at = bench.now;
        bench.turn();
    }
    assert_eq!(bench.dead, None);
}

#[test]
fn two_segments_do_not_convict_at_once_but_a_second_does() {
    // TCP's window shrank to one segment after earlier losses: no probe leaves.
    let mut bench = busy(100);
    bench.far = CUT;
    bench.command();
    for step in 1..=101 {
        bench.now = at(100 + step * 10);
        bench.unacked = 1;
        bench.turn();
        if let Some((when, _)) = bench.dead {
            assert!(when >= at(1100), "{when:?}");
            return;
        }
    }
    panic!("never given up");
}

#[test]
fn both_may_have_gone_at_the_same_moment() {
    // The other path was alive a moment later than this one, and never again.
    let mut bench = busy(100);
    bench.far = CUT;
    bench.command();
    bench.peers_complete = false;
    bench.now = at(105);
    bench.turn();
    bench.peers_live = false;
    bench.run(20_000);
    let (when, dead) = bench.dead.expect("given up in the end");
    assert!(when >= at(5000) && matches!(dead, Dead::Together { .. }));
}

#[test]
fn a_long_way_needs_more_time() {
    let mut bench = busy(100);
    bench.min_rtt = Some(millis(20));
    bench.now = at(1500);
    bench.far = CUT;
    bench.command();
    bench.run(10_000);
    let suspected = bench.suspected_at.expect("suspected").since(at(1500));
    assert!((80..90).contains(&suspected.as_millis()), "{suspected:?}");
    let dead = bench.dead.expect("dead").0.since(at(1500));
    assert!((400..430).contains(&dead.as_millis()), "{dead:?}");
}

#[test]
fn an_idle_path_asks_for_nothing() {
    let mut bench = busy(100);
    bench.far = CUT;
    bench.turn();
    assert_eq!(bench.silence.deadline(), None);
    bench.now = at(60_000);
    bench.turn();
    assert_eq!((bench.suspected_at, bench.dead), (None, None));
}

#[test]
fn an_idle_path_that_died_is_found_by_its_next_ping() {
    let mut bench = busy(100);
    bench.far = CUT;
    bench.now = at(600);
    bench.sent(48);
    bench.silence.observe(bench.now, 0, true);
    bench.run(10_000);
    let (when, _) = bench.dead.expect("dead");
    assert!(when <= at(720), "{when:?}");
}

#[test]
fn our_own_pause_proves_nothing() {
    for pause in [100, 1_000, 10_000] {
        let mut bench = busy(100);
        bench.command();
        // The volume compares the deadline with the time at which it runs again.
        let due = bench.silence.deadline().expect("something outstanding");
        bench.now = at(100 + pause);
        bench.silence.forgive(bench.now, bench.now.since(due));
        bench.turn();
        assert_eq!((bench.suspected_at, bench.dead), (None, None), "{pause} ms");
    }
}

#[test]
fn gaps_that_are_usual_are_not_suspicious() {
    let mut bench = Bench::new();
    bench.far = STALLED;
    let mut alarms = [0; 4];
    for (round, alarms) in alarms.iter_mut().enumerate() {
        for command in 0..20 {
            let start = (round as u64 * 20 + command) * 1000;
            bench.now = at(start);
            bench.command();
            // A unit that takes 80 ms and a target that cannot answer meanwhile.
            bench.run(start + 80);
            *alarms += u32::from(bench.silence.suspect_since().is_some());
            bench.answer();
        }
    }
    assert!(alarms[0] > 0 && alarms[3] == 0, "{alarms:?}");
    assert!(bench.silence.suspect_after() < millis(150));
}

#[test]
fn a_long_outage_teaches_no_patience() {
    let mut gap = Gap::default();
    gap.observe(Duration::from_secs(600));
    assert!(gap.usual() < millis(40));
    for _ in 0..1000 {
        gap.observe(Duration::from_secs(600));
    }
    assert_eq!(gap.usual(), GAP_MAX);
    for _ in 0..20_000 {
        gap.observe(millis(1));
    }
    assert_eq!(gap.usual(), SUSPECT_FLOOR);
}
