//! The login as a chain of stages. Each is a struct that holds what is known during it and is consumed by its
//! step (RFC 7143, 6.3 and 12.1.3).
//!
//! ```text
//!   no credentials:  Unauthenticated ───────────────────────────────────────┐
//!   credentials:     MethodAsked ──> AlgorithmsOffered ──> ProofSent ───────┴──> Operational ──> done
//! ```
//!
//! A target may keep us in a stage (T=0): then the stage answers with what it still has to say, if anything,
//! and asks again. How often is bounded by the caller.

use super::chap::{self, Algorithm, CHALLENGE_LEN, Question};
use super::keys::number;
use super::negotiate::Negotiation;
use super::text::Text;
use super::{Authentication, Credentials, LoginFailure, LoginParameters, Negotiated, SessionType};
use crate::wire::{Stage, Tsih};

/// A complete text from the target.
#[derive(Debug)]
pub(crate) struct Reply<'a> {
    pub(crate) pairs: Vec<(&'a str, &'a str)>,
    /// The target moves on to the stage that we asked for.
    pub(crate) moves_on: bool,
    pub(crate) tsih: Tsih,
}

/// What lives as long as the login.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) parameters: LoginParameters,
    pub(crate) negotiation: Negotiation,
    pub(crate) chap: ChapProgress,
}

/// How far CHAP came: what the single retry with MD5 is decided by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ChapProgress {
    NotBegun,
    Offered,
    Chosen(Algorithm),
}

/// What a stage wants to do next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Send this text and await its reply in `next`.
    Say {
        transit: Option<Stage>,
        text: Text,
        next: State,
    },
    /// Full feature phase.
    Done(Box<Negotiated>),
}

/// The stage that awaits the next reply.
#[derive(Debug)]
pub(crate) enum State {
    Unauthenticated(Unauthenticated),
    MethodAsked(MethodAsked),
    AlgorithmsOffered(AlgorithmsOffered),
    ProofSent(ProofSent),
    Operational(Operational),
}

impl State {
    /// The first stage and its text. Names go here and nowhere else: a second InitiatorName is an offence.
    pub(crate) fn begin(parameters: &LoginParameters) -> (Option<Stage>, Text, State) {
        let mut text = Text::default();
        text.push("InitiatorName", &parameters.initiator_name);
        match &parameters.session_type {
            SessionType::Normal { target_name } => {
                text.push("TargetName", target_name);
                text.push("SessionType", "Normal");
            }
            SessionType::Discovery => text.push("SessionType", "Discovery"),
        }
        // One method alone: nothing the target does can turn authentication off behind the operator's back.
        match &parameters.credentials {
            None => {
                text.push("AuthMethod", "None");
                (
                    Some(Stage::Operational),
                    text,
                    State::Unauthenticated(Unauthenticated {
                        method_answered: false,
                    }),
                )
            }
            Some(credentials) => {
                text.push("AuthMethod", "CHAP");
                let credentials = credentials.clone();
                (None, text, State::MethodAsked(MethodAsked { credentials }))
            }
        }
    }

    /// CSG of the requests that this state sends.
    pub(crate) fn stage(&self) -> Stage {
        match self {
            State::Operational(_) => Stage::Operational,
            _ => Stage::Security,
        }
    }

    pub(crate) fn handle(
        self,
        context: &mut Context,
        reply: &Reply<'_>,
    ) -> Result<Step, LoginFailure> {
        match self {
            State::Unauthenticated(stage) => stage.handle(context, reply),
            State::MethodAsked(stage) => stage.handle(context, reply),
            State::AlgorithmsOffered(stage) => stage.handle(context, reply),
            State::ProofSent(stage) => stage.handle(context, reply),
            State::Operational(stage) => stage.handle(context, reply),
        }
    }
}

/// We offered `AuthMethod=None`.
#[derive(Debug)]
pub(crate) struct Unauthenticated {
    method_answered: bool,
}

impl Unauthenticated {
    fn handle(mut self, context: &mut Context, reply: &Reply<'_>) -> Result<Step, LoginFailure> {
        let mut security = SecurityKeys::read(context, reply)?;
        match security.method.take() {
            None => {}
            Some(_) if self.method_answered => return Err(REPEATED),
            Some("None") => self.method_answered = true,
            Some("CHAP" | "Reject") => return Err(LoginFailure::CredentialsNeeded),
            Some(_) => return Err(LoginFailure::BadNegotiation("AuthMethod")),
        }
        security.expect_nothing_left()?;
        if reply.moves_on {
            return Ok(Operational::enter(context, Authentication::None));
        }
        Ok(Step::Say {
            transit: Some(Stage::Operational),
            text: context.negotiation.take_answers(),
            next: State::Unauthenticated(self),
        })
    }
}

/// We offered `AuthMethod=CHAP` and nothing else.
#[derive(Debug)]
pub(crate) struct MethodAsked {
    credentials: Credentials,
}

