//! One host: a daemon with a directory of its own, and the real tool.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The file system with direct I/O that hosts share: that of the build.
pub struct Storage {
    dir: tempfile::TempDir,
}

impl Storage {
    /// With one file of zeros, by its name.
    pub fn new(file: &str, mib: u64) -> Rc<Storage> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let storage = Storage { dir };
        storage.file(file, mib);
        Rc::new(storage)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// One more.
    pub fn file(&self, name: &str, mib: u64) {
        let zeros = std::fs::File::create(self.dir.path().join(name)).expect("a file");
        zeros.set_len(mib << 20).expect("its size");
    }

    /// One less.
    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.dir.path().join(name)).expect("it was there");
    }
}

/// A host with its daemon. Both end with the test.
pub struct Host {
    root: tempfile::TempDir,
    storage: Rc<Storage>,
    daemon: Child,
}

impl Host {
    /// A daemon, listening; its working directory is the storage.
    pub fn new(storage: &Rc<Storage>, machine: u8) -> Host {
        let root = tempfile::tempdir().expect("a directory");
        let etc = root.path().join("etc");
        std::fs::create_dir(&etc).expect("a directory");
        let id = format!("{machine:032x}\n");
        std::fs::write(etc.join("machine-id"), id).expect("a file");
        let daemon = Command::new(env!("CARGO_BIN_EXE_sanblk"))
            .args(["daemon", "--sanlock-socket"])
            .current_dir(storage.dir.path())
            .env("SANBLK_ROOT", root.path())
            .env_remove("NOTIFY_SOCKET")
            .env_remove("SANLOCK_RUN_DIR")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the daemon runs");
        let storage = Rc::clone(storage);
        let mut host = Host {
            root,
            storage,
            daemon,
        };
        let end = Instant::now() + Duration::from_secs(60);
        while UnixStream::connect(host.socket()).is_err() {
            let ended = host.daemon.try_wait().expect("the daemon's state");
            assert!(ended.is_none(), "the daemon ended at once: {ended:?}");
            assert!(Instant::now() < end, "the daemon does not listen");
            std::thread::yield_now();
        }
        host
    }

    /// Where the socket is.
    pub fn run_dir(&self) -> PathBuf {
        self.root.path().join("run/sanlock")
    }

    /// The socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir().join("sanlock.sock")
    }

    /// The real tool with these words, in the directory of the storage.
    pub fn tool(&self, words: &[&str]) -> Command {
        // As a person sees it: both streams in their order.
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec \"$0\" \"$@\" 2>&1"])
            .arg(sanlock())
            .args(words)
            .env("SANLOCK_RUN_DIR", self.run_dir())
            .current_dir(self.storage.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// The library that came with the program.
pub fn libsanlock() -> PathBuf {
    let unpacked = sanlock()
        .ancestors()
        .nth(2)
        .expect("bin, and what it is in");
    let lib = unpacked.join("root/usr/lib");
    let triplets = std::fs::read_dir(&lib).expect("libraries");
    let mut files = triplets.map(|entry| entry.expect("an entry").path().join("libsanlock.so.1"));
    files.find(|file| file.exists()).expect("libsanlock")
}

/// The unpacked program; asked for once.
fn sanlock() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(kit::program::sanlock)
}
