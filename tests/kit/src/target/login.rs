//! The target's half of a login (RFC 7143, 6 and 11.12): one [`Negotiation`] per connection until full feature
//! phase.
//!
//! It checks the initiator as strictly as the RFC allows, because it is also the judge of the initiator's login.

use std::collections::BTreeSet;

use iscsi_client::wire::{Isid, LoginRequest, LoginStatus, Stage, TaskTag, Tpgt};

use super::chap::Exchange;
use super::config::TargetConfig;
use super::negotiate::{Illegal, Terms, operational};
use super::text;
use crate::prng::Prng;

pub(super) const INITIATOR_ERROR: LoginStatus = LoginStatus {
    class: 2,
    detail: 0,
};
pub(super) const AUTHENTICATION_FAILED: LoginStatus = LoginStatus {
    class: 2,
    detail: 1,
};
pub(super) const NOT_AUTHORISED: LoginStatus = LoginStatus {
    class: 2,
    detail: 2,
};
pub(super) const NOT_FOUND: LoginStatus = LoginStatus {
    class: 2,
    detail: 3,
};
pub(super) const MISSING_PARAMETER: LoginStatus = LoginStatus {
    class: 2,
    detail: 7,
};
pub(super) const NO_SUCH_SESSION: LoginStatus = LoginStatus {
    class: 2,
    detail: 0x0a,
};

/// Longest text of one request over all its PDUs.
const TEXT_MAX: usize = 65_536;

/// What must stay the same over all requests of a login.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Constants {
    pub(super) isid: Isid,
    pub(super) task: TaskTag,
    pub(super) cid: u16,
    pub(super) cmd_sn: u32,
}

#[derive(Clone, Debug)]
enum Security {
    /// No AuthMethod was seen yet.
    Open,
    /// CHAP runs or has run.
    Chap(Exchange),
    /// AuthMethod=None.
    None,
}

/// A login in progress.
#[derive(Clone, Debug)]
pub(super) struct Negotiation {
    pub(super) constants: Option<Constants>,
    pub(super) initiator: String,
    pub(super) discovery: bool,
    pub(super) terms: Terms,
    /// Text of the current request so far.
    text_in: Vec<u8>,
    /// Text still to be sent.
    text_out: Vec<u8>,
    /// What the last PDU of the answer says about the stage.
    transit: Option<Stage>,
    seen: BTreeSet<String>,
    proposed: BTreeSet<String>,
    security: Security,
    answered: bool,
    declared: bool,
    stage: Stage,
}

/// What to answer.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) stage: Stage,
    pub(super) transit: Option<Stage>,
    pub(super) continued: bool,
    pub(super) text: Vec<u8>,
}

/// Why there is no [`Reply`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// Answer with this status.
    Status(LoginStatus),
    /// The initiator broke the protocol.
    Violation(&'static str),
}

impl From<Illegal> for Refusal {
    fn from(Illegal(text): Illegal) -> Self {
        Refusal::Violation(text)
    }
}

impl Negotiation {
    pub(super) fn new() -> Negotiation {
        Negotiation {
            constants: None,
            initiator: String::new(),
            discovery: false,
            terms: Terms::default(),
            text_in: Vec::new(),
            text_out: Vec::new(),
            transit: None,
            seen: BTreeSet::new(),
            proposed: BTreeSet::new(),
            security: Security::Open,
            answered: false,
            declared: false,
            stage: Stage::Security,
        }
    }

    /// Takes a request with its text.
    pub(super) fn step(
        &mut self,
        config: &TargetConfig,
        group: Tpgt,
        request: &LoginRequest,
        data: &[u8],
        prng: &mut Prng,
    ) -> Result<Reply, Refusal> {
        let constants = Constants {
            isid: request.isid,
            task: request.task,
            cid: request.cid,
            cmd_sn: request.cmd_sn.0,
        };
        match self.constants {
            None => {
                self.constants = Some(constants);
                self.stage = request.stage;
                if request.stage == Stage::FullFeature {
                    return Err(Refusal::Violation("login starts in full feature phase"));
                }
            }
            Some(known) if known != constants => {
                return Err(Refusal::Violation(
                    "ISID, ITT, CID or CmdSN changed during the login",
                ));
            }
            Some(_) => {}
        }
        if request.tsih.0 != 0 {
            return Err(Refusal::Status(NO_SUCH_SESSION));
        }
        if request.stage != self.stage {
            return Err(Refusal::Violation("CSG is not the stage we are in"));
        }
        if request.continued && request.transit.is_some() {
            return Err(Refusal::Violation("T and C both set"));
        }
        if !self.text_out.is_empty() {
            if !data.is_empty() {
                return Err(Refusal::Violation("text while the target's text goes on"));
            }
            return Ok(self.reply(config));
        }
        self.text_in.extend(data);
        if self.text_in.len() > TEXT_MAX {
            return Err(Refusal::Status(INITIATOR_ERROR));
        }
        if request.continued {
            return Ok(Reply {
                stage: self.stage,
                transit: None,
                continued: false,
                text: Vec::new(),
            });
        }
        let keys = text::pairs(&std::mem::take(&mut self.text_in))
            .ok_or(Refusal::Violation("malformed login text"))?;
        let mut answers = Vec::new();
        if !self.answered {
            self.identify(config, group, &keys, &mut answers)?;
        }
        let ready = match self.stage {
            Stage::Security => self.secure(config, &keys, &mut answers, prng)?,
            _ => self.operate(config, &keys, &mut answers)?,
        };
        self.transit = match request.transit {
            Some(next) if ready => {
                if (next, self.stage) == (Stage::Operational, Stage::Operational)
                    || next == Stage::Security
                {
                    return Err(Refusal::Violation("NSG is not after CSG"));
                }
                Some(next)
            }
            _ => None,
        };
        self.answered = true;
        self.text_out = text::encode(&answers);
        Ok(self.reply(config))
    }

