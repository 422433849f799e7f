//! One guest: QEMU as a child process, the directory it shares with the host, and the lines it prints.
//!
//! The guest's agent (`tests/lab/guest/agent.sh`) prints `UPTIME|text`; text that starts with `@lab` reports
//! progress: `ready VERSION`, `begin NAME`, `end NAME STATUS`, `clean NAME`, `dirty NAME WHY`, `done`; or, among
//! several guests, asks for something: `power-cycle ROLE`.
//! A guest has no network device, or, among several, links to the others that are Unix sockets: nothing in it
//! reaches the outside.

use crate::accel::Accel;
use crate::cache::{Lab, remove};
use crate::command::{command, run};
use crate::image::Image;
use anyhow::{Context, Result};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long a guest that is about to be killed gets to say where it hangs.
const DUMP_TIME: Duration = Duration::from_secs(6);

/// What a guest is started with.
pub struct Boot<'a> {
    lab: &'a Lab,
    image: &'a Image,
    accel: Accel,
    cpus: u32,
    memory_mib: u32,
    /// Scenario names, in order.
    plan: Vec<String>,
    interactive: bool,
    sanblk: Option<PathBuf>,
    programs: Vec<PathBuf>,
    files: Vec<(String, String)>,
    trees: Vec<(String, PathBuf)>,
    place: Option<Place>,
}

/// A guest's place among several.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its host name, and its directory below `peers`.
    pub role: &'static str,
    /// The directory that all of them see as `/peers`; the links' sockets are in it.
    pub peers: PathBuf,
    /// Its network devices.
    pub links: Vec<Link>,
}

/// One end of a cable between two guests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The cable's name: a socket in `peers`.
    pub name: String,
    /// Address of this end, by which the guest knows what it is connected to.
    pub mac: String,
    /// This end makes the socket, and waits for the other as often as it comes.
    pub listens: bool,
}

/// The next thing a guest says.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A line, with the guest's clock in seconds where the guest put it there.
    Text { clock: Option<String>, text: String },
    /// The agent runs; the kernel's version.
    Ready { version: String },
    /// A scenario starts.
    Begin { name: String },
    /// A scenario ended with an exit status.
    End { name: String, status: i32 },
    /// Everything a scenario made is gone again.
    Clean { name: String },
    /// Something could not be undone.
    Dirty { name: String, why: String },
    /// Another guest is to lose its power and to boot again.
    PowerCycle { role: String },
    /// The plan is over; the guest powers off.
    Done,
    /// The deadline passed first.
    Deadline,
    /// QEMU is gone, with this status.
    Ended(String),
}

/// A running guest; killed when dropped.
pub struct Guest {
    child: Child,
    lines: Option<Receiver<String>>,
    /// The directory shared with the host, `/host` in the guest.
    pub share: PathBuf,
}

