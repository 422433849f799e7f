//! Vital product data: the common header, the list of pages (00h) and the serial number (80h)
//! (SPC-5, vital product data parameters). The other pages have files of their own.

use super::page::{BadPage, Page, text};

/// Page codes of the pages that this crate reads.
#[allow(missing_docs, reason = "the names are the standard's")]
pub mod vpd_page {
    pub const SUPPORTED_PAGES: u8 = 0x00;
    pub const UNIT_SERIAL_NUMBER: u8 = 0x80;
    pub const DEVICE_IDENTIFICATION: u8 = 0x83;
    pub const BLOCK_LIMITS: u8 = 0xb0;
    pub const BLOCK_DEVICE_CHARACTERISTICS: u8 = 0xb1;
    pub const LOGICAL_BLOCK_PROVISIONING: u8 = 0xb2;
}

/// Length of a VPD page's header, in bytes.
const HEADER: usize = 4;

/// The page `wanted`, header included, cut at its own length field. Some devices answer every request with
/// standard INQUIRY data, so the page code is checked.
pub(super) fn vpd(data: &[u8], wanted: u8) -> Result<Page<'_>, BadPage> {
    let page = Page::of_len(data, HEADER)?;
    let found = page.u8(1);
    if found != wanted {
        return Err(BadPage::OtherPage { wanted, found });
    }
    Ok(Page(page.slice(0, HEADER + usize::from(page.u16(2)))))
}

/// The part of a page after its header.
pub(super) fn vpd_body(data: &[u8], wanted: u8) -> Result<&[u8], BadPage> {
    Ok(vpd(data, wanted)?.slice(HEADER, usize::MAX))
}

/// The VPD pages a logical unit has (page 00h).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SupportedPages([u64; 4]);

impl SupportedPages {
    /// Reads page 00h.
    pub fn parse(data: &[u8]) -> Result<SupportedPages, BadPage> {
        let mut pages = SupportedPages::default();
        for &code in vpd_body(data, vpd_page::SUPPORTED_PAGES)? {
            pages.0[usize::from(code >> 6)] |= 1 << (code & 63);
        }
        Ok(pages)
    }

    /// Whether the page is there.
    pub fn contains(&self, code: u8) -> bool {
        self.0[usize::from(code >> 6)] & (1 << (code & 63)) != 0
    }
}

/// Reads page 80h: the unit's serial number without the blanks around it. Empty if the device has none.
pub fn serial_number(data: &[u8]) -> Result<String, BadPage> {
    Ok(text(vpd_body(data, vpd_page::UNIT_SERIAL_NUMBER)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_list() {
        let pages = SupportedPages::parse(&[0, 0, 0, 3, 0x00, 0x83, 0xb0, 0xb2]).unwrap();
        assert!(pages.contains(0x00) && pages.contains(0x83) && pages.contains(0xb0));
        // 0xb2 lies beyond the page's length.
        assert!(!pages.contains(0xb2) && !pages.contains(0x80));
        assert_eq!(
            SupportedPages::parse(&[0, 0x80, 0, 0]),
            Err(BadPage::OtherPage {
                wanted: 0,
                found: 0x80
            })
        );
    }

    #[test]
    fn serial() {
        assert_eq!(serial_number(b"\0\x80\0\x08  ab12  "), Ok("ab12".into()));
        assert_eq!(serial_number(b"\0\x80\x01\0ab"), Ok("ab".into()));
        assert_eq!(serial_number(b"\0\x80\0\0"), Ok(String::new()));
        assert_eq!(
            serial_number(b"\0\x80\0"),
            Err(BadPage::Short { len: 3, needed: 4 })
        );
    }
}
