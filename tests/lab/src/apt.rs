//! Debian packages through a private source list: the machine's own apt configuration is read (for the
//! mirror's address) and never changed, and the address is written nowhere but under `target/lab/`.

use crate::cache::Lab;
use crate::command::{command, installed, output, run, say};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An apt of our own: its lists, its cache and, unless it installs on the host, its own package state.
pub struct Apt {
    options: Vec<String>,
    dir: PathBuf,
    /// The mirror's address.
    pub mirror: String,
}

impl Apt {
    /// An apt that sees the given suites and believes that nothing is installed.
    pub fn foreign(lab: &Lab, name: &str, suites: &[&str]) -> Result<Apt> {
        let mut apt = Apt::new(lab, name, suites)?;
        let status = apt.dir.join("status");
        fs::write(&status, "")?;
        apt.options
            .push(format!("Dir::State::status={}", status.display()));
        apt.update()?;
        Ok(apt)
    }

    fn new(lab: &Lab, name: &str, suites: &[&str]) -> Result<Apt> {
        if !Path::new(KEYRING).is_file() {
            bail!("{KEYRING} is missing: apt-get install debian-archive-keyring");
        }
        let mirror = machine_source()?.mirror;
        let dir = lab.dir.join("apt").join(name);
        for sub in ["lists/partial", "cache/archives/partial", "etc"] {
            fs::create_dir_all(dir.join(sub))?;
        }
        let list: String = suites
            .iter()
            .map(|s| format!("deb [signed-by={KEYRING}] {mirror} {s} main\n"))
            .collect();
        fs::write(dir.join("sources.list"), list)?;
        let d = dir.display();
        let options = vec![
            format!("Dir::Etc::sourcelist={d}/sources.list"),
            "Dir::Etc::sourceparts=-".to_owned(),
            "Dir::Etc::preferences=-".to_owned(),
            "Dir::Etc::preferencesparts=-".to_owned(),
            format!("Dir::State::lists={d}/lists"),
            format!("Dir::Cache={d}/cache"),
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Retries=3".to_owned(),
            "Acquire::Languages=none".to_owned(),
        ];
        Ok(Apt {
            options,
            dir,
            mirror,
        })
    }

    fn apt(&self, program: &str) -> Command {
        let mut c = Command::new(program);
        for option in &self.options {
            c.arg("-o").arg(option);
        }
        c.env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C");
        c
    }

    fn update(&self) -> Result<()> {
        run(self.apt("apt-get").args(["-qq", "update"]))
            .context("apt-get update of the lab's own package lists")
    }

    /// The fields of the newest version of a package as `apt-cache show` prints them; `None` if unknown.
    pub fn show(&self, package: &str) -> Option<String> {
        output(
            self.apt("apt-cache")
                .args(["--no-all-versions", "show", package]),
        )
        .ok()
        .filter(|text| !text.trim().is_empty())
    }

    /// Downloads packages (apt verifies them) and unpacks them into a directory, running none of their scripts.
    pub fn unpack(&self, packages: &[String], into: &Path) -> Result<()> {
        let debs = self.dir.join("debs");
        crate::cache::remove(&debs)?;
        fs::create_dir_all(&debs)?;
        fs::create_dir_all(into)?;
        run(self
            .apt("apt-get")
            .current_dir(&debs)
            .args(["-qq", "download"])
            .args(packages))?;
        for deb in fs::read_dir(&debs)? {
            run(command("dpkg-deb", ["-x"]).arg(deb?.path()).arg(into))?;
        }
        crate::cache::remove(&debs)
    }
}

/// Where this machine takes its packages from.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    mirror: String,
    /// The release, such as `bookworm`.
    suite: String,
}

/// The Debian source in this machine's apt configuration (deb822 or one-line style).
fn machine_source() -> Result<Source> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(dir) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(dir.flatten().map(|e| e.path()));
    }
    files.sort();
    files.iter().find_map(|file| source_in(&fs::read_to_string(file).ok()?)).context(
        "no Debian source in /etc/apt: the lab builds its guest from the mirror this machine uses",
    )
}

