//! Programs of this host's Debian release, or of another one for a guest, unpacked under the cache with their libraries and started through
//! wrappers that find them; nothing is installed.

use crate::apt::{self, Apt};
use crate::cache::Lab;
use crate::image::write_executable;
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// A package whose programs tests run, on this machine or in a guest.
#[derive(Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Its name in the cache and in `with=` of a scenario.
    name: &'static str,
    /// The package.
    package: &'static str,
    /// The release it is taken from; `None`: this host's.
    release: Option<&'static str>,
    /// How the names of those packages begin, among the ones it depends on, that bring libraries.
    libraries: &'static [&'static str],
    /// What those libraries need in turn, in releases that have it.
    more: &'static [&'static str],
    /// Its programs in `/usr/sbin` or `/sbin`, the main one first.
    programs: &'static [&'static str],
}

/// A real iSCSI target in user space. Its Perl modules serve tgt-admin, which nobody needs here.
pub const TGT: Unpacked = Unpacked {
    name: "tgt",
    package: "tgt",
    release: None,
    libraries: &["libaio", "libibverbs", "librdmacm", "libnl-", "libsystemd"],
    more: &["libnl-3-200", "libnl-route-3-200"],
    programs: &["tgtd", "tgtadm", "tgtimg"],
};

/// The lock manager whose on-disk format we speak.
pub const SANLOCK: Unpacked = sanlock_of("sanlock", None);

/// What other releases than the guest's have, older and newer: for scenarios that ask for it.
const FOR_GUESTS: [Unpacked; 3] = [
    sanlock_of("sanlock-bookworm", Some("bookworm")),
    sanlock_of("sanlock-forky", Some("forky")),
    LVM_BOOKWORM,
];

/// LVM and lvmlockd of the release before the guest's.
const LVM_BOOKWORM: Unpacked = Unpacked {
    name: "lvm-bookworm",
    package: "lvm2-lockd",
    release: Some("bookworm"),
    libraries: &["lvm2", "libdevmapper", "libdlm", "libsanlock"],
    more: &["dmsetup", "libaio1", "libdevmapper-event1.02.1", "libedit2"],
    programs: &[
        "lvm",
        "lvchange",
        "lvcreate",
        "lvextend",
        "lvmlockctl",
        "lvmlockd",
        "lvremove",
        "lvrename",
        "lvs",
        "pvcreate",
        "pvs",
        "vgchange",
        "vgcreate",
        "vgextend",
        "vgreduce",
        "vgremove",
        "vgs",
    ],
};

const fn sanlock_of(name: &'static str, release: Option<&'static str>) -> Unpacked {
    Unpacked {
        name,
        package: "sanlock",
        release,
        libraries: &[
            "libaio",
            "libblkid",
            "libdevmapper",
            "libsanlock",
            "libuuid",
            "libwdmd",
        ],
        more: &[],
        programs: &["sanlock"],
    }
}

impl Unpacked {
    /// Its name in the cache and in a scenario's header.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What a scenario names in its header.
    pub fn for_guest(name: &str) -> Option<&'static Unpacked> {
        FOR_GUESTS.iter().find(|unpacked| unpacked.name == name)
    }

    /// The path of its main program.
    pub fn program(&self, lab: &Lab) -> Result<PathBuf> {
        Ok(self.tree(lab)?.join("bin").join(self.programs[0]))
    }

    /// The directory of its wrappers (`bin`) and files (`root`), which may be copied anywhere.
    pub fn tree(&self, lab: &Lab) -> Result<PathBuf> {
        let codename = match self.release {
            Some(release) => release.to_owned(),
            None => apt::codename()?,
        };
        let package = self.package;
        let dir = lab.cached(self.name, &codename, |dir| {
            let apt = Apt::foreign(lab, self.name, &[&codename])?;
            let fields = apt
                .show(package)
                .with_context(|| format!("no package {package}"))?;
            let depends = fields.lines().find_map(|l| l.strip_prefix("Depends:"));
            let mut packages = vec![package.to_owned()];
            packages.extend(
                depends
                    .unwrap_or_default()
                    .split(',')
                    .filter_map(|d| d.split_whitespace().next())
                    .filter(|name| self.libraries.iter().any(|p| name.starts_with(p)))
                    .map(str::to_owned),
            );
            for extra in self.more {
                if !packages.iter().any(|p| p == extra) && apt.show(extra).is_some() {
                    packages.push((*extra).to_owned());
                }
            }
            apt.unpack(&packages, &dir.join("root"))?;
            let bin = dir.join("bin");
            fs::create_dir_all(&bin)?;
            for program in self.programs {
                write_executable(
                    &bin.join(program),
                    &format!(
                        "#!/bin/sh\n# {program} from the unpacked package, with the libraries it came with.\n\
                         root=$(dirname \"$(dirname \"$(readlink -f \"$0\")\")\")/root\n\
                         LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu\n\
                         export LD_LIBRARY_PATH\nprogram=$root/usr/sbin/{program}\n\
                         [ -e \"$program\" ] || program=$root/sbin/{program}\nexec \"$program\" \"$@\"\n"
                    ),
                )?;
            }
            Ok(())
        })?;
        // A stable name beside the hashed one, for people.
        let link = lab.dir.join(self.name);
        let _lock = lab.lock(self.name)?;
        let _ = fs::remove_file(&link);
        symlink(&dir, &link)?;
        Ok(dir)
    }
}
