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
