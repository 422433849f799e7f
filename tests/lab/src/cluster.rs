//! A scenario in several guests: an array (`store`) and two hosts, each with a cable of its own to the array on either
//! storage VLAN; the array bridges them.
//!
//! The scenario's `story` runs in the array and has the hosts do their parts (`tests/lab/guest/cluster.sh`). This side starts
//! the guests, streams what they print with the role in front, takes a host's power away when the story asks for it,
//! and judges: the story's end, and every guest's kernel log.

use crate::cache::remove;
use crate::command::say;
use crate::guest::{Boot, Guest, Link, Next, Place};
use crate::kernel_log;
use crate::runner::{
    Current, GUEST_DIED, Report, Run, TIMED_OUT, collect, explain, print_line, shown,
};
use crate::scenario::Scenario;
use anyhow::{Context, Result, bail};
use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The array first: it makes the sockets that the others connect to.
const ROLES: [&str; 3] = ["store", "host1", "host2"];
const VLANS: [u32; 2] = [5, 6];
/// Power-on of three guests to their agents, before patience.
const BOOT_LIMIT: Duration = Duration::from_secs(90);
/// QEMU's start to its sockets.
const SOCKETS_LIMIT: Duration = Duration::from_secs(20);
/// How many of each guest's last lines a failure shows.
const LAST_LINES: usize = 12;

/// A file's name and its text.
pub type File = (String, String);

/// Runs one scenario in guests of its own, which see these files in `/host`; its report, and all that was printed.
pub fn run(run: &Run<'_>, scenario: &Scenario, files: &[File]) -> Result<(Report, String)> {
    let mut cluster = Cluster::start(run, scenario, files)?;
    let mut end = cluster.play()?;
    // An emulated kernel that patches its own code at boot sometimes trips over it, which says nothing of sanblk.
    if let End::Stillborn(why) = &end {
        say(format_args!("no boot: {why}; once more"));
        cluster.remove_files()?;
        cluster = Cluster::start(run, scenario, files)?;
        end = cluster.play()?;
    }
    let report = cluster.judge(end)?;
    cluster.remove_files()?;
    Ok((report, cluster.current.text))
}

/// How a scenario ended.
enum End {
    /// The story returned this status.
    Told(i32),
    /// It did not: the status to report, and why.
    Broken(i32, String),
    /// Some guest never came up.
    Stillborn(String),
}

/// One role: its guest, and those before it that lost their power.
struct Member {
    role: &'static str,
    guest: Guest,
    before: Vec<Guest>,
    ready: bool,
    last_lines: VecDeque<String>,
}

impl Member {
    /// Which of its guests is running.
    fn life(&self) -> usize {
        self.before.len()
    }
}

/// What a guest said, and which: index of the member, number of its life.
type Said = (usize, usize, Next);

struct Cluster<'a> {
    run: &'a Run<'a>,
    scenario: &'a Scenario,
    files: &'a [File],
    peers: PathBuf,
    members: Vec<Member>,
    sender: Sender<Said>,
    said: Receiver<Said>,
    current: Current<'a>,
}

