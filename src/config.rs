//! `/etc/sanblk/sanblk.toml`: defaults for `attach`. Flags win over it; a key it does not know is refused, because a
//! misspelt setting that is silently ignored is worse than none.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use iscsi_client::login::DigestPreference;
use multipath::{NoPathRetry, PolicyKind};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Kind};

/// The configuration file, checked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Config {
    /// Our iSCSI name.
    pub initiator_name: Option<String>,
    /// Whether sanlock's clients are served.
    pub sanlock_socket: bool,
    /// The group that may use their socket, by name or number.
    pub sanlock_group: Option<String>,
    /// When clients have to let go.
    pub on_lease_expiry: OnLeaseExpiry,
    /// What holds for every target.
    pub defaults: Settings,
    /// What holds for one target, by its name.
    pub target: BTreeMap<String, Settings>,
}

/// The file as it is written. Its keys are spelt out: a flattened [`Settings`] would lose the place of a mistake.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Raw {
    initiator_name: Option<String>,
    #[serde(default)]
    sanlock_socket: bool,
    sanlock_group: Option<String>,
    #[serde(default)]
    on_lease_expiry: OnLeaseExpiry,
    chap_file: Option<PathBuf>,
    header_digest: Option<Digest>,
    data_digest: Option<Digest>,
    policy: Option<Policy>,
    no_path_retry: Option<NoPath>,
    allow_fence: Option<AllowFence>,
    #[serde(default)]
    target: BTreeMap<String, Settings>,
}

impl From<Raw> for Config {
    fn from(raw: Raw) -> Config {
        Config {
            initiator_name: raw.initiator_name,
            sanlock_socket: raw.sanlock_socket,
            sanlock_group: raw.sanlock_group,
            on_lease_expiry: raw.on_lease_expiry,
            defaults: Settings {
                chap_file: raw.chap_file,
                header_digest: raw.header_digest,
                data_digest: raw.data_digest,
                policy: raw.policy,
                no_path_retry: raw.no_path_retry,
                allow_fence: raw.allow_fence,
            },
            target: raw.target,
        }
    }
}

/// What may be set for all targets or for one.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// CHAP names and secrets: [`crate::secrets`].
    pub chap_file: Option<PathBuf>,
    /// CRC32C over headers.
    pub header_digest: Option<Digest>,
    /// CRC32C over data.
    pub data_digest: Option<Digest>,
    /// How a path is chosen.
    pub policy: Option<Policy>,
    /// What requests do while no path works.
    pub no_path_retry: Option<NoPath>,
    /// Fences that concern other hosts.
    pub allow_fence: Option<AllowFence>,
}

impl Settings {
    /// These settings, and where one is missing that of `under`.
    pub fn over(self, under: Settings) -> Settings {
        Settings {
            chap_file: self.chap_file.or(under.chap_file),
            header_digest: self.header_digest.or(under.header_digest),
            data_digest: self.data_digest.or(under.data_digest),
            policy: self.policy.or(under.policy),
            no_path_retry: self.no_path_retry.or(under.no_path_retry),
            allow_fence: self.allow_fence.or(under.allow_fence),
        }
    }
}

/// `hold` or `kill`: when the kill paths of sanlock's clients are run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnLeaseExpiry {
    /// When leases prove lost. An outage of the storage alone ends nothing: writes wait.
    #[default]
    Hold,
    /// As soon as a lockspace could not be renewed, as sanlock does.
    Kill,
}

/// How sanlock's clients are served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sanlock {
    /// Who may use the socket beside root.
    pub group: Option<u32>,
    /// When they have to let go.
    pub on_lease_expiry: OnLeaseExpiry,
}

/// `none` or `crc32c`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Digest {
    /// Only if the target insists.
    None,
    /// Required.
    Crc32c,
}

impl From<Digest> for DigestPreference {
    fn from(digest: Digest) -> DigestPreference {
        match digest {
            Digest::None => DigestPreference::PreferNone,
            Digest::Crc32c => DigestPreference::RequireCrc32c,
        }
    }
}

/// `late-binding`, `service-time`, `queue-length`, `round-robin` or `failover`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// All usable paths in turn.
    RoundRobin,
    /// The first usable path in the order given.
    Failover,
    /// The fewest commands outstanding.
    QueueLength,
    /// The least to carry for its rate.
    ServiceTime,
    /// The path that would finish first.
    LateBinding,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Policy::RoundRobin => "round-robin",
            Policy::Failover => "failover",
            Policy::QueueLength => "queue-length",
            Policy::ServiceTime => "service-time",
            Policy::LateBinding => "late-binding",
        })
    }
}

impl From<Policy> for PolicyKind {
    fn from(policy: Policy) -> PolicyKind {
        match policy {
            Policy::RoundRobin => PolicyKind::RoundRobin,
            Policy::Failover => PolicyKind::Failover,
            Policy::QueueLength => PolicyKind::QueueLength,
            Policy::ServiceTime => PolicyKind::ServiceTime,
            Policy::LateBinding => PolicyKind::LateBinding,
        }
    }
}

