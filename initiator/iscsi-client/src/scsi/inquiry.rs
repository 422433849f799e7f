//! Standard INQUIRY data (SPC-5, command INQUIRY).

use super::page::{BadPage, Page, text};

/// Which ways of moving between target port groups the logical unit knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Tpgs {
    /// No ALUA: all ports are equal.
    None,
    /// The target moves by itself.
    Implicit,
    /// We may ask it to.
    Explicit,
    /// Both.
    Both,
}

/// Who the logical unit says it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inquiry {
    /// Peripheral qualifier: 0 connected, 1 not connected, 3 no logical unit here.
    pub qualifier: u8,
    /// Peripheral device type: 00h block device, 0Ch controller.
    pub device_type: u8,
    /// Asymmetric access.
    pub tpgs: Tpgs,
    /// 3PC: knows third-party copy.
    pub third_party_copy: bool,
    /// CmdQue: takes more than one command at a time.
    pub command_queueing: bool,
    /// Vendor, eight bytes, blank-filled.
    pub vendor: [u8; 8],
    /// Product, sixteen bytes, blank-filled.
    pub product: [u8; 16],
    /// Revision, four bytes, blank-filled.
    pub revision: [u8; 4],
}

impl Inquiry {
    /// Reads standard INQUIRY data. At least the five bytes of the header must be there.
    pub fn parse(data: &[u8]) -> Result<Inquiry, BadPage> {
        let page = Page::of_len(data, 5)?;
        Ok(Inquiry {
            qualifier: page.u8(0) >> 5,
            device_type: page.u8(0) & 0x1f,
            tpgs: match page.u8(5) >> 4 & 0x03 {
                0 => Tpgs::None,
                1 => Tpgs::Implicit,
                2 => Tpgs::Explicit,
                _ => Tpgs::Both,
            },
            third_party_copy: page.bit(5, 0x08),
            command_queueing: page.bit(7, 0x02),
            vendor: page.array(8),
            product: page.array(16),
            revision: page.array(32),
        })
    }

    /// A disk that is there: qualifier 0, type 00h.
    pub fn is_block_device(&self) -> bool {
        self.qualifier == 0 && self.device_type == 0
    }

    /// The vendor as text, without its padding.
    pub fn vendor_text(&self) -> String {
        text(&self.vendor)
    }

    /// The product as text, without its padding.
    pub fn product_text(&self) -> String {
        text(&self.product)
    }

    /// The revision as text, without its padding.
    pub fn revision_text(&self) -> String {
        text(&self.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lio_disk() {
        let mut data = vec![0x00, 0, 5, 2, 31, 0x18, 0, 2];
        data.extend(b"LIO-ORG disk0           4.0 ");
        let inquiry = Inquiry::parse(&data).unwrap();
        assert!(inquiry.is_block_device());
        assert_eq!(inquiry.tpgs, Tpgs::Implicit);
        assert!(inquiry.third_party_copy);
        assert!(inquiry.command_queueing);
        assert_eq!(inquiry.vendor_text(), "LIO-ORG");
        assert_eq!(inquiry.product_text(), "disk0");
        assert_eq!(inquiry.revision_text(), "4.0");
    }

    #[test]
    fn not_a_disk() {
        assert!(
            !Inquiry::parse(&[0x0c, 0, 5, 2, 0])
                .unwrap()
                .is_block_device()
        );
        let absent = Inquiry::parse(&[0x7f, 0, 5, 2, 0]).unwrap();
        assert!(!absent.is_block_device());
        assert_eq!((absent.qualifier, absent.device_type), (3, 0x1f));
        assert_eq!(
            Inquiry::parse(&[0, 0, 5, 2]),
            Err(BadPage::Short { len: 4, needed: 5 })
        );
    }

    #[test]
    fn tpgs_bits() {
        let table = [
            (0x00, Tpgs::None),
            (0x10, Tpgs::Implicit),
            (0x20, Tpgs::Explicit),
            (0x30, Tpgs::Both),
        ];
        for (byte, tpgs) in table {
            assert_eq!(Inquiry::parse(&[0, 0, 6, 2, 1, byte]).unwrap().tpgs, tpgs);
        }
    }
}
