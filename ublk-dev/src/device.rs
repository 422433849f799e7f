//! Adds, starts, stops and deletes one block device. Every step has a time limit.
//!
//! Each device has a control thread: it owns libublk's objects (bound to one thread anyway) and takes orders. An
//! order that is not answered in time is given up; the thread stays behind with its wedged command.
//!
//! libublk's queue code is never used, only its control object and its open character device. Its state files
//! under `/run` are not written: they hold what its queue threads report, and there are none.
//!
//! The device is in copy mode and has no recovery flag: if this process dies, IO fails with EIO, the disk goes,
//! and the number stays taken until [`remove_leftover`](crate::control::remove_leftover).

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use libublk::UblkFlags;
use libublk::ctrl::{UblkCtrl, UblkCtrlBuilder};
use libublk::io::UblkDev;
use libublk::sys::{
    UBLK_F_AUTO_BUF_REG, UBLK_F_BATCH_IO, UBLK_F_CMD_IOCTL_ENCODE, UBLK_F_NEED_GET_DATA,
    UBLK_F_SUPPORT_ZERO_COPY, UBLK_F_UNPRIVILEGED_DEV, UBLK_F_UPDATE_SIZE, UBLK_F_USER_COPY,
    UBLK_F_USER_RECOVERY, UBLK_F_ZONED, UBLK_S_DEV_LIVE, ublk_params, ublksrv_ctrl_dev_info,
};

use crate::control::{
    ControlError, OWNER, await_answer, checked, libublk_error, open_control, refused,
};
use crate::kernel;
use crate::params::Parameters;
use crate::sys::{command, host};

/// Flags that would change what FETCH and COMMIT mean. None is asked for; a driver that sets one is refused.
const FOREIGN_MODES: u64 = (UBLK_F_SUPPORT_ZERO_COPY
    | UBLK_F_NEED_GET_DATA
    | UBLK_F_USER_RECOVERY
    | UBLK_F_UNPRIVILEGED_DEV
    | UBLK_F_USER_COPY
    | UBLK_F_ZONED
    | UBLK_F_AUTO_BUF_REG
    | UBLK_F_BATCH_IO) as u64;

/// What to add.
#[derive(Clone, Debug)]
pub struct AddOptions {
    /// The number in `/dev/ublkbN`, or the next free one.
    pub id: Option<u32>,
    /// Queues, each served by one [`Ring`](crate::Ring). The driver takes fewer if there are fewer CPUs.
    pub queues: u16,
    /// Tags per queue, 1 to 4096.
    pub depth: u16,
    /// Bytes of one tag's buffer: whole pages, at most 32 MiB.
    pub io_bytes_max: u32,
    /// What the disk looks like.
    pub parameters: Parameters,
}

enum Order {
    Start(SyncSender<Result<(), ControlError>>),
    Stop(SyncSender<Result<(), ControlError>>),
    Resize(u64, SyncSender<Result<(), ControlError>>),
    Delete(SyncSender<Result<(), ControlError>>),
}

/// What the control thread reports after ADD_DEV.
struct Added {
    id: u32,
    depth: u16,
    io_bytes_max: u32,
    queues: Vec<DeviceQueue>,
}

/// One queue of an added device: what a ring needs to serve it. Holds the character device open until its
/// ring is dropped.
#[derive(Debug)]
pub struct DeviceQueue {
    pub(crate) file: OwnedFd,
    pub(crate) number: u16,
    pub(crate) depth: u16,
    pub(crate) io_bytes_max: u32,
}

impl DeviceQueue {
    /// Which queue, from 0.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Its tags; what [`Slots`](crate::Slots) must have.
    pub fn depth(&self) -> u16 {
        self.depth
    }

    /// Bytes of a tag's buffer; what [`Slots`](crate::Slots) must have at least.
    pub fn io_bytes_max(&self) -> u32 {
        self.io_bytes_max
    }
}

/// An added device. Dropping it stops and deletes the device in the background; [`delete`](Self::delete) waits.
///
/// ```text
/// add -> a Ring per queue -> start -> /dev/ublkbN serves -> stop -> drop the rings -> delete
/// ```
///
/// A stopped device is never started again: kernels fail, hang or crash on it.
pub struct Device {
    id: u32,
    depth: u16,
    io_bytes_max: u32,
    queues: Vec<DeviceQueue>,
    orders: SyncSender<Order>,
}

impl Device {
    /// Checks the kernel and adds the device. There is no disk yet.
    ///
    /// # Errors
    ///
    /// What forbids it; see [`ControlError`].
    pub fn add(options: AddOptions, limit: Duration) -> Result<Self, ControlError> {
        kernel::check()?;
        // Closed again at once: only to tell a missing driver from a refusing one.
        drop(open_control()?);
        let parameters = options.parameters.kernel()?;
        let (orders, take_orders) = mpsc::sync_channel(1);
        let (report, wait) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("ublk-control".to_owned());
        let spawned =
            thread.spawn(move || control_thread(&options, &parameters, &report, &take_orders));
        spawned.map_err(ControlError::Thread)?;
        let Added {
            id,
            depth,
            io_bytes_max,
            queues,
        } = await_answer("ADD_DEV", limit, &wait)??;
        Ok(Self {
            id,
            depth,
            io_bytes_max,
            queues,
            orders,
        })
    }