impl<'a> Cluster<'a> {
    fn start(run: &'a Run<'a>, scenario: &'a Scenario, files: &'a [File]) -> Result<Cluster<'a>> {
        let peers = run
            .lab
            .dir
            .join(format!("runs/peers-{}", std::process::id()));
        remove(&peers)?;
        fs::create_dir_all(&peers)?;
        let (sender, said) = channel();
        let mut cluster = Cluster {
            run,
            scenario,
            files,
            peers,
            members: Vec::new(),
            sender,
            said,
            current: Current::new(scenario),
        };
        for role in ROLES {
            fs::create_dir(cluster.peers.join(role))?;
            let guest = cluster.boot(role)?;
            cluster.members.push(Member {
                role,
                guest,
                before: Vec::new(),
                ready: false,
                last_lines: VecDeque::new(),
            });
            if role == ROLES[0] {
                cluster.wait_for_sockets()?;
            }
            cluster.listen(cluster.members.len() - 1);
        }
        Ok(cluster)
    }

    /// Switches one guest on.
    fn boot(&self, role: &'static str) -> Result<Guest> {
        let memory_mib = if role == ROLES[0] { 2048 } else { 1024 };
        let Run {
            lab, image, accel, ..
        } = *self.run;
        let mut boot = Boot::new(lab, image, accel, 1, memory_mib)
            .plan([self.scenario.name.clone()])
            .sanblk(&self.run.sanblk)
            .file("patience", format!("{}\n", self.run.patience))
            .place(Place {
                role,
                peers: self.peers.clone(),
                links: links(role),
            });
        for (name, text) in self.files {
            boot = boot.file(name, text.clone());
        }
        if let Some(unpacked) = self.scenario.with {
            boot = boot.tree(unpacked.name(), unpacked.tree(lab)?);
        }
        boot.start()
    }

    fn wait_for_sockets(&self) -> Result<()> {
        let began = Instant::now();
        for link in links(ROLES[0]) {
            while !self.peers.join(&link.name).exists() {
                if began.elapsed() > SOCKETS_LIMIT {
                    bail!("QEMU has not made the socket of cable {}", link.name);
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    fn listen(&mut self, index: usize) {
        let sender = self.sender.clone();
        let member = &mut self.members[index];
        let life = member.life();
        member
            .guest
            .forward(move |next| sender.send((index, life, next)).is_ok());
    }

    /// Streams until the story's end, or until there can be none.
    fn play(&mut self) -> Result<End> {
        let mut deadline = Instant::now() + BOOT_LIMIT.mul_f32(self.run.patience);
        let mut told = false;
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            let Ok((index, life, next)) = self.said.recv_timeout(rest) else {
                for member in &mut self.members {
                    member.guest.dump_and_kill();
                }
                return Ok(match self.members.iter().find(|m| !m.ready) {
                    Some(m) if !told => End::Stillborn(format!("{} is not up in time", m.role)),
                    _ => End::Broken(TIMED_OUT, "out of time".to_owned()),
                });
            };
            let member = &mut self.members[index];
            if life != member.life() {
                continue;
            }
            let role = member.role;
            match next {
                Next::Text { clock, text } => self.hear(index, clock.as_deref(), &text),
                Next::Ready { version } => {
                    member.ready = true;
                    print_line(&prefix(role), None, &format!("ready, kernel {version}"));
                    if !told && self.members.iter().all(|m| m.ready) {
                        told = true;
                        let what = &self.scenario.what;
                        print_line("", None, &format!("=== {}: {what}", self.scenario.name));
                        deadline = Instant::now() + self.scenario.limit.mul_f32(self.run.patience);
                        self.current = Current::new(self.scenario);
                    }
                }
                Next::PowerCycle { role } => self.power_cycle(&role)?,
                Next::End { status, .. } if role == ROLES[0] => return Ok(End::Told(status)),
                // A watchdog's reset ends QEMU, too.
                Next::Ended(_) if self.expects_reset(role) => self.power_cycle(role)?,
                Next::Ended(_) => {
                    let _ = self.members[index].guest.wait();
                    return Ok(if told {
                        End::Broken(GUEST_DIED, format!("{role}: the guest died"))
                    } else {
                        End::Stillborn(format!("{role} died"))
                    });
                }
                _ => {}
            }
        }
    }

    fn hear(&mut self, index: usize, clock: Option<&str>, text: &str) {
        let member = &mut self.members[index];
        let prefix = prefix(member.role);
        print_line(&prefix, clock, text);
        member
            .last_lines
            .push_back(format!("{:>8} {text}", clock.unwrap_or_default()));
        if member.last_lines.len() > LAST_LINES {
            member.last_lines.pop_front();
        }
        self.current.hear_from(member.role, clock, text);
    }

    /// Whether the story said that this guest may end by itself; once.
    fn expects_reset(&self, role: &str) -> bool {
        fs::remove_file(self.peers.join(role).join("resets")).is_ok()
    }

    /// As if somebody had pulled the plug, and put it back.
    fn power_cycle(&mut self, role: &str) -> Result<()> {
        let index = ROLES
            .iter()
            .position(|r| *r == role)
            .with_context(|| format!("no guest is called {role:?}"))?;
        print_line(&prefix(role), None, "power off and on");
        self.members[index].guest.kill();
        let guest = self.boot(ROLES[index])?;
        let member = &mut self.members[index];
        member
            .before
            .push(std::mem::replace(&mut member.guest, guest));
        self.listen(index);
        Ok(())
    }

    /// Writes the scenario's files and decides.
    fn judge(&mut self, end: End) -> Result<Report> {
        let name = &self.scenario.name;
        let (mut status, mut failure) = match end {
            End::Told(0) => (0, None),
            End::Told(status) => (status, Some(format!("exit status {status}"))),
            End::Broken(status, why) => (status, Some(why)),
            End::Stillborn(why) => (GUEST_DIED, Some(format!("no boot: {why}"))),
        };
        if let (Some(failure), Some(reason)) = (&mut failure, self.current.reason.take()) {
            *failure = reason;
        }
        let kernel = self.run.image.kernel.name();
        let dir = self
            .run
            .lab
            .dir
            .join("runs")
            .join(format!("{name}.{kernel}"));
        remove(&dir)?;
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("console.log"), &self.current.text)?;
        for member in &mut self.members {
            member.guest.kill();
            for (life, guest) in member.before.iter().chain([&member.guest]).enumerate() {
                let alarm = keep(guest, self.scenario, &dir, member.role, life)?;
                if let (None, Some(line)) = (&failure, alarm) {
                    status = 1;
                    failure = Some(format!("kernel log of {}: {line}", member.role));
                }
            }
        }
        if failure.is_some() {
            for member in &self.members {
                let prefix = prefix(member.role);
                print_line(&prefix, None, "--- its last lines");
                for line in &member.last_lines {
                    print_line(&prefix, None, line);
                }
                explain(&member.guest, &prefix);
            }
        }
        let report = Report {
            name: name.clone(),
            kernel,
            seconds: self.current.start.elapsed().as_secs_f32(),
            status,
            failure,
        };
        if report.failure.is_some() {
            say(format_args!(
                "{report}\nlab: logs: {}",
                shown(self.run.lab, &dir)
            ));
        }
        Ok(report)
    }

    fn remove_files(&mut self) -> Result<()> {
        for member in &mut self.members {
            member.guest.kill();
            for guest in member.before.iter().chain([&member.guest]) {
                guest.remove_files()?;
            }
        }
        remove(&self.peers)
    }
}

/// Keeps what one guest left, in a directory of its role and life; the first alarm of its kernel log comes back.
fn keep(
    guest: &Guest,
    scenario: &Scenario,
    dir: &Path,
    role: &str,
    life: usize,
) -> Result<Option<String>> {
    let dir = match life {
        0 => dir.join(role),
        _ => dir.join(format!("{role}.{life}")),
    };
    fs::create_dir_all(&dir)?;
    let log = guest.out("dmesg.log");
    let part = kernel_log::part(&log, &scenario.name);
    fs::write(dir.join("kernel.log"), part)?;
    collect(guest, &scenario.name, &dir)?;
    Ok(kernel_log::alarm(part, &scenario.forgiven).map(str::to_owned))
}

/// The cables of a role, one per VLAN and host. The last two bytes of an address are VLAN and host, 0x90 more at the array's end.
fn links(role: &str) -> Vec<Link> {
    let end = |vlan: u32, host: usize, listens: bool| Link {
        name: format!("{vlan}-{host}"),
        mac: format!(
            "52:54:00:20:{vlan:02x}:{:02x}",
            host + if listens { 0x90 } else { 0 }
        ),
        listens,
    };
    let hosts = 1..ROLES.len();
    match ROLES.iter().position(|r| *r == role) {
        Some(0) => VLANS
            .iter()
            .flat_map(|vlan| hosts.clone().map(move |host| end(*vlan, host, true)))
            .collect(),
        Some(host) => VLANS.iter().map(|vlan| end(*vlan, host, false)).collect(),
        None => Vec::new(),
    }
}

fn prefix(role: &str) -> String {
    format!("{role:5}| ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cable_has_two_ends_and_one_of_them_is_the_arrays() {
        let array = links("store");
        assert_eq!(array.len(), 4);
        assert!(array.iter().all(|end| end.listens));
        let hosts: Vec<Link> = ["host1", "host2"].iter().flat_map(|h| links(h)).collect();
        assert_eq!(hosts.len(), 4);
        for end in &hosts {
            assert!(!end.listens);
            assert_eq!(array.iter().filter(|a| a.name == end.name).count(), 1);
        }
        let mut addresses: Vec<_> = array.iter().chain(&hosts).map(|end| &end.mac).collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 8);
        assert_eq!(links("host2")[0].mac, "52:54:00:20:05:02");
        assert_eq!(array[1].mac, "52:54:00:20:05:92");
    }
}
