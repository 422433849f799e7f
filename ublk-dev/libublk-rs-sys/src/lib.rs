//! The ublk kernel interface (`include/uapi/linux/ublk_cmd.h`) written by hand.
//!
//! libublk's own -sys crate runs bindgen and so needs libclang on every build machine. This crate has the
//! same name, version and items, and is put in its place by `[patch.crates-io]` in the workspace root. It
//! holds definitions only: no function of the kernel is called here. Names and integer types are those bindgen
//! gives, because libublk is compiled against them; sizes and offsets are asserted below, at compile time.
#![allow(non_camel_case_types, non_upper_case_globals)]

use core::mem::{offset_of, size_of};
use serde::{Deserialize, Serialize};

/// `_IOC(direction, 'u', number, size)` for the control and IO commands.
const fn ioctl(direction: u32, number: u32, size: usize) -> u32 {
    direction << 30 | (size as u32) << 16 | (b'u' as u32) << 8 | number
}
const READ: u32 = 2;
const READ_WRITE: u32 = 3;
const CTRL: usize = size_of::<ublksrv_ctrl_cmd>();
const IO: usize = size_of::<ublksrv_io_cmd>();
const BATCH: usize = size_of::<ublk_batch_io>();

// Legacy opcodes: libublk falls back to them, we never ask for them.
pub const UBLK_CMD_GET_QUEUE_AFFINITY: u32 = 0x01;
pub const UBLK_CMD_GET_DEV_INFO: u32 = 0x02;
pub const UBLK_CMD_ADD_DEV: u32 = 0x04;
pub const UBLK_CMD_DEL_DEV: u32 = 0x05;
pub const UBLK_CMD_START_DEV: u32 = 0x06;
pub const UBLK_CMD_STOP_DEV: u32 = 0x07;
pub const UBLK_CMD_SET_PARAMS: u32 = 0x08;
pub const UBLK_CMD_GET_PARAMS: u32 = 0x09;
pub const UBLK_CMD_START_USER_RECOVERY: u32 = 0x10;
pub const UBLK_CMD_END_USER_RECOVERY: u32 = 0x11;
pub const UBLK_CMD_GET_DEV_INFO2: u32 = 0x12;

pub const UBLK_U_CMD_GET_QUEUE_AFFINITY: u32 = ioctl(READ, UBLK_CMD_GET_QUEUE_AFFINITY, CTRL);
pub const UBLK_U_CMD_GET_DEV_INFO: u32 = ioctl(READ, UBLK_CMD_GET_DEV_INFO, CTRL);
pub const UBLK_U_CMD_ADD_DEV: u32 = ioctl(READ_WRITE, UBLK_CMD_ADD_DEV, CTRL);
pub const UBLK_U_CMD_DEL_DEV: u32 = ioctl(READ_WRITE, UBLK_CMD_DEL_DEV, CTRL);
pub const UBLK_U_CMD_START_DEV: u32 = ioctl(READ_WRITE, UBLK_CMD_START_DEV, CTRL);
pub const UBLK_U_CMD_STOP_DEV: u32 = ioctl(READ_WRITE, UBLK_CMD_STOP_DEV, CTRL);
pub const UBLK_U_CMD_SET_PARAMS: u32 = ioctl(READ_WRITE, UBLK_CMD_SET_PARAMS, CTRL);
pub const UBLK_U_CMD_GET_PARAMS: u32 = ioctl(READ, UBLK_CMD_GET_PARAMS, CTRL);
pub const UBLK_U_CMD_START_USER_RECOVERY: u32 = ioctl(READ_WRITE, UBLK_CMD_START_USER_RECOVERY, CTRL);
pub const UBLK_U_CMD_END_USER_RECOVERY: u32 = ioctl(READ_WRITE, UBLK_CMD_END_USER_RECOVERY, CTRL);
pub const UBLK_U_CMD_GET_DEV_INFO2: u32 = ioctl(READ, UBLK_CMD_GET_DEV_INFO2, CTRL);
pub const UBLK_U_CMD_GET_FEATURES: u32 = ioctl(READ, 0x13, CTRL);
pub const UBLK_U_CMD_DEL_DEV_ASYNC: u32 = ioctl(READ, 0x14, CTRL);
pub const UBLK_U_CMD_UPDATE_SIZE: u32 = ioctl(READ_WRITE, 0x15, CTRL);
pub const UBLK_U_CMD_QUIESCE_DEV: u32 = ioctl(READ_WRITE, 0x16, CTRL);
pub const UBLK_U_CMD_TRY_STOP_DEV: u32 = ioctl(READ_WRITE, 0x17, CTRL);
pub const UBLK_U_CMD_REG_BUF: u32 = ioctl(READ_WRITE, 0x18, CTRL);
pub const UBLK_U_CMD_UNREG_BUF: u32 = ioctl(READ_WRITE, 0x19, CTRL);

