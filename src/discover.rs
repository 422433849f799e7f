//! SendTargets through each portal, in parallel, each under its own time limits.

use iscsi_client::discovery::{Discovery, SEND_ALL_TARGETS, TargetRecord};
use iscsi_client::login::{Credentials, LoginParameters, Offer, SessionType};
use iscsi_client::wire::Lun;
use multipath::{IsidKey, probe_isid};

use crate::connection::{Connection, Place, SessionError, places};
use crate::portal::Portal;

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
pub async fn ask(asker: &Asker, portal: Portal) -> Answer {
    let places = match places(&portal).await {
        Ok(places) => places,
        Err(error) => {
            return Answer {
                portal,
                place: None,
                targets: Err(error),
            };
        }
    };
    let mut answer = Answer {
        portal,
        place: places.first().cloned(),
        targets: Err(SessionError::Answer("the name has no address")),
    };
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

async fn send_targets(asker: &Asker, place: &Place) -> Result<Vec<TargetRecord>, SessionError> {
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
        credentials: asker.credentials.clone(),
        entropy: [0; 32],
    };
    let mut connection = Connection::open(place, login).await?;
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

/// Asks all portals at once; the answers come in the order of the portals.
pub async fn ask_all(asker: &Asker, portals: &[Portal]) -> Vec<Answer> {
    crate::together::together(portals.iter().map(|portal| ask(asker, portal.clone()))).await
}

/// Whether `target` says that it is behind this portal.
pub fn is_behind(target: &TargetRecord, portal: &Portal, place: &Place) -> bool {
    let offers = |address| target.portals.iter().any(|offer| portal.is(offer, address));
    target.portals.is_empty() || offers(Some(place.address))
}