impl MethodAsked {
    fn handle(self, context: &mut Context, reply: &Reply<'_>) -> Result<Step, LoginFailure> {
        let mut security = SecurityKeys::read(context, reply)?;
        let mut text = context.negotiation.take_answers();
        let method = security.method.take();
        security.expect_nothing_left()?;
        match method {
            // The target has something else to settle first.
            None => Ok(Step::Say {
                transit: None,
                text,
                next: State::MethodAsked(self),
            }),
            Some("CHAP") => {
                let offer = match self.credentials.md5_only {
                    true => Algorithm::OFFER_MD5_ONLY,
                    false => Algorithm::OFFER,
                };
                let numbers: Vec<String> = offer
                    .iter()
                    .map(|algorithm| algorithm.number().to_string())
                    .collect();
                text.push("CHAP_A", &numbers.join(","));
                context.chap = ChapProgress::Offered;
                Ok(Step::Say {
                    transit: None,
                    text,
                    next: State::AlgorithmsOffered(AlgorithmsOffered {
                        credentials: self.credentials,
                        offer,
                    }),
                })
            }
            Some(_) if self.credentials.mutual.is_some() => Err(
                LoginFailure::TargetNotAuthenticated("it does not accept CHAP"),
            ),
            Some(_) => Err(LoginFailure::BadNegotiation("AuthMethod")),
        }
    }
}

/// We sent CHAP_A and await the target's choice and challenge.
#[derive(Debug)]
pub(crate) struct AlgorithmsOffered {
    credentials: Credentials,
    offer: &'static [Algorithm],
}

impl AlgorithmsOffered {
    fn handle(self, context: &mut Context, reply: &Reply<'_>) -> Result<Step, LoginFailure> {
        let bad = LoginFailure::BadNegotiation;
        let mut security = SecurityKeys::read(context, reply)?;
        let mut text = context.negotiation.take_answers();
        let (algorithm, identifier, challenge) = match (
            security.algorithm.take(),
            security.identifier.take(),
            security.challenge.take(),
        ) {
            (Some(algorithm), Some(identifier), Some(challenge)) => {
                (algorithm, identifier, challenge)
            }
            (None, None, None) => {
                security.expect_nothing_left()?;
                return Ok(Step::Say {
                    transit: None,
                    text,
                    next: State::AlgorithmsOffered(self),
                });
            }
            (Some("Reject"), ..) => return Err(bad("CHAP_A")),
            _ => {
                return Err(LoginFailure::Protocol(
                    "CHAP_A, CHAP_I and CHAP_C must come together",
                ));
            }
        };
        security.expect_nothing_left()?;

        let algorithm = number(algorithm)
            .and_then(|number| {
                self.offer
                    .iter()
                    .copied()
                    .find(|offered| u32::from(offered.number()) == number)
            })
            .ok_or(bad("CHAP_A"))?;
        let identifier = number(identifier)
            .and_then(|number| u8::try_from(number).ok())
            .ok_or(bad("CHAP_I"))?;
        let challenge = chap::decode(challenge).ok_or(bad("CHAP_C"))?;
        context.chap = ChapProgress::Chosen(algorithm);

        let response = algorithm.response(identifier, &self.credentials.secret, &challenge);
        text.push("CHAP_N", &self.credentials.name);
        text.push("CHAP_R", &chap::encode(&response));

        let question = match self.credentials.mutual {
            None => None,
            Some(mutual) => {
                let question = Question::new(
                    algorithm,
                    &context.parameters.entropy,
                    mutual,
                    self.credentials.secret,
                );
                if question.challenge[..] == challenge[..] {
                    return Err(LoginFailure::TargetNotAuthenticated(
                        "it sent our own challenge back (reflection)",
                    ));
                }
                text.push("CHAP_I", &question.identifier.to_string());
                text.push("CHAP_C", &chap::encode(&question.challenge));
                Some(question)
            }
        };
        Ok(Step::Say {
            transit: Some(Stage::Operational),
            text,
            next: State::ProofSent(match question {
                Some(question) => ProofSent::AwaitingTheirs(question),
                None => ProofSent::Settled(Authentication::Chap(algorithm.number())),
            }),
        })
    }
}

impl Question {
    fn new(
        algorithm: Algorithm,
        entropy: &[u8; 32],
        mutual: super::MutualCredentials,
        our_secret: Vec<u8>,
    ) -> Self {
        let mut challenge = [0; CHALLENGE_LEN];
        challenge.copy_from_slice(&entropy[..CHALLENGE_LEN]);
        Question {
            algorithm,
            identifier: entropy[CHALLENGE_LEN],
            challenge,
            secret: mutual.secret,
            our_secret,
            name: mutual.name,
        }
    }
}

