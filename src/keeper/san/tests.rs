//! The sessions against the simulated target: single stories, and many under faults, with a judge.

mod copies;
mod fences;
mod judge;
mod portals;
mod reads;
mod sim;
mod story;
mod writes;
