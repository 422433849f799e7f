//! What `status` shows of a volume: its queue's picture, in words that people and scripts know.

use std::time::Duration;

use iscsi_client::login::Authentication;
use multipath::{
    FenceKind, FenceTimes, NoPathRetry, PathState, PathStatus, PolicyKind, VolumeStatus,
};

use crate::host::{self, records};
use crate::report::{
    FenceWord, FencesReport, Health, PathReport, PathWord, SessionReport, StandingWord,
    VolumeReport,
};

use super::gate;
use super::volume::Volume;

impl Volume {
    /// What `status` shows.
    pub async fn report(&self) -> VolumeReport {
        let identity = &self.description.identity;
        let status = self.status().await;
        let now = host::now();
        let seconds = |since| now.since(since).as_secs();
        let paths: Vec<PathReport> = status
            .iter()
            .flat_map(|status| &status.paths)
            .map(path_report)
            .collect();
        let health = match &status {
            Err(_) => Health::Stuck,
            Ok(_) => health(&paths),
        };
        let mut notes = self.notes.borrow().clone();
        notes.extend(shared_cables(&paths));
        notes.extend(only_held(&paths));
        notes.extend(status.iter().flat_map(|status| other_groups(&status.paths)));
        notes.extend(
            status
                .iter()
                .flat_map(|status| sizes(status, self.disk_blocks())),
        );
        notes.extend(status.as_ref().err().map(|failure| failure.what.clone()));
        let mut links = Vec::new();
        if let Some(hex) = records::wwn(&identity.wwid) {
            links.push(format!("/dev/disk/by-id/wwn-0x{hex}"));
        }
        links.push(format!(
            "/dev/disk/by-id/sanblk-{}",
            records::file_name(&identity.wwid)
        ));
        let status = status.ok();
        let gate = self.gate_report(status.as_ref());
        notes.extend(gate.as_ref().and_then(gate::sentence));
        let number = |pick: fn(&VolumeStatus) -> u64| status.as_ref().map_or(0, pick);
        VolumeReport {
            device: self.node(),
            wwid: identity.wwid.clone(),
            links,
            serial: identity.serial.clone(),
            vendor: identity.vendor.clone(),
            product: identity.product.clone(),
            size_bytes: self.disk_blocks().saturating_mul(identity.block_len.into()),
            block_bytes: identity.block_len,
            read_only: self.description.read_only,
            target: self.target.clone(),
            lun: self.lun.to_string(),
            initiator_name: self.initiator_name.clone(),
            health,
            policy: status
                .as_ref()
                .map_or_else(PolicyKind::default, |status| status.policy)
                .into(),
            no_path_retry: status
                .as_ref()
                .map_or(NoPathRetry::Queue, |status| status.no_path_retry)
                .into(),
            in_flight: status.as_ref().map_or(0, |status| status.in_flight),
            waiting: status.as_ref().map_or(0, |status| status.waiting),
            held: status.as_ref().map_or(0, |status| status.held),
            fences: status
                .as_ref()
                .map_or_else(FencesReport::default, |status| fences(status.fences)),
            unresolved: number(|status| status.unresolved.len() as u64),
            deferred_errors: number(|status| status.deferred_errors),
            gate,
            no_path_seconds: status
                .as_ref()
                .and_then(|status| status.all_paths_down_since)
                .map(seconds),
            paths,
            notes,
        }
    }
}

/// Where the LUN and the disk differ in size.
fn sizes(status: &VolumeStatus, disk: u64) -> Vec<String> {
    let words = |blocks: u64| {
        let bytes = blocks.saturating_mul(u64::from(status.identity.block_len));
        crate::cli::text::size(bytes)
    };
    let grown = (status.identity.blocks > disk).then(|| {
        format!(
            "the LUN has grown to {} and this kernel's ublk cannot resize the disk: detach and attach again",
            words(status.identity.blocks)
        )
    });
    let shrunk = status.shrunk_to.map(|blocks| {
        format!(
            "the target reports only {} on some path: IO beyond does not go there, and fails where no path has more",
            words(blocks)
        )
    });
    grown.into_iter().chain(shrunk).collect()
}

/// Paths that one cable carries: losing it loses both. Loopback is for tests.
fn shared_cables(paths: &[PathReport]) -> Vec<String> {
    let mut notes = Vec::new();
    for (index, path) in paths.iter().enumerate() {
        let Some(interface) = path.interface.as_ref().filter(|name| *name != "lo") else {
            continue;
        };
        let shares = |other: &&PathReport| other.interface.as_ref() == Some(interface);
        if let Some(other) = paths[..index].iter().find(shares) {
            notes.push(format!(
                "{} and {} share the interface {interface}: one cable carries both",
                other.portal, path.portal
            ));
        }
    }
    notes
}