pub const UBLK_IO_FETCH_REQ: u32 = 0x20;
pub const UBLK_IO_COMMIT_AND_FETCH_REQ: u32 = 0x21;
pub const UBLK_IO_NEED_GET_DATA: u32 = 0x22;
pub const UBLK_U_IO_FETCH_REQ: u32 = ioctl(READ_WRITE, UBLK_IO_FETCH_REQ, IO);
pub const UBLK_U_IO_COMMIT_AND_FETCH_REQ: u32 = ioctl(READ_WRITE, UBLK_IO_COMMIT_AND_FETCH_REQ, IO);
pub const UBLK_U_IO_NEED_GET_DATA: u32 = ioctl(READ_WRITE, UBLK_IO_NEED_GET_DATA, IO);
pub const UBLK_U_IO_REGISTER_IO_BUF: u32 = ioctl(READ_WRITE, 0x23, IO);
pub const UBLK_U_IO_UNREGISTER_IO_BUF: u32 = ioctl(READ_WRITE, 0x24, IO);
pub const UBLK_U_IO_PREP_IO_CMDS: u32 = ioctl(READ_WRITE, 0x25, BATCH);
pub const UBLK_U_IO_COMMIT_IO_CMDS: u32 = ioctl(READ_WRITE, 0x26, BATCH);
pub const UBLK_U_IO_FETCH_IO_CMDS: u32 = ioctl(READ_WRITE, 0x27, BATCH);

pub const UBLK_IO_RES_OK: u32 = 0;
pub const UBLK_IO_RES_NEED_GET_DATA: u32 = 1;
pub const UBLK_IO_RES_ABORT: i32 = -libc::ENODEV;

pub const UBLK_FEATURES_LEN: u32 = 8;
pub const UBLKSRV_CMD_BUF_OFFSET: u32 = 0;
pub const UBLKSRV_IO_BUF_OFFSET: u32 = 0x8000_0000;
pub const UBLK_MAX_QUEUE_DEPTH: u32 = 4096;
pub const UBLK_IO_BUF_OFF: u32 = 0;
pub const UBLK_IO_BUF_BITS: u32 = 25;
pub const UBLK_IO_BUF_BITS_MASK: u32 = (1 << UBLK_IO_BUF_BITS) - 1;
pub const UBLK_TAG_OFF: u32 = UBLK_IO_BUF_BITS;
pub const UBLK_TAG_BITS: u32 = 16;
pub const UBLK_TAG_BITS_MASK: u32 = (1 << UBLK_TAG_BITS) - 1;
pub const UBLK_QID_OFF: u32 = UBLK_TAG_OFF + UBLK_TAG_BITS;
pub const UBLK_QID_BITS: u32 = 12;
pub const UBLK_QID_BITS_MASK: u32 = (1 << UBLK_QID_BITS) - 1;
pub const UBLK_MAX_NR_QUEUES: u32 = 1 << UBLK_QID_BITS;

pub const UBLK_F_SUPPORT_ZERO_COPY: u32 = 1 << 0;
pub const UBLK_F_URING_CMD_COMP_IN_TASK: u32 = 1 << 1;
pub const UBLK_F_NEED_GET_DATA: u32 = 1 << 2;
pub const UBLK_F_USER_RECOVERY: u32 = 1 << 3;
pub const UBLK_F_USER_RECOVERY_REISSUE: u32 = 1 << 4;
pub const UBLK_F_UNPRIVILEGED_DEV: u32 = 1 << 5;
pub const UBLK_F_CMD_IOCTL_ENCODE: u32 = 1 << 6;
pub const UBLK_F_USER_COPY: u32 = 1 << 7;
pub const UBLK_F_ZONED: u32 = 1 << 8;
pub const UBLK_F_USER_RECOVERY_FAIL_IO: u32 = 1 << 9;
pub const UBLK_F_UPDATE_SIZE: u32 = 1 << 10;
pub const UBLK_F_AUTO_BUF_REG: u32 = 1 << 11;
pub const UBLK_F_QUIESCE: u32 = 1 << 12;
pub const UBLK_F_PER_IO_DAEMON: u32 = 1 << 13;
pub const UBLK_F_BUF_REG_OFF_DAEMON: u32 = 1 << 14;
pub const UBLK_F_BATCH_IO: u32 = 1 << 15;
pub const UBLK_F_INTEGRITY: u32 = 1 << 16;
pub const UBLK_F_SAFE_STOP_DEV: u32 = 1 << 17;
pub const UBLK_F_NO_AUTO_PART_SCAN: u32 = 1 << 18;
pub const UBLK_F_SHMEM_ZC: u32 = 1 << 19;

