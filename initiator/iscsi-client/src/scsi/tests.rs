//! What holds for all parameter data: any bytes are read or refused, and reading less of a page never invents
//! what the whole page does not say.

use super::*;
use proptest::prelude::*;

/// Reads `data` as everything that a target may send.
fn read_as_everything(data: &[u8]) {
    let _ = Inquiry::parse(data);
    let _ = SupportedPages::parse(data);
    let _ = serial_number(data);
    let _ = BlockLimits::parse(data).map(|limits| limits.can_unmap());
    let _ = Characteristics::parse(data).map(|page| page.is_rotational());
    let _ = Provisioning::parse(data);
    let _ = Capacity::parse(data).map(|capacity| (capacity.bytes(), capacity.physical_block_len()));
    let _ = ReportedLuns::parse(data).map(|luns| luns.iter().count());
    let _ = ModeData::parse(data).map(|mode| (mode.caching(), mode.control()));
    let _ = PortGroups::parse(data);
    let _ = Designators::parse(data).map(Wwid::from_designators);
    if let Some(sense) = Sense::parse(data) {
        let _ = sense.to_string();
    }
}

proptest! {
    #[test]
    fn any_bytes(
        mut data in proptest::collection::vec(any::<u8>(), 0..300),
        code in prop_oneof![any::<u8>(), 0x70_u8..0x74, 0xb0_u8..0xb3, 0x80_u8..0x84],
    ) {
        read_as_everything(&data);
        for at in [0, 1] {
            if let Some(byte) = data.get_mut(at) {
                *byte = code;
            }
        }
        read_as_everything(&data);
    }

    /// A page that was cut must not grant what the whole one denies: unmapping, zeros after it, writes that
    /// need no flush.
    #[test]
    fn a_cut_page_grants_nothing(data in proptest::collection::vec(any::<u8>(), 8..80), cut in 0_usize..80) {
        let cut = &data[..cut.min(data.len())];
        let page = |code: u8, bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            if let Some(at) = bytes.get_mut(1) {
                *at = code;
            }
            bytes
        };
        let (whole, part) = (page(0xb0, &data), page(0xb0, cut));
        if let (Ok(whole), Ok(part)) = (BlockLimits::parse(&whole), BlockLimits::parse(&part)) {
            prop_assert!(whole.can_unmap() || !part.can_unmap());
        }
        let (whole, part) = (page(0xb2, &data), page(0xb2, cut));
        if let (Ok(whole), Ok(part)) = (Provisioning::parse(&whole), Provisioning::parse(&part)) {
            prop_assert!(whole.unmap || !part.unmap);
            prop_assert!(whole.reads_zeros || !part.reads_zeros);
        }
        if let (Ok(whole), Ok(part)) = (ModeData::parse(&data), ModeData::parse(cut))
            && let Some(part) = part.caching()
        {
            prop_assert_eq!(whole.caching(), Some(part));
        }
    }
}
