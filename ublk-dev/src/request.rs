//! Block requests as the ublk driver describes them (`struct ublksrv_io_desc`).
//!
//! Sectors are 512 bytes here whatever the device's block size. A FLUSH comes with no sectors and a start of all
//! ones: it is normalised to 0, so that nobody computes an offset from it.

use libublk::sys::{
    UBLK_IO_F_FUA, UBLK_IO_F_NOUNMAP, UBLK_IO_OP_DISCARD, UBLK_IO_OP_FLUSH, UBLK_IO_OP_READ,
    UBLK_IO_OP_WRITE, UBLK_IO_OP_WRITE_ZEROES, ublksrv_io_desc,
};

/// Bytes of a sector in requests and parameters.
pub const SECTOR_BYTES: u32 = 512;

/// A slot of the queue: one request at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub u16);

/// What a block request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockOp {
    /// Fill the tag's buffer from the device.
    Read,
    /// Write the tag's buffer to the device.
    Write,
    /// Make completed writes durable.
    Flush,
    /// The range is not needed any more.
    Discard,
    /// The range reads as zeroes afterwards.
    WriteZeroes {
        /// Whether the range may be unmapped for it; false forbids that.
        unmap: bool,
    },
}

impl BlockOp {
    /// Whether the request moves bytes through the tag's buffer.
    pub fn has_payload(self) -> bool {
        matches!(self, Self::Read | Self::Write)
    }
}

/// One request of the kernel, ours until it is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRequest {
    /// Where it lives, and which buffer holds its payload.
    pub tag: Tag,
    /// What to do.
    pub op: BlockOp,
    /// First sector, in units of 512 bytes; 0 for a flush.
    pub start_sector: u64,
    /// Length in units of 512 bytes; 0 for a flush.
    pub sectors: u32,
    /// The write must be durable before it is answered.
    pub fua: bool,
}

impl BlockRequest {
    /// Bytes in the tag's buffer; 0 for requests without payload.
    pub fn payload_bytes(&self) -> u32 {
        if self.op.has_payload() {
            self.sectors * SECTOR_BYTES
        } else {
            0
        }
    }

    /// Reads a descriptor.
    ///
    /// # Errors
    ///
    /// The errno to answer with: an operation we never announced, or a payload larger than the buffer.
    pub(crate) fn parse(
        tag: Tag,
        descriptor: &ublksrv_io_desc,
        io_bytes_max: u32,
    ) -> Result<Self, Errno> {
        let flags = descriptor.op_flags;
        let op = match flags & 0xff {
            UBLK_IO_OP_READ => BlockOp::Read,
            UBLK_IO_OP_WRITE => BlockOp::Write,
            UBLK_IO_OP_FLUSH => BlockOp::Flush,
            UBLK_IO_OP_DISCARD => BlockOp::Discard,
            UBLK_IO_OP_WRITE_ZEROES => BlockOp::WriteZeroes {
                unmap: flags & UBLK_IO_F_NOUNMAP == 0,
            },
            _ => return Err(Errno::NOT_SUPPORTED),
        };
        let payload = u64::from(descriptor.nr_sectors) * u64::from(SECTOR_BYTES);
        if op.has_payload() && (payload == 0 || payload > u64::from(io_bytes_max)) {
            return Err(Errno::IO);
        }
        let (start_sector, sectors) = match op {
            BlockOp::Flush => (0, 0),
            _ => (descriptor.start_sector, descriptor.nr_sectors),
        };
        Ok(Self {
            tag,
            op,
            start_sector,
            sectors,
            fua: flags & UBLK_IO_F_FUA != 0,
        })
    }
}

/// An errno of the kernel, positive.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// EIO: the device failed.
    pub const IO: Self = Self(libc::EIO);
    /// EOPNOTSUPP: the device cannot do this.
    pub const NOT_SUPPORTED: Self = Self(libc::EOPNOTSUPP);
    /// ENOSPC: a thin device is full.
    pub const NO_SPACE: Self = Self(libc::ENOSPC);
    /// ETIMEDOUT: the device did not answer.
    pub const TIMED_OUT: Self = Self(libc::ETIMEDOUT);
    /// ENOLINK: no path to the device.
    pub const NO_LINK: Self = Self(libc::ENOLINK);
    /// EREMOTEIO: the target failed.
    pub const REMOTE_IO: Self = Self(libc::EREMOTEIO);
    /// ENODATA: the medium cannot be read there.
    pub const NO_DATA: Self = Self(libc::ENODATA);
    /// EILSEQ: a protection check failed.
    pub const PROTECTION: Self = Self(libc::EILSEQ);
    /// EBADE: a reservation of another host forbids it.
    pub const RESERVATION: Self = Self(libc::EBADE);
}

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl std::fmt::Debug for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Errno({}: {self})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(op_flags: u32, start_sector: u64, nr_sectors: u32) -> Result<BlockRequest, Errno> {
        let descriptor = ublksrv_io_desc {
            op_flags,
            nr_sectors,
            start_sector,
            addr: 0,
        };
        BlockRequest::parse(Tag(7), &descriptor, 65_536)
    }

    #[test]
    fn a_flush_has_no_place() {
        let flush = parse(UBLK_IO_OP_FLUSH, u64::MAX, 0).unwrap();
        assert_eq!(
            (flush.op, flush.start_sector, flush.sectors),
            (BlockOp::Flush, 0, 0)
        );
    }

    #[test]
    fn flags_become_meaning() {
        assert!(parse(UBLK_IO_OP_WRITE | UBLK_IO_F_FUA, 8, 8).unwrap().fua);
        assert!(!parse(UBLK_IO_OP_WRITE, 8, 8).unwrap().fua);
        let zeroes = |flags| {
            parse(UBLK_IO_OP_WRITE_ZEROES | flags, 0, 1 << 23)
                .unwrap()
                .op
        };
        assert_eq!(zeroes(0), BlockOp::WriteZeroes { unmap: true });
        assert_eq!(
            zeroes(UBLK_IO_F_NOUNMAP),
            BlockOp::WriteZeroes { unmap: false }
        );
        assert_eq!(
            zeroes(0),
            zeroes(1 << 10),
            "a flag we do not know changes nothing"
        );
    }

    #[test]
    fn payload_is_bounded_by_the_buffer() {
        assert_eq!(
            parse(UBLK_IO_OP_READ, 0, 128).unwrap().payload_bytes(),
            65_536
        );
        assert_eq!(parse(UBLK_IO_OP_READ, 0, 129), Err(Errno::IO));
        assert_eq!(parse(UBLK_IO_OP_WRITE, 0, u32::MAX), Err(Errno::IO));
        assert_eq!(
            parse(UBLK_IO_OP_DISCARD, 0, u32::MAX)
                .unwrap()
                .payload_bytes(),
            0
        );
        assert_eq!(parse(4, 0, 8), Err(Errno::NOT_SUPPORTED));
    }
}
