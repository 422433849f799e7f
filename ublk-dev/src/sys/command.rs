//! Control commands of the ublk driver that libublk offers only together with side effects: it prints when it
//! finds no state file of its own, and an ADD_DEV of a taken number deletes the device that has it.
//!
//! Blocking: a wedged driver holds the calling thread. Callers put a thread and a time limit around it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use io_uring::types::Fd;
use io_uring::{IoUring, cqueue, opcode, squeue};
use libublk::sys::{
    UBLK_U_CMD_ADD_DEV, UBLK_U_CMD_DEL_DEV_ASYNC, UBLK_U_CMD_GET_DEV_INFO, UBLK_U_CMD_GET_FEATURES,
    UBLK_U_CMD_STOP_DEV, ublksrv_ctrl_cmd, ublksrv_ctrl_dev_info,
};

/// What `dev_id` holds when a command is for no device.
const NO_DEVICE: u32 = u32::MAX;

/// Runs one command; `answer` is memory the driver may fill.
fn run<T>(control: &File, command: u32, device: u32, answer: Option<&mut T>) -> io::Result<()> {
    let (addr, len) = match answer {
        Some(answer) => (std::ptr::from_mut(answer) as u64, size_of::<T>() as u16),
        None => (0, 0),
    };
    let body = ublksrv_ctrl_cmd {
        dev_id: device,
        queue_id: u16::MAX,
        len,
        addr,
        ..Default::default()
    };
    let mut bytes = [0; 80];
    bytes[0..4].copy_from_slice(&body.dev_id.to_ne_bytes());
    bytes[4..6].copy_from_slice(&body.queue_id.to_ne_bytes());
    bytes[6..8].copy_from_slice(&body.len.to_ne_bytes());
    bytes[8..16].copy_from_slice(&body.addr.to_ne_bytes());
    let mut ring: IoUring<squeue::Entry128, cqueue::Entry> = IoUring::builder().build(2)?;
    let entry = opcode::UringCmd80::new(Fd(control.as_raw_fd()), command)
        .cmd(bytes)
        .build();
    // SAFETY: the only pointer is to `answer`, borrowed until this function returns, and it does not return
    // before the command is complete (or the kernel refused the enter).
    unsafe { ring.submission().push(&entry) }.expect("an empty queue of two");
    loop {
        match ring.submit_and_wait(1) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        if let Some(completion) = ring.completion().next() {
            return match completion.result() {
                result if result < 0 => Err(io::Error::from_raw_os_error(-result)),
                _ => Ok(()),
            };
        }
    }
}

/// The driver's feature bits (`UBLK_F_*`).
pub(crate) fn features(control: &File) -> io::Result<u64> {
    let mut features = 0_u64;
    run(
        control,
        UBLK_U_CMD_GET_FEATURES,
        NO_DEVICE,
        Some(&mut features),
    )?;
    Ok(features)
}

pub(crate) fn information(control: &File, device: u32) -> io::Result<ublksrv_ctrl_dev_info> {
    let mut information = ublksrv_ctrl_dev_info::default();
    run(
        control,
        UBLK_U_CMD_GET_DEV_INFO,
        device,
        Some(&mut information),
    )?;
    Ok(information)
}

pub(crate) fn stop(control: &File, device: u32) -> io::Result<()> {
    run::<()>(control, UBLK_U_CMD_STOP_DEV, device, None)
}

/// Adds a device; the driver answers in `wanted` what it made of the wishes.
pub(crate) fn add(control: &File, wanted: &mut ublksrv_ctrl_dev_info) -> io::Result<()> {
    let id = wanted.dev_id;
    run(control, UBLK_U_CMD_ADD_DEV, id, Some(wanted))
}

/// Deletes without waiting for those who still hold the dead disk open.
pub(crate) fn delete(control: &File, device: u32) -> io::Result<()> {
    run::<()>(control, UBLK_U_CMD_DEL_DEV_ASYNC, device, None)
}
