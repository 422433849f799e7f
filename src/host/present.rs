//! Is this LUN already here by other means? Two initiators under one set of caches corrupt a disk, and LVM sees the
//! same PV twice: attach refuses, and says how to let go.

use std::path::Path;

use iscsi_client::scsi::{Designators, Wwid};

use crate::layout::Layout;

use super::{names, text};

/// The same LUN as another block device of this host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Present {
    /// A map of dm-multipath.
    Multipath {
        /// `dm-3`.
        device: String,
        /// Name of the map.
        map: String,
    },
    /// A SCSI disk.
    Scsi {
        /// `sdb`.
        device: String,
        /// Target of the iSCSI session it hangs on, where open-iscsi brought it.
        target: Option<String>,
    },
}

impl Present {
    /// The device's node.
    pub fn node(&self) -> String {
        match self {
            Present::Multipath { device, map } => format!("/dev/{device} (multipath map {map})"),
            Present::Scsi {
                device,
                target: Some(target),
            } => {
                format!("/dev/{device} (open-iscsi, {target})")
            }
            Present::Scsi {
                device,
                target: None,
            } => format!("/dev/{device}"),
        }
    }

    /// How to let go of it.
    pub fn remedy(&self) -> String {
        match self {
            Present::Multipath { map, .. } => format!("multipath -f {map}"),
            Present::Scsi {
                target: Some(target),
                ..
            } => {
                format!("iscsiadm -m node -T {target} --logout")
            }
            Present::Scsi {
                device,
                target: None,
            } => {
                format!("echo 1 > /sys/block/{device}/device/delete, after whoever uses it let go")
            }
        }
    }
}

/// Every other block device of this host with this WWID; multipath maps first, as they must go first.
pub fn find(layout: &Layout, wwid: &str) -> Vec<Present> {
    let block = layout.path("/sys/block");
    let mut maps = Vec::new();
    let mut disks = Vec::new();
    for name in names(&block) {
        let directory = block.join(&name);
        if name.starts_with("dm-") {
            let uuid = text(&directory.join("dm/uuid")).unwrap_or_default();
            if uuid.strip_prefix("mpath-") == Some(wwid) {
                let map = text(&directory.join("dm/name")).unwrap_or_else(|| name.clone());
                maps.push(Present::Multipath { device: name, map });
            }
        } else if name.starts_with("sd") && carries(&directory.join("device"), wwid) {
            let target = iscsi_target(layout, &directory.join("device"));
            disks.push(Present::Scsi {
                device: name,
                target,
            });
        }
    }
    maps.extend(disks);
    maps
}

/// Whether the SCSI device in this sysfs directory has this WWID.
fn carries(device: &Path, wwid: &str) -> bool {
    // Page 83h says it in multipath's own way; the kernel's `wwid` picks its designator by another order.
    if let Ok(page) = std::fs::read(device.join("vpd_pg83"))
        && let Some(own) = wwid_of_page(&page)
    {
        return own == wwid;
    }
    let Some(kernel) = text(&device.join("wwid")) else {
        return false;
    };
    match kernel.split_once('.') {
        Some(("naa", hex)) => wwid.strip_prefix('3') == Some(hex),
        Some(("eui", hex)) => wwid.strip_prefix('2') == Some(hex),
        _ => false,
    }
}

fn wwid_of_page(page: &[u8]) -> Option<String> {
    let designators = Designators::parse(page).ok()?;
    Some(Wwid::from_designators(designators)?.as_str().to_owned())
}

/// The target of the open-iscsi session above a SCSI device.
fn iscsi_target(layout: &Layout, device: &Path) -> Option<String> {
    let place = std::fs::canonicalize(device).ok()?;
    let session = place
        .components()
        .filter_map(|part| part.as_os_str().to_str())
        .find(|part| {
            part.strip_prefix("session")
                .is_some_and(|n| n.parse::<u32>().is_ok())
        })?
        .to_owned();
    text(
        &layout
            .path("/sys/class/iscsi_session")
            .join(session)
            .join("targetname"),
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const WWID: &str = "36001405aabbccddeeff001122334455";

    fn tree() -> (tempfile::TempDir, Layout) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let session = root.join("sys/devices/platform/host3/session7/target3:0:0/3:0:0:0");
        fs::create_dir_all(&session).unwrap();
        fs::write(
            session.join("wwid"),
            "naa.6001405aabbccddeeff001122334455\n",
        )
        .unwrap();
        fs::create_dir_all(root.join("sys/block/sdb")).unwrap();
        symlink(&session, root.join("sys/block/sdb/device")).unwrap();
        let class = root.join("sys/class/iscsi_session/session7");
        fs::create_dir_all(&class).unwrap();
        fs::write(class.join("targetname"), "iqn.2020-01.x:t\n").unwrap();
        let local = root.join("sys/block/sda/device");
        fs::create_dir_all(&local).unwrap();
        fs::write(local.join("wwid"), "t10.ATA     DISK\n").unwrap();
        let map = root.join("sys/block/dm-0/dm");
        fs::create_dir_all(&map).unwrap();
        fs::write(map.join("uuid"), format!("mpath-{WWID}\n")).unwrap();
        fs::write(map.join("name"), "mpatha\n").unwrap();
        let part = root.join("sys/block/dm-1/dm");
        fs::create_dir_all(&part).unwrap();
        fs::write(part.join("uuid"), format!("part1-mpath-{WWID}\n")).unwrap();
        let layout = Layout::below(root.to_owned());
        (directory, layout)
    }

    #[test]
    fn multipath_and_open_iscsi() {
        let (_directory, layout) = tree();
        let found = find(&layout, WWID);
        assert_eq!(
            found,
            [
                Present::Multipath {
                    device: "dm-0".into(),
                    map: "mpatha".into()
                },
                Present::Scsi {
                    device: "sdb".into(),
                    target: Some("iqn.2020-01.x:t".into())
                },
            ]
        );
        assert_eq!(found[0].remedy(), "multipath -f mpatha");
        assert_eq!(
            found[1].remedy(),
            "iscsiadm -m node -T iqn.2020-01.x:t --logout"
        );
    }

    #[test]
    fn another_lun_is_not_here() {
        let (_directory, layout) = tree();
        assert_eq!(find(&layout, "36001405aabbccddeeff001122334456"), []);
        assert_eq!(find(&Layout::below("/nonexistent".into()), WWID), []);
    }
}
