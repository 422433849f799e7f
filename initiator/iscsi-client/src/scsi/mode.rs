//! MODE SENSE(10) data: header, caching page, control page (SPC-5 and SBC-4, mode parameters).

use super::page::{BadPage, Page};

/// Page codes for [`super::Cdb::mode_sense_10`].
#[allow(missing_docs, reason = "the names are the standard's")]
pub mod mode_page {
    pub const CACHING: u8 = 0x08;
    pub const CONTROL: u8 = 0x0a;
    pub const ALL: u8 = 0x3f;
}

const HEADER: usize = 8;

/// An answer to MODE SENSE(10).
#[derive(Clone, Copy, Debug)]
pub struct ModeData<'a> {
    /// The medium cannot be written.
    pub write_protected: bool,
    /// DPOFUA: FUA in READ and WRITE is honoured.
    pub fua: bool,
    /// LONGLBA: the block descriptors are 16 bytes each, not 8. They are skipped either way.
    pub long_lba: bool,
    pages: &'a [u8],
}

/// Caching page (08h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caching {
    /// WCE: a good status may come before the data are on stable storage; flushes are needed.
    pub write_cache: bool,
    /// RCD: reads are not served from a cache.
    pub read_cache_disabled: bool,
}

/// Control page (0Ah).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Control {
    /// TST: 0 one task set for all nexuses, 1 one per nexus.
    pub task_set_type: u8,
    /// Queue algorithm modifier: 0 reordering only where results stay the same, 1 free reordering of simple
    /// commands.
    pub queue_algorithm: u8,
    /// TAS: commands that another nexus aborts end with TASK ABORTED instead of in silence.
    pub task_aborted_status: bool,
}

impl<'a> ModeData<'a> {
    /// Reads the data. The eight bytes of the header must be there.
    pub fn parse(data: &'a [u8]) -> Result<Self, BadPage> {
        let page = Page::of_len(data, HEADER)?;
        // The length field does not count itself.
        let page = Page(page.slice(0, 2 + usize::from(page.u16(0)).max(HEADER - 2)));
        let descriptors = usize::from(page.u16(6));
        Ok(ModeData {
            write_protected: page.bit(3, 0x80),
            fua: page.bit(3, 0x10),
            long_lba: page.bit(4, 0x01),
            pages: page.slice(HEADER + descriptors, usize::MAX),
        })
    }

    /// The caching page, if it arrived.
    pub fn caching(&self) -> Option<Caching> {
        let page = self.page(mode_page::CACHING, 3)?;
        Some(Caching {
            write_cache: page.bit(2, 0x04),
            read_cache_disabled: page.bit(2, 0x01),
        })
    }

    /// The control page, if it arrived.
    pub fn control(&self) -> Option<Control> {
        let page = self.page(mode_page::CONTROL, 6)?;
        Some(Control {
            task_set_type: page.u8(2) >> 5,
            queue_algorithm: page.u8(3) >> 4,
            task_aborted_status: page.bit(5, 0x40),
        })
    }

    /// The page `code` without subpage, with at least `needed` bytes: a missing byte must not read as "no
    /// write cache".
    fn page(&self, code: u8, needed: usize) -> Option<Page<'a>> {
        let mut rest = self.pages;
        while let [first, ..] = *rest {
            let header = Page(rest);
            let subpage = first & 0x40 != 0;
            let len = if subpage {
                4 + usize::from(header.u16(2))
            } else {
                2 + usize::from(header.u8(1))
            };
            if first & 0x3f == code && !subpage {
                return Page::of_len(header.slice(0, len), needed).ok();
            }
            rest = rest.get(len..)?;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn data(device_specific: u8, descriptors: &[u8], pages: &[u8]) -> Vec<u8> {
        let mut data = vec![0, 0, 0, device_specific, 0, 0, 0, descriptors.len() as u8];
        data.extend(descriptors);
        data.extend(pages);
        data[1] = (data.len() - 2) as u8;
        data
    }

    const CACHING: [u8; 20] = [
        0x88, 18, 0x04, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    const CONTROL: [u8; 12] = [0x0a, 10, 0x22, 0x10, 0, 0x40, 0, 0, 0, 0, 0, 0];

    #[test]
    fn all_pages() {
        // A subpage of the same code stands before the page itself, block descriptors before both.
        let pages = [&[0x48, 1, 0, 2, 0xff, 0xff], &CACHING[..], &CONTROL[..]].concat();
        let data = data(0x10, &[0xff; 8], &pages);
        let mode = ModeData::parse(&data).unwrap();
        assert!(mode.fua && !mode.write_protected && !mode.long_lba);
        assert_eq!(
            mode.caching(),
            Some(Caching {
                write_cache: true,
                read_cache_disabled: false
            })
        );
        assert_eq!(
            mode.control(),
            Some(Control {
                task_set_type: 1,
                queue_algorithm: 1,
                task_aborted_status: true
            })
        );
    }

    #[test]
    fn header_only() {
        let data = data(0x80, &[], &[]);
        let mode = ModeData::parse(&data).unwrap();
        assert!(mode.write_protected && !mode.fua);
        assert_eq!((mode.caching(), mode.control()), (None, None));
        assert!(ModeData::parse(&data[..7]).is_err());
    }

    #[test]
    fn a_cut_page_says_nothing() {
        let data = data(0, &[], &CACHING);
        assert!(ModeData::parse(&data[..11]).unwrap().caching().is_some());
        assert_eq!(ModeData::parse(&data[..10]).unwrap().caching(), None);
        // Descriptors that reach beyond the data leave no pages.
        let mut lie = data;
        (lie[6], lie[7]) = (0xff, 0xff);
        assert_eq!(ModeData::parse(&lie).unwrap().caching(), None);
    }

    proptest! {
        #[test]
        fn any_bytes(data in proptest::collection::vec(any::<u8>(), 8..300)) {
            let mode = ModeData::parse(&data).unwrap();
            let _ = (mode.caching(), mode.control());
        }
    }
}
