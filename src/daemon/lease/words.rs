//! Why a lockspace is not joined and a lease not had: sentences and exit codes.

use std::time::Duration;

use lockmgr::ondisk::{HostId, Name};
use lockmgr::timing::Timing;
use lockmgr::{DiskId, History, HostState, JoinError, LeaseError, LeaseId, Mode, Renewal};

use super::add::NotAdded;
use super::follow::OnGroup;
use super::{Carried, Joined, LOCKSPACES_MAX};
use crate::failure::{Failure, Kind};
use crate::keeper::{Holding, Picture, Standing, why_lost};
use crate::lease::place::Place;
use crate::report::{
    HostReport, HostWord, LeaseReport, LockspaceReport, LockspaceWord, ModeWord, RenewalsReport,
};

const STATUS: &str = "sanblk lease status shows how things stand";

impl From<ModeWord> for Mode {
    fn from(word: ModeWord) -> Mode {
        match word {
            ModeWord::Exclusive => Mode::Exclusive,
            ModeWord::Shared => Mode::Shared,
        }
    }
}

impl From<Mode> for ModeWord {
    fn from(mode: Mode) -> ModeWord {
        match mode {
            Mode::Exclusive => ModeWord::Exclusive,
            Mode::Shared => ModeWord::Shared,
        }
    }
}

/// Why a lockspace was not joined.
pub fn not_added(error: NotAdded) -> Failure {
    let refused = |what: String, next: &str| Failure::new(Kind::Refused, what, next);
    match error {
        NotAdded::Unfit(failure) | NotAdded::Host(failure) => failure,
        NotAdded::OtherName(name) => refused(format!("lockspace {name} is there"), ""),
        NotAdded::Impatient {
            wanted,
            theirs,
            least,
        } => Failure::new(
            Kind::Usage,
            format!(
                "--io-timeout {}: the slot asks for a wait of {} s, after which a number taken with this is lost again",
                wanted.io_timeout_s(),
                theirs.settle().as_secs()
            ),
            match least {
                Some(least) => {
                    format!("give at least {least}; all hosts of a lockspace should have the same")
                }
                None => "make the lockspace anew".to_owned(),
            },
        ),
        NotAdded::Already(other) | NotAdded::UnderWay(other) | NotAdded::Otherwise(other) => {
            refused(
                format!(
                    "this host is host {} of lockspace {} already, at {}",
                    other.host, other.space, other.place
                ),
                "leave it first: sanblk lease leave",
            )
        }
        NotAdded::Ending(other) => refused(
            format!(
                "lockspace {} is still being left: its disk does not answer",
                other.space
            ),
            "try again when it does",
        ),
        NotAdded::Full => refused(
            format!("{LOCKSPACES_MAX} lockspaces are joined, which is the limit"),
            "leave one",
        ),
        NotAdded::HostIdBusy { joined, name } => host_id_busy(&joined.space, joined.host, &name),
        NotAdded::Failed(joined, error) => not_joined(&joined, error),
        NotAdded::Gone(space) => gone(&space),
    }
}

/// Somebody else has our number.
fn host_id_busy(space: &Name, host: HostId, name: &Name) -> Failure {
    Failure::new(
        Kind::Refused,
        format!("host id {host} of lockspace {space} is in use by {name}"),
        "choose another --host-id: each host has one of its own",
    )
}

/// A join that did not come about.
fn not_joined(joined: &Joined, error: JoinError) -> Failure {
    let (space, host, place) = (&joined.space, joined.host, &joined.place);
    match error {
        JoinError::Bad(bad) => Failure::new(
            Kind::Failed,
            format!("{}: {bad}", place.path.display()),
            "nothing repairs it by itself; see `sanblk lease dump`, and choose another --host-id",
        ),
        JoinError::Cannot(why) => {
            Failure::new(Kind::Refused, format!("lockspace {space}: {why}"), "")
        }
        JoinError::HostIdBusy { name } => host_id_busy(space, host, &name),
        JoinError::Io => Failure::new(
            Kind::TimedOut,
            format!(
                "{place} could not be read and written for {} s",
                joined.timing.give_up().as_secs()
            ),
            "look at the kernel's log: dmesg",
        ),
        JoinError::GateShut | JoinError::SlotTaken => Failure::new(
            Kind::Refused,
            format!("lockspace {space} was lost, and what it protects stays shut"),
            "leave it, detach its volumes, attach them again and join again",
        ),
    }
}

/// Nobody is there to ask.
pub fn gone(space: &Name) -> Failure {
    Failure::new(
        Kind::Refused,
        format!("lockspace {space} is being left"),
        STATUS,
    )
}

