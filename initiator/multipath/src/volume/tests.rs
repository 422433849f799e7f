//! Transcripts of a volume against the simulated target, with a clock that only moves when asked.

mod alua;
mod basics;
mod capacity;
mod chance;
mod detection;
mod fencing;
mod hold;
mod host;
mod orders;
mod outages;
mod permission;
mod spread;
mod trouble;
