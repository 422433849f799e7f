//! `sanblk discover`: which targets and LUNs the portals show. Needs no daemon and changes nothing.

use std::path::PathBuf;

use iscsi_client::discovery::TargetRecord;
use iscsi_client::login::Offer;
use multipath::identity::ProbeFailure;

use crate::config::Config;
use crate::connection::Place;
use crate::daemon::plan::credentials;
use crate::discover::{Answer, Asker, ask_all, is_behind};
use crate::failure::{Failure, Kind};
use crate::layout::Layout;
use crate::portal::Portal;
use crate::probe::{self, Question, Unit};
use crate::report::{DiscoverReport, LunReport, PortalReport, TargetReport};
use crate::together::together;
use crate::{names, report};

use super::{absolute, config_path, print, print_json, say, text};

/// Targets whose LUNs are asked for, per portal.
const TARGETS_MAX: usize = 16;

/// List the targets and LUNs that portals show; changes nothing
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Portal to ask
    #[arg(long = "portal", value_name = "HOST[:PORT]", required = true)]
    portals: Vec<Portal>,
    /// Our iSCSI name [default: configuration, /etc/iscsi/initiatorname.iscsi, else generated once]
    #[arg(long, value_name = "IQN")]
    initiator_name: Option<String>,
    /// CHAP names and secrets, readable by root alone (see sanblk attach --help)
    #[arg(long, value_name = "PATH")]
    chap_file: Option<PathBuf>,
    /// Only list targets; do not log in to them to see their LUNs
    #[arg(long)]
    no_luns: bool,
    /// Defaults [default: /etc/sanblk/sanblk.toml]
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(layout: &Layout, arguments: Arguments) -> Result<(), Failure> {
    let config = Config::read(&config_path(layout, arguments.config.clone())?)?;
    let chap_file = arguments.chap_file.clone().map(absolute).transpose()?;
    let (initiator_name, source) = names::initiator_name(
        layout,
        arguments.initiator_name.as_deref(),
        config.initiator_name.as_deref(),
    )?;
    if let names::Source::Generated(path) = source {
        say(&format!(
            "new initiator name {initiator_name}, kept in {}",
            path.display()
        ));
    }
    let secret = |target: &str| {
        let file = chap_file.clone().or(config.settings(target).chap_file);
        credentials(file.as_deref(), &layout.chap(), target)
    };
    let asker = Asker {
        initiator_name: initiator_name.clone(),
        credentials: secret("")?,
    };
    let answers = ask_all(&asker, &arguments.portals, None).await;
    let mut asked = Vec::new();
    for answer in &answers {
        let mut questions = Vec::new();
        let (Some(place), Ok(targets)) = (&answer.place, &answer.targets) else {
            asked.push(questions);
            continue;
        };
        for target in targets
            .iter()
            .filter(|target| is_behind(target, &answer.portal, place))
        {
            if arguments.no_luns || questions.len() == TARGETS_MAX {
                break;
            }
            let settings = config.settings(&target.name);
            questions.push(Question {
                initiator_name: initiator_name.clone(),
                credentials: secret(&target.name)?,
                offer: Offer {
                    header_digest: settings.header_digest.map(Into::into).unwrap_or_default(),
                    data_digest: settings.data_digest.map(Into::into).unwrap_or_default(),
                    ..Offer::default()
                },
                target: target.name.clone(),
                lun: None,
            });
        }
        asked.push(questions);
    }
    let portals = together(
        answers
            .iter()
            .zip(asked)
            .map(|(answer, questions)| portal(answer, questions)),
    );
    let report = DiscoverReport {
        portals: portals.await,
    };
    match arguments.json {
        true => print_json(&report)?,
        false => print(&text::discover(&report)),
    }
    if answers.iter().any(|answer| answer.targets.is_ok()) {
        return Ok(());
    }
    let denied = answers.iter().any(|answer| {
        answer
            .targets
            .as_ref()
            .is_err_and(|error| error.is_denied())
    });
    Err(match denied {
        true => Failure::new(
            Kind::Denied,
            "the portals refuse discovery",
            format!(
                "on the target, give initiator {initiator_name} access; for CHAP give --chap-file PATH"
            ),
        ),
        false => Failure::new(
            Kind::Unreachable,
            "no portal answers",
            "check addresses, cables and VLANs: ping the portals",
        ),
    })
}

async fn portal(answer: &Answer, questions: Vec<Question>) -> PortalReport {
    let interface = answer
        .place
        .as_ref()
        .and_then(|place| place.interface.clone());
    let (targets, error) = match (&answer.targets, &answer.place) {
        (Ok(targets), Some(place)) => {
            let reports = targets.iter().map(|record| {
                let question = questions
                    .iter()
                    .find(|question| question.target == record.name);
                target(record, place, question)
            });
            (together(reports).await, None)
        }
        (Err(error), _) => (Vec::new(), Some(error.to_string())),
        (Ok(_), None) => (Vec::new(), None),
    };
    PortalReport {
        portal: answer.portal.to_string(),
        interface,
        error,
        targets,
    }
}

async fn target(record: &TargetRecord, place: &Place, question: Option<&Question>) -> TargetReport {
    let (luns, error) = match question {
        None => (Vec::new(), None),
        Some(question) => match probe::ask(question, place).await {
            Ok(shown) => (shown.units.iter().map(lun).collect(), None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        },
    };
    let address = |portal: &iscsi_client::discovery::Portal| match portal.portal_group {
        Some(group) => format!("{portal},{}", group.0),
        None => portal.to_string(),
    };
    TargetReport {
        name: record.name.clone(),
        addresses: record.portals.iter().map(address).collect(),
        luns,
        error,
    }
}

fn lun(unit: &Unit) -> LunReport {
    let nothing = |error: &ProbeFailure| report::LunReport {
        lun: unit.lun.to_string(),
        wwid: None,
        product: String::new(),
        size_bytes: 0,
        block_bytes: 0,
        error: Some(error.to_string()),
    };
    match &unit.what {
        Err(error) => nothing(error),
        Ok(description) => {
            let identity = &description.identity;
            LunReport {
                lun: unit.lun.to_string(),
                wwid: Some(identity.wwid.clone()),
                product: format!("{} {}", identity.vendor, identity.product)
                    .trim()
                    .to_owned(),
                size_bytes: identity.blocks.saturating_mul(identity.block_len.into()),
                block_bytes: identity.block_len,
                error: None,
            }
        }
    }
}
