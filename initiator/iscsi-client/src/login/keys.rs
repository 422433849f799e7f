//! The keys that a login negotiates: one table (RFC 7143, 13; RFC 7144, 7).
//!
//! The table says what a key is; what we offer and how answers are judged is in `negotiate`.

use Key::*;

/// A key of the standard that may appear in a login besides AuthMethod and the keys of CHAP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Key {
    HeaderDigest,
    DataDigest,
    MaxConnections,
    InitialR2T,
    ImmediateData,
    MaxRecvDataSegmentLength,
    MaxBurstLength,
    FirstBurstLength,
    DefaultTime2Wait,
    DefaultTime2Retain,
    MaxOutstandingR2T,
    DataPduInOrder,
    DataSequenceInOrder,
    ErrorRecoveryLevel,
    TaskReporting,
    IscsiProtocolLevel,
    TargetPortalGroupTag,
    TargetAlias,
    TargetAddress,
    TargetName,
    InitiatorName,
    InitiatorAlias,
    SessionType,
    SendTargets,
    IfMarker,
    OfMarker,
    IfMarkInt,
    OfMarkInt,
}

/// How the two sides' values become one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rule {
    /// Number; the smaller of both.
    Min { low: u32, high: u32 },
    /// Number; the larger of both.
    Max { low: u32, high: u32 },
    /// Yes if either side says Yes.
    Or,
    /// Yes if both sides say Yes.
    And,
    /// The responder picks one of the offered words.
    List(&'static [&'static str]),
    /// Each side states a number of its own.
    EachDeclares { low: u32, high: u32 },
    /// The target states it.
    TargetDeclares,
    /// The initiator states it; from a target it is wrong.
    InitiatorDeclares,
    /// Obsolete, or not for a login: answered with Reject.
    Refused,
}

/// The sessions a key means something in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scope {
    /// Every session.
    Any,
    /// Sessions that carry SCSI commands; `Irrelevant` in discovery.
    Normal,
}

/// A value as agreed, or as the standard's default.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Value {
    Number(u32),
    Boolean(bool),
    Word(&'static str),
    /// For keys that are not negotiated.
    Absent,
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) key: Key,
    pub(crate) name: &'static str,
    pub(crate) rule: Rule,
    pub(crate) default: Value,
    pub(crate) scope: Scope,
}

/// 2^24 - 1: the most a DataSegmentLength can say.
const LENGTH_MAX: u32 = 0xff_ffff;
const LENGTH: (u32, u32) = (512, LENGTH_MAX);
const DIGESTS: Rule = Rule::List(&["None", "CRC32C"]);

const fn min((low, high): (u32, u32)) -> Rule {
    Rule::Min { low, high }
}

const fn spec(key: Key, name: &'static str, rule: Rule, default: Value, scope: Scope) -> Spec {
    Spec {
        key,
        name,
        rule,
        default,
        scope,
    }
}

