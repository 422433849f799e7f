//! Command descriptor blocks (SPC-5, SBC-4).
//!
//! Only 16-byte forms of the medium commands are built: they reach every LBA and every target of the last
//! twenty years knows them.

use core::fmt;

/// A CDB of up to sixteen bytes, zero-filled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cdb(pub [u8; 16]);

/// What WRITE SAME does besides writing one block many times.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WriteSame {
    /// The target may deallocate the range, if it then reads as the block given.
    pub unmap: bool,
    /// No data-out buffer: the block is all zeros and is not sent. SBC-4; older targets refuse it.
    pub ndob: bool,
}

const FUA: u8 = 0x08;

impl Cdb {
    /// TEST UNIT READY (00h): no data, only a status.
    pub fn test_unit_ready() -> Cdb {
        Cdb([0; 16])
    }

    /// REQUEST SENSE (03h): fixed-format sense data, at most `len` bytes.
    pub fn request_sense(len: u8) -> Cdb {
        build(0x03, |cdb| cdb[4] = len)
    }

    /// INQUIRY (12h): standard data, at most `len` bytes.
    pub fn inquiry(len: u16) -> Cdb {
        build(0x12, |cdb| put(cdb, 3, &len.to_be_bytes()))
    }

    /// INQUIRY (12h): vital product data page `page`, at most `len` bytes.
    pub fn inquiry_vpd(page: u8, len: u16) -> Cdb {
        build(0x12, |cdb| {
            cdb[1] = 0x01;
            cdb[2] = page;
            put(cdb, 3, &len.to_be_bytes());
        })
    }

    /// MODE SENSE(10) (5Ah): current values of `page` (3Fh: all pages), at most `len` bytes.
    pub fn mode_sense_10(page: u8, len: u16) -> Cdb {
        build(0x5a, |cdb| {
            cdb[2] = page & 0x3f;
            put(cdb, 7, &len.to_be_bytes());
        })
    }

    /// READ CAPACITY(16) (9Eh/10h): at most `len` bytes, 32 for everything.
    pub fn read_capacity_16(len: u32) -> Cdb {
        build(0x9e, |cdb| {
            cdb[1] = 0x10;
            put(cdb, 10, &len.to_be_bytes());
        })
    }

    /// REPORT LUNS (A0h): the usual LUNs, at most `len` bytes. The standard wants at least 16.
    pub fn report_luns(len: u32) -> Cdb {
        build(0xa0, |cdb| put(cdb, 6, &len.to_be_bytes()))
    }

    /// REPORT TARGET PORT GROUPS (A3h/0Ah): at most `len` bytes. With `extended_header` the answer names the
    /// implicit transition time; some targets refuse that with 5/24/00.
    pub fn report_target_port_groups(len: u32, extended_header: bool) -> Cdb {
        build(0xa3, |cdb| {
            cdb[1] = 0x0a | if extended_header { 0x20 } else { 0 };
            put(cdb, 6, &len.to_be_bytes());
        })
    }

    /// SET TARGET PORT GROUPS (A4h/0Ah) with `len` bytes of parameters, see
    /// [`set_groups_parameters`](super::set_groups_parameters). Only where the target allows explicit changes.
    pub fn set_target_port_groups(len: u32) -> Cdb {
        build(0xa4, |cdb| {
            cdb[1] = 0x0a;
            put(cdb, 6, &len.to_be_bytes());
        })
    }

    /// READ(16) (88h): `blocks` logical blocks from `lba` on.
    pub fn read_16(lba: u64, blocks: u32) -> Cdb {
        medium(0x88, 0, lba, blocks)
    }

    /// READ(16) (88h) from the medium itself: a cached block is written out first (FUA).
    pub fn read_16_fua(lba: u64, blocks: u32) -> Cdb {
        medium(0x88, FUA, lba, blocks)
    }

    /// WRITE(16) (8Ah): `blocks` logical blocks from `lba` on. With `fua` the status comes after the data
    /// are on stable storage.
    pub fn write_16(lba: u64, blocks: u32, fua: bool) -> Cdb {
        medium(0x8a, if fua { FUA } else { 0 }, lba, blocks)
    }

