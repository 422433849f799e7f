//! What we propose, and what becomes of the target's answers and proposals (RFC 7143, 6.2).
//!
//! An answer outside our offer fails the login with the key's name. A key without an answer, or answered
//! `Irrelevant`, keeps its default. The target's own proposals are answered from the table alone: none of
//! them is something we want.

use super::keys::{KEYS, Key, Rule, Scope, Spec, TABLE, Value, boolean, number, yes_or_no};
use super::text::Text;
use super::{Authentication, DigestPreference, LoginFailure, Negotiated, Offer};
use crate::wire::{Stage, Tpgt, Tsih};

/// Longest TargetAlias kept for display, in characters (RFC 7143, 6.1: values of up to 255 bytes).
const ALIAS_MAX: usize = 255;

/// A value that we sent and that waits for its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Proposal {
    Number(u32),
    Boolean(bool),
    Words(&'static [&'static str]),
}

/// The state of one login's negotiation.
#[derive(Debug)]
pub(crate) struct Negotiation {
    normal_session: bool,
    proposed: [Option<Proposal>; KEYS],
    agreed: [Option<Value>; KEYS],
    /// Keys the target has used; a second use ends the login.
    heard: [bool; KEYS],
    /// What we owe the target.
    answers: Text,
    max_recv_data_segment_length: u32,
    portal_group: Option<Tpgt>,
    target_alias: Option<String>,
}

impl Negotiation {
    pub(crate) fn new(normal_session: bool) -> Self {
        Self {
            normal_session,
            proposed: [None; KEYS],
            agreed: [None; KEYS],
            heard: [false; KEYS],
            answers: Text::default(),
            max_recv_data_segment_length: 8192,
            portal_group: None,
            target_alias: None,
        }
    }

    /// Writes our proposals. Values outside a key's range are brought into it: what we send is always legal.
    pub(crate) fn propose(&mut self, offer: &Offer, text: &mut Text) {
        use Key::*;
        use Proposal::{Boolean, Number, Words};
        let max_burst_length = in_range(MaxBurstLength, offer.max_burst_length);
        let first_burst_length =
            in_range(FirstBurstLength, offer.first_burst_length).min(max_burst_length);
        self.max_recv_data_segment_length =
            in_range(MaxRecvDataSegmentLength, offer.max_recv_data_segment_length);
        let r2ts = in_range(MaxOutstandingR2T, offer.max_outstanding_r2t.into());

        text.push(
            MaxRecvDataSegmentLength.name(),
            &self.max_recv_data_segment_length.to_string(),
        );
        // Everything that matters is offered, so that no default has to be relied on. Recovery level 0 has no
        // use for tasks that outlive their connection, hence the retain time of 0.
        for (key, proposal) in [
            (HeaderDigest, Words(offer.header_digest.words())),
            (DataDigest, Words(offer.data_digest.words())),
            (DefaultTime2Wait, Number(0)),
            (DefaultTime2Retain, Number(0)),
            (ErrorRecoveryLevel, Number(0)),
            (MaxConnections, Number(1)),
            (InitialR2T, Boolean(offer.initial_r2t)),
            (ImmediateData, Boolean(offer.immediate_data)),
            (MaxBurstLength, Number(max_burst_length)),
            (FirstBurstLength, Number(first_burst_length)),
            (MaxOutstandingR2T, Number(r2ts)),
            (DataPduInOrder, Boolean(true)),
            (DataSequenceInOrder, Boolean(true)),
        ] {
            if key.spec().scope == Scope::Normal && !self.normal_session {
                continue;
            }
            self.proposed[key as usize] = Some(proposal);
            match proposal {
                Number(number) => text.push(key.name(), &number.to_string()),
                Boolean(boolean) => text.push(key.name(), yes_or_no(boolean)),
                Words(words) => text.push(key.name(), &words.join(",")),
            }
        }
    }