    /// The number in `/dev/ublkbN`.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The disk's node; exists between start and stop.
    pub fn block_path(&self) -> PathBuf {
        PathBuf::from(format!("/dev/ublkb{}", self.id))
    }

    /// Tags per queue.
    pub fn depth(&self) -> u16 {
        self.depth
    }

    /// Bytes of a tag's buffer.
    pub fn io_bytes_max(&self) -> u32 {
        self.io_bytes_max
    }

    /// Hands out the queues, once: each goes to the thread that makes its [`Ring`](crate::Ring).
    pub fn take_queues(&mut self) -> Vec<DeviceQueue> {
        std::mem::take(&mut self.queues)
    }

    /// Makes the disk appear. All queues must be served by then and during it: up to Linux 6.18 the partition
    /// table is read before this returns.
    ///
    /// # Errors
    ///
    /// The driver refuses or does not answer (which it cannot before every tag of every queue is armed).
    pub fn start(&self, limit: Duration) -> Result<(), ControlError> {
        self.order("START_DEV", limit, Order::Start)
    }

    /// Gives the living disk another size; open files stay open. Whoever serves the queues must be ready for requests up
    /// to the new end: udev reads there before this returns. A disk that shrinks below what is on it is the caller's
    /// mistake; the driver takes any size.
    ///
    /// # Errors
    ///
    /// [`ControlError::CannotResize`] up to Linux 6.15; else the driver refuses or does not answer.
    pub fn resize(&self, bytes: u64, limit: Duration) -> Result<(), ControlError> {
        self.order("UPDATE_SIZE", limit, |answer| Order::Resize(bytes, answer))
    }

    /// Makes the disk disappear. The queues must go on serving until their `DeviceStopped`.
    ///
    /// # Errors
    ///
    /// The driver refuses or does not answer, as it does not while requests are unanswered.
    pub fn stop(&self, limit: Duration) -> Result<(), ControlError> {
        self.order("STOP_DEV", limit, Order::Stop)
    }

    /// Deletes the stopped device. Drop the rings first. Programs that still hold the dead disk open do not
    /// delay this (they get EIO); its number is free again when the last of them closes it.
    ///
    /// # Errors
    ///
    /// The driver refuses or does not answer.
    pub fn delete(mut self, limit: Duration) -> Result<(), ControlError> {
        self.queues.clear();
        self.order("DEL_DEV", limit, Order::Delete)
    }

    fn order(
        &self,
        command: &'static str,
        limit: Duration,
        order: impl FnOnce(SyncSender<Result<(), ControlError>>) -> Order,
    ) -> Result<(), ControlError> {
        let (answer, wait) = mpsc::sync_channel(1);
        // One slot: an order behind one that wedged is refused instead of waiting without limit.
        if self.orders.try_send(order(answer)).is_err() {
            return Err(ControlError::NoAnswer { command, limit });
        }
        await_answer(command, limit, &wait)?
    }
}

/// Lives as long as the device: libublk's control object must stay on the thread that made it.
fn control_thread(
    options: &AddOptions,
    parameters: &ublk_params,
    report: &SyncSender<Result<Added, ControlError>>,
    orders: &Receiver<Order>,
) {
    let (ctrl, device) = match add(options, parameters, report) {
        Ok(added) => added,
        Err(error) => {
            // The waiter may have given up; then nobody wants to know.
            let _ = report.send(Err(error));
            return;
        }
    };
    let mut stopped = true;
    while let Ok(order) = orders.recv() {
        // An answer that nobody waits for any more is dropped.
        match order {
            Order::Start(answer) => {
                let started = start(&ctrl, &device);
                stopped = started.is_err();
                let _ = answer.send(started);
            }
            Order::Resize(bytes, answer) => {
                let _ = answer.send(resize(&ctrl, bytes));
            }
            Order::Stop(answer) => {
                let result = checked("STOP_DEV", ctrl.stop_dev());
                stopped = result.is_ok();
                let _ = answer.send(result);
            }
            Order::Delete(answer) => {
                drop(device);
                let _ = answer.send(checked("DEL_DEV", ctrl.del_dev_async()));
                return;
            }
        }
    }
    // The handle was dropped without a word.
    if !stopped {
        let _ = ctrl.stop_dev();
    }
    drop(device);
    let _ = ctrl.del_dev_async();
}

fn add(
    options: &AddOptions,
    parameters: &ublk_params,
    report: &SyncSender<Result<Added, ControlError>>,
) -> Result<(UblkCtrl, UblkDev), ControlError> {
    let ctrl = match options.id {
        None => add_next_free(options)?,
        Some(id) => add_numbered(options, id)?,
    };
    match open_added(&ctrl, options, parameters, report) {
        Ok(device) => Ok((ctrl, device)),
        Err(error) => {
            // Half a device is nobody's use; the error is the one to report.
            let _ = ctrl.del_dev_async();
            Err(error)
        }
    }
}

