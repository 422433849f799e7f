//! What the tests of all PDUs share: headers written as twelve words, as the RFC draws them, and generators
//! for the fields.

use proptest::prelude::*;

use super::{Bhs, CmdSn, Lun, StatSn, TargetNumbers};

/// The header that these words spell.
pub(super) fn header(words: [u32; 12]) -> Bhs {
    let mut bytes = [0; 48];
    for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
        to.copy_from_slice(&word.to_be_bytes());
    }
    Bhs(bytes)
}

/// The LUN in all vectors, so that a wrong offset shows: words 4041_4243 4445_4647.
pub(super) const LUN: Lun = Lun([0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47]);

/// The counters in all vectors.
pub(super) const NUMBERS: TargetNumbers = TargetNumbers {
    stat_sn: StatSn(0x5151_5151),
    exp_cmd_sn: CmdSn(0xecec_ecec),
    max_cmd_sn: CmdSn(0x3c3c_3c3c),
};

pub(super) fn lun() -> impl Strategy<Value = Lun> {
    any::<[u8; 8]>().prop_map(Lun)
}

pub(super) fn data_len() -> impl Strategy<Value = u32> {
    0_u32..1 << 24
}

pub(super) fn numbers() -> impl Strategy<Value = TargetNumbers> {
    any::<[u32; 3]>().prop_map(|[stat_sn, exp_cmd_sn, max_cmd_sn]| TargetNumbers {
        stat_sn: StatSn(stat_sn),
        exp_cmd_sn: CmdSn(exp_cmd_sn),
        max_cmd_sn: CmdSn(max_cmd_sn),
    })
}