    /// SYNCHRONIZE CACHE(16) (91h): puts `blocks` logical blocks from `lba` on onto stable storage.
    /// `(0, 0)` means all of the logical unit.
    pub fn synchronize_cache_16(lba: u64, blocks: u32) -> Cdb {
        medium(0x91, 0, lba, blocks)
    }

    /// WRITE SAME(16) (93h): one block of data, or none with [`WriteSame::ndob`], onto `blocks` logical blocks.
    /// 0 blocks means "to the end of the medium" or is refused, depending on WSNZ; never send it.
    pub fn write_same_16(lba: u64, blocks: u32, how: WriteSame) -> Cdb {
        let unmap = if how.unmap { 0x08 } else { 0 };
        let ndob = if how.ndob { 0x01 } else { 0 };
        medium(0x93, unmap | ndob, lba, blocks)
    }

    /// UNMAP (42h): the ranges follow as `parameter_len` bytes of data, see [`unmap_parameters`].
    pub fn unmap(parameter_len: u16) -> Cdb {
        build(0x42, |cdb| put(cdb, 7, &parameter_len.to_be_bytes()))
    }

    /// The operation code.
    pub fn opcode(&self) -> u8 {
        self.0[0]
    }

    /// The command's name in the standards, for logs.
    pub fn name(&self) -> &'static str {
        match (self.0[0], self.0[1] & 0x1f) {
            (0x00, _) => "TEST UNIT READY",
            (0x03, _) => "REQUEST SENSE",
            (0x12, _) => "INQUIRY",
            (0x42, _) => "UNMAP",
            (0x5a, _) => "MODE SENSE(10)",
            (0x88, _) => "READ(16)",
            (0x8a, _) => "WRITE(16)",
            (0x91, _) => "SYNCHRONIZE CACHE(16)",
            (0x93, _) => "WRITE SAME(16)",
            (0x9e, 0x10) => "READ CAPACITY(16)",
            (0xa0, _) => "REPORT LUNS",
            (0xa3, 0x0a) => "REPORT TARGET PORT GROUPS",
            (0xa4, 0x0a) => "SET TARGET PORT GROUPS",
            _ => "unknown command",
        }
    }
}

impl fmt::Display for Cdb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = &self.0;
        match self.opcode() {
            0x88 | 0x8a | 0x91 | 0x93 => {
                let [_, flags, a, b, c, d, e, g, h, i, j, k, l, m, _, _] = *bytes;
                let lba = u64::from_be_bytes([a, b, c, d, e, g, h, i]);
                let blocks = u32::from_be_bytes([j, k, l, m]);
                write!(f, "{} lba {lba} blocks {blocks}", self.name())?;
                if flags != 0 {
                    write!(f, " flags {flags:02x}h")?;
                }
                Ok(())
            }
            0x12 if bytes[1] & 1 != 0 => write!(f, "INQUIRY page {:02x}h", bytes[2]),
            0x5a => write!(f, "MODE SENSE(10) page {:02x}h", bytes[2] & 0x3f),
            opcode => match self.name() {
                "unknown command" => write!(f, "command {opcode:02x}h"),
                name => f.write_str(name),
            },
        }
    }
}

/// Length of the parameter data that [`unmap_parameters`] writes, in bytes.
pub const UNMAP_PARAMETERS_LEN: usize = 24;

/// Writes the parameter data of an UNMAP of one range: header and one descriptor (SBC-4).
///
/// # Panics
/// If `out` is shorter than [`UNMAP_PARAMETERS_LEN`].
pub fn unmap_parameters(out: &mut [u8], lba: u64, blocks: u32) {
    let out = &mut out[..UNMAP_PARAMETERS_LEN];
    out.fill(0);
    // Both lengths leave out what precedes and includes themselves: 22 bytes follow, 16 are descriptors.
    out[0..2].copy_from_slice(&22_u16.to_be_bytes());
    out[2..4].copy_from_slice(&16_u16.to_be_bytes());
    out[8..16].copy_from_slice(&lba.to_be_bytes());
    out[16..20].copy_from_slice(&blocks.to_be_bytes());
}

