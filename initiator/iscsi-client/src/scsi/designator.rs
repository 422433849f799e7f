//! Device identification, VPD page 83h (SPC-5, vital product data parameters): the names of a logical unit and of the port that
//! answered.

use super::page::{BadPage, Page};
use super::vpd::{vpd_body, vpd_page};

/// What a designator names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Association {
    /// The logical unit.
    LogicalUnit,
    /// The port through which the page was read.
    TargetPort,
    /// The target device.
    TargetDevice,
    /// Reserved value 3.
    Reserved,
}

/// How the value is written.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub enum CodeSet {
    Binary,
    Ascii,
    Utf8,
    Reserved(u8),
}

/// Designator type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub enum DesignatorKind {
    VendorSpecific,
    T10Vendor,
    Eui64,
    Naa,
    RelativeTargetPort,
    TargetPortGroup,
    LogicalUnitGroup,
    Md5,
    ScsiNameString,
    ProtocolPort,
    Uuid,
    Reserved(u8),
}

/// One name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Designator<'a> {
    /// What it names.
    pub association: Association,
    /// By which scheme.
    pub kind: DesignatorKind,
    /// In which code.
    pub code_set: CodeSet,
    /// The name, at most 255 bytes.
    pub value: &'a [u8],
}

/// The designators of a page, in its order. A designator that reaches beyond the page ends the list.
#[derive(Clone, Copy, Debug)]
pub struct Designators<'a> {
    rest: &'a [u8],
}

impl<'a> Designators<'a> {
    /// Reads page 83h.
    pub fn parse(data: &'a [u8]) -> Result<Self, BadPage> {
        let rest = vpd_body(data, vpd_page::DEVICE_IDENTIFICATION)?;
        Ok(Designators { rest })
    }

    /// The target port group of the port that answered.
    pub fn target_port_group(self) -> Option<u16> {
        self.port_number(DesignatorKind::TargetPortGroup)
    }

    /// The relative port identifier of the port that answered.
    pub fn relative_target_port(self) -> Option<u16> {
        self.port_number(DesignatorKind::RelativeTargetPort)
    }

    fn port_number(mut self, kind: DesignatorKind) -> Option<u16> {
        self.find_map(|it| match (it.association, it.value) {
            (Association::TargetPort, &[_, _, hi, lo]) if it.kind == kind => {
                Some(u16::from_be_bytes([hi, lo]))
            }
            _ => None,
        })
    }
}

impl<'a> Iterator for Designators<'a> {
    type Item = Designator<'a>;

    fn next(&mut self) -> Option<Designator<'a>> {
        let header = Page::of_len(self.rest, 4).ok()?;
        let end = 4 + usize::from(header.u8(3));
        let value = self.rest.get(4..end)?;
        self.rest = self.rest.get(end..)?;
        Some(Designator {
            association: match header.u8(1) >> 4 & 0x03 {
                0 => Association::LogicalUnit,
                1 => Association::TargetPort,
                2 => Association::TargetDevice,
                _ => Association::Reserved,
            },
            kind: match header.u8(1) & 0x0f {
                0x0 => DesignatorKind::VendorSpecific,
                0x1 => DesignatorKind::T10Vendor,
                0x2 => DesignatorKind::Eui64,
                0x3 => DesignatorKind::Naa,
                0x4 => DesignatorKind::RelativeTargetPort,
                0x5 => DesignatorKind::TargetPortGroup,
                0x6 => DesignatorKind::LogicalUnitGroup,
                0x7 => DesignatorKind::Md5,
                0x8 => DesignatorKind::ScsiNameString,
                0x9 => DesignatorKind::ProtocolPort,
                0xa => DesignatorKind::Uuid,
                other => DesignatorKind::Reserved(other),
            },
            code_set: match header.u8(0) & 0x0f {
                1 => CodeSet::Binary,
                2 => CodeSet::Ascii,
                3 => CodeSet::Utf8,
                other => CodeSet::Reserved(other),
            },
            value,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Page 83h as LIO builds it: NAA, relative port and port group.
    const PAGE: &[u8] = &[
        0x00, 0x83, 0x00, 0x1c, //
        0x01, 0x03, 0x00, 0x08, 0x50, 0x01, 0x40, 0x5a, 0xbc, 0xde, 0xf0, 0x12, //
        0x51, 0x94, 0x00, 0x04, 0x00, 0x00, 0x00, 0x02, //
        0x51, 0x95, 0x00, 0x04, 0x00, 0x00, 0x01, 0x10,
    ];

    #[test]
    fn names_and_port() {
        let page = Designators::parse(PAGE).unwrap();
        assert_eq!(page.count(), 3);
        assert_eq!(page.relative_target_port(), Some(2));
        assert_eq!(page.target_port_group(), Some(0x110));
        assert_eq!(
            page.into_iter().next(),
            Some(Designator {
                association: Association::LogicalUnit,
                kind: DesignatorKind::Naa,
                code_set: CodeSet::Binary,
                value: &[0x50, 0x01, 0x40, 0x5a, 0xbc, 0xde, 0xf0, 0x12],
            })
        );
    }

    #[test]
    fn a_cut_page_keeps_what_is_whole() {
        let page = Designators::parse(&PAGE[..PAGE.len() - 1]).unwrap();
        assert_eq!(page.count(), 2);
        assert_eq!(page.target_port_group(), None);
        assert_eq!(Designators::parse(&PAGE[..4]).unwrap().count(), 0);
    }

    #[test]
    fn numbers_of_the_logical_unit_are_not_the_ports() {
        let mut page = PAGE.to_vec();
        page[17] = 0x84;
        assert_eq!(
            Designators::parse(&page).unwrap().relative_target_port(),
            None
        );
    }

    proptest! {
        #[test]
        fn any_bytes_end(mut data in proptest::collection::vec(any::<u8>(), 4..300)) {
            data[1] = 0x83;
            let page = Designators::parse(&data).unwrap();
            prop_assert!(page.count() <= data.len() / 4);
            let _ = (page.target_port_group(), page.relative_target_port());
        }
    }
}