/// The release this machine's apt follows (`bookworm`).
pub fn codename() -> Result<String> {
    machine_source().map(|s| s.suite)
}

/// Finds the first plain Debian suite (no `-security`, no other archive) in one apt source file.
fn source_in(text: &str) -> Option<Source> {
    let one_line = text.lines().filter_map(|line| {
        let line = line.trim().strip_prefix("deb ")?;
        let words: Vec<&str> = line
            .split_whitespace()
            .skip_while(|w| !w.contains("://"))
            .collect();
        Some((*words.first()?, vec![*words.get(1)?]))
    });
    let stanzas = text.split("\n\n").filter_map(|stanza| {
        let field = |name: &str| stanza.lines().find_map(|l| l.strip_prefix(name));
        let suites = field("Suites:")?.split_whitespace().collect();
        Some((field("URIs:")?.split_whitespace().next()?, suites))
    });
    one_line.chain(stanzas).find_map(|(mirror, suites)| {
        let debian = mirror.trim_end_matches('/').ends_with("/debian");
        let suite = suites
            .into_iter()
            .find(|s| s.bytes().all(|b| b.is_ascii_lowercase()))?;
        debian.then(|| Source {
            mirror: mirror.to_owned(),
            suite: suite.to_owned(),
        })
    })
}

/// Programs the lab needs on the host, with the package that brings each.
const HOST_TOOLS: [(&str, &str); 6] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("mmdebstrap", "mmdebstrap"),
    ("mke2fs", "e2fsprogs"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
    ("setpriv", "util-linux"),
];

/// Installs the host programs that are missing; not root: names the one command that does.
pub fn host_tools(lab: &Lab) -> Result<()> {
    let missing = || -> Vec<&str> {
        HOST_TOOLS
            .iter()
            .filter(|(tool, _)| !installed(tool))
            .map(|(_, package)| *package)
            .collect()
    };
    if missing().is_empty() {
        return Ok(());
    }
    if !is_root()? {
        bail!(
            "missing on this machine: {0}\nrun once, as root:\n  cargo lab image\nor\n  apt-get install {0}",
            missing().join(" ")
        );
    }
    let _lock = lab.lock("host-packages")?;
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    say(format_args!("installing {}", packages.join(" ")));
    let codename = codename()?;
    let backports = format!("{codename}-backports");
    let mut suites = vec![codename.as_str()];
    let mut target: &[&str] = &[];
    // Debian 12's own QEMU is old, and a qemu-utils from backports on the machine would conflict with it.
    if codename == "bookworm" {
        suites.extend(["bookworm-updates", backports.as_str()]);
        target = &["-t", "bookworm-backports"];
    }
    let apt = Apt::new(lab, "host", &suites)?;
    apt.update()?;
    let mut install = apt.apt("apt-get");
    install
        .args(["-qq", "-y", "--no-install-recommends"])
        .args(target)
        .arg("install")
        .args(&packages);
    run(&mut install)
}

/// Whether this process may install packages and build root-owned trees.
pub fn is_root() -> Result<bool> {
    Ok(output(&mut command("id", ["-u"]))?.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::{Source, source_in};

    fn source(mirror: &str, suite: &str) -> Option<Source> {
        Some(Source {
            mirror: mirror.to_owned(),
            suite: suite.to_owned(),
        })
    }

    #[test]
    fn deb822_stanzas_of_security_and_other_archives_are_passed_over() {
        let text = "Types: deb\nURIs: http://a/debian-security\nSuites: bookworm-security\n\n\
                    Types: deb\nURIs: http://x/node\nSuites: nodistro\n\n\
                    Types: deb\n# note\nURIs: http://b/debian\nSuites: bookworm bookworm-updates\n";
        assert_eq!(source_in(text), source("http://b/debian", "bookworm"));
        assert_eq!(source_in("Types: deb\n"), None);
    }

    #[test]
    fn one_line_style_with_options_and_comments() {
        let text = "# deb http://no/debian bookworm main\n\
                    deb [arch=amd64 signed-by=/k] http://yes/debian/ trixie main\n";
        assert_eq!(source_in(text), source("http://yes/debian/", "trixie"));
    }
}
