//! What people see, word by word.

use crate::config::{NoPath, Policy};
use crate::report::{
    DaemonReport, EventReport, EventsReport, FencesReport, GateReport, LockManagerReport,
    StandingWord,
};

use super::*;

fn path(portal: &str, interface: &str, state: PathWord) -> PathReport {
    PathReport {
        portal: portal.into(),
        address: format!("{portal}:3260"),
        interface: Some(interface.into()),
        target: "iqn.2020-01.x:t".into(),
        portal_group: Some(1),
        isid: "0x800000000001".into(),
        state,
        seconds: 3 * 86_400,
        reason: None,
        retry_ms: None,
        round_trip_ns: Some(234_567),
        session: None,
        standing: StandingWord::Full,
        penalty: 0,
        marginal_seconds: None,
        probation: false,
        read_bytes_per_second: 0,
        write_bytes_per_second: 0,
        read_window_bytes: 0,
        write_window_bytes: 0,
        latency_ns: 0,
        stall_penalty_ns: 0,
        in_flight: 0,
        completed: 0,
        bytes_read: 0,
        bytes_written: 0,
        losses: 0,
        fence: "session reinstatement through the other".into(),
        fence_kind: FenceWord::Reinstatement,
        fence_hold_seconds: 310,
        fences: FencesReport::default(),
    }
}

fn two_paths() -> VolumeReport {
    VolumeReport {
        device: "/dev/ublkb0".into(),
        wwid: "36001405aabbccddeeff001122334455f".into(),
        links: vec![],
        serial: String::new(),
        vendor: "LIO-ORG".into(),
        product: "block0".into(),
        size_bytes: 9_015_995_347_763,
        block_bytes: 512,
        read_only: false,
        target: "iqn.2020-01.x:t".into(),
        lun: "0".into(),
        initiator_name: "iqn.2020-01.x:h".into(),
        health: Health::Up,
        policy: Policy::LateBinding,
        no_path_retry: NoPath::Queue,
        in_flight: 0,
        waiting: 0,
        held: 0,
        fences: FencesReport::default(),
        unresolved: 0,
        deferred_errors: 0,
        gate: None,
        no_path_seconds: None,
        paths: vec![
            path("10.20.5.254", "eth1", PathWord::Up),
            path("10.20.6.254", "eth2", PathWord::Up),
        ],
        notes: vec![],
    }
}

fn all(volume: VolumeReport) -> StatusReport {
    let daemon = DaemonReport {
        version: "0.1.0".into(),
        pid: 1,
        dropped_log_lines: 0,
        lock_manager: None,
    };
    StatusReport {
        daemon: Some(daemon),
        volumes: vec![volume],
    }
}

#[test]
fn attach_prints_one_line() {
    let report = AttachReport {
        volume: two_paths(),
        new: true,
        other_portals: vec![],
    };
    assert_eq!(
        attach(&report),
        "/dev/ublkb0  36001405aabbccddeeff001122334455f  LIO-ORG block0  8.2 TiB  2 paths\n"
    );
}

#[test]
fn attach_names_what_is_down_and_what_is_not_used() {
    let mut volume = two_paths();
    volume.paths[1].state = PathWord::Failed;
    volume.paths[1].reason = Some("connection refused".into());
    let report = AttachReport {
        volume,
        new: true,
        other_portals: vec!["10.20.7.254".into()],
    };
    let text = attach(&report);
    assert!(
        text.contains("2 paths, 1 up") || text.contains("1 of 2 paths up"),
        "{text}"
    );
    assert!(text.contains("connection refused"), "{text}");
    assert!(text.contains("not used: 10.20.7.254"), "{text}");
}

