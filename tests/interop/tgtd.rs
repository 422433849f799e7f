//! A real `tgtd`, run as a plain process on loopback for one test.

use std::env;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Name of the only target.
pub const TARGET: &str = "iqn.2026-01.test.sanblk:tgt";
/// Size of the only disk.
pub const DISK_LEN: u64 = 64 << 20;

/// A running target with one disk as LUN 1 and two portals.
pub struct Tgtd {
    process: Child,
    tgtadm: PathBuf,
    folder: PathBuf,
    /// 127.0.0.1 and 127.0.0.2, each with a port of its own.
    pub portals: [SocketAddr; 2],
}

impl Tgtd {
    /// Starts a target; `parameters` are tgt's own names of login keys, with values.
    pub fn start(parameters: &[(&str, &str)]) -> Tgtd {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let program = kit::program::tgtd();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("sanblk-tgt-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for the target");
        let portals = ["127.0.0.1", "127.0.0.2"].map(free_port);
        let process = Command::new(&program)
            .arg("-f")
            .args([
                "--iscsi",
                &format!("portal={},portal={}", portals[0], portals[1]),
            ])
            .env("TGT_IPC_SOCKET", folder.join("ipc"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("log")).expect("a log file"))
            .spawn()
            .unwrap_or_else(|e| panic!("{} does not start: {e}", program.display()));
        let tgtadm = program.with_file_name("tgtadm");
        let target = Tgtd {
            process,
            tgtadm,
            folder,
            portals,
        };
        for portal in portals {
            target.wait_for(portal);
        }
        let disk = target.folder.join("disk");
        fs::File::create(&disk)
            .and_then(|f| f.set_len(DISK_LEN))
            .expect("a sparse disk");
        target.admin(&["--op=new", "--mode=target", "--tid=1", "-T", TARGET]);
        let disk = disk.display().to_string();
        target.admin(&[
            "--op=new",
            "--mode=logicalunit",
            "--tid=1",
            "--lun=1",
            "-b",
            &disk,
        ]);
        for (name, value) in parameters {
            let (name, value) = (format!("--name={name}"), format!("--value={value}"));
            target.admin(&["--op=update", "--mode=target", "--tid=1", &name, &value]);
        }
        target.admin(&["--op=bind", "--mode=target", "--tid=1", "-I", "ALL"]);
        target
    }

    /// Demands CHAP of initiators.
    pub fn incoming_account(&self, user: &str, password: &str) {
        self.account(user, password, &[]);
    }

    /// Proves itself to initiators that ask for mutual CHAP.
    pub fn outgoing_account(&self, user: &str, password: &str) {
        self.account(user, password, &["--outgoing"]);
    }

    fn account(&self, user: &str, password: &str, extra: &[&str]) {
        let (user, password) = (format!("--user={user}"), format!("--password={password}"));
        self.admin(&["--op=new", "--mode=account", &user, &password]);
        let mut bind = vec!["--op=bind", "--mode=account", "--tid=1", &user];
        bind.extend(extra);
        self.admin(&bind);
    }

    fn admin(&self, arguments: &[&str]) {
        let output = Command::new(&self.tgtadm)
            .arg("--lld=iscsi")
            .args(arguments)
            .env("TGT_IPC_SOCKET", self.folder.join("ipc"))
            .output()
            .expect("tgtadm runs");
        assert!(
            output.status.success(),
            "tgtadm {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn wait_for(&self, portal: SocketAddr) {
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect_timeout(&portal, Duration::from_secs(1)).is_err() {
            let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(
                Instant::now() < until,
                "tgtd does not listen on {portal}: {log}"
            );
            std::thread::yield_now();
        }
    }
}

impl Drop for Tgtd {
    fn drop(&mut self) {
        // tgtd ignores SIGTERM while it has a target.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn free_port(host: &str) -> SocketAddr {
    let listener = TcpListener::bind((host, 0)).expect("a free port on loopback");
    listener
        .local_addr()
        .expect("a bound socket has an address")
}