pub const UBLK_S_DEV_DEAD: u32 = 0;
pub const UBLK_S_DEV_LIVE: u32 = 1;
pub const UBLK_S_DEV_QUIESCED: u32 = 2;
pub const UBLK_S_DEV_FAIL_IO: u32 = 3;

pub const UBLK_IO_OP_READ: u32 = 0;
pub const UBLK_IO_OP_WRITE: u32 = 1;
pub const UBLK_IO_OP_FLUSH: u32 = 2;
pub const UBLK_IO_OP_DISCARD: u32 = 3;
pub const UBLK_IO_OP_WRITE_SAME: u32 = 4;
pub const UBLK_IO_OP_WRITE_ZEROES: u32 = 5;

pub const UBLK_IO_F_FAILFAST_DEV: u32 = 1 << 8;
pub const UBLK_IO_F_FAILFAST_TRANSPORT: u32 = 1 << 9;
pub const UBLK_IO_F_FAILFAST_DRIVER: u32 = 1 << 10;
pub const UBLK_IO_F_META: u32 = 1 << 11;
pub const UBLK_IO_F_FUA: u32 = 1 << 13;
pub const UBLK_IO_F_NOUNMAP: u32 = 1 << 15;
pub const UBLK_IO_F_SWAP: u32 = 1 << 16;

pub const UBLK_AUTO_BUF_REG_FALLBACK: u32 = 1;
pub const UBLK_AUTO_BUF_REG_F_MASK: u32 = UBLK_AUTO_BUF_REG_FALLBACK;

pub const UBLK_BATCH_F_HAS_ZONE_LBA: u32 = 1;
pub const UBLK_BATCH_F_HAS_BUF_ADDR: u32 = 1 << 1;
pub const UBLK_BATCH_F_AUTO_BUF_REG_FALLBACK: u32 = 1 << 2;

pub const UBLK_ATTR_READ_ONLY: u32 = 1 << 0;
pub const UBLK_ATTR_ROTATIONAL: u32 = 1 << 1;
pub const UBLK_ATTR_VOLATILE_CACHE: u32 = 1 << 2;
pub const UBLK_ATTR_FUA: u32 = 1 << 3;

pub const UBLK_PARAM_TYPE_BASIC: u32 = 1 << 0;
pub const UBLK_PARAM_TYPE_DISCARD: u32 = 1 << 1;
pub const UBLK_PARAM_TYPE_DEVT: u32 = 1 << 2;
pub const UBLK_PARAM_TYPE_ZONED: u32 = 1 << 3;
pub const UBLK_PARAM_TYPE_DMA_ALIGN: u32 = 1 << 4;
pub const UBLK_PARAM_TYPE_SEGMENT: u32 = 1 << 5;

/// The 32 bytes of a control command, inside the SQE.
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, Serialize, Deserialize)]
pub struct ublksrv_ctrl_cmd {
    pub dev_id: u32,
    pub queue_id: u16,
    pub len: u16,
    pub addr: u64,
    pub data: [u64; 1],
    pub dev_path_len: u16,
    pub pad: u16,
    pub reserved: u32,
}

/// What ADD_DEV asks for and GET_DEV_INFO answers.
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, Serialize, Deserialize)]
pub struct ublksrv_ctrl_dev_info {
    pub nr_hw_queues: u16,
    pub queue_depth: u16,
    pub state: u16,
    pub pad0: u16,
    pub max_io_buf_bytes: u32,
    pub dev_id: u32,
    pub ublksrv_pid: i32,
    pub pad1: u32,
    pub flags: u64,
    pub ublksrv_flags: u64,
    pub owner_uid: u32,
    pub owner_gid: u32,
    pub reserved1: u64,
    pub reserved2: u64,
}

/// One request as the driver describes it in the shared array. Sectors are 512 bytes, always.
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, Serialize, Deserialize)]
pub struct ublksrv_io_desc {
    /// Operation in bits 0 to 7, flags (`UBLK_IO_F_*`) in bits 8 to 31.
    pub op_flags: u32,
    pub nr_sectors: u32,
    pub start_sector: u64,
    pub addr: u64,
}

/// The 16 bytes of a FETCH or COMMIT, inside the SQE.
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, Serialize, Deserialize)]
pub struct ublksrv_io_cmd {
    pub q_id: u16,
    pub tag: u16,
    pub result: i32,
    pub addr: u64,
}