/// We sent our proof.
#[derive(Debug)]
pub(crate) enum ProofSent {
    /// Mutual CHAP: the target's proof has not come yet.
    AwaitingTheirs(Question),
    /// Nothing more to prove; the target has only to let us on.
    Settled(Authentication),
}

impl ProofSent {
    fn handle(self, context: &mut Context, reply: &Reply<'_>) -> Result<Step, LoginFailure> {
        let mut security = SecurityKeys::read(context, reply)?;
        let stage = match (self, security.name.take(), security.response.take()) {
            (ProofSent::AwaitingTheirs(question), Some(name), Some(response)) => {
                let response =
                    chap::decode(response).ok_or(LoginFailure::BadNegotiation("CHAP_R"))?;
                question
                    .judge(name, &response)
                    .map_err(LoginFailure::TargetNotAuthenticated)?;
                ProofSent::Settled(Authentication::MutualChap(question.algorithm.number()))
            }
            (stage, None, None) => stage,
            _ => {
                return Err(LoginFailure::Protocol(
                    "CHAP_N and CHAP_R came apart or unasked",
                ));
            }
        };
        security.expect_nothing_left()?;
        match (stage, reply.moves_on) {
            (ProofSent::Settled(authentication), true) => {
                Ok(Operational::enter(context, authentication))
            }
            (ProofSent::AwaitingTheirs(_), true) => Err(LoginFailure::TargetNotAuthenticated(
                "it went on without proving who it is",
            )),
            (stage, false) => Ok(Step::Say {
                transit: Some(Stage::Operational),
                text: context.negotiation.take_answers(),
                next: State::ProofSent(stage),
            }),
        }
    }
}

/// We sent our operational proposals.
#[derive(Debug)]
pub(crate) struct Operational {
    authentication: Authentication,
}

impl Operational {
    fn enter(context: &mut Context, authentication: Authentication) -> Step {
        let mut text = context.negotiation.take_answers();
        context
            .negotiation
            .propose(&context.parameters.offer, &mut text);
        Step::Say {
            transit: Some(Stage::FullFeature),
            text,
            next: State::Operational(Operational { authentication }),
        }
    }

    fn handle(self, context: &mut Context, reply: &Reply<'_>) -> Result<Step, LoginFailure> {
        for (key, value) in &reply.pairs {
            if is_security_key(key) {
                return Err(LoginFailure::Protocol(
                    "the target authenticates outside security negotiation",
                ));
            }
            context.negotiation.take(Stage::Operational, key, value)?;
        }
        if !reply.moves_on {
            return Ok(Step::Say {
                transit: Some(Stage::FullFeature),
                text: context.negotiation.take_answers(),
                next: State::Operational(self),
            });
        }
        // Proposals that came with the last word cannot be answered any more, so their defaults hold.
        let normal = context.parameters.session_type != SessionType::Discovery;
        if normal && reply.tsih == Tsih(0) {
            return Err(LoginFailure::Protocol(
                "the final login response has no session handle (TSIH 0)",
            ));
        }
        let negotiated = context
            .negotiation
            .finish(reply.tsih, self.authentication)?;
        Ok(Step::Done(Box::new(negotiated)))
    }
}

const REPEATED: LoginFailure = LoginFailure::Protocol("the target used a key twice");

fn is_security_key(key: &str) -> bool {
    key == "AuthMethod" || key.starts_with("CHAP_")
}

/// The security keys of one reply. A stage takes what it expects; what is left is a violation.
#[derive(Debug, Default)]
struct SecurityKeys<'a> {
    method: Option<&'a str>,
    algorithm: Option<&'a str>,
    identifier: Option<&'a str>,
    challenge: Option<&'a str>,
    name: Option<&'a str>,
    response: Option<&'a str>,
}

impl<'a> SecurityKeys<'a> {
    /// Sorts a reply's pairs: security keys come back, all others go to the negotiation.
    fn read(context: &mut Context, reply: &Reply<'a>) -> Result<Self, LoginFailure> {
        let mut keys = SecurityKeys::default();
        for &(key, value) in &reply.pairs {
            let place = match key {
                "AuthMethod" => &mut keys.method,
                "CHAP_A" => &mut keys.algorithm,
                "CHAP_I" => &mut keys.identifier,
                "CHAP_C" => &mut keys.challenge,
                "CHAP_N" => &mut keys.name,
                "CHAP_R" => &mut keys.response,
                _ => {
                    context.negotiation.take(Stage::Security, key, value)?;
                    continue;
                }
            };
            *place = Some(value);
        }
        Ok(keys)
    }

    fn expect_nothing_left(&self) -> Result<(), LoginFailure> {
        match self {
            SecurityKeys {
                method: None,
                algorithm: None,
                identifier: None,
                challenge: None,
                name: None,
                response: None,
            } => Ok(()),
            _ => Err(LoginFailure::Protocol(
                "a security key came where it is not expected",
            )),
        }
    }
}