fn health(paths: &[PathReport]) -> Health {
    let good = |path: &&PathReport| matches!(path.state, PathWord::Up | PathWord::Standby);
    let up = paths
        .iter()
        .filter(|path| path.state == PathWord::Up)
        .count();
    match (up, paths.iter().filter(good).count() == paths.len()) {
        (0, _) => Health::NoPath,
        (_, true) => Health::Up,
        (_, false) => Health::Degraded,
    }
}

/// A path's state as one word.
pub(super) fn word(state: &PathState) -> PathWord {
    match state {
        PathState::Up => PathWord::Up,
        PathState::Standby => PathWord::Standby,
        PathState::Down { .. } => PathWord::Failed,
        PathState::Connecting => PathWord::Connecting,
        PathState::LoggingIn => PathWord::Login,
        PathState::Verifying => PathWord::Checking,
        PathState::Closing => PathWord::Closing,
        PathState::Refused { .. } => PathWord::Refused,
        PathState::Offline => PathWord::Offline,
        PathState::Removed => PathWord::Removed,
    }
}

fn path_report(path: &PathStatus) -> PathReport {
    let now = host::now();
    let state = word(&path.state);
    let (reason, retry_ms) = match &path.state {
        PathState::Down { why, retry_at } => {
            let wait = retry_at.since(now).as_millis();
            let wait = u64::try_from(wait).unwrap_or(u64::MAX);
            (Some(why.clone()), Some(wait))
        }
        PathState::Refused { why } => (Some(why.clone()), None),
        PathState::Offline => {
            let why = "failed by the operator; `sanblk path restore` gives it back";
            (Some(why.to_owned()), None)
        }
        PathState::Removed => {
            let why = "gone when its last session is proven dead";
            (Some(why.to_owned()), None)
        }
        PathState::Up
        | PathState::Standby
        | PathState::Connecting
        | PathState::LoggingIn
        | PathState::Verifying
        | PathState::Closing => (None, None),
    };
    // An attempt that is under way is no better news than the last one's failure.
    let (reason, since) = match &path.trouble {
        Some((why, since)) => (reason.or_else(|| Some(why.clone())), *since),
        None => (reason, path.since),
    };
    PathReport {
        portal: path.config.portal_name.clone(),
        address: path.config.portal.to_string(),
        interface: path.config.interface.clone(),
        target: path.config.target_name.clone(),
        portal_group: path
            .portal_group
            .or(path.config.portal_group)
            .map(|tag| tag.0),
        isid: path.config.isid.to_string(),
        state,
        seconds: now.since(since).as_secs(),
        reason,
        retry_ms,
        round_trip_ns: path.round_trip_ns,
        session: path.negotiated.as_ref().map(|terms| SessionReport {
            header_digest: terms.header_digest,
            data_digest: terms.data_digest,
            authentication: match terms.authentication {
                Authentication::None => "none".to_owned(),
                Authentication::Chap(number) => format!("chap {}", algorithm(number)),
                Authentication::MutualChap(number) => format!("mutual-chap {}", algorithm(number)),
            },
            max_send_data_segment_length: terms.max_send_data_segment_length,
            max_recv_data_segment_length: terms.max_recv_data_segment_length,
            max_burst_length: terms.max_burst_length,
            first_burst_length: terms.first_burst_length,
            max_outstanding_r2t: terms.max_outstanding_r2t,
            initial_r2t: terms.initial_r2t,
            immediate_data: terms.immediate_data,
        }),
        standing: match path.damping.marginal_until(now) {
            _ if path.suspect_since.is_some() => StandingWord::Suspect,
            Some(_) => StandingWord::Marginal,
            None => StandingWord::Full,
        },
        penalty: path.damping.penalty(now).round() as u64,
        marginal_seconds: path
            .damping
            .marginal_until(now)
            .map(|until| until.since(now).as_secs() + 1),
        probation: path.pace.probation,
        read_bytes_per_second: path.pace.rate.read,
        write_bytes_per_second: path.pace.rate.write,
        read_window_bytes: path.pace.window.read,
        write_window_bytes: path.pace.window.write,
        latency_ns: nanos(path.pace.latency),
        stall_penalty_ns: nanos(path.pace.stall.penalty(now)),
        in_flight: path.in_flight,
        completed: path.completed,
        bytes_read: path.bytes_read,
        bytes_written: path.bytes_written,
        losses: path.losses,
        fence: path.fence.clone(),
        fence_kind: match path.fence_kind {
            FenceKind::NotNeeded => FenceWord::NotNeeded,
            FenceKind::Reinstatement => FenceWord::Reinstatement,
            FenceKind::TimedHold | FenceKind::LunReset => FenceWord::TimedHold,
            FenceKind::OwnReturn => FenceWord::OwnReturn,
        },
        fence_hold_seconds: path.hold.as_secs(),
        fences: fences(path.fences),
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn fences(times: FenceTimes) -> FencesReport {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    FencesReport {
        done: times.done,
        last_ms: times.last.map(millis),
        longest_ms: times.longest.map(millis),
    }
}

/// Paths that no other portal can fence, even if all are up: what was under way when one is lost waits long.
fn only_held(paths: &[PathReport]) -> Option<String> {
    let alone = |path: &&PathReport| {
        let mates = paths.iter().filter(|other| {
            other.portal_group == path.portal_group && other.fence_kind != FenceWord::NotNeeded
        });
        path.fence_kind == FenceWord::TimedHold && mates.count() == 1
    };
    let alone: Vec<&PathReport> = paths.iter().filter(alone).collect();
    let seconds = alone.first()?.fence_hold_seconds;
    let portals: Vec<&str> = alone.iter().map(|path| path.portal.as_str()).collect();
    Some(format!(
        "{}: no other portal of the same portal group is attached; a write under way when such a path is lost is \
         answered when the path is back, or by the timed hold after {seconds} s",
        portals.join(", ")
    ))
}

/// Where the login contradicts discovery about the portal group.
fn other_groups(paths: &[PathStatus]) -> impl Iterator<Item = String> + '_ {
    paths.iter().filter_map(|path| {
        let (listed, found) = (path.config.portal_group?, path.portal_group?);
        (listed != found).then(|| {
            format!(
                "{}: discovery says portal group {}, the login says {}; fencing goes by the login",
                path.config.portal_name, listed.0, found.0
            )
        })
    })
}

fn algorithm(number: u8) -> String {
    match number {
        5 => "md5".to_owned(),
        6 => "sha1".to_owned(),
        7 => "sha256".to_owned(),
        8 => "sha3-256".to_owned(),
        other => format!("algorithm {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(portal: &str, interface: Option<&str>, state: PathWord) -> PathReport {
        PathReport {
            portal: portal.into(),
            address: String::new(),
            interface: interface.map(str::to_owned),
            target: String::new(),
            portal_group: None,
            isid: String::new(),
            state,
            seconds: 0,
            reason: None,
            retry_ms: None,
            round_trip_ns: None,
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
            fence: String::new(),
            fence_kind: FenceWord::Reinstatement,
            fence_hold_seconds: 310,
            fences: FencesReport::default(),
        }
    }

    #[test]
    fn a_path_that_only_time_can_fence_is_said_with_its_seconds() {
        let of = |groups: &[(u16, FenceWord)]| {
            let paths: Vec<PathReport> = groups
                .iter()
                .map(|&(group, fence_kind)| PathReport {
                    portal_group: Some(group),
                    fence_kind,
                    ..path(&format!("portal{group}"), None, PathWord::Up)
                })
                .collect();
            only_held(&paths)
        };
        use FenceWord::{NotNeeded, OwnReturn, Reinstatement, TimedHold};
        assert_eq!(of(&[(1, Reinstatement), (1, Reinstatement)]), None);
        assert_eq!(of(&[(1, OwnReturn)]), None);
        // The sibling is only down now.
        assert_eq!(of(&[(1, TimedHold), (1, TimedHold)]), None);
        let note = of(&[(1, TimedHold), (2, TimedHold)]).unwrap();
        assert!(note.contains("portal1, portal2:"), "{note}");
        assert!(note.contains("310 s"), "{note}");
        let note = of(&[(1, TimedHold), (1, NotNeeded), (2, Reinstatement)]).unwrap();
        assert!(note.starts_with("portal1: "), "{note}");
    }

    #[test]
    fn one_cable_for_two_paths_is_said() {
        let on = |interfaces: [Option<&str>; 2]| {
            let paths = interfaces.map(|interface| path("p", interface, PathWord::Up));
            shared_cables(&paths).len()
        };
        assert_eq!(on([Some("eth1"), Some("eth1")]), 1);
        assert_eq!(on([Some("eth1"), Some("eth2")]), 0);
        assert_eq!(on([Some("lo"), Some("lo")]), 0);
        assert_eq!(on([None, None]), 0);
    }

    #[test]
    fn health_is_that_of_the_paths() {
        let of = |states: &[PathWord]| {
            let paths: Vec<_> = states.iter().map(|state| path("p", None, *state)).collect();
            health(&paths)
        };
        assert_eq!(of(&[PathWord::Up, PathWord::Up]), Health::Up);
        assert_eq!(of(&[PathWord::Up, PathWord::Standby]), Health::Up);
        assert_eq!(of(&[PathWord::Up, PathWord::Failed]), Health::Degraded);
        assert_eq!(of(&[PathWord::Up, PathWord::Refused]), Health::Degraded);
        assert_eq!(of(&[PathWord::Connecting]), Health::NoPath);
        assert_eq!(of(&[]), Health::NoPath);
    }
}
