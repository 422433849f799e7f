//! Names as multipath-tools and scsi_id spell them.

use super::*;
use proptest::prelude::*;

/// A page 83h of (byte 0, byte 1, value) designators.
fn page(designators: &[(u8, u8, &[u8])]) -> Vec<u8> {
    let mut page = vec![0, 0x83, 0, 0];
    for (first, second, value) in designators {
        page.extend([*first, *second, 0, value.len() as u8]);
        page.extend(*value);
    }
    let len = (page.len() - 4) as u16;
    page[2..4].copy_from_slice(&len.to_be_bytes());
    page
}

fn wwid(designators: &[(u8, u8, &[u8])]) -> Option<String> {
    let page = page(designators);
    let wwid = Wwid::from_designators(Designators::parse(&page).unwrap())?;
    Some(wwid.as_str().to_owned())
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
        .collect()
}

#[test]
fn lio() {
    // Unit serial 4b6f1a2e-93d8-4c5a-8f10-77aa55cc33ee: its digits in order after the company number 001405.
    let naa = bytes("60014054b6f1a2e93d84c5a8f1077aa5");
    let t10 = b"LIO-ORG disk0:4b6f1a2e-93d8-4c5a-8f10-77aa55cc33ee";
    assert_eq!(
        wwid(&[
            (0x01, 0x03, &naa),
            (0x02, 0x01, t10),
            (0x51, 0x94, &[0, 0, 0, 1])
        ])
        .unwrap(),
        "360014054b6f1a2e93d84c5a8f1077aa5"
    );
}

#[test]
fn tgt() {
    let t10 = b"IET     00010001";
    let naa = bytes("60000000000000000e00000000010001");
    assert_eq!(
        wwid(&[(0x02, 0x01, t10), (0x01, 0x03, &naa)]).unwrap(),
        "360000000000000000e00000000010001"
    );
    // The text alone, where the NAA designator is missing.
    assert_eq!(wwid(&[(0x02, 0x01, t10)]).unwrap(), "1IET_00010001");
}

#[test]
fn order_of_preference() {
    let naa6: (u8, u8, &[u8]) = (1, 3, &[0x6a; 16]);
    let naa5: (u8, u8, &[u8]) = (1, 3, &[0x5a; 8]);
    let naa2: (u8, u8, &[u8]) = (1, 3, &[0x2a; 8]);
    let eui: (u8, u8, &[u8]) = (1, 2, &[0xe1; 8]);
    let name: (u8, u8, &[u8]) = (3, 8, b"naa.5000C500ABCDEF01\0\0\0\0");
    let t10: (u8, u8, &[u8]) = (2, 1, b"VENDOR  thing");
    let naa3: (u8, u8, &[u8]) = (1, 3, &[0x3a; 8]);
    let ranked = [
        (naa6, "36a6a6a6a6a6a6a6a6a6a6a6a6a6a6a6a"),
        (naa5, "35a5a5a5a5a5a5a5a"),
        (naa2, "32a2a2a2a2a2a2a2a"),
        (eui, "2e1e1e1e1e1e1e1e1"),
        (name, "35000c500abcdef01"),
        (t10, "1VENDOR_thing"),
        (naa3, "33a3a3a3a3a3a3a3a"),
    ];
    for (i, (best, text)) in ranked.iter().enumerate() {
        for (worse, _) in &ranked[i..] {
            assert_eq!(wwid(&[*best, *worse]).as_deref(), Some(*text));
            assert_eq!(wwid(&[*worse, *best]).as_deref(), Some(*text));
        }
    }
}

#[test]
fn first_among_equals() {
    assert_eq!(
        wwid(&[(1, 2, &[1; 8]), (1, 2, &[2; 16])]).unwrap(),
        "20101010101010101"
    );
}