fn add_next_free(options: &AddOptions) -> Result<UblkCtrl, ControlError> {
    UblkCtrlBuilder::default()
        .name("sanblk")
        .id(-1)
        .nr_queues(options.queues)
        .depth(options.depth)
        .io_buf_bytes(options.io_bytes_max)
        .ctrl_flags(0)
        .ctrl_target_flags(OWNER)
        .dev_flags(UblkFlags::UBLK_DEV_F_ADD_DEV)
        .build()
        .map_err(|error| libublk_error("ADD_DEV", error))
}

/// libublk's control object deletes its device when dropped, and when ADD_DEV failed because the number is
/// taken, that is somebody else's living disk. So a numbered device is added first, then handed to libublk as
/// one that exists (it notes on stderr that there is no state file of its own; there never is).
fn add_numbered(options: &AddOptions, id: u32) -> Result<UblkCtrl, ControlError> {
    let number = i32::try_from(id).map_err(|_| refused("ADD_DEV", libc::EINVAL))?;
    let control = open_control()?;
    let mut info = ublksrv_ctrl_dev_info {
        nr_hw_queues: options.queues,
        queue_depth: options.depth,
        max_io_buf_bytes: options.io_bytes_max,
        dev_id: id,
        ublksrv_pid: std::process::id() as i32,
        flags: u64::from(UBLK_F_CMD_IOCTL_ENCODE),
        ublksrv_flags: OWNER,
        ..Default::default()
    };
    command::add(&control, &mut info)
        .map_err(|error| refused("ADD_DEV", error.raw_os_error().unwrap_or(libc::EIO)))?;
    UblkCtrl::new_simple(number).map_err(|error| {
        // As above: not left behind.
        let _ = command::delete(&control, id);
        libublk_error("GET_DEV_INFO", error)
    })
}

/// Opens the character device of what was just added, and reports.
fn open_added(
    ctrl: &UblkCtrl,
    options: &AddOptions,
    parameters: &ublk_params,
    report: &SyncSender<Result<Added, ControlError>>,
) -> Result<UblkDev, ControlError> {
    checked("GET_DEV_INFO", ctrl.read_dev_info())?;
    let info = ctrl.dev_info();
    if info.flags & FOREIGN_MODES != 0 {
        return Err(ControlError::ForeignMode { flags: info.flags });
    }
    let set_up = |device: &mut UblkDev| {
        device.tgt.params = *parameters;
        device.tgt.dev_size = options.parameters.bytes();
        Ok(())
    };
    let device = UblkDev::new("sanblk".to_owned(), set_up, ctrl)
        .map_err(|error| libublk_error("opening the character device", error))?;
    let queue = |number| -> io::Result<DeviceQueue> {
        Ok(DeviceQueue {
            file: host::duplicate(&device, |device| device.tgt.fds[0])?,
            number,
            depth: info.queue_depth,
            io_bytes_max: info.max_io_buf_bytes,
        })
    };
    let queues = (0..info.nr_hw_queues)
        .map(queue)
        .collect::<io::Result<Vec<_>>>();
    let added = Added {
        id: info.dev_id,
        depth: info.queue_depth,
        io_bytes_max: info.max_io_buf_bytes,
        queues: queues.map_err(ControlError::Thread)?,
    };
    if report.send(Ok(added)).is_err() {
        // Too late: the caller has given up. Not left behind, though.
        return Err(refused("ADD_DEV", libc::ETIMEDOUT));
    }
    Ok(device)
}

fn resize(ctrl: &UblkCtrl, bytes: u64) -> Result<(), ControlError> {
    // The driver as a whole knows the command or does not; a device need not have been added with the flag.
    let control = open_control()?;
    let features = command::features(&control)
        .map_err(|error| refused("GET_FEATURES", error.raw_os_error().unwrap_or(libc::EIO)))?;
    if features & u64::from(UBLK_F_UPDATE_SIZE) == 0 {
        return Err(ControlError::CannotResize);
    }
    checked("UPDATE_SIZE", ctrl.update_size(bytes))
}

fn start(ctrl: &UblkCtrl, device: &UblkDev) -> Result<(), ControlError> {
    // libublk waits for its own queue code to report buffers. Ours has them; the driver itself waits until
    // every tag is armed.
    for _ in 0..device.dev_info.nr_hw_queues {
        device.notify_buffer_registration_complete(false);
    }
    checked("START_DEV", ctrl.start_dev(device))?;
    checked("GET_DEV_INFO", ctrl.read_dev_info())?;
    match u32::from(ctrl.dev_info().state) {
        UBLK_S_DEV_LIVE => Ok(()),
        _ => Err(refused("START_DEV", libc::ENODEV)),
    }
}
