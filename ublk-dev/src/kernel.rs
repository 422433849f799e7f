//! May this kernel run a ublk device? Asked before anything is added.
//!
//! Some kernels oops in the first ADD_DEV and leave the driver's control lock held for ever, so the answer must
//! come from the version alone.

use std::{fs, io};

/// The oldest kernel whose ublk and io_uring do all that we use.
pub const OLDEST: (u32, u32) = (6, 12);

/// Why this kernel cannot be used. The message names the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelProblem {
    /// Below [`OLDEST`].
    #[error(
        "kernel {release} is too old: Linux 6.12 or newer is needed (Debian 12: linux-image-amd64 from bookworm-backports)"
    )]
    TooOld {
        /// `uname -r`.
        release: String,
    },
    /// Known to oops in ADD_DEV.
    #[error("kernel {release} crashes when a ublk device is added: boot another one ({remedy})")]
    Crashes {
        /// `uname -r`.
        release: String,
        /// Where the fix is.
        remedy: &'static str,
    },
    /// The release string cannot be read.
    #[error("kernel release {release:?} cannot be understood")]
    Unknown {
        /// `uname -r`.
        release: String,
    },
    /// The sysctl forbids it.
    #[error(
        "io_uring is switched off: run `sysctl kernel.io_uring_disabled=0` and keep that in /etc/sysctl.d"
    )]
    IoUringDisabled,
    /// Compiled without.
    #[error("this kernel was built without io_uring (CONFIG_IO_URING): boot one that has it")]
    NoIoUring,
}

/// Judges the running kernel.
///
/// # Errors
///
/// What is wrong with it. `/proc` that cannot be read is judged like an unknown kernel.
pub fn check() -> Result<(), KernelProblem> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let disabled = match fs::read_to_string("/proc/sys/kernel/io_uring_disabled") {
        Ok(value) => Some(value),
        // The sysctl came with 6.6: an older kernel has io_uring without it, and is told about its age.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(_) => Some(String::new()),
    };
    judge(
        &read("/proc/sys/kernel/osrelease"),
        &read("/proc/version"),
        disabled.as_deref(),
    )
}

fn judge(
    release: &str,
    version: &str,
    io_uring_disabled: Option<&str>,
) -> Result<(), KernelProblem> {
    let release = release.trim();
    let owned = || release.to_owned();
    let Some((major, minor, patch, build)) = numbers(release) else {
        return Err(KernelProblem::Unknown { release: owned() });
    };
    if (major, minor) < OLDEST {
        return Err(KernelProblem::TooOld { release: owned() });
    }
    if (major, minor) == (6, 18) && matches!(patch, 4 | 5) {
        return Err(KernelProblem::Crashes {
            release: owned(),
            remedy: "6.18.6 or newer",
        });
    }
    let ubuntu = version.contains("Ubuntu");
    if ubuntu && (major, minor, patch) == (6, 17, 0) && (24..=40).contains(&build) {
        return Err(KernelProblem::Crashes {
            release: owned(),
            remedy: "6.17.0-41 or newer",
        });
    }
    match io_uring_disabled.map(str::trim) {
        // 1 leaves it to processes with CAP_SYS_ADMIN, which we need anyway.
        Some("0" | "1" | "") => Ok(()),
        Some(_) => Err(KernelProblem::IoUringDisabled),
        None => Err(KernelProblem::NoIoUring),
    }
}

/// `6.17.0-24-generic` is (6, 17, 0, 24). What is missing is 0.
fn numbers(release: &str) -> Option<(u32, u32, u32, u32)> {
    let (version, rest) = release.split_once('-').unwrap_or((release, ""));
    let mut parts = version.split('.').map(|part| {
        let digits = part
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(part.len());
        part[..digits].parse::<u32>().ok()
    });
    let (major, minor) = (parts.next()??, parts.next()??);
    let patch = parts.next().flatten().unwrap_or(0);
    let build = rest
        .split('-')
        .next()
        .and_then(|build| build.parse().ok())
        .unwrap_or(0);
    Some((major, minor, patch, build))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fine(release: &str) -> bool {
        judge(release, "Linux version (Debian)", Some("0\n")).is_ok()
    }

    #[test]
    fn debian_kernels_are_understood() {
        assert!(fine("6.12.107+deb13-amd64\n"));
        assert!(fine("7.3.4+deb13-amd64"));
        assert!(fine("6.18.44"));
        assert!(fine("7.0-rc4"));
        assert!(!fine("6.1.0-40-amd64"));
        assert!(!fine("5.15.0"));
    }

    #[test]
    fn kernels_that_crash_are_named() {
        for release in ["6.18.4", "6.18.5-amd64"] {
            assert!(!fine(release), "{release}");
        }
        assert!(fine("6.18.6"));
        let ubuntu = "Linux version 6.17.0-24-generic (buildd@lcy02) (Ubuntu 15.2.0)";
        for (build, crashes) in [(23, false), (24, true), (40, true), (41, false)] {
            let release = format!("6.17.0-{build}-generic");
            assert_eq!(
                judge(&release, ubuntu, Some("0")).is_err(),
                crashes,
                "{release}"
            );
            assert!(fine(&release), "only Ubuntu's build");
        }
    }

    #[test]
    fn io_uring_must_be_there_and_on() {
        let io_uring = |value| judge("6.12.0", "", value);
        assert_eq!(io_uring(Some("2\n")), Err(KernelProblem::IoUringDisabled));
        assert_eq!(io_uring(None), Err(KernelProblem::NoIoUring));
        assert_eq!(io_uring(Some("1\n")), Ok(()));
        let message = KernelProblem::IoUringDisabled.to_string();
        assert!(message.contains("kernel.io_uring_disabled=0"), "{message}");
    }

    #[test]
    fn nonsense_is_no_kernel() {
        for release in ["", "x.y", "6", "six.twelve.0"] {
            assert!(matches!(
                judge(release, "", Some("0")),
                Err(KernelProblem::Unknown { .. })
            ));
        }
    }
}
