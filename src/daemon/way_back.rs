//! The way back of a host whose leases are lost for good: commands for a shell, and no reboot.
//!
//! A gate that refused stays so while its volume is attached, for writes that failed are missing below whatever is on it. So
//! all that uses the volume goes, the lockspace is left, and both are made anew. Which programs write there, and which logical
//! volumes shall be active again, the operator knows.

use std::fmt::Write;

use crate::daemon::lease::Joined;
use crate::lease::place::Place;
use crate::report::{GateWord, LockspaceWord, LockspacesReport, PathWord, VolumeReport};

use super::Daemon;
use super::volume::Volume;

/// A lockspace as it was joined.
struct Membership {
    place: Place,
    host: u64,
    host_name: String,
    io_timeout_s: u16,
    /// The volume group that it lies in, and who joined it there.
    group: Option<(String, By)>,
}

/// Who joins and leaves a lockspace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum By {
    /// `sanblk lease`.
    Operator,
    /// LVM, by way of lvmlockd.
    Lvm,
}

/// A volume as it was attached.
struct Attached {
    device: String,
    target: String,
    lun: String,
    portals: Vec<String>,
}

impl Attached {
    fn of(report: &VolumeReport) -> Attached {
        let stays = report
            .paths
            .iter()
            .filter(|path| path.state != PathWord::Removed);
        Attached {
            device: report.device.clone(),
            target: report.target.clone(),
            lun: report.lun.clone(),
            portals: stays.map(|path| path.portal.clone()).collect(),
        }
    }

    fn attach(&self) -> String {
        let mut command = String::from("sanblk attach");
        for portal in &self.portals {
            // Writing to a String cannot fail.
            let _ = write!(command, " --portal {portal}");
        }
        let _ = write!(command, " --target {} --lun {}", self.target, self.lun);
        command
    }
}

fn commands(membership: Option<&Membership>, volumes: &[Attached]) -> Vec<String> {
    let mut commands = Vec::new();
    if let Some(membership) = membership {
        commands.extend(membership.end());
    }
    commands.extend(
        volumes
            .iter()
            .map(|volume| format!("sanblk detach {}", volume.device)),
    );
    commands.extend(volumes.iter().map(Attached::attach));
    if let Some(membership) = membership {
        commands.extend(membership.begin());
    }
    commands
}

impl Membership {
    fn of(joined: &Joined, served: bool) -> Membership {
        let group = joined.group_name().map(|group| {
            let by = match served && joined.space.to_string() == format!("lvm_{group}") {
                true => By::Lvm,
                false => By::Operator,
            };
            (group, by)
        });
        Membership {
            place: joined.place.clone(),
            host: joined.host.number(),
            host_name: joined.host_name.to_string(),
            io_timeout_s: joined.timing.io_timeout_s(),
            group,
        }
    }

    /// What lies on the volumes is let go, the lockspace too.
    fn end(&self) -> Vec<String> {
        let leave = format!("sanblk lease leave {}", self.place);
        match &self.group {
            None => vec![leave],
            // By its path, which goes with the volume group.
            Some((group, By::Operator)) => vec![leave, format!("vgchange -an {group}")],
            // The second takes the logical volume with the leases as well.
            Some((group, By::Lvm)) => vec![
                format!("vgchange -an {group}"),
                format!("vgchange --lock-stop {group}"),
            ],
        }
    }

    fn begin(&self) -> Vec<String> {
        let join = format!(
            "sanblk lease join {} --host-id {} --host-name {} --io-timeout {}",
            self.place, self.host, self.host_name, self.io_timeout_s
        );
        match &self.group {
            None => vec![join],
            Some((_, By::Operator)) => {
                vec![format!("lvchange -ay {}", self.place.path.display()), join]
            }
            Some((group, By::Lvm)) => vec![format!("vgchange --lock-start {group}")],
        }
    }
}

impl Daemon {
    /// For a lockspace whose leases are lost for good.
    async fn way_back(&self, joined: &Joined) -> Vec<String> {
        let membership = Membership::of(joined, self.clients().is_some());
        let guarded = joined.guarded();
        let reports = guarded.iter().map(|volume| volume.report());
        let reports = crate::together::together(reports).await;
        let volumes: Vec<Attached> = reports.iter().map(Attached::of).collect();
        commands(Some(&membership), &volumes)
    }

