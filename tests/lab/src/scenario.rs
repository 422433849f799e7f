//! The scenarios under `tests/lab/guest/scenarios/`: shell files whose first lines say what they want.
//!
//! ```text
//! # lab: boot=shared kernel=both time=60 long=no load=busy guests=1 with=sanlock-forky
//! # what: one sentence
//! # kernel-log-may-say: text (a kernel line that is expected and does not fail the scenario)
//! ```

use crate::cache::Lab;
use crate::kernel::Kernel;
use crate::unpacked::Unpacked;
use anyhow::{Context, Result, bail};
use std::fs;
use std::time::Duration;

/// How a scenario spends its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// It computes: it gets the machine's cores for itself.
    Busy,
    /// It mostly waits for time-outs: another guest may run beside it.
    Waits,
}

/// One scenario and what its header asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// File name without `.sh`.
    pub name: String,
    /// The `# what:` sentence.
    pub what: String,
    /// It gets a guest of its own (default: it shares one boot with others).
    pub own_boot: bool,
    /// Kernels it can run on.
    pub kernels: Vec<Kernel>,
    /// Longest run time on a quiet machine.
    pub limit: Duration,
    /// Kernels on which it runs only with `--all` or by name.
    pub long: Vec<Kernel>,
    /// See [`Load`].
    pub load: Load,
    /// It runs in several guests at once (see `cluster.rs`), and they are its own.
    pub cluster: bool,
    /// A program of another release, unpacked into `/host`.
    pub with: Option<&'static Unpacked>,
    /// Text of expected kernel-log lines, which then do not fail the scenario.
    pub forgiven: Vec<String>,
}

impl Scenario {
    /// Whether it runs without being asked for, on some kernel.
    pub fn is_everyday(&self) -> bool {
        self.kernels
            .iter()
            .any(|kernel| !self.long.contains(kernel))
    }

    /// As it runs when it is not asked for, unless that is nowhere.
    pub fn everyday(mut self) -> Option<Scenario> {
        self.kernels.retain(|kernel| !self.long.contains(kernel));
        (!self.kernels.is_empty()).then_some(self)
    }
}

/// All scenarios, by name.
pub fn all(lab: &Lab) -> Result<Vec<Scenario>> {
    let dir = lab.guest.join("scenarios");
    let mut found = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "sh") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let text = fs::read_to_string(&path)?;
            found.push(parse(&name, &text).with_context(|| path.display().to_string())?);
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// A scenario outside the test list, with a boot of its own.
pub fn outside(lab: &Lab, name: &str) -> Result<Scenario> {
    let path = lab.guest.join(format!("{name}.sh"));
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut scenario = parse(name, &text)?;
    scenario.own_boot = true;
    Ok(scenario)
}

/// Reads the header of one scenario file.
pub fn parse(name: &str, text: &str) -> Result<Scenario> {
    let mut s = Scenario {
        name: name.to_owned(),
        what: String::new(),
        own_boot: false,
        kernels: vec![Kernel::Stable, Kernel::Backports],
        limit: Duration::from_secs(60),
        long: Vec::new(),
        load: Load::Busy,
        cluster: false,
        with: None,
        forgiven: Vec::new(),
    };
    let mut seen = false;
    for line in text.lines().take_while(|l| l.starts_with('#')) {
        if let Some(what) = line.strip_prefix("# what:") {
            what.trim().clone_into(&mut s.what);
        } else if let Some(text) = line.strip_prefix("# kernel-log-may-say:") {
            s.forgiven.push(text.trim().to_owned());
        } else if let Some(settings) = line.strip_prefix("# lab:") {
            seen = true;
            for setting in settings.split_whitespace() {
                apply(&mut s, setting)?;
            }
        }
    }
    if !seen || s.what.is_empty() {
        bail!("needs the header lines `# lab: ...` and `# what: ...`");
    }
    Ok(s)
}

fn apply(s: &mut Scenario, setting: &str) -> Result<()> {
    match setting.split_once('=') {
        Some(("boot", "shared")) => s.own_boot = false,
        Some(("boot", "own")) => s.own_boot = true,
        Some(("kernel", "both")) => s.kernels = vec![Kernel::Stable, Kernel::Backports],
        Some(("kernel", "stable")) => s.kernels = vec![Kernel::Stable],
        Some(("kernel", "backports")) => s.kernels = vec![Kernel::Backports],
        Some(("time", seconds)) => s.limit = Duration::from_secs(seconds.parse()?),
        Some(("long", "no")) => s.long = Vec::new(),
        Some(("long", "backports")) => s.long = vec![Kernel::Backports],
        Some(("long", "yes")) => s.long = vec![Kernel::Stable, Kernel::Backports],
        Some(("load", "busy")) => s.load = Load::Busy,
        Some(("load", "waits")) => s.load = Load::Waits,
        Some(("guests", "1")) => s.cluster = false,
        Some(("guests", "3")) => s.cluster = true,
        Some(("with", name)) => match Unpacked::for_guest(name) {
            Some(unpacked) => s.with = Some(unpacked),
            None => bail!("with={name}: no such program"),
        },
        _ => bail!("unknown setting {setting:?} in the `# lab:` line"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_and_defaults_hold() {
        let text = "# lab: boot=own time=90 load=waits\n# what: does it\necho\n# lab: time=1\n";
        let s = parse("x", text).expect("a good header");
        assert!(s.own_boot && s.is_everyday());
        assert_eq!(s.limit, Duration::from_secs(90));
        assert_eq!(s.load, Load::Waits);
        assert_eq!(s.what, "does it");
        assert_eq!(s.kernels.len(), 2);
        assert!(!s.cluster);
        let s = parse("x", "# lab: guests=3\n# what: w\n").expect("a good header");
        assert!(s.cluster);
    }

    #[test]
    fn what_is_long_on_one_kernel_runs_every_day_on_the_other() {
        let on = |settings: &str| {
            let header = format!("# lab: {settings}\n# what: w\n");
            let everyday = parse("x", &header).expect("a good header").everyday();
            everyday.map(|s| s.kernels)
        };
        assert_eq!(on("long=backports"), Some(vec![Kernel::Stable]));
        assert_eq!(on("long=backports kernel=backports"), None);
        assert_eq!(on("long=yes"), None);
        assert_eq!(
            on("kernel=both"),
            Some(vec![Kernel::Stable, Kernel::Backports])
        );
    }

    #[test]
    fn a_typo_in_a_header_is_an_error_not_a_default() {
        assert!(parse("x", "# lab: tiem=90\n# what: w\n").is_err());
        assert!(parse("x", "# lab: long=often\n# what: w\n").is_err());
        assert!(parse("x", "# lab: time=soon\n# what: w\n").is_err());
        assert!(parse("x", "# lab: guests=2\n# what: w\n").is_err());
        assert!(parse("x", "# what: no settings\n").is_err());
        assert!(parse("x", "# lab: time=9\n").is_err());
        assert!(parse("x", "# lab: with=nothing\n# what: w\n").is_err());
    }

    #[test]
    fn every_scenario_of_the_repository_has_a_good_header() {
        let lab = Lab::open().expect("the repository");
        let all = all(&lab).expect("good headers");
        assert!(all.iter().any(|s| s.name == "hello"));
    }
}
