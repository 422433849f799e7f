//! What holds for every PDU: any 48 bytes are read or refused, never more; and what was read is written back
//! without loss of meaning.

use super::*;
use proptest::prelude::*;

macro_rules! survives {
    ($bhs:expr, $pdu:ident) => {{
        let mut bhs = $bhs;
        bhs.0[0] = (bhs.0[0] & 0xc0) | Opcode::$pdu as u8;
        survives!(bhs, $pdu as $pdu);
    }};
    ($bhs:expr, $opcode:ident as $pdu:ident) => {
        if let Ok(pdu) = $pdu::parse(&$bhs) {
            let written = pdu.emit();
            prop_assert_eq!(written.opcode(), Some(Opcode::$opcode));
            prop_assert_eq!($pdu::parse(&written), Ok(pdu));
        }
    };
}

proptest! {
    #[test]
    fn any_bytes_as_any_pdu(bytes: [u8; 32], more: [u8; 16]) {
        let mut all = [0; BHS_LEN];
        all[..32].copy_from_slice(&bytes);
        all[32..].copy_from_slice(&more);
        let bhs = Bhs(all);
        survives!(bhs, NopOut);
        survives!(bhs, ScsiCommand);
        survives!(bhs, TaskManagementRequest);
        survives!(bhs, LoginRequest);
        survives!(bhs, TextRequest);
        survives!(bhs, DataOut);
        survives!(bhs, LogoutRequest);
        survives!(bhs, NopIn);
        survives!(bhs, ScsiResponse);
        survives!(bhs, TaskManagementResponse);
        survives!(bhs, LoginResponse);
        survives!(bhs, TextResponse);
        survives!(bhs, DataIn);
        survives!(bhs, LogoutResponse);
        survives!(bhs, R2t);
        survives!(bhs, AsyncMessage);
        survives!(bhs, Reject);
    }

    #[test]
    fn lengths(first: u8, words: u8, len in 0_usize..1 << 24) {
        let mut bhs = Bhs([0; BHS_LEN]);
        bhs.0[0] = first;
        bhs.0[4] = words;
        bhs.set_data_len(len);
        prop_assert_eq!(bhs.data_len(), len);
        prop_assert_eq!(bhs.ahs_len(), usize::from(words) * 4);
        prop_assert!(bhs.ahs_len() <= AHS_LEN_MAX);
        prop_assert_eq!((len + padding(len)) % 4, 0);
        prop_assert!(padding(len) < 4);
        prop_assert_eq!(bhs.is_immediate(), first & 0x40 != 0);
        prop_assert_eq!(bhs.opcode().map(|opcode| opcode as u8).unwrap_or(first & 0x3f), first & 0x3f);
    }
}

#[test]
fn opcodes() {
    let known = [
        0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x10, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26,
        0x31, 0x32, 0x3f,
    ];
    for byte in 0..0x40 {
        assert_eq!(
            Opcode::from_byte(byte).is_some(),
            known.contains(&byte),
            "{byte:02x}"
        );
    }
    // The reserved and the I bit are not part of it.
    assert_eq!(Bhs([0xc5; BHS_LEN]).opcode(), Some(Opcode::DataOut));
}

#[test]
#[should_panic(expected = "data segment of 16777216 bytes")]
fn a_data_segment_has_24_bits() {
    Bhs::new(Opcode::DataOut).set_data_len(1 << 24);
}