#[repr(C)]
#[derive(Debug, Default, Copy, Clone, Serialize, Deserialize)]
pub struct ublk_auto_buf_reg {
    pub index: u16,
    pub flags: u8,
    pub reserved0: u8,
    pub reserved1: u32,
}

#[repr(C)]
#[derive(Debug, Default, Copy, Clone, Serialize, Deserialize)]
pub struct ublk_elem_header {
    pub tag: u16,
    pub buf_index: u16,
    pub result: i32,
}

#[repr(C)]
#[derive(Debug, Default, Copy, Clone, Serialize, Deserialize)]
pub struct ublk_batch_io {
    pub q_id: u16,
    pub flags: u16,
    pub nr_elem: u16,
    pub elem_bytes: u8,
    pub reserved: u8,
    pub reserved2: u64,
}

#[repr(C)]
#[derive(Debug, Default, Copy, Clone, Serialize, Deserialize)]
pub struct ublk_param_basic {
    pub attrs: u32,
    pub logical_bs_shift: u8,
    pub physical_bs_shift: u8,
    pub io_opt_shift: u8,
    pub io_min_shift: u8,
    pub max_sectors: u32,
    pub chunk_sectors: u32,
    pub dev_sectors: u64,
    pub virt_boundary_mask: u64,
}

#[repr(C)]
#[derive(Debug, Default, Copy, Clone, Serialize, Deserialize)]
pub struct ublk_param_discard {
    pub discard_alignment: u32,
    pub discard_granularity: u32,
    pub max_discard_sectors: u32,
    pub max_write_zeroes_sectors: u32,
    pub max_discard_segments: u16,
    pub reserved0: u16,
}

#[repr(C)]
#[derive(Debug, Default, Copy, Clone, Serialize, Deserialize)]
pub struct ublk_param_devt {
    pub char_major: u32,
    pub char_minor: u32,
    pub disk_major: u32,
    pub disk_minor: u32,
}

#[repr(C)]
#[derive(Debug, Default, Copy, Clone, Serialize, Deserialize)]
pub struct ublk_param_zoned {
    pub max_open_zones: u32,
    pub max_active_zones: u32,
    pub max_zone_append_sectors: u32,
    pub reserved: [u8; 20],
}

/// SET_PARAMS and GET_PARAMS; the driver takes the blocks that `types` names, up to `len`.
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, Serialize, Deserialize)]
pub struct ublk_params {
    pub len: u32,
    pub types: u32,
    pub basic: ublk_param_basic,
    pub discard: ublk_param_discard,
    pub devt: ublk_param_devt,
    pub zoned: ublk_param_zoned,
}

/// Packs a buffer registration into an SQE's address field: index in bits 0 to 15, flags in 16 to 23.
#[inline(always)]
pub fn ublk_auto_buf_reg_to_sqe_addr(buf: &ublk_auto_buf_reg) -> u64 {
    u64::from(buf.index)
        | u64::from(buf.flags) << 16
        | u64::from(buf.reserved0) << 24
        | u64::from(buf.reserved1) << 32
}

/// The index and flags out of an SQE's address field.
#[inline(always)]
pub fn ublk_sqe_addr_to_auto_buf_reg(sqe_addr: u64) -> ublk_auto_buf_reg {
    ublk_auto_buf_reg { index: sqe_addr as u16, flags: (sqe_addr >> 16) as u8, ..Default::default() }
}

const _: () = {
    assert!(size_of::<ublksrv_ctrl_cmd>() == 32);
    assert!(size_of::<ublksrv_ctrl_dev_info>() == 64);
    assert!(offset_of!(ublksrv_ctrl_dev_info, flags) == 24);
    assert!(size_of::<ublksrv_io_desc>() == 24);
    assert!(size_of::<ublksrv_io_cmd>() == 16);
    assert!(size_of::<ublk_auto_buf_reg>() == 8);
    assert!(size_of::<ublk_elem_header>() == 8);
    assert!(size_of::<ublk_batch_io>() == 16);
    assert!(size_of::<ublk_param_basic>() == 32);
    assert!(size_of::<ublk_param_discard>() == 20);
    assert!(size_of::<ublk_param_devt>() == 16);
    assert!(size_of::<ublk_param_zoned>() == 32);
    assert!(offset_of!(ublk_params, discard) == 40);
    assert!(offset_of!(ublk_params, zoned) == 76);
    assert!(size_of::<ublk_params>() == 112);
    assert!(UBLK_U_IO_FETCH_REQ == 0xc010_7520);
    assert!(UBLK_U_IO_COMMIT_AND_FETCH_REQ == 0xc010_7521);
    assert!(UBLK_U_CMD_ADD_DEV == 0xc020_7504);
    assert!(UBLK_U_CMD_GET_FEATURES == 0x8020_7513);
};