#[test]
fn a_pulled_cable() {
    let mut volume = two_paths();
    volume.health = Health::Degraded;
    volume.paths[1] = PathReport {
        seconds: 12,
        reason: Some("silent".into()),
        retry_ms: Some(2_100),
        ..path("10.20.6.254", "eth2", PathWord::Failed)
    };
    assert_eq!(
        status(&all(volume)),
        "/dev/ublkb0  36001405aabbccddeeff001122334455f  8.2 TiB  DEGRADED  1 of 2 paths\n\
         \x20 10.20.5.254  via eth1  up      3d   0.2 ms\n\
         \x20 10.20.6.254  via eth2  failed  12s  silent; retry in 3 s\n\
         \x20 fence: session reinstatement through the other\n\
         \x20 policy late-binding, no path: queue; writes held: 0\n"
    );
}

#[test]
fn a_path_that_carries_io_says_how_fast_and_what_speaks_against_it() {
    let mut volume = two_paths();
    let [first, second] = &mut volume.paths[..] else {
        unreachable!("two")
    };
    first.bytes_read = 1;
    first.read_bytes_per_second = 118 << 20;
    first.bytes_written = 1;
    first.write_bytes_per_second = (9 << 20) + (1 << 19);
    first.in_flight = 12;
    second.standing = StandingWord::Marginal;
    second.marginal_seconds = Some(21);
    second.losses = 2;
    second.penalty = 2000;
    let text = status(&all(volume.clone()));
    for line in [
        "  10.20.5.254  via eth1  up  3d  0.2 ms  read 118 write 9.5 MiB/s, 12 in flight\n",
        "  10.20.6.254  via eth2  up  3d  0.2 ms  MARGINAL for 21s, lost 2 times, penalty 2000\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    volume.paths[0].standing = StandingWord::Suspect;
    volume.paths[1].standing = StandingWord::Full;
    volume.paths[1].probation = true;
    let text = status(&all(volume));
    assert!(text.contains("ms  SUSPECT, read 118"), "{text}");
    assert!(text.contains("ms  on probation, lost"), "{text}");
}

#[test]
fn writes_that_wait_for_the_lease_or_fail_for_it_are_seen_at_once() {
    let mut volume = two_paths();
    let gate = |state| GateReport {
        lockspace: Some("LS".into()),
        state,
        since: Some("2026-01-31T12:03:04.000Z".into()),
        open_ms: None,
        waiting_writes: 14,
        way_back: Vec::new(),
    };
    volume.waiting = 16;
    for (state, word) in [
        (GateWord::Shut, "  up  2 paths  WRITES WAIT\n"),
        (GateWord::Refused, "  up  2 paths  WRITES FAIL\n"),
    ] {
        volume.gate = Some(gate(state));
        let text = status(&all(volume.clone()));
        assert!(text.contains(word), "{text}");
        assert!(text.contains("2 requests wait for a path"), "{text}");
    }
    // To be pasted, so never wrapped.
    let command = format!("sanblk attach{}", " --portal 10.20.5.254".repeat(8));
    volume.gate = Some(GateReport {
        way_back: vec!["sanblk detach /dev/ublkb0".into(), command.clone()],
        ..gate(GateWord::Refused)
    });
    let text = status(&all(volume.clone()));
    let way = format!(
        "  the way back, once nothing uses it any more:\n    sanblk detach /dev/ublkb0\n    {command}\n"
    );
    assert!(text.contains(&way), "{text}");
    volume.gate = Some(gate(GateWord::Open));
    let text = status(&all(volume));
    assert!(!text.contains("the way back"), "{text}");
    assert!(text.contains("  up  2 paths\n"), "{text}");
    assert!(text.contains("  writes depend on lockspace LS\n"), "{text}");
}

#[test]
fn fences_that_differ_are_told_apart_and_timed() {
    let mut volume = two_paths();
    volume.paths[1].fence_kind = FenceWord::TimedHold;
    volume.paths[1].fence = "by its own return, or a timed hold of 310 s".into();
    volume.paths.push(path("10.20.7.254", "eth3", PathWord::Up));
    volume.fences = FencesReport {
        done: 2,
        last_ms: Some(4),
        longest_ms: Some(12),
    };
    let text = status(&all(volume));
    for line in [
        "  fence of 10.20.5.254, 10.20.7.254: session reinstatement through the other\n",
        "  fence of 10.20.6.254: by its own return, or a timed hold of 310 s\n",
        "  fenced 2 times: last in 4 ms, longest in 12 ms\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn no_line_is_wider_than_the_terminal_and_a_refusal_is_whole() {
    let mut volume = two_paths();
    let sentence = "another LUN answers behind this portal: its serial number is \"b\", the volume's is \"a\"; \
                    nothing was written to it. Correct the target's LUN mapping, or detach and attach again";
    volume.paths[0].state = PathWord::Refused;
    volume.paths[0].reason = Some(sentence.into());
    volume.paths[1].state = PathWord::Failed;
    volume.paths[1].reason = Some("x".repeat(200));
    volume.notes = vec!["word ".repeat(60)];
    volume.unresolved = 1;
    volume.deferred_errors = 2;
    let text = status(&all(volume));
    for line in text.lines() {
        assert!(line.chars().count() <= COLUMNS, "{line}");
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    assert!(words.join(" ").contains(sentence), "{text}");
    assert!(text.contains("1 unresolved write:"), "{text}");
}

#[test]
fn a_path_that_the_operator_took_out() {
    let mut volume = two_paths();
    volume.health = Health::Degraded;
    volume.paths[1] = PathReport {
        seconds: 7,
        reason: Some("failed by the operator; `sanblk path restore` gives it back".into()),
        ..path("10.20.6.254", "eth2", PathWord::Offline)
    };
    let text = status(&all(volume));
    assert!(
        text.contains(
            "via eth2  offline  7s  failed by the operator; `sanblk path restore` gives it back\n"
        ),
        "{text}"
    );
}

#[test]
fn events_are_told_whole() {
    let event = |portal: Option<&str>, text: &str| EventReport {
        time: "2026-01-31T12:00:00.123Z".into(),
        device: "/dev/ublkb0".into(),
        wwid: "3600".into(),
        portal: portal.map(str::to_owned),
        state: None,
        text: text.into(),
    };
    let long = format!("10.20.5.254: down: {}", "why ".repeat(40));
    let report = EventsReport {
        forgotten: 2,
        events: vec![event(None, "attached"), event(Some("10.20.5.254"), &long)],
    };
    assert_eq!(
        events(&report),
        format!(
            "(2 events before are forgotten)\n\
             2026-01-31T12:00:00.123Z  /dev/ublkb0  attached\n\
             2026-01-31T12:00:00.123Z  /dev/ublkb0  {long}\n"
        )
    );
    assert!(events(&EventsReport::default()).contains("nothing has happened"));
}

#[test]
fn a_lock_manager_that_is_off_is_told() {
    let mut report = all(two_paths());
    let off = "another one serves /run/sanlock/sanlock.sock".to_owned();
    let manager = |off| LockManagerReport {
        socket: "/run/sanlock/sanlock.sock".into(),
        off,
    };
    let daemon = |manager| DaemonReport {
        lock_manager: Some(manager),
        ..report.daemon.clone().unwrap()
    };
    let (on, off) = (daemon(manager(None)), daemon(manager(Some(off))));
    report.daemon = Some(on);
    assert!(!status(&report).contains("lock manager"));
    report.daemon = Some(off);
    let text = status(&report);
    assert!(
        text.ends_with("the lock manager is OFF: another one serves /run/sanlock/sanlock.sock\n"),
        "{text}"
    );
}

#[test]
fn nothing_attached() {
    assert!(status(&StatusReport::default()).contains("the daemon does not run"));
}

#[test]
fn sizes_and_spans() {
    for (bytes, text) in [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1 << 30, "1 GiB"),
        (9_015_995_347_763, "8.2 TiB"),
        (u64::MAX, "16 EiB"),
    ] {
        assert_eq!(size(bytes), text);
    }
    for (seconds, text) in [
        (0, "0s"),
        (59, "59s"),
        (60, "1m"),
        (7199, "1h"),
        (259_200, "3d"),
    ] {
        assert_eq!(span(seconds), text);
    }
    assert_eq!(round_trip(234_567), "0.2 ms");
    assert_eq!(round_trip(12_345_678), "12.3 ms");
}