impl<'a> Boot<'a> {
    /// A guest with an empty plan.
    pub fn new(
        lab: &'a Lab,
        image: &'a Image,
        accel: Accel,
        cpus: u32,
        memory_mib: u32,
    ) -> Boot<'a> {
        Boot {
            lab,
            image,
            accel,
            cpus,
            memory_mib,
            plan: Vec::new(),
            interactive: false,
            sanblk: None,
            programs: Vec::new(),
            files: Vec::new(),
            trees: Vec::new(),
            place: None,
        }
    }

    /// Scenarios to run, in order.
    pub fn plan(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.plan = names.into_iter().collect();
        self
    }

    /// The binary under test.
    pub fn sanblk(mut self, binary: &Path) -> Self {
        self.sanblk = Some(binary.to_owned());
        self
    }

    /// A program beside it.
    pub fn program(mut self, binary: &Path) -> Self {
        self.programs.push(binary.to_owned());
        self
    }

    /// A file of this text in `/host`.
    pub fn file(mut self, name: &str, text: String) -> Self {
        self.files.push((name.to_owned(), text));
        self
    }

    /// A copy of this directory in `/host`.
    pub fn tree(mut self, name: &str, dir: PathBuf) -> Self {
        self.trees.push((name.to_owned(), dir));
        self
    }

    /// One of several guests.
    pub fn place(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// A shell on the terminal instead of a plan.
    pub fn interactive(mut self) -> Self {
        self.interactive = true;
        self
    }

    /// Starts QEMU.
    pub fn start(self) -> Result<Guest> {
        let share = self.share()?;
        let mut qemu = self.qemu(&share);
        if self.interactive {
            let child = qemu.spawn().context("cannot start QEMU")?;
            return Ok(Guest {
                child,
                lines: None,
                share,
            });
        }
        qemu.stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = qemu.spawn().context("cannot start QEMU")?;
        let (sender, receiver) = channel();
        let console = child.stdout.take().context("QEMU's output")?;
        let errors = child.stderr.take().context("QEMU's errors")?;
        let forward = |stream: Box<dyn Read + Send>, prefix: &'static str| {
            let sender = sender.clone();
            thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                let mut line = Vec::new();
                while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                    let text = String::from_utf8_lossy(&line);
                    if sender.send(format!("{prefix}{}", text.trim_end())).is_err() {
                        break;
                    }
                    line.clear();
                }
            });
        };
        forward(Box::new(console) as Box<dyn Read + Send>, "");
        forward(Box::new(errors), "qemu: ");
        Ok(Guest {
            child,
            lines: Some(receiver),
            share,
        })
    }

    /// Lays out what the guest sees as `/host`.
    fn share(&self) -> Result<PathBuf> {
        static BOOTS: AtomicU32 = AtomicU32::new(0);
        let n = BOOTS.fetch_add(1, Ordering::Relaxed);
        let share = self
            .lab
            .dir
            .join(format!("runs/boot-{}-{n}", std::process::id()));
        remove(&share)?;
        fs::create_dir_all(share.join("out"))?;
        fs::create_dir_all(share.join("bin"))?;
        run(command("cp", ["-r"])
            .arg(self.lab.guest.join("."))
            .arg(&share))?;
        if let Some(sanblk) = &self.sanblk {
            fs::copy(sanblk, share.join("bin/sanblk"))
                .with_context(|| sanblk.display().to_string())?;
        }
        for program in &self.programs {
            let name = program.file_name().context("a program")?;
            fs::copy(program, share.join("bin").join(name))
                .with_context(|| program.display().to_string())?;
        }
        let shipped = self.lab.repo.join("dist");
        if shipped.is_dir() {
            run(command("cp", ["-r"]).arg(shipped).arg(share.join("dist")))?;
        }
        for (name, text) in &self.files {
            fs::write(share.join(name), text)?;
        }
        for (name, dir) in &self.trees {
            run(command("cp", ["-r"]).arg(dir).arg(share.join(name)))?;
        }
        if let Some(place) = &self.place {
            fs::write(share.join("role"), format!("{}\n", place.role))?;
        }
        let plan: String = self.plan.iter().flat_map(|name| [name, "\n"]).collect();
        fs::write(share.join("plan"), plan)?;
        fs::write(
            share.join("mode"),
            if self.interactive {
                "shell\n"
            } else {
                "plan\n"
            },
        )?;
        Ok(share)
    }

    fn qemu(&self, share: &Path) -> Command {
        let [accel, accel_value, cpu, cpu_value] = self.accel.qemu();
        // setpriv: should the lab be killed, its guests die with it.
        let mut q = command("setpriv", ["--pdeathsig", "KILL", "qemu-system-x86_64"]);
        q.args([accel, accel_value, cpu, cpu_value])
            .args([
                "-machine",
                "q35,usb=off,graphics=off",
                "-nodefaults",
                "-no-user-config",
            ])
            .args(["-display", "none", "-nic", "none", "-no-reboot"])
            .args([
                "-m",
                &self.memory_mib.to_string(),
                "-smp",
                &self.cpus.to_string(),
            ])
            .arg("-kernel")
            .arg(&self.image.vmlinux)
            .arg("-initrd")
            .arg(self.image.dir.join("initrd.cpio"))
            .arg("-append")
            // no_timer_check: on a busy machine the check finds a timer that is merely late, and panics.
            .arg(
                "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr tsc=reliable \
                 random.trust_cpu=on audit=0 net.ifnames=0 no_timer_check \
                 rcupdate.rcu_cpu_stall_timeout=120 "
                    .to_owned()
                    + &self.accel.kernel_parameters()
                    + " lab.host="
                    + self.place.as_ref().map_or("lab", |place| place.role),
            )
            // The kernel's emergency log to a file, everything people read to the virtio console.
            .arg("-serial")
            .arg(format!("file:{}/out/serial.log", share.display()))
            .args([
                "-device",
                "virtio-serial-pci",
                "-chardev",
                "stdio,id=console,signal=off",
            ])
            .args([
                "-device",
                "virtconsole,chardev=console",
                "-device",
                "virtio-rng-pci",
            ])
            .arg("-fsdev")
            .arg(format!(
                "local,id=host,path={},security_model=none",
                share.display()
            ))
            .args(["-device", "virtio-9p-pci,fsdev=host,mount_tag=host"])
            .arg("-drive")
            .arg(format!(
                "file={}/root.ext4,if=none,id=root,format=raw,snapshot=on,cache=unsafe",
                self.image.dir.display()
            ))
            .args(["-device", "virtio-blk-pci,drive=root"]);
        if let Some(place) = &self.place {
            place.add_to(&mut q);
        }
        q
    }
}

