//! Who uses a block device: holders (LVM, md), mounts, swap, processes. `detach` names them and refuses.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::layout::Layout;

use super::{names, text};

/// One user of the device or of one of its partitions.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Opener {
    /// A file system.
    Mount {
        /// `ublkb0p1`.
        device: String,
        /// Where.
        at: String,
    },
    /// Swap space.
    Swap {
        /// `ublkb0p1`.
        device: String,
    },
    /// A block device on top.
    Holder {
        /// `dm-3`.
        device: String,
        /// Name of the mapping, for device-mapper.
        name: Option<String>,
    },
    /// A process has the node open.
    Process {
        /// Its id.
        pid: u32,
        /// Its name.
        name: String,
    },
    /// Somebody in the kernel has it and sysfs does not say who.
    Exclusive,
}

impl Opener {
    /// How to let go.
    pub fn remedy(&self) -> String {
        match self {
            Opener::Mount { at, .. } => format!("umount {at}"),
            Opener::Swap { device } => format!("swapoff /dev/{device}"),
            Opener::Holder {
                name: Some(name), ..
            } => {
                format!("deactivate /dev/mapper/{name} (LVM: vgchange -an VG)")
            }
            Opener::Holder { device, name: None } => format!("stop /dev/{device}"),
            Opener::Process { pid, .. } => format!("end process {pid}"),
            Opener::Exclusive => "find the user with lsblk and lsof".to_owned(),
        }
    }
}

impl fmt::Display for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Opener::Mount { device, at } => write!(f, "/dev/{device} is mounted on {at}"),
            Opener::Swap { device } => write!(f, "/dev/{device} is swap space"),
            Opener::Holder {
                device,
                name: Some(name),
            } => {
                write!(f, "/dev/mapper/{name} ({device}) lies on it")
            }
            Opener::Holder { device, name: None } => write!(f, "/dev/{device} lies on it"),
            Opener::Process { pid, name } => write!(f, "process {pid} ({name}) has it open"),
            Opener::Exclusive => f.write_str("the kernel says it is in exclusive use"),
        }
    }
}

/// Everybody who uses disk `name` (`ublkb0`) or a partition of it, by what sysfs and procfs show.
pub fn find(layout: &Layout, name: &str) -> Vec<Opener> {
    let disk = layout.path("/sys/block").join(name);
    let mut parts = BTreeMap::new();
    let mut openers = Vec::new();
    let partitions = names(&disk)
        .into_iter()
        .filter(|entry| entry.starts_with(name) && disk.join(entry).join("partition").exists())
        .map(|entry| (disk.join(&entry), entry));
    for (directory, part) in std::iter::once((disk.clone(), name.to_owned())).chain(partitions) {
        for holder in names(&directory.join("holders")) {
            let mapping = text(&layout.path("/sys/block").join(&holder).join("dm/name"));
            openers.push(Opener::Holder {
                device: holder,
                name: mapping,
            });
        }
        if let Some(number) = text(&directory.join("dev")) {
            parts.insert(number, part);
        }
    }
    openers.extend(mounts(layout, &parts));
    openers.extend(swaps(layout, &parts));
    openers.extend(processes(layout, &parts));
    openers
}

fn mounts(layout: &Layout, parts: &BTreeMap<String, String>) -> Vec<Opener> {
    let table = text(&layout.path("/proc/self/mountinfo")).unwrap_or_default();
    let mut found = Vec::new();
    for line in table.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let (Some(number), Some(at)) = (fields.get(2), fields.get(4)) else {
            continue;
        };
        // btrfs shows an anonymous device number, so the source after the dash counts too.
        let source = fields
            .iter()
            .position(|field| *field == "-")
            .and_then(|dash| fields.get(dash + 2))
            .and_then(|source| source.strip_prefix("/dev/"));
        let device = parts
            .get(*number)
            .or_else(|| parts.values().find(|part| source == Some(part.as_str())));
        if let Some(device) = device {
            found.push(Opener::Mount {
                device: device.clone(),
                at: unescape(at),
            });
        }
    }
    found
}

