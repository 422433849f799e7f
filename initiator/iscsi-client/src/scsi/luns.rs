//! REPORT LUNS data (SPC-5).

use super::page::{BadPage, Page};
use crate::wire::Lun;

const HEADER: usize = 8;

/// The LUNs that a target shows us.
#[derive(Clone, Copy, Debug)]
pub struct ReportedLuns<'a> {
    stated_len: u32,
    list: &'a [u8],
}

impl<'a> ReportedLuns<'a> {
    /// Reads the data. The first four bytes, the list's length, must be there.
    pub fn parse(data: &'a [u8]) -> Result<Self, BadPage> {
        let page = Page::of_len(data, 4)?;
        let stated_len = page.u32(0);
        let len = usize::try_from(stated_len).unwrap_or(usize::MAX);
        Ok(ReportedLuns {
            stated_len,
            list: page.slice(HEADER, len),
        })
    }

    /// The LUNs that arrived, in the target's order.
    pub fn iter(&self) -> impl Iterator<Item = Lun> + 'a {
        self.list
            .chunks_exact(8)
            .map(|bytes| Lun(Page(bytes).array(0)))
    }

    /// The allocation length that would have held the whole list: larger than what was sent means that LUNs
    /// are missing, and the command should be repeated with this length (or what we are ready to hold).
    pub fn len_needed(&self) -> u32 {
        self.stated_len.saturating_add(HEADER as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list() {
        let mut data = vec![0, 0, 0, 24, 0, 0, 0, 0];
        data.extend([0; 8]);
        data.extend([0, 5, 0, 0, 0, 0, 0, 0]);
        data.extend([0x41, 0x2c, 0, 0, 0, 0, 0, 0]);
        let luns = ReportedLuns::parse(&data).unwrap();
        let numbers: Vec<_> = luns.iter().map(Lun::number).collect();
        assert_eq!(numbers, [Some(0), Some(5), Some(300)]);
        assert_eq!(luns.len_needed(), 32);
        // Cut inside the second LUN: half a LUN is none.
        let cut = ReportedLuns::parse(&data[..20]).unwrap();
        assert_eq!(cut.iter().count(), 1);
        assert_eq!(cut.len_needed(), 32);
    }

    #[test]
    fn lies_about_the_length() {
        let data = [0xff; 24];
        let luns = ReportedLuns::parse(&data).unwrap();
        assert_eq!(luns.iter().count(), 2);
        assert_eq!(luns.len_needed(), u32::MAX);
        assert_eq!(
            ReportedLuns::parse(&[0, 0, 0, 0]).unwrap().iter().count(),
            0
        );
        assert!(ReportedLuns::parse(&[0, 0, 0]).is_err());
    }
}
