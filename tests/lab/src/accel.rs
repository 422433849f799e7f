//! KVM where a guest really boots with it, else QEMU's own translation (TCG).
//!
//! `/dev/kvm` existing proves little: inside some virtual machines it fails in the middle of a boot. So the
//! lab boots once with it under a short limit and keeps the verdict for this host kernel and CPU.

use crate::cache::Lab;
use crate::command::say;
use crate::guest::{Boot, Next};
use crate::image::Image;
use anyhow::{Context, Result, bail};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

/// A good boot with KVM takes two seconds; one that hangs is not worth more.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// How the guest's CPU is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// Hardware virtualisation.
    Kvm,
    /// Translation in software; times are no measure of anything but each other.
    Tcg,
}

impl Accel {
    /// The word in results.
    pub fn name(self) -> &'static str {
        match self {
            Accel::Kvm => "kvm",
            Accel::Tcg => "tcg",
        }
    }

    /// QEMU's `-accel` and `-cpu`. Without ERMS and FSRM the kernel copies with plain moves, which TCG
    /// translates into something ten times faster than `rep movsb`.
    pub fn qemu(self) -> [&'static str; 4] {
        match self {
            Accel::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Accel::Tcg => [
                "-accel",
                "tcg,thread=multi,tb-size=512",
                "-cpu",
                "max,-erms,-fsrm",
            ],
        }
    }

    /// What the guest's kernel must be told about its clock. Without KVM it is the time stamp counter of this machine's
    /// CPU, which the kernel would measure against an emulated timer: on a busy machine it was wrong by a factor of fifty.
    pub fn kernel_parameters(self) -> String {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        match (self, tsc_khz(&cpuinfo)) {
            (Accel::Tcg, Some(khz)) => format!("tsc_early_khz={khz}"),
            _ => String::new(),
        }
    }

    /// The CPU model as results name it.
    pub fn cpu(self) -> &'static str {
        self.qemu()[3]
    }
}

/// Decides once per host kernel and CPU; `SANBLK_LAB_ACCEL=kvm|tcg` decides for it.
pub fn choose(lab: &Lab, image: &Image) -> Result<Accel> {
    match std::env::var("SANBLK_LAB_ACCEL").as_deref() {
        Ok("kvm") => return Ok(Accel::Kvm),
        Ok("tcg") => return Ok(Accel::Tcg),
        Ok(other) => bail!("SANBLK_LAB_ACCEL is {other:?}; kvm and tcg are known"),
        Err(_) => {}
    }
    if fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_err()
    {
        return Ok(Accel::Tcg);
    }
    let verdict = lab.dir.join(format!("kvm-verdict-{:016x}", host_hash()));
    let _lock = lab.lock("kvm-verdict")?;
    if let Ok(known) = fs::read_to_string(&verdict) {
        return Ok(if known.trim() == "works" {
            Accel::Kvm
        } else {
            Accel::Tcg
        });
    }
    let works = probe(lab, image)?;
    say(if works {
        "KVM works here"
    } else {
        "KVM does not boot a guest here: using TCG"
    });
    fs::write(&verdict, if works { "works\n" } else { "fails\n" }).context("the KVM verdict")?;
    Ok(if works { Accel::Kvm } else { Accel::Tcg })
}

fn probe(lab: &Lab, image: &Image) -> Result<bool> {
    let mut guest = Boot::new(lab, image, Accel::Kvm, 1, 1024).start()?;
    let deadline = Instant::now() + PROBE_LIMIT;
    let works = loop {
        match guest.next(deadline) {
            Next::Ready { .. } => break true,
            Next::Deadline | Next::Ended(_) => break false,
            _ => {}
        }
    };
    guest.kill();
    guest.remove_files()?;
    Ok(works)
}

/// Where the kernel of this machine keeps time by the TSC, a BogoMIPS is half a MHz of it.
fn tsc_khz(cpuinfo: &str) -> Option<u32> {
    if !cpuinfo.contains("constant_tsc") {
        return None;
    }
    let line = cpuinfo.lines().find(|l| l.starts_with("bogomips"))?;
    let bogomips: f64 = line.split_once(':')?.1.trim().parse().ok()?;
    Some((bogomips * 500.0).round() as u32)
}

fn host_hash() -> u64 {
    let mut h = DefaultHasher::new();
    fs::read_to_string("/proc/version")
        .unwrap_or_default()
        .hash(&mut h);
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    cpuinfo
        .lines()
        .find(|l| l.starts_with("model name"))
        .unwrap_or_default()
        .hash(&mut h);
    h.finish()
}

#[cfg(test)]
mod tests {
    use super::tsc_khz;

    #[test]
    fn the_counters_rate_is_told_by_cpuinfo() {
        let cpuinfo = "flags\t\t: fpu tsc constant_tsc\nbogomips\t: 5199.99\n";
        assert_eq!(tsc_khz(cpuinfo), Some(2_599_995));
        assert_eq!(tsc_khz("flags\t\t: fpu tsc\nbogomips\t: 5199.99\n"), None);
        assert_eq!(tsc_khz("processor\t: 0\n"), None);
    }
}