impl Place {
    fn add_to(&self, q: &mut Command) {
        // A socket's path has room for about a hundred bytes, so it is named from here.
        q.current_dir(&self.peers);
        q.arg("-fsdev")
            .arg(format!(
                "local,id=peers,path={},security_model=none",
                self.peers.display()
            ))
            .args(["-device", "virtio-9p-pci,fsdev=peers,mount_tag=peers"]);
        for link in &self.links {
            let Link { name, mac, listens } = link;
            let server = if *listens { "on" } else { "off" };
            q.arg("-netdev")
                .arg(format!(
                    "stream,id={name},server={server},addr.type=unix,addr.path={name}"
                ))
                .arg("-device")
                .arg(format!("virtio-net-pci,netdev={name},mac={mac},romfile="));
        }
    }
}

impl Guest {
    /// Waits for the next line, at most until the deadline.
    pub fn next(&mut self, deadline: Instant) -> Next {
        let lines = self
            .lines
            .as_ref()
            .expect("an interactive guest has no lines");
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => interpret(&line),
            Err(RecvTimeoutError::Timeout) => Next::Deadline,
            Err(RecvTimeoutError::Disconnected) => {
                let status = self
                    .child
                    .wait()
                    .map_or_else(|e| e.to_string(), |s| s.to_string());
                Next::Ended(status)
            }
        }
    }

    /// Hands everything that the guest will say to `hear`, from a thread of its own, until that returns false or the
    /// guest is gone; its last word is [`Next::Ended`], without a status.
    pub fn forward(&mut self, mut hear: impl FnMut(Next) -> bool + Send + 'static) {
        let lines = self.lines.take().expect("lines are forwarded once");
        thread::spawn(move || {
            while let Ok(line) = lines.recv() {
                if !hear(interpret(&line)) {
                    return;
                }
            }
            hear(Next::Ended(String::new()));
        });
    }

    /// QEMU's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks the guest who hangs where, waits a little for the answer (`out/dump.txt`, the kernel log), kills it.
    pub fn dump_and_kill(&mut self) {
        let asked = Instant::now();
        if fs::write(self.share.join("dump"), "").is_ok() {
            let answer = self.share.join("out/dump.done");
            while asked.elapsed() < DUMP_TIME && !answer.exists() {
                thread::sleep(Duration::from_millis(100));
            }
        }
        self.kill();
    }

    /// Ends QEMU now.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until QEMU ends by itself.
    pub fn wait(&mut self) -> Result<()> {
        self.child.wait().map(drop).context("waiting for QEMU")
    }

    /// A file the guest wrote into `/host/out`; empty if it did not.
    pub fn out(&self, name: &str) -> String {
        fs::read(self.share.join("out").join(name))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Removes the shared directory.
    pub fn remove_files(&self) -> Result<()> {
        remove(&self.share)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Makes an event of a console line.
fn interpret(line: &str) -> Next {
    let (clock, text) = match line.split_once('|') {
        Some((clock, text)) if clock.parse::<f64>().is_ok() => (Some(clock.to_owned()), text),
        _ => (None, line),
    };
    let mut words = text.splitn(4, ' ');
    if words.next() == Some("@lab") {
        let verb = words.next().unwrap_or_default();
        let name = words.next().unwrap_or_default().to_owned();
        let rest = words.next().unwrap_or_default();
        match verb {
            "ready" => return Next::Ready { version: name },
            "begin" => return Next::Begin { name },
            "end" => {
                if let Ok(status) = rest.parse() {
                    return Next::End { name, status };
                }
            }
            "clean" => return Next::Clean { name },
            "dirty" => {
                return Next::Dirty {
                    name,
                    why: rest.to_owned(),
                };
            }
            "power-cycle" => return Next::PowerCycle { role: name },
            "done" => return Next::Done,
            _ => {}
        }
    }
    Next::Text {
        clock,
        text: text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_lines_become_events() {
        let text = |c: Option<&str>, t: &str| Next::Text {
            clock: c.map(str::to_owned),
            text: t.to_owned(),
        };
        assert_eq!(
            interpret("4.20|hello | world"),
            text(Some("4.20"), "hello | world")
        );
        assert_eq!(interpret("a|b"), text(None, "a|b"));
        assert_eq!(
            interpret("9.1|@lab end fio-verify 1"),
            Next::End {
                name: "fio-verify".into(),
                status: 1
            }
        );
        assert_eq!(
            interpret("9.1|@lab end x y"),
            text(Some("9.1"), "@lab end x y")
        );
        assert_eq!(
            interpret("9.1|@lab dirty x left behind: /dev/sda"),
            Next::Dirty {
                name: "x".into(),
                why: "left behind: /dev/sda".into()
            }
        );
        assert_eq!(interpret("1|@lab done"), Next::Done);
        assert_eq!(
            interpret("1|@lab power-cycle host1"),
            Next::PowerCycle {
                role: "host1".into()
            }
        );
    }
}
