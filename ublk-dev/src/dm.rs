//! What a device of the device mapper is made of: its live table, asked of `/dev/mapper/control` by the device's number.
//!
//! The device itself is never opened and nothing is read from it: a question about a table waits for no IO, also while the
//! device is suspended or what lies below it does not answer. Layouts are those of linux/dm-ioctl.h, version 4.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::sys::dm::{HEADER, table_status};

/// `DM_STATUS_TABLE_FLAG`: the table, not the state of its targets.
const STATUS_TABLE: u32 = 1 << 4;
/// `DM_ACTIVE_PRESENT_FLAG`.
const ACTIVE_PRESENT: u32 = 1 << 5;
/// `DM_BUFFER_FULL_FLAG`.
const BUFFER_FULL: u32 = 1 << 8;
/// `struct dm_target_spec`.
const SPEC: usize = 40;
/// Of an answer. A line of a linear target takes some sixty bytes.
const SMALLEST: usize = 16 * 1024;
const LARGEST: usize = 1024 * 1024;

/// A line of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// First sector of the device that it maps, in 512 bytes.
    pub start: u64,
    /// How many.
    pub sectors: u64,
    /// Its kind: `linear`, `striped`, `thin`, ...
    pub kind: String,
    /// What the kind makes of it.
    pub parameters: String,
}

/// Where a linear target lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Linear {
    /// Major and minor number of the device below.
    pub device: (u32, u32),
    /// First sector there, in 512 bytes.
    pub sector: u64,
}

impl Target {
    /// Where it lies, if it is linear.
    pub fn linear(&self) -> Option<Linear> {
        if self.kind != "linear" {
            return None;
        }
        let (device, sector) = self.parameters.split_once(' ')?;
        let (major, minor) = device.split_once(':')?;
        Some(Linear {
            device: (major.parse().ok()?, minor.parse().ok()?),
            sector: sector.trim_end().parse().ok()?,
        })
    }
}

