//! The driver as a whole: may we use it, what does it know, what did a dead server leave behind.
//!
//! The driver handles control commands under one lock, and a wedged command holds its thread for ever. So each
//! runs in a thread of its own under a time limit; one that is not answered is given up with an error that names
//! it, and its thread stays behind. Nothing here touches a device that is not ours: ours carry [`OWNER`].

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use libublk::UblkError;
use libublk::sys::{UBLK_S_DEV_DEAD, UBLK_S_DEV_LIVE};

use crate::kernel::{self, KernelProblem};
use crate::params::ParameterError;
use crate::request::Errno;
use crate::sys::command;

const CONTROL: &str = "/dev/ublk-control";

/// Marks a device as made by this program, in the word of its description that the driver keeps for servers.
pub const OWNER: u64 = u64::from_be_bytes(*b"sanblk\x00\x01");

/// What went wrong with the device. The message names cause and remedy.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No control node.
    #[error(
        "{CONTROL} is missing: load the driver with `modprobe ublk_drv` (Debian 13: part of linux-image-amd64; Debian 12: install the kernel of bookworm-backports, its own has no ublk)"
    )]
    NoDriver,
    /// The control node cannot be opened.
    #[error("{CONTROL} cannot be opened ({0}): run as root")]
    Open(#[source] io::Error),
    /// This kernel must not be used.
    #[error(transparent)]
    Kernel(#[from] KernelProblem),
    /// The limits cannot be given to the driver.
    #[error(transparent)]
    Parameters(#[from] ParameterError),
    /// No answer in time.
    #[error(
        "{command} was not answered within {limit:?}: {}",
        if *command == "STOP_DEV" {
            "the queues do not answer the requests they hold, or the driver is wedged (see the kernel log)"
        } else {
            "the ublk driver is wedged, see the kernel log; only a reboot frees it"
        }
    )]
    NoAnswer {
        /// The driver's name of it.
        command: &'static str,
        /// How long we waited.
        limit: Duration,
    },
    /// The driver said no.
    #[error("the ublk driver refused {command}: {errno}{}", hint(command, *errno))]
    Refused {
        /// The driver's name of it.
        command: &'static str,
        /// Its answer.
        errno: Errno,
    },
    /// The driver forces a mode that we do not speak.
    #[error("the ublk driver added the device with flags {flags:#x}, which were not asked for")]
    ForeignMode {
        /// What came back.
        flags: u64,
    },
    /// Somebody else's device.
    #[error("ublk device {id} was not made by sanblk: it is left alone")]
    NotOurs {
        /// Its number.
        id: u32,
    },
    /// It has a server.
    #[error("ublk device {id} is being served: detach it first")]
    InUse {
        /// Its number.
        id: u32,
    },
    /// The driver has no UPDATE_SIZE.
    #[error("the ublk driver of this kernel cannot resize a disk (Linux 6.16 or newer can)")]
    CannotResize,
    /// The control thread could not be started, or died.
    #[error("the control thread of the device: {0}")]
    Thread(#[source] io::Error),
}

fn hint(command: &str, errno: Errno) -> &'static str {
    match (command, errno.0) {
        ("ADD_DEV", libc::EEXIST) => " (the device number is taken)",
        ("ADD_DEV", libc::EACCES) => " (too many devices: see the module parameter ublks_max)",
        (_, libc::EPERM) => " (run as root)",
        _ => "",
    }
}

/// The driver's answer to [`probe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features(pub u64);

/// A device as the driver describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The number in `/dev/ublkbN`.
    pub id: u32,
    /// Whether it carries [`OWNER`].
    pub ours: bool,
    /// Whether it is a disk with a server at this moment.
    pub live: bool,
    /// Queues.
    pub queues: u16,
    /// Tags per queue.
    pub depth: u16,
}

/// Asks whether a device could be added here: kernel, driver, privileges.
///
/// # Errors
///
/// The first thing that forbids it.
pub fn probe(limit: Duration) -> Result<Features, ControlError> {
    kernel::check()?;
    let control = open_control()?;
    let features = limited("GET_FEATURES", limit, move || command::features(&control))?;
    Ok(Features(features))
}