/// All keys, in the order of [`Key`], so that `TABLE[key as usize]` is the key's line.
#[rustfmt::skip]
pub(crate) const TABLE: [Spec; 28] = {
    use Scope::*;
    use Value::*;
    [
        spec(HeaderDigest,             "HeaderDigest",             DIGESTS,                               Word("None"),    Any),
        spec(DataDigest,               "DataDigest",               DIGESTS,                               Word("None"),    Any),
        spec(MaxConnections,           "MaxConnections",           min((1, 65535)),                       Number(1),       Normal),
        spec(InitialR2T,               "InitialR2T",               Rule::Or,                              Boolean(true),   Normal),
        spec(ImmediateData,            "ImmediateData",            Rule::And,                             Boolean(true),   Normal),
        spec(MaxRecvDataSegmentLength, "MaxRecvDataSegmentLength", Rule::EachDeclares { low: LENGTH.0, high: LENGTH.1 },
                                                                                                          Number(8192),    Any),
        spec(MaxBurstLength,           "MaxBurstLength",           min(LENGTH),                           Number(262_144), Normal),
        spec(FirstBurstLength,         "FirstBurstLength",         min(LENGTH),                           Number(65_536),  Normal),
        spec(DefaultTime2Wait,         "DefaultTime2Wait",         Rule::Max { low: 0, high: 3600 },      Number(2),       Any),
        spec(DefaultTime2Retain,       "DefaultTime2Retain",       min((0, 3600)),                        Number(20),      Any),
        spec(MaxOutstandingR2T,        "MaxOutstandingR2T",        min((1, 65535)),                       Number(1),       Normal),
        spec(DataPduInOrder,           "DataPDUInOrder",           Rule::Or,                              Boolean(true),   Normal),
        spec(DataSequenceInOrder,      "DataSequenceInOrder",      Rule::Or,                              Boolean(true),   Normal),
        spec(ErrorRecoveryLevel,       "ErrorRecoveryLevel",       min((0, 2)),                           Number(0),       Any),
        spec(TaskReporting,            "TaskReporting",            Rule::List(&["RFC3720", "ResponseFence", "FastAbort"]),
                                                                                                          Word("RFC3720"), Normal),
        spec(IscsiProtocolLevel,       "iSCSIProtocolLevel",       min((0, 31)),                          Number(1),       Any),
        spec(TargetPortalGroupTag,     "TargetPortalGroupTag",     Rule::TargetDeclares,                  Absent,          Any),
        spec(TargetAlias,              "TargetAlias",              Rule::TargetDeclares,                  Absent,          Any),
        spec(TargetAddress,            "TargetAddress",            Rule::TargetDeclares,                  Absent,          Any),
        spec(TargetName,               "TargetName",               Rule::TargetDeclares,                  Absent,          Any),
        spec(InitiatorName,            "InitiatorName",            Rule::InitiatorDeclares,               Absent,          Any),
        spec(InitiatorAlias,           "InitiatorAlias",           Rule::InitiatorDeclares,               Absent,          Any),
        spec(SessionType,              "SessionType",              Rule::InitiatorDeclares,               Absent,          Any),
        spec(SendTargets,              "SendTargets",              Rule::Refused,                         Absent,          Any),
        spec(IfMarker,                 "IFMarker",                 Rule::Refused,                         Absent,          Any),
        spec(OfMarker,                 "OFMarker",                 Rule::Refused,                         Absent,          Any),
        spec(IfMarkInt,                "IFMarkInt",                Rule::Refused,                         Absent,          Any),
        spec(OfMarkInt,                "OFMarkInt",                Rule::Refused,                         Absent,          Any),
    ]
};

/// How many keys there are.
pub(crate) const KEYS: usize = TABLE.len();

// The index of a line is its key, checked when compiling.
const _: () = {
    let mut i = 0;
    while i < KEYS {
        assert!(TABLE[i].key as usize == i);
        i += 1;
    }
};

impl Key {
    /// The key with this name. Names are case-sensitive (RFC 7143, 6.1).
    pub(crate) fn named(name: &str) -> Option<Key> {
        TABLE
            .iter()
            .find(|spec| spec.name == name)
            .map(|spec| spec.key)
    }

    pub(crate) fn spec(self) -> &'static Spec {
        // A constant's reference needs a static to live in.
        static LINES: [Spec; KEYS] = TABLE;
        &LINES[self as usize]
    }

    pub(crate) fn name(self) -> &'static str {
        self.spec().name
    }
}

/// Reads a number as the standard writes them: decimal, or hexadecimal after `0x` (RFC 7143, 6.1).
pub(crate) fn number(value: &str) -> Option<u32> {
    let (digits, radix) = match value.strip_prefix("0x").or(value.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (value, 10),
    };
    // `from_str_radix` would take a sign.
    match digits.bytes().next()? {
        b'+' | b'-' => None,
        _ => u32::from_str_radix(digits, radix).ok(),
    }
}

/// Reads `Yes` or `No`.
pub(crate) fn boolean(value: &str) -> Option<bool> {
    match value {
        "Yes" => Some(true),
        "No" => Some(false),
        _ => None,
    }
}

/// Writes `Yes` or `No`.
pub(crate) fn yes_or_no(value: bool) -> &'static str {
    if value { "Yes" } else { "No" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_their_lines() {
        for spec in &TABLE {
            assert_eq!(Key::named(spec.name), Some(spec.key));
            assert_eq!(spec.key.name(), spec.name);
        }
        assert_eq!(Key::named("headerdigest"), None);
    }

    #[test]
    fn numbers() {
        assert_eq!(number("262144"), Some(262_144));
        assert_eq!(number("0x40000"), Some(262_144));
        assert_eq!(number("0XfF"), Some(255));
        for wrong in ["", "0x", "-1", "+1", "0x+1", "1 ", "4294967296", "Yes"] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }
}
