//! From what portals say to one LUN: which target, which logical unit, behind which portals. No IO: the choice is a
//! function of the answers, so that every refusal can be tested.

use std::fmt::Write;

use iscsi_client::discovery::TargetRecord;
use iscsi_client::wire::{Lun, Tpgt};
use multipath::Description;
use multipath::identity::ProbeFailure;

use crate::connection::{Place, SessionError};
use crate::discover::{Answer, is_behind};
use crate::failure::{Failure, Kind};
use crate::portal::Portal;
use crate::probe::Shown;

/// Targets looked at when none was named.
pub const TARGETS_MAX: usize = 16;
/// Lines of a list in a message.
const LIST_MAX: usize = 20;

/// What one target showed through one portal.
#[derive(Debug)]
pub struct Sight {
    /// The portal, by its place in the list of those given.
    pub portal: usize,
    /// The target's iSCSI name.
    pub target: String,
    /// What it showed.
    pub shown: Result<Shown, SessionError>,
}

/// The LUN to attach.
#[derive(Debug)]
pub struct Choice {
    /// The target's iSCSI name.
    pub target: String,
    /// The logical unit, as the target writes it.
    pub lun: Lun,
    /// What it is.
    pub description: Description,
}

/// The targets to look at, each with the portals it is behind. The target that the operator named is looked for
/// behind every portal that could be reached: discovery may be switched off, or may not list it.
pub fn pairs(answers: &[Answer], named: Option<&str>) -> Vec<(usize, String)> {
    let mut pairs = Vec::new();
    let mut names = Vec::new();
    for (index, answer) in answers.iter().enumerate() {
        let Some(place) = &answer.place else {
            continue;
        };
        match (named, &answer.targets) {
            (Some(_), Err(error)) if error.is_unreachable() => {}
            (Some(name), _) => pairs.push((index, name.to_owned())),
            (None, Err(_)) => {}
            (None, Ok(targets)) => {
                for target in behind(targets, &answer.portal, place) {
                    if !names.contains(&target.name) {
                        if names.len() == TARGETS_MAX {
                            continue;
                        }
                        names.push(target.name.clone());
                    }
                    pairs.push((index, target.name.clone()));
                }
            }
        }
    }
    pairs
}

/// The targets behind this portal. Where none names it (address translation), all are taken for it.
fn behind<'a>(
    targets: &'a [TargetRecord],
    portal: &'a Portal,
    place: &'a Place,
) -> impl Iterator<Item = &'a TargetRecord> {
    let any = targets
        .iter()
        .any(|target| is_behind(target, portal, place));
    targets
        .iter()
        .filter(move |target| !any || is_behind(target, portal, place))
}

/// The one LUN that fits.
///
/// # Errors
/// None, or several: the message lists them and says which flag to add.
pub fn choose(
    answers: &[Answer],
    sights: &[Sight],
    lun: Option<u16>,
    initiator_name: &str,
) -> Result<Choice, Failure> {
    let mut disks: Vec<Choice> = Vec::new();
    let mut unusable = Vec::new();
    for sight in sights {
        for unit in sight.shown.iter().flat_map(|shown| &shown.units) {
            if lun.is_some_and(|lun| unit.lun.number() != Some(lun)) {
                continue;
            }
            let known = disks
                .iter()
                .any(|disk| disk.target == sight.target && disk.lun == unit.lun);
            match &unit.what {
                Ok(_) if known => {}
                Ok(description) => disks.push(Choice {
                    target: sight.target.clone(),
                    lun: unit.lun,
                    description: description.clone(),
                }),
                // Controllers (tgt's LUN 0) and enclosures are nobody's disk.
                Err(ProbeFailure::NotADisk(_)) if lun.is_none() => {}
                Err(why) => {
                    let line = format!("{} LUN {}: {why}", sight.target, unit.lun);
                    if !unusable.contains(&line) {
                        unusable.push(line);
                    }
                }
            }
        }
    }
    match disks.len() {
        1 => Ok(disks.remove(0)),
        0 => Err(nothing(answers, sights, &unusable, initiator_name)),
        _ => Err(several(&disks)),
    }
}

fn several(disks: &[Choice]) -> Failure {
    let mut text = "several disks fit:".to_owned();
    for disk in disks.iter().take(LIST_MAX) {
        let identity = &disk.description.identity;
        // Infallible: the writer is a String.
        let _ = write!(
            text,
            "\n  --target {} --lun {}  {}  {} {}  {}",
            disk.target,
            disk.lun,
            identity.wwid,
            identity.vendor,
            identity.product,
            crate::cli::text::size(identity.blocks.saturating_mul(identity.block_len.into())),
        );
    }
    if let Some(more) = disks.len().checked_sub(LIST_MAX).filter(|more| *more > 0) {
        let _ = write!(text, "\n  … and {more} more");
    }
    let one_target = disks.iter().all(|disk| disk.target == disks[0].target);
    let mut each: Vec<&str> = disks.iter().map(|disk| disk.target.as_str()).collect();
    each.dedup();
    let next = match (one_target, each.len() == disks.len()) {
        (true, _) => "add --lun with one of these numbers",
        (false, true) => "add --target with one of these names",
        (false, false) => "add --target and --lun of one of these lines",
    };
    Failure::new(Kind::Ambiguous, text, next)
}