    /// Says it where all writes of a volume fail.
    pub(super) async fn tell_way_back(&self, volume: &Volume, report: &mut VolumeReport) {
        let attached = Attached::of(report);
        let Some(gate) = &mut report.gate else { return };
        if gate.state != GateWord::Refused {
            return;
        }
        gate.way_back = match self.lockspaces.guardian(volume) {
            Some(joined) => self.way_back(&joined).await,
            None => commands(None, &[attached]),
        };
    }

    /// Says it of every lockspace whose leases are lost for good.
    pub(super) async fn tell_ways_back(&self, report: &mut LockspacesReport) {
        for space in &mut report.lockspaces {
            if space.state != LockspaceWord::Refused {
                continue;
            }
            let named = |joined: &&std::rc::Rc<Joined>| joined.space.to_string() == space.name;
            if let Some(joined) = self.lockspaces.all().iter().find(named) {
                space.way_back = self.way_back(joined).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(group: Option<By>) -> Membership {
        let on = match group {
            Some(_) => "/dev/mapper/vg0-lvmlock",
            None => "/dev/ublkb0",
        };
        Membership {
            place: Place {
                path: on.into(),
                offset: 0,
            },
            host: 2,
            host_name: "south".into(),
            io_timeout_s: 10,
            group: group.map(|by| ("vg0".into(), by)),
        }
    }

    fn attached(number: u32) -> Attached {
        Attached {
            device: format!("/dev/ublkb{number}"),
            target: "iqn.2026-01.lab:t".into(),
            lun: number.to_string(),
            portals: vec!["10.20.5.254".into(), "10.20.6.254:3261".into()],
        }
    }

    const ATTACH: &str =
        "sanblk attach --portal 10.20.5.254 --portal 10.20.6.254:3261 --target iqn.2026-01.lab:t";

    #[test]
    fn a_volume_with_its_lockspace() {
        assert_eq!(
            commands(Some(&membership(None)), &[attached(0)]),
            [
                "sanblk lease leave /dev/ublkb0:0".to_owned(),
                "sanblk detach /dev/ublkb0".to_owned(),
                format!("{ATTACH} --lun 0"),
                "sanblk lease join /dev/ublkb0:0 --host-id 2 --host-name south --io-timeout 10"
                    .to_owned(),
            ]
        );
    }

    #[test]
    fn one_whose_lockspace_was_left() {
        assert_eq!(
            commands(None, &[attached(0)]),
            [
                "sanblk detach /dev/ublkb0".to_owned(),
                format!("{ATTACH} --lun 0")
            ]
        );
    }

    #[test]
    fn a_file_is_left_and_joined() {
        assert_eq!(commands(Some(&membership(None)), &[]).len(), 2);
    }

    #[test]
    fn a_volume_group_on_two() {
        let volumes = [attached(0), attached(1)];
        let by_lvm = commands(Some(&membership(Some(By::Lvm))), &volumes);
        assert_eq!(by_lvm[0], "vgchange -an vg0");
        assert_eq!(by_lvm[1], "vgchange --lock-stop vg0");
        assert_eq!(by_lvm[2], "sanblk detach /dev/ublkb0");
        assert_eq!(by_lvm[3], "sanblk detach /dev/ublkb1");
        assert_eq!(by_lvm[5], format!("{ATTACH} --lun 1"));
        assert_eq!(by_lvm[6], "vgchange --lock-start vg0");
        let by_hand = commands(Some(&membership(Some(By::Operator))), &volumes);
        assert_eq!(by_hand[0], "sanblk lease leave /dev/mapper/vg0-lvmlock:0");
        assert_eq!(by_hand[1], "vgchange -an vg0");
        assert_eq!(by_hand[6], "lvchange -ay /dev/mapper/vg0-lvmlock");
        assert!(by_hand[7].starts_with("sanblk lease join /dev/mapper/vg0-lvmlock:0 --host-id 2 "));
    }
}