/// The live table of the device of this number (`st_rdev`), in the order of its sectors. `control` is `/dev/mapper/control`.
///
/// # Errors
/// The kernel's: ENXIO where there is no such device of the device mapper. `InvalidData` where its answer makes no sense;
/// `UnexpectedEof` where the device has no live table.
pub fn table(control: &Path, device: u64) -> io::Result<Vec<Target>> {
    let control = File::options().read(true).write(true).open(control)?;
    let mut size = SMALLEST;
    loop {
        let mut message = request(device, size);
        table_status(&control, &mut message)?;
        if word(&message, 28)? & BUFFER_FULL == 0 {
            return targets(&message);
        }
        size *= 4;
        if size > LARGEST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
}

fn request(device: u64, size: usize) -> Vec<u8> {
    let mut message = vec![0; size];
    let mut put = |at: usize, bytes: &[u8]| message[at..at + bytes.len()].copy_from_slice(bytes);
    // Any minor version of the interface will do.
    put(0, &4_u32.to_ne_bytes());
    put(12, &(size as u32).to_ne_bytes());
    put(16, &(HEADER as u32).to_ne_bytes());
    put(28, &STATUS_TABLE.to_ne_bytes());
    put(40, &device.to_ne_bytes());
    message
}

fn bytes<const N: usize>(of: &[u8], at: usize) -> io::Result<[u8; N]> {
    let piece = of.get(at..).and_then(|rest| rest.first_chunk::<N>());
    piece.copied().ok_or(io::ErrorKind::InvalidData.into())
}

fn word(of: &[u8], at: usize) -> io::Result<u32> {
    bytes(of, at).map(u32::from_ne_bytes)
}

fn text(of: &[u8]) -> io::Result<String> {
    let end = of.iter().position(|&byte| byte == 0);
    let text = &of[..end.ok_or(io::ErrorKind::InvalidData)?];
    String::from_utf8(text.to_vec()).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn targets(answer: &[u8]) -> io::Result<Vec<Target>> {
    if word(answer, 28)? & ACTIVE_PRESENT == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let data = answer
        .get(word(answer, 16)? as usize..)
        .ok_or_else(invalid)?;
    let mut targets = Vec::new();
    let mut at = 0;
    for _ in 0..word(answer, 20)? {
        let spec: [u8; SPEC] = bytes(data, at)?;
        let parameters = data.get(at + SPEC..).ok_or_else(invalid)?;
        targets.push(Target {
            start: bytes(&spec, 0).map(u64::from_ne_bytes)?,
            sectors: bytes(&spec, 8).map(u64::from_ne_bytes)?,
            kind: text(&spec[24..])?,
            parameters: text(parameters)?,
        });
        // From the start of the data, not of this one.
        let next = word(&spec, 20)? as usize;
        if next <= at {
            return Err(invalid());
        }
        at = next;
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(lines: &[(u64, u64, &str, &str)]) -> Vec<u8> {
        let mut data = Vec::new();
        for (start, sectors, kind, parameters) in lines {
            let mut spec = [0; SPEC];
            spec[..8].copy_from_slice(&start.to_ne_bytes());
            spec[8..16].copy_from_slice(&sectors.to_ne_bytes());
            spec[24..24 + kind.len()].copy_from_slice(kind.as_bytes());
            let next = (data.len() + SPEC + parameters.len() + 1).next_multiple_of(8);
            spec[20..24].copy_from_slice(&(next as u32).to_ne_bytes());
            data.extend(spec);
            data.extend(parameters.as_bytes());
            data.resize(next, 0);
        }
        let mut answer = request(0xfc00, HEADER + data.len());
        answer[20..24].copy_from_slice(&(lines.len() as u32).to_ne_bytes());
        answer[28..32].copy_from_slice(&(STATUS_TABLE | ACTIVE_PRESENT).to_ne_bytes());
        answer[HEADER..].copy_from_slice(&data);
        answer
    }

    #[test]
    fn lines_of_a_table() {
        let answer = answer(&[
            (0, 524_288, "linear", "259:0 2048"),
            (524_288, 8192, "linear", "259:1 1050624"),
            (532_480, 8192, "striped", "2 128 8:0 384 8:16 384"),
        ]);
        let targets = targets(&answer).unwrap();
        let places: Vec<_> = targets.iter().map(Target::linear).collect();
        let at = |minor, sector| {
            let device = (259, minor);
            Some(Linear { device, sector })
        };
        assert_eq!(places, [at(0, 2048), at(1, 1_050_624), None]);
        let spans: Vec<_> = targets.iter().map(|t| (t.start, t.sectors)).collect();
        assert_eq!(spans, [(0, 524_288), (524_288, 8192), (532_480, 8192)]);
        assert_eq!(targets[2].kind, "striped");
    }

    #[test]
    fn a_device_without_a_live_table_has_no_lines() {
        let mut answer = answer(&[]);
        answer[28..32].copy_from_slice(&STATUS_TABLE.to_ne_bytes());
        let error = targets(&answer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn only_linear_lines_say_where_they_lie() {
        for (kind, parameters) in [
            ("linear", "8:0"),
            ("linear", "8 5"),
            ("linear", "8:0 x"),
            ("linear", "sda 5"),
            ("linear", "4294967296:0 5"),
            ("crypt", "8:0 5"),
        ] {
            let target = Target {
                start: 0,
                sectors: 1,
                kind: kind.to_owned(),
                parameters: parameters.to_owned(),
            };
            assert_eq!(target.linear(), None, "{kind} {parameters}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(
            place in 0_usize..600,
            with in any::<u8>(),
            cut in 0_usize..600,
        ) {
            let mut answer = answer(&[(0, 8, "linear", "8:0 1"), (8, 8, "linear", "8:0 99")]);
            let place = place % answer.len();
            answer[place] = with;
            answer.truncate(cut.max(HEADER));
            let _ = targets(&answer);
        }
    }

    #[test]
    fn what_is_no_control_node_is_an_error() {
        assert!(table(Path::new("/dev/null"), 0).is_err());
    }
}
