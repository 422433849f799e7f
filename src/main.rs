//! `sanblk`: parse, run, exit code.
fn main() {}
