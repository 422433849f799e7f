//! The guest's root file system and, per kernel, the disk image and the initramfs that boots it.

use crate::apt::{self, Apt};
use crate::cache::Lab;
use crate::command::{command, run};
use crate::kernel::{self, Kernel};
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What is installed in the guest, beside Debian's minimal base. No init system is ever run in it.
const PACKAGES: &str = "kmod,iproute2,iputils-ping,udev,util-linux,procps,busybox-static,python3-minimal,\
    jq,strace,tcpdump,nftables,ethtool,iperf3,dmsetup,lvm2,lvm2-lockd,sanlock,open-iscsi,multipath-tools,\
    fio,tgt,sg3-utils,libiscsi-bin,e2fsprogs,xfsprogs";

/// Modules the initramfs loads before it can mount the root, in this order (6.12's ext4 wants
/// crc32c_generic by a soft dependency; what a kernel lacks or has built in is left out).
const EARLY_MODULES: [&str; 8] = [
    "virtio_blk",
    "mbcache",
    "jbd2",
    "crc16",
    "crc32c_generic",
    "libcrc32c",
    "crc32c-cryptoapi",
    "ext4",
];

/// Everything a guest of one kernel boots from.
#[derive(Debug, Clone)]
pub struct Image {
    /// Which kernel.
    pub kernel: Kernel,
    /// Its version as `uname -r` prints it.
    pub version: String,
    /// The uncompressed ELF.
    pub vmlinux: PathBuf,
    /// Directory with `root.ext4` and `initrd.cpio`.
    pub dir: PathBuf,
}

/// Builds what is not cached.
pub fn build(lab: &Lab, kernel: Kernel) -> Result<Image> {
    apt::host_tools(lab)?;
    let unpacked = kernel::build(lab, kernel)?;
    let version = fs::read_to_string(unpacked.join("version"))?;
    let root = rootfs(lab)?;
    let init = fs::read_to_string(lab.guest.join("init"))?;
    let early = fs::read_to_string(lab.guest.join("init-early"))?;
    let inputs = (
        root.file_name(),
        unpacked.file_name(),
        &init,
        &early,
        EARLY_MODULES,
    );
    let name = format!("image-{}", kernel.name());
    let dir = lab.cached(&name, inputs, |dir| {
        let modules = unpacked.join("modules");
        let tree = dir.join("tree");
        // Hard links: the tree differs from the root file system only by added files.
        run(command("cp", ["-al"]).arg(&root).arg(&tree))?;
        fs::create_dir_all(tree.join("usr/lib/modules"))?;
        run(command("cp", ["-a"])
            .arg(modules.join("usr/lib/modules").join(&version))
            .arg(tree.join("usr/lib/modules/")))?;
        run(command("chroot", [&tree]).args(["depmod", &version]))
            .context("depmod in the guest's root")?;
        write_executable(&tree.join("lab-init"), &init)?;
        initramfs(dir, &root, &modules, &early)?;
        let image = dir.join("root.ext4");
        File::create(&image)?.set_len(1 << 30)?;
        run(command(
            "mke2fs",
            [
                "-q",
                "-F",
                "-t",
                "ext4",
                "-O",
                "^has_journal,^metadata_csum",
                "-d",
            ],
        )
        .arg(&tree)
        .arg(&image))?;
        crate::cache::remove(&tree)
    })?;
    Ok(Image {
        kernel,
        version,
        vmlinux: unpacked.join("vmlinux"),
        dir,
    })
}

fn rootfs(lab: &Lab) -> Result<PathBuf> {
    lab.cached("rootfs", PACKAGES, |dir| {
        if !apt::is_root()? {
            bail!("building the guest's root file system needs root: run `cargo lab image` as root once");
        }
        let mirror = Apt::foreign(lab, "trixie", &["trixie"])?.mirror;
        run(command("mmdebstrap", ["--quiet", "--variant=minbase", "--mode=root"])
            .args(["--aptopt=APT::Install-Recommends \"false\"", "--dpkgopt=force-unsafe-io"])
            .args(["man", "doc", "locale"].map(|d| format!("--dpkgopt=path-exclude=/usr/share/{d}/*")))
            .arg(format!("--include={PACKAGES}"))
            .arg("trixie")
            .arg(dir)
            .arg(format!("deb {mirror} trixie main")))?;
        crate::cache::remove(&dir.join("etc/apt/sources.list.d"))?;
        fs::write(dir.join("etc/apt/sources.list"), "")?;
        fs::write(dir.join("etc/hostname"), "lab\n")?;
        fs::write(dir.join("etc/resolv.conf"), "")?;
        Ok(())
    })
}

/// Writes a script that may be run.
pub fn write_executable(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// A few megabytes: busybox, the modules the root's disk needs, and `init-early`.
fn initramfs(dir: &Path, root: &Path, modules: &Path, early: &str) -> Result<()> {
    let mut cpio = Cpio::default();
    for directory in ["bin", "m"] {
        cpio.add(directory, 0o040_755, &[]);
    }
    cpio.add(
        "bin/busybox",
        0o100_755,
        &fs::read(root.join("usr/bin/busybox"))?,
    );
    cpio.add("init", 0o100_755, early.as_bytes());
    let mut order = String::new();
    for name in EARLY_MODULES {
        if let Some(file) = find(modules, &format!("{name}.ko"))? {
            cpio.add(&format!("m/{name}.ko"), 0o100_644, &fs::read(file)?);
            order.push_str(name);
            order.push('\n');
        }
    }
    cpio.add("mods", 0o100_644, order.as_bytes());
    File::create(dir.join("initrd.cpio"))?.write_all(&cpio.finish())?;
    Ok(())
}

fn find(dir: &Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            if let Some(found) = find(&path, name)? {
                return Ok(Some(found));
            }
        } else if path.file_name().is_some_and(|n| n == name) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// A cpio archive in the "newc" format the kernel unpacks.
#[derive(Default)]
struct Cpio {
    bytes: Vec<u8>,
    inode: u32,
}

impl Cpio {
    fn add(&mut self, name: &str, mode: u32, data: &[u8]) {
        self.inode += 1;
        let fields = [
            self.inode,
            mode,
            0,
            0,
            1,
            0,
            u32::try_from(data.len()).expect("an initramfs file is small"),
            0,
            0,
            0,
            0,
            u32::try_from(name.len() + 1).expect("a short name"),
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::Cpio;

    #[test]
    fn cpio_records_are_aligned_and_end_with_the_trailer() {
        let mut cpio = Cpio::default();
        cpio.add("init", 0o100_755, b"hello");
        let bytes = cpio.finish();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[54..62], b"00000005");
        assert_eq!(&bytes[110..115], b"init\0");
        assert_eq!(&bytes[116..121], b"hello");
        assert!(bytes.windows(10).any(|w| w == b"TRAILER!!!"));
    }
}
