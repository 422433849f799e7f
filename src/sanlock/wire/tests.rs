//! The protocol against what the real programs said to each other, and against any bytes.

mod encode;
mod properties;
mod refusals;
mod replies;
mod requests;
mod texts;
#[path = "../../../tests/sanlock/trace.rs"]
mod trace;
