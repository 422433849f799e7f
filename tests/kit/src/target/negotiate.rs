//! Operational keys from the target's side (RFC 7143, 13).

use super::config::{Digests, Limits};

/// What both sides agreed on, as the target sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are the RFC's")]
pub struct Terms {
    pub header_digest: bool,
    pub data_digest: bool,
    /// The initiator's limit on what we send.
    pub max_send_data_segment_length: u32,
    /// Our limit on what it sends.
    pub max_recv_data_segment_length: u32,
    pub max_burst_length: u32,
    pub first_burst_length: u32,
    pub max_outstanding_r2t: u16,
    pub initial_r2t: bool,
    pub immediate_data: bool,
}

impl Default for Terms {
    /// The RFC's defaults: what holds for a key that nobody offers.
    fn default() -> Self {
        Terms {
            header_digest: false,
            data_digest: false,
            max_send_data_segment_length: 8192,
            max_recv_data_segment_length: 8192,
            max_burst_length: 262_144,
            first_burst_length: 65_536,
            max_outstanding_r2t: 1,
            initial_r2t: true,
            immediate_data: true,
        }
    }
}

/// An offer that cannot be answered: login status 0200.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Illegal(pub(super) &'static str);

/// Takes one key of the initiator. `answer` is what to say, unless the key answers a proposal of ours.
pub(super) fn operational(
    terms: &mut Terms,
    limits: &Limits,
    key: &str,
    value: &str,
) -> Result<Option<String>, Illegal> {
    let number = |low: u32, high: u32| match value.parse::<u32>() {
        Ok(number) if (low..=high).contains(&number) => Ok(number),
        _ => Err(Illegal("number out of range")),
    };
    let boolean = || match value {
        "Yes" => Ok(true),
        "No" => Ok(false),
        _ => Err(Illegal("neither Yes nor No")),
    };
    let said = |yes: bool| Some(if yes { "Yes" } else { "No" }.to_owned());
    const LENGTH_MAX: u32 = (1 << 24) - 1;
    Ok(match key {
        "HeaderDigest" => {
            terms.header_digest = digest(limits.header_digest, value)?;
            Some(
                if terms.header_digest {
                    "CRC32C"
                } else {
                    "None"
                }
                .into(),
            )
        }
        "DataDigest" => {
            terms.data_digest = digest(limits.data_digest, value)?;
            Some(if terms.data_digest { "CRC32C" } else { "None" }.into())
        }
        "MaxRecvDataSegmentLength" => {
            terms.max_send_data_segment_length = number(512, LENGTH_MAX)?;
            None
        }
        "MaxBurstLength" => {
            terms.max_burst_length = number(512, LENGTH_MAX)?.min(limits.max_burst_length);
            Some(terms.max_burst_length.to_string())
        }
        "FirstBurstLength" => {
            terms.first_burst_length = number(512, LENGTH_MAX)?.min(limits.first_burst_length);
            Some(terms.first_burst_length.to_string())
        }
        "MaxOutstandingR2T" => {
            let offered = number(1, 65_535)? as u16;
            terms.max_outstanding_r2t = offered.min(limits.max_outstanding_r2t);
            Some(terms.max_outstanding_r2t.to_string())
        }
        "InitialR2T" => {
            terms.initial_r2t = boolean()? || limits.initial_r2t;
            said(terms.initial_r2t)
        }
        "ImmediateData" => {
            terms.immediate_data = boolean()? && limits.immediate_data;
            said(terms.immediate_data)
        }
        "MaxConnections" => number(1, 65_535).map(|_| Some("1".into()))?,
        "ErrorRecoveryLevel" => number(0, 2).map(|_| Some("0".into()))?,
        "DefaultTime2Wait" => Some(number(0, 3600)?.max(2).to_string()),
        "DefaultTime2Retain" => Some(number(0, 3600)?.min(20).to_string()),
        "DataPDUInOrder" | "DataSequenceInOrder" => boolean().map(|_| Some("Yes".into()))?,
        "TaskReporting" => Some("RFC3720".into()),
        "iSCSIProtocolLevel" => number(0, 31).map(|offered| Some(offered.min(1).to_string()))?,
        "IFMarker" | "OFMarker" => Some("No".into()),
        "IFMarkInt" | "OFMarkInt" => Some("Reject".into()),
        "InitiatorAlias" => None,
        _ => Some("NotUnderstood".into()),
    })
}

fn digest(policy: Digests, offer: &str) -> Result<bool, Illegal> {
    for choice in offer.split(',') {
        match (choice, policy) {
            ("None", Digests::Never | Digests::Either) => return Ok(false),
            ("CRC32C", Digests::Either | Digests::Always) => return Ok(true),
            _ => {}
        }
    }
    Err(Illegal("no digest in common"))
}
