//! Where things are on this host: the program's own directories and the kernel's trees.
//!
//! Everything that reads a file starts from a [`Layout`], so that tests can hand in a tree of their own. The
//! environment variable `SANBLK_ROOT` moves all of it below another directory: for tests, and for a daemon that is
//! installed into an image.

use std::path::PathBuf;

/// The directories the program uses.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// This host, or the tree below `SANBLK_ROOT`.
    pub fn system() -> Layout {
        Layout::below(std::env::var_os("SANBLK_ROOT").map_or_else(|| "/".into(), PathBuf::from))
    }

    /// A tree of its own.
    pub fn below(root: PathBuf) -> Layout {
        Layout { root }
    }

    /// `absolute` as seen from this layout's root.
    pub fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.path("/etc/sanblk/sanblk.toml")
    }

    /// CHAP names and secrets, readable by root alone.
    pub fn chap(&self) -> PathBuf {
        self.path("/etc/sanblk/chap.toml")
    }

    /// The InitiatorName that was generated here.
    pub fn generated_name(&self) -> PathBuf {
        self.path("/etc/sanblk/initiatorname")
    }

    /// The InitiatorName of open-iscsi.
    pub fn open_iscsi_name(&self) -> PathBuf {
        self.path("/etc/iscsi/initiatorname.iscsi")
    }

    /// What lives as long as the boot: socket, lock, log, records of devices.
    pub fn run(&self) -> PathBuf {
        self.path("/run/sanblk")
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.run().join("control.sock")
    }

    /// Held by the running daemon.
    pub fn lock(&self) -> PathBuf {
        self.run().join("daemon.lock")
    }

    /// Log of a daemon that `attach` started by itself. On tmpfs, so that it never waits for a disk of ours.
    pub fn log(&self) -> PathBuf {
        self.run().join("daemon.log")
    }

    /// One record and one set of udev properties per device.
    pub fn devices(&self) -> PathBuf {
        self.run().join("devices")
    }

    /// Where sanlock's clients look for its socket: as its library does, in the environment first.
    pub fn sanlock(&self) -> PathBuf {
        std::env::var_os("SANLOCK_RUN_DIR").map_or_else(|| self.path("/run/sanlock"), PathBuf::from)
    }

    /// The groups of this host.
    pub fn groups(&self) -> PathBuf {
        self.path("/etc/group")
    }

    /// What must survive a reboot: unresolved writes, per WWID.
    pub fn volumes(&self) -> PathBuf {
        self.path("/var/lib/sanblk/volumes")
    }
}
