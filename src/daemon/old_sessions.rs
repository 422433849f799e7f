//! Sessions of an earlier run that may still write: fenced at attach, before the disk appears.
//!
//! A daemon that died may have left writes on the way, and so may a forced detach. Their sessions are known by ISID and
//! portal group. Each is ended here by a login with its ISID through a portal of its group, as a living volume would
//! do; what cannot be fenced now is given to the volume, which holds overlapping writes until it is.

//!
//! A login that ends a session may hang, and further logins to its portal group would queue behind it: so it has a long
//! limit, after one that hung that portal group is left alone, and no other volume waits meanwhile.

use iscsi_client::session::Closed;
use iscsi_client::wire::{Isid, Tpgt};
use multipath::UnresolvedWrite;
use multipath::ladder::Terms;

use crate::connection::SessionError;
use crate::control::server::Progress;
use crate::failure::{Failure, Kind};
use crate::host::{present, records};
use crate::layout::Layout;
use crate::probe::{self, Question};

use super::plan::Plan;

/// Fences what can be fenced, and keeps on record what cannot.
///
/// # Errors
/// The record cannot be read.
pub async fn fence(layout: &Layout, plan: &Plan, progress: &Progress) -> Result<(), Failure> {
    let identity = &plan.choice.description.identity;
    // An attach that will be refused changes nothing.
    if !present::find(layout, &identity.wwid).is_empty() {
        return Ok(());
    }
    let unresolved = unresolved(layout, &identity.wwid)?;
    // A login alone is no proof on this target: the volume makes it, and waits for what is missing.
    let alone = Terms::of(identity, plan.choice.description.task_set)
        .after_login
        .is_zero();
    if unresolved.is_empty() || !alone {
        return Ok(());
    }
    let remain = fence_all(plan, unresolved, progress).await;
    keep(layout, &identity.wwid, &remain);
    Ok(())
}

/// The writes on record for this LUN.
///
/// # Errors
/// The record cannot be read.
pub fn unresolved(layout: &Layout, wwid: &str) -> Result<Vec<UnresolvedWrite>, Failure> {
    records::unresolved(layout, wwid).map_err(|error| {
        Failure::new(
            Kind::Failed,
            format!("the record of unresolved writes of {wwid} cannot be read: {error}"),
            format!(
                "look at {}; an old write of it may still reach the LUN",
                layout.volumes().display()
            ),
        )
    })
}

/// Writes down what is unresolved.
pub fn keep(layout: &Layout, wwid: &str, unresolved: &[UnresolvedWrite]) {
    if let Err(error) = records::keep_unresolved(layout, wwid, unresolved) {
        tracing::error!("cannot write down the unresolved writes of {wwid}: {error}");
    }
}

/// Returns the writes that remain unresolved.
async fn fence_all(
    plan: &Plan,
    mut unresolved: Vec<UnresolvedWrite>,
    progress: &Progress,
) -> Vec<UnresolvedWrite> {
    let question = Question {
        initiator_name: plan.initiator_name.clone(),
        credentials: plan.credentials.clone(),
        offer: plan.offer.clone(),
        target: plan.choice.target.clone(),
        lun: None,
    };
    let mut hung = Vec::new();
    for (isid, portal_group) in sessions(&unresolved) {
        for place in places(plan, portal_group) {
            if hung.contains(&portal_group) {
                break;
            }
            match probe::fence(&question, place, isid, plan.choice.lun).await {
                Ok(found) if found == portal_group => {
                    unresolved.retain(|write| (write.isid, write.portal_group) != (isid, found));
                    progress.say(format!("session {isid} of an earlier run is fenced"));
                    break;
                }
                Ok(_) => {}
                Err(error) => {
                    if is_hung(&error) {
                        hung.push(portal_group);
                    }
                    progress.say(format!("fencing session {isid}: {error}"));
                }
            }
        }
    }
    unresolved
}

/// Whether the target took the connection and then did not answer.
fn is_hung(error: &SessionError) -> bool {
    matches!(
        error,
        SessionError::Silent(_) | SessionError::Closed(Closed::LoginTimeout | Closed::Silent)
    )
}

fn sessions(unresolved: &[UnresolvedWrite]) -> Vec<(Isid, Option<Tpgt>)> {
    let mut sessions = Vec::new();
    for write in unresolved {
        let session = (write.isid, write.portal_group);
        if !sessions.contains(&session) {
            sessions.push(session);
        }
    }
    sessions
}

/// Portals that answered a login of this target in this portal group.
fn places(plan: &Plan, group: Option<Tpgt>) -> impl Iterator<Item = &crate::connection::Place> {
    plan.sights
        .iter()
        .filter(|sight| sight.target == plan.choice.target)
        .filter(move |sight| {
            let shown = sight.shown.as_ref();
            shown.is_ok_and(|shown| shown.portal_group == group)
        })
        .filter_map(|sight| plan.answers[sight.portal].place.as_ref())
}
