//! One ioctl of the device mapper: the live table of a device, asked for by its number. The device is not opened.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `struct dm_ioctl` of linux/dm-ioctl.h, in bytes: what every request and every answer begins with.
pub(crate) const HEADER: usize = 312;

/// `_IOWR(0xfd, DM_TABLE_STATUS_CMD = 12, struct dm_ioctl)`.
const TABLE_STATUS: libc::c_ulong =
    (3 << 30) | ((HEADER as libc::c_ulong) << 16) | (0xfd << 8) | 12;

/// Lets the kernel answer `DM_TABLE_STATUS` in place. `message` begins with a `dm_ioctl` whose `data_size` is its length,
/// which is asserted: that many bytes are what the kernel may write.
pub(crate) fn table_status(control: &File, message: &mut [u8]) -> io::Result<()> {
    let said = message[12..16].try_into().map(u32::from_ne_bytes);
    assert!(message.len() >= HEADER, "room for a dm_ioctl");
    assert_eq!(
        said.ok().map(|size| size as usize),
        Some(message.len()),
        "data_size is the buffer's length"
    );
    // SAFETY: the kernel reads and writes at most `data_size` bytes from the pointer on, which is the length of `message`,
    // lent to it exclusively for the call. It copies bytes, so any alignment will do.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), TABLE_STATUS, message.as_mut_ptr()) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