/// What was done with a lease, and did not come about.
pub fn not_done(
    joined: &Joined,
    picture: Option<&Picture>,
    name: &str,
    error: LeaseError,
) -> Failure {
    let space = &joined.space;
    let lease = format!("{name} of lockspace {space}");
    let who = |host: u64| {
        let known = picture.and_then(|p| p.hosts.iter().find(|h| h.id.number() == host));
        match known {
            Some(known) => format!("host {host} ({})", known.name),
            None => format!("host {host}"),
        }
    };
    let (kind, what, next) = match error {
        LeaseError::HeldBy { host, generation } => (
            Kind::Held,
            format!("{lease} is held by {}, generation {generation}", who(host)),
            "it is free when that host lets it go".to_owned(),
        ),
        LeaseError::OwnerSilent { host, generation } => (
            Kind::Held,
            format!(
                "{lease} is held by {}, generation {generation}, of which no sign of life was seen yet",
                who(host)
            ),
            format!(
                "try again in {} s, or with --wait, which waits until that host lives or is dead: {} s at most",
                2 * joined.timing.renewal_interval().as_secs(),
                dead(picture, host, joined.timing).as_secs()
            ),
        ),
        LeaseError::OwnerNeverDies { host } => (
            Kind::Held,
            format!(
                "{lease} is held by {}, which is silent, and by the rules of its lockspace (flag NO_TIMEOUT) never dies of that",
                who(host)
            ),
            "a fencing agent has to declare it dead".to_owned(),
        ),
        LeaseError::SharedBy { host, generation } => (
            Kind::Held,
            format!(
                "{lease} is held shared by {}, generation {generation}",
                who(host.number())
            ),
            "it is free for one alone when all who share it let it go".to_owned(),
        ),
        LeaseError::Contended => (
            Kind::Held,
            format!("{lease}: other hosts keep taking it"),
            "try again".to_owned(),
        ),
        LeaseError::Bad(bad) => (
            Kind::Failed,
            format!("{lease}: {bad}"),
            "nothing repairs it by itself; see `sanblk lease dump`".to_owned(),
        ),
        LeaseError::Cannot(why) => (Kind::Refused, format!("{lease}: {why}"), String::new()),
        LeaseError::Io => (
            Kind::Failed,
            format!("{lease}: {} could not be read", joined.place.path.display()),
            "look at the kernel's log: dmesg".to_owned(),
        ),
        LeaseError::LockspaceLost | LeaseError::Taken
            if picture.is_some_and(|picture| picture.standing == Standing::Refused) =>
        {
            let what =
                format!("{lease}: the lockspace is lost for good: another host took a lease over");
            let next = format!(
                "`sanblk lease leave`, then attach again what it guards, and join; {STATUS}"
            );
            (Kind::Refused, what, next)
        }
        LeaseError::LockspaceLost | LeaseError::Taken => (
            Kind::Refused,
            format!("{lease}: the lockspace is lost{}", since(picture)),
            format!("it comes back when its disk answers again, or has to be left; {STATUS}"),
        ),
        LeaseError::Cancelled => (
            Kind::Failed,
            format!("{lease} was let go before it was had"),
            String::new(),
        ),
        LeaseError::NotExclusive => (
            Kind::Refused,
            format!("{lease} is held shared: only who has it alone leaves a lock value block"),
            "convert it to exclusive first, or release it without --lvb".to_owned(),
        ),
        LeaseError::NoRoomForLvb => (
            Kind::Usage,
            format!("{lease}: areas of this size have no room for a lock value block"),
            "it has with sectors of 512 bytes, and with areas of 8 MiB".to_owned(),
        ),
        LeaseError::Busy => (
            Kind::Refused,
            format!("{lease}: something is under way with it"),
            STATUS.to_owned(),
        ),
        LeaseError::AlreadyHeld => (
            Kind::Refused,
            format!("this host holds {lease} already"),
            STATUS.to_owned(),
        ),
        LeaseError::NotHeld => (
            Kind::NotFound,
            format!("this host does not hold {lease}"),
            STATUS.to_owned(),
        ),
        LeaseError::NotJoined => (
            Kind::Refused,
            format!("this host is no member of lockspace {space}"),
            STATUS.to_owned(),
        ),
    };
    Failure::new(kind, what, next)
}

/// When a silent host is dead, by its own times.
fn dead(picture: Option<&Picture>, host: u64, ours: Timing) -> Duration {
    let known = picture.and_then(|p| p.hosts.iter().find(|h| h.id.number() == host));
    known
        .map_or(ours, |host| Timing::of_other(host.io_timeout_s, ours))
        .host_dead()
}