    /// Takes one pair from the target, in the stage in which it came.
    pub(crate) fn take(
        &mut self,
        stage: Stage,
        name: &str,
        value: &str,
    ) -> Result<(), LoginFailure> {
        let Some(key) = Key::named(name) else {
            // An answer to an answer would never end.
            if value != "NotUnderstood" {
                self.answers.push(name, "NotUnderstood");
            }
            return Ok(());
        };
        if core::mem::replace(&mut self.heard[key as usize], true) {
            return Err(LoginFailure::Protocol("the target used a key twice"));
        }
        let spec = key.spec();
        let bad = LoginFailure::BadNegotiation(spec.name);
        match spec.rule {
            Rule::TargetDeclares => self.declared(key, value),
            Rule::InitiatorDeclares => Err(LoginFailure::Protocol(
                "the target sent a key that only initiators send",
            )),
            Rule::Refused => {
                self.answers.push(spec.name, "Reject");
                Ok(())
            }
            Rule::EachDeclares { low, high } => {
                let declared = number(value).filter(|number| (low..=high).contains(number));
                self.agreed[key as usize] = Some(Value::Number(declared.ok_or(bad)?));
                Ok(())
            }
            _ if stage == Stage::Security => Err(LoginFailure::Protocol(
                "the target negotiates an operational key during security negotiation",
            )),
            _ => match self.proposed[key as usize] {
                Some(proposal) => {
                    // Irrelevant is not a failure; what it leaves is the default.
                    if value != "Irrelevant" {
                        self.agreed[key as usize] =
                            Some(accept_answer(spec, proposal, value).ok_or(bad)?);
                    }
                    Ok(())
                }
                None => {
                    self.answer_proposal(spec, value);
                    Ok(())
                }
            },
        }
    }

    /// Our answers to the target's proposals since the last call.
    pub(crate) fn take_answers(&mut self) -> Text {
        core::mem::take(&mut self.answers)
    }

    /// The portal group, as soon as the target named it.
    pub(crate) fn portal_group(&self) -> Option<Tpgt> {
        self.portal_group
    }

    /// The outcome, with the defaults of keys that were not answered.
    pub(crate) fn finish(
        &self,
        tsih: Tsih,
        authentication: Authentication,
    ) -> Result<Negotiated, LoginFailure> {
        use Key::*;
        for spec in &TABLE {
            // Silence means the default, but the default may be just what we did not offer.
            if let Some(Proposal::Words(words)) = self.proposed[spec.key as usize]
                && let Value::Word(word) = self.value(spec.key)
                && !words.contains(&word)
            {
                return Err(LoginFailure::BadNegotiation(spec.name));
            }
        }
        let max_burst_length = self.number(MaxBurstLength);
        Ok(Negotiated {
            header_digest: self.value(HeaderDigest) == Value::Word("CRC32C"),
            data_digest: self.value(DataDigest) == Value::Word("CRC32C"),
            max_send_data_segment_length: self.number(MaxRecvDataSegmentLength),
            max_recv_data_segment_length: self.max_recv_data_segment_length,
            max_burst_length,
            // The standard forbids a first burst above the burst; some targets answer the keys one by one.
            first_burst_length: self.number(FirstBurstLength).min(max_burst_length),
            max_outstanding_r2t: self.short(MaxOutstandingR2T),
            initial_r2t: self.boolean(InitialR2T),
            immediate_data: self.boolean(ImmediateData),
            time2wait: self.short(DefaultTime2Wait),
            time2retain: self.short(DefaultTime2Retain),
            error_recovery_level: self.number(ErrorRecoveryLevel) as u8,
            tsih,
            portal_group: self.portal_group,
            target_alias: self.target_alias.clone(),
            authentication,
        })
    }

    fn declared(&mut self, key: Key, value: &str) -> Result<(), LoginFailure> {
        match key {
            Key::TargetPortalGroupTag => {
                let tag = number(value).and_then(|tag| u16::try_from(tag).ok());
                self.portal_group =
                    Some(Tpgt(tag.ok_or(LoginFailure::BadNegotiation(key.name()))?));
            }
            Key::TargetAlias => {
                // Shown on terminals, so nothing that moves their cursor.
                let shown = value.chars().filter(|c| !c.is_control()).take(ALIAS_MAX);
                self.target_alias = Some(shown.collect());
            }
            _ => {}
        }
        Ok(())
    }

