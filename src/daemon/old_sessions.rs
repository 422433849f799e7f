//! Sessions of an earlier run that may still write: fenced at attach, before the disk appears.
//!
//! A daemon that died may have left writes on the way, and so may a forced detach. Their sessions are known by ISID and
//! portal group. Each is ended here by a login with its ISID through a portal of its group, as a living volume would
//! do; what cannot be fenced now is given to the volume, which holds overlapping writes until it is.

use iscsi_client::wire::{Isid, Tpgt};
use multipath::UnresolvedWrite;

use crate::control::server::Progress;
use crate::probe::{self, Question};

use super::plan::Plan;

/// Fences what can be fenced and returns the writes that remain unresolved.
pub async fn fence(
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
    for (isid, portal_group) in sessions(&unresolved) {
        for place in places(plan, portal_group) {
            match probe::fence(&question, place, isid, plan.choice.lun).await {
                Ok(found) if found == portal_group => {
                    unresolved.retain(|write| (write.isid, write.portal_group) != (isid, found));
                    progress.say(format!("session {isid} of an earlier run is fenced"));
                    break;
                }
                Ok(_) => {}
                Err(error) => progress.say(format!("fencing session {isid}: {error}")),
            }
        }
    }
    unresolved
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