/// `lun-reset`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum AllowFence {
    /// LOGICAL UNIT RESET may replace the part of a fence that waits for the target's backend. It aborts the commands
    /// of every host on the LUN.
    LunReset,
}

/// `queue`, `fail` or a number of seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "SecondsOrWord", into = "SecondsOrWord")]
pub enum NoPath {
    /// Hold for ever.
    Queue,
    /// Fail at once.
    Fail,
    /// Hold so many seconds, then fail.
    Seconds(u32),
}

/// The longest limit: a day. Beyond it `queue` is meant.
const SECONDS_MAX: u32 = 86_400;

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum SecondsOrWord {
    Seconds(u32),
    Word(String),
}

impl TryFrom<SecondsOrWord> for NoPath {
    type Error = NoPathError;

    fn try_from(value: SecondsOrWord) -> Result<NoPath, NoPathError> {
        match value {
            SecondsOrWord::Seconds(seconds) => seconds.to_string().parse(),
            SecondsOrWord::Word(word) => word.parse(),
        }
    }
}

impl From<NoPath> for SecondsOrWord {
    fn from(rule: NoPath) -> SecondsOrWord {
        match rule {
            NoPath::Seconds(seconds) => SecondsOrWord::Seconds(seconds),
            word => SecondsOrWord::Word(word.to_string()),
        }
    }
}

/// Neither word nor number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoPathError;

impl fmt::Display for NoPathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "expected `queue`, `fail` or a number of seconds from 1 to {SECONDS_MAX}"
        )
    }
}

impl std::error::Error for NoPathError {}

impl FromStr for NoPath {
    type Err = NoPathError;

    fn from_str(text: &str) -> Result<NoPath, NoPathError> {
        match text {
            "queue" => Ok(NoPath::Queue),
            "fail" => Ok(NoPath::Fail),
            number => match number.parse() {
                Ok(seconds @ 1..=SECONDS_MAX) => Ok(NoPath::Seconds(seconds)),
                _ => Err(NoPathError),
            },
        }
    }
}

impl fmt::Display for NoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoPath::Queue => f.write_str("queue"),
            NoPath::Fail => f.write_str("fail"),
            NoPath::Seconds(seconds) => write!(f, "{seconds}"),
        }
    }
}

impl From<NoPath> for NoPathRetry {
    fn from(rule: NoPath) -> NoPathRetry {
        match rule {
            NoPath::Queue => NoPathRetry::Queue,
            NoPath::Fail => NoPathRetry::Fail,
            NoPath::Seconds(seconds) => NoPathRetry::For(Duration::from_secs(seconds.into())),
        }
    }
}

impl From<NoPathRetry> for NoPath {
    fn from(rule: NoPathRetry) -> NoPath {
        match rule {
            NoPathRetry::Queue => NoPath::Queue,
            NoPathRetry::Fail => NoPath::Fail,
            NoPathRetry::For(limit) => {
                NoPath::Seconds(u32::try_from(limit.as_secs()).unwrap_or(SECONDS_MAX))
            }
        }
    }
}

impl From<PolicyKind> for Policy {
    fn from(policy: PolicyKind) -> Policy {
        match policy {
            PolicyKind::RoundRobin => Policy::RoundRobin,
            PolicyKind::Failover => Policy::Failover,
            PolicyKind::QueueLength => Policy::QueueLength,
            PolicyKind::ServiceTime => Policy::ServiceTime,
            PolicyKind::LateBinding => Policy::LateBinding,
        }
    }
}

impl Config {
    /// The file at `path`; no file is an empty configuration.
    ///
    /// # Errors
    /// A file that cannot be read, or says something unknown: the sentence names line and key.
    pub fn read(path: &Path) -> Result<Config, Failure> {
        match std::fs::read_to_string(path) {
            Ok(text) => Config::parse(&text, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Config::default()),
            Err(error) => Err(Failure::new(
                Kind::Usage,
                format!("cannot read the configuration {}: {error}", path.display()),
                "make it readable, or remove it to use the defaults",
            )),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Config, Failure> {
        let raw: Raw = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            Failure::new(
                Kind::Usage,
                format!("configuration {}, line {line}: {}", path.display(), error.message()),
                "correct the line; known keys are initiator-name, sanlock-socket, sanlock-group, on-lease-expiry, chap-file, header-digest, data-digest, policy, \
                 no-path-retry, allow-fence, and [target.\"IQN\"] with the last six",
            )
        })?;
        Ok(raw.into())
    }

