//! One volume over many paths.
#![forbid(unsafe_code)]
