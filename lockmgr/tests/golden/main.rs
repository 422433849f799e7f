//! Areas written by the real programs: we read them as another decoder does, write them again byte for byte, print
//! them as the real tool does, and format the same bytes.

mod decoded;
mod dump;
mod fixtures;
mod formatted;
mod joined;
mod rewritten;
