//! What the daemon writes down: per device for udev and for the next daemon (`/run`), per WWID what must survive a
//! reboot (`/var/lib`).
//!
//! - `/run/sanblk/devices/N.env`: udev properties of `/dev/ublkbN`; must exist before the device starts.
//! - `/run/sanblk/devices/N.json`: a [`DeviceRecord`]; a daemon that finds one at its start knows that an earlier
//!   daemon died and left a dead device behind.
//! - `/var/lib/sanblk/volumes/WWID.json`: writes that are unresolved.

use std::fmt::Write;
use std::io;
use std::path::PathBuf;

use iscsi_client::wire::{Isid, Tpgt};
use multipath::{Identity, UnresolvedWrite};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;

use super::{names, write_durably};

/// A device that a daemon made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// ublk device number.
    pub id: u32,
    /// The LUN behind it.
    pub wwid: String,
    /// Process that serves it.
    pub pid: u32,
    /// Capacity in logical blocks.
    pub blocks: u64,
    /// Sessions that may carry its writes.
    pub sessions: Vec<SessionEntry>,
}

/// A session as the target tells sessions apart, within one target and one InitiatorName.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionEntry {
    /// Our half.
    pub isid: [u8; 6],
    /// The target's half; `None` as long as neither discovery nor a login named it.
    pub portal_group: Option<u16>,
}

/// Writes that were sent, not answered and not proven dead.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct UnresolvedRecord {
    /// Each write.
    pub writes: Vec<UnresolvedEntry>,
}

/// One write of an [`UnresolvedRecord`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UnresolvedEntry {
    /// First logical block.
    pub lba: u64,
    /// Number of logical blocks.
    pub blocks: u32,
    /// Session it was sent on.
    pub isid: [u8; 6],
    /// Portal group of that session: the fence must be there.
    pub portal_group: Option<u16>,
}

impl From<UnresolvedWrite> for UnresolvedEntry {
    fn from(write: UnresolvedWrite) -> UnresolvedEntry {
        UnresolvedEntry {
            lba: write.lba,
            blocks: write.blocks,
            isid: write.isid.0,
            portal_group: write.portal_group.map(|group| group.0),
        }
    }
}

impl From<UnresolvedEntry> for UnresolvedWrite {
    fn from(entry: UnresolvedEntry) -> UnresolvedWrite {
        UnresolvedWrite {
            lba: entry.lba,
            blocks: entry.blocks,
            isid: Isid(entry.isid),
            portal_group: entry.portal_group.map(Tpgt),
        }
    }
}

impl DeviceRecord {
    /// What a daemon that died may have left on the wire: nobody knows which of its writes were not answered, so any
    /// block may be behind any of its sessions.
    pub fn unresolved(&self) -> Vec<UnresolvedWrite> {
        self.sessions
            .iter()
            .flat_map(|session| {
                let portal_group = session.portal_group.map(Tpgt);
                UnresolvedWrite::anything(self.blocks, Isid(session.isid), portal_group)
            })
            .collect()
    }
}

/// Writes the record of a device.
///
/// # Errors
/// The file system's own.
pub fn write_record(layout: &Layout, record: &DeviceRecord) -> io::Result<()> {
    std::fs::create_dir_all(layout.devices())?;
    let json = serde_json::to_vec(record)?;
    write_durably(&record_path(layout, record.id), &json, 0o600)
}

/// Writes properties and record of a device.
///
/// # Errors
/// The file system's own.
pub fn write_device(layout: &Layout, record: &DeviceRecord, identity: &Identity) -> io::Result<()> {
    write_record(layout, record)?;
    let env = properties(identity);
    write_durably(&env_path(layout, record.id), env.as_bytes(), 0o644)
}

/// Removes what [`write_device`] wrote; what is gone already is no error.
pub fn remove_device(layout: &Layout, id: u32) {
    for path in [env_path(layout, id), record_path(layout, id)] {
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("cannot remove {}: {error}", path.display());
        }
    }
}

/// Devices that have a record.
pub fn devices(layout: &Layout) -> Vec<DeviceRecord> {
    read_records(layout)
        .filter_map(|(_, record)| record.ok())
        .collect()
}

/// Records that cannot be read or understood: whose sessions they name, and so which LUN an old write may still
/// reach, is unknown.
pub fn unreadable(layout: &Layout) -> Vec<PathBuf> {
    read_records(layout)
        .filter_map(|(path, record)| record.is_err().then_some(path))
        .collect()
}

