//! A probing login: which LUNs does this target show us through this portal, and what are they? It has an ISID of its
//! own, so that asking never ends a session that carries IO.

use iscsi_client::login::{Credentials, LoginParameters, Offer, SessionType};
use iscsi_client::scsi::{Cdb, ReportedLuns, SenseKey, Status};
use iscsi_client::session::{Command, Completion, Handle, Transfer};
use iscsi_client::wire::{Isid, Lun, TaskAttribute, Tpgt};
use multipath::Description;
use multipath::identity::{Probe, ProbeFailure};
use multipath::{IsidKey, probe_isid};

use crate::connection::{BUFFER, BUFFER_LEN, Connection, Patience, Place, SessionError};

/// Logical units looked at per target; more are counted.
const UNITS_MAX: usize = 64;
/// Each session has unit attentions to eat before it gets an answer.
const ATTENTIONS_MAX: usize = 8;

/// What to ask about.
#[derive(Clone, Debug)]
pub struct Question {
    /// Our iSCSI name.
    pub initiator_name: String,
    /// CHAP, or nothing.
    pub credentials: Option<Credentials>,
    /// Proposals, so that a target that insists on digests answers.
    pub offer: Offer,
    /// The target.
    pub target: String,
    /// One logical unit, or all.
    pub lun: Option<u16>,
}

/// A logical unit as one portal shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// Its number, as the target writes it.
    pub lun: Lun,
    /// What it is.
    pub what: Result<Description, ProbeFailure>,
}

/// What a target shows through one portal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    /// Portal group named by the login.
    pub portal_group: Option<Tpgt>,
    /// Its logical units.
    pub units: Vec<Unit>,
    /// Logical units that were not looked at.
    pub skipped: usize,
}

/// Logs in, asks, logs out.
///
/// # Errors
/// The session's. A LUN that cannot be used is no error.
pub async fn ask(question: &Question, place: &Place) -> Result<Shown, SessionError> {
    let key = IsidKey {
        initiator_name: &question.initiator_name,
        target_name: &question.target,
        portal_group: None,
        portal: place.address,
        lun: Lun::default(),
        queue: 0,
    };
    let login = LoginParameters {
        initiator_name: question.initiator_name.clone(),
        session_type: SessionType::Normal {
            target_name: question.target.clone(),
        },
        isid: probe_isid(&key, &[]),
        offer: question.offer.clone(),
        credentials: question.credentials.clone(),
        entropy: [0; 32],
    };
    let mut connection = Connection::open(place, login, Patience::USUAL).await?;
    let shown = look(&mut connection, question.lun).await;
    connection.close().await;
    shown
}

/// Proves that an older session of this ISID is dead: logs in with it, which ends the older one, and waits until TEST
/// UNIT READY and an ORDERED one after it are answered (`multipath::ladder` tells why both, and where that is not enough).
///
/// # Errors
/// The session's, or that the proof did not come about.
pub async fn fence(
    question: &Question,
    place: &Place,
    isid: Isid,
    lun: Lun,
) -> Result<Option<Tpgt>, SessionError> {
    let login = LoginParameters {
        initiator_name: question.initiator_name.clone(),
        session_type: SessionType::Normal {
            target_name: question.target.clone(),
        },
        isid,
        offer: question.offer.clone(),
        credentials: question.credentials.clone(),
        entropy: [0; 32],
    };
    let mut connection = Connection::open(place, login, Patience::FENCE).await?;
    let drained = drain(&mut connection, lun).await;
    let portal_group = connection.session().portal_group();
    connection.close().await;
    drained.map(|()| portal_group)
}

async fn drain(connection: &mut Connection, lun: Lun) -> Result<(), SessionError> {
    let mut probe = Probe::new(lun, BUFFER);
    while !probe.is_drained() {
        let Some(command) = probe.poll_command(Handle(1)) else {
            return Err(SessionError::Answer("the LUN does not become ready"));
        };
        let completion = connection.command(command).await?;
        probe.completed(&completion, connection.memory());
    }
    Ok(())
}

async fn look(connection: &mut Connection, only: Option<u16>) -> Result<Shown, SessionError> {
    let mut luns = report_luns(connection).await?;
    if let Some(number) = only {
        luns.retain(|lun| lun.number() == Some(number));
        if luns.is_empty() {
            // Some targets answer for a LUN that they do not report.
            luns.extend(Lun::from_number(number));
        }
    }
    let skipped = luns.len().saturating_sub(UNITS_MAX);
    luns.truncate(UNITS_MAX);
    let mut units = Vec::with_capacity(luns.len());
    for lun in luns {
        units.push(Unit {
            lun,
            what: describe(connection, lun).await?,
        });
    }
    let portal_group = connection.session().portal_group();
    Ok(Shown {
        portal_group,
        units,
        skipped,
    })
}

async fn report_luns(connection: &mut Connection) -> Result<Vec<Lun>, SessionError> {
    let command = Command {
        handle: Handle(0),
        lun: Lun::default(),
        cdb: Cdb::report_luns(BUFFER_LEN),
        attribute: TaskAttribute::Simple,
        transfer: Transfer::Read {
            buffer: BUFFER,
            offset: 0,
            len: BUFFER_LEN,
        },
    };
    for _ in 0..ATTENTIONS_MAX {
        let completion = connection.command(command).await?;
        match completion.status {
            Status::Good => {
                let data = connection.data(completion.received);
                let reported = ReportedLuns::parse(data)
                    .map_err(|_| SessionError::Answer("the answer to REPORT LUNS is nonsense"))?;
                return Ok(reported.iter().collect());
            }
            Status::Busy | Status::TaskSetFull => {
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
            _ if is_attention(&completion) => {}
            _ => return Err(SessionError::Answer("the target refuses REPORT LUNS")),
        }
    }
    Err(SessionError::Answer(
        "the target does not get ready for REPORT LUNS",
    ))
}

fn is_attention(completion: &Completion) -> bool {
    completion
        .sense
        .is_some_and(|sense| sense.key == SenseKey::UnitAttention)
}

async fn describe(
    connection: &mut Connection,
    lun: Lun,
) -> Result<Result<Description, ProbeFailure>, SessionError> {
    let mut probe = Probe::new(lun, BUFFER);
    loop {
        if let Some(result) = probe.result() {
            return Ok(result.cloned().map_err(Clone::clone));
        }
        let Some(command) = probe.poll_command(Handle(1)) else {
            return Err(SessionError::Answer(
                "the questions about the LUN came to no end",
            ));
        };
        let completion = connection.command(command).await?;
        probe.completed(&completion, connection.memory());
    }
}