/// All ublk devices of this host, whoever made them.
///
/// # Errors
///
/// No driver, or no answer.
pub fn devices(limit: Duration) -> Result<Vec<DeviceInfo>, ControlError> {
    let mut found = Vec::new();
    for id in device_ids(Path::new("/sys/class/ublk-char")) {
        let control = open_control()?;
        match limited("GET_DEV_INFO", limit, move || {
            command::information(&control, id)
        }) {
            Ok(info) => found.push(DeviceInfo {
                id,
                ours: info.ublksrv_flags == OWNER,
                live: u32::from(info.state) == UBLK_S_DEV_LIVE,
                queues: info.nr_hw_queues,
                depth: info.queue_depth,
            }),
            // Deleted between the listing and the question.
            Err(ControlError::Refused {
                errno: Errno(libc::ENODEV),
                ..
            }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn device_ids(class: &Path) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir(class) else {
        return Vec::new();
    };
    let number = |name: &str| name.strip_prefix("ublkc").and_then(|id| id.parse().ok());
    let names = entries.flatten().map(|entry| entry.file_name());
    let mut ids: Vec<u32> = names.filter_map(|name| number(name.to_str()?)).collect();
    ids.sort_unstable();
    ids
}

/// Removes what a dead server of ours left behind. True if there was something.
///
/// # Errors
///
/// The device is another program's, or has a living server.
pub fn remove_leftover(id: u32, limit: Duration) -> Result<bool, ControlError> {
    let control = open_control()?;
    let info = match limited("GET_DEV_INFO", limit, move || {
        command::information(&control, id)
    }) {
        Ok(info) => info,
        Err(ControlError::Refused {
            errno: Errno(libc::ENODEV),
            ..
        }) => return Ok(false),
        Err(error) => return Err(error),
    };
    if info.ublksrv_flags != OWNER {
        return Err(ControlError::NotOurs { id });
    }
    if u32::from(info.state) == UBLK_S_DEV_LIVE {
        return Err(ControlError::InUse { id });
    }
    if u32::from(info.state) != UBLK_S_DEV_DEAD {
        let control = open_control()?;
        limited("STOP_DEV", limit, move || command::stop(&control, id))?;
    }
    let control = open_control()?;
    limited("DEL_DEV", limit, move || command::delete(&control, id))?;
    Ok(true)
}

pub(crate) fn open_control() -> Result<File, ControlError> {
    match File::options().read(true).write(true).open(CONTROL) {
        Ok(file) => Ok(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ControlError::NoDriver),
        Err(error) => Err(ControlError::Open(error)),
    }
}

/// Runs a command in a thread of its own and waits for it, but not for ever.
fn limited<T: Send + 'static>(
    command: &'static str,
    limit: Duration,
    run: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ControlError> {
    let (answer, wait) = mpsc::sync_channel(1);
    let thread = thread::Builder::new().name("ublk-control".to_owned());
    // The waiter may have left; then nobody wants the answer.
    let spawned = thread.spawn(move || drop(answer.send(run())));
    spawned.map_err(ControlError::Thread)?;
    match await_answer(command, limit, &wait)? {
        Ok(value) => Ok(value),
        Err(error) => Err(refused(command, error.raw_os_error().unwrap_or(libc::EIO))),
    }
}

pub(crate) fn await_answer<T>(
    command: &'static str,
    limit: Duration,
    wait: &Receiver<T>,
) -> Result<T, ControlError> {
    wait.recv_timeout(limit).map_err(|error| match error {
        RecvTimeoutError::Timeout => ControlError::NoAnswer { command, limit },
        RecvTimeoutError::Disconnected => {
            ControlError::Thread(io::Error::other(format!("ended during {command}")))
        }
    })
}

pub(crate) fn refused(command: &'static str, errno: i32) -> ControlError {
    ControlError::Refused {
        command,
        errno: Errno(errno),
    }
}

/// libublk returns EBUSY as success.
pub(crate) fn checked(
    command: &'static str,
    result: Result<i32, UblkError>,
) -> Result<(), ControlError> {
    match result {
        Ok(value) if value >= 0 => Ok(()),
        Ok(value) => Err(refused(command, -value)),
        Err(error) => Err(libublk_error(command, error)),
    }
}

pub(crate) fn libublk_error(command: &'static str, error: UblkError) -> ControlError {
    let errno = match error {
        UblkError::UringIOError(result) | UblkError::OtherError(result) => -result,
        UblkError::IOError(error) => error.raw_os_error().unwrap_or(libc::EIO),
        UblkError::InvalidVal => libc::EINVAL,
        _ => libc::EIO,
    };
    refused(command, errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_never_answers_is_given_up_by_name() {
        let (hold, held) = mpsc::channel::<()>();
        let limit = Duration::from_millis(1);
        let result = limited("ADD_DEV", limit, move || {
            held.recv().map_err(io::Error::other)
        });
        let message = result.unwrap_err().to_string();
        assert!(
            message.starts_with("ADD_DEV was not answered within 1ms"),
            "{message}"
        );
        assert!(message.contains("reboot"), "{message}");
        drop(hold);
    }

    #[test]
    fn answers_pass_through_and_refusals_teach() {
        let limit = Duration::from_secs(60);
        assert_eq!(limited("X", limit, || Ok(7)).unwrap(), 7);
        let refusal = |errno| move || Err::<(), _>(io::Error::from_raw_os_error(errno));
        let message = limited("ADD_DEV", limit, refusal(libc::EEXIST))
            .unwrap_err()
            .to_string();
        assert!(
            message.ends_with("(the device number is taken)"),
            "{message}"
        );
    }

    #[test]
    fn libublks_busy_is_no_success() {
        assert!(checked("DEL_DEV", Ok(0)).is_ok());
        let error = checked("DEL_DEV", Ok(-libc::EBUSY)).unwrap_err();
        assert!(matches!(
            error,
            ControlError::Refused {
                errno: Errno(libc::EBUSY),
                ..
            }
        ));
    }

    #[test]
    fn device_numbers_come_from_the_nodes_names() {
        let class = std::env::temp_dir().join(format!("ublk-dev-class-{}", std::process::id()));
        for name in ["ublkc10", "ublkc2", "ublkcx", "ublkb3"] {
            std::fs::create_dir_all(class.join(name)).unwrap();
        }
        assert_eq!(device_ids(&class), [2, 10]);
        std::fs::remove_dir_all(&class).unwrap();
        assert_eq!(device_ids(&class), [0_u32; 0]);
    }
}