/// mountinfo writes blanks, tabs, newlines and backslashes as `\ooo`.
fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let [first, after @ ..] = rest {
        let code = (*first == b'\\')
            .then(|| after.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn swaps(layout: &Layout, parts: &BTreeMap<String, String>) -> Vec<Opener> {
    let table = text(&layout.path("/proc/swaps")).unwrap_or_default();
    table
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.strip_prefix("/dev/"))
        .filter(|device| parts.values().any(|part| part == device))
        .map(|device| Opener::Swap {
            device: device.to_owned(),
        })
        .collect()
}

/// Processes with the node open; those of other users need root to be seen.
fn processes(layout: &Layout, parts: &BTreeMap<String, String>) -> Vec<Opener> {
    let proc = layout.path("/proc");
    let mut found = Vec::new();
    for entry in names(&proc) {
        let Ok(pid) = entry.parse::<u32>() else {
            continue;
        };
        let directory = proc.join(&entry);
        let open = names(&directory.join("fd"))
            .iter()
            .any(|fd| is_node(&directory.join("fd").join(fd), parts));
        if open {
            let name = text(&directory.join("comm")).unwrap_or_default();
            found.push(Opener::Process { pid, name });
        }
    }
    found
}

fn is_node(link: &Path, parts: &BTreeMap<String, String>) -> bool {
    // The name first: a stat through a descriptor on a dead network file system would hang.
    if !std::fs::read_link(link).is_ok_and(|place| place.starts_with("/dev")) {
        return false;
    }
    std::fs::metadata(link).is_ok_and(|metadata| {
        let number = metadata.rdev();
        let text = format!(
            "{}:{}",
            rustix::fs::major(number),
            rustix::fs::minor(number)
        );
        metadata.file_type().is_block_device() && parts.contains_key(&text)
    })
}

/// Whether the kernel lets us have the node for ourselves: `false` while anybody holds it exclusively.
pub fn exclusive_open_works(layout: &Layout, name: &str) -> bool {
    use rustix::fs::{Mode, OFlags, open};
    let node = layout.path("/dev").join(name);
    // Non-blocking: this must not wait for a disk whose paths are down.
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC;
    !matches!(
        open(&node, flags, Mode::empty()),
        Err(rustix::io::Errno::BUSY)
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn everybody_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let disk = root.join("sys/block/ublkb0");
        fs::create_dir_all(disk.join("holders/dm-0")).unwrap();
        fs::write(disk.join("dev"), "259:0\n").unwrap();
        for (part, number) in [("ublkb0p1", "259:1"), ("ublkb0p2", "259:2")] {
            fs::create_dir_all(disk.join(part).join("holders")).unwrap();
            fs::write(disk.join(part).join("partition"), "1\n").unwrap();
            fs::write(disk.join(part).join("dev"), format!("{number}\n")).unwrap();
        }
        fs::create_dir_all(root.join("sys/block/dm-0/dm")).unwrap();
        fs::write(root.join("sys/block/dm-0/dm/name"), "vg0-data\n").unwrap();
        fs::create_dir_all(root.join("proc/self")).unwrap();
        fs::write(
            root.join("proc/self/mountinfo"),
            "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
             40 22 259:1 / /mnt/a\\040b rw,relatime - xfs /dev/ublkb0p1 rw\n\
             41 22 0:44 / /mnt/btr rw - btrfs /dev/ublkb0p2 rw\n\
             42 22 259:10 / /other rw - xfs /dev/nvme0n1 rw\n\
             broken\n",
        )
        .unwrap();
        fs::write(
            root.join("proc/swaps"),
            "Filename Type Size\n/dev/ublkb0p2 partition 100\n/dev/sda2 partition 1\n",
        )
        .unwrap();
        let layout = Layout::below(root.to_owned());
        let found = find(&layout, "ublkb0");
        assert_eq!(
            found,
            [
                Opener::Holder {
                    device: "dm-0".into(),
                    name: Some("vg0-data".into())
                },
                Opener::Mount {
                    device: "ublkb0p1".into(),
                    at: "/mnt/a b".into()
                },
                Opener::Mount {
                    device: "ublkb0p2".into(),
                    at: "/mnt/btr".into()
                },
                Opener::Swap {
                    device: "ublkb0p2".into()
                },
            ]
        );
        assert_eq!(find(&layout, "ublkb1"), []);
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape("/a\\040b\\134c"), "/a b\\c");
        assert_eq!(unescape("/a\\04"), "/a\\04");
        assert_eq!(unescape("/a\\999"), "/a\\999");
    }
}