    /// Answers a key that the target proposed on its own. Our side of each is the default.
    fn answer_proposal(&mut self, spec: &'static Spec, value: &str) {
        if spec.scope == Scope::Normal && !self.normal_session {
            self.answers.push(spec.name, "Irrelevant");
            return;
        }
        let in_limits = |low, high| number(value).filter(|number| (low..=high).contains(number));
        let agreed = match (spec.rule, spec.default) {
            (Rule::Min { low, high }, Value::Number(ours)) => {
                in_limits(low, high).map(|theirs| Value::Number(theirs.min(ours)))
            }
            (Rule::Max { low, high }, Value::Number(ours)) => {
                in_limits(low, high).map(|theirs| Value::Number(theirs.max(ours)))
            }
            (Rule::Or, Value::Boolean(ours)) => {
                boolean(value).map(|theirs| Value::Boolean(theirs | ours))
            }
            (Rule::And, Value::Boolean(ours)) => {
                boolean(value).map(|theirs| Value::Boolean(theirs & ours))
            }
            (Rule::List(_), Value::Word(ours)) => value
                .split(',')
                .any(|theirs| theirs == ours)
                .then_some(Value::Word(ours)),
            _ => None,
        };
        match agreed {
            None => self.answers.push(spec.name, "Reject"),
            Some(Value::Number(number)) => self.answers.push(spec.name, &number.to_string()),
            Some(Value::Boolean(boolean)) => self.answers.push(spec.name, yes_or_no(boolean)),
            Some(Value::Word(word)) => self.answers.push(spec.name, word),
            Some(Value::Absent) => unreachable!("no rule yields an absent value"),
        }
        self.agreed[spec.key as usize] = agreed;
    }

    fn value(&self, key: Key) -> Value {
        self.agreed[key as usize].unwrap_or(key.spec().default)
    }

    fn number(&self, key: Key) -> u32 {
        match self.value(key) {
            Value::Number(number) => number,
            other => unreachable!("{} is {other:?}", key.name()),
        }
    }

    /// A number whose range in the table fits 16 bits.
    fn short(&self, key: Key) -> u16 {
        u16::try_from(self.number(key)).expect("checked against the table's range")
    }

    fn boolean(&self, key: Key) -> bool {
        match self.value(key) {
            Value::Boolean(boolean) => boolean,
            other => unreachable!("{} is {other:?}", key.name()),
        }
    }
}

impl DigestPreference {
    fn words(self) -> &'static [&'static str] {
        match self {
            DigestPreference::PreferNone => &["None", "CRC32C"],
            DigestPreference::PreferCrc32c => &["CRC32C", "None"],
            DigestPreference::RequireCrc32c => &["CRC32C"],
        }
    }
}

/// Reads the answer to a proposal of ours; `None` if it is not one that the proposal allows. `Reject` is
/// never allowed, because all our values are legal; neither is `NotUnderstood`, because the keys are the RFC's.
fn accept_answer(spec: &Spec, proposal: Proposal, value: &str) -> Option<Value> {
    match (spec.rule, proposal) {
        (Rule::Min { low, .. }, Proposal::Number(ours)) => number(value)
            .filter(|theirs| (low..=ours).contains(theirs))
            .map(Value::Number),
        (Rule::Max { high, .. }, Proposal::Number(ours)) => number(value)
            .filter(|theirs| (ours..=high).contains(theirs))
            .map(Value::Number),
        (Rule::Or, Proposal::Boolean(ours)) => boolean(value)
            .filter(|result| *result || !ours)
            .map(Value::Boolean),
        (Rule::And, Proposal::Boolean(ours)) => boolean(value)
            .filter(|result| !*result || ours)
            .map(Value::Boolean),
        (Rule::List(_), Proposal::Words(ours)) => ours
            .iter()
            .find(|word| **word == value)
            .map(|word| Value::Word(word)),
        _ => None,
    }
}