    fn reply(&mut self, config: &TargetConfig) -> Reply {
        let cut = self.text_out.len().min(config.text_max);
        let rest = self.text_out.split_off(cut);
        let text = std::mem::replace(&mut self.text_out, rest);
        let continued = !self.text_out.is_empty();
        let stage = self.stage;
        let transit = if continued { None } else { self.transit };
        if let Some(next) = transit {
            self.stage = next;
        }
        Reply {
            stage,
            transit,
            continued,
            text,
        }
    }

    /// The first request with complete text: who wants what.
    fn identify(
        &mut self,
        config: &TargetConfig,
        group: Tpgt,
        keys: &[(String, String)],
        answers: &mut Vec<(String, String)>,
    ) -> Result<(), Refusal> {
        let value = |name: &str| {
            keys.iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value)
        };
        self.initiator = value("InitiatorName")
            .ok_or(Refusal::Status(MISSING_PARAMETER))?
            .clone();
        self.discovery = match value("SessionType").map(String::as_str) {
            None | Some("Normal") => false,
            Some("Discovery") => true,
            Some(_) => return Err(Refusal::Status(INITIATOR_ERROR)),
        };
        if !self.discovery {
            match value("TargetName") {
                None => return Err(Refusal::Status(MISSING_PARAMETER)),
                Some(name) if *name != config.name => return Err(Refusal::Status(NOT_FOUND)),
                Some(_) => {}
            }
            if !config.allowed.is_empty() && !config.allowed.contains(&self.initiator) {
                return Err(Refusal::Status(NOT_AUTHORISED));
            }
            answers.push(("TargetPortalGroupTag".into(), group.0.to_string()));
        } else if value("TargetName").is_some() {
            return Err(Refusal::Violation("TargetName in a discovery session"));
        }
        if let Some(alias) = &config.alias {
            answers.push(("TargetAlias".into(), alias.clone()));
        }
        if self.stage == Stage::Operational && config.chap.is_some() {
            return Err(Refusal::Status(AUTHENTICATION_FAILED));
        }
        Ok(())
    }

    /// Keys of the security stage. True: it may be left.
    fn secure(
        &mut self,
        config: &TargetConfig,
        keys: &Vec<(String, String)>,
        answers: &mut Vec<(String, String)>,
        prng: &mut Prng,
    ) -> Result<bool, Refusal> {
        for (key, value) in keys {
            match key.as_str() {
                "AuthMethod" => {
                    self.see(key)?;
                    let wanted = if config.chap.is_some() {
                        "CHAP"
                    } else {
                        "None"
                    };
                    if !value.split(',').any(|method| method == wanted) {
                        return Err(Refusal::Status(AUTHENTICATION_FAILED));
                    }
                    answers.push((key.clone(), wanted.into()));
                    self.security = if config.chap.is_some() {
                        Security::Chap(Exchange::Algorithm)
                    } else {
                        Security::None
                    };
                }
                "InitiatorName" | "TargetName" | "SessionType" | "InitiatorAlias" => {
                    self.see(key)?
                }
                "CHAP_A" | "CHAP_N" | "CHAP_R" | "CHAP_I" | "CHAP_C" => {}
                _ => {
                    return Err(Refusal::Violation(
                        "key of another stage in the security stage",
                    ));
                }
            }
        }
        if let (Security::Chap(exchange), Some(chap)) = (&mut self.security, &config.chap) {
            let before = std::mem::replace(exchange, Exchange::Done);
            // The method alone is answered first; CHAP_A comes in the next request.
            let (after, said) = before
                .step(chap, keys, prng)
                .map_err(|_| Refusal::Status(AUTHENTICATION_FAILED))?;
            *exchange = after;
            answers.extend(said);
            return Ok(matches!(exchange, Exchange::Done));
        }
        Ok(config.chap.is_none())
    }

    /// Keys of the operational stage. True: it may be left.
    fn operate(
        &mut self,
        config: &TargetConfig,
        keys: &[(String, String)],
        answers: &mut Vec<(String, String)>,
    ) -> Result<bool, Refusal> {
        for (key, value) in keys {
            match key.as_str() {
                "InitiatorName" | "TargetName" | "SessionType" => {
                    self.see(key)?;
                    continue;
                }
                "AuthMethod" | "CHAP_A" | "CHAP_N" | "CHAP_R" | "CHAP_I" | "CHAP_C" => {
                    return Err(Refusal::Violation("security key in the operational stage"));
                }
                _ => {}
            }
            if self.proposed.remove(key) {
                if !matches!(value.as_str(), "NotUnderstood" | "Irrelevant" | "Reject") {
                    operational(&mut self.terms, &config.limits, key, value)?;
                }
                self.seen.insert(key.clone());
                continue;
            }
            self.see(key)?;
            if let Some(answer) = operational(&mut self.terms, &config.limits, key, value)? {
                answers.push((key.clone(), answer));
            }
        }
        if let (false, Some(length)) = (self.declared, config.limits.max_recv_data_segment_length) {
            self.declared = true;
            self.terms.max_recv_data_segment_length = length;
            answers.push(("MaxRecvDataSegmentLength".into(), length.to_string()));
        }
        for (key, value) in &config.proposals {
            if !self.seen.contains(key) && self.proposed.insert(key.clone()) {
                answers.push((key.clone(), value.clone()));
            }
        }
        Ok(self.proposed.is_empty())
    }

    fn see(&mut self, key: &str) -> Result<(), Refusal> {
        if self.seen.insert(key.to_owned()) {
            Ok(())
        } else {
            Err(Refusal::Violation("a key was sent twice"))
        }
    }
}
