//! Programs of this host's Debian release, unpacked under the cache with their libraries and started through
//! wrappers that find them; nothing is installed.

use crate::apt::{self, Apt};
use crate::cache::Lab;
use crate::image::write_executable;
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// A package whose programs tests run on this machine.
pub struct Unpacked {
    /// The package, and the name of the link to it in the cache.
    package: &'static str,
    /// How the names of those packages begin, among the ones it depends on, that bring libraries.
    libraries: &'static [&'static str],
    /// What those libraries need in turn, in releases that have it.
    more: &'static [&'static str],
    /// Its programs in `/usr/sbin`, the main one first.
    programs: &'static [&'static str],
}

/// A real iSCSI target in user space. Its Perl modules serve tgt-admin, which nobody needs here.
pub const TGT: Unpacked = Unpacked {
    package: "tgt",
    libraries: &["libaio", "libibverbs", "librdmacm", "libnl-", "libsystemd"],
    more: &["libnl-3-200", "libnl-route-3-200"],
    programs: &["tgtd", "tgtadm", "tgtimg"],
};

/// The lock manager whose on-disk format we speak.
pub const SANLOCK: Unpacked = Unpacked {
    package: "sanlock",
    libraries: &["libaio", "libblkid", "libsanlock", "libuuid", "libwdmd"],
    more: &[],
    programs: &["sanlock"],
};

impl Unpacked {
    /// The path of its main program.
    pub fn program(&self, lab: &Lab) -> Result<PathBuf> {
        let codename = apt::codename()?;
        let package = self.package;
        let dir = lab.cached(package, &codename, |dir| {
            let apt = Apt::foreign(lab, package, &[&codename])?;
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
                         export LD_LIBRARY_PATH\nexec \"$root/usr/sbin/{program}\" \"$@\"\n"
                    ),
                )?;
            }
            Ok(())
        })?;
        // A stable name beside the hashed one, for people.
        let link = lab.dir.join(package);
        let _lock = lab.lock(package)?;
        let _ = fs::remove_file(&link);
        symlink(&dir, &link)?;
        Ok(dir.join("bin").join(self.programs[0]))
    }
}