fn in_range(key: Key, value: u32) -> u32 {
    match key.spec().rule {
        Rule::Min { low, high } | Rule::Max { low, high } | Rule::EachDeclares { low, high } => {
            value.clamp(low, high)
        }
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiation(offer: &Offer) -> Negotiation {
        let mut negotiation = Negotiation::new(true);
        negotiation.propose(offer, &mut Text::default());
        negotiation
    }

    fn outcome(offer: &Offer, pairs: &[(&str, &str)]) -> Result<Negotiated, LoginFailure> {
        let mut negotiation = negotiation(offer);
        for (key, value) in pairs {
            negotiation.take(Stage::Operational, key, value)?;
        }
        negotiation.finish(Tsih(1), Authentication::None)
    }

    fn answer_to(key: &str, value: &str) -> Text {
        let mut negotiation = negotiation(&Offer::default());
        negotiation.take(Stage::Operational, key, value).unwrap();
        negotiation.take_answers()
    }

    fn text(pairs: &[(&str, &str)]) -> Text {
        let mut text = Text::default();
        pairs.iter().for_each(|(key, value)| text.push(key, value));
        text
    }

    #[test]
    fn silence_means_defaults() {
        let agreed = outcome(&Offer::default(), &[]).unwrap();
        assert!(!agreed.header_digest && !agreed.data_digest);
        assert!(agreed.initial_r2t && agreed.immediate_data);
        assert_eq!(agreed.max_send_data_segment_length, 8192);
        assert_eq!(agreed.max_recv_data_segment_length, 262_144);
        assert_eq!(agreed.max_burst_length, 262_144);
        assert_eq!(agreed.first_burst_length, 65_536);
        assert_eq!(agreed.max_outstanding_r2t, 1);
        assert_eq!((agreed.time2wait, agreed.time2retain), (2, 20));
    }

    #[test]
    fn answers_within_the_offer_are_taken() {
        let agreed = outcome(
            &Offer {
                header_digest: DigestPreference::PreferCrc32c,
                ..Offer::default()
            },
            &[
                ("HeaderDigest", "CRC32C"),
                ("InitialR2T", "No"),
                ("ImmediateData", "No"),
                ("MaxRecvDataSegmentLength", "0x20000"),
                ("MaxBurstLength", "8192"),
                ("FirstBurstLength", "65536"),
                ("MaxOutstandingR2T", "4"),
                ("DefaultTime2Wait", "3"),
                ("DefaultTime2Retain", "0"),
            ],
        )
        .unwrap();
        assert!(agreed.header_digest && !agreed.data_digest);
        assert!(!agreed.initial_r2t && !agreed.immediate_data);
        assert_eq!(agreed.max_send_data_segment_length, 131_072);
        assert_eq!(
            (agreed.max_burst_length, agreed.first_burst_length),
            (8192, 8192)
        );
        assert_eq!(agreed.max_outstanding_r2t, 4);
        assert_eq!((agreed.time2wait, agreed.time2retain), (3, 0));
    }

    #[test]
    fn answers_outside_the_offer_name_their_key() {
        let offer = Offer {
            header_digest: DigestPreference::RequireCrc32c,
            max_burst_length: 65_536,
            initial_r2t: true,
            immediate_data: false,
            ..Offer::default()
        };
        for (key, value) in [
            ("HeaderDigest", "None"),
            ("DataDigest", "SHA1"),
            ("MaxBurstLength", "65537"),
            ("MaxBurstLength", "511"),
            ("MaxOutstandingR2T", "0"),
            ("MaxOutstandingR2T", "9"),
            ("InitialR2T", "No"),
            ("ImmediateData", "Yes"),
            ("ImmediateData", "yes"),
            ("DataPDUInOrder", "No"),
            ("ErrorRecoveryLevel", "1"),
            ("DefaultTime2Wait", "3601"),
            ("DefaultTime2Retain", "20"),
            ("MaxRecvDataSegmentLength", "511"),
            ("MaxRecvDataSegmentLength", "16777216"),
            ("MaxConnections", "Reject"),
            ("FirstBurstLength", "NotUnderstood"),
            ("TargetPortalGroupTag", "65536"),
        ] {
            let failure = outcome(&offer, &[(key, value)]).unwrap_err();
            assert_eq!(
                failure,
                LoginFailure::BadNegotiation(Key::named(key).unwrap().name()),
                "{key}={value}"
            );
        }
    }

    #[test]
    fn a_required_digest_is_not_lost_by_silence() {
        let offer = Offer {
            data_digest: DigestPreference::RequireCrc32c,
            ..Offer::default()
        };
        for pairs in [&[][..], &[("DataDigest", "Irrelevant")]] {
            assert_eq!(
                outcome(&offer, pairs),
                Err(LoginFailure::BadNegotiation("DataDigest"))
            );
        }
    }

    #[test]
    fn irrelevant_keeps_the_default() {
        let agreed = outcome(&Offer::default(), &[("FirstBurstLength", "Irrelevant")]).unwrap();
        assert_eq!(agreed.first_burst_length, 65_536);
    }

    #[test]
    fn repeated_and_misplaced_keys_end_the_login() {
        let repeated = [("MaxBurstLength", "8192"), ("MaxBurstLength", "8192")];
        for pairs in [&repeated[..], &[("InitiatorName", "iqn.2026-01.org:x")]] {
            assert!(matches!(
                outcome(&Offer::default(), pairs),
                Err(LoginFailure::Protocol(_))
            ));
        }
        let mut negotiation = Negotiation::new(true);
        assert!(matches!(
            negotiation.take(Stage::Security, "MaxBurstLength", "8192"),
            Err(LoginFailure::Protocol(_))
        ));
        negotiation
            .take(Stage::Security, "TargetPortalGroupTag", "0")
            .unwrap();
        assert_eq!(negotiation.portal_group(), Some(Tpgt(0)));
    }

    #[test]
    fn proposals_of_the_target_are_answered() {
        for (key, value, answer) in [
            ("X-com.example.fast", "1", "NotUnderstood"),
            ("IFMarker", "No", "Reject"),
            ("OFMarkInt", "1~2048", "Reject"),
            ("SendTargets", "All", "Reject"),
            ("TaskReporting", "FastAbort,RFC3720", "RFC3720"),
            ("TaskReporting", "FastAbort", "Reject"),
            ("iSCSIProtocolLevel", "2", "1"),
            ("iSCSIProtocolLevel", "0", "0"),
            ("iSCSIProtocolLevel", "two", "Reject"),
        ] {
            assert_eq!(answer_to(key, value), text(&[(key, answer)]));
        }
        assert_eq!(answer_to("X-other", "NotUnderstood"), Text::default());
        assert_eq!(answer_to("TargetAlias", "disk\x1b[2J"), Text::default());
    }

    #[test]
    fn discovery_leaves_out_what_it_has_no_use_for() {
        let mut negotiation = Negotiation::new(false);
        let mut proposals = Text::default();
        negotiation.propose(&Offer::default(), &mut proposals);
        assert_eq!(
            proposals,
            text(&[
                ("MaxRecvDataSegmentLength", "262144"),
                ("HeaderDigest", "None,CRC32C"),
                ("DataDigest", "None,CRC32C"),
                ("DefaultTime2Wait", "0"),
                ("DefaultTime2Retain", "0"),
                ("ErrorRecoveryLevel", "0"),
            ])
        );
        negotiation
            .take(Stage::Operational, "MaxBurstLength", "8192")
            .unwrap();
        assert_eq!(
            negotiation.take_answers(),
            text(&[("MaxBurstLength", "Irrelevant")])
        );
    }

    #[test]
    fn illegal_offers_become_legal() {
        let mut negotiation = Negotiation::new(true);
        let offer = Offer {
            max_recv_data_segment_length: u32::MAX,
            max_burst_length: 1024,
            first_burst_length: 4096,
            max_outstanding_r2t: 0,
            ..Offer::default()
        };
        negotiation.propose(&offer, &mut Text::default());
        let proposed = |key: Key| negotiation.proposed[key as usize];
        assert_eq!(
            proposed(Key::FirstBurstLength),
            Some(Proposal::Number(1024))
        );
        assert_eq!(proposed(Key::MaxOutstandingR2T), Some(Proposal::Number(1)));
        assert_eq!(negotiation.max_recv_data_segment_length, 0xff_ffff);
    }
}
