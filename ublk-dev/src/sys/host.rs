//! Calls about this process and this machine: clock, memory locking, privileges, threads, eventfd.

use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

// linux/prctl.h, since 5.6; the libc crate lacks them.
const PR_SET_IO_FLUSHER: libc::c_int = 57;
const PR_GET_IO_FLUSHER: libc::c_int = 58;

/// prctl is variadic and reads whole words: a narrower integer would leave the upper half to chance.
type Word = libc::c_ulong;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

pub(crate) fn page_bytes() -> usize {
    // SAFETY: no pointer is passed.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).expect("the page size is known")
}

/// Nanoseconds since boot, time asleep included.
pub(crate) fn boottime_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a live timespec for the call to fill.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    assert_eq!(result, 0, "CLOCK_BOOTTIME exists since Linux 2.6.39");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// An eventfd in blocking mode, as io_uring needs it to wait for us.
pub(crate) fn eventfd() -> io::Result<File> {
    // SAFETY: no pointer is passed.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) })?;
    // SAFETY: a descriptor just made and owned by nobody else.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Another descriptor of the same open file, from a number that its owner keeps open during the call.
pub(crate) fn duplicate<T>(owner: &T, number: impl FnOnce(&T) -> i32) -> io::Result<OwnedFd> {
    let number = number(owner);
    // SAFETY: F_DUPFD_CLOEXEC on a number: a wrong one answers EBADF, nothing is closed or taken over.
    let fd = check(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: a descriptor just made and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reclaim started by this thread's allocations will not wait for IO that this thread must serve.
pub(crate) fn set_io_flusher() -> io::Result<()> {
    // SAFETY: integer arguments only.
    check(unsafe {
        libc::prctl(
            PR_SET_IO_FLUSHER,
            1 as Word,
            0 as Word,
            0 as Word,
            0 as Word,
        )
    })?;
    Ok(())
}

pub(crate) fn is_io_flusher() -> io::Result<bool> {
    // SAFETY: integer arguments only.
    Ok(check(unsafe {
        libc::prctl(
            PR_GET_IO_FLUSHER,
            0 as Word,
            0 as Word,
            0 as Word,
            0 as Word,
        )
    })? == 1)
}

pub(crate) fn set_not_dumpable() -> io::Result<()> {
    // SAFETY: integer arguments only.
    check(unsafe {
        libc::prctl(
            libc::PR_SET_DUMPABLE,
            0 as Word,
            0 as Word,
            0 as Word,
            0 as Word,
        )
    })?;
    Ok(())
}

pub(crate) fn is_dumpable() -> io::Result<bool> {
    // SAFETY: integer arguments only.
    Ok(check(unsafe {
        libc::prctl(
            libc::PR_GET_DUMPABLE,
            0 as Word,
            0 as Word,
            0 as Word,
            0 as Word,
        )
    })? == 1)
}

/// Marks every descriptor from `first` on as closed by exec (close_range(2), Linux 5.11).
pub(crate) fn close_on_exec_from(first: libc::c_uint) -> io::Result<()> {
    // Variadic as well: see `Word`.
    let (first, last) = (Word::from(first), Word::from(libc::c_uint::MAX));
    let flags = Word::from(libc::CLOSE_RANGE_CLOEXEC);
    // SAFETY: only flags of this process's descriptors change; none is closed.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

pub(crate) fn lock_all_memory() -> io::Result<()> {
    // SAFETY: changes how pages are kept, not what they hold.
    check(unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) })?;
    Ok(())
}

/// Sets soft and hard limit to the same value; `None` is unlimited.
pub(crate) fn set_limit(resource: libc::__rlimit_resource_t, limit: Option<u64>) -> io::Result<()> {
    let value = limit.unwrap_or(libc::RLIM_INFINITY);
    let limits = libc::rlimit {
        rlim_cur: value,
        rlim_max: value,
    };
    // SAFETY: the kernel reads `limits`, which lives across the call.
    check(unsafe { libc::setrlimit(resource, &limits) })?;
    Ok(())
}

pub(crate) fn limit(resource: libc::__rlimit_resource_t) -> io::Result<u64> {
    let mut limits = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limits` is a live rlimit for the call to fill.
    check(unsafe { libc::getrlimit(resource, &mut limits) })?;
    Ok(limits.rlim_cur)
}
