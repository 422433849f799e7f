//! Reports as text: one line per path, at most 100 columns, for people. Scripts use `--json`.

use std::fmt::Write;

use crate::report::{
    AttachReport, DiscoverReport, EventsReport, FenceWord, GateWord, Health, PathReport, PathWord,
    StandingWord, StatusReport, VolumeReport,
};

/// Widest line.
const COLUMNS: usize = 100;

/// A size in binary units with one decimal: `8.2 TiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = 0;
    while unit + 1 < UNITS.len() && bytes >> (10 * (unit + 1)) > 0 {
        unit += 1;
    }
    if unit == 0 {
        return format!("{bytes} B");
    }
    // Tenths, rounded to nearest, without floats: 64 bits of bytes stay exact.
    let shift = 10 * unit as u32;
    let tenths = (u128::from(bytes) * 10 + (1 << (shift - 1))) >> shift;
    match tenths % 10 {
        0 => format!("{} {}", tenths / 10, UNITS[unit]),
        tenth => format!("{}.{tenth} {}", tenths / 10, UNITS[unit]),
    }
}

/// A time span by its largest unit: `12s`, `3d`.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn round_trip(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("0.{} ms", ns / 100_000),
        _ => format!("{}.{} ms", ns / 1_000_000, ns / 100_000 % 10),
    }
}

fn count(number: usize, what: &str) -> String {
    count_of(number as u64, what)
}