fn since(picture: Option<&Picture>) -> String {
    match picture.map(|picture| (picture.standing, picture.lasts.as_secs())) {
        Some((Standing::Lost(why), seconds)) => format!(" for {seconds} s: {}", why_lost(why)),
        _ => String::new(),
    }
}

/// A lease of ours.
pub fn lease(joined: &Joined, holding: &Holding) -> LeaseReport {
    LeaseReport {
        name: holding.name.to_string(),
        lockspace: joined.space.to_string(),
        path: joined.path_elsewhere(holding.id),
        offset_bytes: holding.id.offset(),
        mode: holding.mode.into(),
        lver: holding.lver,
        held_for: Vec::new(),
        lv: joined.lv_name(&holding.name),
    }
}

/// A lockspace; without a picture, its keeper does not answer.
pub fn lockspace(joined: &Joined, picture: Option<&Picture>) -> LockspaceReport {
    let state = match picture.map(|picture| picture.standing) {
        None => LockspaceWord::Stuck,
        Some(Standing::Joining) => LockspaceWord::Joining,
        Some(Standing::Joined) => LockspaceWord::Joined,
        Some(Standing::Lost(_)) => LockspaceWord::Lost,
        Some(Standing::Reclaiming) => LockspaceWord::Reclaiming,
        Some(Standing::Refused) => LockspaceWord::Refused,
        Some(Standing::Ending) => LockspaceWord::Leaving,
    };
    let reason = match picture.map(|picture| picture.standing) {
        Some(Standing::Lost(why)) => Some(why_lost(why)),
        Some(Standing::Refused) => Some("leases could not be won back".to_owned()),
        _ => None,
    };
    let host = |host: &lockmgr::Host| HostReport {
        host_id: host.id.number(),
        name: host.name.to_string(),
        state: match host.state {
            HostState::Free => HostWord::Free,
            HostState::Unknown => HostWord::Unknown,
            HostState::Live => HostWord::Live,
            HostState::Fail => HostWord::Fail,
            HostState::Dead => HostWord::Dead,
        },
        generation: host.generation,
        io_timeout_s: host.io_timeout_s,
    };
    let held = picture.map_or(&[][..], |picture| &picture.held);
    let acquiring = picture.map_or(&[][..], |picture| &picture.acquiring);
    let (here, elsewhere): (Vec<LeaseId>, Vec<LeaseId>) =
        acquiring.iter().partition(|id| id.disk() == DiskId::HOME);
    let group = joined.group();
    let Place { path, offset } = &joined.place;
    LockspaceReport {
        name: joined.space.to_string(),
        path: path.display().to_string(),
        offset_bytes: *offset,
        host_id: joined.host.number(),
        host_name: joined.host_name.to_string(),
        generation: picture.map_or(0, |picture| picture.generation),
        io_timeout_s: joined.timing.io_timeout_s(),
        state,
        seconds: picture.map_or(0, |picture| picture.lasts.as_secs()),
        reason,
        renewed_ms: picture
            .and_then(|picture| picture.renewed)
            .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        renewals: picture.and_then(|picture| renewals(&picture.history)),
        hosts: picture.map_or_else(Vec::new, |p| p.hosts.iter().map(host).collect()),
        leases: held.iter().map(|holding| lease(joined, holding)).collect(),
        acquiring_offsets: here.iter().map(|id| id.offset()).collect(),
        acquiring_elsewhere: elsewhere
            .iter()
            .filter_map(|id| joined.elsewhere.place(*id))
            .map(|place| place.to_string())
            .collect(),
        volume: joined.carried.as_ref().map(|on| on.volume.node()),
        guards: joined
            .carried
            .as_ref()
            .map_or_else(Vec::new, Carried::nodes),
        volume_group: group.map(OnGroup::name),
        unguarded: group.and_then(OnGroup::unguarded),
        sessions: joined
            .carried
            .as_ref()
            .map_or_else(Vec::new, Carried::sessions),
        way_back: Vec::new(),
    }
}

fn renewals(history: &History) -> Option<RenewalsReport> {
    let took = |of: &Renewal| u64::try_from((of.read + of.write).as_millis()).unwrap_or(u64::MAX);
    Some(RenewalsReport {
        count: history.renewals().count(),
        last_ms: history.renewals().last().map(took)?,
        slowest_ms: history.renewals().map(took).max()?,
        timeouts: history
            .renewals()
            .map(|of| u64::from(of.next_timeouts))
            .sum(),
        errors: history.renewals().map(|of| u64::from(of.next_errors)).sum(),
    })
}
