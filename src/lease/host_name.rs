//! What this host calls itself in lockspaces.
//!
//! The name is all that tells two machines apart that were given the same host id, so it must differ among machines; and it
//! should be the same after a reboot: who comes back under its old name waits 20 s, under another one 140 s.

use crate::host::text;
use crate::layout::Layout;
use lockmgr::ondisk::{NAME_LEN, Name};

/// Hexadecimal digits of a machine id.
const ID_LEN: usize = 32;

/// The start of the host's name, and its machine id (or, where there is none, its firmware's UUID). `None` where
/// neither is known. Not what a sanlock of this host calls itself: that may be a host of the same lockspace.
pub fn usual(layout: &Layout) -> Option<Name> {
    let read = |path: &str| text(&layout.path(path));
    let id = ["/etc/machine-id", "/sys/class/dmi/id/product_uuid"]
        .into_iter()
        .filter_map(read)
        .map(|id| id.replace('-', "").to_lowercase())
        .find(|id| id.len() == ID_LEN && id.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    let mut name = read("/proc/sys/kernel/hostname").unwrap_or_default();
    name.retain(|c| c.is_ascii_graphic());
    name.truncate(NAME_LEN - ID_LEN - 1);
    Name::new(&format!("{name}.{id}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_id_is_whole_and_the_name_is_cut() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::below(root.path().to_owned());
        let write = |path: &str, text: &str| {
            let path = layout.path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let name = || usual(&layout).map(|name| name.to_string());
        assert_eq!(name(), None);
        write("/etc/machine-id", "uninitialized\n");
        assert_eq!(name(), None);
        write(
            "/sys/class/dmi/id/product_uuid",
            "4C4C4544-0042-3010-8053-B4C04F4B3332\n",
        );
        let firmware = ".4c4c4544004230108053b4c04f4b3332";
        assert_eq!(name().as_deref(), Some(firmware));
        write("/etc/machine-id", "0123456789abcdef0123456789abcdef\n");
        write("/proc/sys/kernel/hostname", "hypervisor-north-17\n");
        let both = "hypervisor-nort.0123456789abcdef0123456789abcdef";
        assert_eq!(name().as_deref(), Some(both));
    }
}
