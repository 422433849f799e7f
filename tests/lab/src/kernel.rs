//! A Debian kernel for the guest: the uncompressed ELF (booted through the PVH entry, a second faster
//! than the bzImage without KVM) and the modules the scenarios need, decompressed, with what they depend on.

use crate::apt::Apt;
use crate::cache::Lab;
use crate::command::{command, run, say};
use anyhow::{Context, Result, bail};
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// The two kernels of Debian 13.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kernel {
    /// Trixie's own: 6.12.
    Stable,
    /// The one from trixie-backports: 7.x.
    Backports,
}

impl Kernel {
    /// The word used on the command line, in scenario headers and in summaries.
    pub fn name(self) -> &'static str {
        match self {
            Kernel::Stable => "stable",
            Kernel::Backports => "backports",
        }
    }

    fn suite(self) -> &'static str {
        match self {
            Kernel::Stable => "trixie",
            Kernel::Backports => "trixie-backports",
        }
    }
}

/// Modules the guest may load; dependencies follow. One that a kernel has built in or lacks is passed over.
const MODULES: &str = "ublk_drv \
    target_core_mod target_core_file target_core_iblock iscsi_target_mod iscsi_tcp \
    dm_mod dm_multipath dm_round_robin dm_queue_length dm_service_time dm_delay dm_flakey dm_snapshot \
    dm_thin_pool scsi_dh_alua scsi_debug sd_mod sg brd loop null_blk nbd \
    veth bridge dummy virtio_net virtio_blk 9p 9pnet_virtio \
    sch_netem sch_tbf sch_ingress cls_u32 cls_matchall act_gact act_mirred ifb \
    nf_tables nft_ct nft_reject nft_reject_inet nft_reject_ipv4 nft_reject_ipv6 nft_counter nf_conntrack \
    tcp_diag inet_diag \
    ext4 xfs overlay configfs softdog i6300esb tls \
    crc32c_generic crc32c_cryptoapi crc32c_intel dlm";

/// An unpacked kernel: `vmlinux`, `version`, `modules/usr/lib/modules/VERSION/`.
pub fn build(lab: &Lab, kernel: Kernel) -> Result<PathBuf> {
    let name = format!("kernel-{}", kernel.name());
    lab.cached(&name, (kernel, MODULES), |dir| {
        let apt = Apt::foreign(lab, kernel.suite(), &[kernel.suite()])?;
        let meta = apt
            .show("linux-image-amd64")
            .context("no linux-image-amd64 in the suite")?;
        let version = depends_on_image(&meta).context("linux-image-amd64 names no kernel")?;
        say(format_args!("kernel {version} ({})", kernel.suite()));
        // 6.12 is one package; 7.x is split in three.
        let packages: Vec<String> = ["linux-image", "linux-binary", "linux-modules", "linux-base"]
            .iter()
            .map(|part| format!("{part}-{version}"))
            .filter(|package| apt.show(package).is_some())
            .collect();
        let tree = dir.join("unpacked");
        apt.unpack(&packages, &tree)?;
        let modules = ["usr/lib/modules", "lib/modules"]
            .iter()
            .map(|d| tree.join(d).join(&version))
            .find(|d| d.join("kernel").is_dir())
            .context("the kernel packages hold no modules")?;
        let image = [
            tree.join(format!("boot/vmlinuz-{version}")),
            modules.join("vmlinuz"),
        ]
        .into_iter()
        .chain([tree.join(format!("usr/lib/modules/{version}/vmlinuz"))])
        .find(|f| f.is_file())
        .context("the kernel packages hold no vmlinuz")?;
        extract_elf(&image, &dir.join("vmlinux"))?;
        let out = dir.join("modules/usr/lib/modules").join(&version);
        copy_modules(&modules, &out)?;
        for list in [
            "modules.builtin",
            "modules.builtin.modinfo",
            "modules.order",
        ] {
            let found = [
                modules.clone(),
                tree.join("usr/lib/modules").join(&version),
                tree.join("lib/modules").join(&version),
            ]
            .iter()
            .map(|d| d.join(list))
            .find(|f| f.is_file());
            if let Some(file) = found {
                fs::copy(file, out.join(list))?;
            }
        }
        fs::write(dir.join("version"), &version)?;
        crate::cache::remove(&tree)
    })
}

/// `6.12.107+deb13-amd64` out of the metapackage's `Depends: linux-image-6.12.107+deb13-amd64 (= ...)`.
fn depends_on_image(fields: &str) -> Option<String> {
    let depends = fields.lines().find_map(|l| l.strip_prefix("Depends:"))?;
    depends.split([',', ' ']).find_map(|word| {
        let version = word.strip_prefix("linux-image-")?;
        version
            .starts_with(|c: char| c.is_ascii_digit())
            .then(|| version.to_owned())
    })
}

