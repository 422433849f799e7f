//! A simulated iSCSI target, for tests only.
#![forbid(unsafe_code)]