fn read_records(layout: &Layout) -> impl Iterator<Item = (PathBuf, io::Result<DeviceRecord>)> {
    let folder = layout.devices();
    names(&folder)
        .into_iter()
        .filter(|name| name.ends_with(".json"))
        .map(move |name| {
            let path = folder.join(name);
            let record = std::fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
            (path, record)
        })
}

/// Unresolved writes of an earlier run. A file that cannot be understood is an error: to ignore it would let an old
/// write overwrite a newer one.
///
/// # Errors
/// The file exists and cannot be read or parsed.
pub fn unresolved(layout: &Layout, wwid: &str) -> io::Result<Vec<UnresolvedWrite>> {
    match std::fs::read(volume_path(layout, wwid)) {
        Ok(bytes) => {
            let record: UnresolvedRecord = serde_json::from_slice(&bytes)?;
            Ok(record.writes.into_iter().map(Into::into).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Keeps the unresolved writes of a LUN; none removes the file.
///
/// # Errors
/// The file system's own.
pub fn keep_unresolved(layout: &Layout, wwid: &str, writes: &[UnresolvedWrite]) -> io::Result<()> {
    let path = volume_path(layout, wwid);
    if writes.is_empty() {
        return match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    std::fs::create_dir_all(layout.volumes())?;
    let record = UnresolvedRecord {
        writes: writes.iter().copied().map(Into::into).collect(),
    };
    write_durably(&path, &serde_json::to_vec(&record)?, 0o600)
}

/// The daemon of this record died: what its sessions may still do to the LUN is kept for the next attach. The record
/// goes, unless that could not be written down.
///
/// # Errors
/// The file system's own, or an old file that cannot be understood.
pub fn bury(layout: &Layout, record: &DeviceRecord) -> io::Result<()> {
    let mut writes = unresolved(layout, &record.wwid)?;
    for write in record.unresolved() {
        if !writes.contains(&write) {
            writes.push(write);
        }
    }
    keep_unresolved(layout, &record.wwid, &writes)?;
    remove_device(layout, record.id);
    Ok(())
}

fn record_path(layout: &Layout, id: u32) -> PathBuf {
    layout.devices().join(format!("{id}.json"))
}

fn env_path(layout: &Layout, id: u32) -> PathBuf {
    layout.devices().join(format!("{id}.env"))
}

fn volume_path(layout: &Layout, wwid: &str) -> PathBuf {
    layout.volumes().join(format!("{}.json", file_name(wwid)))
}

/// A WWID as a file or link name: what could leave the directory or break a line becomes `%XX`.
pub fn file_name(wwid: &str) -> String {
    let mut name = String::with_capacity(wwid.len());
    for byte in wwid.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => name.push(char::from(byte)),
            b'.' if !name.is_empty() => name.push('.'),
            other => {
                // Infallible: the writer is a String.
                let _ = write!(name, "%{other:02X}");
            }
        }
    }
    name
}

/// The udev properties: names as udev's own rules give them to SCSI disks, so that links and LVM find them.
fn properties(identity: &Identity) -> String {
    let mut lines = String::new();
    let mut line = |key: &str, value: &str| {
        if !value.is_empty() {
            let value: String = value
                .chars()
                .map(|c| {
                    if c.is_ascii_alphanumeric() || "#+-.:=@_/%".contains(c) {
                        c
                    } else {
                        '_'
                    }
                })
                .collect();
            let _ = writeln!(lines, "{key}={value}");
        }
    };
    let wwid = &identity.wwid;
    line("SANBLK_WWID", &file_name(wwid));
    line("ID_SERIAL", wwid);
    line("ID_SERIAL_SHORT", wwid.get(1..).unwrap_or_default());
    line("ID_SCSI_SERIAL", &identity.serial);
    line("ID_VENDOR", &identity.vendor);
    line("ID_MODEL", &identity.product);
    // NAA and EUI identifiers are world wide names; vendor text is not.
    if let Some(hex) = wwn(wwid) {
        line("ID_WWN", &format!("0x{}", hex.get(..16).unwrap_or(hex)));
        line("ID_WWN_WITH_EXTENSION", &format!("0x{hex}"));
    }
    lines
}

/// The hexadecimal name in a WWID of type NAA (3) or EUI-64 (2).
pub fn wwn(wwid: &str) -> Option<&str> {
    let hex = wwid.strip_prefix(['2', '3'])?;
    (hex.len() >= 16 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            wwid: "36001405aabbccddeeff001122334455".into(),
            serial: "aabb\nID_FS_TYPE=evil".into(),
            vendor: "LIO-ORG".into(),
            product: "block 0".into(),
            blocks: 1,
            block_len: 512,
        }
    }

    #[test]
    fn properties_cannot_be_smuggled() {
        let text = properties(&identity());
        assert_eq!(
            text,
            "SANBLK_WWID=36001405aabbccddeeff001122334455\n\
             ID_SERIAL=36001405aabbccddeeff001122334455\n\
             ID_SERIAL_SHORT=6001405aabbccddeeff001122334455\n\
             ID_SCSI_SERIAL=aabb_ID_FS_TYPE=evil\n\
             ID_VENDOR=LIO-ORG\n\
             ID_MODEL=block_0\n\
             ID_WWN=0x6001405aabbccdde\n\
             ID_WWN_WITH_EXTENSION=0x6001405aabbccddeeff001122334455\n"
        );
    }

    #[test]
    fn names_stay_in_their_directory() {
        assert_eq!(file_name("../../etc"), "%2E.%2F..%2Fetc");
        assert_eq!(file_name("1IET_0001 x"), "1IET_0001%20x");
    }

    #[test]
    fn devices_and_unresolved_writes_survive() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::below(directory.path().to_owned());
        let identity = identity();
        let record = DeviceRecord {
            id: 3,
            wwid: identity.wwid.clone(),
            pid: 42,
            blocks: 6_000_000_000,
            sessions: vec![SessionEntry {
                isid: [0x80, 1, 2, 3, 4, 5],
                portal_group: Some(1),
            }],
        };
        write_device(&layout, &record, &identity).unwrap();
        assert_eq!(devices(&layout), [record]);
        remove_device(&layout, 3);
        remove_device(&layout, 3);
        assert_eq!(devices(&layout), []);

        let isid = Isid([1, 2, 3, 4, 5, 6]);
        let writes = [UnresolvedWrite {
            lba: 8,
            blocks: 4,
            isid,
            portal_group: Some(Tpgt(1)),
        }];
        assert_eq!(unresolved(&layout, &identity.wwid).unwrap(), []);
        keep_unresolved(&layout, &identity.wwid, &writes).unwrap();
        assert_eq!(unresolved(&layout, &identity.wwid).unwrap(), writes);
        keep_unresolved(&layout, &identity.wwid, &[]).unwrap();
        assert_eq!(unresolved(&layout, &identity.wwid).unwrap(), []);
        std::fs::write(volume_path(&layout, &identity.wwid), b"{").unwrap();
        assert!(unresolved(&layout, &identity.wwid).is_err());
    }

    #[test]
    fn a_record_that_cannot_be_understood_is_not_overlooked() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::below(folder.path().to_owned());
        assert_eq!(unreadable(&layout), Vec::<PathBuf>::new());
        std::fs::create_dir_all(layout.devices()).unwrap();
        std::fs::write(record_path(&layout, 5), b"{\"id\": 5}").unwrap();
        assert_eq!(devices(&layout), []);
        assert_eq!(unreadable(&layout), [record_path(&layout, 5)]);
    }

    #[test]
    fn a_dead_daemon_leaves_every_block_unresolved_until_its_sessions_are_fenced() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::below(folder.path().to_owned());
        let record = DeviceRecord {
            id: 0,
            wwid: "36001405".into(),
            pid: 1,
            blocks: u64::from(u32::MAX) + 8,
            sessions: [1, 2]
                .map(|last| SessionEntry {
                    isid: [0x80, 0, 0, 0, 0, last],
                    portal_group: Some(7),
                })
                .into(),
        };
        write_record(&layout, &record).unwrap();
        bury(&layout, &record).unwrap();
        bury(&layout, &record).unwrap();
        assert_eq!(devices(&layout), []);
        let writes = unresolved(&layout, &record.wwid).unwrap();
        let extents: Vec<_> = writes
            .iter()
            .map(|write| (write.isid.0[5], write.lba, write.blocks))
            .collect();
        let end = u64::from(u32::MAX);
        let expected = [1, 2].map(|isid| [(isid, 0, u32::MAX), (isid, end, 8)]);
        assert_eq!(extents, expected.concat());
    }
}
