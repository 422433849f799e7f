//! The fuzz target's driver over a generated corpus.

use proptest::prelude::*;

use super::super::fuzzing::drive_with_bytes;

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_bytes_and_calls_keep_the_promises(data in prop::collection::vec(any::<u8>(), 0..1500)) {
        drive_with_bytes(&data);
    }
}

#[test]
fn single_bytes_keep_the_promises() {
    for byte in 0..=255 {
        for len in [1, 10, 100, 1000] {
            drive_with_bytes(&vec![byte; len]);
        }
    }
}

/// Once, the driver itself did not: a PDU was cut short, and the one after it taken for its end.
#[test]
fn the_end_of_a_cut_pdu_may_be_anything() {
    drive_with_bytes(&[
        128, 38, 0, 45, 0, 16, 0, 6, 0, 198, 0, 6, 0, 61, 36, 160, 17, 13, 0, 0, 0, 6, 0, 102, 0,
        6, 2, 0, 193, 32, 12, 160, 66, 13, 0, 10, 0, 0, 0, 0, 27, 0, 38, 3, 77, 0, 0, 151, 0, 0, 0,
        205, 0, 235, 0, 0, 0, 0, 192, 0, 45, 0, 234, 0, 50, 0, 0, 155, 0, 13, 0, 16, 253, 62, 224,
        6, 100, 192, 0, 77, 0, 10, 0, 0, 0, 0, 0, 0, 38, 0, 155, 0, 77, 0, 0, 14, 0, 192, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ]);
}
