//! Makes the process fit to serve a disk that its own machine may be swapping, flushing and waiting on.
//!
//! Order in `main`: [`set_io_flusher`] first (threads inherit it), then limits, then [`lock_memory`] once every
//! buffer exists. Everything here needs root; each failure is returned, so that the caller can say what is weaker.

use std::{fs, io};

use crate::sys::host;

/// Declares this thread, and all it will start, part of the write-out path: memory reclaim in it never waits for
/// IO, which might be its own (`PR_SET_IO_FLUSHER`). Read back, since a wrong argument clears it silently.
///
/// # Errors
///
/// EPERM without CAP_SYS_RESOURCE.
pub fn set_io_flusher() -> io::Result<()> {
    host::set_io_flusher()?;
    if host::is_io_flusher()? {
        Ok(())
    } else {
        Err(io::Error::other(
            "PR_SET_IO_FLUSHER was accepted without effect",
        ))
    }
}

/// Locks all memory, present and future, after lifting the limit on it.
///
/// # Errors
///
/// EPERM or ENOMEM without CAP_IPC_LOCK.
pub fn lock_memory() -> io::Result<()> {
    // With CAP_IPC_LOCK the limit does not count; without CAP_SYS_RESOURCE it may still be high enough.
    let _ = host::set_limit(libc::RLIMIT_MEMLOCK, None);
    host::lock_all_memory()
}

/// No core dump: it could go to the disk we serve, it holds secrets, and it delays recovery.
///
/// # Errors
///
/// The kernel refused, which it does not for a lowered limit.
pub fn forbid_core_dump() -> io::Result<()> {
    host::set_limit(libc::RLIMIT_CORE, Some(0))?;
    host::set_not_dumpable()?;
    let forbidden = !host::is_dumpable()? && host::limit(libc::RLIMIT_CORE)? == 0;
    if forbidden {
        Ok(())
    } else {
        Err(io::Error::other("core dumps are still allowed"))
    }
}

/// What this process starts has its standard input, output and error output, and nothing else of it, not even what it was
/// itself started with.
///
/// # Errors
///
/// ENOSYS before Linux 5.11.
pub fn pass_on_no_descriptors() -> io::Result<()> {
    host::close_on_exec_from(3)
}

/// The out-of-memory killer takes everybody else first.
///
/// # Errors
///
/// EACCES without CAP_SYS_RESOURCE.
pub fn spare_from_oom_killer() -> io::Result<()> {
    fs::write("/proc/self/oom_score_adj", "-1000")
}