fn nothing(
    answers: &[Answer],
    sights: &[Sight],
    unusable: &[String],
    initiator_name: &str,
) -> Failure {
    if !unusable.is_empty() {
        let text = format!("no usable disk:\n  {}", unusable.join("\n  "));
        return Failure::new(
            Kind::NotFound,
            text,
            "correct it on the target, or choose another --lun",
        );
    }
    let mut lines = Vec::new();
    let mut kind = Kind::Unreachable;
    for (index, answer) in answers.iter().enumerate() {
        let mut of_portal = sights
            .iter()
            .filter(|sight| sight.portal == index)
            .peekable();
        if of_portal.peek().is_none() {
            let why = match &answer.targets {
                Err(error) => {
                    kind = worst(kind, error);
                    error.to_string()
                }
                Ok(targets) => {
                    kind = worst_of(kind, Kind::NotFound);
                    match targets.len() {
                        0 => "shows no target".to_owned(),
                        n => format!("shows {n} targets, none of them this one"),
                    }
                }
            };
            lines.push(format!("portal {}: {why}", answer.portal));
        }
        for sight in of_portal {
            let why = match &sight.shown {
                Err(error) => {
                    kind = worst(kind, error);
                    error.to_string()
                }
                Ok(shown) => {
                    kind = worst_of(kind, Kind::NotFound);
                    match shown.units.len() {
                        0 => "shows no LUN".to_owned(),
                        _ => "shows no disk".to_owned(),
                    }
                }
            };
            lines.push(format!("portal {}, {}: {why}", answer.portal, sight.target));
        }
    }
    let (head, next) = match kind {
        Kind::Denied => (
            "the target refuses us",
            format!(
                "on the target, give initiator {initiator_name} access; for CHAP give --chap-file PATH"
            ),
        ),
        Kind::NotFound => (
            "no disk found",
            format!("on the target, map a LUN to initiator {initiator_name}; then sanblk discover"),
        ),
        _ => (
            "no portal answers",
            "check addresses, cables and VLANs: ping the portals, then sanblk discover".to_owned(),
        ),
    };
    Failure::new(kind, format!("{head}:\n  {}", lines.join("\n  ")), next)
}

/// A refusal says more than an empty list, and that more than silence.
fn worst_of(a: Kind, b: Kind) -> Kind {
    let rank = |kind| match kind {
        Kind::Denied => 2,
        Kind::NotFound => 1,
        _ => 0,
    };
    if rank(b) > rank(a) { b } else { a }
}

fn worst(kind: Kind, error: &SessionError) -> Kind {
    match error {
        error if error.is_denied() => worst_of(kind, Kind::Denied),
        error if error.is_unreachable() => kind,
        _ => worst_of(kind, Kind::NotFound),
    }
}

/// Refuses where a portal shows another LUN under the same number: one of them is not what the operator means.
///
/// # Errors
/// The first portal that differs, and in what.
pub fn same_everywhere(
    answers: &[Answer],
    sights: &[Sight],
    choice: &Choice,
) -> Result<(), Failure> {
    for sight in sights.iter().filter(|sight| sight.target == choice.target) {
        let units = sight.shown.iter().flat_map(|shown| &shown.units);
        for unit in units.filter(|unit| unit.lun == choice.lun) {
            let Ok(found) = &unit.what else {
                continue;
            };
            let expected = &choice.description.identity;
            if let Some(difference) = expected.difference_or_size(&found.identity) {
                let portal = &answers[sight.portal].portal;
                return Err(Failure::new(
                    Kind::Refused,
                    format!("portal {portal}, LUN {}: {difference}", choice.lun),
                    "attach the portals of one disk only",
                ));
            }
        }
    }
    Ok(())
}

/// The portal group of `target` behind this portal, as discovery named it: by this portal, or by another that knows it.
pub fn portal_group(
    answers: &[Answer],
    sights: &[Sight],
    target: &str,
    index: usize,
) -> Option<Tpgt> {
    let portal = &answers[index].portal;
    let address = answers[index].place.as_ref().map(|place| place.address);
    let listed = answers
        .iter()
        .flat_map(|answer| answer.targets.iter().flatten())
        .filter(|record| record.name == target)
        .flat_map(|record| &record.portals)
        .find(|offer| portal.is(offer, address))
        .and_then(|offer| offer.portal_group);
    listed.or_else(|| {
        let mut of_portal = sights.iter().filter(|sight| sight.portal == index);
        of_portal
            .find(|sight| sight.target == target)?
            .shown
            .as_ref()
            .ok()?
            .portal_group
    })
}

/// Portals of `target` that discovery offers beside those given.
pub fn other_portals(answers: &[Answer], target: &str) -> Vec<String> {
    let mut others: Vec<String> = answers
        .iter()
        .flat_map(|answer| answer.targets.iter().flatten())
        .filter(|record| record.name == target)
        .flat_map(|record| &record.portals)
        .filter(|offer| {
            !answers.iter().any(|given| {
                let address = given.place.as_ref().map(|place| place.address);
                given.portal.is(offer, address)
            })
        })
        .map(|offer| Portal::from(offer.clone()).to_string())
        .collect();
    others.sort();
    others.dedup();
    others
}

/// What is unusual about how the portals are reached.
pub fn remarks(answers: &[Answer]) -> Vec<String> {
    let mut remarks = Vec::new();
    for answer in answers {
        let Some(place) = &answer.place else {
            remarks.push(format!(
                "{}: the name has no address now, so it is no path; attach again when it has one",
                answer.portal
            ));
            continue;
        };
        if let Some(gateway) = place.gateway {
            remarks.push(format!(
                "{} is reached through the gateway {gateway}, not over a network of its own",
                answer.portal
            ));
        }
    }
    remarks
}

#[cfg(test)]
mod tests;
