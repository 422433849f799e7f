//! What portals, configuration and command line say together. Changes nothing but for an initiator name that is kept.

use std::path::Path;
use std::time::Duration;

use iscsi_client::login::{Credentials, Offer};
use multipath::{IsidKey, PathConfig, isid};

use crate::config::{Config, Settings};
use crate::connection::SessionError;
use crate::control::AttachRequest;
use crate::control::server::Progress;
use crate::discover::{self, Answer, Asker};
use crate::failure::Failure;
use crate::names::{self, Source};
use crate::probe::{self, Question};
use crate::secrets;
use crate::together::with_grace;

use super::Daemon;
use super::survey::{self, Choice, Sight};

/// A portal that is silent for so long after another one answered is a path that is down, not a delay.
const PORTAL_GRACE: Duration = Duration::from_millis(1500);
/// The same for probing logins, which take more round trips; a target may also be ending an old session first.
const PROBE_GRACE: Duration = Duration::from_secs(5);

/// What portals, configuration and command line say together.
pub struct Plan {
    /// What each portal said, in the order given.
    pub answers: Vec<Answer>,
    /// What each target showed.
    pub sights: Vec<Sight>,
    /// The LUN.
    pub choice: Choice,
    /// Our iSCSI name.
    pub initiator_name: String,
    /// Flags over configuration.
    pub settings: Settings,
    /// CHAP, or nothing.
    pub credentials: Option<Credentials>,
    /// Proposals for the login.
    pub offer: Offer,
}

/// Asks all portals and chooses the LUN.
///
/// # Errors
/// What is wrong with the files, or with what the portals show.
pub async fn plan(
    daemon: &Daemon,
    request: &AttachRequest,
    progress: &Progress,
) -> Result<Plan, Failure> {
    let layout = &daemon.layout;
    let config = Config::read(&request.config)?;
    let (initiator_name, source) = names::initiator_name(
        layout,
        request.initiator_name.as_deref(),
        config.initiator_name.as_deref(),
    )?;
    if let Source::Generated(path) = source {
        progress.say(format!(
            "new initiator name {initiator_name}, kept in {}",
            path.display()
        ));
    }
    // Also where the target is not known yet: what is wrong with the file is said before any portal is asked.
    let secret = |target: &str| {
        let file = request
            .settings
            .clone()
            .over(config.settings(target))
            .chap_file;
        credentials(file.as_deref(), &layout.chap(), target)
    };
    let asker = Asker {
        initiator_name: initiator_name.clone(),
        credentials: secret(request.target.as_deref().unwrap_or_default())?,
    };
    let portals: Vec<String> = request.portals.iter().map(ToString::to_string).collect();
    progress.say(format!("asking {}", portals.join(", ")));
    let answers = discover::ask_all(&asker, &request.portals, Some(PORTAL_GRACE)).await;
    for answer in &answers {
        if let Err(error) = &answer.targets {
            progress.say(format!("portal {}: {error}", answer.portal));
        }
    }
    let mut questions = Vec::new();
    for (portal, target) in survey::pairs(&answers, request.target.as_deref()) {
        let settings = request.settings.clone().over(config.settings(&target));
        let question = Question {
            initiator_name: initiator_name.clone(),
            credentials: secret(&target)?,
            offer: offer(&settings),
            target: target.clone(),
            lun: request.lun,
        };
        questions.push((portal, target, question));
    }
    let asked = questions.iter().map(|(portal, target, question)| {
        let place = answers[*portal].place.clone();
        async move {
            // `pairs` names only portals that have a place.
            let place = place.expect("a portal that was asked has an address");
            let shown = probe::ask(question, &place).await;
            Sight {
                portal: *portal,
                target: target.clone(),
                shown,
            }
        }
    });
    let sights: Vec<Sight> = with_grace(asked, PROBE_GRACE, |sight| sight.shown.is_ok())
        .await
        .into_iter()
        .zip(&questions)
        .map(|(sight, (portal, target, _))| {
            sight.unwrap_or_else(|| Sight {
                portal: *portal,
                target: target.clone(),
                shown: Err(SessionError::Silent("a login")),
            })
        })
        .collect();
    for sight in &sights {
        if let Err(error) = &sight.shown {
            progress.say(format!(
                "portal {}, {}: {error}",
                answers[sight.portal].portal, sight.target
            ));
        }
    }
    let choice = survey::choose(&answers, &sights, request.lun, &initiator_name)?;
    survey::same_everywhere(&answers, &sights, &choice)?;
    let settings = request
        .settings
        .clone()
        .over(config.settings(&choice.target));
    Ok(Plan {
        credentials: secret(&choice.target)?,
        offer: offer(&settings),
        answers,
        sights,
        choice,
        initiator_name,
        settings,
    })
}

/// Credentials from the file that was named, or from the usual one where it exists.
pub fn credentials(
    named: Option<&Path>,
    usual: &Path,
    target: &str,
) -> Result<Option<Credentials>, Failure> {
    match named {
        Some(path) => secrets::credentials(path, target),
        None if usual.exists() => secrets::credentials(usual, target),
        None => Ok(None),
    }
}

fn offer(settings: &Settings) -> Offer {
    Offer {
        header_digest: settings.header_digest.map(Into::into).unwrap_or_default(),
        data_digest: settings.data_digest.map(Into::into).unwrap_or_default(),
        ..Offer::default()
    }
}

/// Every given portal that has an address, as a path; ISIDs distinct from each other and from those in use.
pub fn paths(daemon: &Daemon, plan: &Plan) -> Vec<PathConfig> {
    let mut taken = daemon.isids_in_use();
    let mut paths: Vec<PathConfig> = Vec::new();
    for (index, answer) in plan.answers.iter().enumerate() {
        let Some(place) = &answer.place else {
            continue;
        };
        if paths.iter().any(|path| path.portal == place.address) {
            continue;
        }
        let portal_group =
            survey::portal_group(&plan.answers, &plan.sights, &plan.choice.target, index);
        let key = IsidKey {
            initiator_name: &plan.initiator_name,
            target_name: &plan.choice.target,
            portal_group,
            portal: place.address,
            lun: plan.choice.lun,
            queue: 0,
        };
        let isid = isid(&key, &taken);
        taken.push(isid);
        paths.push(PathConfig {
            portal_name: answer.portal.to_string(),
            portal: place.address,
            interface: place.interface.clone(),
            target_name: plan.choice.target.clone(),
            portal_group,
            isid,
        });
    }
    paths
}
