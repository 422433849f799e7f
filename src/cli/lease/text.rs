//! Lockspaces and leases of this host, for people.

use std::fmt::Write;

use crate::report::{
    HostReport, HostWord, KeeperSessionReport, KeeperSessionWord, LeaseReport, LockspaceReport,
    LockspaceWord, LockspacesReport, ModeWord,
};

/// One after the other.
pub fn lockspaces(report: &LockspacesReport) -> String {
    let mut text = String::new();
    for space in &report.lockspaces {
        lockspace(&mut text, space);
    }
    text
}

fn lockspace(text: &mut String, space: &LockspaceReport) {
    let LockspaceReport {
        name,
        path,
        offset_bytes,
        host_id,
        generation,
        seconds,
        ..
    } = space;
    let state = match space.state {
        LockspaceWord::Joining => format!("joining for {seconds} s"),
        LockspaceWord::Joined => "joined".to_owned(),
        LockspaceWord::Lost => format!("LOST for {seconds} s"),
        LockspaceWord::Reclaiming => "winning its leases back".to_owned(),
        LockspaceWord::Refused => format!("LOST for good {seconds} s ago"),
        LockspaceWord::Leaving => "leaving".to_owned(),
        LockspaceWord::Stuck => "its keeper does not answer".to_owned(),
    };
    // Writing to a String cannot fail.
    let mut renewed = match space.renewed_ms {
        Some(age) => format!("  renewed {} s ago", age / 1000),
        None => String::new(),
    };
    if let Some(of) = &space.renewals {
        let _ = write!(
            renewed,
            " in {} ms, slowest of {} in {} ms",
            of.last_ms, of.count, of.slowest_ms
        );
        if of.timeouts + of.errors > 0 {
            let _ = write!(renewed, ", {} timed out, {} failed", of.timeouts, of.errors);
        }
    }
    let _ = writeln!(
        text,
        "lockspace {name}  at {path}:{offset_bytes}  host {host_id}, generation {generation}  {state}{renewed}"
    );
    if let Some(reason) = &space.reason {
        let _ = writeln!(text, "  {reason}");
    }
    if let Some(group) = &space.volume_group {
        let guards = space.guards.join(", ");
        let _ = writeln!(
            text,
            "  volume group {group}  writes of {guards} depend on it"
        );
    }
    if let Some(why) = &space.unguarded {
        let _ = writeln!(text, "  NOT GUARDED  {why}");
    }
    for each in &space.sessions {
        let _ = writeln!(text, "  {}", session(each));
    }
    for other in &space.hosts {
        let _ = writeln!(text, "  {}", host(other, *host_id));
    }
    let fate = match space.state {
        LockspaceWord::Lost | LockspaceWord::Reclaiming => ", to be won back",
        _ => "",
    };
    for held in &space.leases {
        let _ = writeln!(text, "  {}{fate}", lease(held));
    }
    for offset in &space.acquiring_offsets {
        let _ = writeln!(text, "  acquiring the lease at {offset}");
    }
    for place in &space.acquiring_elsewhere {
        let _ = writeln!(text, "  acquiring the lease at {place}");
    }
    crate::cli::text::way_back(text, &space.way_back);
}

fn session(session: &KeeperSessionReport) -> String {
    let state = match session.state {
        KeeperSessionWord::Down => "down",
        KeeperSessionWord::Connecting => "connecting",
        KeeperSessionWord::Login => "logging in",
        KeeperSessionWord::Checking => "checking",
        KeeperSessionWord::Ready => "ready",
        KeeperSessionWord::Current => "in use",
        KeeperSessionWord::Fencing => "fencing",
        KeeperSessionWord::Closing => "closing",
    };
    let doubt = match session.in_doubt {
        true => "  writes of its last session may still land",
        false => "",
    };
    let up = matches!(
        session.state,
        KeeperSessionWord::Ready | KeeperSessionWord::Current
    );
    let reason = match &session.reason {
        Some(reason) if !up => format!("  {reason}"),
        _ => String::new(),
    };
    format!("own session  {}  {state}{reason}{doubt}", session.portal)
}

fn host(host: &HostReport, us: u64) -> String {
    let state = match host.state {
        HostWord::Free => "FREE   ",
        HostWord::Unknown => "UNKNOWN",
        HostWord::Live => "LIVE   ",
        HostWord::Fail => "FAIL   ",
        HostWord::Dead => "DEAD   ",
    };
    let ours = match host.host_id == us {
        true => "  this host",
        false => "",
    };
    format!(
        "host {}  {state}  {}  generation {}{ours}",
        host.host_id, host.name, host.generation
    )
}

/// In one line.
pub fn lease(lease: &LeaseReport) -> String {
    let mode = match lease.mode {
        ModeWord::Exclusive => "exclusive",
        ModeWord::Shared => "shared",
    };
    let lv = match &lease.lv {
        Some(lv) => format!("  logical volume {lv}"),
        None => String::new(),
    };
    let whose = match lease.held_for.is_empty() {
        true => String::new(),
        false => format!("  for {}", lease.held_for.join(", ")),
    };
    let place = match &lease.path {
        Some(path) => format!("{path}:{}", lease.offset_bytes),
        None => lease.offset_bytes.to_string(),
    };
    format!(
        "lease {} of {}  at {place}  held {mode}, version {}{lv}{whose}",
        lease.name, lease.lockspace, lease.lver
    )
}