fn build(opcode: u8, fill: impl FnOnce(&mut [u8; 16])) -> Cdb {
    let mut bytes = [0; 16];
    bytes[0] = opcode;
    fill(&mut bytes);
    Cdb(bytes)
}

/// The layout that all 16-byte medium commands share: flags, LBA at 2, number of blocks at 10.
fn medium(opcode: u8, flags: u8, lba: u64, blocks: u32) -> Cdb {
    build(opcode, |cdb| {
        cdb[1] = flags;
        put(cdb, 2, &lba.to_be_bytes());
        put(cdb, 10, &blocks.to_be_bytes());
    })
}

fn put(cdb: &mut [u8; 16], at: usize, bytes: &[u8]) {
    cdb[at..at + bytes.len()].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LBA: u64 = 0x0102_0304_0506_0708;
    const BLOCKS: u32 = 0x1122_3344;

    #[test]
    fn layouts() {
        let same = WriteSame {
            unmap: true,
            ndob: true,
        };
        #[rustfmt::skip]
        let table: &[(Cdb, &str, [u8; 16])] = &[
            (Cdb::test_unit_ready(), "TEST UNIT READY", [0; 16]),
            (Cdb::request_sense(252), "REQUEST SENSE", [0x03, 0, 0, 0, 252, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            (Cdb::inquiry(0x1234), "INQUIRY", [0x12, 0, 0, 0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            (Cdb::inquiry_vpd(0x83, 0x1234), "INQUIRY page 83h",
             [0x12, 1, 0x83, 0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            (Cdb::mode_sense_10(0x3f, 0x1234), "MODE SENSE(10) page 3fh",
             [0x5a, 0, 0x3f, 0, 0, 0, 0, 0x12, 0x34, 0, 0, 0, 0, 0, 0, 0]),
            (Cdb::read_capacity_16(32), "READ CAPACITY(16)",
             [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0]),
            (Cdb::report_luns(0x0001_0000), "REPORT LUNS",
             [0xa0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
            (Cdb::report_target_port_groups(0x1000, true), "REPORT TARGET PORT GROUPS",
             [0xa3, 0x2a, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0]),
            (Cdb::report_target_port_groups(0x1000, false), "REPORT TARGET PORT GROUPS",
             [0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0]),
            (Cdb::set_target_port_groups(8), "SET TARGET PORT GROUPS",
             [0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0]),
            (Cdb::read_16(LBA, BLOCKS), "READ(16) lba 72623859790382856 blocks 287454020",
             [0x88, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x22, 0x33, 0x44, 0, 0]),
            (Cdb::read_16_fua(1, 8), "READ(16) lba 1 blocks 8 flags 08h",
             [0x88, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0]),
            (Cdb::write_16(LBA, BLOCKS, true), "WRITE(16) lba 72623859790382856 blocks 287454020 flags 08h",
             [0x8a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x22, 0x33, 0x44, 0, 0]),
            (Cdb::write_16(1, 8, false), "WRITE(16) lba 1 blocks 8",
             [0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0]),
            (Cdb::synchronize_cache_16(0, 0), "SYNCHRONIZE CACHE(16) lba 0 blocks 0",
             [0x91, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            (Cdb::write_same_16(1, 8, same), "WRITE SAME(16) lba 1 blocks 8 flags 09h",
             [0x93, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0]),
            (Cdb::write_same_16(1, 8, WriteSame::default()), "WRITE SAME(16) lba 1 blocks 8",
             [0x93, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0]),
            (Cdb::unmap(24), "UNMAP", [0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0]),
        ];
        for (cdb, words, bytes) in table {
            assert_eq!(cdb.0, *bytes, "{words}");
            assert_eq!(cdb.to_string(), *words);
        }
        assert_eq!(Cdb([0xee; 16]).to_string(), "command eeh");
    }

    #[test]
    fn one_range_to_unmap() {
        let mut out = [0xff; 30];
        unmap_parameters(&mut out, LBA, BLOCKS);
        assert_eq!(
            out[..UNMAP_PARAMETERS_LEN],
            [
                0, 22, 0, 16, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x22, 0x33, 0x44, 0, 0, 0,
                0
            ]
        );
        assert_eq!(out[UNMAP_PARAMETERS_LEN..], [0xff; 6]);
    }
}