    /// How sanlock's clients are served, with the groups of this host (as `/etc/group` has them). Without a group of their
    /// own, sanlock's may, if there is one.
    ///
    /// # Errors
    /// There is no such group.
    pub fn sanlock(&self, groups: &str) -> Result<Sanlock, Failure> {
        let number = |name: &str| {
            let line = groups
                .lines()
                .find(|line| line.split(':').next() == Some(name))?;
            line.split(':').nth(2)?.parse::<u32>().ok()
        };
        let group = match &self.sanlock_group {
            None => number("sanlock"),
            Some(name) => Some(number(name).or_else(|| name.parse().ok()).ok_or_else(|| {
                Failure::new(
                    Kind::Usage,
                    format!("sanlock-group: there is no group {name}"),
                    "name one of /etc/group",
                )
            })?),
        };
        Ok(Sanlock {
            group,
            on_lease_expiry: self.on_lease_expiry,
        })
    }

    /// What holds for `target`.
    pub fn settings(&self, target: &str) -> Settings {
        let own = self.target.get(target).cloned().unwrap_or_default();
        own.over(self.defaults.clone())
    }
}

/// Number of the line that holds this byte, from 1.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    before.filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, Failure> {
        Config::parse(text, Path::new("sanblk.toml"))
    }

    #[test]
    fn a_full_file() {
        let config = parse(
            "initiator-name = 'iqn.2020-01.x:h'\nsanlock-socket = true\non-lease-expiry = 'kill'\npolicy = 'failover'\nno-path-retry = 60\n\
             [target.'iqn.2020-01.x:t']\ndata-digest = 'crc32c'\nno-path-retry = 'fail'\n\
             chap-file = '/etc/sanblk/t.toml'\n",
        )
        .unwrap();
        assert_eq!(config.initiator_name.as_deref(), Some("iqn.2020-01.x:h"));
        assert!(config.sanlock_socket);
        assert_eq!(config.on_lease_expiry, OnLeaseExpiry::Kill);
        let own = config.settings("iqn.2020-01.x:t");
        assert_eq!(own.policy, Some(Policy::Failover));
        assert_eq!(own.no_path_retry, Some(NoPath::Fail));
        assert_eq!(own.data_digest, Some(Digest::Crc32c));
        let other = config.settings("iqn.2020-01.x:u");
        assert_eq!(other.no_path_retry, Some(NoPath::Seconds(60)));
        assert_eq!(other.data_digest, None);
    }

    #[test]
    fn the_group_of_the_socket() {
        let groups = "root:x:0:\nsanlock:x:107:\nvm:x:500:me\n";
        let group = |text: &str, groups: &str| parse(text).unwrap().sanlock(groups);
        for (text, groups, wanted) in [
            ("", groups, Some(107)),
            ("", "root:x:0:\n", None),
            ("sanlock-group = 'vm'\n", groups, Some(500)),
            ("sanlock-group = '36'\n", groups, Some(36)),
        ] {
            assert_eq!(group(text, groups).unwrap().group, wanted, "{text:?}");
        }
        let failure = group("sanlock-group = 'vms'\n", groups).unwrap_err();
        assert!(failure.what.contains("vms"), "{failure}");
    }

    #[test]
    fn each_policy_has_its_name() {
        for (name, kind) in [
            ("round-robin", PolicyKind::RoundRobin),
            ("failover", PolicyKind::Failover),
            ("queue-length", PolicyKind::QueueLength),
            ("service-time", PolicyKind::ServiceTime),
            ("late-binding", PolicyKind::LateBinding),
        ] {
            let config = parse(&format!("policy = '{name}'\n")).unwrap();
            let policy = config.defaults.policy.unwrap();
            assert_eq!(PolicyKind::from(policy), kind, "{name}");
            assert_eq!(Policy::from(kind), policy, "{name}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            ("polcy = 'failover'\n", "polcy"),
            ("policy = 'fastest'\n", "fastest"),
            ("allow-fence = 'target-reset'\n", "target-reset"),
            ("no-path-retry = 0\n", "number of seconds"),
            ("no-path-retry = 'never'\n", "number of seconds"),
            ("\n\n[target.'x']\ninitiator-name = 'y'\n", "line 4"),
            ("policy = \n", "line 1"),
        ] {
            let failure = parse(text).unwrap_err();
            assert_eq!(failure.kind, Kind::Usage);
            assert!(failure.what.contains(word), "{text:?}: {failure}");
        }
    }

    #[test]
    fn the_shipped_example_is_valid() {
        let text = include_str!("../dist/sanblk.toml");
        assert_eq!(parse(text).unwrap(), Config::default());
        // Every commented setting is one that exists.
        let active: String = text
            .lines()
            .map(|line| line.strip_prefix("#= ").unwrap_or(line))
            .collect::<Vec<_>>()
            .join("\n");
        let config = parse(&active).unwrap();
        assert_eq!(
            config.defaults.policy.map(PolicyKind::from),
            Some(PolicyKind::default())
        );
        assert_eq!(config.defaults.allow_fence, Some(AllowFence::LunReset));
        assert_eq!(config.target.len(), 1);
    }
}