fn count_of(number: u64, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

/// What `attach` prints: the volume on one line, what is unusual below.
pub fn attach(report: &AttachReport) -> String {
    let volume = &report.volume;
    let up = volume
        .paths
        .iter()
        .filter(|path| path.state == PathWord::Up)
        .count();
    let paths = match up == volume.paths.len() {
        true => count(up, "path"),
        false => format!("{up} of {} up", count(volume.paths.len(), "path")),
    };
    let product = format!("{} {}", volume.vendor, volume.product);
    let mut text = format!(
        "{}  {}  {}  {}  {paths}\n",
        volume.device,
        volume.wwid,
        product.trim(),
        size(volume.size_bytes),
    );
    if up < volume.paths.len() {
        text.push_str(&paths_text(volume));
    }
    notes(&mut text, &volume.notes);
    if !report.other_portals.is_empty() {
        let line = format!(
            "not used: {} (the target offers them too; add --portal to use one)",
            report.other_portals.join(", ")
        );
        wrapped(&mut text, "  ", &line);
    }
    text
}

/// What `status` prints.
pub fn status(report: &StatusReport) -> String {
    let mut text: String = match (report.volumes.is_empty(), &report.daemon) {
        (true, Some(_)) => "nothing is attached\n".to_owned(),
        (true, None) => "nothing is attached (the daemon does not run)\n".to_owned(),
        (false, _) => report.volumes.iter().map(volume).collect(),
    };
    let manager = report
        .daemon
        .as_ref()
        .and_then(|daemon| daemon.lock_manager.as_ref());
    if let Some(why) = manager.and_then(|manager| manager.off.as_ref()) {
        text.push_str(&format!("the lock manager is OFF: {why}\n"));
    }
    text
}

fn volume(volume: &VolumeReport) -> String {
    let up = volume
        .paths
        .iter()
        .filter(|path| path.state == PathWord::Up)
        .count();
    let all = volume.paths.len();
    let state = match volume.health {
        Health::Up => format!("up  {}", count(all, "path")),
        Health::Degraded => format!("DEGRADED  {up} of {}", count(all, "path")),
        Health::NoPath => match volume.no_path_seconds {
            Some(seconds) => format!("NO PATH  for {}", span(seconds)),
            None => "NO PATH".to_owned(),
        },
        Health::Stuck => "STUCK".to_owned(),
    };
    let writes = match volume.gate.as_ref().map(|gate| gate.state) {
        None | Some(GateWord::Open) => "",
        Some(GateWord::Shut) => "  WRITES WAIT",
        Some(GateWord::Refused) => "  WRITES FAIL",
    };
    let mut text = format!(
        "{}  {}  {}  {state}{writes}{}\n",
        volume.device,
        volume.wwid,
        size(volume.size_bytes),
        if volume.read_only { "  read-only" } else { "" },
    );
    text.push_str(&paths_text(volume));
    let guard = volume
        .gate
        .as_ref()
        .and_then(|gate| gate.lockspace.as_ref());
    if let Some(lockspace) = guard {
        wrapped(
            &mut text,
            "  ",
            &format!("writes depend on lockspace {lockspace}"),
        );
    }
    fences(&mut text, volume);
    // What waits for the lease waits for no path; a note says so.
    let withheld = volume.gate.as_ref().map_or(0, |gate| gate.waiting_writes);
    let waiting = match volume.waiting.saturating_sub(withheld) {
        0 => String::new(),
        n => format!("; {} wait for a path", count(n as usize, "request")),
    };
    let line = format!(
        "policy {}, no path: {}; writes held: {}{waiting}",
        word(&volume.policy),
        volume.no_path_retry,
        volume.held
    );
    wrapped(&mut text, "  ", &line);
    if volume.unresolved > 0 {
        let line = format!(
            "{}: sent on a session that was lost, not proven dead yet",
            count(volume.unresolved as usize, "unresolved write")
        );
        wrapped(&mut text, "  ", &line);
    }
    if volume.deferred_errors > 0 {
        let line = format!(
            "the target lost acknowledged writes {} times (deferred errors): check the data",
            volume.deferred_errors
        );
        wrapped(&mut text, "  ", &line);
    }
    notes(&mut text, &volume.notes);
    if let Some(gate) = &volume.gate {
        way_back(&mut text, &gate.way_back);
    }
    text
}

/// Commands as they are to be pasted: never wrapped.
pub(super) fn way_back(text: &mut String, commands: &[String]) {
    if commands.is_empty() {
        return;
    }
    text.push_str("  the way back, once nothing uses it any more:\n");
    for command in commands {
        let _ = writeln!(text, "    {command}");
    }
}

/// How lost paths would be fenced: one line where it is the same for all, else one per way.
fn fences(text: &mut String, volume: &VolumeReport) {
    let paths = || {
        let needed = |path: &&PathReport| path.fence_kind != FenceWord::NotNeeded;
        volume.paths.iter().filter(needed)
    };
    let mut kinds: Vec<FenceWord> = Vec::new();
    for path in paths() {
        if !kinds.contains(&path.fence_kind) {
            kinds.push(path.fence_kind);
        }
    }
    for kind in &kinds {
        let mut same = paths().filter(|path| path.fence_kind == *kind);
        let Some(first) = same.next() else { continue };
        let whose = match kinds.len() {
            1 => String::new(),
            _ => {
                let others = same.map(|path| format!(", {}", path.portal));
                format!(" of {}{}", first.portal, others.collect::<String>())
            }
        };
        wrapped(text, "  ", &format!("fence{whose}: {}", first.fence));
    }
    let fences = &volume.fences;
    if let (true, Some(last), Some(longest)) = (fences.done > 0, fences.last_ms, fences.longest_ms)
    {
        let times = count(fences.done as usize, "time");
        wrapped(
            text,
            "  ",
            &format!("fenced {times}: last in {last} ms, longest in {longest} ms"),
        );
    }
}

/// What `events` prints: a line per event, whole.
pub fn events(report: &EventsReport) -> String {
    let mut text = String::new();
    if report.forgotten > 0 {
        let _ = writeln!(
            text,
            "({} before are forgotten)",
            count_of(report.forgotten, "event")
        );
    }
    for event in &report.events {
        let _ = writeln!(text, "{}  {}  {}", event.time, event.device, event.text);
    }
    if report.events.is_empty() {
        text.push_str("nothing has happened since the daemon started\n");
    }
    text
}

/// The word that serde writes for a unit variant.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn paths_text(volume: &VolumeReport) -> String {
    let column = |pick: fn(&PathReport) -> String| {
        let cells: Vec<String> = volume.paths.iter().map(pick).collect();
        let width = cells
            .iter()
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0);
        cells
            .into_iter()
            .map(move |cell| format!("{cell:width$}"))
            .collect::<Vec<_>>()
    };
    let portals = column(|path| path.portal.clone());
    let places = column(|path| match &path.interface {
        Some(interface) => format!("via {interface}"),
        None => "routed".to_owned(),
    });
    let states = column(|path| match path.state {
        // A new attempt after a failure: to the operator the path has failed until it is up.
        PathWord::Connecting if path.reason.is_some() => word(&PathWord::Failed),
        state => word(&state),
    });
    let spans = column(|path| span(path.seconds));
    let mut text = String::new();
    for (index, path) in volume.paths.iter().enumerate() {
        let mut line = format!(
            "  {}  {}  {}  {}",
            portals[index], places[index], states[index], spans[index]
        );
        if let Some(ns) = path.round_trip_ns.filter(|_| path.state == PathWord::Up) {
            let _ = write!(line, "  {}", round_trip(ns));
        }
        let retry = path
            .retry_ms
            .map(|ms| format!("retry in {} s", ms.div_ceil(1000)));
        let why: Vec<String> = path.reason.iter().cloned().chain(retry).collect();
        let why = match path.state {
            PathWord::Up => carries(path),
            _ => why.join("; "),
        };
        if !why.is_empty() {
            let _ = write!(line, "  {why}");
        }
        let line = line.trim_end();
        // A refusal is an order to the operator: the whole sentence, on lines of its own if need be.
        match path.state == PathWord::Refused && line.chars().count() > COLUMNS {
            true => {
                let head = line.chars().count() - why.chars().count();
                let head: String = line.chars().take(head).collect();
                text.push_str(head.trim_end());
                text.push('\n');
                wrapped(&mut text, "    ", &why);
            }
            false => {
                text.push_str(&cut(line));
                text.push('\n');
            }
        }
    }
    text
}

