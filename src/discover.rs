//! SendTargets through each portal, in parallel, each under its own time limits.

use std::io;
use std::time::Duration;

use iscsi_client::discovery::{Discovery, SEND_ALL_TARGETS, TargetRecord};
use iscsi_client::login::{Credentials, LoginParameters, Offer, SessionType};
use iscsi_client::wire::Lun;
use multipath::{IsidKey, probe_isid};

use crate::connection::{Connection, Patience, Place, SessionError, places};
use crate::portal::Portal;
use crate::together::{together, with_grace};

/// Who asks.
#[derive(Clone, Debug)]
pub struct Asker {
    /// Our iSCSI name.
    pub initiator_name: String,
    /// CHAP for discovery, or nothing.
    pub credentials: Option<Credentials>,
}

/// What one portal said.
#[derive(Debug)]
pub struct Answer {
    /// The portal.
    pub portal: Portal,
    /// Where it is; `None` where its name has no address.
    pub place: Option<Place>,
    /// Targets it knows.
    pub targets: Result<Vec<TargetRecord>, SessionError>,
}

/// Asks one portal, at each of its addresses until one answers.
async fn ask(asker: &Asker, portal: Portal, places: Vec<Place>) -> Answer {
    let mut answer = silent(portal, &places);
    for place in places {
        answer.targets = send_targets(asker, &place).await;
        if !answer
            .targets
            .as_ref()
            .is_err_and(SessionError::is_unreachable)
        {
            answer.place = Some(place);
            break;
        }
    }
    answer
}

fn silent(portal: Portal, places: &[Place]) -> Answer {
    let place = places.first().cloned();
    Answer {
        portal,
        place,
        targets: Err(SessionError::Connect(io::ErrorKind::TimedOut.into())),
    }
}

/// Without CHAP first: most targets ask for it only at the target itself, and LIO refuses a discovery that offers it
/// where none is set. Nothing is lost by that: the login to the target itself proves both sides.
async fn send_targets(asker: &Asker, place: &Place) -> Result<Vec<TargetRecord>, SessionError> {
    match list(asker, place, None).await {
        Err(error) if error.is_denied() && asker.credentials.is_some() => {
            list(asker, place, asker.credentials.clone()).await
        }
        result => result,
    }
}

async fn list(
    asker: &Asker,
    place: &Place,
    credentials: Option<Credentials>,
) -> Result<Vec<TargetRecord>, SessionError> {
    let key = IsidKey {
        initiator_name: &asker.initiator_name,
        target_name: "",
        portal_group: None,
        portal: place.address,
        lun: Lun::default(),
        queue: 0,
    };
    let login = LoginParameters {
        initiator_name: asker.initiator_name.clone(),
        session_type: SessionType::Discovery,
        isid: probe_isid(&key, &[]),
        offer: Offer::default(),
        credentials,
        entropy: [0; 32],
    };
    let mut connection = Connection::open(place, login, Patience::USUAL).await?;
    let text = connection.text(SEND_ALL_TARGETS).await?;
    let found = Discovery::parse(text);
    connection.close().await;
    let found = found.map_err(|_| SessionError::Answer("the list of targets cannot be read"))?;
    for skipped in &found.skipped {
        tracing::info!(
            "{}: skipped {:?} in the list of targets",
            place.address,
            skipped.excerpt
        );
    }
    Ok(found.targets)
}

/// Asks all portals at once; the answers come in the order of the portals. With `grace`, portals that are silent so
/// long after another has answered are not waited for.
pub async fn ask_all(asker: &Asker, portals: &[Portal], grace: Option<Duration>) -> Vec<Answer> {
    let located = together(portals.iter().map(places)).await;
    let questions = portals
        .iter()
        .zip(&located)
        .map(|(portal, places)| async move {
            match places {
                Ok(places) => ask(asker, portal.clone(), places.clone()).await,
                Err(error) => {
                    let targets = Err(SessionError::Resolve(io::Error::new(
                        error.kind(),
                        error.to_string(),
                    )));
                    Answer {
                        portal: portal.clone(),
                        place: None,
                        targets,
                    }
                }
            }
        });
    let answers = match grace {
        None => together(questions).await.into_iter().map(Some).collect(),
        Some(grace) => with_grace(questions, grace, |answer| answer.targets.is_ok()).await,
    };
    let asked = answers.into_iter().zip(portals).zip(located);
    asked
        .map(|((answer, portal), places)| {
            answer.unwrap_or_else(|| silent(portal.clone(), &places.unwrap_or_default()))
        })
        .collect()
}

/// Whether `target` says that it is behind this portal.
pub fn is_behind(target: &TargetRecord, portal: &Portal, place: &Place) -> bool {
    let offers = |address| target.portals.iter().any(|offer| portal.is(offer, address));
    target.portals.is_empty() || offers(Some(place.address))
}