#[test]
fn never_a_wwid() {
    let unusable: [(u8, u8, &[u8]); 12] = [
        (0x01, 0x13, &[0x6a; 16]),                // names the port
        (0x01, 0x23, &[0x6a; 16]),                // names the target
        (0x01, 0x33, &[0x6a; 16]),                // reserved association
        (0x01, 0x03, &[0x6a; 8]),                 // NAA 6 is 16 bytes
        (0x01, 0x03, &[0x5a; 16]),                // NAA 5 is 8 bytes
        (0x01, 0x03, &[0x1a; 8]),                 // no such NAA
        (0x01, 0x03, &[]),                        // empty
        (0x01, 0x02, &[0xe1; 10]),                // no EUI-64 length
        (0x03, 0x08, b"uuid.1234"),               // unknown scheme
        (0x02, 0x01, b"SHORT"),                   // less than a vendor
        (0x02, 0x00, b"vendor's own identifier"), // vendor specific
        (0x01, 0x0a, &[0x10; 18]),                // UUID
    ];
    assert_eq!(wwid(&unusable), None);
    assert_eq!(wwid(&[]), None);
}

#[test]
fn scsi_names() {
    assert_eq!(
        wwid(&[(3, 8, b"eui.0011AABBCCDDEEFF")]).unwrap(),
        "20011aabbccddeeff"
    );
    assert_eq!(
        wwid(&[(3, 8, b"iqn.2004-01.Example:Disk1,L,0x01\0\0\0\0")]).unwrap(),
        "82004-01.Example:Disk1,L,0x01"
    );
}

#[test]
fn t10_blanks() {
    let spelled = |text: &[u8]| wwid(&[(2, 1, text)]).unwrap();
    assert_eq!(
        spelled(b"ATA     QEMU HARDDISK   QM00001   "),
        "1ATA_QEMU_HARDDISK_QM00001"
    );
    assert_eq!(spelled(b"  A  B  C"), "1_A_B_C");
    assert_eq!(spelled(b"        "), "1");
    assert_eq!(spelled(b"VENDOR  \x1b[31mred"), "1VENDOR__[31mred");
}

#[test]
fn a_long_name_is_cut() {
    let name = [b'x'; 255];
    assert_eq!(wwid(&[(2, 1, &name)]).unwrap().len(), LEN_MAX);
}

#[test]
fn serial_as_udev_does() {
    let mut data = vec![0, 0, 5, 2, 31, 0, 0, 2];
    data.extend(b"LIO-ORG FILE/IO         4.0 ");
    let inquiry = Inquiry::parse(&data).unwrap();
    let wwid = Wwid::from_serial(&inquiry, "ab 12").unwrap();
    assert_eq!(wwid.to_string(), "SLIO-ORG_FILE_IO_ab_12");
}

#[test]
fn text_from_a_configuration() {
    let text = "360014054b6f1a2e93d84c5a8f1077aa5";
    assert_eq!(text.parse::<Wwid>().unwrap().as_str(), text);
    for bad in ["", "a b", "a\n", "\u{e9}", &"x".repeat(128)] {
        assert_eq!(bad.parse::<Wwid>(), Err(NotAWwid), "{bad:?}");
    }
}

proptest! {
    /// Whatever a target sends, the name can be logged, compared and read back.
    #[test]
    fn always_a_clean_name(
        designators in proptest::collection::vec(
            (0_u8..4, 0_u8..9, proptest::collection::vec(any::<u8>(), 0..40)), 0..6),
        serial in "\\PC{0,40}",
    ) {
        let list: Vec<_> = designators.iter().map(|(set, kind, value)| (*set, *kind, &value[..])).collect();
        let page = page(&list);
        let named = Wwid::from_designators(Designators::parse(&page).unwrap());
        let inquiry = Inquiry::parse(&page[..]).ok().filter(|_| page.len() > 4);
        let serial = inquiry.and_then(|inquiry| Wwid::from_serial(&inquiry, &serial));
        for wwid in named.into_iter().chain(serial) {
            prop_assert_eq!(wwid.as_str().parse::<Wwid>(), Ok(wwid.clone()));
        }
    }
}
