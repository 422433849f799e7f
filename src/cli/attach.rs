//! `sanblk attach`: a LUN as a block device.

use std::path::PathBuf;

use crate::config::{AllowFence, Digest, NoPath, Policy, Settings};
use crate::control::{AttachRequest, Reply, Request, client};
use crate::daemon::start;
use crate::failure::{Failure, Kind};
use crate::layout::Layout;
use crate::portal::Portal;
use crate::{config, names, secrets};

use super::{absolute, config_path, print, print_json, say, text, unexpected};

const HELP: &str = "\
A portal that does not answer is no error as long as one does: it is a path that is down.
Attaching again prints the same, and adds new portals.

CHAP file (mode 0600, owner root; without --chap-file: /etc/sanblk/chap.toml):
  username = \"host1\"
  secret = \"at least 12 bytes\"
  [target.\"iqn.2003-01.org.linux-iscsi.store:t1\"]   # only for this target
  username = \"host1\"
  secret = \"another secret\"
  target-username = \"store\"                         # optional
  target-secret = \"what the target must know\"       # mutual CHAP";

/// Attach a LUN as a block device, over all the portals given
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Arguments {
    /// Portal of the target; one per storage network, each becomes a path
    #[arg(long = "portal", value_name = "HOST[:PORT]", required = true)]
    portals: Vec<Portal>,
    /// iSCSI name of the target, where the portals show several
    #[arg(long, value_name = "IQN")]
    target: Option<String>,
    /// Logical unit number, where the target shows several
    #[arg(long, value_name = "N")]
    lun: Option<u16>,
    /// Our iSCSI name [default: configuration, /etc/iscsi/initiatorname.iscsi, else generated once]
    #[arg(long, value_name = "IQN")]
    initiator_name: Option<String>,
    /// CHAP names and secrets, readable by root alone
    #[arg(long, value_name = "PATH")]
    chap_file: Option<PathBuf>,
    /// CRC32C over headers: none (unless the target insists) or required
    #[arg(long, value_name = "none|crc32c", hide_possible_values = true)]
    header_digest: Option<Digest>,
    /// CRC32C over data: none (unless the target insists) or required
    #[arg(long, value_name = "none|crc32c", hide_possible_values = true)]
    data_digest: Option<Digest>,
    /// How a path is chosen [default: late-binding]
    #[arg(
        long,
        value_name = "late-binding|service-time|queue-length|round-robin|failover",
        hide_possible_values = true
    )]
    policy: Option<Policy>,
    /// What requests do while no path works [default: queue]
    #[arg(long, value_name = "queue|fail|SECONDS")]
    no_path_retry: Option<NoPath>,
    /// Fence a lost path by LOGICAL UNIT RESET too, where only waiting is left; it aborts every host's commands
    #[arg(long, value_name = "lun-reset", hide_possible_values = true)]
    allow_fence: Option<AllowFence>,
    /// Defaults [default: /etc/sanblk/sanblk.toml]
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(layout: &Layout, arguments: Arguments) -> Result<(), Failure> {
    let request = AttachRequest {
        portals: arguments.portals,
        target: arguments.target,
        lun: arguments.lun,
        initiator_name: arguments.initiator_name,
        settings: Settings {
            chap_file: arguments.chap_file.map(absolute).transpose()?,
            header_digest: arguments.header_digest,
            data_digest: arguments.data_digest,
            policy: arguments.policy,
            no_path_retry: arguments.no_path_retry,
            allow_fence: arguments.allow_fence,
        },
        config: config_path(layout, arguments.config)?,
    };
    check(layout, &request)?;
    let stream = start::connect(layout, say).await?;
    match client::call(stream, &Request::Attach(request), say).await? {
        Reply::Attached(report) if arguments.json => print_json(&report),
        Reply::Attached(report) => {
            print(&text::attach(&report));
            Ok(())
        }
        _ => Err(unexpected()),
    }
}

/// What can be known to be wrong before a daemon is started. The daemon looks again: it is the one that acts.
fn check(layout: &Layout, request: &AttachRequest) -> Result<(), Failure> {
    let wrong = |what: &str, error: names::NameError| {
        Failure::new(
            Kind::Usage,
            format!("{what}: {error}"),
            "check the name; sanblk discover lists targets",
        )
    };
    if let Some(target) = &request.target {
        names::check(target).map_err(|error| wrong("--target", error))?;
    }
    if let Some(name) = &request.initiator_name {
        names::check(name).map_err(|error| wrong("--initiator-name", error))?;
    }
    if request.lun.is_some_and(|lun| lun >= 16384) {
        return Err(Failure::new(
            Kind::Usage,
            "--lun: logical unit numbers go from 0 to 16383",
            "sanblk discover lists them",
        ));
    }
    let target = request.target.as_deref().unwrap_or_default();
    let settings = config::Config::read(&request.config)?.settings(target);
    let file = request.settings.clone().over(settings).chap_file;
    if let Some(file) = file.or_else(|| Some(layout.chap()).filter(|file| file.exists())) {
        let found = secrets::credentials(&file, target)?;
        // A file that was named and has nothing for us is a mistake, but only once the target is known.
        if found.is_none() && request.settings.chap_file.is_some() && request.target.is_some() {
            return Err(Failure::new(
                Kind::Usage,
                format!("the CHAP file {} has nothing for {target}", file.display()),
                "add username and secret, at the top or under [target.\"IQN\"]",
            ));
        }
    }
    Ok(())
}
