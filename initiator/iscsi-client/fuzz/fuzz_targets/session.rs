//! Any bytes and calls into a session; the promises are in `iscsi_client::session::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| iscsi_client::session::fuzzing::drive_with_bytes(data));