/// What there is to say of a path that carries IO: what speaks against it, how fast it is, what it has under way.
fn carries(path: &PathReport) -> String {
    let mut words = Vec::new();
    match (path.standing, path.marginal_seconds) {
        (StandingWord::Suspect, _) => words.push("SUSPECT".to_owned()),
        (StandingWord::Marginal, Some(seconds)) => {
            words.push(format!("MARGINAL for {}", span(seconds)));
        }
        (StandingWord::Marginal, None) => words.push("MARGINAL".to_owned()),
        (StandingWord::Full, _) if path.probation => words.push("on probation".to_owned()),
        (StandingWord::Full, _) => {}
    }
    // Before it has carried some, a rate is a guess.
    let rate = |what, bytes, rate| (bytes > 0).then(|| format!("{what} {}", mib(rate)));
    let rates: Vec<String> = [
        rate("read", path.bytes_read, path.read_bytes_per_second),
        rate("write", path.bytes_written, path.write_bytes_per_second),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !rates.is_empty() {
        words.push(format!("{} MiB/s", rates.join(" ")));
    }
    if path.in_flight > 0 {
        words.push(format!("{} in flight", path.in_flight));
    }
    if path.losses > 0 {
        words.push(format!("lost {}", count_of(path.losses, "time")));
    }
    if path.penalty > 0 {
        words.push(format!("penalty {}", path.penalty));
    }
    words.join(", ")
}

/// Bytes per second as MiB/s, to be read at a glance.
fn mib(rate: u64) -> String {
    match rate >> 20 {
        whole @ 0..10 => format!("{whole}.{}", ((rate & 0xf_ffff) * 10) >> 20),
        whole => whole.to_string(),
    }
}

fn cut(line: &str) -> String {
    match line.chars().count() > COLUMNS {
        true => line.chars().take(COLUMNS - 1).chain(['…']).collect(),
        false => line.to_owned(),
    }
}

fn notes(text: &mut String, notes: &[String]) {
    for note in notes {
        wrapped(text, "  ", &format!("note: {note}"));
    }
}

/// Words of `line` on as many lines as they need; a word that is wider than a line stays whole.
fn wrapped(text: &mut String, indent: &str, line: &str) {
    let mut width = 0;
    for word in line.split_whitespace() {
        let len = word.chars().count();
        if width == 0 {
            text.push_str(indent);
            width = indent.len();
        } else if width + 1 + len > COLUMNS {
            text.push('\n');
            text.push_str(indent);
            text.push_str("  ");
            width = indent.len() + 2;
        } else {
            text.push(' ');
            width += 1;
        }
        text.push_str(word);
        width += len;
    }
    text.push('\n');
}

/// What `discover` prints.
pub fn discover(report: &DiscoverReport) -> String {
    let mut text = String::new();
    for portal in &report.portals {
        let via = portal
            .interface
            .as_ref()
            .map_or(String::new(), |name| format!("  via {name}"));
        match &portal.error {
            Some(error) => wrapped(&mut text, "", &format!("{}{via}  {error}", portal.portal)),
            None => {
                let _ = writeln!(
                    text,
                    "{}{via}  {}",
                    portal.portal,
                    count(portal.targets.len(), "target")
                );
            }
        }
        for target in &portal.targets {
            let _ = writeln!(text, "  {}", target.name);
            if !target.addresses.is_empty() {
                wrapped(
                    &mut text,
                    "    ",
                    &format!("portals: {}", target.addresses.join(" ")),
                );
            }
            if let Some(error) = &target.error {
                wrapped(&mut text, "    ", error);
            }
            for lun in &target.luns {
                let line = match (&lun.wwid, &lun.error) {
                    (Some(wwid), _) => format!(
                        "LUN {}  {wwid}  {}  {}  {}-byte blocks",
                        lun.lun,
                        lun.product,
                        size(lun.size_bytes),
                        lun.block_bytes
                    ),
                    (None, Some(error)) => format!("LUN {}  {error}", lun.lun),
                    (None, None) => format!("LUN {}", lun.lun),
                };
                text.push_str(&cut(&format!("    {line}")));
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests;
