//! The program: command line, daemon and the data-plane turn.
#![forbid(unsafe_code)]

pub mod queue;