/// Takes the ELF kernel out of a bzImage (x86 boot protocol: setup_sects, payload_offset, payload_length).
fn extract_elf(image: &Path, elf: &Path) -> Result<()> {
    let bytes = fs::read(image)?;
    let word = |at: usize| -> Result<usize> {
        let field = bytes.get(at..at + 4).context("bzImage is too short")?;
        Ok(u32::from_le_bytes(field.try_into()?) as usize)
    };
    let sectors = match bytes.get(0x1f1).context("bzImage is too short")? {
        0 => 4,
        n => usize::from(*n),
    };
    let start = (sectors + 1) * 512 + word(0x248)?;
    let payload = bytes
        .get(start..start + word(0x24c)?)
        .context("bzImage: payload out of range")?;
    let decompressor = match payload {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        [0xfd, b'7', b'z', b'X', ..] => "xz",
        [0x1f, 0x8b, ..] => "gzip",
        _ => bail!("{}: unknown compression", image.display()),
    };
    let packed = elf.with_extension("packed");
    fs::write(&packed, payload)?;
    // The build appends the unpacked size to the stream, so the tool complains about garbage at the end.
    command(decompressor, ["-dc"])
        .stdin(File::open(&packed)?)
        .stdout(File::create(elf)?)
        .stderr(Stdio::null())
        .status()?;
    fs::remove_file(&packed)?;
    let size = fs::metadata(elf)?.len();
    let expected = payload
        .last_chunk::<4>()
        .map_or(0, |b| u64::from(u32::from_le_bytes(*b)));
    if size != expected || fs::read(elf)?.get(..4) != Some(b"\x7fELF") {
        bail!(
            "{}: unpacked to {size} bytes instead of {expected}",
            image.display()
        );
    }
    Ok(())
}

/// Copies the closure of [`MODULES`] decompressed; a name without a file is built in.
fn copy_modules(from: &Path, to: &Path) -> Result<()> {
    let mut files = HashMap::new();
    index(&from.join("kernel"), &mut files)?;
    let mut todo: Vec<String> = MODULES.split_whitespace().map(str::to_owned).collect();
    let mut seen = BTreeSet::new();
    while let Some(name) = todo.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let Some(file) = files.get(&name) else {
            continue;
        };
        let out = to.join(file.strip_prefix(from)?).with_extension("");
        let out = if out.extension().is_some_and(|e| e == "ko") {
            out
        } else {
            to.join(file.strip_prefix(from)?)
        };
        fs::create_dir_all(out.parent().context("module without directory")?)?;
        match file.extension().and_then(|e| e.to_str()) {
            Some("xz") => unpack("xz", file, &out)?,
            Some("zst") => unpack("zstd", file, &out)?,
            _ => fs::copy(file, &out).map(drop)?,
        }
        todo.extend(depends(&fs::read(&out)?));
    }
    Ok(())
}

fn unpack(tool: &str, from: &Path, to: &Path) -> Result<()> {
    run(
        command("sh", ["-c", &format!("exec {tool} -qdc <\"$0\" >\"$1\"")])
            .arg(from)
            .arg(to),
    )
}

fn index(dir: &Path, files: &mut HashMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            index(&path, files)?;
        } else if let Some((name, _)) = path
            .file_name()
            .and_then(|n| n.to_str())
            .and_then(|n| n.split_once(".ko"))
        {
            files.insert(name.replace('-', "_"), path.clone());
        }
    }
    Ok(())
}

/// The `depends=` entry of a module's `.modinfo` section: a NUL-terminated list separated by commas.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|w| w == KEY) else {
        return Vec::new();
    };
    let value = &module[at + KEY.len()..];
    let end = value.iter().position(|b| *b == 0).unwrap_or(0);
    String::from_utf8_lossy(&value[..end])
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{depends, depends_on_image};

    #[test]
    fn the_metapackage_names_the_kernel() {
        let fields = "Package: linux-image-amd64\nDepends: linux-image-6.12.107+deb13-amd64 (= 6.12.107-1)\n";
        assert_eq!(
            depends_on_image(fields).as_deref(),
            Some("6.12.107+deb13-amd64")
        );
        assert_eq!(depends_on_image("Depends: linux-base (>= 4)\n"), None);
    }

    #[test]
    fn module_dependencies_are_read_from_modinfo() {
        let module = b"\x7fELF...\0license=GPL\0depends=libiscsi,scsi-transport\0name=x\0";
        assert_eq!(depends(module), ["libiscsi", "scsi_transport"]);
        assert_eq!(depends(b"\0depends=\0"), Vec::<String>::new());
        assert_eq!(depends(b"no section"), Vec::<String>::new());
    }
}
